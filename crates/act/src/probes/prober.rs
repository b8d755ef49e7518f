//! The probes of all pods of the node: one table of timetables, one timer, results.
//!
//! In:    `PodTargets` of each pod worker, at every turn; answers
//! Out:   `PodProbes` for its view; a wake when a result changes; events and metrics of tries that count
//! Calls: pod_worker aims and reads; pod_path starts it
//! Holds: the only owner of results; every try is a task of its own; an answer for another instance changes nothing
//! Upstream: pkg/kubelet/prober/{prober_manager,worker}.go

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use kubelet_decide::probes::ask::ask;
use kubelet_decide::probes::spec::{has_probes, probe_of};
use kubelet_decide::probes::timetable::{FirstTries, Timetable, Try, TryResult};
use kubelet_decide::report::events::{probe_failed, probe_warning};
use kubelet_decide::shapes::probe::{PodProbes, PodTargets, ProbeKind};
use kubelet_decide::shapes::view::Now;
use kubelet_model::ids::{ContainerId, PodUid};
use kubelet_model::pod::Pod;
use kubelet_model::story;
use kubelet_probe::Answer;
use tokio::sync::{Notify, mpsc};

use crate::frame::clock::{Clock, sleep_or_forever};
use crate::frame::supervisor::{Supervisor, TaskKind};
use crate::probes::asking::Asking;
use crate::probes::probe_metrics::ProbeMetrics;
use crate::probes::told::{self, Told};
use crate::report::events::Events;

/// What the prober works with.
#[derive(Clone, Debug)]
pub struct ProberParts {
    /// Over the runtime and the network.
    pub asking: Asking,
    /// Where people are told.
    pub events: Events,
    /// The clock.
    pub clock: Clock,
    /// Figures.
    pub metrics: ProbeMetrics,
    /// When first tries are made.
    pub first_tries: FirstTries,
    /// Wakes the worker of a pod.
    pub wakes: mpsc::UnboundedSender<PodUid>,
}

/// The prober. Clones share it.
#[derive(Clone, Debug)]
pub struct Prober {
    parts: ProberParts,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    pods: Mutex<BTreeMap<PodUid, ProbedPod>>,
    changed: Notify,
}

#[derive(Debug)]
struct ProbedPod {
    pod: Arc<Pod>,
    ip: String,
    is_leaving: bool,
    tables: BTreeMap<String, Timetable>,
    results: Arc<PodProbes>,
    /// When the first of its tries is due: most wakes are for another pod.
    next_at: Option<Timestamp>,
    /// What is only told, by container and kind.
    told: BTreeMap<(String, ProbeKind), Told>,
}

/// A try that is due.
struct Due {
    pod: Arc<Pod>,
    ip: String,
    container: String,
    id: ContainerId,
    kind: ProbeKind,
    as_: Try,
    /// Since when.
    since: Timestamp,
    timeout: Duration,
}

impl Prober {
    /// With nothing to probe.
    pub fn new(parts: ProberParts) -> Self {
        Self {
            parts,
            shared: Arc::default(),
        }
    }

    fn pods(&self) -> MutexGuard<'_, BTreeMap<PodUid, ProbedPod>> {
        self.shared
            .pods
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What of a pod is probed from here on.
    pub fn aim(&self, targets: PodTargets) {
        let uid = targets.pod.uid.clone();
        let mut pods = self.pods();
        if targets.containers.is_empty() && !pods.contains_key(&uid) {
            return;
        }
        let probed = pods.entry(uid).or_insert_with(|| ProbedPod {
            pod: Arc::clone(&targets.pod),
            ip: String::new(),
            is_leaving: false,
            tables: BTreeMap::new(),
            results: Arc::default(),
            next_at: None,
            told: BTreeMap::new(),
        });
        let now = self.parts.clock.steady();
        let is_changed = probed.take(&targets, self.parts.first_tries, now);
        drop(pods);
        if is_changed {
            self.shared.changed.notify_one();
        }
    }

    /// Nothing of the pod is left.
    pub fn forget(&self, uid: &PodUid) {
        let Some(gone) = self.pods().remove(uid) else {
            return;
        };
        let probed = gone.pod.kept_containers().filter(|spec| has_probes(spec));
        probed.for_each(|spec| self.parts.metrics.forget(&gone.pod, &spec.name));
    }

