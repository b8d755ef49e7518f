//! Objects as the types of their kinds have them: what does not fit is refused, what is unknown is dropped.
//!
//! In:    an object and its row
//! Out:   the object with known fields only, or why it is not taken
//! Calls: `registry` for everything that is kept; `verbs` for `fieldValidation=Strict`
//! Holds: nothing is kept that the kind's types do not know, so that nobody hides a tree in a field of his own; what is kept is
//!        within `bounds`
//! Upstream: typed decoding, staging/src/k8s.io/apiserver/pkg/endpoints/handlers/{create,update,patch}.go (1.36); differences: an
//!           unknown field that is null stays

use serde_json::Value;

use crate::bounds::{Excess, MEMORY, Measure};
use crate::failure::Failure;
use crate::resources::Resource;

/// Refuses what does not fit the kind's types, and drops what they do not know.
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

/// Goes as deep as the types do.
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

/// For `fieldValidation=Strict`: refuses what the kind's types do not know.
pub(crate) fn check_strictly(
    resource: &Resource,
    sent: &Value,
    old: Option<&Value>,
) -> Result<(), Failure> {
    let all_unknown = |object: &Value| {
        let mut unknown = Vec::new();
        // What does not fit at all is told of later, with all else that is wrong.
        if let Ok(known) = (resource.check)(object) {
            unknown_fields(object, &known, "", &mut unknown);
        }
        unknown
    };
    let before = old.map(all_unknown).unwrap_or_default();
    let before: std::collections::BTreeSet<String> = before.into_iter().collect();
    let mut unknown = all_unknown(sent);
    // What somebody else put there is not this request's fault.
    unknown.retain(|field| !before.contains(field));
    if unknown.is_empty() {
        return Ok(());
    }
    let (kind, version) = (resource.kind, resource.version);
    let fields: Vec<String> = unknown
        .iter()
        .map(|f| format!("unknown field {f:?}"))
        .collect();
    Err(Failure::bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: {}",
        fields.join(", ")
    )))
}

fn unknown_fields(sent: &Value, known: &Value, path: &str, unknown: &mut Vec<String>) {
    match (sent, known) {
        (Value::Object(sent), Value::Object(known)) => {
            for (name, value) in sent.iter().filter(|(_, value)| !value.is_null()) {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                match known.get(name) {
                    Some(known) => unknown_fields(value, known, &path, unknown),
                    None => unknown.push(path),
                }
            }
        }
        (Value::Array(sent), Value::Array(known)) => {
            for (index, (sent, known)) in sent.iter().zip(known).enumerate() {
                unknown_fields(sent, known, &format!("{path}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}
