//! What a kubelet may do: its node, its pods, and what those pods refer to.
//!
//! In:    the node's name, the question, the pods of the node
//! Out:   the decision
//! Calls: `authz`
//! Holds: an object that no pod of the node refers to is not readable; lists of secrets and config maps only by name
//! Upstream: plugin/pkg/auth/authorizer/node/{node_authorizer,graph}.go, plugin/pkg/auth/authorizer/rbac/bootstrappolicy (system:node),
//!           (1.36); differences: the graph is the pods themselves, looked through when a question comes

use serde_json::Value;

use super::{Asked, Decision};
use crate::object::{list, text};
use crate::registry::Registry;

const NO_RELATION: &str = "no relationship found between node '{node}' and this object";

pub(super) fn decide(registry: &Registry, node: &str, asked: &Asked) -> Decision {
    let is = |group: &str, resource: &str| asked.group == group && asked.resource == resource;
    let no_relation = || Decision::Refused(NO_RELATION.replace("{node}", node));
    let reads = ["get", "list", "watch"].contains(&&*asked.verb);
    if is("", "secrets") || is("", "configmaps") {
        let by_name = reads && !asked.name.is_empty() && asked.subresource.is_empty();
        if !by_name {
            return Decision::Refused("can only read namespaced object of this type".to_owned());
        }
        return found(refers(registry, node, asked), no_relation);
    }
    if is("", "persistentvolumeclaims") || is("", "persistentvolumes") {
        return match (&*asked.verb, &*asked.subresource) {
            ("get", _) | ("update" | "patch", "status") => {
                found(refers(registry, node, asked), no_relation)
            }
            _ => Decision::Refused("can only get individual resources of this type".to_owned()),
        };
    }
    if is("", "serviceaccounts") {
        let allowed = match (&*asked.verb, &*asked.subresource) {
            ("create", "token") | ("get", "") => refers(registry, node, asked),
            _ => false,
        };
        return found(allowed, no_relation);
    }
    if is("", "pods") {
        return pods(registry, node, asked);
    }
    if is("", "nodes") {
        return nodes(node, asked);
    }
    if is("coordination.k8s.io", "leases") {
        return lease(node, asked);
    }
    if is("storage.k8s.io", "csinodes") {
        let own = asked.name.is_empty() && asked.verb == "create" || asked.name == node;
        let verb = ["get", "create", "update", "patch", "delete"].contains(&&*asked.verb);
        return found(own && verb, || {
            Decision::Refused(
                "can only access CSINode with the same name as the requesting node".to_owned(),
            )
        });
    }
    if is("storage.k8s.io", "volumeattachments") {
        let own = asked.verb == "get" && attachment_is_of(registry, node, &asked.name);
        return found(own, no_relation);
    }
    found(plain(asked, reads), || Decision::Refused(String::new()))
}

fn found(allowed: bool, otherwise: impl FnOnce() -> Decision) -> Decision {
    if allowed {
        Decision::Allowed("")
    } else {
        otherwise()
    }
}

/// What every kubelet may do, whatever its pods are.
fn plain(asked: &Asked, reads: bool) -> bool {
    let question = (&*asked.group, &*asked.resource, &*asked.verb);
    match question {
        ("", "services", _)
        | ("node.k8s.io", "runtimeclasses", _)
        | ("storage.k8s.io", "csidrivers", _) => reads,
        ("", "events", "create" | "patch" | "update")
        | ("events.k8s.io", "events", "create" | "patch" | "update") => true,
        ("authentication.k8s.io", "tokenreviews", "create")
        | (
            "authorization.k8s.io",
            "subjectaccessreviews" | "localsubjectaccessreviews",
            "create",
        ) => true,
        ("certificates.k8s.io", "certificatesigningrequests", verb) => {
            asked.subresource.is_empty() && ["create", "get", "list", "watch"].contains(&verb)
        }
        _ => false,
    }
}

