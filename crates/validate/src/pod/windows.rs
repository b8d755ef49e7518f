//! Validates what depends on a pod's operating system: Windows options, and fields that the pod's system does not allow.
//!
//! In:    the pod's spec
//! Out:   problems
//! Calls: `pod`, security contexts
//! Holds: this kubelet runs no Windows pods, but its API server stores them as any other does
//! Upstream: pkg/apis/core/validation/validation.go (validateWindowsSecurityContextOptions, validateWindowsHostProcessPod,
//!           validateLinux, validateWindows)

use super::{Problems, contexts, list, names};
use k8s_openapi::api::core::v1::{PodSpec, WindowsSecurityContextOptions};

const CREDENTIAL_KIB: usize = 64;
const MAX_DOMAIN: usize = 256;
const MAX_USER: usize = 104;

/// Windows options of a security context at `path`.
pub(super) fn check_options(
    path: &str,
    options: Option<&WindowsSecurityContextOptions>,
    problems: &mut Problems,
) {
    let Some(options) = options else { return };
    let path = format!("{path}.windowsOptions");
    if let Some(name) = &options.gmsa_credential_spec_name {
        let at = format!("{path}.gmsaCredentialSpecName");
        problems.reasons(at, name, names::dns_subdomain(name));
    }
    if let Some(spec) = &options.gmsa_credential_spec {
        let at = format!("{path}.gmsaCredentialSpec");
        if spec.is_empty() {
            problems.invalid(at, spec, "gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > CREDENTIAL_KIB * 1024 {
            let detail = format!("gmsaCredentialSpec size must be under {CREDENTIAL_KIB} KiB");
            problems.invalid(at, spec, &detail);
        }
    }
    if let Some(name) = &options.run_as_user_name {
        for detail in user_name_problems(name) {
            problems.invalid(format!("{path}.runAsUserName"), name, &detail);
        }
    }
}

fn user_name_problems(name: &str) -> Vec<String> {
    let parts: Vec<&str> = name.split('\\').collect();
    let one = |text: &str| vec![format!("runAsUserName{text}")];
    if name.is_empty() {
        return one(" cannot be an empty string");
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return one(" cannot contain control characters");
    }
    let (domain, user) = match parts.as_slice() {
        [user] => (None, *user),
        [domain, user] => (Some(*domain), *user),
        _ => return one(" cannot contain more than one backslash"),
    };
    let mut problems = Vec::new();
    if let Some(domain) = domain {
        if domain.len() >= MAX_DOMAIN {
            problems.push(format!(
                "'s Domain length must be under {MAX_DOMAIN} characters"
            ));
        }
        if !is_netbios(domain) && !is_domain(domain) {
            problems.push("'s Domain doesn't match the NetBios nor the DNS format".to_owned());
        }
    }
    if user.is_empty() {
        problems.push("'s User cannot be empty".to_owned());
    } else if user.len() > MAX_USER {
        problems.push(format!(
            "'s User length must not be longer than {MAX_USER} characters"
        ));
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        problems.push("'s User cannot contain only periods or spaces".to_owned());
    }
    if user.contains(|c| "\"/\\:;|=,+*?<>@[]".contains(c)) {
        problems
            .push("'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]".to_owned());
    }
    problems
        .into_iter()
        .map(|problem| format!("runAsUserName{problem}"))
        .collect()
}

fn is_netbios(domain: &str) -> bool {
    (1..=15).contains(&domain.chars().count())
        && !domain.starts_with('.')
        && !domain.contains(|c| "\\/:*?\"<>|".contains(c))
}

fn is_domain(domain: &str) -> bool {
    domain.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

/// Either all containers of a pod are host process containers, or none.
pub(super) fn check_host_process(spec: &PodSpec, problems: &mut Problems) {
    let options = |options: Option<&WindowsSecurityContextOptions>| options?.host_process;
    let context = spec.security_context.as_ref();
    let pod = options(context.and_then(|context| context.windows_options.as_ref()));
    let (mut count, mut all) = (0, true);
    for (path, _, context) in contexts(spec) {
        let own = options(context.and_then(|context| context.windows_options.as_ref()));
        if let (Some(pod), Some(own)) = (pod, own)
            && pod != own
        {
            let detail =
                format!("pod hostProcess value must be identical if both are specified, was {pod}");
            let at = format!("{path}.securityContext.windowsOptions.hostProcess");
            problems.invalid(at, own, &detail);
        }
        if own.or(pod) == Some(true) {
            count += 1;
        } else {
            all = false;
        }
    }
    if count == 0 {
        return;
    }
    if !all {
        let detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        problems.invalid("spec", "", detail);
    }
    if spec.host_network != Some(true) {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        problems.invalid("spec.hostNetwork", false, detail);
    }
}

/// A Linux pod has no Windows options.
pub(super) fn check_linux(spec: &PodSpec, problems: &mut Problems) {
    let detail = "windows options cannot be set for a linux pod";
    let context = spec.security_context.as_ref();
    if context.is_some_and(|context| context.windows_options.is_some()) {
        problems.forbidden("spec.securityContext.windowsOptions", detail);
    }
    for (path, _, context) in contexts(spec) {
        if context.is_some_and(|context| context.windows_options.is_some()) {
            problems.forbidden(format!("{path}.securityContext.windowsOptions"), detail);
        }
    }
}

/// A Windows pod has no Linux-only fields.
pub(super) fn check_windows(spec: &PodSpec, problems: &mut Problems) {
    let detail = "cannot be set for a windows pod";
    let mut refuse = |path: String, used: bool| {
        if used {
            problems.forbidden(path, detail);
        }
    };
    for (field, used) in [
        ("hostUsers", spec.host_users.is_some()),
        ("hostPID", spec.host_pid == Some(true)),
        ("hostIPC", spec.host_ipc == Some(true)),
        (
            "shareProcessNamespace",
            spec.share_process_namespace.is_some(),
        ),
    ] {
        refuse(format!("spec.{field}"), used);
    }
    if let Some(context) = &spec.security_context {
        for (field, used) in [
            ("appArmorProfile", context.app_armor_profile.is_some()),
            ("seLinuxOptions", context.se_linux_options.is_some()),
            ("seccompProfile", context.seccomp_profile.is_some()),
            ("fsGroup", context.fs_group.is_some()),
            (
                "fsGroupChangePolicy",
                context.fs_group_change_policy.is_some(),
            ),
            ("sysctls", !list(&context.sysctls).is_empty()),
            ("runAsUser", context.run_as_user.is_some()),
            ("runAsGroup", context.run_as_group.is_some()),
            ("supplementalGroups", context.supplemental_groups.is_some()),
            (
                "supplementalGroupsPolicy",
                context.supplemental_groups_policy.is_some(),
            ),
            (
                "seLinuxChangePolicy",
                context.se_linux_change_policy.is_some(),
            ),
        ] {
            refuse(format!("spec.securityContext.{field}"), used);
        }
    }
    for (path, _, context) in contexts(spec) {
        let Some(context) = context else { continue };
        for (field, used) in [
            ("appArmorProfile", context.app_armor_profile.is_some()),
            ("seLinuxOptions", context.se_linux_options.is_some()),
            ("seccompProfile", context.seccomp_profile.is_some()),
            ("capabilities", context.capabilities.is_some()),
            (
                "readOnlyRootFilesystem",
                context.read_only_root_filesystem.is_some(),
            ),
            ("privileged", context.privileged.is_some()),
            (
                "allowPrivilegeEscalation",
                context.allow_privilege_escalation.is_some(),
            ),
            ("procMount", context.proc_mount.is_some()),
            ("runAsUser", context.run_as_user.is_some()),
            ("runAsGroup", context.run_as_group.is_some()),
        ] {
            refuse(format!("{path}.securityContext.{field}"), used);
        }
    }
}
