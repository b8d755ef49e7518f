//! Who makes room: upstream's table, and who may.
//!
//! Upstream: pkg/kubelet/preemption/preemption_test.go (TestGetPodsToPreempt, TestEvictPodsToFreeRequests), types/pod_update_test.go
//!        (TestIsCriticalPod, TestPreemptable)

use std::sync::Arc;

use expect_test::expect;
use k8s_openapi::api::core::v1;
use kubelet_model::pod::SourceKind;

use super::*;
use crate::pod::admission::allocation;
use crate::resources::qos_class;
use crate::testing::pod;

const ALL: [(&str, &str); 7] = [
    ("best-effort", "{}"),
    ("burstable", "{requests: {cpu: 100m, memory: 100Mi}}"),
    ("large-burstable", "{requests: {cpu: 300m, memory: 300Mi}}"),
    ("guaranteed", "{limits: {cpu: 100m, memory: 100Mi}}"),
    ("large-guaranteed", "{limits: {cpu: 300m, memory: 300Mi}}"),
    (
        "cluster-critical",
        "{requests: {cpu: 100m, memory: 100Mi}}, PRIORITY",
    ),
    (
        "node-critical",
        "{requests: {cpu: 100m, memory: 100Mi}}, PRIORITY",
    ),
];

/// A pod of the API of one of these kinds.
fn made(kind: &str) -> Pod {
    let (_, resources) = ALL.iter().find(|(name, _)| *name == kind).unwrap();
    let resources = resources.trim_end_matches(", PRIORITY");
    let priority = match kind {
        "cluster-critical" => "2000000000",
        "node-critical" => "2000000100",
        _ => "0",
    };
    let made = pod(&format!(
        "{{metadata: {{name: {kind}}}, spec: {{priority: {priority}, containers: [{{name: c, resources: {resources}}}]}}}}"
    ));
    let object: v1::Pod = (*made.object).clone();
    Pod::new(Arc::new(object), SourceKind::Api, Vec::new()).unwrap()
}

const MI: i64 = 1 << 20;

#[test]
fn victims_are_chosen_as_upstream_does() {
    let five = [
        "best-effort",
        "burstable",
        "large-burstable",
        "guaranteed",
        "large-guaranteed",
    ];
    let rows: &[(&str, &[&str], [i64; 3])] = &[
        ("cluster-critical", &[], [0, 0, 0]),
        ("cluster-critical", &[], [0, 0, 1]),
        ("cluster-critical", &["burstable"], [100, 100, 1]),
        ("cluster-critical", &["burstable"], [200, 200, 2]),
        ("cluster-critical", &["burstable", "best-effort"], [0, 0, 1]),
        ("cluster-critical", &["burstable", "guaranteed"], [0, 0, 1]),
        (
            "cluster-critical",
            &["best-effort", "large-burstable", "burstable"],
            [100, 100, 0],
        ),
        (
            "cluster-critical",
            &["best-effort", "burstable", "large-burstable"],
            [150, 150, 0],
        ),
        ("cluster-critical", &five, [350, 350, 0]),
        ("cluster-critical", &five, [0, 550, 0]),
        ("node-critical", &["cluster-critical"], [100, 0, 0]),
        ("cluster-critical", &["node-critical"], [100, 0, 0]),
    ];
    let mut lines = String::new();
    for (by, here, [cpu, memory, pods]) in rows {
        let by = made(by);
        let here: Vec<Pod> = here.iter().map(|kind| made(kind)).collect();
        let taken: Vec<_> = here.iter().map(allocation).collect();
        let candidates: Vec<Candidate<'_>> = here
            .iter()
            .zip(&taken)
            .filter(|(pod, _)| is_preemptable(&by, pod))
            .map(|(pod, taken)| Candidate {
                name: &pod.full_name,
                class: qos_class(pod),
                requests: &taken.requests,
            })
            .collect();
        let missing: Shortfall = [("cpu", *cpu), ("memory", memory * MI), ("pods", *pods)]
            .into_iter()
            .filter(|(_, amount)| *amount > 0)
            .map(|(name, amount)| (name.to_owned(), amount))
            .collect();
        let said = match victims(&candidates, &missing) {
            Ok(victims) if victims.is_empty() => "nobody".to_owned(),
            Ok(victims) => victims
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            Err(why) => why,
        };
        let here: Vec<_> = here
            .iter()
            .map(|pod| pod.full_name.name.to_string())
            .collect();
        let by = &by.full_name.name;
        writeln!(
            lines,
            "{by} | {} | {cpu} {memory} {pods}\n    {said}",
            here.join(" ")
        )
        .unwrap();
    }
    expect![[r#"
        cluster-critical |  | 0 0 0
            nobody
        cluster-critical |  | 0 0 1
            no set of running pods found to reclaim resources: [(res: pods, q: 1), ]
        cluster-critical | burstable | 100 100 1
            default/burstable
        cluster-critical | burstable | 200 200 2
            no set of running pods found to reclaim resources: [(res: cpu, q: 100), (res: memory, q: 104857600), (res: pods, q: 1), ]
        cluster-critical | burstable best-effort | 0 0 1
            default/best-effort
        cluster-critical | burstable guaranteed | 0 0 1
            default/burstable
        cluster-critical | best-effort large-burstable burstable | 100 100 0
            default/burstable
        cluster-critical | best-effort burstable large-burstable | 150 150 0
            default/large-burstable
        cluster-critical | best-effort burstable large-burstable guaranteed large-guaranteed | 350 350 0
            default/large-burstable default/burstable
        cluster-critical | best-effort burstable large-burstable guaranteed large-guaranteed | 0 550 0
            default/large-burstable default/large-guaranteed
        node-critical | cluster-critical | 100 0 0
            default/cluster-critical
        cluster-critical | node-critical | 100 0 0
            no set of running pods found to reclaim resources: [(res: cpu, q: 100), ]
    "#]].assert_eq(&lines);
}

#[test]
fn critical_are_static_pods_and_those_of_a_system_priority() {
    let is_static = pod("{spec: {containers: [{name: c}]}}");
    assert!(is_critical(&is_static));
    assert!(is_critical(&made("cluster-critical")) && is_critical(&made("node-critical")));
    assert!(!is_critical(&made("burstable")));
    // Of two that are not critical the priority counts, and an equal one ends nobody.
    assert!(!is_preemptable(&made("burstable"), &made("best-effort")));
    assert!(is_preemptable(
        &made("cluster-critical"),
        &made("guaranteed")
    ));
}
