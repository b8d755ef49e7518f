//! Quantities in canonical form.
//!
//! In:    a map of quantities, or one; JSON numbers are accepted
//! Out:   canonical texts; an invalid quantity stays as it is, validation reports it
//! Calls: the defaults of pods, nodes, volumes
//! Holds: pure
//! Upstream: staging/src/k8s.io/apimachinery/pkg/api/resource/quantity.go (1.36); differences: none

use kubelet_model::quantity::Quantity;
use serde_json::Value;

/// Rewrites each quantity of a map in canonical form.
pub(crate) fn normalize(map: &mut Value) {
    for (_, value) in map.as_object_mut().into_iter().flatten() {
        if let Some(quantity) = read(value) {
            *value = quantity.to_string().into();
        }
    }
}

/// Reads a quantity from a text or a number.
pub(crate) fn read(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}
