//! Adds to a pod what its RuntimeClass defines: the sandbox's overhead, and node selector and tolerations.
//!
//! In:    a new pod, the RuntimeClasses
//! Out:   the pod with `overhead`, `nodeSelector` and `tolerations` of its class, or 403
//! Calls: `admission`, for new pods
//! Holds: a pod has exactly the overhead of its class
//! Upstream: plugin/pkg/admission/runtimeclass/admission.go (1.36)

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::base::failure::Failure;
use crate::base::object::{self, list, map_mut, text};
use crate::base::pod::is_mirror;
use crate::kinds::resources::Resource;
use crate::kinds::strategy::quantities;
use crate::registry::Registry;

const DIFFERS: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

/// A mirror pod is left as its static pod is.
pub(super) fn admit(
    registry: &Registry,
    resource: &Resource,
    pod: &mut Value,
) -> Result<(), Failure> {
    if is_mirror(pod) {
        return Ok(());
    }
    let name = text(pod, "/spec/runtimeClassName").to_owned();
    let refuse = |pod: &Value, why: &str| Failure::forbidden(resource, object::name(pod), why);
    let class = match name.as_str() {
        "" => None,
        name => {
            let class = registry.value("runtimeclasses.node.k8s.io", "", name);
            let why = || format!("pod rejected: RuntimeClass \"{name}\" not found");
            Some(class.ok_or_else(|| refuse(pod, &why()))?)
        }
    };
    let class = class.unwrap_or_default();
    match class.get("overhead") {
        Some(overhead) => {
            let fixed = overhead.get("podFixed").cloned().unwrap_or_default();
            let given = pod.pointer("/spec/overhead");
            if given.is_some_and(|given| amounts(given) != amounts(&fixed)) {
                return Err(refuse(pod, DIFFERS));
            }
            if fixed.is_object() {
                map_mut(pod, "spec").insert("overhead".to_owned(), fixed);
            }
        }
        None if pod.pointer("/spec/overhead").is_some() => {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            return Err(refuse(pod, why));
        }
        None => {}
    }
    schedule(&class, pod).map_err(|why| refuse(pod, &why))
}

/// Amounts by value: `1000m` equals `1`.
fn amounts(of: &Value) -> BTreeMap<&str, Option<String>> {
    let all = of.as_object().into_iter().flatten();
    let read = |amount| quantities::read(amount).map(|amount| amount.to_string());
    all.map(|(name, amount)| (name.as_str(), read(amount)))
        .collect()
}

/// Merges the class's node selector and tolerations into the pod.
fn schedule(class: &Value, pod: &mut Value) -> Result<(), String> {
    let selector = class.pointer("/scheduling/nodeSelector");
    let selector = selector.and_then(Value::as_object).cloned();
    let of_pod = pod.pointer("/spec/nodeSelector").and_then(Value::as_object);
    let mut merged: Map<String, Value> = of_pod.cloned().unwrap_or_default();
    for (key, value) in selector.into_iter().flatten() {
        if merged.get(&key).is_some_and(|given| *given != value) {
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                value.as_str().unwrap_or_default(),
                text(
                    pod,
                    &format!(
                        "/spec/nodeSelector/{}",
                        key.replace('~', "~0").replace('/', "~1")
                    )
                )
            ));
        }
        merged.insert(key, value);
    }
    let added = list(class, "/scheduling/tolerations").to_vec();
    let spec = map_mut(pod, "spec");
    if !merged.is_empty() {
        spec.insert("nodeSelector".to_owned(), merged.into());
    }
    if !added.is_empty() {
        let all = spec.entry("tolerations").or_insert_with(|| json!([]));
        if let Some(all) = all.as_array_mut() {
            let new: Vec<Value> = added.into_iter().filter(|one| !all.contains(one)).collect();
            all.extend(new);
        }
    }
    Ok(())
}
