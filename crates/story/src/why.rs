//! Why a pod is not Ready: the chain from its condition to the container, the probe or the step that it waits for.
//!
//! In:    a pod with its story; the moment, for the text
//! Out:   [`Why`], for programs; its text, for people
//! Calls: `run`, `describe`
//! Holds: pure; a link says since when, the last error, and when something is tried again, where that is known
//! Upstream: none

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1;
use kubelet_model::story::{Next, Probe, WaitOf};
use serde::Serialize;

use crate::client::Told;
use crate::paint::{Paint, Tone};
use crate::row::{condition, init_specs, init_statuses, is_sidecar, specs, statuses};
use crate::times::{age, date, seconds, since};
use crate::words::{asked, printable};

/// How the pod stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum State {
    Ready,
    NotReady,
    /// It is being deleted.
    Ending,
    Succeeded,
    Failed,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Why {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
    /// From the condition down to what is waited for.
    pub(crate) chain: Vec<Link>,
}

/// One link of the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Link {
    /// What it explains is the link before it with a smaller depth.
    pub(crate) depth: usize,
    pub(crate) text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
    /// Of a container that ended: when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ended_at: Option<Timestamp>,
    /// Why it is held back, the last error of a probe, or the termination message of a container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_error_at: Option<Timestamp>,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_try: Option<Timestamp>,
}

fn link(depth: usize, text: impl Into<String>) -> Link {
    Link {
        depth,
        text: text.into(),
        ..Link::default()
    }
}

const INIT: &str = "Init container";

/// That something is held back, in plain words and by its reason.
fn held(subject: &str, reason: &str) -> String {
    let words = match reason {
        "CrashLoopBackOff" => "keeps ending; its next start is held back",
        "ContainerCreating" => "was not started yet",
        "PodInitializing" => "waits for the init containers",
        "ErrImagePull" => "has no image: the pull failed",
        "ImagePullBackOff" => "has no image: the pull failed and the next one is held back",
        "ErrImageNeverPull" => "has no image, and its pull policy is Never",
        "InvalidImageName" => "has an invalid image name",
        "CreateContainerConfigError" => "lacks something that its configuration refers to",
        "CreateContainerError" | "RunContainerError" => "could not be started by the runtime",
        "PostStartHookError" => "was stopped because its postStart hook failed",
        "RestartingAllContainers" => {
            "was taken down with all containers of its pod, to be started again"
        }
        "CreatePodSandboxError" => "has no sandbox: the runtime could not make it",
        "FailedMount" => "cannot be set up",
        "NetworkNotReady" => "waits for the runtime's network",
        "UnsupportedField" => "uses a field that this kubelet does not support",
        "WaitingForName" => "waits for another pod of the same name to end",
        "WaitingForRoom" => "waits for pods that are ending to make room",
        _ => "waits",
    };
    format!("{subject} {words} ({reason})")
}

/// A text that says something.
fn some(text: Option<&String>) -> Option<&str> {
    text.map(|text| text.trim()).filter(|text| !text.is_empty())
}

/// Of a pod.
pub(crate) fn why(told: &Told) -> Why {
    let status = told.pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    let ready = condition(&told.pod, "Ready");
    let state = match phase {
        Some("Succeeded") => State::Succeeded,
        Some("Failed") => State::Failed,
        _ if told.pod.metadata.deletion_timestamp.is_some() => State::Ending,
        _ if ready.is_some_and(|ready| ready.status == "True") => State::Ready,
        _ => State::NotReady,
    };
    let turned = ready.and_then(|ready| ready.last_transition_time.as_ref());
    let started = status.and_then(|status| status.start_time.as_ref());
    let (since, chain) = match state {
        State::Ready => (turned.map(|at| at.0), still_failing(told)),
        State::NotReady => (turned.or(started).map(|at| at.0), not_ready(told)),
        State::Ending => (asked_to_end(&told.pod), ending(told)),
        State::Succeeded | State::Failed => (last_end(&told.pod), over(told)),
    };
    Why {
        namespace: told.namespace().to_owned(),
        name: told.name().to_owned(),
        uid: told.uid().to_owned(),
        state,
        since,
        chain,
    }
}

