//! Validates Endpoints.
//!
//! In:    Endpoints with their defaults
//! Out:   problems
//! Calls: the API server
//! Holds: linear
//! Upstream: pkg/apis/core/validation/validation.go (ValidateEndpoints)

use crate::Checked;
use crate::names;
use crate::problem::{Problems, list, plain, text};
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, Endpoints};

impl Checked for Endpoints {
    fn check(&self, problems: &mut Problems) {
        for (index, subset) in list(&self.subsets).iter().enumerate() {
            let path = format!("subsets[{index}]");
            let (ready, others) = (list(&subset.addresses), list(&subset.not_ready_addresses));
            if ready.is_empty() && others.is_empty() {
                problems.required(
                    path.as_str(),
                    "must specify `addresses` or `notReadyAddresses`",
                );
            }
            for (field, addresses) in [("addresses", ready), ("notReadyAddresses", others)] {
                for (index, address) in addresses.iter().enumerate() {
                    check_address(&format!("{path}.{field}[{index}]"), address, problems);
                }
            }
            let ports = list(&subset.ports);
            for (index, port) in ports.iter().enumerate() {
                let path = format!("{path}.ports[{index}]");
                if ports.len() > 1 && plain(&port.name).is_empty() {
                    problems.required(format!("{path}.name"), "");
                }
                check_port(&path, port, problems);
            }
        }
    }
}

fn check_address(path: &str, address: &EndpointAddress, problems: &mut Problems) {
    let at = format!("{path}.ip");
    problems.reasons(at.as_str(), &address.ip, names::strict_ip(&address.ip));
    if let Some(name) = text(&address.hostname) {
        problems.reasons(format!("{path}.hostname"), name, names::dns_label(name));
    }
    if let Some(name) = &address.node_name {
        problems.reasons(format!("{path}.nodeName"), name, names::dns_subdomain(name));
    }
    problems.reasons(at, &address.ip, names::endpoint_ip(&address.ip));
}

fn check_port(path: &str, port: &EndpointPort, problems: &mut Problems) {
    if let Some(name) = text(&port.name) {
        problems.reasons(format!("{path}.name"), name, names::dns_label(name));
    }
    let reasons = names::port_number(port.port);
    problems.reasons(format!("{path}.port"), port.port, reasons);
    let known = ["SCTP", "TCP", "UDP"];
    problems.one_of(format!("{path}.protocol"), port.protocol.as_deref(), &known);
    if let Some(protocol) = &port.app_protocol {
        let reasons = names::label_key(protocol);
        problems.reasons(format!("{path}.appProtocol"), protocol, reasons);
    }
}
