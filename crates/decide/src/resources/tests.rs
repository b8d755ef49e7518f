//! Shares, quota, classes, scores, huge pages and swap, with upstream's golden values.

use super::*;
use crate::testing::{node, pod_of};

#[test]
fn shares_and_quota_have_upstreams_golden_values() {
    for (milli, quota) in [
        (0, 0),
        (5, 1000),
        (9, 1000),
        (10, 1000),
        (200, 20_000),
        (500, 50_000),
        (1000, 100_000),
        (1500, 150_000),
    ] {
        assert_eq!(milli_cpu_to_quota(milli, 100_000), quota);
    }
    for (milli, shares) in [
        (0, 2),
        (1, 2),
        (50, 51),
        (100, 102),
        (1000, 1024),
        (256_000_000, 262_144),
    ] {
        assert_eq!(milli_cpu_to_shares(milli), shares);
    }
    for (shares, milli) in [(0, 0), (2, 2), (102, 100), (1024, 1000), (2048, 2000)] {
        assert_eq!(shares_to_milli_cpu(shares), milli);
    }
    for (quota, period, milli) in [
        (-1, 100_000, 0),
        (5000, 100_000, 50),
        (200_000, 100_000, 2000),
        (1, 0, 0),
    ] {
        assert_eq!(quota_to_milli_cpu(quota, period), milli);
    }
}

#[test]
fn classes_follow_cpu_and_memory_of_all_containers() {
    use QosClass::{BestEffort, Burstable, Guaranteed};
    const BOTH: &str = "resources: {limits: {cpu: 1, memory: 1Gi}}";
    let level = |resources: &str| format!("{{resources: {resources}, containers: [{{name: c}}]}}");
    for (spec, expected) in [
        ("{containers: [{name: c}]}".to_owned(), BestEffort),
        (
            "{containers: [{name: c, resources: {requests: {cpu: 0}, limits: {gpu: 1}}}]}"
                .to_owned(),
            BestEffort,
        ),
        (format!("{{containers: [{{name: c, {BOTH}}}]}}"), Guaranteed),
        (
            format!("{{containers: [{{name: c, {BOTH}}}, {{name: d}}]}}"),
            Burstable,
        ),
        (
            format!("{{initContainers: [{{name: i}}], containers: [{{name: c, {BOTH}}}]}}"),
            Burstable,
        ),
        (
            "{containers: [{name: c, resources: {limits: {cpu: 1}}}]}".to_owned(),
            Burstable,
        ),
        (
            level("{requests: {cpu: 1, memory: 1}, limits: {cpu: 1, memory: 1}}"),
            Guaranteed,
        ),
        (
            level("{requests: {cpu: 1, memory: 1}, limits: {cpu: 1, memory: 2}}"),
            Burstable,
        ),
        (level("{requests: {cpu: 1, memory: 1}}"), Burstable),
    ] {
        assert_eq!(qos_class(&pod_of(&spec)), expected, "{spec}");
    }
}

#[test]
fn a_class_that_the_api_gave_stays() {
    let pod =
        crate::testing::pod("{spec: {containers: [{name: c}]}, status: {qosClass: Burstable}}");
    assert_eq!(qos_class(&pod), QosClass::Burstable);
}

fn scores(spec: &str, capacity: i64) -> Vec<i64> {
    let pod = pod_of(spec);
    pod.all_containers()
        .map(|container| oom_score_adj(&pod, container, capacity))
        .collect()
}

