//! Every reason string that a status or an event of ours can carry, in one place, byte for byte upstream's.
//!
//! In:    nothing
//! Out:   `Reason`, printed into `status.reason`, `waiting.reason`, `terminated.reason`, conditions
//! Holds: one variant per string; `as_str` is a plain table
//! Upstream: pkg/kubelet/events/event.go, pkg/kubelet/images/types.go, pkg/kubelet/kuberuntime/kuberuntime_container.go

use std::fmt;

/// A reason that people and programs read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// Waiting: nothing was tried yet, the pod has no init containers.
    ContainerCreating,
    /// Waiting: init containers come first.
    PodInitializing,
    /// Waiting: crash-loop back-off.
    CrashLoopBackOff,
    /// Waiting: the pull failed.
    ErrImagePull,
    /// Waiting: pulls are backed off.
    ImagePullBackOff,
    /// Waiting: absent, and policy Never.
    ErrImageNeverPull,
    /// Waiting: the image's name does not parse.
    InvalidImageName,
    /// Waiting: the runtime could not be asked for the image.
    ImageInspectError,
    /// Waiting: the configuration of the container could not be built.
    CreateContainerConfigError,
    /// Waiting: the runtime refused to create it.
    CreateContainerError,
    /// Waiting: the runtime refused to start it.
    RunContainerError,
    /// Pod level: the sandbox could not be made.
    CreatePodSandboxError,
    /// Pod level: held, a field is not supported here.
    UnsupportedField,
    /// Pod level: another pod of its namespace and name has to end first (ours; upstream shows nothing).
    WaitingForName,
    /// Pod level: pods that are ending take what it needs (ours; upstream rejects it).
    WaitingForRoom,
    /// Pod level: it came back, and the runtime does not remove what is left of its earlier life (ours; upstream shows nothing).
    WaitingForRemoval,
    /// Pod level: a volume could not be set up.
    FailedMount,
    /// Pod level: the pod's cgroup could not be made.
    FailedToCreatePodContainer,
    /// Terminated: exit code not 0.
    Error,
    /// Terminated: the kernel killed it.
    OomKilled,
    /// Terminated: nobody knows how it ended.
    ContainerStatusUnknown,
    /// Condition: not all containers are ready.
    ContainersNotReady,
    /// Condition: init containers are not done.
    ContainersNotInitialized,
    /// Condition: somebody else has not said yet that it is ready.
    ReadinessGatesNotReady,
    /// Condition: the pod has ended well.
    PodCompleted,
    /// Condition: the pod has ended badly.
    PodFailed,
    /// Network: the runtime's network is not ready.
    NetworkNotReady,
}

impl Reason {
    /// The exact text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ContainerCreating => "ContainerCreating",
            Self::PodInitializing => "PodInitializing",
            Self::CrashLoopBackOff => "CrashLoopBackOff",
            Self::ErrImagePull => "ErrImagePull",
            Self::ImagePullBackOff => "ImagePullBackOff",
            Self::ErrImageNeverPull => "ErrImageNeverPull",
            Self::InvalidImageName => "InvalidImageName",
            Self::ImageInspectError => "ImageInspectError",
            Self::CreateContainerConfigError => "CreateContainerConfigError",
            Self::CreateContainerError => "CreateContainerError",
            Self::RunContainerError => "RunContainerError",
            Self::CreatePodSandboxError => "CreatePodSandboxError",
            Self::UnsupportedField => "UnsupportedField",
            Self::WaitingForName => "WaitingForName",
            Self::WaitingForRoom => "WaitingForRoom",
            Self::WaitingForRemoval => "WaitingForRemoval",
            Self::FailedMount => "FailedMount",
            Self::FailedToCreatePodContainer => "FailedToCreatePodContainer",
            Self::Error => "Error",
            Self::OomKilled => "OOMKilled",
            Self::ContainerStatusUnknown => "ContainerStatusUnknown",
            Self::ContainersNotReady => "ContainersNotReady",
            Self::ContainersNotInitialized => "ContainersNotInitialized",
            Self::ReadinessGatesNotReady => "ReadinessGatesNotReady",
            Self::PodCompleted => "PodCompleted",
            Self::PodFailed => "PodFailed",
            Self::NetworkNotReady => "NetworkNotReady",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
