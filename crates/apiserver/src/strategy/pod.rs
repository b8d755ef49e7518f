//! The rules of pods: what is reset at creation, what may not change later, and what must be right.
//!
//! In:    the pod as it was sent, and as it was
//! Out:   the pod as it is to be kept; causes
//! Calls: `strategy`, `registry` (subresources)
//! Holds: pure
//! Upstream: pkg/registry/core/pod/strategy.go, pkg/apis/core/validation (1.36); differences: only what is named here is validated

use std::collections::{BTreeMap, BTreeSet};

use kubelet_model::emptiness::plain;
use serde_json::{Map, Value, json};

use super::names;
use super::quantities;
use crate::failure::Cause;
use crate::object::{as_map, list, list_mut, map_mut, number, text};
use crate::resources::NameRule;

mod defaults;
mod file_keys;

pub(super) use defaults::default;

/// The lists of containers.
pub(crate) const CONTAINER_LISTS: [&str; 3] =
    ["initContainers", "containers", "ephemeralContainers"];

const CHANGED: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A new pod is pending, whatever it says.
pub(super) fn create(pod: &mut Value) {
    let qos = qos_class(pod);
    let status = json!({"phase": "Pending", "qosClass": qos});
    as_map(pod).insert("status".to_owned(), status);
}

/// Every container with the name of its list and its index there.
fn containers(pod: &Value) -> impl Iterator<Item = (&'static str, usize, &Value)> {
    CONTAINER_LISTS.into_iter().flat_map(move |which| {
        let all = list(pod, &format!("/spec/{which}")).iter().enumerate();
        all.map(move |(index, container)| (which, index, container))
    })
}

