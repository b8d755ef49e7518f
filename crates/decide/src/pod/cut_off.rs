//! Starts that were cut off: the kubelet or the runtime ended between the call and its answer, and the container never ran.
//!
//! In:    a plan before it is carried out; the record; what the runtime holds
//! Out:   which starts are under way; the observation with the instances of those that came to nothing set apart
//! Calls: act/pod/pod_worker, around each plan and after each look
//! Holds: an instance that may have run is never set apart; a start that the runtime refused to a living kubelet is a failure, and its
//!        instance is not set apart either
//! Upstream: pkg/kubelet/container/helpers.go (ShouldContainerBeRestarted: created and unknown ones are made anew, whatever the policy),
//!        1.36; differences: a start that ended as a start error is made anew, too, when nobody was there to be told so

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use kubelet_model::observed::{ContainerState, ObservedContainer, ObservedPod};

use crate::shapes::plan::{Action, PodPlan};
use crate::shapes::record::PodRecord;

/// The runtime's code of a container whose start failed.
const START_ERROR_CODE: i32 = 128;
const START_ERROR: &str = "StartError";
/// The runtime's code of a container that it ended without knowing what it did.
const UNKNOWN_CODE: i32 = 255;

/// Starts by container name, and which instance each is of.
pub type Starts = BTreeMap<String, u32>;

/// The starts that a plan will ask for.
pub fn starts_of(plan: &PodPlan) -> Starts {
    let starts = plan.steps.iter().filter_map(|step| match &step.action {
        Action::StartContainer(start) => Some((start.name.clone(), start.attempt)),
        Action::StartCreated { name, attempt, .. } => Some((name.clone(), *attempt)),
        Action::Prepare(_)
        | Action::SetUpVolume(_)
        | Action::RunSandbox(_)
        | Action::ResolveImage(_)
        | Action::ReadEnvFiles { .. }
        | Action::PostStart { .. }
        | Action::StopContainers(_)
        | Action::StopSandbox(_)
        | Action::RemoveContainer { .. }
        | Action::RemoveSandbox { .. }
        | Action::Release { .. } => None,
    });
    starts.collect()
}

/// Whether an instance ran, as far as the runtime tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ran {
    No,
    Yes,
    /// Nobody knows; it is stopped, and then looked at again.
    Perhaps,
}

fn ran(container: &ObservedContainer) -> Ran {
    match &container.state {
        ContainerState::Created => Ran::No,
        ContainerState::Running { .. } => Ran::Yes,
        ContainerState::Unknown => Ran::Perhaps,
        ContainerState::Exited(exit) => {
            // A runtime that ended right after it had started a process does not tell when that was, but how it ended.
            let is_start_error =
                exit.reason == START_ERROR || [START_ERROR_CODE, UNKNOWN_CODE].contains(&exit.code);
            if exit.started_at <= Timestamp::UNIX_EPOCH && is_start_error {
                Ran::No
            } else {
                Ran::Yes
            }
        }
    }
}

impl PodRecord {
    /// Keeps that these are under way.
    pub fn begin_starts(&mut self, starts: &Starts) {
        for (name, attempt) in starts {
            self.starts
                .entry(name.clone())
                .or_default()
                .insert(*attempt);
        }
    }

    /// The runtime refused to start this one: it is a failure like any other.
    pub fn end_start(&mut self, name: &str, starts: &Starts) {
        if let (Some(under_way), Some(attempt)) = (self.starts.get_mut(name), starts.get(name)) {
            under_way.remove(attempt);
        }
        self.starts.retain(|_, under_way| !under_way.is_empty());
    }

    /// While none is under way: what has run, or is not there, is not waited for any more.
    pub fn settle_starts(&mut self, observed: &ObservedPod) {
        for (name, under_way) in &mut self.starts {
            under_way.retain(|attempt| {
                let mut instances = observed.instances(name);
                instances.any(|one| one.attempt == *attempt && ran(one) != Ran::Yes)
            });
        }
        self.starts.retain(|_, under_way| !under_way.is_empty());
    }

    /// The pod as seen, with the instances set apart whose start was cut off.
    pub fn set_apart_cut_off(&self, observed: Arc<ObservedPod>) -> Arc<ObservedPod> {
        let is_cut_off = |one: &ObservedContainer| {
            let under_way = self.starts.get(&one.name);
            under_way.is_some_and(|under_way| under_way.contains(&one.attempt))
                && ran(one) == Ran::No
        };
        if !observed.containers.iter().any(is_cut_off) {
            return observed;
        }
        let mut apart = (*observed).clone();
        let (cut_off, rest) = apart.containers.into_iter().partition(is_cut_off);
        (apart.cut_off, apart.containers) = (cut_off, rest);
        Arc::new(apart)
    }
}

