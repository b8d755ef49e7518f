//! The tree on a stand-in host in both versions under paused time, and once on this machine's own hierarchies below a root of its own.
//!
//! Upstream: none

use k8s_openapi::api::core::v1;
use kubelet_host::HostRoot;
use kubelet_host::cgroup::stand_in::lay_out;
use kubelet_host::cgroup::{CgroupVersion, open};
use kubelet_model::config::Config;
use kubelet_model::ids::PodUid;
use kubelet_model::node::{CgroupView, DnsView};
use prometheus::Registry;
use serde_json::json;

use kubelet_host::cgroup::CgroupLimits;

use super::*;
use crate::frame::clock::Clock;
use crate::frame::reconciler::Reconcilers;
use crate::frame::supervisor::Supervisor;
use crate::report::status::StatusHandle;
use crate::testing::{Scratch, config};

fn node(root: &str, version: CgroupVersion) -> NodeView {
    NodeView {
        name: "node".into(),
        hostname: "node".into(),
        ips: Vec::new(),
        capacity_milli_cpu: 2000,
        capacity_memory_bytes: 8 << 30,
        allocatable: BTreeMap::new(),
        hugepage_sizes: Vec::new(),
        root_dir: "/var/lib/kubelet".into(),
        pod_logs_dir: "/var/log/pods".into(),
        cgroups: CgroupView {
            root: root.into(),
            per_qos: true,
            v2: version == CgroupVersion::V2,
            oom_group: true,
            has_swap: false,
            cfs_quota: true,
            cfs_period_us: 100_000,
            pod_pids_limit: None,
        },
        dns: DnsView::default(),
        seccomp_default: false,
        extra_masked_paths: Vec::new(),
        max_backoff_seconds: 300,
        first_backoff_seconds: 10,
        env_files: true,
        selinux_enabled: false,
        runtime_name: "containerd".to_owned(),
    }
}

struct Bench {
    status: StatusHandle,
    all_seen: watch::Sender<bool>,
    parts: CgroupTreeParts,
}

fn bench(root: &HostRoot, cgroup_root: &str) -> Bench {
    let cgroups = open(root).unwrap();
    let status = StatusHandle::default();
    let (all_seen, seen) = watch::channel(false);
    let parts = CgroupTreeParts {
        node: Arc::new(node(cgroup_root, cgroups.version())),
        cgroups,
        blocking: Blocking::Inline,
        allowance: PodsAllowance {
            milli_cpu: 2000,
            memory_bytes: 8 << 30,
            pids: Some(1000),
        },
        pods: status.subscribe(),
        all_seen: seen,
    };
    Bench {
        status,
        all_seen,
        parts,
    }
}

fn report(status: &StatusHandle, uid: &str, cpu: &str, phase: &str) {
    let pod: v1::Pod = serde_json::from_value(json!({
        "metadata": {"name": uid, "namespace": "default", "uid": uid},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
    }))
    .unwrap();
    let shown = v1::PodStatus {
        phase: Some(phase.to_owned()),
        ..Default::default()
    };
    status.report(&PodUid::parse(uid).unwrap(), &Arc::new(pod), shown);
}

fn prepare(config: &Config, bench: &Bench, root: &HostRoot) -> Vec<String> {
    prepare_node(config, root, &bench.parts).unwrap().warnings
}

/// A stand-in host with its tunables as they should be.
fn host(version: CgroupVersion) -> (Scratch, HostRoot) {
    let scratch = Scratch::new();
    let root = HostRoot::at(scratch.path());
    lay_out(&root, version).unwrap();
    for tunable in kubelet_host::kernel::TUNABLES {
        scratch.write(
            &format!("/proc/sys/{}", tunable.name),
            &tunable.value.to_string(),
        );
    }
    scratch.write("/proc/self/oom_score_adj", "0");
    (scratch, root)
}

