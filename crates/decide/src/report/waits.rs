//! What a pod waits for, until when, and what its worker does: for people who ask the node itself.
//!
//! In:    `PodView`, the plan of the turn
//! Out:   waits with the wall-clock time of the next try; the steps of the plan in words
//! Calls: act/pod/pod_worker once in each turn
//! Holds: decides nothing; at most one wait for each container and volume of the spec; texts are cut
//! Upstream: none

use std::collections::BTreeMap;

use jiff::Timestamp;
use kubelet_model::reason::Reason;
use kubelet_model::story::{Wait, WaitOf, cut};

use crate::shapes::plan::{Action, PodPlan, PullPolicy};
use crate::shapes::view::PodView;
use crate::shapes::waiting::Waiting;

/// Steps that are told; a plan has few more.
const STEPS: usize = 8;

/// What the pod waits for after this plan.
pub fn waits(view: &PodView<'_>, plan: &PodPlan) -> Vec<Wait> {
    let memory = view.memory;
    // A plan with steps is made anew when they are done: only a quiet one says when that is.
    let wake_at = plan.wake_at.filter(|_| plan.steps.is_empty());
    let mut waits = BTreeMap::new();
    if let Some(waiting) = &plan.pod_waiting {
        let until = memory.retry_at(view.now).or(wake_at);
        waits.insert(WaitOf::Pod, (waiting, until));
    } else if let (Some(waiting), Some(until)) = (&memory.retry.waiting, memory.retry_at(view.now))
    {
        waits.insert(WaitOf::Pod, (waiting, Some(until)));
    }
    for (name, waiting) in memory.waits() {
        let until = memory.held(name, view.now).map(|(until, _)| until);
        waits.insert(WaitOf::Container(name.to_owned()), (waiting, until));
    }
    for (name, waiting) in &plan.waiting {
        let until = held_until(view, name, waiting).or(wake_at);
        waits.insert(WaitOf::Container(name.clone()), (waiting, until));
    }
    for (name, waiting) in &plan.volumes_waiting {
        let volume = memory.volumes.get(name);
        let until = volume.and_then(|volume| volume.retry.held_until(view.now));
        waits.insert(WaitOf::Volume(name.clone()), (waiting, until.or(wake_at)));
    }
    for (id, retry) in &memory.stops {
        let mut all = view.observed.live_containers();
        let name = all.find(|c| c.id == *id).map(|c| c.name.clone());
        if let (Some(name), Some(waiting)) = (name, &retry.waiting) {
            let until = retry.held_until(view.now);
            waits.insert(WaitOf::Stop(name), (waiting, until));
        }
    }
    let shown = waits.into_iter().map(|(of, (waiting, until))| Wait {
        of,
        reason: waiting.reason.to_string(),
        message: cut(&waiting.message),
        until: until.map(|until| view.now.wall_of(until)),
    });
    shown.collect()
}

/// When a container is tried again, by steady time, where the memory has a time for it.
fn held_until(view: &PodView<'_>, name: &str, waiting: &Waiting) -> Option<Timestamp> {
    let record = &view.memory.record;
    let now = view.now.steady;
    if waiting.reason == Reason::CrashLoopBackOff {
        let ended = record.exits.get(name)?.back_off_from();
        let back_off = record.restart_back_off.get(name)?;
        back_off.until(&back_off.key, ended, now, view.node.max_backoff_seconds)
    } else if waiting.reason == Reason::ImagePullBackOff {
        let image = view.pod.container(name)?.image.as_ref()?;
        record.image_back_off.get(image)?.back_off.pull_until(now)
    } else {
        let held = view.memory.held(name, view.now).map(|(until, _)| until);
        held.filter(|until| *until > now)
    }
}

/// What the worker does now, in words; of a pod that ends, why it does comes first.
pub fn doing(view: &PodView<'_>, plan: &PodPlan) -> Vec<String> {
    let life = &view.memory.life;
    let cause = life.cause().filter(|_| life.rank() > 0);
    let end = cause.map(|cause| format!("ending the pod ({})", cause.as_str()));
    let steps = plan.steps.iter().take(STEPS);
    let steps = steps.map(|step| in_words(&step.action));
    end.into_iter().chain(steps).collect()
}

fn in_words(action: &Action) -> String {
    let text = match action {
        Action::Prepare(_) => "making its cgroup and directories".to_owned(),
        Action::SetUpVolume(work) => format!("setting up volume {}", work.volume),
        Action::RunSandbox(_) => "making its sandbox and network".to_owned(),
        Action::ResolveImage(wanted) => {
            let (image, container) = (&wanted.image, &wanted.container);
            let asks = match wanted.policy {
                PullPolicy::Always => "pulling image",
                PullPolicy::IfNotPresent => "making sure of image",
                PullPolicy::Never => "looking for image",
            };
            format!("{asks} {image:?} for container {container}")
        }
        Action::StartContainer(start) => format!("starting container {}", start.name),
        Action::StartCreated { name, .. } => format!("starting container {name}"),
        Action::PostStart { name, .. } => format!("running the postStart hook of container {name}"),
        Action::StopContainers(stops) => {
            let stop = |stop: &crate::shapes::plan::StopContainer| {
                format!("{} (within {} s)", stop.name, stop.grace_seconds)
            };
            let stops: Vec<String> = stops.iter().map(stop).collect();
            format!("stopping {}", stops.join(", "))
        }
        Action::StopSandbox(_) => "stopping its sandbox".to_owned(),
        // The words of the log say it as well.
        Action::ReadEnvFiles { .. }
        | Action::RemoveContainer { .. }
        | Action::RemoveSandbox { .. }
        | Action::Release { .. } => action.to_string(),
    };
    cut(&text)
}

#[cfg(test)]
mod tests;
