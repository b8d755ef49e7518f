//! Which containers are stopped, why, in which order and with how much time.
//!
//! In:    `PodView`
//! Out:   `StopContainer`s: of what must not run in a pod that goes on, of all that runs in one that ends
//! Calls: pod_plan; act/pod/execute asks whether an order shortens a stop
//! Holds: the time of an instance's end counts from when its stop was begun, over restarts of the kubelet too; a sidecar is stopped after
//!        the regular containers and the sidecars behind it, as long as there is time; at least 2 s
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_container.go (killContainer), kuberuntime_termination_order.go, kuberuntime_manager.go
//!        (computePodActions), 1.36; differences: there each retry, and each restart of the kubelet, gives the whole grace again

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use kubelet_model::ids::ContainerId;
use kubelet_model::observed::{ContainerState, ObservedContainer, ObservedSandbox};
use kubelet_model::pod::{Pod, RestartPolicy, is_sidecar};

use crate::pod::hooks::pre_stop;
use crate::pod::restart::{is_ephemeral, policy_of};
use crate::probes::readiness::{PostStart, failed_probe, post_start_of};
use crate::probes::spec::probe_of;
use crate::shapes::plan::{Action, OnFailure, PodPlan, Restarts, Step, StopContainer, StopWhy};
use crate::shapes::probe::ProbeKind;
use crate::shapes::record::Stopping;
use crate::shapes::view::{Desire, PodView};

/// The least that a container gets to end, seconds.
pub const MINIMUM_GRACE_SECONDS: i64 = 2;

/// Why a container must not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unwanted {
    /// The spec does not have it.
    NotInSpec,
    /// It runs in another sandbox.
    OtherSandbox,
    /// A newer instance runs.
    Double,
    /// Another image is wanted in it.
    DefinitionChanged,
    /// Its postStart hook failed.
    PostStartFailed,
    /// It failed this probe.
    FailedProbe(ProbeKind),
    /// The runtime does not know what it does.
    UnknownState,
}

impl Unwanted {
    fn as_str(self) -> &'static str {
        match self {
            Self::NotInSpec => "not in the spec",
            Self::OtherSandbox => "in another sandbox",
            Self::Double => "a newer instance runs",
            Self::DefinitionChanged => "definition changed",
            Self::PostStartFailed => "its postStart hook failed",
            Self::FailedProbe(_) => "failed a probe",
            Self::UnknownState => "in an unknown state",
        }
    }
}

/// Stops what must not run: instances outside the sandbox, doubles, changed definitions, failed hooks and probes, names the spec does not
/// have.
pub fn stop_unwanted(view: &PodView<'_>, sandbox: &ObservedSandbox, plan: &mut PodPlan) {
    let mut why = "";
    let mut stops = Vec::new();
    for container in view.observed.live_containers() {
        let Some(unwanted) = unwanted(view, sandbox, container) else {
            continue;
        };
        let retry = view.memory.stops.get(&container.id);
        if let Some(until) = retry.and_then(|retry| retry.held_until(view.now)) {
            plan.wake_by(until);
        } else {
            why = unwanted.as_str();
            stops.push(stop_of_unwanted(view, container, unwanted));
        }
    }
    if !stops.is_empty() {
        plan.steps.push(Step {
            why: why.to_owned(),
            action: Action::StopContainers(stops),
            on_failure: OnFailure::Continue,
        });
    }
}

fn stop_of_unwanted(
    view: &PodView<'_>,
    container: &ObservedContainer,
    unwanted: Unwanted,
) -> StopContainer {
    let (why, grace) = match unwanted {
        Unwanted::FailedProbe(kind) => {
            let spec = view.pod.kept_container(&container.name);
            let probe = spec.and_then(|spec| probe_of(spec, kind));
            let grace = probe.and_then(|probe| probe.termination_grace_period_seconds);
            let restarts = match spec.map(|spec| policy_of(view.pod, spec)) {
                Some(RestartPolicy::Never) | None => Restarts::No,
                Some(RestartPolicy::Always | RestartPolicy::OnFailure) => Restarts::Yes,
            };
            (StopWhy::ProbeFailed(kind, restarts), grace)
        }
        Unwanted::DefinitionChanged => (StopWhy::DefinitionChanged, None),
        Unwanted::UnknownState => (StopWhy::UnknownState, None),
        Unwanted::PostStartFailed => (StopWhy::PostStartFailed, None),
        Unwanted::NotInSpec | Unwanted::OtherSandbox | Unwanted::Double => {
            (StopWhy::Unwanted, None)
        }
    };
    let grace = grace.unwrap_or_else(|| view.pod.grace_seconds());
    stop_of(view, container, grace, why)
}

fn unwanted(
    view: &PodView<'_>,
    sandbox: &ObservedSandbox,
    container: &ObservedContainer,
) -> Option<Unwanted> {
    let name = &container.name;
    if view.pod.container(name).is_none() {
        return Some(Unwanted::NotInSpec);
    }
    let kept = view.pod.kept_container(name);
    let mut instances = view.observed.instances(name);
    let newest_live = instances.find(|c| c.state.may_run());
    if container.sandbox != sandbox.id {
        Some(Unwanted::OtherSandbox)
    } else if newest_live.is_some_and(|newest| newest.id != container.id) {
        Some(Unwanted::Double)
    } else if kept.is_some_and(|spec| definition_changed(spec, container)) {
        Some(Unwanted::DefinitionChanged)
    } else if post_start_of(view, container) == PostStart::Failed {
        Some(Unwanted::PostStartFailed)
    } else if let Some(kind) = kept.and_then(|spec| failed_probe(view, spec, container)) {
        Some(Unwanted::FailedProbe(kind))
    } else if container.state == ContainerState::Unknown && !is_ephemeral(view.pod, name) {
        Some(Unwanted::UnknownState)
    } else {
        None
    }
}

