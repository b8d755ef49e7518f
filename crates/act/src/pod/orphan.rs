//! A pod that only the runtime or the disk knows, as far as it can be known.
//!
//! In:    UID, names from labels or from the name of a directory
//! Out:   a `Pod` without containers, enough to stop it and clean up behind it
//! Calls: sync_loop
//! Holds: what names a directory is one plain part of a path; names that are none are left out, and with them what they would name
//! Upstream: pkg/kubelet/pod_workers.go (runtime-only pods), pkg/kubelet/kuberuntime/kuberuntime_gc.go (parsePodUIDFromLogsDirectory)

use kubelet_model::ids::{PodFullName, PodUid};
use kubelet_model::names::BadName;
use kubelet_model::pod::Pod;

/// The pod of this UID; one without names gets a name of its own, so that it never stands in another pod's way.
pub fn orphan_pod(uid: &PodUid, namespace: &str, name: &str) -> Pod {
    let full_name = if namespace.is_empty() && name.is_empty() {
        None
    } else {
        let named = PodFullName::parse(namespace, name);
        named
            .inspect_err(|why| {
                tracing::warn!(uid = %uid, %why, "What the runtime calls a pod can be no pod's name; its logs stay");
            })
            .ok()
    };
    let full_name = full_name.unwrap_or_else(|| PodFullName::of_unnamed(uid));
    Pod::orphan(uid.clone(), full_name)
}

/// Whose directory of logs this is: `<namespace>_<name>_<uid>`.
///
/// # Errors
/// What is wrong with the name: the directory is no pod's.
pub fn owner_of_logs(directory: &str) -> Result<(PodUid, PodFullName), BadName> {
    let mut parts = directory.splitn(3, '_');
    let mut part = || parts.next().unwrap_or_default();
    let full_name = PodFullName::parse(part(), part())?;
    Ok((PodUid::parse(part())?, full_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_logs_names_a_pod_or_nothing() {
        let (uid, name) = owner_of_logs("default_web-node_7f3c").unwrap();
        assert_eq!(
            (uid.as_str(), name.to_string().as_str()),
            ("7f3c", "default/web-node")
        );
        for bad in [
            "",
            "_",
            "__",
            "default_x_",
            "default__u",
            "_x_u",
            "default_x_.",
            "default_x_..",
            "default_x",
            "a_b_c_d",
            "lost+found",
        ] {
            assert!(owner_of_logs(bad).is_err(), "{bad}");
        }
    }

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
