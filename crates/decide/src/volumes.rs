//! Host side of a pod: its directories, volumes and what to take down in the end.
//!
//! In:    pod, node
//! Out:   `HostWork` to do before a start, and to undo after the end; where each volume lies on the host
//! Calls: pod_plan
//! Holds: everything may be done twice; nothing under a mount point is ever removed; host paths are never removed
//! Upstream: pkg/kubelet/kubelet_getters.go, pkg/volume/emptydir, pkg/volume/hostpath

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use kubelet_model::node::NodeView;
use kubelet_model::pod::Pod;

use crate::cgroups::{every_pod_cgroup_path, pod_cgroup};
use crate::plan::HostWork;
use crate::resources::quantity_bytes;

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
    format!(
        "{}/{}_{}_{}",
        node.pod_logs_dir, pod.full_name.namespace, pod.full_name.name, pod.uid
    )
}

/// Where each volume lies on the host, by volume name.
pub fn volume_paths(pod: &Pod, node: &NodeView) -> BTreeMap<String, String> {
    let mut paths = BTreeMap::new();
    for volume in volumes(pod) {
        if volume.empty_dir.is_some() {
            paths.insert(volume.name.clone(), empty_dir_path(pod, node, &volume.name));
        } else if let Some(host_path) = &volume.host_path {
            paths.insert(volume.name.clone(), host_path.path.clone());
        }
    }
    paths
}

/// All that must stand before the pod's first container starts.
pub fn prepare_work(pod: &Pod, node: &NodeView) -> Vec<HostWork> {
    let dir = pod_dir(pod, node);
    let mut work = vec![
        HostWork::MakeDir {
            path: dir.clone(),
            mode: 0o750,
        },
        HostWork::MakeDir {
            path: format!("{dir}/volumes"),
            mode: 0o750,
        },
        HostWork::MakeDir {
            path: format!("{dir}/plugins"),
            mode: 0o750,
        },
        HostWork::MakeDir {
            path: log_dir(pod, node),
            mode: 0o755,
        },
    ];
    work.extend(pod_cgroup(pod, node).map(HostWork::MakeCgroup));
    let fs_group = pod
        .spec()
        .security_context
        .as_ref()
        .and_then(|s| s.fs_group);
    for volume in volumes(pod) {
        if let Some(empty_dir) = &volume.empty_dir {
            work.extend(empty_dir_work(pod, node, &volume.name, empty_dir, fs_group));
        } else if let Some(host_path) = &volume.host_path {
            work.push(HostWork::HostPath {
                volume: volume.name.clone(),
                path: host_path.path.clone(),
                kind: host_path.type_.clone().unwrap_or_default(),
            });
        }
    }
    work
}

/// All that is taken down once nothing of the pod runs. The logs go only with the pod itself.
pub fn release_work(pod: &Pod, node: &NodeView, leaving: Leaving) -> Vec<HostWork> {
    let dir = pod_dir(pod, node);
    let mut work = vec![HostWork::UnmountEmptyDirs {
        pod_dir: dir.clone(),
    }];
    work.extend(
        cgroup_paths(pod, node)
            .into_iter()
            .map(|path| HostWork::RemoveCgroup { path }),
    );
    if leaving == Leaving::Yes {
        work.push(HostWork::RemoveTree { path: dir });
        let log_dir = log_dir(pod, node);
        let stem = format!("{}_{}_", pod.full_name.name, pod.full_name.namespace);
        work.push(HostWork::RemoveTree {
            path: log_dir.clone(),
        });
        work.push(HostWork::RemoveLogLinks { stem, log_dir });
    }
    work
}

/// The pod's cgroup; of a pod that only the runtime knew, every place where it may be.
fn cgroup_paths(pod: &Pod, node: &NodeView) -> Vec<String> {
    if pod.containers().is_empty() {
        return every_pod_cgroup_path(&pod.uid, node);
    }
    pod_cgroup(pod, node)
        .map(|cgroup| cgroup.path)
        .into_iter()
        .collect()
}

/// Whether the pod itself goes, or only what it used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// Its source does not name it any more.
    Yes,
    /// It ended and stays to be looked at.
    No,
}

fn volumes(pod: &Pod) -> &[v1::Volume] {
    pod.spec().volumes.as_deref().unwrap_or_default()
}

fn empty_dir_path(pod: &Pod, node: &NodeView, name: &str) -> String {
    format!(
        "{}/volumes/kubernetes.io~empty-dir/{name}",
        pod_dir(pod, node)
    )
}

fn empty_dir_work(
    pod: &Pod,
    node: &NodeView,
    name: &str,
    source: &v1::EmptyDirVolumeSource,
    fs_group: Option<i64>,
) -> Vec<HostWork> {
    let path = empty_dir_path(pod, node, name);
    let meta = format!(
        "{}/plugins/kubernetes.io~empty-dir/{name}",
        pod_dir(pod, node)
    );
    let parent = format!("{}/volumes/kubernetes.io~empty-dir", pod_dir(pod, node));
    let mut work = vec![
        HostWork::MakeDir {
            path: parent,
            mode: 0o755,
        },
        HostWork::MakeDir {
            path: path.clone(),
            mode: 0o777,
        },
        HostWork::MakeDir {
            path: meta.clone(),
            mode: 0o750,
        },
    ];
    if source.medium.as_deref() == Some("Memory") {
        let limit = source.size_limit.as_ref().and_then(quantity_bytes);
        let size_bytes = limit
            .and_then(|bytes| u64::try_from(bytes).ok())
            .filter(|bytes| *bytes > 0);
        work.push(HostWork::MountTmpfs {
            path: path.clone(),
            size_bytes,
        });
    }
    if let Some(gid) = fs_group.and_then(|gid| u32::try_from(gid).ok()) {
        work.push(HostWork::SetGroup { path, gid });
    }
    work.push(HostWork::WriteFile {
        path: format!("{meta}/ready"),
        mode: 0o644,
        content: String::new(),
    });
    work
}
