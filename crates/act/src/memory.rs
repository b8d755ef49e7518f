//! Gives memory back that a burst of pods needed and nobody uses any more.
//!
//! In:    the clock
//! Out:   fewer pages of this process
//! Calls: wiring
//! Holds: a round costs a few milliseconds at the most, and changes nothing but what the kernel counts
//! Upstream: none (there the runtime's own collector)

use std::time::Duration;

use jiff::Timestamp;
use kubelet_host::memory::give_back;

use crate::reconciler::{Pace, Reconciler, RoundError, WakeReason};

/// From one round to the next.
const PERIOD: Duration = Duration::from_secs(30);

/// The loop.
#[derive(Clone, Copy, Debug)]
pub struct Memory;

impl Memory {
    /// Its rhythm.
    pub fn pace() -> Pace {
        Pace::every(PERIOD)
    }
}

impl Reconciler for Memory {
    const NAME: &'static str = "memory";
    type Seen = ();
    /// Nothing to say of it.
    type Plan = &'static str;

    async fn observe(&mut self, _why: WakeReason) -> Result<(), RoundError> {
        Ok(())
    }

    fn decide(&self, _seen: (), _now: Timestamp) -> &'static str {
        ""
    }

    async fn act(&mut self, _plan: &'static str) -> Result<(), RoundError> {
        give_back();
        Ok(())
    }
}
