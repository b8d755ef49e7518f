//! Node restriction: upstream's tables.
//!
//! In:    a change of an object by `system:node:mynode`
//! Out:   nothing, or the text of the refusal
//! Upstream: plugin/pkg/admission/noderestriction/admission_test.go (1.36): Test_nodePlugin_Admit,
//!           Test_nodePlugin_Admit_OwnerReference, TestAdmitPVCStatus; left out: podcertificaterequests, resourceslices (kinds
//!           that are not served), the rows with ServiceAccountNodeAudienceRestriction or RecoverVolumeExpansionFailure off (no
//!           gates here)

use super::*;
use crate::kinds::resources::by_storage;
use crate::registry::ObjectPath;
use crate::registry::admission::{self, Change, Operation};

const UNEXPECTED: &str = "forbidden: unexpected operation";
const ITSELF: &str = "spec.nodeName set to itself";
const MIRRORS: &str = "can only create mirror pods";
const NOT_FOUND: &str = "not found";

/// One change; `place` is storage, namespace and name, the name with its subresource.
struct Row<'a> {
    operation: Operation,
    place: (&'a str, &'a str, &'a str),
    sub: &'a str,
    new: Value,
    old: Value,
}

impl World {
    fn admit(&self, who: &User, row: &Row<'_>) -> String {
        let (storage, namespace, name) = row.place;
        let change = Change {
            operation: row.operation,
            place: ObjectPath {
                resource: by_storage(storage).unwrap(),
                namespace,
                name,
            },
            sub: row.sub,
            new: &row.new,
            old: &row.old,
            who,
        };
        let admitted = admission::node_restricted(&self.server.0.registry, &change);
        admitted.err().map_or_else(String::new, |f| f.message)
    }

    fn expect(&self, who: &User, row: &Row<'_>, what: &str, words: &str) {
        let said = self.admit(who, row);
        let right = said.contains(words) && said.is_empty() == words.is_empty();
        let (operation, sub) = (row.operation, row.sub);
        assert!(
            right,
            "{what} ({operation:?} {:?} {sub}): {said:?}",
            row.place
        );
    }
}

fn mynode() -> User {
    User::node("mynode")
}

fn test_pod(name: &str, node: &str, mirror: bool) -> Value {
    let mut pod = json!({
        "metadata": {"namespace": "ns", "name": name, "uid": "pod-uid"}, "spec": {"nodeName": node},
    });
    if mirror {
        pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "true"});
        pod["metadata"]["ownerReferences"] = json!([valid_owner()]);
    }
    pod
}

fn valid_owner() -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "name": "mynode", "uid": "mynode-uid", "controller": true})
}

/// The pods of upstream's test, and the node of each.
const THE_PODS: [(&str, &str, bool); 6] = [
    ("mymirrorpod", "mynode", true),
    ("othermirrorpod", "othernode", true),
    ("unboundmirrorpod", "", true),
    ("mypod", "mynode", false),
    ("otherpod", "othernode", false),
    ("unboundpod", "", false),
];

async fn with_pods() -> World {
    let world = World::bare();
    for (name, node, mirror) in THE_PODS {
        world.put("pods", test_pod(name, node, mirror)).await;
    }
    let node = json!({"metadata": {"name": "mynode", "uid": "mynode-uid"}});
    world.put("nodes", node).await;
    world
}

#[tokio::test]
async fn a_kubelet_makes_mirror_pods_and_writes_the_status_of_its_own() {
    use Operation::{Create, Delete, Update};
    let world = with_pods().await;
    let words = |name: &str| match name {
        "mymirrorpod" => ("", "", ""),
        "othermirrorpod" | "unboundmirrorpod" => (ITSELF, ITSELF, ITSELF),
        "mypod" => (MIRRORS, "", ""),
        _ => (MIRRORS, ITSELF, ITSELF),
    };
    for (name, node, mirror) in THE_PODS {
        let (create, write, evict) = words(name);
        let pod = || test_pod(name, node, mirror);
        let named = || json!({"metadata": {"name": name}});
        let unnamed = || json!({"metadata": {"name": ""}});
        for (operation, sub, new, old, words) in [
            (Create, "", pod(), Value::Null, create),
            (Update, "", pod(), pod(), UNEXPECTED),
            (Delete, "", Value::Null, Value::Null, write),
            (Create, "status", pod(), Value::Null, UNEXPECTED),
            (Update, "status", pod(), pod(), write),
            (Delete, "status", Value::Null, Value::Null, UNEXPECTED),
            (Create, "eviction", named(), Value::Null, evict),
            (Update, "eviction", named(), Value::Null, UNEXPECTED),
            (Delete, "eviction", named(), Value::Null, UNEXPECTED),
            (Create, "eviction", unnamed(), Value::Null, evict),
            (
                Create,
                "binding",
                named(),
                Value::Null,
                "unexpected pod subresource \"binding\"",
            ),
            (
                Update,
                "ephemeralcontainers",
                pod(),
                pod(),
                "unexpected pod subresource",
            ),
            (Update, "resize", pod(), pod(), "unexpected pod subresource"),
        ] {
            let place = ("pods", "ns", name);
            let row = Row {
                operation,
                place,
                sub,
                new,
                old,
            };
            world.expect(&mynode(), &row, "own", words);
            // Users that are no kubelet pass.
            world.expect(&User::new("bob", &[]), &row, "bob", "");
        }
    }
}

