//! How a pod is taken down and started again, turn by turn.

use std::fmt::Write as _;

use expect_test::expect;

use crate::pod::pod_plan::pod_plan;
use crate::testing::held::seen;
use crate::testing::node;
use crate::testing::seen::Seen;

const SPEC: &str = "{restartPolicy: Never, initContainers: [{name: i1, image: i}, {name: s1, image: i, restartPolicy: Always}], \
     containers: [{name: a, image: i, restartPolicy: Never, restartPolicyRules: [{action: RestartAllContainers, \
     exitCodes: {operator: In, values: [42]}}]}, {name: b, image: i}], ephemeralContainers: [{name: d, image: i}]}";

fn turn(seen: &mut Seen, held: &str) -> String {
    seen.hold(held);
    let line = seen.turn();
    // The end of what is stopped was seen.
    let plan = seen.see(pod_plan);
    let (pod, now) = (seen.pod.clone(), seen.now);
    seen.memory.begin(&pod, &plan, &node(), now);
    let mut out = format!("{held}\n    {line}\n");
    let status = seen.see(|view| crate::testing::held::shown(view, &plan));
    writeln!(out, "    {status}").unwrap();
    out
}

#[test]
fn an_exit_takes_all_down_and_they_start_from_the_first_init_container() {
    let mut seen = seen(SPEC, "nothing");
    let mut story = String::new();
    for held in [
        "sandbox[0]:ready i1[0]:exited(0) s1[0]:running a[0]:running b[0]:running d[0]:running",
        "sandbox[0]:ready i1[0]:exited(0) s1[0]:running a[0]:exited(42) b[0]:running d[0]:running",
        "sandbox[0]:ready i1[0]:exited(0) s1[0]:exited(137) a[0]:exited(42) b[0]:exited(137) d[0]:running",
        // The kubelet ends here, and begins again: it goes on.
        "sandbox[0]:ready i1[0]:exited(0) a[0]:exited(42) d[0]:running",
        "sandbox[0]:ready a[0]:exited(42) d[0]:running",
        "sandbox[0]:ready d[0]:running",
        "sandbox[0]:ready i1[1]:running d[0]:running",
        "sandbox[0]:ready i1[1]:exited(0) s1[1]:running d[0]:running",
        "sandbox[0]:ready i1[1]:exited(0) s1[1]:running a[1]:running b[1]:running d[0]:running",
        // Again: who asked for it waits for its back-off, the others for nothing.
        "sandbox[0]:ready i1[1]:exited(0) s1[1]:running a[1]:exited(42) b[1]:running d[0]:running",
        "sandbox[0]:ready i1[1]:exited(0) s1[1]:exited(137) a[1]:exited(42) b[1]:exited(137) d[0]:running",
        "sandbox[0]:ready d[0]:running",
        "sandbox[0]:ready i1[2]:exited(0) s1[2]:running d[0]:running",
        "sandbox[0]:ready i1[2]:exited(0) s1[2]:running a[2]:running b[2]:running d[0]:running",
        // An exit that no rule asks for ends it as its policy says.
        "sandbox[0]:ready i1[2]:exited(0) s1[2]:running a[2]:exited(1) b[2]:exited(0) d[0]:running",
    ] {
        story += &turn(&mut seen, held);
    }
    expect![[r#"
        sandbox[0]:ready i1[0]:exited(0) s1[0]:running a[0]:running b[0]:running d[0]:running
            syncing: nothing to do
            Running i1=terminated 0 ready, s1=running ready, a=running ready, b=running ready, d=running
        sandbox[0]:ready i1[0]:exited(0) s1[0]:running a[0]:exited(42) b[0]:running d[0]:running
            syncing: stop s1/2s b/2s (all containers are restarted)
            Running i1=terminated 0 ready, s1=running ready, a=terminated 42, b=running ready, d=running
        sandbox[0]:ready i1[0]:exited(0) s1[0]:exited(137) a[0]:exited(42) b[0]:exited(137) d[0]:running
            syncing: remove b (all containers are restarted); remove i1 (all containers are restarted); remove s1 (all containers are restarted); remove a (all containers are restarted)
            Running i1=terminated 0 ready, s1=terminated 137, a=terminated 42, b=terminated 137, d=running
        sandbox[0]:ready i1[0]:exited(0) a[0]:exited(42) d[0]:running
            syncing: remove i1 (all containers are restarted); remove a (all containers are restarted)
            Running i1=terminated 0 ready, s1=waiting RestartingAllContainers, a=terminated 42, b=waiting RestartingAllContainers, d=running
        sandbox[0]:ready a[0]:exited(42) d[0]:running
            syncing: remove a (all containers are restarted)
            Running i1=waiting RestartingAllContainers, s1=waiting RestartingAllContainers, a=terminated 42, b=waiting RestartingAllContainers, d=running
        sandbox[0]:ready d[0]:running
            syncing: start i1[1] (not started yet)
            Running i1=waiting RestartingAllContainers, s1=waiting RestartingAllContainers, a=waiting RestartingAllContainers, b=waiting RestartingAllContainers, d=running
        sandbox[0]:ready i1[1]:running d[0]:running
            syncing: nothing to do
            Pending i1=running, s1=waiting RestartingAllContainers, a=waiting RestartingAllContainers, b=waiting RestartingAllContainers, d=running
        sandbox[0]:ready i1[1]:exited(0) s1[1]:running d[0]:running
            syncing: image a (its image comes first)
            Running i1=terminated 0 ready, s1=running ready, a=waiting RestartingAllContainers, b=waiting RestartingAllContainers, d=running
        sandbox[0]:ready i1[1]:exited(0) s1[1]:running a[1]:running b[1]:running d[0]:running
            syncing: nothing to do
            Running i1=terminated 0 ready, s1=running ready, a=running ready, b=running ready, d=running
        sandbox[0]:ready i1[1]:exited(0) s1[1]:running a[1]:exited(42) b[1]:running d[0]:running
            syncing: stop s1/2s b/2s (all containers are restarted)
            Running i1=terminated 0 ready, s1=running ready, a=terminated 42, b=running ready, d=running
        sandbox[0]:ready i1[1]:exited(0) s1[1]:exited(137) a[1]:exited(42) b[1]:exited(137) d[0]:running
            syncing: remove b (all containers are restarted); remove i1 (all containers are restarted); remove s1 (all containers are restarted); remove a (all containers are restarted)
            Running i1=terminated 0 ready, s1=terminated 137, a=terminated 42, b=terminated 137, d=running
        sandbox[0]:ready d[0]:running
            syncing: image i1 (its image comes first)
            Running i1=waiting RestartingAllContainers, s1=waiting RestartingAllContainers, a=waiting RestartingAllContainers, b=waiting RestartingAllContainers, d=running
        sandbox[0]:ready i1[2]:exited(0) s1[2]:running d[0]:running
            syncing: image a (its image comes first)
            Running i1=terminated 0 ready, s1=running ready, a=waiting RestartingAllContainers, b=waiting RestartingAllContainers, d=running
        sandbox[0]:ready i1[2]:exited(0) s1[2]:running a[2]:running b[2]:running d[0]:running
            syncing: nothing to do
            Running i1=terminated 0 ready, s1=running ready, a=running ready, b=running ready, d=running
        sandbox[0]:ready i1[2]:exited(0) s1[2]:running a[2]:exited(1) b[2]:exited(0) d[0]:running
            terminating: stop s1/30s d/30s (containers completed or deadline exceeded); stop sandbox (containers completed or deadline exceeded)
            Running i1=terminated 0 ready, s1=running ready, a=terminated 1, b=terminated 0, d=running
    "#]].assert_eq(&story);
}
