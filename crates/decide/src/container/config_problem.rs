//! Why a CRI message could not be built from a pod.
//!
//! In:    nothing
//! Out:   `ConfigProblem`: the reason that a status shows, and upstream's message for it
//! Calls: every builder of sandbox and container messages
//! Holds: messages are upstream's texts; people and programs match on them
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_container.go (ErrCreateContainerConfig)

use kubelet_model::objects::ObjectState;
use kubelet_model::pod::Pod;
use kubelet_model::reason::Reason;

/// A pod or container whose message cannot be built as it is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigProblem {
    /// What the status shows.
    pub reason: Reason,
    /// What it is about, for people.
    pub message: String,
}

impl ConfigProblem {
    /// A problem of one container: it waits with `CreateContainerConfigError`.
    pub fn container(message: impl Into<String>) -> Self {
        Self {
            reason: Reason::CreateContainerConfigError,
            message: message.into(),
        }
    }

    /// A problem of the whole pod: its sandbox cannot be made.
    pub fn sandbox(message: impl Into<String>) -> Self {
        Self {
            reason: Reason::CreatePodSandboxError,
            message: message.into(),
        }
    }

    /// The same problem, seen while the sandbox is built.
    #[must_use]
    pub fn for_sandbox(self, pod: &Pod) -> Self {
        Self::sandbox(format!(
            "Failed to generate sandbox config for pod \"{}\": {}",
            pod_text(pod),
            self.message
        ))
    }
}

/// `name_namespace(uid)`, as messages name a pod.
pub fn pod_text(pod: &Pod) -> String {
    format!(
        "{}_{}({})",
        pod.full_name.name, pod.full_name.namespace, pod.uid
    )
}

/// Upstream's error for an object that cannot be had.
pub(crate) fn object_text<T>(
    kind: &str,
    namespace: &str,
    name: &str,
    state: Option<&ObjectState<T>>,
) -> String {
    match state {
        Some(ObjectState::Absent { .. }) => format!("{kind} \"{name}\" not found"),
        Some(ObjectState::Asked { why } | ObjectState::Unknown { why }) => why.clone(),
        // Known is no error; without an entry nobody was asked to watch it.
        Some(ObjectState::Known(_)) | None => {
            format!("object \"{namespace}\"/\"{name}\" not registered")
        }
    }
}
