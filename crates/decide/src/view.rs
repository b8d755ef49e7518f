//! What one pod's decisions are made from: everything that influences the answer, and nothing that is not a value.
//!
//! In:    filled by act/pod_worker.rs from snapshots and its own record
//! Out:   `PodView`; its `Debug` text is a bug report
//! Calls: lifecycle, pod_plan, pod_status
//! Holds: the observation is never older than the end of the worker's last action (checked by the worker)
//! Upstream: none (there the inputs are read live from many owners)

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kubelet_model::disk::PodDirs;
use kubelet_model::node::{NodeView, RuntimeHandlers};
use kubelet_model::objects::PodObjects;
use kubelet_model::observed::{ObservedContainer, ObservedPod};
use kubelet_model::pod::Pod;
use kubelet_model::reason::Reason;
use serde::{Deserialize, Serialize};

use crate::admission::Rejection;
use crate::env_file::EnvFileValues;
use crate::lifecycle::{Lifecycle, TerminationCause};
use crate::restart::BackOff;
use crate::volumes::Mark;

/// What is wanted of the pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Desire {
    /// It should run.
    Run,
    /// It should run when its turn comes; nothing is started or stopped until then. Nothing to show while it is not known for whom.
    Wait(Option<Waiting>),
    /// It may not begin here; nothing of it was ever started.
    Reject(Rejection),
    /// It should end, with at most this grace.
    Stop {
        /// Why.
        cause: TerminationCause,
        /// Seconds; `None` takes the pod's own.
        grace_seconds: Option<i64>,
    },
}

/// Whether the runtime's pod network can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkState {
    /// Pods may start.
    Ready,
    /// Only pods on the host's network may start; the text says why.
    NotReady(String),
}

/// Whether the pod's cgroup, directories and volumes stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// Not since this process started; preparing is idempotent.
    No,
    /// Done.
    Yes,
    /// Taken down after the pod ended, but for what its status and logs need.
    Ended,
    /// Taken down again, for good.
    Released,
}

/// An image that is known to be present for one start of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedImage {
    /// Name as the spec had it: another name needs another look.
    pub wanted: String,
    /// The runtime's id of it.
    pub id: String,
    /// Numeric user of the image, if it says one.
    pub uid: Option<i64>,
    /// User by name, if it says one.
    pub username: String,
    /// Variables from files, read after it; `None` until then.
    pub env_files: Option<EnvFileValues>,
}

/// Why a container or pod waits, as status shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The reason.
    pub reason: Reason,
    /// The text.
    pub message: String,
}

/// What a pod's worker remembers, and what of it survives a restart of the kubelet.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct PodRecord {
    /// `status.startTime`: when the kubelet first took it up.
    pub start_time: Option<Timestamp>,
    /// The same moment by the machine's own count; `None` when another kubelet took the pod up.
    #[serde(default)]
    pub active_since: Option<BootMoment>,
    /// Whether its handler could make mounts read-only with all below them, as was last said; of pods that ask for it.
    #[serde(default)]
    pub recursive_read_only: Option<bool>,
    /// Crash-loop back-off by container name.
    pub restart_back_off: BTreeMap<String, BackOff>,
    /// Image back-off by container name.
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
    /// Starts that are under way, or were when the kubelet or the runtime ended: container name → attempts of the instances.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub starts: BTreeMap<String, BTreeSet<u32>>,
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
        let is_lost = |name: &str, run: &RecordedExit| {
            let mut held = observed.instances(name);
            !held.any(|container| container.id.as_str() == run.id)
        };
        let running = std::mem::take(&mut self.running);
        let (lost, rest): (BTreeMap<_, _>, BTreeMap<_, _>) = running
            .into_iter()
            .partition(|(name, run)| is_lost(name, run));
        self.running = rest;
        for (name, mut run) in lost {
            let known = self.exits.get(&name);
            if known.is_none_or(|known| known.id != run.id && known.attempt <= run.attempt) {
                run.counts_from = Some(now);
                self.exits.insert(name, run);
            }
        }
    }

    /// The record of an earlier process: its times were taken by another clock, and none of them can be later than now. Without
    /// this a clock that was set back meanwhile would make a pod wait until it has caught up.
    #[must_use]
    pub fn taken_over(mut self, now: Timestamp) -> Self {
        let restarts = self.restart_back_off.values_mut();
        let images = self.image_back_off.values_mut();
        let held = images.flat_map(|image| [&mut image.back_off.updated, &mut image.looked_at]);
        let exits = self.exits.values_mut();
        let times = restarts
            .map(|back_off| &mut back_off.updated)
            .chain(held)
            .chain(exits.filter_map(|exit| exit.counts_from.as_mut()));
        for time in times {
            *time = (*time).min(now);
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

/// Why a pod was ended, in the status's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndReason {
    /// `status.reason`.
    pub reason: String,
    /// `status.message`.
    pub message: String,
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
}

/// Image pulls of one container are held back until a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageBackOff {
    /// The image it is about; another image starts anew.
    pub image: String,
    /// The back-off itself.
    pub back_off: BackOff,
    /// The text of the last failure.
    pub message: String,
    /// When its presence was last looked at.
    pub looked_at: Timestamp,
}

