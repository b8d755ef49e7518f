//! Step 3, admission: whether a pod may begin on this node. Asked once in its life; `decide/pod/admission` answers.
//!
//! In:    pods that may run, what those take that were let in before, the own Node
//! Out:   `Desire::Run`, `Desire::Reject`, or nothing yet: then it is asked again after a moment
//! Calls: names, when a pod gets its name; the sync loop's clock
//! Holds: a pod that ran here before, or that an earlier kubelet took up, is let in whatever the node looks like now; those go
//!        before new ones, older before younger; room that is made for a critical pod is kept for it, and it is not refused for want
//!        of it; a refusal for the Node's labels is looked at twice, for the watch may be behind
//! Upstream: pkg/kubelet/kubelet.go (HandlePodAdditions), pkg/kubelet/allocation/allocation_manager.go (AddPod), 1.36; differences:
//!           there a pod that runs is asked again after a restart, and may be ended by the answer

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeFeatures, NodeStatus};
use kubelet_cluster::reflector::Snapshots;
use kubelet_decide::pod::admission::{
    AdmissionRules, AdmissionView, Allocation, Other, Verdict, admission, allocation,
    asks_strict_groups,
};
use kubelet_decide::pod::phase::is_final;
use kubelet_decide::pod::preemption::{
    PREEMPTED_CONDITION, PREEMPTED_MESSAGE, PREEMPTED_REASON, is_critical,
};
use kubelet_decide::report::events::rejected;
use kubelet_decide::shapes::record::{EndReason, PodRecord};
use kubelet_decide::shapes::rejection::Rejection;
use kubelet_decide::shapes::view::Desire;
use kubelet_decide::sources::desired::PodChange;
use kubelet_model::ids::{PodFullName, PodUid};
use kubelet_model::node::RuntimeHandlers;
use kubelet_model::pod::Pod;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{NameClaim, SyncLoop};
use crate::frame::records::POD_PREFIX;

/// Until a pod that could not be decided on is looked at again.
const AGAIN: Duration = Duration::from_secs(1);
/// As long as this a refusal for the Node's labels may be news that has not arrived.
const LABELS_PATIENCE: Duration = Duration::from_secs(2);
/// As long as this a pod waits for those that are ending and take what it needs.
const ROOM_PATIENCE: Duration = Duration::from_secs(120);

/// What admission knows of the node.
#[derive(Clone, Debug)]
pub struct AdmissionParts {
    /// The Node that this kubelet registers: all there is without an API server, and for static pods until that one was seen.
    pub initial: Arc<Node>,
    /// The own Node as the API has it.
    pub own: Option<Snapshots<Node>>,
    /// What the runtime can do, where the Node does not say it.
    pub handlers: watch::Receiver<Option<Arc<RuntimeHandlers>>>,
    /// What the host and the configuration allow.
    pub rules: Arc<AdmissionRules>,
}

/// Who is not decided on yet.
#[derive(Debug)]
pub(super) struct Admit {
    parts: AdmissionParts,
    /// Since when, and when to look again.
    open: BTreeMap<PodUid, (Instant, Instant)>,
}

/// What a pod has behind it when its worker begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// Nothing: it is new.
    None,
    /// An earlier process, or another kubelet, took it up.
    TakenUp,
    /// It has ended already.
    Ended,
}

/// Sorts pods: those that are let in whatever comes first, then the older.
type AdmissionRank = (bool, Option<Timestamp>);

impl Admit {
    pub(super) fn new(parts: AdmissionParts) -> Self {
        Self {
            parts,
            open: BTreeMap::new(),
        }
    }

    /// When somebody is to be looked at again.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.open.values().map(|(_, at)| *at).min()
    }

    /// The Node to decide on; none while the pod has to wait for it, or for the runtime.
    fn node(&self, pod: &Pod) -> Option<Arc<Node>> {
        let node = self.seen_node(pod)?;
        if node.status.is_some() || !asks_strict_groups(pod) {
            return Some(node);
        }
        let handlers = self.parts.handlers.borrow();
        let mut told = Node::clone(&node);
        told.status = Some(NodeStatus {
            features: Some(NodeFeatures {
                supplemental_groups_policy: Some(handlers.as_ref()?.strict_groups),
            }),
            ..NodeStatus::default()
        });
        Some(Arc::new(told))
    }

    fn seen_node(&self, pod: &Pod) -> Option<Arc<Node>> {
        let Some(own) = &self.parts.own else {
            return Some(Arc::clone(&self.parts.initial));
        };
        // The set holds the own Node alone.
        let set = own.borrow();
        let seen = set.as_ref().and_then(|set| set.objects.values().next());
        match seen {
            Some(node) => Some(Arc::clone(node)),
            None if pod.is_static() => Some(Arc::clone(&self.parts.initial)),
            None => None,
        }
    }

    /// Whoever is not decided on is looked at in the next turn of the loop.
    pub(super) fn look_now(&mut self) {
        let now = Instant::now();
        for (_, at) in self.open.values_mut() {
            *at = now;
        }
    }

    /// Looks again later; since when it is not decided.
    fn leave_open(&mut self, uid: &PodUid) -> Instant {
        let now = Instant::now();
        let entry = self.open.entry(uid.clone()).or_insert((now, now));
        entry.1 = now + AGAIN;
        entry.0
    }
}

