//! Patches as tables: before, patch, after.
//!
//! In:    JSON
//! Out:   JSON
//! Upstream: staging/src/k8s.io/apimachinery/pkg/util/strategicpatch/patch_test.go

use serde_json::json;

use super::*;

fn check(kind: Kind, before: Value, patch: Value) -> Value {
    let pods = crate::kinds::resources::find("", "v1", "pods").unwrap();
    apply(pods, "p", kind, &before, &patch).unwrap_or_else(|failure| failure.message.into())
}

#[test]
fn strategic_patches_merge_lists_by_their_keys() {
    let two = json!({"spec": {"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "1"}]}});
    for (before, patch, after) in [
        (
            two.clone(),
            json!({"spec": {"containers": [{"name": "b", "image": "2"}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "2"}]}}),
        ),
        (
            two.clone(),
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
            json!({"spec": {"containers": [{"name": "b", "image": "1"}]}}),
        ),
        (
            two.clone(),
            json!({"spec": {"containers": [{"name": "c", "image": "3"}, {"$patch": "replace"}]}}),
            json!({"spec": {"containers": [{"name": "c", "image": "3"}]}}),
        ),
        (
            two.clone(),
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "a", "args": null}]}}),
            json!({"spec": {"containers": [{"name": "b", "image": "1"}, {"name": "a", "image": "1"}]}}),
        ),
        (
            two,
            json!({"spec": {"containers": [{"image": "2"}]}}),
            json!("map: {\"image\":\"2\"} does not contain declared merge key: name"),
        ),
        (
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}}),
            json!({"metadata": {"finalizers": ["b", "c"]}}),
        ),
        (
            json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}),
        ),
        (
            json!({"status": {"conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": [{"name": "a"}]}}),
            json!({"status": {"conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [{"name": "b"}], "podIPs": null}}),
            json!({"status": {"conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [{"name": "b"}]}}),
        ),
        (
            json!({"metadata": {"labels": {"a": "1"}}}),
            json!({"metadata": {"labels": {"$patch": "replace", "b": "2"}}}),
            json!({"metadata": {"labels": {"b": "2"}}}),
        ),
    ] {
        assert_eq!(
            check(Kind::Strategic, before, patch.clone()),
            after,
            "{patch}"
        );
    }
}

#[test]
fn merge_patches_replace_lists_and_remove_what_is_null() {
    let before = json!({"a": {"b": 1, "c": [1, 2]}, "d": 1});
    let patch = json!({"a": {"b": null, "c": [3], "e": {"f": null, "g": 1}}});
    let after = json!({"a": {"c": [3], "e": {"g": 1}}, "d": 1});
    assert_eq!(check(Kind::Merge, before, patch), after);
}

#[test]
fn json_patches_apply_whole_or_not_at_all() {
    let before = json!({"a": [1, 2], "b/c": 1});
    for (patch, after) in [
        (
            json!([{"op": "add", "path": "/a/1", "value": 9}, {"op": "add", "path": "/a/-", "value": 3}]),
            json!({"a": [1, 9, 2, 3], "b/c": 1}),
        ),
        (
            json!([{"op": "remove", "path": "/b~1c"}]),
            json!({"a": [1, 2]}),
        ),
        (
            json!([{"op": "test", "path": "/a/0", "value": 1}, {"op": "move", "from": "/a/0", "path": "/x"}]),
            json!({"a": [2], "b/c": 1, "x": 1}),
        ),
        (
            json!([{"op": "replace", "path": "/a/0", "value": 7}, {"op": "copy", "from": "/a", "path": "/y"}]),
            json!({"a": [7, 2], "b/c": 1, "y": [7, 2]}),
        ),
    ] {
        assert_eq!(
            check(Kind::Json, before.clone(), patch.clone()),
            after,
            "{patch}"
        );
    }
    for bad in [
        json!([{"op": "replace", "path": "/none", "value": 1}]),
        json!([{"op": "remove", "path": "/a/7"}]),
        json!([{"op": "test", "path": "/a/0", "value": 2}]),
        json!([{"op": "fly", "path": "/a"}]),
        json!({"op": "add"}),
    ] {
        assert!(
            check(Kind::Json, before.clone(), bad.clone()).is_string(),
            "{bad}"
        );
    }
}

/// What a JSON patch is refused with.
fn refused(before: &Value, patch: Value) -> (u16, String) {
    let pods = crate::kinds::resources::find("", "v1", "pods").unwrap();
    let applied = apply(pods, "p", Kind::Json, before, &patch);
    applied.map_or_else(
        |refused| (refused.code, refused.message),
        |_| (200, String::new()),
    )
}

fn operations(count: usize, one: impl Fn(usize) -> Value) -> Value {
    (0..count).map(one).collect()
}

#[test]
fn json_patches_stay_within_their_bounds() {
    let before =
        json!({"a": {"b": [1, 2, 3]}, "long": vec![0; 200_000], "text": "x".repeat(400_000)});
    let deep = |levels: usize| "/0".repeat(levels);
    for (code, words, patch) in [
        (
            413,
            "maximum operations in a JSON patch is 10000, got 10001",
            operations(
                10_001,
                |_| json!({"op": "test", "path": "/x", "value": null}),
            ),
        ),
        (
            422,
            "accumulated size increase of copy is 3200016, exceeding the limit 3145728",
            operations(
                10,
                |n| json!({"op": "copy", "from": "/text", "path": format!("/n{n}")}),
            ),
        ),
        (
            422,
            "nested deeper than 100 levels",
            operations(
                200,
                |n| json!({"op": "add", "path": format!("/x{}", deep(n)), "value": [null]}),
            ),
        ),
        (
            422,
            "nested deeper than 100 levels",
            operations(120, |_| json!({"op": "copy", "from": "/a", "path": "/a/a"})),
        ),
        (
            413,
            "takes too much work",
            operations(
                9_000,
                |_| json!({"op": "add", "path": "/long/0", "value": 1}),
            ),
        ),
        (
            413,
            "takes too much work",
            operations(
                9_000,
                |_| json!({"op": "move", "from": "/long/0", "path": "/long/-"}),
            ),
        ),
        (
            413,
            "takes too much work",
            operations(9_000, |n| match n % 2 {
                0 => json!({"op": "move", "from": "/long", "path": "/a/long"}),
                _ => json!({"op": "move", "from": "/a/long", "path": "/long"}),
            }),
        ),
    ] {
        let (got, message) = refused(&before, patch);
        assert!(
            got == code && message.contains(words),
            "{got} {message}: not {words}"
        );
    }
    // A realistic patch with the largest number of operations stays far below the other limits.
    let many = operations(
        10_000,
        |n| json!({"op": "add", "path": format!("/a/b/{}", n % 3), "value": n}),
    );
    assert_eq!(
        check(Kind::Json, before, many)["a"]["b"]
            .as_array()
            .unwrap()
            .len(),
        10_003
    );
}

#[test]
fn an_element_is_found_by_its_key_wherever_it_stands() {
    let before = json!({"spec": {"containers": [
        {"name": "a", "image": "1"}, {"name": "b"}, {"name": "a", "image": "2"}, {"other": 1}]}});
    for (patch, after) in [
        // If a key occurs twice, the first element is meant.
        (
            json!([{"name": "a", "image": "3"}]),
            json!([{"name": "a", "image": "3"}, {"name": "b"}, {"name": "a", "image": "2"}, {"other": 1}]),
        ),
        (
            json!([{"name": "a", "$patch": "delete"}, {"name": "a", "image": "4"}]),
            json!([{"name": "b"}, {"other": 1}, {"name": "a", "image": "4"}]),
        ),
        (
            json!([{"name": "c", "image": "5"}, {"name": "c", "image": "6"}]),
            json!([{"name": "a", "image": "1"}, {"name": "b"}, {"name": "a", "image": "2"}, {"other": 1}, {"name": "c", "image": "6"}]),
        ),
    ] {
        let patch = json!({"spec": {"containers": patch}});
        let after = json!({"spec": {"containers": after}});
        assert_eq!(check(Kind::Strategic, before.clone(), patch), after);
    }
}

#[test]
fn a_strategic_patch_that_names_one_key_many_times_is_bounded() {
    let ports: Vec<Value> = (0..2000)
        .map(|n| json!({"containerPort": n, "protocol": "TCP"}))
        .collect();
    let before = json!({"spec": {"containers": [{"name": "a", "ports": ports}]}});
    let refused = json!("Request entity too large: The strategic merge patch takes too much work");
    let many = |element: Value| {
        let elements = vec![element; 20_000];
        json!({"spec": {"containers": elements}})
    };
    for element in [
        json!({"name": "a", "ports": [{"containerPort": 1}]}),
        json!({"name": "a", "$setElementOrder/ports": [{"containerPort": 1}]}),
        json!({"name": "a", "$deleteFromPrimitiveList/ports": [1]}),
    ] {
        assert_eq!(
            check(Kind::Strategic, before.clone(), many(element.clone())),
            refused,
            "{element}"
        );
    }
    // A few elements, each long.
    let long =
        json!({"spec": {"containers": [{"name": "a", "env": [{"name": "x".repeat(1 << 20)}]}]}});
    let element = json!({"name": "a", "env": [{"name": "y"}]});
    assert_eq!(check(Kind::Strategic, long, many(element)), refused);
    let again = json!({"name": "a", "image": "i"});
    let after = check(Kind::Strategic, before, many(again));
    assert_eq!(after["spec"]["containers"][0]["image"], "i");
}