#[tokio::test]
async fn a_pod_that_is_not_there_is_not_found_and_an_eviction_may_name_it() {
    use Operation::{Create, Delete, Update};
    let world = with_pods().await;
    for (name, operation, sub, sent, words) in [
        ("gone", Delete, "", "", NOT_FOUND),
        ("gone", Create, "eviction", "gone", NOT_FOUND),
        ("gone", Update, "eviction", "gone", UNEXPECTED),
        ("gone", Delete, "eviction", "gone", UNEXPECTED),
        ("gone", Create, "eviction", "", NOT_FOUND),
        ("", Create, "eviction", "mypod", ""),
        ("", Create, "eviction", "otherpod", ITSELF),
        ("", Update, "eviction", "mypod", UNEXPECTED),
        ("", Delete, "eviction", "mypod", UNEXPECTED),
        (
            "",
            Create,
            "eviction",
            "",
            "could not determine pod from request data",
        ),
        // The path counts, not the body.
        ("otherpod", Create, "eviction", "mypod", ITSELF),
    ] {
        let row = Row {
            operation,
            place: ("pods", "ns", name),
            sub,
            new: json!({"metadata": {"name": sent}}),
            old: Value::Null,
        };
        world.expect(&mynode(), &row, sent, words);
    }
}

#[tokio::test]
async fn a_status_changes_neither_labels_nor_claims() {
    let world = with_pods().await;
    let labelled = |labels: Value| {
        let mut pod = test_pod("mypod", "mynode", false);
        pod["metadata"]["labels"] = labels;
        pod
    };
    let with_status = |status: Value| {
        let mut pod = test_pod("mypod", "mynode", false);
        pod["status"] = status;
        pod
    };
    let labels = "cannot update labels through pod status";
    let (none, a, ab) = (
        || test_pod("mypod", "mynode", false),
        || labelled(json!({"label-a": "value-a"})),
        || labelled(json!({"label-a": "value-a", "label-b": "value-b"})),
    );
    let claim = |name: &str| {
        with_status(json!({"resourceClaimStatuses": [{"name": "c", "resourceClaimName": name}]}))
    };
    for (new, old, words) in [
        (ab(), a(), labels),
        (a(), ab(), labels),
        (a(), none(), labels),
        (none(), a(), labels),
        (none(), labelled(json!({})), ""),
        (labelled(json!({})), none(), ""),
        (labelled(Value::Null), labelled(json!({})), ""),
        (claim("x"), claim("x"), ""),
        (
            claim("x"),
            claim("y"),
            "cannot update resource claim statues",
        ),
        (claim("x"), none(), "cannot update resource claim statues"),
        (
            with_status(json!({"extendedResourceClaimStatus": {"resourceClaimName": "x"}})),
            none(),
            "cannot update extended resource claim status",
        ),
    ] {
        let row = Row {
            operation: Operation::Update,
            place: ("pods", "ns", "mypod"),
            sub: "status",
            new,
            old,
        };
        world.expect(&mynode(), &row, "status", words);
    }
}

