//! What a worker plans for every state of a pod: upstream's tables first, then what is ours.
//!
//! In:    rows of a policy and of what the runtime holds
//! Out:   –
//! Calls: cargo test
//! Holds: a row is one turn; where upstream decides on a sandbox and its containers at once, ours are two turns, and the second follows
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_manager_test.go (TestComputePodActions, TestComputePodActionsWithInitContainers), 1.36;
//!        without the rows of probes, resize and restartable init containers

use expect_test::{Expect, expect};
use jiff::SignedDuration;

use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;

use super::*;
use crate::pod::lifecycle::step as step_of_life;
use crate::shapes::life::TerminationCause;
use crate::shapes::outcome::{Effect, Outcome};
use crate::shapes::probe::{ContainerProbes, ProbeResult};
use crate::shapes::record::{BackOff, ImageBackOff, Replaced, ReplacedFor};
use crate::testing::held::{second, seen};
use crate::testing::node;
use crate::testing::seen::Seen;

/// `POLICY | HELD` to `LIFE: PLAN`.
fn check(containers: &str, rows: &[&str], expected: Expect) {
    let lines = rows.iter().map(|row| {
        let (policy, held) = row.split_once(" | ").unwrap();
        let mut seen = seen(&format!("{{restartPolicy: {policy}, {containers}}}"), held);
        format!("{row}\n    {}\n", seen.turn())
    });
    expected.assert_eq(&lines.collect::<String>());
}

const THREE: &str = "containers: [{name: a, image: i}, {name: b, image: i}, {name: c, image: i}]";

