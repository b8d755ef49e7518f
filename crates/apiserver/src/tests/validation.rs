//! Validation as upstream: pods and other kinds by POST, updates by PATCH, each with its causes.
//!
//! In:    requests
//! Out:   answers
//! Upstream: pkg/apis/core/validation, pkg/registry/core/service/storage (facts)

use super::*;

const SERVICES: &str = "/api/v1/namespaces/default/services";

/// The reason, the field and the message of each cause.
fn causes(answer: &Value) -> Vec<(String, String, String)> {
    let text = |cause: &Value, field: &str| cause[field].as_str().unwrap_or_default().to_owned();
    let all = answer["details"]["causes"].as_array();
    all.into_iter()
        .flatten()
        .map(|cause| {
            (
                text(cause, "reason"),
                text(cause, "field"),
                text(cause, "message"),
            )
        })
        .collect()
}

fn with(container: Value) -> Value {
    let mut pod = pod("a");
    let fields = container.as_object().unwrap().clone();
    pod["spec"]["containers"][0]
        .as_object_mut()
        .unwrap()
        .extend(fields);
    pod
}

fn spec(fields: Value) -> Value {
    let mut pod = pod("a");
    let fields = fields.as_object().unwrap().clone();
    pod["spec"].as_object_mut().unwrap().extend(fields);
    pod
}

fn meta(fields: Value) -> Value {
    let mut pod = pod("a");
    let fields = fields.as_object().unwrap().clone();
    pod["metadata"].as_object_mut().unwrap().extend(fields);
    pod
}

