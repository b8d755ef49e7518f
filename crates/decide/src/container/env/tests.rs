//! Expansion against upstream's table, sources of variables, downward API.

use super::*;
use crate::testing::{node, pod, pod_of};

#[test]
fn references_expand_as_upstreams_table_says() {
    let values = BTreeMap::from([
        ("VAR_A", "A"),
        ("VAR_B", "B"),
        ("VAR_C", "C"),
        ("VAR_REF", "$(VAR_A)"),
        ("VAR_EMPTY", ""),
    ]);
    for (input, expected) in [
        ("$(VAR_A)", "A"),
        ("___$(VAR_B)___", "___B___"),
        ("___$(VAR_C)", "___C"),
        ("$(VAR_A)_", "A_"),
        ("$(VAR_B)_$(VAR_A)", "B_A"),
        ("$$(VAR_B)_$(VAR_A)", "$(VAR_B)_A"),
        ("f000-$$VAR_A", "f000-$VAR_A"),
        ("foo\\$(VAR_C)bar", "foo\\Cbar"),
        ("foo\\\\$(VAR_C)bar", "foo\\\\Cbar"),
        ("$(VAR_REF)", "$(VAR_A)"),
        ("%%$(VAR_REF)--$(VAR_REF)%%", "%%$(VAR_A)--$(VAR_A)%%"),
        ("foo$(VAR_EMPTY)bar", "foobar"),
        ("foo$(VAR_Awhoops!", "foo$(VAR_Awhoops!"),
        ("f00__(VAR_A)__", "f00__(VAR_A)__"),
        ("$?_boo_$!", "$?_boo_$!"),
        ("$VAR_A", "$VAR_A"),
        ("$(VAR_DNE)", "$(VAR_DNE)"),
        ("$$$$$$(BIG_MONEY)", "$$$(BIG_MONEY)"),
        ("$$$$$$(VAR_A)", "$$$(VAR_A)"),
        ("$$$$$$$(GOOD_ODDS)", "$$$$(GOOD_ODDS)"),
        ("$$$$$$$(VAR_A)", "$$$A"),
        ("$VAR_A)", "$VAR_A)"),
        ("${VAR_A}", "${VAR_A}"),
        ("$(VAR_B)_______$(A", "B_______$(A"),
        ("$(VAR_C)_______$(", "C_______$("),
        ("$(VAR_A)foobarzab$", "Afoobarzab$"),
        ("foo-\\$(VAR_A", "foo-\\$(VAR_A"),
        ("--$($($($($--", "--$($($($($--"),
        ("$($($($($--foo$(", "$($($($($--foo$("),
        ("foo0--$($($($(", "foo0--$($($($("),
        ("$(foo$$var)", "$(foo$$var)"),
        ("", ""),
        ("$", "$"),
        ("$\u{e9}", "$\u{e9}"),
    ] {
        let expanded = expand_bytes(input, |name| {
            values.get(name).map(|v| v.as_bytes().to_vec())
        });
        assert_eq!(String::from_utf8(expanded).unwrap(), expected, "{input}");
    }
}

fn check(env: &str) -> Result<Vec<(String, String)>, String> {
    check_pod(&pod(&format!(
        r#"{{metadata: {{name: web, labels: {{b: "2", a: "1\"\n\u00e9"}}, annotations: {{note: x, a/b: y}}}},
        spec: {{nodeName: bench, serviceAccountName: robot,
          initContainers: [{{name: first}}],
          containers: [{{name: c, env: {env}, resources: {{
            requests: {{cpu: 150m, memory: 1Ki}}, limits: {{cpu: 1500m, hugepages-2Mi: 4Mi}}}}}}]}}}}"#
    )))
}

fn check_pod(pod: &Pod) -> Result<Vec<(String, String)>, String> {
    check_objects(pod, &PodObjects::default())
}

fn check_objects(pod: &Pod, objects: &PodObjects) -> Result<Vec<(String, String)>, String> {
    let pod_ips = [
        "fd00::9".to_owned(),
        "10.244.0.7".to_owned(),
        "10.9.9.9".to_owned(),
    ];
    let view = EnvView {
        pod,
        container: &pod.containers()[0],
        node: &node(),
        pod_ips: &pod_ips,
        objects,
        env_files: None,
    };
    let env = container_env(&view).map_err(|problem| problem.message)?;
    Ok(env
        .iter()
        .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned()))
        .collect())
}

fn pairs(expected: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
    Ok(expected
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect())
}