fn asked_to_end(pod: &v1::Pod) -> Option<Timestamp> {
    let until = pod.metadata.deletion_timestamp.as_ref()?.0;
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
    until.checked_sub(SignedDuration::from_secs(grace)).ok()
}

fn end_of(status: &v1::ContainerStatus) -> Option<&v1::ContainerStateTerminated> {
    status.state.as_ref()?.terminated.as_ref()
}

fn last_end(pod: &v1::Pod) -> Option<Timestamp> {
    let ends = init_statuses(pod).iter().chain(statuses(pod));
    let ends = ends.filter_map(|status| end_of(status)?.finished_at.as_ref());
    ends.map(|at| at.0).max()
}

/// A ready pod may have probes that fail: of those that have not failed often enough.
fn still_failing(told: &Told) -> Vec<Link> {
    let fails = |probe: &&Probe| probe.last.as_ref().is_some_and(|last| !last.succeeded);
    let failing = told.story.probes.iter().filter(fails);
    failing
        .map(|probe| {
            let mut link = of_probe(told, probe, 0);
            link.text = format!("Container {}: {}", probe.container, link.text);
            link
        })
        .collect()
}

fn over(told: &Told) -> Vec<Link> {
    let status = told.pod.status.as_ref();
    let reason = status.and_then(|status| some(status.reason.as_ref()));
    let message = status.and_then(|status| some(status.message.as_ref()));
    let mut links: Vec<Link> = reason
        .map(|reason| Link {
            last_error: message.map(str::to_owned),
            ..link(0, format!("Reason {reason}"))
        })
        .into_iter()
        .collect();
    let ends = init_statuses(&told.pod).iter().chain(statuses(&told.pod));
    links.extend(ends.filter_map(|status| Some(of_end(end_of(status)?, &status.name, 0))));
    links
}

/// How a container ended.
fn of_end(end: &v1::ContainerStateTerminated, name: &str, depth: usize) -> Link {
    let reason = some(end.reason.as_ref());
    let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
    let ran = match (&end.started_at, &end.finished_at) {
        (Some(from), Some(to)) if from.0 < to.0 => format!(" after {}", since(from.0, to.0)),
        _ => String::new(),
    };
    Link {
        ended_at: end.finished_at.as_ref().map(|at| at.0),
        last_error: some(end.message.as_ref()).map(str::to_owned),
        ..link(
            depth,
            format!(
                "Container {name} ended with exit code {}{reason}{ran}",
                end.exit_code
            ),
        )
    }
}

fn ending(told: &Told) -> Vec<Link> {
    let mut links = of_pod(told, 0);
    let all = init_statuses(&told.pod).iter().chain(statuses(&told.pod));
    for status in all {
        let runs = status
            .state
            .as_ref()
            .is_some_and(|state| state.running.is_some());
        if runs {
            links.push(link(0, format!("Container {} still runs", status.name)));
        }
        links.extend(waits(
            told,
            &WaitOf::Stop(status.name.clone()),
            "Its stop",
            1,
        ));
    }
    links
}

fn not_ready(told: &Told) -> Vec<Link> {
    let mut links = Vec::new();
    let ready = condition(&told.pod, "Ready");
    if let Some(message) = ready.and_then(|ready| some(ready.message.as_ref())) {
        links.push(link(0, format!("Condition Ready is False: {message}")));
    }
    let depth = links.len();
    links.extend(of_pod(told, depth));
    for wait in &told.story.waits {
        if let WaitOf::Volume(name) = &wait.of {
            links.extend(waits(told, &wait.of, &format!("Volume {name}"), depth));
        }
    }
    let is_initializing = initializing(told, depth, &mut links);
    if !is_initializing {
        for spec in specs(&told.pod) {
            let all = statuses(&told.pod);
            links.extend(of_container(told, (spec, "Container"), all, depth));
        }
        links.extend(gates(told, depth));
    }
    links
}

