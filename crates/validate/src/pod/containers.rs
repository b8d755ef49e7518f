//! Validates containers and init containers of a pod.
//!
//! In:    the pod's spec and its valid volumes
//! Out:   problems
//! Calls: `pod`, ephemeral containers
//! Holds: names are unique across both kinds; init containers other than sidecars have neither probes nor hooks
//! Upstream: pkg/apis/core/validation/validation.go (validateContainers, validateInitContainers, ValidateEnv)

use super::refs::{ENV_FIELDS, validate_field_ref, validate_resource_ref};
use super::volumes::{Volumes, validate_mounts};
use super::{Problems, list, names, probes, resources, security, text};
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, PodSpec};
use std::collections::{BTreeMap, BTreeSet};

/// Facts about the pod that the rules for containers need.
pub(super) struct Around<'a> {
    pub(super) spec: &'a PodSpec,
    pub(super) volumes: &'a Volumes<'a>,
    claims: BTreeSet<&'a str>,
}

impl<'a> Around<'a> {
    pub(super) fn new(spec: &'a PodSpec, volumes: &'a Volumes<'a>) -> Self {
        let claims = list(&spec.resource_claims).iter();
        let claims = claims.map(|claim| claim.name.as_str());
        Self {
            spec,
            volumes,
            claims: claims.filter(|name| !name.is_empty()).collect(),
        }
    }
}

/// Checks both lists.
pub(super) fn validate_containers(spec: &PodSpec, volumes: &Volumes<'_>, problems: &mut Problems) {
    if spec.containers.is_empty() {
        problems.required("spec.containers", "");
    }
    let around = Around::new(spec, volumes);
    let mut seen = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    let grace = spec.termination_grace_period_seconds;
    for (index, container) in spec.containers.iter().enumerate() {
        let path = format!("spec.containers[{index}]");
        validate_common(&path, container, &around, problems);
        if !seen.insert(container.name.as_str()) {
            problems.duplicate(format!("{path}.name"), &container.name);
        }
        probes::validate_probes(&path, container, grace, spec.os.as_ref(), problems);
        probes::validate_restart_rules(&path, container, problems);
        validate_host_ports(&path, container, &mut host_ports, problems);
    }
    for (index, container) in list(&spec.init_containers).iter().enumerate() {
        let path = format!("spec.initContainers[{index}]");
        validate_common(&path, container, &around, problems);
        if !container.name.is_empty() && !seen.insert(&container.name) {
            problems.duplicate(format!("{path}.name"), &container.name);
        }
        // They run one after the other, so the host ports of each are checked separately.
        validate_host_ports(&path, container, &mut BTreeSet::new(), problems);
        probes::validate_restart_rules(&path, container, problems);
        if container.restart_policy.as_deref() == Some("Always") {
            probes::validate_probes(&path, container, grace, spec.os.as_ref(), problems);
        } else {
            validate_plain_init(&path, container, problems);
        }
    }
}

/// On the host network, container ports must equal host ports.
pub(super) fn check_host_network_ports(spec: &PodSpec, problems: &mut Problems) {
    if spec.host_network != Some(true) {
        return;
    }
    for (index, container) in spec.containers.iter().enumerate() {
        let path = format!("spec.containers[{index}]");
        validate_host_network_ports(&path, container, problems);
    }
}

/// An image name must not start or end with blanks.
pub(super) fn check_image_spaces(path: &str, container: &Container, problems: &mut Problems) {
    if let Some(image) = text(&container.image)
        && image.trim() != image
    {
        let detail = "must not have leading or trailing whitespace";
        problems.invalid(format!("{path}.image"), image, detail);
    }
}

fn validate_plain_init(path: &str, container: &Container, problems: &mut Problems) {
    for (field, used) in [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ] {
        if used {
            let detail = "may not be set for init containers without restartPolicy=Always";
            problems.forbidden(format!("{path}.{field}"), detail);
        }
    }
    for (index, policy) in container.resize_policy.iter().flatten().enumerate() {
        if policy.restart_policy == "RestartContainer" {
            problems.invalid(
                format!("{path}.resizePolicy[{index}].restartPolicy"),
                &policy.restart_policy,
                "must not be set to 'RestartContainer' for non-sidecar initContainers",
            );
        }
    }
}