#[test]
fn variables_see_only_those_before_them_and_keep_their_place() {
    let env = "[{name: A, value: $(B)}, {name: B, value: b}, {name: C, value: $(A)-$(B)-$$(B)}, {name: A, value: again}]";
    assert_eq!(
        check(env),
        pairs(&[("A", "again"), ("B", "b"), ("C", "$(B)-b-$(B)")])
    );
}

#[test]
fn fields_of_the_pod_are_values() {
    for (path, expected) in [
        ("metadata.name", "web"),
        ("metadata.namespace", "default"),
        ("metadata.uid", "u1"),
        ("metadata.labels", "a=\"1\\\"\\n\u{e9}\"\nb=\"2\""),
        ("metadata.annotations", "a/b=\"y\"\nnote=\"x\""),
        ("metadata.labels['b']", "2"),
        ("metadata.annotations['a/b']", "y"),
        ("metadata.annotations['none']", ""),
        ("spec.nodeName", "bench"),
        ("spec.serviceAccountName", "robot"),
        ("status.hostIP", "10.0.0.5"),
        ("status.hostIPs", "10.0.0.5,fd00::5"),
        ("status.podIP", "10.244.0.7"),
        ("status.podIPs", "10.244.0.7,fd00::9"),
    ] {
        let env = format!("[{{name: V, valueFrom: {{fieldRef: {{fieldPath: \"{path}\"}}}}}}]");
        assert_eq!(check(&env), pairs(&[("V", expected)]), "{path}");
    }
}

#[test]
fn resources_are_values_in_units_of_the_divisor() {
    for (resource, divisor, expected) in [
        ("limits.cpu", "0", "2"),
        ("limits.cpu", "1m", "1500"),
        ("requests.cpu", "1", "1"),
        ("requests.cpu", "100m", "2"),
        ("requests.memory", "1", "1024"),
        ("requests.memory", "1Mi", "1"),
        ("limits.memory", "1", "25171652608"),
        ("limits.memory", "1Gi", "24"),
        ("limits.ephemeral-storage", "1k", "9"),
        ("requests.ephemeral-storage", "1", "0"),
        ("limits.hugepages-2Mi", "1Mi", "4"),
        ("limits.hugepages-1Gi", "1", "0"),
    ] {
        let env = format!(
            "[{{name: V, valueFrom: {{resourceFieldRef: {{resource: {resource}, divisor: \"{divisor}\"}}}}}}]"
        );
        assert_eq!(
            check(&env),
            pairs(&[("V", expected)]),
            "{resource} / {divisor}"
        );
    }
    let named = "[{name: V, valueFrom: {resourceFieldRef: {containerName: first, resource: limits.memory}}}]";
    assert_eq!(
        check(named),
        pairs(&[("V", "0")]),
        "an init container has no defaults here"
    );
}

#[test]
fn a_pods_own_limit_stands_in_for_a_containers() {
    let pod = pod_of(
        "{resources: {limits: {memory: 64Mi}}, containers: [{name: c, env: [
          {name: V, valueFrom: {resourceFieldRef: {resource: limits.memory}}}]}]}",
    );
    assert_eq!(check_pod(&pod), pairs(&[("V", "67108864")]));
}

#[test]
fn sources_that_can_not_be_had_are_named() {
    for (source, expected) in [
        (
            "configMapKeyRef: {name: cm, key: k}",
            "couldn't get configMap default/cm, no kubeClient defined",
        ),
        (
            "secretKeyRef: {name: s, key: k}",
            "couldn't get secret default/s, no kubeClient defined",
        ),
        (
            "fileKeyRef: {volumeName: v, path: p, key: k}",
            "couldn't parse env file",
        ),
        (
            "fieldRef: {fieldPath: status.phase}",
            "unsupported fieldPath: status.phase",
        ),
        (
            "fieldRef: {fieldPath: spec.x}",
            "field label not supported: spec.x",
        ),
        (
            "fieldRef: {fieldPath: \"spec['x']\"}",
            "field label does not support subscript: spec['x']",
        ),
        (
            "fieldRef: {apiVersion: v2, fieldPath: spec.x}",
            "unsupported pod version: v2",
        ),
        (
            "resourceFieldRef: {resource: limits.gpu}",
            "unsupported container resource : limits.gpu",
        ),
        (
            "resourceFieldRef: {containerName: no, resource: limits.cpu}",
            "container no not found",
        ),
    ] {
        let env = format!("[{{name: V, valueFrom: {{{source}}}}}]");
        assert_eq!(check(&env), Err(expected.to_owned()));
    }
    let pod = pod_of("{containers: [{name: c, envFrom: [{prefix: p, secretRef: {name: s}}]}]}");
    assert_eq!(
        check_pod(&pod),
        Err("couldn't get secret default/s, no kubeClient defined".to_owned())
    );
}

