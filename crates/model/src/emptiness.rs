//! Empty equals absent: which fields of an API object carry no information.
//!
//! In:    JSON of API objects, from a client or from another serializer
//! Out:   whether two values are equal in meaning; an object without empty fields
//! Calls: every comparison of two states of an object: decide's status_write and node_status, the API server's registry and
//!        admission
//! Holds: an empty list, an empty map of keys and values, an empty text and null equal a missing field; an empty struct
//!        (`emptyDir: {}`, `selector: {}`) has a meaning and is kept; keys and values of a map are data and are kept; depth is
//!        limited
//! Upstream: `omitempty` of staging/src/k8s.io/api types, equality.Semantic of apimachinery/pkg/api/equality (1.36): there the
//!           types define which field is a map and which is a struct, here its name does

use serde_json::{Map, Value};

/// Fields that are maps of keys to values. All other object fields are structs.
const MAPS: [&str; 18] = [
    "allocatable",
    "allocatedResources",
    "annotations",
    "binaryData",
    "capacity",
    "data",
    "hard",
    "labels",
    "limits",
    "matchLabels",
    "nodeSelector",
    "options",
    "overhead",
    "parameters",
    "requests",
    "stringData",
    "used",
    "volumeAttributes",
];
/// The only kind whose selector is a map of this form, and its path.
const SERVICE: (&str, &str) = ("Service", "/spec/selector");
/// Structs that are never nil in upstream's types, so that an empty one equals a missing one.
const ALWAYS_THERE: [&str; 9] = [
    "daemonEndpoints",
    "lastState",
    "loadBalancer",
    "metadata",
    "nodeInfo",
    "resources",
    "spec",
    "state",
    "status",
];
/// Text fields whose empty value differs from a missing one.
const TEXTS: [&str; 2] = ["storageClassName", "volumeAttributesClassName"];
/// The depth to which JSON is read; deeper values are left as they are.
const DEPTH: usize = 128;

/// Which fields are dropped.
#[derive(Clone, Copy, PartialEq)]
enum Goes {
    /// Those that upstream's serializer never writes.
    Unwritten,
    /// All that carry no information.
    Silent,
}

/// Drops what upstream's serializer never writes: nulls, empty lists and empty maps of keys and values.
pub fn drop_empty(value: &mut Value) {
    drop_empty_selector(value);
    drop_members(value, Goes::Unwritten, DEPTH);
}

/// The value without any empty field, for comparing two states of an object.
#[must_use]
pub fn plain(mut value: Value) -> Value {
    drop_empty_selector(&mut value);
    drop_members(&mut value, Goes::Silent, DEPTH);
    value
}

/// Whether two values of a field are equal in meaning. `None` and null stand for a missing field.
pub fn says_same(name: &str, one: Option<&Value>, other: Option<&Value>) -> bool {
    if one == other {
        return true;
    }
    let said = |value: Option<&Value>| {
        let value = plain_member(name, value?.clone());
        (!is_silent(name, &value, Goes::Silent)).then_some(value)
    };
    said(one) == said(other)
}

/// Whether a field with this value carries no information.
pub fn says_nothing(name: &str, value: &Value) -> bool {
    says_same(name, Some(value), None)
}

/// The selector of a Service is a map; an empty one selects nothing, like a missing one.
fn drop_empty_selector(object: &mut Value) {
    let (kind, at) = SERVICE;
    let is_empty = |selector: &Value| selector.as_object().is_some_and(Map::is_empty);
    if object.get("kind").and_then(Value::as_str) == Some(kind)
        && let Some(selector) = object.pointer_mut(at)
        && is_empty(selector)
    {
        *selector = Value::Null;
    }
}

/// Whether an object field with this name is a map of keys and values.
pub fn is_map(name: &str) -> bool {
    MAPS.contains(&name)
}

/// The same for a selector, by its content: a selector struct has no text values.
fn is_map_with(name: &str, value: &Value) -> bool {
    value.as_object().is_some_and(|members| {
        let has_texts = !members.is_empty() && members.values().all(Value::is_string);
        is_map(name) || name == "selector" && has_texts
    })
}

fn plain_member(name: &str, value: Value) -> Value {
    if is_map_with(name, &value) {
        value
    } else {
        plain(value)
    }
}

