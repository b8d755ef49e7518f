//! Registers the node and reports it: Node status, Lease, CSINode.
//!
//! In:    the node's facts; the runtime's state, the images; the object as the watch of the own Node shows it, read where it is behind
//! Out:   the Node object's status, its lease, its CSINode; the node's name and UID for those that need an owner
//! Calls: two reconcilers, in a cluster only
//! Holds: registration is retried until it succeeds; a status is sent if it changed or its period is over; the lease never waits
//!        for the status
//! Upstream: pkg/kubelet/kubelet_node_status.go (registerWithAPIServer, syncNodeStatus, fastNodeStatusUpdate),
//!           component-helpers/apimachinery/lease/controller.go (1.36)

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeRuntimeHandler, NodeRuntimeHandlerFeatures};
use kubelet_cluster::nodes::{LeaseKeeper, Registered};
use kubelet_cluster::reflector::{Behind, Snapshots};
use kubelet_cluster::{Client, ClusterError};
use kubelet_decide::node::node_status::{
    ImageView, NodeStatusPlan, NodeStatusView, PressureView, ReportTimes, RuntimeFeatureView,
    adopted_node, csi_node, initial_lease, must_report, node_patch, node_status,
};
use kubelet_decide::report::events::NodeEvent;
use kubelet_model::doubling::Doubling;
use prometheus::{Gauge, Registry};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::frame::clock::Clock;
use crate::frame::metrics::{Making, opts};
use crate::frame::reconciler::{Pace, Reconciler, RoundError, RoundResult, WakeReason};
use crate::images::image_list::ImageSet;
use crate::node::node_facts::ClusterFacts;
use crate::node::runtime_up::RuntimeState;
use crate::observe::pleg::PlegHandle;
use crate::report::events::Events;

/// Between tries to register: doubles up to the longest.
const TRIES: Doubling = Doubling::new(Duration::from_millis(100), Duration::from_secs(7));
/// Until the node was ready once it is looked at this often, for this long.
const FAST: Duration = Duration::from_millis(100);
const FAST_FOR: Duration = Duration::from_secs(120);
/// So long a round waits for the runtime's version.
const VERSION_WAIT: Duration = Duration::from_secs(1);
/// A runtime that was not listed for so long is not well.
const LIST_AGE: Duration = Duration::from_secs(180);
/// A kubelet that never had its pods or Services, and could reach the API server for so long, starts no pod: its node is not ready. The
/// time is longer than a set takes after a restart. A set that was had once and is behind leaves the node ready, as upstream.
const UNHEARD: Duration = Duration::from_secs(60);
/// The sets without which no pod of the API starts.
const VITAL: [&str; 2] = ["pods", "services"];

/// How often things are said.
#[derive(Clone, Copy, Debug)]
pub struct NodePace {
    /// `nodeStatusUpdateFrequency`.
    pub update: Duration,
    /// `nodeStatusReportFrequency`.
    pub report: Duration,
    /// How long a lease lasts; a quarter of it lies between two renewals.
    pub lease: Duration,
    /// Part of the report frequency by which this node's reports are apart from other nodes', -0.5 to 0.5.
    pub fraction: f64,
}

/// What the task works with.
#[derive(Clone, Debug)]
pub struct NodeStatusParts {
    /// The API server.
    pub client: Client,
    /// The runtime, which may be another version by now.
    pub cri: kubelet_cri::Client,
    /// The clock.
    pub clock: Clock,
    /// What does not change.
    pub facts: ClusterFacts,
    /// Port of the main listener.
    pub port: i32,
    /// Images shown; `None` is all.
    pub max_images: Option<usize>,
    /// Features that the Node declares (KEP-5328).
    pub declared: Vec<String>,
    /// `registerNode`.
    pub is_registering: bool,
    /// How often.
    pub pace: NodePace,
    /// What the runtime says of itself.
    pub runtime: watch::Receiver<RuntimeState>,
    /// Why work on the node's disk does not get on, if it does not.
    pub host: watch::Receiver<Option<String>>,
    /// What hangs there and keeps only some pods waiting.
    pub host_warning: watch::Receiver<Option<String>>,
    /// The own Node, as far as its watch brought it.
    pub own_node: Snapshots<Node>,
    /// Images on the node.
    pub images: watch::Receiver<Option<ImageSet>>,
    /// The relister.
    pub pleg: PlegHandle,
    /// Where people are told.
    pub events: Events,
    /// How long the start takes.
    pub startup: Startup,
    /// Where the node's name and UID are shown, from its registration on, as its object has them.
    pub identity: watch::Sender<Option<(String, String)>>,
}

