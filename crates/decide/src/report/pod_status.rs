//! The status of a pod, as the API would show it: containers, conditions, addresses, phase.
//!
//! In:    `PodView`
//! Out:   `v1.PodStatus`, and the conditions to remember
//! Calls: act/pod/pod_worker.rs after each observation
//! Holds: a condition's time moves only when its value does; a terminal phase never leaves; times are whole seconds
//! Upstream: pkg/kubelet/kubelet_pods.go (generateAPIPodStatus, convertToAPIContainerStatuses), status/generate.go (1.36);
//!        differences: no in-place resize yet

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use kubelet_model::observed::{ContainerState, ObservedContainer};
use kubelet_model::pod::{Pod, is_sidecar};
use kubelet_model::quantity::Quantity;
use kubelet_model::reason::Reason;

use crate::container::container_config::{RecursiveReadOnly, is_recursive_read_only};
use crate::pod::phase::{Phase, Standing, current_phase, is_final, standing};
use crate::pod::restart::restarts_after;
use crate::pod::restart_all::RESTARTING_ALL_MESSAGE;
use crate::pod::runtime_class::recursive_read_only;
use crate::probes::readiness::{PostStart, hook_is_done, is_ready, is_started, post_start_of};
use crate::report::conditions::{Conditions, foreign_conditions, whole_second};
use crate::resources::qos_class;
use crate::shapes::exits::exit_of;
use crate::shapes::life::Lifecycle;
use crate::shapes::plan::PodPlan;
use crate::shapes::record::RecordedExit;
use crate::shapes::rejection::Rejection;
use crate::shapes::view::PodView;
use crate::shapes::waiting::Waiting;

/// Most bytes of one termination message.
pub const TERMINATION_MESSAGE_BYTES: usize = 4096;

/// A status and the condition times to keep for the next one.
#[derive(Debug, Clone)]
pub struct StatusOutcome {
    /// What to show.
    pub status: v1::PodStatus,
    /// Condition type → (True?, since).
    pub conditions: BTreeMap<String, (bool, Timestamp)>,
}

/// The status of a pod that was not let in: it never had containers, so there is nothing else to say.
fn rejected_status(view: &PodView<'_>, rejection: &Rejection) -> v1::PodStatus {
    v1::PodStatus {
        phase: Some(Phase::Failed.as_str().to_owned()),
        reason: Some(rejection.reason.clone()),
        message: Some(rejection.status_message()),
        start_time: view.memory.record.start_time.map(whole_second),
        qos_class: Some(qos_class(view.pod).as_str().to_owned()),
        observed_generation: view.pod.object.metadata.generation,
        ..v1::PodStatus::default()
    }
}

/// Bytes of the termination messages of a pod together; each container has the same part.
const MESSAGES_OF_A_POD: usize = 12 << 10;

/// What is shown to hold a pod back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShownWaits {
    /// Its containers, by name.
    pub containers: BTreeMap<String, Waiting>,
    /// The pod as a whole.
    pub pod: Option<Waiting>,
}

/// What failed before, and what the plan waits for. Not a wait for objects while the API server's first answer is on its way: it is
/// mostly over before anybody could read of it.
pub fn shown_waits(view: &PodView<'_>, plan: &PodPlan) -> ShownWaits {
    let is_asking = view.inputs.objects.is_asking();
    let is_shown = |waiting: &&Waiting| {
        let is_for_objects = [Reason::FailedMount, Reason::CreateContainerConfigError];
        !(is_asking && is_for_objects.contains(&waiting.reason))
    };
    let failed = view.memory.waits();
    let failed = failed.map(|(name, waiting)| (name.to_owned(), waiting.clone()));
    let planned = plan.waiting.iter().filter(|(_, why)| is_shown(&why));
    let of_volumes = plan.volumes_waiting.iter().map(|(_, why)| why);
    let mut of_pod = plan.pod_waiting.iter().chain(of_volumes).filter(is_shown);
    // Also while it is tried again.
    let unset = view.memory.volumes.values().filter(|v| v.set_up.is_none());
    let mut failed_volumes = unset.filter_map(|volume| volume.retry.waiting.as_ref());
    ShownWaits {
        containers: failed.chain(planned.cloned()).collect(),
        pod: of_pod
            .next()
            .or_else(|| failed_volumes.next())
            .or(view.memory.retry.waiting.as_ref())
            .cloned(),
    }
}

