//! The node authorizer: upstream's tables.
//!
//! In:    a request of `system:node:node0`; pods, claims and volumes of two nodes
//! Out:   the decision and its reason
//! Upstream: plugin/pkg/auth/authorizer/node/{node_authorizer_test,graph_test}.go (1.36): TestNodeAuthorizer,
//!           TestNodeAuthorizerSharedResources; left out: resourceclaims, resourceslices, podcertificaterequests (kinds that
//!           are not served), the rows with the gates for selectors or credential providers' tokens off (no gates here),
//!           TestIndex and TestIndex2 (about another index)

use super::*;
use crate::access::authz::{self, Asked, Decision};
use crate::kinds::selectors::parse_fields;

/// A request in short: verb, group, resource with its subresource, namespace and name, selector.
fn asked(line: &str) -> Asked {
    let word = |n: usize| line.split(' ').nth(n).filter(|word| *word != "-");
    let (resource, sub) = {
        let whole = word(1).unwrap();
        whole.split_once('/').unwrap_or((whole, ""))
    };
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    let (namespace, name) = word(2).unwrap_or("/").split_once('/').unwrap();
    Asked {
        verb: word(0).unwrap().to_owned(),
        group: group.to_owned(),
        resource: resource.to_owned(),
        subresource: sub.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        path: String::new(),
        fields: parse_fields(word(3).unwrap_or_default()).unwrap(),
    }
}

impl World {
    fn decision(&self, node: &str, line: &str) -> Decision {
        let registry = &self.server.0.registry;
        authz::decide(&registry.store, &User::node(node), &asked(line))
    }

    fn allows(&self, node: &str, line: &str) -> bool {
        matches!(self.decision(node, line), Decision::Allowed(_))
    }
}

async fn two_nodes() -> World {
    let world = World::bare();
    for node in ["node0", "node1"] {
        let pod = format!("pod0-{node}");
        let volumes = json!([
            {"name": "s", "secret": {"secretName": format!("secret0-{pod}")}},
            {"name": "t", "secret": {"secretName": "secret0-shared"}},
            {"name": "c", "configMap": {"name": format!("configmap0-{pod}")}},
            {"name": "p", "persistentVolumeClaim": {"claimName": format!("pvc0-{pod}")}},
            {"name": "e", "ephemeral": {"volumeClaimTemplate": {}}},
        ]);
        let spec = json!({"nodeName": node, "serviceAccountName": format!("svcacct0-{node}"), "volumes": volumes});
        let metadata = json!({"namespace": "ns0", "name": pod});
        world
            .put("pods", json!({"metadata": metadata, "spec": spec}))
            .await;
        let volume = format!("pv0-{pod}-ns0");
        let secret = |kind: &str| json!({"name": format!("{kind}-{volume}"), "namespace": "ns0"});
        let source = json!({
            "driver": "d", "nodePublishSecretRef": secret("secret"), "controllerPublishSecretRef": secret("controller"),
        });
        let claim = json!({"namespace": "ns0", "name": format!("pvc0-{pod}")});
        let spec = json!({"claimRef": claim, "csi": source});
        let volume = json!({"metadata": {"name": volume}, "spec": spec});
        world.put("persistentvolumes", volume).await;
        let attachment = json!({"metadata": {"name": format!("attachment0-{node}")}, "spec": {"nodeName": node}});
        world
            .put("volumeattachments.storage.k8s.io", attachment)
            .await;
    }
    world
}

const NO_RELATION: &str = "no relationship found between node 'node0' and this object";
const LEASE_VERBS: &str = "can only get, create, update, patch, or delete a node lease";
const LEASE_PLACE: &str = "can only access leases in the \"kube-node-lease\" system namespace";
const LEASE_NAME: &str = "can only access node lease with the same name as the requesting node";
const CSI_VERBS: &str = "can only get, create, update, patch, or delete a CSINode";
const CSI_NAME: &str = "can only access CSINode with the same name as the requesting node";
const PODS: &str = "can only list/watch pods with spec.nodeName field selector";
const ALL_NODES: &str = "node 'node0' cannot read all nodes, only its own Node object";
const OTHER_NODE: &str = "node 'node0' cannot read 'node1', only its own Node object";
const ONE: &str = "can only get individual resources of this type";
const TOKENS: &str = "can only create tokens for individual service accounts";
const OK: &str = "allowed";

