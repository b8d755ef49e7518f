//! Step 10 in a cluster: writes pod statuses to the API, and deletes the API object of a pod that has terminated.
//!
//! In:    reported pods; the sets that the API server holds for this node
//! Out:   status patches and deletions, each with the UID it means
//! Calls: one reconciler, in a cluster only; a round begins calls, and each answer begins a round
//! Holds: one call in flight per pod, the latest status wins; nothing is sent that the API already has; a change that may wait
//!        for the next one waits a second; a failure is retried after a wait, and while the server is unreachable one pod probes
//!        for all; a patch that changed nothing is not sent again, and one that is refused for good blocks no deletion; only the
//!        next call about the same pod waits for an answer; only pods that changed are decided on
//! Upstream: pkg/kubelet/status/status_manager.go (syncBatch, syncPod, 1.36)

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use kubelet_cluster::pods::{PodAddress, PodSet};
use kubelet_cluster::{Client, ClusterError};
use kubelet_decide::report::status_write::{StatusWrite, StatusWriteView, status_write};
use kubelet_model::doubling::Doubling;
use kubelet_model::ids::PodUid;
use kubelet_model::pod::{CONFIG_MIRROR_ANNOTATION, Pod};
use kubelet_model::reported::{Progress, ReportedPod};
use prometheus::{Histogram, Registry};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::frame::away::{Away, is_of_server};
use crate::frame::metrics::{Making, histogram};
use crate::frame::reconciler::{self, Reconciler, RoundError, RoundResult, WakeReason};
use crate::report::status::StatusHandle;

/// Calls in flight, over all pods.
const WIDTH: usize = 16;
/// Between tries of a pod that failed.
const RETRY: Doubling = Doubling::new(Duration::from_secs(1), Duration::from_secs(10));
/// Refusals of one patch for the same object after which nobody waits for it any more: it is wrong, and stays so.
const REFUSALS: u32 = 6;
/// So long a status waits that may: where the runtime is listed each second, as upstream does, it shows no sooner.
const PATIENCE: Duration = Duration::from_secs(1);
/// Buckets of `kubelet_pod_status_sync_duration_seconds`.
const SYNC_SECONDS: [f64; 11] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0];
/// Without news it is looked again this often.
const IDLE: Duration = Duration::from_secs(600);
/// What the log calls this.
const WHAT: &str = "pod statuses";
/// What is on its way when the process stops has this long.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What the writer listens to.
#[derive(Clone, Debug)]
pub struct StatusInputs {
    /// Where workers report.
    pub status: StatusHandle,
    /// What the API holds.
    pub held: watch::Receiver<Option<Arc<PodSet>>>,
    /// How long it takes.
    pub figures: StatusFigures,
}

/// How long a change of a status takes until the API has it.
#[derive(Clone, Debug)]
pub struct StatusFigures {
    seconds: Histogram,
}

impl StatusFigures {
    /// Registers the family.
    ///
    /// # Errors
    /// When its name is taken in this registry.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let opts = histogram(
            "pod_status_sync_duration_seconds",
            "Duration in seconds to sync a pod status update. Measures time from detection of a change to pod status until the API is successfully updated for that pod, even if multiple intevening changes to pod status occur.",
        );
        let opts = opts.buckets(SYNC_SECONDS.to_vec());
        let seconds = Making(registry).histogram(opts)?;
        Ok(Self { seconds })
    }
}

/// The reconciler of statuses. A clone begins anew: with every pod that is reported then, and no call on its way.
pub struct StatusWriter {
    client: Client,
    inputs: StatusInputs,
    /// Which pods are new, changed or gone; from the first round on.
    changes: Option<mpsc::UnboundedReceiver<PodUid>>,
    /// Calls on their way.
    flights: FuturesUnordered<Flight>,
    held: Held,
    slots: BTreeMap<PodUid, Slot>,
    /// Pods to decide on: what is known of them has changed, or their time has come.
    due: BTreeSet<PodUid>,
    /// Pods whose last call failed, by when they are due again.
    retries: BTreeSet<(Instant, PodUid)>,
    /// Whether the server is there.
    away: Away,
}

