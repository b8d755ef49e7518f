//! Node restriction: a kubelet may write its own Node and its own pods, and of these only what belongs to a kubelet.
//!
//! In:    the user, the operation, the object before and after
//! Out:   403 in upstream's words
//! Calls: `admission`
//! Holds: users that are no kubelet pass; the authorizer ran before, and leaves to this check whatever depends on the object's
//!        content
//! Upstream: plugin/pkg/admission/noderestriction/admission.go (1.36); differences: no dynamic resources, no pod certificates;
//!           mirror pods are limited in number and bytes

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Change, Operation, audiences};
use crate::base::encoding::from_base64;
use crate::base::failure::Failure;
use crate::base::object::{self, list, text};
use crate::base::pod::is_mirror;
use crate::base::user::User;
use crate::identity::authority::Request;
use crate::kinds::resources::by_storage;
use crate::registry::{ObjectPath, Registry};
use crate::store::references;

/// Labels under `kubernetes.io` that a kubelet may set on its Node.
const KUBELET_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

/// The limit of mirror pods per node, more static pods than any node runs.
pub(crate) const MIRROR_PODS: usize = 1_000;

/// The limit of their bytes; beyond it no mirror pod is created and none grows.
pub(crate) const MIRROR_BYTES: usize = 64 << 20;

pub(super) fn admit(registry: &Registry, change: &Change<'_>) -> Result<(), Failure> {
    let Some(node) = change.who.node_identity() else {
        return Ok(());
    };
    if node.is_empty() {
        let who = &change.who.name;
        let why = format!("could not determine node from user {who:?}");
        return deny(change.place, &why);
    }
    match change.place.resource.storage {
        "pods" => pod(registry, change, node),
        "nodes" => self::node(change, node),
        "persistentvolumeclaims" if change.sub == "status" => claim_status(change, node),
        "persistentvolumeclaims" => deny(change.place, "may only update PVC status"),
        "serviceaccounts" => token_request(registry, change, node),
        "leases.coordination.k8s.io" => lease(change, node),
        "csinodes.storage.k8s.io" if change.place.name != node => deny(
            change.place,
            "can only access CSINode with the same name as the requesting node",
        ),
        "certificatesigningrequests.certificates.k8s.io" => signing_request(change, node),
        _ => Ok(()),
    }
}

fn pod(registry: &Registry, change: &Change<'_>, node: &str) -> Result<(), Failure> {
    let refuse = |why: &str| deny(change.place, why);
    let operation = change.operation;
    match (change.sub, operation) {
        ("", Operation::Create) => create_pod(registry, change.place, change.new, node),
        ("", Operation::Delete) => {
            if is_on(registry, change.place, change.place.name, node)? {
                return Ok(());
            }
            refuse(&format!(
                "node {node:?} can only delete pods with spec.nodeName set to itself"
            ))
        }
        ("", Operation::Update) => refuse(&format!(
            "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
            operation.word()
        )),
        ("status", Operation::Update) => pod_status(registry, change, node),
        ("status", _) => refuse(&format!("unexpected operation {:?}", operation.word())),
        ("eviction", Operation::Create) => evict(registry, change, node),
        ("eviction", _) => refuse(&format!("unexpected operation {}", operation.word())),
        (sub, _) => refuse(&format!(
            "unexpected pod subresource {sub:?}, only 'status' and 'eviction' are allowed"
        )),
    }
}

/// Whether a pod is bound to the node; 404 if the pod does not exist.
fn is_on(
    registry: &Registry,
    place: ObjectPath<'_>,
    name: &str,
    node: &str,
) -> Result<bool, Failure> {
    let found = registry
        .store
        .get(&format!("pods/{}/{name}", place.namespace));
    let found = found.ok_or_else(|| Failure::not_found(place.resource, name))?;
    Ok(found.field("spec.nodeName") == node)
}

