//! A small random generator that gives the same numbers on every machine and with every compiler.
//!
//! In:    a seed
//! Out:   64-bit numbers, ranges, chances
//! Calls: faults, ids of the stand-ins, crate world
//! Holds: splitmix64 (Steele, Lea, Flood 2014): every seed is as good as any other; the algorithm never changes, or old seeds lose meaning
//! Upstream: none

use std::time::Duration;

/// The step of the Weyl sequence under splitmix64.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// One stream of random numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prng {
    state: u64,
}

/// Scrambles one number: the finaliser of splitmix64. Equal in, equal out.
pub fn mix(number: u64) -> u64 {
    let first = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let second = (first ^ (first >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    second ^ (second >> 31)
}

impl Prng {
    /// A stream that depends on nothing but the seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// An own stream for one purpose, so that drawing more there does not shift the numbers here.
    pub fn stream(seed: u64, purpose: &str) -> Self {
        let tag = purpose
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        Self::new(mix(seed) ^ tag)
    }

    /// The next number, uniform over all 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// A number in `0..limit`; 0 if the limit is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        let wide = u128::from(self.next_u64()) * u128::from(limit);
        u64::try_from(wide >> 64).expect("the upper half of a 128-bit product has 64 bits")
    }

    /// True in `rate` of 10,000 draws.
    pub fn chance(&mut self, rate: u16) -> bool {
        self.below(10_000) < u64::from(rate)
    }

    /// A whole number of milliseconds in `0..=longest`.
    pub fn duration(&mut self, longest: Duration) -> Duration {
        let millis = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX - 1);
        Duration::from_millis(self.below(millis.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_numbers_of_seed_zero_equal_the_published_ones() {
        let mut prng = Prng::new(0);
        assert_eq!(prng.next_u64(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(prng.next_u64(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn chance_and_below_stay_in_their_bounds() {
        let mut prng = Prng::stream(7, "bounds");
        assert!((0..1000).all(|_| prng.below(3) < 3));
        assert!((0..100).all(|_| !prng.chance(0)));
        assert!((0..100).all(|_| prng.chance(10_000)));
        assert_eq!(prng.below(0), 0);
    }
}
