//! One pod as a row: ready containers, the state in one word, restarts, age.
//!
//! In:    a pod with its story
//! Out:   [`Row`]
//! Calls: `table`, `describe`
//! Holds: pure; the words are kubectl's
//! Upstream: pkg/printers/internalversion/printers.go printPod (1.36)

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use kubelet_model::story::{Probe, Verdict};

use crate::client::Told;
use crate::paint::Tone;
use crate::times::since;

/// What a row says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) ready: String,
    pub(crate) status: String,
    pub(crate) restarts: String,
    pub(crate) age: String,
}

/// Counts of the containers.
#[derive(Default)]
struct Sum {
    status: String,
    ready: usize,
    restarts: i32,
    last_restart: Option<Timestamp>,
}

pub(crate) fn is_sidecar(spec: &v1::Container) -> bool {
    spec.restart_policy.as_deref() == Some("Always")
}

/// A condition of a pod.
pub(crate) fn condition<'a>(pod: &'a v1::Pod, type_: &str) -> Option<&'a v1::PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == type_)
}

pub(crate) fn is_true(pod: &v1::Pod, type_: &str) -> bool {
    condition(pod, type_).is_some_and(|c| c.status == "True")
}

pub(crate) fn init_specs(pod: &v1::Pod) -> &[v1::Container] {
    let specs = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.init_containers.as_deref());
    specs.unwrap_or_default()
}

pub(crate) fn specs(pod: &v1::Pod) -> &[v1::Container] {
    pod.spec.as_ref().map_or(&[], |spec| &spec.containers)
}

pub(crate) fn init_statuses(pod: &v1::Pod) -> &[v1::ContainerStatus] {
    let status = pod.status.as_ref();
    let statuses = status.and_then(|status| status.init_container_statuses.as_deref());
    statuses.unwrap_or_default()
}

pub(crate) fn statuses(pod: &v1::Pod) -> &[v1::ContainerStatus] {
    let status = pod.status.as_ref();
    let statuses = status.and_then(|status| status.container_statuses.as_deref());
    statuses.unwrap_or_default()
}

fn ended_at(status: &v1::ContainerStatus) -> Option<Timestamp> {
    let last = status.last_state.as_ref()?.terminated.as_ref()?;
    last.finished_at.as_ref().map(|at| at.0)
}

