//! One task per pod UID: observe, step the life on, plan, show, execute, again.
//!
//! In:    orders of the sync loop (pod, desire; the latest wins), wake-ups, the network's state
//! Out:   runtime calls and host work through `Executor`; statuses; `WorkerEvent::Finished` at the end
//! Calls: started by sync_loop
//! Holds: never plans on an observation older than the end of its last action; the lifecycle's rank never falls; the record is
//!        written before what depends on it is shown; a failure waits and says why
//! Upstream: pkg/kubelet/pod_workers.go, kubelet.go (SyncPod, SyncTerminatingPod, SyncTerminatedPod)

mod disk;
mod failing;
mod record;
mod telling;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kubelet_decide::adopt::record_of_status;
use kubelet_decide::cut_off::Starts;
use kubelet_decide::deadline::end_of;
use kubelet_decide::events::{ToldWaits, made_to_end};
use kubelet_decide::lifecycle::{Lifecycle, Terminating, TerminationCause, step};
use kubelet_decide::plan::PodPlan;
use kubelet_decide::pod_plan::pod_plan;
use kubelet_decide::pod_status::{exit_of, pod_ips, pod_status, shown_waits};
use kubelet_decide::view::{
    Desire, Ended, NetworkState, PodRecord, PodView, Prepared, ResolvedImage, TerminatingRecord,
    Waiting,
};
use kubelet_decide::volumes::{Leaving, Mark};
use kubelet_model::disk::PodDirs;
use kubelet_model::ids::PodUid;
use kubelet_model::node::{NodeView, RuntimeHandlers};
use kubelet_model::objects::PodObjects;
use kubelet_model::observed::{Moment, ObservedPod};
use kubelet_model::pod::Pod;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::sleep_or_forever;
use crate::execute::{Effect, Executed, Executor, Outcome};
use crate::faults::{FaultPoint, Planted};
use crate::pleg::{PlegHandle, Scope};
use crate::pod_figures::PodFigures;
use crate::pod_objects::ObjectsHandle;
use crate::records::{POD_PREFIX, Records};
use crate::signal::Signal;
use crate::status::StatusHandle;
use crate::timeline::Stage;
use crate::worker_metrics::WorkerMetrics;

/// Before the runtime is asked again to remove what it could not remove, and nobody waits for.
const GARBAGE_PAUSE: SignedDuration = SignedDuration::from_secs(60);

/// What a worker is told.
#[derive(Clone, Debug)]
pub struct Order {
    /// The pod as desired now.
    pub pod: Arc<Pod>,
    /// What is wanted of it.
    pub desire: Desire,
}

/// What a worker tells.
#[derive(Clone, Debug)]
pub enum WorkerEvent {
    /// All its containers are done for good, and nothing of it runs.
    Ended(PodUid),
    /// Nothing of it runs or lies on the host, and the runtime refuses to remove what it holds of it.
    Refused(PodUid),
    /// Nothing of the pod is left; how often its containers were restarted.
    Finished(PodUid, BTreeMap<String, u32>),
    /// Its worker panicked.
    Died(PodUid),
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
    life: Lifecycle,
    record: PodRecord,
    resolved: BTreeMap<String, ResolvedImage>,
    waiting: BTreeMap<String, Waiting>,
    held: BTreeMap<String, Timestamp>,
    tries: BTreeMap<String, u32>,
    pod_waiting: Option<Waiting>,
    prepared: Prepared,
    dirs: Option<PodDirs>,
    written: BTreeMap<String, Mark>,
    objects: PodObjects,
    handlers: Option<Arc<RuntimeHandlers>>,
    active_since: Option<Timestamp>,
    retry_at: Option<Timestamp>,
    failures: u32,
    garbage_at: Option<Timestamp>,
    look: Option<Scope>,
    acted_at: Moment,
    was_ready: bool,
    told_end: bool,
    told_refused: bool,
    is_doubted: bool,
    had_directory: bool,
    told_waits: ToldWaits,
    figures: PodFigures,
}

