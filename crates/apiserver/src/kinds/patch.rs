//! Patches: JSON (RFC 6902), merge (RFC 7386), strategic merge with the merge keys of the kinds that are served.
//!
//! In:    the object, the patch, its content type
//! Out:   the patched object, or why the patch does not apply
//! Calls: `verbs`
//! Holds: pure; object, patch and result are within `bounds`: merge patches make nothing deeper, JSON patches are limited in
//!        operations, copies, depth and work, strategic merge patches in work
//! Upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/patch.go, gopkg.in/evanphx/json-patch.v4 (1.36); differences:
//!           no apply patches yet

use serde_json::{Map, Value};

use crate::base::failure::Failure;
use crate::kinds::resources::Resource;

mod json_patch;
mod keys;
mod strategic;

/// The type of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Json,
    Merge,
    Strategic,
}

const ACCEPTED: &str = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json";

impl Kind {
    /// The type for a content type.
    pub(crate) fn of(content_type: &str) -> Result<Self, Failure> {
        let bare = content_type.split(';').next().unwrap_or_default().trim();
        match bare {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            _ => Err(Failure::unsupported_media_type(bare, ACCEPTED)),
        }
    }
}

/// Applies a patch to an object.
pub(crate) fn apply(
    resource: &Resource,
    name: &str,
    kind: Kind,
    object: &Value,
    patch: &Value,
) -> Result<Value, Failure> {
    match kind {
        Kind::Json => json_patch::apply(object, patch).map_err(|why| match why {
            json_patch::Refused::Malformed(why) => Failure::bad_request(why),
            json_patch::Refused::TooLarge(why) => Failure::too_large_because(&why),
            json_patch::Refused::DoesNotApply(why) => Failure {
                code: 422,
                reason: "Invalid",
                ..Failure::bad_request(format!(
                    "the server rejected our request due to an error in our request: {} {name:?}: {why}",
                    resource.qualified()
                ))
            },
        }),
        Kind::Merge | Kind::Strategic if !patch.is_object() => {
            Err(Failure::bad_request("the patch is not a JSON object"))
        }
        Kind::Merge => {
            let mut merged = object.clone();
            merge(&mut merged, patch);
            Ok(merged)
        }
        Kind::Strategic => {
            strategic::apply(resource.kind, object, patch).map_err(|why| match why {
                json_patch::Refused::TooLarge(why) => Failure::too_large_because(&why),
                json_patch::Refused::Malformed(why) | json_patch::Refused::DoesNotApply(why) => {
                    Failure::bad_request(why)
                }
            })
        }
    }
}

/// RFC 7386. It recurses as deep as the patch, whose depth is limited where it is parsed.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else {
        return;
    };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests;
