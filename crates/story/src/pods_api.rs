//! Kubernetes' local pods API: list, get and watch the pods of this node.
//!
//! In:    requests of `v1alpha1.Pods`
//! Out:   pods in Kubernetes' protobuf encoding, with their current status
//! Calls: `server`
//! Holds: texts and codes are upstream's; on upstream's socket calls are limited in rate
//! Upstream: pkg/kubelet/apis/pods/server.go (1.36); differences: a watcher that is slow misses states between, and is not dropped

use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use k8s_openapi::api::core::v1;
use tonic::{Request, Response, Status};

use crate::changes::{Change, Changes};
use crate::limiter::Limiter;
use crate::source::{Source, who, whole};
use crate::stubs::pods::pods_server::Pods;
use crate::stubs::pods::{
    EventType, GetPodRequest, GetPodResponse, ListPodsRequest, ListPodsResponse, WatchPodsEvent,
    WatchPodsRequest,
};

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct PodsApi {
    pub(crate) source: Source,
    /// On upstream's socket.
    pub(crate) limiter: Option<Arc<Limiter>>,
}

impl PodsApi {
    fn admit(&self) -> Result<(), Status> {
        match &self.limiter {
            Some(limiter) if !limiter.allows() => {
                Err(Status::resource_exhausted("rejected by rate limit"))
            }
            _ => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl Pods for PodsApi {
    type WatchPodsStream = BoxStream<'static, Result<WatchPodsEvent, Status>>;

    async fn list_pods(
        &self,
        _request: Request<ListPodsRequest>,
    ) -> Result<Response<ListPodsResponse>, Status> {
        self.admit()?;
        let pods = self.source.snapshot();
        let render = move |source: &Source| {
            let pods = pods.values().map(|pod| source.protobuf(&whole(pod)));
            pods.collect()
        };
        let pods = self.source.render(render).await?;
        Ok(Response::new(ListPodsResponse { pods }))
    }

    async fn get_pod(
        &self,
        request: Request<GetPodRequest>,
    ) -> Result<Response<GetPodResponse>, Status> {
        self.admit()?;
        let uid = request.into_inner().pod_uid;
        let pods = self.source.snapshot();
        let mut found = pods.iter().filter(|(known, _)| known.as_str() == uid);
        let Some((_, pod)) = found.next() else {
            return Err(Status::not_found(format!("pod with UID {uid} not found")));
        };
        let pod = pod.clone();
        let render = move |source: &Source| source.protobuf(&whole(&pod));
        let pod = self.source.render(render).await?;
        Ok(Response::new(GetPodResponse { pod }))
    }

    async fn watch_pods(
        &self,
        _request: Request<WatchPodsRequest>,
    ) -> Result<Response<Self::WatchPodsStream>, Status> {
        let source = self.source.clone();
        let changes = Changes::new(source.watched());
        let events = stream::unfold((source, changes), async |(source, mut changes)| {
            let change = changes.next().await?;
            let event = source.render(move |source| event(source, &change)).await;
            if event.is_err() {
                source.dropped.inc();
            }
            Some((event, (source, changes)))
        });
        Ok(Response::new(events.boxed()))
    }
}

fn event(source: &Source, change: &Change) -> Result<WatchPodsEvent, Status> {
    let (type_, pod): (EventType, Option<v1::Pod>) = match change {
        Change::Added(pod) => (EventType::Added, Some(whole(pod))),
        Change::Modified(pod) => (EventType::Modified, Some(whole(pod))),
        Change::Gone(pod) => (EventType::Deleted, Some(who(pod))),
        Change::Complete => (EventType::InitialSyncComplete, None),
    };
    let pod = pod.map(|pod| source.protobuf(&pod)).transpose()?;
    Ok(WatchPodsEvent {
        r#type: type_.into(),
        pod: pod.unwrap_or_default(),
    })
}
