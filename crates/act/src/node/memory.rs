//! Returns free heap memory to the kernel after a burst of pods.
//!
//! In:    the end of a burst: statuses that change no more; the clock
//! Out:   fewer pages of this process
//! Calls: wiring
//! Holds: a round takes a few milliseconds at most and changes nothing but the process's size; without status changes only the
//!        timer's rounds run
//! Upstream: none (there the runtime's own collector)

use std::time::Duration;

use jiff::Timestamp;
use kubelet_host::memory::give_back;
use kubelet_model::reported::ReportedPods;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::frame::reconciler::{Pace, Reconciler, RoundError, WakeReason};
use crate::report::status::StatusHandle;

/// From one round to the next when nothing happens: lists of the runtime, requests and metrics take memory, too.
const PERIOD: Duration = Duration::from_secs(10);
/// A burst has ended when no status has changed for so long.
const SETTLED: Duration = Duration::from_secs(3);

/// The loop.
#[derive(Clone, Debug)]
pub struct Memory {
    reported: watch::Receiver<ReportedPods>,
    /// When the last status changed, until there was a round after it.
    busy_at: Option<Instant>,
}

impl Memory {
    /// Looks at when statuses change, not at what they say.
    pub fn new(status: &StatusHandle) -> Self {
        Self {
            reported: status.subscribe(),
            busy_at: None,
        }
    }

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

    /// Some time after the last change. A round of the clock that comes before takes nothing of it away.
    async fn changed(&mut self) {
        loop {
            let settled_at = self.busy_at.map(|at| at + SETTLED);
            tokio::select! {
                biased;
                changed = self.reported.changed() => {
                    if changed.is_err() {
                        // The process is stopping.
                        std::future::pending::<()>().await;
                    }
                    self.busy_at = Some(Instant::now());
                }
                () = sleep_until(settled_at.unwrap_or_else(Instant::now)), if settled_at.is_some() => {
                    self.busy_at = None;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1;
    use kubelet_model::ids::PodUid;

    use super::*;

    fn change(status: &StatusHandle, reason: &str) {
        let shown = v1::PodStatus {
            reason: Some(reason.to_owned()),
            ..v1::PodStatus::default()
        };
        status.report(&PodUid::parse("1").unwrap(), &Arc::default(), shown);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_changes_is_one_round_after_its_end() {
        let status = StatusHandle::default();
        let mut memory = Memory::new(&status);
        let quiet = tokio::time::timeout(PERIOD * 100, memory.changed()).await;
        assert!(quiet.is_err(), "a quiet node has no rounds but the clock's");
        let begin = Instant::now();
        let burst = async {
            for number in 0..10 {
                change(&status, &number.to_string());
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::join!(burst, memory.changed());
        assert_eq!(begin.elapsed(), Duration::from_secs(9) + SETTLED);
        change(&status, "cut");
        let cut = tokio::time::timeout(SETTLED / 2, memory.changed()).await;
        assert!(cut.is_err());
        memory.changed().await;
        let rest = tokio::time::timeout(PERIOD, memory.changed()).await;
        assert!(
            rest.is_err(),
            "the change counts once, although the wait for it was cut"
        );
    }
}
