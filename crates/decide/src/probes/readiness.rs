//! What the results of probes mean for a container: started, ready, to be restarted; and what of a pod is probed.
//!
//! In:    `PodView`, with the results that the prober holds
//! Out:   `is_started`, `is_ready`, `failed_probe`, [`PostStart`], [`PodTargets`]
//! Calls: pod_plan, pod_status; act/pod/pod_worker
//! Holds: a result of another instance says nothing; a container without the probe is started when it runs, and ready when started
//! Upstream: pkg/kubelet/prober/prober_manager.go (UpdatePodStatus), kuberuntime_manager.go (computePodActions)

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1;
use kubelet_model::observed::{ContainerState, ObservedContainer};
use kubelet_model::pod::Pod;

use crate::probes::spec::{has_probes, probe_of};
use crate::shapes::probe::{ContainerProbes, PodTargets, ProbeKind, ProbeResult, Target};
use crate::shapes::view::PodView;

fn result_of(
    view: &PodView<'_>,
    container: &ObservedContainer,
    kind: ProbeKind,
) -> Option<ProbeResult> {
    known_of(view, container)?.of(kind)
}

/// What the prober holds of this instance; before it does, what an earlier process or another kubelet knew.
fn known_of(view: &PodView<'_>, container: &ObservedContainer) -> Option<ContainerProbes> {
    let held = view.inputs.probes.get(&container.name);
    let held = held.filter(|held| held.id == container.id).cloned();
    held.or_else(|| taken_over(view, container))
}

/// What is known of an instance from before this process: the record's, else what the API shows of it.
fn taken_over(view: &PodView<'_>, container: &ObservedContainer) -> Option<ContainerProbes> {
    let recorded = view.memory.record.probes.get(&container.name);
    let recorded = recorded.filter(|known| known.id == container.id);
    recorded.cloned().or_else(|| shown(view, container))
}

fn shown(view: &PodView<'_>, container: &ObservedContainer) -> Option<ContainerProbes> {
    let status = view.pod.object.status.as_ref()?;
    let id = view.full_id(container.id.as_str());
    let init = status.init_container_statuses.iter().flatten();
    let statuses = init.chain(status.container_statuses.iter().flatten());
    let of_it = statuses
        .filter(|status| status.name == container.name)
        .find(|status| status.container_id.as_deref() == Some(id.as_str()))?;
    let result = |is_good: bool| {
        if is_good {
            ProbeResult::Success
        } else {
            ProbeResult::Failure
        }
    };
    let is_started = of_it.started == Some(true);
    Some(ContainerProbes {
        id: container.id.clone(),
        startup: is_started.then_some(ProbeResult::Success),
        readiness: is_started.then(|| result(of_it.ready)),
        liveness: is_started.then_some(ProbeResult::Success),
    })
}

/// How the postStart hook of an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostStart {
    /// There is none, or it was run; or another kubelet started the instance.
    Done,
    /// It has not ended: until then the instance does not count as started.
    Due,
    /// It has failed: the instance is to be stopped.
    Failed,
}

/// How the postStart hook of an instance stands.
pub fn post_start_of(view: &PodView<'_>, container: &ObservedContainer) -> PostStart {
    let hook = view.memory.record.post_start.get(&container.name);
    match hook.filter(|hook| hook.attempt == container.attempt) {
        None => PostStart::Done,
        Some(hook) if hook.failed.is_some() => PostStart::Failed,
        Some(_) => PostStart::Due,
    }
}

/// Whether nothing is left to do of the postStart hook of an instance.
pub fn hook_is_done(view: &PodView<'_>, container: &ObservedContainer) -> bool {
    post_start_of(view, container) == PostStart::Done
}

/// Whether a running instance has started, as its postStart hook and its startup probe say.
pub fn is_started(view: &PodView<'_>, spec: &v1::Container, container: &ObservedContainer) -> bool {
    matches!(container.state, ContainerState::Running { .. })
        && hook_is_done(view, container)
        && (probe_of(spec, ProbeKind::Startup).is_none()
            || result_of(view, container, ProbeKind::Startup) == Some(ProbeResult::Success))
}

/// Whether a running instance is ready, as its probes say.
pub fn is_ready(view: &PodView<'_>, spec: &v1::Container, container: &ObservedContainer) -> bool {
    is_started(view, spec, container)
        && (probe_of(spec, ProbeKind::Readiness).is_none()
            || result_of(view, container, ProbeKind::Readiness) == Some(ProbeResult::Success))
}

/// The probe that a running instance has failed, and is ended for.
pub fn failed_probe(
    view: &PodView<'_>,
    spec: &v1::Container,
    container: &ObservedContainer,
) -> Option<ProbeKind> {
    [ProbeKind::Liveness, ProbeKind::Startup]
        .into_iter()
        .find(|kind| {
            probe_of(spec, *kind).is_some()
                && result_of(view, container, *kind) == Some(ProbeResult::Failure)
        })
}

