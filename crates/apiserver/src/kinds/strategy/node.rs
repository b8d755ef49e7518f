//! The strategy of Nodes.
//!
//! In:    a node
//! Out:   allocatable defaulted to capacity, canonical quantities
//! Calls: `strategy`
//! Holds: pure
//! Upstream: pkg/registry/core/node/strategy.go, pkg/apis/core/v1/defaults.go (1.36); differences: none

use serde_json::Value;

use super::quantities;
use crate::base::object::as_map;

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
