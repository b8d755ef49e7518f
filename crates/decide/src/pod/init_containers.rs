//! Init containers: one at a time, in order, each until it ended with 0; sidecars among them are started in their turn and kept running.
//!
//! In:    `PodView`
//! Out:   which of them to start now, and whether regular containers may start
//! Calls: pod_plan
//! Holds: once a regular container was started, only sidecars are started in that sandbox; what comes after a sidecar waits until it has
//!        started, as its startup probe and its postStart hook say
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_container.go (computeInitContainerActions, 1.36)

use k8s_openapi::api::core::v1;
use kubelet_model::pod::is_sidecar;

use crate::pod::phase::{Standing, init_code, is_initialized};
use crate::pod::restart::restarts_after;
use crate::probes::readiness::is_started;
use crate::shapes::view::PodView;

/// What init containers ask for.
#[derive(Debug, Default)]
pub struct InitPlan<'a> {
    /// Start these, in this order.
    pub starts: Vec<&'a v1::Container>,
    /// Regular containers may start.
    pub is_done: bool,
}

/// The init part of the plan. It is read from the end: of what comes before the last one that was started, the runtime may have
/// forgotten everything.
pub fn init_plan<'a>(view: &PodView<'a>) -> InitPlan<'a> {
    let all = view.pod.init_containers();
    let mut is_done = all.is_empty() || is_initialized(view);
    let mut has_begun = is_done;
    let mut starts = Vec::new();
    for (index, container) in all.iter().enumerate().rev() {
        let is_sidecar = is_sidecar(container);
        let standing = init_standing(view, container);
        if has_begun && !is_sidecar {
            continue;
        }
        let mut has_passed = false;
        match standing {
            Standing::NotStarted => {
                if has_begun {
                    starts.push(container);
                }
                continue;
            }
            Standing::Running => has_passed = is_sidecar && has_started(view, container),
            Standing::Replaced => starts.push(container),
            Standing::Ended(_) if is_sidecar => starts.push(container),
            Standing::Ended(0) => has_passed = true,
            Standing::Ended(code) => {
                if !restarts_after(view.pod, container, code) {
                    return InitPlan::default();
                }
                starts.push(container);
            }
        }
        if has_passed {
            match all.get(index.saturating_add(1)) {
                None => is_done = true,
                Some(next) if !has_begun => starts.push(next),
                Some(_) => {}
            }
        }
        has_begun = true;
    }
    if !has_begun {
        starts.extend(all.first());
    }
    starts.reverse();
    InitPlan { starts, is_done }
}

fn has_started(view: &PodView<'_>, container: &v1::Container) -> bool {
    let newest = view.observed.instances(&container.name).next();
    newest.is_some_and(|newest| is_started(view, container, newest))
}

/// Only runs in the newest sandbox count: a new sandbox initialises anew. What the runtime forgot counts as it was recorded.
fn init_standing(view: &PodView<'_>, container: &v1::Container) -> Standing {
    let name = &container.name;
    let Some(sandbox) = view.observed.sandboxes.first() else {
        return Standing::NotStarted;
    };
    let mut instances = view.observed.instances(name);
    match instances.find(|i| i.sandbox == sandbox.id) {
        Some(instance) if instance.state.may_run() => Standing::Running,
        Some(instance) => instance.state.exit().map_or(Standing::NotStarted, |exit| {
            let id = instance.id.as_str();
            if view.memory.is_replaced(name, id, exit.finished_at) {
                return Standing::Replaced;
            }
            Standing::Ended(init_code(exit.code, &exit.reason))
        }),
        // Forgotten by the runtime; what was recorded of this very sandbox still counts.
        None => match view.memory.record.exits.get(name) {
            Some(exit) if !exit.is_reset && exit.sandbox == sandbox.id.as_str() => {
                Standing::Ended(init_code(exit.code, &exit.reason))
            }
            Some(_) | None => Standing::NotStarted,
        },
    }
}

#[cfg(test)]
mod tests;
