//! A limit on calls of the local pods API, as upstream has it.
//!
//! In:    moments
//! Out:   whether a call may be made now
//! Calls: `pods_api`
//! Holds: nobody waits
//! Upstream: pkg/kubelet/apis/grpc/ratelimit.go, pkg/kubelet/apis/pods/constants.go

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Calls that may be made at once after a pause.
const BURST: u32 = 10;
/// The time after which one more may be made: 100 a second.
const EVERY: Duration = Duration::from_millis(10);

/// The limit. It is a time: when the bucket will be full again.
#[derive(Debug)]
pub(crate) struct Limiter(Mutex<Instant>);

impl Limiter {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// Whether a call may be made now.
    pub(crate) fn allows(&self) -> bool {
        let now = Instant::now();
        let mut full_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = (*full_at).max(now) + EVERY;
        let is_allowed = next.duration_since(now) <= EVERY * BURST;
        if is_allowed {
            *full_at = next;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ten_at_once_then_a_hundred_a_second() {
        let limiter = Limiter::new();
        let burst = (0..20).filter(|_| limiter.allows()).count();
        assert_eq!(burst, 10);
        tokio::time::advance(EVERY).await;
        assert!(limiter.allows() && !limiter.allows());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!((0..20).filter(|_| limiter.allows()).count(), 10);
    }
}