/// Whether two states of an object say the same where its status is read here: in the conditions of others, and in whether its phase
/// is final. All else of a status is this kubelet's own word.
pub fn reads_same(old: &v1::Pod, new: &v1::Pod) -> bool {
    is_final(old.status.as_ref()) == is_final(new.status.as_ref())
        && foreign_conditions(old).eq(foreign_conditions(new))
}

/// The status of the pod of this view, with what holds it back.
pub fn pod_status(view: &PodView<'_>, waits: &ShownWaits) -> StatusOutcome {
    if let Some(rejection) = &view.memory.record.rejected {
        return StatusOutcome {
            status: rejected_status(view, rejection),
            conditions: BTreeMap::new(),
        };
    }
    let phase = phase_of(view);
    let of = |containers: &[v1::Container], kind| -> Vec<v1::ContainerStatus> {
        let statuses = containers.iter();
        let statuses = statuses.map(|c| container_status(view, c, kind, waits));
        statuses.collect()
    };
    let init = of(view.pod.init_containers(), Kind::Init);
    let regular = of(view.pod.containers(), Kind::Regular);
    let ephemeral = of(view.pod.ephemeral_containers(), Kind::Ephemeral);
    let mut conditions = Conditions::new(view);
    conditions.keep_foreign();
    conditions.add_disruption(phase);
    conditions.add_all(phase, &init, &regular);
    // It is kept for as long as it is shown.
    conditions.out.shrink_to_fit();
    let ips = pod_ips(view);
    let host_ips = &view.node.ips;
    let (allocated_resources, resources) = pod_resources(view);
    let waits_behind = |w: &&Waiting| {
        phase == Phase::Pending || phase == Phase::Running && w.reason == Reason::WaitingForName
    };
    let waiting = waits.pod.as_ref().filter(waits_behind);
    let ended = view.memory.record.ended.as_ref();
    let why = ended
        .and_then(|ended| ended.why.as_ref())
        .filter(|_| matches!(phase, Phase::Failed | Phase::Succeeded));
    let status = v1::PodStatus {
        phase: Some(phase.as_str().to_owned()),
        reason: why
            .map(|why| why.reason.clone())
            .or_else(|| waiting.map(|w| w.reason.to_string())),
        message: why
            .map(|why| why.message.clone())
            .or_else(|| waiting.map(|w| w.message.clone())),
        conditions: Some(conditions.out),
        host_ip: host_ips.first().cloned(),
        host_ips: some_list(
            host_ips
                .iter()
                .map(|ip| v1::HostIP { ip: ip.clone() })
                .collect(),
        ),
        pod_ip: ips.first().cloned(),
        pod_ips: some_list(ips.iter().map(|ip| v1::PodIP { ip: ip.clone() }).collect()),
        start_time: view.memory.record.start_time.map(whole_second),
        init_container_statuses: some_list(init),
        container_statuses: some_list(regular),
        ephemeral_container_statuses: some_list(ephemeral),
        qos_class: Some(qos_class(view.pod).as_str().to_owned()),
        observed_generation: view.pod.object.metadata.generation,
        allocated_resources,
        resources,
        ..v1::PodStatus::default()
    };
    StatusOutcome {
        status,
        conditions: conditions.next,
    }
}

type Amounts = BTreeMap<String, ApiQuantity>;

/// Sums over the regular containers of what is in force; a spec that changed since they were made was not allocated either.
fn pod_resources(view: &PodView<'_>) -> (Option<Amounts>, Option<v1::ResourceRequirements>) {
    let sum = |of: fn(&v1::ResourceRequirements) -> Option<&Amounts>| {
        let mut total: BTreeMap<String, Quantity> = BTreeMap::new();
        let in_force = view.pod.containers().iter();
        let in_force: Vec<_> = in_force.map(|c| resources_in_force(view, c)).collect();
        for (name, amount) in in_force.iter().filter_map(of).flatten() {
            let Ok(amount) = amount.0.parse::<Quantity>() else {
                continue;
            };
            let sum = total
                .get(name)
                .map_or_else(|| amount.clone(), |old| old.plus(&amount));
            total.insert(name.clone(), sum);
        }
        let printed: Amounts = total
            .into_iter()
            .map(|(name, amount)| (name, ApiQuantity(amount.to_string())))
            .collect();
        (!printed.is_empty()).then_some(printed)
    };
    let (requests, limits) = (sum(|r| r.requests.as_ref()), sum(|r| r.limits.as_ref()));
    (
        requests.clone(),
        Some(v1::ResourceRequirements {
            claims: None,
            limits,
            requests,
        }),
    )
}

