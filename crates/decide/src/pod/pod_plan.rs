//! The next steps of one pod: sandbox, containers in order, stops, removals, each as a complete request.
//!
//! In:    `PodView`
//! Out:   `PodPlan`; empty when the pod is as it should be
//! Calls: act/pod/pod_worker.rs, after `lifecycle::step`, on an observation newer than the last action
//! Holds: a plan on its own result is empty; it aims at one sandbox and at most one running instance per name; a plan stops
//!        where the next step would need a result; a removal step says when the thing was seen not running
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_manager.go (computePodActions, SyncPod; 1.36); differences: every instance is
//!        looked at, not the first of a name (k/k#139703); a created container is started unless an earlier start of it was cut off

use k8s_openapi::api::core::v1;
use kubelet_api::runtime::v1 as cri;
use kubelet_model::observed::{
    ContainerState, Moment, ObservedContainer, ObservedSandbox, SandboxState,
};
use kubelet_model::pod::Pod;
use kubelet_model::reason::Reason;

use crate::container::sandbox_config::sandbox_config;
use crate::pod::container_start::{Readiness, container_start, waits_for_image};
use crate::pod::deadline::deadline;
use crate::pod::garbage::{dead_instances, dead_sandboxes};
use crate::pod::hooks::due_post_start;
use crate::pod::host_plan::{OBJECT_RECHECK, prepare, write_changes};
use crate::pod::init_containers::init_plan;
use crate::pod::phase::{Standing, standing};
use crate::pod::restart::{restarts_after, should_start};
use crate::pod::restart_all::{restart_all, restarts_all};
use crate::pod::runtime_class::runtime_handler;
use crate::pod::stops::{stop_unwanted, stops_of_all, will_stop};
use crate::shapes::life::{Lifecycle, Terminating, TerminationCause};
use crate::shapes::memory::Prepared;
use crate::shapes::plan::{Action, OnFailure, PodPlan, Step};
use crate::shapes::view::{Desire, NetworkState, PodView};
use crate::shapes::waiting::Waiting;
use crate::shapes::work::Leaving;
use crate::volumes::{instance_logs, release_work};

/// The plan for this view.
pub fn pod_plan(view: &PodView<'_>) -> PodPlan {
    match &view.memory.life {
        Lifecycle::Syncing => {
            let mut plan = sync_plan(view);
            if let Some(at) = deadline(view) {
                plan.wake_by(at);
                plan.give_up_at = Some(at);
            }
            plan
        }
        Lifecycle::Terminating(terminating) => stop_plan(view, terminating),
        Lifecycle::Terminated { cause } => clean_plan(view, *cause),
        Lifecycle::Finished { .. } => PodPlan::default(),
    }
}

fn sync_plan(view: &PodView<'_>) -> PodPlan {
    let mut plan = PodPlan::default();
    if let Desire::Wait(waiting) = view.desire {
        plan.pod_waiting.clone_from(waiting);
        return plan;
    }
    if let Some(field) = view.pod.unbuilt.first() {
        plan.pod_waiting = Some(Waiting {
            reason: Reason::UnsupportedField,
            message: format!(
                "pod is held: {} not supported by this kubelet",
                fields_text(field, view.pod.unbuilt.len())
            ),
        });
        return plan;
    }
    if let Some(retry_at) = view.memory.retry_at(view.now) {
        plan.wake_at = Some(retry_at);
        plan.pod_waiting.clone_from(&view.memory.retry.waiting);
        let waits = view.memory.waits();
        plan.waiting = waits
            .map(|(name, waiting)| (name.to_owned(), waiting.clone()))
            .collect();
        return plan;
    }
    match sandbox_choice(view) {
        SandboxChoice::Replace { why } => replace_sandbox(view, why, &mut plan),
        SandboxChoice::Keep(sandbox) => sync_containers(view, sandbox, &mut plan),
    }
    plan
}

fn fields_text(first: &str, count: usize) -> String {
    if count > 1 {
        format!("{first} (and {} more fields)", count - 1)
    } else {
        first.to_owned()
    }
}

/// Which sandbox the pod runs in.
enum SandboxChoice<'a> {
    Keep(&'a ObservedSandbox),
    Replace { why: &'static str },
}

fn sandbox_choice<'a>(view: &PodView<'a>) -> SandboxChoice<'a> {
    let Some(newest) = view.observed.sandboxes.first() else {
        return SandboxChoice::Replace { why: "no sandbox" };
    };
    if view.observed.ready_sandboxes().count() > 1 {
        return SandboxChoice::Replace {
            why: "more than one sandbox is ready",
        };
    }
    if view.observed.ready_sandboxes().all(|s| s.id != newest.id) {
        return SandboxChoice::Replace {
            why: "the newest sandbox is not ready",
        };
    }
    if newest.host_network != view.pod.is_host_network() {
        return SandboxChoice::Replace {
            why: "its network namespace is another",
        };
    }
    if !newest.host_network && newest.ips.as_ref().is_some_and(Vec::is_empty) {
        return SandboxChoice::Replace {
            why: "it has no address",
        };
    }
    SandboxChoice::Keep(newest)
}

