//! The phase of a pod from its containers' states, and whether the pod has ended for good.
//!
//! In:    the view (newest instance of each container, recorded exits, restart policy)
//! Out:   `Phase`; `is_ended`; whether a status that somebody holds `is_final`
//! Calls: lifecycle, pod_status, status_write; act where it reads statuses
//! Holds: a terminal phase is only reached when nothing runs and nothing will be started again
//! Upstream: pkg/kubelet/kubelet_pods.go (getPhase, 1.36); differences: sidecars are not built yet

use k8s_openapi::api::core::v1;
use kubelet_model::pod::RestartPolicy;
use kubelet_model::reason::Reason;

use crate::pod::restart::policy_restarts;
use crate::shapes::record::RecordedExit;
use crate::shapes::view::PodView;

/// The code of a process that was killed.
const KILLED_CODE: i32 = 137;

/// `status.phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Something has never been started.
    Pending,
    /// Something runs, or will again.
    Running,
    /// All containers ended with 0.
    Succeeded,
    /// All ended, one at least not with 0.
    Failed,
}

impl Phase {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

/// Whether a status says that its pod has ended for good.
pub fn is_final(status: Option<&v1::PodStatus>) -> bool {
    let phase = status.and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// What matters of one container for the phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Never started.
    NotStarted,
    /// Runs, or may run.
    Running,
    /// Its newest run ended with this code.
    Ended(i32),
    /// Its newest run was ended because its definition changed; another follows, whatever the restart policy.
    Replaced,
}

/// How a regular container stands: its newest instance that was started, else the recorded exit; what was seen to run and is not there
/// any more has ended, nobody knows how.
pub fn standing(view: &PodView<'_>, name: &str) -> Standing {
    standing_by(view, name, |code, _| code)
}

/// How an init container stands.
fn init_standing(view: &PodView<'_>, name: &str) -> Standing {
    standing_by(view, name, init_code)
}

/// What the exit of an init container counts as: one that the kernel killed for memory has failed, whatever its main process made of it.
pub(crate) fn init_code(code: i32, reason: &str) -> i32 {
    match code {
        0 if reason == Reason::OomKilled.as_str() => KILLED_CODE,
        code => code,
    }
}

fn standing_by(view: &PodView<'_>, name: &str, code_of: fn(i32, &str) -> i32) -> Standing {
    for instance in view.observed.instances(name) {
        if instance.state.may_run() {
            return Standing::Running;
        }
        if let Some(exit) = instance.state.exit() {
            let id = instance.id.as_str();
            if view.memory.is_replaced(name, id, exit.finished_at) {
                return Standing::Replaced;
            }
            let later = view.later_exit(instance);
            let later = later.filter(|exit| still_counts(view, exit));
            let (code, reason) = match later {
                Some(later) => (later.code, &later.reason),
                None => (exit.code, &exit.reason),
            };
            return Standing::Ended(code_of(code, reason));
        }
    }
    let recorded = view.memory.record.exits.get(name);
    let is_replaced =
        |exit: &RecordedExit| view.memory.is_replaced(name, &exit.id, exit.finished_at);
    if recorded.is_some_and(is_replaced) {
        return Standing::Replaced;
    }
    let recorded = recorded.filter(|exit| still_counts(view, exit));
    recorded
        .or_else(|| view.lost(name))
        .map_or(Standing::NotStarted, |exit| {
            Standing::Ended(code_of(exit.code, &exit.reason))
        })
}

/// An exit that only we remember counts while its sandbox stands; in a new one everything runs again, unless the pod says Never.
/// (A stop for a replaced sandbox may well end with 0: that is no success.)
fn still_counts(view: &PodView<'_>, exit: &RecordedExit) -> bool {
    let newest = view.observed.sandboxes.first();
    view.pod.restart_policy() == RestartPolicy::Never
        || newest.is_some_and(|sandbox| sandbox.id.as_str() == exit.sandbox)
}

/// The phase by upstream's table. `is_initialized`: a regular container was started in the newest sandbox.
pub fn phase(
    policy: RestartPolicy,
    init: &[Standing],
    regular: &[Standing],
    is_initialized: bool,
) -> Phase {
    let init_failed_for_good =
        init.iter().any(|s| matches!(s, Standing::Ended(code) if *code != 0 && !policy_restarts(init_policy(policy), *code)));
    if init_failed_for_good {
        return Phase::Failed;
    }
    let init_pending = init.iter().any(|s| !matches!(s, Standing::Ended(0)));
    if init_pending && !is_initialized {
        return Phase::Pending;
    }
    if regular.contains(&Standing::NotStarted) {
        return Phase::Pending;
    }
    if regular.contains(&Standing::Running) || regular.contains(&Standing::Replaced) {
        return Phase::Running;
    }
    let restartable = regular
        .iter()
        .any(|s| matches!(s, Standing::Ended(code) if policy_restarts(policy, *code)));
    if restartable {
        return Phase::Running;
    }
    if regular.iter().all(|s| matches!(s, Standing::Ended(0))) {
        Phase::Succeeded
    } else {
        Phase::Failed
    }
}

/// A failed init container is retried unless the pod says Never.
pub fn init_policy(policy: RestartPolicy) -> RestartPolicy {
    match policy {
        RestartPolicy::Always | RestartPolicy::OnFailure => RestartPolicy::OnFailure,
        RestartPolicy::Never => RestartPolicy::Never,
    }
}

/// Whether a regular container was started in the newest sandbox, as far as anybody knows: then init containers are done.
pub(crate) fn is_initialized(view: &PodView<'_>) -> bool {
    let Some(newest) = view.observed.sandboxes.first() else {
        // Without a sandbox what is recorded is all there is.
        let is_recorded = |name: &str| view.memory.record.exits.contains_key(name);
        return view.pod.containers().iter().any(|c| is_recorded(&c.name));
    };
    view.pod.containers().iter().any(|c| {
        let mut held = view.observed.instances(&c.name);
        let in_newest = held.any(|i| i.sandbox == newest.id && i.started_at().is_some());
        let recorded = [&view.memory.record.exits, &view.memory.record.running];
        let mut recorded = recorded.into_iter().filter_map(|all| all.get(&c.name));
        in_newest || recorded.any(|run| run.sandbox == newest.id.as_str())
    })
}

/// The phase that the containers of the view have.
pub fn current_phase(view: &PodView<'_>) -> Phase {
    let init = view.pod.init_containers().iter();
    let regular = view.pod.containers().iter();
    phase(
        view.pod.restart_policy(),
        &init
            .map(|c| init_standing(view, &c.name))
            .collect::<Vec<_>>(),
        &regular.map(|c| standing(view, &c.name)).collect::<Vec<_>>(),
        is_initialized(view),
    )
}

/// Whether all containers are done for good: nothing may run, nothing will be started.
pub fn is_ended(view: &PodView<'_>) -> bool {
    matches!(current_phase(view), Phase::Succeeded | Phase::Failed)
        && view.observed.live_containers().next().is_none()
}

#[cfg(test)]
mod tests {
    use Phase::{Failed, Pending, Running, Succeeded};
    use RestartPolicy::{Always, Never, OnFailure};
    use Standing::{Ended, NotStarted, Replaced, Running as Runs};