fn some_list<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// Held back while anything may run; never leaves a terminal phase.
fn phase_of(view: &PodView<'_>) -> Phase {
    if let Some(ended) = &view.memory.record.ended
        && !is_still_ending(view)
    {
        return if ended.succeeded {
            Phase::Succeeded
        } else {
            Phase::Failed
        };
    }
    let phase = current_phase(view);
    let leaving_done = matches!(
        view.memory.life,
        Lifecycle::Terminated { .. } | Lifecycle::Finished { .. }
    );
    match phase {
        Phase::Succeeded | Phase::Failed if view.observed.live_containers().next().is_some() => {
            Phase::Running
        }
        Phase::Pending | Phase::Running if leaving_done => terminal_phase(view),
        Phase::Pending | Phase::Running | Phase::Succeeded | Phase::Failed => phase,
    }
}

/// Whether the pod was made to end, and something of it may still run: until that is over it shows as before, for whoever takes its
/// place counts on it that nothing runs. What the API shows as terminal stays so.
fn is_still_ending(view: &PodView<'_>) -> bool {
    matches!(
        view.memory.life,
        Lifecycle::Syncing | Lifecycle::Terminating(_)
    ) && view.observed.live_containers().next().is_some()
        && !is_final(view.pod.object.status.as_ref())
}

/// A pod that was stopped: failed when any container did not end with 0.
fn terminal_phase(view: &PodView<'_>) -> Phase {
    let failed = view.pod.containers().iter().any(|c| {
        let newest = view.observed.instances(&c.name).find_map(|i| {
            let code = i.state.exit()?.code;
            Some(view.later_exit(i).map_or(code, |later| later.code))
        });
        newest.or_else(|| view.memory.record.exits.get(&c.name).map(|e| e.code)) != Some(0)
    });
    if failed {
        Phase::Failed
    } else {
        Phase::Succeeded
    }
}

/// Addresses: the newest sandbox's, else the remembered ones; the node's own on its network. At most one per family.
pub fn pod_ips(view: &PodView<'_>) -> Vec<String> {
    if view.pod.is_host_network() {
        return view.node.ips.clone();
    }
    let of_sandbox = view
        .observed
        .sandboxes
        .iter()
        .find_map(|s| s.ips.clone().filter(|ips| !ips.is_empty()));
    let all = of_sandbox.unwrap_or_else(|| view.memory.record.ips.clone());
    let node_is_v6 = view.node.ips.first().is_some_and(|ip| ip.contains(':'));
    let first = all.iter().find(|ip| ip.contains(':') == node_is_v6);
    let second = all.iter().find(|ip| ip.contains(':') != node_is_v6);
    first.into_iter().chain(second).cloned().collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Init,
    Regular,
    Ephemeral,
}

/// The newest instance that was started, as far as it shows.
fn current_of<'a>(view: &PodView<'a>, spec: &v1::Container) -> Option<&'a ObservedContainer> {
    let all = view.observed.containers.iter();
    let mut instances = all.filter(|c| c.name == spec.name && c.state != ContainerState::Created);
    // One whose postStart hook has not ended does not show yet.
    let newest = instances.find(|c| !c.state.may_run() || hook_is_done(view, c));
    // The runtime may have forgotten the newest one already, and still hold one before it.
    newest.filter(|c| c.state.may_run() || view.later_exit(c).is_none())
}