const QUESTIONS: &[(&str, &str)] = &[
    ("get configmaps ns0/configmap0-pod0-node0", OK),
    ("get secrets ns0/secret0-pod0-node0", OK),
    ("list secrets ns0/secret0-pod0-node0", OK),
    ("watch secrets ns0/secret0-pod0-node0", OK),
    ("list secrets ns0/", "No Object name found"),
    ("watch secrets ns0/", "No Object name found"),
    (
        "list secrets /secret0-pod0-node0",
        "can only read namespaced object of this type",
    ),
    (
        "watch secrets /secret0-pod0-node0",
        "can only read namespaced object of this type",
    ),
    (
        "list configmaps /configmap0-pod0-node0",
        "can only read namespaced object of this type",
    ),
    (
        "get secrets/status ns0/secret0-pod0-node0",
        "cannot read subresource",
    ),
    (
        "update secrets ns0/secret0-pod0-node0",
        "can only read resources of this type",
    ),
    (
        "deletecollection secrets ns0/",
        "can only read resources of this type",
    ),
    ("get secrets ns0/secret0-shared", OK),
    ("get secrets ns0/secret-pv0-pod0-node0-ns0", OK),
    ("get secrets ns0/controller-pv0-pod0-node0-ns0", NO_RELATION),
    ("get persistentvolumeclaims ns0/pvc0-pod0-node0", OK),
    ("get persistentvolumeclaims ns0/pod0-node0-e", OK),
    ("get persistentvolumes /pv0-pod0-node0-ns0", OK),
    ("get configmaps ns0/configmap0-pod0-node1", NO_RELATION),
    ("get configmaps ns1/configmap0-pod0-node0", NO_RELATION),
    ("get secrets ns0/secret0-pod0-node1", NO_RELATION),
    ("get secrets ns0/secret-pv0-pod0-node1-ns0", NO_RELATION),
    (
        "get persistentvolumeclaims ns0/pvc0-pod0-node1",
        NO_RELATION,
    ),
    ("get persistentvolumes /pv0-pod0-node1-ns0", NO_RELATION),
    ("list persistentvolumes /pv0-pod0-node0-ns0", ONE),
    ("list persistentvolumeclaims ns0/", ONE),
    ("update persistentvolumeclaims ns0/pvc0-pod0-node0", ONE),
    (
        "update persistentvolumeclaims/status ns0/pvc0-pod0-node0",
        OK,
    ),
    (
        "patch persistentvolumeclaims/status ns0/pvc0-pod0-node0",
        OK,
    ),
    (
        "patch persistentvolumeclaims/status ns0/pvc0-pod0-node1",
        NO_RELATION,
    ),
    (
        "get persistentvolumeclaims/status ns0/pvc0-pod0-node0",
        "can only get/update/patch this type",
    ),
    (
        "get volumeattachments.storage.k8s.io /attachment0-node0",
        OK,
    ),
    (
        "get volumeattachments.storage.k8s.io /attachment0-node1",
        NO_RELATION,
    ),
    (
        "get volumeattachments.storage.k8s.io/status /attachment0-node0",
        "cannot get subresource",
    ),
    ("list volumeattachments.storage.k8s.io -", ONE),
    ("create serviceaccounts/token ns0/svcacct0-node0", OK),
    (
        "create serviceaccounts/token ns0/svcacct0-node1",
        NO_RELATION,
    ),
    (
        "create serviceaccounts/token ns1/svcacct0-node0",
        NO_RELATION,
    ),
    (
        "create serviceaccounts ns0/svcacct0-node0",
        "can only create token subresource of serviceaccount",
    ),
    ("update serviceaccounts/token ns0/svcacct0-node0", TOKENS),
    ("get serviceaccounts ns0/svcacct0-node0", OK),
    ("get serviceaccounts ns0/svcacct0-node1", NO_RELATION),
    ("list serviceaccounts ns0/svcacct0-node0", TOKENS),
    ("watch serviceaccounts ns0/svcacct0-node0", TOKENS),
    ("get leases.coordination.k8s.io foo/node0", LEASE_PLACE),
    ("create leases.coordination.k8s.io foo/node0", LEASE_PLACE),
    ("update leases.coordination.k8s.io foo/node0", LEASE_PLACE),
    ("patch leases.coordination.k8s.io foo/node0", LEASE_PLACE),
    ("delete leases.coordination.k8s.io foo/node0", LEASE_PLACE),
    (
        "get leases.coordination.k8s.io kube-node-lease/node1",
        LEASE_NAME,
    ),
    (
        "update leases.coordination.k8s.io kube-node-lease/node1",
        LEASE_NAME,
    ),
    (
        "patch leases.coordination.k8s.io kube-node-lease/node1",
        LEASE_NAME,
    ),
    (
        "delete leases.coordination.k8s.io kube-node-lease/node1",
        LEASE_NAME,
    ),
    (
        "list leases.coordination.k8s.io kube-node-lease/",
        LEASE_VERBS,
    ),
    (
        "watch leases.coordination.k8s.io kube-node-lease/",
        LEASE_VERBS,
    ),
    ("get leases.coordination.k8s.io kube-node-lease/node0", OK),
    (
        "create leases.coordination.k8s.io kube-node-lease/node0",
        OK,
    ),
    (
        "update leases.coordination.k8s.io kube-node-lease/node0",
        OK,
    ),
    ("patch leases.coordination.k8s.io kube-node-lease/node0", OK),
    (
        "delete leases.coordination.k8s.io kube-node-lease/node0",
        OK,
    ),
    (
        "get csinodes.storage.k8s.io/csiDrivers /node0",
        "cannot authorize CSINode subresources",
    ),
    ("get csinodes.storage.k8s.io /node1", CSI_NAME),
    ("update csinodes.storage.k8s.io /node1", CSI_NAME),
    ("patch csinodes.storage.k8s.io /node1", CSI_NAME),
    ("delete csinodes.storage.k8s.io /node1", CSI_NAME),
    ("list csinodes.storage.k8s.io -", CSI_VERBS),
    ("watch csinodes.storage.k8s.io -", CSI_VERBS),
    ("get csinodes.storage.k8s.io /node0", OK),
    ("create csinodes.storage.k8s.io /node0", OK),
    ("update csinodes.storage.k8s.io /node0", OK),
    ("patch csinodes.storage.k8s.io /node0", OK),
    ("delete csinodes.storage.k8s.io /node0", OK),
    ("get pods ns0/pod0-node0", OK),
    ("get pods ns0/pod0-node1", NO_RELATION),
    ("list pods - spec.nodeName=node0", OK),
    ("list pods - spec.nodeName==node0", OK),
    ("list pods - spec.nodeName=node0,status.phase!=Failed", OK),
    ("list pods - spec.nodeName=node1", PODS),
    ("list pods - spec.nodeName!=node0", PODS),
    ("list pods - metadata.name!=x\\,spec.nodeName\\=node0", PODS),
    ("list pods ns0/pod0-node0", OK),
    ("list pods ns0/pod0-node1", NO_RELATION),
    ("list pods -", PODS),
    ("watch pods - spec.nodeName=node0", OK),
    ("watch pods - spec.nodeName==node0", OK),
    ("watch pods ns0/pod0-node0", OK),
    ("watch pods -", PODS),
    ("create pods ns0/", OK),
    ("create pods/proxy ns0/", ""),
    ("create pods/exec ns0/pod0-node0", ""),
    ("get pods/exec ns0/pod0-node0", ""),
    ("get pods/log ns0/pod0-node0", ""),
    ("create pods/binding ns0/pod0-node0", ""),
    ("patch pods/ephemeralcontainers ns0/pod0-node0", ""),
    ("patch pods/resize ns0/pod0-node0", ""),
    ("update pods ns0/pod0-node0", ""),
    ("patch pods ns0/pod0-node0", ""),
    ("deletecollection pods ns0/ spec.nodeName=node0", ""),
    ("delete pods ns0/pod0-node0", OK),
    ("delete pods ns0/pod0-node1", OK),
    ("delete pods/proxy ns0/pod0-node0", ""),
    ("update pods/status ns0/pod0-node0", OK),
    ("update pods/status ns0/pod0-node1", OK),
    ("patch pods/status ns0/pod0-node0", OK),
    ("patch pods/status ns0/pod0-node1", OK),
    ("get pods/status ns0/pod0-node0", ""),
    ("create pods/eviction ns0/pod0-node0", OK),
    ("create pods/eviction ns0/pod0-node1", OK),
    ("get nodes /node0", OK),
    ("get nodes /node1", OTHER_NODE),
    ("list nodes /node0", OK),
    ("list nodes /node1", OTHER_NODE),
    ("list nodes -", ALL_NODES),
    ("watch nodes /node0", OK),
    ("watch nodes /node1", OTHER_NODE),
    ("watch nodes -", ALL_NODES),
    ("create nodes -", OK),
    ("update nodes /node0", OK),
    ("update nodes /node1", OK),
    ("patch nodes /node0", OK),
    ("patch nodes /node1", OK),
    ("update nodes/status /node0", OK),
    ("update nodes/status /node1", OK),
    ("patch nodes/status /node0", OK),
    ("patch nodes/status /node1", OK),
    ("get nodes/status /node0", ""),
    ("delete nodes /node0", ""),
    ("get nodes/proxy /node0", ""),
    ("create nodes/proxy /node0", ""),
    ("get endpoints ns0/e", OK),
    ("list endpoints -", ""),
    ("list services -", OK),
    ("update services ns0/s", ""),
    ("get services/status ns0/s", ""),
    ("create events ns0/", OK),
    ("patch events ns0/e", OK),
    ("update events.events.k8s.io ns0/e", OK),
    ("get events ns0/e", ""),
    ("delete events ns0/e", ""),
    (
        "create certificatesigningrequests.certificates.k8s.io -",
        OK,
    ),
    (
        "watch certificatesigningrequests.certificates.k8s.io /c",
        OK,
    ),
    (
        "update certificatesigningrequests.certificates.k8s.io/approval /c",
        "",
    ),
    (
        "update certificatesigningrequests.certificates.k8s.io/status /c",
        "",
    ),
    ("create tokenreviews.authentication.k8s.io -", OK),
    ("create subjectaccessreviews.authorization.k8s.io -", OK),
    ("impersonate users /bob", ""),
    ("list namespaces -", ""),
];

