//! Rows: what the API holds, what is reported, what is written.
//!
//! Upstream: pkg/kubelet/status/status_manager_test.go (the cases)

use serde_json::from_value;

use super::*;

fn pod(status: Value) -> v1::Pod {
    from_value(json!({
        "metadata": {"name": "a", "namespace": "default", "uid": "u"},
        "spec": {"containers": []},
        "status": status
    }))
    .unwrap()
}

fn write(held: &v1::Pod, reported: Value, progress: Progress) -> StatusWrite {
    status_write(&StatusWriteView {
        held,
        reported: &from_value(reported).unwrap(),
        progress,
        futile: None,
    })
}

fn ready(status: &str, since: &str) -> Value {
    json!({"type": "Ready", "status": status, "lastTransitionTime": since})
}

const EARLY: &str = "2026-01-01T00:00:00Z";
const LATE: &str = "2026-01-02T00:00:00Z";

#[test]
fn what_the_api_has_is_not_sent_again() {
    let status = json!({
        "phase": "Running", "qosClass": "BestEffort", "startTime": EARLY, "hostIP": "10.0.0.1",
        "podIP": "10.1.0.2", "podIPs": [{"ip": "10.1.0.2"}], "conditions": [ready("True", EARLY)],
    });
    let held = pod(status.clone());
    assert_eq!(
        write(&held, status, Progress::Working),
        StatusWrite::Nothing
    );
}

#[test]
fn only_what_differs_is_sent_and_what_is_gone_is_nulled() {
    let held = pod(json!({"phase": "Pending", "reason": "NetworkNotReady", "hostIP": "10.0.0.1"}));
    let reported = json!({"phase": "Running", "hostIP": "10.0.0.1"});
    let patch = json!({"phase": "Running", "reason": null});
    assert_eq!(
        write(&held, reported, Progress::Working),
        StatusWrite::Patch(patch)
    );
}

#[test]
fn that_the_network_is_there_may_wait_for_what_is_said_next_and_nothing_else() {
    let condition = |type_: &str, status: &str| json!({"type": type_, "status": status});
    let held = pod(json!({
        "phase": "Pending",
        "conditions": [condition("PodReadyToStartContainers", "False"), condition("Ready", "False")],
    }));
    let reported = |network: &str, ready: &str, phase: &str| {
        json!({
            "phase": phase, "podIP": "10.1.0.2", "podIPs": [{"ip": "10.1.0.2"}],
            "conditions": [condition("PodReadyToStartContainers", network), condition("Ready", ready)],
        })
    };
    let rows = [
        (reported("True", "False", "Pending"), true),
        (reported("True", "True", "Pending"), false),
        (reported("True", "False", "Running"), false),
    ];
    for (reported, may_wait) in rows {
        let write = write(&held, reported.clone(), Progress::Working);
        let waits = matches!(write, StatusWrite::PatchLater(_));
        assert_eq!(waits, may_wait, "{reported}");
    }
    let up = pod(reported("True", "False", "Pending"));
    let down = reported("False", "False", "Pending");
    let write = write(&up, down, Progress::Working);
    assert!(
        matches!(write, StatusWrite::Patch(_)),
        "the sandbox is lost: {write:?}"
    );
}

#[test]
fn a_condition_keeps_its_time_while_its_value_does_not_change() {
    let held = pod(json!({"conditions": [ready("False", EARLY)]}));
    assert_eq!(
        write(
            &held,
            json!({"conditions": [ready("False", LATE)]}),
            Progress::Working
        ),
        StatusWrite::Nothing
    );
    let patch = json!({
        "$setElementOrder/conditions": [{"type": "Ready"}],
        "conditions": [ready("True", LATE)],
    });
    assert_eq!(
        write(
            &held,
            json!({"conditions": [ready("True", LATE)]}),
            Progress::Working
        ),
        StatusWrite::Patch(patch)
    );
}

