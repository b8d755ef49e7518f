//! Resolver files and policies, with upstream's cases as data.

use super::*;
use crate::testing::pod_of;

#[test]
fn resolver_files_parse_as_upstreams_table_says() {
    type Row = (
        &'static str,
        &'static [&'static str],
        &'static [&'static str],
        &'static [&'static str],
    );
    let rows: [Row; 22] = [
        ("", &[], &[], &[]),
        ("\t\n\t", &[], &[], &[]),
        (" #comment\n", &[], &[], &[]),
        (
            "#comment\nnameserver 1.2.3.4\nsearch",
            &["1.2.3.4"],
            &[],
            &[],
        ),
        ("\tnameserver 1.2.3.4", &["1.2.3.4"], &[], &[]),
        ("nameserver \t 1.2.3.4", &["1.2.3.4"], &[], &[]),
        (
            "nameserver 1.2.3.4\nnameserver 5.6.7.8",
            &["1.2.3.4", "5.6.7.8"],
            &[],
            &[],
        ),
        ("nameserver 1.2.3.4 #comment", &["1.2.3.4"], &[], &[]),
        ("search ", &[], &[], &[]),
        ("search .", &[], &[], &[]),
        ("search . foo", &[], &["foo"], &[]),
        ("search foo .  bar", &[], &["foo", "bar"], &[]),
        ("search foo. bar", &[], &["foo", "bar"], &[]),
        ("search foo bar bat\n", &[], &["foo", "bar", "bat"], &[]),
        ("search foo\nsearch bar", &[], &["bar"], &[]),
        (
            "nameserver 1.2.3.4\nsearch foo\nnameserver 5.6.7.8\nsearch bar",
            &["1.2.3.4", "5.6.7.8"],
            &["bar"],
            &[],
        ),
        (
            "#comment\nnameserver 1.2.3.4\n#comment\nsearch foo\ncomment",
            &["1.2.3.4"],
            &["foo"],
            &[],
        ),
        ("options ", &[], &[], &[]),
        (
            "options ndots:5 attempts:2",
            &[],
            &[],
            &["ndots:5", "attempts:2"],
        ),
        (
            "options ndots:1 edns0 attempts:2",
            &[],
            &[],
            &["ndots:1", "edns0", "attempts:2"],
        ),
        (
            "options ndots:1\noptions ndots:5 attempts:3",
            &[],
            &[],
            &["ndots:5", "attempts:3"],
        ),
        (
            "options ndots:1 timeout:3 timeout:1 attempts:3\noptions ndots:5",
            &[],
            &[],
            &["ndots:5", "timeout:1", "attempts:3"],
        ),
    ];
    for (text, servers, searches, options) in rows {
        let parsed = parse_resolv_conf(text).unwrap();
        assert_eq!(
            (parsed.servers, parsed.searches, parsed.options),
            (owned(servers), owned(searches), owned(options))
        );
    }
    assert!(parse_resolv_conf("#comment\nnameserver").is_err());
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn cluster() -> DnsView {
    DnsView {
        cluster_servers: owned(&["10.0.0.10"]),
        cluster_domain: "kubernetes.io".into(),
        given_node_ips: Vec::new(),
        host: Some(HostResolver {
            servers: owned(&["8.8.8.8"]),
            searches: owned(&["host.domain"]),
            options: Vec::new(),
        }),
    }
}

const OWN: &str = "{nameservers: [10.0.0.11], searches: [my.domain], options: [{name: ndots, value: '3'}, {name: debug}]}";