/// What of the pod is probed.
pub fn probe_targets(view: &PodView<'_>, pod: &Arc<Pod>, ip: String) -> PodTargets {
    let probed = pod.kept_containers().filter(|spec| has_probes(spec));
    let containers: BTreeMap<String, Target> = probed
        .filter_map(|spec| {
            let container = view.observed.instances(&spec.name).next()?;
            let ContainerState::Running { started_at } = container.state else {
                return None;
            };
            if !hook_is_done(view, container) {
                return None;
            }
            let target = Target {
                id: container.id.clone(),
                started_at: view.now.steady_of(started_at),
                known: taken_over(view, container),
            };
            Some((spec.name.clone(), target))
        })
        .collect();
    PodTargets {
        pod: Arc::clone(pod),
        ip,
        is_leaving: pod.object.metadata.deletion_timestamp.is_some() || view.memory.life.rank() > 0,
        containers,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use kubelet_model::objects::PodObjects;

    use super::*;
    use crate::testing::pod_of;
    use crate::testing::seen::Seen;

    const ALL: &str = "startupProbe: {tcpSocket: {port: 1}}, readinessProbe: {tcpSocket: {port: 1}}, livenessProbe: {tcpSocket: {port: 1}}";

    fn seen(probes: &str) -> Seen {
        let pod = pod_of(&format!(
            "{{containers: [{{name: c, image: i, {probes}}}]}}"
        ));
        Seen::new(pod, PodObjects::default()).running().prepared()
    }

    fn results(
        startup: Option<ProbeResult>,
        readiness: Option<ProbeResult>,
        liveness: Option<ProbeResult>,
    ) -> ContainerProbes {
        ContainerProbes {
            startup,
            readiness,
            liveness,
            ..ContainerProbes::none("c".into())
        }
    }

    /// Started, ready, the failed probe.
    fn of(seen: &Seen) -> (bool, bool, Option<ProbeKind>) {
        let spec = &seen.pod.containers()[0];
        let container = &seen.observed.containers[0];
        seen.see(|view| {
            (
                is_started(view, spec, container),
                is_ready(view, spec, container),
                failed_probe(view, spec, container),
            )
        })
    }

    #[test]
    fn results_say_started_ready_and_what_failed() {
        use ProbeResult::{Failure, Success};
        let rows = [
            ("stdin: true", None, (true, true, None)),
            (ALL, None, (false, false, None)),
            (
                ALL,
                Some(results(None, Some(Success), None)),
                (false, false, None),
            ),
            (
                ALL,
                Some(results(Some(Failure), None, Some(Success))),
                (false, false, Some(ProbeKind::Startup)),
            ),
            (
                ALL,
                Some(results(Some(Success), Some(Failure), Some(Success))),
                (true, false, None),
            ),
            (
                ALL,
                Some(results(Some(Success), Some(Success), Some(Failure))),
                (true, true, Some(ProbeKind::Liveness)),
            ),
            (
                "readinessProbe: {tcpSocket: {port: 1}}",
                Some(results(None, Some(Success), None)),
                (true, true, None),
            ),
        ];
        for (probes, known, expected) in rows {
            let mut seen = seen(probes);
            let known = known.into_iter().map(|known| ("c".to_owned(), known));
            seen.inputs.probes = Arc::new(known.collect());
            assert_eq!(of(&seen), expected, "{probes} {:?}", seen.inputs.probes);
        }
    }

    #[test]
    fn a_result_of_another_instance_says_nothing() {
        let mut seen = seen(ALL);
        let good = Some(ProbeResult::Success);
        let known = ContainerProbes {
            id: "older".into(),
            ..results(good, good, good)
        };
        seen.inputs.probes = Arc::new([("c".to_owned(), known.clone())].into());
        seen.memory.record.probes = [("c".to_owned(), known)].into();
        assert_eq!(of(&seen), (false, false, None));
    }

    #[test]
    fn before_the_prober_knows_more_the_record_or_the_api_says_it() {
        let good = Some(ProbeResult::Success);
        let mut of_record = seen(ALL);
        of_record.memory.record.probes = [("c".to_owned(), results(good, good, good))].into();
        assert_eq!(of(&of_record), (true, true, None));
        let status = serde_json::json!({"containerStatuses": [{"name": "c", "containerID": "containerd://c", "image": "", "imageID": "",
            "ready": true, "started": true, "restartCount": 0}]});
        let mut of_api = seen(ALL);
        let mut object = (*of_api.pod.object).clone();
        object.status = serde_json::from_value(status).unwrap();
        of_api.pod.object = Arc::new(object);
        assert_eq!(of(&of_api), (true, true, None));
        let pod = Arc::new(of_api.pod.clone());
        let targets = of_api.see(|view| probe_targets(view, &pod, String::new()));
        let target = &targets.containers["c"];
        assert_eq!(target.known, Some(results(good, good, good)));
        assert_eq!(target.started_at, Timestamp::UNIX_EPOCH);
    }
}