/// Every API object that a pod can refer to, and upstream's name for it.
fn references() -> Vec<(Value, &'static str)> {
    let volume = |source: Value| {
        let mut volume = json!({"name": "v"});
        object::as_map(&mut volume).append(object::as_map(&mut source.clone()));
        json!({"volumes": [volume]})
    };
    let projected = |source: Value| volume(json!({"projected": {"sources": [source]}}));
    let mut all = vec![
        (json!({"serviceAccountName": "foo"}), "serviceaccounts"),
        (json!({"serviceAccount": "foo"}), "serviceaccounts"),
        (json!({"imagePullSecrets": [{"name": "foo"}]}), "secrets"),
        (
            json!({"resourceClaims": [{"name": "c", "resourceClaimName": "x"}]}),
            "resourceclaims",
        ),
        (volume(json!({"secret": {"secretName": "foo"}})), "secrets"),
        (
            volume(json!({"secret": {}})),
            "secrets (via secret volumes)",
        ),
        (volume(json!({"configMap": {"name": "foo"}})), "configmaps"),
        (
            volume(json!({"configMap": {}})),
            "configmaps (via configmap volumes)",
        ),
        (
            volume(json!({"persistentVolumeClaim": {"claimName": "foo"}})),
            "persistentvolumeclaims",
        ),
        (
            volume(json!({"ephemeral": {}})),
            "persistentvolumeclaims (via ephemeral volumes)",
        ),
        (
            volume(json!({"csi": {"driver": "d"}})),
            "csidrivers (via CSI volumes)",
        ),
        (
            volume(json!({"csi": {"driver": "d", "nodePublishSecretRef": {"name": "foo"}}})),
            "secrets",
        ),
        (
            volume(json!({"glusterfs": {"endpoints": "e"}})),
            "endpoints (via glusterFS volumes)",
        ),
        (
            volume(json!({"azureFile": {"secretName": "foo"}})),
            "secrets",
        ),
        (
            volume(json!({"azureFile": {}})),
            "secrets (via azureFile volumes)",
        ),
        // A volume with two sources is invalid; both are seen nevertheless.
        (
            volume(json!({"emptyDir": {}, "secret": {"secretName": "foo"}})),
            "secrets",
        ),
        (projected(json!({"secret": {"name": "foo"}})), "secrets"),
        (
            projected(json!({"secret": {}})),
            "secrets (via projected volumes)",
        ),
        (
            projected(json!({"configMap": {"name": "foo"}})),
            "configmaps",
        ),
        (
            projected(json!({"configMap": {}})),
            "configmaps (via projected volumes)",
        ),
        (
            projected(json!({"serviceAccountToken": {"path": "t"}})),
            "serviceaccounts (via projected volumes)",
        ),
        (
            projected(json!({"clusterTrustBundle": {"name": "foo"}})),
            "clustertrustbundles",
        ),
        (projected(json!({"podCertificate": {}})), "podcertificates"),
    ];
    for driver in [
        "cephfs",
        "cinder",
        "flexVolume",
        "iscsi",
        "rbd",
        "scaleIO",
        "storageos",
    ] {
        all.push((
            volume(json!({driver: {"secretRef": {"name": "foo"}}})),
            "secrets",
        ));
    }
    for which in ["initContainers", "containers", "ephemeralContainers"] {
        let secret = |part: Value| (json!({which: [{"name": "a"}, part]}), "secrets");
        let map = |part: Value| (json!({which: [{"name": "a"}, part]}), "configmaps");
        all.extend([
            secret(json!({"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "foo", "key": "k"}}}]})),
            secret(json!({"envFrom": [{"prefix": "p"}, {"secretRef": {"name": "foo"}}]})),
            map(json!({"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "foo", "key": "k"}}}]})),
            map(json!({"envFrom": [{"configMapRef": {"name": "foo"}}]})),
        ]);
    }
    all
}

#[tokio::test]
async fn a_mirror_pod_refers_to_nothing_of_the_api() {
    let world = with_pods().await;
    let create = |spec: &Value| {
        let mut pod = test_pod("new", "mynode", true);
        let spec = &mut spec.clone();
        object::map_mut(&mut pod, "spec").append(object::as_map(spec));
        Row {
            operation: Operation::Create,
            place: ("pods", "ns", "new"),
            sub: "",
            new: pod,
            old: Value::Null,
        }
    };
    for (spec, word) in references() {
        let words = format!("node \"mynode\" can not create pods that reference {word}");
        world.expect(&mynode(), &create(&spec), &spec.to_string(), &words);
    }
    let volumes = |source: Value| json!({"volumes": [source]});
    for (spec, words) in [
        (
            volumes(json!({"name": "v", "whatever": {"secret": "foo"}})),
            "error checking mirror pod for API references: unknown volume type for volume  \"v\"",
        ),
        (
            volumes(json!({"name": "v", "projected": {"sources": [{"whatever": {}}]}})),
            "unknown source for projected volume \"v\"",
        ),
        (
            volumes(
                json!({"name": "v", "projected": {"sources": [{"downwardAPI": {}, "whatever": {}}]}}),
            ),
            "unknown source for projected volume \"v\"",
        ),
        (
            volumes(json!({"name": "v", "projected": {"sources": [{"downwardAPI": {}}]}})),
            "",
        ),
        (
            volumes(json!({"name": "v", "hostPath": {"path": "/"}, "secret": null})),
            "",
        ),
        (volumes(json!({"name": "v", "emptyDir": {}})), ""),
        (
            volumes(json!({"name": "v", "image": {"reference": "i"}})),
            "",
        ),
        (json!({"priorityClassName": "system-node-critical"}), ""),
    ] {
        world.expect(&mynode(), &create(&spec), &spec.to_string(), words);
    }
}

#[tokio::test]
async fn a_mirror_pods_owner_is_its_node_and_nothing_else() {
    let world = with_pods().await;
    let changed = |field: &str, value: Value| {
        let mut owner = valid_owner();
        owner[field] = value;
        json!([owner])
    };
    let other = "can only create pods with an owner reference set to itself";
    let controller = "can only create pods with a controller owner reference set to itself";
    for (owners, words) in [
        (
            Value::Null,
            "pods \"test\" is forbidden: node \"mynode\" can only create pods with an owner reference set to itself",
        ),
        (json!([valid_owner()]), ""),
        (
            json!([valid_owner(), valid_owner()]),
            "can only create pods with a single owner reference set to itself",
        ),
        (changed("name", "other".into()), other),
        (
            changed("uid", "mynode-unexpected-uid".into()),
            "UID mismatch",
        ),
        (changed("apiVersion", "v2".into()), other),
        (changed("kind", "Pod".into()), other),
        (changed("controller", Value::Null), controller),
        (changed("controller", false.into()), controller),
        (
            changed("blockOwnerDeletion", true.into()),
            "must not set blockOwnerDeletion on an owner reference",
        ),
    ] {
        let mut pod = test_pod("test", "mynode", true);
        pod["metadata"]["ownerReferences"] = owners.clone();
        let place = ("pods", "ns", "test");
        let row = Row {
            operation: Operation::Create,
            place,
            sub: "",
            new: pod,
            old: Value::Null,
        };
        world.expect(&mynode(), &row, &owners.to_string(), words);
        if words.is_empty() {
            World::bare().expect(
                &mynode(),
                &row,
                "without a Node",
                "nodes \"mynode\" not found",
            );
        }
    }
}

/// Labels that a kubelet may set, and labels that it may not set.
#[expect(clippy::fn_params_excessive_bools, reason = "which of the two lists")]
fn labels(value: &str, allowed: bool, forbidden: bool) -> Value {
    let mut labels = json!({});
    let mut set = |keys: &[&str]| keys.iter().for_each(|key| labels[*key] = value.into());
    if allowed {
        set(&[
            "foo",
            "example.com/foo",
            "kubernetes.io/hostname",
            "failure-domain.beta.kubernetes.io/zone",
            "failure-domain.beta.kubernetes.io/region",
            "topology.kubernetes.io/zone",
            "topology.kubernetes.io/region",
            "beta.kubernetes.io/instance-type",
            "node.kubernetes.io/instance-type",
            "beta.kubernetes.io/os",
            "beta.kubernetes.io/arch",
            "kubernetes.io/os",
            "kubernetes.io/arch",
            "kubelet.kubernetes.io/foo",
            "foo.kubelet.kubernetes.io/foo",
            "node.kubernetes.io/foo",
            "foo.node.kubernetes.io/foo",
        ]);
    }
    if forbidden {
        set(&[
            "node-restriction.kubernetes.io/foo",
            "foo.node-restriction.kubernetes.io/foo",
            "other.kubernetes.io/foo",
            "other.k8s.io/foo",
        ]);
    }
    labels
}

fn node_with(field: &str, value: Value) -> Value {
    let mut node = json!({"metadata": {"name": "mynode", "uid": "mynode-uid"}, "spec": {}});
    *match field {
        "labels" | "ownerReferences" => &mut node["metadata"][field],
        _ => &mut node["spec"][field],
    } = value;
    node
}

#[tokio::test]
async fn a_kubelet_writes_its_own_node_but_no_taints_owners_or_labels_of_the_cluster() {
    use Operation::{Create, Delete, Update};
    let world = with_pods().await;
    let plain = || node_with("unschedulable", Value::Null);
    let labelled =
        |value: &str, allowed, forbidden| node_with("labels", labels(value, allowed, forbidden));
    let taint = |value: &str| node_with("taints", json!([{"key": "mykey", "value": value}]));
    let owner = |name: &str| {
        node_with(
            "ownerReferences",
            json!([{"name": name, "controller": true}]),
        )
    };
    let source = |name: &str| node_with("configSource", json!({"configMap": {"name": name}}));
    let four = "foo.node-restriction.kubernetes.io/foo, node-restriction.kubernetes.io/foo, other.k8s.io/foo, other.kubernetes.io/foo";
    let modify = format!("is not allowed to modify labels: {four}");
    let set = format!("is not allowed to set the following labels: {four}");
    let (taints, owners, sources) = (
        "is not allowed to modify taints",
        "node \"mynode\" is not allowed to modify ownerReferences",
        "update configSource to a new non-nil configSource",
    );
    for (operation, new, old, words) in [
        (Create, plain(), Value::Null, ""),
        (Create, taint("A"), Value::Null, ""),
        (Create, labelled("value", true, false), Value::Null, ""),
        (Create, labelled("value", false, true), Value::Null, &*set),
        (
            Create,
            source("foo"),
            Value::Null,
            "is not allowed to create pods with a non-nil configSource",
        ),
        (Update, plain(), plain(), ""),
        (Delete, Value::Null, Value::Null, ""),
        (Update, source("foo"), plain(), sources),
        (Update, source("qux"), source("foo"), sources),
        (Update, source("foo"), source("foo"), ""),
        (Update, plain(), source("foo"), ""),
        (Update, taint("A"), taint("A"), ""),
        (Update, taint("A"), plain(), taints),
        (Update, plain(), taint("A"), taints),
        (Update, taint("A"), taint("B"), taints),
        (Update, labelled("value", true, false), plain(), ""),
        (Update, plain(), labelled("value", true, false), ""),
        (
            Update,
            labelled("b", true, false),
            labelled("a", true, false),
            "",
        ),
        (
            Update,
            labelled("value", true, true),
            labelled("value", true, true),
            "",
        ),
        (
            Update,
            labelled("value", true, true),
            labelled("value", false, true),
            "",
        ),
        (
            Update,
            labelled("value", false, true),
            labelled("value", true, true),
            "",
        ),
        (Update, labelled("value", false, true), plain(), &modify),
        (Update, plain(), labelled("value", false, true), &modify),
        (
            Update,
            labelled("new", false, true),
            labelled("old", false, true),
            &modify,
        ),
        (Update, owner("fooerA"), plain(), owners),
        (Update, plain(), owner("fooerA"), owners),
        (Update, owner("fooerA"), owner("fooerB"), owners),
    ] {
        let what = format!("{new} {old}");
        for sub in ["", "status"] {
            if sub == "status" && operation != Update {
                continue;
            }
            let (new, old) = (new.clone(), old.clone());
            let row = Row {
                operation,
                place: ("nodes", "", "mynode"),
                sub,
                new,
                old,
            };
            world.expect(&mynode(), &row, &what, words);
        }
    }
    for (operation, sub, name) in [
        (Create, "", "othernode"),
        (Create, "", ""),
        (Update, "", "othernode"),
        (Delete, "", "othernode"),
        (Update, "status", "othernode"),
    ] {
        let node = json!({"metadata": {"name": "othernode"}});
        let (new, old) = (node.clone(), node);
        let row = Row {
            operation,
            place: ("nodes", "", name),
            sub,
            new,
            old,
        };
        world.expect(
            &mynode(),
            &row,
            "other node",
            "is not allowed to modify node",
        );
    }
}

#[tokio::test]
async fn leases_and_csi_nodes_are_the_nodes_own() {
    use Operation::{Create, Delete, Update};
    let world = with_pods().await;
    let (leases, csi) = ("leases.coordination.k8s.io", "csinodes.storage.k8s.io");
    for (place, words) in [
        (
            (leases, "foo", "mynode"),
            "forbidden: can only access leases in the \"kube-node-lease\" system namespace",
        ),
        (
            (leases, "kube-node-lease", "foo"),
            "forbidden: can only access node lease with the same name as the requesting node",
        ),
        ((leases, "kube-node-lease", "mynode"), ""),
        (
            (csi, "", "foo"),
            "forbidden: can only access CSINode with the same name as the requesting node",
        ),
        ((csi, "", "mynode"), ""),
        (("configmaps", "myns", "mycm"), ""),
    ] {
        for operation in [Create, Update, Delete] {
            let row = Row {
                operation,
                place,
                sub: "",
                new: json!({}),
                old: json!({}),
            };
            world.expect(&mynode(), &row, "own", words);
        }
    }
}

#[tokio::test]
async fn of_a_claim_a_kubelet_writes_the_size_in_its_status() {
    let world = with_pods().await;
    let claim = |condition: &str, allocated: &str, resize: Option<&str>| {
        json!({
            "metadata": {"namespace": "default", "name": "foo"}, "spec": {"volumeName": "v"},
            "status": {
                "phase": "Bound", "capacity": {"storage": "10G"}, "conditions": [{"type": condition, "status": "True"}],
                "allocatedResources": {"storage": allocated}, "allocatedResourceStatuses": {"storage": resize},
            },
        })
    };
    let old = || claim("Resizing", "10G", None);
    let relabelled = |field: &str, value: Value| {
        let mut claim = old();
        claim["metadata"][field] = value;
        claim
    };
    let mut bound_elsewhere = old();
    bound_elsewhere["status"]["phase"] = "Lost".into();
    let fields = "is not allowed to update fields other than status.quantity and status.conditions";
    for (sub, new, words) in [
        (
            "",
            claim("", "10G", None),
            "is forbidden: may only update PVC status",
        ),
        ("status", claim("FileSystemResizePending", "10G", None), ""),
        ("status", claim("FileSystemResizePending", "15G", None), ""),
        (
            "status",
            claim("Resizing", "10G", Some("NodeResizeInfeasible")),
            "",
        ),
        ("status", relabelled("labels", json!({})), ""),
        ("status", relabelled("labels", json!({"a": "b"})), fields),
        (
            "status",
            relabelled("finalizers", json!(["a.io/b"])),
            fields,
        ),
        (
            "status",
            relabelled("ownerReferences", json!([{"name": "x"}])),
            fields,
        ),
        ("status", bound_elsewhere, fields),
    ] {
        let place = ("persistentvolumeclaims", "default", "foo");
        let row = Row {
            operation: Operation::Update,
            place,
            sub,
            new,
            old: old(),
        };
        world.expect(&mynode(), &row, "claim", words);
    }
}

#[tokio::test]
async fn a_kubelet_makes_so_many_mirror_pods_and_no_more() {
    use Operation::{Create, Delete};
    let world = with_pods().await;
    let most = admission::MIRROR_PODS;
    // One exists already; mirror pods of other nodes do not count.
    for number in 1..most {
        let pod = test_pod(&format!("m{number}"), "mynode", true);
        world.put("pods", pod).await;
    }
    let one = |operation, name| Row {
        operation,
        place: ("pods", "ns", name),
        sub: "",
        new: test_pod(name, "mynode", true),
        old: Value::Null,
    };
    let words = format!("node \"mynode\" has {most} mirror pods, and cannot create more");
    world.expect(&mynode(), &one(Create, "more"), "beyond", &words);
    world.expect(&mynode(), &one(Delete, "m1"), "deletion", "");
    let key = "pods/ns/m1";
    let version = world.server.0.registry.store.get(key).unwrap().version;
    let write = Write {
        key: key.to_owned(),
        expected: Expected::At(version),
        change: crate::store::Change::Remove,
    };
    world.server.0.registry.store.write(write).await.unwrap();
    world.expect(&mynode(), &one(Create, "more"), "room again", "");
}

#[tokio::test]
async fn mirror_pods_beyond_so_many_bytes_are_not_made_and_do_not_grow() {
    use Operation::{Create, Update};
    let world = with_pods().await;
    let large = 1 << 20;
    for number in 0..admission::MIRROR_BYTES / large {
        let mut pod = test_pod(&format!("m{number}"), "mynode", true);
        pod["status"] = json!({"message": "x".repeat(large)});
        world.put("pods", pod).await;
    }
    let with = |message: &str| {
        let mut pod = test_pod("mymirrorpod", "mynode", true);
        pod["status"] = json!({"message": message});
        pod
    };
    let row = |operation, sub, new, old| Row {
        operation,
        place: ("pods", "ns", "mymirrorpod"),
        sub,
        new,
        old,
    };
    let words = "bytes of mirror pods, and cannot have more than 67108864";
    for (operation, sub, new, old, words) in [
        (Create, "", with("a"), Value::Null, words),
        (Update, "status", with("ab"), with("a"), words),
        (Update, "status", with("b"), with("a"), ""),
        (Update, "status", with("a"), with("ab"), ""),
    ] {
        world.expect(&mynode(), &row(operation, sub, new, old), "full", words);
    }
}
