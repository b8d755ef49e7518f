//! Reads resource amounts.
//!
//! In:    a list of resources
//! Out:   one amount
//! Calls: pod, claims
//! Holds: an amount that cannot be parsed is reported elsewhere, and counts as absent here
//! Upstream: none

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use kubelet_model::quantity::Quantity;

/// The amount of a resource, if it can be parsed.
pub(crate) fn amount_of(amounts: &BTreeMap<String, Written>, name: &str) -> Option<Quantity> {
    amounts.get(name)?.0.parse().ok()
}
