//! What is kept of a pod on disk, so that a restart of the kubelet changes nothing about it.
//!
//! In:    `PodMemory`, which owns it while the kubelet runs
//! Out:   a value that is written as JSON, and read by the next process
//! Calls: memory, adopt, cut_off; the views of what decides
//! Holds: a field that an older version did not write has a default; exits and counts never go back
//! Upstream: none (there status at the API server takes its place)

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1;
use kubelet_model::ids::ContainerId;
use kubelet_model::observed::ObservedPod;
use serde::{Deserialize, Serialize};

use crate::shapes::outcome::Failure;
use crate::shapes::plan::StopContainer;
use crate::shapes::probe::PodProbes;
use crate::shapes::rejection::Rejection;

/// What of a worker's memory survives a restart of the kubelet.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct PodRecord {
    /// `status.startTime`: when the kubelet first took it up.
    pub start_time: Option<Timestamp>,
    /// The same moment by the machine's own count; `None` when another kubelet took the pod up.
    #[serde(default)]
    pub active_since: Option<BootMoment>,
    /// One moment by the clock of the process that keeps this record, and by the machine's own count: its other times mean the same to the
    /// next process by it, whatever the wall clock was set to meanwhile.
    #[serde(default)]
    pub anchor: Option<Anchor>,
    /// Whether its handler could make mounts read-only with all below them, as was last said; of pods that ask for it.
    #[serde(default)]
    pub recursive_read_only: Option<bool>,
    /// Crash-loop back-off by container name.
    pub restart_back_off: BTreeMap<String, BackOff>,
    /// Image back-off by image: containers of a pod share it.
    pub image_back_off: BTreeMap<String, ImageBackOff>,
    /// Highest restart count ever seen, by container name: it never goes back.
    pub restart_counts: BTreeMap<String, u32>,
    /// Condition type → (True?, since).
    pub conditions: BTreeMap<String, (bool, Timestamp)>,
    /// Addresses of the last sandbox that had some; they stay after it is gone.
    pub ips: Vec<String>,
    /// Once the pod has ended by itself: phase and every container's exit. Never goes back.
    pub ended: Option<Ended>,
    /// The pod was not let in; it has ended then, and this is why.
    #[serde(default)]
    pub rejected: Option<Rejection>,
    /// Set while the pod is being terminated, so that a restart goes on with it: cause word, since, grace.
    pub terminating: Option<TerminatingRecord>,
    /// Exits of containers that the runtime has forgotten or will be made to forget, newest per name.
    pub exits: BTreeMap<String, RecordedExit>,
    /// Containers that were seen to run, and not to end, by name: what is said of one that is never seen again.
    #[serde(default)]
    pub running: BTreeMap<String, RecordedExit>,
    /// Resources that the newest instance was made with, by container name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub applied: BTreeMap<String, v1::ResourceRequirements>,
    /// Starts that are under way, or were when the kubelet or the runtime ended: container name → attempts of the instances.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub starts: BTreeMap<String, BTreeSet<u32>>,
    /// Results of the probes of containers, by name.
    #[serde(default, skip_serializing_if = "PodProbes::is_empty")]
    pub probes: PodProbes,
    /// Instances that are stopped to make room for another whatever the policy says of their end, by container name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub replaced: BTreeMap<String, Replaced>,
    /// PostStart hooks that are to be run, are being run or have failed, by container name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub post_start: BTreeMap<String, PostStartRecord>,
    /// Stops that were begun, by the instance's id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stopping: BTreeMap<String, Stopping>,
    /// Which containers wait for which at the end, of a pod with sidecars: those of a lower number for those of a higher one. It is asked
    /// when nobody names the pod any more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub end_ranks: BTreeMap<String, usize>,
    /// All containers are being taken down, to be started again from the first init container on.
    #[serde(default, skip_serializing_if = "is_false")]
    pub restarting_all: bool,
    /// Sandboxes that were seen last; `None` in a record of a version that did not keep them.
    #[serde(default)]
    pub sandboxes: Option<BTreeSet<String>>,
}

