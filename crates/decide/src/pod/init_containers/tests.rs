//! Sidecars, container policies and ephemeral containers in plans: upstream's tables.
//!
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_manager_test.go (TestComputePodActionsWithRestartableInitContainers,
//!        TestComputePodActionsWithInitAndEphemeralContainers, TestComputePodActionsWithContainerRestartRules), 1.36; differences: a pod
//!        that says Never and whose sandbox died before a regular container ran begins anew, there it stays Pending

use std::fmt::Write as _;

use expect_test::expect;

use crate::testing::held::{probed, seen};

const SIDECARS: &str = "initContainers: [{name: s1, image: i, restartPolicy: Always}, \
     {name: s2, image: i, restartPolicy: Always, livenessProbe: {}, startupProbe: {}}, \
     {name: s3, image: i, restartPolicy: Always, livenessProbe: {}, startupProbe: {}}], \
     containers: [{name: a, image: i}, {name: b, image: i}]";

/// Results of startup and liveness of an instance.
type Probed = (&'static str, Option<bool>, bool);

const GOOD: [Probed; 2] = [("s2-0", Some(true), true), ("s3-0", Some(true), true)];

#[test]
fn sidecars_are_planned_as_upstream_does() {
    let up = "sandbox[0]:ready s1[0]:running s2[0]:running";
    let rows: &[(&str, String, &[Probed])] = &[
        ("Always", format!("{up} s3[0]:running"), &GOOD),
        ("Always", "sandbox[0]:ready".into(), &[]),
        ("Always", format!("{up} s3[0]:created"), &GOOD),
        ("Always", "sandbox[0]:ready s1[0]:running".into(), &[]),
        ("Always", up.into(), &[("s2-0", Some(true), true)]),
        (
            "Always",
            format!("{up} s3[0]:running"),
            &[GOOD[0], ("s3-0", Some(true), false)],
        ),
        ("Always", up.into(), &[]),
        ("Always", up.into(), &[("s2-0", None, true)]),
        (
            "Always",
            format!("{up} s3[0]:running"),
            &[GOOD[0], ("s3-0", Some(false), true)],
        ),
        ("Always", format!("{up} s3[0]:running!"), &GOOD),
        (
            "Always",
            "sandbox[0]:ready s1[0]:exited(0) s2[0]:running s3[0]:exited(0)".into(),
            &GOOD,
        ),
        (
            "Always",
            "sandbox[0]:ready s1[0]:exited(0) s2[0]:running s3[0]:running".into(),
            &GOOD,
        ),
        (
            "Never",
            "sandbox[0]:notready s1[0]:running s2[0]:running s3[0]:exited(137)".into(),
            &GOOD,
        ),
        ("Never", "sandbox[0]:notready".into(), &[]),
        (
            "OnFailure",
            "sandbox[0]:notready s1[0]:running s2[0]:running s3[0]:exited(137)".into(),
            &GOOD,
        ),
        ("Never", format!("{up} s3[0]:exited(137)"), &GOOD),
        ("Never", format!("{up} s3[0]:unknown"), &GOOD),
        (
            "Never",
            format!("{up} s3[0]:exited(137) a[0]:running b[0]:running"),
            &GOOD,
        ),
        (
            "Never",
            format!("{up} s3[0]:running a[0]:exited(0) b[0]:exited(0)"),
            &GOOD,
        ),
        (
            "Never",
            format!("{up} s3[0]:exited(137) a[0]:exited(0) b[0]:exited(0)"),
            &GOOD,
        ),
        (
            "Never",
            format!("{up} s3[0]:exited(137) a[0]:exited(0) b[0]:running"),
            &GOOD,
        ),
        // The runtime has forgotten a sidecar of a pod that runs.
        (
            "Always",
            "sandbox[0]:ready s1[0]:running s3[0]:running a[0]:running b[0]:running".into(),
            &GOOD,
        ),
    ];
    let mut lines = String::new();
    for (policy, held, probes) in rows {
        let mut seen = seen(&format!("{{restartPolicy: {policy}, {SIDECARS}}}"), held);
        for (instance, startup, liveness) in *probes {
            probed(&mut seen, instance, *startup, *liveness);
        }
        writeln!(lines, "{policy} | {held} {probes:?}\n    {}", seen.turn()).unwrap();
    }
    expect![[r#"
        Always | sandbox[0]:ready s1[0]:running s2[0]:running s3[0]:running [("s2-0", Some(true), true), ("s3-0", Some(true), true)]
            syncing: start a[0] (not started yet); start b[0] (not started yet)
        Always | sandbox[0]:ready []
            syncing: start s1[0] (not started yet)
        Always | sandbox[0]:ready s1[0]:running s2[0]:running s3[0]:created [("s2-0", Some(true), true), ("s3-0", Some(true), true)]
            syncing: start created s3 (created and never started)
        Always | sandbox[0]:ready s1[0]:running []
            syncing: start s2[0] (not started yet)
        Always | sandbox[0]:ready s1[0]:running s2[0]:running [("s2-0", Some(true), true)]
            syncing: start s3[0] (not started yet)
        Always | sandbox[0]:ready s1[0]:running s2[0]:running s3[0]:running [("s2-0", Some(true), true), ("s3-0", Some(true), false)]
            syncing: stop s3/30s (failed a probe); start a[0] (not started yet); start b[0] (not started yet)
        Always | sandbox[0]:ready s1[0]:running s2[0]:running []
            syncing: nothing to do
        Always | sandbox[0]:ready s1[0]:running s2[0]:running [("s2-0", None, true)]
            syncing: nothing to do
        Always | sandbox[0]:ready s1[0]:running s2[0]:running s3[0]:running [("s2-0", Some(true), true), ("s3-0", Some(false), true)]
            syncing: stop s3/30s (failed a probe)
        Always | sandbox[0]:ready s1[0]:running s2[0]:running s3[0]:running! [("s2-0", Some(true), true), ("s3-0", Some(true), true)]
            syncing: stop s3/30s (definition changed); start a[0] (not started yet); start b[0] (not started yet)
        Always | sandbox[0]:ready s1[0]:exited(0) s2[0]:running s3[0]:exited(0) [("s2-0", Some(true), true), ("s3-0", Some(true), true)]
            syncing: start s1[1] (it ended); start s3[1] (it ended)
        Always | sandbox[0]:ready s1[0]:exited(0) s2[0]:running s3[0]:running [("s2-0", Some(true), true), ("s3-0", Some(true), true)]
            syncing: start s1[1] (it ended); start a[0] (not started yet); start b[0] (not started yet)
        Never | sandbox[0]:notready s1[0]:running s2[0]:running s3[0]:exited(137) [("s2-0", Some(true), true), ("s3-0", Some(true), true)]
            syncing: stop s1/30s s2/30s (its sandbox is replaced); stop sandbox (the newest sandbox is not ready); run sandbox[1] (the newest sandbox is not ready)
        Never | sandbox[0]:notready []
            syncing: stop sandbox (the newest sandbox is not ready); run sandbox[1] (the newest sandbox is not ready)
        OnFailure | sandbox[0]:notready s1[0]:running s2[0]:running s3[0]:exited(137) [("s2-0", Some(true), true), ("s3-0", Some(true), true)]
            syncing: stop s1/30s s2/30s (its sandbox is replaced); stop sandbox (the newest sandbox is not ready); run sandbox[1] (the newest sandbox is not ready)
        Never | sandbox[0]:ready s1[0]:running s2[0]:running s3[0]:exited(137) [("s2-0", Some(true), true), ("s3-0", Some(true), true)]
            syncing: start s3[1] (it ended)
        Never | sandbox[0]:ready s1[0]:running s2[0]:running s3[0]:unknown [("s2-0", Some(true), true), ("s3-0", Some(true), true)]
            syncing: stop s3/30s (in an unknown state)
        Never | sandbox[0]:ready s1[0]:running s2[0]:running s3[0]:exited(137) a[0]:running b[0]:running [("s2-0", Some(true), true), ("s3-0", Some(true), true)]
            syncing: start s3[1] (it ended)
        Never | sandbox[0]:ready s1[0]:running s2[0]:running s3[0]:running a[0]:exited(0) b[0]:exited(0) [("s2-0", Some(true), true), ("s3-0", Some(true), true)]
            terminating: stop s1/30s s2/30s s3/30s (containers completed or deadline exceeded); stop sandbox (containers completed or deadline exceeded)
        Never | sandbox[0]:ready s1[0]:running s2[0]:running s3[0]:exited(137) a[0]:exited(0) b[0]:exited(0) [("s2-0", Some(true), true), ("s3-0", Some(true), true)]
            terminating: stop s1/30s s2/30s (containers completed or deadline exceeded); stop sandbox (containers completed or deadline exceeded)
        Never | sandbox[0]:ready s1[0]:running s2[0]:running s3[0]:exited(137) a[0]:exited(0) b[0]:running [("s2-0", Some(true), true), ("s3-0", Some(true), true)]
            syncing: start s3[1] (it ended)
        Always | sandbox[0]:ready s1[0]:running s3[0]:running a[0]:running b[0]:running [("s2-0", Some(true), true), ("s3-0", Some(true), true)]
            syncing: start s2[0] (not started yet)
    "#]].assert_eq(&lines);
}

#[test]
fn what_runs_to_its_end_comes_between_sidecars() {
    let spec = "{initContainers: [{name: i1, image: i}, {name: s1, image: i, restartPolicy: Always}, {name: i2, image: i}], \
                containers: [{name: a, image: i}]}";
    let rows = [
        "sandbox[0]:ready",
        "sandbox[0]:ready i1[0]:running",
        "sandbox[0]:ready i1[0]:exited(0)",
        "sandbox[0]:ready i1[0]:exited(0) s1[0]:running",
        "sandbox[0]:ready i1[0]:exited(0) s1[0]:running i2[0]:running",
        // It ends while what comes after it runs: it is started again beside that.
        "sandbox[0]:ready i1[0]:exited(0) s1[0]:exited(1) i2[0]:running",
        "sandbox[0]:ready i1[0]:exited(0) s1[0]:exited(1) i2[0]:exited(0)",
        "sandbox[0]:ready i1[0]:exited(0) s1[0]:running i2[0]:exited(3)",
        // The runtime has forgotten what ended.
        "sandbox[0]:ready s1[0]:running i2[0]:exited(0)",
        "sandbox[0]:ready s1[0]:exited(0) a[0]:running",
    ];
    let mut lines = String::new();
    for held in rows {
        writeln!(lines, "{held}\n    {}", seen(spec, held).turn()).unwrap();
    }
    expect![[r#"
        sandbox[0]:ready
            syncing: start i1[0] (not started yet)
        sandbox[0]:ready i1[0]:running
            syncing: nothing to do
        sandbox[0]:ready i1[0]:exited(0)
            syncing: start s1[0] (not started yet)
        sandbox[0]:ready i1[0]:exited(0) s1[0]:running
            syncing: start i2[0] (not started yet)
        sandbox[0]:ready i1[0]:exited(0) s1[0]:running i2[0]:running
            syncing: nothing to do
        sandbox[0]:ready i1[0]:exited(0) s1[0]:exited(1) i2[0]:running
            syncing: start s1[1] (it ended)
        sandbox[0]:ready i1[0]:exited(0) s1[0]:exited(1) i2[0]:exited(0)
            syncing: start s1[1] (it ended); start a[0] (not started yet)
        sandbox[0]:ready i1[0]:exited(0) s1[0]:running i2[0]:exited(3)
            syncing: start i2[1] (it ended)
        sandbox[0]:ready s1[0]:running i2[0]:exited(0)
            syncing: start a[0] (not started yet)
        sandbox[0]:ready s1[0]:exited(0) a[0]:running
            syncing: start s1[1] (it ended)
    "#]]
    .assert_eq(&lines);
}

#[test]
fn ephemeral_containers_are_planned_as_upstream_does() {
    let debug = |names: &[&str]| {
        let all: Vec<_> = names
            .iter()
            .map(|name| format!("{{name: {name}, image: i}}"))
            .collect();
        format!(
            "initContainers: [{{name: i1, image: i}}], containers: [{{name: a, image: i}}], ephemeralContainers: [{}]",
            all.join(", ")
        )
    };
    let rows: &[(&str, &[&str], &str)] = &[
        (
            "Always",
            &["d1"],
            "sandbox[0]:ready i1[0]:exited(0) a[0]:running d1[0]:running",
        ),
        (
            "Always",
            &["d1"],
            "sandbox[0]:ready i1[0]:exited(0) a[0]:running",
        ),
        (
            "Always",
            &["d1", "d2"],
            "sandbox[0]:ready i1[0]:exited(0) a[0]:running d1[0]:running",
        ),
        (
            "Always",
            &["d1"],
            "sandbox[0]:ready i1[0]:exited(0) a[0]:running d1[0]:exited(1)",
        ),
        ("Always", &["d1"], "sandbox[0]:ready i1[0]:running"),
        (
            "Always",
            &["d1"],
            "sandbox[0]:notready i1[0]:exited(0) a[0]:running d1[0]:running",
        ),
        (
            "Always",
            &["d1"],
            "sandbox[1]:ready sandbox[0]:notready a[0]:exited(137)@0 d1[0]:exited(137)@0",
        ),
        (
            "Never",
            &["d1"],
            "sandbox[0]:ready i1[0]:exited(0) a[0]:exited(0) d1[0]:running",
        ),
        (
            "Never",
            &["d1"],
            "sandbox[0]:ready i1[0]:exited(0) a[0]:running d1[0]:unknown",
        ),
    ];
    let mut lines = String::new();
    for (policy, names, held) in rows {
        let mut seen = seen(
            &format!("{{restartPolicy: {policy}, {}}}", debug(names)),
            held,
        );
        writeln!(lines, "{policy} {names:?} | {held}\n    {}", seen.turn()).unwrap();
    }
    expect![[r#"
        Always ["d1"] | sandbox[0]:ready i1[0]:exited(0) a[0]:running d1[0]:running
            syncing: nothing to do
        Always ["d1"] | sandbox[0]:ready i1[0]:exited(0) a[0]:running
            syncing: start d1[0] (not started yet)
        Always ["d1", "d2"] | sandbox[0]:ready i1[0]:exited(0) a[0]:running d1[0]:running
            syncing: start d2[0] (not started yet)
        Always ["d1"] | sandbox[0]:ready i1[0]:exited(0) a[0]:running d1[0]:exited(1)
            syncing: nothing to do
        Always ["d1"] | sandbox[0]:ready i1[0]:running
            syncing: start d1[0] (not started yet)
        Always ["d1"] | sandbox[0]:notready i1[0]:exited(0) a[0]:running d1[0]:running
            syncing: stop a/30s d1/30s (its sandbox is replaced); stop sandbox (the newest sandbox is not ready); run sandbox[1] (the newest sandbox is not ready)
        Always ["d1"] | sandbox[1]:ready sandbox[0]:notready a[0]:exited(137)@0 d1[0]:exited(137)@0
            syncing: start i1[0] (not started yet)
        Never ["d1"] | sandbox[0]:ready i1[0]:exited(0) a[0]:exited(0) d1[0]:running
            terminating: stop d1/30s (containers completed or deadline exceeded); stop sandbox (containers completed or deadline exceeded)
        Never ["d1"] | sandbox[0]:ready i1[0]:exited(0) a[0]:running d1[0]:unknown
            syncing: nothing to do
    "#]].assert_eq(&lines);
}

#[test]
fn policies_of_containers_are_planned_as_upstream_does() {
    let rows = [
        (
            "Never",
            "Always",
            "Always",
            "sandbox[0]:ready a[0]:exited(0) b[0]:exited(111) c[0]:running",
        ),
        (
            "Never",
            "OnFailure",
            "OnFailure",
            "sandbox[0]:ready a[0]:exited(0) b[0]:exited(111) c[0]:running",
        ),
        (
            "Never",
            "OnFailure",
            "OnFailure",
            "sandbox[0]:ready a[0]:exited(0) b[0]:created c[0]:running",
        ),
        (
            "Always",
            "Never",
            "Never",
            "sandbox[0]:ready a[0]:exited(0) b[0]:exited(111) c[0]:running",
        ),
        (
            "Always",
            "Never",
            "OnFailure",
            "sandbox[1]:ready sandbox[0]:notready a[0]:exited(1)@0 b[0]:exited(0)@0 c[0]:exited(137)@0",
        ),
    ];
    let mut lines = String::new();
    for (policy, a, b, held) in rows {
        let spec = format!(
            "{{restartPolicy: {policy}, containers: [{{name: a, image: i, restartPolicy: {a}}}, {{name: b, image: i, restartPolicy: {b}}}, {{name: c, image: i}}]}}"
        );
        writeln!(
            lines,
            "{policy} {a} {b} | {held}\n    {}",
            seen(&spec, held).turn()
        )
        .unwrap();
    }
    expect![[r#"
        Never Always Always | sandbox[0]:ready a[0]:exited(0) b[0]:exited(111) c[0]:running
            syncing: start a[1] (it ended); start b[1] (it ended)
        Never OnFailure OnFailure | sandbox[0]:ready a[0]:exited(0) b[0]:exited(111) c[0]:running
            syncing: start b[1] (it ended)
        Never OnFailure OnFailure | sandbox[0]:ready a[0]:exited(0) b[0]:created c[0]:running
            syncing: start created b (created and never started)
        Always Never Never | sandbox[0]:ready a[0]:exited(0) b[0]:exited(111) c[0]:running
            syncing: nothing to do
        Always Never OnFailure | sandbox[1]:ready sandbox[0]:notready a[0]:exited(1)@0 b[0]:exited(0)@0 c[0]:exited(137)@0
            syncing: start c[1] (it ended)
    "#]].assert_eq(&lines);
}
