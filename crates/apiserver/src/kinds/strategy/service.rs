//! The strategy of Services. Services are API objects only, without a data plane; addresses and ports are allocated so that
//! clients see what they expect.
//!
//! In:    the Service in the request, and the stored one
//! Out:   the Service with upstream's defaults: fields that its type does not have are dropped, allocated values are kept
//! Calls: `strategy`
//! Holds: pure; `admission/service` allocates the addresses and ports
//! Upstream: pkg/apis/core/v1/defaults.go (SetDefaults_Service), pkg/registry/core/service/strategy.go (dropTypeDependentFields),
//!           storage/storage.go (patchAllocatedValues, normalizeClusterIPs) (1.36); differences: one family of addresses, IPv4

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::base::object::{as_map, fill, fill_text, list, list_mut, map_mut, number, text};

const AFFINITY_SECONDS: i32 = 10_800;

fn kind(service: &Value) -> &str {
    match text(service, "/spec/type") {
        "" => "ClusterIP",
        kind => kind,
    }
}

/// Whether the Service has node ports.
pub(crate) fn has_node_ports(service: &Value) -> bool {
    ["LoadBalancer", "NodePort"].contains(&kind(service))
}

/// Whether the Service has a health check node port.
pub(crate) fn has_health_check(service: &Value) -> bool {
    kind(service) == "LoadBalancer" && text(service, "/spec/externalTrafficPolicy") == "Local"
}

/// Whether the Service has a cluster IP, `None` included.
pub(crate) fn has_address(service: &Value) -> bool {
    kind(service) != "ExternalName"
}

fn is_external(service: &Value) -> bool {
    let ips = !list(service, "/spec/externalIPs").is_empty();
    has_node_ports(service) || (kind(service) == "ClusterIP" && ips)
}

pub(super) fn default(service: &mut Value) {
    let spec = map_mut(service, "spec");
    fill_text(spec, "type", "ClusterIP");
    fill_text(spec, "sessionAffinity", "None");
    let affinity = spec.get("sessionAffinity").and_then(Value::as_str);
    match affinity {
        Some("None") => drop(spec.remove("sessionAffinityConfig")),
        Some("ClientIP") => {
            let timeout = spec
                .get("sessionAffinityConfig")
                .and_then(|config| config.pointer("/clientIP/timeoutSeconds"));
            if timeout.is_none_or(Value::is_null) {
                let config = json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}});
                spec.insert("sessionAffinityConfig".to_owned(), config);
            }
        }
        _ => {}
    }
    let (addressed, external) = (has_address(service), is_external(service));
    let balancer = kind(service) == "LoadBalancer";
    let spec = map_mut(service, "spec");
    if addressed {
        fill(spec, "internalTrafficPolicy", "Cluster");
        fill(spec, "ipFamilyPolicy", "SingleStack");
        fill(spec, "ipFamilies", json!(["IPv4"]));
        one_address(spec);
    }
    if external {
        fill_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if balancer {
        fill(spec, "allocateLoadBalancerNodePorts", true);
    }
    for port in list_mut(service, "/spec/ports") {
        let target = port.get("port").cloned().unwrap_or_default();
        fill_text(as_map(port), "protocol", "TCP");
        let given = port.get("targetPort");
        if given.is_none_or(|given| given.is_null() || *given == 0 || *given == "") {
            as_map(port).insert("targetPort".to_owned(), target);
        }
    }
    for ingress in list_mut(service, "/status/loadBalancer/ingress") {
        if !text(ingress, "/ip").is_empty() {
            fill(as_map(ingress), "ipMode", "VIP");
        }
    }
}

/// `clusterIP` and `clusterIPs` are kept equal; old clients know the former only.
fn one_address(spec: &mut Map<String, Value>) {
    let empty = |value: Option<&Value>| {
        value.is_none_or(|value| value.is_null() || *value == "" || *value == json!([]))
    };
    match (empty(spec.get("clusterIP")), empty(spec.get("clusterIPs"))) {
        (false, true) => {
            let ip = spec.get("clusterIP").cloned().unwrap_or_default();
            spec.insert("clusterIPs".to_owned(), json!([ip]));
        }
        (true, false) => {
            let first = spec.get("clusterIPs").and_then(|all| all.get(0)).cloned();
            spec.insert("clusterIP".to_owned(), first.unwrap_or_default());
        }
        _ => {}
    }
}