    use super::*;

    #[test]
    fn the_truth_table_is_upstreams() {
        let rows: &[(RestartPolicy, &[Standing], &[Standing], Phase)] = &[
            (Always, &[], &[NotStarted], Pending),
            (Always, &[], &[Runs], Running),
            (Always, &[], &[Runs, NotStarted], Pending),
            (Always, &[], &[Ended(0)], Running),
            (Always, &[], &[Ended(1)], Running),
            (OnFailure, &[], &[Ended(0)], Succeeded),
            (OnFailure, &[], &[Ended(1)], Running),
            (OnFailure, &[], &[Ended(0), Runs], Running),
            (Never, &[], &[Ended(0)], Succeeded),
            (Never, &[], &[Ended(0), Ended(2)], Failed),
            (Never, &[], &[Ended(0), Runs], Running),
            (Never, &[], &[Ended(0), Replaced], Running),
            (OnFailure, &[], &[Replaced], Running),
            (Always, &[], &[NotStarted, Replaced], Pending),
            (Always, &[NotStarted], &[NotStarted], Pending),
            (Always, &[Runs], &[NotStarted], Pending),
            (Always, &[Ended(1)], &[NotStarted], Pending),
            (Never, &[Ended(1)], &[NotStarted], Failed),
            (Never, &[Ended(0)], &[NotStarted], Pending),
            (Always, &[Ended(0)], &[Runs], Running),
        ];
        for (policy, init, regular, expected) in rows {
            assert_eq!(
                phase(
                    *policy,
                    init,
                    regular,
                    regular.iter().any(|s| *s != NotStarted)
                ),
                *expected,
                "{policy:?} {init:?} {regular:?}"
            );
        }
    }
}
