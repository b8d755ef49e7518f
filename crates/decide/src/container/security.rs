//! Security contexts: users and groups, capabilities, seccomp, AppArmor, masked paths, namespaces.
//!
//! In:    pod and container security contexts, the user of the image, the node's defaults
//! Out:   the CRI's security contexts, or why the container must not start
//! Calls: sandbox_config.rs, container_config.rs
//! Holds: a container's field takes precedence over its pod's; if a check cannot be made, the container is refused
//! Upstream: pkg/kubelet/kuberuntime/{security_context.go,security_context_others.go,helpers.go}, pkg/securitycontext/util.go,
//!           pkg/kubelet/kuberuntime/util/util.go, pkg/security/apparmor/helpers.go

use k8s_openapi::api::core::v1;
use kubelet_api::runtime::v1::security_profile::ProfileType;
use kubelet_api::runtime::v1::{
    Capability, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext,
    NamespaceMode, NamespaceOption, SeLinuxOption, SecurityProfile, SupplementalGroupsPolicy,
    UserNamespace,
};
use kubelet_model::node::NodeView;
use kubelet_model::pod::Pod;

use crate::container::config_problem::{ConfigProblem, pod_text};

#[cfg(test)]
mod tests;

/// Paths of a container that nobody may read.
const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// Paths of a container that nobody may write.
const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
/// Annotation of a container's AppArmor profile, for manifests from before the field.
pub(crate) const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// The user that an image names: a number, or a name, or (neither) root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageUser {
    /// The numeric user; `None` when the image has a name instead.
    pub uid: Option<i64>,
    /// The user's name; empty when the image has a number.
    pub name: String,
}

impl ImageUser {
    /// From what the runtime says of an image; an image that says nothing runs as root.
    pub fn of_image(uid: Option<i64>, name: &str) -> Self {
        match (uid, name) {
            (Some(uid), _) => Self {
                uid: Some(uid),
                name: String::new(),
            },
            (None, "") => Self {
                uid: Some(0),
                name: String::new(),
            },
            (None, name) => Self {
                uid: None,
                name: name.to_owned(),
            },
        }
    }
}

/// The container's security context, with its pod's where it says nothing.
pub fn effective_security_context(pod: &Pod, container: &v1::Container) -> v1::SecurityContext {
    let mut effective = container.security_context.clone().unwrap_or_default();
    if let Some(of_pod) = &pod.spec().security_context {
        effective.se_linux_options = effective
            .se_linux_options
            .or_else(|| of_pod.se_linux_options.clone());
        effective.run_as_user = effective.run_as_user.or(of_pod.run_as_user);
        effective.run_as_group = effective.run_as_group.or(of_pod.run_as_group);
        effective.run_as_non_root = effective.run_as_non_root.or(of_pod.run_as_non_root);
    }
    effective
}

/// Refuses a container that must not run as root and would, or might.
pub fn check_run_as_non_root(
    pod: &Pod,
    container: &v1::Container,
    image_user: &ImageUser,
) -> Result<(), ConfigProblem> {
    let effective = effective_security_context(pod, container);
    if effective.run_as_non_root != Some(true) {
        return Ok(());
    }
    let whose = format!(
        "(pod: \"{}\", container: {})",
        pod_text(pod),
        container.name
    );
    let problem = |what: String| Err(ConfigProblem::container(format!("{what} {whose}")));
    match (effective.run_as_user, image_user.uid) {
        (Some(0), _) => problem("container's runAsUser breaks non-root policy".to_owned()),
        (Some(_), _) => Ok(()),
        (None, Some(0)) => {
            problem("container has runAsNonRoot and image will run as root".to_owned())
        }
        (None, Some(uid)) if !(0..=i64::from(i32::MAX)).contains(&uid) => problem(format!(
            "container has runAsNonRoot and image has an invalid user id ({uid}). (Must be 1-({most})): \
             must be between 0 and {most}, inclusive",
            most = i32::MAX
        )),
        (None, None) if !image_user.name.is_empty() => problem(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root",
            image_user.name
        )),
        (None, _) => Ok(()),
    }
}