fn create_pod(
    registry: &Registry,
    place: ObjectPath<'_>,
    object: &Value,
    node: &str,
) -> Result<(), Failure> {
    let refuse = |why: &str| deny(place, why);
    if !is_mirror(object) {
        return refuse(&format!(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
        ));
    }
    if text(object, "/spec/nodeName") != node {
        return refuse(&format!(
            "node {node:?} can only create pods with spec.nodeName set to itself"
        ));
    }
    owner(registry, place, object, node)?;
    // Upstream has no limit here, a cluster has quotas.
    let (there, bytes) = mirror_pods(registry, node);
    if there >= MIRROR_PODS {
        return refuse(&format!(
            "node {node:?} has {there} mirror pods, and cannot create more than {MIRROR_PODS}"
        ));
    }
    if bytes >= MIRROR_BYTES {
        return refuse(&too_large(node, bytes));
    }
    match references::api_object(object) {
        Err(why) => refuse(&format!(
            "error checking mirror pod for API references: {why}"
        )),
        Ok(Some(what)) => refuse(&format!(
            "node {node:?} can not create pods that reference {what}"
        )),
        Ok(None) => Ok(()),
    }
}

/// The number of the node's mirror pods, and their bytes.
fn mirror_pods(registry: &Registry, node: &str) -> (usize, usize) {
    let node = references::node(node);
    registry.store.tied_size(&node, references::MIRROR, "pods")
}

fn too_large(node: &str, bytes: usize) -> String {
    format!(
        "node {node:?} has {bytes} bytes of mirror pods, and cannot have more than {MIRROR_BYTES}"
    )
}

/// The only owner of a mirror pod is its Node.
fn owner(
    registry: &Registry,
    place: ObjectPath<'_>,
    object: &Value,
    node: &str,
) -> Result<(), Failure> {
    let refuse = |why: String| deny(place, &why);
    let owner = match list(object, "/metadata/ownerReferences") {
        [owner] => owner,
        [] => {
            return refuse(format!(
                "node {node:?} can only create pods with an owner reference set to itself"
            ));
        }
        _ => {
            return refuse(format!(
                "node {node:?} can only create pods with a single owner reference set to itself"
            ));
        }
    };
    let is_node = text(owner, "/apiVersion") == "v1" && text(owner, "/kind") == "Node";
    if !is_node || text(owner, "/name") != node {
        return refuse(format!(
            "node {node:?} can only create pods with an owner reference set to itself"
        ));
    }
    if owner.get("controller") != Some(&Value::Bool(true)) {
        return refuse(format!(
            "node {node:?} can only create pods with a controller owner reference set to itself"
        ));
    }
    if owner.get("blockOwnerDeletion") == Some(&Value::Bool(true)) {
        return refuse(format!(
            "node {node:?} must not set blockOwnerDeletion on an owner reference"
        ));
    }
    let row = by_storage("nodes").unwrap_or(place.resource);
    let found = registry.value("nodes", "", node);
    let found = found.ok_or_else(|| Failure::not_found(row, node))?;
    let (given, uid) = (text(owner, "/uid"), object::uid(&found));
    if given != uid {
        return refuse(format!(
            "node {node} UID mismatch: expected {given} got {uid}"
        ));
    }
    Ok(())
}