impl std::fmt::Debug for PodWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PodWorker")
            .field("uid", &self.uid)
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

/// What one round of thinking brought.
struct Thought {
    plan: PodPlan,
    life: Lifecycle,
}

impl PodWorker {
    /// A worker for the pod of the first order; picks up the record of an earlier process.
    pub fn new(parts: WorkerParts, orders: watch::Receiver<Order>, hint: Arc<Notify>) -> Self {
        let uid = orders.borrow().pod.uid.clone();
        let cause = match orders.borrow().desire {
            Desire::Stop { cause, .. } => cause,
            Desire::Run | Desire::Wait(_) | Desire::Reject(_) => TerminationCause::Removed,
        };
        let record: Option<PodRecord> = parts.records.get(&format!("{POD_PREFIX}{uid}"));
        // The node may have room for a static pod by now; one of the API has failed for good.
        let is_static = orders.borrow().pod.is_static();
        let record = record.filter(|record| record.rejected.is_none() || !is_static);
        // Another kubelet may have run it before this one: what the API shows of it does not go back.
        let record = record.or_else(|| {
            let order = orders.borrow();
            let status = order.pod.object.status.as_ref();
            status
                .filter(|_| !order.pod.is_static())
                .and_then(record_of_status)
        });
        let left = record
            .as_ref()
            .and_then(|r| r.terminating.as_ref())
            .filter(|t| t.leaving);
        // An earlier process was removing it: that goes on, and only then may it live again.
        let life = left.map_or(Lifecycle::Syncing, |terminating| {
            Lifecycle::Terminating(Terminating {
                cause,
                since: terminating.since,
                grace_seconds: terminating.grace_seconds,
            })
        });
        let now = parts.executor.clock.steady();
        let active_since = record
            .as_ref()
            .and_then(|record| record::active_since(&parts.executor.clock, record));
        Self {
            active_since,
            uid,
            life,
            record: record.unwrap_or_default().taken_over(now),
            figures: PodFigures::new(parts.metrics.clone()),
            parts,
            orders,
            hint,
            resolved: BTreeMap::new(),
            waiting: BTreeMap::new(),
            held: BTreeMap::new(),
            tries: BTreeMap::new(),
            pod_waiting: None,
            prepared: Prepared::No,
            dirs: None,
            written: BTreeMap::new(),
            objects: PodObjects::default(),
            handlers: None,
            retry_at: None,
            failures: 0,
            garbage_at: None,
            look: None,
            acted_at: Moment::default(),
            was_ready: false,
            told_end: false,
            told_refused: false,
            is_doubted: false,
            had_directory: false,
            told_waits: ToldWaits::default(),
        }
    }