impl std::fmt::Debug for StatusWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatusWriter")
            .field("pods", &self.slots.len())
            .finish_non_exhaustive()
    }
}

/// What is known of the calls about one pod.
#[derive(Debug, Default)]
struct Slot {
    is_busy: bool,
    /// The object as the last call answered, until the watch shows one that is as new.
    answered: Option<Arc<v1::Pod>>,
    failures: u32,
    retry_at: Option<Instant>,
    /// What the server was given last, and how that went.
    tried: Option<Tried>,
    /// What may wait is written then, if nothing came before.
    patient_until: Option<Instant>,
    /// When the oldest change was seen that the API does not have yet.
    changed_at: Option<Instant>,
}

/// A patch that did not change its object.
#[derive(Debug)]
struct Tried {
    /// The object's version.
    at: Option<u64>,
    patch: Value,
    /// How often it was refused for what it is; `None` when it was taken, and changed nothing.
    refusals: Option<u32>,
}

impl Tried {
    /// The patch, when it is not worth another try for this object. One that is refused is tried as long as nothing waits for it: what
    /// the server does not allow now it may allow later.
    fn futile(&self, object: &v1::Pod, progress: Progress) -> Option<&Value> {
        let is_waited_for =
            object.metadata.deletion_timestamp.is_some() && progress == Progress::Finished;
        let is_over = match self.refusals {
            None => true,
            Some(refusals) => is_waited_for && refusals >= REFUSALS,
        };
        (is_over && self.at.is_some() && self.at == version(Some(object))).then_some(&self.patch)
    }
}

/// Whether what may wait does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pace {
    Patient,
    /// There is no later.
    Last,
}

/// A call that came back.
struct Landed {
    uid: PodUid,
    /// The object's version before it.
    before: Option<u64>,
    /// What was written; `None` for a deletion.
    patch: Option<Value>,
    result: Result<Option<v1::Pod>, ClusterError>,
}

type Flight = Pin<Box<dyn Future<Output = Landed> + Send>>;

impl Clone for StatusWriter {
    fn clone(&self) -> Self {
        Self::new(self.client.clone(), self.inputs.clone())
    }
}

/// What a round does: it decides on every pod that is due, and begins as many calls as there is room for.
#[derive(Debug)]
pub struct BeginCalls;

impl std::fmt::Display for BeginCalls {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Each write is told of where it is made.
        Ok(())
    }
}

impl Reconciler for StatusWriter {
    const NAME: &'static str = "pod_status_writer";
    type Seen = ();
    type Plan = BeginCalls;

    async fn observe(&mut self, why: WakeReason) -> Result<(), RoundError> {
        if why == WakeReason::Start {
            // Not before: the one that clones are made of would never read them.
            self.changes = Some(self.inputs.status.changes());
            self.apply_held();
        }
        self.apply_changes();
        self.retry();
        Ok(())
    }

    fn decide(&self, _seen: (), _now: Timestamp) -> BeginCalls {
        BeginCalls
    }

    async fn act(&mut self, _plan: BeginCalls) -> RoundResult {
        self.start_calls(Pace::Patient);
        Ok(())
    }

    async fn changed(&mut self) {
        tokio::select! {
            // Answers make room for calls, so they go first; every other arm only says "look again" and loses nothing.
            biased;
            Some(landed) = self.flights.next() => self.land(landed),
            Some(uid) = next(&mut self.changes) => drop(self.due.insert(uid)),
            Ok(()) = self.inputs.held.changed() => self.apply_held(),
            // Nobody tells anything any more: the process is stopping.
            else => std::future::pending().await,
        }
    }

    fn wait(&self, _result: &RoundResult) -> Option<Duration> {
        let again = self.looks_again_at()?;
        Some(again.saturating_duration_since(Instant::now()))
    }