/// Stops what is left of the old sandboxes, then makes a new one; the next plan sees it with its address.
fn replace_sandbox(view: &PodView<'_>, why: &'static str, plan: &mut PodPlan) {
    let stops = stops_of_all(view, view.pod.grace_seconds());
    if !stops.is_empty() {
        plan.push("its sandbox is replaced", Action::StopContainers(stops));
    }
    stop_sandboxes(view, why, plan);
    if !view.pod.is_host_network()
        && let NetworkState::NotReady(message) = &view.inputs.network
    {
        plan.pod_waiting = Some(Waiting {
            reason: Reason::NetworkNotReady,
            message: format!("network is not ready: {message}"),
        });
        return;
    }
    if !prepare(view, "first start", plan) {
        return;
    }
    let attempt = view
        .observed
        .sandboxes
        .first()
        .map_or(0, |s| s.attempt.saturating_add(1));
    let runtime_handler = match runtime_handler(view) {
        Ok(handler) => handler,
        Err(waiting) => {
            plan.pod_waiting = Some(waiting);
            let again = view.now.steady.saturating_add(OBJECT_RECHECK);
            plan.wake_by(again.unwrap_or(view.now.steady));
            return;
        }
    };
    match sandbox_config(view.pod, view.node, attempt) {
        Ok(config) => plan.push(
            why,
            Action::RunSandbox(Box::new(cri::RunPodSandboxRequest {
                config: Some(config),
                runtime_handler,
            })),
        ),
        Err(problem) => {
            plan.pod_waiting = Some(Waiting {
                reason: problem.reason,
                message: problem.message,
            });
        }
    }
}

/// Stops every sandbox of which it is not known that its network is taken down: a runtime stops the processes first, and a sandbox whose
/// processes ended by themselves was never stopped.
fn stop_sandboxes(view: &PodView<'_>, why: &str, plan: &mut PodPlan) {
    let is_due = |sandbox: &&ObservedSandbox| {
        sandbox.state == SandboxState::Ready || !view.memory.stopped.contains(&sandbox.id)
    };
    for sandbox in view.observed.sandboxes.iter().filter(is_due) {
        plan.push(why, Action::StopSandbox(sandbox.id.clone()));
    }
}

fn sync_containers(view: &PodView<'_>, sandbox: &ObservedSandbox, plan: &mut PodPlan) {
    if sandbox.ips.is_none() {
        // Listed, not inspected: the worker looks at it before anything is made from it.
        return;
    }
    if restarts_all(view) {
        restart_all(view, plan);
        if !plan.steps.is_empty() {
            return;
        }
    }
    stop_unwanted(view, sandbox, plan);
    if remove_cut_off(view, plan) {
        return;
    }
    start_ephemeral(view, sandbox, plan);
    run_hooks(view, sandbox, plan);
    let init = init_plan(view);
    for container in init.starts {
        in_turn(view, container, plan, &mut |plan| {
            start_unless_stopping(view, sandbox, container, plan);
        });
    }
    if init.is_done {
        for container in view.pod.containers() {
            in_turn(view, container, plan, &mut |plan| {
                start_regular(view, sandbox, container, plan);
            });
        }
    }
    let is_quiet = plan.steps.is_empty();
    write_changes(view, plan);
    if is_quiet {
        remove_garbage(view, plan);
    }
}

/// Plans the start of a container after those before it.
fn in_turn(
    view: &PodView<'_>,
    container: &v1::Container,
    plan: &mut PodPlan,
    start: &mut dyn FnMut(&mut PodPlan),
) {
    if !plan.stops_before_start(view.pod) {
        start(plan);
        return;
    }
    // It starts after the ones before it; that it waits, and for what, is known all the same.
    let mut later = PodPlan::default();
    start(&mut later);
    if !later.steps.is_empty()
        && let Some(waiting) = waits_for_image(view, container)
    {
        later.waiting.push((container.name.clone(), waiting));
    }
    plan.waiting.append(&mut later.waiting);
}

/// Those that never ran; nothing of the pod waits for them, and they wait for nothing of it.
fn start_ephemeral(view: &PodView<'_>, sandbox: &ObservedSandbox, plan: &mut PodPlan) {
    for container in view.pod.ephemeral_containers() {
        let mut instances = view.observed.instances(&container.name);
        let is_made = instances.any(|instance| instance.state != ContainerState::Created);
        if !is_made && standing(view, &container.name) == Standing::NotStarted {
            start(view, sandbox, container, plan);
        }
    }
}

