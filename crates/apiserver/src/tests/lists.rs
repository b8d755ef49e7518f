//! Lists: the version and the objects that they show.
//!
//! In:    `resourceVersion` with `limit` and `continue`, field selectors
//! Out:   lists, or errors
//! Upstream: staging/src/k8s.io/apiserver/pkg/storage/testing/store_tests.go, pkg/apis/core/v1/conversion_test.go

use super::*;

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

fn version_of(list: &Value) -> &str {
    list["metadata"]["resourceVersion"].as_str().unwrap()
}

#[tokio::test]
async fn a_version_with_a_limit_is_exact_and_one_without_is_not() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        let body = config_map(name, &json!({}));
        world.do_it(&format!("POST {CONFIG_MAPS}"), body).await;
    }
    let own = format!("{CONFIG_MAPS}?labelSelector=app");
    let before = world.get(&own).await;
    let version = version_of(&before);
    world
        .do_it(&format!("DELETE {CONFIG_MAPS}/b"), Value::Null)
        .await;
    for (query, shown) in [
        ("&resourceVersionMatch=Exact", vec!["a", "b", "c"]),
        ("&limit=9", vec!["a", "b", "c"]),
        ("&limit=9&resourceVersionMatch=NotOlderThan", vec!["a", "c"]),
        ("&resourceVersionMatch=NotOlderThan", vec!["a", "c"]),
        ("", vec!["a", "c"]),
    ] {
        let list = world
            .get(&format!("{own}&resourceVersion={version}{query}"))
            .await;
        assert_eq!(names(&list), shown, "{query}");
        assert_eq!(version_of(&list) == version, shown.len() == 3, "{query}");
    }
    let first = world
        .get(&format!("{own}&resourceVersion={version}&limit=2"))
        .await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    // The following pages need no version, and accept none but 0.
    let line = format!("GET {own}&limit=2&continue={token}&resourceVersion={version}");
    let (code, answer) = world.ask(&line, Value::Null).await;
    let why = "specifying resource version is not allowed when using continue";
    assert_eq!((code, &answer["message"]), (400, &json!(why)));
    for query in ["", "&resourceVersion=0"] {
        let rest = world
            .get(&format!("{own}&limit=2&continue={token}{query}"))
            .await;
        assert_eq!((names(&rest), version_of(&rest)), (vec!["c"], version));
    }
    let bad =
        "resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax";
    for (query, code, message) in [
        (
            "resourceVersion=x",
            400,
            format!("invalid resource version: {bad}"),
        ),
        (
            "watch=1&resourceVersion=x",
            422,
            format!("configmaps \"\" is invalid: {bad}"),
        ),
    ] {
        let (got, answer) = world
            .ask(&format!("GET {CONFIG_MAPS}?{query}"), Value::Null)
            .await;
        assert_eq!((got, &answer["message"]), (code, &json!(message)));
    }
}

#[tokio::test]
async fn a_page_whose_version_is_gone_offers_the_rest_as_it_is_now() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        let body = config_map(name, &json!({}));
        world.do_it(&format!("POST {CONFIG_MAPS}"), body).await;
    }
    let own = format!("{CONFIG_MAPS}?labelSelector=app&limit=1");
    let first = world.get(&own).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let read = crate::base::encoding::from_base64_url(token).unwrap();
    let mut read: Value = serde_json::from_slice(&read).unwrap();
    // More changes than the store keeps.
    for _ in 0..1_100 {
        let line = format!("PATCH {CONFIG_MAPS}/c");
        let version = world.server.0.registry.store.version().to_string();
        world.do_it(&line, json!({"data": {"v": version}})).await;
    }
    let (code, answer) = world
        .ask(&format!("GET {own}&continue={token}"), Value::Null)
        .await;
    assert_eq!(
        (code, &answer["reason"]),
        (410, &json!("Expired")),
        "{answer}"
    );
    let rest = answer["metadata"]["continue"].as_str().unwrap();
    let rest = world.get(&format!("{own}&continue={rest}")).await;
    assert_eq!(names(&rest), ["b"]);
    let exact = format!(
        "GET {CONFIG_MAPS}?resourceVersion={}&resourceVersionMatch=Exact",
        read["rv"]
    );
    let (code, answer) = world.ask(&exact, Value::Null).await;
    let why = "The resourceVersion for the provided list is too old.";
    assert_eq!((code, &answer["message"]), (410, &json!(why)));
    // A forged token reads no other list.
    read["start"] = "../secrets/".into();
    read["rv"] = (-1).into();
    let forged = crate::base::encoding::base64_url(read.to_string().as_bytes());
    let list = world.get(&format!("{own}&continue={forged}")).await;
    assert_eq!(list["kind"], "ConfigMapList");
}

