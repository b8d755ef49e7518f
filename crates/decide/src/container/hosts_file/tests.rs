//! Bytes of hosts files, and names.

use super::*;
use crate::testing::{pod, pod_of};

const ALIASES: &str = "{hostAliases: [{ip: 123.45.67.89, hostnames: [foo, bar, baz]},
    {ip: 10.1.2.3, hostnames: [alias.local]}], containers: [{name: c}]}";

fn name(hostname: &str, domain: &str) -> PodHostname {
    PodHostname {
        hostname: hostname.into(),
        domain: domain.into(),
    }
}

#[test]
fn a_pods_own_file_has_loopbacks_addresses_and_aliases() {
    let ips = ["203.0.113.1".to_owned(), "fd01::6c".to_owned()];
    let head = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
    let plain = hosts_file_content(
        &pod_of("{containers: [{name: c}]}"),
        &ips,
        &name("podFoo", ""),
    );
    assert_eq!(
        plain,
        format!("{head}203.0.113.1\tpodFoo\nfd01::6c\tpodFoo\n")
    );
    let named = hosts_file_content(&pod_of(ALIASES), &ips, &name("podFoo", "domainFoo"));
    let expected = format!(
        "{head}203.0.113.1\tpodFoo.domainFoo\tpodFoo\nfd01::6c\tpodFoo.domainFoo\tpodFoo\n\n\
         # Entries added by HostAliases.\n123.45.67.89\tfoo\tbar\tbaz\n10.1.2.3\talias.local\n"
    );
    assert_eq!(named, expected);
}

#[test]
fn a_host_network_pods_file_ends_with_aliases() {
    let expected =
        "\n# Entries added by HostAliases.\n123.45.67.89\tfoo\tbar\tbaz\n10.1.2.3\talias.local\n";
    assert_eq!(node_hosts_extra(&pod_of(ALIASES)), expected);
    assert_eq!(node_hosts_extra(&pod_of("{containers: [{name: c}]}")), "");
}

#[test]
fn names_come_from_override_hostname_or_pod() {
    let long = "a".repeat(62);
    let spec = |fields: &str| pod_of(&format!("{{{fields} containers: [{{name: c}}]}}"));
    for (pod, expected) in [
        (spec(""), name("web", "")),
        (
            spec("hostname: h, subdomain: s,"),
            name("h", "s.default.svc.cluster.local"),
        ),
        (
            spec("hostname: h, subdomain: s, hostnameOverride: x.y,"),
            name("x.y", ""),
        ),
        (
            pod(&format!(
                "{{metadata: {{name: {long}.b}}, spec: {{containers: [{{name: c}}]}}}}"
            )),
            name(&long, ""),
        ),
    ] {
        assert_eq!(pod_hostname(&pod, "cluster.local"), Ok(expected));
    }
    for (fields, expected) in [
        (
            "hostname: a.b,",
            "pod Hostname \"a.b\" is not a valid DNS label: must not contain dots",
        ),
        (
            "subdomain: -a,",
            "pod Subdomain \"-a\" is not a valid DNS label: a lowercase RFC 1123 label must consist of lower case \
             alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
             '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        ),
        (
            "hostnameOverride: A,",
            "pod HostnameOverride \"A\" is not a valid DNS subdomain: a lowercase RFC 1123 subdomain must consist of lower \
             case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
             'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ),
    ] {
        assert_eq!(
            pod_hostname(&spec(fields), "c").unwrap_err().message,
            expected
        );
    }
}

#[test]
fn the_kernel_takes_sixty_four_characters() {
    let fits = name(&"h".repeat(32), &"d".repeat(31));
    let joined = format!("{}.{}", fits.hostname, fits.domain);
    assert_eq!(kernel_hostname(&fits, Some(true)), Ok(joined));
    let long = name(&"h".repeat(32), &"d".repeat(32));
    assert!(kernel_hostname(&long, Some(true)).is_err());
    assert_eq!(
        kernel_hostname(&long, Some(false)),
        Ok(long.hostname.clone())
    );
    assert_eq!(
        kernel_hostname(&name("test.pod.hostname", ""), Some(true)),
        Ok("test.pod.hostname".into())
    );
}

#[test]
fn the_file_is_mounted_when_there_is_something_to_say() {
    let pod = pod_of(
        "{containers: [{name: c}, {name: own, volumeMounts: [{name: v, mountPath: /etc/hosts}]}]}",
    );
    let ips = ["10.1.1.1".to_owned()];
    assert!(mounts_hosts_file(&pod, &pod.containers()[0], &ips));
    assert!(!mounts_hosts_file(&pod, &pod.containers()[0], &[]));
    assert!(!mounts_hosts_file(&pod, &pod.containers()[1], &ips));
    let host = pod_of("{hostNetwork: true, containers: [{name: c}]}");
    assert!(mounts_hosts_file(&host, &host.containers()[0], &[]));
}
