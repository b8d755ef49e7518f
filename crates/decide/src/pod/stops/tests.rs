//! Order, grace and hooks of stops.

use expect_test::expect;
use jiff::SignedDuration;
use kubelet_model::reason::Reason;

use super::*;
use crate::pod::memory::Begun;
use crate::pod::pod_plan::pod_plan;
use crate::shapes::hook::Hook;
use crate::shapes::outcome::{Failure, Outcome, Subject};
use crate::testing::held::seen;
use crate::testing::node;
use crate::testing::seen::Seen;

const SIDECARS: &str = "{terminationGracePeriodSeconds: 30, initContainers: [{name: s1, image: i, restartPolicy: Always}, {name: i1, image: i}, \
     {name: s2, image: i, restartPolicy: Always}], containers: [{name: a, image: i}, {name: b, image: i}]}";

fn stops(seen: &Seen) -> Vec<String> {
    let stops = seen.see(|view| stops_of_all(view, view.pod.grace_seconds()));
    let line = |stop: &StopContainer| {
        let after: Vec<_> = stop.after.iter().map(ContainerId::as_str).collect();
        let hook = stop.hook.as_ref().map_or("", |_| " hook");
        format!(
            "{}/{}s{hook} after [{}]",
            stop.name,
            stop.grace_seconds,
            after.join(" ")
        )
    };
    stops.iter().map(line).collect()
}

