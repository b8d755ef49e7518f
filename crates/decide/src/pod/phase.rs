//! The phase of a pod from its containers' states, and whether the pod has ended for good.
//!
//! In:    the view (newest instance of each container, recorded exits, restart policy)
//! Out:   `Phase`; `is_ended`; whether a status that somebody holds `is_final`
//! Calls: lifecycle, pod_status, status_write; act where it reads statuses
//! Holds: a terminal phase is only reached when nothing runs and nothing will be started again
//! Upstream: pkg/kubelet/kubelet_pods.go (getPhase, 1.36)

use k8s_openapi::api::core::v1;
use kubelet_model::observed::ObservedContainer;
use kubelet_model::pod::{RestartPolicy, is_sidecar};
use kubelet_model::reason::Reason;

use crate::pod::restart::{is_ephemeral, policy_of, restarts_after};
use crate::probes::readiness::{hook_is_done, is_started};
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

/// How a container that is kept running stands: its newest instance that was started, else the recorded exit; what was seen to run and
/// is not there any more has ended, nobody knows how.
pub fn standing(view: &PodView<'_>, name: &str) -> Standing {
    standing_by(view, name, |code, _| code)
}

/// How an init container stands that runs to its end.
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
            // Before its postStart hook is done it counts as not started; one that ran before does not go back to that.
            let is_first = !view.memory.record.exits.contains_key(name);
            return if is_first && !hook_is_done(view, instance) {
                Standing::NotStarted
            } else {
                Standing::Running
            };
        }
        if let Some(exit) = instance.state.exit() {
            let id = instance.id.as_str();
            if view.memory.is_replaced(name, id, exit.finished_at) {
                return Standing::Replaced;
            }
            let later = view.later_exit(instance);
            let later = later.filter(|exit| still_counts(view, exit, name));
            let (code, reason) = match later {
                Some(later) => (later.code, &later.reason),
                None => (exit.code, &exit.reason),
            };
            return Standing::Ended(code_of(code, reason));
        }
    }
    let recorded = view.memory.record.exits.get(name);
    let is_replaced = |exit: &RecordedExit| {
        exit.is_reset || view.memory.is_replaced(name, &exit.id, exit.finished_at)
    };
    if recorded.is_some_and(is_replaced) {
        return Standing::Replaced;
    }
    let recorded = recorded.filter(|exit| still_counts(view, exit, name));
    recorded
        .or_else(|| view.lost(name))
        .map_or(Standing::NotStarted, |exit| {
            Standing::Ended(code_of(exit.code, &exit.reason))
        })
}

/// An exit that only we remember counts while its sandbox stands; in a new one everything runs again, unless its policy says Never.
/// (A stop for a replaced sandbox may well end with 0: that is no success.)
fn still_counts(view: &PodView<'_>, exit: &RecordedExit, name: &str) -> bool {
    let newest = view.observed.sandboxes.first();
    let spec = view.pod.container(name);
    spec.is_some_and(|spec| policy_of(view.pod, spec) == RestartPolicy::Never)
        || newest.is_some_and(|sandbox| sandbox.id.as_str() == exit.sandbox)
}

/// What counts of one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// How it stands.
    pub standing: Standing,
    /// Whether it is started again, where it has ended.
    pub restarts: bool,
}

/// The containers of a pod, in the order of the spec.
#[derive(Clone, Debug, Default)]
pub struct Containers {
    /// Init containers that run to their end.
    pub init: Vec<Counted>,
    /// Sidecars, and whether each that runs has started.
    pub sidecars: Vec<(Counted, bool)>,
    /// Regular ones.
    pub regular: Vec<Counted>,
}

/// The phase by upstream's table, but for this: sidecars that still run do not keep a pod from having ended. `is_initialized`: a
/// regular container was started in the newest sandbox.
pub fn phase(containers: &Containers, is_initialized: bool) -> Phase {
    let Containers {
        init,
        sidecars,
        regular,
    } = containers;
    let has_failed = |c: &Counted| matches!(c.standing, Standing::Ended(code) if code != 0);
    if init.iter().any(|c| has_failed(c) && !c.restarts) {
        return Phase::Failed;
    }
    let is_pending = |c: &Counted| !matches!(c.standing, Standing::Ended(0) | Standing::Replaced);
    let is_starting = |(c, is_started): &(Counted, bool)| match c.standing {
        Standing::NotStarted => true,
        Standing::Running => !is_started,
        Standing::Ended(_) | Standing::Replaced => false,
    };
    if !is_initialized && (init.iter().any(is_pending) || sidecars.iter().any(is_starting)) {
        return Phase::Pending;
    }
    let is = |wanted: Standing| regular.iter().any(|c| c.standing == wanted);
    if is(Standing::NotStarted) {
        return Phase::Pending;
    }
    if is(Standing::Running) || is(Standing::Replaced) || regular.iter().any(|c| c.restarts) {
        return Phase::Running;
    }
    if regular.iter().any(has_failed) {
        Phase::Failed
    } else {
        Phase::Succeeded
    }
}

