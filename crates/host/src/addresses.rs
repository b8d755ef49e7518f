//! Network addresses of the machine, and the interfaces of its default routes.
//!
//! In:    the kernel's list of interfaces; `/proc/net/route`, `/proc/net/ipv6_route`, `/etc/hosts` below a root
//! Out:   [`InterfaceAddress`]es in the kernel's order, the interfaces of default routes, the addresses of a name
//! Calls: act/node/node_facts.rs, once at start
//! Holds: no DNS queries; a stand-in root has no interfaces
//! Upstream: staging/src/k8s.io/apimachinery/pkg/util/net/interface.go

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::net::if_::InterfaceFlags;

use crate::HostRoot;
use crate::files::read_text_bounded;

/// One address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The interface's name.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
    /// Whether the interface is up.
    pub is_up: bool,
    /// Loopback or point-to-point: does not lead to a network of the node.
    pub is_local_link: bool,
    /// Whether it is the loopback interface.
    pub is_loopback: bool,
}

/// The interfaces of default routes, best first, by address family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DefaultRoutes {
    /// IPv4.
    pub v4: Vec<String>,
    /// IPv6.
    pub v6: Vec<String>,
}

/// The addresses of all interfaces; none below a stand-in root.
///
/// # Errors
/// The system call failed.
pub fn interface_addresses(root: &HostRoot) -> io::Result<Vec<InterfaceAddress>> {
    if root.is_stand_in() {
        return Ok(Vec::new());
    }
    let found = nix::ifaddrs::getifaddrs()?;
    Ok(found
        .filter_map(|entry| {
            let storage = entry.address?;
            let v4 = storage.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            let v6 = || storage.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()));
            Some(InterfaceAddress {
                address: v4.or_else(v6)?,
                interface: entry.interface_name,
                is_up: entry.flags.contains(InterfaceFlags::IFF_UP),
                is_loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
                is_local_link: entry
                    .flags
                    .intersects(InterfaceFlags::IFF_LOOPBACK | InterfaceFlags::IFF_POINTOPOINT),
            })
        })
        .collect())
}

/// The default routes; `None` if the kernel has no routing table.
pub fn default_routes(root: &HostRoot) -> Option<DefaultRoutes> {
    let read = |path| read_text_bounded(&root.join(path), 1 << 20);
    let v4 = read("/proc/net/route").ok()?;
    let v6 = read("/proc/net/ipv6_route").unwrap_or_default();
    Some(DefaultRoutes {
        v4: v4.lines().skip(1).filter_map(v4_default).collect(),
        v6: v6.lines().filter_map(v6_default).collect(),
    })
}

/// `interface destination gateway …`, addresses in hexadecimal.
fn v4_default(line: &str) -> Option<String> {
    let mut fields = line.split_whitespace();
    let interface = fields.next()?;
    (fields.next()? == "00000000").then(|| interface.to_owned())
}

/// `destination prefix source prefix gateway metric references uses flags interface`. An entry without a gateway belongs to
/// loopback.
fn v6_default(line: &str) -> Option<String> {
    const NOWHERE: &str = "00000000000000000000000000000000";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [destination, _, _, _, gateway, .., interface] = fields.as_slice() else {
        return None;
    };
    (*destination == NOWHERE && *gateway != NOWHERE).then(|| (*interface).to_owned())
}

/// The addresses of a name in `/etc/hosts`, in the order of the file.
pub fn addresses_in_hosts_file(root: &HostRoot, name: &str) -> Vec<IpAddr> {
    let text = read_text_bounded(&root.join("/etc/hosts"), 1 << 20).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let line = line.split_once('#').map_or(line, |(text, _)| text);
            let mut fields = line.split_whitespace();
            let address: IpAddr = fields.next()?.parse().ok()?;
            fields
                .any(|alias| alias.eq_ignore_ascii_case(name))
                .then_some(address)
        })
        .collect()
}

/// A global unicast address in Go's sense: includes private addresses, excludes loopback, link-local, multicast and broadcast.
pub fn is_global_unicast(address: IpAddr) -> bool {
    !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_multicast()
        && !is_link_local(address)
        && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// `169.254.0.0/16`, `fe80::/10`.
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => Ipv6Addr::is_unicast_link_local(&v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDir;

    #[test]
    fn the_machine_has_its_loopback_address_and_a_stand_in_has_none() {
        let found = interface_addresses(&HostRoot::real()).unwrap();
        let loopback = found.iter().find(|a| a.is_loopback).unwrap();
        assert!(loopback.address.is_loopback() && loopback.is_up && loopback.is_local_link);
        let dir = TestDir::new();
        assert_eq!(
            interface_addresses(&HostRoot::at(dir.path())).unwrap(),
            Vec::new()
        );
    }

    #[test]
    fn default_routes_and_names_are_read_from_their_files() {
        let dir = TestDir::new();
        let root = HostRoot::at(dir.path());
        assert_eq!(default_routes(&root), None);
        std::fs::create_dir_all(root.join("/proc/net")).unwrap();
        std::fs::create_dir_all(root.join("/etc")).unwrap();
        let v4 = "Iface\tDestination\tGateway\tFlags\neth1\t0002000A\t00000000\t0001\neth0\t00000000\t0102000A\t0003\n";
        std::fs::write(root.join("/proc/net/route"), v4).unwrap();
        let zero = "0".repeat(32);
        let gateway = format!("fe80{}1", "0".repeat(27));
        let v6 = format!(
            "{zero} 00 {zero} 00 {gateway} 00000400 1 0 00000003 eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 1 0 00200200 lo\n"
        );
        std::fs::write(root.join("/proc/net/ipv6_route"), v6).unwrap();
        let only = vec!["eth0".to_owned()];
        assert_eq!(
            default_routes(&root),
            Some(DefaultRoutes {
                v4: only.clone(),
                v6: only
            })
        );
        let hosts =
            "127.0.0.1 localhost\n# 10.9.9.9 node\n10.0.0.5\tx NODE # comment\nfd00::5 node\n";
        std::fs::write(root.join("/etc/hosts"), hosts).unwrap();
        assert_eq!(
            addresses_in_hosts_file(&root, "node"),
            ["10.0.0.5", "fd00::5"].map(|a| a.parse::<IpAddr>().unwrap())
        );
    }

    #[test]
    fn only_addresses_that_others_can_reach_are_global() {
        let cases = [
            ("10.0.0.1", true),
            ("127.0.0.2", false),
            ("169.254.1.1", false),
            ("255.255.255.255", false),
            ("fd00::1", true),
            ("fe80::1", false),
            ("::", false),
            ("ff02::1", false),
        ];
        for (address, is_global) in cases {
            assert_eq!(
                is_global_unicast(address.parse().unwrap()),
                is_global,
                "{address}"
            );
        }
    }
}
