//! Authentication: tokens, certificates over a real connection, reviews.
//!
//! In:    credentials
//! Out:   users
//! Upstream: test/integration/auth, test/integration/serviceaccount

use super::*;

async fn with_header(world: &World, path: &str, header: Option<&str>) -> (u16, Value) {
    let mut request = Request::builder().uri(format!("https://server{path}"));
    if let Some(header) = header {
        request = request.header("authorization", header);
    }
    let request = request.body(Full::new(Bytes::new())).unwrap();
    let response = world.server.service().call(request).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

#[tokio::test]
async fn nothing_is_anonymous_but_health_and_version() {
    let world = World::new().await;
    for (path, code) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/livez", 200),
        ("/version", 200),
        ("/api", 401),
        ("/apis", 401),
        ("/api/v1/nodes", 401),
        ("/metrics", 401),
        ("/", 401),
    ] {
        assert_eq!(with_header(&world, path, None).await.0, code, "{path}");
    }
    for (header, code) in [
        ("Bearer secret-token", 200),
        ("bearer  secret-token", 200),
        ("Bearer wrong", 401),
        ("Basic x", 401),
        ("Bearer ", 401),
    ] {
        assert_eq!(
            with_header(&world, "/api", Some(header)).await.0,
            code,
            "{header}"
        );
    }
    assert_eq!(
        with_header(&world, "/api/v1/nodes", Some("Bearer secret-token"))
            .await
            .0,
        403
    );
}

#[tokio::test]
async fn the_server_is_alive_at_once_and_ready_when_it_has_begun() {
    let world = World::bare();
    assert_eq!(with_header(&world, "/livez", None).await.0, 200);
    assert_eq!(with_header(&world, "/readyz", None).await.0, 500);
    world.settle().await;
    assert_eq!(with_header(&world, "/readyz", None).await.0, 200);
}

#[tokio::test]
async fn a_bootstrap_token_asks_for_a_certificate_and_nothing_else() {
    let world = World::new().await;
    let user = User::new("system:bootstrap:abc", &["system:bootstrappers"]);
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let body =
        json!({"metadata": {"name": "a"}, "spec": {"request": "eA==", "signerName": "x.io/y"}});
    for (line, body, code) in [
        (format!("POST {requests}"), body, 201),
        (format!("GET {requests}/a"), Value::Null, 200),
        (format!("DELETE {requests}/a"), Value::Null, 403),
        (format!("PATCH {requests}/a/approval"), json!({}), 403),
        ("GET /api/v1/nodes".to_owned(), Value::Null, 403),
    ] {
        assert_eq!(world.ask_as(&user, &line, body).await.0, code, "{line}");
    }
}

#[tokio::test]
async fn only_an_administrator_asks_as_somebody_else() {
    let world = World::new().await;
    for (user, headers, code) in [
        (User::admin(), &[("impersonate-user", "bob")][..], 403),
        (
            User::admin(),
            &[
                ("impersonate-user", "bob"),
                ("impersonate-group", "system:masters"),
            ][..],
            200,
        ),
        (User::admin(), &[("impersonate-group", "a")][..], 400),
        (
            User::new("bob", &[]),
            &[("impersonate-user", "kubernetes-admin")][..],
            403,
        ),
        (User::admin(), &[][..], 200),
    ] {
        let mut request = Request::builder().uri("https://server/api/v1/nodes");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::new())).unwrap();
        let mut service = world.server.service_as(user);
        let response = service.call(request).await.unwrap();
        assert_eq!(response.status().as_u16(), code, "{headers:?}");
    }
}

const TOKEN: &str = "/api/v1/namespaces/default/serviceaccounts/default/token";
const REVIEW: &str = "POST /apis/authentication.k8s.io/v1/tokenreviews";

