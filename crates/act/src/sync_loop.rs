//! Owns what is desired: takes whole sets from the sources, tells workers, starts them, finds orphans.
//!
//! In:    source snapshots; wake-ups of the relister; ends of workers
//! Out:   orders to pod workers, one worker per pod UID
//! Calls: one core task
//! Holds: nothing is removed before every source was seen; two pods of one full name never run together: the later waits, in
//!        order of arrival; a pod that comes back while it goes starts again only after its end
//! Upstream: pkg/kubelet/kubelet.go (syncLoop, HandlePod*, HandlePodCleanups), pkg/kubelet/pod_workers.go (allowPodStart)

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kubelet_decide::desired::{DesiredPods, PodChange, merge};
use kubelet_decide::lifecycle::TerminationCause;
use kubelet_decide::view::Desire;
use kubelet_model::ids::{PodFullName, PodUid};
use kubelet_model::pod::{Pod, SourceKind};
use prometheus::Registry;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::faults::FaultPoint;
use crate::health::LoopBeat;
use crate::loop_metrics::LoopMetrics;
use crate::orphan::orphan_pod;
use crate::pod_worker::{Order, PodWorker, WorkerEvent, WorkerParts};
use crate::records::POD_PREFIX;
use crate::supervisor::{Supervisor, TaskKind};
use crate::timeline::Stage;

/// One source's whole set.
#[derive(Clone, Debug)]
pub struct SourceSnapshot {
    /// Which source.
    pub source: SourceKind,
    /// All pods it wants.
    pub pods: Vec<Arc<Pod>>,
}

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

struct Worker {
    pod: Arc<Pod>,
    orders: watch::Sender<Order>,
    hint: Arc<Notify>,
}

/// The loop.
pub struct SyncLoop {
    parts: WorkerParts,
    supervisor: Supervisor,
    sources: BTreeSet<SourceKind>,
    desired: DesiredPods,
    workers: BTreeMap<PodUid, Worker>,
    /// Pods that wait for the end of another of their name, or of their own earlier life.
    queued: BTreeMap<PodFullName, VecDeque<Arc<Pod>>>,
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
            queued: BTreeMap::new(),
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
    pub fn last_turn(&self) -> watch::Receiver<Option<tokio::time::Instant>> {
        self.beat.last_turn()
    }

    /// Runs until the stop.
    pub async fn run(mut self, mut inputs: SyncInputs, stop: CancellationToken) {
        let pleg = self.parts.pleg.clone();
        let mut first_list = std::pin::pin!(async move { pleg.first_list().await });
        let mut listed = false;
        loop {
            self.beat.turn();
            tokio::select! {
                // Ends of workers first, so that waiting pods start before new ones; then desires, then hints. Each arm takes
                // one item off its queue and loses nothing when another wins.
                biased;
                () = stop.cancelled() => return,
                Some(WorkerEvent::Finished(uid)) = inputs.events.recv() => self.finished(&uid),
                Some(snapshot) = inputs.snapshots.recv() => self.take(snapshot).await,
                Some(uid) = inputs.wakes.recv() => self.wake(&uid),
                () = &mut first_list, if !listed => listed = true,
                () = self.beat.idle() => {}
            }
            if listed && !self.cleaned && self.all_seen() {
                self.cleaned = true;
                self.seen.send_replace(true);
                self.find_orphans();
            }
            self.metrics.turn(&self.parts.metrics);
        }
    }

    fn all_seen(&self) -> bool {
        self.sources
            .iter()
            .all(|source| self.desired.seen.contains(source))
    }

    async fn take(&mut self, snapshot: SourceSnapshot) {
        self.parts
            .executor
            .faults
            .reach(FaultPoint::SourceRead)
            .await;
        let now = self.parts.executor.clock.now();
        let merged = merge(&mut self.desired, snapshot.source, &snapshot.pods);
        self.metrics.desire(self.desired.pods.values());
        for name in &merged.duplicates {
            tracing::warn!(pod = %name, source = snapshot.source.as_str(), "Pod comes more than once in its source; the first is kept");
        }
        self.parts.executor.faults.reach(FaultPoint::Merged).await;
        for change in merged.changes {
            match change {
                PodChange::Add(pod) => {
                    self.parts
                        .executor
                        .timeline
                        .mark(&pod.uid, &pod.full_name, Stage::Queued, now);
                    self.add(pod).await;
                }
                PodChange::Update(pod) | PodChange::Reconcile(pod) => self.order(pod, Desire::Run),
                PodChange::Delete(pod) => {
                    let grace_seconds = pod.object.metadata.deletion_grace_period_seconds;
                    self.order(
                        pod,
                        Desire::Stop {
                            cause: TerminationCause::Removed,
                            grace_seconds,
                        },
                    );
                }
                PodChange::Remove(pod) => self.remove(&pod),
            }
        }
    }

    /// Starts a pod's worker, or lets it wait its turn.
    async fn add(&mut self, pod: Arc<Pod>) {
        if self.is_taken(&pod) {
            tracing::info!(pod = %pod.full_name, uid = %pod.uid, "Pod waits for the end of the one before it");
            self.queued
                .entry(pod.full_name.clone())
                .or_default()
                .push_back(pod);
            return;
        }
        self.parts.executor.faults.reach(FaultPoint::Admitted).await;
        self.start(pod, Desire::Run);
    }

    fn is_taken(&self, pod: &Pod) -> bool {
        self.workers.contains_key(&pod.uid)
            || self
                .workers
                .values()
                .any(|w| w.pod.full_name == pod.full_name)
    }