/// The reconciler of the Node object.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    parts: NodeStatusParts,
    /// The object as it was last read or written; `None` before it is registered.
    node: Option<Box<Node>>,
    /// When it was registered.
    began: Option<Instant>,
    /// It was registered by the last round.
    is_new: bool,
    was_ready: bool,
    reported: Option<Instant>,
    /// After a failure the object is read, for what the watch shows may be why.
    trouble: Trouble,
}

/// What the last calls came to.
#[derive(Clone, Copy, Debug, Default)]
struct Trouble {
    failures: u32,
    /// How long the server asked to be left alone.
    asked_for: Duration,
}

impl Trouble {
    fn note<T>(&mut self, result: &Result<T, ClusterError>) {
        self.asked_for = asked_for(result.as_ref().err());
        self.failures = match result {
            Ok(_) => 0,
            Err(_) => self.failures.saturating_add(1),
        };
    }

    fn is_any(&self) -> bool {
        self.failures > 0
    }

    fn pause(&self) -> Duration {
        TRIES.after(self.failures)
    }
}

/// What a round looks at.
#[derive(Debug)]
pub struct NodeSeen {
    /// The object at the API server; `None` before the registration.
    existing: Option<Box<Node>>,
    runtime: RuntimeState,
    /// `containerd://1.7.0`, when it answered just now.
    runtime_version: Option<String>,
    images: Option<Vec<ImageView>>,
    not_ready: Vec<String>,
    warning: Option<String>,
    times: ReportTimes,
}

/// What a round does.
#[derive(Debug)]
pub enum NodePlan {
    /// Makes the object, or takes it over; without `registerNode` it is waited for.
    Register(Box<NodeStatusPlan>),
    /// Writes the status.
    Report(Box<NodeStatusPlan>),
    /// The object says what is true.
    Nothing(Box<NodeStatusPlan>),
}

impl std::fmt::Display for NodePlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Register(_) => f.write_str("register the node"),
            Self::Report(_) => f.write_str("write the node's status"),
            Self::Nothing(_) => Ok(()),
        }
    }
}

impl Reconciler for NodeStatus {
    const NAME: &'static str = "node_status";
    type Seen = Box<NodeSeen>;
    type Plan = NodePlan;

    async fn observe(&mut self, _why: WakeReason) -> Result<Self::Seen, RoundError> {
        self.is_new = false;
        if let Some(known) = self.node.take() {
            let name = known.metadata.name.clone().unwrap_or_default();
            let node = match self.watched(&name, &known) {
                Some(newer) => Box::new(Node::clone(&newer)),
                None if self.is_known(&name) => known,
                None => {
                    let read = self.read(&name).await;
                    self.trouble.note(&read);
                    match read {
                        Ok(node) => Box::new(node),
                        Err(error) => {
                            self.node = Some(known);
                            return Err(failed("Node could not be read", &error));
                        }
                    }
                }
            };
            self.show_identity(&node).await;
            self.node = Some(node);
        }
        // A runtime that hangs must not hold up what is to be said of that.
        let asked = tokio::time::timeout(VERSION_WAIT, self.parts.cri.version());
        let version = asked.await.ok().and_then(Result::ok);
        let version = version.map(|of| format!("{}://{}", of.runtime_name, of.runtime_version));
        Ok(Box::new(self.look(version)))
    }

    fn decide(&self, seen: Self::Seen, now: Timestamp) -> NodePlan {
        let Some(existing) = &seen.existing else {
            let initial = &self.parts.facts.initial;
            return NodePlan::Register(Box::new(self.plan(initial, &seen, now)));
        };
        let plan = Box::new(self.plan(existing, &seen, now));
        if must_report(existing, &plan.node, &seen.times) {
            NodePlan::Report(plan)
        } else {
            NodePlan::Nothing(plan)
        }
    }

    async fn act(&mut self, plan: NodePlan) -> RoundResult {
        let plan = match plan {
            NodePlan::Register(plan) => return self.register(*plan).await,
            NodePlan::Report(plan) => {
                self.note_ready(&plan.node);
                plan
            }
            NodePlan::Nothing(plan) => {
                self.note_ready(&plan.node);
                self.trouble = Trouble::default();
                return Ok(());
            }
        };
        for problem in &plan.problems {
            tracing::warn!(problem, "Part of the node's status is not known");
        }
        let Some(existing) = &self.node else {
            return Ok(());
        };
        if let Some(patch) = node_patch(existing, &plan.node) {
            let name = existing.metadata.name.clone().unwrap_or_default();
            let written = self.parts.client.write_node_status(&name, &patch).await;
            self.trouble.note(&written);
            match written {
                Ok(node) => self.node = Some(Box::new(node)),
                Err(error) => return Err(failed("Node status could not be written", &error)),
            }
            self.reported = Some(Instant::now());
            self.record(plan.events);
        }
        Ok(())
    }