impl PodRecord {
    /// Whether it is of an earlier life of the pod: that one was on its way out, and now there is a sandbox that it does not know.
    /// So it is when the writes that came after it have failed. What such a record says of an end is not true any more.
    pub fn is_outlived(&self, observed: &ObservedPod) -> bool {
        let ends = self.ended.is_some() || self.terminating.is_some();
        let is_unknown = |id: &str| self.sandboxes.as_ref().is_some_and(|ids| !ids.contains(id));
        let mut held = observed.sandboxes.iter();
        ends && held.any(|sandbox| is_unknown(sandbox.id.as_str()))
    }

    /// The pod ends: what was seen to run and is not there any more has ended, with a code that nobody knows.
    pub fn give_up_lost(&mut self, observed: &ObservedPod, now: Timestamp) {
        let names: Vec<String> = self.running.keys().cloned().collect();
        for name in names {
            self.give_up_lost_run(&name, observed, now);
        }
    }

    /// The same of one container.
    pub fn give_up_lost_run(&mut self, name: &str, observed: &ObservedPod, now: Timestamp) {
        let is_held = |run: &RecordedExit| {
            let mut held = observed.instances(name);
            held.any(|container| container.id.as_str() == run.id)
        };
        if self.running.get(name).is_none_or(is_held) {
            return;
        }
        let Some(mut run) = self.running.remove(name) else {
            return;
        };
        let known = self.exits.get(name);
        if known.is_none_or(|known| known.id != run.id && known.attempt <= run.attempt) {
            run.counts_from = Some(now);
            self.exits.insert(name.to_owned(), run);
        }
    }

    /// A stop is begun, or goes on: the grace that ends first counts.
    pub fn begin_stop(&mut self, stop: &StopContainer, now: Timestamp) {
        let known = self.stopping.entry(stop.id.to_string()).or_default();
        let end =
            |since: Timestamp, seconds| since.saturating_add(SignedDuration::from_secs(seconds));
        let ends = known.since.map(|since| end(since, known.grace_seconds));
        if ends.is_none_or(|ends| end(now, stop.grace_seconds).ok() < ends.ok()) {
            known.since = Some(now);
            known.grace_seconds = stop.grace_seconds;
        }
        if stop.hook.is_some() {
            known.hook_since.get_or_insert(now);
        }
    }

    /// The runtime has surely not been told this time to stop this one: its grace is what it was before.
    pub fn take_back_stop(&mut self, id: &ContainerId, before: Option<&Stopping>) {
        if let Some(stopping) = self.stopping.get_mut(id.as_str()) {
            stopping.since = before.and_then(|before| before.since);
            if let Some(before) = before.filter(|before| before.since.is_some()) {
                stopping.grace_seconds = before.grace_seconds;
            }
        }
    }

    /// The postStart hook of a container failed.
    pub fn fail_post_start(&mut self, failure: &Failure) {
        let name = failure.of.container().unwrap_or_default();
        if let Some(hook) = self.post_start.get_mut(name) {
            hook.failed = Some(failure.message.clone());
        }
    }

    /// The record of an earlier process: its times were taken by another clock, which was so much ahead of this one's (less than nothing:
    /// behind), as far as that is known; none of them can be later than now. Without this a clock that was set back meanwhile would make a
    /// pod wait until it has caught up.
    #[must_use]
    pub fn taken_over(mut self, now: Timestamp, ahead: SignedDuration) -> Self {
        // An older version kept it by container.
        let images = std::mem::take(&mut self.image_back_off).into_values();
        self.image_back_off = images.map(|held| (held.image.clone(), held)).collect();
        let restarts = self.restart_back_off.values_mut();
        let images = self.image_back_off.values_mut();
        let held = images.flat_map(|image| [&mut image.back_off.updated, &mut image.looked_at]);
        let exits = self.exits.values_mut();
        let stops = self.stopping.values_mut();
        let stops = stops.flat_map(|stop| [stop.since.as_mut(), stop.hook_since.as_mut()]);
        let times = restarts
            .map(|back_off| &mut back_off.updated)
            .chain(held)
            .chain(exits.filter_map(|exit| exit.counts_from.as_mut()))
            .chain(stops.flatten())
            .chain(
                self.replaced
                    .values_mut()
                    .filter_map(|old| match &mut old.cause {
                        ReplacedFor::Probe(ended_before) => ended_before.as_mut(),
                        ReplacedFor::Definition | ReplacedFor::ProbeInBackOff => None,
                    }),
            );
        for time in times {
            *time = time.saturating_sub(ahead).unwrap_or(now).min(now);
        }
        self
    }
}