#[tokio::test]
async fn fields_are_selected_by_the_rules_of_each_kind() {
    let world = World::new().await;
    let port = json!([{"port": 80}]);
    for (name, spec) in [
        ("web", json!({"ports": port})),
        ("db", json!({"ports": port, "clusterIP": "None"})),
        (
            "far",
            json!({"type": "ExternalName", "externalName": "far.example"}),
        ),
    ] {
        let body = json!({"metadata": {"name": name}, "spec": spec});
        world
            .do_it("POST /api/v1/namespaces/default/services", body)
            .await;
    }
    world.do_it(&format!("POST {PODS}"), pod_on("p", "n")).await;
    world.do_it(&format!("POST {PODS}"), pod_on("q", "m")).await;
    let services = "/api/v1/namespaces/default/services";
    for (path, selector, shown) in [
        (services, "spec.type=ExternalName", vec!["far"]),
        (services, "spec.clusterIP=None", vec!["db"]),
        (
            services,
            "spec.clusterIP!=None,spec.type=ClusterIP",
            vec!["kubernetes", "web"],
        ),
        (PODS, "spec.nodeName=n", vec!["p"]),
        (PODS, "spec.host=n", vec!["p"]),
        (PODS, "status.phase!=Running,metadata.name=q", vec!["q"]),
        (PODS, "metadata.namespace=other", vec![]),
        (
            "/api/v1/namespaces",
            "metadata.name=default,status.phase=Active",
            vec!["default"],
        ),
    ] {
        let list = world.get(&format!("{path}?fieldSelector={selector}")).await;
        assert_eq!(names(&list), shown, "{path} {selector}");
    }
    let event = json!({
        "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "Made", "type": "Normal", "reportingComponent": "me",
    });
    world
        .do_it("POST /api/v1/namespaces/default/events", event)
        .await;
    let events = "/apis/events.k8s.io/v1/namespaces/default/events";
    let selector = "regarding.name=p,reportingController=me,reason=Made";
    let list = world
        .get(&format!("{events}?fieldSelector={selector}"))
        .await;
    assert_eq!(names(&list), ["e"]);
    let plain = |label: &str| {
        format!(
            "{label:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        )
    };
    let own = |label: &str| format!("field label not supported: {label}");
    for (path, label, why) in [
        (CONFIG_MAPS, "data", plain("data")),
        (
            "/apis/coordination.k8s.io/v1/leases",
            "spec.holderIdentity",
            plain("spec.holderIdentity"),
        ),
        (PODS, "spec.x", own("spec.x")),
        (
            "/api/v1/nodes",
            "metadata.namespace",
            own("metadata.namespace"),
        ),
        (services, "spec.ports", own("spec.ports")),
        (events, "involvedObject.name", own("involvedObject.name")),
    ] {
        for query in ["", "&watch=1"] {
            let line = format!("GET {path}?fieldSelector={label}=x{query}");
            let (code, answer) = world.ask(&line, Value::Null).await;
            assert_eq!((code, &answer["message"]), (400, &json!(why)), "{line}");
        }
    }
}

#[tokio::test]
async fn what_is_made_has_no_version_yet() {
    let world = World::new().await;
    let mut body = config_map("a", &json!({}));
    body["metadata"]["resourceVersion"] = "7".into();
    let line = format!("POST {CONFIG_MAPS}");
    let (code, answer) = world.ask(&line, body.clone()).await;
    let why = "resourceVersion should not be set on objects to be created";
    assert_eq!((code, &answer["message"]), (500, &json!(why)));
    assert_eq!(answer.get("reason"), None);
    world
        .do_it(&format!("{line}?dryRun=All"), body.clone())
        .await;
    body["metadata"]["resourceVersion"] = "0".into();
    world.do_it(&line, body).await;
}
