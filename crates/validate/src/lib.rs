//! Validation of API objects: one set of rules for static pods and for every write at the API server.
//!
//! In:    objects with their defaults; for updates also the old object
//! Out:   every problem, with the field's path, upstream's error type and upstream's message
//! Calls: `decide/sources/manifest` (static pods), `apiserver/kinds/strategy` (every kind)
//! Holds: pure; the order of problems is stable; time and size of the result are linear in the size of the object
//! Upstream: pkg/apis/*/validation (1.36, feature gates at their defaults); differences: an update is not refused for what was
//!           already invalid in the stored object (upstream does so for single rules only)

mod amounts;
mod certificates;
mod claims;
mod config;
mod endpoints;
mod events;
mod kinds;
mod meta;
mod names;
mod node;
mod persistent_volumes;
mod pod;
mod problem;
mod service;
mod storage;

pub use names::NameRule;
pub use pod::{containers_of, pod, pod_ephemeral_containers, pod_resize};
pub use problem::{FieldProblem, MAX_PROBLEMS, ProblemKind, Problems};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeSet;

/// The rules of one kind, without its metadata.
pub trait Checked {
    /// Validates the object itself.
    fn check(&self, problems: &mut Problems);

    /// Additional rules for new objects.
    fn check_new(&self, _problems: &mut Problems) {}

    /// Fields that an update of the object may not change.
    fn check_change(&self, _old: &Self, _problems: &mut Problems) {}

    /// Changes that an update of the status may not make.
    fn check_status(&self, _old: &Self, _problems: &mut Problems) {}
}

/// Validates a new object.
pub fn created<T: Checked>(new: &T) -> Vec<FieldProblem> {
    let mut problems = Problems::default();
    new.check(&mut problems);
    new.check_new(&mut problems);
    problems.found()
}

/// Validates an update of the object.
pub fn changed<T: Checked>(new: &T, old: &T) -> Vec<FieldProblem> {
    let mut found = new_problems(
        |problems| new.check(problems),
        |problems| old.check(problems),
    );
    let mut problems = Problems::default();
    new.check_change(old, &mut problems);
    found.extend(problems.found());
    found
}

/// Validates an update of the status subresource.
pub fn status_changed<T: Checked>(new: &T, old: &T) -> Vec<FieldProblem> {
    let mut problems = Problems::default();
    new.check_status(old, &mut problems);
    problems.found()
}

/// Validates the metadata of a new object, or an update of it.
pub fn metadata(
    new: &ObjectMeta,
    old: Option<&ObjectMeta>,
    rule: NameRule,
    namespaced: bool,
) -> Vec<FieldProblem> {
    let check = |meta: &ObjectMeta, problems: &mut Problems| {
        meta::check(meta, rule, namespaced, problems);
    };
    match old {
        Some(old) => new_problems(|p| check(new, p), |p| check(old, p)),
        None => {
            let mut problems = Problems::default();
            check(new, &mut problems);
            problems.found()
        }
    }
}

/// Validates a binding.
pub fn binding(binding: &k8s_openapi::api::core::v1::Binding) -> Vec<FieldProblem> {
    let mut problems = Problems::default();
    let target = &binding.target;
    if let Some(kind) = target.kind.as_deref()
        && !["", "Node"].contains(&kind)
    {
        problems.unsupported("target.kind", kind, &["Node", "<empty>"]);
    }
    if target.name.as_deref().is_none_or(str::is_empty) {
        problems.required("target.name", "");
    }
    problems.found()
}

/// The problems that the old object did not have. Stored objects may violate today's rules, if they were written by an older
/// version or if a rule applies only at creation. They must still accept updates, for example the removal of a finalizer.
fn new_problems(
    now: impl FnOnce(&mut Problems),
    before: impl FnOnce(&mut Problems),
) -> Vec<FieldProblem> {
    let (mut problems, mut old) = (Problems::default(), Problems::default());
    now(&mut problems);
    if problems.len() == 0 {
        return Vec::new();
    }
    before(&mut old);
    let old = old.found();
    let mut found = problems.found();
    // If the limit of problems is reached, it is unknown which of them are new.
    if old.len() < MAX_PROBLEMS {
        let old: BTreeSet<FieldProblem> = old.into_iter().collect();
        found.retain(|problem| !old.contains(problem));
    }
    found
}

#[cfg(test)]
mod tests;
