//! Tests of the whole way of a manifest: recorded pods, places of problems, tables of what is refused.
//!
//! Holds: the recorded pods are what the Go kubelet showed for the same files
//! Upstream: pkg/apis/core/validation/validation_test.go (facts of rows)

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn decode(text: &str) -> Result<Pod, ManifestProblem> {
    decode_manifest(text.as_bytes(), StaticSource::File).map(|mut pods| pods.remove(0))
}

fn identified(text: &str) -> Pod {
    let mut pod = decode(text).unwrap();
    apply_v1_defaults(&mut pod);
    identify_static_pod(
        pod,
        "1234",
        "Node",
        StaticSource::File,
        Timestamp::UNIX_EPOCH,
    )
}

/// A pod with these fields in its spec, in flow style.
fn with_spec(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{{spec}}}\n")
}

/// A pod with one container that has these fields besides its name and image.
fn with_container(fields: &str) -> String {
    with_spec(&format!("containers: [{{name: c, image: i, {fields}}}]"))
}

/// A pod with one volume of this source.
fn with_volume(source: &str) -> String {
    with_spec(&format!(
        "containers: [{{name: c, image: i}}], volumes: [{{name: v, {source}}}]"
    ))
}

fn problems(text: &str) -> Vec<String> {
    validate_static_pod(&identified(text))
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn recorded_manifests_become_the_pods_that_the_go_kubelet_showed() {
    let recorded: Value = serde_json::from_str(include_str!(
        "../../../../../parity/static-pods-defaulted.json"
    ))
    .unwrap();
    let recorded = recorded.as_array().unwrap();
    assert!(recorded.len() >= 4);
    for wanted in recorded {
        let field = |name: &str| wanted[name].as_str().unwrap();
        let mut pod = decode(field("manifest")).unwrap();
        apply_v1_defaults(&mut pod);
        let seen = wanted["annotations"][CONFIG_SEEN_ANNOTATION]
            .as_str()
            .unwrap();
        let pod = identify_static_pod(
            pod,
            field("uid"),
            field("node"),
            StaticSource::File,
            seen.parse().unwrap(),
        );
        assert_eq!(
            serde_json::to_value(&pod.spec).unwrap(),
            wanted["spec"],
            "{}",
            field("file")
        );
        assert_eq!(pod.metadata.name.as_deref(), Some(field("name")));
        assert_eq!(pod.metadata.namespace.as_deref(), Some(field("namespace")));
        assert_eq!(pod.metadata.uid.as_deref(), Some(field("uid")));
        assert_eq!(
            serde_json::to_value(&pod.metadata.annotations).unwrap(),
            wanted["annotations"]
        );
        assert_eq!(
            pod.status.as_ref().unwrap().phase.as_deref(),
            Some("Pending")
        );
        assert_eq!(validate_static_pod(&pod), []);
    }
}

#[test]
fn recorded_pods_of_the_api_have_the_same_defaults() {
    // Recorded after creation through the API, without what admission added there.
    let recorded = include_str!("../../../../../parity/api-pods-defaulted.json");
    let recorded: Value = serde_json::from_str(recorded).unwrap();
    let recorded = recorded.as_array().unwrap();
    assert!(recorded.len() >= 6);
    for wanted in recorded {
        let mut pod = decode(wanted["manifest"].as_str().unwrap()).unwrap();
        apply_v1_defaults(&mut pod);
        canonical_amounts(&mut pod);
        let mut spec = pod.spec.unwrap();
        spec.tolerations = None;
        spec.service_account = None;
        spec.service_account_name = None;
        let found = serde_json::to_value(&spec).unwrap();
        assert_eq!(found, wanted["spec"], "{}", wanted["name"]);
    }
}

#[test]
fn a_pod_from_a_url_has_no_toleration_and_the_seen_time_has_nine_digits() {
    let pod = decode(&with_container("")).unwrap();
    let pod = identify_static_pod(pod, "u", "Node-A", StaticSource::Url, Timestamp::UNIX_EPOCH);
    assert_eq!(pod.metadata.name.as_deref(), Some("p-node-a"));
    let annotations = pod.metadata.annotations.unwrap();
    assert_eq!(annotations[CONFIG_SOURCE_ANNOTATION], "http");
    assert_eq!(
        annotations[CONFIG_SEEN_ANNOTATION],
        "1970-01-01T00:00:00.000000000Z"
    );
    let spec = pod.spec.unwrap();
    assert_eq!(spec.tolerations, None);
    assert_eq!(spec.node_name.as_deref(), Some("Node-A"));
}

#[test]
fn a_toleration_that_differs_in_seconds_is_replaced_in_place() {
    let pod = identified(&with_spec(
        "tolerations: [{operator: Exists, effect: NoExecute, tolerationSeconds: 5}, {key: a, operator: Exists}]",
    ));
    let shown = serde_json::to_value(pod.spec.unwrap().tolerations).unwrap();
    assert_eq!(
        shown,
        json!([{"operator": "Exists", "effect": "NoExecute"}, {"key": "a", "operator": "Exists"}])
    );
}

#[test]
fn problems_of_decoding_name_their_place() {
    let head = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n";
    let rows: Vec<(String, &str)> = vec![
        (String::new(), "empty: a manifest holds one v1 Pod"),
        (
            "---\n# nothing\n".to_owned(),
            "empty: a manifest holds one v1 Pod",
        ),
        (
            "just text".to_owned(),
            "line 1, column 1: must be an object with apiVersion, kind, metadata and spec",
        ),
        (
            "apiVersion: v1\n".to_owned(),
            "line 1, column 1: kind: Required value",
        ),
        (
            "kind: Pod\napiVersion: v2\n".to_owned(),
            "line 2, column 13: apiVersion: must be \"v1\", not \"v2\"",
        ),
        (
            "apiVersion: v1\nkind: Deployment\n".to_owned(),
            "line 2, column 7: kind: must be \"Pod\", not \"Deployment\"",
        ),
        (
            "apiVersion: v1\nkind: PodList\n".to_owned(),
            "line 2, column 7: kind: a file must hold one Pod, not a PodList",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {}\n".to_owned(),
            "line 3, column 11: metadata.name: Required value",
        ),
        (
            format!("{head}spec:\n  containers:\n  - name: c\n    image: 5\n"),
            "line 8, column 12: spec.containers[0].image: invalid type: integer `5`, expected a string",
        ),
        (
            format!(
                "{head}spec:\n  containers:\n  - name: c\n    env:\n    - {{name: A, value: yes}}\n"
            ),
            "line 9, column 24: spec.containers[0].env[0].value: invalid type: boolean `true`, expected a string",
        ),
        (
            format!("{head}spec:\n  hostNetwork: \"true\"\n"),
            "line 6, column 16: spec.hostNetwork: invalid type: string \"true\", expected a boolean",
        ),
        (
            format!("{head}spec: [\n"),
            "line 5, column 7: unclosed bracket '['",
        ),
        (
            format!("{head}\tspec: 1\n"),
            "line 4, column 9: while scanning a plain scalar, found a tab",
        ),
        (
            "{\"apiVersion\": \"v1\",\n \"kind\": \"Pod\"".to_owned(),
            "line 2, column ",
        ),
    ];
    for (text, expected) in rows {
        let problem = decode(&text).unwrap_err().to_string();
        assert!(
            problem == expected || (expected.ends_with(' ') && problem.starts_with(expected)),
            "{text:?}\n got {problem}\nwant {expected}"
        );
        assert!(!problem.contains('\n'));
    }
    let problem = decode_manifest(b"a\nb\xff", StaticSource::File).unwrap_err();
    assert_eq!(problem.to_string(), "line 2: not UTF-8 text");
    let huge = vec![b' '; MAX_MANIFEST_BYTES + 1];
    assert!(
        decode_manifest(&huge, StaticSource::File)
            .unwrap_err()
            .message
            .contains("larger than")
    );
}

#[test]
fn bombs_are_refused_by_their_budget() {
    let mut aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let before = format!("*a{}, ", level - 1).repeat(9);
        aliases.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    let deep = "[".repeat(100_000);
    let deep_block: String = (0..200)
        .map(|level| format!("{}a:\n", " ".repeat(level)))
        .collect();
    let wide = "- a\n".repeat(200_000);
    for bomb in [
        aliases,
        deep.clone(),
        format!("{{\"a\":{deep}"),
        deep_block,
        wide,
    ] {
        let problem = decode(&bomb).unwrap_err();
        assert!(problem.field.is_none(), "{problem}");
        let told = [
            "more nodes, levels or expanded aliases than a manifest may have",
            "recursion limit exceeded",
        ];
        assert!(told.contains(&problem.message.as_str()), "{problem}");
    }
}

#[test]
fn scalars_are_read_as_go_reads_them() {
    let pod = decode(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, name: q, labels: {1: \"5\", x: 'true', e: }}\n\
         unknownField: [1]\nspec: {hostNetwork: yes, terminationGracePeriodSeconds: 0644, containers: null, \
         volumes: [{name: s, secret: {defaultMode: 0400}}]}\n---\nbroken: [\n",
    )
    .unwrap();
    assert_eq!(pod.metadata.name.as_deref(), Some("q"));
    let labels = pod.metadata.labels.unwrap();
    assert_eq!((labels["1"].as_str(), labels["e"].as_str()), ("5", ""));
    let spec = pod.spec.unwrap();
    assert_eq!(spec.host_network, Some(true));
    assert_eq!(spec.termination_grace_period_seconds, Some(0o644));
    let secret = spec.volumes.unwrap().remove(0).secret.unwrap();
    assert_eq!(secret.default_mode, Some(0o400));
}

#[test]
fn a_url_may_serve_a_pod_a_list_of_pods_or_none() {
    let many = |text: &str| {
        decode_manifest(text.as_bytes(), StaticSource::Url)
            .map(|pods| {
                pods.into_iter()
                    .map(|pod| pod.metadata.name.unwrap())
                    .collect::<Vec<_>>()
            })
            .map_err(|problem| problem.to_string())
    };
    assert_eq!(many(&with_container("")).unwrap(), ["p"]);
    let list =
        "apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: a}\n- metadata: {name: b}\n";
    assert_eq!(many(list).unwrap(), ["a", "b"]);
    assert_eq!(
        many("{\"apiVersion\":\"v1\",\"kind\":\"PodList\",\"items\":null}").unwrap(),
        Vec::<String>::new()
    );
    let list =
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n";
    assert_eq!(many(list).unwrap(), ["a"]);
    assert_eq!(
        many("apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret}\n").unwrap_err(),
        "line 4, column 26: items[0].kind: must be \"Pod\", not \"Secret\""
    );
    assert_eq!(
        many("apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: a}\n- metadata: {}\n")
            .unwrap_err(),
        "line 5, column 13: items[1].metadata.name: Required value"
    );
}

#[test]
fn the_tag_decides_the_pull_policy() {
    for (image, policy) in [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("reg:5000/nginx", "Always"),
        ("reg:5000/a/b:v1", "IfNotPresent"),
        ("localhost/nginx", "Always"),
        ("REG/nginx", "Always"),
        ("Nginx", "IfNotPresent"),
        ("reg.io/Nginx", "IfNotPresent"),
        ("a__b/c---d", "Always"),
        ("a___b", "IfNotPresent"),
        ("", "IfNotPresent"),
        ("a:", "IfNotPresent"),
        (
            "a@sha256:0123456789012345678901234567890123456789012345678901234567890123",
            "IfNotPresent",
        ),
        (
            "a:latest@sha256:0123456789012345678901234567890123456789012345678901234567890123",
            "Always",
        ),
        (
            "0123456789012345678901234567890123456789012345678901234567890123",
            "IfNotPresent",
        ),
    ] {
        let pod = identified(&with_spec(&format!(
            "containers: [{{name: c, image: {image:?}}}]"
        )));
        let policy_found = pod.spec.unwrap().containers.remove(0).image_pull_policy;
        assert_eq!(policy_found.as_deref(), Some(policy), "{image}");
    }
}

#[test]
fn defaults_fill_ports_probes_volumes_and_amounts() {
    let pod = identified(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: {pod.beta.kubernetes.io/init-containers: x}}\n\
         spec:\n  hostNetwork: true\n  terminationGracePeriodSeconds: -3\n  serviceAccount: robot\n  containers:\n\
         \x20 - name: c\n    image: i\n    ports: [{containerPort: 80}]\n    resources: {limits: {cpu: 0.5, memory: 1024Mi, a.b/c: 2e3}, requests: {cpu: 0.0001}}\n\
         \x20   env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]\n\
         \x20   readinessProbe: {httpGet: {port: 80}}\n    startupProbe: {grpc: {port: 1}, periodSeconds: 2}\n\
         \x20 volumes: [{name: a}, {name: h, hostPath: {path: /}}]\n",
    );
    let spec = pod.spec.unwrap();
    assert!(
        !pod.metadata
            .annotations
            .unwrap()
            .contains_key("pod.beta.kubernetes.io/init-containers")
    );
    assert_eq!(spec.termination_grace_period_seconds, Some(1));
    assert_eq!(
        (
            spec.service_account_name.as_deref(),
            spec.service_account.as_deref()
        ),
        (Some("robot"), Some("robot"))
    );
    assert_eq!(
        serde_json::to_value(&spec.containers[0]).unwrap(),
        json!({
            "name": "c", "image": "i", "imagePullPolicy": "Always",
            "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
            "resources": {
                "limits": {"cpu": "500m", "memory": "1Gi", "a.b/c": "2k"},
                "requests": {"cpu": "1m", "memory": "1Gi", "a.b/c": "2k"},
            },
            "env": [{"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
            "readinessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
            "startupProbe": {"grpc": {"port": 1, "service": ""},
                "timeoutSeconds": 1, "periodSeconds": 2, "successThreshold": 1, "failureThreshold": 3},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        })
    );
    assert_eq!(
        serde_json::to_value(&spec.volumes).unwrap(),
        json!([{"name": "a", "emptyDir": {}}, {"name": "h", "hostPath": {"path": "/", "type": ""}}])
    );
}

#[test]
fn amounts_print_in_their_canonical_form() {
    for (written, canonical) in [
        ("0", "0"),
        ("1", "1"),
        ("1000", "1k"),
        ("1.5", "1500m"),
        ("0.5Gi", "512Mi"),
        ("1.5Gi", "1536Mi"),
        ("1000Ki", "1000Ki"),
        ("1024Ki", "1Mi"),
        ("100Ki", "100Ki"),
        ("1e3", "1e3"),
        ("1E", "1E"),
        ("12e2", "1200"),
        ("0.1m", "1m"),
        ("-1.5Ki", "-1536"),
        (".5", "500m"),
        ("5.", "5"),
        ("+1", "1"),
        ("1023", "1023"),
        ("0.5Ki", "512"),
        ("1n", "1m"),
        // Upstream's reader takes it.
        (".", "0"),
    ] {
        let amount: kubelet_model::quantity::Quantity = written.parse().unwrap();
        assert_eq!(
            amount.rounded_to_milli().to_string(),
            canonical,
            "{written}"
        );
    }
    for wrong in [
        "",
        "x",
        "1 Gi",
        "1.2.3",
        "1Xi",
        "--1",
        "1e",
        "1ee3",
        "99999999999999999999999999999999999999999999",
    ] {
        assert!(
            wrong.parse::<kubelet_model::quantity::Quantity>().is_err(),
            "{wrong}"
        );
    }
}

#[test]
fn names_of_files_that_are_left_alone() {
    for (name, reason) in [
        ("web.yaml", None),
        ("web", None),
        ("#", None),
        ("tmp.yaml", None),
        (".web.yaml", Some(SkipReason::Hidden)),
        (".web.yaml.swp", Some(SkipReason::Hidden)),
        ("web.yaml~", Some(SkipReason::Backup)),
        ("web.yaml.bak", Some(SkipReason::Backup)),
        ("web.yaml.orig", Some(SkipReason::Backup)),
        ("web.swp", Some(SkipReason::Temporary)),
        ("web.TMP", Some(SkipReason::Temporary)),
        ("#web.yaml#", Some(SkipReason::Temporary)),
    ] {
        assert_eq!(is_skipped_name(name), reason, "{name}");
    }
}

mod refusals;

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        drop(decode_manifest(&bytes, StaticSource::Url));
        locate_field(&bytes, "spec.containers[0]");
    }

    #[test]
    fn no_text_of_yaml_characters_panics(text in "[\\[\\]{}:,&*#|>'\"!%@`\\-?a-z0-9 \n\t]{0,120}") {
        drop(decode_manifest(text.as_bytes(), StaticSource::File));
    }

    #[test]
    fn whatever_decodes_can_be_defaulted_twice_validated_and_walked(
        image in ".{0,12}", name in ".{0,8}", amount in "[-+0-9.eEmkKMGi]{0,7}", number in any::<i32>(),
        field in "(metadata|spec|status)\\.[a-z'\\[\\]]{0,12}", sysctl in "[a-z./_-]{0,12}", ip in "[0-9.:]{0,12}",
    ) {
        let text = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {&name: &image}},
            "spec": {
                "containers": [{
                    "name": &name, "image": &image, "ports": [{"containerPort": number, "hostPort": number, "name": &name}],
                    "resources": {"limits": {"cpu": &amount, &name: &amount, "hugepages-2Mi": &amount}},
                    "env": [{"name": &name, "valueFrom": {"fieldRef": {"fieldPath": field}}}],
                    "livenessProbe": {"tcpSocket": {"port": &name}, "periodSeconds": number},
                    "volumeMounts": [{"name": &name, "mountPath": &image}],
                }],
                "volumes": [{"name": &name, "emptyDir": {"sizeLimit": &amount}}],
                "securityContext": {"runAsUser": number, "sysctls": [{"name": sysctl, "value": "1"}]},
                "hostAliases": [{"ip": ip}], "hostNetwork": number % 2 == 0,
            },
        }).to_string();
        let mut pod = decode(&text).unwrap();
        apply_v1_defaults(&mut pod);
        let once = pod.clone();
        apply_v1_defaults(&mut pod);
        prop_assert_eq!(&once, &pod);
        let pod = identify_static_pod(pod, "u", "n", StaticSource::File, Timestamp::UNIX_EPOCH);
        drop((validate_static_pod(&pod), unbuilt_fields(&pod)));
    }
}
