//! Authorization of every identity, every verb and every served resource, compared with a table written by hand.
//!
//! In:    identities, the rows of `resources`
//! Out:   decisions of the authorizer; codes where admission decides, too
//! Upstream: plugin/pkg/auth/authorizer/rbac/bootstrappolicy (system:node, system:node-bootstrapper, system:basic-user, system:discovery),
//!           plugin/pkg/auth/authorizer/node, test/integration/auth/node_test.go (1.36)

use std::collections::BTreeSet;

use super::*;
use crate::access::authz::{self, Asked, Decision};
use crate::kinds::resources::{RESOURCES, Resource};

const VERBS: [&str; 8] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
];

/// All authenticated identities, by a letter. `a` may do everything and does not appear in the table.
fn identities() -> [(char, User); 8] {
    [
        ('a', User::admin()),
        // The kubelet of the node that the objects belong to, and another one.
        ('n', User::node("n")),
        ('m', User::node("m")),
        (
            'b',
            User::new("system:bootstrap:abc", &["system:bootstrappers"]),
        ),
        ('s', User::service_account("ns", "mine")),
        ('u', User::new("bob", &["users"])),
        // Named like a kubelet, but without its group.
        ('x', User::new("system:node:n", &[])),
        ('y', User::new("system:node:", &["system:nodes"])),
    ]
}

const EVERYBODY: &str = "nmbsuxy";

/// What users other than the administrator may do: the resource, its verbs, who.
const TABLE: &[(&str, &str, &str)] = &[
    ("configmaps", "get list watch", "n"),
    ("endpoints", "get", "nm"),
    ("events", "create update patch", "nm"),
    ("nodes", "get list watch", "n"),
    // Admission checks which one.
    ("nodes", "create update patch", "nm"),
    ("nodes/status", "update patch", "nm"),
    ("persistentvolumeclaims", "get", "n"),
    ("persistentvolumeclaims/status", "update patch", "n"),
    ("persistentvolumes", "get", "n"),
    ("pods", "get list watch", "n"),
    ("pods", "create delete", "nm"),
    ("pods/status", "update patch", "nm"),
    ("pods/eviction", "create", "nm"),
    ("secrets", "get list watch", "n"),
    ("serviceaccounts", "get", "n"),
    ("serviceaccounts/token", "create", "n"),
    ("services", "get list watch", "nm"),
    (
        "selfsubjectreviews.authentication.k8s.io",
        "create",
        EVERYBODY,
    ),
    ("tokenreviews.authentication.k8s.io", "create", "nm"),
    (
        "localsubjectaccessreviews.authorization.k8s.io",
        "create",
        "nm",
    ),
    ("subjectaccessreviews.authorization.k8s.io", "create", "nm"),
    (
        "selfsubjectaccessreviews.authorization.k8s.io",
        "create",
        EVERYBODY,
    ),
    (
        "selfsubjectrulesreviews.authorization.k8s.io",
        "create",
        EVERYBODY,
    ),
    (
        "certificatesigningrequests.certificates.k8s.io",
        "get list watch create",
        "nmb",
    ),
    ("leases.coordination.k8s.io", "get update patch delete", "n"),
    ("leases.coordination.k8s.io", "create", "nm"),
    ("events.events.k8s.io", "create update patch", "nm"),
    ("runtimeclasses.node.k8s.io", "get list watch", "nm"),
    ("csidrivers.storage.k8s.io", "get list watch", "nm"),
    ("csinodes.storage.k8s.io", "get update patch delete", "n"),
    ("csinodes.storage.k8s.io", "create", "nm"),
    ("volumeattachments.storage.k8s.io", "get", "n"),
];

