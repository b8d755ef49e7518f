//! The strategy of pods: what is reset at creation, and what each subresource may change.
//!
//! In:    the pod in the request, and the stored one
//! Out:   the pod to be stored
//! Calls: `strategy`, `registry` (subresources)
//! Holds: pure
//! Upstream: pkg/registry/core/pod/strategy.go (1.36)

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::quantities;
use crate::base::object::{as_map, list, list_mut, map_mut, text};
use crate::base::pod::CONTAINER_LISTS;

mod defaults;

pub(super) use defaults::default;

/// A new pod is Pending, whatever its status says.
pub(super) fn create(pod: &mut Value) {
    let qos = qos_class(pod);
    let status = json!({"phase": "Pending", "qosClass": qos});
    as_map(pod).insert("status".to_owned(), status);
}

/// Every container with the name of its list and its index in it.
fn containers(pod: &Value) -> impl Iterator<Item = (&'static str, usize, &Value)> {
    CONTAINER_LISTS.into_iter().flat_map(move |which| {
        let all = list(pod, &format!("/spec/{which}")).iter().enumerate();
        all.map(move |(index, container)| (which, index, container))
    })
}

/// `Guaranteed` if every container has equal requests and limits for CPU and memory, `BestEffort` if none has any.
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

/// `ephemeralcontainers`: ephemeral containers may be added, nothing else changes.
pub(crate) fn only_ephemeral_containers(new: &mut Value, old: &Value) {
    let added = new.pointer("/spec/ephemeralContainers").cloned();
    let metadata = new.get("metadata").cloned().unwrap_or_default();
    let mut kept = old.clone();
    if let Some(added) = added {
        map_mut(&mut kept, "spec").insert("ephemeralContainers".to_owned(), added);
    } else {
        map_mut(&mut kept, "spec").remove("ephemeralContainers");
    }
    as_map(&mut kept).insert("metadata".to_owned(), metadata);
    *new = kept;
}

/// `resize`: resources and resize policies of containers change, nothing else.
pub(crate) fn only_resources(new: &mut Value, old: &Value) {
    let mut kept = old.clone();
    for which in ["containers", "initContainers"] {
        let pointer = format!("/spec/{which}");
        // If a name occurs twice, the first one counts.
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

/// Whether the pod is terminal.
pub(crate) fn is_finished(pod: &Value) -> bool {
    ["Succeeded", "Failed"].contains(&text(pod, "/status/phase"))
}
