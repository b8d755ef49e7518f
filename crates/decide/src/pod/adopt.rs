//! Starts a pod's record from its API status, when this kubelet has none (another kubelet ran the pod, or the journal is lost).
//!
//! In:    the status of an API pod, as it was when this kubelet first saw it
//! Out:   a `PodRecord`, or nothing for a pod that no kubelet had taken up yet
//! Calls: act/pod/pod_worker.rs, for a pod without a record of its own
//! Holds: what the API shows never goes backwards: start time, restart counts, transition times, a terminal phase, addresses,
//!        exits
//! Upstream: pkg/kubelet/kubelet_pods.go (generateAPIPodStatus, convertToAPIContainerStatuses: the old status as input), 1.36

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use kubelet_model::reason::Reason;

use crate::pod::restart_all::ALL_CONTAINERS_RESTARTING;
use crate::shapes::exits::{LOST_CODE, LOST_MESSAGE};
use crate::shapes::record::{DISRUPTION_TARGET, EndReason, Ended, PodRecord, RecordedExit};
use crate::shapes::rejection::{REJECTED_PREFIX, Rejection};

/// The record that a status of the API amounts to; `None` when no kubelet has written it.
pub fn record_of_status(status: &v1::PodStatus) -> Option<PodRecord> {
    let start_time = status.start_time.as_ref()?.0;
    let statuses = || {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    };
    let conditions = status.conditions.iter().flatten().filter_map(|condition| {
        let since = condition.last_transition_time.as_ref()?.0;
        Some((condition.type_.clone(), (condition.status == "True", since)))
    });
    let mut conditions_now = status.conditions.iter().flatten();
    let is_restarting_all =
        conditions_now.any(|c| c.type_ == ALL_CONTAINERS_RESTARTING && c.status == "True");
    let ended = match status.phase.as_deref() {
        Some(phase @ ("Succeeded" | "Failed")) => Some(Ended {
            succeeded: phase == "Succeeded",
            why: end_reason(status),
        }),
        Some(_) | None => None,
    };
    let message = status.message.as_deref().unwrap_or_default();
    // A pod that was not let in shows nothing but that.
    let rejected = message
        .strip_prefix(REJECTED_PREFIX)
        .filter(|_| status.phase.as_deref() == Some("Failed") && statuses().next().is_none())
        .map(|message| Rejection {
            reason: status.reason.clone().unwrap_or_default(),
            message: message.to_owned(),
        });
    Some(PodRecord {
        rejected,
        start_time: Some(start_time),
        restart_counts: statuses()
            .map(|c| (c.name.clone(), u32::try_from(c.restart_count).unwrap_or(0)))
            .collect(),
        conditions: conditions.collect(),
        ips: status
            .pod_ips
            .iter()
            .flatten()
            .map(|address| address.ip.clone())
            .collect(),
        ended,
        restarting_all: is_restarting_all,
        exits: statuses()
            .filter_map(|c| Some((c.name.clone(), exit_of_status(c)?)))
            .collect::<BTreeMap<_, _>>(),
        running: statuses()
            .filter_map(|c| Some((c.name.clone(), lost_run_of_status(c)?)))
            .collect(),
        ..PodRecord::default()
    })
}

/// Why it was ended, when somebody ended it.
fn end_reason(status: &v1::PodStatus) -> Option<EndReason> {
    let reason = status.reason.clone().filter(|reason| !reason.is_empty())?;
    let message = status.message.clone().unwrap_or_default();
    let mut conditions = status.conditions.iter().flatten();
    let disruption = conditions.find(|c| c.type_ == DISRUPTION_TARGET && c.status == "True");
    Some(EndReason {
        reason,
        message,
        disruption: disruption.map(|c| c.message.clone().unwrap_or_default()),
    })
}

/// What is said of a container that the API shows as running, should it never be seen again.
fn lost_run_of_status(status: &v1::ContainerStatus) -> Option<RecordedExit> {
    let running = status.state.as_ref()?.running.as_ref()?;
    let started_at = running.started_at.as_ref().map(|at| at.0);
    Some(RecordedExit {
        id: bare_id(status.container_id.as_deref()?),
        sandbox: String::new(),
        code: LOST_CODE,
        reason: Reason::ContainerStatusUnknown.to_string(),
        message: LOST_MESSAGE.to_owned(),
        started_at: started_at.unwrap_or_default(),
        finished_at: started_at.unwrap_or_default(),
        image: status.image.clone(),
        image_ref: status.image_id.clone(),
        attempt: u32::try_from(status.restart_count).unwrap_or(0),
        counts_from: None,
        is_reset: false,
    })
}

/// The runtime's id, without the runtime's name.
fn bare_id(id: &str) -> String {
    id.split_once("://").map_or(id, |(_, id)| id).to_owned()
}

