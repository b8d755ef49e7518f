//! How a pod's record begins, and what of it a restart of the kubelet must find again: since when the pod is active, what its handler can do.
//!
//! In:    the record of an earlier process, the first look, what the runtime said
//! Out:   the record, and the steady time that deadlines count from
//! Calls: pod_worker
//! Holds: a record of a life that is over is not used, but while the pod is being removed there is no other life, and its record keeps
//!        its exits until the API has them; what counts from a record never counts from later than now
//! Upstream: none (there status at the API server takes its place)

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kubelet_decide::adopt::record_of_status;
use kubelet_decide::cut_off::{Starts, starts_of};
use kubelet_decide::lifecycle::Lifecycle;
use kubelet_decide::plan::PodPlan;
use kubelet_decide::pod_status::exit_of_lost;
use kubelet_decide::restart::lengthen;
use kubelet_decide::runtime_class::recursive_read_only_to_remember;
use kubelet_decide::view::{Desire, PodRecord};
use kubelet_model::observed::ObservedPod;
use kubelet_model::pod::Pod;

use super::{Order, PodWorker};
use crate::clock::Clock;
use crate::faults::Planted;
use crate::records::POD_PREFIX;

impl PodWorker {
    /// Once, with the first look: the record may be of a life that has ended since.
    pub(super) fn doubt_record(&mut self, observed: &ObservedPod) {
        if std::mem::replace(&mut self.is_doubted, true) {
            return;
        }
        let is_of_nothing = self.is_of_nothing(observed);
        if !is_of_nothing && !self.record.is_outlived(observed) || self.is_being_removed() {
            return;
        }
        tracing::warn!(uid = %self.uid, seen = %observed, "Record is of an earlier life of the pod and is not used");
        // What the API shows of it does not go back all the same.
        let pod = Arc::clone(&self.orders.borrow().pod);
        let status = pod.object.status.as_ref().filter(|_| !pod.is_static());
        self.record = status.and_then(record_of_status).unwrap_or_default();
        self.take_up();
        self.life = Lifecycle::Syncing;
    }

    /// Whether the pod is to go: then it does not live again, and what is known of its end is of this life.
    fn is_being_removed(&self) -> bool {
        let forgets = self.parts.executor.faults.planted() == Planted::ForgetsEnds;
        matches!(self.orders.borrow().desire, Desire::Stop { .. }) && !forgets
    }

    /// The record goes with its pod. That of a pod of the API stays until its source names it no more: the last status is not written
    /// yet, and nobody but the record knows the exits.
    pub(super) fn drop_record(&self) {
        let forgets = self.parts.executor.faults.planted() == Planted::ForgetsEnds;
        if self.orders.borrow().pod.is_static() || forgets {
            let key = format!("{POD_PREFIX}{}", self.uid);
            self.parts.records.remove(&key);
        }
    }

    /// What of a container runs is kept until its exit is: should it vanish, that much is known.
    pub(super) fn note_run(&mut self, name: &str, observed: &ObservedPod) {
        let newest = observed.instances(name).next();
        if let Some(run) = newest.and_then(exit_of_lost) {
            self.record.running.insert(name.to_owned(), run);
        } else if newest.is_some_and(|container| container.state.exit().is_some()) {
            self.record.running.remove(name);
        }
    }

    /// Kept before the runtime is asked to start anything: should nobody be here to be answered, it is known what came to nothing.
    pub(super) fn note_starts(&mut self, pod: &Pod, plan: &PodPlan) -> Starts {
        let starts = starts_of(plan);
        if starts.is_empty() {
            return starts;
        }
        if self.parts.executor.faults.planted() != Planted::ForgetsStarts {
            self.record.begin_starts(&starts);
        }
        let (now, cap) = (self.now(), self.parts.node.max_backoff_seconds);
        lengthen(&mut self.record.restart_back_off, pod, plan, now, cap);
        self.save();
        starts
    }

    /// The pod as it was just looked at, without what never ran because its start was cut off.
    pub(super) fn settle_starts(&mut self, observed: Arc<ObservedPod>) -> Arc<ObservedPod> {
        self.record.settle_starts(&observed);
        self.record.set_apart_cut_off(observed)
    }

    /// As [`Self::note_lost`], and kept before anything is shown of it.
    pub(super) fn keep_lost(&mut self, observed: &ObservedPod) {
        let before = self.record.running.len();
        self.note_lost(observed);
        if self.record.running.len() != before {
            self.save();
        }
    }

    /// What was seen to run and is nowhere any more, of a pod that ends.
    pub(super) fn note_lost(&mut self, observed: &ObservedPod) {
        if self.life.rank() > 0 && self.parts.executor.faults.planted() != Planted::ForgetsEnds {
            let now = self.now();
            self.record.give_up_lost(observed, now);
        }
    }

    /// Whether it tells of sandboxes while neither the runtime nor the disk has anything of the pod: then it was removed, and what was
    /// written of that got lost.
    fn is_of_nothing(&self, observed: &ObservedPod) -> bool {
        if !self.orders.borrow().pod.is_static() {
            // A UID of the API is given once: what is gone was lost, and comes again as another run of the same life.
            return false;
        }
        let had_sandboxes = self
            .record
            .sandboxes
            .as_ref()
            .is_some_and(|s| !s.is_empty());
        had_sandboxes && observed.is_absent() && !self.had_directory
    }

    /// From here on the pod is active.
    pub(super) fn take_up(&mut self) {
        self.record.start_time = Some(self.wall());
        self.record.active_since = self.parts.executor.clock.boot_moment();
        self.active_since = Some(self.now());
    }

    /// The steady time of something that the runtime dates by the wall clock, as far as it can be known: never later than now.
    pub(super) fn steady_of(&self, wall: Timestamp) -> Timestamp {
        let age = self.wall().duration_since(wall).max(SignedDuration::ZERO);
        self.now().saturating_sub(age).unwrap_or(self.now())
    }

    /// Keeps what was said of the pod's handler, for the status after a restart.
    pub(super) fn remember_handler(&mut self, order: &Order, observed: &ObservedPod) {
        let network = self.parts.network.look(Clone::clone);
        let said =
            recursive_read_only_to_remember(&self.view(order, observed, &self.life, &network));
        if said.is_some() && said != self.record.recursive_read_only {
            self.record.recursive_read_only = said;
            self.save();
        }
    }
}

/// Since when the pod of an earlier process's record is active, by steady time: by the machine's own count where that is of this boot,
/// else as the wall clock has it, never later than now.
pub(super) fn active_since(clock: &Clock, record: &PodRecord) -> Option<Timestamp> {
    let counted = record.active_since.as_ref();
    counted
        .and_then(|moment| clock.steady_of_boot(moment))
        .or_else(|| {
            let age = clock.now().duration_since(record.start_time?);
            let now = clock.steady();
            now.checked_sub(age.max(SignedDuration::ZERO)).ok()
        })
}
