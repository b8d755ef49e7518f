//! Paths that name no object: the index, metrics, health checks, and kinds that are not served.
//!
//! In:    requests
//! Out:   texts and lists
//! Upstream: test/integration/apiserver/{apiserver_test.go,health_handlers_test.go}, pkg/registry/core/pod/strategy_test.go

use super::*;

async fn text(world: &World, line: &str) -> (u16, String) {
    let (code, body) = world.send(&User::admin(), line, &Value::Null, "").await;
    let bytes = body.collect().await.unwrap().to_bytes();
    (code, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn the_index_names_paths_that_are_there() {
    let world = World::new().await;
    let index = world.get("/").await;
    let paths = index["paths"].as_array().unwrap();
    assert!(paths.iter().any(|path| path == "/apis/storage.k8s.io/v1"));
    for path in paths {
        let path = path.as_str().unwrap();
        assert_eq!(text(&world, &format!("GET {path}")).await.0, 200, "{path}");
    }
    assert_eq!(world.ask("POST /", Value::Null).await.0, 405);
    let other = User::new("bob", &["users", "system:authenticated"]);
    for path in ["/", "/metrics", "/apis/apps/v1/deployments"] {
        let (code, answer) = world
            .ask_as(&other, &format!("GET {path}"), Value::Null)
            .await;
        assert_eq!(
            (code, &answer["reason"]),
            (403, &json!("Forbidden")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn health_is_told_check_by_check() {
    let world = World::bare();
    let hook = "poststarthook/start-system-namespaces-controller";
    let failed =
        format!("[+]ping ok\n[+]store ok\n[-]{hook} failed: not finished\nreadyz check failed\n");
    assert_eq!(text(&world, "GET /readyz").await, (500, failed));
    assert_eq!(
        text(&world, "GET /livez?verbose").await,
        (200, "[+]ping ok\nlivez check passed\n".to_owned())
    );
    world.settle().await;
    let passed = format!("[+]ping ok\n[+]store ok\n[+]{hook} ok\nreadyz check passed\n");
    assert_eq!(text(&world, "GET /readyz?verbose").await, (200, passed));
    assert_eq!(
        text(&world, &format!("GET /readyz/{hook}")).await,
        (200, "ok".to_owned())
    );
    assert_eq!(text(&world, "GET /readyz/none").await.0, 404);
}

#[tokio::test]
async fn figures_count_requests_and_objects() {
    let world = World::new().await;
    world.do_it(&format!("POST {PODS}"), pod("a")).await;
    world.get(PODS).await;
    world
        .refused(&format!("GET {PODS}/none"), Value::Null)
        .await;
    let (code, figures) = text(&world, "GET /metrics").await;
    assert_eq!(code, 200);
    let count = |verb: &str, scope: &str, code: u16, count: u64| {
        format!(
            "apiserver_request_total{{code=\"{code}\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",scope=\"{scope}\",subresource=\"\",verb=\"{verb}\",version=\"v1\"}} {count}\n"
        )
    };
    for line in [
        count("POST", "namespace", 201, 1),
        count("LIST", "namespace", 200, 1),
        count("GET", "resource", 404, 1),
        "apiserver_resource_objects{group=\"\",resource=\"pods\"} 1\n".to_owned(),
        "apiserver_current_inflight_requests{request_kind=\"mutating\"} 0\n".to_owned(),
    ] {
        assert!(figures.contains(&line), "{line}\n{figures}");
    }
}

#[tokio::test]
async fn kinds_of_which_there_are_none_have_empty_lists_and_nothing_else() {
    let world = World::new().await;
    for (path, kind, version) in [
        (
            "/api/v1/replicationcontrollers",
            "ReplicationControllerList",
            "v1",
        ),
        (
            "/api/v1/namespaces/default/replicationcontrollers",
            "ReplicationControllerList",
            "v1",
        ),
        (
            "/apis/apps/v1/namespaces/default/daemonsets",
            "DaemonSetList",
            "apps/v1",
        ),
        (
            "/apis/apps/v1/namespaces/default/deployments",
            "DeploymentList",
            "apps/v1",
        ),
        (
            "/apis/apps/v1/namespaces/default/replicasets",
            "ReplicaSetList",
            "apps/v1",
        ),
    ] {
        let list = world.get(path).await;
        assert_eq!(
            (&list["kind"], &list["apiVersion"]),
            (&json!(kind), &json!(version))
        );
        assert_eq!(list["items"], json!([]));
        let posted = world.ask(&format!("POST {path}"), json!({})).await.0;
        assert_eq!(posted, 405, "{path}");
        assert_eq!(
            world.ask(&format!("GET {path}/a"), Value::Null).await.0,
            404
        );
    }
    // Discovery does not list them.
    assert_eq!(world.ask("GET /apis/apps/v1", Value::Null).await.0, 404);
}

#[tokio::test]
async fn what_listens_in_a_pod_is_reached_by_its_address_alone() {
    let world = World::new().await;
    world.do_it(&format!("POST {PODS}"), pod_on("a", "n")).await;
    let status = json!({"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}});
    world
        .do_it(&format!("POST {PODS}"), pod_on("near", "n"))
        .await;
    world
        .do_it(&format!("PATCH {PODS}/near/status"), status)
        .await;
    for (name, code, message) in [
        ("a:80", 400, "address not allowed"),
        ("near:80", 400, "address not allowed"),
        ("ftp:a:80", 400, "invalid pod request \"ftp:a:80\""),
        ("none:80", 404, "pods \"none\" not found"),
    ] {
        let (got, answer) = world
            .ask(&format!("GET {PODS}/{name}/proxy/x"), Value::Null)
            .await;
        assert_eq!((got, &answer["message"]), (code, &json!(message)), "{name}");
    }
}
