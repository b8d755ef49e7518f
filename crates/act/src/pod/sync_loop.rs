//! Owns the desired pods: takes whole sets from the sources, starts pod workers and gives them orders, finds orphans.
//!
//! In:    source snapshots; wake-ups of the relister; ends of workers
//! Out:   orders to pod workers, one worker per pod UID
//! Calls: one core task
//! Holds: nothing is removed until all sources have reported once; two pods of one full name never run together (`names`); a pod
//!        that comes back while it terminates starts again only after its end; a worker that panics is restarted
//! Upstream: pkg/kubelet/kubelet.go (syncLoop, HandlePod*, HandlePodCleanups), pkg/kubelet/pod_workers.go (allowPodStart)
//!
//! | Module | What |
//! |---|---|
//! | `names` | whose turn it is, of several pods of one full name |
//! | `admit` | whether a pod whose turn it is may begin here |

mod admit;
mod names;
mod on_disk;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use k8s_openapi::api::core::v1;
use kubelet_decide::pod::admission::Allocation;
use kubelet_decide::report::events::duplicate_name;
use kubelet_decide::report::pod_status::reads_same;
use kubelet_decide::shapes::life::TerminationCause;
use kubelet_decide::shapes::record::PodRecord;
use kubelet_decide::shapes::view::{Desire, Order};
use kubelet_decide::sources::desired::{DesiredPods, PodChange, merge};
use kubelet_model::doubling::Doubling;
use kubelet_model::ids::PodUid;
use kubelet_model::pod::{Pod, SourceKind};
use kubelet_model::reason::Reason;
use prometheus::Registry;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

pub use self::admit::AdmissionParts;
use crate::frame::faults::{FaultPoint, Planted};
use crate::frame::health::LoopBeat;
use crate::frame::records::POD_PREFIX;
use crate::frame::supervisor::{Supervisor, TaskKind};
use crate::pod::loop_metrics::LoopMetrics;
use crate::pod::orphan::orphan_pod;
use crate::pod::pod_worker::{PodWorker, WorkerEvent, WorkerParts};
use crate::pod::timeline::Stage;
use crate::sources::SourceSnapshot;

/// How the loop hears of things.
#[derive(Debug)]
pub struct SyncInputs {
    /// From sources.
    pub snapshots: mpsc::Receiver<SourceSnapshot>,
    /// From the relister.
    pub wakes: mpsc::UnboundedReceiver<PodUid>,
    /// From workers.
    pub events: mpsc::UnboundedReceiver<WorkerEvent>,
}

/// Before a worker that panicked is started again; doubles with each panic, up to the second.
const RESTART: Doubling = Doubling::new(Duration::from_secs(10), Duration::from_secs(300));

struct Worker {
    pod: Arc<Pod>,
    orders: watch::Sender<Order>,
    hint: Arc<Notify>,
    name_claim: NameClaim,
    panics: u32,
    /// What it takes of the node, once it was let in.
    allocation: Option<Allocation>,
    /// Its containers have ended for good, and it is being taken down.
    is_ending: bool,
    past: admit::Past,
}

/// A pod's claim to its full name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NameClaim {
    /// Another pod of the name comes first, or it is not known yet which one does.
    Queued,
    /// It has the name and may run.
    Held,
    /// It was ordered to stop.
    Terminating,
    /// It is gone but for what the runtime still holds of it.
    Released,
    /// All its containers have exited for good; it keeps its status.
    Exited,
}

impl NameClaim {
    fn is_leaving(self) -> bool {
        matches!(self, Self::Terminating | Self::Released)
    }
}

/// The loop.
pub struct SyncLoop {
    parts: WorkerParts,
    supervisor: Supervisor,
    sources: BTreeSet<SourceKind>,
    desired: DesiredPods,
    workers: BTreeMap<PodUid, Worker>,
    names: names::Names,
    admit: admit::Admit,
    /// Pods that no source names any more and that stay until every source has spoken.
    kept: BTreeSet<PodUid>,
    /// When workers that panicked are started again.
    restart_at: BTreeMap<PodUid, Instant>,
    listed: bool,
    cleaned: bool,
    pods_dir: PathBuf,
    seen: watch::Sender<bool>,
    beat: LoopBeat,
    metrics: LoopMetrics,
    logs_dir: PathBuf,
}

