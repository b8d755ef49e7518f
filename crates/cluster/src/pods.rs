//! The pods of this node: watched as one source of whole sets, their status patched, mirror pods created and deleted.
//!
//! In:    the node's name; decided statuses and static pods
//! Out:   [`PodSet`]s; what the server answers
//! Calls: act/sources (the set), act/report/status (patch, delete, mirrors)
//! Holds: only pods bound to this node; a pod keeps its `Arc` until it changes; every write carries the pod's UID; a pod of the
//!        API is annotated with source and time of first sight before the runtime gets it
//! Upstream: pkg/kubelet/config/apiserver.go, pkg/kubelet/status/status_manager.go, pkg/kubelet/pod/mirror_client.go,
//!           pkg/util/pod/pod.go (PatchPodStatus)

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1;
use kubelet_model::pod::{
    CONFIG_MIRROR_ANNOTATION, CONFIG_SEEN_ANNOTATION, CONFIG_SOURCE_ANNOTATION, Pod, PodGates,
    SourceKind, changed_alone,
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::client::{Client, LaneKind};
use crate::error::ClusterError;
use crate::objects_api::{At, PatchKind};
use crate::reflector::{FirstSet, ObjectKey, Phase, Reflector, Selection, Snapshot, Snapshots};
use kubelet_model::dice::Dice;

/// One call about a pod.
const CALL: Duration = Duration::from_secs(30);

/// How this kubelet reads a pod.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Names the fields that it cannot honour.
    pub unbuilt: fn(&v1::Pod) -> Vec<String>,
    /// Which fields act.
    pub gates: PodGates,
}

impl Default for Terms {
    /// All fields are built; gates are as upstream has them.
    fn default() -> Self {
        Self {
            unbuilt: |_| Vec::new(),
            gates: PodGates::default(),
        }
    }
}

/// All pods that the API server has bound to this node.
#[derive(Clone, Debug, Default)]
pub struct PodSet {
    /// Pods to run, by namespace and name.
    pub pods: Vec<Arc<Pod>>,
    /// Images of this kubelet's static pods; never to run.
    pub mirrors: Vec<Arc<v1::Pod>>,
    /// How many sets were published before it.
    number: u64,
    /// The pods that have another object than in the set before; `None` where a pod or a mirror came or went, or a mirror changed.
    changed: Option<Vec<Arc<Pod>>>,
}

impl PodSet {
    /// A set that is compared with nothing.
    pub fn new(pods: Vec<Arc<Pod>>, mirrors: Vec<Arc<v1::Pod>>) -> Self {
        Self {
            pods,
            mirrors,
            ..Self::default()
        }
    }

    /// The set with its difference from the one that was published before it.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        let mirrors = before.mirrors.iter().zip(&self.mirrors);
        let same_mirrors = before.mirrors.len() == self.mirrors.len()
            && mirrors.into_iter().all(|(old, new)| Arc::ptr_eq(old, new));
        self.number = before.number.saturating_add(1);
        self.changed = changed_alone(&before.pods, &self.pods).filter(|_| same_mirrors);
        self
    }

    /// The pods that have another object than in `seen`, the last set of a reader. `None` where the sets differ in more, or `seen` is
    /// not the one before this: then the reader looks at the whole set.
    pub fn changed_since(&self, seen: &Self) -> Option<&[Arc<Pod>]> {
        let is_next = self.number == seen.number.saturating_add(1);
        self.changed.as_deref().filter(|_| is_next)
    }
}

/// The watch, to be run by its owner.
pub struct PodWatch {
    reflector: Reflector<v1::Pod>,
    snapshots: Snapshots<v1::Pod>,
    sets: watch::Sender<Option<Arc<PodSet>>>,
    terms: Terms,
    node: String,
}

