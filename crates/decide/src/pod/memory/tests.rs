//! What a worker remembers, step by step: looks, outcomes, entries into states of life, takeovers.
//!
//! In:    stories: what happens, one step a line
//! Out:   –
//! Calls: cargo test
//! Holds: after every step the memory is printed whole, but for exits that were printed before
//! Upstream: none

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use kubelet_model::pod::SourceKind;

use super::*;
use crate::pod::cut_off::Starts;
use crate::pod::pod_plan::pod_plan;
use crate::shapes::memory::FirstLook;
use crate::shapes::memory::NextLook;
use crate::shapes::memory::PodMemory;
use crate::shapes::memory::Retry;
use crate::shapes::plan::PodPlan;
use crate::shapes::record::Stopping;
use crate::testing::held::{second, seen};
use crate::testing::node;
use crate::testing::seen::Seen;

/// What happens to a worker.
enum Event {
    /// It looks, and the runtime holds this.
    Look(&'static str),
    /// A plan that began these starts came to this.
    Plan(Vec<(&'static str, u32)>, Vec<Outcome>),
    /// What is wanted changes, and it thinks.
    Desire(Desire),
    /// So many seconds pass.
    Wait(i64),
}
use Event::{Look, Plan, Wait};

fn failed(container: Option<&str>, reason: Reason) -> Failure {
    let of = container.map_or(Subject::Pod, |name| Subject::Container(name.to_owned()));
    Failure::new(of, reason, "why".to_owned())
}

fn no(container: Option<&str>, reason: Reason) -> Outcome {
    Outcome::Failed(failed(container, reason))
}

fn no_image(pull_failed: bool, reason: Reason) -> Outcome {
    let image = Some(ImageFailure {
        image: "i".to_owned(),
        pull_failed,
    });
    Outcome::Failed(Failure {
        image,
        ..failed(Some("a"), reason)
    })
}

fn image() -> Effect {
    Effect::Image(
        "a".to_owned(),
        ResolvedImage {
            wanted: "i".to_owned(),
            id: "sha256:1".to_owned(),
            uid: None,
            username: String::new(),
            env_files: None,
        },
    )
}

fn tell(seen: &Seen) -> String {
    let (memory, now) = (&seen.memory, seen.now.steady);
    let at = |time: Timestamp| format!("{:+}s", time.duration_since(now).as_secs());
    let mut out = memory.life.word().to_owned();
    let retry = &memory.retry;
    if retry != &Retry::default() {
        let why = retry.waiting.as_ref().map_or("-", |w| w.reason.as_str());
        let until = retry.at.map_or_else(String::new, at);
        write!(out, "; retry {until} ×{} {why}", retry.failures).unwrap();
    }
    for (name, attempt) in &memory.attempts {
        let why = attempt.waiting.as_ref().map_or("-", |w| w.reason.as_str());
        let held = attempt.held_until.map_or_else(String::new, at);
        let image = if attempt.image.is_some() {
            "image "
        } else {
            ""
        };
        let refused = attempt
            .refused
            .map_or_else(String::new, |n| format!("refused[{n}] "));
        write!(
            out,
            "; {name}: {image}{refused}{held} ×{} {why}",
            attempt.tries
        )
        .unwrap();
    }
    let record = &memory.record;
    for (name, back_off) in &record.restart_back_off {
        write!(out, "; {name} backs off {}s", back_off.seconds).unwrap();
    }
    for (name, back_off) in &record.image_back_off {
        let looked = at(back_off.looked_at);
        write!(
            out,
            "; image of {name} {}s looked {looked}",
            back_off.back_off.seconds
        )
        .unwrap();
    }
    for (name, exit) in &record.exits {
        let from = exit.counts_from.map_or_else(String::new, at);
        write!(
            out,
            "; {name}[{}] ended {} from {from}",
            exit.attempt, exit.code
        )
        .unwrap();
    }
    if !record.running.is_empty() {
        write!(
            out,
            "; runs {:?}",
            record.running.keys().collect::<Vec<_>>()
        )
        .unwrap();
    }
    if !record.starts.is_empty() {
        write!(out, "; starts {:?}", record.starts).unwrap();
    }
    if !record.restart_counts.is_empty() {
        write!(out, "; counts {:?}", record.restart_counts).unwrap();
    }
    if let Some(ended) = &record.ended {
        let why = ended.why.as_ref().map_or("", |why| why.reason.as_str());
        write!(out, "; ended well: {} {why}", ended.succeeded).unwrap();
    }
    if let Some(rejection) = &record.rejected {
        write!(out, "; rejected {}", rejection.reason).unwrap();
    }
    if let Some(terminating) = &record.terminating {
        let grace = terminating.grace_seconds;
        write!(
            out,
            "; terminating {grace}s leaving: {}",
            terminating.leaving
        )
        .unwrap();
    }
    if let Some(garbage_at) = memory.garbage_at {
        write!(out, "; garbage {}", at(garbage_at)).unwrap();
    }
    out
}

fn happen(seen: &mut Seen, event: Event) {
    match event {
        Look(held) => {
            seen.hold(held);
            seen.memory.absorb(&seen.pod, &seen.observed, seen.now);
        }
        Plan(starts, outcomes) => {
            let named = starts.into_iter().map(|(name, n)| (name.to_owned(), n));
            let starts: Starts = named.collect();
            seen.memory.record.begin_starts(&starts);
            let begun = Begun {
                starts,
                ..Begun::default()
            };
            let look = seen.memory.remember(outcomes, &begun, seen.now);
            if look == NextLook::AsTouched {
                seen.memory.record.settle_starts(&seen.observed);
            }
        }
        Event::Desire(desire) => {
            seen.desire = desire;
            while let Some(entry) = seen.see(entry) {
                seen.memory.enter(entry);
                seen.memory.give_up_lost(&seen.observed, seen.now);
            }
        }
        Wait(seconds) => {
            let later = second(seen.now.steady.as_second() + seconds);
            (seen.now.steady, seen.now.wall) = (later, later);
        }
    }
}

fn check(spec: &str, story: Vec<(&str, Event)>, expected: Expect) {
    let mut seen = seen(spec, "nothing");
    seen.memory.attempts.clear();
    let mut out = String::new();
    for (what, event) in story {
        happen(&mut seen, event);
        writeln!(out, "{what}\n    {}", tell(&seen)).unwrap();
    }
    expected.assert_eq(&out);
}

const TWO: &str = "{containers: [{name: a, image: i}, {name: b, image: i}]}";

#[test]
fn a_failure_holds_back_what_it_is_about_and_nothing_else() {
    let create = || no(Some("a"), Reason::CreateContainerError);
    check(
        TWO,
        vec![
            ("a's creation fails", Plan(vec![("a", 0)], vec![create()])),
            ("and again", Plan(vec![("a", 0)], vec![create()])),
            (
                "its image is there, as before",
                Plan(vec![], vec![Outcome::Done(image())]),
            ),
            ("and again", Plan(vec![("a", 0)], vec![create()])),
            (
                "the sandbox fails",
                Plan(vec![], vec![no(None, Reason::CreatePodSandboxError)]),
            ),
            (
                "and again",
                Plan(vec![], vec![no(None, Reason::CreatePodSandboxError)]),
            ),
            (
                "a fails; nothing is known of the sandbox",
                Plan(vec![], vec![create()]),
            ),
            (
                "a plan succeeds",
                Plan(vec![], vec![Outcome::Done(Effect::Nothing)]),
            ),
            ("a runs", Look("sandbox[0]:ready a[0]:running")),
        ],
        expect![[r#"
            a's creation fails
                syncing; a: +1s ×1 CreateContainerError
            and again
                syncing; a: +2s ×2 CreateContainerError
            its image is there, as before
                syncing; a: image +2s ×2 -
            and again
                syncing; a: +4s ×3 CreateContainerError
            the sandbox fails
                syncing; retry +1s ×1 CreatePodSandboxError; a: +4s ×3 CreateContainerError
            and again
                syncing; retry +2s ×2 CreatePodSandboxError; a: +4s ×3 CreateContainerError
            a fails; nothing is known of the sandbox
                syncing; retry +2s ×2 CreatePodSandboxError; a: +8s ×4 CreateContainerError
            a plan succeeds
                syncing; a: +8s ×4 CreateContainerError
            a runs
                syncing; runs ["a"]; counts {"a": 0}
        "#]],
    );
}

/// b ended and is to be started again; a has another image and is stopped first. Its stop gets no answer, so that the plan ends there.
#[test]
fn a_start_that_its_plan_does_not_come_to_lengthens_nothing() {
    let mut seen = seen(TWO, "sandbox[0]:ready a[0]:running b[1]:exited(1)");
    seen.memory.absorb(&seen.pod, &seen.observed, seen.now);
    let held = BackOff {
        key: "another".to_owned(),
        seconds: 40,
        updated: second(0),
    };
    let back_offs = &mut seen.memory.record.restart_back_off;
    back_offs.insert("b".to_owned(), held.clone());
    seen.observed.containers[0].hash = "old".to_owned();
    let plan = seen.see(pod_plan);
    assert_eq!(
        plan.to_string(),
        "stop a/30s (definition changed); start b[2] (it ended)"
    );
    let (pod, now) = (seen.pod.clone(), seen.now);
    let begin = |seen: &mut Seen| seen.memory.begin(&pod, &plan, &node(), now);
    let of_b = |seen: &Seen| {
        let record = &seen.memory.record;
        let applied = record.applied.contains_key("b");
        let under_way = record.starts.contains_key("b");
        (record.restart_back_off["b"].seconds, applied, under_way)
    };
    let begun = begin(&mut seen);
    assert_eq!(of_b(&seen), (10, true, true));
    let id = seen.observed.containers[0].id.clone();
    let stop = Failure::new(
        Subject::Stops(vec![id.clone()]),
        Reason::Error,
        "no answer".to_owned(),
    );
    let look = seen
        .memory
        .remember(vec![Outcome::Unknown(stop.clone())], &begun, now);
    assert_eq!((of_b(&seen), look), ((40, false, false), NextLook::Whole));
    // The stop alone waits; b is started meanwhile.
    assert_eq!(seen.memory.retry, Retry::default());
    let plan = seen.see(pod_plan);
    assert_eq!(plan.to_string(), "start b[2] (it ended)");
    assert!(plan.wake_at.is_some_and(|at| at > now.steady));
    let begun = seen.memory.begin(&pod, &plan, &node(), now);
    let started = Outcome::Done(Effect::Started("b".to_owned()));
    seen.memory.remember(vec![started], &begun, now);
    assert_eq!(of_b(&seen), (10, true, true));
    // Its instance is gone, and what was known of its stop with it.
    seen.hold("sandbox[0]:ready");
    seen.memory.absorb(&pod, &seen.observed, now);
    assert!(seen.memory.stops.is_empty());
}

#[test]
fn what_may_have_happened_is_looked_at_and_tried_again() {
    let maybe = |container: Option<&str>, reason| Outcome::Unknown(failed(container, reason));
    check(
        TWO,
        vec![
            (
                "a's start is not answered",
                Plan(
                    vec![("a", 0)],
                    vec![maybe(Some("a"), Reason::RunContainerError)],
                ),
            ),
            (
                "and again",
                Plan(
                    vec![("a", 0)],
                    vec![maybe(Some("a"), Reason::RunContainerError)],
                ),
            ),
            (
                "the sandbox's is not",
                Plan(vec![], vec![maybe(None, Reason::CreatePodSandboxError)]),
            ),
            ("a step is given up", Plan(vec![], vec![Outcome::GivenUp])),
            ("a ran after all", Look("sandbox[0]:ready a[0]:exited(3)")),
        ],
        expect![[r#"
            a's start is not answered
                syncing; a: +1s ×1 RunContainerError; starts {"a": {0}}
            and again
                syncing; a: +2s ×2 RunContainerError; starts {"a": {0}}
            the sandbox's is not
                syncing; retry +1s ×1 -; a: +2s ×2 RunContainerError; starts {"a": {0}}
            a step is given up
                syncing; a: +2s ×2 RunContainerError; starts {"a": {0}}
            a ran after all
                syncing; a:  ×2 RunContainerError; a[0] ended 3 from -80s; starts {"a": {0}}; counts {"a": 0}
        "#]],
    );
}

#[test]
fn a_run_that_vanished_has_ended_once_the_next_instance_is_there() {
    check(
        TWO,
        vec![
            ("a runs", Look("sandbox[0]:ready a[0]:running")),
            ("it vanished", Look("sandbox[0]:ready")),
            ("the next was made", Look("sandbox[0]:ready a[1]:created")),
            ("it runs", Look("sandbox[0]:ready a[1]:running")),
        ],
        expect![[r#"
            a runs
                syncing; runs ["a"]; counts {"a": 0}
            it vanished
                syncing; runs ["a"]; counts {"a": 0}
            the next was made
                syncing; a[0] ended 137 from +0s; counts {"a": 0}
            it runs
                syncing; a[0] ended 137 from +0s; runs ["a"]; counts {"a": 1}
        "#]],
    );
}

#[test]
fn a_start_that_the_runtime_took_back_was_no_run() {
    check(
        TWO,
        vec![
            ("seen to run", Look("sandbox[0]:ready a[0]:running")),
            ("it was cut off", Look("sandbox[0]:ready a[0]:cut-off")),
            ("and is removed", Look("sandbox[0]:ready")),
        ],
        expect![[r#"
            seen to run
                syncing; runs ["a"]; counts {"a": 0}
            it was cut off
                syncing; counts {"a": 0}
            and is removed
                syncing; counts {"a": 0}
        "#]],
    );
}

#[test]
fn an_instance_that_was_refused_stays_so_whatever_becomes_of_its_image() {
    let refused = vec![no(Some("a"), Reason::RunContainerError)];
    check(
        TWO,
        vec![
            ("its start is refused", Plan(vec![("a", 0)], refused)),
            ("seen", Look("sandbox[0]:ready a[0]:created")),
            (
                "its image is there",
                Plan(vec![], vec![Outcome::Done(image())]),
            ),
            (
                "and then is not",
                Plan(vec![], vec![no(Some("a"), Reason::ErrImagePull)]),
            ),
        ],
        expect![[r#"
            its start is refused
                syncing; a: refused[0] +1s ×1 RunContainerError
            seen
                syncing; a: refused[0] +1s ×1 RunContainerError
            its image is there
                syncing; a: image refused[0] +1s ×1 -
            and then is not
                syncing; a: refused[0] +2s ×2 ErrImagePull
        "#]],
    );
}

#[test]
fn images_back_off_by_themselves() {
    check(
        TWO,
        vec![
            (
                "a pull fails",
                Plan(vec![], vec![no_image(true, Reason::ErrImagePull)]),
            ),
            ("5 s", Wait(5)),
            (
                "it is held, and not there",
                Plan(vec![], vec![no_image(false, Reason::ImagePullBackOff)]),
            ),
            ("10 s", Wait(10)),
            (
                "a pull fails again",
                Plan(vec![], vec![no_image(true, Reason::ErrImagePull)]),
            ),
            (
                "its name is bad",
                Plan(vec![], vec![no_image(false, Reason::InvalidImageName)]),
            ),
            ("it is there", Plan(vec![], vec![Outcome::Done(image())])),
        ],
        expect![[r#"
            a pull fails
                syncing; a:  ×0 ErrImagePull; image of i 10s looked +0s
            5 s
                syncing; a:  ×0 ErrImagePull; image of i 10s looked -5s
            it is held, and not there
                syncing; a:  ×0 ImagePullBackOff; image of i 10s looked +0s
            10 s
                syncing; a:  ×0 ImagePullBackOff; image of i 10s looked -10s
            a pull fails again
                syncing; a:  ×0 ErrImagePull; image of i 20s looked +0s
            its name is bad
                syncing; a: +1s ×1 InvalidImageName; image of i 20s looked +0s
            it is there
                syncing; a: image +1s ×1 -
        "#]],
    );
}

#[test]
fn exits_and_counts_never_go_back() {
    check(
        TWO,
        vec![
            ("a runs", Look("sandbox[0]:ready a[0]:running")),
            ("a ended", Look("sandbox[0]:ready a[0]:exited(3)")),
            (
                "its second run",
                Look("sandbox[0]:ready a[1]:running a[0]:exited(3)"),
            ),
            (
                "that ended",
                Look("sandbox[0]:ready a[1]:exited(4) a[0]:exited(3)"),
            ),
            (
                "the runtime forgot it",
                Look("sandbox[0]:ready a[0]:exited(3)"),
            ),
            ("and all", Look("nothing")),
            (
                "a start that failed leaves its instance to the back-off",
                Plan(
                    vec![("a", 2)],
                    vec![no(Some("a"), Reason::RunContainerError)],
                ),
            ),
            ("seen", Look("sandbox[0]:ready a[2]:exited(128,StartError)")),
        ],
        expect![[r#"
            a runs
                syncing; runs ["a"]; counts {"a": 0}
            a ended
                syncing; a[0] ended 3 from -80s; counts {"a": 0}
            its second run
                syncing; a[0] ended 3 from -80s; runs ["a"]; counts {"a": 1}
            that ended
                syncing; a[1] ended 4 from -80s; counts {"a": 1}
            the runtime forgot it
                syncing; a[1] ended 4 from -80s; counts {"a": 1}
            and all
                syncing; a[1] ended 4 from -80s; counts {"a": 1}
            a start that failed leaves its instance to the back-off
                syncing; a: refused[2] +1s ×1 RunContainerError; a[1] ended 4 from -80s; counts {"a": 1}
            seen
                syncing; a: refused[2]  ×1 RunContainerError; a[2] ended 128 from -80s; counts {"a": 2}
        "#]],
    );
}

#[test]
fn what_ran_and_vanished_of_a_pod_that_ends_has_ended() {
    let stop = Desire::Stop {
        cause: TerminationCause::Removed,
        grace_seconds: None,
    };
    let shorter = Desire::Stop {
        cause: TerminationCause::Removed,
        grace_seconds: Some(2),
    };
    check(
        TWO,
        vec![
            (
                "both run",
                Look("sandbox[0]:ready a[0]:running b[0]:running"),
            ),
            (
                "a vanishes, and the pod goes on",
                Look("sandbox[0]:ready b[0]:running"),
            ),
            (
                "the sandbox failed before",
                Plan(vec![], vec![no(None, Reason::CreatePodSandboxError)]),
            ),
            ("it is removed", Event::Desire(stop)),
            ("a stop fails", Plan(vec![], vec![no(None, Reason::Error)])),
            ("with less grace", Event::Desire(shorter)),
            ("nothing runs", Look("sandbox[0]:notready b[0]:exited(0)")),
            ("so it is terminated", Event::Desire(Desire::Run)),
            (
                "an older instance cannot be removed",
                Plan(
                    vec![],
                    vec![Outcome::Failed(Failure {
                        is_garbage: true,
                        ..failed(None, Reason::Error)
                    })],
                ),
            ),
        ],
        expect![[r#"
            both run
                syncing; runs ["a", "b"]; counts {"a": 0, "b": 0}
            a vanishes, and the pod goes on
                syncing; runs ["a", "b"]; counts {"a": 0, "b": 0}
            the sandbox failed before
                syncing; retry +1s ×1 CreatePodSandboxError; runs ["a", "b"]; counts {"a": 0, "b": 0}
            it is removed
                terminating; a[0] ended 137 from +0s; runs ["b"]; counts {"a": 0, "b": 0}; terminating 30s leaving: true
            a stop fails
                terminating; retry +1s ×1 Error; a[0] ended 137 from +0s; runs ["b"]; counts {"a": 0, "b": 0}; terminating 30s leaving: true
            with less grace
                terminating; retry +1s ×1 Error; a[0] ended 137 from +0s; runs ["b"]; counts {"a": 0, "b": 0}; terminating 2s leaving: true
            nothing runs
                terminating; retry +1s ×1 Error; a[0] ended 137 from +0s; b[0] ended 0 from -80s; counts {"a": 0, "b": 0}; terminating 2s leaving: true
            so it is terminated
                terminated; a[0] ended 137 from +0s; b[0] ended 0 from -80s; counts {"a": 0, "b": 0}; terminating 2s leaving: true
            an older instance cannot be removed
                terminated; a[0] ended 137 from +0s; b[0] ended 0 from -80s; counts {"a": 0, "b": 0}; terminating 2s leaving: true; garbage +60s
        "#]],
    );
}

#[test]
fn a_pod_that_may_not_begin_has_ended_for_good() {
    let reject = Desire::Reject(Rejection {
        reason: "OutOfcpu".to_owned(),
        message: "no".to_owned(),
    });
    check(
        TWO,
        vec![("it is rejected", Event::Desire(reject))],
        expect![[r#"
            it is rejected
                terminated; ended well: false ; rejected OutOfcpu; terminating 30s leaving: false
        "#]],
    );
}

#[test]
fn a_deadline_ends_a_pod_in_its_own_words() {
    check(
        "{activeDeadlineSeconds: 60, restartPolicy: Never, containers: [{name: a, image: i}, {name: b, image: i}]}",
        vec![
            (
                "a is done",
                Look("sandbox[0]:ready a[0]:exited(0) b[0]:running"),
            ),
            ("60 s", Wait(60)),
            ("it thinks", Event::Desire(Desire::Run)),
        ],
        expect![[r#"
            a is done
                syncing; a[0] ended 0 from -80s; runs ["b"]; counts {"a": 0, "b": 0}
            60 s
                syncing; a[0] ended 0 from -140s; runs ["b"]; counts {"a": 0, "b": 0}
            it thinks
                terminating; a[0] ended 0 from -140s; runs ["b"]; counts {"a": 0, "b": 0}; ended well: false DeadlineExceeded; terminating 30s leaving: false
        "#]],
    );
}

#[test]
fn starts_are_noted_and_back_off_lengthened_before_they_are_asked_for() {
    let mut seen = seen(TWO, "sandbox[0]:ready a[0]:exited(1) b[0]:exited(0)");
    let mut out = String::new();
    for attempt in 0..3 {
        let plan: PodPlan = {
            seen.memory.absorb(&seen.pod, &seen.observed, seen.now);
            seen.see(pod_plan)
        };
        let starts = seen
            .memory
            .begin(&seen.pod, &plan, &node(), seen.now)
            .starts;
        seen.memory.attempts.clear();
        writeln!(out, "{plan} {starts:?}\n    {}", tell(&seen)).unwrap();
        happen(&mut seen, Wait(30));
        let next = attempt + 1;
        seen.hold(&format!(
            "sandbox[0]:ready a[{next}]:exited(1) b[{next}]:exited(0)"
        ));
        seen = seen.prepared();
    }
    expect![[r#"
        start a[1] (it ended); start b[1] (it ended) {"a": 1, "b": 1}
            syncing; a backs off 10s; b backs off 10s; a[0] ended 1 from -80s; b[0] ended 0 from -80s; starts {"a": {1}, "b": {1}}; counts {"a": 0, "b": 0}
        start a[2] (it ended); start b[2] (it ended) {"a": 2, "b": 2}
            syncing; a backs off 20s; b backs off 20s; a[1] ended 1 from -110s; b[1] ended 0 from -110s; starts {"a": {1, 2}, "b": {1, 2}}; counts {"a": 1, "b": 1}
        start a[3] (it ended); start b[3] (it ended) {"a": 3, "b": 3}
            syncing; a backs off 40s; b backs off 40s; a[2] ended 1 from -140s; b[2] ended 0 from -140s; starts {"a": {1, 2, 3}, "b": {1, 2, 3}}; counts {"a": 2, "b": 2}
    "#]].assert_eq(&out);
}

/// What a new process begins with, of a pod of this source with this record, wanted so; and whether it uses the record after a look.
fn taken_over(
    source: SourceKind,
    record: &PodRecord,
    desire: Desire,
    held: &str,
    had_directory: bool,
) -> String {
    let mut seen = seen(TWO, held);
    seen.pod.source = source;
    seen.desire = desire;
    let order = seen.order();
    let now = seen.now;
    seen.memory = PodMemory::taken_over(&order, Some(record.clone()), now, |_| Some(second(40)));
    seen.memory.first_look = FirstLook::Due { had_directory };
    let before = tell(&seen);
    let is_doubted = seen
        .memory
        .validate_record(&order, &seen.observed, now, None);
    let again = seen
        .memory
        .validate_record(&order, &seen.observed, now, None);
    assert!(!again, "once");
    let since = seen.memory.active_since.map(Timestamp::as_second);
    let after = if is_doubted {
        tell(&seen)
    } else {
        "kept".to_owned()
    };
    format!("{before}\n    {after}, active since {since:?}\n")
}

#[test]
fn a_record_is_used_unless_it_is_of_a_life_that_is_over() {
    let known = |ids: &[&str]| Some(ids.iter().map(ToString::to_string).collect());
    let lived = PodRecord {
        start_time: Some(second(50)),
        sandboxes: known(&["s0"]),
        ..PodRecord::default()
    };
    let left = PodRecord {
        terminating: Some(TerminatingRecord {
            since: second(60),
            grace_seconds: 7,
            leaving: true,
        }),
        ..lived.clone()
    };
    let rejected = PodRecord {
        ended: Some(Ended {
            succeeded: false,
            why: None,
        }),
        rejected: Some(Rejection {
            reason: "OutOfcpu".to_owned(),
            message: String::new(),
        }),
        ..lived.clone()
    };
    let counted = PodRecord {
        active_since: Some(BootMoment {
            boot: "b".to_owned(),
            milliseconds: 1,
        }),
        ..lived.clone()
    };
    let stop = || Desire::Stop {
        cause: TerminationCause::Removed,
        grace_seconds: None,
    };
    let (file, api) = (SourceKind::File, SourceKind::Api);
    let rows = [
        ("runs", file, &lived, Desire::Run, "sandbox[0]:ready", true),
        (
            "by this boot's count",
            file,
            &counted,
            Desire::Run,
            "sandbox[0]:ready",
            true,
        ),
        (
            "nothing is left",
            file,
            &lived,
            Desire::Run,
            "nothing",
            false,
        ),
        (
            "nothing is left but its directory",
            file,
            &lived,
            Desire::Run,
            "nothing",
            true,
        ),
        (
            "nothing is left, of the API",
            api,
            &lived,
            Desire::Run,
            "nothing",
            false,
        ),
        (
            "nothing is left, to be removed",
            file,
            &lived,
            stop(),
            "nothing",
            false,
        ),
        ("leaves", file, &left, Desire::Run, "sandbox[0]:ready", true),
        (
            "left, and lives again",
            file,
            &left,
            Desire::Run,
            "sandbox[1]:ready",
            true,
        ),
        (
            "left, and is to go",
            file,
            &left,
            stop(),
            "sandbox[1]:ready",
            true,
        ),
        (
            "rejected, by the file",
            file,
            &rejected,
            Desire::Run,
            "nothing",
            false,
        ),
        (
            "rejected, of the API",
            api,
            &rejected,
            Desire::Run,
            "nothing",
            false,
        ),
    ];
    let line =
        |(what, source, record, desire, held, had): (&str, _, &PodRecord, Desire, &str, bool)| {
            format!("{what}: {}", taken_over(source, record, desire, held, had))
        };
    let out: String = rows.into_iter().map(line).collect();
    expect![[r#"
        runs: syncing
            kept, active since Some(50)
        by this boot's count: syncing
            kept, active since Some(40)
        nothing is left: syncing
            syncing, active since Some(100)
        nothing is left but its directory: syncing
            kept, active since Some(50)
        nothing is left, of the API: syncing
            kept, active since Some(50)
        nothing is left, to be removed: syncing
            kept, active since Some(50)
        leaves: terminating; terminating 7s leaving: true
            kept, active since Some(50)
        left, and lives again: terminating; terminating 7s leaving: true
            syncing, active since Some(100)
        left, and is to go: terminating; terminating 7s leaving: true
            kept, active since Some(50)
        rejected, by the file: syncing
            kept, active since None
        rejected, of the API: syncing; ended well: false ; rejected OutOfcpu
            kept, active since Some(50)
    "#]]
    .assert_eq(&out);
}

#[test]
fn an_end_that_looks_later_because_the_clock_was_set_back_was_no_replacement() {
    let spec = "{restartPolicy: OnFailure, containers: [{name: a, image: i}]}";
    let Seen {
        pod,
        mut memory,
        observed,
        now,
        ..
    } = seen(spec, "sandbox[0]:ready a[0]:exited(0)");
    let ended = observed.instances("a").next().unwrap();
    let finished_at = ended.state.exit().unwrap().finished_at;
    // When the stop was decided and what the clock shows now, as seen from the end, and how long the stop has gone on.
    for (since, wall, passed, stays) in [
        (-10, 5, 15, true),
        // Set back by hours between end and stop.
        (-7200, -7190, 10, false),
        // Set back by seconds within the stop, and after it.
        (-10, -5, 12, true),
        (-10, -7200, 12, true),
        // Set forward within it.
        (-7200, 5, 15, true),
    ] {
        let replaced = Replaced {
            id: ended.id.to_string(),
            since: finished_at + SignedDuration::from_secs(since),
            cause: ReplacedFor::Definition,
        };
        let stopping = Stopping {
            since: Some(now.steady),
            ..Stopping::default()
        };
        memory.record.replaced.insert("a".to_owned(), replaced);
        let id = ended.id.to_string();
        memory.record.stopping.insert(id, stopping);
        let now = Now {
            wall: finished_at + SignedDuration::from_secs(wall),
            steady: now.steady + SignedDuration::from_secs(passed),
        };
        memory.absorb(&pod, &observed, now);
        let is_there = memory.record.replaced.contains_key("a");
        assert_eq!(is_there, stays, "{since} {wall} {passed}");
    }
}
