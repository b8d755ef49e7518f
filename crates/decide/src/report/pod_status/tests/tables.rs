//! What a status shows for every state of a pod: upstream's tables of phases, container statuses and whole statuses.
//!
//! In:    rows of a policy, what is remembered, what the runtime holds
//! Out:   –
//! Calls: cargo test
//! Holds: where upstream's input is an older status, ours is the record that a worker made of it
//! Upstream: pkg/kubelet/kubelet_pods_test.go (TestPodPhaseWith*, TestConvertToAPIContainerStatuses, Test_generateAPIPodStatus,
//!        TestGenerateAPIPodStatusPodIPs, TestGenerateAPIPodStatusHostNetworkPodIPs), 1.36; without restartable init containers,
//!        restart rules, pod-level resources

use expect_test::expect;

use super::super::*;
use crate::shapes::life::TerminationCause;
use crate::shapes::record::{EndReason, Ended};
use crate::shapes::view::Desire;
use crate::testing::held::seen;
use crate::testing::seen::Seen;

/// `Running; a running ready ×0; b waiting CrashLoopBackOff, last 1 Error, ×2; Ready=False(ContainersNotReady) …`
fn text(status: &v1::PodStatus) -> String {
    let mut out = status.phase.clone().unwrap_or_default();
    if let Some(reason) = &status.reason {
        out += &format!(" {reason}");
    }
    let init = status.init_container_statuses.iter().flatten();
    for c in init.chain(status.container_statuses.iter().flatten()) {
        out += &format!("; {} {}", c.name, state(c.state.as_ref()));
        let last = state(c.last_state.as_ref());
        if !last.is_empty() {
            out += &format!(", last {last}");
        }
        if c.ready {
            out += " ready";
        }
        out += &format!(" ×{}", c.restart_count);
    }
    for c in status.conditions.iter().flatten() {
        let reason = c
            .reason
            .as_ref()
            .map_or(String::new(), |r| format!("({r})"));
        out += &match (c.status.as_str(), c.type_.as_str()) {
            ("True", type_) => format!(" +{type_}{reason}"),
            (_, type_) => format!(" -{type_}{reason}"),
        };
    }
    out
}

fn state(state: Option<&v1::ContainerState>) -> String {
    let Some(state) = state else {
        return String::new();
    };
    if state.running.is_some() {
        return "running".to_owned();
    }
    if let Some(waiting) = &state.waiting {
        return format!("waiting {}", waiting.reason.as_deref().unwrap_or_default());
    }
    state.terminated.as_ref().map_or(String::new(), |t| {
        format!(
            "{} {}",
            t.exit_code,
            t.reason.as_deref().unwrap_or_default()
        )
    })
}

fn shown(seen: &mut Seen) -> String {
    let _plan = seen.turn();
    text(&seen.see(|view| {
        let plan = crate::pod::pod_plan::pod_plan(view);
        pod_status(view, &shown_waits(view, &plan)).status
    }))
}

