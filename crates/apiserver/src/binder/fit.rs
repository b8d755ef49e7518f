//! Whether a pod fits a node.
//!
//! In:    the pod, the node, all pods
//! Out:   nothing, or the reason in upstream's words
//! Calls: `binder`
//! Holds: pure
//! Upstream: pkg/scheduler/framework/plugins/{nodeunschedulable,tainttoleration,nodeaffinity,noderesources} (1.36); differences: see
//!           `binder`

use std::collections::BTreeMap;

use kubelet_model::quantity::Quantity;
use serde_json::Value;

use super::quantity;
use crate::object::{list, text};
use crate::strategy::pod::is_finished;

/// Why the pod cannot be there.
pub(super) fn problem(pod: &Value, node: &Value, pods: &[Value]) -> Option<String> {
    let tolerated = |taint: &Value| {
        list(pod, "/spec/tolerations")
            .iter()
            .any(|t| tolerates(t, taint))
    };
    if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        let cordon =
            serde_json::json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
        if !tolerated(&cordon) {
            return Some("node(s) were unschedulable".to_owned());
        }
    }
    for taint in list(node, "/spec/taints") {
        let hard = ["NoSchedule", "NoExecute"].contains(&text(taint, "/effect"));
        if hard && !tolerated(taint) {
            let (key, value) = (text(taint, "/key"), text(taint, "/value"));
            return Some(format!(
                "node(s) had untolerated taint(s) {{{key}: {value}}}"
            ));
        }
    }
    let ready = list(node, "/status/conditions")
        .iter()
        .any(|c| text(c, "/type") == "Ready" && text(c, "/status") == "True");
    if !ready {
        return Some("node(s) were not ready".to_owned());
    }
    if !selected(pod, node) {
        return Some("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    resources(pod, node, pods)
}

fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let (effect, key) = (text(toleration, "/effect"), text(toleration, "/key"));
    let effect_fits = effect.is_empty() || effect == text(taint, "/effect");
    let key_fits = key.is_empty() || key == text(taint, "/key");
    let value_fits = match text(toleration, "/operator") {
        "Exists" => true,
        _ => !key.is_empty() && text(toleration, "/value") == text(taint, "/value"),
    };
    effect_fits && key_fits && value_fits
}

fn selected(pod: &Value, node: &Value) -> bool {
    let label = |key: &str| {
        let labels = node.pointer("/metadata/labels");
        labels
            .and_then(|labels| labels.get(key))
            .and_then(Value::as_str)
    };
    let selector = pod.pointer("/spec/nodeSelector").and_then(Value::as_object);
    let by_selector = selector
        .into_iter()
        .flatten()
        .all(|(key, value)| label(key) == value.as_str());
    let terms = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let by_affinity = pod.pointer(terms).is_none()
        || list(pod, terms).iter().any(|term| {
            let expressions = list(term, "/matchExpressions");
            let fields = list(term, "/matchFields");
            let is_empty = expressions.is_empty() && fields.is_empty();
            !is_empty
                && expressions
                    .iter()
                    .all(|e| matches(e, label(text(e, "/key"))))
                && fields
                    .iter()
                    .all(|e| matches(e, Some(text(node, "/metadata/name"))))
        });
    by_selector && by_affinity
}

fn matches(expression: &Value, found: Option<&str>) -> bool {
    let values = list(expression, "/values");
    let among = found.is_some_and(|found| values.iter().any(|value| value == found));
    let first = || {
        values
            .first()
            .and_then(Value::as_str)
            .and_then(|v| v.parse::<i64>().ok())
    };
    let number = || found.and_then(|found| found.parse::<i64>().ok());
    match text(expression, "/operator") {
        "In" => among,
        "NotIn" => !among,
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => number().zip(first()).is_some_and(|(n, than)| n > than),
        "Lt" => number().zip(first()).is_some_and(|(n, than)| n < than),
        _ => false,
    }
}

type Amounts = BTreeMap<String, Quantity>;

fn amounts(value: &Value, pointer: &str) -> Amounts {
    let map = value.pointer(pointer).and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .map(|(name, amount)| (name.clone(), quantity(Some(amount))))
        .collect()
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to
            .get(name)
            .map_or_else(|| amount.clone(), |old| old.plus(amount));
        to.insert(name.clone(), sum);
    }
}

/// What a pod needs: its containers and sidecars together, or its largest init container with the sidecars before it.
fn requests(pod: &Value) -> Amounts {
    let (mut sidecars, mut most) = (Amounts::new(), Amounts::new());
    for container in list(pod, "/spec/initContainers") {
        let mut own = amounts(container, "/resources/requests");
        if text(container, "/restartPolicy") == "Always" {
            add(&mut sidecars, &own);
            own = sidecars.clone();
        } else {
            add(&mut own, &sidecars);
        }
        raise(&mut most, &own);
    }
    let mut running = sidecars;
    for container in list(pod, "/spec/containers") {
        add(&mut running, &amounts(container, "/resources/requests"));
    }
    raise(&mut running, &most);
    // What is said for the whole pod counts instead.
    running.extend(amounts(pod, "/spec/resources/requests"));
    add(&mut running, &amounts(pod, "/spec/overhead"));
    running
}

fn raise(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if to.get(name).is_none_or(|old| old < amount) {
            to.insert(name.clone(), amount.clone());
        }
    }
}

fn resources(pod: &Value, node: &Value, pods: &[Value]) -> Option<String> {
    let name = text(node, "/metadata/name");
    let there: Vec<&Value> = pods
        .iter()
        .filter(|other| text(other, "/spec/nodeName") == name && !is_finished(other))
        .collect();
    let allocatable = amounts(node, "/status/allocatable");
    let room = allocatable.get("pods").map_or(110, Quantity::value);
    if i64::try_from(there.len()).unwrap_or(i64::MAX) >= room {
        return Some("Too many pods".to_owned());
    }
    let mut used = Amounts::new();
    there
        .iter()
        .for_each(|other| add(&mut used, &requests(other)));
    let short: Vec<String> = requests(pod)
        .into_iter()
        .filter(|(_, amount)| !amount.is_zero())
        .filter(|(resource, amount)| {
            let total = used
                .get(resource)
                .map_or_else(|| amount.clone(), |used| used.plus(amount));
            allocatable.get(resource).is_none_or(|all| total > *all)
        })
        .map(|(resource, _)| format!("Insufficient {resource}"))
        .collect();
    (!short.is_empty()).then(|| short.join(", "))
}