/// What the tests of objects have: two ConfigMaps, a Secret with what is no text, one of each that is not there.
fn cluster() -> PodObjects {
    fn known<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> ObjectState<T> {
        ObjectState::Known(std::sync::Arc::new(serde_json::from_value(json).unwrap()))
    }
    fn absent<T>() -> ObjectState<T> {
        let at = jiff::Timestamp::UNIX_EPOCH;
        ObjectState::Absent { at }
    }
    let unknown = ObjectState::Unknown {
        why: "failed to sync configmap cache: timed out waiting for the condition".to_owned(),
    };
    PodObjects {
        access: ApiAccess::Cluster,
        config_maps: [
            (
                "cm".to_owned(),
                known(serde_json::json!({
                    "data": {"REPLACE_ME": "FROM_CONFIG_MAP", "DUPE_TEST": "CONFIG_MAP", "1234": "abc", "key.one": "v"},
                    "binaryData": {"blob": "AAE="},
                })),
            ),
            ("none".to_owned(), absent()),
            ("later".to_owned(), unknown),
        ]
        .into(),
        secrets: [
            (
                "sec".to_owned(),
                known(serde_json::json!({"data": {"word": "b3Blbg==", "raw": "/w==", "DUPE_TEST": "U0VDUkVU"}})),
            ),
            ("none".to_owned(), absent()),
        ]
        .into(),
        services: Services::Known([].into()),
        ..PodObjects::default()
    }
}

#[test]
fn objects_give_variables_in_upstreams_precedence() {
    let check = |container: &str| {
        let pod = pod_of(&format!("{{containers: [{{name: c, {container}}}]}}"));
        check_objects(&pod, &cluster())
    };
    for (container, expected) in [
        (
            "envFrom: [{configMapRef: {name: cm}}]",
            pairs(&[
                ("1234", "abc"),
                ("DUPE_TEST", "CONFIG_MAP"),
                ("REPLACE_ME", "FROM_CONFIG_MAP"),
                ("key.one", "v"),
            ]),
        ),
        (
            "envFrom: [{prefix: p_, configMapRef: {name: cm}}, {secretRef: {name: sec}}],
             env: [{name: p_REPLACE_ME, value: '$(p_1234) $(word)'}]",
            pairs(&[
                ("p_1234", "abc"),
                ("p_DUPE_TEST", "CONFIG_MAP"),
                ("p_REPLACE_ME", "abc open"),
                ("p_key.one", "v"),
                ("DUPE_TEST", "SECRET"),
                ("raw", "\u{fffd}"),
                ("word", "open"),
            ]),
        ),
        (
            "env: [{name: A, valueFrom: {configMapKeyRef: {name: cm, key: '1234'}}},
               {name: B, valueFrom: {secretKeyRef: {name: sec, key: word}}}, {name: C, value: $(A)$(B)}]",
            pairs(&[("A", "abc"), ("B", "open"), ("C", "abcopen")]),
        ),
        (
            "envFrom: [{configMapRef: {name: none, optional: true}}, {secretRef: {name: none, optional: true}}],
             env: [{name: A, value: x}, {name: A, valueFrom: {configMapKeyRef: {name: none, key: k, optional: true}}},
               {name: B, valueFrom: {secretKeyRef: {name: sec, key: k, optional: true}}},
               {name: C, valueFrom: {configMapKeyRef: {name: cm, key: k, optional: true}}}]",
            pairs(&[("A", "x")]),
        ),
    ] {
        assert_eq!(check(container), expected, "{container}");
    }
    for (container, expected) in [
        (
            "envFrom: [{configMapRef: {name: none}}]",
            "configmap \"none\" not found",
        ),
        (
            "envFrom: [{secretRef: {name: none}}]",
            "secret \"none\" not found",
        ),
        (
            "envFrom: [{configMapRef: {name: later, optional: true}}]",
            "failed to sync configmap cache: timed out waiting for the condition",
        ),
        (
            "envFrom: [{secretRef: {name: other}}]",
            "object \"default\"/\"other\" not registered",
        ),
        (
            "env: [{name: A, valueFrom: {configMapKeyRef: {name: cm, key: blob}}}]",
            "couldn't find key blob in ConfigMap default/cm",
        ),
        (
            "env: [{name: A, valueFrom: {secretKeyRef: {name: sec, key: k}}}]",
            "couldn't find key k in Secret default/sec",
        ),
        (
            "env: [{name: A, valueFrom: {secretKeyRef: {name: none, key: k}}}]",
            "secret \"none\" not found",
        ),
    ] {
        assert_eq!(check(container), Err(expected.to_owned()), "{container}");
    }
}