#[test]
fn oom_scores_have_upstreams_golden_values() {
    const MEMORY: i64 = 8_000_000_000;
    const FOUR: i64 = 4_000_000_000;
    let one = |resources: &str| format!("{{containers: [{{name: c, resources: {resources}}}]}}");
    let with = |name: &str, request: i64, more: &str| {
        format!("{{name: {name}, resources: {{requests: {{memory: {request}}}}}{more}}}")
    };
    let eighth = MEMORY / 8;
    let mixed = |sidecar: i64| {
        let side = with("s", sidecar, ", restartPolicy: Always");
        format!(
            "{{initContainers: [{}, {side}], containers: [{}]}}",
            with("i", eighth, ""),
            with("c", eighth, "")
        )
    };
    let level = "resources: {requests: {cpu: 5m, memory: 2000000000}, limits: {cpu: 5m, memory: 2000001000}}";
    for (spec, capacity, expected) in [
        (one("{limits: {cpu: 10}}"), FOUR, vec![999]),
        (one("{limits: {memory: 0}}"), 7_230_457_451, vec![1000]),
        (one("{}"), FOUR, vec![1000]),
        (
            one("{limits: {cpu: 5m, memory: 10G}}"),
            123_456_789,
            vec![-997],
        ),
        (
            one("{requests: {memory: 4000000000, cpu: 5m}, limits: {memory: 10G}}"),
            MEMORY,
            vec![500],
        ),
        (
            one("{requests: {memory: 7999999999, cpu: 5m}}"),
            MEMORY,
            vec![3],
        ),
        (
            "{priorityClassName: system-cluster-critical, containers: [{name: c}]}".to_owned(),
            FOUR,
            vec![1000],
        ),
        (
            "{priorityClassName: system-node-critical, containers: [{name: c}]}".to_owned(),
            FOUR,
            vec![-997],
        ),
        (mixed(MEMORY / 20), MEMORY, vec![875, 875, 875]),
        (mixed(eighth), MEMORY, vec![875, 875, 875]),
        (mixed(MEMORY / 2), MEMORY, vec![875, 500, 875]),
        (
            format!("{{{level}, containers: [{{name: a}}, {{name: b}}]}}"),
            FOUR,
            vec![750, 750],
        ),
        (
            format!(
                "{{{level}, containers: [{}, {{name: b}}]}}",
                with("a", eighth, "")
            ),
            FOUR,
            vec![625, 875],
        ),
    ] {
        assert_eq!(scores(&spec, capacity), expected, "{spec}");
    }
}

#[test]
fn huge_pages_have_upstreams_golden_limits() {
    let sizes = ["2MB".to_owned(), "1GB".to_owned()];
    let (two_mi, two_gi) = (2 << 20, 2_u64 << 30);
    for (of_pod, of_container, expected) in [
        ("", "hugepages-2Mi: 2Mi", [two_mi, 0]),
        ("", "hugepages-1Gi: 2Gi", [0, two_gi]),
        ("", "hugepages-2MB: 2Mi, hugepages-1GB: 2Gi", [0, 0]),
        (
            "",
            "hugepages-2Mi: 2Mi, hugepages-1Gi: 2Gi",
            [two_mi, two_gi],
        ),
        ("hugepages-2Mi: 2Mi", "", [two_mi, 0]),
        (
            "hugepages-2Mi: 4Mi, hugepages-1Gi: 4Gi",
            "hugepages-2Mi: 2Mi",
            [two_mi, 4 << 30],
        ),
    ] {
        let pod = pod_of(&format!(
            "{{resources: {{limits: {{{of_pod}}}}},
              containers: [{{name: c, resources: {{limits: {{{of_container}}}}}}}]}}"
        ));
        let limits = hugepage_limits(&pod, &pod.containers()[0], &sizes);
        let seen: Vec<_> = limits.iter().map(|limit| limit.limit).collect();
        assert_eq!(seen, expected, "{of_pod} / {of_container}");
    }
}

#[test]
fn containers_without_a_limit_take_their_pods() {
    let pod = pod_of(
        "{resources: {limits: {cpu: 3, memory: 256Mi}},
          containers: [{name: c, resources: {requests: {cpu: 1, memory: 128Mi}}}]}",
    );
    let found = container_resources(&pod, &pod.containers()[0], &node(), SwapController::Missing);
    assert_eq!(
        (
            found.cpu_shares,
            found.cpu_quota,
            found.memory_limit_in_bytes
        ),
        (1024, 300_000, 256 << 20)
    );
    assert_eq!(found.memory_swap_limit_in_bytes, 0);
}

#[test]
fn the_unified_tree_ends_containers_whole_and_gives_no_swap() {
    let mut node = node();
    node.cgroups.v2 = true;
    let pod = pod_of("{containers: [{name: c, resources: {limits: {memory: 1Mi}}}]}");
    let found = container_resources(&pod, &pod.containers()[0], &node, SwapController::Available);
    let unified = [("memory.oom.group", "1"), ("memory.swap.max", "0")];
    let unified = unified.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(
        (found.unified, found.memory_swap_limit_in_bytes),
        (unified.into(), 0)
    );
    let found = container_resources(&pod, &pod.containers()[0], &node, SwapController::Missing);
    assert_eq!(found.unified.len(), 1);
    assert_eq!(sandbox_resources(&pod, &node).unified.len(), 1);
    assert!(sandbox_overhead(&pod, &node).unified.is_empty());
}

#[test]
fn no_quota_is_told_when_it_is_not_enforced() {
    let mut node = node();
    node.cgroups.cfs_quota = false;
    let pod = pod_of("{containers: [{name: c, resources: {limits: {cpu: 1}}}]}");
    let found = sandbox_resources(&pod, &node);
    assert_eq!(
        (found.cpu_quota, found.cpu_period, found.cpu_shares),
        (0, 0, 1024)
    );
}
