//! What a kubelet may and may not do.
//!
//! In:    requests as `system:node:n`
//! Out:   codes
//! Upstream: test/integration/auth/node_test.go, plugin/pkg/admission/noderestriction/admission_test.go

use super::*;

async fn world() -> World {
    let world = World::new().await;
    for name in ["mine", "other"] {
        world
            .do_it(&format!("POST {CONFIG_MAPS}"), config_map(name, &json!({})))
            .await;
        world
            .do_it(
                "POST /api/v1/namespaces/default/secrets",
                json!({"metadata": {"name": name}}),
            )
            .await;
    }
    let mut mine = pod_on("mine", "n");
    mine["spec"]["volumes"] = json!([{"name": "s", "secret": {"secretName": "mine"}}]);
    mine["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "mine"}}]);
    world.do_it(&format!("POST {PODS}"), mine).await;
    world
        .do_it(&format!("POST {PODS}"), pod_on("other", "m"))
        .await;
    world.do_it("POST /api/v1/nodes", ready_node("n")).await;
    world.do_it("POST /api/v1/nodes", ready_node("m")).await;
    world
}

#[tokio::test]
async fn a_kubelet_reads_what_its_pods_refer_to_and_writes_what_is_its_own() {
    let world = world().await;
    let kubelet = User::node("n");
    let event =
        json!({"metadata": {"name": "e"}, "involvedObject": {}, "reason": "R", "type": "Normal"});
    let lease = |name: &str| json!({"metadata": {"name": name}, "spec": {"holderIdentity": name}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let running = json!({"status": {"phase": "Running"}});
    let uid = world.get(&format!("{PODS}/mine")).await["metadata"]["uid"].clone();
    let bound = json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "mine", "uid": uid}}});
    for (line, body, code) in [
        ("GET /api/v1/pods", Value::Null, 403),
        (
            "GET /api/v1/pods?fieldSelector=spec.nodeName%3Dn",
            Value::Null,
            200,
        ),
        (
            "GET /api/v1/pods?fieldSelector=spec.nodeName%3Dm",
            Value::Null,
            403,
        ),
        ("GET /api/v1/namespaces/default/pods/mine", Value::Null, 200),
        (
            "GET /api/v1/namespaces/default/pods/other",
            Value::Null,
            403,
        ),
        (
            "GET /api/v1/namespaces/default/secrets/mine",
            Value::Null,
            200,
        ),
        (
            "GET /api/v1/namespaces/default/secrets/other",
            Value::Null,
            403,
        ),
        (
            "GET /api/v1/namespaces/default/secrets?fieldSelector=metadata.name%3Dmine",
            Value::Null,
            200,
        ),
        ("GET /api/v1/namespaces/default/secrets", Value::Null, 403),
        (
            "GET /api/v1/namespaces/default/configmaps/mine",
            Value::Null,
            200,
        ),
        (
            "GET /api/v1/namespaces/default/configmaps/other",
            Value::Null,
            403,
        ),
        (
            "GET /api/v1/namespaces/default/configmaps/kube-root-ca.crt",
            Value::Null,
            200,
        ),
        (
            "PATCH /api/v1/namespaces/default/secrets/mine",
            json!({}),
            403,
        ),
        (
            "PATCH /api/v1/namespaces/default/pods/mine/status",
            running.clone(),
            200,
        ),
        (
            "PATCH /api/v1/namespaces/default/pods/other/status",
            running,
            403,
        ),
        ("PATCH /api/v1/namespaces/default/pods/mine", json!({}), 403),
        (
            "PATCH /api/v1/namespaces/default/pods/mine/status",
            json!({"metadata": {"labels": {"a": "b"}}}),
            403,
        ),
        (
            "POST /api/v1/namespaces/default/pods",
            pod_on("new", "n"),
            403,
        ),
        ("GET /api/v1/nodes/n", Value::Null, 200),
        ("GET /api/v1/nodes/m", Value::Null, 403),
        (
            "GET /api/v1/nodes?fieldSelector=metadata.name%3Dn",
            Value::Null,
            200,
        ),
        ("GET /api/v1/nodes", Value::Null, 403),
        (
            "PATCH /api/v1/nodes/n/status",
            json!({"status": {"nodeInfo": {}}}),
            200,
        ),
        ("PATCH /api/v1/nodes/m/status", json!({}), 403),
        (
            "PATCH /api/v1/nodes/n",
            json!({"metadata": {"labels": {"kubernetes.io/os": "linux"}}}),
            200,
        ),
        (
            "PATCH /api/v1/nodes/n",
            json!({"metadata": {"labels": {"node-restriction.kubernetes.io/a": "b"}}}),
            403,
        ),
        (
            "PATCH /api/v1/nodes/n",
            json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}),
            403,
        ),
        ("DELETE /api/v1/nodes/n", Value::Null, 403),
        ("POST /api/v1/namespaces/default/events", event, 201),
        (&format!("POST {leases}"), lease("n"), 201),
        (&format!("POST {leases}"), lease("m"), 403),
        (&format!("GET {leases}/n"), Value::Null, 200),
        (
            "GET /apis/coordination.k8s.io/v1/namespaces/default/leases/n",
            Value::Null,
            403,
        ),
        ("GET /api/v1/services", Value::Null, 200),
        ("GET /apis/node.k8s.io/v1/runtimeclasses", Value::Null, 200),
        (
            "POST /api/v1/namespaces/default/serviceaccounts/default/token",
            bound,
            201,
        ),
        (
            "POST /api/v1/namespaces/default/serviceaccounts/default/token",
            json!({"spec": {}}),
            403,
        ),
        (
            "POST /api/v1/namespaces/kube-system/serviceaccounts/default/token",
            json!({"spec": {}}),
            403,
        ),
        (
            "POST /apis/authentication.k8s.io/v1/tokenreviews",
            json!({"spec": {"token": "x"}}),
            201,
        ),
        ("GET /api/v1/namespaces", Value::Null, 403),
        (
            "DELETE /api/v1/namespaces/default/pods/other",
            Value::Null,
            403,
        ),
        (
            "DELETE /api/v1/namespaces/default/pods/mine",
            json!({"gracePeriodSeconds": 0}),
            200,
        ),
    ] {
        let (got, answer) = world.ask_as(&kubelet, line, body).await;
        assert_eq!(got, code, "{line}: {answer}");
    }
    // After the pod is gone, the objects that it referred to are no longer readable.
    let (code, _) = world
        .ask_as(
            &kubelet,
            "GET /api/v1/namespaces/default/secrets/mine",
            Value::Null,
        )
        .await;
    assert_eq!(code, 403);
}

