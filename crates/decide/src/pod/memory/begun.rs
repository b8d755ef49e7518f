//! What was known before a plan was carried out, so that steps that it did not come to leave nothing behind.
//!
//! In:    a plan; how many of its steps were taken
//! Out:   `Begun`; the memory as it was, for the steps that were not
//! Calls: memory
//! Holds: a step that was taken, whatever became of it, stays as it was noted
//! Upstream: none

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use kubelet_model::ids::ContainerId;

use crate::pod::cut_off::Starts;
use crate::shapes::memory::PodMemory;
use crate::shapes::plan::{Action, PodPlan};
use crate::shapes::record::{BackOff, Stopping};

/// What a plan begins with.
#[derive(Clone, Debug, Default)]
pub struct Begun {
    /// The starts that it asks for.
    pub starts: Starts,
    /// What was known of each before that.
    pub(super) before: Vec<BeforeStart>,
    /// What was known of each stop that it asks for.
    pub(super) stops: Vec<BeforeStop>,
}

/// What was known of an instance before a plan that stops it.
#[derive(Clone, Debug)]
pub(super) struct BeforeStop {
    pub(super) id: ContainerId,
    /// Which step of the plan the stop is.
    step: usize,
    pub(super) begun: Option<Stopping>,
}

/// What was known of a container before a plan that starts it.
#[derive(Clone, Debug)]
pub(super) struct BeforeStart {
    name: String,
    /// Which step of the plan the start is.
    step: usize,
    back_off: Option<BackOff>,
    applied: Option<v1::ResourceRequirements>,
}

fn put_back<T: Clone>(all: &mut BTreeMap<String, T>, name: &str, before: &Option<T>) {
    match before {
        Some(before) => drop(all.insert(name.to_owned(), before.clone())),
        None => drop(all.remove(name)),
    }
}

impl PodMemory {
    pub(super) fn before_starts(&self, plan: &PodPlan) -> Vec<BeforeStart> {
        let steps = plan.steps.iter().enumerate();
        let starts = steps.filter_map(|(step, of)| {
            let Action::StartContainer(start) = &of.action else {
                return None;
            };
            Some((step, start.name.clone()))
        });
        let before = starts.map(|(step, name)| BeforeStart {
            step,
            back_off: self.record.restart_back_off.get(&name).cloned(),
            applied: self.record.applied.get(&name).cloned(),
            name,
        });
        before.collect()
    }

    pub(super) fn before_stops(&self, plan: &PodPlan) -> Vec<BeforeStop> {
        let steps = plan.steps.iter().enumerate();
        let stops = steps.flat_map(|(step, of)| {
            let stops = of.action.stops().into_iter().flatten();
            stops.map(move |stop| (step, &stop.id))
        });
        let before = stops.map(|(step, id)| BeforeStop {
            id: id.clone(),
            step,
            begun: self.record.stopping.get(id.as_str()).cloned(),
        });
        before.collect()
    }

    /// What was kept of starts and stops that the plan did not come to is taken back: none of them was made.
    pub(super) fn take_back(&mut self, begun: &Begun, taken_steps: usize) {
        for stop in begun.stops.iter().filter(|of| of.step >= taken_steps) {
            put_back(&mut self.record.stopping, stop.id.as_str(), &stop.begun);
        }
        for before in begun.before.iter().filter(|of| of.step >= taken_steps) {
            let name = &before.name;
            put_back(&mut self.record.restart_back_off, name, &before.back_off);
            put_back(&mut self.record.applied, name, &before.applied);
            self.record.end_start(name, &begun.starts);
        }
    }
}
