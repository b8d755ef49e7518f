//! Which addresses are the node's.
//!
//! In:    `--node-ip`, the node's name, interfaces, default routes, `/etc/hosts`
//! Out:   addresses, primary first: one, or two when two were given; none is a problem, not an error
//! Calls: node_facts.rs
//! Holds: IPv4 goes before IPv6 unless `--node-ip` is `::`
//! Upstream: pkg/kubelet/nodestatus/setters.go (NodeAddress), pkg/kubelet/kubelet_node_status.go (validateNodeIP);
//!           differences: an address that was given but is not the machine's is reported and replaced, not left empty

use std::net::IpAddr;

use kubelet_host::HostRoot;
use kubelet_host::addresses::{
    DefaultRoutes, InterfaceAddress, addresses_in_hosts_file, default_routes, interface_addresses,
    is_global_unicast, is_link_local,
};
use kubelet_model::config::Config;

/// `--node-ip` is not one address, nor one of each family.
#[derive(Debug, thiserror::Error)]
#[error("bad --node-ip {given:?}: {why}")]
pub struct NodeIpError {
    given: String,
    why: &'static str,
}

/// What the choice is made from.
pub(super) struct Surroundings {
    /// Empty where it cannot be known (a stand-in host): then no address is refused for being someone else's.
    pub(super) interfaces: Vec<InterfaceAddress>,
    pub(super) routes: Option<DefaultRoutes>,
    pub(super) named: Vec<IpAddr>,
}

pub(super) fn node_ips(
    config: &Config,
    name: &str,
    root: &HostRoot,
    problems: &mut Vec<String>,
) -> Result<Vec<String>, NodeIpError> {
    let given = parse_node_ip(config.node.node_ip.as_deref().unwrap_or_default())?;
    let interfaces = interface_addresses(root).unwrap_or_else(|error| {
        problems.push(format!("addresses of the machine: {error}"));
        Vec::new()
    });
    let around = Surroundings {
        interfaces,
        routes: default_routes(root),
        named: addresses_in_hosts_file(root, name),
    };
    let chosen = choose(&given, name, &around, problems);
    Ok(chosen.iter().map(ToString::to_string).collect())
}

pub(super) fn parse_node_ip(text: &str) -> Result<Vec<IpAddr>, NodeIpError> {
    let fail = |why| NodeIpError {
        given: text.to_owned(),
        why,
    };
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for part in text.split(',') {
        // Upstream leaves out what does not parse.
        if let Ok(address) = part.trim().parse::<IpAddr>() {
            found.push(address);
        }
    }
    match found.as_slice() {
        [] => Err(fail("no address in it")),
        [_] => Ok(found),
        [first, second] if first.is_ipv4() == second.is_ipv4() => Err(fail(
            "must contain either a single IP or a dual-stack pair of IPs",
        )),
        [first, second] if first.is_unspecified() || second.is_unspecified() => {
            Err(fail("dual-stack node-ip cannot include '0.0.0.0' or '::'"))
        }
        [_, _] => Ok(found),
        _ => Err(fail(
            "must contain either a single IP or a dual-stack pair of IPs",
        )),
    }
}

pub(super) fn choose(
    given: &[IpAddr],
    name: &str,
    around: &Surroundings,
    problems: &mut Vec<String>,
) -> Vec<IpAddr> {
    let is_v4_first = given.first().is_none_or(IpAddr::is_ipv4);
    let wanted: Vec<IpAddr> = given
        .iter()
        .copied()
        .filter(|ip| !ip.is_unspecified())
        .collect();
    if !wanted.is_empty() {
        let bad = wanted.iter().find_map(|ip| around.refusal(*ip));
        match bad {
            None => return wanted,
            Some(why) => problems.push(format!("--node-ip: {why}; another address is looked for")),
        }
    }
    if let Ok(address) = name.parse() {
        return vec![address];
    }
    let named = around
        .named
        .iter()
        .filter(|ip| around.refusal(**ip).is_none());
    let named = named.min_by_key(|ip| ip.is_ipv4() != is_v4_first).copied();
    match named.or_else(|| around.of_interfaces(is_v4_first)) {
        Some(address) => vec![address],
        None => {
            problems.push(format!("can't get ip address of node {name}"));
            Vec::new()
        }
    }
}

impl Surroundings {
    /// Why an address cannot be the node's.
    fn refusal(&self, ip: IpAddr) -> Option<String> {
        let why = if ip.is_loopback() {
            "nodeIP can't be loopback address"
        } else if ip.is_multicast() {
            "nodeIP can't be a multicast address"
        } else if is_link_local(ip) {
            "nodeIP can't be a link-local unicast address"
        } else if ip.is_unspecified() {
            "nodeIP can't be an all zeros address"
        } else if self.interfaces.is_empty() || self.interfaces.iter().any(|i| i.address == ip) {
            return None;
        } else {
            return Some(format!(
                "node IP: \"{ip}\" not found in the host's network interfaces"
            ));
        };
        Some(why.to_owned())
    }

    /// The address of the interface that the default route uses; without a routing table the first that others can reach.
    fn of_interfaces(&self, is_v4_first: bool) -> Option<IpAddr> {
        let families = [is_v4_first, !is_v4_first];
        families.into_iter().find_map(|is_v4| {
            let fits = |found: &&InterfaceAddress| {
                found.is_up && found.address.is_ipv4() == is_v4 && is_global_unicast(found.address)
            };
            let first = |test: &dyn Fn(&InterfaceAddress) -> bool| {
                let found = self
                    .interfaces
                    .iter()
                    .filter(fits)
                    .find(|found| test(found));
                found.map(|found| found.address)
            };
            let Some(routes) = &self.routes else {
                return first(&|found| !found.is_local_link);
            };
            let routes = if is_v4 { &routes.v4 } else { &routes.v6 };
            // A default route over an interface without an address of its own: loopback may hold the node's (routed hosts).
            routes.iter().find_map(|interface| {
                first(&|found| found.interface == *interface)
                    .or_else(|| first(&|found| found.is_loopback))
            })
        })
    }
}
