//! Each reason of upstream's table with its text, and the pods that go through.

use std::sync::Arc;

use kubelet_model::pod::SourceKind;
use serde_json::{Value, json};

use super::*;
use crate::testing::pod_of;

/// A pod of the API.
fn api_pod(spec: &str) -> Pod {
    let object = Arc::clone(&pod_of(spec).object);
    Pod::new(object, SourceKind::Api, Vec::new()).unwrap()
}

fn node(extra: &Value) -> v1::Node {
    let mut node = json!({ "metadata": { "name": "bench", "labels": { "zone": "a", "cores": "8", "kubernetes.io/os": "linux" } } });
    if let (Some(node), Some(extra)) = (node.as_object_mut(), extra.as_object()) {
        node.extend(extra.clone());
    }
    serde_json::from_value(node).unwrap()
}

fn decided(pod: &Pod, others: &[&str], node: &v1::Node) -> String {
    // One that is ending stands behind this sign.
    let spec_of = |other: &str| api_pod(other.trim_start_matches('~'));
    let pods: Vec<(Pod, Allocation, bool)> = others
        .iter()
        .map(|other| {
            (
                spec_of(other),
                allocation(&spec_of(other)),
                other.starts_with('~'),
            )
        })
        .collect();
    let others: Vec<Other<'_>> = pods
        .iter()
        .map(|(pod, allocation, is_ending)| Other {
            pod,
            allocation,
            is_ending: *is_ending,
        })
        .collect();
    let allocatable = [
        ("cpu", 2000),
        ("memory", 1 << 30),
        ("ephemeral-storage", 1000),
        ("pods", 3),
        ("example.org/card", 1),
    ];
    let view = AdmissionView {
        pod,
        others: &others,
        allocatable: &allocatable.map(|(name, n)| (name.to_owned(), n)).into(),
        node,
        rules: &AdmissionRules {
            sysctls: SysctlAllowlist::new("6.1.0", &[]).unwrap(),
            app_armor: AppArmor::Absent,
        },
    };
    match admission(&view) {
        Verdict::Admitted(_) => "admitted".to_owned(),
        Verdict::Waits(waiting, or_else) => {
            format!("waits: {}; or {}", waiting.message, or_else.reason)
        }
        Verdict::Preempts(victims, waiting, or_else) => {
            let victims: Vec<String> = victims.iter().map(ToString::to_string).collect();
            let (names, reason) = (victims.join(" "), or_else.reason);
            format!("ends {names}: {}; or {reason}", waiting.message)
        }
        Verdict::Rejected(why) => format!("{} {}", why.reason, why.message),
    }
}

fn check(spec: &str, others: &[&str], expected: &str) {
    let decided = decided(&api_pod(spec), others, &node(&json!({})));
    assert_eq!(decided, expected, "{spec}");
}

fn asking(requests: &str) -> String {
    format!("{{containers: [{{name: c, image: i, resources: {{requests: {{{requests}}}}}}}]}}")
}

#[test]
fn a_critical_pod_ends_others_only_for_what_it_is_short_of() {
    let node = node(&json!({}));
    let half = asking("cpu: 500m, memory: 512Mi");
    let decided = |pod: &Pod, others: &[&str]| decided(pod, others, &node);
    let critical = pod_of(&asking("cpu: 1800m"));
    let waits = "Node didn't have enough resource: cpu, requested: 1800, used: 500, capacity: 2000; waits for the end of default/web";
    assert_eq!(
        decided(&critical, &[&half]),
        format!("ends default/web: {waits}; or OutOfcpu")
    );
    // What is ending already is waited for, and nobody else is ended.
    let ending = format!("~{half}");
    assert_eq!(
        decided(&critical, &[&ending]),
        format!("waits: {waits}; or OutOfcpu")
    );
    let large = pod_of(&asking("cpu: '3'"));
    assert_eq!(
        decided(&large, &[&half]),
        "UnexpectedAdmissionError Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to preempt: no set of running pods found to reclaim resources: [(res: cpu, q: 1000), ]"
    );
    let elsewhere = pod_of(&format!(
        "{{nodeName: other, {}",
        asking("cpu: 1800m").trim_start_matches('{')
    ));
    assert_eq!(
        decided(&elsewhere, &[&half]),
        "NodeName Predicate NodeName failed: node(s) didn't match the requested node name"
    );
    // Nobody is ended for a pod like any other.
    assert_eq!(
        decided(&api_pod(&asking("cpu: 1800m")), &[&half]),
        "OutOfcpu Node didn't have enough resource: cpu, requested: 1800, used: 500, capacity: 2000"
    );
}

