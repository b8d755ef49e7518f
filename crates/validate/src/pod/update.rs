//! Validates updates of pods: images, the deadline, tolerations, and what a scheduling gate leaves open may change.
//!
//! In:    the new pod and the old one
//! Out:   problems
//! Calls: `pod`
//! Holds: linear in the size of both
//! Upstream: pkg/apis/core/validation/validation.go (ValidatePodUpdate); differences: the message does not contain Go's diff of
//!           the specs

use super::containers::check_image_spaces;
use super::{MIRROR, Problems, list, names, text};
use k8s_openapi::api::core::v1::{
    Affinity, Container, NodeAffinity, NodeSelectorTerm, Pod, PodSpec, Toleration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubelet_model::emptiness::plain;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;

const CHANGED: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const APP_ARMOR_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";

/// A part of a pod as JSON, without empty fields.
pub(super) fn said(part: &impl Serialize) -> Value {
    plain(serde_json::to_value(part).unwrap_or_default())
}

/// What may not change.
pub(super) fn check(new: &Pod, old: &Pod, problems: &mut Problems) {
    check_annotations(&new.metadata, &old.metadata, problems);
    let (Some(spec), Some(before)) = (&new.spec, &old.spec) else {
        return;
    };
    let lists = [
        ("containers", &*spec.containers, &*before.containers),
        (
            "initContainers",
            list(&spec.init_containers),
            list(&before.init_containers),
        ),
    ];
    for (field, now, then) in lists {
        let path = format!("spec.{field}");
        if now.len() != then.len() {
            problems.forbidden(path, "pod updates may not add or remove containers");
            return;
        }
        for (index, container) in now.iter().enumerate() {
            let at = format!("{path}[{index}]");
            if text(&container.image).is_none() {
                problems.required(format!("{at}.image"), "");
            }
            check_image_spaces(&at, container, problems);
        }
    }
    if !check_deadline(spec, before, problems) {
        return;
    }
    check_tolerations(list(&spec.tolerations), list(&before.tolerations), problems);
    check_gates(spec, before, problems);
    check_rest(spec, before, problems);
}

/// Annotations that cannot change.
pub(super) fn check_annotations(new: &ObjectMeta, old: &ObjectMeta, problems: &mut Problems) {
    let get = |meta: &'_ ObjectMeta, key: &str| -> Option<String> {
        meta.annotations.as_ref()?.get(key).cloned()
    };
    let what = |key: &str| {
        if key.starts_with(APP_ARMOR_PREFIX) {
            Some("AppArmor annotations")
        } else {
            (key == MIRROR).then_some("mirror pod annotation")
        }
    };
    for (key, value) in old.annotations.iter().flatten() {
        if let Some(what) = what(key)
            && get(new, key).as_ref() != Some(value)
        {
            let detail = format!("may not remove or update {what}");
            problems.forbidden(format!("metadata.annotations[{key}]"), &detail);
        }
    }
    for key in new.annotations.iter().flatten().map(|(key, _)| key) {
        if let Some(what) = what(key)
            && get(old, key).is_none()
        {
            let detail = format!("may not add {what}");
            problems.forbidden(format!("metadata.annotations[{key}]"), &detail);
        }
    }
}

/// `activeDeadlineSeconds` can be set and lowered. False if further checks are pointless.
fn check_deadline(new: &PodSpec, old: &PodSpec, problems: &mut Problems) -> bool {
    let path = "spec.activeDeadlineSeconds";
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(now), _) if !(0..=i64::from(i32::MAX)).contains(&now) => {
            problems.reasons(path, now, names::in_range(now, 0, i64::from(i32::MAX)));
            false
        }
        (Some(now), Some(then)) if then < now => {
            let detail = "must be less than or equal to previous value";
            problems.invalid(path, now, detail);
            false
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            problems.invalid(path, Value::Null, detail);
            true
        }
        _ => true,
    }
}

