//! Validates Services: ports, addresses, IP families, and what each type allows.
//!
//! In:    a Service with its defaults and its addresses
//! Out:   problems
//! Calls: the API server
//! Holds: linear
//! Upstream: pkg/apis/core/validation/validation.go (validateService, ValidateServiceUpdate, ValidateServiceClusterIPsRelatedFields,
//!           ValidateLoadBalancerStatus)

use crate::Checked;
use crate::meta;
use crate::names;
use crate::problem::{Problems, list, plain, text};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::{BTreeMap, BTreeSet};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const MAX_AFFINITY_SECONDS: i32 = 86_400;
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const BALANCERS_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";

impl Checked for Service {
    fn check(&self, problems: &mut Problems) {
        let spec = self.spec.clone().unwrap_or_default();
        check_topology(self.metadata.annotations.as_ref(), problems);
        check_type(&spec, problems);
        check_ports(&spec, problems);
        meta::labels("spec.selector", spec.selector.as_ref(), problems);
        check_affinity(&spec, problems);
        check_addresses(&spec, problems);
        for (index, address) in list(&spec.external_ips).iter().enumerate() {
            let path = format!("spec.externalIPs[{index}]");
            let mut reasons = names::strict_ip(address);
            if reasons.is_empty() {
                reasons = names::endpoint_ip(address);
            }
            problems.reasons(path, address, reasons);
        }
        problems.one_of("spec.type", spec.type_.as_deref(), &TYPES);
        check_node_ports(&spec, problems);
        check_source_ranges(self, &spec, problems);
        check_balancer(&spec, problems);
        check_traffic(&spec, problems);
    }

    fn check_change(&self, old: &Self, problems: &mut Problems) {
        let (spec, before) = (
            self.spec.clone().unwrap_or_default(),
            old.spec.clone().unwrap_or_default(),
        );
        if plain(&spec.type_) != "ExternalName" && plain(&before.type_) != "ExternalName" {
            check_address_change(&spec, &before, problems);
            check_family_change(&spec, &before, problems);
        }
        let balancers =
            plain(&spec.type_) == "LoadBalancer" && plain(&before.type_) == "LoadBalancer";
        if balancers && spec.load_balancer_class != before.load_balancer_class {
            let detail = "may not change once set";
            problems.invalid("spec.loadBalancerClass", &spec.load_balancer_class, detail);
        }
        let checked = needs_health_check(&spec) && needs_health_check(&before);
        if checked && spec.health_check_node_port != before.health_check_node_port {
            problems.forbidden("spec.healthCheckNodePort", "field is immutable");
        }
    }

    fn check_status(&self, old: &Self, problems: &mut Problems) {
        let spec = old.spec.clone().unwrap_or_default();
        let status = self.status.as_ref();
        let ingress = status.and_then(|status| status.load_balancer.as_ref());
        let ingress = ingress.map(|held| list(&held.ingress)).unwrap_or_default();
        let path = "status.loadBalancer.ingress";
        if plain(&spec.type_) != "LoadBalancer" && !ingress.is_empty() {
            let detail = "may only be used when `spec.type` is 'LoadBalancer'";
            problems.forbidden(path, detail);
            return;
        }
        for (index, one) in ingress.iter().enumerate() {
            let at = format!("{path}[{index}]");
            let mode = format!("{at}.ipMode");
            match (text(&one.ip), one.ip_mode.as_deref()) {
                (Some(_), None) => problems.required(mode, "must be specified when `ip` is set"),
                (None, Some(_)) => {
                    problems.forbidden(mode, "may not be specified when `ip` is not set");
                }
                (_, given) => problems.known(mode, given, &["Proxy", "VIP"]),
            }
            if let Some(ip) = text(&one.ip) {
                problems.reasons(format!("{at}.ip"), ip, names::strict_ip(ip));
            }
            if let Some(name) = text(&one.hostname) {
                let at = format!("{at}.hostname");
                problems.reasons(at.as_str(), name, names::dns_subdomain(name));
                if names::ip(name).is_empty() {
                    problems.invalid(at, name, "must be a DNS name, not an IP address");
                }
            }
        }
    }
}

/// Whether the Service is headless.
fn is_headless(spec: &ServiceSpec) -> bool {
    matches!(list(&spec.cluster_ips), [one] if one == "None")
}