    async fn changed(&mut self) {
        // While it is looked at often anyway, a change is no news.
        if self.is_fast() || self.parts.runtime.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn wait(&self, result: &RoundResult) -> Option<Duration> {
        Some(match &self.node {
            None => self.trouble.pause().max(self.trouble.asked_for),
            Some(_) if self.is_new => Duration::ZERO,
            Some(_) if result.is_ok() && self.is_fast() => FAST,
            Some(_) => self.parts.pace.update.max(self.trouble.asked_for),
        })
    }
}

impl NodeStatus {
    /// Nothing is said yet.
    pub fn new(parts: NodeStatusParts) -> Self {
        Self {
            parts,
            node: None,
            began: None,
            was_ready: false,
            is_new: false,
            reported: None,
            trouble: Trouble::default(),
        }
    }

    /// The reconciler itself says when it looks again.
    pub fn pace(&self) -> Pace {
        Pace {
            gap: Duration::ZERO,
            ..Pace::every(self.parts.pace.update)
        }
    }

    /// A node that was not ready yet is looked at often, for some time.
    fn is_fast(&self) -> bool {
        !self.was_ready
            && !self.trouble.is_any()
            && self.began.is_some_and(|began| began.elapsed() < FAST_FOR)
    }

    fn note_ready(&mut self, node: &Node) {
        if is_ready(node) {
            self.was_ready = true;
            self.parts.startup.ready(self.parts.clock.now());
        }
    }

    async fn register(&mut self, plan: NodeStatusPlan) -> RoundResult {
        self.parts.startup.tries(self.parts.clock.now());
        let registered = self.try_register(&plan).await;
        self.trouble.note(&registered);
        let node = match registered {
            Ok(node) => node,
            Err(error) => {
                return Err(failed("Unable to register node with API server", &error));
            }
        };
        if self.parts.is_registering {
            // Taken over or made: what it was in the eyes of this kubelet from the start is told.
            self.record(plan.events);
        }
        self.show_identity(&node).await;
        self.began = Some(Instant::now());
        self.is_new = true;
        self.node = Some(Box::new(node));
        Ok(())
    }

    async fn try_register(&mut self, plan: &NodeStatusPlan) -> Result<Node, ClusterError> {
        let initial = &self.parts.facts.initial;
        let name = initial.metadata.name.as_deref().unwrap_or_default();
        if !self.parts.is_registering {
            return self.parts.client.read_node(name).await;
        }
        let capacity = &self.parts.facts.resources.capacity;
        let registered = self
            .parts
            .client
            .register_node(&plan.node, |existing| {
                node_patch(existing, &adopted_node(existing, initial, capacity, false))
            })
            .await?;
        Ok(match registered {
            Registered::Created(node) => {
                self.parts.startup.registered(self.parts.clock.now());
                self.reported = Some(Instant::now());
                *node
            }
            Registered::Adopted(node) => *node,
        })
    }

    /// Tells who refers to the node which one it is: its object may have been deleted and made again, under another UID.
    async fn show_identity(&self, node: &Node) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let uid = node.metadata.uid.clone().unwrap_or_default();
        let identity = Some((name.clone(), uid.clone()));
        let is_new = self.parts.identity.send_if_modified(|shown| {
            let is_new = *shown != identity;
            *shown = identity;
            is_new
        });
        if is_new {
            tracing::info!(node = name, uid, "Node is registered");
            self.write_csi_node().await;
        }
    }

    async fn write_csi_node(&self) {
        let identity = self.parts.identity.borrow().clone();
        if let Some((name, uid)) = identity
            && let Err(error) = self
                .parts
                .client
                .write_csi_node(&csi_node(&name, &uid))
                .await
        {
            // Only volumes of CSI drivers need it, and each of them writes it again.
            tracing::warn!(error = %error, "CSINode could not be written");
        }
    }