/// What holds the pod as a whole, and what its worker does.
fn of_pod(told: &Told, depth: usize) -> Vec<Link> {
    let mut links = waits(told, &WaitOf::Pod, "The pod", depth);
    let status = told.pod.status.as_ref();
    let reason = status.and_then(|status| some(status.reason.as_ref()));
    if let Some(reason) = reason.filter(|_| links.is_empty()) {
        let message = status.and_then(|status| some(status.message.as_ref()));
        links.push(Link {
            last_error: message.map(str::to_owned),
            ..link(depth, held("The pod", reason))
        });
    }
    let doing = told.story.doing.iter();
    links.extend(doing.map(|step| link(depth, format!("Under way: {step}"))));
    links
}

fn waits(told: &Told, of: &WaitOf, subject: &str, depth: usize) -> Vec<Link> {
    let waits = told.story.waits.iter().filter(|wait| wait.of == *of);
    waits
        .map(|wait| Link {
            last_error: some(Some(&wait.message)).map(str::to_owned),
            next_try: wait.until,
            ..link(depth, held(subject, &wait.reason))
        })
        .collect()
}

/// The init container that the others wait for, if there is one.
fn initializing(told: &Told, depth: usize, links: &mut Vec<Link>) -> bool {
    let all = init_statuses(&told.pod);
    let mut is_initializing = false;
    for spec in init_specs(&told.pod) {
        let status = all.iter().find(|status| status.name == spec.name);
        let is_done = status.is_some_and(|status| match is_sidecar(spec) {
            true => status.started == Some(true),
            false => end_of(status).is_some_and(|end| end.exit_code == 0),
        });
        if is_sidecar(spec) || !is_done && !is_initializing {
            let word = if is_sidecar(spec) { "Sidecar" } else { INIT };
            links.extend(of_container(told, (spec, word), all, depth));
        }
        if !is_done {
            is_initializing = true;
            break;
        }
    }
    is_initializing
}

/// Why one container is not ready; nothing where it is.
fn of_container(
    told: &Told,
    (spec, word): (&v1::Container, &str),
    all: &[v1::ContainerStatus],
    depth: usize,
) -> Vec<Link> {
    let name = &spec.name;
    let status = all.iter().find(|status| status.name == *name);
    let Some(status) = status else {
        return waits(
            told,
            &WaitOf::Container(name.clone()),
            &format!("{word} {name}"),
            depth,
        );
    };
    if status.ready {
        return Vec::new();
    }
    let state = status.state.clone().unwrap_or_default();
    let wait = told
        .story
        .waits
        .iter()
        .find(|wait| wait.of == WaitOf::Container(name.clone()));
    let next_try = wait.and_then(|wait| wait.until);
    let mut links = Vec::new();
    if let Some(running) = &state.running {
        let has_to_end = word == INIT && !is_sidecar(spec);
        let stand = if has_to_end {
            "runs and has not ended"
        } else {
            "runs and is not ready"
        };
        links.push(Link {
            since: running.started_at.as_ref().map(|at| at.0),
            ..link(depth, format!("{word} {name} {stand}"))
        });
        if !has_to_end {
            links.extend(of_running(told, spec, status, depth + 1));
        }
    } else if let Some(end) = &state.terminated {
        let mut ended = of_end(end, name, depth);
        ended.next_try = next_try;
        if next_try.is_none() && !restarts(&told.pod, spec, end.exit_code) {
            ended.text.push_str("; it is not started again");
        }
        links.push(ended);
    } else {
        let waiting = state.waiting.unwrap_or_default();
        let reason = some(waiting.reason.as_ref()).unwrap_or("unknown");
        let message = some(waiting.message.as_ref());
        let message = message.or(wait.and_then(|wait| some(Some(&wait.message))));
        links.push(Link {
            last_error: message.map(str::to_owned),
            next_try,
            ..link(depth, held(&format!("{word} {name}"), reason))
        });
    }
    let last = status
        .last_state
        .as_ref()
        .and_then(|last| last.terminated.as_ref());
    if let Some(last) = last {
        let mut before = of_end(last, name, depth + 1);
        let times = match status.restart_count {
            0 | 1 => "once".to_owned(),
            count => format!("{count} times"),
        };
        before.text = format!("It was restarted {times}. {}", before.text);
        links.push(before);
    }
    links
}

