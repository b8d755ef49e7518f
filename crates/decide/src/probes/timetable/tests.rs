//! Stories of probes: what is tried when, what it answers, and what follows.
//!
//! In:    a container, answers by kind and time
//! Out:   –
//! Calls: cargo test
//! Holds: one line for each try; a result that changes stands behind it
//! Upstream: pkg/kubelet/prober/worker_test.go (TestInitialDelay, TestFailureThreshold, TestSuccessThreshold,
//!        TestStartupProbe*Threshold, TestOnHoldOnLivenessOrStartupCheckFailure, TestStartupProbeDisabledByStarted), 1.36

use std::fmt::Write as _;

use expect_test::{Expect, expect};

use super::*;
use crate::testing::pod_of;

/// What a probe answers at a moment, in milliseconds after the container's start.
type Answers = fn(ProbeKind, i64) -> TryResult;

use TryResult::{Error, Failure, Success};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_000_000 + millis).unwrap()
}

fn container(probes: &str) -> v1::Container {
    let pod = pod_of(&format!("{{containers: [{{name: c, {probes}}}]}}"));
    pod.containers()[0].clone()
}

fn target(known: Option<ContainerProbes>) -> Target {
    Target {
        id: "c1".into(),
        started_at: at(0),
        known,
    }
}

/// Lets `seconds` pass; each try takes no time.
fn story(mut table: Timetable, answers: Answers, seconds: i64) -> String {
    let mut out = String::new();
    let mut now = at(0);
    let end = at(seconds * 1000);
    loop {
        while let Some((kind, as_, _)) = table.begin_due(now) {
            let millis = now.as_millisecond() - at(0).as_millisecond();
            let result = answers(kind, millis);
            let changed = table.answered(kind, as_, result, now);
            let as_ = if as_ == Try::Early { " early" } else { "" };
            write!(
                out,
                "{}.{:03} {kind}{as_} {result:?}",
                millis / 1000,
                millis % 1000
            )
            .unwrap();
            if changed {
                write!(out, " → {:?}", table.results().of(kind).unwrap()).unwrap();
            }
            out.push('\n');
        }
        match table.next_at() {
            Some(next) if next <= end => now = next.max(now),
            _ => return out,
        }
    }
}

fn check(probes: &str, first: FirstTries, answers: Answers, seconds: i64, expected: Expect) {
    let table = Timetable::new(&container(probes), &target(None), first, 500, at(0));
    expected.assert_eq(&story(table, answers, seconds));
}

#[test]
fn nothing_is_known_at_first_but_that_it_lives_and_is_not_ready() {
    let all = "startupProbe: {tcpSocket: {port: 1}}, readinessProbe: {tcpSocket: {port: 1}}, livenessProbe: {tcpSocket: {port: 1}}";
    let table = Timetable::new(
        &container(all),
        &target(None),
        FirstTries::ByPeriod,
        0,
        at(0),
    );
    let results = table.results();
    let of = |kind| results.of(kind);
    assert_eq!(of(ProbeKind::Startup), None);
    assert_eq!(of(ProbeKind::Readiness), Some(ProbeResult::Failure));
    assert_eq!(of(ProbeKind::Liveness), Some(ProbeResult::Success));
}

