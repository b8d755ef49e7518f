//! Service account tokens: what may be requested, by whom, and how long tokens are valid.
//!
//! In:    token requests and reviews; the objects that a token is bound to come and go
//! Out:   codes and messages
//! Upstream: plugin/pkg/admission/noderestriction/admission_test.go (service accounts), pkg/registry/core/serviceaccount/storage/token_test.go,
//!           pkg/serviceaccount/claims_test.go TestValidatePrivateClaims (1.36); left out: extended lifetimes, which are not given here

use super::*;

const TOKEN: &str = "POST /api/v1/namespaces/ns/serviceaccounts/mysa/token";
const REVIEW: &str = "POST /apis/authentication.k8s.io/v1/tokenreviews";

/// Pods of two nodes, with volumes that name audiences in all of upstream's ways.
async fn world() -> World {
    let world = World::bare();
    world
        .put("namespaces", json!({"metadata": {"name": "ns"}}))
        .await;
    let account = json!({"metadata": {"namespace": "ns", "name": "mysa", "uid": "sauid"}});
    world.put("serviceaccounts", account).await;
    let projected =
        |token: Value| json!({"projected": {"sources": [{"serviceAccountToken": token}]}});
    let claim = |name: &str| json!({"persistentVolumeClaim": {"claimName": name}});
    let csi = || json!({"csi": {"driver": "com.example.csi.mydriver"}});
    for (name, node, volumes) in [
        ("mypod", "mynode", json!([])),
        (
            "otherpod",
            "othernode",
            json!([projected(json!({"audience": "foo"}))]),
        ),
        ("nosapod", "mynode", json!([projected(json!({}))])),
        (
            "default",
            "mynode",
            json!([projected(json!({"path": "t"}))]),
        ),
        (
            "foo",
            "mynode",
            json!([{"emptyDir": {}}, projected(json!({"audience": "foo"}))]),
        ),
        ("csi", "mynode", json!([csi()])),
        (
            "unknowncsi",
            "mynode",
            json!([{"csi": {"driver": "unknown"}}]),
        ),
        ("pvc", "mynode", json!([claim("pvclaim")])),
        ("nopvc", "mynode", json!([claim("gone")])),
        ("nopv", "mynode", json!([claim("unbound")])),
        ("nopvcandcsi", "mynode", json!([claim("gone"), csi()])),
        (
            "ephemeral",
            "mynode",
            json!([{"name": "myvol", "ephemeral": {"volumeClaimTemplate": {}}}]),
        ),
        ("intreepv", "mynode", json!([claim("pvclaim-azurefile")])),
        (
            "intree",
            "mynode",
            json!([{"azureFile": {"secretName": "s"}}]),
        ),
    ] {
        let account = if name == "nosapod" { "" } else { "mysa" };
        let spec = json!({"nodeName": node, "serviceAccountName": account, "volumes": volumes});
        let metadata = json!({"namespace": "ns", "name": name, "uid": format!("{name}-uid")});
        world
            .put("pods", json!({"metadata": metadata, "spec": spec}))
            .await;
    }
    for driver in ["com.example.csi.mydriver", "file.csi.azure.com"] {
        let driver =
            json!({"metadata": {"name": driver}, "spec": {"tokenRequests": [{"audience": "foo"}]}});
        world.put("csidrivers.storage.k8s.io", driver).await;
    }
    for (claim, volume, source) in [
        ("pvclaim", "pvname", csi()),
        ("ephemeral-myvol", "pvname2", csi()),
        (
            "pvclaim-azurefile",
            "pvname-azurefile",
            json!({"azureFile": {"secretName": "s"}}),
        ),
    ] {
        let volume = json!({"metadata": {"name": volume}, "spec": source});
        let name = volume["metadata"]["name"].clone();
        world.put("persistentvolumes", volume).await;
        let claim =
            json!({"metadata": {"namespace": "ns", "name": claim}, "spec": {"volumeName": name}});
        world.put("persistentvolumeclaims", claim).await;
    }
    let unbound = json!({"metadata": {"namespace": "ns", "name": "unbound"}, "spec": {"volumeName": "pvname3"}});
    world.put("persistentvolumeclaims", unbound).await;
    let node = json!({"metadata": {"name": "mynode", "uid": "nodeuid"}});
    world.put("nodes", node).await;
    let secret = json!({"metadata": {"namespace": "ns", "name": "mysecret", "uid": "secretuid"}});
    world.put("secrets", secret).await;
    world
}

