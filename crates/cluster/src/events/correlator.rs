//! Event correlation: counts equal events, combines similar ones, drops too many about one object.
//!
//! In:    events with the time they were recorded at
//! Out:   the event to send, with the patch when one of it is there already; or nothing
//! Calls: events
//! Holds: each of the three caches evicts the least recently used entry; the numbers are upstream's
//! Upstream: client-go/tools/record/events_cache.go (EventCorrelator)

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::Value;

use super::repetition;

/// Entries of each cache.
const ENTRIES: usize = 4096;
/// From so many different texts on, within this time, one event stands for all.
const SIMILAR: usize = 10;
const SIMILAR_SECONDS: i64 = 600;
/// Events about one object at once, and how often another.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;

/// What to send.
#[derive(Clone, Debug)]
pub(super) struct Correlated {
    pub(super) event: Event,
    /// Counts up the one that is there.
    pub(super) patch: Option<Value>,
}

/// A map that forgets what was used longest ago. Keys are long and there are many, so each is held once.
#[derive(Debug)]
struct Cache<T> {
    entries: BTreeMap<Arc<str>, (u64, T)>,
    by_use: BTreeMap<u64, Arc<str>>,
    uses: u64,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
        }
    }
}

impl<T> Cache<T> {
    fn take(&mut self, key: &str) -> Option<T> {
        let (used, value) = self.entries.remove(key)?;
        self.by_use.remove(&used);
        Some(value)
    }

    fn put(&mut self, key: &Arc<str>, value: T) {
        drop(self.take(key));
        self.uses += 1;
        let key = Arc::clone(key);
        self.by_use.insert(self.uses, Arc::clone(&key));
        self.entries.insert(key, (self.uses, value));
        if self.entries.len() > ENTRIES
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.entries.remove(&oldest);
        }
    }
}

#[derive(Debug)]
struct Similar {
    /// Different ones, never more than [`SIMILAR`].
    texts: Vec<Box<str>>,
    last: Timestamp,
}

#[derive(Clone, Debug)]
struct Counted {
    count: i32,
    first: Option<Time>,
    name: Option<String>,
    version: Option<String>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Timestamp,
}

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Correlator {
    similar: Cache<Similar>,
    counted: Cache<Counted>,
    buckets: Cache<Bucket>,
}

impl Correlator {
    /// What to send of an event; nothing when there were too many about its object.
    pub(super) fn correlate(&mut self, event: Event, now: Timestamp) -> Option<Correlated> {
        let (event, key) = self.aggregate(event, now);
        let correlated = self.count(event, key);
        self.has_token(&correlated.event, now).then_some(correlated)
    }

    /// The server has it, under this name and version.
    pub(super) fn stored(&mut self, sent: &Correlated, stored: &Event) {
        let counted = Counted {
            count: stored.count.or(sent.event.count).unwrap_or(1),
            first: stored.first_timestamp.clone(),
            name: stored.metadata.name.clone(),
            version: stored.metadata.resource_version.clone(),
        };
        self.counted.put(&event_key(stored), counted);
    }

    /// The event, or the one that stands for all of its kind; and the key to count it by.
    fn aggregate(&mut self, event: Event, now: Timestamp) -> (Event, Arc<str>) {
        let key = similar_key(&event);
        let fresh = Similar {
            texts: Vec::new(),
            last: now,
        };
        let mut similar = self
            .similar
            .take(&key)
            .filter(|similar| now.duration_since(similar.last).as_secs() <= SIMILAR_SECONDS)
            .unwrap_or(fresh);
        let text = event.message.as_deref().unwrap_or_default();
        if similar.texts.iter().all(|told| **told != *text) {
            similar.texts.reserve_exact(1);
            similar.texts.push(text.into());
        }
        similar.last = now;
        let is_many = similar.texts.len() >= SIMILAR;
        if is_many {
            // Enough to know that there are many.
            drop(similar.texts.pop());
        }
        self.similar.put(&key, similar);
        if is_many {
            return (combined(event, now), key);
        }
        let key = event_key(&event);
        (event, key)
    }

    fn count(&mut self, mut event: Event, key: Arc<str>) -> Correlated {
        let mut patch = None;
        if let Some(before) = self.counted.take(&key) {
            event.count = Some(before.count.saturating_add(1));
            event.first_timestamp = before.first;
            event.metadata.name = before.name;
            event.metadata.resource_version = before.version;
            patch = Some(repetition(&event));
        }
        let counted = Counted {
            count: event.count.unwrap_or(1),
            first: event.first_timestamp.clone(),
            name: event.metadata.name.clone(),
            version: event.metadata.resource_version.clone(),
        };
        self.counted.put(&key, counted);
        Correlated { event, patch }
    }

    fn has_token(&mut self, event: &Event, now: Timestamp) -> bool {
        let key = object_key(event);
        let mut bucket = self.buckets.take(&key).unwrap_or(Bucket {
            tokens: BURST,
            filled: now,
        });
        let passed = now.duration_since(bucket.filled).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + passed / REFILL_SECONDS).min(BURST);
        bucket.filled = now;
        let has = bucket.tokens >= 1.0;
        if has {
            bucket.tokens -= 1.0;
        }
        self.buckets.put(&key, bucket);
        has
    }
}

/// One event for many. Quirk: it names no reporter and no annotations, as upstream's (EventAggregate).
fn combined(event: Event, now: Timestamp) -> Event {
    let at = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let message = event.message.unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: event.metadata.name,
            namespace: event.metadata.namespace,
            ..ObjectMeta::default()
        },
        count: Some(1),
        first_timestamp: Some(Time(at)),
        last_timestamp: Some(Time(at)),
        message: Some(format!("(combined from similar events): {message}")),
        involved_object: event.involved_object,
        reason: event.reason,
        source: event.source,
        type_: event.type_,
        ..Event::default()
    }
}

/// Who tells about which object.
fn object_key(event: &Event) -> Arc<str> {
    let source = event.source.clone().unwrap_or_default();
    let about = &event.involved_object;
    key(&[
        source.component.as_deref(),
        source.host.as_deref(),
        about.kind.as_deref(),
        about.namespace.as_deref(),
        about.name.as_deref(),
        about.uid.as_deref(),
        about.api_version.as_deref(),
    ])
}

/// Equal but for the text.
fn similar_key(event: &Event) -> Arc<str> {
    key(&[
        Some(&object_key(event)),
        event.type_.as_deref(),
        event.reason.as_deref(),
        event.reporting_component.as_deref(),
        event.reporting_instance.as_deref(),
    ])
}

/// Equal in everything that people read.
fn event_key(event: &Event) -> Arc<str> {
    key(&[
        Some(&object_key(event)),
        event.involved_object.field_path.as_deref(),
        event.type_.as_deref(),
        event.reason.as_deref(),
        event.message.as_deref(),
    ])
}

fn key(parts: &[Option<&str>]) -> Arc<str> {
    let parts: Vec<&str> = parts.iter().map(|part| part.unwrap_or_default()).collect();
    parts.join("\0").into()
}