fn container_status(
    view: &PodView<'_>,
    spec: &v1::Container,
    kind: Kind,
    waits: &ShownWaits,
) -> v1::ContainerStatus {
    let is_syncing = view.memory.life == Lifecycle::Syncing;
    let started = |c: &&ObservedContainer| c.state != ContainerState::Created;
    let current = current_of(view, spec);
    let recorded = view.memory.record.exits.get(&spec.name);
    let current_exit =
        current.and_then(|c| c.state.exit().map(|e| terminated(view, &exit_of(c, e))));
    let earlier = view
        .observed
        .instances(&spec.name)
        .filter(started)
        .filter(|c| current.is_none_or(|current| current.id != c.id))
        .find_map(|c| c.state.exit().map(|e| exit_of(c, e)));
    let earlier_recorded = recorded
        .filter(|r| current.is_some_and(|c| c.id.as_str() != r.id))
        .cloned();
    // Of a pod that goes on; of one that ends the record has it as an exit.
    let lost = view.lost(&spec.name).filter(|_| is_syncing);
    let last = earlier.or(earlier_recorded).or_else(|| lost.cloned());
    let running = match current.map(|c| &c.state) {
        Some(ContainerState::Running { started_at }) => Some(*started_at),
        _ => None,
    };
    let ended = current_exit.or_else(|| {
        let known = recorded.filter(|_| current.is_none() && lost.is_none());
        let known = known.map(|exit| terminated(view, exit));
        known.or_else(|| forgotten(view, spec, kind))
    });
    let held = held(view, spec, kind);
    let waiting = waits.containers.get(&spec.name).or(held.as_ref());
    let (state, last_state) = state_and_last(
        view,
        running,
        ended,
        last.as_ref(),
        waiting.filter(|_| is_syncing),
        not_started(view),
    );
    let succeeded = state.terminated.as_ref().is_some_and(|t| t.exit_code == 0);
    let is_running = state.running.is_some();
    type Says = fn(&PodView<'_>, &v1::Container, &ObservedContainer) -> bool;
    let runs_and = |says: Says| is_running && current.is_some_and(|c| says(view, spec, c));
    let image = current
        .map(|c| c.image.clone())
        .or_else(|| recorded.map(|r| r.image.clone()));
    let image_id = current.map(|c| &c.image_ref);
    let image_id = image_id.or(recorded.map(|r| &r.image_ref)).cloned();
    let id = current.map(|c| c.id.as_str());
    let id = id.or(recorded.map(|r| r.id.as_str()));
    let known = current.is_some() || recorded.is_some();
    let resources = resources_in_force(view, spec);
    v1::ContainerStatus {
        name: spec.name.clone(),
        state: Some(state),
        last_state: Some(last_state),
        ready: match kind {
            Kind::Init if !is_sidecar(spec) => succeeded,
            Kind::Init | Kind::Regular => runs_and(is_ready),
            Kind::Ephemeral => false,
        },
        started: (kind != Kind::Ephemeral).then(|| runs_and(is_started)),
        restart_count: restart_count(view, spec, current, lost),
        image: image
            .filter(|i| !i.is_empty())
            .or_else(|| spec.image.clone())
            .unwrap_or_default(),
        image_id: image_id.unwrap_or_default(),
        container_id: id.filter(|i| !i.is_empty()).map(|i| view.full_id(i)),
        allocated_resources: resources
            .requests
            .clone()
            .filter(|r| known && !r.is_empty()),
        resources: known.then_some(v1::ResourceRequirements {
            claims: None,
            ..resources
        }),
        volume_mounts: volume_mounts(view, spec),
        user: current.and_then(user_of),
        stop_signal: current.and_then(|container| stop_signal_of(view.pod, container)),
        ..v1::ContainerStatus::default()
    }
}

/// What the newest instance was made with: a spec that changed since then is not in force. Of an instance that another kubelet made, what
/// the API shows of it.
fn resources_in_force(view: &PodView<'_>, spec: &v1::Container) -> v1::ResourceRequirements {
    let applied = view.memory.record.applied.get(&spec.name);
    let resources = applied
        .or_else(|| shown_resources(view, spec))
        .or(spec.resources.as_ref());
    resources.cloned().unwrap_or_default()
}

fn shown_resources<'a>(
    view: &PodView<'a>,
    spec: &v1::Container,
) -> Option<&'a v1::ResourceRequirements> {
    let newest = view.observed.instances(&spec.name).next()?;
    let id = view.full_id(newest.id.as_str());
    let status = view.pod.object.status.as_ref()?;
    let init = status.init_container_statuses.iter().flatten();
    let mut all = init.chain(status.container_statuses.iter().flatten());
    let shown = all.find(|of| of.container_id.as_ref() == Some(&id))?;
    shown.resources.as_ref()
}