fn pods(registry: &Registry, node: &str, asked: &Asked) -> Decision {
    let pod = || registry.value("pods", &asked.namespace, &asked.name);
    let own = || pod().is_some_and(|pod| text(&pod, "/spec/nodeName") == node);
    // A write to one that is gone is told so, as upstream's admission does: the kubelet has to know.
    let own_or_gone = || pod().is_none_or(|pod| text(&pod, "/spec/nodeName") == node);
    let selected = asked.field_selector.split(',').any(|term| {
        let wanted = term
            .strip_prefix("spec.nodeName=")
            .map(|v| v.trim_start_matches('='));
        wanted == Some(node)
    });
    let allowed = match (&*asked.verb, &*asked.subresource) {
        // Admission looks at what is in it.
        ("create", "") => true,
        ("create", "eviction") => own(),
        ("list" | "watch", "") => selected || (!asked.name.is_empty() && own()),
        ("get", "" | "status") => own(),
        ("delete", "") | ("update" | "patch", "status") => own_or_gone(),
        _ => false,
    };
    found(allowed, || match &*asked.verb {
        "list" | "watch" => Decision::Refused(
            "can only list/watch pods with spec.nodeName field selector".to_owned(),
        ),
        _ => Decision::Refused(NO_RELATION.replace("{node}", node)),
    })
}

fn nodes(node: &str, asked: &Asked) -> Decision {
    let own = asked.name == node;
    let allowed = match (&*asked.verb, &*asked.subresource) {
        ("create", "") => own || asked.name.is_empty(),
        ("get" | "list" | "watch", "") => own,
        ("update" | "patch", "" | "status") => own,
        _ => false,
    };
    found(allowed, || {
        Decision::Refused(format!(
            "node '{node}' cannot {} '{}', only its own Node object",
            if ["get", "list", "watch"].contains(&&*asked.verb) {
                "read"
            } else {
                "modify"
            },
            asked.name
        ))
    })
}

fn lease(node: &str, asked: &Asked) -> Decision {
    if asked.namespace != "kube-node-lease" {
        return Decision::Refused(
            "can only access leases in the \"kube-node-lease\" system namespace".to_owned(),
        );
    }
    let allowed = match &*asked.verb {
        "create" => asked.name.is_empty() || asked.name == node,
        "get" | "update" | "patch" | "delete" => asked.name == node,
        _ => false,
    };
    found(allowed, || {
        Decision::Refused(
            "can only access node lease with the same name as the requesting node".to_owned(),
        )
    })
}

fn attachment_is_of(registry: &Registry, node: &str, name: &str) -> bool {
    let found = registry.value("volumeattachments.storage.k8s.io", "", name);
    found.is_some_and(|attachment| text(&attachment, "/spec/nodeName") == node)
}

/// Whether a pod of the node refers to the object.
fn refers(registry: &Registry, node: &str, asked: &Asked) -> bool {
    let prefix = if asked.namespace.is_empty() {
        "pods/".to_owned()
    } else {
        format!("pods/{}/", asked.namespace)
    };
    let pods = registry.store.list(&prefix).objects;
    let own = pods.iter().filter(|pod| pod.field("spec.nodeName") == node);
    let mut own = own.map(|pod| pod.value());
    own.any(|pod| pod_refers(registry, &pod, asked))
}

fn pod_refers(registry: &Registry, pod: &Value, asked: &Asked) -> bool {
    let wanted = &*asked.name;
    match &*asked.resource {
        "serviceaccounts" => text(pod, "/spec/serviceAccountName") == wanted,
        "secrets" => {
            secret_names(pod).any(|name| name == wanted) || claims_use_secret(registry, pod, wanted)
        }
        "configmaps" => config_map_names(pod).any(|name| name == wanted),
        "persistentvolumeclaims" => claim_names(pod).any(|name| name == wanted),
        "persistentvolumes" => {
            let namespace = crate::object::namespace(pod);
            let bound = |name: String| {
                let claim = registry.value("persistentvolumeclaims", namespace, &name);
                claim.is_some_and(|claim| text(&claim, "/spec/volumeName") == wanted)
            };
            claim_names(pod).any(bound)
        }
        _ => false,
    }
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let lists = [
        "/spec/initContainers",
        "/spec/containers",
        "/spec/ephemeralContainers",
    ];
    lists.into_iter().flat_map(|pointer| list(pod, pointer))
}

