//! Container -> `ContainerConfig`: everything the runtime is told to make one container.
//!
//! In:    `ContainerSpecView`: container, pod, node, image, addresses, and where its mounts are on the host
//! Out:   the finished message, or why the container cannot be made
//! Calls: the step that creates a container
//! Holds: nothing is read or made here; files that the message names exist when it is sent, or it is not sent
//! Upstream: pkg/kubelet/kuberuntime/{kuberuntime_container.go,kuberuntime_container_linux.go}, pkg/kubelet/kubelet_pods.go
//!           (makeMounts, resolveRecursiveReadOnly); differences: none

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use kubelet_api::runtime::v1::{
    ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig, Mount,
    MountPropagation, Signal,
};
use kubelet_model::node::NodeView;
use kubelet_model::objects::PodObjects;
use kubelet_model::pod::Pod;

pub use crate::container::config_problem::ConfigProblem;
use crate::container::env::{Env, EnvView, container_env};
use crate::container::hosts_file::{HOSTS_PATH, mounts_hosts_file};
use crate::container::labels::{container_annotations, container_labels};
pub use crate::container::security::ImageUser;
use crate::container::security::{check_run_as_non_root, container_security_context};
use crate::resources::{SwapController, container_resources};
use crate::shapes::env_files::EnvFileValues;

#[cfg(test)]
mod tests;

/// All that a container's message is made from.
#[derive(Clone, Debug)]
pub struct ContainerSpecView<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// One of its containers.
    pub container: &'a v1::Container,
    /// The node.
    pub node: &'a NodeView,
    /// How often this container had been started before.
    pub restart_count: u32,
    /// Attempt; no other instance of the container bears it.
    pub attempt: u32,
    /// Hash of the container's spec, hex.
    pub hash: &'a str,
    /// The image as the runtime identifies it.
    pub image_id: &'a str,
    /// The user that the image names.
    pub image_user: ImageUser,
    /// Addresses of the pod as the runtime gave them; empty on the node's network.
    pub pod_ips: &'a [String],
    /// What the pod refers to.
    pub objects: &'a PodObjects,
    /// What was read of the files that its variables come from.
    pub env_files: Option<&'a EnvFileValues>,
    /// Whether the runtime can make mounts read-only with all below them.
    pub recursive_read_only: RecursiveReadOnly,
    /// Where its mounts are.
    pub mounts: &'a ResolvedMounts,
    /// Whether swap can be limited.
    pub swap: SwapController,
}

/// Whether the pod's runtime handler can make mounts read-only with all below them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecursiveReadOnly {
    /// It says so.
    Supported,
    /// It does not, or nobody asked it.
    Unsupported,
}

/// Where the things that a container mounts are on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvedMounts {
    /// Mounted volumes of the pod: host path by name.
    pub volumes: BTreeMap<String, String>,
    /// Prepared sub paths: host path by index in `volumeMounts`. A mount whose sub path is not here is refused: runtimes would
    /// make an empty directory of it.
    pub sub_paths: BTreeMap<usize, String>,
    /// The pod's hosts file; `None` leaves the image's in place.
    pub hosts_path: Option<String>,
    /// The file for the container's last words; `None` when it could not be made.
    pub termination_message_path: Option<String>,
}

/// The message that makes a container.
pub fn container_config(view: &ContainerSpecView<'_>) -> Result<ContainerConfig, ConfigProblem> {
    let (pod, container, node) = (view.pod, view.container, view.node);
    let env = container_env(&EnvView {
        pod,
        container,
        node,
        pod_ips: view.pod_ips,
        objects: view.objects,
        env_files: view.env_files,
    })?;
    let mounts = mounts(view, &env)?;
    check_run_as_non_root(pod, container, &view.image_user)?;
    let expanded = |words: &Option<Vec<String>>| {
        words
            .iter()
            .flatten()
            .map(|word| env.expand(word))
            .collect()
    };
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: container.name.clone(),
            attempt: view.attempt,
        }),
        image: Some(ImageSpec {
            image: view.image_id.to_owned(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..Default::default()
        }),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: env
            .iter()
            .map(|(key, value)| KeyValue {
                key: key.to_owned(),
                value: value.into(),
            })
            .collect(),
        mounts,
        labels: container_labels(pod, container),
        annotations: container_annotations(pod, container, view.restart_count, view.hash),
        log_path: container_log_path(&container.name, view.attempt),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(LinuxContainerConfig {
            resources: Some(container_resources(pod, container, node, view.swap)),
            security_context: Some(container_security_context(
                pod,
                container,
                node,
                &view.image_user,
            )?),
        }),
        stop_signal: stop_signal(pod, container).into(),
        ..Default::default()
    })
}

/// The signal that the spec asks for; a name that is none is left to the runtime, as upstream does.
fn stop_signal(pod: &Pod, container: &v1::Container) -> Signal {
    let lifecycle = container.lifecycle.as_ref();
    let name = lifecycle.and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    let name = name.filter(|_| pod.gates.stop_signals);
    // `SIGRTMIN+3` is `SIGRTMINPLUS3` there.
    let name = name.map(|name| name.replace('+', "PLUS").replace('-', "MINUS"));
    name.and_then(|name| Signal::from_str_name(&name))
        .unwrap_or(Signal::RuntimeDefault)
}

/// Path of a container's log below its pod's log directory, `<name>/<restarts>.log`.
pub fn container_log_path(name: &str, attempt: u32) -> String {
    format!("{name}/{attempt}.log")
}

