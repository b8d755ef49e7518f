//! Which events are emitted for a step's outcome, a wait, the node.
//!
//! In:    what happened, as a value; the pod it happened to
//! Out:   `PodEvent`, `NodeEvent`: type, reason, text, and the part of the pod that it is about
//! Calls: act/pod/execute, act/images, act/pod/pod_worker, act/pod/sync_loop, act/resources/container_manager, wiring; act/report/events records them
//! Holds: reasons and messages are upstream's; a message never contains a container ID, so that equal events are counted as
//!        equal; a wait is reported when it begins or changes, not at each sync
//! Upstream: pkg/kubelet/events/event.go, kuberuntime/{kuberuntime_container.go,kuberuntime_manager.go}, images/image_manager.go,
//!           kubelet.go, container/{ref.go,helpers.go}, pod_workers.go (1.36); differences: a wait is told once, there with each sync

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use kubelet_model::duration::GoDuration;
use kubelet_model::event::EventType;
use kubelet_model::node::NodeView;
use kubelet_model::pod::Pod;
use kubelet_model::reason::Reason;

use crate::container::config_problem::pod_text;
use crate::container::dns::pod_dns;
use crate::container::downward::quoted;
use crate::shapes::hook::HookKind;
use crate::shapes::plan::{Action, PodPlan, Restarts, StopContainer, StopWhy};
use crate::shapes::probe::ProbeKind;
use crate::shapes::record::EndReason;
use crate::shapes::rejection::Rejection;
use crate::shapes::view::PodView;
use crate::shapes::waiting::Waiting;

#[cfg(test)]
mod tests;

/// An event about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodEvent {
    /// Its type.
    pub type_: EventType,
    /// Its reason.
    pub reason: Cow<'static, str>,
    /// Its text.
    pub message: String,
    /// The container it is about, as `spec.containers{name}`; `None` is the pod itself.
    pub field_path: Option<String>,
}

/// An event about the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEvent {
    /// Its type.
    pub type_: EventType,
    /// Its reason.
    pub reason: &'static str,
    /// Its text.
    pub message: String,
}

