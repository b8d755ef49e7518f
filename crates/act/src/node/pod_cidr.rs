//! Tells the runtime the node's pod CIDR, from which it makes its network configuration.
//!
//! In:    `podCIDR` of the configuration; `spec.podCIDRs` of the own Node, which goes before it
//! Out:   CRI `UpdateRuntimeConfig`
//! Calls: wiring; one reconciler
//! Holds: nothing is sent while no pod CIDR is known; the same CIDR is sent once, and again only after a failure
//! Upstream: pkg/kubelet/kubelet_network.go (updatePodCIDR), kubelet_node_status.go (tryUpdateNodeStatus); 1.36

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kubelet_cluster::reflector::Snapshots;
use kubelet_cri::Client;

use crate::frame::reconciler::{Pace, Reconciler, RoundError, WakeReason};

/// Between two looks; a change of the Node wakes it before.
const PERIOD: Duration = Duration::from_secs(10);

/// The reconciler.
#[derive(Clone, Debug)]
pub struct PodCidr {
    cri: Client,
    configured: Option<String>,
    /// The own Node, in a cluster.
    node: Option<Snapshots<Node>>,
    /// What the runtime was told.
    told: String,
}

/// What to tell the runtime.
#[derive(Debug)]
pub struct CidrPlan {
    old: String,
    new: Option<String>,
}

impl fmt::Display for CidrPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.new {
            Some(new) => write!(f, "pod CIDR {new:?} instead of {:?}", self.old),
            None => Ok(()),
        }
    }
}

impl PodCidr {
    /// Nothing was told yet.
    pub fn new(cri: Client, configured: Option<String>, node: Option<Snapshots<Node>>) -> Self {
        Self {
            cri,
            configured,
            node,
            told: String::new(),
        }
    }

    /// How often it looks.
    pub fn pace() -> Pace {
        Pace::every(PERIOD)
    }

    fn wanted(&mut self) -> String {
        let shown = self
            .node
            .as_mut()
            .and_then(|node| node.borrow_and_update().clone());
        // The set holds the own Node alone.
        let node = shown.and_then(|set| set.objects.values().next().cloned());
        let ranges = node.and_then(|node| node.spec.clone()?.pod_cidrs);
        let joined = ranges
            .filter(|ranges| !ranges.is_empty())
            .map(|ranges| ranges.join(","));
        joined
            .or_else(|| self.configured.clone().filter(|_| self.told.is_empty()))
            .unwrap_or_else(|| self.told.clone())
    }
}

impl Reconciler for PodCidr {
    const NAME: &'static str = "pod_cidr";
    type Seen = String;
    type Plan = CidrPlan;

    async fn observe(&mut self, _why: WakeReason) -> Result<String, RoundError> {
        Ok(self.wanted())
    }

    fn decide(&self, wanted: String, _now: Timestamp) -> CidrPlan {
        CidrPlan {
            old: self.told.clone(),
            new: (wanted != self.told).then_some(wanted),
        }
    }

    async fn act(&mut self, plan: CidrPlan) -> Result<(), RoundError> {
        let Some(new) = plan.new else {
            return Ok(());
        };
        let told = self.cri.update_runtime_config(&new).await;
        told.map_err(|error| {
            RoundError(format!("failed to update pod CIDR: {}", error.message()))
        })?;
        tracing::info!(
            originalPodCIDR = self.told,
            newPodCIDR = new,
            "Updating Pod CIDR"
        );
        self.told = new;
        Ok(())
    }

    async fn changed(&mut self) {
        // Cancel: the next round looks at the present.
        if let Some(node) = &mut self.node
            && node.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests;
