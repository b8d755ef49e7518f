//! Events of pods and the node: recorded by any task at any time, sent in the background.
//!
//! In:    an object, a reason, a text
//! Out:   core/v1 Events: created, or counted up by a patch
//! Calls: everything that tells people something; one task sends
//! Holds: recording never waits and never fails; the queue is bounded, and dropped events are counted; at most 25 events per
//!        object at once, then one each 5 min; the eleventh variant of a text within 10 min becomes one combined event
//! Upstream: client-go/tools/record (event.go, events_cache.go), cmd/kubelet/app/server.go (makeEventRecorder)
//!
//! | Module | What |
//! |---|---|
//! | `correlator` | aggregation, counting, spam filter: pure but for the time that is handed in |

mod correlator;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kubelet_model::event::EventType;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::client::{Client, LaneKind};
use crate::clock::WallClock;
use crate::error::ClusterError;
use crate::objects_api::{At, PatchKind};
use kubelet_model::dice::Dice;

use correlator::{Correlated, Correlator};

/// Events that wait; upstream's channel holds as many.
const QUEUE: usize = 1000;
/// Tries of one event while the server does not answer, and the time between them.
const TRIES: u32 = 12;
const RETRY: Duration = Duration::from_secs(10);
const CALL: Duration = Duration::from_secs(30);
/// Nanoseconds within which events of one moment are told apart.
const NEAR: i64 = 1_000_000;

/// The node as events mean it: by its name alone.
pub fn node_reference(name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}

/// A pod, or with a field path one of its containers: `spec.containers{main}`.
pub fn pod_reference(pod: &Pod, field_path: Option<String>) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path,
    }
}

/// One thing to tell.
#[derive(Clone, Debug)]
struct Recorded {
    about: ObjectReference,
    type_: EventType,
    reason: String,
    message: String,
    annotations: BTreeMap<String, String>,
    at: Timestamp,
    /// The moment in its name: no other event's.
    named: Timestamp,
}

/// What became of events.
#[derive(Debug, Default)]
struct Counts {
    dropped: AtomicU64,
    sent: AtomicU64,
    failed: AtomicU64,
    filtered: AtomicU64,
}

/// Events so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// The queue was full.
    pub dropped: u64,
    /// The server has them.
    pub sent: u64,
    /// The server refused them, or was away for too long.
    pub failed: u64,
    /// Too many about one object.
    pub filtered: u64,
}

/// The queue was full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many queued events")]
pub struct Dropped;

/// Where events are recorded. Clones share the queue.
#[derive(Clone, Debug)]
pub struct EventRecorder {
    queue: mpsc::Sender<Recorded>,
    clock: WallClock,
    counts: Arc<Counts>,
    /// Nanosecond of the latest event.
    latest: Arc<AtomicI64>,
}

impl EventRecorder {
    /// Records an event. Never waits.
    ///
    /// # Errors
    /// The queue was full, and the event is dropped.
    pub fn record(
        &self,
        about: ObjectReference,
        type_: EventType,
        reason: &str,
        message: impl Into<String>,
    ) -> Result<(), Dropped> {
        self.record_annotated(about, type_, reason, message, BTreeMap::new())
    }

    /// Records an event that carries annotations.
    ///
    /// # Errors
    /// The queue was full, and the event is dropped.
    pub fn record_annotated(
        &self,
        about: ObjectReference,
        type_: EventType,
        reason: &str,
        message: impl Into<String>,
        annotations: BTreeMap<String, String>,
    ) -> Result<(), Dropped> {
        let at = self.clock.now();
        let recorded = Recorded {
            about,
            type_,
            reason: reason.to_owned(),
            message: message.into(),
            annotations,
            at,
            named: self.own_moment(at),
        };
        self.queue.try_send(recorded).map_err(|_| {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            Dropped
        })
    }

    /// Now, but no other event's moment: it is part of the name, and of two events with one name the server takes the first.
    fn own_moment(&self, now: Timestamp) -> Timestamp {
        let Ok(nanosecond) = i64::try_from(now.as_nanosecond()) else {
            return now;
        };
        let free = |latest: i64| {
            // A clock that was set back further than this is believed.
            let is_near = (0..NEAR).contains(&latest.saturating_sub(nanosecond));
            if is_near {
                latest.saturating_add(1)
            } else {
                nanosecond
            }
        };
        let taken = self
            .latest
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |latest| {
                Some(free(latest))
            });
        let own = free(taken.unwrap_or(nanosecond));
        Timestamp::from_nanosecond(i128::from(own)).unwrap_or(now)
    }

    /// What became of events so far.
    pub fn counts(&self) -> EventCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        EventCounts {
            dropped: read(&self.counts.dropped),
            sent: read(&self.counts.sent),
            failed: read(&self.counts.failed),
            filtered: read(&self.counts.filtered),
        }
    }
}

/// The task that sends, to be run by its owner; without a client it only empties the queue.
#[derive(Debug)]
pub struct EventSender {
    queue: mpsc::Receiver<Recorded>,
    client: Option<Client>,
    host: String,
    correlator: Correlator,
    counts: Arc<Counts>,
    dice: Dice,
}

