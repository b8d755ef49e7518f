//! Validates security contexts of the pod and of its containers.
//!
//! In:    the pod's spec; a container
//! Out:   problems
//! Calls: `pod`, containers of every list
//! Holds: a sysctl of a namespace that the pod shares with the host is refused
//! Upstream: pkg/apis/core/validation/validation.go (ValidateSecurityContext, validatePodSpecSecurityContext,
//!           validateHostUsers, validateSysctls), pkg/util/sysctl namespaces

use super::{Problems, contexts, names, windows};
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeSet;

const SYSCTL_RULE: &str = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
const IPC_SYSCTLS: [&str; 9] = [
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "fs.mqueue",
];
const IPC_PREFIXES: [&str; 3] = ["kernel.shm.", "kernel.msg.", "fs.mqueue."];
const MAX_PROFILE_PATH: usize = 4095;
/// Prefix of the AppArmor annotations that preceded the field.
const APP_ARMOR_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
/// The same for seccomp.
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_PREFIX: &str = "container.seccomp.security.alpha.kubernetes.io/";
const DOCKER_DEFAULT: &str = "docker/default";

/// The pod's security context and its host namespaces.
pub(super) fn validate_pod_security(spec: &PodSpec, problems: &mut Problems) {
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        problems.invalid("spec.securityContext.shareProcessNamespace", true, detail);
    }
    let Some(context) = &spec.security_context else {
        return;
    };
    let path = "spec.securityContext";
    for (field, id) in [
        ("fsGroup", context.fs_group),
        ("runAsUser", context.run_as_user),
        ("runAsGroup", context.run_as_group),
    ] {
        check_id(format!("{path}.{field}"), id, problems);
    }
    for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
        check_id(
            format!("{path}.supplementalGroups[{index}]"),
            Some(*group),
            problems,
        );
    }
    for (field, value, known) in [
        (
            "fsGroupChangePolicy",
            &context.fs_group_change_policy,
            &["Always", "OnRootMismatch"][..],
        ),
        (
            "supplementalGroupsPolicy",
            &context.supplemental_groups_policy,
            &["Merge", "Strict"][..],
        ),
        (
            "seLinuxChangePolicy",
            &context.se_linux_change_policy,
            // The other values need the gate SELinuxMount, which is off.
            &["Recursive"][..],
        ),
    ] {
        if let Some(value) = value
            && !known.contains(&value.as_str())
        {
            problems.unsupported(format!("{path}.{field}"), value, known);
        }
    }
    validate_sysctls(context, spec, problems);
    check_seccomp(path, context.seccomp_profile.as_ref(), problems);
    windows::check_options(path, context.windows_options.as_ref(), problems);
    check_app_armor(path, context.app_armor_profile.as_ref(), problems);
}

/// A pod with a user namespace may not use host namespaces.
pub(super) fn check_host_users(spec: &PodSpec, problems: &mut Problems) {
    if spec.host_users != Some(false) {
        return;
    }
    let detail = "when `hostUsers` is false";
    for (field, host) in [
        ("hostNetwork", spec.host_network),
        ("hostPID", spec.host_pid),
        ("hostIPC", spec.host_ipc),
    ] {
        if host == Some(true) {
            problems.forbidden(format!("spec.{field}"), detail);
        }
    }
    for (path, container) in super::containers_of(spec) {
        if container
            .volume_devices
            .as_ref()
            .is_some_and(|list| !list.is_empty())
        {
            problems.forbidden(format!("{path}.volumeDevices"), detail);
        }
    }
}

fn validate_sysctls(context: &PodSecurityContext, spec: &PodSpec, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for (index, sysctl) in context.sysctls.iter().flatten().enumerate() {
        let at = format!("spec.securityContext.sysctls[{index}].name");
        let name = sysctl.name.as_str();
        if name.is_empty() {
            problems.required(at.as_str(), "");
        } else if !names::sysctl_name(name) {
            problems.invalid(at.as_str(), name, SYSCTL_RULE);
        } else if seen.contains(name) {
            problems.duplicate(at.as_str(), name);
        }
        seen.insert(name);
        let dotted = name.replace('/', ".");
        let ipc = IPC_SYSCTLS.contains(&dotted.as_str())
            || IPC_PREFIXES.iter().any(|prefix| dotted.starts_with(prefix));
        if spec.host_network == Some(true) && dotted.starts_with("net.") {
            let detail = "may not be specified when 'hostNetwork' is true";
            problems.invalid(at, name, detail);
        } else if spec.host_ipc == Some(true) && ipc {
            let detail = "may not be specified when 'hostIPC' is true";
            problems.invalid(at, name, detail);
        }
    }
}

