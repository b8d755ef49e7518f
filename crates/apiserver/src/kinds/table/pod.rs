//! The table row of a pod, with its state in one word.
//!
//! In:    a pod
//! Out:   ready containers, the state (the STATUS column), restarts, age, and the wide columns
//! Calls: `table`
//! Holds: pure
//! Upstream: pkg/printers/internalversion/printers.go printPod (1.36); differences: none known

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, NAME, age, column, or, short_duration, wide};
use crate::base::object::{is_deleting, list, name, number, parse_time, text};

pub(crate) const POD: &[Column] = &[
    NAME,
    column("Ready", "string"),
    column("Status", "string"),
    column("Restarts", "string"),
    AGE,
    wide("IP", "string"),
    wide("Node", "string"),
    wide("Nominated Node", "string"),
    wide("Readiness Gates", "string"),
];

/// Sums over the containers.
#[derive(Default)]
struct Sum {
    reason: String,
    restarts: i64,
    last_restart: Option<Timestamp>,
    ready: usize,
}

pub(crate) fn pod(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut sum = Sum {
        reason: first_word(object),
        ..Sum::default()
    };
    let sidecars = list(object, "/spec/initContainers")
        .iter()
        .filter(|c| is_sidecar(c))
        .count();
    let total = list(object, "/spec/containers").len() + sidecars;
    let initializing = init_containers(object, &mut sum);
    if !initializing || condition(object, "Initialized") {
        containers(object, &mut sum);
    }
    if is_deleting(object) && text(object, "/status/reason") == "NodeLost" {
        sum.reason = "Unknown".to_owned();
    } else if is_deleting(object)
        && !["Succeeded", "Failed"].contains(&text(object, "/status/phase"))
    {
        sum.reason = "Terminating".to_owned();
    }
    let restarts = match sum.last_restart {
        Some(at) if sum.restarts != 0 => {
            let ago = short_duration(now.as_second() - at.as_second());
            format!("{} ({ago} ago)", sum.restarts)
        }
        _ => sum.restarts.to_string(),
    };
    vec![
        name(object).into(),
        format!("{}/{total}", sum.ready).into(),
        sum.reason.into(),
        restarts.into(),
        age(object, now),
        or(text(object, "/status/podIP"), "<none>"),
        or(text(object, "/spec/nodeName"), "<none>"),
        or(text(object, "/status/nominatedNodeName"), "<none>"),
        gates(object),
    ]
}

fn first_word(object: &Value) -> String {
    let gated = list(object, "/status/conditions")
        .iter()
        .any(|c| text(c, "/type") == "PodScheduled" && text(c, "/reason") == "SchedulingGated");
    let words = [
        if gated { "SchedulingGated" } else { "" },
        text(object, "/status/reason"),
        text(object, "/status/phase"),
    ];
    let word = words.into_iter().find(|word| !word.is_empty());
    word.unwrap_or_default().to_owned()
}

fn is_sidecar(container: &Value) -> bool {
    text(container, "/restartPolicy") == "Always"
}

fn condition(object: &Value, kind: &str) -> bool {
    let conditions = list(object, "/status/conditions");
    conditions
        .iter()
        .any(|c| text(c, "/type") == kind && text(c, "/status") == "True")
}

fn finished_at(status: &Value) -> Option<Timestamp> {
    parse_time(text(status, "/lastState/terminated/finishedAt"))
}

/// The state of a terminated container, in one word.
fn ended(state: &Value) -> String {
    let (reason, signal) = (
        text(state, "/reason"),
        number(state, "/signal").unwrap_or(0),
    );
    match (reason, signal) {
        ("", 0) => format!("ExitCode:{}", number(state, "/exitCode").unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// True while the pod runs its init containers; the state then names the current one.
fn init_containers(object: &Value, sum: &mut Sum) -> bool {
    let specs = list(object, "/spec/initContainers");
    let mut initializing = false;
    for (index, status) in list(object, "/status/initContainerStatuses")
        .iter()
        .enumerate()
    {
        let sidecar = specs
            .iter()
            .any(|c| text(c, "/name") == text(status, "/name") && is_sidecar(c));
        let started = status["started"] == Value::Bool(true);
        let ready = status["ready"] == Value::Bool(true);
        sum.restarts += number(status, "/restartCount").unwrap_or(0);
        sum.last_restart = sum.last_restart.max(finished_at(status));
        let state = |pointer: &str| status.pointer(pointer).filter(|s| s.is_object());
        if let Some(end) = state("/state/terminated") {
            if number(end, "/exitCode").unwrap_or(0) == 0 {
                continue;
            }
            sum.reason = format!("Init:{}", ended(end));
        } else if sidecar && started {
            if ready {
                sum.ready += 1;
            }
            continue;
        } else {
            let waiting = text(status, "/state/waiting/reason");
            sum.reason = if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{index}/{}", specs.len())
            };
        }
        initializing = true;
        break;
    }
    initializing
}

fn containers(object: &Value, sum: &mut Sum) {
    let (mut restarts, mut last) = (0, None);
    let mut running = false;
    for status in list(object, "/status/containerStatuses").iter().rev() {
        restarts += number(status, "/restartCount").unwrap_or(0);
        last = last.max(finished_at(status));
        let waiting = text(status, "/state/waiting/reason");
        let terminated = status
            .pointer("/state/terminated")
            .filter(|s| s.is_object());
        if !waiting.is_empty() {
            sum.reason = waiting.to_owned();
        } else if let Some(end) = terminated {
            sum.reason = ended(end);
        } else if status["ready"] == Value::Bool(true) && status.pointer("/state/running").is_some()
        {
            running = true;
            sum.ready += 1;
        }
    }
    sum.restarts = restarts + sidecar_restarts(object);
    sum.last_restart = last.max(sum.last_restart);
    if sum.reason == "Completed" && running {
        sum.reason = if condition(object, "Ready") {
            "Running"
        } else {
            "NotReady"
        }
        .to_owned();
    }
}

/// Restarts of sidecars count; restarts of other init containers do not.
fn sidecar_restarts(object: &Value) -> i64 {
    let specs = list(object, "/spec/initContainers");
    let sidecar = |status: &&Value| {
        specs
            .iter()
            .any(|c| text(c, "/name") == text(status, "/name") && is_sidecar(c))
    };
    let statuses = list(object, "/status/initContainerStatuses").iter();
    let counts = statuses
        .filter(sidecar)
        .map(|s| number(s, "/restartCount").unwrap_or(0));
    counts.sum()
}

fn gates(object: &Value) -> Value {
    let gates = list(object, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let passed = gates
        .iter()
        .filter(|g| condition(object, text(g, "/conditionType")))
        .count();
    format!("{passed}/{}", gates.len()).into()
}
