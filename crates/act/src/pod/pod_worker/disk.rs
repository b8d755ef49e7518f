//! What a pod worker knows of its pod's directories.
//!
//! In:    the disk, once nothing of the pod runs
//! Out:   the evidence that the removal carries
//! Calls: pod_worker
//! Holds: inspected once for each removal that is decided, and again only after it was carried out; while the directories cannot
//!        be inspected, nothing is removed and the pod does not count as gone
//! Upstream: none (there what bears the name at the time is removed)

use kubelet_decide::shapes::paths::pod_dir;
use kubelet_decide::shapes::waiting::Waiting;
use kubelet_model::pod::Pod;

use super::PodWorker;

impl PodWorker {
    /// Whether the pod has a directory of its own.
    pub(super) async fn has_directory(&self, pod: &Pod) -> bool {
        let path = pod_dir(pod, &self.parts.node);
        self.parts.executor.host.is_there(pod, &path).await
    }

    /// Looks at the directories before their removal is decided.
    pub(super) async fn see_dirs(&mut self, pod: &Pod) {
        if !self.memory.wants_dirs(self.now()) {
            return;
        }
        let host = &self.parts.executor.host;
        match host.see_pod_dirs(pod, &self.parts.node).await {
            Ok(dirs) => self.memory.dirs = Some(dirs),
            Err(error) => {
                tracing::warn!(why = %error, "Directories of a pod could not be looked at; nothing of it is removed");
                let why = Waiting {
                    reason: error.reason,
                    message: error.message,
                };
                self.memory.could_not_see_dirs(why, self.now());
            }
        }
    }
}
