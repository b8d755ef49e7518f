//! Chance for jitter and made names. It repeats with its seed, so that the simulation does.
//!
//! In:    a seed
//! Out:   64 bits, fractions, jittered durations
//! Calls: timers and retries of act and cluster; names that the API server makes in tests
//! Holds: nothing made from it is a secret
//! Upstream: k8s.io/apimachinery/pkg/util/wait (Jitter)

use std::time::Duration;

/// A source of random numbers: splitmix64.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of the published algorithm for seed 0.
    #[test]
    fn it_is_splitmix64() {
        let mut dice = Dice::new(0);
        assert_eq!(dice.bits(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(dice.bits(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn jitter_only_adds_and_no_more_than_its_part() {
        let mut dice = Dice::new(7);
        let second = Duration::from_secs(1);
        for _ in 0..1000 {
            let wait = dice.jitter(second, 0.5);
            assert!((second..second + second / 2).contains(&wait), "{wait:?}");
        }
    }
}