fn check_topology(annotations: Option<&BTreeMap<String, String>>, problems: &mut Problems) {
    let get = |key: &str| annotations.and_then(|all| all.get(key));
    let (hints, mode) = (
        "service.kubernetes.io/topology-aware-hints",
        "service.kubernetes.io/topology-mode",
    );
    if let (Some(old), Some(new)) = (get(hints), get(mode))
        && old != new
    {
        let detail = format!("must match annotations[{hints}] when both are specified");
        problems.invalid(format!("metadata.annotations[{mode}]"), new, &detail);
    }
}

fn check_type(spec: &ServiceSpec, problems: &mut Problems) {
    let kind = plain(&spec.type_);
    if list(&spec.ports).is_empty() && !is_headless(spec) && kind != "ExternalName" {
        problems.required("spec.ports", "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            problems.invalid("spec.clusterIPs[0]", "None", &detail);
        }
        "ExternalName" => {
            for (field, used) in [
                ("clusterIPs", !list(&spec.cluster_ips).is_empty()),
                ("ipFamilies", !list(&spec.ip_families).is_empty()),
                ("ipFamilyPolicy", spec.ip_family_policy.is_some()),
            ] {
                if used {
                    let detail = "may not be set for ExternalName services";
                    problems.forbidden(format!("spec.{field}"), detail);
                }
            }
            let name = plain(&spec.external_name);
            let name = name.strip_suffix('.').unwrap_or(name);
            problems.required_name("spec.externalName", name, names::dns_subdomain);
        }
        _ => {}
    }
}

fn check_ports(spec: &ServiceSpec, problems: &mut Problems) {
    let ports = list(&spec.ports);
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        let name = plain(&port.name);
        if name.is_empty() {
            if ports.len() > 1 {
                problems.required(format!("{path}.name"), "");
            }
        } else {
            problems.reasons(format!("{path}.name"), name, names::dns_label(name));
            if !seen.insert(name) {
                problems.duplicate(format!("{path}.name"), name);
            }
        }
        check_port(&path, port, problems);
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let protocol = plain(&port.protocol);
        if !seen.insert((protocol, port.port)) {
            let shown = serde_json::json!({"Name": "", "Protocol": protocol, "AppProtocol": null,
                "Port": port.port, "TargetPort": 0, "NodePort": 0});
            problems.duplicate(format!("spec.ports[{index}]"), shown);
        }
    }
}

fn check_port(path: &str, port: &ServicePort, problems: &mut Problems) {
    let reasons = names::port_number(port.port);
    problems.reasons(format!("{path}.port"), port.port, reasons);
    problems.one_of(
        format!("{path}.protocol"),
        port.protocol.as_deref(),
        &PROTOCOLS,
    );
    let at = format!("{path}.targetPort");
    match &port.target_port {
        Some(IntOrString::Int(number)) => {
            problems.reasons(at, number, names::port_number(*number));
        }
        Some(IntOrString::String(name)) => problems.reasons(at, name, names::port_name(name)),
        None => problems.reasons(at, 0, names::port_number(0)),
    }
    if let Some(protocol) = &port.app_protocol {
        let reasons = names::label_key(protocol);
        problems.reasons(format!("{path}.appProtocol"), protocol, reasons);
    }
}

fn check_affinity(spec: &ServiceSpec, problems: &mut Problems) {
    let affinity = spec.session_affinity.as_deref();
    problems.one_of("spec.sessionAffinity", affinity, &["ClientIP", "None"]);
    let path = "spec.sessionAffinityConfig";
    let config = spec.session_affinity_config.as_ref();
    match affinity {
        Some("None") if config.is_some() => {
            problems.forbidden(path, "must not be set when session affinity is None");
        }
        Some("ClientIP") => {
            let needed = "when session affinity type is ClientIP";
            let Some(config) = config else {
                problems.required(path, needed);
                return;
            };
            let Some(client) = &config.client_ip else {
                problems.required(format!("{path}.clientIP"), needed);
                return;
            };
            let at = format!("{path}.clientIP.timeoutSeconds");
            match client.timeout_seconds {
                None => problems.required(at, needed),
                Some(seconds) if !(1..=MAX_AFFINITY_SECONDS).contains(&seconds) => {
                    let detail =
                        format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}");
                    problems.invalid(at, seconds, &detail);
                }
                Some(_) => {}
            }
        }
        _ => {}
    }
}

