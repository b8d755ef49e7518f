//! How much room events have left.
//!
//! In:    events that are written; what the store holds, at each look
//! Out:   a refusal while there is no room; a call for the oldest to go
//! Calls: `verbs` before and after an event is written; `controllers` remove the old ones
//! Holds: all events together are bounded in number and bytes, whoever sends them
//! Upstream: plugin/pkg/admission/eventratelimit bounds their rate (1.36)

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::base::failure::Failure;
use crate::kinds::resources::Resource;
use crate::store::Object;

/// The most that are kept. A node with 110 pods that all crash makes some 2,000 an hour.
pub(crate) const MOST: usize = 8192;
/// And their bytes.
pub(crate) const MOST_BYTES: usize = 16 << 20;
/// What is told of a writer when there is no room.
const RETRY_AFTER: u32 = 1;

/// How many events there are, as far as it is known between two looks.
#[derive(Debug, Default)]
pub(crate) struct EventRoom {
    held: AtomicUsize,
    bytes: AtomicUsize,
    short: Notify,
}

impl EventRoom {
    /// Refuses an event when there is no room.
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
            "there are too many events, the oldest are being removed",
            RETRY_AFTER,
        ))
    }

    /// Counts one that was written; that it may have been there before is found out at the next look.
    pub(crate) fn note(&self, object: &Object) {
        if object.storage() != "events" {
            return;
        }
        let held = self.held.fetch_add(1, Ordering::Relaxed);
        let bytes = self.bytes.fetch_add(object.bytes.len(), Ordering::Relaxed);
        // In time, so that nobody is refused who sends no flood.
        if held > MOST / 8 * 7 || bytes > MOST_BYTES / 8 * 7 {
            self.short.notify_one();
        }
    }

    /// Ends when there is little room left. Cancel: loses nothing.
    pub(crate) fn is_short(&self) -> Notified<'_> {
        self.short.notified()
    }

    /// What the store holds, at a look.
    pub(crate) fn counted(&self, events: &[Arc<Object>]) {
        let bytes = events.iter().map(|event| event.bytes.len()).sum();
        self.held.store(events.len(), Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}
