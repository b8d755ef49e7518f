//! An orphan: a pod that only the runtime or the disk knows, as far as it can be known.
//!
//! In:    UID, names from labels or from the name of a directory
//! Out:   a `Pod` without containers, enough to stop it and clean up behind it
//! Calls: sync_loop
//! Holds: names that become directories are checked to be one plain path component; others are dropped, with whatever they would
//!        name
//! Upstream: pkg/kubelet/pod_workers.go (runtime-only pods), pkg/kubelet/kuberuntime/kuberuntime_gc.go (parsePodUIDFromLogsDirectory)

use kubelet_model::ids::{PodFullName, PodUid};
use kubelet_model::pod::Pod;

/// The pod of this UID; one without names gets a name of its own, so that it never stands in another pod's way.
pub fn orphan_pod(uid: &PodUid, namespace: &str, name: &str) -> Pod {
    let full_name = if namespace.is_empty() && name.is_empty() {
        None
    } else {
        let named = PodFullName::parse(namespace, name);
        named
            .inspect_err(|why| {
                tracing::warn!(uid = %uid, %why, "An orphaned pod has an invalid name; its logs are kept");
            })
            .ok()
    };
    let full_name = full_name.unwrap_or_else(|| PodFullName::of_unnamed(uid));
    Pod::orphan(uid.clone(), full_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_name_nothing() {
        let uid = PodUid::parse("u1").unwrap();
        let name = |namespace, name| orphan_pod(&uid, namespace, name).full_name.to_string();
        assert_eq!(name("default", "web"), "default/web");
        for (namespace, of_pod) in [
            ("", ""),
            ("..", "web"),
            ("default", "../../etc"),
            ("", "web"),
        ] {
            assert_eq!(name(namespace, of_pod), "/orphan-u1");
        }
    }
}