#[test]
fn what_is_no_text_reaches_the_container_as_it_is_and_no_log() {
    let pod = pod_of(
        "{containers: [{name: c, env: [{name: A, valueFrom: {secretKeyRef: {name: sec, key: raw}}}]}]}",
    );
    let (node, objects) = (node(), cluster());
    let env = container_env(&EnvView {
        pod: &pod,
        container: &pod.containers()[0],
        node: &node,
        pod_ips: &[],
        objects: &objects,
        env_files: None,
    })
    .unwrap();
    assert_eq!(env.get("A"), Some([0xff].as_slice()));
    assert_eq!(format!("{env:?}"), "{\"A\"}");
}

#[test]
fn services_come_last_and_can_be_referred_to() {
    let service = |namespace: &str, name: &str, ip: &str| {
        std::sync::Arc::new(v1::Service {
            metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..Default::default()
            },
            spec: Some(v1::ServiceSpec {
                cluster_ip: Some(ip.to_owned()),
                ports: Some(vec![v1::ServicePort {
                    port: 8081,
                    ..Default::default()
                }]),
                ..Default::default()
            }),
            ..Default::default()
        })
    };
    let objects = PodObjects {
        access: ApiAccess::Cluster,
        services: Services::Known(
            [
                service("default", "kubernetes", "1.2.3.1"),
                service("default", "test", "1.2.3.3"),
            ]
            .into(),
        ),
        ..PodObjects::default()
    };
    let pod = pod_of(
        "{containers: [{name: c, env: [{name: A, value: $(TEST_SERVICE_HOST)-$(B)}, {name: TEST_PORT, value: mine}]}]}",
    );
    let env = check_objects(&pod, &objects).unwrap();
    let names: Vec<_> = env.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names[..4],
        [
            "A",
            "TEST_PORT",
            "KUBERNETES_SERVICE_HOST",
            "KUBERNETES_SERVICE_PORT"
        ]
    );
    assert_eq!(env[0].1, "1.2.3.3-$(B)");
    assert_eq!(env[1].1, "mine");
    assert_eq!(
        names
            .iter()
            .filter(|name| name.starts_with("TEST_"))
            .count(),
        7
    );
    let waits = PodObjects {
        services: Services::NotSynced,
        ..objects
    };
    assert_eq!(
        check_objects(&pod, &waits).unwrap().len(),
        2,
        "a static pod does not wait"
    );
    let mut of_api = pod;
    of_api.source = kubelet_model::pod::SourceKind::Api;
    let text = "services have not yet been read at least once, cannot construct envvars";
    assert_eq!(check_objects(&of_api, &waits), Err(text.to_owned()));
}

#[test]
fn variables_from_files_take_their_place_among_the_others() {
    let file = "valueFrom: {fileKeyRef: {volumeName: v, path: f, key: K}}";
    let pod = pod_of(&format!(
        "{{volumes: [{{name: v, emptyDir: {{}}}}], containers: [{{name: c, image: i, env: [{{name: A, {file}}}, {{name: B, {file}}},
          {{name: C, value: '<$(A)$(B)>'}}]}}]}}"
    ));
    let mut values = EnvFileValues::default();
    values.insert(0, Some(b"from file".to_vec()));
    values.insert(1, None);
    let mut node = node();
    let env = |node: &NodeView, values| {
        let env = container_env(&EnvView {
            pod: &pod,
            container: &pod.containers()[0],
            node,
            pod_ips: &[],
            objects: &PodObjects::default(),
            env_files: values,
        });
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        env.map(|env| {
            let all = env
                .iter()
                .map(|(name, value)| format!("{name}={}", text(value)));
            all.collect::<Vec<_>>()
        })
        .map_err(|problem| problem.message)
    };
    assert_eq!(
        env(&node, Some(&values)),
        Ok(vec![
            "A=from file".to_owned(),
            "C=<from file$(B)>".to_owned()
        ])
    );
    assert_eq!(env(&node, None), Err("couldn't parse env file".to_owned()));
    node.env_files = false;
    assert_eq!(
        env(&node, None),
        Ok(["A=", "B=", "C=<>"].map(str::to_owned).to_vec())
    );
}