impl SyncLoop {
    /// What is wanted of a pod whose turn it is; `None` when that is not known yet.
    pub(super) fn admitted(&mut self, uid: &PodUid) -> Option<Desire> {
        let pod = Arc::clone(&self.workers.get(uid)?.pod);
        let mut admitted = None;
        if !self.was_taken_up(&pod) {
            let Some(node) = self.admit.node(&pod) else {
                self.admit.leave_open(uid);
                return None;
            };
            let others = self.workers.iter().filter(|(other, _)| *other != uid);
            let others = others.filter_map(|(_, worker)| {
                Some(Other {
                    pod: &worker.pod,
                    allocation: worker.allocation.as_ref()?,
                    is_ending: worker.is_ending || worker.name_claim.is_leaving(),
                })
            });
            let verdict = admission(&AdmissionView {
                pod: &pod,
                others: &others.collect::<Vec<_>>(),
                allocatable: &self.parts.node.allocatable,
                node: &node,
                rules: &self.admit.parts.rules,
            });
            match verdict {
                Verdict::Admitted(allocation) => admitted = Some(allocation),
                Verdict::Waits(waiting, or_else) => {
                    let gets_room = is_critical(&pod) && or_else.resource().is_some();
                    let patience = self.patience(gets_room);
                    let is_patient = self.admit.leave_open(uid).elapsed() < patience;
                    match (is_patient, gets_room) {
                        (true, gets_room) => {
                            self.reserve(uid, gets_room.then(|| allocation(&pod)));
                            return Some(Desire::Wait(Some(waiting)));
                        }
                        (false, false) => return Some(self.reject(&pod, or_else)),
                        // As upstream: whom it waits for had all the time that they have.
                        (false, true) => admitted = Some(allocation(&pod)),
                    }
                }
                Verdict::Preempts(victims, waiting, why) => {
                    self.admit.leave_open(uid);
                    self.preempt(&pod, &victims, &why);
                    self.reserve(uid, Some(allocation(&pod)));
                    return Some(Desire::Wait(Some(waiting)));
                }
                Verdict::Rejected(why) => {
                    let may_be_old = self.admit.parts.own.is_some() && why.is_of_labels();
                    if may_be_old && self.admit.leave_open(uid).elapsed() < LABELS_PATIENCE {
                        return None;
                    }
                    return Some(self.reject(&pod, why));
                }
            }
        }
        self.admit.open.remove(uid);
        if let Some(worker) = self.workers.get_mut(uid) {
            // What has ended takes nothing once nothing of it runs.
            let has_ended = worker.past == Past::Ended;
            let current = self.parts.pleg.current(uid);
            let runs = current.is_some_and(|observed| observed.is_running());
            worker.is_ending |= has_ended;
            worker.allocation =
                (!has_ended || runs).then(|| admitted.unwrap_or_else(|| allocation(&pod)));
        }
        Some(Desire::Run)
    }

    /// The room that others make for a critical pod is kept for it.
    fn reserve(&mut self, uid: &PodUid, room: Option<Allocation>) {
        if let Some(worker) = self.workers.get_mut(uid) {
            worker.allocation = room;
        }
    }

    /// As long as this a pod waits for those that are ending; a critical one for as long as they may take.
    fn patience(&self, gets_room: bool) -> Duration {
        if !gets_room {
            return ROOM_PATIENCE;
        }
        let ending = self.workers.values();
        let ending = ending.filter(|w| w.is_ending || w.name_claim.is_leaving());
        let longest = ending.map(|w| w.pod.grace_seconds()).max().unwrap_or(0);
        let longest = Duration::from_secs(u64::try_from(longest).unwrap_or(0));
        ROOM_PATIENCE.max(longest.saturating_mul(3) / 2)
    }

    fn reject(&mut self, pod: &Pod, why: Rejection) -> Desire {
        self.admit.open.remove(&pod.uid);
        self.reserve(&pod.uid, None);
        tracing::warn!(pod = %pod.full_name, uid = %pod.uid, reason = why.reason, why = why.message, "Pod is rejected");
        self.metrics.rejected(&why.reason);
        self.parts.executor.events.pod(pod, rejected(&why));
        Desire::Reject(why)
    }

