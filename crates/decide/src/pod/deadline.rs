//! `spec.activeDeadlineSeconds`: until when a pod may be active here, and how it ends.
//!
//! In:    `PodView` (since when it is active, by steady time)
//! Out:   the deadline; the `Ended` to record when a pod ends
//! Calls: lifecycle, pod_plan; act/pod/pod_worker when a pod ends
//! Holds: a pod whose containers were all done when its deadline was noticed ended by itself; setting the wall clock neither ends a
//!        pod nor keeps it: time counts by the machine's own clock, over restarts of the kubelet too. Only after a restart of
//!        the machine, or for a pod that another kubelet took up, `status.startTime` is all there is, and never later than now
//! Upstream: pkg/kubelet/active_deadline.go (1.36); differences: there the wall clock counts, and the deadline wins over an end that
//!        came before it

use jiff::{SignedDuration, Timestamp};

use crate::pod::phase::{Phase, current_phase, is_ended};
use crate::shapes::record::{EndReason, Ended};
use crate::shapes::view::{Desire, PodView};

/// Reason of the status and of the event.
pub const DEADLINE_REASON: &str = "DeadlineExceeded";
/// Text of both.
pub const DEADLINE_MESSAGE: &str = "Pod was active on the node longer than the specified deadline";

/// When the pod's time is over, by steady time; `None` when it has all the time, or is not to run yet.
pub fn deadline(view: &PodView<'_>) -> Option<Timestamp> {
    if !matches!(view.desire, Desire::Run) {
        return None;
    }
    let allowed = view.pod.spec().active_deadline_seconds?;
    let since = view.memory.active_since?;
    // What lies beyond the end of time does not come.
    since.checked_add(SignedDuration::from_secs(allowed)).ok()
}

/// Whether its time is over.
pub fn is_past_deadline(view: &PodView<'_>) -> bool {
    deadline(view).is_some_and(|at| at <= view.now.steady)
}

/// How a pod ends that ends now.
pub fn end_of(view: &PodView<'_>) -> Ended {
    let is_late = is_past_deadline(view) && !is_ended(view);
    Ended {
        succeeded: !is_late && current_phase(view) == Phase::Succeeded,
        why: is_late.then(|| EndReason {
            reason: DEADLINE_REASON.to_owned(),
            message: DEADLINE_MESSAGE.to_owned(),
            disruption: None,
        }),
    }
}

#[cfg(test)]
mod tests;
