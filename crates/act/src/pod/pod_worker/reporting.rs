//! What a pod worker reports besides status: events about waiting, replaced sandboxes, failed stops and an unreachable runtime; log lines.
//!
//! In:    the plan before it is carried out; outcomes; failed looks
//! Out:   events, as `decide/report/events` has them; the note of what the pod waits for; to the sync loop, that the pod needs its name no more
//! Calls: pod_worker
//! Holds: decides nothing; the executor reports the outcome of a step at once
//! Upstream: pkg/kubelet/kubelet.go (SyncPod, SyncTerminatingPod), pod_workers.go (podWorkerLoop)

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use kubelet_cri::CriError;
use kubelet_decide::pod::lifecycle::is_released;
use kubelet_decide::pod::memory::Entry;
use kubelet_decide::report::events::{
    ToldWaits, kill_failed, made_to_end, not_observed, plan_events,
};
use kubelet_decide::report::waits::{doing, waits};
use kubelet_decide::shapes::life::{Lifecycle, TerminationCause};
use kubelet_decide::shapes::outcome::{Outcome, Subject};
use kubelet_decide::shapes::plan::PodPlan;
use kubelet_decide::shapes::view::Order;
use kubelet_model::observed::ObservedPod;
use kubelet_model::pod::Pod;

use super::{PodWorker, WorkerEvent};
use crate::observe::pleg::LookError;
use crate::pod::pod_figures::PodFigures;
use crate::report::status::Note;
use kubelet_model::ids::PodUid;

/// What a worker has told already.
pub(super) struct Told {
    /// Figures of its pod.
    pub(super) figures: PodFigures,
    waits: ToldWaits,
    last: LastWord,
    was_ready: bool,
    /// Why the newest status was held back, while one is.
    held_back: Option<String>,
}

/// What the sync loop was told of the pod's end; each at most once, in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum LastWord {
    None,
    Ending,
    Ended,
    Released,
}

impl Told {
    pub(super) fn new(figures: PodFigures) -> Self {
        Self {
            figures,
            waits: ToldWaits::default(),
            last: LastWord::None,
            was_ready: false,
            held_back: None,
        }
    }

    /// Whether a status is held back, which is logged once for each reason.
    pub(super) fn holds_back(&mut self, why: Option<String>, observed: &ObservedPod) -> bool {
        if let Some(why) = why.as_deref().filter(|_| self.held_back != why) {
            tracing::error!(why, seen = %observed, "Status would be impossible; the one before it stays");
        }
        self.held_back = why;
        self.held_back.is_some()
    }

    pub(super) fn begins(&mut self, order: &Order, is_new: bool, now: Timestamp) {
        self.figures.begins(&order.pod, &order.desire, is_new, now);
    }

    pub(super) fn stands(&mut self, order: &Order, life: &Lifecycle) {
        self.figures.stands(&order.pod, &order.desire, life);
    }

    /// Whether the pod is ready by these conditions, and was not when it was last asked.
    pub(super) fn is_first_ready(
        &mut self,
        conditions: &BTreeMap<String, (bool, Timestamp)>,
    ) -> bool {
        let ready = conditions.get("Ready").is_some_and(|(ready, _)| *ready);
        !std::mem::replace(&mut self.was_ready, ready) && ready
    }
}

impl PodWorker {
    /// A pod of the API is shown until it is gone from there, too. A static pod is taken out of what is shown by the sync loop, which
    /// knows whether it is wanted again: its mirror stays then.
    pub(super) fn stop_showing(&self) {
        if !self.orders.borrow().pod.is_static() {
            self.parts.status.finish(&self.uid);
        }
    }

    /// Nobody asked for an orphan, and its spec is not known: there is nothing true to show. And a pod that is released is done.
    pub(super) fn is_not_shown(&self) -> bool {
        self.memory.life.cause() == Some(TerminationCause::Orphaned)
            || self.told.last == LastWord::Released
    }

    /// Once, when nothing of the pod runs or lies on the host: nobody waits for what the runtime still holds of it.
    pub(super) fn announce_released(&mut self, order: &Order, observed: &ObservedPod) {
        if self.told.last == LastWord::Released || !is_released(&self.view(order, observed)) {
            return;
        }
        self.announce_gone(observed);
        self.stop_showing();
        self.last_word(LastWord::Released, WorkerEvent::Released);
    }

