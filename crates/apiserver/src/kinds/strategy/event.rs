//! Converts events between `events.k8s.io` and the core group, whose form is stored.
//!
//! In:    an event in one form
//! Out:   the event in the other form
//! Calls: the strategy of events
//! Holds: both conversions keep everything
//! Upstream: pkg/apis/events/v1/conversion.go (1.36); differences: none

use serde_json::Value;

use crate::base::object::as_map;

/// The name in the core group, then the one in `events.k8s.io`.
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