/// Rules for containers of every list.
pub(super) fn validate_common(
    path: &str,
    container: &Container,
    around: &Around<'_>,
    problems: &mut Problems,
) {
    problems.required_name(format!("{path}.name"), &container.name, names::dns_label);
    if text(&container.image).is_none() {
        problems.required(format!("{path}.image"), "");
    }
    problems.one_of(
        format!("{path}.terminationMessagePolicy"),
        container.termination_message_policy.as_deref(),
        &["File", "FallbackToLogsOnError"],
    );
    problems.one_of(
        format!("{path}.imagePullPolicy"),
        container.image_pull_policy.as_deref(),
        &["Always", "IfNotPresent", "Never"],
    );
    validate_ports(path, container, problems);
    for (index, variable) in list(&container.env).iter().enumerate() {
        validate_env(&format!("{path}.env[{index}]"), variable, problems);
    }
    validate_env_from(path, container, problems);
    validate_mounts(path, container, around.volumes, problems);
    if let Some(wanted) = &container.resources {
        let at = format!("{path}.resources");
        resources::validate_resources(&at, wanted, &around.claims, problems);
    }
    validate_resize_policy(path, container, around.spec, problems);
    security::validate_security(path, container, around.spec.host_users, problems);
}

fn validate_ports(path: &str, container: &Container, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let at = |field: &str| format!("{path}.ports[{index}].{field}");
        if let Some(name) = text(&port.name) {
            let reasons = names::port_name(name);
            let good = reasons.is_empty();
            problems.reasons(at("name"), name, reasons);
            if good && !seen.insert(name) {
                problems.duplicate(at("name"), name);
            }
        }
        if port.container_port == 0 {
            problems.required(at("containerPort"), "");
        } else {
            let reasons = names::port_number(port.container_port);
            problems.reasons(at("containerPort"), port.container_port, reasons);
        }
        if let Some(number) = port.host_port.filter(|number| *number != 0) {
            problems.reasons(at("hostPort"), number, names::port_number(number));
        }
        let known = ["SCTP", "TCP", "UDP"];
        problems.one_of(at("protocol"), port.protocol.as_deref(), &known);
    }
}

fn validate_host_ports(
    path: &str,
    container: &Container,
    taken: &mut BTreeSet<String>,
    problems: &mut Problems,
) {
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let Some(number) = port.host_port.filter(|number| *number != 0) else {
            continue;
        };
        let protocol = port.protocol.as_deref().unwrap_or_default();
        let ip = port.host_ip.as_deref().unwrap_or_default();
        let key = format!("{protocol}/{ip}/{number}");
        if taken.contains(&key) {
            problems.duplicate(format!("{path}.ports[{index}].hostPort"), &key);
        }
        taken.insert(key);
    }
}

fn validate_host_network_ports(path: &str, container: &Container, problems: &mut Problems) {
    for (index, port) in container.ports.iter().flatten().enumerate() {
        if let Some(number) = port.host_port
            && number != 0
            && number != port.container_port
        {
            problems.invalid(
                format!("{path}.ports[{index}].hostPort"),
                number,
                "must match `containerPort` when `hostNetwork` is true",
            );
        }
    }
}

fn validate_env(path: &str, variable: &EnvVar, problems: &mut Problems) {
    let name = format!("{path}.name");
    if variable.name.is_empty() {
        problems.required(name, "");
    } else {
        problems.reasons(name, &variable.name, names::env_name(&variable.name));
    }
    let Some(source) = &variable.value_from else {
        return;
    };
    let at = format!("{path}.valueFrom");
    if let Some(selector) = &source.field_ref {
        validate_field_ref(&format!("{at}.fieldRef"), selector, &ENV_FIELDS, problems);
    }
    if let Some(selector) = &source.resource_field_ref {
        validate_resource_ref(&format!("{at}.resourceFieldRef"), selector, problems);
    }
    if let Some(selector) = &source.config_map_key_ref {
        let at = format!("{at}.configMapKeyRef");
        check_key(&at, &selector.name, &selector.key, problems);
    }
    if let Some(selector) = &source.secret_key_ref {
        let at = format!("{at}.secretKeyRef");
        check_key(&at, &selector.name, &selector.key, problems);
    }
    validate_file_ref(&at, source, problems);
    let count = [
        source.field_ref.is_some(),
        source.resource_field_ref.is_some(),
        source.config_map_key_ref.is_some(),
        source.secret_key_ref.is_some(),
        source.file_key_ref.is_some(),
    ]
    .iter()
    .filter(|used| **used)
    .count();
    if count == 0 {
        problems.invalid(
            at,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        );
    } else if text(&variable.value).is_some() {
        problems.invalid(at, "", "may not be specified when `value` is not empty");
    } else if count > 1 {
        let detail = "may not have more than one field specified at a time";
        problems.invalid(at, "", detail);
    }
}