#[tokio::test]
async fn a_kubelet_asks_for_what_its_pods_refer_to() {
    let world = two_nodes().await;
    for (line, expected) in QUESTIONS {
        let said = match world.decision("node0", line) {
            Decision::Allowed(_) => OK.to_owned(),
            Decision::Refused(why) => why,
        };
        assert_eq!(said, *expected, "{line}");
    }
    // A kubelet that is not yet registered looks up its own Node.
    assert!(world.allows("nodeunregistered", "get nodes /nodeunregistered"));
    assert!(!world.allows("", "get nodes /node0"));
}

#[tokio::test]
async fn a_secret_of_many_pods_is_readable_on_the_nodes_of_these_pods_alone() {
    let world = World::bare();
    let shared = [
        (
            "node1",
            &["node1-only", "node1-node2-only", "shared-all"][..],
        ),
        ("node2", &["node1-node2-only", "shared-all"][..]),
        ("node3", &["shared-all"][..]),
    ];
    for (node, secrets) in shared {
        let volumes: Vec<Value> = secrets
            .iter()
            .map(|secret| json!({"name": secret, "secret": {"secretName": secret}}))
            .collect();
        let metadata = json!({"namespace": "ns1", "name": format!("pod-{node}")});
        let spec = json!({"nodeName": node, "volumes": volumes});
        world
            .put("pods", json!({"metadata": metadata, "spec": spec}))
            .await;
    }
    for (node, its) in shared {
        for secret in ["node1-only", "node1-node2-only", "shared-all"] {
            let allowed = world.allows(node, &format!("get secrets ns1/{secret}"));
            assert_eq!(allowed, its.contains(&secret), "{node} {secret}");
        }
    }
    // A container that is added later may refer to more objects.
    let mut pod = world
        .server
        .0
        .registry
        .value("pods", "ns1", "pod-node3")
        .unwrap();
    pod["metadata"]["name"] = "debugged".into();
    pod["spec"]["ephemeralContainers"] =
        json!([{"name": "d", "envFrom": [{"secretRef": {"name": "late"}}]}]);
    assert!(!world.allows("node3", "get secrets ns1/late"));
    world.put("pods", pod).await;
    assert!(world.allows("node3", "get secrets ns1/late"));
}

