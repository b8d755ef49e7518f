//! Dead containers and sandboxes that can be removed.
//!
//! In:    an observed pod
//! Out:   what may be removed, always leaving the newest dead instance of each name
//! Calls: pod_plan
//! Holds: nothing that may run and nothing that was only created is ever named; a sandbox is removed only when no kept container
//!        belongs to it
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_gc.go (1.36), limit of one dead container per name

use std::collections::BTreeSet;

use kubelet_model::observed::{ObservedContainer, ObservedPod, ObservedSandbox, SandboxState};

/// Dead containers of a pod that stays, except the newest dead one of each name.
pub fn dead_instances(observed: &ObservedPod) -> Vec<&ObservedContainer> {
    let mut kept = BTreeSet::new();
    observed
        .containers
        .iter()
        .filter(|c| c.state.exit().is_some())
        .filter(|c| !kept.insert(c.name.as_str()))
        .collect()
}

/// Sandboxes of a pod that stays: not the newest, not ready, and empty.
pub fn dead_sandboxes(observed: &ObservedPod) -> Vec<&ObservedSandbox> {
    observed
        .sandboxes
        .iter()
        .skip(1)
        .filter(|s| s.state == SandboxState::NotReady)
        .filter(|s| observed.all_instances().all(|c| c.sandbox != s.id))
        .collect()
}
