//! What of a pod's status must be written to the API, and when its API object may be deleted.
//!
//! In:    the object as the API holds it, the status its worker reports, how far the worker is
//! Out:   `StatusWrite`: a strategic merge patch of exactly what differs (and whether it may wait), the deletion of the object, or nothing
//! Calls: act/report/status_write.rs, again after each answer until there is nothing
//! Holds: fields of others are never touched: foreign conditions, claims, the nominated node; a transition time changes only
//!        with its condition's value; start time and QoS class never change once set; empty equals absent; an object is deleted
//!        only after its final status was written (or the server refuses it) and it is released
//! Upstream: pkg/kubelet/status/status_manager.go (syncPod, mergePodStatus, canBeDeleted), pkg/util/pod/pod.go (1.36)

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1;
use kubelet_model::emptiness::plain;
use kubelet_model::reported::Progress;
use serde_json::{Map, Value, json};

use crate::pod::phase::is_final;
use crate::shapes::record::DISRUPTION_TARGET;

/// Conditions that the kubelet alone writes.
pub(crate) const OWN_CONDITIONS: [&str; 8] = [
    "AllContainersRestarting",
    "ContainersReady",
    "Initialized",
    "PodReadyToStartContainers",
    "PodResizeInProgress",
    "PodResizePending",
    "PodScheduled",
    "Ready",
];
/// Conditions that the kubelet may set when a pod ends, and never takes away.
const SHARED_CONDITIONS: [&str; 1] = [DISRUPTION_TARGET];
/// Fields that are replaced whole.
const OWN_FIELDS: [&str; 11] = [
    "allocatedResources",
    "containerStatuses",
    "ephemeralContainerStatuses",
    "hostIP",
    "initContainerStatuses",
    "message",
    "observedGeneration",
    "phase",
    "podIP",
    "reason",
    "resources",
];
/// Fields that stay as they are once they are there.
const FIRST_STAYS: [&str; 2] = ["qosClass", "startTime"];
/// Lists that are merged by their elements' `ip`.
const ADDRESS_LISTS: [&str; 2] = ["hostIPs", "podIPs"];

/// What is decided on.
#[derive(Clone, Copy, Debug)]
pub struct StatusWriteView<'a> {
    /// The object as the API holds it: the pod itself, or the mirror of a static one.
    pub held: &'a v1::Pod,
    /// The status as last reported.
    pub reported: &'a v1::PodStatus,
    /// How far the worker is.
    pub progress: Progress,
    /// The patch that the server was given for this very object and did not take in: it changed nothing, or was refused again and
    /// again. It is not sent once more, and holds nothing up.
    pub futile: Option<&'a Value>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum StatusWrite {
    /// The API has it all.
    Nothing,
    /// Write this: the `status` of a strategic merge patch.
    Patch(Value),
    /// Write this, but it may wait for what follows: it tells only that the pod has its network, and its containers start now.
    PatchLater(Value),
    /// The object has served its time.
    Delete,
}

/// What to write next for one pod.
pub fn status_write(view: &StatusWriteView<'_>) -> StatusWrite {
    let empty = v1::PodStatus::default();
    let held = view.held.status.as_ref().unwrap_or(&empty);
    let mut is_written = is_final(Some(held));
    // Mostly it was just written; then there is no need to take it apart.
    if held != view.reported {
        let patch = status_patch(held, view.reported);
        let is_futile = view.futile.and_then(Value::as_object) == Some(&patch);
        if is_futile {
            is_written |= is_final(Some(view.reported));
        } else if !patch.is_empty() {
            // Another address than before is news to those who know the old one.
            let had_none = held.pod_ip.as_ref().is_none_or(String::is_empty);
            let may_wait = had_none && tells_only_of_the_network(&patch);
            let patch = Value::Object(patch);
            return if may_wait {
                StatusWrite::PatchLater(patch)
            } else {
                StatusWrite::Patch(patch)
            };
        }
    }
    let is_asked = view.held.metadata.deletion_timestamp.is_some();
    let is_mirror = view
        .held
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|all| all.contains_key(kubelet_model::pod::CONFIG_MIRROR_ANNOTATION));
    if is_asked && is_written && !is_mirror && view.progress == Progress::Finished {
        StatusWrite::Delete
    } else {
        StatusWrite::Nothing
    }
}

fn tells_only_of_the_network(patch: &Map<String, Value>) -> bool {
    let is_network_up = |condition: &Value| {
        condition.get("type").and_then(Value::as_str) == Some("PodReadyToStartContainers")
            && condition.get("status").and_then(Value::as_str) == Some("True")
    };
    patch.iter().all(|(field, value)| match field.as_str() {
        "podIP" | "podIPs" => !value.is_null(),
        "$setElementOrder/podIPs" | "$setElementOrder/conditions" => true,
        "conditions" => value
            .as_array()
            .is_some_and(|all| all.iter().all(is_network_up)),
        _ => false,
    })
}