/// Who the first process runs as, where the runtime tells.
fn user_of(container: &ObservedContainer) -> Option<v1::ContainerUser> {
    let (uid, gid, groups) = container.user.clone()?;
    Some(v1::ContainerUser {
        linux: Some(v1::LinuxContainerUser {
            uid,
            gid,
            supplemental_groups: some_list(groups),
        }),
    })
}

/// The signal that asks it to end, where the runtime tells: `SIGRTMIN+3` is `SIGRTMINPLUS3` there.
fn stop_signal_of(pod: &Pod, container: &ObservedContainer) -> Option<String> {
    let signal = container.stop_signal.filter(|_| pod.gates.stop_signals)?;
    Some(signal.replace("PLUS", "+").replace("MINUS", "-"))
}

/// One that vanished counts as restarted: the next instance bears the next number.
fn restart_count(
    view: &PodView<'_>,
    spec: &v1::Container,
    current: Option<&ObservedContainer>,
    lost: Option<&RecordedExit>,
) -> i32 {
    let recorded = view
        .memory
        .record
        .restart_counts
        .get(&spec.name)
        .copied()
        .unwrap_or(0);
    let after_lost = lost.map_or(0, |_| recorded.saturating_add(1));
    let held = current.map_or(0, |c| c.restart_count);
    i32::try_from(held.max(recorded).max(after_lost)).unwrap_or(i32::MAX)
}

/// Running shows running; a held-back or failing start shows waiting with the last exit behind it; else the exit itself.
fn state_and_last(
    view: &PodView<'_>,
    running: Option<Timestamp>,
    ended: Option<v1::ContainerStateTerminated>,
    earlier: Option<&RecordedExit>,
    waiting: Option<&Waiting>,
    not_started: Reason,
) -> (v1::ContainerState, v1::ContainerState) {
    let as_state = |t: v1::ContainerStateTerminated| v1::ContainerState {
        terminated: Some(t),
        ..Default::default()
    };
    let earlier_state = || {
        earlier
            .map(|e| as_state(terminated(view, e)))
            .unwrap_or_default()
    };
    if let Some(started_at) = running {
        let running = v1::ContainerStateRunning {
            started_at: Some(whole_second(started_at)),
        };
        return (
            v1::ContainerState {
                running: Some(running),
                ..Default::default()
            },
            earlier_state(),
        );
    }
    if let Some(waiting) = waiting {
        let state = waiting_state(waiting.reason.as_str(), Some(waiting.message.clone()));
        return (state, ended.map(as_state).unwrap_or_else(earlier_state));
    }
    if let Some(terminated) = ended {
        return (as_state(terminated), earlier_state());
    }
    (waiting_state(not_started.as_str(), None), earlier_state())
}

/// What a container waits for that has not been tried yet.
fn not_started(view: &PodView<'_>) -> Reason {
    if view.pod.init_containers().is_empty() {
        Reason::ContainerCreating
    } else {
        Reason::PodInitializing
    }
}

fn waiting_state(reason: &str, message: Option<String>) -> v1::ContainerState {
    let waiting = v1::ContainerStateWaiting {
        reason: Some(reason.to_owned()),
        message: message.filter(|m| !m.is_empty()),
    };
    v1::ContainerState {
        waiting: Some(waiting),
        ..Default::default()
    }
}