/// Upstream's Test_newTerminationOrdering; differences: a sidecar waits for all those behind it, also where the next is down.
#[test]
fn sidecars_end_after_the_regular_containers_and_in_reverse_order() {
    let rows = [
        "s1[0]:running s2[0]:running a[0]:running b[0]:running",
        "s1[0]:running s2[0]:running a[0]:exited(0) b[0]:running",
        "s1[0]:running s2[0]:exited(1) a[0]:running",
        "s1[0]:running i1[0]:running",
        "s1[0]:running s2[0]:running",
    ];
    let lines: String = rows
        .iter()
        .map(|held| {
            let seen = seen(SIDECARS, &format!("sandbox[0]:ready {held}"));
            format!("{held}\n    {}\n", stops(&seen).join("; "))
        })
        .collect();
    expect![[r#"
        s1[0]:running s2[0]:running a[0]:running b[0]:running
            s1/30s after [s2-0 a-0 b-0]; s2/30s after [a-0 b-0]; a/30s after []; b/30s after []
        s1[0]:running s2[0]:running a[0]:exited(0) b[0]:running
            s1/30s after [s2-0 b-0]; s2/30s after [b-0]; b/30s after []
        s1[0]:running s2[0]:exited(1) a[0]:running
            s1/30s after [a-0]; a/30s after []
        s1[0]:running i1[0]:running
            s1/30s after []; i1/30s after []
        s1[0]:running s2[0]:running
            s1/30s after [s2-0]; s2/30s after []
    "#]]
    .assert_eq(&lines);
}

#[test]
fn the_order_is_kept_when_nobody_names_the_pod_any_more() {
    let mut seen = seen(SIDECARS, "sandbox[0]:ready");
    begin(&mut seen);
    seen.hold("sandbox[0]:ready s1[0]:running s2[0]:running a[0]:running");
    seen.pod = Pod::orphan(seen.pod.uid.clone(), seen.pod.full_name.clone());
    assert_eq!(
        stops(&seen),
        [
            "s1/30s after [s2-0 a-0]",
            "s2/30s after [a-0]",
            "a/30s after []"
        ]
    );
}

const HOOKED: &str = "{terminationGracePeriodSeconds: 30, containers: [{name: a, image: i, lifecycle: {preStop: {sleep: {seconds: 20}}}}, {name: b, image: i}]}";

/// What a turn that stops the pod begins.
fn begin(seen: &mut Seen) -> Begun {
    let plan = seen.see(pod_plan);
    let (pod, now) = (seen.pod.clone(), seen.now);
    seen.memory.begin(&pod, &plan, &node(), now)
}

fn hooked() -> Seen {
    let mut seen = seen(HOOKED, "sandbox[0]:ready a[0]:running b[0]:running");
    seen.desire = Desire::Stop {
        cause: crate::shapes::life::TerminationCause::Removed,
        grace_seconds: None,
    };
    seen.turn();
    begin(&mut seen);
    seen
}

fn pass(seen: &mut Seen, seconds: i64) {
    let wait = SignedDuration::from_secs(seconds);
    seen.now.steady = seen.now.steady.saturating_add(wait).unwrap();
}

#[test]
fn a_stop_that_is_tried_again_has_what_is_left_of_its_grace() {
    let mut seen = hooked();
    pass(&mut seen, 12);
    assert_eq!(stops(&seen), ["a/18s hook after []", "b/18s after []"]);
    // The next process goes on where this one ended.
    let order = seen.order();
    let record = seen.memory.record.clone();
    seen.memory =
        crate::shapes::memory::PodMemory::taken_over(&order, Some(record), seen.now, |_| None);
    assert_eq!(stops(&seen), ["a/18s hook after []", "b/18s after []"]);
    pass(&mut seen, 100);
    assert_eq!(stops(&seen), ["a/2s hook after []", "b/2s after []"]);
    // The runtime has surely not been told: nothing of the grace is used up.
    let b = ContainerId::from("b-0");
    seen.memory.record.take_back_stop(&b, None);
    assert_eq!(stops(&seen), ["a/2s hook after []", "b/30s after []"]);
}

/// It was told once; that it is refused later gives it no time.
#[test]
fn a_refusal_takes_back_the_try_that_it_answers() {
    let mut seen = hooked();
    let refused = |seen: &mut Seen| {
        let begun = begin(seen);
        let failure = Failure {
            unstopped: vec![ContainerId::from("b-0")],
            ..Failure::new(Subject::Pod, Reason::Error, "refused".to_owned())
        };
        let outcomes = vec![Outcome::Failed(failure)];
        seen.memory.remember(outcomes, &begun, seen.now);
    };
    let not_reached = |seen: &mut Seen| {
        let begun = begin(seen);
        seen.memory.remember(Vec::new(), &begun, seen.now);
    };
    pass(&mut seen, 12);
    refused(&mut seen);
    not_reached(&mut seen);
    pass(&mut seen, 5);
    assert_eq!(stops(&seen), ["a/13s hook after []", "b/13s after []"]);
    // Of one that was never told nothing is used up.
    seen.memory.record.stopping.clear();
    not_reached(&mut seen);
    assert!(seen.memory.record.stopping.is_empty());
    refused(&mut seen);
    pass(&mut seen, 5);
    assert_eq!(stops(&seen), ["a/25s hook after []", "b/30s after []"]);
}

/// Between two processes somebody sets the wall clock: what is left of the grace follows from the machine's own count.
#[test]
fn a_clock_that_is_set_between_two_processes_gives_and_takes_no_grace() {
    use crate::shapes::record::BootMoment;
    let boot = |milliseconds| BootMoment {
        boot: "b".to_owned(),
        milliseconds,
    };
    for set_by in [-1_000_000, 0, 1_000_000] {
        let mut seen = hooked();
        let begun = seen.now;
        seen.memory.anchor(begun, Some(boot(50_000)));
        let record = seen.memory.record.clone();
        // Twelve seconds later.
        pass(&mut seen, 12 + set_by);
        let here = seen.now.steady;
        let steady_of = |moment: &BootMoment| {
            let ago = 62_000 - i64::try_from(moment.milliseconds).unwrap();
            here.checked_sub(SignedDuration::from_millis(ago)).ok()
        };
        let order = seen.order();
        let taken =
            crate::shapes::memory::PodMemory::taken_over(&order, Some(record), seen.now, steady_of);
        seen.memory = taken;
        assert_eq!(
            stops(&seen),
            ["a/18s hook after []", "b/18s after []"],
            "{set_by}"
        );
    }
}

#[test]
fn the_grace_that_ends_first_counts() {
    let mut seen = hooked();
    pass(&mut seen, 5);
    let shorter = |seconds| {
        let mut stop = seen.see(|view| stops_of_all(view, seconds)).remove(0);
        stop.hook = None;
        stop
    };
    let stop = shorter(10);
    assert_eq!(stop.grace_seconds, 10);
    seen.memory.record.begin_stop(&stop, seen.now.steady);
    pass(&mut seen, 4);
    assert_eq!(stops(&seen)[0], "a/6s hook after []");
    // A longer one begins nothing anew.
    let stop = seen.see(|view| stops_of_all(view, 30)).remove(0);
    seen.memory.record.begin_stop(&stop, seen.now.steady);
    assert_eq!(stops(&seen)[0], "a/6s hook after []");
}

#[test]
fn a_hook_that_has_ended_is_not_run_again() {
    let mut seen = hooked();
    seen.memory.note_hook_done(&ContainerId::from("a-0"));
    assert_eq!(stops(&seen), ["a/30s after []", "b/30s after []"]);
    // Another instance has a hook of its own.
    seen.hold("sandbox[0]:ready a[1]:running");
    assert_eq!(stops(&seen), ["a/30s hook after []"]);
}

#[test]
fn a_sleep_that_was_cut_short_goes_on() {
    let mut seen = hooked();
    pass(&mut seen, 8);
    let left = |seen: &Seen| match seen.see(|view| stops_of_all(view, 30)).remove(0).hook {
        Some(Hook::Sleep { seconds, left }) => (seconds, left.as_secs()),
        other => panic!("{other:?}"),
    };
    assert_eq!(left(&seen), (20, 12));
    pass(&mut seen, 100);
    assert_eq!(left(&seen), (20, 0));
}

#[test]
fn a_probe_gives_the_grace_of_its_own_and_the_hook_runs_too() {
    let spec = "{containers: [{name: a, image: i, lifecycle: {preStop: {exec: {command: [x]}}}, livenessProbe: {terminationGracePeriodSeconds: 7}}]}";
    let mut seen = seen(spec, "sandbox[0]:ready a[0]:running");
    crate::testing::held::probed(&mut seen, "a-0", None, false);
    let plan = seen.see(pod_plan);
    let stop = &plan.steps[0].action.stops().unwrap()[0];
    assert_eq!(stop.grace_seconds, 7);
    assert_eq!(stop.hook, Some(Hook::Exec(vec!["x".to_owned()])));
}
