//! Validation, with the facts of upstream's own tables.
//!
//! In:    objects in YAML's short form, by kind
//! Out:   –
//! Calls: cargo test
//! Holds: each row lists all problems of its object, in order: `field|part of the message`; a valid object has none. Rows are
//!        JSON in YAML's short form, merged into a valid object
//! Upstream: pkg/apis/*/validation/*_test.go

use super::*;
use k8s_openapi::api::core::v1::Pod;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

// Tables with one row a line.
#[rustfmt::skip]
mod kinds;
#[rustfmt::skip]
mod pods;
#[rustfmt::skip]
mod services;
#[rustfmt::skip]
mod updates;

/// What to merge, and the resulting problems.
type Row<'a> = (&'a str, &'a [&'a str]);

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Maps are merged, everything else is replaced, null removes.
fn lay(over: Value, under: &mut Value) {
    match (over, under) {
        (Value::Object(over), Value::Object(under)) => {
            for (name, value) in over {
                if value.is_null() {
                    under.remove(&name);
                } else {
                    lay(value, under.entry(name).or_insert(Value::Null));
                }
            }
        }
        (over, under) => *under = over,
    }
}

fn laid(base: &Value, text: &str) -> Value {
    let mut object = base.clone();
    lay(yaml(text), &mut object);
    object
}

fn read<T: DeserializeOwned>(value: &Value) -> T {
    T::deserialize(value).unwrap_or_else(|error| panic!("{value}: {error}"))
}

/// Compares the problems with `field|part of the message`.
fn compare(what: &str, found: &[FieldProblem], expected: &[&str]) {
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    let right = found.len() == expected.len()
        && found.iter().zip(expected).all(|(problem, expected)| {
            let (field, part) = expected.split_once('|').unwrap_or((expected, ""));
            problem.path == field && problem.message.contains(part)
        });
    assert!(
        right,
        "{what}\n found: {shown:#?}\n expected: {expected:#?}"
    );
}

