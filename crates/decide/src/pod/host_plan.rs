//! The steps that set up the host side of a pod: its cgroup and directories, then each volume by itself.
//!
//! In:    `PodView`: what this process has set up, the objects that volumes show
//! Out:   steps of the plan; the volumes that cannot be had now, and when they are tried again
//! Calls: pod_plan, before a sandbox is made and before a container starts
//! Holds: nothing starts before every volume stands; a volume that cannot be had, or whose set-up fails, holds back no other
//!        volume; files that changed are written beside running containers, and a failure of that holds nothing back
//! Upstream: pkg/kubelet/volumemanager (WaitForAttachAndMount), pkg/kubelet/kubelet_pods.go (makePodDataDirs)

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1;

use crate::shapes::memory::Prepared;
use crate::shapes::paths::volumes;
use crate::shapes::plan::{Action, OnFailure, PodPlan, Step};
use crate::shapes::view::PodView;
use crate::shapes::waiting::Waiting;
use crate::shapes::work::VolumeWork;
use crate::volumes::{pod_work, update_work, volume_work};

/// How long a pod waits for an object before it looks again by itself: a change of the object wakes the pod, and this is for one that
/// got lost.
pub(super) const OBJECT_RECHECK: SignedDuration = SignedDuration::from_secs(10);

/// What a volume needs before something starts on it.
enum Need {
    Nothing,
    Work(VolumeWork),
    Wait(Waiting, Timestamp),
}

/// Adds what is missing of the host side, once a plan; `false` when a volume cannot be had now, and nothing may start.
pub(super) fn prepare(view: &PodView<'_>, why: &str, plan: &mut PodPlan) -> bool {
    let is_first = plan.volumes_waiting.is_empty() && !plan.steps.iter().any(is_of_host);
    if is_first && view.memory.prepared != Prepared::Yes {
        plan.push(why, Action::Prepare(pod_work(view.pod, view.node)));
    }
    let mut is_complete = true;
    for volume in volumes(view.pod) {
        match need(view, volume) {
            Need::Nothing => {}
            Need::Work(work) if is_first => plan.steps.push(Step {
                why: why.to_owned(),
                action: Action::SetUpVolume(work),
                on_failure: OnFailure::EndAfterVolumes,
            }),
            Need::Work(_) => {}
            Need::Wait(waiting, until) => {
                is_complete = false;
                if is_first {
                    plan.wake_by(until);
                    plan.volumes_waiting.push((volume.name.clone(), waiting));
                }
            }
        }
    }
    is_complete
}

fn is_of_host(step: &Step) -> bool {
    matches!(step.action, Action::Prepare(_) | Action::SetUpVolume(_))
}

fn need(view: &PodView<'_>, volume: &v1::Volume) -> Need {
    let known = view.memory.volumes.get(&volume.name);
    if known.is_some_and(|known| known.set_up.is_some()) {
        return Need::Nothing;
    }
    let retry = known.map(|known| &known.retry);
    if let Some(retry) = retry
        && let (Some(until), Some(waiting)) = (retry.held_until(view.now), &retry.waiting)
    {
        return Need::Wait(waiting.clone(), until);
    }
    match volume_work(view, volume) {
        Ok(Some(work)) => Need::Work(work),
        Ok(None) => Need::Nothing,
        Err(waiting) => {
            let again = view.now.steady.saturating_add(OBJECT_RECHECK);
            Need::Wait(waiting, again.unwrap_or(view.now.steady))
        }
    }
}

/// Files of volumes follow their objects, before anything is started on them.
pub(super) fn write_changes(view: &PodView<'_>, plan: &mut PodPlan) {
    let mut steps = Vec::new();
    for volume in volumes(view.pod) {
        let planned = |step: &Step| matches!(&step.action, Action::SetUpVolume(work) if work.volume == volume.name);
        if plan.steps.iter().any(planned) {
            continue;
        }
        let Some(work) = update_work(view, volume) else {
            continue;
        };
        let known = view.memory.volumes.get(&volume.name);
        if let Some(until) = known.and_then(|known| known.retry.held_until(view.now)) {
            plan.wake_by(until);
            continue;
        }
        steps.push(Step {
            why: "its content changed".to_owned(),
            action: Action::SetUpVolume(work),
            on_failure: OnFailure::Continue,
        });
    }
    plan.steps.splice(0..0, steps);
}