    /// The object, read; who may not read it, but watch it, goes on with what the watch shows.
    async fn read(&self, name: &str) -> Result<Node, ClusterError> {
        let error = match self.parts.client.read_node(name).await {
            Err(error) if error.is_denied() => error,
            read => return read,
        };
        let set = self.parts.own_node.borrow();
        let shown = set.as_ref().and_then(|set| set.get("", name));
        shown.map(|shown| Node::clone(shown)).ok_or(error)
    }

    fn record(&self, events: Vec<NodeEvent>) {
        for event in events {
            self.parts.events.node(event);
        }
    }

    /// The watch shows the node, and the last try went well: there is nothing to read.
    fn is_known(&self, name: &str) -> bool {
        let set = self.parts.own_node.borrow();
        !self.trouble.is_any() && set.as_ref().is_some_and(|set| set.get("", name).is_some())
    }

    /// The object of the watch, where it is newer than what the last answer said.
    fn watched(&self, name: &str, last: &Node) -> Option<Arc<Node>> {
        let set = self.parts.own_node.borrow();
        let shown = set
            .as_ref()?
            .get("", name)
            .filter(|_| !self.trouble.is_any())?;
        let is_newer = shown.metadata.uid != last.metadata.uid || version(shown) > version(last);
        is_newer.then(|| Arc::clone(shown))
    }

    /// What is known on the node.
    fn look(&mut self, runtime_version: Option<String>) -> NodeSeen {
        let runtime = self.parts.runtime.borrow_and_update().clone();
        let images = self.parts.images.borrow().clone();
        let images = images.map(|set| {
            let view = |image: &crate::images::image_list::ImageOnNode| ImageView {
                names: image.names.clone(),
                size: i64::try_from(image.size_bytes).unwrap_or(i64::MAX),
            };
            set.images.iter().map(view).collect()
        });
        let behind = self.parts.client.sets().behind();
        let (vital, others): (Vec<&Behind>, Vec<&Behind>) = behind
            .iter()
            .partition(|set| !set.was_had && VITAL.contains(&set.name) && set.reachable >= UNHEARD);
        let mut not_ready = self.not_ready(&runtime);
        not_ready.extend(vital.iter().map(ToString::to_string));
        let mut warning: Vec<String> = others.iter().map(ToString::to_string).collect();
        warning.extend(self.parts.host_warning.borrow().clone());
        NodeSeen {
            existing: self.node.clone(),
            runtime,
            runtime_version,
            images,
            not_ready,
            warning: (!warning.is_empty()).then(|| warning.join("; ")),
            times: ReportTimes {
                since_last: self.reported.map(|at| at.elapsed()),
                frequency: self.parts.pace.report,
                fraction: self.parts.pace.fraction,
            },
        }
    }

    fn plan(&self, existing: &Node, seen: &NodeSeen, now: Timestamp) -> NodeStatusPlan {
        let was_unschedulable = existing.spec.as_ref().and_then(|spec| spec.unschedulable);
        let mut system = self.parts.facts.system.clone();
        if let Some(version) = &seen.runtime_version {
            // While it does not answer, it is what it was.
            system.runtime_version = Some(version.clone());
        }
        node_status(
            existing,
            &NodeStatusView {
                addresses: &self.parts.facts.addresses,
                system: &system,
                resources: &self.parts.facts.resources,
                images: seen.images.as_deref(),
                max_images: self.parts.max_images,
                runtime: &features(&seen.runtime, &self.parts.declared),
                port: self.parts.port,
                pressure: PressureView::default(),
                not_ready: &seen.not_ready,
                warning: seen.warning.as_deref(),
                volumes_in_use: None,
                was_unschedulable: was_unschedulable.unwrap_or(false),
                now,
            },
        )
    }

    fn not_ready(&self, runtime: &RuntimeState) -> Vec<String> {
        let mut errors = runtime.errors(Instant::now());
        let age = self.parts.pleg.last_list().map(|at| at.elapsed());
        if let Some(age) = age.filter(|age| *age >= LIST_AGE) {
            errors.push(format!(
                "PLEG is not healthy: pleg was last seen active {age:.0?} ago; threshold is 3m0s"
            ));
        }
        errors.extend(self.parts.host.borrow().clone());
        errors
    }
}

/// An object's version, where it is a number, as those of every known server are.
fn version(node: &Node) -> Option<u64> {
    node.metadata.resource_version.as_deref()?.parse().ok()
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

fn features(runtime: &RuntimeState, declared: &[String]) -> RuntimeFeatureView {
    let handlers = runtime.handlers.iter().map(|handler| NodeRuntimeHandler {
        name: Some(handler.name.clone()),
        features: handler
            .features
            .as_ref()
            .map(|features| NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(features.recursive_read_only_mounts),
                user_namespaces: Some(features.user_namespaces),
            }),
    });
    RuntimeFeatureView {
        handlers: handlers.collect(),
        supplemental_groups_policy: runtime
            .features
            .as_ref()
            .map(|features| features.supplemental_groups_policy),
        declared: declared.to_vec(),
    }
}

