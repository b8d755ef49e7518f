//! The token bucket of a lane: calls per second, and burst.
//!
//! In:    rate and burst
//! Out:   leave to send, in the order of asking; or word at once that it would come too late
//! Calls: client, before each call of a limited lane
//! Holds: calls keep their order; a call that is cancelled while it waits has used nothing, and those behind it move up; a call
//!        that cannot be served before its deadline is refused at once
//! Upstream: client-go/util/flowcontrol (token bucket), golang.org/x/time/rate (Wait)

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
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
    /// The first of those who wait holds it until there is a token; the others wait for it in their order.
    turn: Semaphore,
    waiting: AtomicU32,
    /// When the bucket would be full again.
    full_at: Mutex<Option<Instant>>,
}

/// One who waits, until it is dropped.
struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Limiter {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            every: Duration::from_secs(1) / rate.qps.max(1),
            burst: rate.burst.max(1),
            turn: Semaphore::new(1),
            waiting: AtomicU32::new(0),
            full_at: Mutex::new(None),
        }
    }

    /// Waits for a token; `Err` at once, with how long it would take, when that is not before `deadline`.
    pub(crate) async fn take(&self, deadline: Instant) -> Result<(), Duration> {
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let now = Instant::now();
        let wait = self.until_token(now) + self.every.saturating_mul(ahead);
        if deadline.saturating_duration_since(now) < wait {
            return Err(wait);
        }
        // It is never closed.
        let _turn = self.turn.acquire().await;
        let wait = self.until_token(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        self.spend(Instant::now());
        Ok(())
    }

    fn until_token(&self, now: Instant) -> Duration {
        let full = self.full_at(now) + self.every;
        // The bucket holds `burst` tokens: so much of its filling may be missing before somebody waits.
        full.saturating_duration_since(now + self.every * self.burst)
    }

    fn full_at(&self, now: Instant) -> Instant {
        let full_at = *self.lock();
        full_at.map_or(now, |full| full.max(now))
    }

    fn spend(&self, now: Instant) {
        let full = self.full_at(now) + self.every;
        *self.lock() = Some(full);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.full_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;
    use futures_util::future::join_all;

    use super::*;

    fn late() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_the_rest_at_the_rate() {
        let limiter = Limiter::new(Rate {
            qps: 50,
            burst: 100,
        });
        let began = Instant::now();
        for _ in 0..100 {
            limiter.take(late()).await.unwrap();
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        for _ in 0..50 {
            limiter.take(late()).await.unwrap();
        }
        let took = began.elapsed();
        assert!(
            took >= Duration::from_millis(999) && took <= Duration::from_millis(1100),
            "{took:?}"
        );
        tokio::time::advance(Duration::from_secs(10)).await;
        let again = Instant::now();
        for _ in 0..100 {
            limiter.take(late()).await.unwrap();
        }
        assert_eq!(again.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_has_spent_nothing_and_those_behind_move_up_in_their_order() {
        let limiter = Limiter::new(Rate { qps: 1, burst: 1 });
        limiter.take(late()).await.unwrap();
        let began = Instant::now();
        let order = Mutex::new(Vec::new());
        {
            let mut given_up: Vec<_> = (0..1000).map(|_| Box::pin(limiter.take(late()))).collect();
            for one in &mut given_up {
                assert!(one.now_or_never().is_none());
            }
            let waits = (0..3).map(|number| {
                let (limiter, order) = (&limiter, &order);
                async move {
                    limiter.take(late()).await.unwrap();
                    order.lock().unwrap().push(number);
                }
            });
            let mut waits = pin!(join_all(waits));
            assert!(waits.as_mut().now_or_never().is_none());
            drop(given_up);
            waits.await;
        }
        assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
        let took = began.elapsed();
        assert!(took <= Duration::from_millis(3100), "{took:?}");
        assert_eq!(limiter.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_be_served_before_its_deadline_is_told_so_at_once() {
        let limiter = Limiter::new(Rate { qps: 1, burst: 2 });
        let soon = || Instant::now() + Duration::from_secs(5);
        let began = Instant::now();
        let taken = join_all((0..100).map(|_| limiter.take(soon()))).await;
        let refused = taken.iter().filter(|taken| taken.is_err()).count();
        // Two at once and five in five seconds.
        assert_eq!(refused, 93);
        assert!(began.elapsed() <= Duration::from_millis(5100));
        let late = limiter
            .take(Instant::now() + Duration::from_millis(1))
            .now_or_never();
        assert!(late.is_some_and(|late| late.is_err()), "not after a while");
    }
}
