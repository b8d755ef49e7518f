//! Which mirror pods the API should hold, and which not.
//!
//! In:    static pods that have a worker, mirrors that the API holds for this node, the node's identity
//! Out:   steps, in order of names: deletions first, then creations
//! Calls: act/report/mirror_pods.rs when either set changes, and again after its own steps
//! Holds: a mirror pod is deleted by UID, never by name alone; the mirror of a pod that still has a worker is replaced, not
//!        dropped; none is created without the node's UID, because the node owns them; none is dropped before all sources have
//!        reported
//! Upstream: pkg/kubelet/kubelet.go (tryReconcileMirrorPods, HandlePodCleanups), pkg/kubelet/pod/mirror_client.go (1.36)

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kubelet_model::pod::{CONFIG_HASH_ANNOTATION, CONFIG_MIRROR_ANNOTATION};

/// What is decided on.
#[derive(Clone, Copy, Debug)]
pub struct MirrorView<'a> {
    /// Static pods that have a worker.
    pub statics: &'a [Arc<v1::Pod>],
    /// Mirrors that the API holds.
    pub mirrors: &'a [Arc<v1::Pod>],
    /// The node, once it is registered and not being deleted.
    pub node: Option<NodeIdentity<'a>>,
    /// Whether every source was seen.
    pub all_seen: bool,
}

/// Who owns the mirrors.
#[derive(Clone, Copy, Debug)]
pub struct NodeIdentity<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
}

/// What to do at the API.
#[derive(Clone, Debug, PartialEq)]
pub enum MirrorStep {
    /// Delete this object, at once, if it still has this UID.
    Delete {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
        /// Why.
        why: &'static str,
    },
    /// Create this object.
    Create(Box<v1::Pod>),
}

/// What to do now; empty when every static pod has its mirror and no mirror is left over.
pub fn mirror_steps(view: &MirrorView<'_>) -> Vec<MirrorStep> {
    let mirrors: BTreeMap<(&str, &str), &v1::Pod> = view
        .mirrors
        .iter()
        .map(|pod| (name_of(pod), &**pod))
        .collect();
    let statics: BTreeMap<(&str, &str), &v1::Pod> = view
        .statics
        .iter()
        .map(|pod| (name_of(pod), &**pod))
        .collect();
    let mut steps = Vec::new();
    for (name, mirror) in &mirrors {
        let why = match statics.get(name) {
            None if !view.all_seen => continue,
            None => "its static pod is gone",
            Some(_) if mirror.metadata.deletion_timestamp.is_some() => "it is being deleted",
            Some(pod)
                if hash(mirror, CONFIG_MIRROR_ANNOTATION) != hash(pod, CONFIG_HASH_ANNOTATION) =>
            {
                "its static pod has changed"
            }
            Some(_) => continue,
        };
        steps.push(MirrorStep::Delete {
            namespace: name.0.to_owned(),
            name: name.1.to_owned(),
            uid: mirror.metadata.uid.clone().unwrap_or_default(),
            why,
        });
    }
    let missing = statics
        .iter()
        .filter(|(name, _)| !mirrors.contains_key(*name));
    let made = missing.filter_map(|(_, pod)| mirror_of(pod, view.node?));
    steps.extend(made.map(|mirror| MirrorStep::Create(Box::new(mirror))));
    steps
}

/// The mirror of a static pod; `None` when the pod bears no hash.
fn mirror_of(pod: &v1::Pod, node: NodeIdentity<'_>) -> Option<v1::Pod> {
    let hash = hash(pod, CONFIG_HASH_ANNOTATION)?.to_owned();
    let mut mirror = pod.clone();
    let annotations = mirror.metadata.annotations.get_or_insert_default();
    annotations.insert(CONFIG_MIRROR_ANNOTATION.to_owned(), hash);
    mirror.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.name.to_owned(),
        uid: node.uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    // The server gives these.
    mirror.metadata.uid = None;
    mirror.metadata.resource_version = None;
    mirror.metadata.creation_timestamp = None;
    Some(mirror)
}