/// Whether an instance that may run is stopped before its container is started again.
pub fn will_stop(
    view: &PodView<'_>,
    sandbox: &ObservedSandbox,
    container: &ObservedContainer,
) -> bool {
    container.state.may_run() && unwanted(view, sandbox, container).is_some()
}

/// Name and image alone make the hash, so only a changed image restarts a container.
fn definition_changed(spec: &v1::Container, container: &ObservedContainer) -> bool {
    let image = spec.image.as_deref().unwrap_or_default();
    let wanted = format!(
        "{:x}",
        crate::sources::identity::container_hash(&spec.name, image)
    );
    !container.hash.is_empty() && container.hash != wanted
}

/// Stops of all that runs, of a pod that ends or whose sandbox is replaced.
pub fn stops_of_all(view: &PodView<'_>, grace_seconds: i64) -> Vec<StopContainer> {
    let live = view.observed.live_containers();
    let mut stops: Vec<StopContainer> = live
        .map(|container| stop_of(view, container, grace_seconds, StopWhy::Unwanted))
        .collect();
    let ranks: Vec<(ContainerId, Option<usize>)> = stops
        .iter()
        .map(|stop| (stop.id.clone(), rank_here(view, &stop.name)))
        .collect();
    for (stop, (_, own)) in stops.iter_mut().zip(&ranks) {
        let Some(own) = *own else {
            continue;
        };
        let is_later = |rank: &Option<usize>| rank.is_some_and(|rank| rank > own);
        let later = ranks.iter().filter(|(_, rank)| is_later(rank));
        stop.after = later.map(|(id, _)| id.clone()).collect();
    }
    stops
}

/// Who waits for whom at the end: a container waits for those of a higher rank. Sidecars have their place in the spec, regular containers
/// come after all of them. What has no rank waits for nobody, and nobody waits for it.
fn rank(pod: &Pod, name: &str) -> Option<usize> {
    let init = pod.init_containers();
    if let Some(place) = init.iter().position(|c| c.name == name) {
        return init.get(place).is_some_and(is_sidecar).then_some(place);
    }
    let mut regular = pod.containers().iter();
    regular.any(|c| c.name == name).then_some(init.len())
}

/// The rank by the spec; of a pod that nobody names any more, as it was kept.
fn rank_here(view: &PodView<'_>, name: &str) -> Option<usize> {
    let kept = || view.memory.record.end_ranks.get(name).copied();
    rank(view.pod, name).or_else(kept)
}

/// The ranks of a pod with sidecars.
pub fn end_ranks(pod: &Pod) -> BTreeMap<String, usize> {
    if !pod.init_containers().iter().any(is_sidecar) {
        return BTreeMap::new();
    }
    let all = pod.kept_containers();
    all.filter_map(|c| Some((c.name.clone(), rank(pod, &c.name)?)))
        .collect()
}

/// A stop without a hook and with the least of grace: its container is made anew at once.
pub fn stop_at_once(container: &ObservedContainer) -> StopContainer {
    StopContainer {
        id: container.id.clone(),
        name: container.name.clone(),
        grace_seconds: MINIMUM_GRACE_SECONDS,
        hook: None,
        after: Vec::new(),
        why: StopWhy::RestartingAll,
    }
}

fn stop_of(
    view: &PodView<'_>,
    container: &ObservedContainer,
    grace_seconds: i64,
    why: StopWhy,
) -> StopContainer {
    let begun = view.memory.record.stopping.get(container.id.as_str());
    let left = begun.and_then(|begun| grace_left(begun, view));
    StopContainer {
        id: container.id.clone(),
        name: container.name.clone(),
        grace_seconds: left
            .map_or(grace_seconds, |left| left.min(grace_seconds))
            .max(MINIMUM_GRACE_SECONDS),
        hook: pre_stop(view, container),
        after: Vec::new(),
        why,
    }
}

/// What is left of the grace of a stop that was begun; a second that has begun is not used up.
fn grace_left(begun: &Stopping, view: &PodView<'_>) -> Option<i64> {
    let used = view.now.steady.duration_since(begun.since?).as_secs();
    Some(begun.grace_seconds.saturating_sub(used.max(0)))
}

/// Whether an order leaves containers less time than a stop under way, which has so many seconds left. One that only says that the pod is
/// to end leaves them what the pod says.
pub fn leaves_less_grace(desire: &Desire, pod: &Pod, grace_seconds: i64) -> bool {
    match desire {
        Desire::Stop {
            grace_seconds: asked,
            ..
        } => {
            let asked = asked.unwrap_or_else(|| pod.grace_seconds());
            asked.max(MINIMUM_GRACE_SECONDS) < grace_seconds
        }
        Desire::Run | Desire::Wait(_) | Desire::Reject(_) | Desire::End(_) => false,
    }
}

#[cfg(test)]
mod tests;
