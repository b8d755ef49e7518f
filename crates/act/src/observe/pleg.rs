//! The single writer of observed pods: inspects a pod on request, when a process exits, and when a re-list shows a change.
//!
//! In:    look requests of workers; exits of first processes; container events of the runtime; a slow clock
//! Out:   snapshots per pod (`PlegHandle::current`), a wake-up to the sync loop for each pod that changed
//! Calls: one task; workers through `PlegHandle`
//! Holds: at most one inspection of a pod is in flight, so an older answer never replaces a newer one; a lost or doubled hint
//!        does no harm, the re-list finds what it reported; every inspection has the deadlines of its calls
//! Upstream: pkg/kubelet/pleg/generic.go (1.36); differences: exits wake it, so the list is rare while hints work

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use kubelet_cri::{Client, CriError};
use kubelet_decide::observe::pleg::{Listing, changed_pods};
use kubelet_model::ids::{ContainerId, PodFullName, PodUid, SandboxId};
use kubelet_model::observed::{ContainerState, ObservedPod};
use prometheus::Registry;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::frame::clock::Clock;
use crate::frame::faults::{Faults, Planted};
use crate::frame::signal::Signal;
use crate::observe::exits::ExitSource;
use crate::observe::pleg_metrics::PlegMetrics;

pub use crate::observe::look::Scope;
use crate::observe::look::{Looked, look};
use crate::observe::termination_message::MessageReader;

/// Relists while hints work.
const SLOW_RELIST: Duration = Duration::from_secs(60);
/// For the first look at every pod that the first list names.
const FIRST_SIGHT: Duration = Duration::from_secs(10);
/// Relists while some running container has no hint.
const FAST_RELIST: Duration = Duration::from_secs(1);
/// The runtime says "running" a little longer than the process lives. It is asked again after this part of the time that has passed
/// since, so that an exit shows at most so much later than the runtime tells it.
const RECHECK_PART: u32 = 16;
/// It is not asked more often than this, times the exits that are asked for just now.
const SHORTEST_RECHECK: Duration = Duration::from_millis(3);
/// It is not asked less often than this.
const LONGEST_RECHECK: Duration = Duration::from_millis(40);
/// After this an exit is left to the relist.
const RECHECKS: Duration = Duration::from_secs(2);

/// How long to wait before the runtime is asked again about a process that ended so long ago, one of so many.
fn recheck_pause(age: Duration, exits: usize) -> Duration {
    let exits = u32::try_from(exits).unwrap_or(u32::MAX);
    let shortest = SHORTEST_RECHECK.saturating_mul(exits).min(LONGEST_RECHECK);
    (age / RECHECK_PART).clamp(shortest, LONGEST_RECHECK)
}

/// A look that failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LookError {
    /// The runtime did not answer it.
    #[error(transparent)]
    Runtime(#[from] CriError),
    /// The relister is gone: the process is stopping.
    #[error("the relister has stopped")]
    Stopped,
}

type Answer = oneshot::Sender<Result<Arc<ObservedPod>, LookError>>;

struct Request {
    uid: PodUid,
    scope: Scope,
    answer: Option<Answer>,
}

/// How others reach the relister.
#[derive(Clone, Debug)]
pub struct PlegHandle {
    requests: mpsc::UnboundedSender<Request>,
    observed: Signal<BTreeMap<PodUid, Arc<ObservedPod>>>,
    unseen: Signal<BTreeMap<PodUid, PodFullName>>,
    listed: Signal<Option<Instant>>,
}

impl PlegHandle {
    /// Looks at a pod now; the answer is newer than this call.
    ///
    /// # Errors
    /// When the runtime does not answer, or the relister has stopped.
    pub async fn look(&self, uid: &PodUid, scope: Scope) -> Result<Arc<ObservedPod>, LookError> {
        let (answer, answered) = oneshot::channel();
        let request = Request {
            uid: uid.clone(),
            scope,
            answer: Some(answer),
        };
        self.requests
            .send(request)
            .map_err(|_| LookError::Stopped)?;
        answered.await.map_err(|_| LookError::Stopped)?
    }

