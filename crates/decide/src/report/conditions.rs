//! The conditions of a pod.
//!
//! In:    `PodView`, the phase, statuses of its containers
//! Out:   [`Conditions`], and since when each is so
//! Calls: pod_status
//! Holds: a condition's time moves only when its value does; conditions of others are kept as they are
//! Upstream: pkg/kubelet/status/generate.go, pkg/kubelet/kubelet_pods.go (generateAPIPodStatus), 1.36

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kubelet_model::pod::is_sidecar;
use kubelet_model::reason::Reason;

use crate::pod::phase::Phase;
use crate::pod::restart_all::{ALL_CONTAINERS_RESTARTING, may_restart_all, restarts_all};
use crate::report::status_write::OWN_CONDITIONS;
use crate::shapes::life::Lifecycle;
use crate::shapes::record::DISRUPTION_TARGET;
use crate::shapes::view::PodView;

/// Times in status are whole seconds.
pub fn whole_second(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// What others say of a pod.
pub fn foreign_conditions(pod: &v1::Pod) -> impl Iterator<Item = &v1::PodCondition> {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let is_foreign = |c: &&v1::PodCondition| !OWN_CONDITIONS.contains(&c.type_.as_str());
    conditions.into_iter().flatten().filter(is_foreign)
}

/// Conditions as they are made, one after the other.
#[derive(Debug)]
pub struct Conditions<'a> {
    view: &'a PodView<'a>,
    /// Type → (True?, since), to be remembered.
    pub next: BTreeMap<String, (bool, Timestamp)>,
    /// What is shown.
    pub out: Vec<v1::PodCondition>,
}

impl<'a> Conditions<'a> {
    /// None yet.
    pub fn new(view: &'a PodView<'a>) -> Self {
        Self {
            view,
            next: BTreeMap::new(),
            out: Vec::new(),
        }
    }

    /// In upstream's order.
    pub fn add_all(
        &mut self,
        phase: Phase,
        init: &[v1::ContainerStatus],
        regular: &[v1::ContainerStatus],
    ) {
        let has_sandbox = self
            .view
            .observed
            .ready_sandboxes()
            .any(|s| s.host_network || s.ips.as_ref().is_some_and(|ips| !ips.is_empty()));
        self.add("PodReadyToStartContainers", has_sandbox, None);
        let is_sidecar = |status: &v1::ContainerStatus| {
            let spec = self.view.pod.init_container(&status.name);
            spec.is_some_and(is_sidecar)
        };
        let is_complete = |status: &&v1::ContainerStatus| match is_sidecar(status) {
            true => status.started == Some(true),
            false => status.ready,
        };
        let incomplete: Vec<_> = init
            .iter()
            .filter(|status| !is_complete(status))
            .map(|s| s.name.as_str())
            .collect();
        let any_started = regular.iter().any(|s| s.container_id.is_some());
        match phase {
            Phase::Succeeded => self.add("Initialized", true, Some((Reason::PodCompleted, None))),
            _ if incomplete.is_empty() || any_started => self.add("Initialized", true, None),
            Phase::Pending | Phase::Running | Phase::Failed => self.add(
                "Initialized",
                false,
                Some((
                    Reason::ContainersNotInitialized,
                    Some(format!(
                        "containers with incomplete status: [{}]",
                        incomplete.join(" ")
                    )),
                )),
            ),
        }
        let sidecars = init.iter().filter(|status| is_sidecar(status));
        let unready: Vec<_> = sidecars
            .chain(regular)
            .filter(|s| !s.ready)
            .map(|s| s.name.as_str())
            .collect();
        let containers = match phase {
            Phase::Succeeded => Some((Reason::PodCompleted, None)),
            Phase::Failed => Some((Reason::PodFailed, None)),
            Phase::Pending | Phase::Running if unready.is_empty() => None,
            Phase::Pending | Phase::Running => Some((
                Reason::ContainersNotReady,
                Some(format!(
                    "containers with unready status: [{}]",
                    unready.join(" ")
                )),
            )),
        };
        let ready = containers.clone().or_else(|| self.closed_gates());
        self.add("Ready", ready.is_none(), ready);
        self.add("ContainersReady", containers.is_none(), containers);
        self.add("PodScheduled", true, None);
        if may_restart_all(self.view.pod) {
            let is_syncing = self.view.memory.life == Lifecycle::Syncing;
            let is_restarting = is_syncing && restarts_all(self.view);
            let message = || Some("container exited with restart policy rule".to_owned());
            let why = match phase {
                Phase::Succeeded => Some((Reason::PodCompleted, None)),
                Phase::Failed => Some((Reason::PodFailed, None)),
                Phase::Pending | Phase::Running if is_restarting => {
                    Some((Reason::RestartAllContainersStarted, message()))
                }
                Phase::Pending | Phase::Running => None,
            };
            self.add(ALL_CONTAINERS_RESTARTING, is_restarting, why);
        }
    }

    /// That it was ended for others, once it has ended.
    pub fn add_disruption(&mut self, phase: Phase) {
        let ended = self.view.memory.record.ended.as_ref();
        let why = ended.and_then(|ended| ended.why.as_ref());
        let text = why.and_then(|why| why.disruption.clone());
        if let Some(text) = text.filter(|_| phase == Phase::Failed) {
            self.out
                .retain(|condition| condition.type_ != DISRUPTION_TARGET);
            let why = Some((Reason::TerminationByKubelet, Some(text)));
            self.add(DISRUPTION_TARGET, true, why);
        }
    }

    /// What others say of the pod, as the API has it; they and nobody else change it.
    pub fn keep_foreign(&mut self) {
        let foreign = foreign_conditions(&self.view.pod.object);
        self.out.extend(foreign.cloned());
    }

    /// Readiness gates whose condition is not there or not true: with one of them the pod is not ready.
    fn closed_gates(&self) -> Option<(Reason, Option<String>)> {
        let said = |type_: &str| self.out.iter().find(|c| c.type_ == type_);
        let gates = self.view.pod.spec().readiness_gates.iter().flatten();
        let closed: Vec<String> = gates
            .filter_map(|gate| {
                let name = &gate.condition_type;
                match said(name) {
                    None => Some(format!(
                        "corresponding condition of pod readiness gate \"{name}\" does not exist."
                    )),
                    Some(condition) if condition.status == "True" => None,
                    Some(condition) => Some(format!(
                        "the status of pod readiness gate \"{name}\" is not \"True\", but {}",
                        condition.status
                    )),
                }
            })
            .collect();
        (!closed.is_empty()).then(|| (Reason::ReadinessGatesNotReady, Some(closed.join(", "))))
    }

    fn add(&mut self, name: &str, value: bool, why: Option<(Reason, Option<String>)>) {
        let since = match self.view.memory.record.conditions.get(name) {
            Some((old, since)) if *old == value => *since,
            Some(_) | None => self.view.now.wall,
        };
        self.next.insert(name.to_owned(), (value, since));
        let (reason, message) = why.map_or((None, None), |(reason, message)| {
            (Some(reason.to_string()), message)
        });
        self.out.push(v1::PodCondition {
            type_: name.to_owned(),
            status: if value { "True" } else { "False" }.to_owned(),
            last_transition_time: Some(whole_second(since)),
            observed_generation: self.view.pod.object.metadata.generation,
            reason,
            message,
            ..Default::default()
        });
    }
}
