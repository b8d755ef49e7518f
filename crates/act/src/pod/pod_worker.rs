//! One task per pod UID: observe, advance the life, plan, report, execute, repeat.
//!
//! In:    orders of the sync loop (pod, desire; the latest wins), wake-ups, the network's state
//! Out:   runtime calls and host work through `Executor`; statuses; `WorkerEvent`s when the pod ends, is released, and is finished
//! Calls: started by sync_loop
//! Holds: decides nothing: `PodMemory` says what is remembered and how it changes; never plans on an observation older than the
//!        end of its last action; writes the record before it reports what depends on it; a failure waits and says why
//! Upstream: pkg/kubelet/pod_workers.go, kubelet.go (SyncPod, SyncTerminatingPod, SyncTerminatedPod)

mod disk;
mod record;
mod reporting;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubelet_decide::pod::memory::{Begun, entry};
use kubelet_decide::pod::pod_plan::pod_plan;
use kubelet_decide::pod::runtime_class::recursive_read_only_to_remember;
use kubelet_decide::probes::readiness::probe_targets;
use kubelet_decide::probes::spec::has_probes;
use kubelet_decide::report::pod_status::{ShownWaits, pod_ips, pod_status, shown_waits};
use kubelet_decide::report::transitions::impossible_transition;
use kubelet_decide::shapes::life::Lifecycle;
use kubelet_decide::shapes::memory::{FirstLook, NextLook, PodMemory};
use kubelet_decide::shapes::outcome::Outcome;
use kubelet_decide::shapes::plan::PodPlan;
use kubelet_decide::shapes::record::PodRecord;
use kubelet_decide::shapes::view::{Desire, NetworkState, Now, Order, PodInputs, PodView};
use kubelet_model::ids::PodUid;
use kubelet_model::node::{NodeView, RuntimeHandlers};
use kubelet_model::objects::PodObjects;
use kubelet_model::observed::{Moment, ObservedPod};
use kubelet_model::pod::Pod;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::reporting::Told;
use crate::frame::clock::sleep_or_forever;
use crate::frame::faults::{FaultPoint, Planted};
use crate::frame::records::{POD_PREFIX, Records};
use crate::frame::signal::Signal;
use crate::objects::pod_objects::ObjectsHandle;
use crate::observe::pleg::{PlegHandle, Scope};
use crate::pod::execute::{Executed, Executor};
use crate::pod::pod_figures::PodFigures;
use crate::pod::timeline::Stage;
use crate::pod::worker_metrics::WorkerMetrics;
use crate::probes::prober::Prober;
use crate::report::status::StatusHandle;

/// What a worker tells.
#[derive(Clone, Debug)]
pub enum WorkerEvent {
    /// All its containers are done for good, and it is being taken down.
    Ending(PodUid),
    /// All its containers are done for good, and nothing of it runs.
    Ended(PodUid),
    /// Nothing of it runs or lies on the host; what the runtime still holds of it is removed later.
    Released(PodUid),
    /// Nothing of the pod is left; how often its containers were restarted.
    Finished(PodUid, BTreeMap<String, u32>),
    /// Its worker panicked.
    Panicked(PodUid),
}

/// What workers share.
#[derive(Clone, Debug)]
pub struct WorkerParts {
    /// Carries out plans.
    pub executor: Executor,
    /// Observations.
    pub pleg: PlegHandle,
    /// Where statuses go.
    pub status: StatusHandle,
    /// What survives a restart.
    pub records: Records,
    /// The node.
    pub node: Arc<NodeView>,
    /// The runtime's network.
    pub network: Signal<NetworkState>,
    /// What the runtime said of its handlers.
    pub handlers: watch::Receiver<Option<Arc<RuntimeHandlers>>>,
    /// What is known of API objects.
    pub objects: ObjectsHandle,
    /// Probes of its containers.
    pub prober: Prober,
    /// Figures.
    pub metrics: WorkerMetrics,
    /// To the sync loop.
    pub events: mpsc::UnboundedSender<WorkerEvent>,
}

