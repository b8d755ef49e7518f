//! What the API would refuse in a pod, all at once.
//!
//! In:    a pod with its defaults and its identity
//! Out:   every problem, with the field's path and upstream's message
//! Calls: `decide/manifest` (a static pod with problems does not run)
//! Holds: order is stable; nothing here depends on the node
//! Gap:   affinity, topology spread, Windows options, pod-level resources, seccomp annotations and the inner fields
//!        of volumes other than emptyDir, hostPath and NFS are not looked into; none of them takes effect yet
//! Differs: an unknown `emptyDir.medium` is refused here (upstream accepts it and fails later), amounts that do not
//!        parse are named here (upstream fails to decode)
//! Upstream: pkg/apis/core/validation/validation.go, apimachinery/pkg/api/validation/objectmeta.go

mod containers;
mod payloads;
mod probes;
mod resources;
mod security;
mod volumes;

use crate::names;
use crate::problem::{FieldProblem, Problems, text};
use k8s_openapi::api::core::v1::{Container, Pod, PodDNSConfig, PodSpec, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};

const ANNOTATIONS_LIMIT: usize = 256 * 1024;
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;

/// Init containers and containers with their paths.
pub fn containers_of(spec: &PodSpec) -> impl Iterator<Item = (String, &Container)> {
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init.map(|(index, held)| (format!("spec.initContainers[{index}]"), held));
    let regular = spec.containers.iter().enumerate();
    init.chain(regular.map(|(index, held)| (format!("spec.containers[{index}]"), held)))
}

/// Every problem of a pod that has its defaults and its identity. Empty means the API would take it.
pub fn pod(pod: &Pod) -> Vec<FieldProblem> {
    let mut problems = Problems::default();
    validate_metadata(&pod.metadata, &mut problems);
    match &pod.spec {
        Some(spec) => {
            validate_spec(spec, &mut problems);
            security::validate_app_armor_annotations(&pod.metadata, spec, &mut problems);
        }
        None => problems.required("spec.containers", ""),
    }
    problems.found()
}

fn validate_metadata(meta: &ObjectMeta, problems: &mut Problems) {
    match text(&meta.name) {
        Some(name) => problems.reasons("metadata.name", name, names::dns_subdomain(name)),
        None => problems.required("metadata.name", "name or generateName is required"),
    }
    match text(&meta.namespace) {
        Some(name) => problems.reasons("metadata.namespace", name, names::dns_label(name)),
        None => problems.required("metadata.namespace", ""),
    }
    validate_labels("metadata.labels", meta.labels.as_ref(), problems);
    let mut size = 0;
    for (key, value) in meta.annotations.iter().flatten() {
        size += key.len() + value.len();
        let reasons = names::label_key(&key.to_lowercase());
        problems.reasons("metadata.annotations", key, reasons);
    }
    if size > ANNOTATIONS_LIMIT {
        problems.too_long("metadata.annotations", ANNOTATIONS_LIMIT);
    }
}

fn validate_labels(path: &str, labels: Option<&BTreeMap<String, String>>, problems: &mut Problems) {
    for (key, value) in labels.into_iter().flatten() {
        problems.reasons(path, key, names::label_key(key));
        problems.reasons(path, value, names::label_value(value));
    }
}

fn validate_spec(spec: &PodSpec, problems: &mut Problems) {
    let volumes = volumes::validate_volumes(spec, problems);
    containers::validate_containers(spec, &volumes, problems);
    if spec
        .ephemeral_containers
        .as_ref()
        .is_some_and(|list| !list.is_empty())
    {
        problems.forbidden("spec.ephemeralContainers", "cannot be set on create");
    }
    problems.one_of(
        "spec.restartPolicy",
        spec.restart_policy.as_deref(),
        &["Always", "OnFailure", "Never"],
    );
    problems.one_of(
        "spec.dnsPolicy",
        spec.dns_policy.as_deref(),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    );
    validate_labels("spec.nodeSelector", spec.node_selector.as_ref(), problems);
    security::validate_pod_security(spec, problems);
    validate_dns_config(
        spec.dns_config.as_ref(),
        spec.dns_policy.as_deref() == Some("None"),
        problems,
    );
    validate_names_of_spec(spec, problems);
    for (index, toleration) in spec.tolerations.iter().flatten().enumerate() {
        let path = format!("spec.tolerations[{index}]");
        validate_toleration(&path, toleration, problems);
    }
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let path = format!("spec.hostAliases[{index}]");
        problems.reasons(format!("{path}.ip"), &alias.ip, names::ip(&alias.ip));
        for (at, name) in alias.hostnames.iter().flatten().enumerate() {
            let reasons = names::dns_subdomain(name);
            problems.reasons(format!("{path}.hostnames[{at}]"), name, reasons);
        }
    }
    validate_gates(spec, problems);
}

