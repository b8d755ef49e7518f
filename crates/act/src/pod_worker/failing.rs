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
use kubelet_model::observed::ObservedPod;
use kubelet_model::reason::Reason;

use super::PodWorker;
use crate::execute::Failure;

/// Longest wait before something that failed is tried again, seconds.
const LONGEST_RETRY_SECONDS: i64 = 10;

/// Failures are counted up to here.
const MOST_FAILURES: u32 = 16;

/// 1, 2, 4, 8, 10, 10 … seconds.
fn retry_seconds(failures: u32) -> i64 {
    let doubled = 1_i64.checked_shl(failures);
    doubled.map_or(LONGEST_RETRY_SECONDS, |seconds| {
        seconds.clamp(1, LONGEST_RETRY_SECONDS)
    })
}

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
                let until = self.next_try_of(&name);
                self.held.insert(name.clone(), until);
            }
        }
        self.waiting.insert(name, waiting);
    }

    /// A start that failed and left an instance that ended is a crash like any other: its back-off holds it, and nothing else.
    pub(super) fn leave_to_back_off(&mut self, name: &str, observed: &ObservedPod) {
        let newest = observed.instances(name).next();
        let has_ended = newest.is_some_and(|container| container.state.exit().is_some());
        let waiting = self.waiting.get(name);
        if has_ended && waiting.is_some_and(|w| w.reason == Reason::RunContainerError) {
            self.held.remove(name);
        }
    }

    /// When the pod is tried again.
    pub(super) fn next_retry(&mut self) -> Timestamp {
        let seconds = retry_seconds(self.failures);
        self.failures = self.failures.saturating_add(1).min(MOST_FAILURES);
        self.seconds_from_now(seconds)
    }

    /// When the container is tried again. Only that it runs starts the count anew: an earlier step of the next try that succeeds, such
    /// as the look at its image, does not.
    fn next_try_of(&mut self, name: &str) -> Timestamp {
        let tries = self.tries.entry(name.to_owned()).or_default();
        let seconds = retry_seconds(*tries);
        *tries = tries.saturating_add(1).min(MOST_FAILURES);
        self.seconds_from_now(seconds)
    }

    fn seconds_from_now(&self, seconds: i64) -> Timestamp {
        let now = self.now();
        now.saturating_add(SignedDuration::from_secs(seconds))
            .unwrap_or(now)
    }
}