/// Which namespaces a pod has of its own.
pub fn namespace_options(pod: &Pod) -> Result<NamespaceOption, ConfigProblem> {
    let spec = pod.spec();
    if spec.host_users == Some(false) {
        return Err(ConfigProblem::container(
            "spec.hostUsers: false is not supported",
        ));
    }
    let or_node = |is_host: Option<bool>, own| {
        if is_host == Some(true) {
            NamespaceMode::Node
        } else {
            own
        }
    };
    let own_pid = match spec.share_process_namespace {
        Some(true) => NamespaceMode::Pod,
        _ => NamespaceMode::Container,
    };
    Ok(NamespaceOption {
        network: or_node(spec.host_network, NamespaceMode::Pod).into(),
        pid: or_node(spec.host_pid, own_pid).into(),
        ipc: or_node(spec.host_ipc, NamespaceMode::Pod).into(),
        target_id: String::new(),
        userns_options: Some(UserNamespace {
            mode: NamespaceMode::Node.into(),
            ..Default::default()
        }),
    })
}

/// `fsGroup`, then `supplementalGroups`.
fn supplemental_groups(pod: &Pod) -> Vec<i64> {
    let context = pod.spec().security_context.as_ref();
    let fs_group = context.and_then(|context| context.fs_group);
    let others = context
        .and_then(|context| context.supplemental_groups.as_deref())
        .unwrap_or_default();
    fs_group.into_iter().chain(others.iter().copied()).collect()
}

fn supplemental_groups_policy(pod: &Pod) -> Result<i32, ConfigProblem> {
    let context = pod.spec().security_context.as_ref();
    match context.and_then(|context| context.supplemental_groups_policy.as_deref()) {
        None => Ok(SupplementalGroupsPolicy::Merge.into()),
        Some(word) => SupplementalGroupsPolicy::from_str_name(word)
            .map(i32::from)
            .ok_or_else(|| {
                ConfigProblem::container(format!("unsupported supplementalGroupsPolicy: {word}"))
            }),
    }
}

fn selinux_options(options: &v1::SELinuxOptions) -> SeLinuxOption {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    SeLinuxOption {
        user: text(&options.user),
        role: text(&options.role),
        r#type: text(&options.type_),
        level: text(&options.level),
    }
}

fn profile(kind: ProfileType, localhost_ref: String) -> SecurityProfile {
    SecurityProfile {
        profile_type: kind.into(),
        localhost_ref,
    }
}

/// The security context of a pod's sandbox. Its seccomp profile is always the runtime's default, whatever containers use.
pub fn sandbox_security_context(pod: &Pod) -> Result<LinuxSandboxSecurityContext, ConfigProblem> {
    let context = pod.spec().security_context.clone().unwrap_or_default();
    let is_privileged = |container: &v1::Container| {
        container
            .security_context
            .as_ref()
            .and_then(|context| context.privileged)
            == Some(true)
    };
    Ok(LinuxSandboxSecurityContext {
        namespace_options: Some(namespace_options(pod)?),
        selinux_options: context.se_linux_options.as_ref().map(selinux_options),
        run_as_user: context.run_as_user.map(|value| Int64Value { value }),
        run_as_group: context.run_as_group.map(|value| Int64Value { value }),
        supplemental_groups: supplemental_groups(pod),
        supplemental_groups_policy: supplemental_groups_policy(pod)?,
        privileged: pod.all_containers().any(is_privileged),
        seccomp: Some(profile(ProfileType::RuntimeDefault, String::new())),
        ..Default::default()
    })
}

/// The security context of a container.
pub fn container_security_context(
    pod: &Pod,
    container: &v1::Container,
    node: &NodeView,
    image_user: &ImageUser,
) -> Result<LinuxContainerSecurityContext, ConfigProblem> {
    let effective = effective_security_context(pod, container);
    let (apparmor, apparmor_profile) = apparmor(pod, container)?.unzip();
    let is_unmasked = effective.proc_mount.as_deref() == Some("Unmasked");
    let masked = MASKED_PATHS
        .iter()
        .map(ToString::to_string)
        .chain(node.extra_masked_paths.iter().cloned());
    // The image's user counts only where no number is asked for.
    let from_image = effective.run_as_user.is_none();
    Ok(LinuxContainerSecurityContext {
        capabilities: effective.capabilities.map(|capabilities| Capability {
            add_capabilities: capabilities.add.unwrap_or_default(),
            drop_capabilities: capabilities.drop.unwrap_or_default(),
            ..Default::default()
        }),
        privileged: effective.privileged.unwrap_or(false),
        namespace_options: Some(namespace_options(pod)?),
        selinux_options: effective.se_linux_options.as_ref().map(selinux_options),
        run_as_user: effective
            .run_as_user
            .or(image_user.uid)
            .map(|value| Int64Value { value }),
        run_as_group: effective.run_as_group.map(|value| Int64Value { value }),
        run_as_username: if from_image {
            image_user.name.clone()
        } else {
            String::new()
        },
        readonly_rootfs: effective.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: supplemental_groups(pod),
        supplemental_groups_policy: supplemental_groups_policy(pod)?,
        no_new_privs: effective.allow_privilege_escalation == Some(false),
        masked_paths: if is_unmasked {
            Vec::new()
        } else {
            masked.collect()
        },
        readonly_paths: if is_unmasked {
            Vec::new()
        } else {
            READONLY_PATHS.map(str::to_owned).into()
        },
        seccomp: Some(seccomp(pod, container, node)?),
        apparmor,
        apparmor_profile: apparmor_profile.unwrap_or_default(),
        ..Default::default()
    })
}

