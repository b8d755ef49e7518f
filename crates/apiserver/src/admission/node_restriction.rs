//! What a kubelet may write: its own node, its own pods, and of both only what is a kubelet's.
//!
//! In:    who writes, the object before and after
//! Out:   403 in upstream's words
//! Calls: `admission`
//! Holds: users that are no kubelet are not looked at; the authorizer was asked before
//! Upstream: plugin/pkg/admission/noderestriction/admission.go (1.36); differences: no dynamic resources

use serde_json::Value;

use crate::failure::Failure;
use crate::object::{self, list, text};
use crate::registry::{Place, Registry, Through};
use crate::strategy::pod;
use crate::user::User;

/// Labels under `kubernetes.io` that a kubelet may set on its node.
const KUBELET_LABELS: [&str; 10] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
];

pub(super) fn create(
    registry: &Registry,
    place: Place<'_>,
    object: &Value,
    who: &User,
) -> Result<(), Failure> {
    let Some(node) = who.node_name() else {
        return Ok(());
    };
    match place.resource.storage {
        "pods" => create_pod(registry, place, object, node),
        "nodes" => own_node(place, node).and_then(|()| labels(place, node, object, &Value::Null)),
        "leases.coordination.k8s.io" => own_lease(place, node),
        "csinodes.storage.k8s.io" if place.name != node => deny(
            place,
            &format!("can only access CSINode with the same name as the requesting node {node:?}"),
        ),
        _ => Ok(()),
    }
}

fn create_pod(
    registry: &Registry,
    place: Place<'_>,
    object: &Value,
    node: &str,
) -> Result<(), Failure> {
    let refuse = |why: &str| deny(place, why);
    if !pod::is_mirror(object) {
        return refuse(&format!(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
        ));
    }
    if text(object, "/spec/nodeName") != node {
        return refuse(&format!(
            "node {node:?} can only create pods with spec.nodeName set to itself"
        ));
    }
    let owners = list(object, "/metadata/ownerReferences");
    if let [owner] = owners {
        let found = registry.value("nodes", "", node).unwrap_or_default();
        let is_node = text(owner, "/apiVersion") == "v1" && text(owner, "/kind") == "Node";
        if !is_node || text(owner, "/name") != node || text(owner, "/uid") != object::uid(&found) {
            return refuse(&format!(
                "pod must have an owner reference set to itself: node {node:?}"
            ));
        }
        if owner.get("controller") != Some(&Value::Bool(true)) {
            return refuse("pod must have its owner reference with controller=true");
        }
    } else {
        return refuse(&format!(
            "node {node:?} can only create pods with an owner reference set to itself"
        ));
    }
    let spec_has = |kind: &str| {
        let volumes = list(object, "/spec/volumes").iter();
        volumes.clone().any(|v| v.get(kind).is_some())
            || volumes
                .flat_map(|v| list(v, "/projected/sources"))
                .any(|s| s.get(kind).is_some())
    };
    for (kind, what) in [
        ("secret", "secrets"),
        ("configMap", "configmaps"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("serviceAccountToken", "service account tokens"),
    ] {
        if spec_has(kind) {
            return refuse(&format!(
                "node {node:?} can not create pods that reference {what}"
            ));
        }
    }
    Ok(())
}

pub(super) fn update(
    place: Place<'_>,
    through: Through,
    new: &Value,
    old: &Value,
    who: &User,
) -> Result<(), Failure> {
    let Some(node) = who.node_name() else {
        return Ok(());
    };
    match place.resource.storage {
        "pods" if text(old, "/spec/nodeName") != node => deny(
            place,
            &format!(
                "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
            ),
        ),
        "pods"
            if through == Through::Status
                && !object::says_same_at("/metadata/labels", new, old) =>
        {
            deny(
                place,
                &format!("node {node:?} cannot update labels through pod status"),
            )
        }
        "nodes" => {
            own_node(place, node)?;
            if through == Through::Object && list(new, "/spec/taints") != list(old, "/spec/taints")
            {
                return deny(
                    place,
                    &format!("node {node:?} is not allowed to modify taints"),
                );
            }
            if !object::says_same_at("/metadata/ownerReferences", new, old) {
                return deny(
                    place,
                    &format!("node {node:?} is not allowed to modify ownerReferences"),
                );
            }
            labels(place, node, new, old)
        }
        "leases.coordination.k8s.io" => own_lease(place, node),
        _ => Ok(()),
    }
}

fn own_node(place: Place<'_>, node: &str) -> Result<(), Failure> {
    if place.name == node {
        return Ok(());
    }
    deny(
        place,
        &format!(
            "node {node:?} is not allowed to modify node {:?}",
            place.name
        ),
    )
}

fn own_lease(place: Place<'_>, node: &str) -> Result<(), Failure> {
    if place.namespace != "kube-node-lease" {
        return deny(
            place,
            "can only access leases in the \"kube-node-lease\" system namespace",
        );
    }
    if place.name != node {
        let why = format!(
            "can only access node lease with the same name as the requesting node: {node:?}"
        );
        return deny(place, &why);
    }
    Ok(())
}

/// Labels in `kubernetes.io` and `k8s.io` are the cluster's, but for those that kubelets know of.
fn labels(place: Place<'_>, node: &str, new: &Value, old: &Value) -> Result<(), Failure> {
    let of = |value: &Value| {
        let labels = value.pointer("/metadata/labels").and_then(Value::as_object);
        labels.cloned().unwrap_or_default()
    };
    let (new, old) = (of(new), of(old));
    let keys = new.keys().chain(old.keys());
    let forbidden: Vec<&String> = keys
        .filter(|key| new.get(*key) != old.get(*key) && !kubelet_may_set(key))
        .collect();
    match forbidden.first() {
        None => Ok(()),
        Some(key) => deny(
            place,
            &format!("is not allowed to modify labels: {key} (node {node:?})"),
        ),
    }
}

fn kubelet_may_set(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else {
        return true;
    };
    let within = |parent: &str| domain == parent || domain.ends_with(&format!(".{parent}"));
    if !within("kubernetes.io") && !within("k8s.io") {
        return true;
    }
    let domains = ["kubelet.kubernetes.io", "node.kubernetes.io"];
    let own = domains.iter().any(|d| within(d));
    own || KUBELET_LABELS.contains(&key) || key == "failure-domain.beta.kubernetes.io/region"
}

fn deny(place: Place<'_>, why: &str) -> Result<(), Failure> {
    Err(Failure::forbidden(place.resource, place.name, why))
}
