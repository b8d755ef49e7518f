//! Why a pod was not admitted.
//!
//! In:    nothing
//! Out:   [`Rejection`]
//! Calls: pod/admission, pod, report
//! Holds: reasons and messages are upstream's
//! Upstream: pkg/kubelet/lifecycle/predicate.go

use serde::{Deserialize, Serialize};

/// How the message of the status begins.
pub(crate) const REJECTED_PREFIX: &str = "Pod was rejected: ";

/// How the reason of a resource that lacks begins; the resource's name follows.
pub(crate) const OUT_OF: &str = "OutOf";

/// Why a pod was rejected, in the status's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// `status.reason`, such as `OutOfcpu`.
    pub reason: String,
    /// The text behind it; the status puts `Pod was rejected: ` before it, an event does not.
    pub message: String,
}

impl Rejection {
    pub(crate) fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
        }
    }

    pub(crate) fn predicate(name: &str, description: &str) -> Self {
        Self::new(name, format!("Predicate {name} failed: {description}"))
    }

    /// The own Node may have changed and not be seen yet: worth another look before it is final.
    pub fn is_of_labels(&self) -> bool {
        self.reason == "NodeAffinity"
    }

    /// The resource that it lacks, which others may be ended for; nobody is ended for a port.
    pub fn resource(&self) -> Option<&str> {
        self.reason.strip_prefix(OUT_OF)
    }

    /// The text of the status.
    pub fn status_message(&self) -> String {
        format!("{REJECTED_PREFIX}{}", self.message)
    }
}
