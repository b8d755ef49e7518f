//! What the API refuses in an object: one set of rules for static pods and for every write of the API server.
//!
//! In:    objects with their defaults; at a change the object as it was, too
//! Out:   every problem, with the field's path, upstream's type of error and upstream's message
//! Calls: `decide/sources/manifest` (static pods), `apiserver/kinds/strategy` (every kind)
//! Holds: pure; the order of problems is stable; the work is linear in the size of the object, and so is the answer
//! Upstream: pkg/apis/*/validation (1.36, feature gates at their defaults); differences: what is wrong with an object as it is kept
//!           is not held against a change of something else (upstream does so for single rules only)

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
    /// What is wrong with the object by itself.
    fn check(&self, problems: &mut Problems);

    /// What a new object may not have, and a changed one may.
    fn check_new(&self, _problems: &mut Problems) {}

    /// What a change through the object's own path may not change.
    fn check_change(&self, _old: &Self, _problems: &mut Problems) {}

    /// What a change through the path of the status may not do.
    fn check_status(&self, _old: &Self, _problems: &mut Problems) {}
}

/// What is wrong with a new object.
pub fn created<T: Checked>(new: &T) -> Vec<FieldProblem> {
    let mut problems = Problems::default();
    new.check(&mut problems);
    new.check_new(&mut problems);
    problems.found()
}

/// What is wrong with a change through the object's own path.
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

/// What is wrong with a change through the path of the status.
pub fn status_changed<T: Checked>(new: &T, old: &T) -> Vec<FieldProblem> {
    let mut problems = Problems::default();
    new.check_status(old, &mut problems);
    problems.found()
}

/// What is wrong with the metadata of a new object, or with what a change does to it.
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

/// What is wrong with a binding.
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

/// What is wrong now and was not before. An object may be kept that today's rules refuse: made by an older version, or by a rule that
/// counts at creation alone. It still has to be possible to change it, to take a finalizer away for example.
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
    // With more problems than are kept nobody knows which of them are new.
    if old.len() < MAX_PROBLEMS {
        let old: BTreeSet<FieldProblem> = old.into_iter().collect();
        found.retain(|problem| !old.contains(problem));
    }
    found
}

#[cfg(test)]
mod tests;