/// A pod's worker.
pub struct PodWorker {
    parts: WorkerParts,
    orders: watch::Receiver<Order>,
    hint: Arc<Notify>,
    uid: PodUid,
    memory: PodMemory,
    inputs: PodInputs,
    sight: Sight,
    told: Told,
}

impl std::fmt::Debug for PodWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PodWorker")
            .field("uid", &self.uid)
            .field("life", &self.memory.life)
            .finish_non_exhaustive()
    }
}

/// Which observations are good enough to plan on.
#[derive(Debug, Default)]
struct Sight {
    /// What must be looked at first.
    look: Option<Scope>,
    /// When the worker last touched the runtime: what was seen before it is old.
    acted_at: Moment,
}

impl PodWorker {
    /// A worker for the pod of the first order; picks up the record of an earlier process.
    pub fn new(parts: WorkerParts, orders: watch::Receiver<Order>, hint: Arc<Notify>) -> Self {
        let order = orders.borrow().clone();
        let uid = order.pod.uid.clone();
        let record: Option<PodRecord> = parts.records.get(&format!("{POD_PREFIX}{uid}"));
        let clock = parts.executor.clock;
        let now = parts.executor.both_clocks();
        let mut memory =
            PodMemory::taken_over(&order, record, now, |moment| clock.steady_of_boot(moment));
        memory.anchor(now, clock.boot_moment());
        Self {
            uid,
            memory,
            inputs: PodInputs {
                objects: PodObjects::default(),
                handlers: None,
                network: parts.network.look(Clone::clone),
                probes: Arc::default(),
            },
            sight: Sight::default(),
            told: Told::new(PodFigures::new(parts.metrics.clone())),
            parts,
            orders,
            hint,
        }
    }

    /// Looks at the pod before anything else: the worker before this one panicked, and nobody knows what it had done.
    #[must_use]
    pub fn with_initial_relist(mut self) -> Self {
        self.sight.look = Some(Scope::Whole);
        self
    }

    /// Runs until the pod is finished or the process stops.
    pub async fn run(&mut self, stop: CancellationToken) {
        self.begin().await;
        loop {
            if stop.is_cancelled() {
                return;
            }
            let Some(observed) = self.observe(&stop).await else {
                continue;
            };
            self.parts.executor.faults.reach(FaultPoint::Observed).await;
            let stop_failed = self.memory.life.rank() > 0 && self.memory.retry.failures > 0;
            let observed = self.parts.executor.faults.tamper(observed, stop_failed);
            let order = self.orders.borrow_and_update().clone();
            self.doubt_record(&order, &observed);
            let observed = self.settle_starts(observed);
            self.absorb(&order.pod, &observed);
            self.gather_inputs(&order, &observed);
            let plan = self.think(&order, &observed).await;
            self.told.stands(&order, &self.memory.life);
            if matches!(self.memory.life, Lifecycle::Finished { .. }) {
                self.announce_gone(&observed);
                self.end().await;
                self.parts.executor.faults.reach(FaultPoint::Gone).await;
                return;
            }
            let begun = self.note_starts(&order.pod, &plan);
            self.show(&order.pod, &observed, &plan).await;
            self.announce_released(&order, &observed);
            self.announce_ending();
            if plan.steps.is_empty() {
                self.announce_end();
                // Taken anew at the next turn: a pod waits nearly all its life, and would hold what has grown old meanwhile.
                self.inputs.objects = PodObjects::default();
                drop((order, observed));
                self.wait(plan.wake_at, &stop).await;
            } else {
                self.act(&order.pod, plan, &begun).await;
            }
        }
    }