/// How long a node that is new takes to be Ready, by stage. Each moment counts once.
///
/// Upstream: pkg/kubelet/util/node_startup_latency_tracker.go
#[derive(Clone, Debug)]
pub struct Startup {
    booted: Option<Timestamp>,
    started: Timestamp,
    tried: Option<Timestamp>,
    registered: Option<Timestamp>,
    is_over: bool,
    gauges: [Gauge; 5],
}

/// Names without their common start and end, and helps, in the order of [`Startup`]'s gauges.
const STARTUP: [(&str, &str); 5] = [
    ("_pre_kubelet", "before kubelet starts"),
    ("_pre_registration", "before registration"),
    ("_registration", "during registration"),
    ("_post_registration", "after registration"),
    ("", "in total"),
];

impl Startup {
    /// Registers the families. The machine was booted and this kubelet started at these times.
    ///
    /// # Errors
    /// When one of the names is taken in this registry.
    pub fn new(
        registry: &Registry,
        booted: Option<Timestamp>,
        started: Timestamp,
    ) -> prometheus::Result<Self> {
        let gauge = |(stage, when): (&str, &str)| -> prometheus::Result<Gauge> {
            let name = format!("node_startup{stage}_duration_seconds");
            let help = format!("Duration in seconds of node startup {when}.");
            Making(registry).register(Gauge::with_opts(opts(&name, &help))?)
        };
        let [first, second, third, fourth, fifth] = STARTUP.map(gauge);
        Ok(Self {
            booted,
            started,
            tried: None,
            registered: None,
            is_over: false,
            gauges: [first?, second?, third?, fourth?, fifth?],
        })
    }

    fn tries(&mut self, now: Timestamp) {
        self.tried.get_or_insert(now);
    }

    /// The object was made, not taken over.
    fn registered(&mut self, now: Timestamp) {
        if let (Some(tried), None) = (self.tried, self.registered) {
            self.registered = Some(now);
            let [before, until, during, ..] = &self.gauges;
            if let Some(booted) = self.booted {
                before.set(seconds(booted, self.started));
            }
            until.set(seconds(self.started, tried));
            during.set(seconds(tried, now));
        }
    }

    fn ready(&mut self, now: Timestamp) {
        if let (Some(registered), false) = (self.registered, self.is_over) {
            self.is_over = true;
            let [.., after, total] = &self.gauges;
            after.set(seconds(registered, now));
            if let Some(booted) = self.booted {
                total.set(seconds(booted, now));
            }
        }
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

fn failed(what: &str, error: &ClusterError) -> RoundError {
    RoundError(format!("{what}: {error}"))
}

/// How long the server asked to be left alone.
fn asked_for(error: Option<&ClusterError>) -> Duration {
    let asked = error.and_then(ClusterError::retry_after);
    asked.unwrap_or_default()
}

/// Renews the node's lease from its registration on.
#[derive(Clone, Debug)]
pub struct NodeLease {
    client: Client,
    clock: Clock,
    lasts: Duration,
    identity: watch::Receiver<Option<(String, String)>>,
    keeper: Option<LeaseKeeper>,
    trouble: Trouble,
}

/// What is done about the lease: it is renewed for this node, once the node is registered.
#[derive(Debug)]
pub struct LeasePlan(Option<(String, String)>);

impl std::fmt::Display for LeasePlan {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Every ten seconds the same is no line of a log.
        Ok(())
    }
}

impl NodeLease {
    /// The lease of the node of this identity; it lasts so long.
    pub fn new(
        client: Client,
        clock: Clock,
        lasts: Duration,
        identity: watch::Receiver<Option<(String, String)>>,
    ) -> Self {
        Self {
            client,
            clock,
            lasts,
            identity,
            keeper: None,
            trouble: Trouble::default(),
        }
    }

    /// A quarter of it lies between two renewals.
    pub fn pace(&self) -> Pace {
        Pace {
            gap: Duration::ZERO,
            ..Pace::every(self.lasts / 4)
        }
    }
}

impl Reconciler for NodeLease {
    const NAME: &'static str = "node_lease";
    type Seen = Option<(String, String)>;
    type Plan = LeasePlan;

