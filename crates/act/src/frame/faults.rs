//! Named points of the pod path at which tests end the process or the simulated kubelet.
//!
//! In:    a counter of points to pass, from a test
//! Out:   nothing; in the product every point is free
//! Calls: the ten steps
//! Holds: a point does nothing unless a test names it
//! Upstream: none

use std::fmt;
use std::sync::Arc;

use kubelet_decide::shapes::probe::PodProbes;
use kubelet_model::observed::ObservedPod;

/// Where a test may end us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultPoint {
    /// Step 1: a source has read its set, nobody knows it yet.
    SourceRead,
    /// Step 2: desires were merged, no worker knows.
    Merged,
    /// Step 3: a pod was admitted, its worker is not started.
    Admitted,
    /// Step 4: a view was made.
    Viewed,
    /// Step 5: the lifecycle moved on, nothing is written.
    Stepped,
    /// Step 6: a plan was made.
    Planned,
    /// Step 7: before a step of a plan.
    BeforeStep,
    /// Step 7: a container was created and not started.
    BetweenCreateAndStart,
    /// Step 7: after a step of a plan.
    AfterStep,
    /// Step 8: the pod was looked at, nothing is remembered of it.
    Observed,
    /// Step 9: a status was made.
    StatusMade,
    /// Step 10: before the status is shown.
    BeforeReport,
    /// Step 10: nothing of the pod is left on the node, and its last status is not written yet.
    Gone,
}

impl FaultPoint {
    /// Every point, in the order of the path.
    pub const ALL: [Self; 13] = [
        Self::SourceRead,
        Self::Merged,
        Self::Admitted,
        Self::Viewed,
        Self::Stepped,
        Self::Planned,
        Self::BeforeStep,
        Self::BetweenCreateAndStart,
        Self::AfterStep,
        Self::Observed,
        Self::StatusMade,
        Self::BeforeReport,
        Self::Gone,
    ];

    /// Those that a pod's worker passes: a panic there is one pod's.
    pub const OF_WORKERS: [Self; 10] = [
        Self::Viewed,
        Self::Stepped,
        Self::Planned,
        Self::BeforeStep,
        Self::BetweenCreateAndStart,
        Self::AfterStep,
        Self::Observed,
        Self::StatusMade,
        Self::BeforeReport,
        Self::Gone,
    ];

    /// The point named by its variant, as tests spell it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|point| format!("{point:?}") == name)
    }
}

/// What a test does at a point. Returning `true` means: the process ends here.
type AtPoint = Arc<dyn Fn(FaultPoint) -> bool + Send + Sync>;

/// Self-test of the simulation: bugs that can be put back in, to see that they are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Planted {
    /// None, as the product is.
    #[default]
    None,
    /// Plans are made on observations older than the last action.
    NoFreshness,
    /// An unknown outcome is taken for a failure: no look before the next try.
    UnknownIsFailure,
    /// Of several instances of one container only the first in the runtime's order is seen.
    FirstByName,
    /// A pod whose stop failed counts as gone, although that was not seen.
    NoEvidence,
    /// What no hint tells of is never found: there is no relist after the first.
    NoRelist,
    /// What one source drops is removed before the others have spoken.
    RemovesEarly,
    /// Waits end at a time of the wall clock, which somebody may set.
    WallClock,
    /// A record goes before the last status is written, and what it knows of exits with it.
    ForgetsEnds,
    /// That a start is under way is not kept: one that was cut off counts as one that failed.
    ForgetsStarts,
    /// Results of probes count for any instance of their container.
    OldResults,
    /// Sidecars are stopped with the others.
    SidecarsFirst,
    /// That a preStop hook was done is not kept.
    HookTwice,
    /// Each stop of an instance gives the whole grace.
    GraceTwice,
}

/// The points. Clones share the wish.
#[derive(Clone, Default)]
pub struct Faults {
    at: Option<AtPoint>,
    planted: Planted,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faults({:?})", self.planted)
    }
}

impl Faults {
    /// No faults.
    pub fn none() -> Self {
        Self::default()
    }

    /// Asks at every point whether to end there.
    pub fn at(at: impl Fn(FaultPoint) -> bool + Send + Sync + 'static) -> Self {
        Self {
            at: Some(Arc::new(at)),
            planted: Planted::None,
        }
    }

    /// With a planted bug.
    #[must_use]
    pub fn with_planted(mut self, planted: Planted) -> Self {
        self.planted = planted;
        self
    }

    /// The planted bug.
    pub fn planted(&self) -> Planted {
        self.planted
    }

    /// Self-test of the simulation: an observation as a planted bug would see it. Free in the product.
    pub fn tamper(&self, observed: Arc<ObservedPod>, stop_failed: bool) -> Arc<ObservedPod> {
        match self.planted {
            Planted::FirstByName => {
                let mut seen = (*observed).clone();
                seen.containers.sort_by(|a, b| a.id.cmp(&b.id));
                let mut names = std::collections::BTreeSet::new();
                seen.containers.retain(|c| names.insert(c.name.clone()));
                Arc::new(seen)
            }
            Planted::NoEvidence if stop_failed => Arc::new(ObservedPod::absent(
                observed.uid.clone(),
                observed.observed_at,
            )),
            Planted::None
            | Planted::NoFreshness
            | Planted::UnknownIsFailure
            | Planted::NoEvidence
            | Planted::NoRelist
            | Planted::RemovesEarly
            | Planted::WallClock
            | Planted::ForgetsEnds
            | Planted::ForgetsStarts
            | Planted::OldResults
            | Planted::SidecarsFirst
            | Planted::HookTwice
            | Planted::GraceTwice => observed,
        }
    }

    /// The same of results of probes: `known` are those of earlier turns.
    pub fn tamper_probes(
        &self,
        probes: Arc<PodProbes>,
        known: &PodProbes,
        observed: &ObservedPod,
    ) -> Arc<PodProbes> {
        if self.planted != Planted::OldResults {
            return probes;
        }
        let mut all = known.clone();
        for (name, results) in &mut all {
            if let Some(newest) = observed.instances(name).next() {
                results.id = newest.id.clone();
            }
        }
        Arc::new(all)
    }

    /// Passes a point. When a test ends us here, this never returns: whoever runs the tasks drops them.
    pub async fn reach(&self, point: FaultPoint) {
        if let Some(at) = &self.at
            && at(point)
        {
            std::future::pending::<()>().await;
        }
    }
}
