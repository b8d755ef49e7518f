//! Limits the number and bytes of all events together.
//!
//! In:    events that are written; the contents of the store, at each look
//! Out:   a refusal at the limit; a signal to delete the oldest events
//! Calls: `verbs` before and after an event is written; `controllers` delete old events
//! Holds: all events together are limited in number and bytes, whoever sends them
//! Upstream: plugin/pkg/admission/eventratelimit limits their rate (1.36)

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::base::failure::Failure;
use crate::kinds::resources::Resource;
use crate::store::Object;

/// The most events that are kept. A node with 110 crashing pods creates about 2,000 an hour.
pub(crate) const MOST: usize = 8192;
/// The most bytes.
pub(crate) const MOST_BYTES: usize = 16 << 20;
/// The `Retry-After` seconds of a refusal.
const RETRY_AFTER: u32 = 1;

/// The number of events, as far as known between two looks at the store.
#[derive(Debug, Default)]
pub(crate) struct EventRoom {
    held: AtomicUsize,
    bytes: AtomicUsize,
    short: Notify,
}

impl EventRoom {
    /// Refuses an event at the limit.
    pub(crate) fn admit(&self, resource: &Resource, bytes: usize) -> Result<(), Failure> {
        if resource.storage != "events" {
            return Ok(());
        }
        let held = self.held.load(Ordering::Relaxed);
        let all_bytes = self.bytes.load(Ordering::Relaxed).saturating_add(bytes);
        if held < MOST && all_bytes < MOST_BYTES {
            return Ok(());
        }
        self.short.notify_one();
        Err(Failure::too_many_requests(
            "there are too many events, the oldest are being deleted",
            RETRY_AFTER,
        ))
    }

    /// Counts a written event. Whether it replaced an older version is corrected at the next look.
    pub(crate) fn note(&self, object: &Object) {
        if object.storage() != "events" {
            return;
        }
        let held = self.held.fetch_add(1, Ordering::Relaxed);
        let bytes = self.bytes.fetch_add(object.bytes.len(), Ordering::Relaxed);
        // Early enough that normal writers are never refused.
        if held > MOST / 8 * 7 || bytes > MOST_BYTES / 8 * 7 {
            self.short.notify_one();
        }
    }

    /// Completes when little room is left. Cancel: loses nothing.
    pub(crate) fn is_short(&self) -> Notified<'_> {
        self.short.notified()
    }

    /// Sets the counts from the store's contents.
    pub(crate) fn counted(&self, events: &[Arc<Object>]) {
        let bytes = events.iter().map(|event| event.bytes.len()).sum();
        self.held.store(events.len(), Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}