    async fn last_words(&mut self) {
        let patient = self.slots.iter();
        let patient = patient.filter(|(_, slot)| slot.patient_until.is_some());
        self.due.extend(patient.map(|(uid, _)| uid.clone()));
        let last_words = async {
            loop {
                self.apply_changes();
                self.start_calls(Pace::Last);
                match self.flights.next().await {
                    Some(landed) => self.land(landed),
                    None => return,
                }
            }
        };
        if tokio::time::timeout(LAST_WORDS, last_words).await.is_err() {
            tracing::warn!("Not every pod status could be written before the stop");
        }
    }
}

impl StatusWriter {
    /// A writer that has written nothing yet.
    pub fn new(client: Client, inputs: StatusInputs) -> Self {
        Self {
            client,
            inputs,
            changes: None,
            flights: FuturesUnordered::new(),
            held: Held::default(),
            slots: BTreeMap::new(),
            due: BTreeSet::new(),
            retries: BTreeSet::new(),
            away: Away::default(),
        }
    }

    /// By changes and answers alone.
    pub fn pace() -> reconciler::Pace {
        reconciler::Pace {
            gap: Duration::ZERO,
            ..reconciler::Pace::every(IDLE)
        }
    }

    /// All that has been reported meanwhile, so that changes that come fast share a look.
    fn apply_changes(&mut self) {
        let changes = self.changes.iter_mut();
        let told = changes.flat_map(|changes| std::iter::from_fn(|| changes.try_recv().ok()));
        self.due.extend(told);
    }

    /// What the API holds now: only pods whose object is another are due.
    fn apply_held(&mut self) {
        if let Some(set) = self.inputs.held.borrow_and_update().clone() {
            self.due.extend(self.held.apply(&set));
        }
    }

    /// When there is something to do without any news.
    fn looks_again_at(&self) -> Option<Instant> {
        match self.away.until().filter(|_| !self.due.is_empty()) {
            Some(until) => Some(until),
            None => self.retries.first().map(|(at, _)| *at),
        }
    }

    /// The wait of some is over.
    fn retry(&mut self) {
        let now = Instant::now();
        while let Some((at, uid)) = self.retries.pop_first() {
            if at > now {
                self.retries.insert((at, uid));
                return;
            }
            self.due.insert(uid);
        }
    }

    /// Begins what is to be done of what is due, as far as there is room.
    fn start_calls(&mut self, pace: Pace) {
        if self.away.until().is_some() {
            return;
        }
        let now = Instant::now();
        // Of a server that was away one call finds out whether it is back.
        let width = if self.away.is_away() { 1 } else { WIDTH };
        while self.flights.len() < width
            && let Some(uid) = self.due.pop_first()
        {
            let Some(pod) = self.inputs.status.shown(&uid) else {
                // It is shown no more; a call that is on its way brings its slot back to this.
                if self.slots.get(&uid).is_some_and(|slot| !slot.is_busy) {
                    self.slots.remove(&uid);
                }
                continue;
            };
            let slot = self.slots.entry(uid.clone()).or_default();
            if slot.is_busy {
                // Its answer makes it due again.
                continue;
            }
            if let Some(at) = slot.retry_at.filter(|at| *at > now) {
                self.retries.insert((at, uid));
                continue;
            }
            let Some(object) = self.held.for_pod(&uid, &pod) else {
                continue;
            };
            let object = slot.newest(object);
            let view = StatusWriteView {
                held: &object,
                reported: &pod.status,
                progress: pod.progress,
                futile: slot
                    .tried
                    .as_ref()
                    .and_then(|tried| tried.futile(&object, pod.progress)),
            };
            let write = status_write(&view);
            slot.changed_at.get_or_insert(now);
            if matches!(write, StatusWrite::PatchLater(_)) && pace == Pace::Patient {
                let until = *slot.patient_until.get_or_insert(now + PATIENCE);
                if until > now {
                    self.retries.insert((until, uid));
                    continue;
                }
            }
            slot.patient_until = None;
            if write == StatusWrite::Nothing {
                slot.changed_at = None;
            } else {
                slot.is_busy = true;
                self.flights
                    .push(call(self.client.clone(), uid, object, write));
            }
        }
    }

