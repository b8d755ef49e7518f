//! What a pod worker remembers between turns.
//!
//! In:    nothing
//! Out:   [`PodMemory`]
//! Calls: pod (which changes it), shapes/view
//! Holds: nothing here changes it (`pod/memory` does); only the record survives a restart
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_manager.go

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kubelet_model::disk::PodDirs;
use kubelet_model::ids::{ContainerId, SandboxId};

use crate::shapes::life::Lifecycle;
use crate::shapes::outcome::ResolvedImage;
use crate::shapes::record::PodRecord;
use crate::shapes::waiting::Waiting;
use crate::shapes::work::SetUp;

/// What a pod's worker remembers.
#[derive(Clone, Debug)]
pub struct PodMemory {
    /// Where the pod stands in its life.
    pub life: Lifecycle,
    /// What survives a restart of the kubelet.
    pub record: PodRecord,
    /// Whether the record was held against the node.
    pub first_look: FirstLook,
    /// Steady time from which the pod's deadline counts; `None` before it is taken up.
    pub active_since: Option<Timestamp>,
    /// Containers that are to start, by name.
    pub attempts: BTreeMap<String, StartAttempt>,
    /// What failed of the pod as a whole.
    pub retry: Retry,
    /// Stops of single containers that failed, while those run: each alone is tried again later.
    pub stops: BTreeMap<ContainerId, Retry>,
    /// What the runtime holds and nobody needs is not removed before this time: the last removal failed.
    pub garbage_at: Option<Timestamp>,
    /// Whether its cgroup and directories stand.
    pub prepared: Prepared,
    /// Its volumes, as far as this process has dealt with them, by name.
    pub volumes: BTreeMap<String, VolumeMemory>,
    /// What the disk was seen to hold of the pod; asked for before it is taken down alone.
    pub dirs: Option<PodDirs>,
    /// Sandboxes whose stop the runtime has answered: their network is taken down. Only this process knows it; the next one stops them
    /// once more. That a sandbox is not ready says less: its processes may have ended alone.
    pub stopped: BTreeSet<SandboxId>,
}

/// What is remembered of one volume.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VolumeMemory {
    /// How this process set it up; `None` before, and then nothing new starts on it. Setting up is idempotent.
    pub set_up: Option<SetUp>,
    /// The last try, where it failed: this volume alone is tried again later.
    pub retry: Retry,
}

/// The first look of this process at the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstLook {
    /// Not yet; whether the pod had a directory when its worker began. A record may be lost, what ran here has one all the same.
    Due {
        /// It had one.
        had_directory: bool,
    },
    /// Done.
    Done,
}

/// What is remembered of a container that is to start, until it runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StartAttempt {
    /// Its image, made sure of for the next start.
    pub image: Option<ResolvedImage>,
    /// Why the last try came to nothing.
    pub waiting: Option<Waiting>,
    /// The instance that the runtime refused to start: that one is not tried again.
    pub refused: Option<u32>,
    /// Not tried before this time.
    pub held_until: Option<Timestamp>,
    /// Tries that failed. Only that it runs starts the count anew: an earlier step of the next try that succeeds, such as the look
    /// at its image, does not.
    pub tries: u32,
}

/// What failed of the pod as a whole, of one volume or of one stop, and when it is tried again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retry {
    /// Nothing is tried before this time.
    pub at: Option<Timestamp>,
    /// How many tries in a row have failed; of the pod, in this state of its life.
    pub failures: u32,
    /// Why, as status shows it.
    pub waiting: Option<Waiting>,
}

/// What must be looked at after a plan, besides what its steps touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextLook {
    /// Nothing.
    AsTouched,
    /// The whole pod: nobody knows what a step has done.
    Whole,
}

/// Whether the pod's cgroup and directories stand.
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
