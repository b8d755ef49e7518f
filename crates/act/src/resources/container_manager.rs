//! Keeps the cgroup tree of all pods: its root, its QoS tiers, and the removal of leftover pod cgroups.
//!
//! In:    the node's settings and allowance, reported pods, whether all sources were seen, the cgroup tree
//! Out:   cgroups and limits; removed leftovers
//! Calls: wiring: [`prepare_node`] (container_manager/node.rs) first, then the reconciler
//! Holds: the whole tree is written each minute, and at once when a change of pods changes a limit; a pod's cgroup is removed
//!        only after all sources have reported, if nobody reports the pod, and two inspections a minute apart found no process
//!        in it
//! Upstream: pkg/kubelet/cm/{qos_container_manager_linux.go,node_container_manager_linux.go}, pkg/kubelet/kubelet_pods.go
//!           (cleanupOrphanedPodCgroups); differences: upstream kills what runs in a leftover cgroup

mod node;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubelet_decide::pod::phase::is_final;
use kubelet_decide::resources::cgroups::{
    PodsAllowance, pods_root_cgroup, pods_root_path, qos_cgroups, tier_path,
};
use kubelet_decide::shapes::work::Cgroup;
use kubelet_host::Blocking;
use kubelet_host::blocking::About;
use kubelet_host::cgroup::{CgroupError, Cgroups, PodCgroup, list_pod_cgroups};
use kubelet_model::node::NodeView;
use kubelet_model::pod::{Pod, QosClass, SourceKind};
use tokio::sync::watch;

use crate::frame::reconciler::{Pace, Reconciler, RoundError, WakeReason};
use crate::resources::limits::limits_of;
use kubelet_model::reported::ReportedPods;

pub use node::{ContainerManagerError, NodePrepared, prepare_node};

const PERIOD: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(30);

/// What the tree is made of and from.
#[derive(Clone, Debug)]
pub struct CgroupTreeParts {
    /// The hierarchies.
    pub cgroups: Arc<dyn Cgroups>,
    /// Where blocking work runs.
    pub blocking: Blocking,
    /// The node.
    pub node: Arc<NodeView>,
    /// What all pods may use together.
    pub allowance: PodsAllowance,
    /// Pods that have a worker.
    pub pods: watch::Receiver<ReportedPods>,
    /// Whether every source of pods has delivered and the runtime was listed. Its sender lives as long as the process.
    pub all_seen: watch::Receiver<bool>,
}

/// The reconciler.
#[derive(Clone, Debug)]
pub struct ContainerManager {
    parts: CgroupTreeParts,
    /// What was written last, by path.
    written: BTreeMap<String, Cgroup>,
    /// Found without an owner and without a process at the last look.
    suspects: BTreeSet<PodCgroup>,
}

/// What is there.
#[derive(Debug)]
pub struct TreeSeen {
    why: WakeReason,
    active: Vec<Pod>,
    /// Every source has delivered: `active` is all there is.
    is_complete: bool,
    /// Cgroups of pods that nobody reports, without processes; `None` when it was not looked.
    abandoned: Option<BTreeSet<PodCgroup>>,
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct TreePlan {
    write: Vec<Cgroup>,
    remove: Vec<PodCgroup>,
    suspects: Option<BTreeSet<PodCgroup>>,
}

impl fmt::Display for TreePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let writes = self
            .write
            .iter()
            .map(|cgroup| format!("write {}", cgroup.path));
        let removals = self
            .remove
            .iter()
            .map(|cgroup| format!("remove {}", cgroup.path));
        f.write_str(&writes.chain(removals).collect::<Vec<_>>().join(", "))
    }
}

impl ContainerManager {
    /// A tree that nothing is known of yet.
    pub fn new(parts: CgroupTreeParts) -> Self {
        Self {
            parts,
            written: BTreeMap::new(),
            suspects: BTreeSet::new(),
        }
    }

    /// How often it looks.
    pub fn pace() -> Pace {
        Pace {
            retry: Duration::from_secs(10),
            ..Pace::every(PERIOD)
        }
    }

    async fn look(&self) -> Result<BTreeSet<PodCgroup>, RoundError> {
        let cgroups = Arc::clone(&self.parts.cgroups);
        let node = Arc::clone(&self.parts.node);
        let known: BTreeSet<String> = {
            let pods = self.parts.pods.borrow();
            pods.keys().map(ToString::to_string).collect()
        };
        let call = move || abandoned_cgroups(cgroups.as_ref(), &node, &known);
        let looked = self
            .parts
            .blocking
            .run_about(
                About::the("cgroup tree"),
                DEADLINE,
                "look for cgroups of pods",
                call,
            )
            .await;
        let looked = looked.map_err(|error| RoundError::of(&error))?;
        looked.map_err(|error| RoundError::of(&error))
    }