impl std::fmt::Debug for SyncLoop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyncLoop")
            .field("workers", &self.workers.len())
            .finish_non_exhaustive()
    }
}

impl SyncLoop {
    /// A loop that waits for these sources before it removes anything.
    ///
    /// # Errors
    /// When one of its metrics is already registered.
    pub fn new(
        parts: WorkerParts,
        admission: AdmissionParts,
        supervisor: Supervisor,
        sources: BTreeSet<SourceKind>,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let pods_dir = parts
            .executor
            .host
            .root
            .join(format!("{}/pods", parts.node.root_dir));
        let logs_dir = parts.executor.host.root.join(&parts.node.pod_logs_dir);
        Ok(Self {
            parts,
            supervisor,
            sources,
            desired: DesiredPods::default(),
            workers: BTreeMap::new(),
            names: names::Names::default(),
            admit: admit::Admit::new(admission),
            kept: BTreeSet::new(),
            restart_at: BTreeMap::new(),
            listed: false,
            cleaned: false,
            pods_dir,
            seen: watch::Sender::new(false),
            beat: LoopBeat::new(),
            metrics: LoopMetrics::new(registry)?,
            logs_dir,
        })
    }

    /// Turns true once every source was seen; then what nobody names may be removed.
    pub fn all_sources_seen(&self) -> watch::Receiver<bool> {
        self.seen.subscribe()
    }

    /// When the loop last turned.
    pub fn last_turn(&self) -> watch::Receiver<Option<Instant>> {
        self.beat.last_turn()
    }

    /// Runs until the stop.
    pub async fn run(mut self, mut inputs: SyncInputs, stop: CancellationToken) {
        let pleg = self.parts.pleg.clone();
        let mut first_list = std::pin::pin!(async move { pleg.first_list().await });
        let mut on_disk = std::pin::pin!(OptionFuture::default());
        loop {
            self.beat.turn();
            let restart = self.restart_at.values().min().copied();
            let again = self.admit.next_look();
            tokio::select! {
                // Ends of workers first, so that waiting pods start before new ones; then desires, then hints. Each arm takes
                // one item off its queue and loses nothing when another wins.
                biased;
                () = stop.cancelled() => return,
                Some(event) = inputs.events.recv() => self.hear(event),
                Some(snapshot) = inputs.snapshots.recv() => self.merge_snapshot(snapshot).await,
                Some(uid) = inputs.wakes.recv() => self.wake(&uid),
                () = &mut first_list, if !self.listed => {
                    self.listed = true;
                    self.settle_all_names();
                }
                Some(found) = &mut on_disk => {
                    on_disk.set(None.into());
                    self.adopt_from_disk(found);
                }
                () = tokio::time::sleep_until(restart.unwrap_or_else(Instant::now)), if restart.is_some() => self.revive(),
                () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => self.admit_again(),
                () = self.beat.idle() => {}
            }
            if self.listed && !self.cleaned && self.all_seen() {
                self.cleaned = true;
                self.seen.send_replace(true);
                self.release_removed();
                self.find_orphans();
                let blocking = &self.parts.executor.host.blocking;
                let dirs = (self.pods_dir.as_path(), self.logs_dir.as_path());
                on_disk.set(Some(on_disk::find(blocking, dirs)).into());
            }
            self.parts.records.write_again();
            self.metrics.turn(&self.parts.metrics);
        }
    }

    fn hear(&mut self, event: WorkerEvent) {
        // There may be room now for who waits for some.
        self.admit.look_now();
        match event {
            WorkerEvent::Finished(uid, restart_counts) => self.finished(&uid, restart_counts),
            WorkerEvent::Ending(uid) => {
                if let Some(worker) = self.workers.get_mut(&uid) {
                    worker.is_ending = true;
                }
            }
            WorkerEvent::Ended(uid) => self.ended(&uid),
            WorkerEvent::Released(uid) => self.released(&uid),
            WorkerEvent::Panicked(uid) => self.panicked(uid),
        }
    }

    fn all_seen(&self) -> bool {
        self.sources
            .iter()
            .all(|source| self.desired.seen.contains(source))
    }