    fn land(&mut self, landed: Landed) {
        self.due.insert(landed.uid.clone());
        match &landed.result {
            Err(error) if is_of_server(error) => self.away.failed(WHAT, error),
            Ok(_) | Err(_) => self.away.answered(WHAT),
        }
        let Some(slot) = self.slots.get_mut(&landed.uid) else {
            return;
        };
        slot.is_busy = false;
        match landed.result {
            Ok(object) => {
                if let Some(patch) = landed.patch {
                    let is_futile = version(object.as_ref()) == landed.before;
                    if is_futile {
                        tracing::warn!(uid = %landed.uid, status = %patch, "The API server accepted a status and changed nothing; it is not written again");
                    }
                    slot.tried = is_futile.then_some(Tried {
                        at: landed.before,
                        patch,
                        refusals: None,
                    });
                }
                // An object that stays after its deletion has finalizers: their owners need no reminder.
                let is_deletion = object.is_none();
                let changed_at = slot.changed_at.take();
                if let Some(at) = changed_at.filter(|_| !is_deletion) {
                    self.inputs
                        .figures
                        .seconds
                        .observe(at.elapsed().as_secs_f64());
                }
                slot.retry_at = is_deletion.then(|| Instant::now() + RETRY.most);
                slot.answered = object.map(Arc::new);
                slot.failures = 0;
            }
            // The wait is everybody's.
            Err(error) if is_of_server(&error) => slot.retry_at = self.away.until(),
            Err(error) => {
                // Gone, or another of the name by now: the watch will tell.
                let is_other = error.is_not_found() || error.is_conflict();
                // The first, and then seldom.
                if !is_other && slot.failures.saturating_add(1).is_power_of_two() {
                    tracing::warn!(uid = %landed.uid, error = %error, "Status could not be written; tried again");
                }
                if let Some(patch) = landed.patch.filter(|_| is_refusal(&error)) {
                    slot.is_refused(&landed.uid, landed.before, patch, &error);
                }
                slot.failures = slot.failures.saturating_add(1);
                let pause = RETRY.after(slot.failures);
                let pause = error.retry_after().unwrap_or(pause).min(RETRY.most);
                slot.retry_at = Some(Instant::now() + pause);
            }
        }
    }
}

impl Slot {
    /// The server does not take this patch for what it is.
    fn is_refused(&mut self, uid: &PodUid, at: Option<u64>, patch: Value, error: &ClusterError) {
        let before = self
            .tried
            .take()
            .filter(|tried| tried.at == at && tried.patch == patch);
        let refusals = before.and_then(|tried| tried.refusals).unwrap_or(0) + 1;
        if refusals == REFUSALS {
            tracing::error!(uid = %uid, error = %error, "The API server rejects a status; the pod is deleted without it");
        }
        self.tried = Some(Tried {
            at,
            patch,
            refusals: Some(refusals),
        });
    }

    /// Of the object that the watch shows and the one that the last call answered, the newer.
    fn newest(&mut self, shown: &Arc<v1::Pod>) -> Arc<v1::Pod> {
        match &self.answered {
            Some(answered) if version(Some(answered)) > version(Some(shown)) => {
                Arc::clone(answered)
            }
            Some(_) | None => {
                self.answered = None;
                Arc::clone(shown)
            }
        }
    }
}

/// Whether the server says that the patch itself is wrong, or never allowed: another try of it fares no better.
fn is_refusal(error: &ClusterError) -> bool {
    match error {
        ClusterError::Refused { refusal, .. } => {
            matches!(refusal.code, 400 | 403 | 413 | 415 | 422)
        }
        _ => false,
    }
}

