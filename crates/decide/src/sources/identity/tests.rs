//! Tests of identity: held against UIDs and hashes that the Go kubelet gave (`parity/static-pods.json`, recorded on a node) and
//! that upstream's own decoding, conversion and hashing gave for made-up pods (`parity/static-pod-fields.json`: every field set,
//! empty lists and odd quantities, and what conversion rearranges).
//!
//! Upstream: pkg/kubelet/config/common.go, pkg/kubelet/container/container_hash_test.go

mod every_field;

use super::*;
use serde_json::{Value, json};

const RECORDED: &str = include_str!("../../../../../parity/static-pods.json");
const FIELDS: &str = include_str!("../../../../../parity/static-pod-fields.json");

fn pods(text: &str) -> Vec<Value> {
    serde_json::from_str(text).expect("the file is a list")
}

fn pod(value: &Value) -> Pod {
    serde_json::from_value(value.clone()).expect("the value is a pod")
}

fn set_default(object: &mut Value, key: &str, default: Value) {
    let map = object.as_object_mut().expect("defaults go into objects");
    map.entry(key).or_insert(default);
}

/// As much of the API's defaulting as the recorded manifests need.
fn defaulted(manifest: &str) -> Value {
    let mut pod: Value = serde_saphyr::from_str(manifest).expect("the manifest is YAML");
    let spec = &mut pod["spec"];
    for (key, default) in [
        ("dnsPolicy", json!("ClusterFirst")),
        ("restartPolicy", json!("Always")),
        ("securityContext", json!({})),
        ("terminationGracePeriodSeconds", json!(30)),
        ("schedulerName", json!("default-scheduler")),
        ("enableServiceLinks", json!(true)),
    ] {
        set_default(spec, key, default);
    }
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            default_container(container);
        }
        if spec[list].is_null() {
            spec.as_object_mut()
                .expect("a spec is an object")
                .remove(list);
        }
    }
    pod
}

fn default_container(container: &mut Value) {
    set_default(container, "imagePullPolicy", json!("IfNotPresent"));
    set_default(
        container,
        "terminationMessagePath",
        json!("/dev/termination-log"),
    );
    set_default(container, "terminationMessagePolicy", json!("File"));
    if let Some(probe) = container.get_mut("livenessProbe") {
        for (key, default) in [
            ("timeoutSeconds", 1),
            ("periodSeconds", 10),
            ("successThreshold", 1),
            ("failureThreshold", 3),
        ] {
            set_default(probe, key, json!(default));
        }
    }
    for port in container
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        set_default(port, "protocol", json!("TCP"));
    }
    if let Some(resources) = container.get_mut("resources") {
        let limits = resources["limits"].clone();
        set_default(resources, "requests", limits);
    }
}

fn dumped(pod: &Pod) -> String {
    let mut text = String::new();
    let value = internal::pod_as_hashed(pod).expect("a pod is JSON");
    dump::dump("*core.Pod", &value, &mut |piece| text.push_str(piece))
        .expect("every field is known");
    text
}

#[test]
fn recorded_static_pods_keep_their_uids_and_container_hashes() {
    for recorded in pods(RECORDED) {
        let pod = pod(&defaulted(recorded["manifest"].as_str().unwrap()));
        let place = ManifestPlace::File {
            node_name: recorded["node"].as_str().unwrap(),
            path: recorded["file"].as_str().unwrap(),
        };
        assert_eq!(
            static_pod_uid(&pod, &place).unwrap(),
            recorded["uid"].as_str().unwrap(),
            "{}",
            dumped(&pod)
        );
        let spec = pod.spec.unwrap();
        for container in spec
            .init_containers
            .into_iter()
            .flatten()
            .chain(spec.containers)
        {
            let hash = container_hash_hex(&container.name, &container.image.unwrap());
            assert_eq!(
                hash,
                recorded["containerHashes"][&container.name]
                    .as_str()
                    .unwrap()
            );
        }
    }
}

#[test]
fn pods_with_odd_fields_hash_as_upstream_hashes_them() {
    let place = ManifestPlace::File {
        node_name: "node",
        path: "/manifests/pod.yaml",
    };
    for recorded in pods(FIELDS) {
        let pod = pod(&recorded["pod"]);
        assert_eq!(
            static_pod_uid(&pod, &place).unwrap(),
            recorded["uid"].as_str().unwrap(),
            "{}",
            dumped(&pod)
        );
    }
}

#[test]
fn container_hash_equals_upstreams_golden_value() {
    assert_eq!(
        container_hash("test_container", "foo/image:v1"),
        0x8e45_cbd0
    );
    assert_eq!(
        container_hash_hex("web", "registry.k8s.io/e2e-test-images/nginx:1.27-0"),
        "24d2402",
        "no leading zero"
    );
}

