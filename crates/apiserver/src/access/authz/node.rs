//! The node authorizer: a kubelet may access its Node, its pods, and the objects that those pods refer to.
//!
//! In:    the node's name, the request's attributes, the store's index of the objects that belong to the node
//! Out:   the decision
//! Calls: `authz`
//! Holds: an object that no pod of the node refers to is not readable; secrets and config maps may be listed only by name and
//!        in one namespace; a mirror pod, which the kubelet itself creates, makes nothing readable; a request that can only be
//!        judged by the object is allowed here and checked by `admission/node_restriction`; no decision reads an object
//! Upstream: plugin/pkg/auth/authorizer/node/{node_authorizer,graph}.go, plugin/pkg/auth/authorizer/rbac/bootstrappolicy (system:node),
//!           (1.36); differences: the graph is an index of the store (`store/ties`)

use super::{Asked, Decision};
use crate::store::Store;
use crate::store::Thing;
use crate::store::references;

const MAY: Decision = Decision::Allowed("");
const READS: [&str; 3] = ["get", "list", "watch"];

pub(super) fn decide(store: &Store, node: &str, asked: &Asked) -> Decision {
    let own = Own { store, node, asked };
    let verb = &*asked.verb;
    match (&*asked.group, &*asked.resource) {
        ("", "secrets" | "configmaps") => own.read_in_namespace(),
        ("", "persistentvolumeclaims") if asked.subresource == "status" => match verb {
            "update" | "patch" => own.related(),
            _ => refuse("can only get/update/patch this type"),
        },
        ("", "persistentvolumeclaims" | "persistentvolumes")
        | ("storage.k8s.io", "volumeattachments") => own.get(),
        ("", "serviceaccounts") if verb == "get" && asked.subresource.is_empty() => {
            own.read_in_namespace()
        }
        ("", "serviceaccounts") => own.create_token(),
        ("", "pods") => own.pods(),
        ("", "nodes") => nodes(node, asked),
        ("coordination.k8s.io", "leases") => lease(node, asked),
        ("storage.k8s.io", "csinodes") => csi_node(node, asked),
        _ if plain(asked) => MAY,
        _ => refuse(""),
    }
}

fn refuse(why: impl Into<String>) -> Decision {
    Decision::Refused(why.into())
}

/// What every kubelet may do, regardless of its pods.
fn plain(asked: &Asked) -> bool {
    if !asked.subresource.is_empty() {
        return false;
    }
    let reads = READS.contains(&&*asked.verb);
    match (&*asked.group, &*asked.resource, &*asked.verb) {
        ("", "services", _)
        | ("node.k8s.io", "runtimeclasses", _)
        | ("storage.k8s.io", "csidrivers", _) => reads,
        ("", "endpoints", verb) => verb == "get",
        ("" | "events.k8s.io", "events", verb) => ["create", "update", "patch"].contains(&verb),
        ("authentication.k8s.io", "tokenreviews", verb)
        | ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews", verb) => {
            verb == "create"
        }
        ("certificates.k8s.io", "certificatesigningrequests", verb) => reads || verb == "create",
        _ => false,
    }
}

fn nodes(node: &str, asked: &Asked) -> Decision {
    match (&*asked.subresource, &*asked.verb, &*asked.name) {
        ("", "create" | "update" | "patch", _) | ("status", "update" | "patch", _) => MAY,
        ("", "get" | "list" | "watch", name) if name == node => MAY,
        ("", "get" | "list" | "watch", "") => refuse(format!(
            "node '{node}' cannot read all nodes, only its own Node object"
        )),
        ("", "get" | "list" | "watch", name) => refuse(format!(
            "node '{node}' cannot read '{name}', only its own Node object"
        )),
        _ => refuse(""),
    }
}

