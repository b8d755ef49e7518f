//! Host side of a pod: its directories, volumes and what to take down in the end.
//!
//! In:    pod, node, the objects that its volumes show
//! Out:   `HostWork` to do before a start, for each volume by itself, when an object changed, and to undo after the end; where each
//!        volume lies on the host
//! Calls: pod/host_plan, pod/pod_plan, container_start
//! Holds: everything may be done twice; nothing under a mount point is ever removed; host paths are never removed; a removal names
//!        the directory that was seen, and not only where it was; a volume that was set up stays as it is while its objects can
//!        not be had
//! Upstream: pkg/kubelet/kubelet_getters.go, pkg/volume/{emptydir,hostpath,configmap,secret,downwardapi,projected},
//!           pkg/volume/util/nested_volumes.go; differences: a failed update leaves the old files instead of taking the volume down;
//!           the emptyDir on disk of a pod that ended stays until the pod goes

pub mod projected;
pub mod references;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use k8s_openapi::api::core::v1;
use kubelet_model::disk::{FileId, PodDirs, SeenDir};
use kubelet_model::node::NodeView;
use kubelet_model::objects::Payload;
use kubelet_model::observed::ObservedContainer;
use kubelet_model::pod::Pod;
use kubelet_model::reason::Reason;

use crate::resources::cgroups::{every_pod_cgroup_path, pod_cgroup, pod_memory_limit};
use crate::resources::quantity_bytes;
use crate::shapes::paths::OwnKind;
use crate::shapes::paths::SUB_PATHS;
use crate::shapes::paths::empty_dir_marker;
use crate::shapes::paths::log_dir;
use crate::shapes::paths::log_dir_name;
use crate::shapes::paths::marker_below;
use crate::shapes::paths::pod_dir;
use crate::shapes::paths::volumes;
use crate::shapes::view::PodView;
use crate::shapes::waiting::Waiting;
use crate::shapes::work::Leaving;
use crate::shapes::work::{HostWork, LogLink, Medium, PayloadWork};
use crate::shapes::work::{Mark, SetUp, VolumeWork};
use crate::volumes::projected::{PayloadView, volume_payload};

#[cfg(test)]
mod tests;

impl Mark {
    fn of(payload: &Payload) -> Self {
        // Not a digest against forgery: who can change an object can change it to anything.
        let mut hasher = DefaultHasher::new();
        for (path, file) in payload {
            (path, &file.data, file.mode, file.owner).hash(&mut hasher);
        }
        Self(hasher.finish())
    }
}

/// The pod's own cgroup and directories: its volumes are set up in them.
pub fn pod_work(pod: &Pod, node: &NodeView) -> Vec<HostWork> {
    let dir = pod_dir(pod, node);
    let make = |path: String, mode| HostWork::MakeDir { path, mode };
    let mut work = vec![
        make(dir.clone(), 0o750),
        make(format!("{dir}/volumes"), 0o750),
        make(format!("{dir}/plugins"), 0o750),
        make(log_dir(pod, node), 0o755),
    ];
    work.extend(pod_cgroup(pod, node).map(HostWork::MakeCgroup));
    work
}

/// What sets a volume up, nothing for one that needs nothing; or why it cannot be had, in upstream's words.
pub fn volume_work(view: &PodView<'_>, volume: &v1::Volume) -> Result<Option<VolumeWork>, Waiting> {
    let directory = |work: HostWork| VolumeWork {
        volume: volume.name.clone(),
        work: vec![work],
        makes: SetUp::Directory,
    };
    if let Some(source) = &volume.empty_dir {
        let work = empty_dir_work(view.pod, view.node, &volume.name, source);
        return Ok(Some(directory(work)));
    }
    if let Some(host_path) = &volume.host_path {
        return Ok(Some(directory(HostWork::HostPath {
            volume: volume.name.clone(),
            path: host_path.path.clone(),
            kind: host_path.type_.clone().unwrap_or_default(),
        })));
    }
    match payload_of(view, volume) {
        Some(Ok(payload)) => Ok(files_work(view, volume, payload)),
        Some(Err(why)) => Err(set_up_failed(&volume.name, &why)),
        None => Ok(None),
    }
}

