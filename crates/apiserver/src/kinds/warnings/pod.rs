//! Warnings about pods: fields that are valid, but seldom intended.
//!
//! In:    the pod to be stored, and the stored one
//! Out:   upstream's texts
//! Calls: `warnings`
//! Holds: pure; an update that leaves the spec unchanged gives no warning
//! Upstream: pkg/api/pod/warnings.go, pkg/api/node/util.go, pkg/registry/core/pod/strategy.go WarningsOnUpdate (1.36);
//!           differences: label values of preferred node affinities are not checked here, since validation checks them

use std::collections::{BTreeMap, BTreeSet};

use kubelet_model::quantity::Quantity;
use serde_json::Value;

use super::{at, service};
use crate::base::object::{annotation, list, number, text};

mod paths;

const NODE_LABELS: [(&str, &str); 8] = [
    (
        "beta.kubernetes.io/arch",
        "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
    ),
    (
        "beta.kubernetes.io/os",
        "deprecated since v1.14; use \"kubernetes.io/os\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    (
        "node-role.kubernetes.io/master",
        "use \"node-role.kubernetes.io/control-plane\" instead",
    ),
];

const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];

const VOLUMES: [(&str, &str); 9] = [
    (
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    (
        "gitRepo",
        "deprecated in v1.11, and disabled by default in v1.33+",
    ),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_OF: &str = "container.seccomp.security.alpha.kubernetes.io/";

pub(super) fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let generation = |pod: &Value| number(pod, "/metadata/generation");
    if old.is_some_and(|old| generation(old) == generation(new)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    node_labels(new, &mut found);
    spreading(new, &mut found);
    for (key, why) in ANNOTATIONS {
        if annotation(new, key).is_some() {
            found.push(format!("metadata.annotations[{key}]: {why}"));
        }
    }
    for (index, volume) in list(new, "/spec/volumes").iter().enumerate() {
        for (kind, why) in VOLUMES {
            if volume.get(kind).is_some() {
                // Quirk: pkg/api/pod/warnings.go names the field by its Go name.
                let kind = if kind == "storageos" {
                    "storageOS"
                } else {
                    kind
                };
                found.push(format!("{}.{kind}: {why}", at("spec", "volumes", index)));
            }
        }
    }
    found.extend(paths::overlaps(list(new, "/spec/volumes")));
    repeated(new, &mut found);
    for resource in ["memory", "ephemeral-storage"] {
        let overhead = new.pointer("/spec/overhead");
        fraction(overhead, "spec.overhead", resource, &mut found);
    }
    let has_profile = |of: &Value| of.pointer("/securityContext/seccompProfile").is_some();
    if annotation(new, SECCOMP).is_some() && !new.get("spec").is_some_and(has_profile) {
        found.push(seccomp(SECCOMP));
    }
    for (path, container) in containers(new) {
        let key = format!("{SECCOMP_OF}{}", text(container, "/name"));
        if annotation(new, &key).is_some() && !has_profile(container) {
            found.push(seccomp(&key));
        }
        fractions(&path, container, &mut found);
        variables(&path, container, &mut found);
    }
    ports(new, &mut found);
    if number(new, "/spec/terminationGracePeriodSeconds").is_some_and(|grace| grace < 0) {
        let why = "must be >= 0; negative values are invalid and will be treated as 1";
        found.push(format!("spec.terminationGracePeriodSeconds: {why}"));
    }
    affinities(new, &mut found);
    for (index, server) in list(new, "/spec/dnsConfig/nameservers").iter().enumerate() {
        let path = at("spec.dnsConfig", "nameservers", index);
        found.extend(service::address(&path, server.as_str().unwrap_or_default()));
    }
    for (index, alias) in list(new, "/spec/hostAliases").iter().enumerate() {
        let path = format!("{}.ip", at("spec", "hostAliases", index));
        found.extend(service::address(&path, text(alias, "/ip")));
    }
    found
}

fn seccomp(key: &str) -> String {
    format!(
        "metadata.annotations[{key}]: non-functional in v1.27+; use the \"seccompProfile\" field instead"
    )
}

/// All containers with their paths, in upstream's order.
fn containers(pod: &Value) -> Vec<(String, &Value)> {
    let kinds = ["initContainers", "containers", "ephemeralContainers"];
    let of = |kind: &'static str| {
        let all = list(pod, &format!("/spec/{kind}")).iter().enumerate();
        all.map(move |(index, one)| (at("spec", kind, index), one))
    };
    kinds.into_iter().flat_map(of).collect()
}

/// The warning about a deprecated node label.
pub(super) fn label_problem(key: &str) -> Option<&'static str> {
    let found = NODE_LABELS.iter().find(|(known, _)| *known == key);
    found.map(|(_, why)| *why)
}