#[test]
fn policies_choose_servers_searches_and_options() {
    const CLUSTER: [&str; 5] = [
        "default.svc.kubernetes.io",
        "svc.kubernetes.io",
        "kubernetes.io",
        "host.domain",
        "my.domain",
    ];
    for (spec, servers, searches, options) in [
        ("dnsPolicy: None".to_owned(), &[][..], &[][..], &[][..]),
        (
            format!("dnsPolicy: None, dnsConfig: {OWN}"),
            &["10.0.0.11"],
            &["my.domain"],
            &["ndots:3", "debug"],
        ),
        (
            "dnsPolicy: ClusterFirst".to_owned(),
            &["10.0.0.10"],
            &CLUSTER[..4],
            &["ndots:5"],
        ),
        (
            format!("dnsPolicy: ClusterFirst, dnsConfig: {OWN}"),
            &["10.0.0.10", "10.0.0.11"],
            &CLUSTER[..],
            &["ndots:3", "debug"],
        ),
        (
            format!("dnsPolicy: ClusterFirstWithHostNet, hostNetwork: true, dnsConfig: {OWN}"),
            &["10.0.0.10", "10.0.0.11"],
            &CLUSTER[..],
            &["ndots:3", "debug"],
        ),
        (
            "dnsPolicy: ClusterFirst, hostNetwork: true".to_owned(),
            &["8.8.8.8"],
            &["host.domain"],
            &[],
        ),
        (
            format!("dnsPolicy: Default, dnsConfig: {OWN}"),
            &["8.8.8.8", "10.0.0.11"],
            &["host.domain", "my.domain"],
            &["ndots:3", "debug"],
        ),
    ] {
        let (config, problems) = pod_dns(
            &pod_of(&format!("{{{spec}, containers: [{{name: c}}]}}")),
            &cluster(),
        );
        assert_eq!(
            (config.servers, config.searches),
            (owned(servers), owned(searches)),
            "{spec}"
        );
        assert_eq!(
            (config.options, problems),
            (owned(options), Vec::new()),
            "{spec}"
        );
    }
}

#[test]
fn without_cluster_servers_the_node_answers_and_people_are_told() {
    let pod = pod_of("{containers: [{name: c}]}");
    for (ips, servers) in [
        (&[][..], &["127.0.0.1"][..]),
        (&["10.0.0.5"], &["127.0.0.1"]),
        (&["fd00::5", "10.0.0.5"], &["::1", "127.0.0.1"]),
    ] {
        let dns = DnsView {
            given_node_ips: owned(ips),
            ..DnsView::default()
        };
        let (config, _) = pod_dns(&pod, &dns);
        assert_eq!(
            (config.servers, config.searches),
            (owned(servers), owned(&["."]))
        );
    }
    let (_, problems) = pod_dns(&pod, &DnsView::default());
    let what = "kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" policy. Falling \
                back to \"Default\" policy.";
    let expected = DnsProblem {
        reason: "MissingClusterDNS",
        message: format!("pod: \"web_default(u1)\". {what}"),
        node_message: Some(what.to_owned()),
    };
    assert_eq!(problems, [expected]);
}

#[test]
fn what_exceeds_limits_is_left_out_and_people_are_told() {
    let host = |servers: Vec<String>, searches: Vec<String>| DnsView {
        host: Some(HostResolver {
            servers,
            searches,
            options: Vec::new(),
        }),
        ..DnsView::default()
    };
    let pod = pod_of("{dnsPolicy: Default, containers: [{name: c}]}");
    let (config, problems) = pod_dns(&pod, &host(owned(&["1", "2", "3", "4"]), owned(&["a"])));
    assert_eq!(config.servers, ["1", "2", "3"]);
    assert_eq!(
        problems[0].message,
        "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: 1 2 3"
    );
    let (config, problems) = pod_dns(&pod, &host(Vec::new(), owned(&[&"x".repeat(254), "a"])));
    assert_eq!(config.searches, ["a"]);
    assert_eq!(
        problems[0].message,
        "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: a"
    );
    let many: Vec<String> = (0..33).map(|n| n.to_string()).collect();
    assert_eq!(pod_dns(&pod, &host(Vec::new(), many)).0.searches.len(), 32);
    // 10 times 200 characters and 9 spaces are 2009; an eleventh does not fit into 2048.
    let long: Vec<String> = (0..11).map(|n| format!("{n:0>200}")).collect();
    assert_eq!(pod_dns(&pod, &host(Vec::new(), long)).0.searches.len(), 10);
}
