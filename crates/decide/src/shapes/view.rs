//! The complete input of a decision about one pod: values only.
//!
//! In:    filled by act/pod/pod_worker.rs from its order, its memory and snapshots
//! Out:   `PodView`; its `Debug` text is a bug report
//! Calls: memory, lifecycle, pod_plan, pod_status
//! Holds: the observation is never older than the end of the worker's last action (checked by the worker)
//! Upstream: none (there the inputs are read live from many owners)

use std::sync::Arc;

use crate::shapes::life::TerminationCause;
use crate::shapes::memory::PodMemory;
use crate::shapes::probe::PodProbes;
use crate::shapes::record::{EndReason, RecordedExit};
use crate::shapes::rejection::Rejection;
use crate::shapes::waiting::Waiting;
use jiff::Timestamp;
use kubelet_model::node::{NodeView, RuntimeHandlers};
use kubelet_model::objects::PodObjects;
use kubelet_model::observed::{ObservedContainer, ObservedPod};
use kubelet_model::pod::Pod;

/// What the sync loop wants of a pod; the newest order counts.
#[derive(Clone, Debug)]
pub struct Order {
    /// The pod as desired now.
    pub pod: Arc<Pod>,
    /// What is wanted of it.
    pub desire: Desire,
}

/// What is wanted of the pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Desire {
    /// It should run.
    Run,
    /// It should run when its turn comes; nothing is started or stopped until then. Nothing to show while it is not known for whom.
    Wait(Option<Waiting>),
    /// It may not begin here; nothing of it was ever started.
    Reject(Rejection),
    /// It has to end here, though its source names it: it has failed then, and this is why.
    End(EndReason),
    /// It should end, with at most this grace.
    Stop {
        /// Why.
        cause: TerminationCause,
        /// Seconds; `None` takes the pod's own.
        grace_seconds: Option<i64>,
    },
}

/// Whether the runtime's pod network can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkState {
    /// Pods may start.
    Ready,
    /// Only pods on the host's network may start; the text says why.
    NotReady(String),
}

/// One moment by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Steady time, which never jumps: what waits is measured by it.
    pub steady: Timestamp,
    /// The wall clock, which people may set: only shown.
    pub wall: Timestamp,
}

impl Now {
    /// A time of the steady clock as people read it.
    pub fn wall_of(self, steady: Timestamp) -> Timestamp {
        let ahead = steady.duration_since(self.steady);
        self.wall.checked_add(ahead).unwrap_or(Timestamp::MAX)
    }
}

/// What a worker takes from others at the begin of a turn.
#[derive(Clone, Debug)]
pub struct PodInputs {
    /// What is known of the objects that the pod refers to.
    pub objects: PodObjects,
    /// What the runtime said of its handlers; `None` before it did.
    pub handlers: Option<Arc<RuntimeHandlers>>,
    /// The runtime's network.
    pub network: NetworkState,
    /// What the prober holds of its containers.
    pub probes: Arc<PodProbes>,
}

/// The input of every decision about one pod.
#[derive(Clone, Copy, Debug)]
pub struct PodView<'a> {
    /// The desired pod.
    pub pod: &'a Pod,
    /// What is wanted of it.
    pub desire: &'a Desire,
    /// What the runtime holds of it.
    pub observed: &'a ObservedPod,
    /// What its worker remembers.
    pub memory: &'a PodMemory,
    /// What others know.
    pub inputs: &'a PodInputs,
    /// The node.
    pub node: &'a NodeView,
    /// The moment of the decision.
    pub now: Now,
}

impl<'a> PodView<'a> {
    /// The exit of a later instance than this one, of a pod that ends: while what is left of it is removed, an earlier instance may
    /// outlive a later one in the runtime. Before that the record may still be of an earlier life, whose instances bear higher numbers.
    pub fn later_exit(&self, instance: &ObservedContainer) -> Option<&'a RecordedExit> {
        let ends = self.memory.life.rank() > 0;
        let exits = &self.memory.record.exits;
        let recorded = exits.get(&instance.name).filter(|_| ends);
        recorded.filter(|exit| exit.attempt > instance.attempt)
    }

    /// A container's id as the API has it: the runtime's name, then the runtime's id.
    pub fn full_id(&self, id: &str) -> String {
        format!("{}://{id}", self.node.runtime_name)
    }

    /// The run of a container that was seen to run, and of which neither the runtime nor the record holds anything since.
    pub fn lost(&self, name: &str) -> Option<&'a RecordedExit> {
        let record = &self.memory.record;
        let run = record.running.get(name)?;
        let is_known = |exit: &RecordedExit| exit.attempt >= run.attempt;
        let is_held = self.observed.instances(name).next().is_some();
        (!is_held && !record.exits.get(name).is_some_and(is_known)).then_some(run)
    }
}
