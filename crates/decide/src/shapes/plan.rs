//! The shape of a plan: what to do for one pod, fully specified, each step with its reason.
//!
//! In:    built by `pod_plan`
//! Out:   carried out by act/pod/execute.rs, in order; `Display` is one log line and the snapshot format of tests
//! Holds: no meaningful choice is left to the executor; a removal names the observation that justifies it
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_manager.go (podActions), differences: finished requests instead of intentions

use std::fmt;

use jiff::Timestamp;
use kubelet_api::runtime::v1 as cri;
use kubelet_model::ids::{ContainerId, SandboxId};
use kubelet_model::observed::Moment;

use crate::shapes::env_files::EnvFileRead;
use crate::shapes::hook::Hook;
use crate::shapes::probe::ProbeKind;
use crate::shapes::secrets::PullSecrets;
use crate::shapes::waiting::Waiting;
use crate::shapes::work::HostWork;
use crate::shapes::work::LogLink;
use crate::shapes::work::{Leaving, VolumeWork};

/// What to do now for one pod.
#[derive(Debug, Default)]
pub struct PodPlan {
    /// Steps in order.
    pub steps: Vec<Step>,
    /// When to look again although nothing happened.
    pub wake_at: Option<Timestamp>,
    /// What has no deadline of its own, a pull, is given up then: the pod's time is over.
    pub give_up_at: Option<Timestamp>,
    /// Containers that are held back now, by name: shown in status.
    pub waiting: Vec<(String, Waiting)>,
    /// Volumes that cannot be had now, by name: nothing starts before them.
    pub volumes_waiting: Vec<(String, Waiting)>,
    /// The pod as a whole is held back.
    pub pod_waiting: Option<Waiting>,
    /// All its containers are taken down to be started again.
    pub restarts_all: bool,
}

/// One step.
#[derive(Debug)]
pub struct Step {
    /// Why, for the log.
    pub why: String,
    /// What.
    pub action: Action,
    /// What a failure of this step means for the steps after it.
    pub on_failure: OnFailure,
}

/// What a failure means for the rest of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The rest is left out; the pod is looked at anew.
    EndPlan,
    /// The other steps are about other containers.
    Continue,
    /// The volumes that come next are still set up; then the rest is left out.
    EndAfterVolumes,
    /// Nothing waits for it: it is tried again later, and the pod goes on meanwhile.
    Later,
}

/// What a step does.
#[derive(Debug)]
pub enum Action {
    /// Make the pod's cgroup and directories.
    Prepare(Vec<HostWork>),
    /// Set a volume up, or write its files anew; nothing is started or stopped for it.
    SetUpVolume(VolumeWork),
    /// Make a sandbox.
    RunSandbox(Box<cri::RunPodSandboxRequest>),
    /// Make sure of an image for the next start of a container.
    ResolveImage(ImageWanted),
    /// Read the files that variables of a container come from, for its next start.
    ReadEnvFiles {
        /// The container.
        container: String,
        /// What to look for, and where.
        reads: Vec<EnvFileRead>,
    },
    /// Create and start a container.
    StartContainer(Box<StartContainer>),
    /// Start a container that was created and never started.
    StartCreated {
        /// Which.
        id: ContainerId,
        /// Its name.
        name: String,
        /// Its attempt.
        attempt: u32,
    },
    /// Run the postStart hook of a container that was started.
    PostStart {
        /// Which.
        id: ContainerId,
        /// Its name.
        name: String,
        /// What to do.
        hook: Hook,
    },
    /// Stop containers, each with its preStop hook before it: all at once, but for those that wait for others.
    StopContainers(Vec<StopContainer>),
    /// Stop a sandbox and all in it.
    StopSandbox(SandboxId),
    /// Remove a container that does not run, with its logs.
    RemoveContainer {
        /// Which.
        id: ContainerId,
        /// Its name.
        name: String,
        /// Its log, rotated parts of it and the link to it; they go once it is gone, where they go with it.
        logs: Option<HostWork>,
        /// When it was seen not running.
        seen: Moment,
    },
    /// Remove a sandbox that is not ready, with the dead containers in it.
    RemoveSandbox {
        /// Which.
        id: SandboxId,
        /// When it was seen not ready.
        seen: Moment,
    },
    /// Take down the pod's host side.
    Release {
        /// What.
        work: Vec<HostWork>,
        /// Whether all of it goes, or what only a running pod needs.
        leaving: Leaving,
        /// When nothing of the pod was seen running.
        seen: Moment,
    },
}