/// Whether a regular container was started in the newest sandbox, as far as anybody knows: then init containers are done.
pub(crate) fn is_initialized(view: &PodView<'_>) -> bool {
    let Some(newest) = view.observed.sandboxes.first() else {
        // Without a sandbox what is recorded is all there is.
        let is_recorded = |name: &str| {
            let exit = view.memory.record.exits.get(name);
            exit.is_some_and(|exit| !exit.is_reset)
        };
        return view.pod.containers().iter().any(|c| is_recorded(&c.name));
    };
    view.pod.containers().iter().any(|c| {
        let mut held = view.observed.instances(&c.name);
        let in_newest = held.any(|i| i.sandbox == newest.id && i.started_at().is_some());
        let recorded = [&view.memory.record.exits, &view.memory.record.running];
        let mut recorded = recorded.into_iter().filter_map(|all| all.get(&c.name));
        in_newest || recorded.any(|run| !run.is_reset && run.sandbox == newest.id.as_str())
    })
}

fn counted(view: &PodView<'_>, container: &v1::Container, standing: Standing) -> Counted {
    let restarts = match standing {
        Standing::Ended(code) => restarts_after(view.pod, container, code),
        Standing::NotStarted | Standing::Running | Standing::Replaced => false,
    };
    Counted { standing, restarts }
}

/// The phase that the containers of the view have; sidecars that still run do not keep a pod from having ended.
pub fn current_phase(view: &PodView<'_>) -> Phase {
    let (sidecars, init): (Vec<_>, Vec<_>) = view
        .pod
        .init_containers()
        .iter()
        .partition(|c| is_sidecar(c));
    let init = init
        .into_iter()
        .map(|c| counted(view, c, init_standing(view, &c.name)));
    let sidecars = sidecars.into_iter().map(|c| {
        let newest = view.observed.instances(&c.name).next();
        let is_started = newest.is_some_and(|newest| is_started(view, c, newest));
        (counted(view, c, standing(view, &c.name)), is_started)
    });
    let regular = view.pod.containers().iter();
    let containers = Containers {
        init: init.collect(),
        sidecars: sidecars.collect(),
        regular: regular
            .map(|c| counted(view, c, standing(view, &c.name)))
            .collect(),
    };
    phase(&containers, is_initialized(view))
}

/// Whether all containers are done for good: nothing will be started, and nothing may run but sidecars and ephemeral containers, which
/// end with the pod.
pub fn is_ended(view: &PodView<'_>) -> bool {
    let ends_with_the_pod = |container: &ObservedContainer| {
        let name = &container.name;
        view.pod.init_container(name).is_some_and(is_sidecar) || is_ephemeral(view.pod, name)
    };
    matches!(current_phase(view), Phase::Succeeded | Phase::Failed)
        && view.observed.live_containers().all(ends_with_the_pod)
}

#[cfg(test)]
mod tests {
    use Phase::{Failed, Pending, Running, Succeeded};
    use RestartPolicy::{Always, Never, OnFailure};
    use Standing::{Ended, NotStarted, Replaced, Running as Runs};

    use super::*;

    fn counted(policy: RestartPolicy, standing: Standing) -> Counted {
        let restarts = match (policy, standing) {
            (Always, Ended(_)) => true,
            (OnFailure, Ended(code)) => code != 0,
            (Never, _) | (_, NotStarted | Runs | Replaced) => false,
        };
        Counted { standing, restarts }
    }

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
            let all = |standings: &[Standing]| -> Vec<Counted> {
                standings.iter().map(|s| counted(*policy, *s)).collect()
            };
            let containers = Containers {
                init: all(init),
                sidecars: Vec::new(),
                regular: all(regular),
            };
            let is_initialized = regular.iter().any(|s| *s != NotStarted);
            assert_eq!(
                phase(&containers, is_initialized),
                *expected,
                "{policy:?} {init:?} {regular:?}"
            );
        }
    }

    /// Upstream's TestPodPhaseWithRestartNeverRestartableInitContainers and its siblings for the other policies.
    #[test]
    fn sidecars_count_while_the_pod_starts_and_no_more_after_that() {
        type Row = (RestartPolicy, (Standing, bool), Standing, bool, Phase);
        let rows: &[Row] = &[
            (Never, (NotStarted, false), NotStarted, false, Pending),
            (Never, (Runs, false), NotStarted, false, Pending),
            (Never, (Runs, true), NotStarted, false, Pending),
            (Never, (Runs, true), Runs, true, Running),
            // Its startup probe has not spoken again after a restart of its own.
            (Never, (Runs, false), Runs, true, Running),
            (Never, (Ended(137), false), Runs, true, Running),
            (Never, (Ended(137), false), NotStarted, false, Pending),
            (Never, (Runs, true), Ended(0), true, Succeeded),
            (Never, (Ended(137), false), Ended(0), true, Succeeded),
            (Never, (Ended(0), false), Ended(1), true, Failed),
            (OnFailure, (Ended(137), false), Ended(0), true, Succeeded),
            (OnFailure, (Ended(137), false), Ended(1), true, Running),
            (Always, (Ended(137), false), Ended(0), true, Running),
            (Always, (Runs, true), Ended(0), true, Running),
        ];
        for (policy, (sidecar, is_started), regular, is_initialized, expected) in rows {
            let containers = Containers {
                init: Vec::new(),
                sidecars: vec![(counted(Always, *sidecar), *is_started)],
                regular: vec![counted(*policy, *regular)],
            };
            let row = format!("{policy:?} {sidecar:?} {is_started} {regular:?}");
            assert_eq!(phase(&containers, *is_initialized), *expected, "{row}");
        }
    }
}