    /// Asks for a look at some time soon; nobody waits for it. A container that is not known yet is looked for in the whole pod.
    pub fn hint(&self, uid: &PodUid, scope: Scope) {
        let known = |id: &ContainerId| {
            self.current(uid)
                .is_some_and(|pod| pod.containers.iter().any(|c| c.id == *id))
        };
        let scope = match scope {
            Scope::Parts { containers, .. } if !containers.iter().all(known) => Scope::Whole,
            scope => scope,
        };
        let request = Request {
            uid: uid.clone(),
            scope,
            answer: None,
        };
        // When the relister is gone the process is stopping.
        let _sent = self.requests.send(request);
    }

    /// The last observation of a pod, of whatever age; `None` is "not looked at yet, or seen to be absent".
    pub fn current(&self, uid: &PodUid) -> Option<Arc<ObservedPod>> {
        self.observed.look(|all| all.get(uid).cloned())
    }

    /// The pods of this name that the runtime was seen to hold.
    pub fn of_name(&self, name: &PodFullName) -> Vec<Arc<ObservedPod>> {
        let is_of_name =
            |pod: &&Arc<ObservedPod>| *pod.name == *name.name && *pod.namespace == *name.namespace;
        self.observed
            .look(|all| all.values().filter(is_of_name).cloned().collect())
    }

    /// Whether the first list named this pod, and no look at it has succeeded since: what it holds is not known.
    pub fn is_unseen(&self, uid: &PodUid) -> bool {
        self.unseen.look(|all| all.contains_key(uid))
    }

    /// Such pods of this name.
    pub fn unseen_of_name(&self, name: &PodFullName) -> Vec<PodUid> {
        let is_of_name = |(_, of): &(&PodUid, &PodFullName)| **of == *name;
        self.unseen.look(|all| {
            let pods = all.iter().filter(is_of_name);
            pods.map(|(uid, _)| uid.clone()).collect()
        })
    }

    /// Every pod the runtime was seen to hold.
    pub fn all(&self) -> Vec<Arc<ObservedPod>> {
        self.observed.look(|all| all.values().cloned().collect())
    }

    /// Resolves once the first full list was taken and every pod in it was looked at, with success or without: a pod that cannot be
    /// looked at does not keep the others waiting.
    pub async fn first_list(&self) {
        self.listed.until(Option::is_some).await;
    }

    /// When the last full list ended.
    pub fn last_list(&self) -> Option<Instant> {
        self.listed.look(|at| *at)
    }
}

type Flight = Pin<Box<dyn Future<Output = Landed> + Send>>;

/// What a future of the relister brought.
enum Landed {
    Look(PodUid, Result<Looked, CriError>),
    List(Instant, Result<Listing, CriError>),
    Exit(PodUid, ContainerId),
    Recheck(PodUid, ContainerId, Instant),
    NoHint(ContainerId),
}

#[derive(Default)]
struct PodEntry {
    observed: Option<Arc<ObservedPod>>,
    busy: Option<Vec<Answer>>,
    queued: Option<(Scope, Vec<Answer>)>,
}

/// The relister.
pub struct Pleg {
    cri: Client,
    clock: Clock,
    exits: ExitSource,
    messages: MessageReader,
    requests: mpsc::UnboundedReceiver<Request>,
    wakes: mpsc::UnboundedSender<PodUid>,
    observed: Signal<BTreeMap<PodUid, Arc<ObservedPod>>>,
    unseen: Signal<BTreeMap<PodUid, PodFullName>>,
    listed: Signal<Option<Instant>>,
    pods: BTreeMap<PodUid, PodEntry>,
    listing: Listing,
    to_see: Option<BTreeSet<PodUid>>,
    /// Whoever was not seen by then keeps the others waiting no longer.
    see_until: Option<Instant>,
    watched: BTreeSet<ContainerId>,
    unwatched: BTreeSet<ContainerId>,
    rechecking: BTreeSet<ContainerId>,
    /// Their processes are gone, and the runtime was asked about it for long enough.
    asked_enough: BTreeSet<ContainerId>,
    metrics: PlegMetrics,
    faults: Faults,
}

impl std::fmt::Debug for Pleg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pleg")
            .field("pods", &self.pods.len())
            .finish_non_exhaustive()
    }
}