/// The end of a pod: its containers are all done, or were made to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// `Succeeded` rather than `Failed`.
    pub succeeded: bool,
    /// It was this kubelet that ended it, and why.
    #[serde(default)]
    pub why: Option<EndReason>,
}

/// The condition of a pod that was ended for others.
pub const DISRUPTION_TARGET: &str = "DisruptionTarget";

/// Why a pod was ended, in the status's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndReason {
    /// `status.reason`.
    pub reason: String,
    /// `status.message`.
    pub message: String,
    /// It was ended for others: the text of its condition `DisruptionTarget`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption: Option<String>,
}

/// A moment by two clocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// By the machine's own count.
    pub boot: BootMoment,
    /// Steady time.
    pub steady: Timestamp,
}

/// A moment of one boot of the machine: nobody can set it, and it means the same to the next process of that boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootMoment {
    /// Which boot.
    pub boot: String,
    /// Since its begin, suspended time included.
    pub milliseconds: u64,
}

/// Termination in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminatingRecord {
    /// Since when.
    pub since: Timestamp,
    /// Grace in force, seconds.
    pub grace_seconds: i64,
    /// The pod was removed: this life of it is gone through to its end, whatever is wanted after it.
    #[serde(default)]
    pub leaving: bool,
}

/// An exit kept beyond the runtime's own memory of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedExit {
    /// Container id.
    pub id: String,
    /// The sandbox it ran in.
    #[serde(default)]
    pub sandbox: String,
    /// Exit code.
    pub code: i32,
    /// `terminated.reason`.
    pub reason: String,
    /// `terminated.message`.
    pub message: String,
    /// Start.
    pub started_at: Timestamp,
    /// End.
    pub finished_at: Timestamp,
    /// Image named.
    pub image: String,
    /// Image resolved.
    pub image_ref: String,
    /// Attempt of the instance: of two exits of a name, the one with the higher attempt is the newer, whatever the clocks say.
    #[serde(default)]
    pub attempt: u32,
    /// Steady time from which a back-off after it counts, set when the exit is first seen.
    #[serde(default)]
    pub counts_from: Option<Timestamp>,
    /// All containers of the pod were taken down after it: it says no more how its container stands.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_reset: bool,
}

impl RecordedExit {
    /// Steady time from which a back-off after it counts.
    pub fn back_off_from(&self) -> Timestamp {
        self.counts_from.unwrap_or(self.finished_at)
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_false(value: &bool) -> bool {
    !value
}

/// Pulls of one image are held back until a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageBackOff {
    /// The image it is about.
    pub image: String,
    /// The back-off itself.
    pub back_off: BackOff,
    /// The text of the last failure.
    pub message: String,
    /// When its presence was last looked at.
    pub looked_at: Timestamp,
}

/// A doubling back-off as data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackOff {
    /// What it is about (image and name); another key starts anew.
    pub key: String,
    /// Gap that must pass after the next failure, seconds.
    pub seconds: i64,
    /// When it was last lengthened.
    pub updated: Timestamp,
}

/// The postStart hook of an instance, from before its start until it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostStartRecord {
    /// The instance's attempt.
    pub attempt: u32,
    /// It has failed: what status shows.
    #[serde(default)]
    pub failed: Option<String>,
}

/// A stop that was begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// Steady time from which its grace counts; `None` where the runtime has surely not been told.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Grace that it began with, seconds.
    pub grace_seconds: i64,
    /// When its preStop hook was first begun, if it has one.
    #[serde(default)]
    pub hook_since: Option<Timestamp>,
    /// Its preStop hook has ended.
    #[serde(default)]
    pub hook_done: bool,
}

/// An instance that is stopped to make room for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// Its id.
    pub id: String,
    /// When the stop was decided, by the wall clock, which dates its end too: an end before that was its own.
    pub since: Timestamp,
    /// Why.
    #[serde(default)]
    pub cause: ReplacedFor,
}

/// Why an instance makes room for another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplacedFor {
    /// Its definition changed.
    #[default]
    Definition,
    /// It failed a probe, and no back-off held it then: the next is started at once. Steady time of the end of the instance before it,
    /// if there was one: the back-off is lengthened from there.
    Probe(Option<Timestamp>),
    /// It failed a probe while its back-off held: it waits like one that ended by itself.
    ProbeInBackOff,
}
