//! Reads and writes the metadata of an object that is held as JSON.
//!
//! In:    a `serde_json::Value` that is an API object
//! Out:   names, times, lists; changed metadata
//! Calls: everything that reads objects
//! Holds: a field that is missing or of another type reads as empty; writing creates the parent objects
//! Upstream: staging/src/k8s.io/apimachinery/pkg/apis/meta/v1 (1.36); differences: objects are not typed here

use jiff::Timestamp;
use kubelet_model::emptiness::{plain, says_same};
use serde_json::{Map, Value};

/// The text at a JSON pointer; empty if there is none.
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

/// The list at a JSON pointer; empty if there is none.
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

/// Whether the object has a deletion timestamp.
pub(crate) fn is_deleting(value: &Value) -> bool {
    value.pointer("/metadata/deletionTimestamp").is_some()
}

/// The object's finalizers.
pub(crate) fn finalizers(value: &Value) -> &[Value] {
    list(value, "/metadata/finalizers")
}

/// The map of this name, created if it is missing.
pub(crate) fn map_mut<'a>(value: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    let inner = as_map(value).entry(name.to_owned()).or_insert(Value::Null);
    as_map(inner)
}

/// The value as a map; any other value becomes an empty map.
pub(crate) fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("it was made one above"),
    }
}

/// The metadata, created if it is missing.
pub(crate) fn metadata(value: &mut Value) -> &mut Map<String, Value> {
    map_mut(value, "metadata")
}

/// The elements of a list, mutable.
pub(crate) fn list_mut<'a>(
    value: &'a mut Value,
    pointer: &str,
) -> impl Iterator<Item = &'a mut Value> {
    let list = value.pointer_mut(pointer).and_then(Value::as_array_mut);
    list.into_iter().flatten()
}

/// Sets a value where there is none.
pub(crate) fn fill(map: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    let empty = map.get(name).is_none_or(Value::is_null);
    if empty {
        map.insert(name.to_owned(), value.into());
    }
}

/// As [`fill`]; an empty text counts as no value.
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

/// Sets `name` in `new` to its value in `old`.
pub(crate) fn keep(new: &mut Value, old: &Value, name: &str) {
    match old.get(name) {
        Some(value) => drop(as_map(new).insert(name.to_owned(), value.clone())),
        None => drop(as_map(new).remove(name)),
    }
}

/// A `Time` as the API writes it: whole seconds.
pub(crate) fn time(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second())
        .unwrap_or(at)
        .to_string()
}

/// A `MicroTime` as the API writes it: always six digits of a second.
pub(crate) fn micro_time(at: Timestamp) -> String {
    let micros = at.subsec_nanosecond().max(0) / 1000;
    format!("{}.{micros:06}Z", time(at).trim_end_matches('Z'))
}

/// Parses a time that the API wrote.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// Whether two states of an object are equal apart from their versions. Empty equals absent.
pub(crate) fn same_content(one: &Value, other: &Value) -> bool {
    let stripped = |value: &Value| {
        let mut value = value.clone();
        metadata(&mut value).remove("resourceVersion");
        value
    };
    let (one, other) = (stripped(one), stripped(other));
    one == other || plain(one) == plain(other)
}

/// Whether the fields at a JSON pointer are equal. Empty equals absent.
pub(crate) fn says_same_at(pointer: &str, one: &Value, other: &Value) -> bool {
    let name = pointer.rsplit('/').next().unwrap_or_default();
    says_same(name, one.pointer(pointer), other.pointer(pointer))
}
