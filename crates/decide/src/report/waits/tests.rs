//! Waits by state of the pod, one line each.
//!
//! Upstream: none

use std::fmt::Write as _;

use expect_test::{Expect, expect};

use super::*;
use crate::pod::pod_plan::pod_plan;
use crate::shapes::life::TerminationCause;
use crate::shapes::memory::{Retry, StartAttempt, VolumeMemory};
use crate::shapes::record::BackOff;
use crate::shapes::view::Desire;
use crate::testing::held::{second, seen};
use crate::testing::seen::Seen;

/// What is told, with seconds of the wall clock.
fn told(seen: &Seen) -> String {
    let mut text = String::new();
    seen.see(|view| {
        let plan = pod_plan(view);
        for wait in waits(view, &plan) {
            let until = wait.until.map(|until| until.as_second());
            writeln!(
                text,
                "{:?}: {} until {until:?}: {}",
                wait.of, wait.reason, wait.message
            )
            .unwrap();
        }
        for doing in doing(view, &plan) {
            writeln!(text, "doing: {doing}").unwrap();
        }
    });
    text
}

fn check(seen: &Seen, expected: &Expect) {
    expected.assert_eq(&told(seen));
}

const ONE: &str = "{containers: [{name: c, image: i}]}";

#[test]
fn a_pod_that_runs_waits_for_nothing() {
    check(&seen(ONE, "sandbox[0]:ready c[0]:running"), &expect![[""]]);
}

#[test]
fn what_is_to_be_done_is_told_in_words() {
    check(
        &seen(ONE, "nothing"),
        &expect![[r#"
        doing: making its sandbox and network
    "#]],
    );
    check(
        &seen(ONE, "sandbox[0]:ready"),
        &expect![[r#"
        doing: starting container c
    "#]],
    );
}

#[test]
fn a_pod_that_ends_says_why() {
    let mut leaving = seen(ONE, "sandbox[0]:ready c[0]:running");
    leaving.desire = Desire::Stop {
        cause: TerminationCause::Removed,
        grace_seconds: Some(2),
    };
    let _plan = leaving.turn();
    check(
        &leaving,
        &expect![[r#"
        doing: ending the pod (removed from its source)
        doing: stopping c (within 2 s)
        doing: stopping its sandbox
    "#]],
    );
}

#[test]
fn a_crash_loop_tells_its_own_end_by_the_wall_clock() {
    let mut seen = seen(ONE, "sandbox[0]:ready c[1]:exited(1)");
    let _plan = seen.turn();
    seen.now.wall = second(1_000_100);
    let back_off = BackOff {
        key: "i".to_owned(),
        seconds: 300,
        updated: second(10),
    };
    let back_offs = &mut seen.memory.record.restart_back_off;
    back_offs.insert("c".to_owned(), back_off);
    check(
        &seen,
        &expect![[r#"
        Container("c"): CrashLoopBackOff until Some(1000320): back-off 5m0s restarting failed container=c pod=web_default(u1)
    "#]],
    );
}

#[test]
fn a_failed_start_a_volume_and_the_pod_tell_when_they_are_tried_again() {
    let mut seen = seen(ONE, "sandbox[0]:ready");
    let waiting = |reason, message: &str| {
        Some(Waiting {
            reason,
            message: message.to_owned(),
        })
    };
    let attempt = StartAttempt {
        waiting: waiting(Reason::RunContainerError, "no such command"),
        held_until: Some(second(130)),
        ..StartAttempt::default()
    };
    seen.memory.attempts.insert("c".to_owned(), attempt);
    check(
        &seen,
        &expect![[r#"
        Container("c"): RunContainerError until Some(130): no such command
    "#]],
    );
    seen.memory.retry = Retry {
        at: Some(second(102)),
        failures: 1,
        waiting: waiting(Reason::CreatePodSandboxError, "no network"),
    };
    check(
        &seen,
        &expect![[r#"
        Pod: CreatePodSandboxError until Some(102): no network
        Container("c"): RunContainerError until Some(130): no such command
    "#]],
    );
    let volume = VolumeMemory {
        set_up: None,
        retry: Retry {
            at: Some(second(107)),
            failures: 1,
            waiting: waiting(Reason::FailedMount, "hostPath type check failed"),
        },
    };
    let mut seen = with_volume();
    seen.memory.volumes.insert("v".to_owned(), volume);
    check(
        &seen,
        &expect![[r#"
        Volume("v"): FailedMount until Some(107): hostPath type check failed
    "#]],
    );
}

fn with_volume() -> Seen {
    let spec = "{containers: [{name: c, image: i}], volumes: [{name: v, hostPath: {path: /x, type: Directory}}]}";
    seen(spec, "nothing")
}