    /// Ends pods for a critical one.
    fn preempt(&mut self, by: &Pod, victims: &[PodFullName], why: &Rejection) {
        let signal = why.resource().unwrap_or_default();
        let is_victim = |pod: &Pod| victims.contains(&pod.full_name);
        let workers = self.workers.values_mut();
        for worker in workers.filter(|w| w.allocation.is_some() && is_victim(&w.pod)) {
            tracing::warn!(pod = %worker.pod.full_name, uid = %worker.pod.uid, by = %by.full_name, why = why.message, "Pod is ended to make room for a critical one");
            let end = Desire::End(EndReason {
                reason: PREEMPTED_REASON.to_owned(),
                message: PREEMPTED_MESSAGE.to_owned(),
                disruption: Some(PREEMPTED_CONDITION.to_owned()),
            });
            // Its worker may say so later; nobody ends it twice.
            worker.is_ending = true;
            worker.orders.send_modify(|order| order.desire = end);
            self.metrics.preempted(signal);
        }
    }

    /// Whether something of the pod is here, or an earlier kubelet took it up: then it is not for admission to end it.
    fn was_taken_up(&self, pod: &Pod) -> bool {
        let worker = self.workers.get(&pod.uid);
        let past = worker.map_or_else(|| self.past_of(pod), |worker| worker.past);
        past != Past::None
            || self.parts.pleg.current(&pod.uid).is_some()
            || self.parts.pleg.is_unseen(&pod.uid)
    }

    /// What is remembered of a pod; to be asked before its worker begins, which makes a record of it.
    pub(super) fn past_of(&self, pod: &Pod) -> Past {
        let key = format!("{POD_PREFIX}{}", pod.uid);
        let record: Option<PodRecord> = self.parts.records.get(&key);
        // A static pod that was not let in is asked anew: the node may have room for it by now.
        let record = record.filter(|record| record.rejected.is_none() || !pod.is_static());
        let status = pod.object.status.as_ref().filter(|_| !pod.is_static());
        let has_ended =
            is_final(status) || record.as_ref().is_some_and(|record| record.ended.is_some());
        let was_taken_up =
            record.is_some() || status.is_some_and(|status| status.start_time.is_some());
        match (has_ended, was_taken_up) {
            (true, _) => Past::Ended,
            (false, true) => Past::TakenUp,
            (false, false) => Past::None,
        }
    }

    fn order_of(&self, pod: &Pod) -> AdmissionRank {
        let created = pod.object.metadata.creation_timestamp.as_ref();
        (!self.was_taken_up(pod), created.map(|at| at.0))
    }

    /// Those that were not decided on.
    pub(super) fn admit_again(&mut self) {
        let now = Instant::now();
        let due = self.admit.open.iter().filter(|(_, (_, at))| *at <= now);
        let due: Vec<PodUid> = due.map(|(uid, _)| uid.clone()).collect();
        for uid in due {
            let worker = self
                .workers
                .get(&uid)
                .filter(|w| w.name_claim == NameClaim::Queued);
            match worker.map(|w| w.pod.full_name.clone()) {
                Some(name) => {
                    self.admit.leave_open(&uid);
                    self.settle_name(&name);
                }
                None => drop(self.admit.open.remove(&uid)),
            }
        }
    }

    /// Names by the pod that stands first in their line.
    pub(super) fn names_in_order_of_admission(&self) -> Vec<PodFullName> {
        let first = |uids: &[PodUid]| self.workers.get(uids.first()?).map(|w| &w.pod);
        let mut names: Vec<(Option<AdmissionRank>, PodFullName)> = self
            .names
            .claims
            .iter()
            .map(|(name, uids)| (first(uids).map(|pod| self.order_of(pod)), name.clone()))
            .collect();
        names.sort();
        names.into_iter().map(|(_, name)| name).collect()
    }

    /// New pods among the changes, in the order in which they are let in; all else stays where it is.
    pub(super) fn in_order_of_admission(&self, changes: Vec<PodChange>) -> Vec<PodChange> {
        let mut adds: Vec<(AdmissionRank, Arc<Pod>)> = changes
            .iter()
            .filter_map(|change| match change {
                PodChange::Add(pod) => Some((self.order_of(pod), Arc::clone(pod))),
                _ => None,
            })
            .collect();
        // Stable: of the same age the one that was named first.
        adds.sort_by_key(|(order, _)| *order);
        let mut adds = adds.into_iter().map(|(_, pod)| PodChange::Add(pod));
        let place = |change| match change {
            PodChange::Add(pod) => adds.next().unwrap_or(PodChange::Add(pod)),
            other => other,
        };
        changes.into_iter().map(place).collect()
    }
}
