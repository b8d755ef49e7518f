//! The downward API: fields of a pod and resources of its containers as text.
//!
//! In:    a pod, a field path or a resource with its divisor, the node
//! Out:   the text, or upstream's error
//! Calls: env.rs, projected.rs
//! Holds: a volume sees only what never changes while the pod runs, and its labels and annotations
//! Upstream: pkg/fieldpath/fieldpath.go, pkg/api/v1/resource/helpers.go, pkg/kubelet/kubelet_resources.go,
//!           pkg/kubelet/kubelet_pods.go (podFieldSelectorRuntimeValue); differences: a key of a label is not checked again

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1;
use kubelet_model::node::NodeView;
use kubelet_model::pod::Pod;
use kubelet_model::quantity::Quantity;

use crate::resources::{Amounts, PodLevel, container_limits, container_requests};

#[cfg(test)]
mod tests;

/// The pod's addresses: at most one of each family, the node's family first.
pub fn ordered_pod_ips(pod_ips: &[String], node: &NodeView) -> Vec<String> {
    let node_is_v6 = node
        .ips
        .first()
        .is_some_and(|ip| matches!(ip.parse(), Ok(IpAddr::V6(_))));
    let parsed: Vec<IpAddr> = pod_ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    let first = |v6: bool| parsed.iter().find(|ip| ip.is_ipv6() == v6);
    [first(node_is_v6), first(!node_is_v6)]
        .into_iter()
        .flatten()
        .map(ToString::to_string)
        .collect()
}

fn host_ips(node: &NodeView) -> Result<Vec<String>, String> {
    let parsed: Vec<IpAddr> = node.ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    let Some(first) = parsed.first() else {
        return Err("host IP unknown; known addresses: []".to_owned());
    };
    let other = parsed.iter().find(|ip| ip.is_ipv6() != first.is_ipv6());
    Ok(std::iter::once(first)
        .chain(other)
        .map(ToString::to_string)
        .collect())
}