/// A key of a ConfigMap or Secret.
fn check_key(path: &str, name: &str, key: &str, problems: &mut Problems) {
    problems.reasons(format!("{path}.name"), name, names::dns_subdomain(name));
    problems.required_name(format!("{path}.key"), key, names::config_map_key);
}

fn validate_file_ref(path: &str, source: &EnvVarSource, problems: &mut Problems) {
    let Some(selector) = &source.file_key_ref else {
        return;
    };
    let at = |field: &str| format!("{path}.fileKeyRef.{field}");
    for (field, value, reasons) in [
        ("key", &selector.key, names::env_name(&selector.key)),
        (
            "volumeName",
            &selector.volume_name,
            names::dns_label(&selector.volume_name),
        ),
        ("path", &selector.path, names::no_backsteps(&selector.path)),
    ] {
        if value.is_empty() {
            problems.required(at(field), "");
        } else {
            problems.reasons(at(field), value, reasons);
        }
    }
}

/// A file with environment variables must be in an emptyDir of the pod.
pub(super) fn check_file_key_volumes(spec: &PodSpec, problems: &mut Problems) {
    let volumes: BTreeMap<&str, bool> = list(&spec.volumes)
        .iter()
        .map(|volume| (volume.name.as_str(), volume.empty_dir.is_some()))
        .collect();
    let mut check = |path: &str, variables: &[EnvVar]| {
        for (index, variable) in variables.iter().enumerate() {
            let source = variable.value_from.as_ref();
            let Some(selector) = source.and_then(|source| source.file_key_ref.as_ref()) else {
                continue;
            };
            let at = format!("{path}.env[{index}].valueFrom.fileKeyRef.volumeName");
            let name = selector.volume_name.as_str();
            match volumes.get(name) {
                None => problems.not_found(at, name, ""),
                Some(false) => {
                    problems.invalid(at, name, "referenced volume must be of type emptyDir");
                }
                Some(true) => {}
            }
        }
    };
    for (path, container) in super::containers_of(spec) {
        check(&path, list(&container.env));
    }
    for (index, container) in list(&spec.ephemeral_containers).iter().enumerate() {
        let path = format!("spec.ephemeralContainers[{index}]");
        check(&path, list(&container.env));
    }
}

fn validate_env_from(path: &str, container: &Container, problems: &mut Problems) {
    for (index, source) in container.env_from.iter().flatten().enumerate() {
        let at = format!("{path}.envFrom[{index}]");
        if let Some(prefix) = text(&source.prefix) {
            problems.reasons(format!("{at}.prefix"), prefix, names::env_name(prefix));
        }
        if let Some(reference) = &source.config_map_ref {
            let at = format!("{at}.configMapRef.name");
            problems.required_name(at, &reference.name, names::dns_subdomain);
        }
        if let Some(reference) = &source.secret_ref {
            let at = format!("{at}.secretRef.name");
            problems.required_name(at, &reference.name, names::dns_subdomain);
        }
        match (&source.config_map_ref, &source.secret_ref) {
            (None, None) => {
                let detail = "must specify one of: `configMapRef` or `secretRef`";
                problems.invalid(at, "", detail);
            }
            (Some(_), Some(_)) => {
                let detail = "may not have more than one field specified at a time";
                problems.invalid(at, "", detail);
            }
            _ => {}
        }
    }
}

fn validate_resize_policy(
    path: &str,
    container: &Container,
    spec: &PodSpec,
    problems: &mut Problems,
) {
    let mut seen = BTreeSet::new();
    for (index, policy) in container.resize_policy.iter().flatten().enumerate() {
        let at = format!("{path}.resizePolicy[{index}]");
        if !seen.insert(policy.resource_name.as_str()) {
            problems.duplicate(at.as_str(), &policy.resource_name);
        }
        problems.one_of(
            format!("{at}.resourceName"),
            Some(&policy.resource_name),
            &["cpu", "memory"],
        );
        let restart = format!("{at}.restartPolicy");
        let known = ["NotRequired", "RestartContainer"];
        problems.one_of(restart.as_str(), Some(&policy.restart_policy), &known);
        if spec.restart_policy.as_deref() == Some("Never") && policy.restart_policy != "NotRequired"
        {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            problems.invalid(restart, &policy.restart_policy, detail);
        }
    }
}