#[cfg(test)]
mod tests {
    use kubelet_model::observed::Exit;

    use super::*;
    use crate::pod::pod_plan::pod_plan;
    use crate::testing::pod_of;
    use crate::testing::seen::Seen;

    fn exited(started: i64, code: i32, reason: &str) -> ContainerState {
        let at = |second| Timestamp::from_second(second).unwrap();
        ContainerState::Exited(Exit {
            started_at: at(started),
            finished_at: at(9),
            code,
            reason: reason.to_owned(),
            message: "context canceled".to_owned(),
        })
    }

    /// A pod that runs its container once, whose instance 0 is in this state; whether the start of it was under way.
    fn plan(state: &ContainerState, under_way: bool, policy: &str) -> String {
        let pod = pod_of(&format!(
            "{{restartPolicy: {policy}, containers: [{{name: a, image: i}}]}}"
        ));
        let mut seen = Seen::new(pod, kubelet_model::objects::PodObjects::default())
            .running()
            .prepared();
        seen.observed.containers[0].state = state.clone();
        if under_way {
            seen.memory
                .record
                .begin_starts(&[("a".to_owned(), 0)].into());
        }
        seen.memory.record.settle_starts(&seen.observed);
        let apart = seen
            .memory
            .record
            .set_apart_cut_off(Arc::new(seen.observed));
        seen.observed = (*apart).clone();
        let life = seen.see(crate::pod::lifecycle::step);
        let plan = seen.see(pod_plan);
        format!("{} {plan}", life.word())
    }

    #[test]
    fn only_what_never_ran_is_made_again_whatever_the_policy() {
        use ContainerState::{Created, Running, Unknown};
        let started_at = Timestamp::from_second(5).unwrap();
        let cut_off = "syncing remove a (its start was cut off)";
        let failed = "terminating";
        let rows = [
            (Created, true, cut_off),
            (Created, false, "syncing start created a"),
            (exited(0, 128, "StartError"), true, cut_off),
            (exited(0, 128, ""), true, cut_off),
            (exited(0, 255, "Unknown"), true, cut_off),
            // A living kubelet was told, or an earlier version kept no records of starts.
            (exited(0, 128, "StartError"), false, failed),
            // These ran, or may have.
            (exited(0, 1, "Error"), true, failed),
            (exited(5, 128, "Error"), true, failed),
            (exited(5, 0, "Completed"), true, failed),
            (Unknown, true, "syncing stop a/30s (in an unknown state)"),
            (Running { started_at }, true, "syncing nothing to do"),
        ];
        for (state, under_way, expected) in rows {
            let seen = plan(&state, under_way, "Never");
            assert!(seen.starts_with(expected), "{state:?} {under_way}: {seen}");
        }
        for policy in ["Always", "OnFailure"] {
            let seen = plan(&exited(0, 128, "StartError"), true, policy);
            assert_eq!(seen, cut_off);
        }
    }

    #[test]
    fn what_stays_of_a_cut_off_start_keeps_its_number() {
        let pod = pod_of("{restartPolicy: Never, containers: [{name: a, image: i}]}");
        let mut seen = Seen::new(pod, kubelet_model::objects::PodObjects::default())
            .running()
            .prepared();
        let mut cut_off = seen.observed.containers.remove(0);
        cut_off.state = ContainerState::Created;
        seen.observed.cut_off = vec![cut_off];
        let number = |seen: &Seen| {
            let starts = starts_of(&seen.see(pod_plan));
            starts.get("a").copied()
        };
        assert_eq!(number(&seen), None);
        // The runtime refuses removals until then.
        seen.memory.garbage_at = Some(Timestamp::from_second(60).unwrap());
        assert_eq!(number(&seen), Some(1));
        seen.memory.garbage_at = None;
        seen.observed.cut_off.clear();
        assert_eq!(number(&seen), Some(0));
    }

    #[test]
    fn a_refused_start_is_under_way_no_more() {
        let mut record = PodRecord::default();
        let starts: Starts = [("a".to_owned(), 0), ("b".to_owned(), 2)].into();
        record.begin_starts(&starts);
        record.end_start("c", &starts);
        record.end_start("a", &starts);
        assert_eq!(record.starts, [("b".to_owned(), [2].into())].into());
    }
}
