//! Waits between tries that double from a first one up to a longest one.
//!
//! In:    how often it failed in a row
//! Out:   how long to wait
//! Calls: everything that tries again: act, cluster, apiserver, decide
//! Holds: no clock and no state: who counts the failures says when they are over
//! Upstream: k8s.io/apimachinery/pkg/util/wait (Backoff)

use std::time::Duration;

/// The waits of one thing that is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubling {
    /// After the first failure.
    pub first: Duration,
    /// After many.
    pub most: Duration,
}

impl Doubling {
    /// From `first` to `most`.
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most }
    }

    /// The wait after so many failures in a row; the first one where there was none.
    pub fn after(&self, failures: u32) -> Duration {
        let factor = 1_u32
            .checked_shl(failures.saturating_sub(1))
            .unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits = Doubling::new(Duration::from_millis(300), Duration::from_secs(2));
        let shown =
            [0, 1, 2, 3, 4, 5, 31, 32, 33, 1000, u32::MAX].map(|n| waits.after(n).as_millis());
        assert_eq!(
            shown,
            [
                300, 300, 600, 1200, 2000, 2000, 2000, 2000, 2000, 2000, 2000
            ]
        );
    }

    #[test]
    fn a_first_wait_beyond_the_longest_is_cut() {
        let waits = Doubling::new(Duration::MAX, Duration::from_secs(1));
        assert_eq!(waits.after(7), Duration::from_secs(1));
    }
}
