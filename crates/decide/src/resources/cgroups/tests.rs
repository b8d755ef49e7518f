//! Limits of cgroups, with upstream's golden values and the recorded tree.

use super::*;
use crate::shapes::work::PodCgroup;
use crate::testing::{node, pod_of};

const MI: i64 = 1 << 20;

/// A pod with pod-level resources (empty: none) and one container per entry of requests and limits.
fn pod(level: &str, containers: &[(&str, &str)]) -> Pod {
    let container = |(index, (requests, limits)): (usize, &(&str, &str))| {
        format!("{{name: c{index}, resources: {{requests: {{{requests}}}, limits: {{{limits}}}}}}}")
    };
    let containers: Vec<_> = containers.iter().enumerate().map(container).collect();
    let level = if level.is_empty() {
        String::new()
    } else {
        format!("resources: {level}, ")
    };
    pod_of(&format!(
        "{{{level}containers: [{}]}}",
        containers.join(", ")
    ))
}

fn limits(pod: &Pod, node: &NodeView) -> PodCgroup {
    pod_cgroup(pod, node).expect("the node has tiers")
}

const R100: &str = "cpu: 100m, memory: 100Mi";
const R200: &str = "cpu: 200m, memory: 200Mi";

#[test]
fn pods_get_upstreams_golden_limits() {
    type Row = (&'static str, Pod, (Option<u64>, Option<i64>, Option<i64>));
    let rows: [Row; 10] = [
        ("besteffort", pod("", &[("", "")]), (Some(2), None, None)),
        (
            "burstable-no-limits",
            pod("", &[(R100, "")]),
            (Some(102), None, None),
        ),
        (
            "burstable-with-limits",
            pod("", &[(R100, R200)]),
            (Some(102), Some(20_000), Some(200 * MI)),
        ),
        (
            "burstable-partial-limits",
            pod("", &[(R100, R200), (R100, "")]),
            (Some(204), None, None),
        ),
        (
            "guaranteed",
            pod("", &[(R100, R100)]),
            (Some(102), Some(10_000), Some(100 * MI)),
        ),
        (
            "burstable-with-pod-level-requests",
            pod(
                "{requests: {cpu: 100m, memory: 100Mi}}",
                &[("cpu: 10m, memory: 50Mi", "")],
            ),
            (Some(102), None, None),
        ),
        (
            "burstable-with-pod-level-resources",
            pod(
                "{requests: {cpu: 100m, memory: 100Mi}, limits: {cpu: 200m, memory: 200Mi}}",
                &[("", "")],
            ),
            (Some(102), Some(20_000), Some(200 * MI)),
        ),
        (
            "burstable-with-partial-pod-level-resources-limits",
            pod("{requests: {cpu: 200m, memory: 300Mi}}", &[(R200, R200)]),
            (Some(204), Some(20_000), Some(200 * MI)),
        ),
        (
            "guaranteed-with-pod-level-resources",
            pod(
                "{requests: {cpu: 100m, memory: 100Mi}, limits: {cpu: 100m, memory: 100Mi}}",
                &[("", "")],
            ),
            (Some(102), Some(10_000), Some(100 * MI)),
        ),
        (
            "guaranteed-with-pod-and-container-level-resources",
            pod(
                "{requests: {cpu: 100m, memory: 100Mi}, limits: {cpu: 100m, memory: 100Mi}}",
                &[("cpu: 10m, memory: 50Mi", "cpu: 50m, memory: 100Mi")],
            ),
            (Some(102), Some(10_000), Some(100 * MI)),
        ),
    ];
    for (name, pod, expected) in rows {
        let cgroup = limits(&pod, &node());
        assert_eq!(
            (cgroup.cpu_shares, cgroup.cpu_quota_us, cgroup.memory_limit),
            expected,
            "{name}"
        );
        assert_eq!(
            cgroup.cpu_period_us,
            cgroup.cpu_quota_us.map(|_| 100_000),
            "{name}"
        );
    }
}

#[test]
fn quota_follows_the_period_or_is_lifted() {
    let mut node = node();
    node.cgroups.cfs_period_us = 5000;
    let burstable = pod("", &[(R100, R200)]);
    assert_eq!(limits(&burstable, &node).cpu_quota_us, Some(1000));
    node.cgroups.cfs_quota = false;
    let cgroup = limits(&burstable, &node);
    assert_eq!(
        (cgroup.cpu_quota_us, cgroup.cpu_period_us),
        (Some(-1), Some(5000))
    );
    assert_eq!(limits(&pod("", &[("", "")]), &node).cpu_quota_us, None);
}

#[test]
fn an_init_container_that_needs_more_sets_the_pods_limits() {
    let pod = pod_of(
        "{initContainers: [
            {name: side, restartPolicy: Always, resources: {limits: {cpu: 100m, memory: 10Mi}}},
            {name: big, resources: {limits: {cpu: 500m, memory: 10Mi}}}],
          containers: [{name: c, resources: {limits: {cpu: 200m, memory: 100Mi}}}],
          overhead: {cpu: 10m}}",
    );
    let cgroup = limits(&pod, &node());
    // cpu: sidecar and "big" together, and the overhead; memory: sidecar and "c".
    assert_eq!(
        (cgroup.cpu_quota_us, cgroup.memory_limit),
        (Some(61_000), Some(110 * MI))
    );
    assert_eq!(cgroup.cpu_shares, Some(610 * 1024 / 1000));
}

