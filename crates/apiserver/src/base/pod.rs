//! Questions about a pod's JSON that several layers ask.
//!
//! In:    a pod
//! Out:   the pointers of its container lists; whether it is a mirror pod
//! Calls: `store`, `kinds`, `registry`
//! Holds: the answers do not depend on the caller
//! Upstream: pkg/api/v1/pod/util.go

use serde_json::Value;

use crate::base::object::annotation;
/// JSON pointers of the container lists.
pub(crate) const CONTAINER_LISTS: [&str; 3] =
    ["initContainers", "containers", "ephemeralContainers"];

/// Whether the pod mirrors a static pod.
pub(crate) fn is_mirror(pod: &Value) -> bool {
    annotation(pod, "kubernetes.io/config.mirror").is_some()
}