    /// A pod that is new to this node is shown at once; one that ran before is first looked at, so that nothing flips.
    async fn begin(&mut self) {
        let order = self.orders.borrow().clone();
        let had_directory = self.has_directory(&order.pod).await;
        self.memory.first_look = FirstLook::Due { had_directory };
        let now = self.now();
        self.parts.executor.timeline.mark(
            &self.uid,
            &order.pod.full_name,
            Stage::Admitted,
            now.wall,
        );
        let is_new = self.memory.record.start_time.is_none();
        self.told.begins(&order, is_new, now.wall);
        self.told.stands(&order, &self.memory.life);
        if is_new {
            // Another kubelet may have run it, or the record is lost: its logs still tell how often it was started.
            let host = &self.parts.executor.host;
            let attempts = host.logged_attempts(&order.pod, &self.parts.node).await;
            self.memory.note_logged(attempts);
        }
        if is_new && !matches!(order.desire, Desire::Stop { .. }) {
            let boot = self.parts.executor.clock.boot_moment();
            self.memory.mark_started(now, boot);
            self.save();
            self.parts.records.settled().await;
            if self.parts.pleg.current(&self.uid).is_none() && !had_directory {
                let absent =
                    ObservedPod::absent(self.uid.clone(), self.parts.executor.clock.moment());
                self.inputs.network = self.parts.network.look(Clone::clone);
                let view = self.view(&order, &absent);
                let status = pod_status(&view, &ShownWaits::default()).status;
                self.parts
                    .status
                    .report(&self.uid, &order.pod.object, status);
            }
        }
    }

