//! Deadlines, what they do to a life, a plan and a status.
//!
//! Upstream: pkg/kubelet/active_deadline_test.go (the cases)

use kubelet_model::objects::PodObjects;
use kubelet_model::observed::{ContainerState, Exit};

use super::*;
use crate::pod::lifecycle::step;
use crate::pod::pod_plan::pod_plan;
use crate::report::pod_status::{ShownWaits, pod_status};
use crate::shapes::life::{Lifecycle, Terminating, TerminationCause};
use crate::testing::pod_of;
use crate::testing::seen::Seen;

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Runs; active since so many seconds before now.
fn active_for(seconds: i64, spec: &str) -> Seen {
    let pod = pod_of(&format!("{{containers: [{{name: c, image: i}}], {spec}}}"));
    let mut seen = Seen::new(pod, PodObjects::default()).running();
    seen.memory.active_since = Some(second(-seconds));
    seen
}

#[test]
fn a_pod_ends_when_its_time_is_over_and_wakes_for_it() {
    let rows = [
        (29, "activeDeadlineSeconds: 30", Some(1), false),
        (30, "activeDeadlineSeconds: 30", Some(0), true),
        (31, "activeDeadlineSeconds: 30", Some(-1), true),
        (99, "", None, false),
        (9, "activeDeadlineSeconds: 9223372036854775807", None, false),
    ];
    for (active, spec, at, is_over) in rows {
        let seen = active_for(active, spec);
        assert_eq!(seen.see(deadline), at.map(second), "{active} {spec}");
        assert_eq!(seen.see(is_past_deadline), is_over, "{active} {spec}");
        let ends = matches!(
            seen.see(step),
            Lifecycle::Terminating(Terminating {
                cause: TerminationCause::Ended,
                grace_seconds: 30,
                ..
            })
        );
        assert_eq!(ends, is_over, "{active} {spec}");
        let plan = seen.see(pod_plan);
        assert_eq!(plan.give_up_at, at.map(second));
        assert!(plan.wake_at == at.map(second), "{active} {spec}");
    }
    let mut seen = active_for(99, "activeDeadlineSeconds: 1");
    seen.memory.active_since = None;
    assert_eq!(seen.see(deadline), None, "nobody took it up");
}

#[test]
fn a_pod_that_ended_by_itself_was_not_too_late() {
    let mut seen = active_for(60, "restartPolicy: Never, activeDeadlineSeconds: 30");
    let expected = Ended {
        succeeded: false,
        why: Some(EndReason {
            reason: DEADLINE_REASON.to_owned(),
            message: DEADLINE_MESSAGE.to_owned(),
            disruption: None,
        }),
    };
    assert_eq!(seen.see(end_of), expected);
    seen.observed.containers[0].state = ContainerState::Exited(Exit {
        code: 0,
        reason: "Completed".to_owned(),
        message: String::new(),
        started_at: second(0),
        finished_at: second(1),
    });
    let expected = Ended {
        succeeded: true,
        why: None,
    };
    assert_eq!(seen.see(end_of), expected);
}

#[test]
fn it_shows_failed_once_nothing_runs() {
    let mut seen = active_for(60, "activeDeadlineSeconds: 30");
    seen.memory.record.ended = Some(seen.see(end_of));
    let shown = |seen: &Seen| {
        let status = seen.see(|view| pod_status(view, &ShownWaits::default()).status);
        [status.phase, status.reason, status.message].map(Option::unwrap_or_default)
    };
    assert_eq!(shown(&seen), ["Running", "", ""]);
    seen.observed.containers[0].state = ContainerState::Exited(Exit {
        code: 137,
        reason: "Error".to_owned(),
        message: String::new(),
        started_at: second(0),
        finished_at: second(1),
    });
    assert_eq!(shown(&seen), ["Failed", DEADLINE_REASON, DEADLINE_MESSAGE]);
}

#[test]
fn its_event_is_of_the_normal_kind() {
    let seen = active_for(60, "activeDeadlineSeconds: 30");
    let event = crate::report::events::made_to_end(&seen.see(end_of).why.unwrap());
    assert_eq!(
        (
            event.type_,
            &*event.reason,
            event.message.as_str(),
            event.field_path
        ),
        (
            kubelet_model::event::EventType::Normal,
            DEADLINE_REASON,
            DEADLINE_MESSAGE,
            None
        )
    );
}