#[test]
fn regular_containers_are_planned_as_upstream_does() {
    check(
        THREE,
        &[
            "Always | sandbox[0]:ready a[0]:running b[0]:running c[0]:running",
            "Always | nothing",
            "Always | sandbox[0]:ready",
            "Always | sandbox[0]:ready a[0]:exited(0) b[0]:exited(111) c[0]:running",
            "OnFailure | sandbox[0]:ready a[0]:exited(0) b[0]:exited(111) c[0]:running",
            "OnFailure | sandbox[0]:ready a[0]:exited(0) b[0]:created c[0]:running",
            "Never | sandbox[0]:ready a[0]:exited(0) b[0]:exited(111) c[0]:running",
            "Always | sandbox[0]:notready a[0]:running b[0]:running c[0]:running",
            "Always | sandbox[1]:ready sandbox[0]:notready a[0]:exited(137)@0 b[0]:exited(137)@0 c[0]:exited(137)@0",
            "OnFailure | sandbox[0]:notready a[0]:running b[0]:exited(0) c[0]:running",
            "OnFailure | sandbox[1]:ready sandbox[0]:notready a[0]:exited(137)@0 b[0]:exited(0)@0 c[0]:exited(137)@0",
            "Always | sandbox[0]:ready/no-ip a[0]:running b[0]:running c[0]:running",
            "Always | sandbox[0]:ready a[0]:running b[0]:running! c[0]:running",
            "Never | sandbox[1]:notready a[0]:exited(0) b[0]:exited(0) c[0]:exited(0)",
            "OnFailure | sandbox[1]:notready a[0]:exited(0) b[0]:exited(0) c[0]:exited(0)",
            "Never | sandbox[2]:notready",
            "Never | sandbox[0]:ready a[0]:running b[0]:unknown c[0]:running",
            "Never | sandbox[0]:ready a[0]:running b[0]:created c[0]:running",
        ],
        expect![[r#"
            Always | sandbox[0]:ready a[0]:running b[0]:running c[0]:running
                syncing: nothing to do
            Always | nothing
                syncing: run sandbox[0] (no sandbox)
            Always | sandbox[0]:ready
                syncing: start a[0] (not started yet); start b[0] (not started yet); start c[0] (not started yet)
            Always | sandbox[0]:ready a[0]:exited(0) b[0]:exited(111) c[0]:running
                syncing: start a[1] (it ended); start b[1] (it ended)
            OnFailure | sandbox[0]:ready a[0]:exited(0) b[0]:exited(111) c[0]:running
                syncing: start b[1] (it ended)
            OnFailure | sandbox[0]:ready a[0]:exited(0) b[0]:created c[0]:running
                syncing: start created b (created and never started)
            Never | sandbox[0]:ready a[0]:exited(0) b[0]:exited(111) c[0]:running
                syncing: nothing to do
            Always | sandbox[0]:notready a[0]:running b[0]:running c[0]:running
                syncing: stop a/30s b/30s c/30s (its sandbox is replaced); stop sandbox (the newest sandbox is not ready); run sandbox[1] (the newest sandbox is not ready)
            Always | sandbox[1]:ready sandbox[0]:notready a[0]:exited(137)@0 b[0]:exited(137)@0 c[0]:exited(137)@0
                syncing: start a[1] (it ended); start b[1] (it ended); start c[1] (it ended)
            OnFailure | sandbox[0]:notready a[0]:running b[0]:exited(0) c[0]:running
                syncing: stop a/30s c/30s (its sandbox is replaced); stop sandbox (the newest sandbox is not ready); run sandbox[1] (the newest sandbox is not ready)
            OnFailure | sandbox[1]:ready sandbox[0]:notready a[0]:exited(137)@0 b[0]:exited(0)@0 c[0]:exited(137)@0
                syncing: start a[1] (it ended); start c[1] (it ended)
            Always | sandbox[0]:ready/no-ip a[0]:running b[0]:running c[0]:running
                syncing: stop a/30s b/30s c/30s (its sandbox is replaced); stop sandbox (it has no address); run sandbox[1] (it has no address)
            Always | sandbox[0]:ready a[0]:running b[0]:running! c[0]:running
                syncing: stop b/30s (definition changed)
            Never | sandbox[1]:notready a[0]:exited(0) b[0]:exited(0) c[0]:exited(0)
                terminated: stop sandbox (nothing of it runs); release (nothing of it runs)
            OnFailure | sandbox[1]:notready a[0]:exited(0) b[0]:exited(0) c[0]:exited(0)
                terminated: stop sandbox (nothing of it runs); release (nothing of it runs)
            Never | sandbox[2]:notready
                syncing: stop sandbox (the newest sandbox is not ready); run sandbox[3] (the newest sandbox is not ready)
            Never | sandbox[0]:ready a[0]:running b[0]:unknown c[0]:running
                syncing: stop b/30s (in an unknown state)
            Never | sandbox[0]:ready a[0]:running b[0]:created c[0]:running
                syncing: start created b (created and never started)
        "#]],
    );
}

const INIT: &str = "initContainers: [{name: init1, image: i}, {name: init2, image: i}, {name: init3, image: i}], \
     containers: [{name: a, image: i}, {name: b, image: i}, {name: c, image: i}]";

#[test]
fn init_containers_are_planned_as_upstream_does() {
    check(
        INIT,
        &[
            "Always | sandbox[0]:ready init1[0]:exited(0) init2[0]:exited(0) init3[0]:exited(0)",
            "Always | sandbox[0]:ready",
            "Always | sandbox[0]:ready init1[0]:exited(0) init2[0]:exited(0) init3[0]:running",
            "Always | sandbox[0]:notready init1[0]:exited(0) init2[0]:exited(0) init3[0]:exited(0)",
            "Always | sandbox[1]:ready sandbox[0]:notready init1[0]:exited(0)@0 init2[0]:exited(0)@0 init3[0]:exited(0)@0",
            "Always | sandbox[0]:ready init1[0]:exited(0) init2[0]:exited(0) init3[0]:exited(137)",
            "OnFailure | sandbox[0]:ready init1[0]:exited(0) init2[0]:exited(0) init3[0]:exited(137)",
            "Never | sandbox[0]:ready init1[0]:exited(0) init2[0]:exited(0) init3[0]:exited(137)",
            "Always | sandbox[0]:ready init1[0]:exited(0) init2[0]:exited(0) init3[0]:unknown",
            "OnFailure | sandbox[0]:ready init1[0]:exited(0) init2[0]:exited(0) init3[0]:unknown",
            "Never | sandbox[0]:ready init1[0]:exited(0) init2[0]:exited(0) init3[0]:unknown",
            "Never | sandbox[0]:notready init1[0]:exited(0) init2[0]:exited(0) init3[0]:exited(137)",
            "Never | sandbox[0]:notready",
            "OnFailure | sandbox[0]:notready init1[0]:exited(0) init2[0]:exited(0) init3[0]:exited(137)",
            "Always | sandbox[0]:ready init3[0]:running",
            // Killed by the kernel for memory it has failed, whatever its main process made of it.
            "Always | sandbox[0]:ready init1[0]:exited(0,OOMKilled)",
            "Never | sandbox[0]:ready init1[0]:exited(0,OOMKilled)",
            "Always | sandbox[0]:ready init1[0]:exited(0) init2[0]:exited(0) init3[0]:created",
        ],
        expect![[r#"
            Always | sandbox[0]:ready init1[0]:exited(0) init2[0]:exited(0) init3[0]:exited(0)
                syncing: start a[0] (not started yet); start b[0] (not started yet); start c[0] (not started yet)
            Always | sandbox[0]:ready
                syncing: start init1[0] (not started yet)
            Always | sandbox[0]:ready init1[0]:exited(0) init2[0]:exited(0) init3[0]:running
                syncing: nothing to do
            Always | sandbox[0]:notready init1[0]:exited(0) init2[0]:exited(0) init3[0]:exited(0)
                syncing: stop sandbox (the newest sandbox is not ready); run sandbox[1] (the newest sandbox is not ready)
            Always | sandbox[1]:ready sandbox[0]:notready init1[0]:exited(0)@0 init2[0]:exited(0)@0 init3[0]:exited(0)@0
                syncing: start init1[1] (it ended)
            Always | sandbox[0]:ready init1[0]:exited(0) init2[0]:exited(0) init3[0]:exited(137)
                syncing: start init3[1] (it ended)
            OnFailure | sandbox[0]:ready init1[0]:exited(0) init2[0]:exited(0) init3[0]:exited(137)
                syncing: start init3[1] (it ended)
            Never | sandbox[0]:ready init1[0]:exited(0) init2[0]:exited(0) init3[0]:exited(137)
                terminating: stop sandbox (containers completed or deadline exceeded)
            Always | sandbox[0]:ready init1[0]:exited(0) init2[0]:exited(0) init3[0]:unknown
                syncing: stop init3/30s (in an unknown state)
            OnFailure | sandbox[0]:ready init1[0]:exited(0) init2[0]:exited(0) init3[0]:unknown
                syncing: stop init3/30s (in an unknown state)
            Never | sandbox[0]:ready init1[0]:exited(0) init2[0]:exited(0) init3[0]:unknown
                syncing: stop init3/30s (in an unknown state)
            Never | sandbox[0]:notready init1[0]:exited(0) init2[0]:exited(0) init3[0]:exited(137)
                terminated: stop sandbox (nothing of it runs); release (nothing of it runs)
            Never | sandbox[0]:notready
                syncing: stop sandbox (the newest sandbox is not ready); run sandbox[1] (the newest sandbox is not ready)
            OnFailure | sandbox[0]:notready init1[0]:exited(0) init2[0]:exited(0) init3[0]:exited(137)
                syncing: stop sandbox (the newest sandbox is not ready); run sandbox[1] (the newest sandbox is not ready)
            Always | sandbox[0]:ready init3[0]:running
                syncing: nothing to do
            Always | sandbox[0]:ready init1[0]:exited(0,OOMKilled)
                syncing: start init1[1] (it ended)
            Never | sandbox[0]:ready init1[0]:exited(0,OOMKilled)
                terminating: stop sandbox (containers completed or deadline exceeded)
            Always | sandbox[0]:ready init1[0]:exited(0) init2[0]:exited(0) init3[0]:created
                syncing: start created init3 (created and never started)
        "#]],
    );
}

/// A pod that is to stop, or has ended: one line a row of `WHAT | HELD`.
fn stopping(cause: TerminationCause, rows: &[&str]) -> String {
    let line = |row: &&str| {
        let mut seen = seen(&format!("{{restartPolicy: Always, {THREE}}}"), row);
        seen.desire = Desire::Stop {
            cause,
            grace_seconds: Some(5),
        };
        format!("{row}\n    {}\n", seen.turn())
    };
    rows.iter().map(line).collect()
}

#[test]
fn a_pod_that_is_removed_is_stopped_then_taken_down() {
    let rows = [
        "sandbox[0]:ready a[0]:running b[0]:exited(1) c[0]:created",
        "sandbox[1]:ready sandbox[0]:ready a[1]:running a[0]:running@0",
        "sandbox[0]:ready a[0]:unknown",
        "sandbox[0]:ready a[0]:exited(0)",
        "sandbox[0]:notready a[0]:exited(0)",
        "nothing",
    ];
    expect![[r#"
        sandbox[0]:ready a[0]:running b[0]:exited(1) c[0]:created
            terminating: stop a/5s (removed from its source); stop sandbox (removed from its source)
        sandbox[1]:ready sandbox[0]:ready a[1]:running a[0]:running@0
            terminating: stop a/5s a/5s (removed from its source); stop sandbox (removed from its source); stop sandbox (removed from its source)
        sandbox[0]:ready a[0]:unknown
            terminating: stop a/5s (removed from its source); stop sandbox (removed from its source)
        sandbox[0]:ready a[0]:exited(0)
            terminating: stop sandbox (removed from its source)
        sandbox[0]:notready a[0]:exited(0)
            terminated: stop sandbox (nothing of it runs); release (nothing of it runs)
        nothing
            terminated: release (nothing of it runs)
    "#]].assert_eq(&stopping(TerminationCause::Removed, &rows));
}

fn after(seen: &mut Seen, change: impl FnOnce(&mut Seen)) -> String {
    change(seen);
    format!("{}\n", seen.turn())
}

#[test]
fn what_is_removed_needs_every_look_before_it_counts_as_gone() {
    let spec = format!("{{restartPolicy: Always, {THREE}}}");
    let mut seen = seen(&spec, "sandbox[0]:ready a[0]:running");
    seen.memory.dirs = None;
    let mut story = after(&mut seen, |seen| {
        seen.desire = Desire::Stop {
            cause: TerminationCause::Removed,
            grace_seconds: None,
        };
    });
    story += &after(&mut seen, |seen| {
        seen.hold("sandbox[0]:notready a[0]:exited(0)")
    });
    story += &after(&mut seen, |seen| {
        seen.memory.dirs = Some(crate::testing::seen::DIRS);
    });
    story += &after(&mut seen, |seen| seen.memory.prepared = Prepared::Released);
    story += &after(&mut seen, |seen| seen.hold("sandbox[0]:notready"));
    story += &after(&mut seen, |seen| seen.hold("nothing"));
    expect![[r#"
        terminating: stop a/30s (removed from its source); stop sandbox (removed from its source)
        terminated: nothing to do
        terminated: stop sandbox (nothing of it runs); release (nothing of it runs)
        terminated: remove sandbox (the pod is gone)
        terminated: remove sandbox (the pod is gone)
        finished: nothing to do
    "#]]
    .assert_eq(&story);
}

/// The next process does not know it, and stops the sandbox once more.
#[test]
fn a_sandbox_whose_stop_was_answered_is_not_stopped_again() {
    let spec = format!("{{restartPolicy: Never, {THREE}}}");
    let held =
        "sandbox[1]:notready sandbox[0]:notready a[0]:exited(0) b[0]:exited(0) c[0]:exited(0)";
    let mut seen = seen(&spec, held);
    let newest = seen.observed.sandboxes[0].id.clone();
    let mut story = after(&mut seen, |seen| {
        seen.memory.stopped.insert(newest);
    });
    let all: Vec<_> = seen
        .observed
        .sandboxes
        .iter()
        .map(|s| s.id.clone())
        .collect();
    story += &after(&mut seen, |seen| seen.memory.stopped.extend(all));
    expect![[r#"
        terminated: stop sandbox (nothing of it runs); release (nothing of it runs); remove sandbox (an older sandbox)
        terminated: release (nothing of it runs); remove sandbox (an older sandbox)
    "#]].assert_eq(&story);
}

#[test]
fn a_pod_waits_for_its_turn_its_network_and_its_retry() {
    let spec = format!("{{{THREE}}}");
    let mut rows = String::new();
    let mut row = |what: &str, held: &str, change: fn(&mut Seen)| {
        let mut seen = seen(&spec, held);
        change(&mut seen);
        rows += &format!("{what}\n    {}\n", seen.turn());
    };
    let all = "sandbox[0]:ready a[0]:running b[0]:running c[0]:running";
    row("waits for its name, unseen", "nothing", |seen| {
        seen.desire = Desire::Wait(None);
    });
    row("waits for its name", "nothing", |seen| {
        seen.desire = Desire::Wait(Some(Waiting {
            reason: Reason::WaitingForName,
            message: "web_default".to_owned(),
        }));
    });
    row("network not ready", "nothing", |seen| {
        seen.inputs.network = NetworkState::NotReady("no CNI configuration".to_owned());
    });
    row("network not ready, but it runs", all, |seen| {
        seen.inputs.network = NetworkState::NotReady("no CNI configuration".to_owned());
    });
    row("the last plan failed", "nothing", |seen| {
        let mut now = seen.now;
        now.steady = second(95);
        seen.memory.retry.later(now);
        seen.memory.retry.at = Some(second(110));
        seen.memory.retry.waiting = Some(Waiting {
            reason: Reason::CreatePodSandboxError,
            message: "no".to_owned(),
        });
    });
    row("its host side does not stand", all, |seen| {
        seen.memory.prepared = Prepared::No;
    });
    row(
        "older instances are garbage",
        &format!("{all} a[3]:running a[2]:exited(1) a[1]:exited(1)").replace("a[0]:running ", ""),
        |_| {},
    );
    expect![[r#"
        waits for its name, unseen
            syncing: nothing to do
        waits for its name
            syncing: nothing to do; pod waits: WaitingForName web_default
        network not ready
            syncing: nothing to do; pod waits: NetworkNotReady network is not ready: no CNI configuration
        network not ready, but it runs
            syncing: nothing to do
        the last plan failed
            syncing: nothing to do; pod waits: CreatePodSandboxError no
        its host side does not stand
            syncing: nothing to do
        older instances are garbage
            syncing: remove a (an older instance)
    "#]].assert_eq(&rows);
}

#[test]
fn what_was_stopped_for_another_definition_is_started_whatever_the_policy() {
    for policy in ["Always", "OnFailure", "Never"] {
        let mut seen = seen(
            &format!("{{restartPolicy: {policy}, containers: [{{name: a, image: i}}]}}"),
            "sandbox[0]:ready a[0]:exited(0)",
        );
        let ended = seen.observed.instances("a").next().unwrap();
        let finished_at = ended.state.exit().unwrap().finished_at;
        let replaced = |seconds: i64| Replaced {
            id: ended.id.to_string(),
            since: finished_at + SignedDuration::from_secs(seconds),
            cause: ReplacedFor::Definition,
        };
        let (by_the_stop, before_it) = (replaced(-1), replaced(1));
        let all = &mut seen.memory.record.replaced;
        all.insert("a".to_owned(), by_the_stop);
        let turn = seen.turn();
        assert!(turn.contains("start a[1]"), "{policy}: {turn}");
        // It ended by itself before the stop was decided: its policy says what follows.
        let all = &mut seen.memory.record.replaced;
        all.insert("a".to_owned(), before_it);
        let turn = seen.turn();
        assert_eq!(
            turn.contains("start a[1]"),
            policy == "Always",
            "{policy}: {turn}"
        );
    }
}

#[test]
fn of_two_containers_with_one_bad_image_neither_forgets_why_it_waits() {
    let mut seen = seen(
        "{containers: [{name: a, image: bad}, {name: b, image: bad}]}",
        "sandbox[0]:ready",
    );
    seen.memory.attempts.clear();
    let now = seen.now.steady;
    let back_off = ImageBackOff {
        back_off: BackOff {
            key: "bad".to_owned(),
            seconds: 1,
            updated: now - SignedDuration::from_secs(60),
        },
        image: "bad".to_owned(),
        message: "no such image".to_owned(),
        looked_at: now - SignedDuration::from_secs(60),
    };
    let images = &mut seen.memory.record.image_back_off;
    images.insert("bad".to_owned(), back_off);
    let plan = seen.see(pod_plan);
    let waits: Vec<(&str, &str)> = plan
        .waiting
        .iter()
        .map(|(name, why)| (name.as_str(), why.reason.as_str()))
        .collect();
    assert_eq!(waits, [("b", "ImagePullBackOff")], "a is asked for");
    assert_eq!(plan.steps.len(), 1);
}

/// What a container that failed its liveness probe goes through, from the plan that stops it to the one that starts it.
fn failed_probe_story(policy: &str, exit: &str) -> String {
    let spec = format!(
        "{{restartPolicy: {policy}, terminationGracePeriodSeconds: 40, containers: [{{name: a, image: i, livenessProbe: {{tcpSocket: {{port: 1}}, terminationGracePeriodSeconds: 7}}}}]}}"
    );
    let mut seen = seen(&spec, "sandbox[0]:ready a[0]:running").prepared();
    let known = ContainerProbes {
        liveness: Some(ProbeResult::Failure),
        ..ContainerProbes::none(seen.observed.containers[0].id.clone())
    };
    seen.inputs.probes = Arc::new([("a".to_owned(), known)].into());
    let stop = seen.see(pod_plan);
    let mut story = format!("{policy} {exit}: {stop}\n");
    seen.now.wall = Timestamp::UNIX_EPOCH;
    let begun = seen.memory.begin(&seen.pod, &stop, &node(), seen.now);
    let stopped = Outcome::Done(Effect::Nothing);
    seen.memory.remember(vec![stopped], &begun, seen.now);
    seen.hold(&format!("sandbox[0]:ready a[0]:{exit}"));
    let ended = seen.observed.containers[0].state.exit().unwrap();
    seen.now.wall = ended.finished_at;
    seen.memory.absorb(&seen.pod, &seen.observed, seen.now);
    let life = seen.see(step_of_life).word();
    story += &format!("    {life}: {}\n", seen.see(pod_plan));
    story
}

#[test]
fn a_container_that_fails_its_liveness_probe_is_started_again_unless_the_pod_says_never() {
    let told: String = [
        ("Always", "exited(0)"),
        ("OnFailure", "exited(0)"),
        ("OnFailure", "exited(137)"),
        ("Never", "exited(137)"),
    ]
    .map(|(policy, exit)| failed_probe_story(policy, exit))
    .concat();
    expect![[r#"
        Always exited(0): stop a/7s (failed a probe)
            syncing: start a[1] (not started yet)
        OnFailure exited(0): stop a/7s (failed a probe)
            syncing: start a[1] (not started yet)
        OnFailure exited(137): stop a/7s (failed a probe)
            syncing: start a[1] (not started yet)
        Never exited(137): stop a/7s (failed a probe)
            terminating: nothing to do
    "#]]
    .assert_eq(&told);
}

/// Each instance fails its liveness probe 15 s after its start, and ends a second later; older instances are removed at once.
#[test]
fn probes_that_kill_again_and_again_run_into_the_back_off() {
    let spec = "{containers: [{name: a, image: i, livenessProbe: {tcpSocket: {port: 1}}}]}";
    let mut seen = seen(spec, "sandbox[0]:ready a[0]:running").prepared();
    let mut told = String::new();
    let pass = |seen: &mut Seen, seconds: i64| {
        let later = SignedDuration::from_secs(seconds);
        seen.now.steady += later;
        seen.now.wall += later;
    };
    for attempt in 0..5 {
        seen.hold(&format!("sandbox[0]:ready a[{attempt}]:running"));
        seen = seen.prepared();
        seen.memory.absorb(&seen.pod, &seen.observed, seen.now);
        pass(&mut seen, 15);
        let known = ContainerProbes {
            liveness: Some(ProbeResult::Failure),
            ..ContainerProbes::none(seen.observed.containers[0].id.clone())
        };
        seen.inputs.probes = Arc::new([("a".to_owned(), known)].into());
        let stop = seen.see(pod_plan);
        assert_eq!(stop.to_string(), "stop a/30s (failed a probe)");
        let begun = seen.memory.begin(&seen.pod, &stop, &node(), seen.now);
        let stopped = Outcome::Done(Effect::Nothing);
        seen.memory.remember(vec![stopped], &begun, seen.now);
        pass(&mut seen, 1);
        seen.hold(&format!("sandbox[0]:ready a[{attempt}]:exited(137)"));
        let ended = seen.now.wall;
        if let ContainerState::Exited(exit) = &mut seen.observed.containers[0].state {
            exit.finished_at = ended;
        }
        seen.memory.absorb(&seen.pod, &seen.observed, seen.now);
        seen = seen.prepared();
        let mut waited = 0;
        let start = loop {
            let plan = seen.see(pod_plan);
            if !plan.steps.is_empty() {
                break plan;
            }
            waited += 1;
            pass(&mut seen, 1);
        };
        writeln!(told, "{start} after {waited} s").unwrap();
        seen.memory.begin(&seen.pod, &start, &node(), seen.now);
    }
    expect![[r#"
        start a[1] (not started yet) after 0 s
        start a[2] (it ended) after 0 s
        start a[3] (it ended) after 0 s
        start a[4] (it ended) after 20 s
        start a[5] (it ended) after 40 s
    "#]]
    .assert_eq(&told);
}