    fn start(&mut self, pod: Arc<Pod>, desire: Desire) {
        let (orders, orders_out) = watch::channel(Order {
            pod: Arc::clone(&pod),
            desire,
        });
        let hint = Arc::new(Notify::new());
        let worker = PodWorker::new(self.parts.clone(), orders_out, Arc::clone(&hint));
        let name = format!("pod {} {}", pod.full_name, pod.uid);
        let stop = self.supervisor.stop().clone();
        self.workers
            .insert(pod.uid.clone(), Worker { pod, orders, hint });
        self.supervisor
            .spawn(TaskKind::PodWorker, name, worker.run(stop));
    }

    fn order(&mut self, pod: Arc<Pod>, desire: Desire) {
        match self.workers.get_mut(&pod.uid) {
            Some(worker) => {
                worker.pod = Arc::clone(&pod);
                worker.orders.send_replace(Order { pod, desire });
            }
            None => self.replace_queued(pod),
        }
    }

    /// A waiting pod is replaced by its newer version.
    fn replace_queued(&mut self, pod: Arc<Pod>) {
        let waiting = self.queued.get_mut(&pod.full_name).into_iter().flatten();
        for queued in waiting.filter(|q| q.uid == pod.uid) {
            *queued = Arc::clone(&pod);
        }
    }

    fn remove(&mut self, pod: &Arc<Pod>) {
        if let Some(queue) = self.queued.get_mut(&pod.full_name) {
            queue.retain(|queued| queued.uid != pod.uid);
        }
        if let Some(worker) = self.workers.get(&pod.uid) {
            let stop = Desire::Stop {
                cause: TerminationCause::Removed,
                grace_seconds: None,
            };
            worker.orders.send_replace(Order {
                pod: Arc::clone(&worker.pod),
                desire: stop,
            });
        }
    }

    /// A worker has ended: the next of its name may start.
    fn finished(&mut self, uid: &PodUid) {
        let Some(worker) = self.workers.remove(uid) else {
            return;
        };
        let name = worker.pod.full_name.clone();
        let queued = self.queued.get_mut(&name).and_then(VecDeque::pop_front);
        // Still wanted though it has ended: it was being removed when the kubelet was started, and came back meanwhile.
        let next = queued.or_else(|| self.desired.pods.get(uid).cloned());
        if self.queued.get(&name).is_some_and(VecDeque::is_empty) {
            self.queued.remove(&name);
        }
        if let Some(pod) = next {
            if pod.uid == *uid {
                self.metrics.restarted(&pod);
            }
            self.start(pod, Desire::Run);
        }
    }

    fn wake(&mut self, uid: &PodUid) {
        match self.workers.get(uid) {
            Some(worker) => worker.hint.notify_one(),
            None if self.cleaned => self.adopt_orphan(uid),
            None => {}
        }
    }

    /// Everything is known now: what the runtime or the disk holds beyond it is taken down.
    fn find_orphans(&mut self) {
        for pod in self.parts.pleg.all() {
            self.adopt_orphan(&pod.uid);
        }
        // The name of a directory of logs tells namespace and name, too: `<namespace>_<name>_<uid>`.
        let with_directory: BTreeSet<PodUid> = names_in(&self.pods_dir)
            .into_iter()
            .map(PodUid::from)
            .collect();
        let mut on_disk: BTreeMap<PodUid, (String, String)> = with_directory
            .iter()
            .map(|uid| (uid.clone(), (String::new(), String::new())))
            .collect();
        for name in names_in(&self.logs_dir) {
            if let [namespace, name, uid] = name.splitn(3, '_').collect::<Vec<_>>()[..] {
                on_disk.insert(PodUid::from(uid), (namespace.to_owned(), name.to_owned()));
            }
        }
        let mut orphans = 0;
        for (uid, (namespace, name)) in on_disk {
            if !self.is_known(&uid) {
                orphans += usize::from(with_directory.contains(&uid));
                tracing::info!(uid = %uid, namespace, name, "Directory of a pod that no source knows");
                self.start(
                    Arc::new(orphan_pod(&uid, &namespace, &name)),
                    Desire::Stop {
                        cause: TerminationCause::Orphaned,
                        grace_seconds: None,
                    },
                );
            }
        }
        self.metrics.swept(orphans);
        for key in self.parts.records.keys(POD_PREFIX) {
            if !self.is_known(&PodUid::from(key.as_str())) {
                self.parts.records.remove(&format!("{POD_PREFIX}{key}"));
            }
        }
    }

    fn is_known(&self, uid: &PodUid) -> bool {
        self.workers.contains_key(uid) || self.desired.pods.contains_key(uid)
    }

    fn adopt_orphan(&mut self, uid: &PodUid) {
        let Some(observed) = self.parts.pleg.current(uid).filter(|_| !self.is_known(uid)) else {
            return;
        };
        tracing::info!(uid = %uid, namespace = observed.namespace, name = observed.name, seen = %observed, "The runtime holds a pod that no source knows");
        self.metrics.found_orphan();
        let grace = observed
            .containers
            .iter()
            .filter_map(|c| c.grace_seconds)
            .max();
        let pod = Arc::new(orphan_pod(uid, &observed.namespace, &observed.name));
        self.start(
            pod,
            Desire::Stop {
                cause: TerminationCause::Orphaned,
                grace_seconds: grace,
            },
        );
    }
}

/// Names of what is in a directory, in order; nothing where it cannot be read.
fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}