    async fn merge_snapshot(&mut self, snapshot: SourceSnapshot) {
        self.parts
            .executor
            .faults
            .reach(FaultPoint::SourceRead)
            .await;
        let now = self.parts.executor.clock.now();
        if snapshot.source == SourceKind::Api {
            self.metrics.hold_mirrors(snapshot.mirrors);
        }
        let merged = merge(&mut self.desired, snapshot.source, &snapshot.pods);
        for uid in &merged.elsewhere {
            tracing::warn!(uid = %uid, source = snapshot.source.as_str(), "Another source names the same UID; what that one says counts");
        }
        let is_status = |change: &PodChange| matches!(change, PodChange::Reconcile(_));
        if merged.changes.is_empty() || !merged.changes.iter().all(is_status) {
            self.metrics.desire(self.desired.pods.values());
        }
        for name in &merged.duplicates {
            let same = snapshot.pods.iter().filter(|pod| pod.full_name == *name);
            for ignored in same.skip(1) {
                let event = duplicate_name(ignored);
                self.parts.executor.events.pod(ignored, event);
            }
            tracing::warn!(pod = %name, source = snapshot.source.as_str(), "Pod comes more than once in its source; the first is kept");
        }
        self.parts.executor.faults.reach(FaultPoint::Merged).await;
        for change in self.in_order_of_admission(merged.changes) {
            match change {
                PodChange::Add(pod) => {
                    self.parts
                        .executor
                        .timeline
                        .mark(&pod.uid, &pod.full_name, Stage::Queued, now);
                    self.add(pod).await;
                }
                PodChange::Update(pod) => self.update(pod),
                PodChange::Reconcile(pod) => self.reconcile(pod),
                PodChange::Delete(pod) => {
                    let (uid, meta) = (pod.uid.clone(), &pod.object.metadata);
                    let grace_seconds = meta.deletion_grace_period_seconds;
                    self.update(pod);
                    self.stop(&uid, TerminationCause::Removed, grace_seconds);
                }
                PodChange::Remove(pod) => self.remove(&pod),
            }
        }
    }

    /// Starts a pod's worker, which waits its turn where another of the name comes first.
    async fn add(&mut self, pod: Arc<Pod>) {
        if self.workers.contains_key(&pod.uid) {
            if self.kept.remove(&pod.uid) {
                // It went and came back before it could be removed: nothing has happened to it.
                self.update(pod);
            } else {
                tracing::info!(pod = %pod.full_name, uid = %pod.uid, "Pod waits until its previous instance has terminated");
                self.show_waiting_for_removal(&pod.uid);
            }
            return;
        }
        self.parts.executor.faults.reach(FaultPoint::Admitted).await;
        self.start_wanted(Arc::clone(&pod));
        if is_deleted(&pod) {
            // Asked to end while this kubelet was not there to hear it.
            let grace_seconds = pod.object.metadata.deletion_grace_period_seconds;
            self.stop(&pod.uid, TerminationCause::Removed, grace_seconds);
        }
    }

    /// A worker for a pod that a source names.
    fn start_wanted(&mut self, pod: Arc<Pod>) {
        let name = pod.full_name.clone();
        self.names.add(&name, &pod.uid);
        self.start(Arc::clone(&pod), Desire::Wait(None), NameClaim::Queued);
        if self.listed {
            self.settle_name(&name);
        }
    }

    fn start(&mut self, pod: Arc<Pod>, desire: Desire, name_claim: NameClaim) {
        let past = self.past_of(&pod);
        let (orders, _) = watch::channel(Order {
            pod: Arc::clone(&pod),
            desire,
        });
        let worker = Worker {
            pod: Arc::clone(&pod),
            orders,
            hint: Arc::new(Notify::new()),
            name_claim,
            panics: 0,
            allocation: None,
            is_ending: false,
            past,
        };
        self.spawn(&worker);
        self.workers.insert(pod.uid.clone(), worker);
    }

    fn spawn(&self, worker: &Worker) {
        let (orders, hint) = (worker.orders.subscribe(), Arc::clone(&worker.hint));
        let end = EndOfWorker {
            uid: worker.pod.uid.clone(),
            events: Some(self.parts.events.clone()),
        };
        let name = format!("pod {} {}", worker.pod.full_name, worker.pod.uid);
        let stop = self.supervisor.stop().clone();
        let mut task = PodWorker::new(self.parts.clone(), orders, hint);
        if worker.panics > 0 {
            task = task.with_initial_relist();
        }
        // Moved into its loop it would be in there twice.
        let mut task = Box::new(task);
        // Every line of the log that is written on the way carries both.
        let span = tracing::info_span!("pod", pod = %worker.pod.full_name, uid = %worker.pod.uid);
        let run = async move {
            task.run(stop).await;
            end.has_returned();
        };
        self.supervisor
            .spawn(TaskKind::PodWorker, name, run.instrument(span));
    }

