//! What is shown of each pod: the object as desired and the status as last computed, both shared.
//!
//! In:    from pod workers
//! Out:   `/pods`; what is written to the API
//! Holds: output only: no decision about pods reads it
//! Upstream: pkg/kubelet/status/status_manager.go

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1;

use crate::ids::PodUid;

/// A pod and its status as shown. Neither is copied until someone asks to see it.
#[derive(Clone, Debug)]
pub struct ReportedPod {
    /// The object as desired.
    pub object: Arc<v1::Pod>,
    /// Its status.
    pub status: Arc<v1::PodStatus>,
    /// How far its worker is.
    pub progress: Progress,
}

/// How far a pod's worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It works on the pod.
    Working,
    /// Nothing of the pod is left on this node; only the API still holds it.
    Finished,
}

/// All reported pods by UID.
pub type ReportedPods = BTreeMap<PodUid, ReportedPod>;
