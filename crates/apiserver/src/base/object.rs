//! Reading and writing the metadata of an object that is kept as JSON.
//!
//! In:    a `serde_json::Value` that is an API object
//! Out:   names, times, lists; changed metadata
//! Calls: everything that looks into objects
//! Holds: a part that is missing or of another type reads as empty; writing makes the objects on the way
//! Upstream: staging/src/k8s.io/apimachinery/pkg/apis/meta/v1 (1.36); differences: objects are not typed here

use jiff::Timestamp;
use kubelet_model::emptiness::{plain, says_same};
use serde_json::{Map, Value};

/// The text at a JSON pointer, or nothing.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The number at a JSON pointer.
pub(crate) fn number(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

/// The list at a JSON pointer, or nothing.
pub(crate) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The object's name.
pub(crate) fn name(value: &Value) -> &str {
    text(value, "/metadata/name")
}

/// The object's namespace.
pub(crate) fn namespace(value: &Value) -> &str {
    text(value, "/metadata/namespace")
}

/// The object's UID.
pub(crate) fn uid(value: &Value) -> &str {
    text(value, "/metadata/uid")
}

/// An annotation.
pub(crate) fn annotation<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value
        .pointer("/metadata/annotations")
        .and_then(|all| all.get(key))
        .and_then(Value::as_str)
}

/// Whether the object is being removed.
pub(crate) fn is_deleting(value: &Value) -> bool {
    value.pointer("/metadata/deletionTimestamp").is_some()
}

/// The object's finalizers.
pub(crate) fn finalizers(value: &Value) -> &[Value] {
    list(value, "/metadata/finalizers")
}

/// The map of this name, made if it is not there.
pub(crate) fn map_mut<'a>(value: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    let inner = as_map(value).entry(name.to_owned()).or_insert(Value::Null);
    as_map(inner)
}

/// The value as a map; anything else becomes an empty one.
pub(crate) fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("it was made one above"),
    }
}

/// The metadata.
pub(crate) fn metadata(value: &mut Value) -> &mut Map<String, Value> {
    map_mut(value, "metadata")
}

/// The elements of a list, for changing.
pub(crate) fn list_mut<'a>(
    value: &'a mut Value,
    pointer: &str,
) -> impl Iterator<Item = &'a mut Value> {
    let list = value.pointer_mut(pointer).and_then(Value::as_array_mut);
    list.into_iter().flatten()
}

/// Puts a value where there is none.
pub(crate) fn fill(map: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    let empty = map.get(name).is_none_or(Value::is_null);
    if empty {
        map.insert(name.to_owned(), value.into());
    }
}

/// As [`fill`], and an empty text counts as none.
pub(crate) fn fill_text(map: &mut Map<String, Value>, name: &str, value: &str) {
    if map
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .is_empty()
    {
        map.insert(name.to_owned(), value.into());
    }
}

/// Makes `name` of `new` what it is in `old`.
pub(crate) fn keep(new: &mut Value, old: &Value, name: &str) {
    match old.get(name) {
        Some(value) => drop(as_map(new).insert(name.to_owned(), value.clone())),
        None => drop(as_map(new).remove(name)),
    }
}

/// A time as the API writes it: whole seconds.
pub(crate) fn time(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second())
        .unwrap_or(at)
        .to_string()
}

/// A time of the API's finer kind: microseconds, always six digits.
pub(crate) fn micro_time(at: Timestamp) -> String {
    let micros = at.subsec_nanosecond().max(0) / 1000;
    format!("{}.{micros:06}Z", time(at).trim_end_matches('Z'))
}

/// A time that the API wrote.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// Whether two states of an object say the same, whatever their versions. Empty equals absent.
pub(crate) fn same_content(one: &Value, other: &Value) -> bool {
    let stripped = |value: &Value| {
        let mut value = value.clone();
        metadata(&mut value).remove("resourceVersion");
        value
    };
    let (one, other) = (stripped(one), stripped(other));
    one == other || plain(one) == plain(other)
}

/// Whether the members at a JSON pointer say the same. Empty equals absent.
pub(crate) fn says_same_at(pointer: &str, one: &Value, other: &Value) -> bool {
    let name = pointer.rsplit('/').next().unwrap_or_default();
    says_same(name, one.pointer(pointer), other.pointer(pointer))
}
