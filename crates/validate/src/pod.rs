//! Validates pods and reports all problems at once.
//!
//! In:    a pod with its defaults, UID, name and namespace
//! Out:   every problem, with the field's path and upstream's message
//! Calls: `decide/sources/manifest` (a static pod with problems does not run), the API server
//! Holds: the order is stable; nothing here depends on the node
//! Differs: amounts that cannot be parsed are reported here (upstream fails to decode); leading zeros of IPv4 addresses are accepted
//! Upstream: pkg/apis/core/validation/validation.go

mod affinity;
mod containers;
mod ephemeral;
mod payloads;
mod probes;
mod refs;
mod resize;
mod resources;
mod security;
pub(crate) mod sources;
mod spread;
mod status;
mod tolerations;
mod update;
mod volumes;
mod windows;

pub(crate) use affinity::node_selector;
pub(crate) use payloads::check_signer_name;
pub(crate) use resources::{check_amounts, validate_overhead};
pub(crate) use sources::{Sources, check_csi_driver};

pub(crate) use tolerations::{check_effect, check_tolerations};

use crate::meta;
use crate::names::{self, NameRule};
use crate::problem::{FieldProblem, Problems, list, plain, text};
use crate::{Checked, created, new_problems};
use k8s_openapi::api::core::v1::{Container, Pod, PodDNSConfig, PodSpec, SecurityContext};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeSet;

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;
/// The annotation of a mirror pod.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Every container of a pod: its path, its name, its security context.
fn contexts(spec: &PodSpec) -> impl Iterator<Item = (String, &str, Option<&SecurityContext>)> {
    let ephemeral = list(&spec.ephemeral_containers).iter().enumerate();
    let ephemeral = ephemeral.map(|(index, one)| {
        let path = format!("spec.ephemeralContainers[{index}]");
        (path, one.name.as_str(), one.security_context.as_ref())
    });
    containers_of(spec)
        .map(|(path, one)| (path, one.name.as_str(), one.security_context.as_ref()))
        .chain(ephemeral)
}

/// Init containers and containers with their paths.
pub fn containers_of(spec: &PodSpec) -> impl Iterator<Item = (String, &Container)> {
    let init = list(&spec.init_containers).iter().enumerate();
    let init = init.map(|(index, held)| (format!("spec.initContainers[{index}]"), held));
    let regular = spec.containers.iter().enumerate();
    init.chain(regular.map(|(index, held)| (format!("spec.containers[{index}]"), held)))
}

/// Every problem of a new pod that has its defaults and its identity. Empty: the pod is valid.
pub fn pod(pod: &Pod) -> Vec<FieldProblem> {
    let mut problems = Problems::default();
    meta::check(&pod.metadata, NameRule::Subdomain, true, &mut problems);
    let mut found = problems.found();
    found.extend(created(pod));
    found
}

/// Validates an update of a pod's ephemeral containers.
pub fn pod_ephemeral_containers(new: &Pod, old: &Pod) -> Vec<FieldProblem> {
    let mut problems = Problems::default();
    if is_mirror(&old.metadata) {
        problems.forbidden("", "static pods do not support ephemeral containers");
        return problems.found();
    }
    ephemeral::check_change(new, old, &mut problems);
    let mut found = new_problems(|p| new.check(p), |p| old.check(p));
    found.extend(problems.found());
    found
}

/// Validates an update of a pod's resources.
pub fn pod_resize(new: &Pod, old: &Pod) -> Vec<FieldProblem> {
    let mut problems = Problems::default();
    if is_mirror(&old.metadata) {
        problems.forbidden("", "static pods cannot be resized");
        return problems.found();
    }
    resize::check(new, old, &mut problems);
    let mut found = new_problems(|p| new.check(p), |p| old.check(p));
    found.extend(problems.found());
    found
}

pub(super) fn is_mirror(meta: &ObjectMeta) -> bool {
    meta.annotations
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(MIRROR))
}

impl Checked for Pod {
    fn check(&self, problems: &mut Problems) {
        let Some(spec) = &self.spec else {
            problems.required("spec.containers", "");
            return;
        };
        check_annotations(&self.metadata, spec, problems);
        check_spec(spec, &self.metadata, problems);
        check_token_volumes(spec, problems);
        for (path, container) in containers_of(spec) {
            containers::check_image_spaces(&path, container, problems);
        }
    }

    fn check_new(&self, problems: &mut Problems) {
        let Some(spec) = &self.spec else { return };
        if !list(&spec.ephemeral_containers).is_empty() {
            problems.forbidden("spec.ephemeralContainers", "cannot be set on create");
        }
        if text(&spec.node_name).is_some() && !list(&spec.scheduling_gates).is_empty() {
            problems.forbidden(
                "spec.nodeName",
                "cannot be set until all schedulingGates have been cleared",
            );
        }
        security::check_annotations_match(&self.metadata, spec, problems);
    }