#[tokio::test]
async fn a_bound_token_lives_as_long_as_its_time_and_its_pod() {
    let world = World::new().await;
    let made = world.do_it(&format!("POST {PODS}"), pod_on("a", "n")).await;
    let uid = &made["metadata"]["uid"];
    let bound = json!({"spec": {"expirationSeconds": 3607, "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "a", "uid": uid}}});
    let request = world.do_it(&format!("POST {TOKEN}"), bound.clone()).await;
    assert_eq!(
        request["status"]["expirationTimestamp"],
        "2026-11-25T13:00:07Z"
    );
    let token = request["status"]["token"].as_str().unwrap().to_owned();
    let review =
        |token: &str, audiences: Value| json!({"spec": {"token": token, "audiences": audiences}});
    let answer = world.do_it(REVIEW, review(&token, json!([]))).await;
    let user = &answer["status"]["user"];
    assert_eq!(user["username"], "system:serviceaccount:default:default");
    assert_eq!(
        user["extra"]["authentication.kubernetes.io/pod-name"],
        json!(["a"])
    );
    assert!(
        user["groups"]
            .as_array()
            .unwrap()
            .contains(&json!("system:serviceaccounts:default"))
    );
    assert_eq!(
        with_header(&world, "/api", Some(&format!("Bearer {token}")))
            .await
            .0,
        200
    );
    let other = world.do_it(REVIEW, review(&token, json!(["vault"]))).await;
    assert_eq!(other["status"]["authenticated"], Value::Null);
    world.advance(3608);
    assert_eq!(
        with_header(&world, "/api", Some(&format!("Bearer {token}")))
            .await
            .0,
        401
    );
    let request = world.do_it(&format!("POST {TOKEN}"), bound.clone()).await;
    let token = format!("Bearer {}", request["status"]["token"].as_str().unwrap());
    assert_eq!(with_header(&world, "/api", Some(&token)).await.0, 200);
    world
        .do_it(
            &format!("DELETE {PODS}/a"),
            json!({"gracePeriodSeconds": 0}),
        )
        .await;
    assert_eq!(with_header(&world, "/api", Some(&token)).await.0, 401);
    for (spec, code) in [
        (json!({"spec": {"expirationSeconds": 10}}), 422),
        (bound, 404),
        (
            json!({"spec": {"boundObjectRef": {"kind": "Car", "name": "a"}}}),
            400,
        ),
    ] {
        assert_eq!(
            world.ask(&format!("POST {TOKEN}"), spec.clone()).await.0,
            code,
            "{spec}"
        );
    }
}

#[tokio::test]
async fn reviews_tell_what_requests_would_get() {
    let world = World::new().await;
    let access = |user: &str, groups: Value, verb: &str, resource: &str| json!({"spec": {"user": user, "groups": groups, "resourceAttributes": {"verb": verb, "resource": resource, "namespace": "default"}}});
    let line = "POST /apis/authorization.k8s.io/v1/subjectaccessreviews";
    for (user, groups, verb, resource, allowed) in [
        ("a", json!(["system:masters"]), "delete", "nodes", true),
        ("a", json!(["system:authenticated"]), "get", "pods", false),
        (
            "system:node:n",
            json!(["system:nodes"]),
            "create",
            "events",
            true,
        ),
        (
            "system:node:n",
            json!(["others"]),
            "create",
            "events",
            false,
        ),
    ] {
        let answer = world
            .do_it(line, access(user, groups, verb, resource))
            .await;
        assert_eq!(
            answer["status"]["allowed"], allowed,
            "{user} {verb} {resource}"
        );
    }
    let own = json!({"spec": {"nonResourceAttributes": {"path": "/apis/x", "verb": "get"}}});
    let (code, answer) = world
        .ask_as(
            &User::new("bob", &[]),
            "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            own,
        )
        .await;
    assert_eq!((code, &answer["status"]["allowed"]), (201, &json!(true)));
    let (_, answer) = world
        .ask_as(
            &User::new("bob", &[]),
            "POST /apis/authentication.k8s.io/v1/selfsubjectreviews",
            json!({}),
        )
        .await;
    assert_eq!(answer["status"]["userInfo"]["username"], "bob");
}

#[test]
fn files_are_made_once_and_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = std::env::temp_dir().join(format!("hyperkube-identity-{}", std::process::id()));
    let names = crate::identity::CertificateNames {
        node: "n".to_owned(),
        server: vec!["localhost".to_owned()],
        url: "https://127.0.0.1:6443".to_owned(),
    };
    let open = || Identity::open(&dir, &names, &Chance::System, jiff::Timestamp::now()).unwrap();
    let first = open();
    let second = open();
    assert_eq!(
        first.authority_certificate(),
        second.authority_certificate()
    );
    assert_eq!(first.server.certificate, second.server.certificate);
    for file in std::fs::read_dir(&dir).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        let public = file.path().extension().is_some_and(|e| e == "crt");
        assert_eq!(
            mode,
            if public { 0o644 } else { 0o600 },
            "{}",
            file.path().display()
        );
    }
    let kubeconfig = std::fs::read_to_string(dir.join("admin.kubeconfig")).unwrap();
    assert!(kubeconfig.contains("server: https://127.0.0.1:6443\n"));
    // A new name needs a new certificate; the CA stays.
    let more = crate::identity::CertificateNames {
        server: vec!["localhost".to_owned(), "10.1.2.3".to_owned()],
        ..names.clone()
    };
    let third = Identity::open(&dir, &more, &Chance::System, jiff::Timestamp::now()).unwrap();
    assert_ne!(third.server.certificate, second.server.certificate);
    assert_eq!(third.authority_certificate(), first.authority_certificate());
    let fourth = Identity::open(&dir, &more, &Chance::System, jiff::Timestamp::now()).unwrap();
    assert_eq!(fourth.server.certificate, third.server.certificate);
    // A missing key is not replaced.
    std::fs::remove_file(dir.join("ca.key")).unwrap();
    let error = Identity::open(&dir, &names, &Chance::System, jiff::Timestamp::now()).unwrap_err();
    assert!(error.to_string().contains("ca.key"), "{error}");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn a_token_counts_where_the_certificate_does_not() {
    use crate::serve::http::Service;
    use crate::verbs::authentication::Peer;
    let world = World::new().await;
    let certified = |until: i64| Peer::Certified {
        user: User::new("carol", &[]),
        until,
    };
    for (peer, header, code) in [
        (certified(NOON - 1), Some("Bearer secret-token"), 200),
        (certified(NOON - 1), Some("Bearer wrong"), 401),
        (certified(NOON - 1), None, 401),
        (certified(NOON), None, 200),
        (Peer::BadCertificate, Some("Bearer secret-token"), 200),
        (Peer::BadCertificate, Some("Bearer wrong"), 401),
        (Peer::BadCertificate, None, 401),
    ] {
        let mut request = Request::builder().uri("https://server/api");
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let request = request.body(Full::new(Bytes::new())).unwrap();
        let mut service = Service::new(Arc::clone(&world.server.0), peer.clone());
        let response = service.call(request).await.unwrap();
        assert_eq!(response.status().as_u16(), code, "{peer:?} {header:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_with_the_credential_that_began_it() {
    use crate::serve::http::Service;
    use crate::verbs::authentication::Peer;
    let world = World::new().await;
    let peer = Peer::Certified {
        user: User::admin(),
        until: NOON + 100,
    };
    let uri = "https://server/api/v1/namespaces/none/secrets?watch=1";
    let request = Request::builder().uri(uri);
    let request = request.body(Full::new(Bytes::new())).unwrap();
    let mut service = Service::new(Arc::clone(&world.server.0), peer);
    let response = service.call(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let begin = tokio::time::Instant::now();
    drop(response.into_body().collect().await);
    let seconds = begin.elapsed().as_secs();
    assert!((100..=101).contains(&seconds), "{seconds} s");
}

#[test]
fn a_kubeconfig_of_another_node_is_made_anew() {
    let dir = std::env::temp_dir().join(format!("identity-of-two-nodes-{}", std::process::id()));
    let now = jiff::Timestamp::now();
    for node in ["a", "ab", "a"] {
        let names = crate::identity::CertificateNames {
            node: node.to_owned(),
            server: vec!["localhost".to_owned()],
            url: "https://localhost".to_owned(),
        };
        Identity::open(&dir, &names, &Chance::seeded(1), now).unwrap();
        let text = std::fs::read_to_string(dir.join("kubelet.kubeconfig")).unwrap();
        assert!(
            text.contains(&format!("user: system:node:{node}\n")),
            "{node}: {text}"
        );
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
