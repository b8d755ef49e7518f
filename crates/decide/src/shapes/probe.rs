//! What is known of the probes of a pod's containers.
//!
//! In:    nothing
//! Out:   [`PodProbes`], [`ContainerProbes`], what a pod wants probed
//! Calls: probes (which decides on them), pod, report; act/probes/prober owns them; the record keeps them
//! Holds: a result belongs to one instance of a container, by its id
//! Upstream: pkg/kubelet/prober/results/results_manager.go

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use kubelet_model::ids::ContainerId;
use kubelet_model::pod::Pod;
use serde::{Deserialize, Serialize};

/// One of a container's probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    /// Until it has succeeded the others wait.
    Startup,
    /// Whether the container may be sent work.
    Readiness,
    /// Whether the container is to be restarted.
    Liveness,
}

impl ProbeKind {
    /// In the order in which they are looked at.
    pub const ALL: [Self; 3] = [Self::Startup, Self::Readiness, Self::Liveness];

    /// The word of events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a probe says by its thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeResult {
    /// It has succeeded often enough.
    Success,
    /// It has failed often enough.
    Failure,
}

/// The results of one instance of a container; a probe that has none yet is not here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerProbes {
    /// The instance.
    pub id: ContainerId,
    /// Startup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<ProbeResult>,
    /// Readiness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<ProbeResult>,
    /// Liveness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<ProbeResult>,
}

impl ContainerProbes {
    /// Nothing is known of this instance.
    pub fn none(id: ContainerId) -> Self {
        Self {
            id,
            startup: None,
            readiness: None,
            liveness: None,
        }
    }

    /// One of them.
    pub fn of(&self, kind: ProbeKind) -> Option<ProbeResult> {
        match kind {
            ProbeKind::Startup => self.startup,
            ProbeKind::Readiness => self.readiness,
            ProbeKind::Liveness => self.liveness,
        }
    }

    /// One of them, to be changed.
    pub fn of_mut(&mut self, kind: ProbeKind) -> &mut Option<ProbeResult> {
        match kind {
            ProbeKind::Startup => &mut self.startup,
            ProbeKind::Readiness => &mut self.readiness,
            ProbeKind::Liveness => &mut self.liveness,
        }
    }
}

/// The results of a pod's containers, by name.
pub type PodProbes = BTreeMap<String, ContainerProbes>;

/// What of a pod is probed now.
#[derive(Clone, Debug)]
pub struct PodTargets {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its first address, which probes without a host ask; empty when it has none.
    pub ip: String,
    /// Whether it is being deleted: then startup and liveness are not asked any more.
    pub is_leaving: bool,
    /// Its containers that run and have a probe, by name.
    pub containers: BTreeMap<String, Target>,
}

/// A container that runs and has a probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The instance.
    pub id: ContainerId,
    /// Steady time of its start.
    pub started_at: Timestamp,
    /// What an earlier process, or another kubelet, knew of this instance.
    pub known: Option<ContainerProbes>,
}
