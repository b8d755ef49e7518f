//! The response for a write that the store did not do.
//!
//! In:    [`WriteError`]
//! Out:   [`Failure`]
//! Calls: `registry`
//! Holds: `Retry-After` is sent only if the write is known not to be done
//! Upstream: staging/src/k8s.io/apiserver/pkg/storage/errors (1.36); differences: 507 for a full disk

use crate::base::bounds::BODY_BYTES;
use crate::base::failure::{Failure, Named};
use crate::store::{Trouble, WriteError};

impl Failure {
    /// The store's error as a response.
    pub fn store(resource: &impl Named, name: &str, error: &WriteError) -> Self {
        match error {
            WriteError::Unexpected(None) => Self::not_found(resource, name),
            WriteError::Unexpected(Some(_)) => Self::modified(resource, name),
            WriteError::TooLarge => Self::too_large(BODY_BYTES),
            WriteError::Failed(trouble) => Self::store_trouble(trouble),
        }
    }

    /// 507 for a full disk; for a disk that does not answer, 504 if it has the write, else 503; otherwise 500. With
    /// `Retry-After` if the write is known not to be done.
    fn store_trouble(trouble: &Trouble) -> Self {
        let mut failure = Self::internal(format_args!("the store failed: {}", trouble.why));
        if trouble.is_hung {
            (failure.code, failure.reason) = match trouble.is_settled {
                true => (503, "ServiceUnavailable"),
                false => (504, "Timeout"),
            };
            failure.message = format!("the store failed: {}", trouble.why);
        }
        if trouble.is_full {
            failure.code = 507;
        }
        if trouble.is_settled {
            failure.details["retryAfterSeconds"] = trouble.again_in.as_secs().max(1).into();
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_disk_in_trouble_says_when_to_come_again_unless_the_write_may_be_kept() {
        let pods = crate::kinds::resources::find("", "v1", "pods").unwrap();
        let answer = |(is_full, is_hung), is_settled, millis| {
            let trouble = Trouble {
                is_hung,
                why: "no space".into(),
                is_full,
                is_settled,
                again_in: Duration::from_millis(millis),
            };
            let failure = Failure::store(pods, "a", &WriteError::Failed(trouble));
            (failure.code, failure.retry_after())
        };
        assert_eq!(answer((true, false), true, 250), (507, Some(1)));
        assert_eq!(answer((false, false), true, 30_000), (500, Some(30)));
        assert_eq!(answer((true, false), false, 250), (507, None));
        assert_eq!(answer((false, true), true, 30_000), (503, Some(30)));
        assert_eq!(answer((false, true), false, 30_000), (504, None));
    }
}