fn bound(pod: &str, uid: &str, audiences: &[&str]) -> Value {
    let reference = json!({"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uid});
    json!({"spec": {"audiences": audiences, "boundObjectRef": reference}})
}

#[tokio::test]
async fn a_kubelet_gets_tokens_for_its_own_pods_and_for_whom_they_mean_them() {
    let world = world().await;
    let kubelet = User::node("mynode");
    let other = "audience \"bar\" not found in pod spec volume, system:node:mynode is not authorized to request tokens for this audience";
    let mut unversioned = bound("foo", "foo-uid", &["foo"]);
    unversioned["spec"]["boundObjectRef"]["apiVersion"] = "".into();
    let to_secret = json!({"spec": {"boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": "mysecret", "uid": "secretuid"}}});
    let to_node = json!({"spec": {"boundObjectRef": {"kind": "Node", "apiVersion": "v1", "name": "mynode", "uid": "nodeuid"}}});
    for (request, words) in [
        (
            json!({"spec": {"audiences": ["foo"]}}),
            "not bound to a pod",
        ),
        (to_secret, "not bound to a pod"),
        (to_node, "not bound to a pod"),
        (unversioned, "not bound to a pod"),
        (bound("", "someuid", &["foo"]), "not bound to a pod"),
        (
            bound("nopod", "someuid", &["foo"]),
            "pods \"nopod\" not found",
        ),
        (bound("foo", "", &["foo"]), "pod binding without a uid"),
        (
            bound("foo", "old-uid", &["foo"]),
            "the UID in the bound object reference (old-uid) does not match the UID in record.",
        ),
        (
            bound("otherpod", "otherpod-uid", &["foo"]),
            "pod scheduled on a different node",
        ),
        (
            bound("nosapod", "nosapod-uid", &[]),
            "pod running with different serviceaccount name",
        ),
        (bound("default", "default-uid", &[]), ""),
        (bound("default", "default-uid", &[""]), ""),
        (bound("default", "default-uid", &["bar"]), other),
        (bound("foo", "foo-uid", &["foo"]), ""),
        (
            bound("foo", "foo-uid", &[]),
            "audience \"\" not found in pod spec volume",
        ),
        (
            bound("foo", "foo-uid", &["foo", "bar"]),
            "node may only request 0 or 1 audiences",
        ),
        (
            bound("mypod", "mypod-uid", &["foo"]),
            "serviceaccounts \"mysa\" is forbidden: audience \"foo\" not found in pod spec volume, system:node:mynode is not authorized to request tokens for this audience",
        ),
        (bound("csi", "csi-uid", &["foo"]), ""),
        (bound("csi", "csi-uid", &["bar"]), other),
        (
            bound("unknowncsi", "unknowncsi-uid", &["foo"]),
            "error validating audience \"foo\": csidriver.storage.k8s.io \"unknown\" not found",
        ),
        (bound("pvc", "pvc-uid", &["foo"]), ""),
        (bound("pvc", "pvc-uid", &["bar"]), other),
        (
            bound("nopvc", "nopvc-uid", &["foo"]),
            "error validating audience \"foo\": persistentvolumeclaim \"gone\" not found",
        ),
        (
            bound("nopv", "nopv-uid", &["foo"]),
            "error validating audience \"foo\": persistentvolume \"pvname3\" not found",
        ),
        (bound("nopvcandcsi", "nopvcandcsi-uid", &["foo"]), ""),
        (bound("ephemeral", "ephemeral-uid", &["foo"]), ""),
        (bound("ephemeral", "ephemeral-uid", &["bar"]), other),
        (bound("intreepv", "intreepv-uid", &["foo"]), ""),
        (bound("intree", "intree-uid", &["foo"]), ""),
    ] {
        let (code, answer) = world.ask_as(&kubelet, TOKEN, request.clone()).await;
        let said = answer["message"].as_str().unwrap_or_default();
        let right = (code == 201) == words.is_empty() && said.contains(words);
        assert!(right, "{request}: {code} {said}");
    }
    // Users that are no kubelet are not restricted, and a pod of another node is not read.
    world
        .do_it(TOKEN, bound("mypod", "mypod-uid", &["foo", "bar"]))
        .await;
    let (code, _) = world
        .ask_as(
            &User::node("third"),
            TOKEN,
            bound("foo", "foo-uid", &["foo"]),
        )
        .await;
    assert_eq!(code, 403);
}

#[tokio::test]
async fn a_request_is_for_the_account_of_its_path_and_no_token_outlives_a_year() {
    let world = world().await;
    let year = 365 * 24 * 3600;
    let named = |metadata: Value| json!({"metadata": metadata, "spec": {}});
    let spec = |spec: Value| json!({"spec": spec});
    let to = |kind: &str, version: &str| {
        spec(json!({"boundObjectRef": {"kind": kind, "apiVersion": version, "name": "x"}}))
    };
    for (request, code, words) in [
        (
            named(json!({"name": "other"})),
            422,
            "must match the service account name if specified",
        ),
        (
            named(json!({"namespace": "other"})),
            422,
            "must match the service account namespace if specified",
        ),
        (
            named(json!({"uid": "wrong-sa-uid-456"})),
            409,
            "Operation cannot be fulfilled on TokenRequest.authentication.k8s.io \"mysa\": the UID in the token request (wrong-sa-uid-456) does not match the UID of the service account (sauid)",
        ),
        (
            named(json!({"uid": "sauid", "name": "mysa", "namespace": "ns"})),
            201,
            "",
        ),
        (
            spec(json!({"expirationSeconds": 599})),
            422,
            "may not specify a duration less than 10 minutes",
        ),
        (
            spec(json!({"expirationSeconds": (1_i64 << 32) + 1})),
            422,
            "may not specify a duration larger than 2^32 seconds",
        ),
        (
            spec(json!({"expirationSeconds": "600"})),
            400,
            "cannot be handled as a TokenRequest",
        ),
        (
            spec(json!({"expirationSeconds": 1e30})),
            400,
            "cannot be handled as a TokenRequest",
        ),
        (
            spec(json!({"audiences": "a"})),
            400,
            "cannot be handled as a TokenRequest",
        ),
        (
            json!({"kind": "Pod", "apiVersion": "v1", "spec": {}}),
            400,
            "cannot be handled as a TokenRequest",
        ),
        (
            to("Car", "v1"),
            400,
            "cannot bind token to object of type /v1, Kind=Car",
        ),
        (
            to("Pod", "apps/v1"),
            400,
            "cannot bind token to object of type apps/v1, Kind=Pod",
        ),
        (
            to("", ""),
            400,
            "cannot bind token to object of type /, Kind=",
        ),
        (to("Secret", "v1"), 404, "secrets \"x\" not found"),
        (to("Node", "v1"), 404, "nodes \"x\" not found"),
    ] {
        let (got, answer) = world.ask(TOKEN, request.clone()).await;
        let said = answer["message"].as_str().unwrap_or_default();
        assert!(
            got == code && said.contains(words),
            "{request}: {got} {said}"
        );
    }
    for (asked, given) in [(600, 600), (year, year), (year + 1, year), (1 << 32, year)] {
        let made = world
            .do_it(TOKEN, spec(json!({"expirationSeconds": asked})))
            .await;
        assert_eq!(made["spec"]["expirationSeconds"], given, "{asked}");
        let end: jiff::Timestamp = made["status"]["expirationTimestamp"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(end.as_second(), NOON + given, "{asked}");
    }
}

impl World {
    /// The result of a token review: the error, or empty.
    async fn review(&self, token: &str) -> (String, Value) {
        let answer = self.do_it(REVIEW, json!({"spec": {"token": token}})).await;
        let status = &answer["status"];
        let error = status["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            error.is_empty(),
            status["authenticated"] == true,
            "{status}"
        );
        (error, status["user"].clone())
    }

    async fn change(
        &self,
        storage: &str,
        namespace: &str,
        name: &str,
        change: impl Fn(&mut Value),
    ) {
        let registry = &self.server.0.registry;
        let key = format!("{storage}/{namespace}/{name}");
        let found = registry.store.get(&key).unwrap();
        let mut object = found.value();
        change(&mut object);
        let expected = Expected::At(found.version);
        let write = Write {
            key,
            expected,
            change: Change::Put(Box::new(object)),
        };
        registry.store.write(write).await.unwrap();
    }
}

/// The kinds that a token can be bound to, with their paths.
const BOUND: [(&str, &str, &str, &str, &str); 3] = [
    (
        "Secret",
        "secrets",
        "ns",
        "mysecret",
        "Secret UID (new) does not match service account secret ref claim (secretuid)",
    ),
    (
        "Pod",
        "pods",
        "ns",
        "foo",
        "pod UID (new) does not match service account pod ref claim (foo-uid)",
    ),
    (
        "Node",
        "nodes",
        "",
        "mynode",
        "Node UID (new) does not match service account node ref claim (nodeuid)",
    ),
];

#[tokio::test]
async fn what_a_token_is_bound_to_is_looked_up_at_each_use() {
    let gone = "service account token has been invalidated";
    for (kind, storage, namespace, name, other_uid) in BOUND {
        let world = world().await;
        let request =
            json!({"spec": {"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": name}}});
        let made = world.do_it(TOKEN, request).await;
        let token = made["status"]["token"].as_str().unwrap();
        let (error, user) = world.review(token).await;
        assert_eq!((error.as_str(), &user["uid"]), ("", &json!("sauid")));
        let extra =
            |key: &str| user["extra"][format!("authentication.kubernetes.io/{key}")][0].clone();
        let expected = match kind {
            "Secret" => [Value::Null, Value::Null, Value::Null],
            "Pod" => [json!("foo-uid"), json!("mynode"), json!("nodeuid")],
            _ => [Value::Null, json!("mynode"), json!("nodeuid")],
        };
        assert_eq!(
            ["pod-uid", "node-name", "node-uid"].map(extra),
            expected,
            "{kind}"
        );
        for (age, error) in [(-1, ""), (0, ""), (1, ""), (60, ""), (61, gone)] {
            let at = jiff::Timestamp::from_second(NOON - age).unwrap();
            let mark = |object: &mut Value| {
                object["metadata"]["deletionTimestamp"] = object::time(at).into()
            };
            world.change(storage, namespace, name, mark).await;
            assert_eq!(
                world.review(token).await.0,
                error,
                "{kind} deleted {age} s ago"
            );
        }
        let remake = |object: &mut Value| object["metadata"]["deletionTimestamp"] = Value::Null;
        world.change(storage, namespace, name, remake).await;
        assert_eq!(world.review(token).await.0, "", "{kind}");
        world
            .change(storage, namespace, name, |object| {
                object["metadata"]["uid"] = "new".into()
            })
            .await;
        assert_eq!(world.review(token).await.0, other_uid);
        let key = format!("{storage}/{namespace}/{name}");
        let expected = Expected::At(world.server.0.registry.store.get(&key).unwrap().version);
        let write = Write {
            key,
            expected,
            change: Change::Remove,
        };
        world.server.0.registry.store.write(write).await.unwrap();
        assert_eq!(world.review(token).await.0, gone, "{kind}");
    }
}

#[tokio::test]
async fn a_token_ends_with_its_account_and_its_time() {
    let world = world().await;
    let made = world
        .do_it(TOKEN, json!({"spec": {"expirationSeconds": 600}}))
        .await;
    let token = made["status"]["token"].as_str().unwrap();
    assert_eq!(world.review(token).await.0, "");
    for (age, error) in [(60, ""), (61, "service account ns/mysa has been deleted")] {
        let at = jiff::Timestamp::from_second(NOON - age).unwrap();
        let mark =
            |object: &mut Value| object["metadata"]["deletionTimestamp"] = object::time(at).into();
        world.change("serviceaccounts", "ns", "mysa", mark).await;
        assert_eq!(world.review(token).await.0, error, "{age}");
    }
    world
        .change("serviceaccounts", "ns", "mysa", |object| {
            object["metadata"]["uid"] = "sauidold".into()
        })
        .await;
    assert_eq!(
        world.review(token).await.0,
        "service account UID (sauidold) does not match claim (sauid)"
    );
    world.advance(-3600);
    assert_eq!(
        world.review(token).await.0,
        "service account token is not valid yet"
    );
    world.advance(3600 + 601);
    assert_eq!(
        world.review(token).await.0,
        "service account token has expired"
    );
}

#[tokio::test]
async fn a_token_is_believed_without_reading_what_it_is_bound_to() {
    let world = world().await;
    let made = world.do_it(TOKEN, bound("foo", "foo-uid", &[])).await;
    let token = made["status"]["token"].as_str().unwrap();
    let before = crate::store::tests::parses();
    for _ in 0..10 {
        let (user, _) = world.server.0.authenticate_token(token, &[]).unwrap();
        assert_eq!(user.name, "system:serviceaccount:ns:mysa");
        assert_eq!(user.uid, "sauid");
    }
    assert_eq!(crate::store::tests::parses() - before, 0);
}