/// Rows for new objects of one kind.
fn check_new<T: Checked + DeserializeOwned>(base: &Value, rows: &[Row<'_>]) {
    for (text, expected) in rows {
        let object: T = read(&laid(base, text));
        compare(text, &created(&object), expected);
    }
}

/// Rows for updates: old, new, problems.
fn check_changes<T: Checked + DeserializeOwned>(base: &Value, rows: &[(&str, &str, &[&str])]) {
    for (old, new, expected) in rows {
        let old_object: T = read(&laid(base, old));
        let new_object: T = read(&laid(base, new));
        let found = changed(&new_object, &old_object);
        compare(&format!("{old} -> {new}"), &found, expected);
    }
}

#[test]
fn a_hostile_object_costs_no_more_than_its_size() {
    let labels: Value = (0..100_000)
        .map(|n| (format!("/{n}"), json!("_")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let meta = read(&json!({"name": "a", "namespace": "b", "labels": labels}));
    let found = metadata(&meta, None, NameRule::Subdomain, true);
    assert_eq!(found.len(), MAX_PROBLEMS);
    assert!(found.iter().map(|p| p.message.len()).sum::<usize>() < 1 << 20);
    let owner =
        json!({"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "u", "controller": true});
    let owners = vec![owner; 20_000];
    let meta = read(&json!({"name": "a", "namespace": "b", "ownerReferences": owners}));
    assert_eq!(metadata(&meta, None, NameRule::Subdomain, true).len(), 1);
}

#[test]
fn what_an_object_had_wrong_before_is_not_held_against_its_change() {
    let pod = |labels: &str, protocol: &str| -> Pod {
        let over = format!(
            "{{metadata: {{labels: {{{labels}}}}}, spec: {{containers: [{{name: c, image: i, imagePullPolicy: Always, terminationMessagePolicy: File, ports: [{{containerPort: 1, protocol: {protocol}}}]}}]}}}}"
        );
        read(&laid(&pods::base(), &over))
    };
    assert_eq!(changed(&pod("b: c", "tcp"), &pod("", "tcp")), []);
    let found = changed(&pod("", "tcp"), &pod("", "TCP"));
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn metadata_is_that_of_its_kind() {
    let rows: &[Row<'_>] = &[
        ("{}", &[]),
        (
            "{name: ''}",
            &["metadata.name|Required value: name or generateName is required"],
        ),
        (
            "{name: A}",
            &["metadata.name|a lowercase RFC 1123 subdomain"],
        ),
        ("{generateName: 'a-'}", &[]),
        (
            "{generateName: 'AB-'}",
            &["metadata.generateName|a lowercase RFC 1123 subdomain"],
        ),
        ("{namespace: ''}", &["metadata.namespace|Required value"]),
        (
            "{namespace: a.b}",
            &["metadata.namespace|must not contain dots"],
        ),
        ("{labels: {a: b, 'x.y/z': ''}}", &[]),
        (
            "{labels: {'a b': b}}",
            &["metadata.labels|name part must consist of"],
        ),
        (
            "{labels: {'/a': b}}",
            &["metadata.labels|prefix part must be non-empty"],
        ),
        (
            "{labels: {a: 'b c'}}",
            &["metadata.labels|a valid label must be an empty string or consist of"],
        ),
        (
            "{labels: {'a/b/c': b}}",
            &["metadata.labels|a valid label key must consist of"],
        ),
        ("{annotations: {'A.b/C': 'anything: {at all}'}}", &[]),
        (
            "{annotations: {'a b': ''}}",
            &["metadata.annotations|name part must consist of"],
        ),
        ("{finalizers: [a.b/c, orphan]}", &[]),
        (
            "{finalizers: [a]}",
            &[
                "metadata.finalizers[0]|name is neither a standard finalizer name nor is it fully qualified",
            ],
        ),
        (
            "{finalizers: [orphan, foregroundDeletion]}",
            &["metadata.finalizers|cannot be both set"],
        ),
        (
            "{ownerReferences: [{apiVersion: v1, kind: Pod, name: a, uid: b}]}",
            &[],
        ),
        (
            "{ownerReferences: [{apiVersion: '', kind: '', name: '', uid: ''}]}",
            &[
                "metadata.ownerReferences.apiVersion|version must not be empty",
                "metadata.ownerReferences.kind|must not be empty",
                "metadata.ownerReferences.name|must not be empty",
                "metadata.ownerReferences.uid|must not be empty",
            ],
        ),
        (
            "{ownerReferences: [{apiVersion: v1, kind: Event, name: a, uid: b}]}",
            &["metadata.ownerReferences|is disallowed from being an owner"],
        ),
        (
            "{ownerReferences: [{apiVersion: v1, kind: A, name: a, uid: b, controller: true}, {apiVersion: v1, kind: B, name: b, uid: b, controller: true}]}",
            &[
                "metadata.ownerReferences|Only one reference can have Controller set to true. Found \"true\" in references for A/a and B/b",
            ],
        ),
        (
            "{generation: -1}",
            &["metadata.generation|must be greater than or equal to 0"],
        ),
    ];
    for (text, expected) in rows {
        let meta = read(&laid(&json!({"name": "a", "namespace": "b"}), text));
        let found = metadata(&meta, None, NameRule::Subdomain, true);
        compare(text, &found, expected);
    }
    let large = "x".repeat(262_144);
    let meta = read(&json!({"name": "a", "namespace": "b", "annotations": {"a": large}}));
    let found = metadata(&meta, None, NameRule::Subdomain, true);
    compare(
        "large",
        &found,
        &["metadata.annotations|Too long: may not be more than 262144 bytes"],
    );
    let meta = read(&json!({"name": "a", "namespace": "b"}));
    let found = metadata(&meta, None, NameRule::Subdomain, false);
    compare(
        "cluster",
        &found,
        &["metadata.namespace|Forbidden: not allowed on this type"],
    );
    for (rule, name, right) in [
        (NameRule::Label, "a.b", false),
        (NameRule::Label, "1a", true),
        (NameRule::PathSegment, "a:B", true),
        (NameRule::PathSegment, "a/b", false),
        (NameRule::PathSegment, "..", false),
    ] {
        assert_eq!(rule.check(name).is_empty(), right, "{rule:?} {name}");
    }
}
