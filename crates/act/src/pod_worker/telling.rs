//! What a worker tells of, besides status: waits, sandboxes that are replaced, stops that fail, a runtime that does not answer.
//!
//! In:    the plan before it is carried out; outcomes; failed looks
//! Out:   events, as `decide/events` has them; to the sync loop, that the pod needs its name no more
//! Calls: pod_worker
//! Holds: nothing is decided here; what a step brings is told by the executor, at once
//! Upstream: pkg/kubelet/kubelet.go (SyncPod, SyncTerminatingPod), pod_workers.go (podWorkerLoop)

use std::sync::Arc;

use kubelet_cri::CriError;
use kubelet_decide::events::{kill_failed, not_observed, plan_events};
use kubelet_decide::lifecycle::is_refused;
use kubelet_decide::plan::PodPlan;
use kubelet_decide::view::NetworkState;
use kubelet_model::observed::ObservedPod;
use kubelet_model::pod::Pod;

use super::{Order, PodWorker, WorkerEvent};
use crate::execute::Outcome;
use crate::pleg::LookError;

impl PodWorker {
    /// A pod of the API is shown until it is gone from there, too.
    pub(super) fn stop_showing(&self) {
        if self.orders.borrow().pod.is_static() {
            self.parts.status.forget(&self.uid);
        } else {
            self.parts.status.finish(&self.uid);
        }
    }

    /// Once, when the runtime does not remove what is left of it: nobody waits for that any more.
    pub(super) fn tell_refused(&mut self, order: &Order, observed: &ObservedPod) {
        if self.told_refused || self.failures == 0 {
            return;
        }
        let network = self.parts.network.look(Clone::clone);
        if !is_refused(&self.view(order, observed, &self.life, &network)) {
            return;
        }
        self.told_refused = true;
        tracing::warn!(pod = %order.pod.full_name, uid = %self.uid, seen = %observed, "The runtime does not remove what is left of the pod; it is asked again and again, and nobody waits for it");
        self.stop_showing();
        // When nobody listens the process is stopping.
        let _sent = self
            .parts
            .events
            .send(WorkerEvent::Refused(self.uid.clone()));
    }

    /// Once, when the pod has ended by itself and stays: it needs its name no more.
    pub(super) fn tell_end(&mut self) {
        let has_ended = self.life.rank() > 1 && !self.life.is_leaving();
        if has_ended && !std::mem::replace(&mut self.told_end, true) {
            // When nobody listens the process is stopping.
            let _sent = self.parts.events.send(WorkerEvent::Ended(self.uid.clone()));
        }
    }

    /// What is told of a plan before anything of it is done.
    pub(super) fn tell_plan(
        &mut self,
        order: &Order,
        observed: &ObservedPod,
        network: &NetworkState,
        plan: &PodPlan,
    ) {
        let mut told = std::mem::take(&mut self.told_waits);
        let waits = told.events(&self.view(order, observed, &self.life, network), plan);
        self.told_waits = told;
        let (of_pod, of_node) = plan_events(&order.pod, &self.parts.node, plan);
        let events = &self.parts.executor.events;
        of_node.into_iter().for_each(|event| events.node(event));
        for event in of_pod.into_iter().chain(waits) {
            events.pod(&order.pod, event);
        }
    }

    /// What could not be stopped of a pod that ends; of one that goes on, its status tells.
    pub(super) fn tell_unkilled(&self, pod: &Pod, outcome: &Outcome) {
        match outcome {
            Outcome::Failed(failure) | Outcome::Unknown(failure)
                if self.life.rank() == 1 && !failure.unkilled.is_empty() =>
            {
                let event = kill_failed(&failure.unkilled);
                self.parts.executor.events.pod(pod, event);
            }
            Outcome::Done(_) | Outcome::Failed(_) | Outcome::Unknown(_) | Outcome::GivenUp => {}
        }
    }

    /// The runtime does not say how the pod is. A process that stops has nothing to tell of it.
    pub(super) fn tell_unobserved(&self, error: &LookError) {
        if let LookError::Runtime(error) = error {
            let pod = Arc::clone(&self.orders.borrow().pod);
            let event = not_observed(&CriError::message(error));
            self.parts.executor.events.pod(&pod, event);
        }
    }
}