    async fn remove(&self, leftover: PodCgroup) -> Result<(), RoundError> {
        // Looked up again: a pod may have come meanwhile.
        let is_known = self.parts.pods.borrow().contains_key(&leftover.uid);
        if is_known {
            return Ok(());
        }
        let cgroups = Arc::clone(&self.parts.cgroups);
        let path = leftover.path.clone();
        let call = move || {
            let is_empty = cgroups.pids(&path)?.is_empty();
            if is_empty {
                cgroups.remove(&path).map(|()| true)
            } else {
                Ok(false)
            }
        };
        let removed = self
            .parts
            .blocking
            .run_about(
                About::the("cgroup tree"),
                DEADLINE,
                "remove a leftover cgroup",
                call,
            )
            .await;
        match removed.map_err(|error| RoundError::of(&error))? {
            Ok(true) => {
                tracing::info!(
                    uid = %leftover.uid,
                    cgroup = leftover.path,
                    "Removed the cgroup of a pod that is gone"
                );
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(error) => Err(RoundError::of(&error)),
        }
    }
}

/// Pods that use resources: reported, and not at their end.
fn active_pods(pods: &ReportedPods) -> Vec<Pod> {
    pods.values()
        .filter(|pod| !is_final(Some(&pod.status)))
        .filter_map(|pod| Pod::new(Arc::clone(&pod.object), SourceKind::File, Vec::new()).ok())
        .collect()
}

fn abandoned_cgroups(
    cgroups: &dyn Cgroups,
    node: &NodeView,
    known: &BTreeSet<String>,
) -> Result<BTreeSet<PodCgroup>, CgroupError> {
    let tiers = [
        QosClass::Guaranteed,
        QosClass::Burstable,
        QosClass::BestEffort,
    ]
    .map(|class| tier_path(class, node));
    let mut abandoned = BTreeSet::new();
    for found in list_pod_cgroups(cgroups, &tiers.each_ref().map(String::as_str))? {
        if !known.contains(found.uid.as_str()) && cgroups.pids(&found.path)?.is_empty() {
            abandoned.insert(found);
        }
    }
    Ok(abandoned)
}

/// The whole tree as it should be: the root with its allowance, then the tiers. The top of the hierarchy is never limited.
fn wanted_tree(active: &[Pod], node: &NodeView, allowance: &PodsAllowance) -> Vec<Cgroup> {
    let root = pods_root_path(node);
    if root == "/" {
        return Vec::new();
    }
    let tiers = qos_cgroups(active, node)
        .into_iter()
        .filter(|tier| tier.path != root);
    std::iter::once(pods_root_cgroup(allowance, node))
        .chain(tiers)
        .collect()
}

/// Creates or updates; limits that the kernel did not take are errors too.
fn write_all(cgroups: &dyn Cgroups, wanted: &[Cgroup]) -> Vec<CgroupError> {
    let mut errors = Vec::new();
    for cgroup in wanted {
        match cgroups.create(&cgroup.path, &limits_of(cgroup)) {
            Ok(unset) => errors.extend(unset),
            Err(error) => errors.push(error),
        }
    }
    errors
}

fn without_shares(cgroup: Cgroup) -> Cgroup {
    Cgroup {
        cpu_shares: None,
        ..cgroup
    }
}

impl Reconciler for ContainerManager {
    const NAME: &'static str = "container_manager";
    type Seen = TreeSeen;
    type Plan = TreePlan;

    async fn observe(&mut self, why: WakeReason) -> Result<TreeSeen, RoundError> {
        let active = active_pods(&self.parts.pods.borrow_and_update());
        let is_complete = *self.parts.all_seen.borrow_and_update();
        let may_look = self.parts.node.cgroups.per_qos && is_complete;
        let abandoned = match why {
            WakeReason::Changed => None,
            WakeReason::Start | WakeReason::Clock if may_look => Some(self.look().await?),
            WakeReason::Start | WakeReason::Clock => None,
        };
        Ok(TreeSeen {
            why,
            active,
            is_complete,
            abandoned,
        })
    }

    fn decide(&self, seen: TreeSeen, _now: Timestamp) -> TreePlan {
        let wanted = wanted_tree(&seen.active, &self.parts.node, &self.parts.allowance);
        // By the clock all is written again, in case someone else changed it.
        let is_due = |cgroup: &Cgroup| {
            seen.why != WakeReason::Changed || self.written.get(&cgroup.path) != Some(cgroup)
        };
        // Pods of an earlier process that no source has named yet must not lose their share.
        let known_only = |cgroup: Cgroup| {
            if seen.is_complete {
                cgroup
            } else {
                without_shares(cgroup)
            }
        };
        let found = seen.abandoned.as_ref();
        TreePlan {
            write: wanted.into_iter().map(known_only).filter(is_due).collect(),
            remove: found.map_or_else(Vec::new, |found| {
                found.intersection(&self.suspects).cloned().collect()
            }),
            suspects: seen.abandoned,
        }
    }

    async fn act(&mut self, plan: TreePlan) -> Result<(), RoundError> {
        if let Some(suspects) = plan.suspects {
            self.suspects = suspects;
        }
        let mut errors = Vec::new();
        if !plan.write.is_empty() {
            let cgroups = Arc::clone(&self.parts.cgroups);
            let wanted = plan.write.clone();
            let call = move || write_all(cgroups.as_ref(), &wanted);
            let written = self
                .parts
                .blocking
                .run_about(
                    About::the("cgroup tree"),
                    DEADLINE,
                    "write the cgroup tree",
                    call,
                )
                .await;
            let failed = written.map_err(|error| RoundError::of(&error))?;
            if failed.is_empty() {
                let now = plan
                    .write
                    .into_iter()
                    .map(|cgroup| (cgroup.path.clone(), cgroup));
                self.written.extend(now);
            }
            errors.extend(failed.iter().map(|error| RoundError::of(error).0));
        }
        for leftover in plan.remove {
            if let Err(error) = self.remove(leftover).await {
                errors.push(error.0);
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(RoundError(errors.join("; ")))
        }
    }

    async fn changed(&mut self) {
        let CgroupTreeParts { pods, all_seen, .. } = &mut self.parts;
        let heard = tokio::select! {
            // Either is enough, and a round takes both; nothing is lost when the other arm wins.
            biased;
            heard = all_seen.changed(), if !*all_seen.borrow() => heard,
            heard = pods.changed() => heard,
        };
        if heard.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