/// A field of the pod as a variable has it.
pub(crate) fn env_field(
    pod: &Pod,
    node: &NodeView,
    pod_ips: &[String],
    field: &v1::ObjectFieldSelector,
) -> Result<String, String> {
    let version = field.api_version.as_deref().unwrap_or("v1");
    if version != "v1" {
        return Err(format!("unsupported pod version: {version}"));
    }
    let spec = pod.spec();
    let path = field.field_path.as_str();
    if let Some((map, _)) = subscript(path) {
        return match map {
            "metadata.annotations" | "metadata.labels" => metadata_field(pod, path),
            _ => Err(format!("field label does not support subscript: {path}")),
        };
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let pod_ips = ordered_pod_ips(pod_ips, node);
    Ok(match path {
        "spec.nodeName" | "spec.host" => text(&spec.node_name),
        "spec.serviceAccountName" => text(&spec.service_account_name),
        "status.hostIP" => host_ips(node)?.into_iter().next().unwrap_or_default(),
        "status.hostIPs" => host_ips(node)?.join(","),
        "status.podIP" => pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => pod_ips.join(","),
        "metadata.annotations"
        | "metadata.labels"
        | "metadata.name"
        | "metadata.namespace"
        | "metadata.uid"
        | "spec.restartPolicy"
        | "spec.schedulerName"
        | "status.phase" => metadata_field(pod, path)?,
        _ => return Err(format!("field label not supported: {path}")),
    })
}

/// A field of the pod's metadata as a volume has it.
pub(crate) fn metadata_field(pod: &Pod, path: &str) -> Result<String, String> {
    let meta = &pod.object.metadata;
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.annotations" => &meta.annotations,
            "metadata.labels" => &meta.labels,
            _ => return Err(format!("fieldPath {path:?} does not support subscript")),
        };
        let value = map.as_ref().and_then(|map| map.get(key));
        return Ok(value.cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.annotations" => map_text(meta.annotations.as_ref()),
        "metadata.labels" => map_text(meta.labels.as_ref()),
        "metadata.name" => pod.full_name.name.to_string(),
        "metadata.namespace" => pod.full_name.namespace.to_string(),
        "metadata.uid" => pod.uid.to_string(),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// Splits `path['key']`; `None` for a path without a key.
fn subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?
        .split_once("['")
        .filter(|(map, _)| !map.is_empty())
}

/// A map as lines `key="value"`, in order of keys.
fn map_text(map: Option<&BTreeMap<String, String>>) -> String {
    let line = |(key, value): (&String, &String)| format!("{key}={}", quoted(value));
    map.into_iter()
        .flatten()
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Go's quoted form of a text.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            _ if is_printable(c) => quoted.push(c),
            '\0'..='\u{7f}' => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            '\u{80}'..='\u{ffff}' => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// The standard library's table of printable characters; a letter before it keeps combining marks from counting as escapes.
fn is_printable(c: char) -> bool {
    c == '\'' || format!("a{c}").escape_debug().count() == 2
}

/// A resource of a container as a variable of `own` has it: in units of the divisor, rounded up. A container without a limit is
/// bound by its pod, else by the node.
pub(crate) fn env_resource(
    pod: &Pod,
    node: &NodeView,
    own: &v1::Container,
    field: &v1::ResourceFieldSelector,
) -> Result<String, String> {
    let name = field.container_name.as_deref().unwrap_or_default();
    let container = if name.is_empty() {
        own
    } else {
        find_container(pod, name)?
    };
    // Quirk: node defaults reach an init container only in its own environment (kubelet_resources.go).
    let has_defaults =
        name.is_empty() || pod.containers().iter().any(|regular| regular.name == name);
    let default = |resource: &str| {
        let allocatable = node.allocatable.get(resource).copied();
        match (allocatable, units(&PodLevel::of(pod).limits, resource)) {
            (None, _) => 0,
            (Some(allocatable), 0) => allocatable,
            (Some(_), of_pod) => of_pod,
        }
    };
    resource_text(container, field, |resource| {
        if has_defaults { default(resource) } else { 0 }
    })
}

/// A resource of a container as a volume has it: one without a limit is bound by the node.
pub(crate) fn volume_resource(
    pod: &Pod,
    node: &NodeView,
    field: &v1::ResourceFieldSelector,
) -> Result<String, String> {
    let name = field.container_name.as_deref().unwrap_or_default();
    let container = find_container(pod, name)?;
    // Quirk: a volume does not look at the pod's own limits (pkg/volume/downwardapi, CollectData).
    resource_text(container, field, |resource| {
        node.allocatable.get(resource).copied().unwrap_or(0)
    })
}

fn find_container<'a>(pod: &'a Pod, name: &str) -> Result<&'a v1::Container, String> {
    pod.declared_container(name)
        .ok_or_else(|| format!("container {name} not found"))
}

fn resource_text(
    container: &v1::Container,
    field: &v1::ResourceFieldSelector,
    default_limit: impl Fn(&str) -> i64,
) -> Result<String, String> {
    let unsupported = || format!("unsupported container resource : {}", field.resource);
    let (kind, resource) = field.resource.split_once('.').ok_or_else(unsupported)?;
    let has_default = matches!(resource, "cpu" | "memory" | "ephemeral-storage");
    if !(has_default || resource.starts_with("hugepages-")) {
        return Err(unsupported());
    }
    let written = match kind {
        "limits" => units(&container_limits(container), resource),
        "requests" => units(&container_requests(container), resource),
        _ => return Err(unsupported()),
    };
    let amount = match written {
        0 if kind == "limits" && has_default => default_limit(resource),
        amount => amount,
    };
    let one = if resource == "cpu" { 1000 } else { 1 };
    let divisor = field
        .divisor
        .as_ref()
        .and_then(|divisor| divisor.0.parse::<Quantity>().ok());
    let divisor = divisor
        .filter(|divisor| !divisor.is_zero())
        .map_or(one, |divisor| in_units(&divisor, resource));
    let amount = i128::from(amount);
    let divisor = i128::from(divisor.max(1));
    Ok((amount / divisor + i128::from(amount % divisor > 0)).to_string())
}

/// Thousandths for cpu, whole units for everything else.
fn in_units(amount: &Quantity, resource: &str) -> i64 {
    if resource == "cpu" {
        amount.milli_value()
    } else {
        amount.value()
    }
}

fn units(list: &Amounts, resource: &str) -> i64 {
    list.get(resource)
        .map_or(0, |amount| in_units(amount, resource))
}