/// How far the making sure of an image has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageMoment<'a> {
    /// Its name means nothing; the text says why.
    BadName(&'a str),
    /// The runtime could not be asked for it; the text says why.
    NotInspected(&'a str),
    /// It is there.
    Present,
    /// It is absent, and the policy is Never.
    NeverPulled,
    /// It is absent, and pulls are held back.
    HeldBack,
    /// Some of the pod's secrets for pulling cannot be had; the text says which.
    SecretsMissing(&'a str),
    /// A pull begins.
    Pulling,
    /// The pull failed with this text.
    PullFailed(&'a str),
    /// The pull succeeded.
    Pulled {
        /// The pull alone.
        took: Duration,
        /// With the wait for its turn.
        with_waiting: Duration,
        /// Size, bytes.
        size: u64,
    },
}

/// What was told of waits so far.
#[derive(Clone, Debug, Default)]
pub struct ToldWaits {
    pod: Option<Waiting>,
    containers: BTreeMap<String, Waiting>,
    volumes: BTreeMap<String, Waiting>,
}

/// The container's place in the spec, for `involvedObject`. A pod without a spec, known from the runtime alone, has what runs in it
/// among its regular containers; nothing is told of containers that a spec does not have.
pub fn field_path(pod: &Pod, name: &str) -> Option<String> {
    let is_named = |container: &k8s_openapi::api::core::v1::Container| container.name == name;
    if pod.containers().is_empty() || pod.containers().iter().any(is_named) {
        Some(format!("spec.containers{{{name}}}"))
    } else if pod.init_containers().iter().any(is_named) {
        Some(format!("spec.initContainers{{{name}}}"))
    } else if pod.ephemeral_containers().iter().any(is_named) {
        Some(format!("spec.ephemeralContainers{{{name}}}"))
    } else {
        None
    }
}

fn about_pod(
    type_: EventType,
    reason: impl Into<Cow<'static, str>>,
    message: impl Into<String>,
) -> PodEvent {
    PodEvent {
        type_,
        reason: reason.into(),
        message: message.into(),
        field_path: None,
    }
}

fn about_container(
    (pod, name): (&Pod, &str),
    type_: EventType,
    reason: &'static str,
    message: impl Into<String>,
) -> Option<PodEvent> {
    Some(PodEvent {
        field_path: Some(field_path(pod, name)?),
        ..about_pod(type_, reason, message)
    })
}

fn about_node(type_: EventType, reason: &'static str, message: impl Into<String>) -> NodeEvent {
    NodeEvent {
        type_,
        reason,
        message: message.into(),
    }
}

/// What is told of an image, by its name in the spec, that a container needs.
pub fn image_event(
    (pod, container): (&Pod, &str),
    image: &str,
    moment: ImageMoment<'_>,
) -> Option<PodEvent> {
    use EventType::{Normal, Warning};
    let (type_, reason, message) = match moment {
        ImageMoment::BadName(why) | ImageMoment::NotInspected(why) => {
            (Warning, "InspectFailed", why.to_owned())
        }
        ImageMoment::SecretsMissing(why) => {
            return Some(about_pod(Warning, "FailedToRetrieveImagePullSecret", why));
        }
        ImageMoment::Present => (
            Normal,
            "Pulled",
            format!(
                "Container image \"{image}\" already present on machine and can be accessed by the pod"
            ),
        ),
        ImageMoment::NeverPulled => (
            Warning,
            "ErrImageNeverPull",
            format!("Container image \"{image}\" is not present with pull policy of Never"),
        ),
        ImageMoment::HeldBack => (
            Normal,
            "BackOff",
            format!("Back-off pulling image \"{image}\""),
        ),
        ImageMoment::Pulling => (Normal, "Pulling", format!("Pulling image \"{image}\"")),
        ImageMoment::PullFailed(why) => (
            Warning,
            "Failed",
            format!("Failed to pull image \"{image}\": {why}"),
        ),
        ImageMoment::Pulled {
            took,
            with_waiting,
            size,
        } => (
            Normal,
            "Pulled",
            format!(
                "Successfully pulled image \"{image}\" in {} ({} including waiting). Image size: {size} bytes.",
                milliseconds_text(took),
                milliseconds_text(with_waiting)
            ),
        ),
    };
    about_container((pod, container), type_, reason, message)
}

/// Cut to milliseconds: `1m2.5s`, `1.25s`, `340ms`, `0s`.
fn milliseconds_text(time: Duration) -> String {
    GoDuration::from_millis(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)).to_string()
}

/// The pod was not let in.
pub fn rejected(rejection: &Rejection) -> PodEvent {
    let reason = rejection.reason.clone();
    about_pod(EventType::Warning, reason, rejection.message.clone())
}

/// The runtime made a container.
pub fn created(pod: &Pod, container: &str) -> Option<PodEvent> {
    let at = (pod, container);
    about_container(at, EventType::Normal, "Created", "Container created")
}

/// The runtime started a container.
pub fn started(pod: &Pod, container: &str) -> Option<PodEvent> {
    let at = (pod, container);
    about_container(at, EventType::Normal, "Started", "Container started")
}

/// A container could not be started: its image, its configuration, its creation, its start. `id` is what the runtime calls it, once
/// it does; in the text the container's name stands for it.
pub fn start_failed(pod: &Pod, container: &str, id: Option<&str>, why: &str) -> Option<PodEvent> {
    let why = without_frame(why);
    let why = match id.filter(|id| !id.is_empty()) {
        Some(id) => why.replace(id, container),
        None => why.to_owned(),
    };
    let message = format!("Error: {why}");
    about_container((pod, container), EventType::Warning, "Failed", message)
}

/// A runtime's text without what gRPC puts before it.
fn without_frame(text: &str) -> &str {
    text.strip_prefix("rpc error: code = ")
        .and_then(|rest| rest.split_once(" desc = "))
        .map_or(text, |(_, text)| text)
}

/// A container is being stopped.
pub fn killing(pod: &Pod, stop: &StopContainer) -> Option<PodEvent> {
    let name = &stop.name;
    let is_init = pod.init_container(name).is_some();
    let what = if is_init {
        "Init container"
    } else {
        "Container"
    };
    let message = match stop.why {
        StopWhy::Unwanted => format!("Stopping container {name}"),
        StopWhy::PostStartFailed => "FailedPostStartHook".to_owned(),
        StopWhy::RestartingAll => "killing".to_owned(),
        StopWhy::DefinitionChanged if is_init => format!("{what} {name} definition changed"),
        StopWhy::DefinitionChanged => {
            format!("{what} {name} definition changed, will be restarted")
        }
        StopWhy::UnknownState => {
            format!("{what} is in \"unknown\" state, try killing it before restart")
        }
        StopWhy::ProbeFailed(kind, restarts) => {
            let probe = kind.as_str().to_lowercase();
            let again = match restarts {
                Restarts::Yes if !is_init => ", will be restarted",
                Restarts::Yes | Restarts::No => "",
            };
            format!("{what} {name} failed {probe} probe{again}")
        }
    };
    about_container((pod, name), EventType::Normal, "Killing", message)
}

/// A hook failed; why is not told here, for it may be what a server said in confidence.
pub fn hook_failed(pod: &Pod, container: &str, kind: HookKind) -> Option<PodEvent> {
    let (reason, message) = match kind {
        HookKind::PostStart => ("FailedPostStartHook", "PostStartHook failed"),
        HookKind::PreStop => ("FailedPreStopHook", "PreStopHook failed"),
    };
    about_container((pod, container), EventType::Warning, reason, message)
}

/// A hook was to ask over TLS, and the server at this address speaks plain HTTP.
pub fn hook_fell_back(authority: &str) -> PodEvent {
    let message = format!(
        "request to HTTPS lifecycle hook {authority} got HTTP response, retry with HTTP succeeded"
    );
    about_pod(EventType::Warning, "LifecycleHTTPFallback", message)
}

/// A probe failed, or did not work.
pub fn probe_failed(pod: &Pod, container: &str, message: &str) -> Option<PodEvent> {
    about_container((pod, container), EventType::Warning, "Unhealthy", message)
}

/// A probe succeeded, and something about it is odd.
pub fn probe_warning(pod: &Pod, container: &str, kind: ProbeKind, said: &str) -> Option<PodEvent> {
    let message = format!("{kind} probe warning: {said}");
    about_container(
        (pod, container),
        EventType::Warning,
        "ProbeWarning",
        message,
    )
}

/// Some of a pod could not be stopped; each text is of [`kill_failure`].
pub fn kill_failed(failures: &[String]) -> PodEvent {
    let all = match failures {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    };
    let message = format!("error killing pod: {all}");
    about_pod(EventType::Warning, "FailedKillPod", message)
}

/// What could not be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill<'a> {
    /// A container, by its name.
    Container(&'a str),
    /// The sandbox of a pod, by the pod's UID.
    Sandbox(&'a str),
}

/// One of several failures of a stop.
pub fn kill_failure(what: Kill<'_>, why: &str) -> String {
    let (action, target, error) = match what {
        Kill::Container(name) => ("KillContainer", name, "KillContainerError"),
        Kill::Sandbox(uid) => ("KillPodSandbox", uid, "KillPodSandboxError"),
    };
    format!(
        "failed to \"{action}\" for \"{target}\" with {error}: {}",
        quoted(why)
    )
}

/// The sandbox could not be made, in the runtime's own words.
pub fn sandbox_failed(why: &str) -> PodEvent {
    let message = format!("Failed to create pod sandbox: {why}");
    about_pod(EventType::Warning, "FailedCreatePodSandBox", message)
}

/// The host side of a pod could not be made ready.
pub fn host_failed(reason: Reason, message: &str) -> PodEvent {
    let (reason, message) = if reason == Reason::FailedToCreatePodContainer {
        ("FailedCreatePodContainer", message.to_owned())
    } else if message.starts_with("MountVolume.") {
        ("FailedMount", message.to_owned())
    } else {
        let text = format!("Unable to attach or mount volumes: {message}");
        ("FailedMount", text)
    };
    about_pod(EventType::Warning, reason, message)
}

/// The pod was ended for a reason of its own.
pub fn made_to_end(why: &EndReason) -> PodEvent {
    let type_ = if why.disruption.is_some() {
        EventType::Warning
    } else {
        EventType::Normal
    };
    about_pod(type_, why.reason.clone(), why.message.clone())
}

/// The runtime does not say how the pod is.
pub fn not_observed(why: &str) -> PodEvent {
    let message = format!("error determining status: {why}");
    about_pod(EventType::Warning, "FailedSync", message)
}

/// A source names another pod of this pod's name before it.
pub fn duplicate_name(pod: &Pod) -> PodEvent {
    let (source, name) = (pod.source.as_str(), &pod.full_name.name);
    let message = format!(
        "Error validating pod {} from {source} due to duplicate pod name \"{name}\", ignoring",
        pod_text(pod)
    );
    about_pod(EventType::Warning, "FailedValidation", message)
}

/// What is told before a plan is carried out: a sandbox that is replaced, resolver settings that were left out or replaced.
pub fn plan_events(pod: &Pod, node: &NodeView, plan: &PodPlan) -> (Vec<PodEvent>, Vec<NodeEvent>) {
    let sandbox = plan.steps.iter().find_map(|step| match &step.action {
        Action::RunSandbox(request) => request.config.as_ref()?.metadata.as_ref(),
        Action::Prepare(_)
        | Action::SetUpVolume(_)
        | Action::ResolveImage(_)
        | Action::ReadEnvFiles { .. }
        | Action::StartContainer(_)
        | Action::StartCreated { .. }
        | Action::PostStart { .. }
        | Action::StopContainers(_)
        | Action::StopSandbox(_)
        | Action::RemoveContainer { .. }
        | Action::RemoveSandbox { .. }
        | Action::Release { .. } => None,
    });
    let Some(sandbox) = sandbox else {
        return (Vec::new(), Vec::new());
    };
    let mut of_pod = Vec::new();
    let mut of_node = Vec::new();
    if sandbox.attempt > 0 {
        let text = "Pod sandbox changed, it will be killed and re-created.";
        of_pod.push(about_pod(EventType::Normal, "SandboxChanged", text));
    }
    for problem in pod_dns(pod, &node.dns).1 {
        let (type_, reason) = (EventType::Warning, problem.reason);
        of_node.extend(
            problem
                .node_message
                .map(|text| about_node(type_, reason, text)),
        );
        of_pod.push(about_pod(type_, reason, problem.message));
    }
    (of_pod, of_node)
}

impl ToldWaits {
    /// What is told of the waits of a plan: those that are new or changed. What an earlier step's failure left was told with it.
    pub fn events(&mut self, view: &PodView<'_>, plan: &PodPlan) -> Vec<PodEvent> {
        let mut events = Vec::new();
        if view.inputs.objects.is_asking() {
            // What is missing may be here in a moment; what then still is in the way is told then.
            return events;
        }
        if view.memory.retry_at(view.now).is_some() {
            // What failed was told with it, and what the pod waited for before that was, too: a pause is no news.
            return events;
        }
        for (name, waiting) in &plan.volumes_waiting {
            let known = view.memory.volumes.get(name);
            let is_known = known.and_then(|known| known.retry.waiting.as_ref()) == Some(waiting)
                || self.volumes.get(name) == Some(waiting);
            if !is_known {
                events.push(host_failed(waiting.reason, &waiting.message));
            }
        }
        let failed = view.memory.retry.waiting.as_ref();
        if let Some(waiting) = plan.pod_waiting.as_ref()
            && failed != Some(waiting)
            && self.pod.as_ref() != Some(waiting)
        {
            events.extend(pod_wait(view.pod, waiting));
        }
        for (name, waiting) in &plan.waiting {
            let is_known = view.memory.waiting(name) == Some(waiting)
                || self.containers.get(name) == Some(waiting);
            if !is_known {
                events.extend(container_wait(view.pod, name, waiting));
            }
        }
        self.pod.clone_from(&plan.pod_waiting);
        self.containers = plan.waiting.iter().cloned().collect();
        self.volumes = plan.volumes_waiting.iter().cloned().collect();
        events
    }
}

fn pod_wait(pod: &Pod, waiting: &Waiting) -> Option<PodEvent> {
    let message = waiting.message.as_str();
    if waiting.reason == Reason::NetworkNotReady {
        let event = about_pod(EventType::Warning, "NetworkNotReady", message);
        Some(event)
    } else if waiting.reason == Reason::CreatePodSandboxError {
        let frame = format!(
            "Failed to generate sandbox config for pod \"{}\": ",
            pod_text(pod)
        );
        Some(sandbox_failed(
            message.strip_prefix(&frame).unwrap_or(message),
        ))
    } else if waiting.reason == Reason::UnsupportedField {
        let reason = Reason::UnsupportedField.as_str();
        Some(about_pod(EventType::Warning, reason, message))
    } else {
        None
    }
}

fn container_wait(pod: &Pod, name: &str, waiting: &Waiting) -> Option<PodEvent> {
    if waiting.reason == Reason::CrashLoopBackOff {
        let message = format!(
            "Back-off restarting failed container {name} in pod {}",
            pod_text(pod)
        );
        about_container((pod, name), EventType::Warning, "BackOff", message)
    } else if waiting.reason == Reason::CreateContainerConfigError {
        start_failed(pod, name, None, &waiting.message)
    } else {
        None
    }
}

/// The kubelet begins.
pub fn starting() -> NodeEvent {
    about_node(EventType::Normal, "Starting", "Starting kubelet.")
}

/// What is told of the node's cgroups at the start; nothing of version 2.
pub fn cgroup_version(node: &NodeView) -> Option<NodeEvent> {
    let message = "cgroup v1 detected. cgroup v1 support is deprecated and will be removed in a future release. \
                   Please migrate to cgroup v2. More information at \
                   https://git.k8s.io/enhancements/keps/sig-node/5573-remove-cgroup-v1";
    (!node.cgroups.v2).then(|| about_node(EventType::Warning, "CgroupV1", message))
}

/// The limits of all pods stand, or those of a reserved cgroup: `pods` is what upstream's text calls the first.
pub fn limits_enforced(of: &str) -> NodeEvent {
    let message = if of == "pods" {
        "Updated Node Allocatable limit across pods".to_owned()
    } else {
        format!("Updated limits on {of}")
    };
    about_node(EventType::Normal, "NodeAllocatableEnforced", message)
}

/// The limits of all pods could not be set.
pub fn limits_failed(root: &str, why: &str) -> NodeEvent {
    let parts: Vec<String> = root
        .split('/')
        .filter(|part| !part.is_empty())
        .map(quoted)
        .collect();
    let message = format!(
        "Failed to update Node Allocatable Limits [{}]: {why}",
        parts.join(" ")
    );
    about_node(
        EventType::Warning,
        "FailedNodeAllocatableEnforcement",
        message,
    )
}

/// The machine ran out of memory.
pub fn system_oom(message: String) -> NodeEvent {
    about_node(EventType::Warning, "SystemOOM", message)
}