/// Addresses and IP families of a Service, unless its type is ExternalName.
fn check_addresses(spec: &ServiceSpec, problems: &mut Problems) {
    if plain(&spec.type_) == "ExternalName" {
        return;
    }
    let (one, all) = (plain(&spec.cluster_ip), list(&spec.cluster_ips));
    let path = "spec.clusterIPs";
    match all.first() {
        None if !one.is_empty() => problems.required(path, ""),
        Some(_) if one.is_empty() => {
            let detail = "must be empty when `clusterIP` is not specified";
            problems.invalid(path, all, detail);
        }
        Some(first) if first != one => {
            problems.invalid(path, all, "first value must match `clusterIP`");
        }
        _ => {}
    }
    let families = list(&spec.ip_families);
    let mut seen = BTreeSet::new();
    for (index, family) in families.iter().enumerate() {
        let at = format!("spec.ipFamilies[{index}]");
        problems.known(at.as_str(), Some(family), &["IPv4", "IPv6"]);
        if !seen.insert(family) {
            problems.duplicate(at, family);
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    let policy = spec.ip_family_policy.as_deref();
    problems.known("spec.ipFamilyPolicy", policy, &policies);
    let before = problems.len();
    for (index, address) in all.iter().enumerate() {
        if index == 0 && address == "None" {
            if all.len() > 1 {
                problems.invalid(path, all, "'None' must be the first and only value");
            }
            continue;
        }
        let reasons = names::strict_ip(address);
        problems.reasons(format!("{path}[{index}]"), address, reasons);
    }
    if problems.len() == before {
        check_families(all, families, problems);
    }
    if all.len() > 2 {
        problems.invalid(path, all, "may only hold up to 2 values");
    }
}

fn check_families(addresses: &[String], families: &[String], problems: &mut Problems) {
    let path = "spec.clusterIPs";
    if addresses.len() > 1 && !names::is_dual_stack(addresses.iter().map(String::as_str)) {
        let detail = "may specify no more than one IP for each IP family";
        problems.invalid(path, addresses, detail);
    }
    if addresses.first().is_some_and(|first| first == "None") {
        return;
    }
    for (index, (address, family)) in addresses.iter().zip(families).enumerate() {
        let wanted = match family.as_str() {
            "IPv4" if names::is_ipv6(address) => "IPv4",
            "IPv6" if !names::is_ipv6(address) => "IPv6",
            _ => continue,
        };
        let detail = format!("expected an {wanted} value as indicated by `ipFamilies[{index}]`");
        problems.invalid(format!("{path}[{index}]"), address, &detail);
    }
}

fn check_node_ports(spec: &ServiceSpec, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for (index, port) in list(&spec.ports).iter().enumerate() {
        let Some(number) = port.node_port.filter(|number| *number != 0) else {
            continue;
        };
        let at = format!("spec.ports[{index}].nodePort");
        if plain(&spec.type_) == "ClusterIP" {
            let detail = "may not be used when `type` is 'ClusterIP'";
            problems.forbidden(at.as_str(), detail);
        }
        if !seen.insert((plain(&port.protocol), number)) {
            problems.duplicate(at, number);
        }
    }
}

fn check_source_ranges(service: &Service, spec: &ServiceSpec, problems: &mut Problems) {
    let balancer = plain(&spec.type_) == "LoadBalancer";
    let ranges = list(&spec.load_balancer_source_ranges);
    let annotations = service.metadata.annotations.as_ref();
    if !ranges.is_empty() {
        let path = "spec.LoadBalancerSourceRanges";
        if !balancer {
            problems.forbidden(path, BALANCERS_ONLY);
        }
        for (index, range) in ranges.iter().enumerate() {
            let range = range.trim();
            problems.reasons(format!("{path}[{index}]"), range, names::strict_cidr(range));
        }
    } else if let Some(ranges) = annotations.and_then(|all| all.get(SOURCE_RANGES)) {
        let path = format!("metadata.annotations[{SOURCE_RANGES}]");
        if !balancer {
            problems.forbidden(path.as_str(), BALANCERS_ONLY);
        }
        for range in ranges.split(',').map(str::trim) {
            if !ranges.trim().is_empty() {
                problems.reasons(path.as_str(), range, names::strict_cidr(range));
            }
        }
    }
}

fn check_balancer(spec: &ServiceSpec, problems: &mut Problems) {
    let balancer = plain(&spec.type_) == "LoadBalancer";
    match spec.allocate_load_balancer_node_ports {
        Some(_) if !balancer => {
            problems.forbidden("spec.allocateLoadBalancerNodePorts", BALANCERS_ONLY);
        }
        None if balancer => problems.required("allocateLoadBalancerNodePorts", ""),
        _ => {}
    }
    if let Some(class) = &spec.load_balancer_class {
        let path = "spec.loadBalancerClass";
        if balancer {
            problems.reasons(path, class, names::label_key(class));
        } else {
            problems.forbidden(path, BALANCERS_ONLY);
        }
    }
}

/// Whether the Service needs a health check node port.
fn needs_health_check(spec: &ServiceSpec) -> bool {
    plain(&spec.type_) == "LoadBalancer" && plain(&spec.external_traffic_policy) == "Local"
}

fn check_traffic(spec: &ServiceSpec, problems: &mut Problems) {
    let kind = plain(&spec.type_);
    let external = ["LoadBalancer", "NodePort"].contains(&kind)
        || (kind == "ClusterIP" && !list(&spec.external_ips).is_empty());
    let path = "spec.externalTrafficPolicy";
    let policy = plain(&spec.external_traffic_policy);
    if external {
        problems.one_of(path, Some(policy), &["Cluster", "Local"]);
    } else if !policy.is_empty() {
        let detail = "may only be set for externally-accessible services";
        problems.invalid(path, policy, detail);
    }
    let path = "spec.healthCheckNodePort";
    let port = spec.health_check_node_port.unwrap_or_default();
    match (needs_health_check(spec), port) {
        (true, 0) => problems.required(path, ""),
        (true, port) => problems.reasons(path, port, names::port_number(port)),
        (false, 0) => {}
        (false, port) => {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            problems.invalid(path, port, detail);
        }
    }
    let path = "spec.internalTrafficPolicy";
    match spec.internal_traffic_policy.as_deref() {
        None if ["NodePort", "LoadBalancer", "ClusterIP"].contains(&kind) => {
            problems.required(path, "");
        }
        given => problems.known(path, given, &["Cluster", "Local"]),
    }
    let known = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    let given = spec.traffic_distribution.as_deref();
    problems.known("spec.trafficDistribution", given, &known);
}

fn check_address_change(new: &ServiceSpec, old: &ServiceSpec, problems: &mut Problems) {
    let (now, then) = (list(&new.cluster_ips), list(&old.cluster_ips));
    if is_headless(new) && is_headless(old) {
        return;
    }
    let once = "may not change once set";
    let path = "spec.clusterIPs";
    if now.len() == then.len() {
        for (index, (now_one, then_one)) in now.iter().zip(then).enumerate() {
            if now_one != then_one {
                problems.invalid(format!("{path}[{index}]"), now, once);
            }
        }
        return;
    }
    if now.is_empty() {
        problems.invalid(
            format!("{path}[0]"),
            now,
            "primary clusterIP can not be unset",
        );
    } else if !then.is_empty() && now.first() != then.first() {
        problems.invalid(format!("{path}[0]"), now, once);
    }
    let released = then.len() > now.len() && now.len() == 1;
    if released && new.ip_family_policy.as_deref() != Some("SingleStack") {
        let detail = "must be set to 'SingleStack' when releasing the secondary clusterIP";
        problems.invalid("spec.ipFamilyPolicy", &new.ip_family_policy, detail);
    }
}

fn check_family_change(new: &ServiceSpec, old: &ServiceSpec, problems: &mut Problems) {
    if is_headless(new) || is_headless(old) {
        return;
    }
    let (now, then) = (list(&new.ip_families), list(&old.ip_families));
    let path = "spec.ipFamilies[0]";
    let once = "may not change once set";
    if now.len() == then.len() {
        if now != then {
            problems.invalid(path, now, once);
        }
        return;
    }
    if then.len() > now.len() && list(&new.cluster_ips).is_empty() {
        problems.invalid(path, now, "primary ipFamily can not be unset");
    }
    if let (Some(now_first), Some(then_first)) = (now.first(), then.first())
        && now_first != then_first
    {
        problems.invalid(path, list(&new.cluster_ips), once);
    }
    let released = then.len() > now.len() && now.len() == 1;
    if released && new.ip_family_policy.as_deref() != Some("SingleStack") {
        let detail = "must be set to 'SingleStack' when releasing the secondary ipFamily";
        problems.invalid("spec.ipFamilyPolicy", &new.ip_family_policy, detail);
    }
}
