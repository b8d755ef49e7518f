//! The pods, then each that changes: one reader's place in them.
//!
//! In:    the snapshot of reported pods and its changes
//! Out:   [`Change`]s
//! Calls: the watches of both services
//! Holds: nothing waits for a reader and nothing is dropped: what it is given is the last state of a pod; it holds at most one shared
//!        state of each pod
//! Upstream: pkg/kubelet/apis/pods/server.go (broadcaster); differences: no queues, no dropped clients

use std::collections::VecDeque;
use std::sync::Arc;

use kubelet_model::reported::{ReportedPod, ReportedPods};
use tokio::sync::watch;

/// What a reader is told.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// It was there at the begin, or is new.
    Added(ReportedPod),
    /// Its object or its status changed.
    Modified(ReportedPod),
    /// It is gone; this was its last state.
    Gone(ReportedPod),
    /// All pods of the begin were told.
    Complete,
}

/// One reader.
#[derive(Debug)]
pub(crate) struct Changes {
    pods: watch::Receiver<ReportedPods>,
    known: ReportedPods,
    coming: VecDeque<Change>,
}

impl Changes {
    pub(crate) fn new(mut pods: watch::Receiver<ReportedPods>) -> Self {
        let known = pods.borrow_and_update().clone();
        let all = known.values().cloned().map(Change::Added);
        let coming = all.chain([Change::Complete]).collect();
        Self {
            pods,
            known,
            coming,
        }
    }

    /// The next one; `None` when the kubelet stops. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Change> {
        while self.coming.is_empty() {
            self.pods.changed().await.ok()?;
            let now = self.pods.borrow_and_update().clone();
            self.coming = differences(&self.known, &now);
            self.known = now;
        }
        self.coming.pop_front()
    }
}

fn differences(before: &ReportedPods, now: &ReportedPods) -> VecDeque<Change> {
    let gone = before.iter().filter(|(uid, _)| !now.contains_key(*uid));
    let gone = gone.map(|(_, pod)| Change::Gone(pod.clone()));
    let told = now.iter().filter_map(|(uid, pod)| match before.get(uid) {
        None => Some(Change::Added(pod.clone())),
        Some(old) if is_same(old, pod) => None,
        Some(_) => Some(Change::Modified(pod.clone())),
    });
    gone.chain(told).collect()
}

fn is_same(old: &ReportedPod, new: &ReportedPod) -> bool {
    Arc::ptr_eq(&old.object, &new.object) && Arc::ptr_eq(&old.status, &new.status)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use kubelet_model::ids::PodUid;
    use kubelet_model::reported::Progress;

    use super::*;

    fn pod() -> ReportedPod {
        ReportedPod {
            object: Arc::default(),
            status: Arc::default(),
            progress: Progress::Working,
        }
    }

    fn told(changes: &mut Changes) -> String {
        let mut told = Vec::new();
        while let Some(Some(change)) = changes.next().now_or_never() {
            told.push(match change {
                Change::Added(_) => "added",
                Change::Modified(_) => "modified",
                Change::Gone(_) => "gone",
                Change::Complete => "complete",
            });
        }
        told.join(" ")
    }

    #[test]
    fn a_reader_is_told_the_last_state_of_each_pod_once() {
        let (one, two) = (PodUid::parse("1").unwrap(), PodUid::parse("2").unwrap());
        let (set, pods) = watch::channel(ReportedPods::from([(one.clone(), pod())]));
        let mut changes = Changes::new(pods);
        assert_eq!(told(&mut changes), "added complete");
        for _ in 0..100 {
            set.send_modify(|pods| drop(pods.insert(one.clone(), pod())));
        }
        set.send_modify(|pods| drop(pods.insert(two.clone(), pod())));
        assert_eq!(told(&mut changes), "modified added");
        set.send_modify(|_| {});
        assert_eq!(told(&mut changes), "", "nothing changed");
        set.send_modify(|pods| drop(pods.remove(&one)));
        assert_eq!(told(&mut changes), "gone");
        drop(set);
        assert!(changes.next().now_or_never().unwrap().is_none());
    }
}
