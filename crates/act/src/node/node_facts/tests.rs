//! A fixture host, field by field; tables for the choice of addresses and for reservations.
//!
//! Upstream: none

use std::net::IpAddr;
use std::path::PathBuf;

use kubelet_host::addresses::{DefaultRoutes, InterfaceAddress};
use kubelet_host::machine::{IdFiles, read_machine};

use super::addresses::{Surroundings, choose, parse_node_ip};
use super::*;
use crate::testing::{Scratch, config};

fn host(files: &[(&str, &str)]) -> (Scratch, HostRoot) {
    let scratch = Scratch::new();
    let base = [
        ("/proc/cpuinfo", "processor\t: 0\ncpu MHz\t\t: 1000.0\n"),
        ("/proc/meminfo", "MemTotal: 24684092 kB\nSwapTotal: 0 kB\n"),
        ("/proc/self/mountinfo", ""),
        ("/proc/sys/kernel/hostname", "Node.Example\n"),
        ("/proc/sys/kernel/pid_max", "4194304\n"),
        ("/proc/sys/kernel/threads-max", "192000\n"),
        ("/sys/devices/system/cpu/online", "0-1\n"),
        ("/sys/devices/system/cpu/possible", "0-3\n"),
        ("/sys/devices/system/cpu/cpu0/topology/core_id", "0\n"),
        ("/sys/devices/system/cpu/cpu1/topology/core_id", "1\n"),
        ("/sys/devices/system/cpu/cpu1/thermal_throttle/count", "0\n"),
        (
            "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
            "512\n",
        ),
        (
            "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages",
            "0\n",
        ),
        (
            "/sys/kernel/mm/hugepages/hugepages-64kB/nr_hugepages",
            "0\n",
        ),
        ("/etc/hosts", "10.0.0.5 node.example\n"),
        ("/etc/resolv.conf", "nameserver 10.0.0.2\nsearch a b\n"),
    ];
    for (path, text) in base.iter().chain(files) {
        scratch.write(path, text);
    }
    let root = HostRoot::at(scratch.path());
    (scratch, root)
}

#[test]
fn rules_of_admission_follow_the_host_and_the_configuration() {
    let app_armor = |files: &[(&str, &str)]| {
        let (_scratch, root) = host(files);
        admission_rules(&config(|_| {}), &root, "6.1.0")
            .unwrap()
            .app_armor
    };
    let (there, enabled) = (
        "/sys/kernel/security/apparmor/features",
        "/sys/module/apparmor/parameters/enabled",
    );
    assert_eq!(app_armor(&[]), AppArmor::Absent);
    assert_eq!(app_armor(&[(enabled, "Y\n")]), AppArmor::Absent);
    assert_eq!(
        app_armor(&[(there, ""), (enabled, "N\n")]),
        AppArmor::Absent
    );
    assert_eq!(
        app_armor(&[(there, ""), (enabled, "Y\n")]),
        AppArmor::Enabled
    );
    let (_scratch, root) = host(&[]);
    let wrong = config(|c| c.allowed_unsafe_sysctls = Some(vec!["vm.swappiness".to_owned()]));
    let error = admission_rules(&wrong, &root, "6.1.0").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the sysctls \"vm.swappiness\" are not known to be namespaced"
    );
}

fn machine(root: &HostRoot) -> Machine {
    read_machine(
        &root.join("/"),
        &IdFiles::default(),
        jiff::Timestamp::UNIX_EPOCH,
    )
    .unwrap()
    .0
}

fn view(config: &Config, root: &HostRoot) -> Result<(NodeView, Vec<String>), NodeFactsError> {
    node_view(
        config,
        &machine(root),
        root,
        CgroupVersion::V1,
        "containerd",
    )
}