/// An object's version, where it is a number, as those of every known server are.
fn version(pod: Option<&v1::Pod>) -> Option<u64> {
    pod?.metadata.resource_version.as_deref()?.parse().ok()
}

/// What the API holds, by the UID of the pod here: its own, or for the mirror of a static pod the hash, which is the UID here.
#[derive(Debug, Default)]
struct Held {
    objects: BTreeMap<PodUid, Arc<v1::Pod>>,
    set: Arc<PodSet>,
}

impl Held {
    /// Takes a whole set; which pods have another object than before, or none any more.
    fn apply(&mut self, set: &Arc<PodSet>) -> Vec<PodUid> {
        let before = std::mem::replace(&mut self.set, Arc::clone(set));
        match set.changed_since(&before) {
            Some(changed) => self.apply_changed(changed),
            None => self.apply_whole(set),
        }
    }

    /// The same pods as before, of which these have another object: nearly always one of many.
    fn apply_changed(&mut self, changed: &[Arc<Pod>]) -> Vec<PodUid> {
        let mut others = Vec::new();
        for pod in changed {
            let old = self
                .objects
                .insert(pod.uid.clone(), Arc::clone(&pod.object));
            if !old.is_some_and(|old| Arc::ptr_eq(&old, &pod.object)) {
                others.push(pod.uid.clone());
            }
        }
        others
    }

    fn apply_whole(&mut self, set: &PodSet) -> Vec<PodUid> {
        let own = set.pods.iter().map(|pod| (pod.uid.as_str(), &pod.object));
        let hash = |pod: &Arc<v1::Pod>| {
            let annotations = pod.metadata.annotations.as_ref()?;
            annotations.get(CONFIG_MIRROR_ANNOTATION).cloned()
        };
        let mirrors: Vec<_> = set
            .mirrors
            .iter()
            .filter_map(|pod| Some((hash(pod)?, pod)))
            .collect();
        let mirrors = mirrors.iter().map(|(hash, pod)| (hash.as_str(), *pod));
        // A pod's own object goes before a mirror that claims its UID.
        let now: BTreeMap<&str, &Arc<v1::Pod>> = mirrors.chain(own).collect();
        let gone: Vec<PodUid> = self
            .objects
            .keys()
            .filter(|uid| !now.contains_key(uid.as_str()))
            .cloned()
            .collect();
        for uid in &gone {
            self.objects.remove(uid);
        }
        let mut changed = gone;
        for (uid, object) in now {
            match self.objects.get(uid) {
                Some(old) if Arc::ptr_eq(old, object) => {}
                Some(_) | None => {
                    // No pod has a UID that is none.
                    let Ok(uid) = PodUid::parse(uid) else {
                        continue;
                    };
                    self.objects.insert(uid.clone(), Arc::clone(object));
                    changed.push(uid);
                }
            }
        }
        changed
    }

    /// The object whose status a pod's is: its own, or its mirror's, of the same name and namespace.
    fn for_pod(&self, uid: &PodUid, pod: &ReportedPod) -> Option<&Arc<v1::Pod>> {
        let object = self.objects.get(uid)?;
        let (held, own) = (&object.metadata, &pod.object.metadata);
        let is_own = held.uid.as_deref() == Some(uid.as_str());
        (is_own || held.name == own.name && held.namespace == own.namespace).then_some(object)
    }
}

/// The next pod that changed. Cancel: loses nothing.
async fn next(changes: &mut Option<mpsc::UnboundedReceiver<PodUid>>) -> Option<PodUid> {
    changes.as_mut()?.recv().await
}