    /// The pod as it is, never older than the last action; `None` when the runtime does not say, after a wait.
    async fn observe(&mut self, stop: &CancellationToken) -> Option<Arc<ObservedPod>> {
        tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            () = self.parts.pleg.first_list() => {}
        }
        let planted = self.parts.executor.faults.planted() == Planted::NoFreshness;
        let current = self.parts.pleg.current(&self.uid);
        let acted_at = self.sight.acted_at;
        let fresh = |pod: &Arc<ObservedPod>| planted || pod.observed_at >= acted_at;
        if self.sight.look.is_none() || planted {
            match current {
                Some(pod) if fresh(&pod) => return Some(pod),
                // Not in the first list and never touched by us since: seen to be absent.
                None if planted
                    || acted_at == Moment::default() && !self.parts.pleg.is_unseen(&self.uid) =>
                {
                    return Some(Arc::new(ObservedPod::absent(
                        self.uid.clone(),
                        self.parts.executor.clock.moment(),
                    )));
                }
                Some(_) | None => {}
            }
        }
        let scope = self.sight.look.take().unwrap_or(Scope::Whole);
        match self.parts.pleg.look(&self.uid, scope).await {
            Ok(pod) => Some(pod),
            Err(error) => {
                self.sight.look = Some(Scope::Whole);
                tracing::debug!(error = %error, "Pod could not be observed");
                self.report_unobserved(&error);
                self.memory.retry.later(self.now());
                self.wait(self.memory.retry.at, stop).await;
                // A look that succeeds is good enough to plan on.
                self.memory.retry.at = None;
                None
            }
        }
    }

    /// What others know at the begin of a turn.
    fn gather_inputs(&mut self, order: &Order, observed: &ObservedPod) {
        self.inputs = PodInputs {
            objects: self.parts.objects.current(&self.uid),
            handlers: self.parts.handlers.borrow().clone(),
            // Seen by this turn: a change after it wakes the worker.
            network: self.parts.network.see(Clone::clone),
            probes: Arc::default(),
        };
        self.aim_probes(order, observed);
        let said = recursive_read_only_to_remember(&self.view(order, observed));
        self.remembering(|memory| memory.note_handler(said));
    }

    /// What of the pod is probed from here on, and what is known of it.
    fn aim_probes(&mut self, order: &Order, observed: &ObservedPod) {
        if !order.pod.kept_containers().any(has_probes) {
            return;
        }
        let view = self.view(order, observed);
        let ip = pod_ips(&view).into_iter().next().unwrap_or_default();
        let targets = probe_targets(&view, &order.pod, ip);
        self.parts.prober.aim(targets);
        let probes = self.parts.prober.results(&self.uid);
        let faults = &self.parts.executor.faults;
        let probes = faults.tamper_probes(probes, &self.memory.record.probes, observed);
        self.remembering(|memory| memory.note_probes(&probes));
        self.inputs.probes = probes;
    }

    /// Steps the life on, and plans.
    async fn think(&mut self, order: &Order, observed: &ObservedPod) -> PodPlan {
        self.parts.executor.faults.reach(FaultPoint::Viewed).await;
        while let Some(entry) = entry(&self.view(order, observed)) {
            let (from, to) = (&self.memory.life, &entry.next);
            if to.rank() < from.rank() {
                tracing::error!(
                    from = from.word(),
                    to = to.word(),
                    "Lifecycle would go back; refused"
                );
                break;
            }
            self.parts.executor.faults.reach(FaultPoint::Stepped).await;
            self.report_entry(order, &entry);
            self.remembering(|memory| memory.enter(entry));
            self.note_lost(observed);
        }
        self.see_dirs(&order.pod).await;
        if self.parts.executor.faults.planted() == Planted::GraceTwice {
            let stops = self.memory.record.stopping.values_mut();
            stops.for_each(|stop| stop.since = None);
        }
        let plan = pod_plan(&self.view(order, observed));
        self.report_plan(order, observed, &plan);
        self.parts.executor.faults.reach(FaultPoint::Planned).await;
        if plan.steps.is_empty() {
            tracing::debug!(seen = %observed, plan = %plan, "Nothing to do");
        } else {
            tracing::info!(life = self.memory.life.word(), seen = %observed, plan = %plan, "Plan");
        }
        plan
    }

    /// Makes the status, and shows it.
    async fn show(&mut self, pod: &Arc<Pod>, observed: &ObservedPod, plan: &PodPlan) {
        if self.is_not_shown() {
            return;
        }
        let order = Order {
            pod: Arc::clone(pod),
            desire: self.orders.borrow().desire.clone(),
        };
        let view = self.view(&order, observed);
        let outcome = pod_status(&view, &shown_waits(&view, plan));
        self.parts
            .executor
            .faults
            .reach(FaultPoint::StatusMade)
            .await;
        self.remembering(|memory| memory.record.conditions = outcome.conditions);
        self.parts.records.settled().await;
        self.parts
            .executor
            .faults
            .reach(FaultPoint::BeforeReport)
            .await;
        let before = self.parts.status.shown(&self.uid).map(|pod| pod.status);
        // Before this process has shown anything, the API may hold something.
        let of_api = pod.object.status.as_ref().filter(|_| !pod.is_static());
        let impossible = before
            .as_deref()
            .or(of_api)
            .and_then(|before| impossible_transition(pod, before, &outcome.status));
        if self.told.holds_back(impossible, observed) {
            return;
        }
        let now = self.now().wall;
        let images = &self.parts.executor.images;
        self.told
            .figures
            .shows(pod, before.as_deref(), &outcome.status, now, || {
                images.pulling_time(&self.uid)
            });
        {
            // The object of this moment, not of the turn's begin: whoever changes the order corrects what is shown only after it.
            let newest = self.orders.borrow();
            self.parts
                .status
                .report(&self.uid, &newest.pod.object, outcome.status);
        }
        let conditions = &self.memory.record.conditions;
        if self.told.is_first_ready(conditions) {
            let timeline = &self.parts.executor.timeline;
            timeline.mark(&self.uid, &pod.full_name, Stage::Ready, self.now().wall);
        }
    }

    /// Carries the plan out, and remembers what became of it.
    async fn act(&mut self, pod: &Arc<Pod>, plan: PodPlan, begun: &Begun) {
        let acting = PodFigures::acts(&plan);
        self.parts.records.settled().await;
        // What was ordered since the plan was made counts as newer.
        let (mut orders, mut news) = (self.orders.clone(), self.orders.clone());
        let waits = PodPlan {
            waiting: plan.waiting.clone(),
            volumes_waiting: plan.volumes_waiting.clone(),
            pod_waiting: plan.pod_waiting.clone(),
            ..PodPlan::default()
        };
        let (executor, hint) = (self.parts.executor.clone(), Arc::clone(&self.hint));
        let (done_hooks, mut hooks) = mpsc::unbounded_channel();
        let mut execute = Box::pin(executor.execute(pod, plan, &mut orders, &done_hooks));
        let executed = loop {
            tokio::select! {
                // The end first: what comes after it looks again anyway.
                biased;
                executed = &mut execute => break executed,
                Some(id) = hooks.recv() => {
                    self.note_hook_done(&id);
                }
                // A step may take long; what happens to other containers meanwhile is shown all the same. Nothing is planned on it.
                // So is what the object says meanwhile.
                () = hinted(&hint, &mut news) => {
                    if let Some(observed) = self.parts.pleg.current(&self.uid) {
                        let observed = self.memory.record.set_apart_cut_off(observed);
                        self.absorb(pod, &observed);
                        let desire = self.orders.borrow().desire.clone();
                        let order = Order {
                            pod: Arc::clone(pod),
                            desire,
                        };
                        self.aim_probes(&order, &observed);
                        self.show(pod, &observed, &waits).await;
                    }
                }
            }
        };
        drop(execute);
        while let Ok(id) = hooks.try_recv() {
            self.note_hook_done(&id);
        }
        let life = &self.memory.life;
        self.told
            .figures
            .acted(pod, life, acting, &executed.outcomes);
        self.remember(pod, executed, begun);
    }

    fn remember(&mut self, pod: &Pod, executed: Executed, begun: &Begun) {
        if let Some(scope) = executed.look {
            let look = &mut self.sight.look;
            look.get_or_insert_with(Scope::nothing).join(scope);
            self.sight.acted_at = self.parts.executor.clock.moment();
        }
        let (mut outcomes, mut forgets) = (executed.outcomes, false);
        for outcome in &mut outcomes {
            self.report_outcome(pod, outcome);
            if self.parts.executor.faults.planted() == Planted::UnknownIsFailure
                && let Outcome::Unknown(failure) = outcome
            {
                *outcome = Outcome::Failed(failure.clone());
                forgets = true;
            }
        }
        let now = self.now();
        let next = self.remembering(|memory| memory.remember(outcomes, begun, now));
        if next == NextLook::Whole {
            self.sight.look = Some(Scope::Whole);
        }
        if forgets {
            self.sight = Sight::default();
        }
    }

    /// Until something may have changed.
    async fn wait(&mut self, wake_at: Option<Timestamp>, stop: &CancellationToken) {
        let pause = wake_at.map(|at| {
            let left = at.duration_since(self.now().steady);
            Duration::try_from(left)
                .unwrap_or(Duration::ZERO)
                .max(Duration::from_millis(1))
        });
        // Whatever else it waits for: a pod without a sandbox may wait for the network behind an older failure.
        let waits_for_network = self.inputs.network != NetworkState::Ready;
        tokio::select! {
            // Every arm only says "look again"; which one wins is of no matter.
            biased;
            () = stop.cancelled() => {}
            changed = self.orders.changed() => {
                if changed.is_err() {
                    // The sync loop is gone: the process is stopping.
                    stop.cancelled().await;
                }
                self.memory.retry.at = None;
            }
            () = self.hint.notified() => {}
            () = self.parts.network.changed(), if waits_for_network => {}
            () = sleep_or_forever(pause) => {}
        }
    }

    fn view<'a>(&'a self, order: &'a Order, observed: &'a ObservedPod) -> PodView<'a> {
        PodView {
            pod: &order.pod,
            desire: &order.desire,
            observed,
            memory: &self.memory,
            inputs: &self.inputs,
            node: &self.parts.node,
            now: self.now(),
        }
    }

    fn now(&self) -> Now {
        self.parts.executor.both_clocks()
    }

    /// Nothing is left: not here either.
    async fn end(&self) {
        self.drop_record();
        self.parts.records.settled().await;
        self.stop_showing();
        self.parts.executor.timeline.forget(&self.uid);
        self.parts.executor.images.forget(&self.uid);
        self.parts.prober.forget(&self.uid);
        // When nobody listens the process is stopping.
        let counts = self.memory.record.restart_counts.clone();
        let _sent = self
            .parts
            .events
            .send(WorkerEvent::Finished(self.uid.clone(), counts));
    }
}

/// Something of the pod may have changed: what the runtime holds, or what is ordered. Cancel: safe.
async fn hinted(hint: &Notify, orders: &mut watch::Receiver<Order>) {
    tokio::select! {
        // Which one comes first is of no matter.
        biased;
        () = hint.notified() => {}
        Ok(()) = orders.changed() => {}
    }
}