/// PostStart hooks of what runs, in the order of the spec: what comes after such a container starts after its hook.
fn run_hooks(view: &PodView<'_>, sandbox: &ObservedSandbox, plan: &mut PodPlan) {
    for spec in view.pod.kept_containers() {
        let newest = view.observed.instances(&spec.name).next();
        let newest = newest.filter(|newest| !will_stop(view, sandbox, newest));
        let due = newest.and_then(|newest| Some((newest, due_post_start(view, spec, newest)?)));
        if let Some((container, hook)) = due {
            plan.steps.push(Step {
                why: "started".to_owned(),
                action: Action::PostStart {
                    id: container.id.clone(),
                    name: spec.name.clone(),
                    hook,
                },
                on_failure: OnFailure::Continue,
            });
        }
    }
}

/// Removes what never ran because its start was cut off; the next plan makes it again, under the same number. What the runtime refused
/// to remove a moment ago waits for its next turn, and another instance is made beside it.
fn remove_cut_off(view: &PodView<'_>, plan: &mut PodPlan) -> bool {
    let is_held = view
        .memory
        .garbage_at
        .is_some_and(|at| at > view.now.steady);
    if view.observed.cut_off.is_empty() || is_held {
        return false;
    }
    plan.steps.extend(removals_of_cut_off(view));
    true
}

fn removals_of_cut_off(view: &PodView<'_>) -> impl Iterator<Item = Step> {
    let seen = view.observed.observed_at;
    view.observed.cut_off.iter().map(move |cut_off| Step {
        why: "its start was cut off".to_owned(),
        action: remove_container(view, cut_off, seen),
        on_failure: OnFailure::Later,
    })
}

fn remove_container(view: &PodView<'_>, container: &ObservedContainer, seen: Moment) -> Action {
    Action::RemoveContainer {
        id: container.id.clone(),
        name: container.name.clone(),
        logs: Some(instance_logs(view.pod, view.node, container)),
        seen,
    }
}

/// Dead instances and sandboxes that nobody needs. Nothing of the pod waits for their going.
fn remove_garbage(view: &PodView<'_>, plan: &mut PodPlan) {
    let seen = view.observed.observed_at;
    let instances = dead_instances(view.observed)
        .into_iter()
        .map(|dead| ("an older instance", remove_container(view, dead, seen)));
    let sandboxes = dead_sandboxes(view.observed).into_iter().map(|dead| {
        let id = dead.id.clone();
        ("an older sandbox", Action::RemoveSandbox { id, seen })
    });
    let garbage: Vec<Step> = instances
        .chain(sandboxes)
        .map(|(why, action)| Step {
            why: why.to_owned(),
            action,
            on_failure: OnFailure::Later,
        })
        .chain(removals_of_cut_off(view))
        .collect();
    if let Some(at) = view
        .memory
        .garbage_at
        .filter(|at| *at > view.now.steady && !garbage.is_empty())
    {
        plan.wake_by(at);
        return;
    }
    plan.steps.extend(garbage);
}

fn start_regular(
    view: &PodView<'_>,
    sandbox: &ObservedSandbox,
    container: &v1::Container,
    plan: &mut PodPlan,
) {
    let newest = view.observed.instances(&container.name).next();
    let is_wanted = match (newest, standing(view, &container.name)) {
        // Its definition changed: upstream starts it again in the same sync, whatever the policy.
        (_, Standing::Replaced) => true,
        // The runtime forgot it, we did not: policy decides on the recorded exit.
        (None, Standing::Ended(code)) => restarts_after(view.pod, container, code),
        (None, Standing::Running) => false,
        (newest, _) => should_start(view.pod, container, newest),
    };
    if is_wanted || newest.is_some_and(|newest| will_stop(view, sandbox, newest)) {
        start_unless_stopping(view, sandbox, container, plan);
    }
}

fn start_unless_stopping(
    view: &PodView<'_>,
    sandbox: &ObservedSandbox,
    container: &v1::Container,
    plan: &mut PodPlan,
) {
    let newest = view.observed.instances(&container.name).next();
    let stopping = newest.filter(|newest| will_stop(view, sandbox, newest));
    let Some(stopping) = stopping else {
        start(view, sandbox, container, plan);
        return;
    };
    // Stopped by this plan; the next one, on what is then seen, starts it again. A stop that is held back says itself when.
    let held = view.memory.stops.get(&stopping.id);
    if held.is_none_or(|held| held.held_until(view.now).is_none()) {
        plan.wake_now(view);
    }
}