#[test]
fn what_the_node_does_not_have_is_refused_with_its_numbers() {
    let short = |name: &str, requested: i64, used: i64, capacity: i64| {
        format!(
            "OutOf{name} Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
        )
    };
    check(&asking("cpu: '2'"), &[], "admitted");
    check(&asking("cpu: 2001m"), &[], &short("cpu", 2001, 0, 2000));
    let half = asking("cpu: 500m, memory: 512Mi");
    check(
        &asking("cpu: 1501m"),
        &[&half],
        &short("cpu", 1501, 500, 2000),
    );
    check(
        &asking("memory: 513Mi"),
        &[&half],
        &short("memory", 513 << 20, 512 << 20, 1 << 30),
    );
    check(
        &asking("ephemeral-storage: 1001"),
        &[],
        &short("ephemeral-storage", 1001, 0, 1000),
    );
    check(
        &asking("hugepages-2Mi: 2Mi"),
        &[],
        &short("hugepages-2Mi", 2 << 20, 0, 0),
    );
    check(
        &asking("example.org/card: '2'"),
        &[],
        &short("example.org/card", 2, 0, 1),
    );
    check(&asking("example.org/other: '2'"), &[], "admitted");
    let (nothing, full) = (asking(""), [&*half, &*half, &*half]);
    check(&nothing, &full, &short("pods", 1, 3, 3));
    check(
        &asking("cpu: '9', memory: 9Gi"),
        &[],
        &short("cpu", 9000, 0, 2000),
    );
    check(
        "{initContainers: [{name: i, image: i, resources: {requests: {cpu: '3'}}}], containers: [{name: c, image: i}]}",
        &[],
        &short("cpu", 3000, 0, 2000),
    );
}

#[test]
fn selector_and_affinity_are_those_of_the_scheduler() {
    let refused = "NodeAffinity Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    let with = |text: &str| format!("{{containers: [{{name: c, image: i}}], {text}}}");
    let terms = |terms: &str| {
        with(&format!(
            "affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{terms}]}}}}}}"
        ))
    };
    let expression = |text: &str| terms(&format!("{{matchExpressions: [{text}]}}"));
    let rows = [
        (with("nodeSelector: {zone: a}"), true),
        (with("nodeSelector: {zone: a, rack: x}"), false),
        (
            expression("{key: zone, operator: In, values: [b, a]}"),
            true,
        ),
        (
            expression("{key: zone, operator: NotIn, values: [a]}"),
            false,
        ),
        (
            expression("{key: rack, operator: NotIn, values: [a]}"),
            true,
        ),
        (expression("{key: rack, operator: Exists}"), false),
        (expression("{key: rack, operator: DoesNotExist}"), true),
        (
            expression("{key: cores, operator: Gt, values: ['7']}"),
            true,
        ),
        (
            expression("{key: cores, operator: Lt, values: ['8']}"),
            false,
        ),
        (
            expression("{key: zone, operator: Gt, values: ['7']}"),
            false,
        ),
        (
            expression("{key: zone, operator: Exists}, {key: rack, operator: Exists}"),
            false,
        ),
        (
            terms("{matchFields: [{key: metadata.name, operator: In, values: [bench]}]}"),
            true,
        ),
        (
            terms(
                "{matchFields: [{key: metadata.name, operator: In, values: [x]}]}, {matchExpressions: [{key: zone, operator: Exists}]}",
            ),
            true,
        ),
        (terms("{}"), false),
        (terms(""), false),
    ];
    for (spec, is_admitted) in rows {
        check(&spec, &[], if is_admitted { "admitted" } else { refused });
    }
}

#[test]
fn a_port_of_the_host_belongs_to_one_pod_at_a_time() {
    let refused = "NodePorts Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
    let of = |port: &str| {
        format!("{{containers: [{{name: c, image: i, ports: [{{containerPort: 1, {port}}}]}}]}}")
    };
    let taken = of("hostPort: 80, hostIP: 10.0.0.1");
    let rows = [
        ("hostPort: 80", false),
        ("hostPort: 80, hostIP: 0.0.0.0", false),
        ("hostPort: 80, hostIP: 10.0.0.2", true),
        ("hostPort: 80, hostIP: 10.0.0.1, protocol: UDP", true),
        ("hostPort: 81", true),
        ("hostPort: 0", true),
    ];
    for (port, is_admitted) in rows {
        check(
            &of(port),
            &[&taken],
            if is_admitted { "admitted" } else { refused },
        );
    }
}

#[test]
fn of_taints_only_those_that_end_pods_count_and_static_pods_stand_above_them() {
    let refused = "TaintToleration Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate";
    let tainted = |effect: &str| {
        node(&json!({ "spec": { "taints": [{ "key": "k", "value": "v", "effect": effect }] } }))
    };
    let tolerating = |text: &str| {
        api_pod(&format!(
            "{{containers: [{{name: c, image: i}}], tolerations: [{text}]}}"
        ))
    };
    let rows = [
        ("", false),
        ("{key: k, value: v, effect: NoExecute}", true),
        ("{key: k, value: w}", false),
        ("{key: k, operator: Exists, effect: NoSchedule}", false),
        ("{operator: Exists}", true),
    ];
    for (text, is_admitted) in rows {
        let decided = decided(&tolerating(text), &[], &tainted("NoExecute"));
        assert_eq!(
            decided,
            if is_admitted { "admitted" } else { refused },
            "{text}"
        );
    }
    assert_eq!(
        decided(&tolerating(""), &[], &tainted("NoSchedule")),
        "admitted"
    );
    let fixed = pod_of("{containers: [{name: c, image: i}]}");
    assert_eq!(decided(&fixed, &[], &tainted("NoExecute")), "admitted");
}

