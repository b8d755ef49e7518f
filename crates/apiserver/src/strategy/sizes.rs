//! How large the parts of an object may be.
//!
//! In:    an object
//! Out:   what of it is too large
//! Calls: `registry` (annotations, of every kind), the rows of config maps and secrets
//! Holds: bytes count as they are used, not as JSON or base64 has them
//! Upstream: pkg/apis/core/validation (ValidateConfigMap, ValidateSecret), apimachinery/pkg/api/validation (TotalAnnotationSizeLimitB)

use serde_json::Value;

use crate::encoding::from_base64;
use crate::failure::Cause;

/// All values of a config map, or of a secret.
const DATA_BYTES: usize = 1 << 20;
/// All annotations, names and values.
const ANNOTATION_BYTES: usize = 256 << 10;

/// Annotations.
pub(crate) fn annotations(object: &Value) -> Option<Cause> {
    let all = object.pointer("/metadata/annotations")?.as_object()?;
    let bytes = |(name, value): (&String, &Value)| name.len() + plain(value);
    let total: usize = all.iter().map(bytes).sum();
    (total > ANNOTATION_BYTES).then(|| Cause::too_long("metadata.annotations", ANNOTATION_BYTES))
}

/// A config map's data; upstream names no field.
pub(crate) fn config_map(object: &Value) -> Option<Cause> {
    let total = sum(object, "data", plain) + sum(object, "binaryData", binary);
    (total > DATA_BYTES).then(|| Cause::too_long("[]", DATA_BYTES))
}

/// A secret's data.
pub(crate) fn secret(object: &Value) -> Option<Cause> {
    let total = sum(object, "data", binary);
    (total > DATA_BYTES).then(|| Cause::too_long("data", DATA_BYTES))
}

fn sum(object: &Value, field: &str, bytes: fn(&Value) -> usize) -> usize {
    let all = object.get(field).and_then(Value::as_object);
    all.into_iter()
        .flat_map(|all| all.values())
        .map(bytes)
        .sum()
}

fn plain(value: &Value) -> usize {
    value.as_str().map_or(0, str::len)
}

fn binary(value: &Value) -> usize {
    let bytes = value.as_str().and_then(from_base64);
    bytes.map_or(0, |bytes| bytes.len())
}
