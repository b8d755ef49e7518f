//! Allocates the cluster IPs and node ports of Services.
//!
//! In:    a Service, all other Services
//! Out:   the Service with its address and its ports, or 422
//! Calls: `admission`
//! Holds: no two Services share a cluster IP, or a node port of one protocol; nothing routes to either
//! Upstream: pkg/registry/core/service/storage/alloc.go (1.36); differences: allocations are read from the other Services,
//!           there is no allocation table

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::base::failure::{Cause, Failure};
use crate::base::object::{self, as_map, list, list_mut, map_mut, number, text};
use crate::kinds::resources::Resource;
use crate::kinds::strategy::service::{has_address, has_health_check, has_node_ports};
use crate::registry::Registry;

/// The node port range.
const NODE_PORTS: std::ops::RangeInclusive<i64> = 30_000..=32_767;

/// What other Services use.
#[derive(Default)]
struct Taken {
    addresses: BTreeSet<String>,
    ports: BTreeSet<(String, i64)>,
}

impl Taken {
    fn by_others(registry: &Registry, service: &Value) -> Self {
        let own = (object::namespace(service), object::name(service));
        let mut taken = Self::default();
        for other in registry.store.list("services/").objects {
            if other.place() == own {
                continue;
            }
            let other = other.value();
            let addresses = list(&other, "/spec/clusterIPs").iter();
            let addresses = addresses.filter_map(Value::as_str).map(str::to_owned);
            taken.addresses.extend(addresses);
            taken
                .addresses
                .insert(text(&other, "/spec/clusterIP").to_owned());
            for port in list(&other, "/spec/ports") {
                taken.ports.extend(node_port(port));
            }
            let health = number(&other, "/spec/healthCheckNodePort");
            taken
                .ports
                .extend(health.map(|port| ("TCP".to_owned(), port)));
        }
        taken
    }
}

/// Protocol and number of a node port.
fn node_port(port: &Value) -> Option<(String, i64)> {
    let number = number(port, "/nodePort").filter(|number| *number != 0)?;
    Some((text(port, "/protocol").to_owned(), number))
}

/// Before a Service is stored.
pub(super) fn admit(
    registry: &Registry,
    resource: &Resource,
    service: &mut Value,
) -> Result<(), Failure> {
    let taken = Taken::by_others(registry, service);
    let mut causes = Vec::new();
    if has_address(service) {
        give_address(service, &taken, &mut causes);
    }
    let balancer_without = service.pointer("/spec/allocateLoadBalancerNodePorts");
    let open = balancer_without != Some(&Value::Bool(false));
    if has_node_ports(service) {
        give_ports(service, &taken, open, &mut causes);
    }
    if has_health_check(service) && number(service, "/spec/healthCheckNodePort").unwrap_or(0) == 0 {
        let mut own: BTreeSet<i64> = BTreeSet::new();
        own.extend(
            list(service, "/spec/ports")
                .iter()
                .filter_map(node_port)
                .map(|port| port.1),
        );
        if let Some(port) = free_port("TCP", &taken, &own) {
            map_mut(service, "spec").insert("healthCheckNodePort".to_owned(), port.into());
        }
    }
    if causes.is_empty() {
        return Ok(());
    }
    Err(Failure::invalid(resource, object::name(service), &causes))
}

/// Allocates the first address of 10.96.0.0/16 that no other Service has.
fn give_address(service: &mut Value, taken: &Taken, causes: &mut Vec<Cause>) {
    let given = text(service, "/spec/clusterIP");
    if !given.is_empty() {
        if given != "None" && taken.addresses.contains(given) {
            let detail = format!("failed to allocate IP {given}: provided IP is already allocated");
            let shown = json!([given]);
            causes.push(Cause::invalid("spec.clusterIPs", &shown, &detail));
        }
        return;
    }
    let mut free = (10..=u16::MAX).map(|n| format!("10.96.{}.{}", n >> 8, n & 0xff));
    if let Some(ip) = free.find(|ip| !taken.addresses.contains(ip)) {
        let spec = map_mut(service, "spec");
        spec.insert("clusterIP".to_owned(), ip.clone().into());
        spec.insert("clusterIPs".to_owned(), json!([ip]));
    }
}

fn give_ports(service: &mut Value, taken: &Taken, open: bool, causes: &mut Vec<Cause>) {
    for (index, port) in list(service, "/spec/ports").iter().enumerate() {
        let Some((protocol, number)) = node_port(port) else {
            continue;
        };
        let field = format!("spec.ports[{index}].nodePort");
        if !NODE_PORTS.contains(&number) {
            let detail = format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                NODE_PORTS.start(),
                NODE_PORTS.end()
            );
            causes.push(Cause::invalid(field, &number.into(), &detail));
        } else if taken.ports.contains(&(protocol, number)) {
            let detail = "provided port is already allocated";
            causes.push(Cause::invalid(field, &number.into(), detail));
        }
    }
    if !open {
        return;
    }
    let mut own: BTreeSet<i64> = list(service, "/spec/ports")
        .iter()
        .filter_map(node_port)
        .map(|port| port.1)
        .collect();
    for port in list_mut(service, "/spec/ports") {
        if node_port(port).is_some() {
            continue;
        }
        let protocol = text(port, "/protocol").to_owned();
        if let Some(number) = free_port(&protocol, taken, &own) {
            own.insert(number);
            as_map(port).insert("nodePort".to_owned(), number.into());
        }
    }
}

fn free_port(protocol: &str, taken: &Taken, own: &BTreeSet<i64>) -> Option<i64> {
    NODE_PORTS
        .clone()
        .find(|port| !own.contains(port) && !taken.ports.contains(&(protocol.to_owned(), *port)))
}
