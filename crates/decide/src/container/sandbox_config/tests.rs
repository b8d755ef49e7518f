//! Sandbox messages against recorded ones, and what the recordings do not show.

use super::*;
use crate::testing::{json, node, pod, pod_of, recorded};

#[test]
fn sandboxes_of_recorded_pods_equal_what_was_sent() {
    for name in recorded::NAMES {
        let sent = json::recorded("RunPodSandbox", name);
        assert_eq!(sent.len(), 1, "{name}");
        for sent in sent {
            let uid = sent["metadata"]["uid"].as_str().unwrap();
            let pod = recorded::pod(name, uid, &sent);
            let config = sandbox_config(&pod, &node(), 0).unwrap();
            assert_eq!(json::sandbox(&config), sent, "{name}");
        }
    }
}

#[test]
fn the_attempt_and_namespaces_of_the_host_are_told() {
    let pod = pod_of("{hostIPC: true, shareProcessNamespace: true, containers: [{name: c}]}");
    let config = sandbox_config(&pod, &node(), 3).unwrap();
    let json = json::sandbox(&config);
    assert_eq!(json["metadata"]["attempt"], 3);
    let options = &json["linux"]["security_context"]["namespace_options"];
    assert_eq!(options["ipc"], "NODE");
    assert_eq!(options["pid"], serde_json::Value::Null, "shared by the pod");
    assert_eq!(options["network"], serde_json::Value::Null);
}

#[test]
fn a_port_named_or_meant_twice_counts_once() {
    let pod = pod_of(
        "{containers: [{name: c, ports: [
          {containerPort: 80}, {containerPort: 80}, {containerPort: 80, protocol: UDP},
          {name: a, containerPort: 1}, {name: a, containerPort: 2},
          {containerPort: 80, hostIP: 10.0.0.1}, {containerPort: 80, hostIP: 'fd00::1', protocol: SCTP}]}]}",
    );
    let config = sandbox_config(&pod, &node(), 0).unwrap();
    let seen: Vec<_> = config
        .port_mappings
        .iter()
        .map(|port| {
            (
                port.container_port,
                port.protocol().as_str_name(),
                port.host_ip.as_str(),
            )
        })
        .collect();
    let expected = [
        (80, "TCP", ""),
        (80, "UDP", ""),
        (1, "TCP", ""),
        (80, "TCP", "10.0.0.1"),
        (80, "SCTP", "fd00::1"),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn sysctls_are_written_with_dots() {
    for (given, expected) in [
        (
            "net.ipv4.conf.eno2/100.rp_filter",
            "net.ipv4.conf.eno2/100.rp_filter",
        ),
        (
            "net/ipv4/conf/eno2.100/rp_filter",
            "net.ipv4.conf.eno2/100.rp_filter",
        ),
        ("kernel/shm", "kernel.shm"),
        ("kernel", "kernel"),
    ] {
        assert_eq!(dotted(given), expected);
    }
}

#[test]
fn overhead_is_told_apart_from_what_containers_need() {
    let pod = pod_of(
        "{overhead: {cpu: 100m, memory: 10Mi},
          containers: [{name: c, resources: {limits: {cpu: 200m, memory: 20Mi}}}]}",
    );
    let linux = sandbox_config(&pod, &node(), 0).unwrap().linux.unwrap();
    let figures = |r: LinuxResources| (r.cpu_shares, r.cpu_quota, r.memory_limit_in_bytes);
    assert_eq!(figures(linux.overhead.unwrap()), (102, 10_000, 10 << 20));
    assert_eq!(figures(linux.resources.unwrap()), (204, 20_000, 20 << 20));
}
type LinuxResources = kubelet_api::runtime::v1::LinuxContainerResources;

#[test]
fn a_name_that_is_too_long_for_the_kernel_fails_the_sandbox() {
    let mut node = node();
    node.dns.cluster_domain = "cluster.local".into();
    let long = "a".repeat(63);
    let pod = pod(&format!(
        "{{metadata: {{name: {long}}}, spec: {{setHostnameAsFQDN: true, subdomain: s, containers: [{{name: c}}]}}}}"
    ));
    let problem = sandbox_config(&pod, &node, 0).unwrap_err();
    assert_eq!(problem.reason.as_str(), "CreatePodSandboxError");
    let fqdn = format!("{long}.s.default.svc.cluster.local");
    let expected = format!(
        "Failed to generate sandbox config for pod \"{long}_default(u1)\": failed to construct FQDN from pod hostname and \
         cluster domain, FQDN {fqdn} is too long (64 characters is the max, {} characters requested)",
        fqdn.len()
    );
    assert_eq!(problem.message, expected);
}