/// Names and numbers that stand alone.
fn validate_names_of_spec(spec: &PodSpec, problems: &mut Problems) {
    match spec.termination_grace_period_seconds {
        None => problems.required("spec.terminationGracePeriodSeconds", ""),
        Some(seconds) if seconds < 0 => problems.invalid(
            "spec.terminationGracePeriodSeconds",
            seconds,
            "must be greater than or equal to 0",
        ),
        Some(_) => {}
    }
    if let Some(seconds) = spec.active_deadline_seconds {
        let reasons = names::in_range(seconds, 1, i64::from(i32::MAX));
        problems.reasons("spec.activeDeadlineSeconds", seconds, reasons);
    }
    type Check = fn(&str) -> Vec<String>;
    let checks: [(&str, &Option<String>, Check); 6] = [
        ("nodeName", &spec.node_name, names::dns_subdomain),
        ("hostname", &spec.hostname, names::dns_label),
        ("subdomain", &spec.subdomain, names::dns_label),
        (
            "priorityClassName",
            &spec.priority_class_name,
            names::dns_subdomain,
        ),
        (
            "runtimeClassName",
            &spec.runtime_class_name,
            names::dns_subdomain,
        ),
        (
            "hostnameOverride",
            &spec.hostname_override,
            names::dns_subdomain,
        ),
    ];
    for (field, value, check) in checks {
        if let Some(value) = text(value) {
            problems.reasons(format!("spec.{field}"), value, check(value));
        }
    }
    if let Some(name) = &spec.hostname_override {
        for (other, field) in [
            (spec.set_hostname_as_fqdn, "setHostnameAsFQDN"),
            (spec.host_network, "hostNetwork"),
        ] {
            if other == Some(true) {
                let detail = format!("may not be specified when {field} is true");
                problems.forbidden("spec.hostnameOverride", &detail);
            }
        }
        if name.len() > 64 {
            problems.too_long("spec.hostnameOverride", 64);
        }
    }
    if let Some(os) = &spec.os {
        problems.one_of("spec.os.name", Some(&os.name), &["linux", "windows"]);
    }
    if let Some(policy) = &spec.preemption_policy {
        let known = ["PreemptLowerPriority", "Never"];
        problems.one_of("spec.preemptionPolicy", Some(policy), &known);
    }
}

fn validate_gates(spec: &PodSpec, problems: &mut Problems) {
    for (index, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let path = format!("spec.readinessGates[{index}].conditionType");
        problems.reasons(
            path,
            &gate.condition_type,
            names::label_key(&gate.condition_type),
        );
    }
    let mut seen = BTreeSet::new();
    for (index, gate) in spec.scheduling_gates.iter().flatten().enumerate() {
        let path = format!("spec.schedulingGates[{index}]");
        problems.reasons(path.as_str(), &gate.name, names::label_key(&gate.name));
        if !seen.insert(&gate.name) {
            problems.duplicate(path, &gate.name);
        }
    }
    if !seen.is_empty() {
        problems.forbidden(
            "spec.nodeName",
            "cannot be set until all schedulingGates have been cleared",
        );
    }
}

fn validate_dns_config(config: Option<&PodDNSConfig>, bare: bool, problems: &mut Problems) {
    let path = "spec.dnsConfig";
    let Some(config) = config else {
        if bare {
            problems.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        return;
    };
    let servers = config.nameservers.as_deref().unwrap_or_default();
    if bare && servers.is_empty() {
        problems.required(
            format!("{path}.nameservers"),
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        );
        return;
    }
    if servers.len() > MAX_NAMESERVERS {
        let detail = format!("must not have more than {MAX_NAMESERVERS} nameservers");
        problems.invalid(format!("{path}.nameservers"), servers, &detail);
    }
    for (index, server) in servers.iter().enumerate() {
        let at = format!("{path}.nameservers[{index}]");
        problems.reasons(at, server, names::ip(server));
    }
    let searches = config.searches.as_deref().unwrap_or_default();
    if searches.len() > MAX_SEARCHES {
        let detail = format!("must not have more than {MAX_SEARCHES} search paths");
        problems.invalid(format!("{path}.searches"), searches, &detail);
    }
    if searches.join(" ").len() > MAX_SEARCH_CHARS {
        let detail = format!(
            "must not have more than {MAX_SEARCH_CHARS} characters (including spaces) in the search list"
        );
        problems.invalid(format!("{path}.searches"), searches, &detail);
    }
    for (index, search) in searches.iter().enumerate() {
        if search != "." {
            let search = search.strip_suffix('.').unwrap_or(search);
            let at = format!("{path}.searches[{index}]");
            problems.reasons(at, search, names::search_domain(search));
        }
    }
    for (index, option) in config.options.iter().flatten().enumerate() {
        if text(&option.name).is_none() {
            problems.required(format!("{path}.options[{index}]"), "must not be empty");
        }
    }
}

fn validate_toleration(path: &str, toleration: &Toleration, problems: &mut Problems) {
    let operator = toleration.operator.as_deref().unwrap_or_default();
    let value = toleration.value.as_deref().unwrap_or_default();
    let effect = toleration.effect.as_deref().unwrap_or_default();
    match text(&toleration.key) {
        Some(key) => problems.reasons(format!("{path}.key"), key, names::label_key(key)),
        None if operator != "Exists" => problems.invalid(
            format!("{path}.operator"),
            operator,
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        ),
        None => {}
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        problems.invalid(
            format!("{path}.effect"),
            effect,
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
        );
    }
    let at = format!("{path}.operator");
    match operator {
        "" | "Equal" => {
            let reasons = names::label_value(value);
            if !reasons.is_empty() {
                problems.invalid(at, value, &reasons.join(";"));
            }
        }
        "Exists" if value.is_empty() => {}
        "Exists" => problems.invalid(at, value, "value must be empty when `operator` is 'Exists'"),
        "Lt" | "Gt" => problems.unsupported(at, operator, &["Equal", "Exists", "Lt", "Gt"]),
        _ => problems.unsupported(at, operator, &["Equal", "Exists"]),
    }
    if !effect.is_empty() {
        let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        problems.one_of(format!("{path}.effect"), Some(effect), &known);
    }
}
