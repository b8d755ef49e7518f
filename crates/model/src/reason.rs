//! Every reason in our statuses and events, byte for byte upstream's.
//!
//! In:    nothing
//! Out:   `Reason`, for `status.reason`, `waiting.reason`, `terminated.reason`, conditions
//! Holds: one variant per text; `as_str` is a plain table
//! Upstream: pkg/kubelet/events/event.go, pkg/kubelet/images/types.go, pkg/kubelet/kuberuntime/kuberuntime_container.go

use std::fmt;

/// A reason.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// Waiting: nothing was tried yet; the pod has no init containers.
    ContainerCreating,
    /// Waiting: init containers run first.
    PodInitializing,
    /// Waiting: crash-loop back-off.
    CrashLoopBackOff,
    /// Waiting: the image pull failed.
    ErrImagePull,
    /// Waiting: image pull back-off.
    ImagePullBackOff,
    /// Waiting: the image is absent and the pull policy is Never.
    ErrImageNeverPull,
    /// Waiting: the image name is invalid.
    InvalidImageName,
    /// Waiting: the runtime could not report whether the image is present.
    ImageInspectError,
    /// Waiting: the container's configuration could not be built.
    CreateContainerConfigError,
    /// Waiting: the runtime failed to create it.
    CreateContainerError,
    /// Waiting: the runtime failed to start it.
    RunContainerError,
    /// Waiting: its postStart hook failed.
    PostStartHookError,
    /// Waiting: all containers of its pod are started again.
    RestartingAllContainers,
    /// Condition: a container's exit takes all containers of its pod down.
    RestartAllContainersStarted,
    /// Condition: the kubelet ended the pod for others.
    TerminationByKubelet,
    /// Pod level: the sandbox could not be created.
    CreatePodSandboxError,
    /// Pod level: held, since a field is not supported here.
    UnsupportedField,
    /// Pod level: another pod with its namespace and name has to end first (ours; upstream shows nothing).
    WaitingForName,
    /// Pod level: terminating pods use what it needs (ours; upstream rejects the pod).
    WaitingForRoom,
    /// Pod level: it was created again, and the runtime has not removed the rest of its earlier life yet (ours; upstream
    /// shows nothing).
    WaitingForRemoval,
    /// Pod level: a volume could not be set up.
    FailedMount,
    /// Pod level: the pod's cgroup could not be created.
    FailedToCreatePodContainer,
    /// Terminated: exit code other than 0.
    Error,
    /// Terminated: killed by the OOM killer.
    OomKilled,
    /// Terminated: how it ended is unknown.
    ContainerStatusUnknown,
    /// Condition: not all containers are ready.
    ContainersNotReady,
    /// Condition: init containers are not completed.
    ContainersNotInitialized,
    /// Condition: a readiness gate is not true yet.
    ReadinessGatesNotReady,
    /// Condition: the pod succeeded.
    PodCompleted,
    /// Condition: the pod failed.
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
            Self::PostStartHookError => "PostStartHookError",
            Self::RestartingAllContainers => "RestartingAllContainers",
            Self::RestartAllContainersStarted => "RestartAllContainersStarted",
            Self::TerminationByKubelet => "TerminationByKubelet",
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
