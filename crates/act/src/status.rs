//! What is shown of each pod: the last status of every pod that has a worker.
//!
//! In:    statuses from pod workers
//! Out:   a snapshot of all pods with their statuses (`/pods`); changes, for tests that wait on them
//! Calls: pod_worker; server reads
//! Holds: output only: no decision about pods reads it; a static pod leaves when its worker has finished, one of the API when it
//!        is gone from there, too
//! Upstream: pkg/kubelet/status/status_manager.go (the part without an API server)

use std::sync::Arc;

use k8s_openapi::api::core::v1;
use kubelet_model::ids::PodUid;
pub use kubelet_model::reported::{Progress, ReportedPod, ReportedPods};
use tokio::sync::watch;

/// Where workers report. Clones share it.
#[derive(Clone, Debug)]
pub struct StatusHandle {
    pods: watch::Sender<ReportedPods>,
}

impl Default for StatusHandle {
    fn default() -> Self {
        Self {
            pods: watch::Sender::new(ReportedPods::new()),
        }
    }
}

impl StatusHandle {
    /// Shows a status; nothing happens when it is shown already. Returns whether anything changed.
    pub fn report(&self, uid: &PodUid, object: &Arc<v1::Pod>, status: v1::PodStatus) -> bool {
        self.pods.send_if_modified(|pods| {
            if let Some(shown) = pods.get(uid)
                && *shown.status == status
                && Arc::ptr_eq(&shown.object, object)
            {
                return false;
            }
            let shown = ReportedPod {
                object: Arc::clone(object),
                status: Arc::new(status),
                progress: Progress::Working,
            };
            pods.insert(uid.clone(), shown);
            true
        })
    }

    /// Nothing of it is left here: it is shown until the API does not hold it any more.
    pub fn finish(&self, uid: &PodUid) {
        self.pods.send_if_modified(|pods| {
            let pod = pods.get_mut(uid);
            pod.is_some_and(|pod| {
                std::mem::replace(&mut pod.progress, Progress::Finished) != Progress::Finished
            })
        });
    }

    /// Shows it no more.
    pub fn forget(&self, uid: &PodUid) {
        self.pods
            .send_if_modified(|pods| pods.remove(uid).is_some());
    }

    /// For readers.
    pub fn subscribe(&self) -> watch::Receiver<ReportedPods> {
        self.pods.subscribe()
    }

    /// The status shown of one pod.
    pub fn shown(&self, uid: &PodUid) -> Option<ReportedPod> {
        self.pods.borrow().get(uid).cloned()
    }
}