#[test]
fn readiness_is_asked_at_once_and_then_by_its_period() {
    check(
        "readinessProbe: {tcpSocket: {port: 1}, periodSeconds: 2, initialDelaySeconds: 1, failureThreshold: 2}",
        FirstTries::ByPeriod,
        |_, millis| match millis {
            0..2000 => Failure,
            2000..4000 => Success,
            4000..6000 => Error,
            _ => Failure,
        },
        10,
        expect![[r#"
            1.000 Readiness Failure
            3.000 Readiness Success → Success
            5.000 Readiness Error
            7.000 Readiness Failure
            9.000 Readiness Failure → Failure
        "#]],
    );
}

#[test]
fn liveness_fails_by_its_threshold_and_is_not_asked_again() {
    check(
        "livenessProbe: {tcpSocket: {port: 1}, periodSeconds: 2}",
        FirstTries::ByPeriod,
        |_, millis| if millis < 3000 { Success } else { Failure },
        30,
        expect![[r#"
            1.000 Liveness Success
            3.000 Liveness Failure
            5.000 Liveness Failure
            7.000 Liveness Failure → Failure
        "#]],
    );
}

#[test]
fn the_others_wait_for_startup() {
    check(
        "startupProbe: {tcpSocket: {port: 1}, periodSeconds: 2, failureThreshold: 5}, readinessProbe: {tcpSocket: {port: 1}, periodSeconds: 4}, livenessProbe: {tcpSocket: {port: 1}, periodSeconds: 4}",
        FirstTries::ByPeriod,
        |_, millis| if millis < 5000 { Failure } else { Success },
        15,
        expect![[r#"
            1.000 Startup Failure
            3.000 Startup Failure
            5.000 Startup Success → Success
            5.000 Readiness Success → Success
            7.000 Liveness Success
            9.000 Readiness Success
            11.000 Liveness Success
            13.000 Readiness Success
            15.000 Liveness Success
        "#]],
    );
}

#[test]
fn startup_that_fails_by_its_threshold_is_over() {
    check(
        "startupProbe: {tcpSocket: {port: 1}, periodSeconds: 1, failureThreshold: 2}, livenessProbe: {tcpSocket: {port: 1}}",
        FirstTries::ByPeriod,
        |_, _| Failure,
        10,
        expect![[r#"
            0.500 Startup Failure
            1.500 Startup Failure → Failure
        "#]],
    );
}

#[test]
fn early_tries_find_the_first_success_and_no_failure() {
    check(
        "startupProbe: {tcpSocket: {port: 1}, periodSeconds: 10, failureThreshold: 1}, readinessProbe: {tcpSocket: {port: 1}, periodSeconds: 10, successThreshold: 2}",
        FirstTries::Early,
        |_, millis| if millis < 300 { Failure } else { Success },
        25,
        expect![[r#"
            0.050 Startup early Failure
            0.150 Startup early Failure
            0.350 Startup early Success → Success
            0.400 Readiness early Success
            10.400 Readiness Success → Success
            20.400 Readiness Success
        "#]],
    );
}

#[test]
fn early_tries_end_where_a_period_is_as_short_and_the_verdict_takes_its_time() {
    check(
        "readinessProbe: {tcpSocket: {port: 1}, periodSeconds: 1}, startupProbe: {tcpSocket: {port: 1}, periodSeconds: 1, initialDelaySeconds: 2}",
        FirstTries::Early,
        |_, _| Failure,
        10,
        expect![[r#"
            2.050 Startup early Failure
            2.150 Startup early Failure
            2.350 Startup early Failure
            2.500 Startup Failure
            3.300 Startup early Failure
            3.500 Startup Failure
            4.500 Startup Failure → Failure
        "#]],
    );
}

#[test]
fn what_was_known_before_a_restart_stands_until_thresholds_say_otherwise() {
    let known = ContainerProbes {
        id: "c1".into(),
        startup: Some(ProbeResult::Success),
        readiness: Some(ProbeResult::Success),
        liveness: Some(ProbeResult::Success),
    };
    let all = "startupProbe: {tcpSocket: {port: 1}}, readinessProbe: {tcpSocket: {port: 1}, periodSeconds: 4}, livenessProbe: {tcpSocket: {port: 1}, periodSeconds: 4}";
    let table = Timetable::new(
        &container(all),
        &target(Some(known)),
        FirstTries::Early,
        250,
        at(0),
    );
    let told = story(table, |_, _| Failure, 12);
    expect![[r#"
        1.000 Readiness Failure
        1.000 Liveness Failure
        5.000 Readiness Failure
        5.000 Liveness Failure
        9.000 Readiness Failure → Failure
        9.000 Liveness Failure → Failure
    "#]]
    .assert_eq(&told);
}

#[test]
fn a_pod_that_leaves_is_asked_for_readiness_alone() {
    let all = "startupProbe: {tcpSocket: {port: 1}}, readinessProbe: {tcpSocket: {port: 1}, periodSeconds: 4}, livenessProbe: {tcpSocket: {port: 1}, periodSeconds: 4}";
    let spec = container(all);
    let mut table = Timetable::new(&spec, &target(None), FirstTries::ByPeriod, 0, at(0));
    assert!(table.leave(at(0)));
    assert!(!table.leave(at(0)));
    let told = story(table, |_, _| Failure, 9);
    expect![[r#"
        0.000 Readiness Failure
        4.000 Readiness Failure
        8.000 Readiness Failure
    "#]]
    .assert_eq(&told);
}

#[test]
fn a_try_that_takes_longer_than_its_period_is_followed_by_one_at_once() {
    let spec = container("livenessProbe: {tcpSocket: {port: 1}, periodSeconds: 2}");
    let mut table = Timetable::new(&spec, &target(None), FirstTries::ByPeriod, 0, at(0));
    assert_eq!(
        table.begin_due(at(0)),
        Some((ProbeKind::Liveness, Try::Regular, at(0)))
    );
    assert_eq!((table.begin_due(at(9000)), table.next_at()), (None, None));
    table.answered(ProbeKind::Liveness, Try::Regular, Success, at(5000));
    // Of the two that were missed one is made up for; the next is where it would have been.
    assert_eq!(table.next_at(), Some(at(4000)));
    table.begin_due(at(5000));
    table.answered(ProbeKind::Liveness, Try::Regular, Success, at(5000));
    assert_eq!(table.next_at(), Some(at(6000)));
}