#[tokio::test]
async fn a_kubelet_makes_mirror_pods_that_are_its_own() {
    let world = world().await;
    let kubelet = User::node("n");
    let uid = world.get("/api/v1/nodes/n").await["metadata"]["uid"].clone();
    let mut mirror = pod_on("static-n", "n");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
    let line = format!("POST {PODS}");
    assert_eq!(world.ask_as(&kubelet, &line, mirror.clone()).await.0, 403);
    let owner = |uid: &Value| json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": uid, "controller": true}]);
    mirror["metadata"]["ownerReferences"] = owner(&json!("wrong"));
    assert_eq!(world.ask_as(&kubelet, &line, mirror.clone()).await.0, 403);
    mirror["metadata"]["ownerReferences"] = owner(&uid);
    let (code, made) = world.ask_as(&kubelet, &line, mirror).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["spec"]["serviceAccountName"], Value::Null);
}

#[tokio::test]
async fn refusals_of_the_authorizer_are_in_upstreams_words() {
    let world = world().await;
    let (_, answer) = world
        .ask_as(
            &User::node("n"),
            "GET /api/v1/namespaces/default/secrets/other",
            Value::Null,
        )
        .await;
    assert_eq!(
        answer["message"],
        "secrets \"other\" is forbidden: User \"system:node:n\" cannot get resource \"secrets\" in API group \"\" in the namespace \"default\": no relationship found between node 'n' and this object"
    );
    let (_, answer) = world
        .ask_as(&User::new("bob", &[]), "GET /api/v1/nodes", Value::Null)
        .await;
    assert_eq!(
        answer["message"],
        "nodes is forbidden: User \"bob\" cannot list resource \"nodes\" in API group \"\" at the cluster scope"
    );
}