fn node_labels(pod: &Value, found: &mut Vec<String>) {
    let selector = pod.pointer("/spec/nodeSelector").and_then(Value::as_object);
    for key in selector.into_iter().flat_map(|selector| selector.keys()) {
        if let Some(why) = label_problem(key) {
            found.push(format!("spec.nodeSelector[{key}]: {why}"));
        }
    }
    let affinity = "spec.affinity.nodeAffinity";
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let root = format!("/{}", affinity.replace('.', "/"));
    let terms = list(pod, &format!("{root}/{required}/nodeSelectorTerms"));
    let terms = terms.iter().enumerate().map(|(index, term)| {
        let path = at(
            &format!("{affinity}.{required}"),
            "nodeSelectorTerms",
            index,
        );
        (path, Some(term))
    });
    let weighed = list(pod, &format!("{root}/{preferred}")).iter().enumerate();
    let weighed = weighed.map(|(index, term)| {
        let path = format!("{}.preference", at(affinity, preferred, index));
        (path, term.get("preference"))
    });
    for (path, term) in terms.chain(weighed) {
        expressions(&path, term, found);
    }
}

/// Deprecated labels in a node selector term.
pub(super) fn expressions(path: &str, term: Option<&Value>, found: &mut Vec<String>) {
    let expressions = term.map_or(&[][..], |term| list(term, "/matchExpressions"));
    for (index, expression) in expressions.iter().enumerate() {
        let key = text(expression, "/key");
        if let Some(why) = label_problem(key) {
            let path = at(path, "matchExpressions", index);
            found.push(format!("{path}.key: {key} is {why}"));
        }
    }
}

const NO_POD: &str = "a null labelSelector results in matching no pod";

fn spreading(pod: &Value, found: &mut Vec<String>) {
    for (index, one) in list(pod, "/spec/topologySpreadConstraints")
        .iter()
        .enumerate()
    {
        let path = at("spec", "topologySpreadConstraints", index);
        let key = text(one, "/topologyKey");
        if let Some(why) = label_problem(key) {
            found.push(format!("{path}.topologyKey: {key} is {why}"));
        }
        if one.get("labelSelector").is_none() {
            found.push(format!("{path}.labelSelector: {NO_POD}"));
        }
    }
}

fn affinities(pod: &Value, found: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        for (when, inner) in [("required", ""), ("preferred", "podAffinityTerm.")] {
            let name = format!("{when}DuringSchedulingIgnoredDuringExecution");
            let terms = list(pod, &format!("/spec/affinity/{kind}/{name}"));
            for (index, term) in terms.iter().enumerate() {
                let selector = format!("/{}labelSelector", inner.replace('.', "/"));
                if term.pointer(&selector).is_none() {
                    let path = at(&format!("spec.affinity.{kind}"), &name, index);
                    found.push(format!("{path}.{inner}labelSelector: {NO_POD}"));
                }
            }
        }
    }
}