    fn check_change(&self, old: &Self, problems: &mut Problems) {
        update::check(self, old, problems);
    }

    fn check_status(&self, old: &Self, problems: &mut Problems) {
        status::check(self, old, problems);
    }
}

/// Annotations with a meaning.
fn check_annotations(meta: &ObjectMeta, spec: &PodSpec, problems: &mut Problems) {
    let get = |key: &str| meta.annotations.as_ref().and_then(|all| all.get(key));
    if let Some(value) = get(MIRROR)
        && text(&spec.node_name).is_none()
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        problems.invalid(format!("metadata.annotations[{MIRROR}]"), value, detail);
    }
    let cost = "controller.kubernetes.io/pod-deletion-cost";
    if let Some(value) = get(cost)
        && (value.starts_with('+')
            || (value.starts_with('0') && value.len() > 1)
            || value.parse::<i32>().is_err())
    {
        let detail = "must be a 32bit integer";
        problems.invalid(format!("metadata.annotations[{cost}]"), value, detail);
    }
    security::check_seccomp_annotations(meta, problems);
    security::check_app_armor_annotations(meta, spec, problems);
}

fn check_spec(spec: &PodSpec, meta: &ObjectMeta, problems: &mut Problems) {
    match spec.termination_grace_period_seconds {
        None => problems.required("spec.terminationGracePeriodSeconds", ""),
        Some(seconds) => problems.not_negative("spec.terminationGracePeriodSeconds", seconds),
    }
    let volumes = volumes::validate_volumes(spec, meta, problems);
    check_resource_claims(spec, meta, problems);
    containers::validate_containers(spec, &volumes, problems);
    ephemeral::check(spec, &volumes, problems);
    resources::check_pod(spec, problems);
    containers::check_host_network_ports(spec, problems);
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
    meta::labels("spec.nodeSelector", spec.node_selector.as_ref(), problems);
    security::validate_pod_security(spec, problems);
    affinity::check(spec.affinity.as_ref(), problems);
    check_dns_config(
        spec.dns_config.as_ref(),
        spec.dns_policy.as_deref() == Some("None"),
        problems,
    );
    check_gates(spec, problems);
    spread::check(list(&spec.topology_spread_constraints), problems);
    windows::check_host_process(spec, problems);
    security::check_host_users(spec, problems);
    check_hostname_override(spec, problems);
    check_names(spec, problems);
    check_tolerations("spec.tolerations", list(&spec.tolerations), problems);
    check_host_aliases(spec, problems);
    check_class_names(spec, problems);
    check_os(spec, problems);
    containers::check_file_key_volumes(spec, problems);
}

/// Names and numbers without relations to other fields.
fn check_names(spec: &PodSpec, problems: &mut Problems) {
    for (field, value) in [
        ("serviceAccountName", &spec.service_account_name),
        ("nodeName", &spec.node_name),
    ] {
        if let Some(value) = text(value) {
            problems.reasons(format!("spec.{field}"), value, names::dns_subdomain(value));
        }
    }
    if let Some(seconds) = spec.active_deadline_seconds {
        let reasons = names::in_range(seconds, 1, i64::from(i32::MAX));
        problems.reasons("spec.activeDeadlineSeconds", seconds, reasons);
    }
    for (field, value) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if let Some(value) = text(value) {
            problems.reasons(format!("spec.{field}"), value, names::dns_label(value));
        }
    }
}

fn check_class_names(spec: &PodSpec, problems: &mut Problems) {
    for (field, value) in [
        ("priorityClassName", &spec.priority_class_name),
        ("runtimeClassName", &spec.runtime_class_name),
    ] {
        if let Some(value) = text(value) {
            problems.reasons(format!("spec.{field}"), value, names::dns_subdomain(value));
        }
    }
    if let Some(policy) = &spec.preemption_policy {
        let known = ["PreemptLowerPriority", "Never"];
        problems.one_of("spec.preemptionPolicy", Some(policy), &known);
    }
    if let Some(overhead) = &spec.overhead {
        validate_overhead("spec.overhead", overhead, problems);
    }
    if let Some(group) = &spec.scheduling_group {
        let path = "spec.schedulingGroup.podGroupName";
        match &group.pod_group_name {
            None => problems.invalid(
                path,
                &group.pod_group_name,
                "must specify one of: `podGroupName`",
            ),
            Some(name) => problems.reasons(path, name, names::dns_subdomain(name)),
        }
    }
}

