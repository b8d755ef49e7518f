//! The back-off of reflectors: waits that double, are jittered, and begin anew after a quiet time.
//!
//! In:    the time; a source of chance
//! Out:   the next wait
//! Calls: reflector
//! Upstream: k8s.io/apimachinery/pkg/util/wait (Jitter, backoff managers)

use std::time::Duration;

use kubelet_model::dice::Dice;
use kubelet_model::doubling::Doubling;
use tokio::time::Instant;

/// Waits that double up to a limit and begin anew after a quiet time.
#[derive(Clone, Debug)]
pub struct Backoff {
    waits: Doubling,
    reset_after: Duration,
    failures: u32,
    last: Option<Instant>,
}

impl Backoff {
    /// Of reflectors: 800 ms doubling to 15 s, anew after 2 min. With its jitter and the 25 s in which a dead connection is found out,
    /// a set is there again within a minute of the server's return (client-go: 30 s, up to a minute with jitter alone).
    pub fn of_reflectors() -> Self {
        Self::new(
            Duration::from_millis(800),
            Duration::from_secs(15),
            Duration::from_secs(120),
        )
    }

    /// From `first` doubling to `most`; anew when `reset_after` passed since the last wait began.
    pub fn new(first: Duration, most: Duration, reset_after: Duration) -> Self {
        Self {
            waits: Doubling::new(first, most),
            reset_after,
            failures: 0,
            last: None,
        }
    }

    /// The next wait, with up to the same again on top.
    pub fn next(&mut self, now: Instant, dice: &mut Dice) -> Duration {
        let is_quiet = |last: Instant| now.saturating_duration_since(last) > self.reset_after;
        if self.last.is_none_or(is_quiet) {
            self.failures = 0;
        }
        self.last = Some(now);
        self.failures = self.failures.saturating_add(1);
        dice.jitter(self.waits.after(self.failures), 1.0)
    }

    /// Begins anew: things went well.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_double_to_fifteen_seconds_and_begin_anew_after_two_quiet_minutes() {
        let (mut backoff, mut dice) = (Backoff::of_reflectors(), Dice::new(1));
        let mut base = Duration::from_millis(800);
        for _ in 0..8 {
            let wait = backoff.next(Instant::now(), &mut dice);
            assert!(wait >= base && wait <= base * 2, "{wait:?} {base:?}");
            tokio::time::advance(wait).await;
            base = (base * 2).min(Duration::from_secs(15));
        }
        tokio::time::advance(Duration::from_secs(121)).await;
        let wait = backoff.next(Instant::now(), &mut dice);
        assert!(wait <= Duration::from_millis(1600), "{wait:?}");
    }
}