fn lease(node: &str, asked: &Asked) -> Decision {
    // Upstream does not check this; there is no such subresource there either.
    if !asked.subresource.is_empty() {
        return refuse("");
    }
    match &*asked.verb {
        "get" | "create" | "update" | "patch" | "delete" => {}
        _ => return refuse("can only get, create, update, patch, or delete a node lease"),
    }
    if asked.namespace != "kube-node-lease" {
        return refuse("can only access leases in the \"kube-node-lease\" system namespace");
    }
    if asked.verb != "create" && asked.name != node {
        return refuse("can only access node lease with the same name as the requesting node");
    }
    MAY
}

fn csi_node(node: &str, asked: &Asked) -> Decision {
    match &*asked.verb {
        "get" | "create" | "update" | "patch" | "delete" => {}
        _ => return refuse("can only get, create, update, patch, or delete a CSINode"),
    }
    if !asked.subresource.is_empty() {
        return refuse("cannot authorize CSINode subresources");
    }
    if asked.verb != "create" && asked.name != node {
        return refuse("can only access CSINode with the same name as the requesting node");
    }
    MAY
}

/// A request for an object that pods of the node may refer to.
struct Own<'a> {
    store: &'a Store,
    node: &'a str,
    asked: &'a Asked,
}

impl Own<'_> {
    fn no_relation(&self) -> Decision {
        let node = self.node;
        refuse(format!(
            "no relationship found between node '{node}' and this object"
        ))
    }

    /// Whether the index connects the named object to the node.
    fn related(&self) -> Decision {
        if self.asked.name.is_empty() {
            return refuse("No Object name found");
        }
        if self.has_path() {
            MAY
        } else {
            self.no_relation()
        }
    }

    fn get(&self) -> Decision {
        if self.asked.verb != "get" {
            return refuse("can only get individual resources of this type");
        }
        if !self.asked.subresource.is_empty() {
            return refuse("cannot get subresource");
        }
        self.related()
    }

    fn read_in_namespace(&self) -> Decision {
        if !READS.contains(&&*self.asked.verb) {
            return refuse("can only read resources of this type");
        }
        if !self.asked.subresource.is_empty() {
            return refuse("cannot read subresource");
        }
        if self.asked.namespace.is_empty() {
            return refuse("can only read namespaced object of this type");
        }
        self.related()
    }

    fn create_token(&self) -> Decision {
        if self.asked.verb != "create" || self.asked.name.is_empty() {
            return refuse("can only create tokens for individual service accounts");
        }
        if self.asked.subresource != "token" {
            return refuse("can only create token subresource of serviceaccount");
        }
        self.related()
    }

    fn pods(&self) -> Decision {
        match (&*self.asked.subresource, &*self.asked.verb) {
            ("", "get") => self.get(),
            ("", "list" | "watch") => {
                let selected =
                    self.asked.fields.iter().any(|one| {
                        one.field == "spec.nodeName" && one.equal && one.value == self.node
                    });
                if selected {
                    MAY
                } else if self.asked.name.is_empty() {
                    refuse("can only list/watch pods with spec.nodeName field selector")
                } else {
                    self.related()
                }
            }
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                MAY
            }
            _ => refuse(""),
        }
    }

    fn has_path(&self) -> bool {
        let (namespace, name) = (&*self.asked.namespace, &*self.asked.name);
        let (store, node) = (self.store, references::node(self.node));
        let direct = |kind| store.is_tied(node.clone(), Thing::new(kind, namespace, name));
        // A PersistentVolume or attachment: through a claim that a pod of the node uses.
        let claimed = |thing: &Thing| store.is_tied_over("persistentvolumeclaims", thing, &node);
        match &*self.asked.resource {
            "pods" => direct("pods"),
            "volumeattachments" => store.is_tied(node, Thing::new("volumeattachments", "", name)),
            "persistentvolumes" => claimed(&Thing::new("persistentvolumes", "", name)),
            "serviceaccounts" => direct("serviceaccounts"),
            "secrets" => direct("secrets") || claimed(&Thing::new("secrets", namespace, name)),
            "configmaps" => direct("configmaps"),
            "persistentvolumeclaims" => direct("persistentvolumeclaims"),
            _ => false,
        }
    }
}