/// What the relister is made of.
#[derive(Debug)]
pub struct PlegParts {
    /// The runtime.
    pub cri: Client,
    /// The clock.
    pub clock: Clock,
    /// Where exits of processes come from.
    pub exits: ExitSource,
    /// Reads termination messages.
    pub messages: MessageReader,
    /// Pods that changed, to the sync loop.
    pub wakes: mpsc::UnboundedSender<PodUid>,
    /// Planted bugs.
    pub faults: Faults,
}

impl Pleg {
    /// A relister that has seen nothing yet, and its handle.
    ///
    /// # Errors
    /// When one of its metrics is already registered.
    pub fn new(
        parts: PlegParts,
        registry: &Registry,
    ) -> Result<(Self, PlegHandle), prometheus::Error> {
        let (requests_out, requests) = mpsc::unbounded_channel();
        let observed = Signal::new(BTreeMap::new());
        let listed = Signal::new(None);
        let unseen = Signal::new(BTreeMap::new());
        let (observed_out, listed_out) = (observed.clone(), listed.clone());
        let unseen_out = unseen.clone();
        let pleg = Self {
            cri: parts.cri,
            clock: parts.clock,
            exits: parts.exits,
            messages: parts.messages,
            wakes: parts.wakes,
            requests,
            observed,
            unseen,
            listed,
            pods: BTreeMap::new(),
            listing: Listing::default(),
            to_see: None,
            see_until: None,
            watched: BTreeSet::new(),
            unwatched: BTreeSet::new(),
            rechecking: BTreeSet::new(),
            asked_enough: BTreeSet::new(),
            metrics: PlegMetrics::new(registry)?,
            faults: parts.faults,
        };
        Ok((
            pleg,
            PlegHandle {
                requests: requests_out,
                observed: observed_out,
                unseen: unseen_out,
                listed: listed_out,
            },
        ))
    }

