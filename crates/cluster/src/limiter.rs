//! The token bucket before a lane: so many calls a second, so many at once.
//!
//! In:    rate and burst
//! Out:   leave to send, in the order of asking
//! Calls: client, before each call of a limited lane
//! Holds: a call that is given up has spent its token; nobody overtakes
//! Upstream: client-go/util/flowcontrol (token bucket)

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Calls a second.
    pub qps: u32,
    /// Calls at once above that.
    pub burst: u32,
}

#[derive(Debug)]
pub(crate) struct Limiter {
    every: Duration,
    burst: u32,
    /// When the bucket would be full again.
    full_at: Mutex<Option<Instant>>,
}

impl Limiter {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            every: Duration::from_secs(1) / rate.qps.max(1),
            burst: rate.burst.max(1),
            full_at: Mutex::new(None),
        }
    }

    /// Waits for a token.
    pub(crate) async fn take(&self) {
        let wait = self.reserve(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    fn reserve(&self, now: Instant) -> Duration {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full = full_at.map_or(now, |full| full.max(now)) + self.every;
        *full_at = Some(full);
        // The bucket holds `burst` tokens: so much of its filling may be missing before somebody waits.
        full.saturating_duration_since(now + self.every * self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_the_rest_at_the_rate() {
        let limiter = Limiter::new(Rate {
            qps: 50,
            burst: 100,
        });
        let began = Instant::now();
        for _ in 0..100 {
            limiter.take().await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        for _ in 0..50 {
            limiter.take().await;
        }
        let took = began.elapsed();
        assert!(
            took >= Duration::from_millis(999) && took <= Duration::from_millis(1100),
            "{took:?}"
        );
        tokio::time::advance(Duration::from_secs(10)).await;
        let again = Instant::now();
        for _ in 0..100 {
            limiter.take().await;
        }
        assert_eq!(again.elapsed(), Duration::ZERO);
    }
}