#[test]
fn json_strings_are_escaped_as_go_does() {
    assert_eq!(
        go_json_string("a\"\\\u{8}\u{c}\n\r\t\u{1}<&>\u{2028}é/"),
        r#""a\"\\\b\f\n\r\t\u0001\u003c\u0026\u003e\u2028é/""#
    );
}

#[test]
fn the_place_is_part_of_the_uid() {
    let pod = pod(&json!({"metadata": {"name": "a"}, "spec": {"containers": []}}));
    let places = [
        ManifestPlace::File {
            node_name: "n",
            path: "/a",
        },
        ManifestPlace::File {
            node_name: "n",
            path: "/b",
        },
        ManifestPlace::File {
            node_name: "m",
            path: "/a",
        },
        ManifestPlace::Url { url: "/a" },
    ];
    let uids: std::collections::BTreeSet<_> = places
        .iter()
        .map(|place| static_pod_uid(&pod, place).unwrap())
        .collect();
    assert_eq!(uids.len(), places.len());
}

#[test]
fn a_field_outside_the_table_is_an_error() {
    let mut ignore = |_: &str| ();
    let pod = json!({"spec": {"containers": [{"name": "c", "fromTheFuture": 1}]}});
    let error = dump::dump("*core.Pod", &pod, &mut ignore).unwrap_err();
    assert_eq!(
        error.to_string(),
        "spec.containers.0.fromTheFuture: not in the table of hashed types"
    );
    let pod = json!({"spec": {"overhead": {"cpu": "a lot"}}});
    let error = dump::dump("*core.Pod", &pod, &mut ignore).unwrap_err();
    assert_eq!(error.to_string(), "spec.overhead.cpu: not a valid quantity");
}

#[test]
fn quantities_print_as_they_were_parsed() {
    let printed = |text: &str, milli: bool| {
        let quantity = quantity::GoQuantity::parse(text)?;
        let quantity = if milli {
            quantity.round_up_to_milli()?
        } else {
            quantity
        };
        Some(
            quantity
                .to_string()
                .replace("resource.", "")
                .replace("(int64Amount)", "")
                .replace("(infDecAmount)", ""),
        )
    };
    let small = |value: i64, scale: i64, text: &str, format: &str| {
        Some(format!(
            "{{i:{{value:(int64){value} scale:(Scale){scale}}} d:{{Dec:(*inf.Dec)<nil>}} s:(string){text} Format:(Format){format}}}"
        ))
    };
    let big = |number: &str, places: i64, format: &str| {
        Some(format!(
            "{{i:{{value:(int64)0 scale:(Scale)0}} d:{{Dec:(*inf.Dec){{unscaled:(big.Int){{{number}}} scale:(inf.Scale){places}}}}} \
             s:(string) Format:(Format){format}}}"
        ))
    };
    assert_eq!(printed("0", true), small(0, 0, "0", "DecimalSI"));
    assert_eq!(printed("0Ki", true), small(0, 0, "", "BinarySI"));
    assert_eq!(printed("1000m", true), small(1000, -3, "", "DecimalSI"));
    assert_eq!(printed("+5Mi", true), small(5 << 20, 0, "+5Mi", "BinarySI"));
    assert_eq!(printed("8Mi", true), small(8 << 20, 0, "", "BinarySI"));
    assert_eq!(printed("1E3", true), small(1, 3, "1E3", "DecimalExponent"));
    assert_eq!(
        printed("-1500u", false),
        small(-1500, -6, "-1500u", "DecimalSI")
    );
    assert_eq!(printed("-1500u", true), small(-2, -3, "", "DecimalSI"));
    assert_eq!(
        printed("0.0Gi", false),
        big("neg:(bool)false abs:(big.nat)<nil>", 1, "BinarySI")
    );
    assert_eq!(
        printed("0.0001Ki", false),
        big("neg:(bool)false abs:(big.nat)[102400000]", 9, "DecimalSI")
    );
    assert_eq!(
        printed("-1.0Ti", false),
        big(
            "neg:(bool)true abs:(big.nat)[11153727427136454656 59]",
            9,
            "BinarySI"
        )
    );
    assert_eq!(
        printed("-1.0Ti", true),
        big(
            "neg:(bool)true abs:(big.nat)[1099511627776000]",
            3,
            "BinarySI"
        )
    );
    assert_eq!(
        printed("16Ei", false),
        big(
            "neg:(bool)false abs:(big.nat)[9223372036854775807]",
            0,
            "BinarySI"
        )
    );
    assert_eq!(
        printed("1e-10", false),
        big("neg:(bool)false abs:(big.nat)[1]", 9, "DecimalExponent")
    );
    for refused in [
        "",
        "1i",
        "1 Gi",
        "1KiB",
        "1e9999999999",
        "999999999999999999999999999999999999999999",
    ] {
        assert_eq!(printed(refused, true), None, "{refused}");
    }
}
