//! Warnings about Services, and about addresses in any kind.
//!
//! In:    the Service to be stored, and the stored one
//! Out:   upstream's texts
//! Calls: `warnings`
//! Holds: pure
//! Upstream: pkg/api/service/warnings.go, pkg/registry/core/service/strategy.go, apimachinery/pkg/util/validation/ip.go (1.36);
//!           differences: load balancer source ranges are not checked

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use super::at;
use crate::base::object::{annotation, list, text};

const HINTS: &str = "service.kubernetes.io/topology-aware-hints";

pub(super) fn warnings(new: &Value, _old: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    let (kind, address_wanted) = (text(new, "/spec/type"), text(new, "/spec/clusterIP"));
    let is_external = kind == "ExternalName";
    let is_headless = kind == "ClusterIP" && address_wanted == "None";
    if annotation(new, HINTS).is_some() {
        found.push(format!(
            "annotation {HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    if !address_wanted.is_empty() && address_wanted != "None" && !is_external {
        found.extend(addresses(new, "clusterIPs"));
    }
    let external = list(new, "/spec/externalIPs");
    if is_headless {
        if !text(new, "/spec/loadBalancerIP").is_empty() {
            found.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if !external.is_empty() {
            found.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if text(new, "/spec/sessionAffinity") != "None" {
            found.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    found.extend(addresses(new, "externalIPs"));
    if !external.is_empty() && !is_headless && !is_external {
        let why = "is deprecated and may no longer be implemented in some clusters";
        found.push(format!("spec.externalIPs {why}"));
    }
    found.extend(address(
        "spec.loadBalancerIP",
        text(new, "/spec/loadBalancerIP"),
    ));
    if is_external && !external.is_empty() {
        found.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !is_external && !text(new, "/spec/externalName").is_empty() {
        found
            .push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if text(new, "/spec/trafficDistribution") == "PreferClose" {
        found.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\""
                .to_owned(),
        );
    }
    found
}

fn addresses(service: &Value, field: &str) -> Vec<String> {
    let all = list(service, &format!("/spec/{field}")).iter().enumerate();
    all.filter_map(|(index, one)| {
        address(&at("spec", field, index), one.as_str().unwrap_or_default())
    })
    .collect()
}

/// The warning about an address that is not in canonical form. A text that is no address gives none.
pub(super) fn address(path: &str, written: &str) -> Option<String> {
    match written.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => None,
        Ok(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
            Some(plain) => Some(non_standard(path, written, plain)),
            None => (address.to_string() != written).then(|| {
                format!("{path}: IPv6 address {written:?} should be in RFC 5952 canonical format (\"{address}\")")
            }),
        },
        Err(_) => loose(written).map(|plain| non_standard(path, written, plain)),
    }
}

fn non_standard(path: &str, written: &str, plain: Ipv4Addr) -> String {
    format!("{path}: non-standard IP address {written:?} is invalid: use \"{plain}\"")
}

/// An IPv4 address whose numbers may have leading zeros.
fn loose(written: &str) -> Option<Ipv4Addr> {
    let part = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u8>().ok().filter(|_| digits)
    };
    let parts: Option<Vec<u8>> = written.split('.').map(part).collect();
    let parts: [u8; 4] = parts?.try_into().ok()?;
    Some(parts.into())
}