fn pod_status(registry: &Registry, change: &Change<'_>, node: &str) -> Result<(), Failure> {
    let refuse = |why: String| deny(change.place, &why);
    let (new, old) = (change.new, change.old);
    let grows = || new.to_string().len() > old.to_string().len();
    if is_mirror(old) && text(old, "/spec/nodeName") == node {
        let (_, bytes) = mirror_pods(registry, node);
        if bytes >= MIRROR_BYTES && grows() {
            return refuse(too_large(node, bytes));
        }
    }
    if text(old, "/spec/nodeName") != node {
        return refuse(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    if !object::says_same_at("/metadata/labels", new, old) {
        return refuse(format!(
            "node {node:?} cannot update labels through pod status"
        ));
    }
    let claims = |pod| {
        let all = list(pod, "/status/resourceClaimStatuses").iter();
        all.map(|one| (text(one, "/name"), one.get("resourceClaimName")))
            .collect::<Vec<_>>()
    };
    if claims(new) != claims(old) {
        return refuse(format!(
            "node {node:?} cannot update resource claim statues"
        ));
    }
    let extended = |pod: &Value| {
        let status = pod.pointer("/status/extendedResourceClaimStatus").cloned();
        status.filter(|status| !status.is_null())
    };
    if extended(new) != extended(old) {
        return refuse(format!(
            "node {node:?} cannot update extended resource claim status"
        ));
    }
    Ok(())
}

fn evict(registry: &Registry, change: &Change<'_>, node: &str) -> Result<(), Failure> {
    let name = match (change.place.name, object::name(change.new)) {
        ("", "") => return deny(change.place, "could not determine pod from request data"),
        ("", name) | (name, _) => name,
    };
    if is_on(registry, change.place, name, node)? {
        return Ok(());
    }
    let why = format!("node {node} can only evict pods with spec.nodeName set to itself");
    deny(change.place, &why)
}

/// In a claim's status a kubelet may change only the volume's capacity and the progress of a resize.
fn claim_status(change: &Change<'_>, node: &str) -> Result<(), Failure> {
    if change.operation != Operation::Update {
        let why = format!("unexpected operation {:?}", change.operation.word());
        return deny(change.place, &why);
    }
    // Upstream drops empty values before it compares.
    let part = |claim: &Value, name: &str, free: &[&str]| {
        let mut part = claim.get(name).and_then(Value::as_object).cloned();
        if let Some(part) = &mut part {
            part.retain(|field, value| !free.contains(&field.as_str()) && !is_empty(value));
        }
        part.unwrap_or_default()
    };
    let kept = |claim: &Value| {
        let free = [
            "capacity",
            "conditions",
            "allocatedResources",
            "allocatedResourceStatuses",
        ];
        [
            part(claim, "metadata", &["resourceVersion", "managedFields"]),
            part(claim, "spec", &[]),
            part(claim, "status", &free),
        ]
    };
    // Objects that were stored before a field had a default count as if they had it.
    let defaulted = |claim: &Value| {
        let mut claim = claim.clone();
        (change.place.resource.strategy.default)(&mut claim);
        kept(&claim)
    };
    if defaulted(change.new) == defaulted(change.old) {
        return Ok(());
    }
    let why = format!(
        "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
    );
    deny(change.place, &why)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn node(change: &Change<'_>, node: &str) -> Result<(), Failure> {
    let refuse = |why: String| deny(change.place, &why);
    let (name, new, old) = (change.place.name, change.new, change.old);
    if name != node {
        return refuse(format!(
            "node {node:?} is not allowed to modify node {name:?}"
        ));
    }
    let source = |node: &Value| {
        let source = node.pointer("/spec/configSource").cloned();
        source.filter(|source| !source.is_null())
    };
    match change.operation {
        Operation::Delete => return Ok(()),
        Operation::Create => {
            if source(new).is_some() {
                return refuse(format!(
                    "node {node:?} is not allowed to create pods with a non-nil configSource"
                ));
            }
        }
        Operation::Update => {
            if source(new).is_some() && source(new) != source(old) {
                return refuse(format!(
                    "node {node:?} is not allowed to update configSource to a new non-nil configSource"
                ));
            }
            if list(new, "/spec/taints") != list(old, "/spec/taints") {
                return refuse(format!("node {node:?} is not allowed to modify taints"));
            }
            if !object::says_same_at("/metadata/ownerReferences", new, old) {
                return refuse(format!(
                    "node {node:?} is not allowed to modify ownerReferences"
                ));
            }
        }
    }
    let forbidden = forbidden_labels(new, old).join(", ");
    match change.operation {
        _ if forbidden.is_empty() => Ok(()),
        Operation::Create => refuse(format!(
            "node {node:?} is not allowed to set the following labels: {forbidden}"
        )),
        _ => refuse(format!("is not allowed to modify labels: {forbidden}")),
    }
}

/// The labels; an absent map is empty.
fn labels(object: &Value) -> Map<String, Value> {
    let labels = object
        .pointer("/metadata/labels")
        .and_then(Value::as_object);
    labels.cloned().unwrap_or_default()
}

/// Changed labels in `kubernetes.io` and `k8s.io`, which are reserved for the cluster, except those that kubelets may set.
fn forbidden_labels(new: &Value, old: &Value) -> Vec<String> {
    let (new, old) = (labels(new), labels(old));
    let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    keys.into_iter()
        .filter(|key| new.get(*key) != old.get(*key) && !kubelet_may_set(key))
        .cloned()
        .collect()
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
    domains.iter().any(|d| within(d)) || KUBELET_LABELS.contains(&key)
}

/// A token must be for a pod on the node, and for an audience that the pod names.
fn token_request(registry: &Registry, change: &Change<'_>, node: &str) -> Result<(), Failure> {
    if change.operation != Operation::Create || change.sub != "token" {
        return Ok(());
    }
    let refuse = |why: String| deny(change.place, &why);
    let bound = &change.new["spec"]["boundObjectRef"];
    let (name, uid) = (text(bound, "/name"), text(bound, "/uid"));
    let is_pod = text(bound, "/apiVersion") == "v1" && text(bound, "/kind") == "Pod";
    if !is_pod || name.is_empty() {
        return refuse("node requested token not bound to a pod".to_owned());
    }
    if uid.is_empty() {
        return refuse("node requested token with a pod binding without a uid".to_owned());
    }
    let pods = by_storage("pods").unwrap_or(change.place.resource);
    let pod = registry.value("pods", change.place.namespace, name);
    let pod = pod.ok_or_else(|| Failure::not_found(pods, name))?;
    if uid != object::uid(&pod) {
        return refuse(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        ));
    }
    if text(&pod, "/spec/nodeName") != node {
        return refuse(
            "node requested token bound to a pod scheduled on a different node".to_owned(),
        );
    }
    audiences::check(registry, change, &pod).or_else(refuse)
}

fn lease(change: &Change<'_>, node: &str) -> Result<(), Failure> {
    if change.place.namespace != "kube-node-lease" {
        return deny(
            change.place,
            "can only access leases in the \"kube-node-lease\" system namespace",
        );
    }
    if change.place.name != node {
        return deny(
            change.place,
            "can only access node lease with the same name as the requesting node",
        );
    }
    Ok(())
}

/// A CSR for a kubelet's client certificate must name the requester itself.
fn signing_request(change: &Change<'_>, node: &str) -> Result<(), Failure> {
    let signers = [
        "kubernetes.io/kubelet-serving",
        "kubernetes.io/kube-apiserver-client-kubelet",
    ];
    let signer = text(change.new, "/spec/signerName");
    if change.operation != Operation::Create || !signers.contains(&signer) {
        return Ok(());
    }
    let refuse = |why: String| deny(change.place, &why);
    let pem = from_base64(text(change.new, "/spec/request")).unwrap_or_default();
    let own = User::node(node).name;
    match Request::parse(&pem, Vec::new()) {
        Err(why) => refuse(format!("unable to parse csr: {why}")),
        Ok(request) if request.common_name != own => {
            refuse(format!("can only create a node CSR with CN={own}"))
        }
        Ok(_) => Ok(()),
    }
}

fn deny(place: ObjectPath<'_>, why: &str) -> Result<(), Failure> {
    Err(Failure::forbidden(place.resource, place.name, why))
}