/// `Guaranteed` when every container has equal requests and limits of both, `BestEffort` when none has any.
pub(crate) fn qos_class(pod: &Value) -> &'static str {
    let positive = |place: &Value, kind: &str, resource: &str| {
        let value = place.pointer(&format!("/resources/{kind}/{resource}"));
        value.and_then(quantities::read).filter(|q| !q.is_zero())
    };
    let (mut any, mut guaranteed) = (false, true);
    let whole = pod
        .get("spec")
        .filter(|spec| spec.get("resources").is_some());
    let places: Vec<&Value> = match whole {
        Some(spec) => vec![spec],
        None => containers(pod)
            .filter(|(which, ..)| *which != "ephemeralContainers")
            .map(|(.., container)| container)
            .collect(),
    };
    for place in &places {
        for resource in ["cpu", "memory"] {
            let (request, limit) = (
                positive(place, "requests", resource),
                positive(place, "limits", resource),
            );
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// What is wrong with a pod.
pub(super) fn validate(new: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if list(new, "/spec/containers").is_empty() {
        causes.push(Cause::required("spec.containers", ""));
    }
    let policy = text(new, "/spec/restartPolicy");
    let policies = ["Always", "OnFailure", "Never"];
    if !policies.contains(&policy) {
        causes.push(Cause::unsupported(
            "spec.restartPolicy",
            &policy.into(),
            &policies,
        ));
    }
    let volumes = validate_volumes(new, &mut causes);
    let mut seen = BTreeSet::new();
    for (which, index, container) in containers(new) {
        let field = format!("spec.{which}[{index}]");
        validate_container(container, &field, &volumes, &mut causes);
        let called = text(container, "/name");
        if !seen.insert(called) {
            causes.push(Cause::duplicate(format!("{field}.name"), &called.into()));
        }
    }
    validate_deadline(new, old, &mut causes);
    file_keys::validate(new, &mut causes);
    if let Some(old) = old {
        causes.extend(validate_update(new, old));
    }
    causes
}

fn validate_volumes<'a>(pod: &'a Value, causes: &mut Vec<Cause>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for (index, volume) in list(pod, "/spec/volumes").iter().enumerate() {
        let (called, field) = (text(volume, "/name"), format!("spec.volumes[{index}].name"));
        if let Some(problem) = names::problem(NameRule::Label, called) {
            causes.push(Cause::invalid(&field, &called.into(), &problem));
        }
        if !seen.insert(called) {
            causes.push(Cause::duplicate(field, &called.into()));
        }
    }
    seen
}

fn validate_container(
    container: &Value,
    field: &str,
    volumes: &BTreeSet<&str>,
    causes: &mut Vec<Cause>,
) {
    let called = text(container, "/name");
    if called.is_empty() {
        causes.push(Cause::required(format!("{field}.name"), ""));
    } else if let Some(problem) = names::problem(NameRule::Label, called) {
        causes.push(Cause::invalid(
            format!("{field}.name"),
            &called.into(),
            &problem,
        ));
    }
    if text(container, "/image").is_empty() {
        causes.push(Cause::required(format!("{field}.image"), ""));
    }
    for (index, mount) in list(container, "/volumeMounts").iter().enumerate() {
        let field = format!("{field}.volumeMounts[{index}]");
        let volume = text(mount, "/name");
        if !volumes.contains(volume) {
            causes.push(Cause::missing(format!("{field}.name"), &volume.into()));
        }
        if text(mount, "/mountPath").is_empty() {
            causes.push(Cause::required(format!("{field}.mountPath"), ""));
        }
    }
    for kind in ["requests", "limits"] {
        let pointer = format!("/resources/{kind}");
        let amounts = container.pointer(&pointer).and_then(Value::as_object);
        for (resource, amount) in amounts.into_iter().flatten() {
            let field = format!("{field}.resources.{kind}[{resource}]");
            match quantities::read(amount) {
                None => {
                    let detail = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
                    causes.push(Cause::invalid(field, amount, detail));
                }
                Some(found) if kind == "requests" => {
                    let limit = container
                        .pointer("/resources/limits")
                        .and_then(|l| l.get(resource));
                    if limit
                        .and_then(quantities::read)
                        .is_some_and(|limit| found > limit)
                    {
                        let detail = format!(
                            "must be less than or equal to {resource} limit of {}",
                            limit.and_then(Value::as_str).unwrap_or_default()
                        );
                        causes.push(Cause::invalid(field, amount, &detail));
                    }
                }
                Some(_) => {}
            }
        }
    }
}

/// `activeDeadlineSeconds`: a whole number of seconds; later it can be set and lowered, and nothing else.
fn validate_deadline(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let at = "/spec/activeDeadlineSeconds";
    let field = "spec.activeDeadlineSeconds";
    let before = old.and_then(|old| number(old, at));
    let Some(seconds) = number(new, at) else {
        if before.is_some() {
            let detail = "must not update from a positive integer to nil value";
            causes.push(Cause::invalid(field, &Value::Null, detail));
        }
        return;
    };
    if !(1..=i64::from(i32::MAX)).contains(&seconds) {
        let detail = "must be between 1 and 2147483647, inclusive";
        causes.push(Cause::invalid(field, &seconds.into(), detail));
    } else if before.is_some_and(|before| before < seconds) {
        let detail = "must be less than or equal to previous value";
        causes.push(Cause::invalid(field, &seconds.into(), detail));
    }
}

/// What a change of a pod through its own path may not touch.
fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let (new_spec, old_spec) = (spec(new), spec(old));
    for which in ["containers", "initContainers", "ephemeralContainers"] {
        let count = |pod: &Value| list(pod, &format!("/spec/{which}")).len();
        if count(new) != count(old) {
            let detail = "pod updates may not add or remove containers";
            causes.push(Cause::forbidden(format!("spec.{which}"), detail));
        }
    }
    let tolerated = tolerations(new);
    if !tolerations(old).is_subset(&tolerated) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        causes.push(Cause::forbidden("spec.tolerations", detail));
    }
    let mut comparable = new_spec.clone();
    for free in ["activeDeadlineSeconds", "terminationGracePeriodSeconds"] {
        copy(&mut comparable, &old_spec, free);
    }
    let grace = (
        number(old, "/spec/terminationGracePeriodSeconds"),
        number(new, "/spec/terminationGracePeriodSeconds"),
    );
    let grace_kept = grace.0 == grace.1 || (grace.0.is_some_and(|g| g < 0) && grace.1 == Some(1));
    copy(&mut comparable, &old_spec, "tolerations");
    for which in ["containers", "initContainers"] {
        let images = list(old, &format!("/spec/{which}"))
            .iter()
            .map(|c| c.get("image").cloned());
        let images: Vec<_> = images.collect();
        let changed = comparable.get_mut(which).and_then(Value::as_array_mut);
        for (container, image) in changed.into_iter().flatten().zip(images) {
            as_map(container).insert("image".to_owned(), image.unwrap_or_default());
        }
    }
    let is_other = plain(comparable.into()) != plain(old_spec.into());
    if causes.is_empty() && (is_other || !grace_kept) {
        causes.push(Cause::forbidden("spec", CHANGED));
    }
    causes
}

