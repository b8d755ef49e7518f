//! The next state of life, for every state, wish and observation that differ.
//!
//! In:    rows of a state, a wish, what the runtime holds
//! Out:   –
//! Calls: cargo test
//! Holds: the rank never falls
//! Upstream: none

use expect_test::expect;

use super::*;
use crate::shapes::life::Lifecycle;
use crate::shapes::life::Terminating;
use crate::shapes::life::TerminationCause;
use crate::shapes::waiting::Waiting;
use crate::testing::held::{second, seen};

fn word(life: &Lifecycle) -> String {
    match life {
        Lifecycle::Syncing => "syncing".to_owned(),
        Lifecycle::Terminating(t) => {
            format!("terminating({} {}s)", t.cause.as_str(), t.grace_seconds)
        }
        Lifecycle::Terminated { cause } => format!("terminated({})", cause.as_str()),
        Lifecycle::Finished { cause } => format!("finished({})", cause.as_str()),
    }
}

fn end() -> Desire {
    Desire::End(crate::shapes::record::EndReason {
        reason: "Preempting".to_owned(),
        message: "why".to_owned(),
        disruption: Some("for others".to_owned()),
    })
}

#[test]
fn each_state_leads_to_the_next_and_never_back() {
    use TerminationCause::{Ended, Orphaned, Removed};
    let terminating = |cause| {
        Lifecycle::Terminating(Terminating {
            cause,
            since: second(90),
            grace_seconds: 20,
        })
    };
    let terminated = |cause| Lifecycle::Terminated { cause };
    let stop = |cause, grace_seconds| Desire::Stop {
        cause,
        grace_seconds,
    };
    let wait = || Desire::Wait(None::<Waiting>);
    let runs = "sandbox[0]:ready a[0]:running";
    let ended = "sandbox[0]:notready a[0]:exited(0)";
    let rows = [
        (Lifecycle::Syncing, Desire::Run, runs),
        (Lifecycle::Syncing, wait(), runs),
        (Lifecycle::Syncing, stop(Removed, None), runs),
        (Lifecycle::Syncing, stop(Removed, Some(0)), runs),
        (Lifecycle::Syncing, stop(Removed, Some(90)), runs),
        (Lifecycle::Syncing, stop(Orphaned, None), "nothing"),
        (Lifecycle::Syncing, Desire::Run, ended),
        (Lifecycle::Syncing, wait(), ended),
        (
            Lifecycle::Syncing,
            Desire::Run,
            "sandbox[0]:ready a[0]:unknown",
        ),
        (terminating(Removed), stop(Removed, None), runs),
        (terminating(Removed), stop(Removed, Some(2)), runs),
        (terminating(Removed), Desire::Run, runs),
        (terminating(Ended), stop(Removed, Some(2)), runs),
        (terminating(Removed), stop(Removed, None), ended),
        (
            terminating(Removed),
            stop(Removed, None),
            "sandbox[0]:ready a[0]:exited(0)",
        ),
        (terminating(Removed), stop(Removed, None), "nothing"),
        (terminating(Ended), Desire::Run, ended),
        (terminated(Ended), Desire::Run, ended),
        (terminated(Ended), Desire::Run, "nothing"),
        (terminated(Ended), stop(Removed, None), "nothing"),
        (terminated(Removed), Desire::Run, ended),
        (terminated(Removed), Desire::Run, "nothing"),
        (Lifecycle::Finished { cause: Removed }, Desire::Run, runs),
        (Lifecycle::Syncing, end(), runs),
        (terminating(Ended), end(), ended),
        (terminated(Ended), end(), ended),
        (terminating(Removed), end(), runs),
    ];
    let mut out = String::new();
    for (life, desire, held) in rows {
        let mut seen = seen(
            "{restartPolicy: Never, containers: [{name: a, image: i}]}",
            held,
        );
        seen.memory.life = life.clone();
        seen.memory.prepared = Prepared::Released;
        let wish = match &desire {
            Desire::Stop {
                cause,
                grace_seconds,
            } => format!("stop {} {grace_seconds:?}", cause.as_str()),
            Desire::Run => "run".to_owned(),
            Desire::Wait(_) => "wait".to_owned(),
            Desire::Reject(_) => "reject".to_owned(),
            Desire::End(_) => "end".to_owned(),
        };
        seen.desire = desire;
        let next = seen.see(step);
        assert!(next.rank() >= life.rank());
        out += &format!("{} | {wish} | {held} → {}\n", word(&life), word(&next));
    }
    expect![[r#"
        syncing | run | sandbox[0]:ready a[0]:running → syncing
        syncing | wait | sandbox[0]:ready a[0]:running → syncing
        syncing | stop removed from its source None | sandbox[0]:ready a[0]:running → terminating(removed from its source 30s)
        syncing | stop removed from its source Some(0) | sandbox[0]:ready a[0]:running → terminating(removed from its source 1s)
        syncing | stop removed from its source Some(90) | sandbox[0]:ready a[0]:running → terminating(removed from its source 90s)
        syncing | stop unknown to every source None | nothing → terminating(unknown to every source 30s)
        syncing | run | sandbox[0]:notready a[0]:exited(0) → terminating(containers completed or deadline exceeded 30s)
        syncing | wait | sandbox[0]:notready a[0]:exited(0) → terminating(containers completed or deadline exceeded 30s)
        syncing | run | sandbox[0]:ready a[0]:unknown → syncing
        terminating(removed from its source 20s) | stop removed from its source None | sandbox[0]:ready a[0]:running → terminating(removed from its source 20s)
        terminating(removed from its source 20s) | stop removed from its source Some(2) | sandbox[0]:ready a[0]:running → terminating(removed from its source 2s)
        terminating(removed from its source 20s) | run | sandbox[0]:ready a[0]:running → terminating(removed from its source 20s)
        terminating(containers completed or deadline exceeded 20s) | stop removed from its source Some(2) | sandbox[0]:ready a[0]:running → terminating(removed from its source 2s)
        terminating(removed from its source 20s) | stop removed from its source None | sandbox[0]:notready a[0]:exited(0) → terminated(removed from its source)
        terminating(removed from its source 20s) | stop removed from its source None | sandbox[0]:ready a[0]:exited(0) → terminating(removed from its source 20s)
        terminating(removed from its source 20s) | stop removed from its source None | nothing → terminated(removed from its source)
        terminating(containers completed or deadline exceeded 20s) | run | sandbox[0]:notready a[0]:exited(0) → terminated(containers completed or deadline exceeded)
        terminated(containers completed or deadline exceeded) | run | sandbox[0]:notready a[0]:exited(0) → terminated(containers completed or deadline exceeded)
        terminated(containers completed or deadline exceeded) | run | nothing → terminated(containers completed or deadline exceeded)
        terminated(containers completed or deadline exceeded) | stop removed from its source None | nothing → finished(removed from its source)
        terminated(removed from its source) | run | sandbox[0]:notready a[0]:exited(0) → terminated(removed from its source)
        terminated(removed from its source) | run | nothing → finished(removed from its source)
        finished(removed from its source) | run | sandbox[0]:ready a[0]:running → finished(removed from its source)
        syncing | end | sandbox[0]:ready a[0]:running → terminating(containers completed or deadline exceeded 30s)
        terminating(containers completed or deadline exceeded 20s) | end | sandbox[0]:notready a[0]:exited(0) → terminated(containers completed or deadline exceeded)
        terminated(containers completed or deadline exceeded) | end | sandbox[0]:notready a[0]:exited(0) → terminated(containers completed or deadline exceeded)
        terminating(removed from its source 20s) | end | sandbox[0]:ready a[0]:running → terminating(removed from its source 20s)
    "#]].assert_eq(&out);
}