    /// Runs until the stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut flights: FuturesUnordered<Flight> = FuturesUnordered::new();
        flights.push(self.list());
        let mut listing = true;
        let mut next_list = Instant::now() + FAST_RELIST;
        loop {
            tokio::select! {
                // In this order: stop first, then what is asked, then what came back, then the clock. Each arm only takes one
                // item off a queue, so none loses anything when another wins.
                biased;
                () = stop.cancelled() => return,
                Some(request) = self.requests.recv() => self.ask(request.uid, request.scope, request.answer, &flights),
                Some(landed) = flights.next() => {
                    if let Landed::List(..) = landed {
                        listing = false;
                        next_list = Instant::now() + self.relist_period();
                    }
                    self.land(landed, &flights);
                }
                () = tokio::time::sleep_until(next_list), if !listing => {
                    listing = true;
                    flights.push(self.list());
                }
                () = sleep_until_or_forever(self.see_until) => self.leave_unseen(),
            }
            if !listing {
                next_list = next_list.min(Instant::now() + self.relist_period());
            }
        }
    }

    fn relist_period(&self) -> Duration {
        if self.faults.planted() == Planted::NoRelist && self.listed.look(Option::is_some) {
            return Duration::from_secs(1 << 24);
        }
        if self.unwatched.is_empty() && self.listed.look(Option::is_some) {
            SLOW_RELIST
        } else {
            FAST_RELIST
        }
    }

    fn list(&self) -> Flight {
        let cri = self.cri.clone();
        Box::pin(async move {
            let began = Instant::now();
            let lists = async {
                let sandboxes = cri.list_pod_sandboxes(None).await?;
                let containers = cri.list_containers(None).await?;
                Ok(Listing::new(&sandboxes, &containers))
            };
            Landed::List(began, lists.await)
        })
    }

    /// Starts a look, or queues it behind the one under way; queued looks become one.
    fn ask(
        &mut self,
        uid: PodUid,
        scope: Scope,
        answer: Option<Answer>,
        flights: &FuturesUnordered<Flight>,
    ) {
        let entry = self.pods.entry(uid.clone()).or_default();
        if entry.busy.is_some() {
            let (queued, answers) = entry
                .queued
                .get_or_insert_with(|| (Scope::nothing(), Vec::new()));
            queued.join(scope);
            answers.extend(answer);
            return;
        }
        entry.busy = Some(answer.into_iter().collect());
        flights.push(self.look_at(uid, scope));
    }

    fn look_at(&self, uid: PodUid, scope: Scope) -> Flight {
        let (cri, clock, messages) = (self.cri.clone(), self.clock, self.messages.clone());
        let before = self.pods.get(&uid).and_then(|e| e.observed.clone());
        let timer = self.metrics.look();
        Box::pin(async move {
            let _timer = timer;
            let result = look(&cri, clock, &messages, &uid, scope, before).await;
            Landed::Look(uid, result)
        })
    }

    fn land(&mut self, landed: Landed, flights: &FuturesUnordered<Flight>) {
        match landed {
            Landed::Look(uid, result) => self.land_look(uid, result, flights),
            Landed::List(began, result) => self.land_list(began, result, flights),
            Landed::Exit(uid, id) => {
                self.watched.remove(&id);
                if self.rechecking.insert(id.clone()) {
                    self.recheck(uid, id, Instant::now(), flights);
                }
            }
            Landed::Recheck(uid, id, since) => self.recheck(uid, id, since, flights),
            Landed::NoHint(id) => {
                self.watched.remove(&id);
                self.unwatched.insert(id);
            }
        }
    }

    /// The process is gone; looks until the runtime agrees, for a bounded time.
    fn recheck(
        &mut self,
        uid: PodUid,
        id: ContainerId,
        since: Instant,
        flights: &FuturesUnordered<Flight>,
    ) {
        let runs = self
            .pods
            .get(&uid)
            .and_then(|e| e.observed.as_ref())
            .is_some_and(|pod| {
                pod.containers
                    .iter()
                    .any(|c| c.id == id && matches!(c.state, ContainerState::Running { .. }))
            });
        if !runs || since.elapsed() >= RECHECKS {
            self.rechecking.remove(&id);
            if runs {
                self.unwatched.insert(id.clone());
                self.asked_enough.insert(id);
            }
            return;
        }
        self.ask(uid.clone(), Scope::container(id.clone()), None, flights);
        let pause = recheck_pause(since.elapsed(), self.rechecking.len());
        flights.push(Box::pin(async move {
            tokio::time::sleep(pause).await;
            Landed::Recheck(uid, id, since)
        }));
    }

    fn land_look(
        &mut self,
        uid: PodUid,
        result: Result<Looked, CriError>,
        flights: &FuturesUnordered<Flight>,
    ) {
        let was_unseen = result.is_ok() && self.set_seen(&uid);
        let Some(entry) = self.pods.get_mut(&uid) else {
            return;
        };
        let answers = entry.busy.take().unwrap_or_default();
        let reply = match result {
            Ok(looked) => {
                let pod = Arc::new(looked.pod);
                // Absent as before is no news: its worker would look again, and again. Absent for the first time is: another pod
                // may wait for its name.
                let changed = was_unseen
                    || match &entry.observed {
                        Some(old) => !same(old, &pod),
                        None => !pod.is_absent(),
                    };
                entry.observed = (!pod.is_absent()).then(|| Arc::clone(&pod));
                self.publish(&uid, &pod);
                self.watch_exits(&pod, flights);
                if changed {
                    self.wake(&uid);
                }
                Ok(pod)
            }
            Err(error) => {
                tracing::warn!(uid = %uid, error = %error, "Pod could not be inspected");
                if self.listed.look(Option::is_none) {
                    self.set_unseen(&uid);
                }
                // Only the lists can tell whether it changed: forget what they said, so that the next one looks again.
                self.listing.pods.remove(&uid);
                Err(LookError::Runtime(error))
            }
        };
        for answer in answers {
            // A worker that stopped waiting does not need the answer.
            let _sent = answer.send(reply.clone());
        }
        if let Some((scope, answers)) = self.pods.get_mut(&uid).and_then(|e| e.queued.take()) {
            if let Some(entry) = self.pods.get_mut(&uid) {
                entry.busy = Some(answers);
            }
            flights.push(self.look_at(uid.clone(), scope));
        } else if self.pods.get(&uid).is_some_and(|e| e.observed.is_none()) {
            self.pods.remove(&uid);
        }
        self.first_sight(&uid);
    }

    fn set_unseen(&self, uid: &PodUid) {
        if let Some(name) = self.listing.names.get(uid).cloned() {
            self.unseen
                .change(|all| drop(all.insert(uid.clone(), name)));
        }
    }

    /// Whether the pod was unseen until now.
    fn set_seen(&self, uid: &PodUid) -> bool {
        let was_unseen = self.unseen.look(|all| all.contains_key(uid));
        if was_unseen {
            self.unseen.change(|all| drop(all.remove(uid)));
        }
        was_unseen
    }

    /// What was never seen and is not listed any more is gone, unless a look at it is under way, which tells then.
    fn drop_unlisted(&self) {
        let is_gone = |uid: &&PodUid| {
            let is_busy = self.pods.get(*uid).is_some_and(|e| e.busy.is_some());
            !is_busy && !self.listing.pods.contains_key(*uid)
        };
        let gone: Vec<PodUid> = self
            .unseen
            .look(|all| all.keys().filter(is_gone).cloned().collect());
        for uid in gone {
            self.set_seen(&uid);
            self.wake(&uid);
        }
    }

    fn wake(&self, uid: &PodUid) {
        // The sync loop lives as long as this task; when it does not, the process is stopping.
        if self.wakes.send(uid.clone()).is_err() {
            self.metrics.discarded();
        }
    }

    /// The first list counts as done when each pod in it was looked at.
    fn first_sight(&mut self, uid: &PodUid) {
        let Some(to_see) = &mut self.to_see else {
            return;
        };
        to_see.remove(uid);
        if to_see.is_empty() && self.listed.look(Option::is_none) {
            self.see_until = None;
            self.listed.set(Some(Instant::now()));
        }
    }

    /// A look that hangs is as good as one that failed: what the pod holds is not known, and nobody else waits for it.
    fn leave_unseen(&mut self) {
        self.see_until = None;
        let unseen = self.to_see.as_mut().map(std::mem::take);
        for uid in unseen.unwrap_or_default() {
            tracing::warn!(uid = %uid, "Pod was not inspected in time; the others go on");
            self.set_unseen(&uid);
        }
        self.listed.set(Some(Instant::now()));
    }

    fn land_list(
        &mut self,
        began: Instant,
        result: Result<Listing, CriError>,
        flights: &FuturesUnordered<Flight>,
    ) {
        match result {
            Ok(listing) => {
                let changed = changed_pods(&self.listing, &listing);
                self.metrics.relisted(began.elapsed(), self.clock.now());
                for why in listing.refused.difference(&self.listing.refused) {
                    tracing::warn!(
                        uid = why,
                        "Ignoring a runtime object whose pod UID is invalid"
                    );
                }
                self.listing = listing;
                self.drop_unlisted();
                if self.to_see.is_none() {
                    self.to_see = Some(changed.clone());
                    self.see_until = (!changed.is_empty()).then(|| Instant::now() + FIRST_SIGHT);
                }
                for uid in changed {
                    self.ask(uid, Scope::Whole, None, flights);
                }
                let first_done = self.to_see.as_ref().is_some_and(BTreeSet::is_empty);
                if first_done || self.listed.look(Option::is_some) {
                    self.listed.set(Some(Instant::now()));
                }
            }
            Err(error) => tracing::warn!(error = %error, "Runtime could not be listed"),
        }
    }

    fn publish(&self, uid: &PodUid, pod: &Arc<ObservedPod>) {
        self.observed.change(|all| {
            if pod.is_absent() {
                all.remove(uid);
            } else {
                all.insert(uid.clone(), Arc::clone(pod));
            }
        });
        self.observed.look(|all| self.metrics.holds(all));
    }

    /// Opens a hint for every running container that has none.
    fn watch_exits(&mut self, pod: &Arc<ObservedPod>, flights: &FuturesUnordered<Flight>) {
        for container in &pod.containers {
            let id = &container.id;
            if !matches!(container.state, ContainerState::Running { .. }) {
                self.unwatched.remove(id);
                self.asked_enough.remove(id);
                continue;
            }
            let known = [&self.watched, &self.rechecking, &self.asked_enough];
            if known.iter().any(|ids| ids.contains(id)) {
                continue;
            }
            let Some(pid) = container.pid else {
                self.unwatched.insert(container.id.clone());
                continue;
            };
            self.unwatched.remove(&container.id);
            self.watched.insert(container.id.clone());
            let (uid, id) = (pod.uid.clone(), container.id.clone());
            let exit = self.exits.of(self.cri.clone(), id.clone(), pid);
            flights.push(Box::pin(async move {
                if exit.await {
                    Landed::Exit(uid, id)
                } else {
                    Landed::NoHint(id)
                }
            }));
        }
        let gone = |id: &ContainerId| pod.containers.iter().all(|c| c.id != *id);
        // Of a container that went while it was counted among these, nobody will see an end.
        if pod.is_absent() || !self.asked_enough.is_empty() {
            let held: BTreeSet<ContainerId> = self
                .pods
                .values()
                .filter_map(|e| e.observed.as_ref())
                .flat_map(|p| p.containers.iter().map(|c| c.id.clone()))
                .collect();
            self.unwatched.retain(|id| held.contains(id) || !gone(id));
            self.asked_enough
                .retain(|id| held.contains(id) || !gone(id));
        }
    }
}

