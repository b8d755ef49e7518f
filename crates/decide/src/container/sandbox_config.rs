//! Pod -> `PodSandboxConfig`: everything the runtime is told before a pod's first container.
//!
//! In:    a desired pod, the node, the number of this attempt
//! Out:   the finished message, or why the sandbox cannot be made
//! Calls: the pod's plan (RunPodSandbox), and container creation, which repeats the sandbox's config
//! Holds: the message depends on nothing else, so that it is the same each time it is needed
//! Upstream: pkg/kubelet/kuberuntime/{kuberuntime_sandbox.go,kuberuntime_sandbox_linux.go}, pkg/kubelet/container/helpers.go
//!           (MakePortMappings), pkg/kubelet/sysctl/util.go

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1;
use kubelet_api::runtime::v1::{
    LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol,
};
use kubelet_model::node::NodeView;
use kubelet_model::pod::Pod;

use crate::container::config_problem::ConfigProblem;
use crate::container::dns::pod_dns;
use crate::container::hosts_file::{kernel_hostname, pod_hostname};
use crate::container::labels::{sandbox_annotations, sandbox_labels};
use crate::container::security::sandbox_security_context;
use crate::resources::cgroups::pod_cgroup_path;
use crate::resources::{sandbox_overhead, sandbox_resources};

#[cfg(test)]
mod tests;

/// The message that makes a pod's sandbox. `attempt` counts the sandboxes this pod had before.
pub fn sandbox_config(
    pod: &Pod,
    node: &NodeView,
    attempt: u32,
) -> Result<PodSandboxConfig, ConfigProblem> {
    build(pod, node, attempt).map_err(|problem| problem.for_sandbox(pod))
}

fn build(pod: &Pod, node: &NodeView, attempt: u32) -> Result<PodSandboxConfig, ConfigProblem> {
    // The runtime knows the node's own name; a pod on its network takes that.
    let hostname = if pod.is_host_network() {
        String::new()
    } else {
        let name = pod_hostname(pod, &node.dns.cluster_domain)?;
        kernel_hostname(&name, pod.spec().set_hostname_as_fqdn)?
    };
    Ok(PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: pod.full_name.name.to_string(),
            uid: pod.uid.to_string(),
            namespace: pod.full_name.namespace.to_string(),
            attempt,
        }),
        hostname,
        log_directory: pod_log_directory(pod, node),
        dns_config: Some(pod_dns(pod, &node.dns).0),
        port_mappings: pod.containers().iter().flat_map(port_mappings).collect(),
        labels: sandbox_labels(pod),
        annotations: sandbox_annotations(pod),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: pod_cgroup_path(pod, node).unwrap_or_default(),
            security_context: Some(sandbox_security_context(pod)?),
            sysctls: sysctls(pod),
            overhead: Some(sandbox_overhead(pod, node)),
            resources: Some(sandbox_resources(pod, node)),
        }),
    })
}

/// Directory of a pod's logs, `<namespace>_<name>_<uid>` below the node's.
pub fn pod_log_directory(pod: &Pod, node: &NodeView) -> String {
    let parent = node.pod_logs_dir.trim_end_matches('/');
    format!(
        "{parent}/{}_{}_{}",
        pod.full_name.namespace, pod.full_name.name, pod.uid
    )
}

/// Ports of a container; of two with one name (or, without names, one meaning) the first counts.
fn port_mappings(container: &v1::Container) -> Vec<PortMapping> {
    let mut seen = BTreeSet::new();
    let mut mappings = Vec::new();
    for port in container.ports.iter().flatten() {
        let host_ip = port.host_ip.clone().unwrap_or_default();
        let host_port = port.host_port.unwrap_or(0);
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let name = port.name.clone().filter(|name| !name.is_empty());
        let meaning = || format!("{protocol}-{host_ip}:{}:{host_port}", port.container_port);
        if seen.insert(name.unwrap_or_else(meaning)) {
            let protocol = match protocol {
                "UDP" => Protocol::Udp,
                "SCTP" => Protocol::Sctp,
                _ => Protocol::Tcp,
            };
            let container_port = port.container_port;
            mappings.push(PortMapping {
                protocol: protocol.into(),
                container_port,
                host_port,
                host_ip,
            });
        }
    }
    mappings
}

/// The pod's sysctls with dots between their parts, as runtimes check them.
fn sysctls(pod: &Pod) -> BTreeMap<String, String> {
    let context = pod.spec().security_context.as_ref();
    let listed = context
        .and_then(|context| context.sysctls.as_deref())
        .unwrap_or_default();
    listed
        .iter()
        .map(|sysctl| (dotted(&sysctl.name), sysctl.value.clone()))
        .collect()
}

/// `net/ipv4/conf/eno2.100/x` becomes `net.ipv4.conf.eno2/100.x`; a name whose first separator is a dot stays.
pub(crate) fn dotted(name: &str) -> String {
    if name.chars().find(|c| matches!(c, '.' | '/')) != Some('/') {
        return name.to_owned();
    }
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}
