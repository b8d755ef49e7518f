//! What a pod or a container waits for, as its status shows it.
//!
//! In:    nothing
//! Out:   [`Waiting`]
//! Calls: every other file
//! Holds: a wait always has a reason and a text
//! Upstream: k8s.io/api/core/v1 (ContainerStateWaiting)

use kubelet_model::reason::Reason;

/// Why a container or pod waits, as status shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The reason.
    pub reason: Reason,
    /// The text.
    pub message: String,
}