/// What each says, but for how long.
fn tolerations(pod: &Value) -> BTreeSet<String> {
    let said = |toleration: &Value| {
        let mut toleration = toleration.clone();
        as_map(&mut toleration).remove("tolerationSeconds");
        said(toleration)
    };
    list(pod, "/spec/tolerations").iter().map(said).collect()
}

/// What a part of an object says, to be found among many.
fn said(part: Value) -> String {
    plain(part).to_string()
}

fn spec(pod: &Value) -> Map<String, Value> {
    pod.get("spec")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default()
}

fn copy(to: &mut Map<String, Value>, from: &Map<String, Value>, name: &str) {
    match from.get(name) {
        Some(value) => drop(to.insert(name.to_owned(), value.clone())),
        None => drop(to.remove(name)),
    }
}

/// Through `ephemeralcontainers`: those may be added, nothing else changes.
pub(crate) fn only_ephemeral_containers(new: &mut Value, old: &Value) -> Vec<Cause> {
    let added = new.pointer("/spec/ephemeralContainers").cloned();
    let metadata = new.get("metadata").cloned().unwrap_or_default();
    let mut kept = old.clone();
    let mut causes = Vec::new();
    let now = added
        .as_ref()
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let names: BTreeSet<&str> = now.iter().map(name_of).collect();
    let all: BTreeSet<String> = now.iter().map(|one| said(one.clone())).collect();
    for (index, before) in list(old, "/spec/ephemeralContainers").iter().enumerate() {
        if !names.contains(name_of(before)) {
            let detail = format!(
                "existing ephemeral containers {:?} may not be removed\n",
                name_of(before)
            );
            causes.push(Cause::forbidden("spec.ephemeralContainers", &detail));
        } else if !all.contains(&said(before.clone())) {
            let detail = format!(
                "existing ephemeral containers {:?} may not be changed\n",
                name_of(before)
            );
            causes.push(Cause::forbidden(
                format!("spec.ephemeralContainers[{index}]"),
                &detail,
            ));
        }
    }
    if let Some(added) = added {
        map_mut(&mut kept, "spec").insert("ephemeralContainers".to_owned(), added);
    }
    as_map(&mut kept).insert("metadata".to_owned(), metadata);
    *new = kept;
    causes
}

/// Through `resize`: resources and resize policies of containers, nothing else.
pub(crate) fn only_resources(new: &mut Value, old: &Value) {
    let mut kept = old.clone();
    for which in ["containers", "initContainers"] {
        let pointer = format!("/spec/{which}");
        // Of two with one name the first counts.
        let wanted: BTreeMap<&str, &Value> = list(new, &pointer)
            .iter()
            .rev()
            .map(|one| (name_of(one), one))
            .collect();
        for container in list_mut(&mut kept, &pointer) {
            let Some(from) = wanted.get(name_of(container)) else {
                continue;
            };
            for part in ["resources", "resizePolicy"] {
                if let Some(value) = from.get(part) {
                    as_map(container).insert(part.to_owned(), value.clone());
                }
            }
        }
    }
    let metadata = new.get("metadata").cloned().unwrap_or_default();
    as_map(&mut kept).insert("metadata".to_owned(), metadata);
    *new = kept;
}

fn name_of(container: &Value) -> &str {
    text(container, "/name")
}

/// Whether it stands for a static pod.
pub(crate) fn is_mirror(pod: &Value) -> bool {
    crate::object::annotation(pod, "kubernetes.io/config.mirror").is_some()
}

/// Whether its containers are through for good.
pub(crate) fn is_finished(pod: &Value) -> bool {
    ["Succeeded", "Failed"].contains(&text(pod, "/status/phase"))
}
