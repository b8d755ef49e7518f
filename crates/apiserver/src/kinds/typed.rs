//! Decodes objects by the types of their kinds: values that do not fit are refused, unknown fields are dropped.
//!
//! In:    an object and its row
//! Out:   the object with known fields only, or why it is refused
//! Calls: `registry` for everything that is stored; `verbs` and `subresources` for request bodies
//! Holds: unknown fields are never stored, so that no client can hide a tree in a field of its own; a stored object is within
//!        `bounds`
//! Upstream: typed decoding, staging/src/k8s.io/apiserver/pkg/endpoints/handlers/{create,update,patch}.go (1.36); differences:
//!           an unknown field that is null is kept

use std::collections::BTreeSet;

use serde_json::Value;

use crate::base::bounds::{Excess, MEMORY, Measure};
use crate::base::failure::Failure;
use crate::kinds::resources::Resource;
use crate::kinds::schema;

/// Refuses values that do not fit the kind's types, and drops unknown fields.
pub(crate) fn conform(resource: &Resource, object: &mut Value) -> Result<(), Failure> {
    if let Some(convert) = resource.strategy.convert {
        (convert.shown)(object);
    }
    let known = (resource.check)(object).map_err(|why| {
        let (kind, version) = (resource.kind, resource.version);
        Failure::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
        ))
    })?;
    drop_unknown(object, &known);
    if let Some(convert) = resource.strategy.convert {
        (convert.stored)(object);
    }
    match Measure::of(object, MEMORY) {
        Ok(_) => Ok(()),
        Err(Excess::Deep) => Err(Failure::bad_request("exceeded max depth")),
        Err(Excess::Large) => Err(Failure::too_large_because("the object has too many values")),
    }
}

/// Recurses as deep as the types.
fn drop_unknown(object: &mut Value, known: &Value) {
    match (object, known) {
        (Value::Object(object), Value::Object(known)) => {
            object.retain(|name, value| match known.get(name) {
                Some(known) => {
                    drop_unknown(value, known);
                    true
                }
                None => value.is_null(),
            });
        }
        (Value::Array(object), Value::Array(known)) => {
            for (object, known) in object.iter_mut().zip(known) {
                drop_unknown(object, known);
            }
        }
        _ => {}
    }
}

/// Refuses a request body that does not fit its kind, before anything else is done with it.
pub(crate) fn fits(api_version: &str, kind: &str, sent: &Value) -> Result<(), Failure> {
    let message = schema::of_kind(api_version, kind);
    match message.and_then(|message| schema::mismatch(message, sent)) {
        None => Ok(()),
        Some(why) => {
            let version = api_version.rsplit('/').next().unwrap_or_default();
            Err(Failure::bad_request(format!(
                "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
            )))
        }
    }
}

/// The unknown fields of a request body; those that the stored object already has do not count.
pub(crate) fn unknown(resource: &Resource, sent: &Value, old: Option<&Value>) -> Vec<String> {
    let Some(message) = schema::of_kind(&resource.api_version(), resource.kind) else {
        return Vec::new();
    };
    let before = old.map(|old| schema::unknown(message, old));
    let before: BTreeSet<String> = before.unwrap_or_default().into_iter().collect();
    let mut unknown = schema::unknown(message, sent);
    unknown.retain(|field| !before.contains(field));
    unknown
}