    /// Its log line, once.
    pub(super) fn announce_gone(&self, observed: &ObservedPod) {
        if self.told.last != LastWord::Released {
            let cause = self.memory.life.cause();
            let why = cause.map_or("", TerminationCause::as_str);
            tracing::info!(why, seen = %observed, "Pod is gone");
        }
    }

    /// Once, when the pod ends by itself: what it takes of the node is free as soon as it is taken down.
    pub(super) fn announce_ending(&mut self) {
        let life = &self.memory.life;
        if life.rank() == 1 && !life.is_leaving() {
            self.last_word(LastWord::Ending, WorkerEvent::Ending);
        }
    }

    /// Once, when the pod has ended by itself and stays: it needs its name no more.
    pub(super) fn announce_end(&mut self) {
        let life = &self.memory.life;
        if life.rank() > 1 && !life.is_leaving() {
            self.last_word(LastWord::Ended, WorkerEvent::Ended);
        }
    }

    fn last_word(&mut self, word: LastWord, event: fn(PodUid) -> WorkerEvent) {
        if self.told.last < word {
            self.told.last = word;
            // When nobody listens the process is stopping.
            let _sent = self.parts.events.send(event(self.uid.clone()));
        }
    }

    /// The pod goes over to another state of its life.
    pub(super) fn report_entry(&self, order: &Order, entry: &Entry) {
        if let Some(why) = entry.ended.as_ref().and_then(|ended| ended.why.as_ref()) {
            let events = &self.parts.executor.events;
            events.pod(&order.pod, made_to_end(why));
        }
        if let Lifecycle::Terminating(terminating) = &entry.next {
            tracing::info!(
                why = terminating.cause.as_str(),
                grace = terminating.grace_seconds,
                "Pod is being stopped"
            );
        }
    }

    /// What is told of a plan before anything of it is done.
    pub(super) fn report_plan(&mut self, order: &Order, observed: &ObservedPod, plan: &PodPlan) {
        let mut told = std::mem::take(&mut self.told.waits);
        let waits = told.events(&self.view(order, observed), plan);
        self.told.waits = told;
        let (of_pod, of_node) = plan_events(&order.pod, &self.parts.node, plan);
        let events = &self.parts.executor.events;
        of_node.into_iter().for_each(|event| events.node(event));
        for event in of_pod.into_iter().chain(waits) {
            events.pod(&order.pod, event);
        }
        self.note(order, observed, plan);
    }

    /// What is told of the plan to those who ask the node.
    fn note(&self, order: &Order, observed: &ObservedPod, plan: &PodPlan) {
        let view = self.view(order, observed);
        let note = Note {
            waits: waits(&view, plan),
            doing: doing(&view, plan),
        };
        self.parts.status.note(&self.uid, note);
    }

    /// What a step came to; what could not be stopped of a pod that ends is an event, too: of one that goes on, its status tells.
    pub(super) fn report_outcome(&self, pod: &Pod, outcome: &Outcome) {
        match outcome {
            Outcome::Done(_) => {}
            Outcome::Failed(failure) if failure.is_garbage => {
                tracing::warn!(why = %failure.message, "A dead container or sandbox could not be garbage-collected; it is tried again");
            }
            Outcome::Failed(failure) => {
                let (container, volume) = match &failure.of {
                    Subject::Pod | Subject::Stops(_) => ("-", "-"),
                    Subject::Container(name) => (name.as_str(), "-"),
                    Subject::Volume(name) => ("-", name.as_str()),
                };
                tracing::warn!(container, volume, reason = %failure.reason, why = %failure.message, "Step failed");
            }
            Outcome::GivenUp => {
                tracing::info!(
                    "Step given up for a newer order, or at the end of the pod's time; looking before anything else"
                );
            }
            Outcome::Unknown(failure) => {
                tracing::warn!(why = %failure.message, "Outcome unknown; looking before anything else");
            }
        }
        if let Outcome::Failed(failure) | Outcome::Unknown(failure) = outcome
            && self.memory.life.rank() == 1
            && !failure.unkilled.is_empty()
        {
            let event = kill_failed(&failure.unkilled);
            self.parts.executor.events.pod(pod, event);
        }
    }

    /// The runtime does not say how the pod is. A process that stops has nothing to tell of it.
    pub(super) fn report_unobserved(&self, error: &LookError) {
        if let LookError::Runtime(error) = error {
            let pod = Arc::clone(&self.orders.borrow().pod);
            let event = not_observed(&CriError::message(error));
            self.parts.executor.events.pod(&pod, event);
        }
    }
}
