//! Jitter for retries and refreshes. It repeats with its seed, so that the simulation does.
//!
//! In:    a seed
//! Out:   fractions, jittered durations, the back-off of reflectors
//! Calls: reflector, nodes, tokens, certificates, events
//! Holds: nothing here is a secret
//! Upstream: k8s.io/apimachinery/pkg/util/wait (Jitter, backoff managers)

use std::time::Duration;

use tokio::time::Instant;

/// A source of random fractions (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// A source that repeats with its seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0 up to 1.
    pub fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A source of its own for one part.
    pub fn split(&mut self) -> Self {
        Self(self.bits())
    }

    /// The duration and at most `factor` of it more.
    pub fn jitter(&mut self, duration: Duration, factor: f64) -> Duration {
        duration + duration.mul_f64(factor * self.fraction())
    }
}

/// Waits that double up to a limit and begin anew after a quiet time.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    reset_after: Duration,
    next: Duration,
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
            first,
            most,
            reset_after,
            next: first,
            last: None,
        }
    }

    /// The next wait, with up to the same again on top.
    pub fn next(&mut self, now: Instant, dice: &mut Dice) -> Duration {
        let is_quiet = |last: Instant| now.saturating_duration_since(last) > self.reset_after;
        if self.last.is_none_or(is_quiet) {
            self.next = self.first;
        }
        self.last = Some(now);
        let wait = self.next;
        self.next = (wait * 2).min(self.most);
        dice.jitter(wait, 1.0)
    }

    /// Begins anew: things went well.
    pub fn reset(&mut self) {
        self.next = self.first;
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

    #[test]
    fn the_same_seed_gives_the_same_fractions() {
        let (mut a, mut b) = (Dice::new(7), Dice::new(7));
        for _ in 0..100 {
            let fraction = a.fraction();
            assert!((0.0..1.0).contains(&fraction));
            assert!((fraction - b.fraction()).abs() < f64::EPSILON);
        }
    }
}
