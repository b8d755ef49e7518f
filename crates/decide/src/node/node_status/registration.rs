//! The first form of the objects that a node owns: Node, Lease, CSINode; and what to take over in a Node that is there already.
//!
//! In:    configuration, the node's name
//! Out:   objects to create; an existing Node with the default labels, annotation and resources put right
//! Calls: act/node/node_status at start
//! Holds: adoption touches only default labels, the attach-detach annotation and resources that this node does not have any more
//! Upstream: pkg/kubelet/kubelet_node_status.go (initialNode, tryRegisterWithAPIServer, updateDefaultLabels,
//!           reconcileExtendedResource, reconcileHugePageResource), component-helpers/apimachinery/lease, pkg/volume/csi/nodeinfomanager

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, NodeSpec, Taint};
use k8s_openapi::api::storage::v1::CSINode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kubelet_model::config::NodeTaint;

use super::{AddressAuthority, is_extended, wire};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;
use kubelet_model::quantity::Quantity;

/// Whether a cluster's controller attaches volumes.
const ATTACH_DETACH_ANNOTATION: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
/// In-tree volumes that CSI drivers serve.
const MIGRATED_ANNOTATION: &str = "storage.alpha.kubernetes.io/migrated-plugins";
const MIGRATED: [&str; 7] = [
    "kubernetes.io/aws-ebs",
    "kubernetes.io/azure-disk",
    "kubernetes.io/azure-file",
    "kubernetes.io/cinder",
    "kubernetes.io/gce-pd",
    "kubernetes.io/portworx-volume",
    "kubernetes.io/vsphere-volume",
];
/// Put right in a Node that is there already.
const DEFAULT_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

/// What a node is registered with.
#[derive(Clone, Debug)]
pub struct Registration<'a> {
    /// Node name.
    pub name: &'a str,
    /// Host name, after the override.
    pub hostname: &'a str,
    /// `amd64`.
    pub architecture: &'a str,
    /// `--node-labels`.
    pub labels: &'a BTreeMap<String, String>,
    /// `registerWithTaints`.
    pub taints: &'a [NodeTaint],
    /// `--provider-id`.
    pub provider_id: Option<&'a str>,
    /// Who knows the addresses.
    pub authority: AddressAuthority,
    /// `enableControllerAttachDetach`.
    pub attach_detach_by_cluster: bool,
}

/// The object to create, still without a status.
pub fn initial_node(registration: &Registration<'_>) -> Node {
    let mut labels: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", registration.hostname),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", registration.architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", registration.architecture),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    labels.extend(registration.labels.clone());
    let attach_detach = [(ATTACH_DETACH_ANNOTATION.to_owned(), "true".to_owned())];
    let annotations = registration
        .attach_detach_by_cluster
        .then(|| BTreeMap::from(attach_detach));
    let mut node = Node {
        metadata: ObjectMeta {
            name: Some(registration.name.to_owned()),
            labels: Some(labels),
            annotations,
            ..ObjectMeta::default()
        },
        ..Node::default()
    };
    let taints = taints(registration);
    node.spec = Some(NodeSpec {
        taints: Some(taints).filter(|taints| !taints.is_empty()),
        provider_id: registration.provider_id.map(str::to_owned),
        ..NodeSpec::default()
    });
    node
}

fn taints(registration: &Registration<'_>) -> Vec<Taint> {
    let own = registration.taints.iter().map(|taint| Taint {
        key: taint.key.clone(),
        value: Some(taint.value.clone()).filter(|value| !value.is_empty()),
        effect: taint.effect.clone(),
        time_added: None,
    });
    // Nothing is scheduled here until the cloud's controller knows the node.
    let cloud = Taint {
        key: "node.cloudprovider.kubernetes.io/uninitialized".to_owned(),
        value: Some("true".to_owned()),
        effect: "NoSchedule".to_owned(),
        time_added: None,
    };
    let is_cloud = registration.authority == AddressAuthority::Cloud;
    own.chain(is_cloud.then_some(cloud)).collect()
}

/// An existing object as this kubelet wants to find it; equal to the existing one when nothing is to be done.
pub fn adopted_node(
    existing: &Node,
    initial: &Node,
    capacity: &BTreeMap<String, Quantity>,
    is_new_machine: bool,
) -> Node {
    let mut node = existing.clone();
    adopt_labels(&mut node, initial);
    let wanted = initial.metadata.annotations.as_ref();
    let wanted = wanted.and_then(|all| all.get(ATTACH_DETACH_ANNOTATION));
    let annotations = node.metadata.annotations.get_or_insert_default();
    match wanted {
        Some(value) => {
            annotations.insert(ATTACH_DETACH_ANNOTATION.to_owned(), value.clone());
        }
        None => {
            annotations.remove(ATTACH_DETACH_ANNOTATION);
        }
    }
    if annotations.is_empty() {
        node.metadata.annotations = None;
    }
    if node.status.is_some() {
        adopt_resources(&mut node, capacity, is_new_machine);
    }
    node
}

fn adopt_labels(node: &mut Node, initial: &Node) {
    let wanted = initial.metadata.labels.clone().unwrap_or_default();
    let labels = node.metadata.labels.get_or_insert_default();
    // A label that this kubelet does not set may be the cloud controller's: it stays.
    for name in DEFAULT_LABELS {
        if let Some(value) = wanted.get(name) {
            labels.insert(name.to_owned(), value.clone());
        }
    }
}

fn adopt_resources(node: &mut Node, capacity: &BTreeMap<String, Quantity>, is_new_machine: bool) {
    let status = node.status.get_or_insert_default();
    let shown = status.capacity.get_or_insert_default();
    let names: BTreeSet<String> = shown.keys().cloned().collect();
    for name in names {
        let is_gone_page = name.starts_with("hugepages-") && !capacity.contains_key(&name);
        if is_gone_page {
            shown.remove(&name);
            status.allocatable.get_or_insert_default().remove(&name);
        } else if is_new_machine && is_extended(&name) {
            // Device plugins of the machine before say nothing of this one.
            let zero = WireQuantity("0".to_owned());
            shown.insert(name.clone(), zero.clone());
            status
                .allocatable
                .get_or_insert_default()
                .insert(name, zero);
        }
    }
    let pages = capacity
        .iter()
        .filter(|(name, _)| name.starts_with("hugepages-"));
    for (name, amount) in pages {
        shown.insert(name.clone(), wire(amount));
    }
}

fn owner(name: &str, uid: &str) -> Vec<OwnerReference> {
    vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        controller: None,
        block_owner_deletion: None,
    }]
}

/// The node's lease, still without a time.
pub fn initial_lease(node_name: &str, node_uid: &str, seconds: i32) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(node_name.to_owned()),
            namespace: Some("kube-node-lease".to_owned()),
            owner_references: Some(owner(node_name, node_uid)),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(node_name.to_owned()),
            lease_duration_seconds: Some(seconds),
            ..LeaseSpec::default()
        }),
    }
}

/// The node's CSINode, still without drivers.
pub fn csi_node(node_name: &str, node_uid: &str) -> CSINode {
    let migrated = [(MIGRATED_ANNOTATION.to_owned(), MIGRATED.join(","))];
    CSINode {
        metadata: ObjectMeta {
            name: Some(node_name.to_owned()),
            annotations: Some(BTreeMap::from(migrated)),
            owner_references: Some(owner(node_name, node_uid)),
            ..ObjectMeta::default()
        },
        ..CSINode::default()
    }
}