/// What writes the files of a volume that are not what this process last wrote; nothing for one that cannot be made now.
pub fn update_work(view: &PodView<'_>, volume: &v1::Volume) -> Option<VolumeWork> {
    let payload = payload_of(view, volume)?.ok()?;
    let known = view.memory.volumes.get(&volume.name);
    let is_written = known.and_then(|known| known.set_up) == Some(SetUp::Files(Mark::of(&payload)));
    if is_written {
        return None;
    }
    files_work(view, volume, payload)
}

fn payload_of(view: &PodView<'_>, volume: &v1::Volume) -> Option<Result<Payload, String>> {
    let view = PayloadView {
        pod: view.pod,
        node: view.node,
        objects: &view.inputs.objects,
    };
    volume_payload(&view, volume)
}

/// Upstream's event for a volume that cannot be set up.
fn set_up_failed(volume: &str, why: &str) -> Waiting {
    Waiting {
        reason: Reason::FailedMount,
        message: format!("MountVolume.SetUp failed for volume \"{volume}\" : {why}"),
    }
}

fn files_work(view: &PodView<'_>, volume: &v1::Volume, payload: Payload) -> Option<VolumeWork> {
    let (pod, node, name) = (view.pod, view.node, &volume.name);
    let kind = OwnKind::of(volume)?;
    let path = kind.path(pod, node, name);
    let group = fs_group(pod);
    let medium = match kind {
        // Upstream would rather have it in memory, too, if that were charged to the pod.
        OwnKind::ConfigMap | OwnKind::EmptyDir => Medium::Disk,
        OwnKind::Secret | OwnKind::DownwardApi | OwnKind::Projected => {
            Medium::Memory(memory_size(pod, node, None))
        }
    };
    let directory = HostWork::EmptyDir {
        path: path.clone(),
        marker: empty_dir_marker(pod, node, &format!("wrapped_{name}")),
        medium,
        group,
    };
    let makes = SetUp::Files(Mark::of(&payload));
    let files = HostWork::WritePayload(PayloadWork {
        volume: name.clone(),
        path,
        payload,
        group,
        nested: nested_mount_points(pod, name),
        at: view.now.steady,
    });
    Some(VolumeWork {
        volume: name.clone(),
        work: vec![directory, files],
        makes,
    })
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let context = pod.spec().security_context.as_ref()?;
    u32::try_from(context.fs_group?).ok()
}

fn empty_dir_work(
    pod: &Pod,
    node: &NodeView,
    name: &str,
    source: &v1::EmptyDirVolumeSource,
) -> HostWork {
    let medium = if source.medium.as_deref() == Some("Memory") {
        let limit = source.size_limit.as_ref().and_then(quantity_bytes);
        Medium::Memory(memory_size(pod, node, limit))
    } else {
        Medium::Disk
    };
    HostWork::EmptyDir {
        path: OwnKind::EmptyDir.path(pod, node, name),
        marker: empty_dir_marker(pod, node, name),
        medium,
        group: fs_group(pod),
    }
}

/// Size of a volume in memory: what all pods may use, less when the pod or the volume has a smaller limit.
fn memory_size(pod: &Pod, node: &NodeView, limit: Option<i64>) -> Option<u64> {
    let of_node = node.allocatable.get("memory").copied();
    let mut size = of_node.unwrap_or(0);
    let of_pod = pod_memory_limit(pod);
    for limit in [of_pod, limit].into_iter().flatten() {
        if limit > 0 && (limit <= size || of_node.is_none()) {
            size = limit;
        }
    }
    u64::try_from(size).ok().filter(|size| *size > 0)
}

