//! Keeps the mirror pods: exactly one at the API for each static pod.
//!
//! In:    reported pods (the static ones among them), the mirrors that the API holds, the node's identity, whether all sources spoke
//! Out:   creations and deletions at the API
//! Calls: one reconciler, in a cluster only
//! Holds: `decide/report/mirror` decides; a step that fails is decided anew after a pause that grows, and no other step waits
//!        for it; while the server is away one step is tried for all
//! Upstream: pkg/kubelet/pod/mirror_client.go, pkg/kubelet/kubelet.go (tryReconcileMirrorPods)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use kubelet_cluster::pods::{PodAddress, PodSet};
use kubelet_cluster::{Client, ClusterError};
use kubelet_decide::report::mirror::{MirrorStep, MirrorView, NodeIdentity, mirror_steps};
use kubelet_model::doubling::Doubling;
use kubelet_model::ids::PodUid;
use kubelet_model::pod::{CONFIG_SOURCE_ANNOTATION, SourceKind};
use kubelet_model::reason::Reason;
use kubelet_model::reported::ReportedPods;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::frame::away::{Away, is_of_server};
use crate::frame::reconciler::{Pace, Reconciler, RoundError, RoundResult, WakeReason};

/// After a step that was refused; doubles up to the longest.
const PAUSE: Doubling = Doubling::new(Duration::from_secs(2), Duration::from_secs(20));
/// Without news it is looked again this often.
const IDLE: Duration = Duration::from_secs(600);
/// What the log calls this.
const WHAT: &str = "mirror pods";

/// What the keeper listens to.
#[derive(Clone, Debug)]
pub struct MirrorInputs {
    /// What workers report.
    pub reported: watch::Receiver<ReportedPods>,
    /// What the API holds.
    pub held: watch::Receiver<Option<Arc<PodSet>>>,
    /// Name and UID of the node, once it is registered.
    pub node: watch::Receiver<Option<(String, String)>>,
    /// True once every source was seen.
    pub all_seen: watch::Receiver<bool>,
}

/// Static pods that have a worker, without their statuses: they change less often.
type Statics = BTreeMap<PodUid, Arc<v1::Pod>>;

/// The reconciler of mirror pods.
#[derive(Clone, Debug)]
pub struct MirrorPods {
    client: Client,
    inputs: MirrorInputs,
    waits: Waits,
    /// The static pods of the last round.
    known: Statics,
}

/// What is looked at.
#[derive(Debug)]
pub struct MirrorSeen {
    statics: Statics,
    held: Option<Arc<PodSet>>,
    node: Option<(String, String)>,
    all_seen: bool,
}

/// What is to be done, of what is not refused at the moment.
#[derive(Debug)]
pub struct MirrorPlan(Vec<MirrorStep>);

impl std::fmt::Display for MirrorPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for step in &self.0 {
            let (namespace, name) = name_of(step);
            let word = match step {
                MirrorStep::Delete { .. } => "delete",
                MirrorStep::Create(_) => "create",
            };
            write!(f, "{word} {namespace}/{name} ")?;
        }
        Ok(())
    }
}

impl MirrorPods {
    /// Nothing is tried yet.
    pub fn new(client: Client, inputs: MirrorInputs) -> Self {
        Self {
            client,
            inputs,
            waits: Waits::default(),
            known: Statics::new(),
        }
    }

    /// By changes; what was refused says when it is tried again.
    pub fn pace() -> Pace {
        Pace {
            gap: Duration::ZERO,
            ..Pace::every(IDLE)
        }
    }
}

impl Reconciler for MirrorPods {
    const NAME: &'static str = "mirror_pods";
    type Seen = MirrorSeen;
    type Plan = MirrorPlan;

    async fn observe(&mut self, _why: WakeReason) -> Result<MirrorSeen, RoundError> {
        self.known = statics(&self.inputs.reported.borrow());
        Ok(MirrorSeen {
            statics: self.known.clone(),
            held: self.inputs.held.borrow_and_update().clone(),
            node: self.inputs.node.borrow_and_update().clone(),
            all_seen: *self.inputs.all_seen.borrow_and_update(),
        })
    }

    fn decide(&self, seen: MirrorSeen, _now: Timestamp) -> MirrorPlan {
        let Some(held) = seen.held else {
            return MirrorPlan(Vec::new());
        };
        let statics: Vec<Arc<v1::Pod>> = seen.statics.into_values().collect();
        let node = seen.node.as_ref();
        MirrorPlan(mirror_steps(&MirrorView {
            statics: &statics,
            mirrors: &held.mirrors,
            node: node.map(|(name, uid)| NodeIdentity { name, uid }),
            all_seen: seen.all_seen,
        }))
    }

    async fn act(&mut self, plan: MirrorPlan) -> RoundResult {
        self.waits.round(&self.client, plan.0).await;
        Ok(())
    }