fn call(client: Client, uid: PodUid, object: Arc<v1::Pod>, write: StatusWrite) -> Flight {
    Box::pin(async move {
        let metadata = &object.metadata;
        let address = PodAddress {
            namespace: metadata.namespace.as_deref().unwrap_or_default(),
            name: metadata.name.as_deref().unwrap_or_default(),
            uid: metadata.uid.as_deref().unwrap_or_default(),
        };
        let mut patch = None;
        let result = match write {
            StatusWrite::Nothing => Ok(None),
            StatusWrite::Patch(status) | StatusWrite::PatchLater(status) => {
                tracing::debug!(pod = address.name, namespace = address.namespace, uid = %uid, status = %status, "Status is written");
                let status = patch.insert(status);
                client.write_pod_status(address, status).await.map(Some)
            }
            StatusWrite::Delete => {
                tracing::info!(pod = address.name, namespace = address.namespace, uid = %uid, "Pod is gone from this node; its object is deleted");
                client.delete_pod(address).await.map(|()| None)
            }
        };
        Landed {
            uid,
            before: version(Some(&object)),
            patch,
            result,
        }
    })
}

#[cfg(test)]
mod tests {
    use kubelet_model::pod::SourceKind;
    use serde_json::json;

    use super::*;

    fn object(uid: &str, mirror_of: Option<&str>) -> Arc<v1::Pod> {
        let annotations = mirror_of.map(|hash| json!({ CONFIG_MIRROR_ANNOTATION: hash }));
        let pod = json!({ "metadata": { "name": "p", "namespace": "n", "uid": uid, "annotations": annotations }, "spec": { "containers": [] } });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn set(own: &[&Arc<v1::Pod>], mirrors: &[&Arc<v1::Pod>]) -> PodSet {
        let pod = |object: &&Arc<v1::Pod>| {
            Arc::new(Pod::new(Arc::clone(object), SourceKind::Api, Vec::new()).unwrap())
        };
        let mirrors = mirrors.iter().map(|pod| Arc::clone(pod)).collect();
        PodSet::new(own.iter().map(pod).collect(), mirrors)
    }

    #[test]
    fn of_a_set_only_what_is_another_object_than_before_is_due() {
        let mut held = Held::default();
        let (one, two, mirror) = (object("1", None), object("2", None), object("m", Some("h")));
        let mut last = Arc::<PodSet>::default();
        let mut due = |set: PodSet| {
            last = Arc::new(set.after(&last));
            let due: Vec<String> = held.apply(&last).iter().map(PodUid::to_string).collect();
            due.join(" ")
        };
        assert_eq!(due(set(&[&one, &two], &[&mirror])), "1 2 h");
        assert_eq!(due(set(&[&one, &two], &[&mirror])), "");
        let newer = object("2", None);
        assert_eq!(due(set(&[&one, &newer], &[&mirror])), "2");
        assert_eq!(due(set(&[&newer], &[])), "1 h");
    }

    #[test]
    fn a_reader_that_missed_a_set_looks_at_the_whole_of_the_next() {
        let (one, two) = (object("1", None), object("2", None));
        let [newer_one, newer_two] = [object("1", None), object("2", None)];
        let first = Arc::new(set(&[&one, &two], &[]));
        let second = Arc::new(set(&[&newer_one, &two], &[]).after(&first));
        let third = Arc::new(set(&[&newer_one, &newer_two], &[]).after(&second));
        let mut held = Held::default();
        held.apply(&first);
        let due: Vec<String> = held.apply(&third).iter().map(PodUid::to_string).collect();
        assert_eq!(due, ["1", "2"]);
    }

    #[test]
    fn a_mirror_stands_for_the_static_pod_of_its_own_name_alone() {
        let mut held = Held::default();
        held.apply(&Arc::new(set(&[], &[&object("m", Some("h"))])));
        let shown = |name: &str| ReportedPod {
            object: Arc::new(
                serde_json::from_value(json!({ "metadata": { "name": name, "namespace": "n" } }))
                    .unwrap(),
            ),
            status: Arc::default(),
            progress: Progress::Working,
        };
        let uid = PodUid::parse("h").unwrap();
        assert!(held.for_pod(&uid, &shown("p")).is_some());
        assert!(held.for_pod(&uid, &shown("other")).is_none());
    }
}
