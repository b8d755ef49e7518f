//! The record of a pod worker's memory: validated against the node at the first inspection, written when it changes, dropped at the end.
//!
//! In:    what changes the memory
//! Out:   the record on the disk
//! Calls: pod_worker
//! Holds: the record is dropped with its pod; the record of a pod of the API stays until its source drops the pod: until then
//!        the last status may not be written, and only the record knows the exits
//! Upstream: none (there status at the API server takes its place)

use std::sync::Arc;

use kubelet_decide::pod::memory::Begun;
use kubelet_decide::shapes::memory::PodMemory;
use kubelet_decide::shapes::plan::PodPlan;
use kubelet_decide::shapes::view::{Desire, Order};
use kubelet_model::ids::ContainerId;
use kubelet_model::observed::ObservedPod;
use kubelet_model::pod::Pod;

use super::PodWorker;
use crate::frame::faults::Planted;
use crate::frame::records::POD_PREFIX;

impl PodWorker {
    /// Once, with the first look: the record may be of a life that has ended since.
    pub(super) fn doubt_record(&mut self, order: &Order, observed: &ObservedPod) {
        let desire = match self.forgets_ends() {
            true => Desire::Run,
            false => order.desire.clone(),
        };
        let order = Order {
            pod: Arc::clone(&order.pod),
            desire,
        };
        let (now, boot) = (self.now(), self.parts.executor.clock.boot_moment());
        if self.memory.validate_record(&order, observed, now, boot) {
            tracing::warn!(seen = %observed, "Record is of an earlier life of the pod and is not used");
        }
    }

    /// Kept before the runtime is asked to start anything.
    pub(super) fn note_starts(&mut self, pod: &Pod, plan: &PodPlan) -> Begun {
        let (now, node) = (self.now(), Arc::clone(&self.parts.node));
        let forgets = self.parts.executor.faults.planted() == Planted::ForgetsStarts;
        self.remembering(|memory| {
            let begun = memory.begin(pod, plan, &node, now);
            if forgets {
                let names = begun.starts.keys();
                names.for_each(|name| memory.record.end_start(name, &begun.starts));
            }
            begun
        })
    }

    /// The preStop hook of an instance has ended.
    pub(super) fn note_hook_done(&mut self, id: &ContainerId) {
        if self.parts.executor.faults.planted() != Planted::HookTwice {
            self.remembering(|memory| memory.note_hook_done(id));
        }
    }

    /// The pod as it was just looked at, without what never ran because its start was cut off.
    pub(super) fn settle_starts(&mut self, observed: Arc<ObservedPod>) -> Arc<ObservedPod> {
        self.memory.record.settle_starts(&observed);
        self.memory.record.set_apart_cut_off(observed)
    }

    /// Keeps what must not be forgotten of what was seen.
    pub(super) fn absorb(&mut self, pod: &Pod, observed: &ObservedPod) {
        let (now, forgets) = (self.now(), self.forgets_ends());
        self.remembering(|memory| {
            memory.absorb(pod, observed, now);
            if !forgets {
                memory.give_up_lost(observed, now);
            }
        });
    }

    /// What was seen to run and is nowhere any more, of a pod that ends: kept before anything is shown of it.
    pub(super) fn note_lost(&mut self, observed: &ObservedPod) {
        let now = self.now();
        if !self.forgets_ends() {
            self.remembering(|memory| memory.give_up_lost(observed, now));
        }
    }

    /// Changes the memory, and writes its record where that changed.
    pub(super) fn remembering<T>(&mut self, change: impl FnOnce(&mut PodMemory) -> T) -> T {
        let before = self.memory.record.clone();
        let result = change(&mut self.memory);
        if self.memory.record != before {
            self.save();
        }
        result
    }

    pub(super) fn save(&self) {
        let key = format!("{POD_PREFIX}{}", self.uid);
        self.parts.records.put(&key, &self.memory.record);
    }

    pub(super) fn drop_record(&self) {
        if self.orders.borrow().pod.is_static() || self.forgets_ends() {
            let key = format!("{POD_PREFIX}{}", self.uid);
            self.parts.records.remove(&key);
        }
    }

    fn forgets_ends(&self) -> bool {
        self.parts.executor.faults.planted() == Planted::ForgetsEnds
    }
}