fn spawn(bench: &Bench) -> Reconcilers {
    let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
    let reconcilers = Reconcilers::new(Supervisor::new(clock), clock, 5, &Registry::new()).unwrap();
    reconcilers.spawn(
        ContainerManager::new(bench.parts.clone()),
        ContainerManager::pace(),
    );
    reconcilers
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn the_tree_follows_the_active_pods_and_repairs_itself() {
    for version in [CgroupVersion::V1, CgroupVersion::V2] {
        let (scratch, root) = host(version);
        let bench = bench(&root, "/");
        assert_eq!(
            prepare(&config(|_| {}), &bench, &root),
            Vec::<String>::new(),
            "{version:?}"
        );
        assert_eq!(
            std::fs::read_to_string(root.join("/proc/self/oom_score_adj")).unwrap(),
            "-999"
        );
        let shares = |path: &str| {
            bench
                .parts
                .cgroups
                .read_limits(path)
                .unwrap()
                .cpu_shares
                .unwrap()
        };
        let kubepods = bench.parts.cgroups.read_limits("/kubepods").unwrap();
        assert_eq!(
            (kubepods.memory_limit, kubepods.pids_max),
            (Some(8 << 30), Some(1000))
        );
        report(&bench.status, "a", "500m", "Running");
        report(&bench.status, "b", "1", "Running");
        report(&bench.status, "done", "1", "Succeeded");
        let before = shares("/kubepods/burstable");
        let reconcilers = spawn(&bench);
        seconds(1).await;
        assert_eq!(
            shares("/kubepods/burstable"),
            before,
            "not before all sources were seen"
        );
        bench.all_seen.send_replace(true);
        seconds(2).await;
        // On v2 shares go through a weight and come back a little lower.
        let near = |found: u64, wanted: u64| found <= wanted && wanted - found <= 30;
        assert!(near(shares("/kubepods/burstable"), 1536), "{version:?}");
        assert!(near(shares("/kubepods/besteffort"), 2));
        report(&bench.status, "b", "1", "Failed");
        seconds(2).await;
        assert!(near(shares("/kubepods/burstable"), 512));
        let limits = CgroupLimits {
            cpu_shares: Some(4096),
            ..CgroupLimits::default()
        };
        bench.parts.cgroups.update("/kubepods/burstable", &limits);
        seconds(61).await;
        assert!(
            near(shares("/kubepods/burstable"), 512),
            "by the clock all is written again"
        );
        assert_eq!(reconcilers.to_json()["container_manager"]["failures"], 0);
        drop(scratch);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leftover_goes_after_two_looks_and_what_runs_or_is_known_stays() {
    let (_scratch, root) = host(CgroupVersion::V1);
    let bench = bench(&root, "/");
    prepare(&config(|_| {}), &bench, &root);
    let cgroups = Arc::clone(&bench.parts.cgroups);
    let paths = [
        "/kubepods/podleft",
        "/kubepods/burstable/podalive",
        "/kubepods/besteffort/podknown",
    ];
    for path in paths {
        cgroups.create(path, &CgroupLimits::default()).unwrap();
    }
    cgroups.attach(paths[1], 4242).unwrap();
    report(&bench.status, "known", "1", "Running");
    let reconcilers = spawn(&bench);
    let there = || paths.map(|path| cgroups.exists(path));
    seconds(200).await;
    assert_eq!(
        there(),
        [true; 3],
        "nothing goes before all sources were seen"
    );
    bench.all_seen.send_replace(true);
    seconds(61).await;
    assert_eq!(there(), [true; 3], "one look is no evidence");
    seconds(60).await;
    assert_eq!(there(), [false, true, true]);
    bench.status.forget(&PodUid::parse("known").unwrap());
    seconds(180).await;
    assert_eq!(there(), [false, true, false]);
    assert_eq!(reconcilers.to_json()["container_manager"]["failures"], 0);
}

#[test]
fn what_the_configuration_demands_of_the_node_is_an_error_when_it_is_not_there() {
    let (scratch, root) = host(CgroupVersion::V1);
    let bench = bench(&root, "/");
    scratch.write("/proc/sys/vm/panic_on_oom", "1");
    let protected = config(|c| c.protect_kernel_defaults = Some(true));
    let error = prepare_node(&protected, &root, &bench.parts)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "kernel settings differ and may not be changed: invalid kernel flag: vm/panic_on_oom, expected value: 0, actual value: 1"
    );
    prepare(&config(|_| {}), &bench, &root);
    assert_eq!(
        std::fs::read_to_string(root.join("/proc/sys/vm/panic_on_oom")).unwrap(),
        "0"
    );
    let enforced = config(|c| {
        c.enforce_node_allocatable = Some(vec!["pods".into(), "system-reserved".into()]);
        c.system_reserved = Some([("cpu".into(), "500m".into())].into());
        c.system_reserved_cgroup = Some("/system.slice".into());
    });
    let error = prepare_node(&enforced, &root, &bench.parts)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(
            "Failed to enforce System Reserved Cgroup Limits on \"/system.slice\": cgroup [\"system.slice\"] has some missing paths: /"
        ),
        "{error}"
    );
    bench
        .parts
        .cgroups
        .create("/system.slice", &CgroupLimits::default())
        .unwrap();
    let prepared = prepare_node(&enforced, &root, &bench.parts).unwrap();
    assert_eq!(prepared.warnings, Vec::<String>::new());
    let told: Vec<&str> = prepared.events.iter().map(|e| e.message.as_str()).collect();
    assert_eq!(
        told,
        [
            "Updated Node Allocatable limit across pods",
            "Updated limits on system reserved cgroup /system.slice"
        ]
    );
    let shares = bench
        .parts
        .cgroups
        .read_limits("/system.slice")
        .unwrap()
        .cpu_shares;
    assert_eq!(shares, Some(512));
}

/// Removes the test's tree even when an assertion fails.
struct Tree(Arc<dyn Cgroups>, String);

impl Drop for Tree {
    fn drop(&mut self) {
        self.0.remove(&self.1).unwrap();
    }
}

#[test]
fn this_machines_hierarchies_take_the_tree() {
    let root = HostRoot::real();
    let path = format!("/hyperkube-test-tree-{}", std::process::id());
    let bench = bench(&root, &path);
    let _tree = Tree(Arc::clone(&bench.parts.cgroups), path.clone());
    let wanted = wanted_tree(&[], &bench.parts.node, &bench.parts.allowance);
    let failed = write_all(bench.parts.cgroups.as_ref(), &wanted);
    assert!(failed.is_empty(), "{failed:?}");
    for tier in ["", "/burstable", "/besteffort"] {
        assert!(
            bench
                .parts
                .cgroups
                .exists(&format!("{path}/kubepods{tier}"))
        );
    }
    let limits = bench
        .parts
        .cgroups
        .read_limits(&format!("{path}/kubepods"))
        .unwrap();
    assert_eq!(limits.memory_limit, Some(8 << 30));
    let known = BTreeSet::new();
    let cgroups = bench.parts.cgroups.as_ref();
    assert!(
        abandoned_cgroups(cgroups, &bench.parts.node, &known)
            .unwrap()
            .is_empty()
    );
}