#[test]
fn the_default_configuration_gives_the_machine_itself() {
    let (_scratch, root) = host(&[("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", "1")]);
    let (view, problems) = view(&config(|_| {}), &root).unwrap();
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(
        (view.name.as_str(), view.hostname.as_str()),
        ("node.example", "Node.Example")
    );
    assert_eq!(view.ips, ["10.0.0.5"]);
    assert_eq!(
        (view.capacity_milli_cpu, view.capacity_memory_bytes),
        (2000, 24_684_092 << 10)
    );
    assert_eq!(view.hugepage_sizes, ["64KB", "2MB", "1GB"]);
    assert_eq!(
        view.extra_masked_paths,
        ["/sys/devices/system/cpu/cpu1/thermal_throttle"]
    );
    assert_eq!(view.pod_logs_dir, "/var/log/pods");
    assert_eq!(view.max_backoff_seconds, 300);
    let cgroups = CgroupView {
        root: "/".into(),
        per_qos: true,
        v2: false,
        oom_group: true,
        has_swap: true,
        cfs_quota: true,
        cfs_period_us: 100_000,
        pod_pids_limit: None,
    };
    assert_eq!(view.cgroups, cgroups);
    let resolver = view.dns.host.unwrap();
    assert_eq!(
        (resolver.servers, resolver.searches.len()),
        (vec!["10.0.0.2".to_owned()], 2)
    );
    // Capacity less 100Mi of eviction; 1 GiB of it is huge pages.
    assert_eq!(
        view.allocatable["memory"],
        (24_684_092 << 10) - (100 << 20) - (1 << 30)
    );
    assert_eq!(view.allocatable["hugepages-2Mi"], 1 << 30);
    assert_eq!(
        (view.allocatable["cpu"], view.allocatable["pods"]),
        (2000, 110)
    );
}

#[test]
fn what_is_kept_back_goes_off_allocatable_and_what_is_too_much_is_an_error() {
    let (_scratch, root) = host(&[]);
    let reserved = config(|c| {
        c.system_reserved =
            Some([("cpu".into(), "200m".into()), ("pid".into(), "1000".into())].into());
        c.kube_reserved = Some(
            [
                ("cpu".into(), "300m".into()),
                ("memory".into(), "1Gi".into()),
            ]
            .into(),
        );
        c.pods_per_core = Some(10);
    });
    let (view_of, _) = view(&reserved, &root).unwrap();
    assert_eq!(
        (view_of.allocatable["cpu"], view_of.allocatable["pods"]),
        (1500, 20)
    );
    let allowance = pods_allowance(&reserved, &machine(&root), &root);
    assert_eq!(
        (allowance.milli_cpu, allowance.memory_bytes, allowance.pids),
        (1500, (24_684_092 << 10) - (1 << 30), Some(191_000))
    );
    let by_list = config(|c| {
        c.kube_reserved = Some([("cpu".into(), "300m".into())].into());
        c.reserved_system_cpus = Some("1".into());
    });
    assert_eq!(view(&by_list, &root).unwrap().0.allocatable["cpu"], 1000);
    let over = config(|c| c.system_reserved = Some([("cpu".into(), "3".into())].into()));
    assert_eq!(
        view(&over, &root).unwrap_err().to_string(),
        "invalid Node Allocatable configuration. Resource \"cpu\" has a reservation of 3 but capacity of 2. Expected capacity >= reservation."
    );
}

#[test]
fn a_share_of_the_disk_is_the_published_figure() {
    let mut machine = machine(&host(&[]).1);
    machine.memory_capacity = 24_684_092 << 10;
    let amounts = capacity::Amounts::of(&config(|_| {}), &machine, Some(264_212_084 << 10));
    assert_eq!(amounts.allocatable()["ephemeral-storage"], 243_497_856_212);
}

#[test]
fn a_resolver_file_may_be_absent_but_not_wrong() {
    let (_scratch, root) = host(&[("/etc/broken", "nameserver\n")]);
    let with = |path: &str| view(&config(|c| c.resolv_conf = Some(path.to_owned())), &root);
    assert_eq!(with("").unwrap().0.dns.host, None);
    let (absent, problems) = with("/etc/absent").unwrap();
    assert_eq!(absent.dns.host, Some(HostResolver::default()));
    assert!(
        problems[0].starts_with("resolvConf /etc/absent: "),
        "{problems:?}"
    );
    assert_eq!(
        with("/etc/broken").unwrap_err().to_string(),
        "cannot use resolvConf /etc/broken"
    );
}

