//! The phase of a pod from its containers' states, and whether the pod has ended for good.
//!
//! In:    the view (newest instance of each container, recorded exits, restart policy)
//! Out:   `Phase`; `is_ended`; whether a status that somebody holds `is_final`
//! Calls: lifecycle, pod_status, status_write; act where it reads statuses
//! Holds: a terminal phase is only reached when nothing runs and nothing will be started again
//! Upstream: pkg/kubelet/kubelet_pods.go (getPhase, 1.36); differences: sidecars are not built yet

use k8s_openapi::api::core::v1;
use kubelet_model::pod::RestartPolicy;

use crate::restart::policy_restarts;
use crate::record::RecordedExit;
use crate::view::PodView;

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
}

/// How a container stands: its newest instance that was started, else the recorded exit.
pub fn standing(view: &PodView<'_>, name: &str) -> Standing {
    for instance in view.observed.instances(name) {
        if instance.state.may_run() {
            return Standing::Running;
        }
        if let Some(exit) = instance.state.exit() {
            let later = view.later_exit(instance);
            let later = later.filter(|exit| still_counts(view, exit));
            return Standing::Ended(later.map_or(exit.code, |later| later.code));
        }
    }
    let recorded = view
        .memory
        .record
        .exits
        .get(name)
        .filter(|exit| still_counts(view, exit));
    recorded.map_or(Standing::NotStarted, |exit| Standing::Ended(exit.code))
}

/// An exit that only we remember counts while its sandbox stands; in a new one everything runs again, unless the pod says Never.
/// (A stop for a replaced sandbox may well end with 0: that is no success.)
fn still_counts(view: &PodView<'_>, exit: &RecordedExit) -> bool {
    let newest = view.observed.sandboxes.first();
    view.pod.restart_policy() == RestartPolicy::Never
        || newest.is_some_and(|sandbox| sandbox.id.as_str() == exit.sandbox)
}

/// The phase by upstream's table.
pub fn phase(policy: RestartPolicy, init: &[Standing], regular: &[Standing]) -> Phase {
    let init_failed_for_good =
        init.iter().any(|s| matches!(s, Standing::Ended(code) if *code != 0 && !policy_restarts(init_policy(policy), *code)));
    if init_failed_for_good {
        return Phase::Failed;
    }
    let any_regular_started = regular.iter().any(|s| *s != Standing::NotStarted);
    let init_pending = init.iter().any(|s| !matches!(s, Standing::Ended(0)));
    if init_pending && !any_regular_started {
        return Phase::Pending;
    }
    if regular.contains(&Standing::NotStarted) {
        return Phase::Pending;
    }
    if regular.contains(&Standing::Running) {
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

/// The phase that the containers of the view have.
pub fn current_phase(view: &PodView<'_>) -> Phase {
    let stand = |containers: &[v1::Container]| -> Vec<Standing> {
        containers.iter().map(|c| standing(view, &c.name)).collect()
    };
    phase(
        view.pod.restart_policy(),
        &stand(view.pod.init_containers()),
        &stand(view.pod.containers()),
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
    use Standing::{Ended, NotStarted, Running as Runs};

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
            (Always, &[NotStarted], &[NotStarted], Pending),
            (Always, &[Runs], &[NotStarted], Pending),
            (Always, &[Ended(1)], &[NotStarted], Pending),
            (Never, &[Ended(1)], &[NotStarted], Failed),
            (Never, &[Ended(0)], &[NotStarted], Pending),
            (Always, &[Ended(0)], &[Runs], Running),
        ];
        for (policy, init, regular, expected) in rows {
            assert_eq!(
                phase(*policy, init, regular),
                *expected,
                "{policy:?} {init:?} {regular:?}"
            );
        }
    }
}