fn start(
    view: &PodView<'_>,
    sandbox: &ObservedSandbox,
    container: &v1::Container,
    plan: &mut PodPlan,
) {
    if !prepare(view, "first start since the kubelet started", plan) {
        return;
    }
    match container_start(view, sandbox, container) {
        Readiness::Now(action, why) => plan.steps.push(Step {
            why,
            action: *action,
            on_failure: OnFailure::Continue,
        }),
        Readiness::Later(at, waiting) => {
            plan.wake_by(at);
            plan.waiting.push((container.name.clone(), waiting));
        }
        Readiness::Never(waiting) => plan.waiting.push((container.name.clone(), waiting)),
    }
}

/// Stops all that runs, then the sandboxes. Ends only when nothing is seen running.
fn stop_plan(view: &PodView<'_>, terminating: &Terminating) -> PodPlan {
    let mut plan = PodPlan::default();
    if let Some(retry_at) = view.memory.retry_at(view.now) {
        plan.wake_at = Some(retry_at);
        return plan;
    }
    let stops = stops_of_all(view, terminating.grace_seconds);
    if !stops.is_empty() {
        plan.push(terminating.cause.as_str(), Action::StopContainers(stops));
    }
    stop_sandboxes(view, terminating.cause.as_str(), &mut plan);
    plan
}

/// Nothing runs: takes down the host side, then, for a pod that leaves, what the runtime still holds of it.
fn clean_plan(view: &PodView<'_>, cause: TerminationCause) -> PodPlan {
    let mut plan = PodPlan::default();
    if let Some(retry_at) = view.memory.retry_at(view.now) {
        plan.wake_at = Some(retry_at);
        return plan;
    }
    let seen = view.observed.observed_at;
    let leaves = cause != TerminationCause::Ended;
    let leaving = if leaves { Leaving::Yes } else { Leaving::No };
    let is_done = match view.memory.prepared {
        Prepared::No | Prepared::Yes => false,
        Prepared::Ended => !leaves,
        Prepared::Released => true,
    };
    // First, and with it the end of what runs in the pod's cgroup though the runtime takes it for ended: such a container it can
    // not remove (containerd 1.6 after a start whose client went).
    if !is_done {
        let Some(dirs) = view.memory.dirs.as_ref() else {
            // What is not seen is not removed, and not forgotten either: its worker looks again.
            plan.wake_at = view.memory.retry.at;
            return plan;
        };
        // Its address and its ports are free for others once it is released.
        stop_sandboxes(view, "nothing of it runs", &mut plan);
        plan.push(
            "nothing of it runs",
            Action::Release {
                work: release_work(view.pod, view.node, leaving, dirs),
                leaving,
                seen,
            },
        );
    }
    if leaves && !is_done {
        // Removed by the next plan: between them the pod is told to be gone.
        return plan;
    }
    if leaves {
        for sandbox in &view.observed.sandboxes {
            plan.push(
                "the pod is gone",
                Action::RemoveSandbox {
                    id: sandbox.id.clone(),
                    seen,
                },
            );
        }
        let has_sandbox =
            |c: &ObservedContainer| view.observed.sandboxes.iter().any(|s| s.id == c.sandbox);
        for container in view.observed.all_instances().filter(|c| !has_sandbox(c)) {
            plan.push("the pod is gone", remove_container(view, container, seen));
        }
    } else {
        remove_garbage(view, &mut plan);
    }
    plan
}

impl PodPlan {
    fn wake_now(&mut self, view: &PodView<'_>) {
        self.wake_by(view.now.steady);
    }

    /// An image or a file is asked for, or a container is started that has a postStart hook: what follows for later containers waits for
    /// the answer, so that they start in order. Nothing waits for an ephemeral container.
    fn stops_before_start(&self, pod: &Pod) -> bool {
        let has_hook = |name: &str| {
            let spec = pod.declared_container(name);
            let lifecycle = spec.and_then(|spec| spec.lifecycle.as_ref());
            lifecycle.is_some_and(|lifecycle| lifecycle.post_start.is_some())
        };
        self.steps.iter().any(|step| match &step.action {
            Action::ResolveImage(wanted) => pod.declared_container(&wanted.container).is_some(),
            Action::ReadEnvFiles { container, .. } => pod.declared_container(container).is_some(),
            Action::StartContainer(start) => has_hook(&start.name),
            Action::StartCreated { name, .. } => has_hook(name),
            Action::Prepare(_)
            | Action::SetUpVolume(_)
            | Action::RunSandbox(_)
            | Action::PostStart { .. }
            | Action::StopContainers(_)
            | Action::StopSandbox(_)
            | Action::RemoveContainer { .. }
            | Action::RemoveSandbox { .. }
            | Action::Release { .. } => false,
        })
    }
}

#[cfg(test)]
mod tests;
