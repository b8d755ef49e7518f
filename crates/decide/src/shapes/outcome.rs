//! The outcome of each step of a plan.
//!
//! In:    made by act/pod/execute.rs, one a step
//! Out:   `Outcome`, for the memory of the pod's worker
//! Calls: memory
//! Holds: a call that may have happened is never called failed
//! Upstream: none

use kubelet_model::ids::{ContainerId, SandboxId};
use kubelet_model::reason::Reason;

use crate::shapes::env_files::EnvFileValues;
use crate::shapes::work::{Leaving, SetUp};

/// What became of one step.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is done.
    Done(Effect),
    /// It did not happen.
    Failed(Failure),
    /// It may have happened: no answer came.
    Unknown(Failure),
    /// It may have happened: a newer order, or the end of the pod's time, did not wait for the answer.
    GivenUp,
}

impl Outcome {
    /// Instances whose stop surely did not happen.
    pub fn unstopped(&self) -> &[ContainerId] {
        match self {
            Self::Failed(failure) | Self::Unknown(failure) => &failure.unstopped,
            Self::Done(_) | Self::GivenUp => &[],
        }
    }
}

/// What a done step brought.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Nothing to remember.
    Nothing,
    /// The pod's cgroup and directories stand.
    Prepared,
    /// The volume of this name stands.
    VolumeSetUp(String, SetUp),
    /// The host side is down, all of it or what only a running pod needs.
    Released(Leaving),
    /// This sandbox was stopped, its network taken down.
    Stopped(SandboxId),
    /// An image for the next start of a container.
    Image(String, ResolvedImage),
    /// Variables from files for the next start of a container.
    EnvFiles(String, EnvFileValues),
    /// The container of this name was started.
    Started(String),
    /// The postStart hook of the container of this name was run.
    PostStarted(String),
}

/// Why a step is not done.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What of the pod it is about: that alone is held back.
    pub of: Subject,
    /// The reason that status shows.
    pub reason: Reason,
    /// The text that status shows.
    pub message: String,
    /// An image could not be had: its back-off applies.
    pub image: Option<ImageFailure>,
    /// See [`Outcome::unstopped`].
    pub unstopped: Vec<ContainerId>,
    /// What could not be stopped, as the event of a pod that is ending tells it.
    pub unkilled: Vec<String>,
    /// Nothing waits for it.
    pub is_garbage: bool,
}

impl Failure {
    /// Without anything beside it.
    pub fn new(of: Subject, reason: Reason, message: String) -> Self {
        Self {
            of,
            reason,
            message,
            image: None,
            unstopped: Vec::new(),
            unkilled: Vec::new(),
            is_garbage: false,
        }
    }
}

/// What of a pod a failure is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The pod as a whole.
    Pod,
    /// The container of this name.
    Container(String),
    /// The volume of this name.
    Volume(String),
    /// The stops of these instances, of a pod that goes on.
    Stops(Vec<ContainerId>),
}

impl Subject {
    /// The container, where it is one.
    pub fn container(&self) -> Option<&str> {
        match self {
            Self::Container(name) => Some(name),
            Self::Pod | Self::Volume(_) | Self::Stops(_) => None,
        }
    }
}

/// A failed image.
#[derive(Clone, Debug)]
pub struct ImageFailure {
    /// Name as the spec has it.
    pub image: String,
    /// Whether a pull was tried.
    pub pull_failed: bool,
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