    /// Looks at the pod before anything else: the worker before this one panicked, and nobody knows what it had done.
    #[must_use]
    pub fn looking_first(mut self) -> Self {
        self.look = Some(Scope::Whole);
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
            let stop_failed = self.life.rank() > 0 && self.failures > 0;
            let observed = self.parts.executor.faults.tamper(observed, stop_failed);
            let order = self.orders.borrow_and_update().clone();
            self.doubt_record(&observed);
            let observed = self.settle_starts(observed);
            self.absorb(&order.pod, &observed);
            self.objects = self.parts.objects.current(&self.uid);
            self.handlers = self.parts.handlers.borrow().clone();
            self.remember_handler(&order, &observed);
            let thought = self.think(&order, &observed).await;
            self.figures.stands(&order.pod, &order.desire, &self.life);
            if let Lifecycle::Finished { cause } = &thought.life {
                tracing::info!(pod = %order.pod.full_name, uid = %self.uid, why = cause.as_str(), "Pod is gone");
                self.end().await;
                self.parts.executor.faults.reach(FaultPoint::Gone).await;
                return;
            }
            let starts = self.note_starts(&order.pod, &thought.plan);
            self.show(&order.pod, &observed, &thought.plan).await;
            self.tell_refused(&order, &observed);
            if thought.plan.steps.is_empty() {
                self.tell_end();
                // Taken anew at the next turn: a pod waits nearly all its life, and would hold what has grown old meanwhile.
                self.objects = PodObjects::default();
                drop((order, observed));
                self.wait(thought.plan.wake_at, &stop).await;
            } else {
                self.act(&order.pod, thought.plan, &starts).await;
            }
        }
    }

    /// A pod that is new to this node is shown at once; one that ran before is first looked at, so that nothing flips.
    async fn begin(&mut self) {
        let order = self.orders.borrow().clone();
        self.find_directory(&order.pod).await;
        let now = self.wall();
        let mark = |stage| {
            self.parts
                .executor
                .timeline
                .mark(&self.uid, &order.pod.full_name, stage, now)
        };
        mark(Stage::Admitted);
        let is_new = self.record.start_time.is_none();
        self.figures.begins(&order.pod, &order.desire, is_new, now);
        self.figures.stands(&order.pod, &order.desire, &self.life);
        if self.record.start_time.is_none() && !matches!(order.desire, Desire::Stop { .. }) {
            self.take_up();
            self.save();
            self.parts.records.settled().await;
            let absent = ObservedPod::absent(self.uid.clone(), self.parts.executor.clock.moment());
            if self.parts.pleg.current(&self.uid).is_none() && !self.had_directory {
                let network = self.parts.network.look(Clone::clone);
                let status = pod_status(&self.view(&order, &absent, &self.life, &network)).status;
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
        let fresh = |pod: &Arc<ObservedPod>| planted || pod.observed_at >= self.acted_at;
        if self.look.is_none() || planted {
            match current {
                Some(pod) if fresh(&pod) => return Some(pod),
                // Not in the first list and never touched by us since: seen to be absent.
                None if planted
                    || self.acted_at == Moment::default()
                        && !self.parts.pleg.is_unseen(&self.uid) =>
                {
                    return Some(Arc::new(ObservedPod::absent(
                        self.uid.clone(),
                        self.parts.executor.clock.moment(),
                    )));
                }
                Some(_) | None => {}
            }
        }
        let scope = self.look.take().unwrap_or(Scope::Whole);
        match self.parts.pleg.look(&self.uid, scope).await {
            Ok(pod) => Some(pod),
            Err(error) => {
                self.look = Some(Scope::Whole);
                tracing::debug!(uid = %self.uid, error = %error, "Pod could not be observed");
                self.tell_unobserved(&error);
                let pause = self.next_retry();
                self.wait(Some(pause), stop).await;
                None
            }
        }
    }

    /// Keeps what must not be forgotten of what was seen: exits, counts, addresses.
    fn absorb(&mut self, pod: &Pod, observed: &ObservedPod) {
        let before = self.record.clone();
        for spec in pod.all_containers() {
            let newest_exit = observed
                .instances(&spec.name)
                .find_map(|c| c.state.exit().map(|exit| exit_of(c, exit)));
            if let Some(mut exit) = newest_exit {
                let old = self.record.exits.get(&spec.name);
                if old.is_none_or(|old| old.attempt <= exit.attempt) {
                    let known = old.filter(|old| old.id == exit.id);
                    exit.counts_from = known
                        .and_then(|old| old.counts_from)
                        .or_else(|| Some(self.steady_of(exit.finished_at)));
                    self.record.exits.insert(spec.name.clone(), exit);
                }
            }
            if let Some(count) = observed
                .instances(&spec.name)
                .map(|c| c.restart_count.max(c.attempt))
                .max()
            {
                let known = self
                    .record
                    .restart_counts
                    .entry(spec.name.clone())
                    .or_default();
                *known = (*known).max(count);
            }
            self.note_run(&spec.name, observed);
            self.leave_to_back_off(&spec.name, observed);
            let runs = observed.instances(&spec.name).any(|c| c.state.may_run());
            if runs {
                // Started, whatever its call said: the next start asks for its image anew.
                self.resolved.remove(&spec.name);
                self.waiting.remove(&spec.name);
                self.held.remove(&spec.name);
                self.tries.remove(&spec.name);
            }
        }
        let sandboxes = observed.sandboxes.iter().map(|s| s.id.to_string());
        self.record.sandboxes = Some(sandboxes.collect());
        if let Some(ips) = observed
            .sandboxes
            .iter()
            .find_map(|s| s.ips.clone().filter(|ips| !ips.is_empty()))
        {
            self.record.ips = ips;
        }
        self.note_lost(observed);
        if self.record != before {
            self.save();
        }
    }

    /// Steps 4 to 6: view, life, plan.
    async fn think(&mut self, order: &Order, observed: &ObservedPod) -> Thought {
        let network = self.parts.network.look(Clone::clone);
        self.parts.executor.faults.reach(FaultPoint::Viewed).await;
        loop {
            let next = step(&self.view(order, observed, &self.life, &network));
            if next == self.life {
                break;
            }
            if next.rank() < self.life.rank() {
                tracing::error!(uid = %self.uid, from = self.life.word(), to = next.word(), "Lifecycle would go back; refused");
                break;
            }
            self.parts.executor.faults.reach(FaultPoint::Stepped).await;
            self.enter(next, order, observed, &network);
        }
        self.see_dirs(&order.pod).await;
        let plan = pod_plan(&self.view(order, observed, &self.life, &network));
        self.tell_plan(order, observed, &network, &plan);
        self.parts.executor.faults.reach(FaultPoint::Planned).await;
        if plan.steps.is_empty() {
            tracing::debug!(pod = %order.pod.full_name, seen = %observed, plan = %plan, "Nothing to do");
        } else {
            tracing::info!(pod = %order.pod.full_name, uid = %self.uid, life = self.life.word(), seen = %observed, plan = %plan, "Plan");
        }
        Thought {
            plan,
            life: self.life.clone(),
        }
    }

    fn enter(
        &mut self,
        next: Lifecycle,
        order: &Order,
        observed: &ObservedPod,
        network: &NetworkState,
    ) {
        if let Lifecycle::Terminating(terminating) = &next {
            if let Desire::Reject(rejection) = &order.desire
                && self.record.ended.is_none()
            {
                self.record.rejected = Some(rejection.clone());
                self.record.ended = Some(Ended {
                    succeeded: false,
                    why: None,
                });
            }
            if terminating.cause == TerminationCause::Ended && self.record.ended.is_none() {
                let ended = end_of(&self.view(order, observed, &self.life, network));
                if let Some(why) = &ended.why {
                    let events = &self.parts.executor.events;
                    events.pod(&order.pod, made_to_end(why));
                }
                self.record.ended = Some(ended);
            }
            self.record.terminating = Some(TerminatingRecord {
                since: terminating.since,
                grace_seconds: terminating.grace_seconds,
                leaving: next.is_leaving(),
            });
            self.save();
            tracing::info!(pod = %order.pod.full_name, uid = %self.uid, why = terminating.cause.as_str(), grace = terminating.grace_seconds, "Pod is being stopped");
        }
        if next.is_leaving()
            && let Some(record) = self.record.terminating.as_mut().filter(|r| !r.leaving)
        {
            record.leaving = true;
            self.save();
        }
        if next.rank() > self.life.rank() {
            self.retry_at = None;
            self.failures = 0;
            self.pod_waiting = None;
        }
        self.life = next;
        self.keep_lost(observed);
    }

    /// Steps 9 and 10: status, shown.
    async fn show(&mut self, pod: &Arc<Pod>, observed: &ObservedPod, plan: &PodPlan) {
        if self.life.cause() == Some(TerminationCause::Orphaned) || self.told_refused {
            // Nobody asked for it, and its spec is not known: there is nothing true to show. Or it is done but for garbage.
            return;
        }
        let order = Order {
            pod: Arc::clone(pod),
            desire: self.orders.borrow().desire.clone(),
        };
        let network = self.parts.network.look(Clone::clone);
        let mut view = self.view(&order, observed, &self.life, &network);
        let (waiting, pod_waiting) = shown_waits(&view, plan);
        view.waiting = &waiting;
        view.pod_waiting = pod_waiting.as_ref();
        let outcome = pod_status(&view);
        let ips = pod_ips(&view);
        self.parts
            .executor
            .faults
            .reach(FaultPoint::StatusMade)
            .await;
        if self.record.conditions != outcome.conditions
            || (!pod.is_host_network() && self.record.ips != ips)
        {
            self.record.conditions = outcome.conditions;
            self.save();
        }
        self.parts.records.settled().await;
        let ready = self
            .record
            .conditions
            .get("Ready")
            .is_some_and(|(ready, _)| *ready);
        self.parts
            .executor
            .faults
            .reach(FaultPoint::BeforeReport)
            .await;
        let before = self.parts.status.shown(&self.uid).map(|pod| pod.status);
        let (now, images) = (self.wall(), &self.parts.executor.images);
        self.figures
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
        if ready && !self.was_ready {
            self.parts
                .executor
                .timeline
                .mark(&self.uid, &pod.full_name, Stage::Ready, self.wall());
        }
        self.was_ready = ready;
    }

    /// Step 7, and what to remember of it.
    async fn act(&mut self, pod: &Arc<Pod>, plan: PodPlan, starts: &Starts) {
        let acting = PodFigures::acts(&plan);
        self.parts.records.settled().await;
        // What was ordered since the plan was made counts as newer.
        let mut orders = self.orders.clone();
        let waits = PodPlan {
            waiting: plan.waiting.clone(),
            pod_waiting: plan.pod_waiting.clone(),
            ..PodPlan::default()
        };
        let (executor, hint) = (self.parts.executor.clone(), Arc::clone(&self.hint));
        let mut execute = Box::pin(executor.execute(pod, plan, &mut orders));
        let executed = loop {
            tokio::select! {
                // The end first: what comes after it looks again anyway.
                biased;
                executed = &mut execute => break executed,
                // A step may take long; what happens to other containers meanwhile is shown all the same. Nothing is planned on it.
                () = hint.notified() => {
                    if let Some(observed) = self.parts.pleg.current(&self.uid) {
                        let observed = self.record.set_apart_cut_off(observed);
                        self.absorb(pod, &observed);
                        self.show(pod, &observed, &waits).await;
                    }
                }
            }
        };
        self.figures
            .acted(pod, &self.life, acting, &executed.outcomes);
        self.remember(pod, executed, starts);
    }

    fn remember(&mut self, pod: &Pod, executed: Executed, starts: &Starts) {
        let touched = executed.look.is_some();
        if let Some(scope) = executed.look {
            self.look.get_or_insert_with(Scope::nothing).join(scope);
        }
        if touched {
            self.acted_at = self.parts.executor.clock.moment();
        }
        let before = self.record.clone();
        let mut clean = true;
        for outcome in executed.outcomes {
            self.tell_unkilled(pod, &outcome);
            match outcome {
                Outcome::Done(effect) => self.remember_effect(effect),
                Outcome::Failed(failure) if failure.is_garbage => {
                    tracing::warn!(uid = %self.uid, why = %failure.message, "What nobody needs could not be removed");
                    self.garbage_at = self.now().checked_add(GARBAGE_PAUSE).ok();
                }
                Outcome::Failed(failure) => {
                    clean = false;
                    let name = failure.container.as_deref().unwrap_or_default();
                    self.record.end_start(name, starts);
                    self.remember_failure(failure);
                }
                Outcome::Unknown(failure)
                    if self.parts.executor.faults.planted() == Planted::UnknownIsFailure =>
                {
                    self.look = None;
                    self.acted_at = Moment::default();
                    clean = false;
                    self.remember_failure(failure);
                }
                Outcome::GivenUp => {
                    tracing::info!(uid = %self.uid, "Step given up for a newer order, or at the end of the pod's time; looking before anything else");
                    self.look = Some(Scope::Whole);
                }
                Outcome::Unknown(failure) => {
                    clean = false;
                    tracing::warn!(uid = %self.uid, why = %failure.message, "Outcome unknown; looking before anything else");
                    self.look = Some(Scope::Whole);
                    self.retry_at = Some(self.next_retry());
                }
            }
        }
        if clean {
            self.failures = 0;
            self.retry_at = None;
            self.pod_waiting = None;
        }
        if self.record != before {
            self.save();
        }
    }

    fn remember_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::Prepared(written) => {
                self.prepared = Prepared::Yes;
                self.written = written;
            }
            Effect::Written(written) => self.written.extend(written),
            Effect::Released(leaving) => {
                self.written.clear();
                self.dirs = None;
                self.prepared = match leaving {
                    Leaving::No => Prepared::Ended,
                    Leaving::Yes => Prepared::Released,
                };
            }
            Effect::Image(name, image) => {
                self.record.image_back_off.remove(&name);
                self.waiting.remove(&name);
                self.resolved.insert(name, image);
            }
            Effect::EnvFiles(name, values) => {
                if let Some(image) = self.resolved.get_mut(&name) {
                    image.env_files = Some(values);
                }
            }
            Effect::Started(name) => {
                self.resolved.remove(&name);
                self.waiting.remove(&name);
                self.held.remove(&name);
                self.tries.remove(&name);
            }
        }
    }

    /// Until something may have changed.
    async fn wait(&mut self, wake_at: Option<Timestamp>, stop: &CancellationToken) {
        let pause = wake_at.map(|at| {
            let left = at.duration_since(self.now());
            Duration::try_from(left)
                .unwrap_or(Duration::ZERO)
                .max(Duration::from_millis(1))
        });
        // Whatever else it waits for: a pod without a sandbox may wait for the network behind an older failure.
        let waits_for_network = self
            .parts
            .network
            .see(|state| *state != NetworkState::Ready);
        tokio::select! {
            // Every arm only says "look again"; which one wins is of no matter.
            biased;
            () = stop.cancelled() => {}
            changed = self.orders.changed() => {
                if changed.is_err() {
                    // The sync loop is gone: the process is stopping.
                    stop.cancelled().await;
                }
                self.retry_at = None;
            }
            () = self.hint.notified() => {}
            () = self.parts.network.changed(), if waits_for_network => {}
            () = sleep_or_forever(pause) => {}
        }
    }

    fn view<'a>(
        &'a self,
        order: &'a Order,
        observed: &'a ObservedPod,
        life: &'a Lifecycle,
        network: &'a NetworkState,
    ) -> PodView<'a> {
        PodView {
            pod: &order.pod,
            desire: &order.desire,
            lifecycle: life,
            observed,
            dirs: self.dirs.as_ref(),
            record: &self.record,
            resolved: &self.resolved,
            waiting: &self.waiting,
            held: &self.held,
            pod_waiting: self.pod_waiting.as_ref(),
            prepared: self.prepared,
            written: &self.written,
            objects: &self.objects,
            retry_at: self.retry_at,
            failures: self.failures,
            garbage_at: self.garbage_at,
            active_since: self.active_since,
            handlers: self.handlers.as_deref(),
            node: &self.parts.node,
            network,
            now: self.now(),
            wall: self.wall(),
        }
    }

    /// Steady time: what waits is measured by it.
    fn now(&self) -> Timestamp {
        self.parts.executor.now()
    }

    /// Wall time: what is shown.
    fn wall(&self) -> Timestamp {
        self.parts.executor.clock.now()
    }

    fn save(&self) {
        self.parts
            .records
            .put(&format!("{POD_PREFIX}{}", self.uid), &self.record);
    }

    /// Nothing is left: not here either.
    async fn end(&self) {
        self.drop_record();
        self.parts.records.settled().await;
        self.stop_showing();
        self.parts.executor.timeline.forget(&self.uid);
        self.parts.executor.images.forget(&self.uid);
        // When nobody listens the process is stopping.
        let counts = self.record.restart_counts.clone();
        let _sent = self
            .parts
            .events
            .send(WorkerEvent::Finished(self.uid.clone(), counts));
    }
}