impl fmt::Debug for PodWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodWatch")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl PodWatch {
    /// A watch of the pods bound to `node`, and where the sets show: `None` until there is a whole one.
    pub fn new(
        client: Client,
        node: &str,
        terms: Terms,
        dice: Dice,
    ) -> (Self, watch::Receiver<Option<Arc<PodSet>>>) {
        let clock = client.clock().clone();
        let selection = Selection {
            fields: Some(format!("spec.nodeName={node}")),
            ..Selection::default()
        };
        let (reflector, snapshots) = Reflector::new(client, selection, FirstSet::Streamed, dice);
        let reflector = reflector.with_prepare(Box::new(move |pod, old| {
            if !is_mirror(pod) {
                stamp(pod, old, || clock.now().to_string());
            }
        }));
        let reflector = reflector.reported("pods");
        let (sets, receiver) = watch::channel(None);
        let watch = Self {
            reflector,
            snapshots,
            sets,
            terms,
            node: node.to_owned(),
        };
        (watch, receiver)
    }

    /// What the watch is at.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.reflector.phase()
    }

    /// Runs until it is dropped.
    pub async fn run(self) {
        let Self {
            reflector,
            mut snapshots,
            sets,
            terms,
            node,
        } = self;
        let hand_on = async move {
            let (mut kept, mut last) = (Kept::default(), Arc::<PodSet>::default());
            while snapshots.changed().await.is_ok() {
                let snapshot = snapshots.borrow_and_update().clone();
                if let Some(snapshot) = snapshot {
                    last = Arc::new(kept.set(&snapshot, &node, terms).after(&last));
                    sets.send_replace(Some(Arc::clone(&last)));
                }
            }
        };
        tokio::join!(reflector.run(), hand_on);
    }
}

/// Objects of the last snapshot with what was made of them, in the snapshot's order, so that one that did not change keeps its `Arc`.
#[derive(Default)]
struct Kept(Vec<(Arc<v1::Pod>, Made)>);

/// What was made of an object.
#[derive(Clone)]
enum Made {
    Pod(Arc<Pod>),
    Mirror,
    /// Not of this node, or without a name or a UID.
    Nothing,
}

impl Kept {
    fn set(&mut self, snapshot: &Snapshot<v1::Pod>, node: &str, terms: Terms) -> PodSet {
        let before = std::mem::take(&mut self.0);
        let mut before = before.into_iter().peekable();
        let mut set = PodSet::default();
        for (key, object) in &snapshot.objects {
            // Both are in the order of their keys; what comes before this one has changed or is gone.
            let is_same = |kept: &(Arc<v1::Pod>, Made)| Arc::ptr_eq(&kept.0, object);
            let is_passed = |kept: &(Arc<v1::Pod>, Made)| !is_same(kept) && is_up_to(&kept.0, key);
            while before.next_if(is_passed).is_some() {}
            let made = match before.next_if(is_same) {
                Some((_, made)) => made,
                None => made_of(object, node, terms),
            };
            match &made {
                Made::Pod(pod) => set.pods.push(Arc::clone(pod)),
                Made::Mirror => set.mirrors.push(Arc::clone(object)),
                Made::Nothing => {}
            }
            self.0.push((Arc::clone(object), made));
        }
        set
    }
}

fn is_up_to(object: &v1::Pod, key: &ObjectKey) -> bool {
    let metadata = &object.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    (namespace, name) <= (key.namespace.as_str(), key.name.as_str())
}

fn made_of(object: &Arc<v1::Pod>, node: &str, terms: Terms) -> Made {
    let spec = object.spec.as_ref();
    if spec.and_then(|spec| spec.node_name.as_deref()) != Some(node) {
        return Made::Nothing;
    }
    if is_mirror(object) {
        return Made::Mirror;
    }
    let pod = Pod::new(Arc::clone(object), SourceKind::Api, (terms.unbuilt)(object));
    match pod {
        Ok(pod) => Made::Pod(Arc::new(pod.under(terms.gates))),
        // Made once of each version of an object: told once.
        Err(error) => {
            let (namespace, name) = (&object.metadata.namespace, &object.metadata.name);
            tracing::warn!(namespace = namespace.as_deref(), name = name.as_deref(), %error, "Ignoring an API pod that is invalid for this node");
            Made::Nothing
        }
    }
}