/// A recorder of this node's kubelet, and its sender.
pub fn events(
    client: Option<Client>,
    clock: WallClock,
    host: &str,
    dice: Dice,
) -> (EventRecorder, EventSender) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let counts = Arc::new(Counts::default());
    let recorder = EventRecorder {
        queue: sender,
        clock,
        counts: Arc::clone(&counts),
        latest: Arc::default(),
    };
    let sender = EventSender {
        queue,
        client,
        host: host.to_owned(),
        correlator: Correlator::default(),
        counts,
        dice,
    };
    (recorder, sender)
}

impl EventSender {
    /// Sends until every recorder is gone. What is cut off by a stop is at most one event.
    pub async fn run(&mut self) {
        while let Some(recorded) = self.queue.recv().await {
            self.send(recorded).await;
        }
    }

    /// Sends what waits now, in its order.
    pub async fn flush(&mut self) {
        while let Ok(recorded) = self.queue.try_recv() {
            self.send(recorded).await;
        }
    }

    async fn send(&mut self, recorded: Recorded) {
        let Some(client) = self.client.clone() else {
            return;
        };
        let at = recorded.at;
        let event = event(recorded, &self.host, at);
        let Some(correlated) = self.correlator.correlate(event, at) else {
            self.counts.filtered.fetch_add(1, Ordering::Relaxed);
            return;
        };
        for try_ in 0..TRIES {
            match deliver(&client, &correlated).await {
                Ok(stored) => {
                    self.correlator.stored(&correlated, &stored);
                    self.counts.sent.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Err(error) if !is_worth_a_try(&error) => {
                    tracing::warn!(%error, "Event was refused");
                    break;
                }
                Err(error) => tracing::debug!(%error, "Event cannot be sent yet"),
            }
            // The first wait is spread, so that nodes do not come back together.
            let wait = if try_ == 0 {
                RETRY.mul_f64(self.dice.fraction())
            } else {
                RETRY
            };
            tokio::time::sleep(wait).await;
        }
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
    }
}

/// The server has not refused it for good.
fn is_worth_a_try(error: &ClusterError) -> bool {
    match error.code() {
        Some(code) => code == 429 || code >= 500,
        None => !matches!(error, ClusterError::Request { .. }),
    }
}

/// Counts up the event that is there, or creates one.
async fn deliver(client: &Client, correlated: &Correlated) -> Result<Event, ClusterError> {
    let event = &correlated.event;
    let namespace = event.metadata.namespace.as_deref();
    let at = |operation, name| At {
        operation,
        lane: LaneKind::Events,
        namespace,
        name,
        subresource: None,
        deadline: CALL,
    };
    if let Some(patch) = &correlated.patch {
        let name = event.metadata.name.as_deref().unwrap_or_default();
        let patched: Result<Event, _> = client
            .patch(at("patch event", name), PatchKind::Strategic, patch)
            .await;
        match patched {
            // It aged away: the same, as a new one.
            Err(error) if error.is_not_found() => {}
            patched => return patched,
        }
    }
    let mut new = event.clone();
    new.metadata.resource_version = None;
    match client.create(at("create event", ""), &new).await {
        // The answer to an earlier try was lost.
        Err(error) if error.is_already_exists() => Ok(new),
        created => created,
    }
}

/// As the API keeps it: one occurrence, a name out of the object's and the time.
fn event(recorded: Recorded, host: &str, at: Timestamp) -> Event {
    let about = recorded.about;
    // Events about things without a namespace live in `default`.
    let namespace = about
        .namespace
        .clone()
        .filter(|namespace| !namespace.is_empty());
    let name = event_name(&about, recorded.named);
    let at = Timestamp::from_second(at.as_second()).unwrap_or(at);
    let annotations = recorded.annotations;
    Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.unwrap_or_else(|| "default".to_owned())),
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            ..ObjectMeta::default()
        },
        involved_object: about,
        reason: Some(recorded.reason),
        message: Some(recorded.message),
        type_: Some(recorded.type_.as_str().to_owned()),
        first_timestamp: Some(Time(at)),
        last_timestamp: Some(Time(at)),
        count: Some(1),
        source: Some(EventSource {
            component: Some("kubelet".to_owned()),
            host: Some(host.to_owned()),
        }),
        reporting_component: Some("kubelet".to_owned()),
        reporting_instance: Some(host.to_owned()),
        ..Event::default()
    }
}

/// `web-0.18765432fedcba98`.
fn event_name(about: &ObjectReference, at: Timestamp) -> String {
    let name = about.name.as_deref().unwrap_or_default();
    format!("{name}.{:x}", at.as_nanosecond())
}

/// The part of an event that a repetition changes.
fn repetition(event: &Event) -> Value {
    serde_json::json!({
        "count": event.count,
        "lastTimestamp": event.last_timestamp,
        "message": event.message,
    })
}
