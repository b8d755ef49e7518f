//! What differs between two Node objects, as the patch that the API server merges.
//!
//! In:    the object as it is, the object as it should be
//! Out:   a strategic merge patch for `nodes/NAME/status`, or nothing
//! Calls: act/node/node_status
//! Holds: the spec is never part of it; conditions are merged one by one, addresses are replaced as a whole; empty equals absent
//! Upstream: pkg/util/node, component-helpers/node/util/status.go (PatchNodeStatus, fixupPatchForNodeStatusAddresses),
//!           apimachinery/pkg/util/strategicpatch

use k8s_openapi::api::core::v1::Node;
use kubelet_model::emptiness::{is_map, says_nothing, says_same};
use serde_json::{Map, Value, json};

/// The patch; `None` when nothing differs.
pub fn node_patch(existing: &Node, wanted: &Node) -> Option<Value> {
    let mut patch = Map::new();
    for (field, existing, wanted) in [
        ("metadata", json!(existing.metadata), json!(wanted.metadata)),
        ("status", json!(existing.status), json!(wanted.status)),
    ] {
        if let Some(part) = difference(&existing, &wanted, field) {
            patch.insert(field.to_owned(), part);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Objects field by field; everything else as a whole; a field that is gone is null.
fn difference(existing: &Value, wanted: &Value, at: &str) -> Option<Value> {
    let name = at.rsplit('.').next().unwrap_or_default();
    if says_same(name, Some(existing), Some(wanted)) {
        return None;
    }
    let (Some(old), Some(new)) = (existing.as_object(), wanted.as_object()) else {
        return Some(wanted.clone());
    };
    // An empty value of a map is one.
    let is_map = is_map(name);
    let same = |field: &str, one: &Value, other: &Value| {
        one == other || !is_map && says_same(field, Some(one), Some(other))
    };
    let mut patch = Map::new();
    for (field, value) in new {
        let before = old.get(field).unwrap_or(&Value::Null);
        let path = format!("{at}.{field}");
        match path.as_str() {
            _ if same(field, before, value) => {}
            _ if is_map => drop(patch.insert(field.clone(), value.clone())),
            "status.conditions" => conditions(before, value, &mut patch),
            "status.addresses" => {
                // Quirk: the server would merge addresses by their type, of which there may be two.
                let mut all = value.as_array().cloned().unwrap_or_default();
                all.push(json!({ "$patch": "replace" }));
                patch.insert(field.clone(), Value::Array(all));
            }
            _ => {
                if let Some(part) = difference(before, value, &path) {
                    patch.insert(field.clone(), part);
                }
            }
        }
    }
    let gone = old.iter().filter(|(field, value)| {
        !new.contains_key(*field) && (is_map || !says_nothing(field, value))
    });
    for (field, _) in gone {
        patch.insert(field.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Conditions that differ, and the order of all.
fn conditions(existing: &Value, wanted: &Value, patch: &mut Map<String, Value>) {
    let nothing = Vec::new();
    let old = existing.as_array().unwrap_or(&nothing);
    let new = wanted.as_array().unwrap_or(&nothing);
    let same_type = |a: &Value, b: &Value| a.get("type") == b.get("type");
    let mut changed = Vec::new();
    for condition in new {
        let before = old.iter().find(|before| same_type(before, condition));
        let before = before.cloned().unwrap_or_else(|| json!({}));
        if let Some(mut part) = difference(&before, condition, "condition") {
            if let (Some(part), Some(type_)) = (part.as_object_mut(), condition.get("type")) {
                part.insert("type".to_owned(), type_.clone());
            }
            changed.push(part);
        }
    }
    let gone = old
        .iter()
        .filter(|before| !new.iter().any(|now| same_type(before, now)));
    let gone = gone.filter_map(|before| before.get("type"));
    changed.extend(gone.map(|type_| json!({ "$patch": "delete", "type": type_ })));
    let order = new.iter().filter_map(|condition| condition.get("type"));
    let order = order.map(|type_| json!({ "type": type_ }));
    let order = Value::Array(order.collect());
    patch.insert("$setElementOrder/conditions".to_owned(), order);
    patch.insert("conditions".to_owned(), Value::Array(changed));
}
