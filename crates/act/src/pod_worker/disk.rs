//! What a worker knows of its pod's directories.
//!
//! In:    the disk, once nothing of the pod runs
//! Out:   the evidence that the removal carries
//! Calls: pod_worker
//! Holds: looked at once for each removal that is decided, and again only after it was carried out; while it can not be looked at,
//!        nothing is removed and the pod does not count as gone
//! Upstream: none (there what bears the name at the time is removed)

use kubelet_decide::lifecycle::Lifecycle;
use kubelet_decide::view::{Prepared, Waiting};
use kubelet_decide::volumes::pod_dir;
use kubelet_model::pod::Pod;

use super::PodWorker;

impl PodWorker {
    /// A record may be lost with the journal; what ran here before has its directory all the same.
    pub(super) async fn find_directory(&mut self, pod: &Pod) {
        let path = pod_dir(pod, &self.parts.node);
        self.had_directory = self.parts.executor.host.is_there(pod, &path).await;
    }

    /// Looks at the directories before their removal is decided.
    pub(super) async fn see_dirs(&mut self, pod: &Pod) {
        let is_over = matches!(self.life, Lifecycle::Terminated { .. });
        let is_due = match self.prepared {
            Prepared::No | Prepared::Yes => is_over,
            Prepared::Ended => is_over && self.life.is_leaving(),
            Prepared::Released => false,
        };
        if !is_due || self.dirs.is_some() || self.retry_at.is_some_and(|at| at > self.now()) {
            return;
        }
        match self
            .parts
            .executor
            .host
            .see_pod_dirs(pod, &self.parts.node)
            .await
        {
            Ok(dirs) => self.dirs = Some(dirs),
            Err(error) => {
                tracing::warn!(uid = %self.uid, why = %error, "Directories of a pod could not be looked at; nothing of it is removed");
                self.pod_waiting = Some(Waiting {
                    reason: error.reason,
                    message: error.message,
                });
                self.retry_at = Some(self.next_retry());
            }
        }
    }
}