    async fn observe(&mut self, _why: WakeReason) -> Result<Self::Seen, RoundError> {
        Ok(self.identity.borrow_and_update().clone())
    }

    fn decide(&self, seen: Self::Seen, _now: Timestamp) -> LeasePlan {
        LeasePlan(seen)
    }

    async fn act(&mut self, plan: LeasePlan) -> RoundResult {
        let Some((name, uid)) = plan.0 else {
            return Ok(());
        };
        let seconds = i32::try_from(self.lasts.as_secs()).unwrap_or(i32::MAX);
        let wanted = initial_lease(&name, &uid, seconds);
        let keeper = match &mut self.keeper {
            Some(keeper) => {
                keeper.set_wanted(wanted);
                keeper
            }
            None => self
                .keeper
                .insert(LeaseKeeper::new(self.client.clone(), wanted)),
        };
        let renewed = keeper.renew(self.clock.now()).await;
        self.trouble.note(&renewed);
        renewed.map_err(|error| failed("Lease could not be renewed", &error))
    }

    async fn changed(&mut self) {
        if self.identity.changed().await.is_err() {
            // The node's task is gone: the process is stopping.
            std::future::pending::<()>().await;
        }
    }

    fn wait(&self, result: &RoundResult) -> Option<Duration> {
        let pause = match result {
            Ok(()) => return None,
            Err(_) => self.trouble.pause(),
        };
        // Not as long as it takes to be thought dead.
        Some(pause.max(self.trouble.asked_for.min(self.lasts / 4)))
    }
}

#[cfg(test)]
mod tests {
    use kubelet_apiserver::base::user::User;
    use testkit::cluster::{Fault, TestCluster};

    use super::*;
    use crate::frame::reconciler::Reconcilers;
    use crate::frame::supervisor::Supervisor;

    #[test]
    fn the_start_of_a_new_node_is_told_by_stage_and_once() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let registry = Registry::new();
        let mut startup = Startup::new(&registry, Some(at(100)), at(110)).unwrap();
        for moment in [112, 113] {
            startup.tries(at(moment));
        }
        startup.ready(at(114));
        for moment in [115, 116] {
            startup.registered(at(moment));
        }
        for moment in [119, 140] {
            startup.ready(at(moment));
        }
        let told = registry.gather().into_iter();
        let told: Vec<_> = told
            .map(|family| {
                let value = family.get_metric().first().unwrap().get_gauge().get_value();
                format!("{} {value}", family.name())
            })
            .collect();
        assert_eq!(
            told,
            [
                "kubelet_node_startup_duration_seconds 19",
                "kubelet_node_startup_post_registration_duration_seconds 4",
                "kubelet_node_startup_pre_kubelet_duration_seconds 10",
                "kubelet_node_startup_pre_registration_duration_seconds 2",
                "kubelet_node_startup_registration_duration_seconds 3",
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_asks_for_patience_gets_it_but_not_for_longer_than_a_node_may_be_silent()
    {
        for (retry_after, apart) in [(3, 3), (3600, 10)] {
            let cluster = TestCluster::new(Timestamp::UNIX_EPOCH).unwrap();
            let busy = Fault::Answer {
                code: 429,
                reason: "TooManyRequests",
                retry_after: Some(retry_after),
            };
            cluster.line.set_rule(move |_| Some(busy));
            let client = cluster.client(User::node("n"), cluster.clock());
            let clock = Clock::simulated(cluster.clock().now());
            let (_known, identity) = watch::channel(Some(("n".to_owned(), "u".to_owned())));
            let lease = NodeLease::new(client, clock, Duration::from_secs(40), identity);
            let supervisor = Supervisor::new(clock);
            let reconcilers =
                Reconcilers::new(supervisor.clone(), clock, 1, &Registry::new()).unwrap();
            let pace = lease.pace();
            reconcilers.spawn(lease, pace);
            tokio::time::sleep(Duration::from_secs(120)).await;
            supervisor.stop().cancel();
            let asked = cluster.line.asked_since(Duration::ZERO);
            let gaps = asked
                .windows(2)
                .filter_map(|two| Some(two.get(1)?.at - two.first()?.at));
            // Jitter and doubling make it longer only after the server's own wait.
            let shortest = gaps.min().unwrap();
            assert!(shortest >= Duration::from_secs(apart), "{shortest:?}");
            assert!(asked.len() >= 10, "{} requests in 120 s", asked.len());
        }
    }
}