impl<'a> PodView<'a> {
    /// The exit of a later instance than this one, of a pod that ends: while what is left of it is removed, an earlier instance may
    /// outlive a later one in the runtime. Before that the record may still be of an earlier life, whose instances bear higher numbers.
    pub fn later_exit(&self, instance: &ObservedContainer) -> Option<&'a RecordedExit> {
        let ends = self.lifecycle.rank() > 0;
        let recorded = self.record.exits.get(&instance.name).filter(|_| ends);
        recorded.filter(|exit| exit.attempt > instance.attempt)
    }
}

/// The input of every decision about one pod.
#[derive(Clone, Debug)]
pub struct PodView<'a> {
    /// The desired pod.
    pub pod: &'a Pod,
    /// What is wanted of it.
    pub desire: &'a Desire,
    /// Where it stands.
    pub lifecycle: &'a Lifecycle,
    /// What the runtime holds of it.
    pub observed: &'a ObservedPod,
    /// What the disk was seen to hold of it; asked for before it is taken down alone.
    pub dirs: Option<&'a PodDirs>,
    /// What its worker remembers.
    pub record: &'a PodRecord,
    /// Images made sure of for the next start, by container name.
    pub resolved: &'a BTreeMap<String, ResolvedImage>,
    /// Containers that could not be started last time, by name, and why.
    pub waiting: &'a BTreeMap<String, Waiting>,
    /// Containers whose last start failed, by name: not tried before this time.
    pub held: &'a BTreeMap<String, Timestamp>,
    /// The pod as a whole waits, and why.
    pub pod_waiting: Option<&'a Waiting>,
    /// Whether its host side stands.
    pub prepared: Prepared,
    /// What the files of its volumes were when this process last wrote them, by volume name.
    pub written: &'a BTreeMap<String, Mark>,
    /// What is known of the objects that it refers to.
    pub objects: &'a PodObjects,
    /// Nothing is tried before this time: the last plan failed.
    pub retry_at: Option<Timestamp>,
    /// How many plans in a row have failed in this state of its life.
    pub failures: u32,
    /// What the runtime holds and nobody needs is not removed before this time: the last removal failed.
    pub garbage_at: Option<Timestamp>,
    /// Steady time from which the pod's deadline counts; `None` before it is taken up.
    pub active_since: Option<Timestamp>,
    /// The node.
    pub node: &'a NodeView,
    /// What the runtime said of its handlers; `None` before it did.
    pub handlers: Option<&'a RuntimeHandlers>,
    /// The runtime's network.
    pub network: &'a NetworkState,
    /// Now by steady time, which never jumps: what waits is measured by it.
    pub now: Timestamp,
    /// Now by the wall clock, which people may set: only shown.
    pub wall: Timestamp,
}