fn seccomp(
    pod: &Pod,
    container: &v1::Container,
    node: &NodeView,
) -> Result<SecurityProfile, ConfigProblem> {
    let of_container = container
        .security_context
        .as_ref()
        .and_then(|context| context.seccomp_profile.as_ref());
    let of_pod = pod
        .spec()
        .security_context
        .as_ref()
        .and_then(|context| context.seccomp_profile.as_ref());
    let Some(asked) = of_container.or(of_pod) else {
        let kind = if node.seccomp_default {
            ProfileType::RuntimeDefault
        } else {
            ProfileType::Unconfined
        };
        return Ok(profile(kind, String::new()));
    };
    match asked.type_.as_str() {
        "RuntimeDefault" => Ok(profile(ProfileType::RuntimeDefault, String::new())),
        "Localhost" => match asked.localhost_profile.as_deref() {
            Some(name) if !name.is_empty() => Ok(profile(
                ProfileType::Localhost,
                clean_path(&format!("{}/seccomp/{name}", node.root_dir)),
            )),
            _ => Err(ConfigProblem::container(
                "localhostProfile must be set if seccompProfile type is Localhost.",
            )),
        },
        _ => Ok(profile(ProfileType::Unconfined, String::new())),
    }
}

/// An absolute path without empty, `.` and `..` parts.
fn clean_path(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The AppArmor profile, new and old spelling; `None` when nothing asks for one.
fn apparmor(
    pod: &Pod,
    container: &v1::Container,
) -> Result<Option<(SecurityProfile, String)>, ConfigProblem> {
    let Some(asked) = asked_apparmor(pod, container) else {
        return Ok(None);
    };
    match (asked.type_.as_str(), asked.localhost_profile) {
        ("RuntimeDefault", _) => Ok(Some((
            profile(ProfileType::RuntimeDefault, String::new()),
            "runtime/default".to_owned(),
        ))),
        ("Unconfined", _) => Ok(Some((
            profile(ProfileType::Unconfined, String::new()),
            "unconfined".to_owned(),
        ))),
        ("Localhost", Some(name)) => {
            let old_spelling = format!("localhost/{name}");
            Ok(Some((profile(ProfileType::Localhost, name), old_spelling)))
        }
        ("Localhost", None) => Err(ConfigProblem::container(
            "missing localhost apparmor profile name",
        )),
        (other, _) => Err(ConfigProblem::container(format!(
            "unknown apparmor profile type: \"{other}\""
        ))),
    }
}

/// The profile that a container asks for: by its field, by the annotation of old manifests, by its pod's field.
pub(crate) fn asked_apparmor(pod: &Pod, container: &v1::Container) -> Option<v1::AppArmorProfile> {
    let of_container = container
        .security_context
        .as_ref()
        .and_then(|context| context.app_armor_profile.clone());
    let of_pod = || {
        pod.spec()
            .security_context
            .as_ref()
            .and_then(|context| context.app_armor_profile.clone())
    };
    of_container
        .or_else(|| annotated_apparmor(pod, &container.name))
        .or_else(of_pod)
}

fn annotated_apparmor(pod: &Pod, container_name: &str) -> Option<v1::AppArmorProfile> {
    let word = pod.annotation(&format!("{APPARMOR_ANNOTATION}{container_name}"))?;
    let (kind, localhost_profile) = match word.strip_prefix("localhost/") {
        Some(name) => ("Localhost", Some(name.to_owned())),
        None if word == "runtime/default" => ("RuntimeDefault", None),
        None if word == "unconfined" => ("Unconfined", None),
        None => return None,
    };
    Some(v1::AppArmorProfile {
        type_: kind.to_owned(),
        localhost_profile,
    })
}
