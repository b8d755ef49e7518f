//! `RestartAllContainers`: a container's exit that takes all containers of its pod down, to be started again from the first init container
//! on, in the same sandbox.
//!
//! In:    `PodView`
//! Out:   whether that is due or under way; the steps towards it
//! Calls: pod_plan, report/pod_status
//! Holds: ephemeral containers stay; logs of what is removed stay with the pod; what a restart of the kubelet cuts short goes on
//! Upstream: pkg/kubelet/container/helpers.go (ShouldAllContainersRestart), kuberuntime/kuberuntime_manager.go (getContainersToReset), 1.36;
//!        differences: a container whose exit asked for it keeps that exit in its last state, and waits for its back-off

use k8s_openapi::api::core::v1;
use kubelet_model::observed::{ObservedContainer, ObservedPod};
use kubelet_model::pod::Pod;
use kubelet_model::reason::Reason;

use crate::pod::restart::{RuleSays, rule_of};
use crate::pod::stops::stop_at_once;
use crate::shapes::exits::LOST_CODE;
use crate::shapes::plan::{Action, OnFailure, PodPlan, Step};
use crate::shapes::record::PodRecord;
use crate::shapes::view::PodView;

/// The condition of a pod while it goes on.
pub const ALL_CONTAINERS_RESTARTING: &str = "AllContainersRestarting";

/// What status shows of containers that are taken down for it.
pub const RESTARTING_ALL_MESSAGE: &str =
    "The container is removed because RestartAllContainers in place";

/// Whether a pod may ever ask for it.
pub fn may_restart_all(pod: &Pod) -> bool {
    if !pod.gates.restart_rules || !pod.gates.restart_all {
        return false;
    }
    let mut rules = pod
        .declared_containers()
        .flat_map(|c| c.restart_policy_rules.iter().flatten());
    rules.any(|rule| rule.action == "RestartAllContainers")
}

/// Whether this exit code of a container asks for it.
pub fn asks_restart_all(pod: &Pod, container: &v1::Container, exit_code: i32) -> bool {
    rule_of(pod, container, exit_code) == Some(RuleSays::RestartAll)
}

/// Whether all containers are taken down now.
pub fn restarts_all(view: &PodView<'_>) -> bool {
    if view.memory.record.restarting_all {
        return true;
    }
    if !may_restart_all(view.pod) {
        return false;
    }
    view.pod.declared_containers().any(|spec| {
        let newest = view.observed.instances(&spec.name).next();
        let code = match newest {
            // What the kubelet stopped, to start it again, did not exit by itself.
            Some(instance) => {
                let own = instance.state.exit().filter(|exit| {
                    let id = instance.id.as_str();
                    let memory = view.memory;
                    !memory.is_replaced(&spec.name, id, exit.finished_at)
                });
                own.map(|exit| exit.code)
            }
            None => {
                let exit = view.memory.record.exits.get(&spec.name);
                exit.filter(|exit| !exit.is_reset).map(|exit| exit.code)
            }
        };
        code.is_some_and(|code| asks_restart_all(view.pod, spec, code))
    })
}

/// Stops what runs, then removes every instance: those that asked for it last, so that it stays due until nothing is left.
pub fn restart_all(view: &PodView<'_>, plan: &mut PodPlan) {
    plan.restarts_all = true;
    let is_declared =
        |c: &&ObservedContainer| view.pod.declared_containers().any(|d| d.name == c.name);
    let live = view.observed.live_containers().filter(is_declared);
    let stops: Vec<_> = live.map(stop_at_once).collect();
    if !stops.is_empty() {
        plan.push(
            "all containers are restarted",
            Action::StopContainers(stops),
        );
        return;
    }
    let mut dead: Vec<_> = view.observed.all_instances().filter(is_declared).collect();
    dead.sort_by_key(|instance| {
        let asks = view.pod.declared_containers().any(|spec| {
            let code = instance.state.exit().map(|exit| exit.code);
            spec.name == instance.name
                && code.is_some_and(|code| asks_restart_all(view.pod, spec, code))
        });
        (asks, view.pod.init_container(&instance.name).is_some())
    });
    let seen = view.observed.observed_at;
    plan.steps.extend(dead.into_iter().map(|instance| Step {
        why: "all containers are restarted".to_owned(),
        action: Action::RemoveContainer {
            id: instance.id.clone(),
            name: instance.name.clone(),
            logs: None,
            seen,
        },
        on_failure: OnFailure::EndPlan,
    }));
}

impl PodRecord {
    /// All containers were taken down to be started again: what is known of their ends says no more how they stand.
    pub fn settle_restart_of_all(&mut self, pod: &Pod, observed: &ObservedPod) {
        let is_left = |c: &v1::Container| observed.all_instances().any(|i| i.name == c.name);
        if !self.restarting_all || pod.declared_containers().any(is_left) {
            return;
        }
        self.restarting_all = false;
        for spec in pod.declared_containers() {
            let name = &spec.name;
            if let Some(run) = self.running.remove(name) {
                let known = self.exits.get(name);
                if known.is_none_or(|known| known.attempt < run.attempt) {
                    self.exits.insert(name.clone(), run);
                }
            }
            self.replaced.remove(name);
            let Some(exit) = self.exits.get_mut(name) else {
                continue;
            };
            exit.is_reset = true;
            if !asks_restart_all(pod, spec, exit.code) {
                exit.code = LOST_CODE;
                exit.reason = Reason::RestartingAllContainers.to_string();
                RESTARTING_ALL_MESSAGE.clone_into(&mut exit.message);
            }
        }
    }
}

#[cfg(test)]
mod tests;