/// The security context of a container.
pub(super) fn validate_security(
    path: &str,
    container: &Container,
    host_users: Option<bool>,
    problems: &mut Problems,
) {
    let Some(context) = &container.security_context else {
        return;
    };
    let path = format!("{path}.securityContext");
    check_id(format!("{path}.runAsUser"), context.run_as_user, problems);
    check_id(format!("{path}.runAsGroup"), context.run_as_group, problems);
    if let Some(mount) = &context.proc_mount {
        let at = format!("{path}.procMount");
        let known = ["Default", "Unmasked"];
        if !known.contains(&mount.as_str()) {
            problems.unsupported(at.as_str(), mount, &known);
        }
        if mount == "Unmasked" && host_users != Some(false) {
            let detail = "`hostUsers` must be false to use `Unmasked`";
            problems.invalid(at, mount, detail);
        }
    }
    check_seccomp(&path, context.seccomp_profile.as_ref(), problems);
    check_escalation(&path, context, problems);
    windows::check_options(&path, context.windows_options.as_ref(), problems);
    check_app_armor(&path, context.app_armor_profile.as_ref(), problems);
}

fn check_escalation(path: &str, context: &SecurityContext, problems: &mut Problems) {
    if context.allow_privilege_escalation != Some(false) {
        return;
    }
    if context.privileged == Some(true) {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        problems.invalid(path, context, detail);
    }
    let added = context
        .capabilities
        .iter()
        .flat_map(|capabilities| capabilities.add.iter().flatten());
    if added.into_iter().any(|name| name == "CAP_SYS_ADMIN") {
        let detail =
            "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        problems.invalid(path, context, detail);
    }
}

fn check_id(path: String, id: Option<i64>, problems: &mut Problems) {
    if let Some(id) = id {
        problems.reasons(path, id, names::owner_id(id));
    }
}

fn check_seccomp(path: &str, profile: Option<&SeccompProfile>, problems: &mut Problems) {
    let Some(profile) = profile else { return };
    let path = format!("{path}.seccompProfile");
    match profile.type_.as_str() {
        "" => {
            let detail = "type is required when seccompProfile is set";
            problems.required(format!("{path}.type"), detail);
        }
        "Localhost" | "RuntimeDefault" | "Unconfined" => {}
        other => problems.unsupported(
            format!("{path}.type"),
            other,
            &["Localhost", "RuntimeDefault", "Unconfined"],
        ),
    }
    let at = format!("{path}.localhostProfile");
    match (&profile.localhost_profile, profile.type_ == "Localhost") {
        (None, true) => problems.required(at, "must be set when seccomp type is Localhost"),
        (Some(file), true) => problems.reasons(at, file, names::descending_path(file)),
        (Some(_), false) => {
            problems.invalid(
                at,
                profile,
                "can only be set when seccomp type is Localhost",
            );
        }
        (None, false) => {}
    }
}