fn drop_members(value: &mut Value, goes: Goes, depth: usize) {
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    match value {
        Value::Object(members) => drop_of_object(members, goes, depth),
        Value::Array(elements) => {
            for element in elements {
                drop_members(element, goes, depth);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn drop_of_object(members: &mut Map<String, Value>, goes: Goes, depth: usize) {
    members.retain(|name, value| {
        let is_map = is_map_with(name, value);
        if !is_map {
            drop_members(value, goes, depth);
        }
        !is_silent(name, value, goes)
    });
}

fn is_silent(name: &str, value: &Value, goes: Goes) -> bool {
    match value {
        Value::Null => true,
        Value::Array(elements) => elements.is_empty(),
        Value::Object(members) if members.is_empty() => {
            is_map(name) || goes == Goes::Silent && ALWAYS_THERE.contains(&name)
        }
        Value::String(text) => goes == Goes::Silent && text.is_empty() && !TEXTS.contains(&name),
        Value::Object(_) | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_says_nothing_is_the_same_as_nothing() {
        let silent = [
            ("labels", json!({})),
            ("labels", Value::Null),
            ("podIPs", json!([])),
            ("containerStatuses", json!([])),
            ("conditions", json!([])),
            ("message", json!("")),
            ("resources", json!({"limits": {}, "claims": []})),
            ("metadata", json!({"labels": {}, "creationTimestamp": null})),
        ];
        for (name, value) in silent {
            assert!(says_nothing(name, &value), "{name}: {value}");
            assert!(says_same(name, None, Some(&value)), "{name}: {value}");
        }
    }

    #[test]
    fn only_the_selector_of_a_service_is_a_map() {
        for (kind, is_map) in [("Service", true), ("PersistentVolumeClaim", false)] {
            let object = |selector| json!({"kind": kind, "spec": {"selector": selector}});
            let mut empty = object(json!({}));
            let without = json!({"kind": kind, "spec": {"selector": null}});
            assert_eq!(plain(empty.clone()) == plain(without), is_map, "{kind}");
            drop_empty(&mut empty);
            assert_eq!(empty["spec"] == json!({}), is_map, "{kind}");
            let some = object(json!({"app": ""}));
            assert_eq!(plain(some.clone()), some);
        }
        let volume = |options| json!({"driver": "d", "options": options});
        assert_eq!(plain(volume(json!({}))), json!({"driver": "d"}));
        let given = volume(json!({"a": ""}));
        assert_eq!(plain(given.clone()), given);
    }

    #[test]
    fn what_says_something_stays() {
        let said = [
            ("emptyDir", json!({})),
            ("selector", json!({})),
            ("running", json!({})),
            ("storageClassName", json!("")),
            ("labels", json!({"a": ""})),
            ("podIPs", json!([{}])),
            ("args", json!([""])),
            ("hostNetwork", json!(false)),
            ("restartCount", json!(0)),
        ];
        for (name, value) in said {
            assert!(!says_nothing(name, &value), "{name}: {value}");
            let object = json!({ name: value });
            assert_eq!(plain(object.clone()), object);
        }
        assert!(!says_same(
            "labels",
            Some(&json!({"a": ""})),
            Some(&json!({}))
        ));
    }

    #[test]
    fn only_what_upstream_never_writes_is_taken_out_of_an_object() {
        let mut object = json!({
            "metadata": {"labels": {}, "annotations": {"a": ""}, "finalizers": []},
            "spec": {"volumes": [{"name": "v", "emptyDir": {}}], "nodeName": "", "tolerations": null},
            "status": {},
        });
        drop_empty(&mut object);
        let left = json!({
            "metadata": {"annotations": {"a": ""}},
            "spec": {"volumes": [{"name": "v", "emptyDir": {}}], "nodeName": ""},
            "status": {},
        });
        assert_eq!(object, left);
    }

    #[test]
    fn depth_is_bounded() {
        let mut deep = json!([]);
        for _ in 0..10_000 {
            deep = Value::Array(vec![deep]);
        }
        // On a stack of 256 KiB.
        let thread = std::thread::Builder::new().stack_size(256 << 10);
        let ran = thread.spawn(move || {
            drop_empty(&mut deep);
            // Taken apart level by level: dropping it as a whole would recurse.
            while let Value::Array(mut inner) = deep {
                deep = inner.pop().unwrap_or_default();
            }
        });
        assert!(ran.unwrap().join().is_ok());
    }
}