/// References of environments, of one kind.
fn env_names<'a>(
    pod: &'a Value,
    key: &'static str,
    source: &'static str,
) -> impl Iterator<Item = &'a str> {
    containers(pod).flat_map(move |container| {
        let single = list(container, "/env")
            .iter()
            .map(move |variable| text(variable, key));
        let whole = list(container, "/envFrom")
            .iter()
            .map(move |from| text(from, source));
        single.chain(whole)
    })
}

fn volumes(pod: &Value) -> impl Iterator<Item = &Value> {
    list(pod, "/spec/volumes").iter()
}

fn secret_names(pod: &Value) -> impl Iterator<Item = &str> {
    let pulls = list(pod, "/spec/imagePullSecrets")
        .iter()
        .map(|s| text(s, "/name"));
    let mounted = volumes(pod).flat_map(|volume| {
        let drivers = [
            "cephfs",
            "cinder",
            "flexVolume",
            "iscsi",
            "rbd",
            "scaleIO",
            "storageos",
        ];
        let of_driver = drivers
            .into_iter()
            .map(|d| text(&volume[d], "/secretRef/name"));
        let projected = list(volume, "/projected/sources")
            .iter()
            .map(|s| text(s, "/secret/name"));
        [
            text(volume, "/secret/secretName"),
            text(volume, "/csi/nodePublishSecretRef/name"),
            text(volume, "/azureFile/secretName"),
        ]
        .into_iter()
        .chain(of_driver)
        .chain(projected)
    });
    let env = env_names(pod, "/valueFrom/secretKeyRef/name", "/secretRef/name");
    pulls.chain(mounted).chain(env)
}

fn config_map_names(pod: &Value) -> impl Iterator<Item = &str> {
    let mounted = volumes(pod).flat_map(|volume| {
        let projected = list(volume, "/projected/sources")
            .iter()
            .map(|s| text(s, "/configMap/name"));
        [text(volume, "/configMap/name")]
            .into_iter()
            .chain(projected)
    });
    let env = env_names(pod, "/valueFrom/configMapKeyRef/name", "/configMapRef/name");
    mounted.chain(env)
}

fn claim_names(pod: &Value) -> impl Iterator<Item = String> {
    volumes(pod).filter_map(|volume| {
        let claimed = text(volume, "/persistentVolumeClaim/claimName");
        if volume.get("ephemeral").is_some() {
            return Some(format!(
                "{}-{}",
                crate::object::name(pod),
                text(volume, "/name")
            ));
        }
        (!claimed.is_empty()).then(|| claimed.to_owned())
    })
}

/// A volume behind a claim may need a secret to be mounted.
fn claims_use_secret(registry: &Registry, pod: &Value, wanted: &str) -> bool {
    let namespace = crate::object::namespace(pod);
    claim_names(pod).any(|name| {
        let claim = registry
            .value("persistentvolumeclaims", namespace, &name)
            .unwrap_or_default();
        let volume = registry.value("persistentvolumes", "", text(&claim, "/spec/volumeName"));
        let volume = volume.unwrap_or_default();
        let csi = volume.pointer("/spec/csi").and_then(Value::as_object);
        csi.into_iter().flatten().any(|(field, reference)| {
            field.ends_with("SecretRef")
                && text(reference, "/name") == wanted
                && text(reference, "/namespace") == namespace
        })
    })
}