/// Whether it is the image of a static pod.
pub fn is_mirror(pod: &v1::Pod) -> bool {
    annotation(pod, CONFIG_MIRROR_ANNOTATION).is_some()
}

fn annotation<'a>(pod: &'a v1::Pod, name: &str) -> Option<&'a str> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(name).map(String::as_str)
}

/// Source and time of first sight; the time stays while the UID does.
fn stamp(pod: &mut v1::Pod, old: Option<&v1::Pod>, now: impl FnOnce() -> String) {
    let old = old.filter(|old| old.metadata.uid == pod.metadata.uid);
    let seen = old.and_then(|old| annotation(old, CONFIG_SEEN_ANNOTATION));
    let seen = seen.map_or_else(now, str::to_owned);
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(CONFIG_SEEN_ANNOTATION.to_owned(), seen);
    let source = SourceKind::Api.as_str().to_owned();
    annotations.insert(CONFIG_SOURCE_ANNOTATION.to_owned(), source);
}

/// Which pod a call means.
#[derive(Clone, Copy, Debug)]
pub struct PodAddress<'a> {
    /// Namespace.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
    /// The UID it must have.
    pub uid: &'a str,
}

impl<'a> PodAddress<'a> {
    fn at(self, operation: &'static str) -> At<'a> {
        At {
            operation,
            lane: LaneKind::Status,
            namespace: Some(self.namespace),
            name: self.name,
            subresource: None,
            deadline: CALL,
        }
    }
}

impl Client {
    /// Reads a pod.
    ///
    /// # Errors
    /// As every call.
    pub async fn read_pod(&self, namespace: &str, name: &str) -> Result<v1::Pod, ClusterError> {
        let uid = "";
        let address = PodAddress {
            namespace,
            name,
            uid,
        };
        self.get(address.at("get pod")).await
    }

    /// Merges a decided patch (strategic) into a pod's status, if the pod still has that UID.
    ///
    /// # Errors
    /// As every call; a conflict when another pod has the name by now.
    pub async fn write_pod_status(
        &self,
        pod: PodAddress<'_>,
        status: &Value,
    ) -> Result<v1::Pod, ClusterError> {
        let patch = json!({ "metadata": { "uid": pod.uid }, "status": status });
        let mut at = pod.at("patch pod status");
        at.subresource = Some("status");
        self.patch(at, PatchKind::Strategic, &patch).await
    }

    /// Removes a pod from the API at once, if it still has that UID. One that is gone already is fine.
    ///
    /// # Errors
    /// As every call; a conflict when another pod has the name by now.
    pub async fn delete_pod(&self, pod: PodAddress<'_>) -> Result<(), ClusterError> {
        let deleted = self.delete::<v1::Pod>(pod.at("delete pod"), Some(pod.uid), Some(0));
        match deleted.await {
            Err(error) if error.is_not_found() => Ok(()),
            deleted => deleted,
        }
    }

    /// Creates the mirror of a static pod. One of the same hash that is there already is fine.
    ///
    /// # Errors
    /// As every call; already-exists when a pod of another hash, or of somebody else, has the name.
    pub async fn create_mirror(&self, mirror: &v1::Pod) -> Result<v1::Pod, ClusterError> {
        let namespace = mirror.metadata.namespace.as_deref().unwrap_or_default();
        let name = mirror.metadata.name.as_deref().unwrap_or_default();
        let mut at = PodAddress {
            namespace,
            name,
            uid: "",
        }
        .at("create mirror pod");
        at.name = "";
        let error = match self.create(at, mirror).await {
            Err(error) if error.is_already_exists() => error,
            created => return created,
        };
        let there = self.read_pod(namespace, name).await?;
        let hash = |pod: &v1::Pod| annotation(pod, CONFIG_MIRROR_ANNOTATION).map(str::to_owned);
        if hash(&there).is_some() && hash(&there) == hash(mirror) {
            return Ok(there);
        }
        Err(error)
    }
}

#[cfg(test)]
mod tests;
