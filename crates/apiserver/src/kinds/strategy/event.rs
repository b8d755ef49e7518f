//! Events in the form of `events.k8s.io` and in that of the core group, which is the one that is stored.
//!
//! In:    an event in one form
//! Out:   the same in the other
//! Calls: the strategy of events
//! Holds: both ways keep everything
//! Upstream: pkg/apis/events/v1/conversion.go (1.36); differences: none

use serde_json::Value;

use crate::base::object::as_map;

/// Core name, then the newer one.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// To `events.k8s.io/v1`.
pub(crate) fn to_new(event: &mut Value) {
    for (old, new) in NAMES {
        rename(event, old, new);
    }
    as_map(event).insert("apiVersion".to_owned(), "events.k8s.io/v1".into());
}

/// To `v1`.
pub(crate) fn from_new(event: &mut Value) {
    for (old, new) in NAMES {
        rename(event, new, old);
    }
    as_map(event).insert("apiVersion".to_owned(), "v1".into());
}

fn rename(event: &mut Value, from: &str, to: &str) {
    let map = as_map(event);
    if let Some(value) = map.remove(from) {
        map.insert(to.to_owned(), value);
    }
}