#[test]
fn another_system_another_node_and_an_unknown_policy_are_refused() {
    check(
        "{os: {name: windows}, containers: [{name: c, image: i}]}",
        &[],
        "PodOSNotSupported Failed to admit pod as the OS field doesn't match node OS",
    );
    check(
        "{nodeName: other, containers: [{name: c, image: i}]}",
        &[],
        "NodeName Predicate NodeName failed: node(s) didn't match the requested node name",
    );
    let labelled = crate::testing::pod(
        "{metadata: {labels: {kubernetes.io/os: windows}}, spec: {containers: [{name: c, image: i}]}}",
    );
    assert_eq!(
        decided(&labelled, &[], &node(&json!({}))),
        "PodOSSelectorNodeLabelDoesNotMatch Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"
    );
    let strict = api_pod(
        "{securityContext: {supplementalGroupsPolicy: Strict}, containers: [{name: c, image: i}]}",
    );
    let refused = "SupplementalGroupsPolicyNotSupported SupplementalGroupsPolicy=Strict is not supported in this node";
    for silent in [json!({}), json!({ "status": {} })] {
        assert_eq!(decided(&strict, &[], &node(&silent)), refused);
    }
    let offered = node(&json!({ "status": { "features": { "supplementalGroupsPolicy": true } } }));
    assert_eq!(decided(&strict, &[], &offered), "admitted");
}

#[test]
fn what_the_host_does_not_allow_is_refused_first_or_last() {
    let containers = "containers: [{name: c, image: i, resources: {requests: {cpu: '9'}}}]";
    let asks = |security: &str| format!("{{{containers}, securityContext: {{{security}}}}}");
    check(
        &asks("sysctls: [{name: kernel.sem, value: '1'}]"),
        &[],
        "SysctlForbidden forbidden sysctl: \"kernel.sem\" not allowlisted",
    );
    check(
        &asks("appArmorProfile: {type: RuntimeDefault}"),
        &[],
        "OutOfcpu Node didn't have enough resource: cpu, requested: 9000, used: 0, capacity: 2000",
    );
    check(
        "{containers: [{name: c, image: i}], securityContext: {appArmorProfile: {type: RuntimeDefault}}}",
        &[],
        "AppArmor Cannot enforce AppArmor: AppArmor is not enabled on the host",
    );
}

#[test]
fn what_the_sandbox_takes_counts() {
    let with_overhead = |cpu: &str| {
        format!(
            "{{containers: [{{name: c, image: i, resources: {{requests: {{cpu: '1'}}}}}}], overhead: {{cpu: {cpu}, memory: 1Mi}}}}"
        )
    };
    check(&with_overhead("'1'"), &[], "admitted");
    check(
        &with_overhead("1001m"),
        &[],
        "OutOfcpu Node didn't have enough resource: cpu, requested: 2001, used: 0, capacity: 2000",
    );
    check(
        &with_overhead("1m"),
        &[&with_overhead("0")],
        "OutOfcpu Node didn't have enough resource: cpu, requested: 1001, used: 1000, capacity: 2000",
    );
}

#[test]
fn room_that_pods_leave_which_are_ending_is_waited_for() {
    let half = asking("cpu: 500m");
    let ending = format!("~{half}");
    let short = |used: i64| {
        format!(
            "Node didn't have enough resource: cpu, requested: 1501, used: {used}, capacity: 2000"
        )
    };
    let big = asking("cpu: 1501m");
    check(
        &big,
        &[&ending],
        &format!(
            "waits: {}; waits for the end of default/web; or OutOfcpu",
            short(500)
        ),
    );
    // What stays is enough to keep it out.
    check(
        &big,
        &[&ending, &half],
        &format!("OutOfcpu {}", short(1000)),
    );
    // It fits beside all of them.
    check(&half, &[&ending, &ending], "admitted");
    let pods = asking("cpu: 1m");
    check(
        &pods,
        &[&ending, &ending, &ending],
        "waits: Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3; waits for the end of \
         default/web, default/web, default/web; or OutOfpods",
    );
    // Nothing that ends makes another operating system of this one.
    check(
        "{os: {name: windows}, containers: [{name: c, image: i}]}",
        &[&ending],
        "PodOSNotSupported Failed to admit pod as the OS field doesn't match node OS",
    );
    let port = "{containers: [{name: c, image: i, ports: [{containerPort: 80, hostPort: 80}]}]}";
    check(
        port,
        &[&format!("~{port}")],
        "waits: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports; waits for the end \
         of default/web; or NodePorts",
    );
}