/// Pods that upstream refuses: the spec, the field, the type of the error, a part of the message.
#[rustfmt::skip]
fn wrong_pods() -> Vec<(Value, &'static str, &'static str, &'static str)> {
    let c = "spec.containers[0]";
    let at = |rest: &str| -> &'static str { Box::leak(format!("{c}{rest}").into_boxed_str()) };
    vec![
        (with(json!({"ports": [{"containerPort": 80, "protocol": "tcp"}]})), at(".ports[0].protocol"), "FieldValueNotSupported", "Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\""),
        (with(json!({"ports": [{"containerPort": 70000}]})), at(".ports[0].containerPort"), "FieldValueInvalid", "Invalid value: 70000: must be between 1 and 65535, inclusive"),
        (with(json!({"ports": [{"containerPort": 80, "hostPort": 70000}]})), at(".ports[0].hostPort"), "FieldValueInvalid", "must be between 1 and 65535"),
        (with(json!({"ports": [{"name": "Web", "containerPort": 80}]})), at(".ports[0].name"), "FieldValueInvalid", "must contain only alpha-numeric characters"),
        (with(json!({"ports": [{"name": "a", "containerPort": 80}, {"name": "a", "containerPort": 81}]})), at(".ports[1].name"), "FieldValueDuplicate", "Duplicate value: \"a\""),
        (with(json!({"ports": [{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 80}]})), at(".ports[1].hostPort"), "FieldValueDuplicate", "TCP//80"),
        (with(json!({"resources": {"limits": {"cpu": "-1"}}})), at(".resources.limits[cpu]"), "FieldValueInvalid", "must be greater than or equal to 0"),
        (with(json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})), at(".resources.requests"), "FieldValueInvalid", "must be less than or equal to cpu limit of 1"),
        (with(json!({"resources": {"limits": {"cpus": "1"}}})), at(".resources.limits[cpus]"), "FieldValueInvalid", "must be a standard resource type or fully qualified"),
        (with(json!({"resources": {"requests": {"example.com/gpu": "1"}}})), at(".resources.limits"), "FieldValueRequired", "Limit must be set for non overcommitable resources"),
        (with(json!({"imagePullPolicy": "Sometimes"})), at(".imagePullPolicy"), "FieldValueNotSupported", "\"Sometimes\""),
        (with(json!({"image": " busybox"})), at(".image"), "FieldValueInvalid", "must not have leading or trailing whitespace"),
        (with(json!({"terminationMessagePolicy": "x"})), at(".terminationMessagePolicy"), "FieldValueNotSupported", "\"x\""),
        (with(json!({"env": [{"name": "a=b"}]})), at(".env[0].name"), "FieldValueInvalid", "printable ASCII"),
        (with(json!({"env": [{"name": "a", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]})), at(".env[0].valueFrom"), "FieldValueInvalid", "may not be specified when `value` is not empty"),
        (with(json!({"env": [{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "metadata.nmae"}}}]})), at(".env[0].valueFrom.fieldRef.fieldPath"), "FieldValueInvalid", "field label not supported"),
        (with(json!({"env": [{"name": "a", "valueFrom": {"secretKeyRef": {"name": "s", "key": "a b"}}}]})), at(".env[0].valueFrom.secretKeyRef.key"), "FieldValueInvalid", "a valid config key"),
        (with(json!({"livenessProbe": {"periodSeconds": 1}})), at(".livenessProbe"), "FieldValueRequired", "must specify a handler type"),
        (with(json!({"livenessProbe": {"tcpSocket": {"port": 1}, "successThreshold": 2}})), at(".livenessProbe.successThreshold"), "FieldValueInvalid", "must be 1"),
        (with(json!({"readinessProbe": {"tcpSocket": {"port": 1}, "exec": {"command": ["a"]}}})), at(".readinessProbe.tcpSocket"), "FieldValueForbidden", "may not specify more than 1 handler type"),
        (with(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 60}}}})), at(".lifecycle.preStop.sleep"), "FieldValueInvalid", "less than terminationGracePeriodSeconds (30)"),
        (with(json!({"securityContext": {"runAsUser": -1}})), at(".securityContext.runAsUser"), "FieldValueInvalid", "must be between 0 and 2147483647"),
        (with(json!({"securityContext": {"privileged": true, "allowPrivilegeEscalation": false}})), at(".securityContext"), "FieldValueInvalid", "cannot set `allowPrivilegeEscalation` to false"),
        (with(json!({"securityContext": {"procMount": "Unmasked"}})), at(".securityContext.procMount"), "FieldValueInvalid", "`hostUsers` must be false"),
        (spec(json!({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]})), "spec.volumes[0].hostPath", "FieldValueForbidden", "may not specify more than 1 volume type"),
        (spec(json!({"volumes": [{"name": "v", "hostPath": {"path": "/a/../b"}}]})), "spec.volumes[0].hostPath.path", "FieldValueInvalid", "must not contain '..'"),
        (spec(json!({"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "-1"}}]})), "spec.volumes[0].emptyDir.sizeLimit", "FieldValueForbidden", "SizeLimit field must be a valid resource quantity"),
        (spec(json!({"volumes": [{"name": "v", "secret": {"secretName": "s", "defaultMode": 1000}}]})), "spec.volumes[0].secret.defaultMode", "FieldValueInvalid", "0777 (octal)"),
        (spec(json!({"dnsPolicy": "None"})), "spec.dnsConfig", "FieldValueRequired", "must provide `dnsConfig`"),
        (spec(json!({"dnsPolicy": "x"})), "spec.dnsPolicy", "FieldValueNotSupported", "\"x\""),
        (spec(json!({"hostAliases": [{"ip": "1.2.3"}]})), "spec.hostAliases[0].ip", "FieldValueInvalid", "must be a valid IP address"),
        (spec(json!({"hostname": "a.b"})), "spec.hostname", "FieldValueInvalid", "must not contain dots"),
        (spec(json!({"nodeSelector": {"a b": "c"}})), "spec.nodeSelector", "FieldValueInvalid", "name part must consist of"),
        (spec(json!({"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]})), "spec.tolerations[0].operator", "FieldValueInvalid", "value must be empty"),
        (spec(json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}]})), "spec.topologySpreadConstraints[0].maxSkew", "FieldValueInvalid", "must be greater than zero"),
        (spec(json!({"ephemeralContainers": [{"name": "e", "image": "i"}]})), "spec.ephemeralContainers", "FieldValueForbidden", "cannot be set on create"),
        (meta(json!({"labels": {"a b": "c"}})), "metadata.labels", "FieldValueInvalid", "name part must consist of"),
        (meta(json!({"labels": {"a": "b c"}})), "metadata.labels", "FieldValueInvalid", "a valid label must be an empty string"),
    ]
}

#[tokio::test]
async fn a_pod_that_upstream_refuses_is_refused_with_its_causes() {
    let world = World::new().await;
    let pods = wrong_pods();
    assert_eq!(pods.len(), 38);
    for (sent, field, reason, part) in pods {
        let shown = sent.to_string();
        let (code, answer) = world.ask(&format!("POST {PODS}"), sent).await;
        let found = causes(&answer);
        let right = found
            .iter()
            .any(|cause| cause.0 == reason && cause.1 == field && cause.2.contains(part));
        assert!(code == 422 && right, "{shown}: {code} {answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.starts_with("Pod \"a\" is invalid: "), "{message}");
        assert_eq!(
            (
                &answer["reason"],
                &answer["details"]["kind"],
                &answer["details"]["name"]
            ),
            (&json!("Invalid"), &json!("Pod"), &json!("a"))
        );
    }
}

#[tokio::test]
async fn every_kind_is_looked_into() {
    let world = World::new().await;
    let base = "/api/v1/namespaces/default";
    for (path, sent, field) in [
        (
            format!("{base}/configmaps"),
            json!({"data": {"a b": "c"}}),
            "data[a b]",
        ),
        (
            format!("{base}/secrets"),
            json!({"type": "kubernetes.io/tls"}),
            "data[tls.crt]",
        ),
        (
            format!("{base}/serviceaccounts"),
            json!({"metadata": {"finalizers": ["x"]}}),
            "metadata.finalizers[0]",
        ),
        (
            format!("{base}/endpoints"),
            json!({"subsets": [{"addresses": [{"ip": "127.0.0.1"}]}]}),
            "subsets[0].addresses[0].ip",
        ),
        (
            format!("{base}/events"),
            json!({"involvedObject": {"namespace": "other"}}),
            "involvedObject.namespace",
        ),
        (
            format!("{base}/persistentvolumeclaims"),
            json!({"spec": {"accessModes": []}}),
            "spec.accessModes",
        ),
        (
            "/api/v1/persistentvolumes".to_owned(),
            json!({"spec": {"accessModes": ["x"]}}),
            "spec.accessModes",
        ),
        (
            "/api/v1/nodes".to_owned(),
            json!({"spec": {"taints": [{"key": "a", "effect": "x"}]}}),
            "metadata.taints[0].effect",
        ),
        (
            "/api/v1/namespaces".to_owned(),
            json!({"metadata": {"labels": {"/": ""}}}),
            "metadata.labels",
        ),
        (
            "/apis/coordination.k8s.io/v1/namespaces/default/leases".to_owned(),
            json!({"spec": {"leaseDurationSeconds": 0}}),
            "spec.leaseDurationSeconds",
        ),
        (
            "/apis/events.k8s.io/v1/namespaces/default/events".to_owned(),
            json!({"regarding": {"namespace": "default"}}),
            "eventTime",
        ),
        (
            "/apis/node.k8s.io/v1/runtimeclasses".to_owned(),
            json!({"handler": ""}),
            "handler",
        ),
        (
            "/apis/scheduling.k8s.io/v1/priorityclasses".to_owned(),
            json!({"value": 2_000_000_000}),
            "value",
        ),
        (
            "/apis/storage.k8s.io/v1/storageclasses".to_owned(),
            json!({"provisioner": ""}),
            "provisioner",
        ),
        (
            "/apis/storage.k8s.io/v1/csidrivers".to_owned(),
            json!({"spec": {"fsGroupPolicy": "x"}}),
            "spec.fsGroupPolicy",
        ),
        (
            "/apis/storage.k8s.io/v1/csinodes".to_owned(),
            json!({"spec": {"drivers": [{"name": "", "nodeID": "n"}]}}),
            "spec.drivers[0].name",
        ),
        (
            "/apis/storage.k8s.io/v1/volumeattachments".to_owned(),
            json!({"spec": {"attacher": "a", "nodeName": "n", "source": {}}}),
            "spec.source",
        ),
        (
            "/apis/certificates.k8s.io/v1/certificatesigningrequests".to_owned(),
            json!({"spec": {"request": "YQ==", "signerName": "a", "usages": ["any"]}}),
            "spec.signerName",
        ),
        (
            SERVICES.to_owned(),
            json!({"spec": {"ports": [{"port": 70000}]}}),
            "spec.ports[0].port",
        ),
    ] {
        let mut sent = sent;
        let metadata = sent
            .as_object_mut()
            .unwrap()
            .entry("metadata")
            .or_insert(json!({}));
        metadata["name"] = "a".into();
        let (code, answer) = world.ask(&format!("POST {path}"), sent).await;
        let found = causes(&answer);
        assert!(
            code == 422 && found.iter().any(|cause| cause.1 == field),
            "{path}: {code} {answer}"
        );
    }
}

#[tokio::test]
async fn a_service_gets_its_addresses_and_its_ports_and_keeps_them() {
    let world = World::new().await;
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let port = json!([{"port": 80}]);
    let made = world
        .do_it(
            &format!("POST {SERVICES}"),
            service("a", json!({"type": "NodePort", "ports": port})),
        )
        .await;
    let first = made["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
    assert!((30_000..=32_767).contains(&first));
    assert_eq!(made["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(made["spec"]["clusterIPs"][0], made["spec"]["clusterIP"]);
    let made = world
        .do_it(
            &format!("POST {SERVICES}"),
            service("b", json!({"type": "NodePort", "ports": port})),
        )
        .await;
    assert_ne!(made["spec"]["ports"][0]["nodePort"], first);
    for (node_port, why) in [
        (json!(first), "provided port is already allocated"),
        (
            json!(80),
            "provided port is not in the valid range. The range of valid ports is 30000-32767",
        ),
    ] {
        let sent = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": node_port}]});
        let (code, answer) = world
            .ask(&format!("POST {SERVICES}"), service("c", sent))
            .await;
        let found = causes(&answer);
        assert_eq!(
            (code, &*found[0].1),
            (422, "spec.ports[0].nodePort"),
            "{answer}"
        );
        assert!(found[0].2.contains(why), "{answer}");
    }
    // A client that omits an allocated value gets it again.
    let line = format!("PUT {SERVICES}/a");
    let sent = service(
        "a",
        json!({"type": "NodePort", "ports": [{"port": 80, "targetPort": 8080}]}),
    );
    let made = world.do_it(&line, sent).await;
    assert_eq!(made["spec"]["ports"][0]["nodePort"], first);
    assert_ne!(made["spec"]["clusterIP"], Value::Null);
    // A type without that port drops it.
    let made = world
        .do_it(
            &format!("PATCH {SERVICES}/a"),
            json!({"spec": {"type": "ClusterIP"}}),
        )
        .await;
    assert_eq!(made["spec"]["ports"][0]["nodePort"], Value::Null);
    assert_eq!(made["spec"]["externalTrafficPolicy"], Value::Null);
    let patch = json!({"spec": {"clusterIP": "10.96.9.9", "clusterIPs": ["10.96.9.9"]}});
    let (code, answer) = world.ask(&format!("PATCH:merge {SERVICES}/a"), patch).await;
    assert_eq!(
        (code, &*causes(&answer)[0].1),
        (422, "spec.clusterIPs[0]"),
        "{answer}"
    );
    let made = world
        .do_it(
            &format!("PATCH {SERVICES}/a"),
            json!({"spec": {"type": "ExternalName", "externalName": "a.example"}}),
        )
        .await;
    assert_eq!(made["spec"]["clusterIP"], Value::Null);
    let balancer = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": port});
    let made = world
        .do_it(&format!("POST {SERVICES}"), service("d", balancer))
        .await;
    assert_eq!(made["spec"]["allocateLoadBalancerNodePorts"], true);
    assert_ne!(
        made["spec"]["healthCheckNodePort"],
        made["spec"]["ports"][0]["nodePort"]
    );
}

#[tokio::test]
async fn an_existing_toleration_may_last_longer_and_a_bad_status_is_refused() {
    let world = World::new().await;
    let toleration = |seconds: i64| json!([{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
    let sent = spec(json!({"tolerations": toleration(10)}));
    let made = world.do_it(&format!("POST {PODS}"), sent).await;
    let mut all = made["spec"]["tolerations"].as_array().unwrap().clone();
    all[0]["tolerationSeconds"] = 20.into();
    let line = format!("PATCH:merge {PODS}/a");
    let made = world
        .do_it(&line, json!({"spec": {"tolerations": all}}))
        .await;
    assert_eq!(made["spec"]["tolerations"][0]["tolerationSeconds"], 20);
    let status = json!({"status": {"podIPs": [{"ip": "nonsense"}]}});
    let (code, answer) = world.ask(&format!("PATCH {PODS}/a/status"), status).await;
    assert_eq!(
        (code, &*causes(&answer)[0].1),
        (422, "status.podIPs[0]"),
        "{answer}"
    );
}

#[tokio::test]
async fn what_was_kept_before_today_can_still_be_changed() {
    let world = World::new().await;
    let mut old = world
        .do_it(
            &format!("POST {PODS}"),
            with(json!({"ports": [{"containerPort": 80}]})),
        )
        .await;
    old["spec"]["containers"][0]["ports"][0]["protocol"] = "tcp".into();
    old["metadata"]["name"] = "old".into();
    world.put("pods", old).await;
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    let made = world.do_it(&format!("PATCH {PODS}/old"), labels).await;
    assert_eq!(made["metadata"]["labels"]["a"], "b");
}
