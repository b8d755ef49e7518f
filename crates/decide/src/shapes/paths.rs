//! Where a pod's files are on the host.
//!
//! In:    pod, node
//! Out:   paths
//! Calls: volumes, container, pod; act/pod
//! Holds: nothing is looked up on the disk
//! Upstream: pkg/kubelet/kubelet_getters.go

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use kubelet_model::ids::{PodFullName, PodUid};
use kubelet_model::names::BadName;
use kubelet_model::node::NodeView;
use kubelet_model::pod::Pod;

/// `ROOT/pods/<uid>`.
pub fn pod_dir(pod: &Pod, node: &NodeView) -> String {
    format!("{}/pods/{}", node.root_dir, pod.uid)
}

/// `ROOT/pods/<uid>/etc-hosts`.
pub fn hosts_path(pod: &Pod, node: &NodeView) -> String {
    format!("{}/etc-hosts", pod_dir(pod, node))
}

/// `<pod logs dir>/<namespace>_<name>_<uid>`.
pub fn log_dir(pod: &Pod, node: &NodeView) -> String {
    format!("{}/{}", node.pod_logs_dir, log_dir_name(pod))
}

/// The last part of [`log_dir`].
pub fn log_dir_name(pod: &Pod) -> String {
    let name = &pod.full_name;
    format!("{}_{}_{}", name.namespace, name.name, pod.uid)
}

/// Where each volume lies on the host, by volume name.
pub fn volume_paths(pod: &Pod, node: &NodeView) -> BTreeMap<String, String> {
    let mut paths = BTreeMap::new();
    for volume in volumes(pod) {
        if let Some(kind) = OwnKind::of(volume) {
            paths.insert(volume.name.clone(), kind.path(pod, node, &volume.name));
        } else if let Some(host_path) = &volume.host_path {
            paths.insert(volume.name.clone(), host_path.path.clone());
        }
    }
    paths
}

/// Kinds of volumes that lie in the pod's own directory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnKind {
    EmptyDir,
    ConfigMap,
    Secret,
    DownwardApi,
    Projected,
}

impl OwnKind {
    pub(crate) fn of(volume: &v1::Volume) -> Option<Self> {
        [
            (volume.empty_dir.is_some(), Self::EmptyDir),
            (volume.config_map.is_some(), Self::ConfigMap),
            (volume.secret.is_some(), Self::Secret),
            (volume.downward_api.is_some(), Self::DownwardApi),
            (volume.projected.is_some(), Self::Projected),
        ]
        .into_iter()
        .find_map(|(is, kind)| is.then_some(kind))
    }

    /// The plugin's name as directories have it.
    pub(crate) fn directory(self) -> &'static str {
        match self {
            Self::EmptyDir => "kubernetes.io~empty-dir",
            Self::ConfigMap => "kubernetes.io~configmap",
            Self::Secret => "kubernetes.io~secret",
            Self::DownwardApi => "kubernetes.io~downward-api",
            Self::Projected => "kubernetes.io~projected",
        }
    }

    pub(crate) fn path(self, pod: &Pod, node: &NodeView, name: &str) -> String {
        format!("{}/{}", pod_dir(pod, node), self.below(name))
    }

    /// Below the pod's directory.
    pub(crate) fn below(self, name: &str) -> String {
        format!("volumes/{}/{name}", self.directory())
    }
}

pub(crate) fn empty_dir_marker(pod: &Pod, node: &NodeView, name: &str) -> String {
    format!("{}/{}", pod_dir(pod, node), marker_below(name))
}

/// Below the pod's directory.
pub(crate) fn marker_below(name: &str) -> String {
    format!("plugins/kubernetes.io~empty-dir/{name}")
}

/// Parts of volumes, below the pod's directory.
pub(crate) const SUB_PATHS: &str = "volume-subpaths";

/// The volumes of the spec.
pub fn volumes(pod: &Pod) -> &[v1::Volume] {
    pod.spec().volumes.as_deref().unwrap_or_default()
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
}