fn check_os(spec: &PodSpec, problems: &mut Problems) {
    let Some(os) = &spec.os else { return };
    match os.name.as_str() {
        "linux" => windows::check_linux(spec, problems),
        "windows" => windows::check_windows(spec, problems),
        other => problems.one_of("spec.os.name", Some(other), &["linux", "windows"]),
    }
}

fn check_hostname_override(spec: &PodSpec, problems: &mut Problems) {
    let Some(name) = &spec.hostname_override else {
        return;
    };
    let path = "spec.hostnameOverride";
    for (other, field) in [
        (spec.set_hostname_as_fqdn, "setHostnameAsFQDN"),
        (spec.host_network, "hostNetwork"),
    ] {
        if other == Some(true) {
            problems.forbidden(path, &format!("may not be specified when {field} is true"));
        }
    }
    if name.len() > 64 {
        problems.too_long(path, 64);
    }
    problems.reasons(path, name, names::dns_subdomain(name));
}

fn check_gates(spec: &PodSpec, problems: &mut Problems) {
    for (index, gate) in list(&spec.readiness_gates).iter().enumerate() {
        let path = format!("spec.readinessGates[{index}].conditionType");
        let reasons = names::label_key(&gate.condition_type);
        problems.reasons(path, &gate.condition_type, reasons);
    }
    let mut seen = BTreeSet::new();
    for (index, gate) in list(&spec.scheduling_gates).iter().enumerate() {
        let path = format!("spec.schedulingGates[{index}]");
        problems.reasons(path.as_str(), &gate.name, names::label_key(&gate.name));
        if !seen.insert(&gate.name) {
            problems.duplicate(path, &gate.name);
        }
    }
}

fn check_resource_claims(spec: &PodSpec, meta: &ObjectMeta, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for (index, claim) in list(&spec.resource_claims).iter().enumerate() {
        if is_mirror(meta) {
            problems.forbidden("", "static pods do not support resource claims");
            return;
        }
        let path = format!("spec.resourceClaims[{index}]");
        let name = format!("{path}.name");
        if claim.name.is_empty() {
            problems.required(name, "");
        } else if !seen.insert(&claim.name) {
            problems.duplicate(name, &claim.name);
        } else {
            problems.reasons(name, &claim.name, names::dns_label(&claim.name));
        }
        let (by_name, by_template) = (
            &claim.resource_claim_name,
            &claim.resource_claim_template_name,
        );
        match (by_name, by_template) {
            (Some(_), Some(_)) => {
                let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                problems.invalid(path.as_str(), claim, detail);
            }
            (None, None) => {
                let detail =
                    "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                problems.invalid(path.as_str(), claim, detail);
            }
            _ => {}
        }
        for (field, value) in [
            ("resourceClaimName", by_name),
            ("resourceClaimTemplateName", by_template),
        ] {
            if let Some(value) = value {
                let reasons = names::dns_subdomain(value);
                problems.reasons(format!("{path}.{field}"), value, reasons);
            }
        }
    }
}

/// A token volume needs a service account.
fn check_token_volumes(spec: &PodSpec, problems: &mut Problems) {
    if text(&spec.service_account_name).is_some() {
        return;
    }
    for (index, volume) in list(&spec.volumes).iter().enumerate() {
        let sources = volume.projected.iter().flat_map(|p| list(&p.sources));
        for (at, source) in sources.enumerate() {
            if source.service_account_token.is_some() {
                problems.forbidden(
                    format!("spec.volumes[{index}].projected.sources[{at}].serviceAccountToken"),
                    "must not be specified when serviceAccountName is not set",
                );
            }
        }
    }
}

fn check_dns_config(config: Option<&PodDNSConfig>, bare: bool, problems: &mut Problems) {
    let path = "spec.dnsConfig";
    let Some(config) = config else {
        if bare {
            problems.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        return;
    };
    let servers = list(&config.nameservers);
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
    let searches = list(&config.searches);
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
    for (index, option) in list(&config.options).iter().enumerate() {
        if plain(&option.name).is_empty() {
            problems.required(format!("{path}.options[{index}]"), "must not be empty");
        }
    }
}

fn check_host_aliases(spec: &PodSpec, problems: &mut Problems) {
    for (index, alias) in list(&spec.host_aliases).iter().enumerate() {
        let path = format!("spec.hostAliases[{index}]");
        problems.reasons(format!("{path}.ip"), &alias.ip, names::ip(&alias.ip));
        for (at, name) in list(&alias.hostnames).iter().enumerate() {
            let reasons = names::dns_subdomain(name);
            problems.reasons(format!("{path}.hostnames[{at}]"), name, reasons);
        }
    }
}
