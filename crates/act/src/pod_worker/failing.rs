//! What a worker remembers of a step that failed: who waits for what, and until when.
//!
//! In:    the failure
//! Out:   waits that status shows, back-off of images, the time of the next try
//! Calls: pod_worker
//! Holds: a failure of one container holds back that container alone
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_manager.go (SyncPod), images/image_manager.go (back-off)

use jiff::{SignedDuration, Timestamp};
use kubelet_decide::restart::BackOff;
use kubelet_decide::view::{ImageBackOff, Waiting};
use kubelet_model::reason::Reason;

use super::PodWorker;
use crate::execute::Failure;

/// Longest wait before something that failed is tried again, seconds.
const LONGEST_RETRY_SECONDS: i64 = 10;

impl PodWorker {
    pub(super) fn remember_failure(&mut self, failure: Failure) {
        tracing::warn!(uid = %self.uid, container = failure.container.as_deref().unwrap_or("-"), reason = %failure.reason, why = %failure.message, "Step failed");
        let now = self.now();
        let waiting = Waiting {
            reason: failure.reason,
            message: failure.message.clone(),
        };
        let Some(name) = failure.container else {
            self.pod_waiting = Some(waiting);
            self.retry_at = Some(self.next_retry());
            return;
        };
        self.resolved.remove(&name);
        match failure.image {
            Some(image) if image.pull_failed => {
                let old = self
                    .record
                    .image_back_off
                    .get(&name)
                    .map(|b| b.back_off.clone());
                let cap = self.parts.node.max_backoff_seconds.max(300);
                let back_off = BackOff::next(old.as_ref(), &image.image, now, now, cap);
                let entry = ImageBackOff {
                    image: image.image,
                    back_off,
                    message: failure.message,
                    looked_at: now,
                };
                self.record.image_back_off.insert(name.clone(), entry);
            }
            // Only what is held back waits for its next look; any other failure is tried again by itself.
            Some(_) if waiting.reason == Reason::ImagePullBackOff => {
                if let Some(back_off) = self.record.image_back_off.get_mut(&name) {
                    back_off.looked_at = now;
                }
            }
            Some(_) | None => {
                let until = self.next_retry();
                self.held.insert(name.clone(), until);
            }
        }
        self.waiting.insert(name, waiting);
    }

    /// 1, 2, 4, 8, 10, 10 … seconds from now.
    pub(super) fn next_retry(&mut self) -> Timestamp {
        let seconds = 1_i64
            .checked_shl(self.failures)
            .unwrap_or(LONGEST_RETRY_SECONDS)
            .clamp(1, LONGEST_RETRY_SECONDS);
        self.failures = self.failures.saturating_add(1).min(16);
        let now = self.now();
        now.saturating_add(SignedDuration::from_secs(seconds))
            .unwrap_or(now)
    }
}