    /// What is known of a pod's containers.
    pub fn results(&self, uid: &PodUid) -> Arc<PodProbes> {
        let pods = self.pods();
        pods.get(uid)
            .map(|probed| Arc::clone(&probed.results))
            .unwrap_or_default()
    }

    /// What is told of a pod's probes to those who ask the node.
    pub fn told(&self, uid: &PodUid) -> Vec<story::Probe> {
        let clock = self.parts.clock;
        let now = Now {
            wall: clock.now(),
            steady: clock.steady(),
        };
        let shown = |at: Timestamp| now.wall_of(at);
        let pods = self.pods();
        pods.get(uid)
            .map(|probed| told::probes(&probed.pod, &probed.tables, &probed.told, shown))
            .unwrap_or_default()
    }

    /// Starts its task.
    pub fn start(&self, supervisor: &Supervisor) {
        let (this, of_tries) = (self.clone(), supervisor.clone());
        supervisor.spawn_reconciler("prober", move || this.clone().run(of_tries.clone()));
    }

    /// Tries what is due until the process stops.
    async fn run(self, supervisor: Supervisor) {
        let stop = supervisor.stop().clone();
        loop {
            let (due, next) = self.take_due();
            for one in due {
                let this = self.clone();
                supervisor.spawn(TaskKind::Stream, "probe", async move {
                    this.try_one(one).await;
                });
            }
            let now = self.parts.clock.steady();
            let wait = next
                .map(|next| Duration::try_from(next.duration_since(now)).unwrap_or(Duration::ZERO));
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.shared.changed.notified() => {}
                () = sleep_or_forever(wait) => {}
            }
        }
    }

    fn take_due(&self) -> (Vec<Due>, Option<Timestamp>) {
        let now = self.parts.clock.steady();
        let mut due = Vec::new();
        let mut next: Option<Timestamp> = None;
        for probed in self.pods().values_mut() {
            if probed.next_at.is_none_or(|at| at > now) {
                next = next.into_iter().chain(probed.next_at).min();
                continue;
            }
            for (container, table) in &mut probed.tables {
                while let Some((kind, as_, since)) = table.begin_due(now) {
                    due.push(Due {
                        pod: Arc::clone(&probed.pod),
                        ip: probed.ip.clone(),
                        container: container.clone(),
                        id: table.results().id.clone(),
                        kind,
                        as_,
                        since,
                        timeout: table.spec(kind).map_or(Duration::ZERO, |spec| spec.timeout),
                    });
                }
            }
            probed.set_next();
            next = next.into_iter().chain(probed.next_at).min();
        }
        (due, next)
    }

    async fn try_one(&self, due: Due) {
        // A try that panics ends as one that did not work: its probe goes on.
        let tried = AssertUnwindSafe(self.answer(&due)).catch_unwind().await;
        let (answer, took) = tried.unwrap_or_else(|_| {
            let (state, message) = ("unknown", "the probe panicked".to_owned());
            (Answer::Error { state, message }, Duration::ZERO)
        });
        let result = match &answer {
            Answer::Success(_) | Answer::Warning(_) => TryResult::Success,
            Answer::Failure(_) => TryResult::Failure,
            Answer::Error { .. } => TryResult::Error,
        };
        let now = self.parts.clock.steady();
        let mut is_changed = false;
        let mut is_known = false;
        if let Some(probed) = self.pods().get_mut(&due.pod.uid)
            && let Some(table) = probed.tables.get_mut(&due.container)
            && table.results().id == due.id
        {
            is_known = !table.is_settled(due.kind);
            is_changed = table.answered(due.kind, due.as_, result, now);
            let told = (due.container.clone(), due.kind);
            let told = probed.told.entry(told).or_default();
            told.hear(&due.id, &answer, due.as_, self.parts.clock.now());
            if is_changed {
                probed.publish();
            }
            probed.set_next();
        }
        if is_known && (due.as_ == Try::Regular || result == TryResult::Success) {
            self.report(&due, &answer, result, took);
        }
        if is_changed {
            // The sync loop is gone when the process stops.
            self.parts.wakes.send(due.pod.uid.clone()).ok();
        }
        self.shared.changed.notify_one();
    }

    /// The answer, and how long it took once it was this try's turn.
    async fn answer(&self, due: &Due) -> (Answer, Duration) {
        let unknown = |message: String| {
            let state = "unknown";
            (Answer::Error { state, message }, Duration::ZERO)
        };
        let spec = due.pod.kept_container(&due.container);
        let probe = spec.and_then(|spec| Some((spec, probe_of(spec, due.kind)?)));
        let Some((spec, probe)) = probe else {
            return unknown("no such probe".to_owned());
        };
        let asked = match ask(probe, spec, &due.ip) {
            Ok(asked) => asked,
            Err(message) => return unknown(message),
        };
        let mut turn = self.parts.asking.turn(&asked, due.timeout).await;
        let late = self.parts.clock.steady().duration_since(due.since);
        self.parts
            .metrics
            .began(Duration::try_from(late).unwrap_or_default());
        if !self.is_instance(due) {
            return unknown("its container has ended".to_owned());
        }
        let began = self.parts.clock.moment();
        let asking = self.parts.asking.ask(&due.id, &asked, due.timeout);
        let answer = turn.during(asking).await;
        (answer, self.parts.clock.moment().0.saturating_sub(began.0))
    }

    /// Whether the instance is still the one that is probed.
    fn is_instance(&self, due: &Due) -> bool {
        let pods = self.pods();
        let table = pods
            .get(&due.pod.uid)
            .and_then(|pod| pod.tables.get(&due.container));
        table.is_some_and(|table| table.results().id == due.id)
    }

    fn report(&self, due: &Due, answer: &Answer, result: TryResult, took: Duration) {
        let (pod, container, kind) = (&due.pod, due.container.as_str(), due.kind);
        self.parts
            .metrics
            .answered((pod, container), kind, result, took);
        let event = match answer {
            Answer::Success(_) => None,
            Answer::Warning(said) => probe_warning(pod, container, kind, said),
            Answer::Failure(said) => {
                let said = format!("{kind} probe failed: {said}");
                probe_failed(pod, container, &said)
            }
            Answer::Error { state, message } => {
                let said = format!("{kind} probe errored and resulted in {state} state: {message}");
                probe_failed(pod, container, &said)
            }
        };
        if let Some(event) = event {
            self.parts.events.pod(pod, event);
        }
    }
}

