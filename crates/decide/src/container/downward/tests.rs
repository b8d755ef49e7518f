//! Texts as Go quotes them, and what a volume sees of a pod and its containers.

use super::*;
use crate::testing::{node, pod, pod_of};

#[test]
fn texts_are_quoted_as_go_quotes_them() {
    for (text, expected) in [
        ("it's", "\"it's\""),
        ("\u{7}\u{8}\t\u{1}\u{7f}", "\"\\a\\b\\t\\x01\\x7f\""),
        ("\u{a0}\u{200b}\u{e0001}", "\"\\u00a0\\u200b\\U000e0001\""),
        ("e\u{301}\u{1f600}", "\"e\u{301}\u{1f600}\""),
    ] {
        assert_eq!(quoted(text), expected);
    }
}

#[test]
fn a_volume_sees_metadata_alone() {
    let pod = pod(
        r#"{metadata: {name: web, labels: {key1: value1, key2: value2}, annotations: {a1: "v\"1", a2: "two\nlines"}},
          spec: {nodeName: n}}"#,
    );
    for (path, expected) in [
        ("metadata.name", Ok("web")),
        ("metadata.namespace", Ok("default")),
        ("metadata.uid", Ok("u1")),
        ("metadata.labels", Ok("key1=\"value1\"\nkey2=\"value2\"")),
        ("metadata.labels['key2']", Ok("value2")),
        ("metadata.annotations['a1']", Ok("v\"1")),
        (
            "metadata.annotations",
            Ok("a1=\"v\\\"1\"\na2=\"two\\nlines\""),
        ),
        ("spec.nodeName", Err("unsupported fieldPath: spec.nodeName")),
        ("status.podIP", Err("unsupported fieldPath: status.podIP")),
        (
            "spec['x']",
            Err("fieldPath \"spec['x']\" does not support subscript"),
        ),
    ] {
        let found = metadata_field(&pod, path);
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn a_container_without_a_limit_is_bound_by_the_node_in_a_volume() {
    let pod = pod_of(
        "{resources: {limits: {memory: 64Mi}}, initContainers: [{name: first}],
          containers: [{name: c, resources: {limits: {cpu: 250m}, requests: {memory: 1Mi}}}]}",
    );
    for (container, resource, divisor, expected) in [
        ("c", "limits.cpu", "1m", "250"),
        ("c", "limits.cpu", "1", "1"),
        ("c", "limits.memory", "1", "25171652608"),
        ("c", "requests.memory", "1Ki", "1024"),
        ("first", "limits.cpu", "1", "2"),
        ("first", "requests.cpu", "1m", "0"),
        ("first", "limits.ephemeral-storage", "1k", "9"),
    ] {
        let field = v1::ResourceFieldSelector {
            container_name: Some(container.to_owned()),
            resource: resource.to_owned(),
            divisor: Some(k8s_openapi::apimachinery::pkg::api::resource::Quantity(
                divisor.to_owned(),
            )),
        };
        let found = volume_resource(&pod, &node(), &field);
        assert_eq!(found, Ok(expected.to_owned()), "{container} {resource}");
    }
}