/// An image that a start needs.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageWanted {
    /// Container it is for.
    pub container: String,
    /// Name as the spec has it.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub policy: PullPolicy,
    /// A pull is held back until then; presence is checked all the same.
    pub pull_held_until: Option<Timestamp>,
    /// Credentials that the pod brings along.
    pub pull_secrets: PullSecrets,
    /// Sandbox of the pull, for the runtime's own credentials and accounting.
    pub sandbox_config: Box<cri::PodSandboxConfig>,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Before every start.
    Always,
    /// When it is absent.
    IfNotPresent,
    /// Never.
    Never,
}

/// A start of a container.
#[derive(Debug)]
pub struct StartContainer {
    /// Its name.
    pub name: String,
    /// Restart count it is made with.
    pub restart_count: u32,
    /// Its attempt: as the restart count, unless starts were cut off.
    pub attempt: u32,
    /// The finished request.
    pub request: cri::CreateContainerRequest,
    /// Directories and files to make first.
    pub before: Vec<HostWork>,
    /// Link in the directory of container logs: (directory part and name up to the id; log file).
    pub log_link: Option<LogLink>,
    /// When the previous instance ended, by steady time: the start lengthens its back-off. `None` for a first start.
    pub after_failure: Option<Timestamp>,
}

impl PodPlan {
    /// Adds a step without which the rest is not worth it.
    pub fn push(&mut self, why: &str, action: Action) {
        self.steps.push(Step {
            why: why.to_owned(),
            action,
            on_failure: OnFailure::EndPlan,
        });
    }

    /// Another look at this time at the latest.
    pub fn wake_by(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |old| old.min(at)));
    }
}

impl LogLink {
    /// The link's name; what comes before the id is cut so that the id always stays whole.
    pub fn name(stem: &str, id: &str) -> String {
        let room = 250_usize.saturating_sub(id.len());
        let stem: String = stem.chars().take(room).collect();
        format!("{stem}-{id}.log")
    }
}

impl Action {
    /// The containers that it stops.
    pub fn stops(&self) -> Option<&[StopContainer]> {
        if let Self::StopContainers(stops) = self {
            Some(stops)
        } else {
            None
        }
    }
}

/// A stop of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopContainer {
    /// Which.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// Seconds before it is killed, hook and wait included.
    pub grace_seconds: i64,
    /// What to do first.
    pub hook: Option<Hook>,
    /// Stops of the same step that come before this one, as long as its grace allows.
    pub after: Vec<ContainerId>,
    /// What people are told of it.
    pub why: StopWhy,
}

/// Why a container is stopped, as far as its event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopWhy {
    /// Neither of the others.
    Unwanted,
    /// Another image is wanted in it: it is started again.
    DefinitionChanged,
    /// The runtime does not know what it does.
    UnknownState,
    /// Its postStart hook failed.
    PostStartFailed,
    /// All containers of its pod are started again.
    RestartingAll,
    /// It failed this probe; whether it is started again.
    ProbeFailed(ProbeKind, Restarts),
}

/// Whether a container that is stopped is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restarts {
    /// It is.
    Yes,
    /// The policy does not say so.
    No,
}

impl fmt::Display for PodPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.is_empty() {
            f.write_str("nothing to do")?;
        }
        for (index, step) in self.steps.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{} ({})", step.action, step.why)?;
        }
        for (name, waiting) in &self.waiting {
            write!(f, "; {name} waits: {}", waiting.reason)?;
        }
        for (name, waiting) in &self.volumes_waiting {
            write!(f, "; volume {name} waits: {}", waiting.reason)?;
        }
        if let Some(waiting) = &self.pod_waiting {
            write!(f, "; pod waits: {} {}", waiting.reason, waiting.message)?;
        }
        Ok(())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare(_) => f.write_str("prepare"),
            Self::SetUpVolume(set_up) => write!(f, "set up {}", set_up.volume),
            Self::RunSandbox(request) => {
                let metadata = request.config.as_ref().and_then(|c| c.metadata.as_ref());
                write!(f, "run sandbox[{}]", metadata.map_or(0, |m| m.attempt))
            }
            Self::ResolveImage(wanted) => write!(f, "image {}", wanted.container),
            Self::ReadEnvFiles { container, .. } => write!(f, "read variables of {container}"),
            Self::StartContainer(start) => {
                write!(f, "start {}[{}]", start.name, start.attempt)
            }
            Self::StartCreated { name, .. } => write!(f, "start created {name}"),
            Self::PostStart { name, .. } => write!(f, "postStart hook of {name}"),
            Self::StopContainers(stops) => {
                f.write_str("stop")?;
                for stop in stops {
                    write!(f, " {}/{}s", stop.name, stop.grace_seconds)?;
                }
                Ok(())
            }
            Self::StopSandbox(_) => f.write_str("stop sandbox"),
            Self::RemoveContainer { name, .. } => write!(f, "remove {name}"),
            Self::RemoveSandbox { .. } => f.write_str("remove sandbox"),
            Self::Release { .. } => f.write_str("release"),
        }
    }
}
