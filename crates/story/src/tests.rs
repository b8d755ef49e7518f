//! Pods as a kubelet tells of them: what people read, and what comes over a real socket.
//!
//! Upstream: pkg/kubelet/apis/pods/server_unit_test.go

mod lines;
mod socket;
mod words;

use jiff::{SignedDuration, Timestamp};
use kubelet_model::story::{Failure, LastTry, Next, Probe, Stage, Story, Verdict, Wait, WaitOf};
use serde_json::{Value, json};

use crate::client::Told;

/// 2026-11-30T12:00:00Z and so many seconds.
pub(super) fn at(seconds: i64) -> Timestamp {
    let noon: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
    noon + SignedDuration::from_secs(seconds)
}

pub(super) fn millis(millis: i64) -> Timestamp {
    at(0) + SignedDuration::from_millis(millis)
}

/// The moment at which tests look.
pub(super) const NOW: i64 = 130;

pub(super) fn told(pod: Value, story: Story) -> Told {
    Told::of(pod, story).unwrap()
}

/// A pod with one container in this state.
pub(super) fn pod(name: &str, container: Value, conditions: &Value) -> Value {
    let mut status = json!({"name": "web", "image": "i", "imageID": "sha256:1", "ready": false, "started": false, "restartCount": 0});
    for (key, value) in container.as_object().unwrap() {
        status[key] = value.clone();
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("{name}-n1"), "namespace": "default", "uid": format!("uid-{name}"),
            "annotations": {"kubernetes.io/config.source": "file"},
        },
        "spec": {
            "nodeName": "n1", "restartPolicy": "Always",
            "containers": [{"name": "web", "image": "i",
                "startupProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 30},
                "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 10, "timeoutSeconds": 1},
                "livenessProbe": {"exec": {"command": ["cat", "/alive"]}},
                "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": true}]}],
            "volumes": [{"name": "v", "configMap": {"name": "settings"}}],
        },
        "status": {
            "phase": "Running", "startTime": "2026-11-30T12:00:00Z", "podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}],
            "qosClass": "BestEffort",
            "conditions": conditions, "containerStatuses": [status],
        },
    })
}

pub(super) fn ready(status: &str, message: Option<&str>) -> Value {
    json!([{"type": "Ready", "status": status, "message": message, "lastTransitionTime": "2026-11-30T12:00:05Z"}])
}

pub(super) fn unready() -> Value {
    ready("False", Some("containers with unready status: [web]"))
}

pub(super) fn running() -> Value {
    json!({"running": {"startedAt": "2026-11-30T12:00:02Z"}})
}

pub(super) fn probe(kind: &str) -> Probe {
    Probe {
        container: "web".to_owned(),
        kind: kind.to_owned(),
        verdict: None,
        last: None,
        failure: None,
        first_success: None,
        next: Next::At(at(NOW + 6)),
    }
}

/// A probe whose last tries failed.
pub(super) fn failing(kind: &str, in_a_row: u32) -> Probe {
    Probe {
        verdict: Some(Verdict::Failure),
        last: Some(LastTry {
            at: at(NOW - 4),
            succeeded: false,
            in_a_row,
        }),
        failure: Some(Failure {
            at: at(NOW - 4),
            text: "Get \"http://10.0.0.7:8080/ready\": dial tcp 10.0.0.7:8080: connect: connection refused".to_owned(),
        }),
        ..probe(kind)
    }
}

pub(super) fn succeeding(kind: &str, first: i64) -> Probe {
    Probe {
        verdict: Some(Verdict::Success),
        last: Some(LastTry {
            at: at(NOW - 1),
            succeeded: true,
            in_a_row: 12,
        }),
        first_success: Some(millis(first)),
        ..probe(kind)
    }
}

pub(super) fn wait(of: WaitOf, reason: &str, message: &str, until: Option<i64>) -> Wait {
    Wait {
        of,
        reason: reason.to_owned(),
        message: message.to_owned(),
        until: until.map(at),
    }
}

pub(super) fn stages(stages: &[(&str, i64)]) -> Vec<Stage> {
    let stages = stages.iter();
    stages
        .map(|(stage, at)| Stage {
            stage: (*stage).to_owned(),
            at: millis(*at),
        })
        .collect()
}

/// A pod that runs and whose readiness probe fails.
pub(super) fn unready_pod() -> Told {
    let container = json!({"state": running(), "started": true});
    let mut startup = succeeding("Startup", 3000);
    startup.next = Next::Settled;
    let story = Story {
        probes: vec![
            startup,
            failing("Readiness", 13),
            succeeding("Liveness", 3500),
        ],
        stages: stages(&[
            ("queued", 0),
            ("admitted", 4),
            ("sandbox", 310),
            ("pull", 320),
            ("start", 2000),
        ]),
        ..Story::default()
    };
    told(pod("broken", container, &unready()), story)
}

/// A pod that is ready.
pub(super) fn ready_pod() -> Told {
    let container = json!({"state": running(), "started": true, "ready": true});
    let story = Story {
        probes: vec![succeeding("Startup", 3000), succeeding("Readiness", 4900)],
        stages: stages(&[
            ("queued", 0),
            ("admitted", 4),
            ("sandbox", 310),
            ("pull", 320),
            ("start", 2000),
            ("ready", 5000),
        ]),
        ..Story::default()
    };
    told(pod("good", container, &ready("True", None)), story)
}

/// A pod whose container crashes.
pub(super) fn crashing_pod() -> Told {
    let message = "back-off 40s restarting failed container=web pod=crash_default(uid-crash)";
    let container = json!({
        "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": message}},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "no database",
            "startedAt": "2026-11-30T12:01:50Z", "finishedAt": "2026-11-30T12:01:58Z"}},
    });
    let story = Story {
        waits: vec![wait(
            WaitOf::Container("web".to_owned()),
            "CrashLoopBackOff",
            message,
            Some(158),
        )],
        stages: stages(&[("queued", 0), ("start", 110_000)]),
        ..Story::default()
    };
    told(pod("crash", container, &unready()), story)
}
