//! The last status of every pod that has a worker, as `/pods` shows it.
//!
//! In:    statuses from pod workers
//! Out:   a snapshot of all pods with their statuses (`/pods`), and what each waits for; which pods changed, for those that look at these alone
//! Calls: pod_worker; server and status_write read
//! Holds: output only: no decision about pods reads it; a static pod is dropped when it is released, a pod of the API when it
//!        is gone there, too
//! Upstream: pkg/kubelet/status/status_manager.go (the part without an API server)

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1;
use kubelet_model::ids::PodUid;
pub use kubelet_model::reported::{Progress, ReportedPod, ReportedPods};
use kubelet_model::story::Wait;
use tokio::sync::{mpsc, watch};

use crate::frame::signal::Signal;

/// Where workers report. Clones share it.
#[derive(Clone, Debug)]
pub struct StatusHandle {
    pods: watch::Sender<ReportedPods>,
    /// Those who want to know which pods changed.
    told: Signal<Vec<mpsc::UnboundedSender<PodUid>>>,
    /// What is only told to those who ask the node: what each pod waits for, and what its worker does.
    notes: Arc<Mutex<BTreeMap<PodUid, Arc<Note>>>>,
}

/// What a pod waits for, and what its worker does, as of its last plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// Waits.
    pub waits: Vec<Wait>,
    /// Steps under way.
    pub doing: Vec<String>,
}

impl Default for StatusHandle {
    fn default() -> Self {
        Self {
            pods: watch::Sender::new(ReportedPods::new()),
            told: Signal::new(Vec::new()),
            notes: Arc::default(),
        }
    }
}

impl StatusHandle {
    /// Shows a status; nothing happens when it is shown already. Returns whether anything changed.
    pub fn report(&self, uid: &PodUid, object: &Arc<v1::Pod>, status: v1::PodStatus) -> bool {
        self.change(uid, |pods| {
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

    /// Shows the same status with a newer object. That is no news to anybody: it came from where the others look, too.
    pub fn refresh(&self, uid: &PodUid, object: &Arc<v1::Pod>) {
        self.pods.send_if_modified(|pods| {
            if let Some(pod) = pods.get_mut(uid) {
                pod.object = Arc::clone(object);
            }
            false
        });
    }

    /// Shows the same status with an object of which more than the status has changed.
    pub fn show_object(&self, uid: &PodUid, object: &Arc<v1::Pod>) {
        self.change(uid, |pods| {
            let shown = pods.get_mut(uid);
            shown.is_some_and(|pod| {
                let before = std::mem::replace(&mut pod.object, Arc::clone(object));
                !Arc::ptr_eq(&before, object)
            })
        });
    }

    /// Notes what a pod waits for. Nobody is woken: what is waited for is mostly a time.
    pub fn note(&self, uid: &PodUid, note: Note) {
        let mut notes = self.notes();
        if note == Note::default() {
            notes.remove(uid);
        } else {
            notes.insert(uid.clone(), Arc::new(note));
        }
    }

    /// What a pod waits for.
    pub fn noted(&self, uid: &PodUid) -> Arc<Note> {
        self.notes().get(uid).cloned().unwrap_or_default()
    }

    fn notes(&self) -> MutexGuard<'_, BTreeMap<PodUid, Arc<Note>>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is released: it is shown until the API does not hold it any more.
    pub fn finish(&self, uid: &PodUid) {
        self.note(uid, Note::default());
        self.change(uid, |pods| {
            let pod = pods.get_mut(uid);
            pod.is_some_and(|pod| {
                std::mem::replace(&mut pod.progress, Progress::Finished) != Progress::Finished
            })
        });
    }

    /// Shows it no more.
    pub fn forget(&self, uid: &PodUid) {
        self.note(uid, Note::default());
        self.change(uid, |pods| pods.remove(uid).is_some());
    }

    /// Changes what is shown of one pod, and tells of it afterwards.
    fn change(&self, uid: &PodUid, change: impl FnOnce(&mut ReportedPods) -> bool) -> bool {
        let is_changed = self.pods.send_if_modified(change);
        if is_changed {
            self.told.look(|told| {
                for reader in told {
                    // A reader that is gone reads nothing.
                    let _sent = reader.send(uid.clone());
                }
            });
        }
        is_changed
    }

    /// The pods that are shown now, then each that changes or goes. Whoever asks takes them as they come.
    pub fn changes(&self) -> mpsc::UnboundedReceiver<PodUid> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.told.change(|told| {
            told.retain(|reader| !reader.is_closed());
            told.push(sender.clone());
        });
        // Asked for first: one that changes meanwhile is told twice, which is harmless.
        for uid in self.pods.borrow().keys() {
            let _sent = sender.send(uid.clone());
        }
        receiver
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_of_a_pod_is_told_once_and_what_was_there_before_too() {
        let (handle, object) = (StatusHandle::default(), Arc::new(v1::Pod::default()));
        let (one, two) = (PodUid::parse("1").unwrap(), PodUid::parse("2").unwrap());
        handle.report(&one, &object, v1::PodStatus::default());
        let mut changes = handle.changes();
        let mut told = || {
            let mut told = Vec::new();
            while let Ok(uid) = changes.try_recv() {
                told.push(uid.to_string());
            }
            told.join(" ")
        };
        assert_eq!(told(), "1");
        handle.report(&one, &object, v1::PodStatus::default());
        assert_eq!(told(), "", "nothing changed");
        handle.report(&two, &object, v1::PodStatus::default());
        handle.finish(&one);
        handle.finish(&one);
        assert_eq!(told(), "2 1");
        handle.forget(&one);
        assert_eq!(told(), "1");
    }

    #[test]
    fn what_a_pod_waits_for_is_told_until_it_is_released() {
        let (handle, uid) = (StatusHandle::default(), PodUid::parse("1").unwrap());
        let note = Note {
            waits: Vec::new(),
            doing: vec!["starting container c".to_owned()],
        };
        handle.note(&uid, note.clone());
        assert_eq!(*handle.noted(&uid), note);
        handle.finish(&uid);
        assert_eq!(*handle.noted(&uid), Note::default());
        handle.note(&uid, note.clone());
        handle.note(&uid, Note::default());
        assert!(handle.notes().is_empty(), "nothing is kept of a quiet pod");
    }
}
