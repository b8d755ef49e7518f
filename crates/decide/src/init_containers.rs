//! Init containers: one at a time, in order, each until it ended with 0.
//!
//! In:    `PodView`
//! Out:   which init container to start now, or that they are done, or that nothing can be done
//! Calls: pod_plan
//! Holds: once a regular container was started, init containers are never run again in that sandbox
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_container.go (computeInitContainerActions); sidecars are not built yet

use k8s_openapi::api::core::v1;

use crate::phase::{Standing, init_policy};
use crate::restart::policy_restarts;
use crate::view::PodView;

/// What init containers ask for.
#[derive(Debug)]
pub enum InitPlan<'a> {
    /// Start this one.
    Start(&'a v1::Container),
    /// One runs, or failed for good.
    Wait,
    /// All are done: regular containers may start.
    Done,
}

/// The init part of the plan.
pub fn init_plan<'a>(view: &PodView<'a>) -> InitPlan<'a> {
    let in_sandbox = view.observed.sandboxes.first().map(|s| &s.id);
    let any_regular_started = view.pod.containers().iter().any(|c| {
        view.observed
            .instances(&c.name)
            .any(|i| Some(&i.sandbox) == in_sandbox && i.started_at().is_some())
    });
    if any_regular_started {
        return InitPlan::Done;
    }
    for container in view.pod.init_containers() {
        match init_standing(view, &container.name) {
            Standing::Ended(0) => {}
            Standing::Running => return InitPlan::Wait,
            Standing::NotStarted => return InitPlan::Start(container),
            Standing::Ended(code) => {
                let again = policy_restarts(init_policy(view.pod.restart_policy()), code);
                return if again {
                    InitPlan::Start(container)
                } else {
                    InitPlan::Wait
                };
            }
        }
    }
    InitPlan::Done
}

/// Only runs in the newest sandbox count: a new sandbox initialises anew. What the runtime forgot counts as it was recorded.
fn init_standing(view: &PodView<'_>, name: &str) -> Standing {
    let Some(sandbox) = view.observed.sandboxes.first() else {
        return Standing::NotStarted;
    };
    let newest = view
        .observed
        .instances(name)
        .find(|i| i.sandbox == sandbox.id);
    match newest {
        Some(instance) if instance.state.may_run() => Standing::Running,
        Some(instance) => instance
            .state
            .exit()
            .map_or(Standing::NotStarted, |exit| Standing::Ended(exit.code)),
        // Forgotten by the runtime; what was recorded of this very sandbox still counts.
        None => match view.memory.record.exits.get(name) {
            Some(exit) if exit.sandbox == sandbox.id.as_str() => Standing::Ended(exit.code),
            Some(_) | None => Standing::NotStarted,
        },
    }
}