#[test]
fn phases_are_upstreams() {
    let two = "containers: [{name: a, image: i}, {name: b, image: i}]";
    let init = "initContainers: [{name: x, image: i}], containers: [{name: a, image: i}, {name: b, image: i}]";
    let rows = [
        // TestPodPhaseWithRestartAlways
        (two, "Always", "nothing"),
        (two, "Always", "sandbox[0]:ready a[0]:running b[0]:running"),
        (
            two,
            "Always",
            "sandbox[0]:ready a[0]:exited(1) b[0]:exited(1)",
        ),
        (
            two,
            "Always",
            "sandbox[0]:ready a[0]:running b[0]:exited(1)",
        ),
        (two, "Always", "sandbox[0]:ready a[0]:running"),
        // TestPodPhaseWithRestartAlwaysInitContainers
        (init, "Always", "nothing"),
        (init, "Always", "sandbox[0]:ready x[0]:running"),
        (init, "Always", "sandbox[0]:ready x[0]:exited(1)"),
        (init, "Always", "sandbox[0]:ready x[0]:exited(0)"),
        (
            init,
            "Always",
            "sandbox[0]:ready x[0]:exited(0) a[0]:running b[0]:running",
        ),
        // TestPodPhaseWithRestartAlwaysAndPodHasRun
        (
            init,
            "Always",
            "sandbox[1]:ready sandbox[0]:notready x[1]:running a[0]:exited(0)@0 b[0]:exited(0)@0",
        ),
        (
            init,
            "Always",
            "sandbox[0]:ready x[0]:exited(0) a[0]:exited(0) b[0]:running",
        ),
        // TestPodPhaseWithRestartNever
        (two, "Never", "nothing"),
        (two, "Never", "sandbox[0]:ready a[0]:running b[0]:running"),
        (
            two,
            "Never",
            "sandbox[0]:ready a[0]:exited(0) b[0]:exited(0)",
        ),
        (
            two,
            "Never",
            "sandbox[0]:ready a[0]:exited(1) b[0]:exited(1)",
        ),
        (two, "Never", "sandbox[0]:ready a[0]:running b[0]:exited(0)"),
        (two, "Never", "sandbox[0]:ready a[0]:running"),
        // TestPodPhaseWithRestartNeverInitContainers
        (init, "Never", "sandbox[0]:ready x[0]:running"),
        (init, "Never", "sandbox[0]:ready x[0]:exited(1)"),
        (init, "Never", "sandbox[0]:ready x[0]:exited(0)"),
        (
            init,
            "Never",
            "sandbox[0]:ready x[0]:exited(0) a[0]:running b[0]:running",
        ),
        // TestPodPhaseWithRestartOnFailure
        (
            two,
            "OnFailure",
            "sandbox[0]:ready a[0]:exited(0) b[0]:exited(0)",
        ),
        (
            two,
            "OnFailure",
            "sandbox[0]:ready a[0]:exited(1) b[0]:exited(1)",
        ),
        (
            two,
            "OnFailure",
            "sandbox[0]:ready a[0]:running b[0]:exited(0)",
        ),
        (two, "OnFailure", "sandbox[0]:ready a[0]:running"),
    ];
    let mut out = String::new();
    for (containers, policy, held) in rows {
        let mut seen = seen(&format!("{{restartPolicy: {policy}, {containers}}}"), held);
        out += &format!("{policy} | {held}\n    {}\n", shown(&mut seen));
    }
    expect![[r#"
        Always | nothing
            Pending; a waiting ContainerCreating ×0; b waiting ContainerCreating ×0 -PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
        Always | sandbox[0]:ready a[0]:running b[0]:running
            Running; a running ready ×0; b running ready ×0 +PodReadyToStartContainers +Initialized +Ready +ContainersReady +PodScheduled
        Always | sandbox[0]:ready a[0]:exited(1) b[0]:exited(1)
            Running; a 1 Error ×0; b 1 Error ×0 +PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
        Always | sandbox[0]:ready a[0]:running b[0]:exited(1)
            Running; a running ready ×0; b 1 Error ×0 +PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
        Always | sandbox[0]:ready a[0]:running
            Pending; a running ready ×0; b waiting ContainerCreating ×0 +PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
        Always | nothing
            Pending; x waiting PodInitializing ×0; a waiting PodInitializing ×0; b waiting PodInitializing ×0 -PodReadyToStartContainers -Initialized(ContainersNotInitialized) -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
        Always | sandbox[0]:ready x[0]:running
            Pending; x running ×0; a waiting PodInitializing ×0; b waiting PodInitializing ×0 +PodReadyToStartContainers -Initialized(ContainersNotInitialized) -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
        Always | sandbox[0]:ready x[0]:exited(1)
            Pending; x 1 Error ×0; a waiting PodInitializing ×0; b waiting PodInitializing ×0 +PodReadyToStartContainers -Initialized(ContainersNotInitialized) -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
        Always | sandbox[0]:ready x[0]:exited(0)
            Pending; x 0 Completed ready ×0; a waiting PodInitializing ×0; b waiting PodInitializing ×0 +PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
        Always | sandbox[0]:ready x[0]:exited(0) a[0]:running b[0]:running
            Running; x 0 Completed ready ×0; a running ready ×0; b running ready ×0 +PodReadyToStartContainers +Initialized +Ready +ContainersReady +PodScheduled
        Always | sandbox[1]:ready sandbox[0]:notready x[1]:running a[0]:exited(0)@0 b[0]:exited(0)@0
            Pending; x running ×1; a 0 Completed ×0; b 0 Completed ×0 +PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
        Always | sandbox[0]:ready x[0]:exited(0) a[0]:exited(0) b[0]:running
            Running; x 0 Completed ready ×0; a 0 Completed ×0; b running ready ×0 +PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
        Never | nothing
            Pending; a waiting ContainerCreating ×0; b waiting ContainerCreating ×0 -PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
        Never | sandbox[0]:ready a[0]:running b[0]:running
            Running; a running ready ×0; b running ready ×0 +PodReadyToStartContainers +Initialized +Ready +ContainersReady +PodScheduled
        Never | sandbox[0]:ready a[0]:exited(0) b[0]:exited(0)
            Succeeded; a 0 Completed ×0; b 0 Completed ×0 +PodReadyToStartContainers +Initialized(PodCompleted) -Ready(PodCompleted) -ContainersReady(PodCompleted) +PodScheduled
        Never | sandbox[0]:ready a[0]:exited(1) b[0]:exited(1)
            Failed; a 1 Error ×0; b 1 Error ×0 +PodReadyToStartContainers +Initialized -Ready(PodFailed) -ContainersReady(PodFailed) +PodScheduled
        Never | sandbox[0]:ready a[0]:running b[0]:exited(0)
            Running; a running ready ×0; b 0 Completed ×0 +PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
        Never | sandbox[0]:ready a[0]:running
            Pending; a running ready ×0; b waiting ContainerCreating ×0 +PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
        Never | sandbox[0]:ready x[0]:running
            Pending; x running ×0; a waiting PodInitializing ×0; b waiting PodInitializing ×0 +PodReadyToStartContainers -Initialized(ContainersNotInitialized) -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
        Never | sandbox[0]:ready x[0]:exited(1)
            Failed; x 1 Error ×0; a waiting PodInitializing ×0; b waiting PodInitializing ×0 +PodReadyToStartContainers -Initialized(ContainersNotInitialized) -Ready(PodFailed) -ContainersReady(PodFailed) +PodScheduled
        Never | sandbox[0]:ready x[0]:exited(0)
            Pending; x 0 Completed ready ×0; a waiting PodInitializing ×0; b waiting PodInitializing ×0 +PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
        Never | sandbox[0]:ready x[0]:exited(0) a[0]:running b[0]:running
            Running; x 0 Completed ready ×0; a running ready ×0; b running ready ×0 +PodReadyToStartContainers +Initialized +Ready +ContainersReady +PodScheduled
        OnFailure | sandbox[0]:ready a[0]:exited(0) b[0]:exited(0)
            Succeeded; a 0 Completed ×0; b 0 Completed ×0 +PodReadyToStartContainers +Initialized(PodCompleted) -Ready(PodCompleted) -ContainersReady(PodCompleted) +PodScheduled
        OnFailure | sandbox[0]:ready a[0]:exited(1) b[0]:exited(1)
            Running; a 1 Error ×0; b 1 Error ×0 +PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
        OnFailure | sandbox[0]:ready a[0]:running b[0]:exited(0)
            Running; a running ready ×0; b 0 Completed ×0 +PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
        OnFailure | sandbox[0]:ready a[0]:running
            Pending; a running ready ×0; b waiting ContainerCreating ×0 +PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
    "#]].assert_eq(&out);
}

#[test]
fn statuses_of_pods_that_end_are_upstreams() {
    let mut out = String::new();
    let mut row =
        |what: &str, policy: &str, before: &str, held: &str, change: &dyn Fn(&mut Seen)| {
            let containers = "containers: [{name: a, image: i}, {name: b, image: i}]";
            let mut seen = seen(
                &format!("{{restartPolicy: {policy}, {containers}}}"),
                before,
            );
            let _plan = seen.turn();
            seen.hold(held);
            change(&mut seen);
            out += &format!("{what}\n    {}\n", shown(&mut seen));
        };
    let both = "sandbox[0]:ready a[0]:running b[0]:running";
    let stop = |seen: &mut Seen| {
        seen.desire = Desire::Stop {
            cause: TerminationCause::Removed,
            grace_seconds: None,
        };
    };
    let end = |seen: &mut Seen| {
        seen.memory.record.ended = Some(Ended {
            succeeded: true,
            why: Some(EndReason {
                reason: "Test".to_owned(),
                message: "test".to_owned(),
                disruption: None,
            }),
        });
    };
    let done = "sandbox[0]:notready a[0]:exited(0) b[0]:exited(1)";
    row(
        "both vanished, and the pod is deleted",
        "Always",
        both,
        "sandbox[0]:ready",
        &stop,
    );
    row(
        "both vanished, and the pod goes on",
        "Always",
        both,
        "sandbox[0]:ready",
        &|_| {},
    );
    row(
        "all is gone, and the pod goes on",
        "Always",
        both,
        "nothing",
        &|_| {},
    );
    row(
        "all succeeded, but it is deleted",
        "Always",
        "sandbox[0]:notready a[0]:exited(0) b[0]:exited(0)",
        "sandbox[0]:notready a[0]:exited(0) b[0]:exited(0)",
        &stop,
    );
    row("mixed, but it is deleted", "Always", done, done, &stop);
    row("it had succeeded, and one runs", "Always", both, both, &end);
    row(
        "it had succeeded, and both vanished",
        "Never",
        both,
        "nothing",
        &end,
    );
    row(
        "restart counts of the API stay",
        "Always",
        both,
        both,
        &|seen| {
            seen.memory.record.restart_counts.insert("a".to_owned(), 5);
        },
    );
    row(
        "deleted, one still runs",
        "Never",
        both,
        "sandbox[0]:ready a[0]:running b[0]:exited(137)",
        &stop,
    );
    row("rejected", "Always", "nothing", "nothing", &|seen| {
        seen.desire = Desire::Reject(Rejection {
            reason: "OutOfcpu".to_owned(),
            message: "no".to_owned(),
        });
    });
    expect![[r#"
        both vanished, and the pod is deleted
            Running; a 137 ContainerStatusUnknown ×0; b 137 ContainerStatusUnknown ×0 +PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
        both vanished, and the pod goes on
            Running; a waiting ContainerCreating, last 137 ContainerStatusUnknown ×1; b waiting ContainerCreating, last 137 ContainerStatusUnknown ×1 +PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
        all is gone, and the pod goes on
            Running; a waiting ContainerCreating, last 137 ContainerStatusUnknown ×1; b waiting ContainerCreating, last 137 ContainerStatusUnknown ×1 -PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
        all succeeded, but it is deleted
            Succeeded; a 0 Completed ×0; b 0 Completed ×0 -PodReadyToStartContainers +Initialized(PodCompleted) -Ready(PodCompleted) -ContainersReady(PodCompleted) +PodScheduled
        mixed, but it is deleted
            Failed; a 0 Completed ×0; b 1 Error ×0 -PodReadyToStartContainers +Initialized -Ready(PodFailed) -ContainersReady(PodFailed) +PodScheduled
        it had succeeded, and one runs
            Running; a running ready ×0; b running ready ×0 +PodReadyToStartContainers +Initialized +Ready +ContainersReady +PodScheduled
        it had succeeded, and both vanished
            Succeeded Test; a 137 ContainerStatusUnknown ×0; b 137 ContainerStatusUnknown ×0 -PodReadyToStartContainers +Initialized(PodCompleted) -Ready(PodCompleted) -ContainersReady(PodCompleted) +PodScheduled
        restart counts of the API stay
            Running; a running ready ×5; b running ready ×0 +PodReadyToStartContainers +Initialized +Ready +ContainersReady +PodScheduled
        deleted, one still runs
            Running; a running ready ×0; b 137 Error ×0 +PodReadyToStartContainers +Initialized -Ready(ContainersNotReady) -ContainersReady(ContainersNotReady) +PodScheduled
        rejected
            Failed OutOfcpu
    "#]].assert_eq(&out);
}

/// The addresses of a pod, on a node with these.
fn ips(node_ips: &[&str], host_network: bool, sandbox_ips: &[&str]) -> Vec<String> {
    let pod = format!("{{hostNetwork: {host_network}, containers: [{{name: a, image: i}}]}}");
    let mut seen = seen(&pod, "sandbox[0]:ready a[0]:running");
    let addresses = sandbox_ips.iter().map(ToString::to_string).collect();
    seen.observed.sandboxes[0].ips = Some(addresses);
    let mut node = crate::testing::node();
    node.ips = node_ips.iter().map(ToString::to_string).collect();
    seen.see(|view| {
        pod_ips(&PodView {
            node: &node,
            ..*view
        })
    })
}

#[test]
fn addresses_are_sorted_as_upstream_sorts_them() {
    type Row<'a> = (&'a [&'a str], bool, &'a [&'a str], &'a [&'a str]);
    let rows: [Row<'_>; 9] = [
        (&["192.168.1.1"], false, &["10.0.0.1"], &["10.0.0.1"]),
        (
            &["192.168.1.1", "fd01::1234"],
            false,
            &["10.0.0.1", "fd00:2::1"],
            &["10.0.0.1", "fd00:2::1"],
        ),
        (
            &["192.168.1.1", "fd01::1234"],
            false,
            &["fd00:2::1", "10.0.0.1"],
            &["10.0.0.1", "fd00:2::1"],
        ),
        (
            &["fd01::1234", "192.168.1.1"],
            false,
            &["10.0.0.1", "fd00:2::1"],
            &["fd00:2::1", "10.0.0.1"],
        ),
        (&["192.168.1.1"], false, &["fd00:2::1"], &["fd00:2::1"]),
        (
            &["192.168.1.1"],
            false,
            &["10.0.0.1", "10.0.0.2", "fd00:2::1", "fd00:2::2"],
            &["10.0.0.1", "fd00:2::1"],
        ),
        (&["192.168.1.1"], true, &[], &["192.168.1.1"]),
        (
            &["192.168.1.1", "fd01::1234"],
            true,
            &[],
            &["192.168.1.1", "fd01::1234"],
        ),
        (
            &["fd01::1234", "192.168.1.1"],
            true,
            &[],
            &["fd01::1234", "192.168.1.1"],
        ),
    ];
    for (node, host, sandbox, expected) in rows {
        assert_eq!(
            ips(node, host, sandbox),
            expected,
            "{node:?} {host} {sandbox:?}"
        );
    }
}

#[test]
fn a_status_shows_what_was_applied_and_who_runs() {
    let spec = |memory: &str| {
        format!(
            "{{containers: [{{name: a, image: i, resources: {{limits: {{memory: {memory}}}}}}}]}}"
        )
    };
    let mut seen = seen(&spec("1Mi"), "sandbox[0]:ready");
    let plan = seen.see(crate::pod::pod_plan::pod_plan);
    let _starts = seen
        .memory
        .begin(&seen.pod, &plan, &crate::testing::node(), seen.now);
    seen.hold("sandbox[0]:ready a[0]:running");
    seen.observed.containers[0].user = Some((1000, 2000, vec![3000]));
    // The spec is another by now; what runs is as it was.
    seen.pod = crate::testing::pod_of(&spec("2Mi"));
    let shown = seen.see(|view| pod_status(view, &ShownWaits::default()).status);
    let of_pod = serde_json::to_value(&shown).unwrap();
    assert_eq!(of_pod["resources"]["limits"]["memory"], "1Mi");
    assert_eq!(of_pod["allocatedResources"]["memory"], "1Mi");
    let container = &shown.container_statuses.unwrap()[0];
    let json = serde_json::to_value(container).unwrap();
    assert_eq!(json["resources"]["limits"]["memory"], "1Mi");
    assert_eq!(json["allocatedResources"]["memory"], "1Mi");
    let user =
        serde_json::json!({"linux": {"uid": 1000, "gid": 2000, "supplementalGroups": [3000]}});
    assert_eq!(json["user"], user);
}

/// The kubelet before this one made it, and no record tells what with: the API does.
#[test]
fn what_another_kubelet_applied_is_taken_from_the_api() {
    let spec = "{containers: [{name: a, image: i, resources: {limits: {memory: 2Mi}}}]}";
    let mut seen = seen(spec, "sandbox[0]:ready a[0]:running");
    let id = format!("containerd://{}", seen.observed.containers[0].id);
    let mut amount = |id: &str| {
        let status = serde_json::json!({"containerStatuses": [{
            "name": "a", "containerID": id, "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "resources": {"limits": {"memory": "1Mi"}},
        }]});
        let mut object = (*seen.pod.object).clone();
        object.status = serde_json::from_value(status).unwrap();
        seen.pod.object = std::sync::Arc::new(object);
        let shown = seen.see(|view| pod_status(view, &ShownWaits::default()).status);
        serde_json::to_value(shown).unwrap()["resources"]["limits"]["memory"].clone()
    };
    assert_eq!(amount(&id), "1Mi");
    assert_eq!(amount("containerd://another"), "2Mi");
}

/// Between the stop for another image and the start with it, whatever the policy: the API server refuses to let a container leave the
/// terminated state where its policy would not restart it.
#[test]
fn what_is_replaced_does_not_show_as_ended() {
    for policy in ["Never", "OnFailure", "Always"] {
        let spec = format!("{{restartPolicy: {policy}, containers: [{{name: a, image: i}}]}}");
        let mut seen = seen(&spec, "sandbox[0]:ready a[0]:running");
        seen.observed.containers[0].hash = "old".to_owned();
        let plan = seen.see(crate::pod::pod_plan::pod_plan);
        assert_eq!(plan.to_string(), "stop a/30s (definition changed)");
        seen.now.wall = Timestamp::UNIX_EPOCH;
        let node = crate::testing::node();
        let _begun = seen.memory.begin(&seen.pod, &plan, &node, seen.now);
        seen.hold("sandbox[0]:ready a[0]:exited(0)");
        let status = seen.see(|view| pod_status(view, &ShownWaits::default()).status);
        let shown = &status.container_statuses.unwrap()[0];
        let texts = [shown.state.as_ref(), shown.last_state.as_ref()].map(state);
        assert_eq!(
            texts,
            ["waiting ContainerCreating", "0 Completed"],
            "{policy}"
        );
        assert_eq!(status.phase.as_deref(), Some("Running"), "{policy}");
    }
}

/// TestConvertToAPIContainerStatuses: "Unable to get init container status …".
#[test]
fn an_init_container_that_nobody_remembers_has_ended_well() {
    let spec = "{initContainers: [{name: x, image: i}], containers: [{name: a, image: i}]}";
    let of = |held: &str| {
        let seen = seen(spec, held);
        let status = seen.see(|view| pod_status(view, &ShownWaits::default()).status);
        let init = status.init_container_statuses.unwrap().remove(0);
        (state(init.state.as_ref()), init.ready)
    };
    let completed = ("0 Completed".to_owned(), true);
    assert_eq!(of("sandbox[0]:ready a[0]:running"), completed);
    assert_eq!(of("sandbox[0]:ready a[0]:exited(1)"), completed);
    let waits = ("waiting PodInitializing".to_owned(), false);
    assert_eq!(of("sandbox[0]:ready"), waits);
}

#[test]
fn the_messages_of_a_pod_share_twelve_kibibytes() {
    let long = "\u{e9}".repeat(10_000);
    let length = |names: &[&str]| {
        let containers: Vec<String> = names
            .iter()
            .map(|name| format!("{{name: {name}, image: i}}"))
            .collect();
        let pod = format!(
            "{{restartPolicy: Never, containers: [{}]}}",
            containers.join(", ")
        );
        let held: Vec<String> = names
            .iter()
            .map(|name| format!("{name}[0]:exited(1)"))
            .collect();
        let mut seen = seen(&pod, &format!("sandbox[0]:ready {}", held.join(" ")));
        for container in &mut seen.observed.containers {
            let ContainerState::Exited(exit) = &mut container.state else {
                panic!("it has ended");
            };
            exit.message.clone_from(&long);
        }
        let status = seen.see(|view| pod_status(view, &ShownWaits::default()).status);
        let state = status.container_statuses.unwrap()[0].state.clone();
        state.unwrap().terminated.unwrap().message.unwrap().len()
    };
    assert_eq!(length(&["a"]), 12_288);
    // No character is cut in two.
    assert_eq!(length(&["a", "b", "c", "d", "e", "f", "g"]), 1_754);
}