/// Which part of its volume a mount shows, with variables replaced; `None` for all of it.
pub fn mount_sub_path(mount: &v1::VolumeMount, env: &Env) -> Result<Option<String>, ConfigProblem> {
    let expression = mount.sub_path_expr.as_deref().unwrap_or_default();
    let sub_path = if expression.is_empty() {
        mount.sub_path.clone().unwrap_or_default()
    } else {
        env.expand_sub_path(expression)?
    };
    if sub_path.starts_with('/') {
        return Err(ConfigProblem::container(format!(
            "error SubPath `{sub_path}` must not be an absolute path"
        )));
    }
    if sub_path.split('/').any(|part| part == "..") {
        let message = format!("unable to provision SubPath `{sub_path}`: must not contain '..'");
        return Err(ConfigProblem::container(message));
    }
    Ok(Some(sub_path).filter(|path| !path.is_empty()))
}

/// Volumes in declared order, then the hosts file, then the file for last words.
fn mounts(view: &ContainerSpecView<'_>, env: &Env) -> Result<Vec<Mount>, ConfigProblem> {
    let declared = view.container.volume_mounts.iter().flatten().enumerate();
    let mut mounts = declared
        .map(|(index, mount)| volume_mount(view, env, index, mount))
        .collect::<Result<Vec<_>, _>>()?;
    let relabel = view.node.selinux_enabled;
    let own_file = |host_path: &String, container_path: &str| Mount {
        host_path: host_path.clone(),
        container_path: absolute(container_path),
        selinux_relabel: relabel,
        ..Default::default()
    };
    if let Some(path) = &view.mounts.hosts_path
        && mounts_hosts_file(view.pod, view.container, view.pod_ips)
    {
        mounts.push(own_file(path, HOSTS_PATH));
    }
    let message_path = view
        .container
        .termination_message_path
        .as_deref()
        .unwrap_or_default();
    if let Some(path) = &view.mounts.termination_message_path
        && !message_path.is_empty()
    {
        mounts.push(own_file(path, message_path));
    }
    Ok(mounts)
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}

fn volume_mount(
    view: &ContainerSpecView<'_>,
    env: &Env,
    index: usize,
    mount: &v1::VolumeMount,
) -> Result<Mount, ConfigProblem> {
    let (volume_name, container_name) = (&mount.name, &view.container.name);
    let problem = |message: String| ConfigProblem::container(message);
    let volume = view.mounts.volumes.get(volume_name).ok_or_else(|| {
        problem(format!(
            "cannot find volume \"{volume_name}\" to mount into container \"{container_name}\""
        ))
    })?;
    let host_path = match mount_sub_path(mount, env)? {
        None => volume.clone(),
        Some(_) => view.mounts.sub_paths.get(&index).cloned().ok_or_else(|| {
            problem(format!(
                "failed to prepare subPath for volumeMount \"{volume_name}\" of container \"{container_name}\""
            ))
        })?,
    };
    let kind = volume_kind(view.pod, volume_name);
    let propagation = match mount.mount_propagation.as_deref() {
        None | Some("None") => MountPropagation::PropagationPrivate,
        Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => MountPropagation::PropagationBidirectional,
        Some(other) => {
            return Err(problem(format!(
                "invalid MountPropagation mode: \"{other}\""
            )));
        }
    };
    let recursive_read_only = is_recursive_read_only(mount, view.recursive_read_only)?;
    Ok(Mount {
        container_path: absolute(&mount.mount_path),
        host_path,
        readonly: mount.read_only.unwrap_or(false) || kind.is_read_only(),
        selinux_relabel: kind != VolumeKind::OfHost && view.node.selinux_enabled,
        propagation: propagation.into(),
        recursive_read_only,
        ..Default::default()
    })
}

/// What matters of a volume's source for its mounts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum VolumeKind {
    /// Written by the kubelet: no container may write it.
    Payload,
    /// A path of the host: its SELinux label is not ours to change.
    OfHost,
    /// Anything else.
    Own,
}

impl VolumeKind {
    fn is_read_only(self) -> bool {
        self == Self::Payload
    }
}

fn volume_kind(pod: &Pod, name: &str) -> VolumeKind {
    let Some(volume) = pod
        .spec()
        .volumes
        .iter()
        .flatten()
        .find(|volume| volume.name == name)
    else {
        return VolumeKind::Own;
    };
    let is_payload = volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some();
    match (is_payload, &volume.host_path) {
        (true, _) => VolumeKind::Payload,
        (false, Some(_)) => VolumeKind::OfHost,
        (false, None) => VolumeKind::Own,
    }
}

/// Whether a mount is read-only with all below it, or why it cannot be as it must.
pub(crate) fn is_recursive_read_only(
    mount: &v1::VolumeMount,
    runtime: RecursiveReadOnly,
) -> Result<bool, ConfigProblem> {
    let Some(mode) = mount
        .recursive_read_only
        .as_deref()
        .filter(|mode| *mode != "Disabled")
    else {
        return Ok(false);
    };
    let is_supported = runtime == RecursiveReadOnly::Supported;
    let asked = format!(
        "volume \"{}\" requested recursive read-only mode, but",
        mount.name
    );
    let propagation = mount
        .mount_propagation
        .as_deref()
        .filter(|propagation| *propagation != "None");
    let why = match (mode, propagation) {
        _ if mount.read_only != Some(true) => format!("{asked} it is not read-only"),
        (_, Some(propagation)) => {
            format!("{asked} it is not compatible with propagation \"{propagation}\"")
        }
        ("IfPossible", None) => return Ok(is_supported),
        ("Enabled", None) if is_supported => return Ok(true),
        ("Enabled", None) => format!("{asked} it is not supported by the runtime"),
        (other, None) => format!("unknown recursive read-only mode \"{other}\""),
    };
    Err(ConfigProblem::container(format!(
        "failed to resolve recursive read-only mode: {why}"
    )))
}