/// Whether the policy alone starts a container again.
fn restarts(pod: &v1::Pod, spec: &v1::Container, code: i32) -> bool {
    let of_pod = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.restart_policy.as_deref());
    match spec.restart_policy.as_deref().or(of_pod) {
        Some("Never") => false,
        Some("OnFailure") => code != 0,
        _ => true,
    }
}

/// What a container that runs still lacks.
fn of_running(
    told: &Told,
    spec: &v1::Container,
    status: &v1::ContainerStatus,
    depth: usize,
) -> Vec<Link> {
    let probes = told.story.probes.iter();
    let of_kind = |kind: &str| {
        let found = probes
            .clone()
            .find(|p| p.container == spec.name && p.kind == kind);
        found.map(|probe| of_probe(told, probe, depth))
    };
    let has_started = status.started == Some(true);
    if !has_started && spec.startup_probe.is_some() {
        let probe = of_kind("Startup");
        return vec![probe.unwrap_or_else(|| link(depth, "Its startup probe has not succeeded"))];
    }
    let has_hook = spec
        .lifecycle
        .as_ref()
        .is_some_and(|hooks| hooks.post_start.is_some());
    if !has_started && has_hook {
        return vec![link(depth, "Its postStart hook has not ended")];
    }
    if spec.readiness_probe.is_some() {
        let probe = of_kind("Readiness");
        return vec![probe.unwrap_or_else(|| link(depth, "Its readiness probe has not succeeded"))];
    }
    Vec::new()
}

/// The spec of one of a container's probes.
fn spec_of<'a>(told: &'a Told, probe: &Probe) -> Option<&'a v1::Probe> {
    let mut all = init_specs(&told.pod).iter().chain(specs(&told.pod));
    let container = all.find(|spec| spec.name == probe.container)?;
    match probe.kind.as_str() {
        "Startup" => container.startup_probe.as_ref(),
        "Readiness" => container.readiness_probe.as_ref(),
        _ => container.liveness_probe.as_ref(),
    }
}

fn times(count: u32) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times in a row"),
    }
}

fn of_probe(told: &Told, probe: &Probe, depth: usize) -> Link {
    let spec = spec_of(told, probe);
    let asks = spec.map_or_else(String::new, |spec| format!(" {}", asked(spec)));
    let needed = |of: Option<i32>, default| of.filter(|given| *given > 0).unwrap_or(default);
    let successes = needed(spec.and_then(|spec| spec.success_threshold), 1);
    let failures = needed(spec.and_then(|spec| spec.failure_threshold), 3);
    let stand = match (&probe.last, &probe.failure) {
        (Some(last), _) if !last.succeeded && probe.kind == "Readiness" => {
            format!("has failed {}", times(last.in_a_row))
        }
        (Some(last), _) if !last.succeeded => {
            let then = "the container is restarted at";
            format!("has failed {}; {then} {failures}", times(last.in_a_row))
        }
        (Some(last), _) => {
            let done = last.in_a_row;
            format!("has succeeded {}; {successes} are needed", times(done))
        }
        (None, Some(_)) => "has not succeeded yet".to_owned(),
        (None, None) => "has not been answered yet".to_owned(),
    };
    let ahead = match probe.next {
        Next::UnderWay => "; a try is under way",
        Next::AfterStartup => "; it begins after the startup probe",
        Next::At(_) | Next::Settled => "",
    };
    // An older failure says nothing of a probe that succeeds.
    let succeeds = probe.last.as_ref().is_some_and(|last| last.succeeded);
    let failure = probe.failure.as_ref().filter(|_| !succeeds);
    Link {
        last_error: failure.map(|failure| match failure.text.as_str() {
            "" => "nothing was said".to_owned(),
            said => said.to_owned(),
        }),
        last_error_at: failure.map(|failure| failure.at),
        next_try: match probe.next {
            Next::At(at) => Some(at),
            _ => None,
        },
        ..link(depth, format!("{} probe{asks} {stand}{ahead}", probe.kind))
    }
}

