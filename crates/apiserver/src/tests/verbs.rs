//! The verbs, on kinds without rules of their own.
//!
//! In:    requests
//! Out:   answers
//! Upstream: staging/src/k8s.io/apiserver/pkg/endpoints/apiserver_test.go

use super::*;

#[tokio::test]
async fn an_object_lives_from_create_to_delete() {
    let world = World::new().await;
    let made = world
        .do_it(
            &format!("POST {CONFIG_MAPS}"),
            config_map("a", &json!({"x": "1"})),
        )
        .await;
    assert_eq!(made["metadata"]["namespace"], "default");
    assert_eq!(
        made["metadata"]["creationTimestamp"],
        "2026-11-25T12:00:00Z"
    );
    assert_eq!(made["metadata"]["uid"].as_str().unwrap().len(), 36);
    let path = format!("{CONFIG_MAPS}/a");
    assert_eq!(world.get(&path).await, made);
    let mut changed = made.clone();
    changed["data"]["x"] = "2".into();
    let new = world.do_it(&format!("PUT {path}"), changed.clone()).await;
    assert_ne!(
        new["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );
    // The old version is refused; an update without a version is not.
    assert_eq!(
        world.refused(&format!("PUT {path}"), changed).await,
        (409, "Conflict".to_owned())
    );
    let status = world.do_it(&format!("DELETE {path}"), Value::Null).await;
    assert_eq!(
        (&status["kind"], &status["status"]),
        (&json!("Status"), &json!("Success"))
    );
    assert_eq!(
        world.refused(&format!("GET {path}"), Value::Null).await,
        (404, "NotFound".to_owned())
    );
}

#[tokio::test]
async fn refusals_have_upstreams_codes_and_words() {
    let world = World::new().await;
    world
        .do_it(&format!("POST {CONFIG_MAPS}"), config_map("a", &json!({})))
        .await;
    for (line, body, code, message) in [
        (
            "GET /api/v1/namespaces/default/configmaps/no",
            Value::Null,
            404,
            "configmaps \"no\" not found",
        ),
        (
            "GET /apis/none/v1/things",
            Value::Null,
            404,
            "the server could not find the requested resource",
        ),
        (
            "POST /api/v1/namespaces/default/configmaps",
            config_map("a", &json!({})),
            409,
            "configmaps \"a\" already exists",
        ),
        (
            "POST /api/v1/namespaces/no/configmaps",
            config_map("a", &json!({})),
            404,
            "namespaces \"no\" not found",
        ),
        (
            "POST /api/v1/namespaces/default/configmaps",
            json!({"metadata": {"namespace": "other", "name": "b"}}),
            400,
            "the namespace of the provided object does not match the namespace sent on the request: other != default",
        ),
        (
            "POST /api/v1/namespaces/default/configmaps",
            json!({"kind": "Pod", "metadata": {"name": "b"}}),
            400,
            "Pod in version \"\" cannot be handled as a ConfigMap: converting is not possible",
        ),
        (
            "POST /api/v1/namespaces/default/configmaps",
            json!({"metadata": {}}),
            422,
            "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
        ),
        (
            "POST /api/v1/namespaces/default/secrets",
            json!({"metadata": {"name": "s"}, "data": {"k": "%"}}),
            400,
            "",
        ),
        (
            "PUT /api/v1/namespaces/default/configmaps/a",
            json!({"metadata": {"name": "b"}}),
            400,
            "the name of the object (b) does not match the name on the URL (a)",
        ),
        (
            "PUT /api/v1/namespaces/default/configmaps/a",
            json!({"metadata": {"name": "a", "uid": "x"}}),
            409,
            "",
        ),
        (
            "DELETE /api/v1/namespaces/default/configmaps/a",
            json!({"preconditions": {"uid": "x"}}),
            409,
            "",
        ),
        (
            "PATCH /apis/storage.k8s.io/v1/csinodes/x",
            json!({}),
            404,
            "csinodes.storage.k8s.io \"x\" not found",
        ),
        (
            "POST /api/v1/namespaces",
            json!({"metadata": {"name": "a.b"}}),
            422,
            "",
        ),
        (
            "DELETE /api/v1/namespaces",
            Value::Null,
            405,
            "the server does not allow this method on the requested resource",
        ),
        (
            "GET /api/v1/pods?fieldSelector=a%3Db",
            Value::Null,
            400,
            "field label not supported: a",
        ),
        (
            "GET /api/v1/pods?resourceVersion=99999",
            Value::Null,
            504,
            "",
        ),
        (
            "GET /api/v1/pods?continue=x",
            Value::Null,
            400,
            "invalid continue token: continue key is not valid: illegal base64 data",
        ),
        (
            "POST /api/v1/namespaces/default/configmaps?dryRun=Some",
            config_map("b", &json!({})),
            422,
            "",
        ),
    ] {
        let (got, answer) = world.ask(line, body).await;
        assert_eq!(got, code, "{line}: {answer}");
        assert_eq!(answer["code"], code, "{line}");
        assert!(
            message.is_empty() || answer["message"] == message,
            "{line}: {answer}"
        );
    }
}

#[tokio::test]
async fn types_are_checked_and_unknown_fields_dropped() {
    let world = World::new().await;
    let bad = json!({"metadata": {"name": "b"}, "data": {"x": 1}});
    assert_eq!(
        world.refused(&format!("POST {CONFIG_MAPS}"), bad).await.0,
        400
    );
    let odd = json!({"metadata": {"name": "b"}, "futureField": {"a": 1}});
    let made = world.do_it(&format!("POST {CONFIG_MAPS}"), odd).await;
    assert_eq!(made["futureField"], Value::Null);
}

#[tokio::test]
async fn strict_requests_are_told_of_unknown_fields() {
    let world = World::new().await;
    let line = format!("POST {PODS}?fieldValidation=Strict");
    let mut odd = pod("a");
    odd["spec"]["containers"][0]["imagee"] = "x".into();
    odd["spec"]["colour"] = Value::Null;
    let (code, answer) = world.ask(&line, odd.clone()).await;
    assert_eq!(code, 400);
    let message = "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"spec.containers[0].imagee\"";
    assert_eq!(answer["message"], message);
    world.do_it(&format!("POST {PODS}"), odd).await;
    // Unknown fields that are already stored do not prevent other changes.
    let line = format!("PATCH {PODS}/a?fieldValidation=Strict");
    world
        .do_it(&line, json!({"metadata": {"labels": {"a": "b"}}}))
        .await;
    let odd = json!({"metadata": {"lables": {}}});
    assert_eq!(world.refused(&line, odd).await.0, 400);
}

#[tokio::test]
async fn a_dry_run_does_everything_but_the_write() {
    let world = World::new().await;
    let made = world
        .do_it(
            &format!("POST {CONFIG_MAPS}?dryRun=All"),
            config_map("a", &json!({})),
        )
        .await;
    assert_eq!(made["metadata"]["resourceVersion"], Value::Null);
    assert_eq!(
        world
            .refused(&format!("GET {CONFIG_MAPS}/a"), Value::Null)
            .await
            .0,
        404
    );
    world
        .do_it(&format!("POST {CONFIG_MAPS}"), config_map("a", &json!({})))
        .await;
    let patched = world
        .do_it(
            &format!("PATCH {CONFIG_MAPS}/a?dryRun=All"),
            json!({"data": {"k": "v"}}),
        )
        .await;
    assert_eq!(patched["data"]["k"], "v");
    world
        .do_it(&format!("DELETE {CONFIG_MAPS}/a?dryRun=All"), Value::Null)
        .await;
    // It still has no data, and as upstream none is written.
    assert_eq!(
        world.get(&format!("{CONFIG_MAPS}/a")).await["data"],
        Value::Null
    );
    assert_eq!(
        world
            .refused(
                &format!("POST {CONFIG_MAPS}?dryRun=All"),
                config_map("a", &json!({}))
            )
            .await
            .0,
        409
    );
}

#[tokio::test]
async fn pages_of_a_list_show_one_version() {
    let world = World::new().await;
    for name in ["a", "b", "c", "d"] {
        world
            .do_it(&format!("POST {CONFIG_MAPS}"), config_map(name, &json!({})))
            .await;
    }
    let first = world
        .get(&format!("{CONFIG_MAPS}?limit=2&labelSelector=app"))
        .await;
    world
        .do_it(&format!("DELETE {CONFIG_MAPS}/c"), Value::Null)
        .await;
    world
        .do_it(&format!("POST {CONFIG_MAPS}"), config_map("e", &json!({})))
        .await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = world
        .get(&format!(
            "{CONFIG_MAPS}?limit=5&labelSelector=app&continue={token}"
        ))
        .await;
    let names = |list: &Value| {
        let items = list["items"].as_array().unwrap();
        items
            .iter()
            .map(|i| i["metadata"]["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (names(&first), names(&second)),
        (vec!["a".into(), "b".into()], vec!["c".into(), "d".into()])
    );
    assert_eq!(
        first["metadata"]["resourceVersion"],
        second["metadata"]["resourceVersion"]
    );
    assert_eq!(second["metadata"]["continue"], Value::Null);
    let version = &first["metadata"]["resourceVersion"].as_str().unwrap();
    let exact = world
        .get(&format!(
            "{CONFIG_MAPS}?labelSelector=app&resourceVersion={version}&resourceVersionMatch=Exact"
        ))
        .await;
    assert_eq!(names(&exact).len(), 4);
    assert_eq!(
        names(
            &world
                .get(&format!("{CONFIG_MAPS}?labelSelector=app%3De"))
                .await
        ),
        ["e"]
    );
    assert_eq!(
        names(
            &world
                .get(&format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Da"))
                .await
        ),
        ["a"]
    );
}

#[tokio::test]
async fn every_kind_can_be_made_listed_patched_and_deleted() {
    let world = World::new().await;
    for row in crate::kinds::resources::RESOURCES
        .iter()
        .filter(|row| !row.is_virtual())
    {
        let root = if row.group.is_empty() {
            "/api/v1".to_owned()
        } else {
            format!("/apis/{}", row.api_version())
        };
        let base = if row.namespaced {
            format!("{root}/namespaces/default/{}", row.plural)
        } else {
            format!("{root}/{}", row.plural)
        };
        let body = match row.kind {
            "Pod" => pod("thing"),
            "Service" => json!({"metadata": {"name": "thing"}, "spec": {"ports": [{"port": 80}]}}),
            "CertificateSigningRequest" => {
                json!({"metadata": {"name": "thing"}, "spec": {"request": "eA==", "signerName": "example.com/x"}})
            }
            "CSIDriver" | "CSINode" => json!({"metadata": {"name": "thing"}, "spec": {}}),
            "PersistentVolumeClaim" => json!({"metadata": {"name": "thing"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
            "PersistentVolume" => json!({"metadata": {"name": "thing"},
                "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/a"}}}),
            "RuntimeClass" => json!({"metadata": {"name": "thing"}, "handler": "h"}),
            "StorageClass" => {
                json!({"metadata": {"name": "thing"}, "provisioner": "example.com/p"})
            }
            "VolumeAttachment" => json!({"metadata": {"name": "thing"},
                "spec": {"attacher": "a.example", "nodeName": "n", "source": {"persistentVolumeName": "v"}}}),
            "Event" if !row.group.is_empty() => new_event("thing"),
            _ => json!({"metadata": {"name": "thing"}}),
        };
        let made = world.do_it(&format!("POST {base}"), body).await;
        assert_eq!(
            (&made["kind"], &made["apiVersion"]),
            (&json!(row.kind), &json!(row.api_version()))
        );
        let list = world.get(&base).await;
        assert_eq!(list["kind"], format!("{}List", row.kind));
        let patched = world
            .do_it(
                &format!("PATCH {base}/thing"),
                json!({"metadata": {"labels": {"a": "b"}}}),
            )
            .await;
        assert_eq!(
            patched["metadata"]["labels"]["a"],
            "b",
            "{}",
            row.qualified()
        );
        let table = world
            .send(
                &User::admin(),
                &format!("GET {base}"),
                &Value::Null,
                "application/json;as=Table;v=v1;g=meta.k8s.io",
            )
            .await;
        let table: Value =
            serde_json::from_slice(&table.1.collect().await.unwrap().to_bytes()).unwrap();
        assert_eq!(table["kind"], "Table", "{}", row.qualified());
        assert_eq!(
            table["rows"][0]["cells"].as_array().unwrap().len(),
            table["columnDefinitions"].as_array().unwrap().len()
        );
        world
            .do_it(&format!("DELETE {base}/thing"), Value::Null)
            .await;
    }
}

/// An `events.k8s.io` event with all its fields.
fn new_event(name: &str) -> Value {
    json!({
        "metadata": {"name": name}, "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "note": "hello",
        "reason": "R", "type": "Normal", "reportingController": "c", "reportingInstance": "c-1", "action": "Look",
        "eventTime": "2026-11-25T12:00:00.000000Z",
    })
}

#[tokio::test]
async fn an_event_is_the_same_in_both_groups() {
    let world = World::new().await;
    world
        .do_it(
            "POST /apis/events.k8s.io/v1/namespaces/default/events",
            new_event("e"),
        )
        .await;
    let core = world.get("/api/v1/namespaces/default/events/e").await;
    assert_eq!(
        (&core["message"], &core["involvedObject"]["name"]),
        (&json!("hello"), &json!("p"))
    );
    let found = world
        .get("/api/v1/events?fieldSelector=involvedObject.name%3Dp%2Creason%3DR")
        .await;
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    let patched = world
        .do_it(
            "PATCH /apis/events.k8s.io/v1/namespaces/default/events/e",
            json!({"series": {"count": 2, "lastObservedTime": "2026-11-25T12:01:00.000000Z"}}),
        )
        .await;
    assert_eq!(
        (
            &patched["note"],
            &patched["message"],
            &patched["series"]["count"]
        ),
        (&json!("hello"), &Value::Null, &json!(2))
    );
}

#[tokio::test]
async fn names_are_generated_and_differ() {
    let world = World::new().await;
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let made = world
            .do_it(
                &format!("POST {CONFIG_MAPS}"),
                json!({"metadata": {"generateName": "x-"}}),
            )
            .await;
        let name = made["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("x-") && name.len() == 7);
        names.insert(name);
    }
    assert_eq!(names.len(), 20);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let world = World::new().await;
    for name in ["a", "b"] {
        world
            .do_it(&format!("POST {CONFIG_MAPS}"), config_map(name, &json!({})))
            .await;
    }
    world
        .do_it(
            &format!("DELETE {CONFIG_MAPS}?labelSelector=app%3Da"),
            Value::Null,
        )
        .await;
    assert_eq!(
        world
            .refused(&format!("GET {CONFIG_MAPS}/a"), Value::Null)
            .await
            .0,
        404
    );
    world.get(&format!("{CONFIG_MAPS}/b")).await;
}

#[tokio::test]
async fn immutable_objects_stay() {
    let world = World::new().await;
    let made = json!({"metadata": {"name": "a"}, "data": {"x": "1"}, "immutable": true});
    world.do_it(&format!("POST {CONFIG_MAPS}"), made).await;
    for patch in [json!({"data": {"x": "2"}}), json!({"immutable": false})] {
        assert_eq!(
            world
                .refused(&format!("PATCH {CONFIG_MAPS}/a"), patch)
                .await,
            (422, "Invalid".to_owned())
        );
    }
    world
        .do_it(
            &format!("PATCH {CONFIG_MAPS}/a"),
            json!({"metadata": {"labels": {"a": "b"}}}),
        )
        .await;
}

#[tokio::test]
async fn many_writers_of_one_object_all_get_through() {
    let world = World::new().await;
    world
        .do_it(&format!("POST {CONFIG_MAPS}"), config_map("a", &json!({})))
        .await;
    let writes = (0..30).map(|n| {
        let patch = json!({"data": {format!("k{n}"): "v"}});
        let world = &world;
        async move { world.do_it(&format!("PATCH {CONFIG_MAPS}/a"), patch).await }
    });
    futures_util::future::join_all(writes).await;
    let data = world.get(&format!("{CONFIG_MAPS}/a")).await["data"].clone();
    assert_eq!(data.as_object().unwrap().len(), 30);
}

#[tokio::test]
async fn bodies_are_bounded() {
    let world = World::new().await;
    let big = "x".repeat(3 << 20);
    assert_eq!(
        world
            .refused(
                &format!("POST {CONFIG_MAPS}"),
                config_map("a", &json!({"x": big}))
            )
            .await,
        (413, "RequestEntityTooLarge".to_owned())
    );
    // The limit for the content of config maps, secrets and annotations is smaller, and counts the decoded bytes.
    let large = "x".repeat((1 << 20) + 1);
    let map = config_map("a", &json!({"x": large}));
    let refused = world.refused(&format!("POST {CONFIG_MAPS}"), map).await;
    assert_eq!(refused, (422, "Invalid".to_owned()));
    let mut map = config_map("a", &json!({"x": "y".repeat(1 << 20)}));
    world
        .do_it(&format!("POST {CONFIG_MAPS}"), map.clone())
        .await;
    map["metadata"] = json!({"name": "b", "annotations": {"a": "y".repeat(256 << 10)}});
    let refused = world.refused(&format!("POST {CONFIG_MAPS}"), map).await;
    assert_eq!(refused, (422, "Invalid".to_owned()));
}

#[tokio::test]
async fn discovery_names_what_is_served() {
    let world = World::new().await;
    let groups = world.get("/apis").await;
    let names: Vec<&str> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| g["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "authentication.k8s.io",
            "authorization.k8s.io",
            "certificates.k8s.io",
            "coordination.k8s.io",
            "events.k8s.io",
            "node.k8s.io",
            "scheduling.k8s.io",
            "storage.k8s.io"
        ]
    );
    let document = world.get("/openapi/v3/api/v1").await;
    let patch = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Pod");
    assert_eq!(patch["parameters"][2]["name"], "fieldValidation");
    let core = world.get("/api/v1").await;
    let eviction = core["resources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["name"] == "pods/eviction")
        .unwrap()
        .clone();
    assert_eq!(
        eviction,
        json!({"name": "pods/eviction", "singularName": "", "namespaced": true, "kind": "Eviction", "group": "policy", "version": "v1", "verbs": ["create"]})
    );
    assert_eq!(
        world.get("/version").await["gitVersion"],
        crate::verbs::discovery::VERSION
    );
}
