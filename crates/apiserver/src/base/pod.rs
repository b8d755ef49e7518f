//! What several layers ask about a pod's JSON.
//!
//! In:    a pod
//! Out:   where its containers stand; whether it mirrors a static pod
//! Calls: `store`, `kinds`, `registry`
//! Holds: nothing here depends on who asks
//! Upstream: pkg/api/v1/pod/util.go

use serde_json::Value;

use crate::base::object::annotation;
/// The lists of containers.
pub(crate) const CONTAINER_LISTS: [&str; 3] =
    ["initContainers", "containers", "ephemeralContainers"];

/// Whether it stands for a static pod.
pub(crate) fn is_mirror(pod: &Value) -> bool {
    annotation(pod, "kubernetes.io/config.mirror").is_some()
}