/// Everything belongs to `n`.
async fn world() -> World {
    let world = World::new().await;
    world
        .put("namespaces", json!({"metadata": {"name": "ns"}}))
        .await;
    for (storage, object) in [
        ("secrets", json!({})),
        ("configmaps", json!({})),
        ("serviceaccounts", json!({"metadata": {"uid": "sa"}})),
        (
            "persistentvolumeclaims",
            json!({"spec": {"volumeName": "mine"}, "status": {}}),
        ),
    ] {
        let mut object = object;
        let metadata = object::metadata(&mut object);
        metadata.insert("namespace".to_owned(), "ns".into());
        metadata.insert("name".to_owned(), "mine".into());
        world.put(storage, object).await;
    }
    let volume = json!({"metadata": {"name": "mine"}, "spec": {"claimRef": {"namespace": "ns", "name": "mine"}}});
    world.put("persistentvolumes", volume).await;
    let attachment = json!({"metadata": {"name": "mine"}, "spec": {"nodeName": "n"}});
    world
        .put("volumeattachments.storage.k8s.io", attachment)
        .await;
    let volumes = json!([
        {"name": "s", "secret": {"secretName": "mine"}},
        {"name": "c", "configMap": {"name": "mine"}},
        {"name": "p", "persistentVolumeClaim": {"claimName": "mine"}},
        {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
    ]);
    let mut pod = pod_on("mine", "n");
    pod["metadata"]["namespace"] = "ns".into();
    pod["metadata"]["uid"] = "pod".into();
    pod["spec"]["serviceAccountName"] = "mine".into();
    pod["spec"]["volumes"] = volumes;
    world.put("pods", pod).await;
    for node in ["n", "m"] {
        world.do_it("POST /api/v1/nodes", ready_node(node)).await;
    }
    world
}

fn asked(row: &Resource, sub: &str, verb: &str) -> Asked {
    let (namespace, name) = match row.plural {
        "nodes" | "csinodes" => ("", "n"),
        "leases" => ("kube-node-lease", "n"),
        _ if row.namespaced => ("ns", "mine"),
        _ => ("", "mine"),
    };
    Asked {
        verb: verb.to_owned(),
        group: row.group.to_owned(),
        resource: row.plural.to_owned(),
        subresource: sub.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        ..Asked::default()
    }
}

#[tokio::test]
async fn everybody_may_what_the_table_says_and_nothing_else() {
    let world = world().await;
    let registry = &world.server.0.registry;
    let mut used = BTreeSet::new();
    for row in RESOURCES {
        let subs = row.subresources.iter().map(|sub| sub.name);
        for sub in std::iter::once("").chain(subs).chain(["whatever"]) {
            let written = match (row.qualified(), sub) {
                (plain, "") => plain,
                (_, sub) => format!("{}/{sub}", row.plural),
            };
            for verb in VERBS
                .into_iter()
                .chain(["impersonate", "escalate", "*", ""])
            {
                let lines = TABLE.iter().filter(|(resource, verbs, _)| {
                    *resource == written && verbs.split(' ').any(|one| one == verb)
                });
                let lines: Vec<_> = lines.collect();
                used.extend(lines.iter().map(|line| (line.0, line.1)));
                let allowed: String = lines.iter().map(|line| line.2).collect();
                for (letter, user) in identities() {
                    let decision = authz::decide(&registry.store, &user, &asked(row, sub, verb));
                    let is = matches!(decision, Decision::Allowed(_));
                    let right = letter == 'a' || allowed.contains(letter);
                    assert_eq!(is, right, "{} {verb} {written}", user.name);
                }
                // A user who is only reviewed, and not authenticated, may do nothing.
                let anonymous = User {
                    name: "system:anonymous".to_owned(),
                    groups: vec!["system:unauthenticated".to_owned()],
                    ..User::default()
                };
                let decision = authz::decide(&registry.store, &anonymous, &asked(row, sub, verb));
                assert!(matches!(decision, Decision::Refused(_)), "{verb} {written}");
            }
        }
    }
    // Every line of the table is about something that is served.
    assert_eq!(used.len(), TABLE.len());
}

/// Writes that the authorizer leaves to admission: allowed for a node's own objects, refused for others.
fn writes() -> Vec<(&'static str, Value)> {
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "mine", "uid": "pod"});
    let leases = "POST /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let lease = json!({"metadata": {"name": "n"}, "spec": {"holderIdentity": "n"}});
    vec![
        (
            "PATCH /api/v1/nodes/n",
            json!({"metadata": {"annotations": {"a": "b"}}}),
        ),
        (
            "PATCH /api/v1/nodes/n/status",
            json!({"status": {"phase": "Running"}}),
        ),
        (
            "PATCH /api/v1/namespaces/ns/pods/mine/status",
            json!({"status": {"message": "m"}}),
        ),
        (
            "PATCH /api/v1/namespaces/ns/persistentvolumeclaims/mine/status",
            json!({"status": {"capacity": {"storage": "1Gi"}}}),
        ),
        (
            "POST /api/v1/namespaces/ns/serviceaccounts/mine/token",
            json!({"spec": {"boundObjectRef": bound}}),
        ),
        (leases, lease),
        (
            "POST /apis/storage.k8s.io/v1/csinodes",
            json!({"metadata": {"name": "n"}, "spec": {"drivers": []}}),
        ),
        ("DELETE /apis/storage.k8s.io/v1/csinodes/n", Value::Null),
        (
            "POST /api/v1/namespaces/ns/pods/mine/eviction",
            json!({"metadata": {"name": "mine"}}),
        ),
        (
            "DELETE /api/v1/namespaces/ns/pods/mine",
            json!({"gracePeriodSeconds": 0}),
        ),
    ]
}