    /// A newer version of a pod that is known. One that leaves is ended as it was; its next life takes what is desired then. What the
    /// API's object says beside that is shown all the same: no other pod has its UID there.
    fn update(&mut self, pod: Arc<Pod>) {
        let Some(worker) = self.workers.get_mut(&pod.uid) else {
            return;
        };
        if worker.name_claim.is_leaving() {
            let shows = worker.name_claim != NameClaim::Released;
            if shows && is_of_api(&worker.pod, &pod) {
                self.renew(&pod);
                self.parts.status.show_object(&pod.uid, &pod.object);
            }
            return;
        }
        let before = std::mem::replace(&mut worker.pod, Arc::clone(&pod));
        worker
            .orders
            .send_modify(|order| order.pod = Arc::clone(&pod));
        if before.full_name != pod.full_name {
            // The same UID under another name: it wants that one now.
            self.names.remove(&before.full_name, &pod.uid);
            self.names.add(&pod.full_name, &pod.uid);
            worker.name_claim = NameClaim::Queued;
            self.settle_name(&before.full_name);
            self.settle_name(&pod.full_name);
        }
    }

    /// Its object is another, and its worker is not woken.
    fn renew(&mut self, pod: &Arc<Pod>) {
        let Some(worker) = self.workers.get_mut(&pod.uid) else {
            return;
        };
        worker.pod = Arc::clone(pod);
        worker.orders.send_if_modified(|order| {
            order.pod = Arc::clone(pod);
            false
        });
    }

    /// Only its status is another, mostly because this kubelet wrote it. Where nothing is read that changed, its worker is not woken:
    /// it has the object at its next turn.
    fn reconcile(&mut self, pod: Arc<Pod>) {
        let Some(worker) = self.workers.get_mut(&pod.uid) else {
            return;
        };
        if worker.name_claim.is_leaving() {
            return;
        }
        let is_quiet =
            worker.pod.full_name == pod.full_name && reads_same(&worker.pod.object, &pod.object);
        if !is_quiet {
            self.update(pod);
            return;
        }
        self.renew(&pod);
        // After the order: a turn that ends now shows this object or is corrected here.
        self.parts.status.refresh(&pod.uid, &pod.object);
    }

    fn stop(&mut self, uid: &PodUid, cause: TerminationCause, grace_seconds: Option<i64>) {
        let Some(worker) = self.workers.get_mut(uid) else {
            return;
        };
        if worker.name_claim != NameClaim::Released {
            worker.name_claim = NameClaim::Terminating;
        }
        worker.orders.send_modify(|order| {
            order.desire = Desire::Stop {
                cause,
                grace_seconds,
            };
        });
    }

    /// No source names it any more. Until every source has spoken that is no evidence: one of them may name it yet.
    fn remove(&mut self, pod: &Arc<Pod>) {
        let planted = self.parts.executor.faults.planted() == Planted::RemovesEarly;
        let name_claim = self.workers.get(&pod.uid).map(|worker| worker.name_claim);
        if name_claim.is_none() && pod.source == SourceKind::Api {
            // Its worker is done, and now its source does not hold it either: its last status is written.
            self.forget(&pod.uid);
        } else if matches!(name_claim, None | Some(NameClaim::Released)) {
            // Its worker has nothing to show any more, and now its source does not hold it either.
            self.parts.status.forget(&pod.uid);
        } else if self.cleaned || planted {
            self.stop(&pod.uid, TerminationCause::Removed, grace_of_removal(pod));
        } else {
            let silent = self.sources.difference(&self.desired.seen);
            let mut waits_for: Vec<&str> = silent.map(|source| source.as_str()).collect();
            if !self.listed {
                waits_for.push("container runtime");
            }
            tracing::info!(pod = %pod.full_name, uid = %pod.uid, waits_for = waits_for.join(", "), "Pod is no longer desired; it is kept until every source has spoken and the container runtime was listed");
            self.kept.insert(pod.uid.clone());
        }
    }