/// Duplicate addresses and names, and empty ones.
fn repeated(pod: &Value, found: &mut Vec<String>) {
    for (kind, field) in [("hostAliases", "ip"), ("imagePullSecrets", "name")] {
        let mut seen = BTreeSet::new();
        for (index, item) in list(pod, &format!("/spec/{kind}")).iter().enumerate() {
            let value = text(item, &format!("/{field}"));
            if !seen.insert(value) {
                let path = at("spec", kind, index);
                found.push(format!("{path}.{field}: duplicate {field} {value:?}"));
            }
        }
    }
    for (index, item) in list(pod, "/spec/imagePullSecrets").iter().enumerate() {
        if text(item, "/name").is_empty() {
            let path = at("spec", "imagePullSecrets", index);
            found.push(format!("{path}.name: invalid empty name \"\""));
        }
    }
}

fn fractions(path: &str, container: &Value, found: &mut Vec<String>) {
    for resource in ["memory", "ephemeral-storage"] {
        for kind in ["limits", "requests"] {
            let amounts = container.pointer(&format!("/resources/{kind}"));
            fraction(
                amounts,
                &format!("{path}.resources.{kind}"),
                resource,
                found,
            );
        }
    }
}

/// A quantity that is not a whole number.
pub(super) fn fraction(
    amounts: Option<&Value>,
    path: &str,
    resource: &str,
    found: &mut Vec<String>,
) {
    let given = amounts.and_then(|amounts| amounts.get(resource));
    let given = given.and_then(Value::as_str).unwrap_or_default();
    let amount = given.parse::<Quantity>();
    if amount.is_ok_and(|amount| amount.milli_value() % 1000 != 0) {
        found.push(format!(
            "{path}[{resource}]: fractional byte value {given:?} is invalid, must be an integer"
        ));
    }
}

fn variables(path: &str, container: &Value, found: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (index, item) in list(container, "/env").iter().enumerate() {
        let (name, value) = (text(item, "/name"), text(item, "/value"));
        let own = format!("$({name})");
        let builds_on = item.get("valueFrom").is_none() && value != own && value.contains(&own);
        if !seen.insert(name) && !builds_on {
            found.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                at(path, "env", index)
            ));
        }
    }
}

fn ports(pod: &Value, found: &mut Vec<String>) {
    let mut by_port: BTreeMap<(i64, &str), Vec<(String, &Value)>> = BTreeMap::new();
    let host = |port: &Value| number(port, "/hostPort").unwrap_or(0);
    for (path, container) in containers(pod) {
        for (index, port) in list(container, "/ports").iter().enumerate() {
            let path = at(&path, "ports", index);
            let ip = text(port, "/hostIP");
            let (own, protocol) = (
                number(port, "/containerPort").unwrap_or(0),
                text(port, "/protocol"),
            );
            if !ip.is_empty() && host(port) == 0 {
                let name = text(port, "/name");
                found.push(format!(
                    "{path}: hostIP set without hostPort: {{Name:{name} HostPort:0 ContainerPort:{own} Protocol:{protocol} HostIP:{ip}}}"
                ));
            }
            let others = by_port.entry((own, protocol)).or_default();
            for (other_path, other) in others.iter() {
                let other_ip = text(other, "/hostIP");
                let how = if ip == other_ip && host(port) == host(other) {
                    "duplicate"
                } else if host(port) == 0 || host(other) == 0 {
                    "overlapping"
                } else if host(port) == host(other) && ip.is_empty() != other_ip.is_empty() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                found.push(format!("{path}: {how} port definition with {other_path}"));
            }
            others.push((path, port));
        }
    }
    port_names(pod, found);
}

fn port_names(pod: &Value, found: &mut Vec<String>) {
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    for (path, container) in containers(pod) {
        for (index, port) in list(container, "/ports").iter().enumerate() {
            let (name, path) = (text(port, "/name"), at(&path, "ports", index));
            match names.get(name) {
                _ if name.is_empty() => {}
                Some(other) => found.push(format!(
                    "{path}: duplicate port name {name:?} with {other}, services and probes that select ports by name will use {other}"
                )),
                None => drop(names.insert(name, path)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