/// Of an existing toleration only `tolerationSeconds` may change.
fn check_tolerations(new: &[Toleration], old: &[Toleration], problems: &mut Problems) {
    let said = |one: &Toleration| {
        let one = Toleration {
            toleration_seconds: None,
            ..one.clone()
        };
        said(&one).to_string()
    };
    let now: BTreeSet<String> = new.iter().map(said).collect();
    if !old.iter().all(|one| now.contains(&said(one))) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        problems.forbidden("spec.tolerations", detail);
    }
}

fn check_gates(new: &PodSpec, old: &PodSpec, problems: &mut Problems) {
    let before: BTreeSet<&String> = list(&old.scheduling_gates)
        .iter()
        .map(|g| &g.name)
        .collect();
    for (index, gate) in list(&new.scheduling_gates).iter().enumerate() {
        if !before.contains(&gate.name) {
            let detail = format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                gate.name
            );
            problems.forbidden(format!("spec.schedulingGates[{index}].name"), &detail);
        }
    }
}

/// Everything else must stay.
fn check_rest(new: &PodSpec, old: &PodSpec, problems: &mut Problems) {
    let mut rest = new.clone();
    keep_images(&mut rest.containers, &old.containers);
    if let (Some(now), Some(then)) = (&mut rest.init_containers, &old.init_containers) {
        keep_images(now, then);
    }
    rest.active_deadline_seconds = old.active_deadline_seconds;
    rest.scheduling_gates.clone_from(&old.scheduling_gates);
    rest.tolerations.clone_from(&old.tolerations);
    let grace = (
        old.termination_grace_period_seconds,
        rest.termination_grace_period_seconds,
    );
    if grace.0.is_some_and(|grace| grace < 0) && grace.1 == Some(1) {
        rest.termination_grace_period_seconds = grace.0;
    }
    if !list(&old.scheduling_gates).is_empty() {
        narrow_node(&mut rest, old, problems);
    }
    if said(&rest) != said(old) {
        problems.forbidden("spec", CHANGED);
    }
}

fn keep_images(now: &mut [Container], then: &[Container]) {
    for (now, then) in now.iter_mut().zip(then) {
        now.image.clone_from(&then.image);
    }
}

/// While a pod has scheduling gates, its node selection may become narrower.
fn narrow_node(rest: &mut PodSpec, old: &PodSpec, problems: &mut Problems) {
    let now = rest.node_selector.clone().unwrap_or_default();
    let kept = |(key, value): (&String, &String)| now.get(key) == Some(value);
    if !old.node_selector.iter().flatten().all(kept) {
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        problems.invalid("spec.nodeSelector", &now, detail);
    }
    rest.node_selector.clone_from(&old.node_selector);
    let node = |spec: &PodSpec| spec.affinity.as_ref()?.node_affinity.clone();
    let (now, then) = (node(rest), node(old));
    if said(&now) == said(&then) {
        return;
    }
    check_node_terms(&terms(now.as_ref()), &terms(then.as_ref()), problems);
    let mut affinity = rest.affinity.take().unwrap_or_default();
    affinity.node_affinity = then;
    let empty = affinity == Affinity::default() && old.affinity.is_none();
    rest.affinity = (!empty).then_some(affinity);
}

fn terms(affinity: Option<&NodeAffinity>) -> Vec<NodeSelectorTerm> {
    let required = affinity.and_then(|affinity| {
        affinity
            .required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    required
        .map(|selector| selector.node_selector_terms.clone())
        .unwrap_or_default()
}

fn check_node_terms(new: &[NodeSelectorTerm], old: &[NodeSelectorTerm], problems: &mut Problems) {
    let path = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    if old.is_empty() {
        return;
    }
    if old.len() != new.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        problems.invalid(path, new, detail);
        return;
    }
    for (index, (now, then)) in new.iter().zip(old).enumerate() {
        let empty = list(&then.match_expressions).is_empty() && list(&then.match_fields).is_empty();
        let now_empty =
            list(&now.match_expressions).is_empty() && list(&now.match_fields).is_empty();
        let grown = list(&now.match_expressions).starts_with(list(&then.match_expressions))
            && list(&now.match_fields).starts_with(list(&then.match_fields));
        if !grown || (empty && !now_empty) {
            let detail = "only additions are allowed (no mutations or deletions)";
            problems.invalid(format!("{path}[{index}]"), now, detail);
        }
    }
}