    /// Nothing is left of it, on the node or at its source.
    fn forget(&mut self, uid: &PodUid) {
        self.parts.status.forget(uid);
        self.parts.records.remove(&format!("{POD_PREFIX}{uid}"));
    }

    /// Every source has spoken: what was kept for them alone goes.
    fn release_removed(&mut self) {
        for uid in std::mem::take(&mut self.kept) {
            if !self.desired.pods.contains_key(&uid) {
                let known = self.workers.get(&uid);
                let grace_seconds = known.and_then(|worker| grace_of_removal(&worker.pod));
                self.stop(&uid, TerminationCause::Removed, grace_seconds);
            }
        }
    }

    /// A worker has ended, and the runtime holds nothing of its pod any more: the pod starts again if it is wanted again.
    fn finished(&mut self, uid: &PodUid, restart_counts: BTreeMap<String, u32>) {
        let Some(worker) = self.workers.remove(uid) else {
            return;
        };
        self.kept.remove(uid);
        self.names.remove(&worker.pod.full_name, uid);
        match self.desired.pods.get(uid).cloned() {
            // It has done what it was asked to; its object goes when its status is written.
            Some(pod) if is_deleted(&pod) => {}
            Some(pod) => {
                self.metrics.restarted(&pod);
                // It came back while it went, so this is a restart to those who look at it.
                let record = PodRecord {
                    restart_counts,
                    ..PodRecord::default()
                };
                self.parts
                    .records
                    .put(&format!("{POD_PREFIX}{uid}"), &record);
                self.start_wanted(pod);
            }
            None => self.forget(uid),
        }
        self.settle_name(&worker.pod.full_name);
    }

    /// A pod has ended by itself and stays to be looked at: another of its name may run.
    fn ended(&mut self, uid: &PodUid) {
        let Some(worker) = self.workers.get_mut(uid) else {
            return;
        };
        if !worker.name_claim.is_leaving() {
            worker.name_claim = NameClaim::Exited;
            worker.allocation = None;
            let name = worker.pod.full_name.clone();
            self.settle_name(&name);
        }
    }

    /// What the runtime has not removed of it yet holds nobody up.
    fn released(&mut self, uid: &PodUid) {
        if let Some(worker) = self.workers.get_mut(uid) {
            worker.name_claim = NameClaim::Released;
            worker.allocation = None;
            let name = worker.pod.full_name.clone();
            self.settle_name(&name);
            if !self.desired.pods.contains_key(uid) {
                // Its source dropped it before: nobody else takes it out of what is shown.
                self.parts.status.forget(uid);
            }
            self.show_waiting_for_removal(uid);
        }
    }

    /// A static pod that is wanted again, whose worker has nothing to show any more. One of the API does not come back.
    fn show_waiting_for_removal(&self, uid: &PodUid) {
        let is_released = |worker: &Worker| worker.name_claim == NameClaim::Released;
        if !self.workers.get(uid).is_some_and(is_released) {
            return;
        }
        let wanted = self.desired.pods.get(uid);
        if let Some(pod) = wanted.filter(|pod| pod.source != SourceKind::Api) {
            let status = v1::PodStatus {
                phase: Some("Pending".to_owned()),
                reason: Some(Reason::WaitingForRemoval.to_string()),
                message: Some(
                    "waits until the runtime has removed what is left of its earlier life"
                        .to_owned(),
                ),
                ..v1::PodStatus::default()
            };
            self.parts.status.report(uid, &pod.object, status);
        }
    }

    /// A worker panicked. The pod is not forgotten for that: its worker begins anew, from what is there.
    fn panicked(&mut self, uid: PodUid) {
        if let Some(worker) = self.workers.get_mut(&uid) {
            worker.panics = worker.panics.saturating_add(1);
            let pause = RESTART.after(worker.panics);
            tracing::error!(pod = %worker.pod.full_name, uid = %uid, "Worker panicked and is started again after a while");
            self.restart_at.insert(uid, Instant::now() + pause);
        }
    }

    fn revive(&mut self) {
        let now = Instant::now();
        let due: Vec<PodUid> = self
            .restart_at
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in due {
            self.restart_at.remove(&uid);
            if let Some(worker) = self.workers.get(&uid) {
                self.spawn(worker);
            }
        }
    }