/// The patch that makes `held` say what `reported` says; empty when it does already.
fn status_patch(held: &v1::PodStatus, reported: &v1::PodStatus) -> Map<String, Value> {
    let (old, new) = (fields(held), fields(reported));
    let written = serde_json::to_value(reported).unwrap_or_default();
    let mut patch = Map::new();
    for field in OWN_FIELDS {
        if old.get(field) != new.get(field) {
            // As it was made, where it says anything.
            let value = new.get(field).and(written.get(field));
            patch.insert(field.to_owned(), value.cloned().unwrap_or(Value::Null));
        }
    }
    for field in FIRST_STAYS {
        if let (None, Some(new)) = (old.get(field), new.get(field)) {
            patch.insert(field.to_owned(), new.clone());
        }
    }
    for field in ADDRESS_LISTS {
        merge_addresses(&mut patch, field, old.get(field), new.get(field));
    }
    merge_conditions(&mut patch, held, reported);
    patch
}

/// What it says, field by field.
fn fields(said: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(said).map(plain) {
        Ok(Value::Object(fields)) => fields,
        // A status and a condition are objects by their types.
        Ok(_) | Err(_) => Map::new(),
    }
}

fn merge_addresses(
    patch: &mut Map<String, Value>,
    field: &str,
    old: Option<&Value>,
    new: Option<&Value>,
) {
    if old == new {
        return;
    }
    let list = |value: Option<&Value>| -> Vec<Value> {
        value.and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let (old, new) = (list(old), list(new));
    let mut changes: Vec<Value> = new.iter().filter(|a| !old.contains(a)).cloned().collect();
    let gone = old.iter().filter(|a| !new.contains(a));
    changes.extend(gone.map(|a| json!({"$patch": "delete", "ip": a.get("ip")})));
    patch.insert(format!("$setElementOrder/{field}"), Value::Array(new));
    if !changes.is_empty() {
        patch.insert(field.to_owned(), Value::Array(changes));
    }
}

fn merge_conditions(
    patch: &mut Map<String, Value>,
    held: &v1::PodStatus,
    reported: &v1::PodStatus,
) {
    let old = held.conditions.as_deref().unwrap_or_default();
    let new = reported.conditions.as_deref().unwrap_or_default();
    let kept = |condition: &v1::PodCondition| with_old_time(condition, old);
    // At any other time it is only what the API said when it was last read.
    let ends = is_final(Some(reported)) && !is_final(Some(held));
    let writes =
        |type_: &str| OWN_CONDITIONS.contains(&type_) || ends && SHARED_CONDITIONS.contains(&type_);
    let new: Vec<v1::PodCondition> = new.iter().filter(|c| writes(&c.type_)).map(kept).collect();
    let is_new = |type_: &str| new.iter().any(|c| c.type_ == type_);
    let mut changes: Vec<Value> = new
        .iter()
        .filter(|condition| !old.iter().any(|held| is_same(held, condition)))
        .map(|condition| change_of(condition, old))
        .collect();
    let gone = old
        .iter()
        .filter(|c| OWN_CONDITIONS.contains(&c.type_.as_str()) && !is_new(&c.type_));
    changes.extend(gone.map(|c| json!({"$patch": "delete", "type": c.type_})));
    if changes.is_empty() {
        return;
    }
    let foreign = old
        .iter()
        .filter(|c| !OWN_CONDITIONS.contains(&c.type_.as_str()) && !is_new(&c.type_));
    let mut seen = BTreeSet::new();
    let order: Vec<Value> = foreign
        .map(|c| &c.type_)
        .chain(new.iter().map(|c| &c.type_))
        .filter(|type_| seen.insert((*type_).clone()))
        .map(|type_| json!({"type": type_}))
        .collect();
    patch.insert(
        "$setElementOrder/conditions".to_owned(),
        Value::Array(order),
    );
    patch.insert("conditions".to_owned(), Value::Array(changes));
}

/// The condition as the patch has it: what it does not say any more is nulled, for a merge keeps what is left out.
fn change_of(condition: &v1::PodCondition, old: &[v1::PodCondition]) -> Value {
    let mut change = fields(condition);
    let held = old.iter().find(|held| held.type_ == condition.type_);
    for (field, _) in held.map(fields).into_iter().flatten() {
        if field != "lastProbeTime" {
            change.entry(field).or_insert(Value::Null);
        }
    }
    Value::Object(change)
}

/// The condition, with the time at which the API saw it take this value.
fn with_old_time(condition: &v1::PodCondition, old: &[v1::PodCondition]) -> v1::PodCondition {
    let held = old
        .iter()
        .find(|held| held.type_ == condition.type_ && held.status == condition.status);
    let mut condition = condition.clone();
    if let Some(time) = held.and_then(|held| held.last_transition_time.clone()) {
        condition.last_transition_time = Some(time);
    }
    condition
}

/// Equal but for the time of the probe, which nobody sets.
fn is_same(held: &v1::PodCondition, new: &v1::PodCondition) -> bool {
    let said = |condition| {
        let mut said = fields(condition);
        said.remove("lastProbeTime");
        said
    };
    held == new || said(held) == said(new)
}

#[cfg(test)]
mod tests;
