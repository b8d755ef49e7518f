//! The recent changes of one storage, and readers that follow them.
//!
//! In:    changes as they are committed
//! Out:   the changes after a version, in order, or [`TooOld`]
//! Calls: `store`
//! Holds: limited in number and bytes; dropping changes raises the floor, and a reader below the floor gets [`TooOld`] instead
//!        of missing a change
//! Upstream: staging/src/k8s.io/apiserver/pkg/storage/cacher/watch_cache.go (1.36); differences: readers pull, so a slow reader
//!           costs nothing until it is too old

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;

use super::{News, Object, Store, TooOld};

/// The most changes of each storage in memory.
const EVENTS: usize = 1024;
/// The most bytes of them. Current objects are in memory anyway, so this is the most that the log can add.
const BYTES: usize = 2 << 20;
/// The most changes that a reader gets at once.
const AT_ONCE: usize = 128;
/// The most bytes of them, unless the first change alone is larger: a stalled reader holds them beside the log.
const AT_ONCE_BYTES: usize = 64 << 10;

/// One change.
#[derive(Clone, Debug)]
pub struct Event {
    /// The version of the change.
    pub version: u64,
    /// The object after the change; for a deletion its last state, at the version of the deletion.
    pub object: Arc<Object>,
    /// The object before the change.
    pub before: Option<Arc<Object>>,
    /// Whether this is a deletion.
    pub removed: bool,
}

impl Event {
    /// The bytes that the event holds.
    fn bytes(&self) -> usize {
        let before = self.before.as_ref().map_or(0, |before| before.bytes.len());
        self.object.bytes.len() + before
    }
}

/// The log of one storage.
pub(super) struct Log {
    events: VecDeque<Event>,
    bytes: usize,
    floor: u64,
    news: watch::Sender<u64>,
}

impl Log {
    /// An empty log: the changes up to `floor` are unknown.
    pub(super) fn new(floor: u64) -> Self {
        Self {
            events: VecDeque::new(),
            bytes: 0,
            floor,
            news: watch::Sender::new(0),
        }
    }

    pub(super) fn push(&mut self, event: Event) {
        self.bytes += event.object.bytes.len();
        self.events.push_back(event);
        while self.events.len() > EVENTS || self.bytes > BYTES {
            let Some(dropped) = self.events.pop_front() else {
                break;
            };
            self.bytes -= dropped.object.bytes.len();
            self.floor = dropped.version;
        }
    }

    /// Drops the changes up to `version`.
    pub(super) fn forget(&mut self, version: u64) {
        self.events.clear();
        self.bytes = 0;
        self.floor = version;
        self.tell(version);
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    pub(super) fn after(&self, version: u64) -> impl DoubleEndedIterator<Item = &Event> {
        let first = self.events.partition_point(|e| e.version <= version);
        self.events.range(first..)
    }

    pub(super) fn subscribe(&self) -> News {
        self.news.subscribe()
    }

    pub(super) fn tell(&self, version: u64) {
        self.news.send_replace(version);
    }
}

/// Follows the changes of one storage.
#[derive(Debug)]
pub struct Watcher {
    store: Store,
    storage: String,
    seen: u64,
    news: News,
}

impl Watcher {
    pub(super) fn new(store: Store, storage: String, seen: u64, news: News) -> Self {
        Self {
            store,
            storage,
            seen,
            news,
        }
    }

    /// All changes up to this version have been returned.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Waits for the next changes and returns them in order; never empty. Cancel: loses nothing.
    ///
    /// # Errors
    /// [`TooOld`] if the reader fell behind the log.
    pub async fn next(&mut self) -> Result<Vec<Event>, TooOld> {
        loop {
            self.news.mark_unchanged();
            let ready = self.ready()?;
            if !ready.is_empty() {
                return Ok(ready);
            }
            if self.news.changed().await.is_err() {
                // Unreachable while we hold the store, which holds the sender.
                return Err(TooOld { oldest: u64::MAX });
            }
        }
    }

    /// The changes that are already there; may be empty.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn ready(&mut self) -> Result<Vec<Event>, TooOld> {
        let state = self.store.0.shared.read();
        let Some(log) = state.logs.get(&self.storage) else {
            return Ok(Vec::new());
        };
        if self.seen < log.floor() {
            return Err(TooOld {
                oldest: log.floor(),
            });
        }
        let mut bytes = 0;
        let mut fits = |event: &&Event| {
            let is_first = bytes == 0;
            bytes += event.bytes();
            is_first || bytes <= AT_ONCE_BYTES
        };
        let events = log.after(self.seen).take(AT_ONCE);
        let events: Vec<Event> = events.take_while(|event| fits(event)).cloned().collect();
        self.seen = match events.last() {
            Some(last) => last.version,
            // This storage has no change up to here, so a bookmark may report this version.
            None => self.seen.max(state.version),
        };
        Ok(events)
    }
}
