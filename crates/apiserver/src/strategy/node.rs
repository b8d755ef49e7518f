//! The rules of nodes.
//!
//! In:    a node
//! Out:   allocatable filled, quantities canonical; what may not change
//! Calls: `strategy`
//! Holds: pure
//! Upstream: pkg/registry/core/node/strategy.go, pkg/apis/core/v1/defaults.go (1.36); differences: taints are not validated

use serde_json::Value;

use super::quantities;
use crate::failure::Cause;
use crate::object::{as_map, text};

pub(super) fn default(node: &mut Value) {
    for list in ["capacity", "allocatable"] {
        if let Some(quantities) = node.pointer_mut(&format!("/status/{list}")) {
            quantities::normalize(quantities);
        }
    }
    let has_status = node.get("status").is_some_and(Value::is_object);
    if has_status
        && node.pointer("/status/allocatable").is_none()
        && let Some(capacity) = node.pointer("/status/capacity").cloned()
        && let Some(status) = node.get_mut("status")
    {
        as_map(status).insert("allocatable".to_owned(), capacity);
    }
}

pub(super) fn validate(new: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let Some(old) = old else { return causes };
    for (pointer, field) in [
        ("/spec/podCIDR", "spec.podCIDR"),
        ("/spec/providerID", "spec.providerID"),
    ] {
        let before = text(old, pointer);
        if !before.is_empty() && before != text(new, pointer) {
            let detail = "node updates may not change it once it is set";
            causes.push(Cause::forbidden(field, detail));
        }
    }
    causes
}