#[tokio::test]
async fn what_a_pod_is_does_not_change_with_its_annotations() {
    let world = world().await;
    let uid = world.get("/api/v1/nodes/n").await["metadata"]["uid"].clone();
    let mut mirror = pod_on("static-n", "n");
    let owner =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": uid, "controller": true}]);
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
    mirror["metadata"]["ownerReferences"] = owner;
    let kubelet = User::node("n");
    let (code, made) = world
        .ask_as(&kubelet, &format!("POST {PODS}"), mirror)
        .await;
    assert_eq!(code, 201, "{made}");
    let annotated =
        |value: Value| json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": value}}});
    let add = "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation";
    let change = "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not remove or update mirror pod annotation";
    for (path, sent, code, words) in [
        ("static-n/status", annotated(Value::Null), 422, change),
        ("static-n/status", annotated("other".into()), 422, change),
        ("static-n/status", annotated("hash".into()), 200, ""),
        ("mine/status", annotated("hash".into()), 422, add),
    ] {
        for user in [&kubelet, &User::admin()] {
            let line = format!("PATCH {PODS}/{path}");
            let (got, answer) = world.ask_as(user, &line, sent.clone()).await;
            let said = answer["message"].as_str().unwrap_or_default();
            assert!(got == code && said.contains(words), "{line}: {got} {said}");
        }
    }
    let (code, _) = world
        .ask(&format!("PATCH {PODS}/static-n"), annotated(Value::Null))
        .await;
    assert_eq!(code, 422);
    let mut unbound = pod("unbound");
    unbound["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
    let (code, answer) = world.ask(&format!("POST {PODS}"), unbound).await;
    let said = answer["message"].as_str().unwrap_or_default();
    assert!(
        code == 422 && said.contains("must set spec.nodeName if mirror pod annotation is set"),
        "{said}"
    );
}

#[tokio::test]
async fn a_mirror_pod_reads_no_secret() {
    let world = world().await;
    let uid = world.get("/api/v1/nodes/n").await["metadata"]["uid"].clone();
    let kubelet = User::node("n");
    let secret = "GET /api/v1/namespaces/default/secrets/other";
    for (name, part) in [
        (
            "env",
            json!({"containers": [{"name": "c", "image": "i", "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "other", "key": "k"}}}]}]}),
        ),
        (
            "from",
            json!({"containers": [{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": "other"}}]}]}),
        ),
        ("pull", json!({"imagePullSecrets": [{"name": "other"}]})),
        (
            "csi",
            json!({"volumes": [{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "other"}}}]}),
        ),
    ] {
        let mut mirror = pod_on(name, "n");
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
        mirror["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": uid, "controller": true}]);
        object::map_mut(&mut mirror, "spec").append(object::as_map(&mut part.clone()));
        let (code, answer) = world
            .ask_as(&kubelet, &format!("POST {PODS}"), mirror)
            .await;
        assert_eq!(code, 403, "{name}: {answer}");
        assert_eq!(
            world.ask_as(&kubelet, secret, Value::Null).await.0,
            403,
            "{name}"
        );
    }
}

#[tokio::test]
async fn empty_labels_keep_no_status_away_however_they_got_into_the_store() {
    let world = world().await;
    let kubelet = User::node("n");
    let mut pod = pod_on("bare", "n");
    pod["metadata"]["labels"] = json!({});
    let made = world.do_it(&format!("POST {PODS}"), pod).await;
    assert_eq!(made.pointer("/metadata/labels"), None, "as upstream");
    // As an earlier version of this server stored it.
    let store = &world.server.0.registry.store;
    let object = store.get("pods/default/bare").unwrap();
    let mut kept = object.value();
    kept["metadata"]["labels"] = json!({});
    kept["metadata"]["ownerReferences"] = json!([]);
    let write = Write {
        key: object.key.to_string(),
        expected: Expected::At(object.version),
        change: Change::Put(Box::new(kept)),
    };
    store.write(write).await.unwrap();
    let status = json!({"status": {"phase": "Failed"}});
    let line = format!("PATCH {PODS}/bare/status");
    let (code, answer) = world.ask_as(&kubelet, &line, status).await;
    assert_eq!((code, &answer["status"]["phase"]), (200, &json!("Failed")));
    // A kubelet may not set labels with a value.
    let labels = json!({"metadata": {"labels": {"a": ""}}});
    let (code, answer) = world.ask_as(&kubelet, &line, labels).await;
    assert_eq!(code, 403, "{answer}");
}

#[tokio::test]
async fn a_patch_to_what_is_empty_changes_nothing() {
    let world = world().await;
    let kubelet = User::node("n");
    let line = format!("PATCH {PODS}/mine/status");
    let empties = json!({"status": {
        "podIPs": [], "conditions": [], "containerStatuses": [], "message": "", "allocatedResources": {},
        "$setElementOrder/podIPs": [],
    }});
    let (code, before) = world
        .ask("GET /api/v1/namespaces/default/pods/mine", Value::Null)
        .await;
    assert_eq!(code, 200);
    let (code, after) = world.ask_as(&kubelet, &line, empties).await;
    assert_eq!(code, 200, "{after}");
    assert_eq!(after, before);
    // An address that comes and goes leaves nothing behind.
    let one = json!({"status": {"podIPs": [{"ip": "10.1.0.2"}]}});
    let (_, with) = world.ask_as(&kubelet, &line, one).await;
    assert_eq!(with["status"]["podIPs"], json!([{"ip": "10.1.0.2"}]));
    let none = json!({"status": {"podIPs": [{"$patch": "delete", "ip": "10.1.0.2"}], "$setElementOrder/podIPs": []}});
    let (_, without) = world.ask_as(&kubelet, &line, none).await;
    assert_eq!(without.pointer("/status/podIPs"), None, "{without}");
}
