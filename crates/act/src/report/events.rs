//! Records events: a log line for each, and in a cluster an entry in the queue of events to send.
//!
//! In:    decided events, with the pod that they are about
//! Out:   log lines; `EventRecorder` of the cluster port, where there is a cluster
//! Calls: execute, images, pod_worker, sync_loop, node_status, oom_watcher, wiring
//! Holds: recording never waits and never fails; an event that does not fit the queue is dropped, and the log says so; an event
//!        of a static pod refers to the pod as its source gave it, not to its mirror
//! Upstream: cmd/kubelet/app/server.go (makeEventRecorder), client-go/tools/record/event.go (generateEvent, StartStructuredLogging)

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kubelet_cluster::events::{EventRecorder, EventSender, node_reference, pod_reference};
use kubelet_decide::report::events::{NodeEvent, PodEvent};
use kubelet_model::event::EventType;
use kubelet_model::pod::Pod;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

#[cfg(test)]
mod tests;

/// How long a stop lets what waits be sent.
const FLUSH: Duration = Duration::from_secs(2);

/// Where events are recorded. Clones share the queue.
#[derive(Clone, Debug)]
pub struct Events {
    node: ObjectReference,
    recorder: Option<EventRecorder>,
}

impl Events {
    /// Of a node without a cluster: they are logged, and that is all.
    pub fn logged(node: &str) -> Self {
        Self {
            node: node_reference(node),
            recorder: None,
        }
    }

    /// Of a node in a cluster.
    pub fn recorded(node: &str, recorder: EventRecorder) -> Self {
        Self {
            node: node_reference(node),
            recorder: Some(recorder),
        }
    }

    /// Records an event about a pod, or about one of its containers.
    pub fn pod(&self, pod: &Pod, event: PodEvent) {
        let about = pod_reference(&pod.object, event.field_path);
        self.record(about, event.type_, &event.reason, event.message);
    }

    /// Records an event about the node.
    pub fn node(&self, event: NodeEvent) {
        self.record(self.node.clone(), event.type_, event.reason, event.message);
    }

    fn record(&self, about: ObjectReference, type_: EventType, reason: &str, message: String) {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let (namespace, name) = (text(&about.namespace), text(&about.name));
        let object = if namespace.is_empty() {
            name
        } else {
            format!("{namespace}/{name}")
        };
        tracing::info!(
            v = 3,
            object,
            fieldPath = text(&about.field_path),
            kind = text(&about.kind),
            apiVersion = text(&about.api_version),
            r#type = type_.as_str(),
            reason,
            message,
            "Event occurred"
        );
        if let Some(recorder) = &self.recorder
            && recorder.record(about, type_, reason, message).is_err()
        {
            tracing::error!(
                object,
                reason,
                "Unable to record event: too many queued events, dropped event"
            );
        }
    }
}

/// Sends until the stop, and then for a moment what still waits.
pub async fn send(sender: Arc<Mutex<EventSender>>, stop: CancellationToken) {
    // Nobody else takes it: after a panic the next one does.
    let mut sender = sender.lock().await;
    stop.run_until_cancelled(sender.run()).await;
    if tokio::time::timeout(FLUSH, sender.flush()).await.is_err() {
        tracing::warn!("Events were left unsent at the stop");
    }
}
