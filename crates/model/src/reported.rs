//! The reported state of each pod: the desired object and the last computed status, both shared.
//!
//! In:    from pod workers
//! Out:   `/pods`; the status updates for the API server
//! Holds: output only: no decision about a pod reads it
//! Upstream: pkg/kubelet/status/status_manager.go

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1;

use crate::ids::PodUid;

/// A pod and its reported status, not copied until they are rendered.
#[derive(Clone, Debug)]
pub struct ReportedPod {
    /// The desired object.
    pub object: Arc<v1::Pod>,
    /// Its status.
    pub status: Arc<v1::PodStatus>,
    /// The progress of its worker.
    pub progress: Progress,
}

/// The progress of a pod worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The worker is active.
    Working,
    /// Nothing of the pod runs or lies on this node any more; the API server still has it, and perhaps the runtime its stopped
    /// sandboxes.
    Finished,
}

/// All reported pods by UID.
pub type ReportedPods = BTreeMap<PodUid, ReportedPod>;