impl ProbedPod {
    /// Takes over what is probed from here on; whether a timer may have changed.
    fn take(&mut self, targets: &PodTargets, first_tries: FirstTries, now: Timestamp) -> bool {
        let mut is_changed = self.ip != targets.ip;
        self.pod = Arc::clone(&targets.pod);
        self.ip.clone_from(&targets.ip);
        let before = self.tables.len();
        let is_target = |name: &String, table: &mut Timetable| {
            let target = targets.containers.get(name);
            target.is_some_and(|target| target.id == table.results().id)
        };
        self.tables.retain(is_target);
        is_changed |= self.tables.len() != before;
        for spec in targets.pod.kept_containers() {
            let Some(target) = targets.containers.get(&spec.name) else {
                continue;
            };
            if !self.tables.contains_key(&spec.name) {
                let phase = phase(targets.pod.uid.as_str(), &spec.name);
                let table = Timetable::new(spec, target, first_tries, phase, now);
                self.tables.insert(spec.name.clone(), table);
                is_changed = true;
            }
        }
        if targets.is_leaving && (is_changed || !self.is_leaving) {
            for table in self.tables.values_mut() {
                table.leave(now);
            }
            is_changed = true;
        }
        self.is_leaving = targets.is_leaving;
        if is_changed {
            self.publish();
        }
        self.set_next();
        is_changed
    }

    /// After whatever changed its tables.
    fn set_next(&mut self) {
        self.next_at = self.tables.values().filter_map(Timetable::next_at).min();
    }

    fn publish(&mut self) {
        let results = self.tables.iter();
        let results = results.map(|(name, table)| (name.clone(), table.results().clone()));
        self.results = Arc::new(results.collect());
        let tables = &self.tables;
        self.told
            .retain(|(container, _), _| tables.contains_key(container));
    }
}

/// Where in its periods a container is probed, in thousandths: the same after a restart of the kubelet.
fn phase(uid: &str, container: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    (uid, container).hash(&mut hasher);
    u32::try_from(hasher.finish() % 1000).unwrap_or(0)
}

#[cfg(test)]
mod tests;
