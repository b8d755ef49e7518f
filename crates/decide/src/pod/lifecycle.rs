//! The life of a pod here: syncing, terminating, terminated, finished. Never backwards.
//!
//! ```text
//!   Syncing ──(removed, orphan, all containers done, past its deadline)──► Terminating ──(nothing runs, seen)──► Terminated
//!      └─────────────────(ended before, nothing runs)──────────────────────────────────────────────────────────────▲  │
//!                                                                     Finished ◄──(host side cleaned up)──────────────┘
//! ```
//!
//! In:    the lifecycle so far and the view
//! Out:   the lifecycle now
//! Calls: act/pod/pod_worker.rs before each plan
//! Holds: no step back; grace only shrinks, never below 1 s; leaving Terminating needs an observation without anything live
//! Upstream: pkg/kubelet/pod_workers.go (1.36); differences: one enum instead of flags and times

use crate::pod::deadline::is_past_deadline;
use crate::pod::phase::is_ended;
use crate::shapes::life::Lifecycle;
use crate::shapes::life::Terminating;
use crate::shapes::life::TerminationCause;
use crate::shapes::memory::Prepared;
use crate::shapes::view::{Desire, PodView};

/// Whether nothing of a pod that leaves runs or lies on the host any more. What the runtime still holds of it (stopped sandboxes and
/// containers) is removed after that, and holds up neither another pod of the name nor the deletion: upstream leaves it to its garbage
/// collection, and containerd 1.6 refuses it after a start that was cut short, until its own restart. The same pod does not come back
/// before it is removed.
pub fn is_released(view: &PodView<'_>) -> bool {
    let is_done =
        matches!(view.memory.life, Lifecycle::Terminated { .. }) && view.memory.life.is_leaving();
    is_done && view.memory.prepared == Prepared::Released && !view.observed.is_running()
}

/// The next lifecycle. Moves at most one state on; call it before every plan.
pub fn step(view: &PodView<'_>) -> Lifecycle {
    match &view.memory.life {
        Lifecycle::Syncing => from_syncing(view),
        Lifecycle::Terminating(terminating) => from_terminating(terminating, view),
        Lifecycle::Terminated { cause } => from_terminated(cause_now(*cause, view.desire), view),
        Lifecycle::Finished { cause } => Lifecycle::Finished { cause: *cause },
    }
}

fn from_syncing(view: &PodView<'_>) -> Lifecycle {
    let cause = match view.desire {
        Desire::Stop { cause, .. } => *cause,
        Desire::Reject(_) | Desire::End(_) => TerminationCause::Ended,
        Desire::Run | Desire::Wait(_) if view.memory.record.ended.is_some() || is_ended(view) => {
            TerminationCause::Ended
        }
        Desire::Run if is_past_deadline(view) => TerminationCause::Ended,
        Desire::Run | Desire::Wait(_) => return Lifecycle::Syncing,
    };
    Lifecycle::Terminating(Terminating {
        cause,
        since: view.now.wall,
        grace_seconds: grace(view),
    })
}

fn from_terminating(terminating: &Terminating, view: &PodView<'_>) -> Lifecycle {
    let cause = cause_now(terminating.cause, view.desire);
    if !view.observed.is_running() {
        return Lifecycle::Terminated { cause };
    }
    Lifecycle::Terminating(Terminating {
        cause,
        since: terminating.since,
        grace_seconds: terminating.grace_seconds.min(grace(view)),
    })
}

/// A pod that ended by itself stays, for its status and logs, until it is removed; then nothing may be left of it.
fn from_terminated(cause: TerminationCause, view: &PodView<'_>) -> Lifecycle {
    let gone = view.observed.is_absent() && view.memory.prepared == Prepared::Released;
    if cause != TerminationCause::Ended && gone {
        Lifecycle::Finished { cause }
    } else {
        Lifecycle::Terminated { cause }
    }
}

/// A pod that ended by itself and is removed while that goes on is removed; nothing else changes the cause.
fn cause_now(cause: TerminationCause, desire: &Desire) -> TerminationCause {
    match (cause, desire) {
        (TerminationCause::Ended, Desire::Stop { cause, .. }) => *cause,
        (
            cause,
            Desire::Stop { .. }
            | Desire::Run
            | Desire::Wait(_)
            | Desire::Reject(_)
            | Desire::End(_),
        ) => cause,
    }
}

/// Grace by rank: what the stop asks for, else the record of an interrupted stop, but no more than the pod's own; at least 1 s.
fn grace(view: &PodView<'_>) -> i64 {
    let asked = match view.desire {
        Desire::Stop { grace_seconds, .. } => *grace_seconds,
        Desire::Run | Desire::Wait(_) | Desire::Reject(_) | Desire::End(_) => None,
    };
    let recorded = view
        .memory
        .record
        .terminating
        .as_ref()
        .map(|t| t.grace_seconds);
    let own = view.pod.grace_seconds();
    asked
        .unwrap_or_else(|| recorded.map_or(own, |recorded| recorded.min(own)))
        .max(1)
}

#[cfg(test)]
mod tests;