/// A termination in one word.
fn ended(end: &v1::ContainerStateTerminated) -> String {
    let reason = end.reason.as_deref().unwrap_or_default();
    match (reason, end.signal.unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", end.exit_code),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn waiting(status: &v1::ContainerStatus) -> &str {
    let waiting = status.state.as_ref().and_then(|s| s.waiting.as_ref());
    waiting
        .and_then(|w| w.reason.as_deref())
        .unwrap_or_default()
}

fn terminated(status: &v1::ContainerStatus) -> Option<&v1::ContainerStateTerminated> {
    status.state.as_ref()?.terminated.as_ref()
}

/// When the pod was made, or this node took it up.
pub(crate) fn born(pod: &v1::Pod) -> Option<Timestamp> {
    let created = pod.metadata.creation_timestamp.as_ref();
    let started = pod
        .status
        .as_ref()
        .and_then(|status| status.start_time.as_ref());
    created.or(started).map(|at| at.0)
}

/// The row of a pod.
pub(crate) fn row(pod: &v1::Pod, now: Timestamp) -> Row {
    let status = pod.status.clone().unwrap_or_default();
    let mut sum = Sum {
        status: status
            .reason
            .clone()
            .filter(|reason| !reason.is_empty())
            .or(status.phase.clone())
            .unwrap_or_default(),
        ..Sum::default()
    };
    let init = init_specs(pod);
    let sidecars = init.iter().filter(|spec| is_sidecar(spec)).count();
    let total = specs(pod).len() + sidecars;
    if !initializes(pod, &mut sum) || is_true(pod, "Initialized") {
        regular(pod, &mut sum);
    }
    let phase = status.phase.as_deref().unwrap_or_default();
    let is_over = matches!(phase, "Succeeded" | "Failed");
    if pod.metadata.deletion_timestamp.is_some() && !is_over {
        "Terminating".clone_into(&mut sum.status);
    }
    let restarts = match sum.last_restart {
        Some(at) if sum.restarts != 0 => format!("{} ({} ago)", sum.restarts, since(at, now)),
        _ => sum.restarts.to_string(),
    };
    Row {
        ready: format!("{}/{total}", sum.ready),
        status: sum.status,
        restarts,
        age: born(pod).map_or_else(|| "<unknown>".to_owned(), |at| since(at, now)),
    }
}

fn sidecar_of(pod: &v1::Pod, status: &v1::ContainerStatus) -> bool {
    let mut specs = init_specs(pod).iter();
    specs.any(|spec| spec.name == status.name && is_sidecar(spec))
}

/// Whether the pod still runs its init containers; the state then names the current one.
fn initializes(pod: &v1::Pod, sum: &mut Sum) -> bool {
    let total = init_specs(pod).len();
    for (index, status) in init_statuses(pod).iter().enumerate() {
        sum.restarts += status.restart_count;
        sum.last_restart = sum.last_restart.max(ended_at(status));
        match terminated(status) {
            Some(end) if end.exit_code == 0 => continue,
            Some(end) => sum.status = format!("Init:{}", ended(end)),
            None if sidecar_of(pod, status) && status.started == Some(true) => {
                sum.ready += usize::from(status.ready);
                continue;
            }
            None => {
                sum.status = match waiting(status) {
                    "" | "PodInitializing" => format!("Init:{index}/{total}"),
                    reason => format!("Init:{reason}"),
                };
            }
        }
        return true;
    }
    false
}

fn regular(pod: &v1::Pod, sum: &mut Sum) {
    let sidecars = init_statuses(pod)
        .iter()
        .filter(|status| sidecar_of(pod, status));
    sum.restarts = sidecars.map(|status| status.restart_count).sum();
    let mut runs = false;
    for status in statuses(pod).iter().rev() {
        sum.restarts += status.restart_count;
        sum.last_restart = sum.last_restart.max(ended_at(status));
        if !waiting(status).is_empty() {
            waiting(status).clone_into(&mut sum.status);
        } else if let Some(end) = terminated(status) {
            sum.status = ended(end);
        } else if status.ready {
            runs = true;
            sum.ready += 1;
        }
    }
    if sum.status == "Completed" && runs {
        let word = if is_true(pod, "Ready") {
            "Running"
        } else {
            "NotReady"
        };
        word.clone_into(&mut sum.status);
    }
}

/// How a state is to be taken.
pub(crate) fn tone(pod: &v1::Pod, status: &str) -> Tone {
    let is_bad = [
        "Err", "BackOff", "Fail", "OOM", "Exit", "Signal", "Unknown", "Invalid",
    ];
    match status {
        "Running" if is_true(pod, "Ready") => Tone::Good,
        "Completed" | "Succeeded" => Tone::Faint,
        status if is_bad.iter().any(|word| status.contains(word)) => Tone::Bad,
        _ => Tone::Waiting,
    }
}

/// The source of a pod, from its annotation.
pub(crate) fn source(pod: &v1::Pod) -> &str {
    let annotations = pod.metadata.annotations.as_ref();
    let source = annotations.and_then(|all| all.get("kubernetes.io/config.source"));
    source.map_or("api", String::as_str)
}

/// The probes that say something, in a few words: `2 ok, 1 failing`.
pub(crate) fn probes(told: &Told) -> String {
    let all = &told.story.probes;
    let fails = |probe: &&Probe| {
        probe.last.as_ref().is_some_and(|last| !last.succeeded)
            || probe.verdict == Some(Verdict::Failure)
                && probe.last.is_none()
                && probe.failure.is_some()
    };
    let (failing, well) = (
        all.iter().filter(fails).count(),
        all.iter()
            .filter(|p| p.verdict == Some(Verdict::Success) && !fails(p))
            .count(),
    );
    let waiting = all.len() - failing - well;
    let counts = [(well, "ok"), (failing, "failing"), (waiting, "waiting")];
    let words = counts.iter().filter(|(count, _)| *count > 0);
    let words: Vec<String> = words
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    if words.is_empty() {
        "<none>".to_owned()
    } else {
        words.join(", ")
    }
}
