//! Environment variables that tell a container where the cluster's Services are.
//!
//! In:    Services of the cluster, the pod's namespace, whether it wants all of them
//! Out:   names and values: for each Service host, port, named ports, then those that Docker's links made
//! Calls: env.rs
//! Holds: Services come in order of their names, one of a name; the API server's own is there for everyone
//! Upstream: pkg/kubelet/envvars/envvars.go (FromServices), pkg/kubelet/kubelet_pods.go (getServiceEnvVarMap); differences: the
//!           order of Services, which is random there

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1;

#[cfg(test)]
mod tests;

/// The Service that every pod sees, whatever its namespace, and the namespace where that one lies.
const MASTER: (&str, &str) = ("default", "kubernetes");

/// Variables of all Services that a pod of this namespace sees.
pub(crate) fn service_variables(
    services: &[Arc<v1::Service>],
    namespace: &str,
    service_links: bool,
) -> Vec<(String, String)> {
    let mut seen: BTreeMap<&str, &v1::Service> = BTreeMap::new();
    for service in services {
        let meta = &service.metadata;
        let name = meta.name.as_deref().unwrap_or_default();
        let of = meta.namespace.as_deref().unwrap_or_default();
        if cluster_ip(service).is_none() {
            continue;
        }
        if (of, name) == MASTER {
            // One of the pod's own namespace comes before it.
            seen.entry(name).or_insert(service);
        } else if of == namespace && service_links {
            seen.insert(name, service);
        }
    }
    seen.into_values().flat_map(variables).collect()
}

fn cluster_ip(service: &v1::Service) -> Option<&str> {
    let ip = service.spec.as_ref()?.cluster_ip.as_deref()?;
    Some(ip).filter(|ip| !ip.is_empty() && *ip != "None")
}

/// Variables of one Service; none without an address.
fn variables(service: &v1::Service) -> Vec<(String, String)> {
    let (Some(ip), Some(spec)) = (cluster_ip(service), &service.spec) else {
        return Vec::new();
    };
    let prefix = variable_name(service.metadata.name.as_deref().unwrap_or_default());
    let ports = spec.ports.as_deref().unwrap_or_default();
    let mut variables = vec![(format!("{prefix}_SERVICE_HOST"), ip.to_owned())];
    if let Some(first) = ports.first() {
        variables.push((format!("{prefix}_SERVICE_PORT"), first.port.to_string()));
    }
    for port in ports {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let name = format!("{prefix}_SERVICE_PORT_{}", variable_name(name));
            variables.push((name, port.port.to_string()));
        }
    }
    for (index, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().filter(|text| !text.is_empty());
        let protocol = protocol.unwrap_or("TCP");
        let lower = protocol.to_lowercase();
        let url = format!("{lower}://{}", with_port(ip, port.port));
        if index == 0 {
            variables.push((format!("{prefix}_PORT"), url.clone()));
        }
        let own = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        variables.extend([
            (own.clone(), url),
            (format!("{own}_PROTO"), lower),
            (format!("{own}_PORT"), port.port.to_string()),
            (format!("{own}_ADDR"), ip.to_owned()),
        ]);
    }
    variables
}

fn variable_name(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

fn with_port(ip: &str, port: i32) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}
