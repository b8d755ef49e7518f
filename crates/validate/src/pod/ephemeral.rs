//! Validates ephemeral containers.
//!
//! In:    the pod's spec and its valid volumes; for updates also the old pod
//! Out:   problems
//! Calls: `pod`
//! Holds: an ephemeral container cannot be changed or removed
//! Upstream: pkg/apis/core/validation/validation.go (validateEphemeralContainers, ValidatePodEphemeralContainersUpdate)

use super::containers::{Around, check_image_spaces, validate_common};
use super::volumes::Volumes;
use super::{Problems, list, text};
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};
use kubelet_model::emptiness::plain;
use std::collections::{BTreeMap, BTreeSet};

const NOT_HERE: &str = "cannot be set for an Ephemeral Container";

/// Checks each ephemeral container.
pub(super) fn check(spec: &PodSpec, volumes: &Volumes<'_>, problems: &mut Problems) {
    let added = list(&spec.ephemeral_containers);
    if added.is_empty() {
        return;
    }
    let around = Around::new(spec, volumes);
    let others: BTreeSet<&str> = spec
        .containers
        .iter()
        .chain(list(&spec.init_containers))
        .map(|container| container.name.as_str())
        .collect();
    let mut seen = others.clone();
    for (index, one) in added.iter().enumerate() {
        let path = format!("spec.ephemeralContainers[{index}]");
        let container = as_container(one);
        validate_common(&path, &container, &around, problems);
        check_image_spaces(&path, &container, problems);
        if !seen.insert(&one.name) {
            problems.duplicate(format!("{path}.name"), &one.name);
        }
        if let Some(target) = text(&one.target_container_name)
            && !others.contains(target)
        {
            problems.not_found(format!("{path}.targetContainerName"), target, "");
        }
        check_fields(&path, one, problems);
    }
}

/// Fields that an ephemeral container may not have.
fn check_fields(path: &str, one: &EphemeralContainer, problems: &mut Problems) {
    let resources = one.resources.as_ref().is_some_and(|held| {
        held.claims.is_some() || held.limits.is_some() || held.requests.is_some()
    });
    for (field, used) in [
        ("ports", !list(&one.ports).is_empty()),
        ("resources", resources),
        ("resizePolicy", !list(&one.resize_policy).is_empty()),
        ("restartPolicy", one.restart_policy.is_some()),
        (
            "restartPolicyRules",
            !list(&one.restart_policy_rules).is_empty(),
        ),
        ("livenessProbe", one.liveness_probe.is_some()),
        ("readinessProbe", one.readiness_probe.is_some()),
        ("startupProbe", one.startup_probe.is_some()),
        ("lifecycle", one.lifecycle.is_some()),
    ] {
        if used {
            problems.forbidden(format!("{path}.{field}"), NOT_HERE);
        }
    }
    for (index, mount) in list(&one.volume_mounts).iter().enumerate() {
        for (field, value) in [
            ("subPath", &mount.sub_path),
            ("subPathExpr", &mount.sub_path_expr),
        ] {
            if text(value).is_some() {
                problems.forbidden(format!("{path}.volumeMounts[{index}].{field}"), NOT_HERE);
            }
        }
    }
}

/// The same as a container, without its target.
fn as_container(one: &EphemeralContainer) -> Container {
    let one = one.clone();
    Container {
        args: one.args,
        command: one.command,
        env: one.env,
        env_from: one.env_from,
        image: one.image,
        image_pull_policy: one.image_pull_policy,
        lifecycle: one.lifecycle,
        liveness_probe: one.liveness_probe,
        name: one.name,
        ports: one.ports,
        readiness_probe: one.readiness_probe,
        resize_policy: one.resize_policy,
        resources: one.resources,
        restart_policy: one.restart_policy,
        restart_policy_rules: one.restart_policy_rules,
        security_context: one.security_context,
        startup_probe: one.startup_probe,
        stdin: one.stdin,
        stdin_once: one.stdin_once,
        termination_message_path: one.termination_message_path,
        termination_message_policy: one.termination_message_policy,
        tty: one.tty,
        volume_devices: one.volume_devices,
        volume_mounts: one.volume_mounts,
        working_dir: one.working_dir,
    }
}

/// None may be removed or changed.
pub(super) fn check_change(new: &Pod, old: &Pod, problems: &mut Problems) {
    let of = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        let all = spec.and_then(|spec| spec.ephemeral_containers.clone());
        all.unwrap_or_default()
    };
    let said = |one: &EphemeralContainer| plain(serde_json::to_value(one).unwrap_or_default());
    let now: BTreeMap<String, _> = of(new)
        .iter()
        .map(|one| (one.name.clone(), said(one)))
        .collect();
    let path = "spec.ephemeralContainers";
    for before in of(old) {
        let name = &before.name;
        match now.get(name) {
            None => {
                let detail = format!("existing ephemeral containers {name:?} may not be removed\n");
                problems.forbidden(path, &detail);
            }
            Some(now) if *now != said(&before) => {
                let detail = format!("existing ephemeral containers {name:?} may not be changed\n");
                problems.forbidden(path, &detail);
            }
            Some(_) => {}
        }
    }
}