#[tokio::test]
async fn a_mirror_pod_opens_nothing() {
    let world = World::bare();
    let mut pod = json!({
        "metadata": {"namespace": "ns", "name": "m", "annotations": {"kubernetes.io/config.mirror": "h"}},
        "spec": {
            "nodeName": "node0", "serviceAccountName": "a", "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"name": "c", "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}],
            "volumes": [
                {"name": "v", "configMap": {"name": "c"}},
                {"name": "w", "persistentVolumeClaim": {"claimName": "p"}},
            ],
        },
    });
    let volume = json!({"metadata": {"name": "pv"}, "spec": {
        "claimRef": {"namespace": "ns", "name": "p"}, "cephfs": {"secretRef": {"name": "ceph"}},
    }});
    world.put("pods", pod.clone()).await;
    world.put("persistentvolumes", volume).await;
    let questions = [
        "create serviceaccounts/token ns/a",
        "get serviceaccounts ns/a",
        "get secrets ns/pull",
        "get secrets ns/s",
        "get secrets ns/ceph",
        "get configmaps ns/c",
        "get persistentvolumeclaims ns/p",
        "get persistentvolumes /pv",
    ];
    assert!(world.allows("node0", "get pods ns/m"));
    for line in questions {
        assert!(!world.allows("node0", line), "{line}");
    }
    object::metadata(&mut pod).remove("annotations");
    pod["metadata"]["name"] = "real".into();
    world.put("pods", pod).await;
    for line in questions {
        assert!(world.allows("node0", line), "{line}");
    }
}

