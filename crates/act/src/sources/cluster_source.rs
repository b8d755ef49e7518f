//! Step 1 for pods of the API server: passes its whole sets on as one more source.
//!
//! In:    sets of the watch on our node's pods (`cluster/pods`), `None` until there is a whole one
//! Out:   [`SourceSnapshot`]s to the sync loop
//! Calls: wiring, where a cluster was joined
//! Holds: nothing is sent before the first complete set, so nothing is removed while the server does not answer; mirror pods are
//!        counted and left out
//! Upstream: pkg/kubelet/config/apiserver.go

use std::sync::Arc;

use kubelet_cluster::pods::PodSet;
use kubelet_model::pod::SourceKind;
use tokio::sync::{mpsc, watch};

use crate::sources::SourceSnapshot;

/// Hands sets on until nobody takes them, or the watch has ended.
pub async fn follow(
    mut sets: watch::Receiver<Option<Arc<PodSet>>>,
    sender: mpsc::Sender<SourceSnapshot>,
) {
    loop {
        let set = sets.borrow_and_update().clone();
        if let Some(set) = set {
            let snapshot = SourceSnapshot {
                source: SourceKind::Api,
                pods: set.pods.clone(),
                mirrors: set.mirrors.len(),
            };
            if sender.send(snapshot).await.is_err() {
                return;
            }
        }
        if sets.changed().await.is_err() {
            return;
        }
    }
}
