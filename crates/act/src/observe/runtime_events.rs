//! Container events of the runtime, if it offers them, as hints to inspect a pod.
//!
//! In:    the runtime's stream of events
//! Out:   looks at the pods that events name
//! Calls: pod_path starts it; a reconnecting stream, one task
//! Holds: an event is never trusted, it only names a pod to inspect; for a runtime without events the task waits for the stop; a broken stream
//!        is reopened after a pause, and the re-list covers what was missed meanwhile
//! Upstream: pkg/kubelet/pleg/evented.go, differences: on wherever the runtime has it, since it decides nothing

use std::time::Duration;

use kubelet_cri::Client;
use kubelet_decide::observe::pleg::POD_UID_LABEL;
use kubelet_model::ids::{ContainerId, PodUid};
use tokio_util::sync::CancellationToken;

use crate::frame::clock::Clock;
use crate::frame::supervisor::Supervisor;
use crate::observe::look::Scope;
use crate::observe::pleg::PlegHandle;
use crate::observe::pleg_metrics::EventMetrics;

/// Before a broken stream is opened again.
const REOPEN_AFTER: Duration = Duration::from_secs(5);

/// Starts its task.
pub(crate) fn start(
    cri: Client,
    pleg: PlegHandle,
    figures: EventMetrics,
    clock: Clock,
    supervisor: &Supervisor,
) {
    let stop = supervisor.stop().clone();
    supervisor.spawn_reconciler("runtime events", move || {
        let (cri, pleg) = (cri.clone(), pleg.clone());
        follow(cri, pleg, figures.clone(), clock, stop.clone())
    });
}

/// Follows events until the stop; does nothing any more once the runtime says that it has none.
pub(crate) async fn follow(
    cri: Client,
    pleg: PlegHandle,
    figures: EventMetrics,
    clock: Clock,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            // Cancel: an event that is dropped was only a hint.
            biased;
            () = stop.cancelled() => return,
            end = one_stream(&cri, &pleg, &figures, clock) => if end == StreamEnd::NotThere {
                stop.cancelled().await;
                return;
            },
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(REOPEN_AFTER) => {}
        }
    }
}

#[derive(PartialEq, Eq)]
enum StreamEnd {
    NotThere,
    Broken,
}

async fn one_stream(
    cri: &Client,
    pleg: &PlegHandle,
    figures: &EventMetrics,
    clock: Clock,
) -> StreamEnd {
    let mut stream = match cri.container_events().await {
        Ok(stream) => stream,
        Err(error) if error.is_unimplemented() => {
            tracing::debug!(
                "The runtime has no container events; exits of processes are watched instead"
            );
            return StreamEnd::NotThere;
        }
        Err(error) => {
            tracing::debug!(error = %error, "Container events cannot be followed");
            figures.not_connected();
            return StreamEnd::Broken;
        }
    };
    figures.connected();
    loop {
        match stream.message().await {
            Ok(Some(event)) => {
                figures.event(event.created_at, clock.now());
                let status = event.pod_sandbox_status.as_ref();
                let uid = status.and_then(|s| s.labels.get(POD_UID_LABEL));
                match uid.and_then(|uid| PodUid::parse(uid).ok()) {
                    Some(uid) => pleg.hint(
                        &uid,
                        Scope::container(ContainerId::from(event.container_id)),
                    ),
                    // Not ours, or its pod is not told: the relist finds it.
                    None => tracing::debug!(container = event.container_id, "Event without a pod"),
                }
            }
            // Some runtimes answer the call and refuse at the first message.
            Err(status) if status.code() == tonic::Code::Unimplemented => {
                return StreamEnd::NotThere;
            }
            Ok(None) | Err(_) => return StreamEnd::Broken,
        }
    }
}