/// Port and protocol, which identify a node port in an update.
fn port_key(port: &Value) -> (i64, String) {
    let protocol = match text(port, "/protocol") {
        "" => "TCP",
        protocol => protocol,
    };
    (number(port, "/port").unwrap_or(0), protocol.to_owned())
}

fn node_port(port: &Value) -> i64 {
    number(port, "/nodePort").unwrap_or(0)
}

/// Before an update: allocated values are kept, fields of another type are dropped.
pub(super) fn update(new: &mut Value, old: &Value) {
    super::keep_status(new, old);
    follow_address(new, old);
    if has_address(old) && has_address(new) {
        keep_address(new, old);
    }
    if has_address(old) && !has_address(new) {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            drop_same(new, old, field);
        }
        drop_same(new, old, "internalTrafficPolicy");
    }
    if has_node_ports(old) && has_node_ports(new) {
        keep_node_ports(new, old);
    }
    if has_node_ports(old) && !has_node_ports(new) {
        drop_node_ports(new, old);
    }
    if has_health_check(old)
        && has_health_check(new)
        && number(new, "/spec/healthCheckNodePort").unwrap_or(0) == 0
        && let Some(port) = old.pointer("/spec/healthCheckNodePort").cloned()
    {
        map_mut(new, "spec").insert("healthCheckNodePort".to_owned(), port);
    }
    if has_health_check(old) && !has_health_check(new) {
        drop_same(new, old, "healthCheckNodePort");
    }
    if kind(old) == "LoadBalancer" && kind(new) != "LoadBalancer" {
        drop_same(new, old, "allocateLoadBalancerNodePorts");
        drop_same(new, old, "loadBalancerClass");
    }
    if kind(new) != "LoadBalancer" && new.pointer("/status/loadBalancer").is_some() {
        map_mut(new, "status").insert("loadBalancer".to_owned(), json!({}));
    }
    if is_external(old) && !is_external(new) {
        drop_same(new, old, "externalTrafficPolicy");
    }
}

/// If an old client changes `clusterIP` alone, `clusterIPs` follows.
fn follow_address(new: &mut Value, old: &Value) {
    let (one, all) = ("/spec/clusterIP", "/spec/clusterIPs");
    let kept_list = new.pointer(all) == old.pointer(all);
    if text(new, one) == text(old, one) || !kept_list {
        return;
    }
    let ip = text(new, one).to_owned();
    let spec = map_mut(new, "spec");
    if ip.is_empty() {
        spec.remove("clusterIPs");
    } else {
        spec.insert("clusterIPs".to_owned(), json!([ip]));
    }
}

fn keep_address(new: &mut Value, old: &Value) {
    for (field, pointer) in [
        ("clusterIP", "/spec/clusterIP"),
        ("clusterIPs", "/spec/clusterIPs"),
    ] {
        let absent = text(new, pointer).is_empty() && list(new, pointer).is_empty();
        if absent && let Some(value) = old.pointer(pointer).cloned() {
            map_mut(new, "spec").insert(field.to_owned(), value);
        }
    }
}

fn keep_node_ports(new: &mut Value, old: &Value) {
    let mut used: BTreeSet<i64> = list(new, "/spec/ports").iter().map(node_port).collect();
    let before: BTreeMap<_, i64> = list(old, "/spec/ports")
        .iter()
        .map(|port| (port_key(port), node_port(port)))
        .collect();
    for port in list_mut(new, "/spec/ports") {
        let held = before.get(&port_key(port)).copied().unwrap_or(0);
        if node_port(port) == 0 && held != 0 && used.insert(held) {
            as_map(port).insert("nodePort".to_owned(), held.into());
        }
    }
}

fn drop_node_ports(new: &mut Value, old: &Value) {
    let before: BTreeSet<i64> = list(old, "/spec/ports").iter().map(node_port).collect();
    let after: BTreeSet<i64> = list(new, "/spec/ports")
        .iter()
        .map(node_port)
        .filter(|port| *port != 0)
        .collect();
    if after.is_subset(&before) {
        for port in list_mut(new, "/spec/ports") {
            as_map(port).remove("nodePort");
        }
    }
}

/// Drops a field that the client left unchanged.
fn drop_same(new: &mut Value, old: &Value, field: &str) {
    let pointer = format!("/spec/{field}");
    if new.pointer(&pointer) == old.pointer(&pointer) {
        map_mut(new, "spec").remove(field);
    }
}
