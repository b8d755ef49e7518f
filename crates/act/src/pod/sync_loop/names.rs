//! Which of several pods of one full name may run: asks `decide`, and orders the workers.
//!
//! In:    the workers of a name in order of their arrival, what the runtime was seen to hold under it
//! Out:   orders: run, wait for another, stop for another
//! Calls: the sync loop, at every change of a name
//! Holds: no pod is ordered to run before the runtime was listed and admission let it in; a pod that waits shows for which one
//! Upstream: pkg/kubelet/pod_workers.go (allowStaticPodStart)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kubelet_decide::shapes::life::TerminationCause;
use kubelet_decide::shapes::view::Desire;
use kubelet_decide::shapes::waiting::Waiting;
use kubelet_decide::sources::name_turn::{Claim, ClaimState, Runs, Turn, turns};
use kubelet_model::ids::{PodFullName, PodUid};
use kubelet_model::reason::Reason;

use super::{NameClaim, SyncLoop};

/// Which workers there are for each full name.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// In order of arrival.
    pub(super) claims: BTreeMap<PodFullName, Vec<PodUid>>,
    /// Names of which somebody waits.
    contested: BTreeSet<PodFullName>,
}

impl Names {
    /// A pod wants this name; last in line.
    pub(super) fn add(&mut self, name: &PodFullName, uid: &PodUid) {
        self.claims
            .entry(name.clone())
            .or_default()
            .push(uid.clone());
    }

    /// It does not want it any more.
    pub(super) fn remove(&mut self, name: &PodFullName, uid: &PodUid) {
        if let Some(claims) = self.claims.get_mut(name) {
            claims.retain(|claim| claim != uid);
            if claims.is_empty() {
                self.claims.remove(name);
                self.contested.remove(name);
            }
        }
    }
}

impl SyncLoop {
    /// The runtime was listed: from now on it is known what runs.
    pub(super) fn settle_all_names(&mut self) {
        for name in self.names_in_order_of_admission() {
            self.settle_name(&name);
        }
    }

    /// Names of which somebody waits; most often there are none.
    pub(super) fn settle_contested_names(&mut self) {
        for name in self.names.contested.clone() {
            self.settle_name(&name);
        }
    }

    /// Tells the pods of a name whose turn it is.
    pub(super) fn settle_name(&mut self, name: &PodFullName) {
        let Some(uids) = self.names.claims.get(name).filter(|_| self.listed).cloned() else {
            return;
        };
        let held = self.parts.pleg.of_name(name);
        let unseen = self.parts.pleg.unseen_of_name(name);
        let runs = |uid: &PodUid| {
            let is_running = held.iter().any(|pod| pod.uid == *uid && pod.is_running());
            match (unseen.contains(uid), is_running) {
                (true, _) => Runs::Unknown,
                (false, true) => Runs::Yes,
                (false, false) => Runs::No,
            }
        };
        let claims: Vec<Claim<'_>> = uids
            .iter()
            .filter_map(|uid| {
                let state = match self.workers.get(uid)?.name_claim {
                    NameClaim::Queued => ClaimState::Waits { runs: runs(uid) },
                    NameClaim::Held => ClaimState::Has,
                    NameClaim::Terminating => ClaimState::Leaves,
                    NameClaim::Released | NameClaim::Exited => ClaimState::Ended,
                };
                Some(Claim { uid, state })
            })
            .collect();
        // What does not run takes no name, however long the runtime keeps it.
        let strangers: Vec<PodUid> = held
            .iter()
            .filter(|pod| pod.is_running())
            .map(|pod| pod.uid.clone())
            .chain(unseen.iter().cloned())
            .filter(|uid| !uids.contains(uid))
            .collect();
        let turns = turns(&claims, &strangers);
        let mut somebody_waits = false;
        for (claim, turn) in claims.iter().zip(turns) {
            match turn {
                Turn::AsItIs => {}
                Turn::Has => self.give_name(claim.uid),
                Turn::Waits(other) => {
                    somebody_waits = true;
                    self.order_to_wait(claim.uid, &other);
                }
                Turn::Yields(other) => {
                    tracing::warn!(pod = %name, uid = %claim.uid, to = %other, "Two pods have the same name; this one is stopped and waits for the other to end");
                    self.stop(claim.uid, TerminationCause::Removed, None);
                }
            }
        }
        if somebody_waits {
            self.names.contested.insert(name.clone());
        } else {
            self.names.contested.remove(name);
        }
    }

    fn give_name(&mut self, uid: &PodUid) {
        // Not decided yet: it is asked again in a moment, and has not got the name.
        let Some(desire) = self.admitted(uid) else {
            return;
        };
        // It waits for room: it has not got the name either.
        let waits = matches!(desire, Desire::Wait(_));
        if waits {
            self.send_desire(uid, desire);
        } else if let Some(worker) = self.workers.get_mut(uid) {
            worker.name_claim = NameClaim::Held;
            worker.orders.send_modify(|order| order.desire = desire);
        }
    }

    /// Another desire for a pod that waits; whether it is news.
    fn send_desire(&self, uid: &PodUid, desire: Desire) -> bool {
        self.workers.get(uid).is_some_and(|worker| {
            worker.orders.send_if_modified(|order| {
                let is_new = order.desire != desire;
                if is_new {
                    order.desire = desire;
                }
                is_new
            })
        })
    }

    fn order_to_wait(&mut self, uid: &PodUid, other: &PodUid) {
        let source = self.workers.get(other).map(|w| w.pod.source.as_str());
        let Some(worker) = self.workers.get(uid) else {
            return;
        };
        let from = source.map_or_else(String::new, |source| format!(", from source {source}"));
        let name = &worker.pod.full_name;
        let waiting = Waiting {
            reason: Reason::WaitingForName,
            message: format!(
                "waits for the end of another pod of the same name: {}/{} (uid {other}{from})",
                name.namespace, name.name
            ),
        };
        let pod = Arc::clone(&worker.pod);
        if self.send_desire(uid, Desire::Wait(Some(waiting))) {
            tracing::info!(pod = %pod.full_name, uid = %uid, behind = %other, "Pod waits for the end of another of its name");
        }
    }
}