/// Directories of a volume on which other volumes are mounted in some container, relative to the volume. Only the first of
/// those that lie below one another.
fn nested_mount_points(pod: &Pod, volume: &str) -> Vec<String> {
    let mut found = Vec::new();
    for container in pod.all_containers() {
        let mounts = container.volume_mounts.as_deref().unwrap_or_default();
        let mut all: Vec<String> = mounts.iter().map(|m| clean(&m.mount_path)).collect();
        all.sort();
        for own in mounts.iter().filter(|mount| mount.name == volume) {
            let own = format!("{}/", clean(&own.mount_path));
            let mut above: Vec<String> = Vec::new();
            for path in all.iter().filter(|path| path.starts_with(&own)) {
                if above.iter().any(|above| path.starts_with(above)) {
                    continue;
                }
                above.push(format!("{path}/"));
                found.extend(path.strip_prefix(&own).map(str::to_owned));
            }
        }
    }
    found
}

/// A path without empty parts, dots and what two dots take back; nothing leads above its start.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Where part of a volume is mounted for one mount of a container.
pub fn sub_path_target(
    pod: &Pod,
    node: &NodeView,
    container: &str,
    index: usize,
    volume: &str,
) -> String {
    format!(
        "{}/{SUB_PATHS}/{volume}/{container}/{index}",
        pod_dir(pod, node)
    )
}

/// All that is taken down once nothing of the pod runs. The logs go only with the pod itself. What was not there when this was
/// decided is not removed.
pub fn release_work(pod: &Pod, node: &NodeView, leaving: Leaving, dirs: &PodDirs) -> Vec<HostWork> {
    let dir = pod_dir(pod, node);
    let seen = |path: &str, id: Option<FileId>| {
        let path = path.to_owned();
        id.map(|id| SeenDir { path, id })
    };
    let remove = |top: Option<SeenDir>, below: &str| {
        let below = below.to_owned();
        top.map(|top| HostWork::RemoveTree { top, below })
    };
    let top = seen(&dir, dirs.pod);
    // What still runs in the cgroup ends before its volumes go.
    let mut work: Vec<HostWork> = cgroup_paths(pod, node)
        .into_iter()
        .map(|path| HostWork::RemoveCgroup { path })
        .collect();
    work.push(HostWork::UnmountVolumes {
        pod_dir: dir.clone(),
    });
    work.extend(remove(top.clone(), SUB_PATHS));
    // What it was given goes with its containers, and what lay in memory with its mount; what it wrote to disk stays as long as its
    // status does.
    for volume in volumes(pod) {
        let Some(kind) = OwnKind::of(volume) else {
            continue;
        };
        let marker = match kind {
            OwnKind::EmptyDir if is_in_memory(volume) => volume.name.clone(),
            OwnKind::EmptyDir => continue,
            OwnKind::ConfigMap | OwnKind::Secret | OwnKind::DownwardApi | OwnKind::Projected => {
                format!("wrapped_{}", volume.name)
            }
        };
        let marker = marker_below(&marker);
        for below in [kind.below(&volume.name), marker] {
            work.extend(remove(top.clone(), &below));
        }
    }
    if leaving == Leaving::Yes {
        work.extend(remove(top, ""));
        let log_dir = log_dir(pod, node);
        let stem = format!("{}_{}_", pod.full_name.name, pod.full_name.namespace);
        work.extend(remove(seen(&log_dir, dirs.logs), ""));
        work.push(HostWork::RemoveLogLinks { stem, log_dir });
    }
    work
}

/// What the name of a link to a container's log begins with.
pub(crate) fn log_link_stem(pod: &Pod, container: &str) -> String {
    let name = &pod.full_name;
    format!("{}_{}_{container}", name.name, name.namespace)
}

/// What goes with an instance of a container: its log, and the link to it.
pub(crate) fn instance_logs(pod: &Pod, node: &NodeView, container: &ObservedContainer) -> HostWork {
    HostWork::RemoveInstanceLogs {
        logs: node.pod_logs_dir.clone(),
        below: format!("{}/{}", log_dir_name(pod), container.name),
        attempt: container.attempt,
        link: LogLink::name(&log_link_stem(pod, &container.name), container.id.as_str()),
    }
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

fn is_in_memory(volume: &v1::Volume) -> bool {
    let source = volume.empty_dir.as_ref();
    source.and_then(|source| source.medium.as_deref()) == Some("Memory")
}