#[test]
fn swap_is_looked_for_in_the_own_cgroup_on_v2() {
    let (_scratch, root) = host(&[
        ("/proc/self/cgroup", "1:name=systemd:/x\n0::/own\n"),
        ("/sys/fs/cgroup/own/memory.swap.max", "max"),
    ]);
    assert!(has_swap(&root, CgroupVersion::V2) && !has_swap(&root, CgroupVersion::V1));
}

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

fn around(named: &[&str], routes: Option<&str>) -> Surroundings {
    let address = |interface: &str, address: &str| InterfaceAddress {
        interface: interface.to_owned(),
        address: address.parse().unwrap(),
        is_up: interface != "down0",
        is_local_link: interface == "lo",
        is_loopback: interface == "lo",
    };
    Surroundings {
        interfaces: vec![
            address("lo", "127.0.0.1"),
            address("lo", "10.9.0.1"),
            address("down0", "10.8.0.1"),
            address("eth1", "10.1.0.1"),
            address("eth0", "fd00::5"),
            address("eth0", "10.0.0.5"),
        ],
        routes: routes.map(|interface| DefaultRoutes {
            v4: vec![interface.to_owned()],
            v6: vec![interface.to_owned()],
        }),
        named: ips(named),
    }
}

#[test]
fn addresses_are_chosen_in_upstreams_order() {
    type Case<'a> = (
        &'a str,
        &'a [&'a str],
        Option<&'a str>,
        &'a str,
        &'a [&'a str],
    );
    let cases: [Case<'_>; 11] = [
        ("10.0.0.5", &[], None, "node", &["10.0.0.5"]),
        (
            "10.0.0.5,fd00::5",
            &[],
            None,
            "node",
            &["10.0.0.5", "fd00::5"],
        ),
        ("10.7.7.7", &[], Some("eth0"), "node", &["10.0.0.5"]),
        ("", &[], Some("eth0"), "192.0.2.9", &["192.0.2.9"]),
        (
            "",
            &["127.0.0.1", "fd00::5", "10.1.0.1"],
            Some("eth0"),
            "node",
            &["10.1.0.1"],
        ),
        (
            "::",
            &["10.1.0.1", "fd00::5"],
            Some("eth0"),
            "node",
            &["fd00::5"],
        ),
        ("", &["10.7.7.7"], Some("eth0"), "node", &["10.0.0.5"]),
        ("::", &[], Some("eth0"), "node", &["fd00::5"]),
        ("", &[], Some("unnumbered"), "node", &["10.9.0.1"]),
        ("", &[], None, "node", &["10.1.0.1"]),
        ("::1", &[], None, "node", &["fd00::5"]),
    ];
    for (given, named, routes, name, expected) in cases {
        let given_ips = parse_node_ip(given).unwrap();
        let chosen = choose(&given_ips, name, &around(named, routes), &mut Vec::new());
        assert_eq!(
            chosen,
            ips(expected),
            "--node-ip={given} {named:?} {routes:?} {name}"
        );
    }
    let mut problems = Vec::new();
    let mut lonely = around(&[], None);
    lonely.interfaces.truncate(1);
    assert_eq!(
        choose(&ips(&["10.7.7.7"]), "node", &lonely, &mut problems),
        ips(&[])
    );
    assert_eq!(
        problems,
        [
            "--node-ip: node IP: \"10.7.7.7\" not found in the host's network interfaces; another address is looked for",
            "can't get ip address of node node"
        ]
    );
}

#[test]
fn a_node_ip_that_is_no_pair_is_refused() {
    for given in [
        "x",
        "10.0.0.1,10.0.0.2",
        "10.0.0.1,::",
        "10.0.0.1,fd00::1,fd00::2",
    ] {
        let error = parse_node_ip(given).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("bad --node-ip {given:?}: ")),
            "{error}"
        );
    }
}

#[test]
fn cpu_lists_are_read() {
    assert_eq!(cpu_list("0-2,5"), [0, 1, 2, 5]);
    assert_eq!(cpu_list(""), Vec::<u32>::new());
}

#[test]
fn this_machine_has_a_view() {
    let root = HostRoot::real();
    let mut with = config(|_| {});
    with.paths.root_dir = PathBuf::from("/no-such-dir/kubelet");
    let (view, _) = view(&with, &root).unwrap();
    assert_eq!(view.name, view.hostname.to_lowercase());
    assert!(view.allocatable["ephemeral-storage"] > 0);
}