async fn sleep_until_or_forever(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Equal but for the time of the look.
fn same(old: &ObservedPod, new: &ObservedPod) -> bool {
    old.sandboxes == new.sandboxes && old.containers == new.containers
}

/// Ids of sandboxes and containers to look at.
pub fn parts(
    sandboxes: impl IntoIterator<Item = SandboxId>,
    containers: impl IntoIterator<Item = ContainerId>,
) -> Scope {
    Scope::Parts {
        sandboxes: sandboxes.into_iter().collect(),
        containers: containers.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use kubelet_host::HostRoot;
    use kubelet_host::blocking::Blocking;
    use kubelet_model::observed::Moment;
    use testkit::cri::{StandInConfig, StandInRuntime};

    use super::*;

    /// A relister after a first list that named one pod, whose look was given up, and what it wakes.
    fn with_one_unseen() -> (Pleg, PodUid, mpsc::UnboundedReceiver<PodUid>) {
        let registry = Registry::new();
        let channel = StandInRuntime::new(StandInConfig::default()).connect();
        let timeouts = kubelet_cri::Timeouts {
            request: Duration::from_secs(60),
        };
        let metrics = kubelet_cri::Metrics::new(&registry).unwrap();
        let (wakes, woken) = mpsc::unbounded_channel();
        let parts = PlegParts {
            cri: Client::from_channels(channel.clone(), channel, timeouts, metrics),
            clock: Clock::system(),
            exits: ExitSource::None,
            messages: MessageReader::new(
                HostRoot::at("/nowhere"),
                Blocking::Inline,
                "/kubelet",
                "/logs",
            ),
            wakes,
            faults: Faults::none(),
        };
        let (mut pleg, _) = Pleg::new(parts, &registry).unwrap();
        let uid = PodUid::parse("u").unwrap();
        let name = PodFullName::parse("default", "p").unwrap();
        let listing = Listing {
            pods: [(uid.clone(), BTreeMap::new())].into(),
            names: [(uid.clone(), name)].into(),
            ..Listing::default()
        };
        let flights = FuturesUnordered::new();
        pleg.land_list(Instant::now(), Ok(listing), &flights);
        pleg.leave_unseen();
        assert!(pleg.unseen.look(|all| all.contains_key(&uid)));
        (pleg, uid, woken)
    }

    #[tokio::test]
    async fn a_given_up_look_that_finds_nothing_in_the_end_wakes_who_waits_for_the_name() {
        let (mut pleg, uid, mut woken) = with_one_unseen();
        let flights = FuturesUnordered::new();
        let absent = || Looked {
            pod: ObservedPod::absent(PodUid::parse("u").unwrap(), Moment::default()),
        };
        pleg.land_look(uid.clone(), Ok(absent()), &flights);
        assert_eq!(woken.try_recv(), Ok(uid.clone()));
        assert!(pleg.unseen.look(BTreeMap::is_empty));
        pleg.ask(uid.clone(), Scope::Whole, None, &flights);
        pleg.land_look(uid, Ok(absent()), &flights);
        assert!(woken.try_recv().is_err(), "absent as before is no news");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_is_gone_and_runs_for_the_runtime_is_left_to_the_relist() {
        let (mut pleg, uid, _woken) = with_one_unseen();
        let flights = FuturesUnordered::new();
        let (sandbox, id) = (SandboxId::from("s"), ContainerId::from("c"));
        let status = |state: i32| kubelet_api::runtime::v1::ContainerStatus {
            id: id.to_string(),
            state,
            ..Default::default()
        };
        let info = BTreeMap::from([("info".to_owned(), r#"{"pid": 7}"#.to_owned())]);
        let looked = |state| {
            let detail = kubelet_cri::container_of_status(&status(state), &info, Some(&sandbox));
            let mut pod = ObservedPod::absent(uid.clone(), Moment::default());
            pod.containers.push(detail.container);
            Ok(Looked { pod })
        };
        pleg.exits = ExitSource::Simulated(Arc::new(|_| Box::pin(std::future::ready(()))));
        pleg.land_look(uid.clone(), looked(1), &flights);
        assert!(pleg.watched.contains(&id));
        pleg.land(Landed::Exit(uid.clone(), id.clone()), &flights);
        assert!(pleg.rechecking.contains(&id));
        let since = Instant::now();
        tokio::time::advance(RECHECKS).await;
        pleg.land(Landed::Recheck(uid.clone(), id.clone(), since), &flights);
        for _ in 0..3 {
            pleg.land_look(uid.clone(), looked(1), &flights);
            assert!(pleg.watched.is_empty() && pleg.rechecking.is_empty());
            assert_eq!(pleg.relist_period(), FAST_RELIST);
        }
        let (unwatched, asked_enough) = (pleg.unwatched.clone(), pleg.asked_enough.clone());
        pleg.land_look(uid.clone(), looked(2), &flights);
        assert_eq!(pleg.relist_period(), SLOW_RELIST);
        assert!(pleg.asked_enough.is_empty());
        // Or the runtime forgets it, and another goes on in its pod.
        (pleg.unwatched, pleg.asked_enough) = (unwatched, asked_enough);
        let mut next = looked(2).unwrap();
        next.pod.containers[0].id = ContainerId::from("next");
        pleg.land_look(uid.clone(), Ok(next), &flights);
        assert_eq!(pleg.relist_period(), SLOW_RELIST);
        assert!(pleg.asked_enough.is_empty());
    }

    #[tokio::test]
    async fn an_unseen_pod_that_no_list_names_any_more_is_gone() {
        let (mut pleg, uid, mut woken) = with_one_unseen();
        let flights = FuturesUnordered::new();
        let nothing = || Ok(Listing::default());
        let entry = pleg.pods.get_mut(&uid).unwrap();
        assert!(entry.busy.is_some());
        // A look that hangs tells when it ends; until then nobody knows.
        pleg.unseen.look(|all| assert_eq!(all.len(), 1));
        pleg.land_list(Instant::now(), nothing(), &flights);
        pleg.unseen.look(|all| assert_eq!(all.len(), 1));
        assert!(woken.try_recv().is_err());
        pleg.pods.get_mut(&uid).unwrap().busy = None;
        pleg.land_list(Instant::now(), nothing(), &flights);
        pleg.unseen.look(|all| assert!(all.is_empty()));
        assert_eq!(woken.try_recv(), Ok(uid));
    }

    /// How late an exit can show that the runtime tells of so many milliseconds after it, and how often it was asked until then.
    fn lateness(told_ms: u64, exits: usize) -> (Duration, u32) {
        let told = Duration::from_millis(told_ms);
        let (mut age, mut asked) = (Duration::ZERO, 1);
        while age < told {
            age += recheck_pause(age, exits);
            asked += 1;
        }
        (age.saturating_sub(told), asked)
    }

    #[test]
    fn one_exit_shows_soon_after_the_runtime_tells_it() {
        for told in 0..700 {
            let (late, asked) = lateness(told, 1);
            let most = (Duration::from_millis(told) / RECHECK_PART).max(SHORTEST_RECHECK);
            assert!(late <= most, "told after {told} ms, shown {late:?} later");
            assert!(asked <= 70, "asked {asked} times in {told} ms");
        }
    }

    #[test]
    fn many_exits_do_not_flood_the_runtime() {
        let (late, asked) = lateness(400, 60);
        assert!(late <= LONGEST_RECHECK);
        assert_eq!(asked, 11);
    }
}