#[tokio::test]
async fn what_is_a_nodes_own_it_writes_and_nobody_else() {
    let world = world().await;
    for (line, sent) in writes() {
        for (letter, user) in identities() {
            if !['a', 'n'].contains(&letter) {
                let (code, answer) = world.ask_as(&user, line, sent.clone()).await;
                assert_eq!(code, 403, "{} {line}: {answer}", user.name);
            }
        }
        let (code, answer) = world.ask_as(&User::node("n"), line, sent).await;
        assert!((200..300).contains(&code), "{line}: {code} {answer}");
    }
}

/// What no kubelet may do, not even with its own objects.
#[tokio::test]
async fn a_kubelet_changes_nothing_about_its_pods_but_their_status() {
    let world = world().await;
    let pod = "/api/v1/namespaces/ns/pods/mine";
    let reference = json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]);
    for (line, sent) in [
        (
            format!("PATCH {pod}"),
            json!({"metadata": {"labels": {"a": "b"}}}),
        ),
        (
            format!("PATCH {pod}/status"),
            json!({"metadata": {"labels": {"a": "b"}}}),
        ),
        (
            format!("POST {pod}/binding"),
            json!({"target": {"name": "n"}}),
        ),
        (
            format!("PATCH {pod}/ephemeralcontainers"),
            json!({"spec": {"ephemeralContainers": []}}),
        ),
        (format!("PATCH {pod}/resize"), json!({})),
        (format!("POST {pod}/exec?command=x"), Value::Null),
        (format!("GET {pod}/exec?command=x"), Value::Null),
        (format!("GET {pod}/log"), Value::Null),
        (format!("POST {pod}/attach"), Value::Null),
        (format!("POST {pod}/portforward"), Value::Null),
        ("DELETE /api/v1/namespaces/ns/pods".to_owned(), Value::Null),
        ("GET /api/v1/nodes/n/proxy/pods".to_owned(), Value::Null),
        ("DELETE /api/v1/nodes/n".to_owned(), Value::Null),
        ("POST /api/v1/nodes".to_owned(), ready_node("third")),
        (
            "POST /api/v1/namespaces/ns/pods".to_owned(),
            pod_on("plain", "n"),
        ),
        (
            "POST /api/v1/namespaces/ns/secrets".to_owned(),
            json!({"metadata": {"name": "new"}}),
        ),
        (
            "POST /api/v1/namespaces/ns/serviceaccounts".to_owned(),
            json!({"metadata": {"name": "new"}}),
        ),
        (
            "PATCH /api/v1/namespaces/ns/persistentvolumeclaims/mine/status".to_owned(),
            json!({"metadata": {"finalizers": ["a.io/b"]}}),
        ),
    ] {
        let (code, answer) = world.ask_as(&User::node("n"), &line, sent).await;
        assert_eq!(code, 403, "{line}: {answer}");
    }
    // The status subresource changes nothing else.
    let line = format!("PATCH {pod}/status");
    let before = world.do_it(&line, json!({"status": {"message": ""}})).await;
    let sent = json!({
        "metadata": {"ownerReferences": reference, "deletionTimestamp": "2020-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0},
        "spec": {"serviceAccountName": "admin", "nodeName": "m", "containers": [{"name": "c", "image": "evil"}]},
        "status": {"message": "m"},
    });
    let (code, after) = world
        .ask_as(&User::node("n"), &format!("PATCH {pod}/status"), sent)
        .await;
    assert_eq!(code, 200, "{after}");
    assert_eq!(after["status"]["message"], "m");
    for part in [
        "/spec/serviceAccountName",
        "/spec/nodeName",
        "/spec/containers",
        "/spec/volumes",
    ] {
        assert_eq!(after.pointer(part), before.pointer(part), "{part}");
    }
    for part in [
        "ownerReferences",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        assert_eq!(after["metadata"][part], Value::Null, "{part}");
    }
}

#[tokio::test]
async fn paths_that_are_no_resources_are_read_by_the_authenticated() {
    let world = World::new().await;
    for (letter, user) in identities() {
        for (line, code) in [
            ("GET /api", 200),
            ("GET /apis", 200),
            ("GET /apis/storage.k8s.io/v1", 200),
            ("GET /openapi/v3", 200),
            ("GET /version", 200),
            ("GET /healthz", 200),
            ("POST /api", if letter == 'a' { 405 } else { 403 }),
            ("GET /metrics", if letter == 'a' { 200 } else { 403 }),
            ("GET /debug/pprof", if letter == 'a' { 404 } else { 403 }),
            ("GET /", if letter == 'a' { 200 } else { 403 }),
            ("GET /apisx", if letter == 'a' { 404 } else { 403 }),
        ] {
            let (got, _) = world.ask_as(&user, line, Value::Null).await;
            assert_eq!(got, code, "{} {line}", user.name);
        }
    }
}