#[tokio::test]
async fn a_claim_does_not_say_which_volume_is_its_own() {
    let world = two_nodes().await;
    let claim = json!({"metadata": {"namespace": "ns0", "name": "pvc0-pod0-node0"}, "spec": {"volumeName": "pv0-pod0-node1-ns0"}});
    world.put("persistentvolumeclaims", claim).await;
    assert!(!world.allows("node0", "get persistentvolumes /pv0-pod0-node1-ns0"));
    assert!(!world.allows("node0", "get secrets ns0/secret-pv0-pod0-node1-ns0"));
}

#[tokio::test]
async fn lists_by_name_are_in_a_namespace_and_mean_what_they_select() {
    let world = two_nodes().await;
    world
        .put("namespaces", json!({"metadata": {"name": "ns0"}}))
        .await;
    let kubelet = User::node("node0");
    for (path, code) in [
        (
            "/api/v1/namespaces/ns0/secrets?fieldSelector=metadata.name%3Dsecret0-shared",
            200,
        ),
        (
            "/api/v1/namespaces/ns0/secrets?fieldSelector=metadata.name%3D%3Dsecret0-shared",
            200,
        ),
        (
            "/api/v1/namespaces/ns0/secrets?fieldSelector=metadata.name%3Dsecret0-shared%2Ctype%3Dx",
            200,
        ),
        (
            "/api/v1/namespaces/ns0/secrets?fieldSelector=metadata.name!%3Dsecret0-shared",
            403,
        ),
        (
            "/api/v1/namespaces/ns0/secrets?fieldSelector=metadata.name%3Dother",
            403,
        ),
        (
            "/api/v1/namespaces/ns0/secrets?labelSelector=metadata.name%3Dsecret0-shared",
            403,
        ),
        (
            "/api/v1/namespaces/ns0/secrets?fieldSelector=&fieldSelector=metadata.name%3Dsecret0-shared",
            403,
        ),
        (
            "/api/v1/secrets?fieldSelector=metadata.name%3Dsecret0-shared",
            403,
        ),
        (
            "/api/v1/secrets?fieldSelector=metadata.name%3Dsecret0-shared%2Cmetadata.namespace%3Dns0",
            403,
        ),
        (
            "/api/v1/secrets?watch=1&fieldSelector=metadata.name%3Dsecret0-shared",
            403,
        ),
        (
            "/api/v1/configmaps?fieldSelector=metadata.name%3Dconfigmap0-pod0-node0",
            403,
        ),
        (
            "/api/v1/pods?fieldSelector=metadata.name!%3Dx%5C%2Cspec.nodeName%5C%3Dnode0",
            403,
        ),
        (
            "/api/v1/pods?fieldSelector=metadata.name!%3Dx%5C%2Cspec.nodeName%3Dnode0",
            403,
        ),
    ] {
        let (got, answer) = world
            .ask_as(&kubelet, &format!("GET {path}"), Value::Null)
            .await;
        assert_eq!(got, code, "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_question_reads_no_object_however_many_pods_the_node_has() {
    let world = two_nodes().await;
    for number in 0..5_000 {
        let mut pod = pod_on(&format!("m{number}"), "node0");
        pod["metadata"]["namespace"] = "ns0".into();
        pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        pod["spec"]["imagePullSecrets"] = json!([{"name": "by-a-mirror"}]);
        world.put("pods", pod).await;
    }
    let before = crate::store::tests::parses();
    for (line, answer) in QUESTIONS {
        assert_eq!(world.allows("node0", line), *answer == OK, "{line}");
    }
    assert!(!world.allows("node0", "get secrets ns0/by-a-mirror"));
    assert!(world.allows("node0", "get pods ns0/m7"));
    assert_eq!(crate::store::tests::parses() - before, 0);
}