    fn wake(&mut self, uid: &PodUid) {
        match self.workers.get(uid) {
            Some(worker) => worker.hint.notify_one(),
            None if self.cleaned => self.adopt_orphan(uid),
            None => {}
        }
        // What a pod of some name waits for may just have gone.
        self.settle_contested_names();
    }

    /// Everything is known now: what the runtime or the disk holds beyond it is taken down.
    fn find_orphans(&mut self) {
        for pod in self.parts.pleg.all() {
            self.adopt_orphan(&pod.uid);
        }
    }

    /// The runtime and the disk were asked: a record of a pod of which neither holds anything is of no use to anybody. That a pod could
    /// not be inspected yet says nothing of it.
    fn sweep_records(&self) {
        for key in self.parts.records.keys(POD_PREFIX) {
            let may_be_there = PodUid::parse(&key)
                .is_ok_and(|uid| self.is_known(&uid) || self.parts.pleg.is_unseen(&uid));
            if !may_be_there {
                self.parts.records.remove(&format!("{POD_PREFIX}{key}"));
            }
        }
    }

    /// What of pods lies on the disk was found, a while after it was asked for perhaps: what is not known by now is nobody's.
    fn adopt_from_disk(&mut self, on_disk: on_disk::PodsOnDisk) {
        let mut orphans = 0;
        for (uid, (has_directory, full_name)) in on_disk {
            if !self.is_known(&uid) {
                orphans += usize::from(has_directory);
                tracing::info!(uid = %uid, pod = %full_name, "Directory of a pod that no source knows");
                self.start_orphan(Pod::orphan(uid, full_name), None);
            }
        }
        self.metrics.swept(orphans);
        self.sweep_records();
    }

    fn is_known(&self, uid: &PodUid) -> bool {
        self.workers.contains_key(uid) || self.desired.pods.contains_key(uid)
    }

    fn adopt_orphan(&mut self, uid: &PodUid) {
        if self.is_known(uid) {
            return;
        }
        let Some(observed) = self.parts.pleg.current(uid) else {
            // It could not be inspected before, and is gone now.
            if !self.parts.pleg.is_unseen(uid) {
                self.parts.records.remove(&format!("{POD_PREFIX}{uid}"));
            }
            return;
        };
        tracing::info!(uid = %uid, namespace = observed.namespace, name = observed.name, seen = %observed, "The runtime holds a pod that no source knows");
        self.metrics.found_orphan();
        let grace = observed
            .containers
            .iter()
            .filter_map(|c| c.grace_seconds)
            .max();
        self.start_orphan(orphan_pod(uid, &observed.namespace, &observed.name), grace);
    }

    fn start_orphan(&mut self, pod: Pod, grace_seconds: Option<i64>) {
        let desire = Desire::Stop {
            cause: TerminationCause::Orphaned,
            grace_seconds,
        };
        self.names.add(&pod.full_name, &pod.uid);
        self.start(Arc::new(pod), desire, NameClaim::Terminating);
    }
}

/// Seconds that a pod is given whose source names it no more; `None` takes the pod's own.
fn grace_of_removal(pod: &Pod) -> Option<i64> {
    // Only a deletion by force takes a pod of the API away that has been asked to end and has not.
    if !pod.is_static() && is_deleted(pod) {
        return Some(0);
    }
    pod.object.metadata.deletion_grace_period_seconds
}

/// Whether both are the same pod of the API.
fn is_of_api(before: &Pod, pod: &Pod) -> bool {
    let is_api = |pod: &Pod| pod.source == SourceKind::Api;
    is_api(before) && is_api(pod) && before.full_name == pod.full_name
}

/// Whether the API was asked to delete it.
fn is_deleted(pod: &Pod) -> bool {
    pod.object.metadata.deletion_timestamp.is_some()
}

/// Tells the loop when a worker's task is dropped before it returned: a panic.
struct EndOfWorker {
    uid: PodUid,
    events: Option<mpsc::UnboundedSender<WorkerEvent>>,
}

impl EndOfWorker {
    fn has_returned(mut self) {
        self.events = None;
    }
}

impl Drop for EndOfWorker {
    fn drop(&mut self) {
        if let Some(events) = &self.events {
            // When nobody listens the process is stopping.
            let _sent = events.send(WorkerEvent::Panicked(self.uid.clone()));
        }
    }
}