#[test]
fn what_a_condition_does_not_say_any_more_is_nulled() {
    let mut before = ready("False", EARLY);
    before["reason"] = json!("ContainersNotReady");
    let held = pod(json!({"conditions": [before]}));
    let mut change = ready("True", LATE);
    change["reason"] = Value::Null;
    let patch = json!({
        "$setElementOrder/conditions": [{"type": "Ready"}],
        "conditions": [change],
    });
    assert_eq!(
        write(
            &held,
            json!({"conditions": [ready("True", LATE)]}),
            Progress::Working
        ),
        StatusWrite::Patch(patch)
    );
}

#[test]
fn conditions_of_others_are_left_and_stand_first() {
    let gate = json!({"type": "example.org/gate", "status": "True"});
    let disruption = json!({"type": "DisruptionTarget", "status": "True"});
    let held = pod(json!({"conditions": [
        gate, disruption, {"type": "PodResizePending", "status": "True"},
    ]}));
    let patch = json!({
        "$setElementOrder/conditions": [
            {"type": "example.org/gate"}, {"type": "DisruptionTarget"}, {"type": "Ready"},
        ],
        "conditions": [ready("True", LATE), {"$patch": "delete", "type": "PodResizePending"}],
    });
    // A condition that is not the kubelet's is not written even when a status has it.
    let reported = json!({"conditions": [
        ready("True", LATE), {"type": "example.org/gate", "status": "False"},
    ]});
    assert_eq!(
        write(&held, reported, Progress::Working),
        StatusWrite::Patch(patch)
    );
}

#[test]
fn why_a_pod_is_disrupted_is_written_with_its_end_and_is_others_word_before() {
    let disruption = |status: &str| json!({"type": "DisruptionTarget", "status": status});
    let held = pod(json!({"phase": "Running", "conditions": [disruption("False")]}));
    let reported = |phase: &str| json!({"phase": phase, "conditions": [disruption("True")]});
    assert_eq!(
        write(&held, reported("Running"), Progress::Working),
        StatusWrite::Nothing
    );
    let patch = json!({
        "phase": "Failed",
        "$setElementOrder/conditions": [{"type": "DisruptionTarget"}],
        "conditions": [disruption("True")],
    });
    assert_eq!(
        write(&held, reported("Failed"), Progress::Working),
        StatusWrite::Patch(patch)
    );
}

#[test]
fn addresses_are_merged_by_address() {
    let held = pod(json!({"podIP": "10.1.0.2", "podIPs": [{"ip": "10.1.0.2"}]}));
    let reported = json!({"podIP": "10.1.0.3", "podIPs": [{"ip": "10.1.0.3"}, {"ip": "fd00::3"}]});
    let patch = json!({
        "podIP": "10.1.0.3",
        "$setElementOrder/podIPs": [{"ip": "10.1.0.3"}, {"ip": "fd00::3"}],
        "podIPs": [
            {"ip": "10.1.0.3"}, {"ip": "fd00::3"}, {"$patch": "delete", "ip": "10.1.0.2"},
        ],
    });
    assert_eq!(
        write(&held, reported, Progress::Working),
        StatusWrite::Patch(patch)
    );
}

#[test]
fn start_time_and_qos_class_are_written_once() {
    let held = pod(json!({"startTime": EARLY, "qosClass": "Burstable"}));
    let reported = json!({"startTime": LATE, "qosClass": "Guaranteed"});
    assert_eq!(
        write(&held, reported.clone(), Progress::Working),
        StatusWrite::Nothing
    );
    assert_eq!(
        write(&pod(json!({})), reported.clone(), Progress::Working),
        StatusWrite::Patch(reported)
    );
}

#[test]
fn what_others_own_is_left_alone() {
    let held = pod(json!({
        "phase": "Running", "nominatedNodeName": "n",
        "resourceClaimStatuses": [{"name": "c", "resourceClaimName": "d"}],
    }));
    assert_eq!(
        write(&held, json!({"phase": "Running"}), Progress::Working),
        StatusWrite::Nothing
    );
}

