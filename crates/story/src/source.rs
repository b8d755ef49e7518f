//! Where the served pods come from, and how one is rendered.
//!
//! In:    the snapshot of reported pods; functions of the owners of the other facts
//! Out:   pods as protobuf and as JSON, stories
//! Calls: the two services
//! Holds: rendering is on threads, at most two at a time; managed fields are never shown
//! Upstream: pkg/kubelet/apis/pods/server.go

use std::sync::Arc;

use k8s_openapi::api::core::v1;
use kubelet_model::ids::PodUid;
use kubelet_model::reported::{ReportedPod, ReportedPods};
use kubelet_model::story::Story;
use prometheus::{IntCounter, Registry};
use tokio::sync::{Semaphore, watch};
use tonic::Status;

use crate::stubs::story::PodStory;

/// Renderings at a time.
const AT_ONCE: usize = 2;
const DROPPED: &str = "kubelet_pod_watch_events_dropped_total";
const DROPPED_HELP: &str = "[ALPHA] Cumulative number of pod watch events dropped.";

type StoryOf = Arc<dyn Fn(&PodUid) -> Story + Send + Sync>;
type Protobuf = fn(&v1::Pod) -> Option<Vec<u8>>;

/// Where pods and stories come from. Cheap to clone.
#[derive(Clone)]
pub struct Source {
    pods: watch::Receiver<ReportedPods>,
    story: StoryOf,
    protobuf: Protobuf,
    /// Events of watches that could not be encoded.
    pub(crate) dropped: IntCounter,
    turns: Arc<Semaphore>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Source {
    /// Of these pods; `story` is asked for one pod at a time and takes a lock for no longer than a copy; `protobuf` encodes a pod.
    ///
    /// # Errors
    /// When a metric of the registry has upstream's name already.
    pub fn new(
        pods: watch::Receiver<ReportedPods>,
        story: impl Fn(&PodUid) -> Story + Send + Sync + 'static,
        protobuf: Protobuf,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let dropped = IntCounter::new(DROPPED, DROPPED_HELP)?;
        registry.register(Box::new(dropped.clone()))?;
        Ok(Self {
            pods,
            story: Arc::new(story),
            protobuf,
            dropped,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        })
    }

    /// All pods of this moment.
    pub(crate) fn snapshot(&self) -> ReportedPods {
        self.pods.borrow().clone()
    }

    /// The pods, and their changes.
    pub(crate) fn watched(&self) -> watch::Receiver<ReportedPods> {
        self.pods.clone()
    }

    /// Renders on a thread when its turn comes.
    pub(crate) async fn render<T: Send + 'static>(
        &self,
        render: impl FnOnce(&Self) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let gone = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|error| gone(&error))?;
        let source = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let rendered = render(&source);
            drop(turn);
            rendered
        });
        work.await.map_err(|error| gone(&error))?
    }

    /// A pod in Kubernetes' protobuf encoding.
    pub(crate) fn protobuf(&self, pod: &v1::Pod) -> Result<Vec<u8>, Status> {
        (self.protobuf)(pod).ok_or_else(|| Status::internal("failed to marshal pod"))
    }

    /// A pod and what is told of it.
    pub(crate) fn story(&self, pod: &ReportedPod) -> Result<PodStory, Status> {
        let object = whole(pod);
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        let story = PodUid::parse(uid).map(|uid| (self.story)(&uid));
        let json =
            serde_json::to_vec(&object).map_err(|error| Status::internal(error.to_string()))?;
        Ok(PodStory::of(json, &story.unwrap_or_default()))
    }
}

/// The object with its status.
pub(crate) fn whole(pod: &ReportedPod) -> v1::Pod {
    let mut object = v1::Pod::clone(&pod.object);
    object.metadata.managed_fields = None;
    object.status = Some(v1::PodStatus::clone(&pod.status));
    object
}

/// What is left of a pod that is gone: who it was.
pub(crate) fn who(pod: &ReportedPod) -> v1::Pod {
    let metadata = &pod.object.metadata;
    let mut who = v1::Pod::default();
    who.metadata.name.clone_from(&metadata.name);
    who.metadata.namespace.clone_from(&metadata.namespace);
    who.metadata.uid.clone_from(&metadata.uid);
    who
}