    async fn changed(&mut self) {
        let inputs = &mut self.inputs;
        if self.waits.away.until().is_some() {
            // While the server is not asked there is nothing that news could change.
            return std::future::pending().await;
        }
        tokio::select! {
            // Every arm only says "look again".
            biased;
            Ok(()) = inputs.held.changed() => {}
            Ok(()) = inputs.node.changed() => {}
            Ok(()) = inputs.all_seen.changed() => {}
            () = other_statics(&mut inputs.reported, &self.known) => {}
        }
    }

    fn wait(&self, _result: &RoundResult) -> Option<Duration> {
        let again = self.waits.over_at()?;
        Some(again.saturating_duration_since(Instant::now()))
    }
}

/// Namespace and name.
type Name = (String, String);

/// What is not tried now.
#[derive(Clone, Debug, Default)]
struct Waits {
    away: Away,
    /// Pods of whom a step was refused: how often, and until when they wait.
    refused: BTreeMap<Name, (u32, Instant)>,
}

impl Waits {
    /// Takes the steps that are not waiting.
    async fn round(&mut self, client: &Client, steps: Vec<MirrorStep>) {
        let named: BTreeSet<Name> = steps.iter().map(name_of).collect();
        self.refused.retain(|name, _| named.contains(name));
        for step in steps {
            if self.away.until().is_some() {
                return;
            }
            let name = name_of(&step);
            let waiting = self.refused.get(&name).copied();
            if waiting.is_some_and(|(_, until)| until > Instant::now()) {
                continue;
            }
            match take(client, step).await {
                Err(error) if is_of_server(&error) => self.away.failed(WHAT, &error),
                Err(error) => {
                    self.away.answered(WHAT);
                    let failures = waiting.map_or(0, |(failures, _)| failures);
                    let (namespace, pod) = (&name.0, &name.1);
                    // The first, and then seldom.
                    if failures.saturating_add(1).is_power_of_two() {
                        tracing::warn!(namespace, pod, error = %error, "Mirror pod could not be brought in line; tried again");
                    }
                    let failures = failures.saturating_add(1);
                    let until = Instant::now() + PAUSE.after(failures);
                    self.refused.insert(name, (failures, until));
                }
                Ok(()) => {
                    self.away.answered(WHAT);
                    self.refused.remove(&name);
                }
            }
        }
    }

    /// When something may be tried again.
    fn over_at(&self) -> Option<Instant> {
        let first = self.refused.values().map(|(_, until)| *until).min();
        self.away.until().or(first)
    }
}

fn name_of(step: &MirrorStep) -> Name {
    match step {
        MirrorStep::Delete {
            namespace, name, ..
        } => (namespace.clone(), name.clone()),
        MirrorStep::Create(pod) => (
            pod.metadata.namespace.clone().unwrap_or_default(),
            pod.metadata.name.clone().unwrap_or_default(),
        ),
    }
}

/// Resolves when other static pods have workers. Cancel: it looks at the present, so it loses nothing.
async fn other_statics(reported: &mut watch::Receiver<ReportedPods>, known: &Statics) {
    let is_other = |now: &ReportedPods| {
        let now = statics(now);
        now.len() != known.len()
            || now
                .iter()
                .any(|(uid, pod)| known.get(uid).is_none_or(|old| !Arc::ptr_eq(old, pod)))
    };
    if reported.wait_for(is_other).await.is_err() {
        // Nobody reports any more: the process is stopping.
        std::future::pending::<()>().await;
    }
}

fn statics(reported: &ReportedPods) -> Statics {
    let is_static = |pod: &v1::Pod| {
        let annotations = pod.metadata.annotations.as_ref();
        let source = annotations.and_then(|all| all.get(CONFIG_SOURCE_ANNOTATION));
        source.is_some_and(|source| source != SourceKind::Api.as_str())
    };
    // While an old version of a pod ends, the mirror is its image still: the new one comes when it has the name.
    let waits = Reason::WaitingForName.as_str();
    reported
        .iter()
        .filter(|(_, pod)| is_static(&pod.object) && pod.status.reason.as_deref() != Some(waits))
        .map(|(uid, pod)| (uid.clone(), Arc::clone(&pod.object)))
        .collect()
}

async fn take(client: &Client, step: MirrorStep) -> Result<(), ClusterError> {
    match step {
        MirrorStep::Delete {
            namespace,
            name,
            uid,
            why,
        } => {
            tracing::info!(namespace, name, uid, why, "Mirror pod is deleted");
            let address = PodAddress {
                namespace: &namespace,
                name: &name,
                uid: &uid,
            };
            client.delete_pod(address).await
        }
        MirrorStep::Create(pod) => {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            tracing::info!(name, "Mirror pod is created");
            client.create_mirror(&pod).await.map(drop)
        }
    }
}