/// The begin of a text, of at most so many bytes.
fn cut(text: &str, most: usize) -> &str {
    let mut ends = (0..=most.min(text.len())).rev();
    let end = ends.find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

fn terminated(view: &PodView<'_>, exit: &RecordedExit) -> v1::ContainerStateTerminated {
    // Of an end that nobody saw the time is not known.
    let was_seen = exit.reason != Reason::ContainerStatusUnknown.as_str();
    let time = |at| was_seen.then(|| whole_second(at));
    let message = cut(
        &exit.message,
        MESSAGES_OF_A_POD / view.pod.count_of_containers(),
    );
    v1::ContainerStateTerminated {
        exit_code: exit.code,
        reason: Some(exit.reason.clone()).filter(|r| !r.is_empty()),
        message: Some(message.to_owned()).filter(|m| !m.is_empty()),
        started_at: time(exit.started_at),
        finished_at: time(exit.finished_at),
        container_id: Some(view.full_id(&exit.id)),
        ..Default::default()
    }
}

/// Why a container does not show its end, though no start of it waits or has failed.
fn held(view: &PodView<'_>, spec: &v1::Container, kind: Kind) -> Option<Waiting> {
    replaced(view, spec)
        .or_else(|| failed_hook(view, spec))
        .or_else(|| due_hook(view, spec))
        .or_else(|| taken_down(view, spec, kind))
}

/// A container whose instance was ended to make room for another does not show as ended meanwhile: the API server lets no container of a
/// pod that says Never leave that state.
fn replaced(view: &PodView<'_>, spec: &v1::Container) -> Option<Waiting> {
    let exit = view.memory.record.exits.get(&spec.name);
    let is_reset = exit.is_some_and(|exit| exit.is_reset);
    let is_replaced = !is_reset && standing(view, &spec.name) == Standing::Replaced;
    is_replaced.then(|| Waiting {
        reason: Reason::ContainerCreating,
        message: String::new(),
    })
}

/// A container that runs, and whose postStart hook has not ended.
fn due_hook(view: &PodView<'_>, spec: &v1::Container) -> Option<Waiting> {
    let newest = view.observed.instances(&spec.name).next()?;
    let is_due = newest.state.may_run() && post_start_of(view, newest) == PostStart::Due;
    is_due.then(|| Waiting {
        reason: not_started(view),
        message: String::new(),
    })
}

/// A container whose postStart hook failed, until it is started again, where it is.
fn failed_hook(view: &PodView<'_>, spec: &v1::Container) -> Option<Waiting> {
    let newest = view.observed.instances(&spec.name).next()?;
    let hook = view.memory.record.post_start.get(&spec.name)?;
    let message = hook.failed.clone()?;
    let again = match newest.state.exit() {
        Some(exit) => restarts_after(view.pod, spec, exit.code),
        None => true,
    };
    (again && hook.attempt == newest.attempt).then_some(Waiting {
        reason: Reason::PostStartHookError,
        message,
    })
}

/// A container that was taken down with all of its pod, until it is started again.
fn taken_down(view: &PodView<'_>, spec: &v1::Container, kind: Kind) -> Option<Waiting> {
    let record = &view.memory.record;
    let exit = record.exits.get(&spec.name)?;
    let is_gone = view.observed.instances(&spec.name).next().is_none();
    let is_due = kind != Kind::Ephemeral && is_gone && (exit.is_reset || record.restarting_all);
    is_due.then(|| Waiting {
        reason: Reason::RestartingAllContainers,
        message: RESTARTING_ALL_MESSAGE.to_owned(),
    })
}

/// An init container that neither the runtime nor the record knows any more, though a regular container was made after it.
fn forgotten(
    view: &PodView<'_>,
    spec: &v1::Container,
    kind: Kind,
) -> Option<v1::ContainerStateTerminated> {
    let (name, record) = (&spec.name, &view.memory.record);
    let is_known = view.observed.instances(name).next().is_some()
        || record.exits.contains_key(name)
        || record.running.contains_key(name);
    if kind != Kind::Init || is_sidecar(spec) || is_known {
        return None;
    }
    let is_made = |spec: &v1::Container| view.observed.instances(&spec.name).next().is_some();
    let message = "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally";
    view.pod
        .containers()
        .iter()
        .any(is_made)
        .then(|| v1::ContainerStateTerminated {
            reason: Some("Completed".to_owned()),
            message: Some(message.to_owned()),
            ..v1::ContainerStateTerminated::default()
        })
}

fn volume_mounts(view: &PodView<'_>, spec: &v1::Container) -> Option<Vec<v1::VolumeMountStatus>> {
    let support = recursive_read_only(view).unwrap_or(RecursiveReadOnly::Unsupported);
    let mode = |mount: &v1::VolumeMount| match is_recursive_read_only(mount, support) {
        Ok(true) => "Enabled".to_owned(),
        Ok(false) | Err(_) => "Disabled".to_owned(),
    };
    let mounts = spec
        .volume_mounts
        .as_deref()
        .unwrap_or_default()
        .iter()
        .map(|m| v1::VolumeMountStatus {
            name: m.name.clone(),
            mount_path: m.mount_path.clone(),
            read_only: m.read_only.filter(|r| *r),
            recursive_read_only: m.read_only.filter(|r| *r).map(|_| mode(m)),
            ..Default::default()
        });
    some_list(mounts.collect())
}

#[cfg(test)]
mod tests;