#[test]
fn the_object_goes_after_its_final_status_and_its_worker_s_end() {
    let ended = json!({"phase": "Succeeded"});
    let mut held = pod(json!({"phase": "Running"}));
    held.metadata.deletion_timestamp = Some(from_value(json!(EARLY)).unwrap());
    let first = write(&held, ended.clone(), Progress::Finished);
    assert_eq!(first, StatusWrite::Patch(ended.clone()));
    held.status = Some(from_value(ended.clone()).unwrap());
    let cases = [
        (Progress::Working, StatusWrite::Nothing),
        (Progress::Finished, StatusWrite::Delete),
    ];
    for (progress, expected) in cases {
        assert_eq!(write(&held, ended.clone(), progress), expected);
    }
    // Not asked to go: it stays.
    held.metadata.deletion_timestamp = None;
    assert_eq!(
        write(&held, ended.clone(), Progress::Finished),
        StatusWrite::Nothing
    );
}

#[test]
fn a_mirror_is_not_deleted_here() {
    let ended = json!({"phase": "Failed"});
    let mut held = pod(ended.clone());
    held.metadata.deletion_timestamp = Some(from_value(json!(EARLY)).unwrap());
    let mark = kubelet_model::pod::CONFIG_MIRROR_ANNOTATION.to_owned();
    held.metadata.annotations = Some([(mark, "hash".to_owned())].into());
    assert_eq!(
        write(&held, ended, Progress::Finished),
        StatusWrite::Nothing
    );
}

#[test]
fn what_is_empty_there_and_not_said_here_is_no_difference() {
    let empties = json!({
        "podIPs": [], "hostIPs": [], "conditions": [], "containerStatuses": [], "initContainerStatuses": [],
        "ephemeralContainerStatuses": [], "allocatedResources": {}, "message": "", "reason": "", "podIP": "", "hostIP": "",
        "resources": {"limits": {}, "requests": {}},
    });
    let rejected =
        json!({"phase": "Failed", "reason": "OutOfcpu", "message": "Pod was rejected: no cpu"});
    for mut said in [json!({"phase": "Failed"}), rejected] {
        let mut held = empties.clone();
        for (field, value) in said.as_object().unwrap() {
            held[field] = value.clone();
        }
        let mut leaving = pod(held);
        assert_eq!(
            write(&leaving, said.clone(), Progress::Finished),
            StatusWrite::Nothing
        );
        leaving.metadata.deletion_timestamp = Some(from_value(json!(EARLY)).unwrap());
        assert_eq!(
            write(&leaving, said.clone(), Progress::Finished),
            StatusWrite::Delete
        );
        // And the other way round.
        for (field, value) in empties.as_object().unwrap() {
            if said.get(field).is_none() {
                said[field] = value.clone();
            }
        }
        let plain = pod(
            json!({"phase": said["phase"], "reason": said["reason"], "message": said["message"]}),
        );
        assert_eq!(
            write(&plain, said, Progress::Finished),
            StatusWrite::Nothing
        );
    }
}

#[test]
fn a_condition_without_words_is_the_one_with_empty_words() {
    let bare = json!({"type": "Ready", "status": "True"});
    let wordy = json!({"type": "Ready", "status": "True", "reason": "", "message": ""});
    for (one, other) in [(&bare, &wordy), (&wordy, &bare)] {
        let held = pod(json!({"phase": "Running", "conditions": [one]}));
        let reported = json!({"phase": "Running", "conditions": [other]});
        assert_eq!(
            write(&held, reported, Progress::Working),
            StatusWrite::Nothing
        );
    }
}

#[test]
fn a_patch_that_was_not_taken_in_is_not_sent_again_and_holds_no_deletion_up() {
    let mut held = pod(json!({"phase": "Running"}));
    held.metadata.deletion_timestamp = Some(from_value(json!(EARLY)).unwrap());
    let reported = from_value(json!({"phase": "Failed"})).unwrap();
    let decide = |futile: Option<&Value>, progress| {
        status_write(&StatusWriteView {
            held: &held,
            reported: &reported,
            progress,
            futile,
        })
    };
    let patch = json!({"phase": "Failed"});
    let sent = StatusWrite::Patch(patch.clone());
    assert_eq!(decide(None, Progress::Finished), sent);
    assert_eq!(
        decide(Some(&json!({"phase": "Pending"})), Progress::Finished),
        sent
    );
    assert_eq!(
        decide(Some(&patch), Progress::Finished),
        StatusWrite::Delete
    );
    assert_eq!(
        decide(Some(&patch), Progress::Working),
        StatusWrite::Nothing
    );
}