fn check_app_armor(path: &str, profile: Option<&AppArmorProfile>, problems: &mut Problems) {
    let Some(profile) = profile else { return };
    let path = format!("{path}.appArmorProfile");
    let at = format!("{path}.localhostProfile");
    let missing = "must be set when AppArmor type is Localhost";
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("Localhost", None) => problems.required(at, missing),
        ("Localhost", Some(name)) => {
            if name.trim() != name {
                problems.invalid(at.as_str(), name, "must not be padded with whitespace");
            } else if name.is_empty() {
                problems.required(at.as_str(), missing);
            }
            if name.len() > MAX_PROFILE_PATH {
                problems.too_long(at, MAX_PROFILE_PATH);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            problems.invalid(at, name, "can only be set when AppArmor type is Localhost");
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => problems.required(
            format!("{path}.type"),
            "type is required when appArmorProfile is set",
        ),
        (other, _) => problems.unsupported(
            format!("{path}.type"),
            other,
            &["Localhost", "RuntimeDefault", "Unconfined"],
        ),
    }
}

/// The deprecated annotations must name a container of the pod and a valid profile.
pub(super) fn check_app_armor_annotations(
    meta: &ObjectMeta,
    spec: &PodSpec,
    problems: &mut Problems,
) {
    let profiles = || {
        let all = meta.annotations.iter().flatten();
        all.filter_map(|(key, profile)| Some((key, key.strip_prefix(APP_ARMOR_PREFIX)?, profile)))
    };
    if profiles().next().is_none() {
        return;
    }
    let containers: BTreeSet<&str> = contexts(spec).map(|(_, name, _)| name).collect();
    for (key, name, profile) in profiles() {
        let at = format!("metadata.annotations[{key}]");
        if !containers.contains(name) {
            problems.invalid(at.as_str(), name, "container not found");
        }
        let known = matches!(profile.as_str(), "" | "runtime/default" | "unconfined");
        if !known && !profile.starts_with("localhost/") {
            let detail = format!("invalid AppArmor profile name: {profile:?}");
            problems.invalid(at, profile, &detail);
        }
    }
}

/// The deprecated seccomp annotations must name valid profiles.
pub(super) fn check_seccomp_annotations(meta: &ObjectMeta, problems: &mut Problems) {
    for (key, profile) in meta.annotations.iter().flatten() {
        if key != SECCOMP_POD && !key.starts_with(SECCOMP_PREFIX) {
            continue;
        }
        let at = format!("metadata.annotations.{key}");
        match profile.strip_prefix("localhost/") {
            Some(path) => problems.reasons(at, path, names::descending_path(path)),
            None if [RUNTIME_DEFAULT, DOCKER_DEFAULT, UNCONFINED].contains(&profile.as_str()) => {}
            None => problems.invalid(at, profile, "must be a valid seccomp profile"),
        }
    }
}

const RUNTIME_DEFAULT: &str = "runtime/default";
const UNCONFINED: &str = "unconfined";

/// If a new pod has both an annotation and a field, they must be equal.
pub(super) fn check_annotations_match(meta: &ObjectMeta, spec: &PodSpec, problems: &mut Problems) {
    let Some(annotations) = &meta.annotations else {
        return;
    };
    let pod = spec.security_context.as_ref();
    let seccomp = pod.and_then(|context| context.seccomp_profile.as_ref());
    if let (Some(profile), Some(said)) = (seccomp, annotations.get(SECCOMP_POD)) {
        let path = "spec.securityContext.seccompProfile";
        check_match(path, said, &Profile::seccomp(profile), problems);
    }
    for (path, name, context) in contexts(spec) {
        let seccomp = context.and_then(|context| context.seccomp_profile.as_ref());
        if let Some(profile) = seccomp
            && let Some(said) = annotations.get(&format!("{SECCOMP_PREFIX}{name}"))
        {
            let path = format!("{path}.securityContext.seccompProfile");
            check_match(&path, said, &Profile::seccomp(profile), problems);
        }
    }
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return;
    }
    let of_pod = pod.and_then(|context| context.app_armor_profile.as_ref());
    for (path, name, context) in contexts(spec) {
        let own = context.and_then(|context| context.app_armor_profile.as_ref());
        if let Some(profile) = own.or(of_pod)
            && let Some(said) = annotations.get(&format!("{APP_ARMOR_PREFIX}{name}"))
        {
            let path = format!("{path}.securityContext.appArmorProfile");
            check_match(&path, said, &Profile::app_armor(profile), problems);
        }
    }
}

/// A profile of either kind.
struct Profile<'a> {
    called: &'a str,
    type_: &'a str,
    file: Option<&'a str>,
    /// Another name for the runtime's default.
    alias: &'a str,
}

impl<'a> Profile<'a> {
    fn seccomp(profile: &'a SeccompProfile) -> Self {
        Self {
            called: "seccomp",
            type_: &profile.type_,
            file: profile.localhost_profile.as_deref(),
            alias: DOCKER_DEFAULT,
        }
    }

    fn app_armor(profile: &'a AppArmorProfile) -> Self {
        Self {
            called: "apparmor",
            type_: &profile.type_,
            file: profile.localhost_profile.as_deref(),
            alias: RUNTIME_DEFAULT,
        }
    }
}

fn check_match(path: &str, said: &str, profile: &Profile<'_>, problems: &mut Problems) {
    let (field, what) = match (profile.type_, said.strip_prefix("localhost/")) {
        ("Unconfined", _) if said != UNCONFINED => ("type", "type"),
        ("RuntimeDefault", _) if said != RUNTIME_DEFAULT && said != profile.alias => {
            ("type", "type")
        }
        ("Localhost", None) => ("type", "type"),
        ("Localhost", file) if file != profile.file => ("localhostProfile", "profile"),
        _ => return,
    };
    let detail = format!(
        "{} {what} in annotation and field must match",
        profile.called
    );
    problems.forbidden(format!("{path}.{field}"), &detail);
}
