//! Init containers: one at a time, in order, each until it ended with 0.
//!
//! In:    `PodView`
//! Out:   which init container to start now, or that they are done, or that nothing can be done
//! Calls: pod_plan
//! Holds: once a regular container was started, init containers are never run again in that sandbox
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_container.go (computeInitContainerActions); sidecars are not built yet

use k8s_openapi::api::core::v1;

use crate::pod::phase::{Standing, init_code, init_policy, is_initialized};
use crate::pod::restart::policy_restarts;
use crate::shapes::view::PodView;

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
    if is_initialized(view) {
        return InitPlan::Done;
    }
    let all = view.pod.init_containers();
    // What comes before the last one that was started has done its part, even where the runtime has forgotten it.
    let is_known = |c: &v1::Container| init_standing(view, &c.name) != Standing::NotStarted;
    let last = all.iter().rposition(is_known).unwrap_or(0);
    for container in all.iter().skip(last) {
        match init_standing(view, &container.name) {
            Standing::Ended(0) => {}
            Standing::Running => return InitPlan::Wait,
            Standing::NotStarted | Standing::Replaced => return InitPlan::Start(container),
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
        Some(instance) => instance.state.exit().map_or(Standing::NotStarted, |exit| {
            Standing::Ended(init_code(exit.code, &exit.reason))
        }),
        // Forgotten by the runtime; what was recorded of this very sandbox still counts.
        None => match view.memory.record.exits.get(name) {
            Some(exit) if exit.sandbox == sandbox.id.as_str() => {
                Standing::Ended(init_code(exit.code, &exit.reason))
            }
            Some(_) | None => Standing::NotStarted,
        },
    }
}