fn name_of(pod: &v1::Pod) -> (&str, &str) {
    (
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod.metadata.name.as_deref().unwrap_or_default(),
    )
}

fn hash<'a>(pod: &'a v1::Pod, annotation: &str) -> Option<&'a str> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(annotation).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    const NODE: NodeIdentity<'_> = NodeIdentity {
        name: "n1",
        uid: "node-uid",
    };

    fn static_pod(name: &str, hash: &str) -> Arc<v1::Pod> {
        let pod = json!({
            "metadata": {
                "name": name, "namespace": "default", "uid": hash,
                "annotations": {CONFIG_HASH_ANNOTATION: hash},
            },
            "spec": {"containers": []},
        });
        Arc::new(from_value(pod).unwrap())
    }

    fn mirror(name: &str, hash: &str, uid: &str) -> Arc<v1::Pod> {
        let mut pod = mirror_of(&static_pod(name, hash), NODE).unwrap();
        pod.metadata.uid = Some(uid.to_owned());
        Arc::new(pod)
    }

    fn words(statics: &[Arc<v1::Pod>], mirrors: &[Arc<v1::Pod>], all_seen: bool) -> Vec<String> {
        let view = MirrorView {
            statics,
            mirrors,
            node: Some(NODE),
            all_seen,
        };
        let word = |step: &MirrorStep| match step {
            MirrorStep::Create(pod) => format!("create {}", name_of(pod).1),
            MirrorStep::Delete { name, uid, why, .. } => format!("delete {name} {uid}: {why}"),
        };
        mirror_steps(&view).iter().map(word).collect()
    }

    #[test]
    fn a_mirror_has_the_hash_and_the_node_as_its_owner_and_no_identity_of_its_own() {
        let made = mirror_of(&static_pod("a", "h"), NODE).unwrap();
        assert_eq!(hash(&made, CONFIG_MIRROR_ANNOTATION), Some("h"));
        assert_eq!(made.metadata.uid, None);
        let owners = made.metadata.owner_references.unwrap();
        assert_eq!(
            (owners[0].kind.as_str(), owners[0].uid.as_str()),
            ("Node", "node-uid")
        );
        assert_eq!(owners[0].controller, Some(true));
    }

    #[test]
    fn every_static_pod_gets_one_and_keeps_it() {
        let statics = [static_pod("a", "1"), static_pod("b", "2")];
        assert_eq!(words(&statics, &[], true), ["create a", "create b"]);
        let mirrors = [mirror("a", "1", "x"), mirror("b", "2", "y")];
        assert!(words(&statics, &mirrors, true).is_empty());
    }

    #[test]
    fn one_of_another_hash_or_that_is_being_deleted_is_replaced() {
        let statics = [static_pod("a", "new"), static_pod("b", "2")];
        let mut leaving = (*mirror("b", "2", "y")).clone();
        leaving.metadata.deletion_timestamp =
            Some(from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        let mirrors = [mirror("a", "old", "x"), Arc::new(leaving)];
        assert_eq!(
            words(&statics, &mirrors, true),
            [
                "delete a x: its static pod has changed",
                "delete b y: it is being deleted",
            ]
        );
    }

    #[test]
    fn one_whose_pod_is_gone_is_dropped_only_when_every_source_was_seen() {
        let mirrors = [mirror("a", "1", "x")];
        assert!(words(&[], &mirrors, false).is_empty());
        assert_eq!(
            words(&[], &mirrors, true),
            ["delete a x: its static pod is gone"]
        );
    }

    #[test]
    fn without_a_node_none_is_made() {
        let view = MirrorView {
            statics: &[static_pod("a", "1")],
            mirrors: &[],
            node: None,
            all_seen: true,
        };
        assert!(mirror_steps(&view).is_empty());
    }
}
