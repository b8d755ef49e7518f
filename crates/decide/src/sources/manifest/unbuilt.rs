//! Which fields of a pod this kubelet cannot honour yet.
//!
//! In:    a pod with its defaults, and where it comes from
//! Out:   paths of fields that are used and not built; such a pod is held Pending with a reason that names them
//! Calls: admission of static pods, and `hyperkube validate`
//! Holds: the tables list every field of the API's pod; a field that is in no table counts as not built, so nothing
//!        new in the API is ignored in silence, and a test fails when the generated types grow
//! Upstream: none

mod tables;

use k8s_openapi::api::core::v1::Pod;
use kubelet_model::pod::SourceKind;
use serde_json::{Map, Value};

/// What is known of one field.
#[derive(Clone, Copy)]
enum Field {
    /// Honoured; the value has no fields of its own.
    Built,
    /// Honoured; the value is a map, whose keys are no fields.
    BuiltMap,
    /// Has no meaning on this node for a static pod: scheduling, Windows.
    Ignored,
    /// Not honoured.
    Unbuilt,
    /// Honoured for a pod of the API server; a static pod may not refer to the API's objects.
    OfApi,
    /// Honoured unless the value is so.
    UnbuiltIf(fn(&Value) -> bool),
    /// Look into the object, or into each object of the list.
    Into(&'static [(&'static str, Field)]),
}

/// Paths of the fields that a static pod uses and that are not built, such as `spec.containers[0].livenessProbe`.
pub fn unbuilt_fields(pod: &Pod) -> Vec<String> {
    unbuilt_fields_from(pod, SourceKind::File)
}

/// The same for a pod of this source: what refers to objects of the API is built for pods of the API.
pub fn unbuilt_fields_from(pod: &Pod, source: SourceKind) -> Vec<String> {
    let mut found = Vec::new();
    if let Ok(Value::Object(spec)) = serde_json::to_value(&pod.spec) {
        walk("spec", &spec, (tables::POD_SPEC, source), &mut found);
    }
    found
}

/// The fields of a type, and where the pod comes from.
type Table<'a> = (&'a [(&'a str, Field)], SourceKind);

fn walk(path: &str, object: &Map<String, Value>, table: Table<'_>, found: &mut Vec<String>) {
    let (table, source) = table;
    for (name, value) in object {
        if is_absent(value) {
            continue;
        }
        let at = format!("{path}.{name}");
        let known = table.iter().find(|(field, _)| field == name);
        match known.map(|(_, field)| *field) {
            Some(Field::Built | Field::BuiltMap | Field::Ignored) => {}
            Some(Field::UnbuiltIf(so)) if !so(value) => {}
            Some(Field::OfApi) if source == SourceKind::Api => {}
            Some(Field::Into(inner)) => descend(&at, value, (inner, source), found),
            Some(Field::OfApi | Field::Unbuilt | Field::UnbuiltIf(_)) | None => found.push(at),
        }
    }
}

fn descend(path: &str, value: &Value, table: Table<'_>, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => walk(path, object, table, found),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                descend(&format!("{path}[{index}]"), item, table, found);
            }
        }
        // A table for something that has no fields: not understood, so not built.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            found.push(path.to_owned())
        }
    }
}

/// What Go leaves out of its text: such a value asks for nothing.
fn is_absent(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests;