/// The newest exit that a container's status tells of.
fn exit_of_status(status: &v1::ContainerStatus) -> Option<RecordedExit> {
    let terminated = |state: &Option<v1::ContainerState>| state.as_ref()?.terminated.clone();
    let exit = terminated(&status.state).or_else(|| terminated(&status.last_state))?;
    let id = exit.container_id.unwrap_or_default();
    Some(RecordedExit {
        id: bare_id(&id),
        sandbox: String::new(),
        code: exit.exit_code,
        reason: exit.reason.unwrap_or_default(),
        message: exit.message.unwrap_or_default(),
        started_at: exit.started_at.map(|at| at.0).unwrap_or_default(),
        finished_at: exit.finished_at.map(|at| at.0).unwrap_or_default(),
        image: status.image.clone(),
        image_ref: status.image_id.clone(),
        attempt: 0,
        counts_from: None,
        is_reset: false,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    const EARLY: &str = "2026-01-01T00:00:00Z";

    fn record(status: Value) -> Option<PodRecord> {
        record_of_status(&from_value(status).unwrap())
    }

    #[test]
    fn a_pod_that_no_kubelet_took_up_has_none() {
        assert_eq!(record(json!({"phase": "Pending"})), None);
    }

    #[test]
    fn a_pod_that_was_not_let_in_stays_so() {
        let record = record(json!({
            "phase": "Failed", "startTime": EARLY, "reason": "OutOfcpu", "message": "Pod was rejected: no cpu",
        }))
        .unwrap();
        let rejected = record.rejected.unwrap();
        assert_eq!(
            (rejected.reason.as_str(), rejected.message.as_str()),
            ("OutOfcpu", "no cpu")
        );
        assert_eq!(record.ended.map(|ended| ended.succeeded), Some(false));
    }

    #[test]
    fn what_the_api_shows_of_a_running_pod_is_kept() {
        let record = record(json!({
            "phase": "Running", "startTime": EARLY, "podIPs": [{"ip": "10.1.0.2"}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": EARLY}],
            "containerStatuses": [{
                "name": "a", "image": "i", "imageID": "sha256:1", "ready": true, "restartCount": 3,
                "state": {"running": {"startedAt": EARLY}},
                "lastState": {"terminated": {"exitCode": 7, "containerID": "containerd://x"}},
            }],
        }))
        .unwrap();
        let early = EARLY.parse().unwrap();
        assert_eq!(record.start_time, Some(early));
        assert_eq!(record.restart_counts["a"], 3);
        assert_eq!(record.conditions["Ready"], (true, early));
        assert_eq!(record.ips, ["10.1.0.2"]);
        assert_eq!(
            (record.exits["a"].code, record.exits["a"].id.as_str()),
            (7, "x")
        );
        assert_eq!(record.ended, None);
    }

    #[test]
    fn of_a_container_that_ran_and_is_nowhere_an_unknown_end_is_known() {
        use kubelet_model::observed::{Moment, ObservedPod};
        let mut record = record(json!({
            "phase": "Running", "startTime": EARLY,
            "containerStatuses": [
                {"name": "ran", "image": "i", "imageID": "sha256:1", "ready": true, "restartCount": 3,
                 "state": {"running": {"startedAt": EARLY}}, "containerID": "containerd://x",
                 "lastState": {"terminated": {"exitCode": 7, "containerID": "containerd://w"}}},
                {"name": "ended", "image": "i", "imageID": "sha256:1", "ready": false, "restartCount": 0,
                 "state": {"terminated": {"exitCode": 4, "containerID": "containerd://y"}}},
                {"name": "waits", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                 "state": {"waiting": {"reason": "ContainerCreating"}}},
            ],
        }))
        .unwrap();
        let absent = ObservedPod::absent(
            kubelet_model::ids::PodUid::parse("u").unwrap(),
            Moment::default(),
        );
        record.give_up_lost(&absent, EARLY.parse().unwrap());
        let exits: Vec<_> = record
            .exits
            .iter()
            .map(|(name, exit)| (name.as_str(), exit.code, exit.id.as_str()))
            .collect();
        assert_eq!(exits, [("ended", 4, "y"), ("ran", 137, "x")]);
        assert_eq!(record.exits["ran"].reason, "ContainerStatusUnknown");
        assert!(record.running.is_empty());
    }

    #[test]
    fn a_terminal_phase_stays() {
        for (phase, succeeded) in [("Succeeded", true), ("Failed", false)] {
            let record = record(json!({"phase": phase, "startTime": EARLY})).unwrap();
            let why = None;
            assert_eq!(record.ended, Some(Ended { succeeded, why }));
        }
    }

    #[test]
    fn why_a_pod_was_ended_stays() {
        let record = record(json!({
            "phase": "Failed", "startTime": EARLY, "reason": "DeadlineExceeded", "message": "too long",
        }))
        .unwrap();
        let why = record.ended.unwrap().why.unwrap();
        assert_eq!(
            (why.reason.as_str(), why.message.as_str()),
            ("DeadlineExceeded", "too long")
        );
        assert_eq!(record.rejected, None);
    }
}
