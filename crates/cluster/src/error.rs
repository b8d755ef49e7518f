//! Errors of calls to the API server, and above all whether the call may have happened.
//!
//! In:    a `Status` object, a broken connection, a deadline
//! Out:   [`ClusterError`]
//! Calls: everything in this crate
//! Holds: when in doubt a call may have happened; bodies and credentials are never part of an error
//! Upstream: k8s.io/apimachinery/pkg/api/errors; differences: a lost answer is not taken for a failure

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

/// Longest part of an answer that is not a `Status` which an error repeats, bytes.
const TEXT_BYTES: usize = 512;
/// The most that a server may ask for: it may be wrong, too.
const MOST_ASKED: Duration = Duration::from_secs(300);

/// Whether a failed call may have had its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It was never sent, or the server refused it.
    No,
    /// Nobody knows.
    Maybe,
}

/// A failed call.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClusterError {
    /// The server answered with an error.
    #[error("{operation}: {refusal}")]
    Refused {
        /// Operation, as callers name it.
        operation: &'static str,
        /// The server's words.
        refusal: Box<Refusal>,
    },
    /// There is no connection: the call was not sent.
    #[error("{operation}: API server cannot be reached: {message}")]
    Unreachable {
        /// Operation.
        operation: &'static str,
        /// What failed.
        message: String,
    },
    /// Credentials could not be had: the call was not sent.
    #[error("{operation}: credentials: {message}")]
    Credentials {
        /// Operation.
        operation: &'static str,
        /// What failed, without the secret.
        message: String,
    },
    /// The connection broke after the call was sent.
    #[error("{operation}: the answer was lost: {message}")]
    Lost {
        /// Operation.
        operation: &'static str,
        /// What broke.
        message: String,
    },
    /// No answer in time.
    #[error("{operation}: no answer within {after:?}")]
    Deadline {
        /// Operation.
        operation: &'static str,
        /// The deadline.
        after: Duration,
        /// Whether it had been sent.
        happened: Happened,
    },
    /// So many calls wait already that this one could not be sent before its deadline: it was not sent.
    #[error("{operation}: client rate limiter: not sent, for {wait:?} of other calls come first")]
    Crowded {
        /// Operation.
        operation: &'static str,
        /// How long it would have waited.
        wait: Duration,
    },
    /// The answer came, and cannot be read.
    #[error("{operation}: the answer cannot be read: {message}")]
    Unreadable {
        /// Operation.
        operation: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The answer, or one line of it, is longer than this client reads.
    #[error("{operation}: the answer is longer than {limit} bytes")]
    TooLong {
        /// Operation.
        operation: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The request could not be made of what was given.
    #[error("{operation}: the request cannot be written: {message}")]
    Request {
        /// Operation.
        operation: &'static str,
        /// What is wrong.
        message: String,
    },
}

/// What the server said: the parts of a `Status` object that callers decide by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status, or `Status.code` where it came in a watch.
    pub code: u16,
    /// `Status.reason`, such as `NotFound`; empty when the answer was no `Status`.
    pub reason: String,
    /// `Status.message`, or the beginning of the text that came instead.
    pub message: String,
    /// When to ask again: `Retry-After`, else `details.retryAfterSeconds`; five minutes at the most.
    pub retry_after: Option<Duration>,
    /// Reasons of `details.causes`.
    pub causes: Vec<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.reason.is_empty() {
            write!(f, " {}", self.reason)?;
        }
        write!(f, ": {}", self.message)
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StatusObject {
    kind: String,
    code: u16,
    reason: Option<String>,
    message: Option<String>,
    details: Option<StatusDetails>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StatusDetails {
    retry_after_seconds: Option<u64>,
    causes: Option<Vec<StatusCause>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StatusCause {
    reason: Option<String>,
}

impl Refusal {
    /// Reads a `Status`, or takes the text as it is. `code` 0: the one of the object.
    pub(crate) fn of_body(code: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let status = serde_json::from_slice::<StatusObject>(body)
            .ok()
            .filter(|status| status.kind == "Status");
        let Some(status) = status else {
            let text = String::from_utf8_lossy(body.get(..TEXT_BYTES).unwrap_or(body));
            let message = text.trim().to_owned();
            return Self {
                code,
                retry_after: retry_after.map(bounded),
                message: if message.is_empty() {
                    "no explanation".to_owned()
                } else {
                    message
                },
                ..Self::default()
            };
        };
        let details = status.details.unwrap_or_default();
        let causes = details.causes.unwrap_or_default();
        Self {
            code: if code == 0 { status.code } else { code },
            reason: status.reason.unwrap_or_default(),
            message: status.message.unwrap_or_default(),
            retry_after: retry_after
                .or(details
                    .retry_after_seconds
                    .filter(|seconds| *seconds > 0)
                    .map(Duration::from_secs))
                .map(bounded),
            causes: causes
                .into_iter()
                .filter_map(|cause| cause.reason)
                .collect(),
        }
    }
}

/// What a server asks for, within reason.
fn bounded(asked: Duration) -> Duration {
    asked.min(MOST_ASKED)
}

impl ClusterError {
    /// Whether the call may have had its effect. Of a read it does not matter.
    pub fn happened(&self) -> Happened {
        match self {
            Self::Refused { refusal, .. } if refusal.code >= 500 => Happened::Maybe,
            Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::Credentials { .. }
            | Self::Crowded { .. }
            | Self::Request { .. } => Happened::No,
            Self::Lost { .. } | Self::Unreadable { .. } | Self::TooLong { .. } => Happened::Maybe,
            Self::Deadline { happened, .. } => *happened,
        }
    }

    /// The same, with what is known of its cause.
    pub(crate) fn because(mut self, why: &str) -> Self {
        match &mut self {
            Self::Refused { refusal, .. } => {
                refusal.message = format!("{}; {why}", refusal.message);
            }
            Self::Unreachable { message, .. }
            | Self::Credentials { message, .. }
            | Self::Lost { message, .. }
            | Self::Unreadable { message, .. }
            | Self::Request { message, .. } => *message = format!("{message}; {why}"),
            Self::Deadline { .. } | Self::Crowded { .. } | Self::TooLong { .. } => {}
        }
        self
    }

    /// What the server said, if it said anything.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// HTTP status of the refusal.
    pub fn code(&self) -> Option<u16> {
        self.refusal().map(|refusal| refusal.code)
    }

    /// The server's `reason`, empty where there is none.
    pub fn status_reason(&self) -> &str {
        self.refusal().map_or("", |refusal| &refusal.reason)
    }

    /// How long the server asked to be left alone, five minutes at the most.
    pub fn retry_after(&self) -> Option<Duration> {
        let asked = self.refusal().and_then(|refusal| refusal.retry_after);
        asked.map(bounded)
    }

    /// The object, or its kind, does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// There is one of that name.
    pub fn is_already_exists(&self) -> bool {
        self.code() == Some(409) && self.status_reason() == "AlreadyExists"
    }

    /// The object changed meanwhile, or a precondition does not hold.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409) && self.status_reason() != "AlreadyExists"
    }

    /// The resource version or continue token is older than what the server keeps.
    pub fn is_expired(&self) -> bool {
        self.code() == Some(410) || matches!(self.status_reason(), "Expired" | "Gone")
    }

    /// The node's identity is not accepted, or may not do this.
    pub fn is_denied(&self) -> bool {
        matches!(self.code(), Some(401 | 403))
    }

    /// The server answered something, so there is one.
    pub fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::Unreadable { .. } | Self::TooLong { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_and_other_text_is_kept_short() {
        let body =
            br#"{"kind":"Status","code":429,"reason":"TooManyRequests","message":"slow down",
            "details":{"retryAfterSeconds":7,"causes":[{"reason":"ResourceVersionTooLarge"}]}}"#;
        let refusal = Refusal::of_body(429, None, body);
        assert_eq!(refusal.to_string(), "429 TooManyRequests: slow down");
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(7)));
        assert_eq!(refusal.causes, ["ResourceVersionTooLarge"]);
        let header = Some(Duration::from_secs(1));
        assert_eq!(Refusal::of_body(429, header, body).retry_after, header);
        let forever = Refusal::of_body(429, Some(Duration::from_secs(u64::MAX)), b"busy");
        assert_eq!(forever.retry_after, Some(MOST_ASKED));
        let forever = br#"{"kind":"Status","details":{"retryAfterSeconds":18446744073709551615}}"#;
        let forever = Refusal::of_body(429, None, forever);
        assert_eq!(forever.retry_after, Some(MOST_ASKED));
        let text = Refusal::of_body(502, None, &[b'x'; 2000]);
        assert_eq!(text.message.len(), TEXT_BYTES);
        assert_eq!(Refusal::of_body(0, None, body).code, 429);
    }

    #[test]
    fn only_what_the_server_refused_did_surely_not_happen() {
        let refused = |code| ClusterError::Refused {
            operation: "test",
            refusal: Box::new(Refusal {
                code,
                ..Refusal::default()
            }),
        };
        for (code, expected) in [
            (404, Happened::No),
            (409, Happened::No),
            (429, Happened::No),
            (500, Happened::Maybe),
            (504, Happened::Maybe),
        ] {
            assert_eq!(refused(code).happened(), expected, "{code}");
        }
        assert!(refused(410).is_expired());
        assert!(refused(409).is_conflict());
    }
}