/// Gates that nobody has opened.
fn gates(told: &Told, depth: usize) -> Vec<Link> {
    let spec = told.pod.spec.as_ref();
    let gates = spec
        .and_then(|spec| spec.readiness_gates.as_deref())
        .unwrap_or_default();
    let closed = gates.iter().filter_map(|gate| {
        let type_ = &gate.condition_type;
        let status = condition(&told.pod, type_).map(|condition| condition.status.as_str());
        let stand = match status {
            Some("True") => return None,
            Some(status) => format!("is {status}"),
            None => "is missing".to_owned(),
        };
        let who = "it is for another program to set";
        Some(link(
            depth,
            format!("Readiness gate {type_}: its condition {stand}; {who}"),
        ))
    });
    closed.collect()
}

/// Of all pods: those that are not as they should be, and how many are.
pub(crate) fn all(pods: &[&Told], now: Timestamp, paint: Paint) -> String {
    let whys = pods.iter().map(|told| why(told));
    let is_well = |why: &Why| matches!(why.state, State::Ready | State::Succeeded);
    let (well, others): (Vec<Why>, Vec<Why>) = whys.partition(is_well);
    let texts: Vec<String> = others.iter().map(|why| why.text(now, paint)).collect();
    let well = match (well.len(), others.len()) {
        (0, _) => return texts.join("\n"),
        (1, 0) => "The only pod is Ready or has succeeded.\n".to_owned(),
        (count, 0) => format!("All {count} pods are Ready or have succeeded.\n"),
        (1, _) => "\n1 other pod is Ready or has succeeded.\n".to_owned(),
        (count, _) => format!("\n{count} other pods are Ready or have succeeded.\n"),
    };
    texts.join("\n") + &well
}

impl Why {
    /// As people read it.
    pub(crate) fn text(&self, now: Timestamp, paint: Paint) -> String {
        let (stand, tone) = match self.state {
            State::Ready => ("is Ready", Tone::Good),
            State::NotReady => ("is not Ready", Tone::Bad),
            State::Ending => ("is being deleted", Tone::Waiting),
            State::Succeeded => ("has succeeded", Tone::Faint),
            State::Failed => ("has failed", Tone::Bad),
        };
        let since = self.since.map_or_else(String::new, |at| {
            let word = if self.is_over() { "at" } else { "since" };
            format!(" {word} {} ({} ago)", date(at), since(at, now))
        });
        let subject = format!("Pod {}/{}", self.namespace, self.name);
        let mut text = format!("{subject} {}{since}.\n", paint.tint(tone, stand));
        for link in &self.chain {
            link.write(&mut text, now, paint);
        }
        text
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Succeeded | State::Failed)
    }
}

impl Link {
    fn write(&self, text: &mut String, now: Timestamp, paint: Paint) {
        let indent = "  ".repeat(self.depth);
        let stand = match (self.since, self.ended_at) {
            (_, Some(at)) => format!(", {} ago", since(at, now)),
            (Some(at), None) => format!(", since {}", since(at, now)),
            (None, None) => String::new(),
        };
        // Writing to a String cannot fail.
        let _written = writeln!(text, "{indent}- {}{stand}", printable(&self.text));
        if let Some(error) = &self.last_error {
            let label = match (self.last_error_at, self.ended_at) {
                (Some(at), _) => format!("last error ({} ago)", since(at, now)),
                (None, Some(_)) => "it said".to_owned(),
                (None, None) => "because".to_owned(),
            };
            let lines: Vec<String> = error.lines().map(printable).collect();
            let error = paint.tint(Tone::Bad, &lines.join(&format!("\n{indent}    ")));
            let _written = writeln!(text, "{indent}  {label}: {error}");
        }
        if let Some(next) = self.next_try {
            let when = if next <= now {
                "now".to_owned()
            } else {
                format!("in {}", age(seconds(now, next).max(1)))
            };
            let _written = writeln!(text, "{indent}  tried again {when}");
        }
    }
}