#[test]
fn huge_pages_and_processes_are_limited() {
    let mut node = node();
    node.cgroups.pod_pids_limit = Some(100);
    let amounts = "cpu: 1, memory: 1Gi, hugepages-2Mi: 4Mi, hugepages-2097152: 2Mi";
    let cgroup = limits(&pod("", &[(amounts, amounts)]), &node);
    assert_eq!(
        cgroup.hugetlb,
        Some(BTreeMap::from([("1GB".into(), 0), ("2MB".into(), 6 << 20)]))
    );
    assert_eq!(cgroup.pids_limit, Some(100));
    node.cgroups.pod_pids_limit = Some(-1);
    assert_eq!(limits(&pod("", &[("", "")]), &node).pids_limit, None);
}

#[test]
fn the_tree_lies_below_the_configured_root() {
    let mut node = node();
    let paths = |node: &NodeView| {
        [
            pod("", &[(R100, R100)]),
            pod("", &[(R100, "")]),
            pod("", &[("", "")]),
        ]
        .map(|pod| pod_cgroup_path(&pod, node).unwrap_or_default())
    };
    assert_eq!(
        paths(&node),
        [
            "/kubepods/podu1",
            "/kubepods/burstable/podu1",
            "/kubepods/besteffort/podu1"
        ]
    );
    node.cgroups.root = "/a/b/".into();
    assert_eq!(paths(&node)[1], "/a/b/kubepods/burstable/podu1");
    let every = every_pod_cgroup_path(&PodUid::parse("u1").unwrap(), &node);
    assert_eq!(every, paths(&node), "one for each class");
    node.cgroups.root = "a".into();
    node.cgroups.per_qos = false;
    assert_eq!(pods_root_path(&node), "/a");
    assert_eq!(paths(&node), ["", "", ""], "the root is no pod's to remove");
    assert_eq!(
        every_pod_cgroup_path(&PodUid::parse("u1").unwrap(), &node),
        [""; 0]
    );
    assert_eq!(pod_cgroup(&pod("", &[(R100, "")]), &node), None);
    assert_eq!(qos_cgroups(&[pod("", &[(R100, "")])], &node), []);
}

#[test]
fn tiers_and_root_equal_the_recorded_tree() {
    let burstable = pod("", &[("cpu: 50m, memory: 16Mi", "cpu: 200m, memory: 64Mi")]);
    let pods = [burstable, pod("", &[(R100, R100)]), pod("", &[("", "")])];
    let tiers = qos_cgroups(&pods, &node());
    let seen: Vec<_> = tiers
        .iter()
        .map(|tier| (tier.path.as_str(), tier.cpu_shares))
        .collect();
    let expected = [
        ("/kubepods", None),
        ("/kubepods/burstable", Some(51)),
        ("/kubepods/besteffort", Some(2)),
    ];
    assert_eq!(seen, expected);
    assert!(tiers.iter().all(|tier| {
        tier.hugetlb
            .iter()
            .flatten()
            .all(|(_, limit)| *limit == 1 << 62)
    }));
    let allowance = PodsAllowance {
        milli_cpu: 2000,
        memory_bytes: 25_276_510_208,
        pids: Some(32768),
    };
    let root = pods_root_cgroup(&allowance, &node());
    assert_eq!(
        (
            root.cpu_shares,
            root.cpu_quota_us,
            root.memory_limit,
            root.pids_limit
        ),
        (Some(2048), None, Some(25_276_510_208), Some(32768))
    );
}

#[test]
fn directories_of_pods_are_recognised() {
    assert_eq!(
        pod_uid_of_cgroup("podab-1"),
        Some(PodUid::parse("ab-1").unwrap())
    );
    for other in ["pod", "crio-1", "apod1", "podpod1"] {
        assert_eq!(pod_uid_of_cgroup(other), None, "{other}");
    }
}
