//! The journal as the rest sees it: one record per key, written before what depends on it.
//!
//! In:    keys and values of sources, workers
//! Out:   what was there at the last start; a warning when a record could not be written
//! Calls: pod_worker, sources, sync_loop
//! Holds: a record is on disk (page cache) when `put` returns; a write that fails is tried again with the next one
//! Upstream: none (there status at the API server takes its place)

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kubelet_host::journal::{Journal, JournalError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

/// Prefix of pods' records; behind it the UID.
pub const POD_PREFIX: &str = "pod/";
/// Prefix of last good manifests; behind it the path.
pub const MANIFEST_PREFIX: &str = "manifest/";

/// Between two tries at what could not be written, when nothing new is to be written.
const WRITE_AGAIN: Duration = Duration::from_secs(5);

/// The journal. Clones share it.
#[derive(Clone)]
pub struct Records {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    journal: Option<Journal>,
    /// Writes that failed: `None` is a removal.
    unwritten: BTreeMap<String, Option<Vec<u8>>>,
    last_error: Option<String>,
    /// When it was last written to.
    tried: Option<Instant>,
    /// Planted bug of the simulation's self-test: this many writes are lost.
    skip_writes: bool,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Records")
    }
}

impl Records {
    /// Takes over an open journal.
    pub fn new(journal: Journal) -> Self {
        Self::of(Some(journal))
    }

    /// Remembers nothing: for a kubelet whose root directory cannot be written.
    pub fn none() -> Self {
        Self::of(None)
    }

    fn of(journal: Option<Journal>) -> Self {
        let inner = Inner {
            journal,
            unwritten: BTreeMap::new(),
            last_error: None,
            tried: None,
            skip_writes: false,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Self-test of the simulation: every later write is dropped.
    pub fn lose_writes(&self) {
        self.lock().skip_writes = true;
    }

    /// The record under a key; `None` when there is none or it does not decode.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let inner = self.lock();
        if let Some(unwritten) = inner.unwritten.get(key) {
            return unwritten
                .as_deref()
                .and_then(|bytes| serde_json::from_slice(bytes).ok());
        }
        serde_json::from_slice(inner.journal.as_ref()?.get(key)?).ok()
    }

    /// Every key that begins with the prefix, without it.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let inner = self.lock();
        let stored = inner
            .journal
            .iter()
            .flat_map(|j| j.iter(prefix).map(|(key, _)| key.to_owned()));
        stored
            .filter_map(|key| key.strip_prefix(prefix).map(str::to_owned))
            .collect()
    }

    /// Writes a record.
    pub fn put(&self, key: &str, value: &impl Serialize) {
        match serde_json::to_vec(value) {
            Ok(bytes) => self.write(key, Some(bytes)),
            Err(error) => tracing::error!(key, error = %error, "Record does not encode"),
        }
    }

    /// Removes a record.
    pub fn remove(&self, key: &str) {
        self.write(key, None);
    }

    /// Tries again what could not be written; free when there is nothing.
    pub fn write_again(&self) {
        let mut inner = self.lock();
        let is_due = inner.tried.is_none_or(|at| at.elapsed() >= WRITE_AGAIN);
        if !inner.unwritten.is_empty() && is_due {
            inner.flush();
        }
    }

    /// Records that a restart would not find as they are now.
    pub fn unwritten(&self) -> usize {
        self.lock().unwritten.len()
    }

    /// Brings it to the disk; for the stop.
    pub fn sync(&self) {
        let mut inner = self.lock();
        inner.flush();
        if let Some(Err(error)) = inner.journal.as_ref().map(Journal::sync) {
            tracing::warn!(error = %error, "Journal could not be synced");
        }
    }

    /// The last failure, for health.
    pub fn last_error(&self) -> Option<String> {
        self.lock().last_error.clone()
    }

    fn write(&self, key: &str, value: Option<Vec<u8>>) {
        let mut inner = self.lock();
        if inner.skip_writes || inner.journal.is_none() {
            return;
        }
        inner.unwritten.insert(key.to_owned(), value);
        inner.flush();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn flush(&mut self) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        self.tried = Some(Instant::now());
        let mut failed = None;
        // Every key is tried: one that is too large must not stand in front of all others for good.
        self.unwritten.retain(|key, value| {
            let result: Result<(), JournalError> = match value {
                Some(bytes) => journal.put(key, bytes),
                None => journal.remove(key).map(|_| ()),
            };
            if let Err(error) = &result {
                failed.get_or_insert_with(|| (key.clone(), error.to_string()));
            }
            result.is_err()
        });
        if let Some((key, text)) = &failed
            && self.last_error.as_ref() != Some(text)
        {
            tracing::error!(key, error = %text, "Journal cannot be written; kept in memory until it can");
        }
        self.last_error = failed.map(|(_, text)| text);
        if journal.wants_compaction()
            && let Err(error) = journal.compact()
        {
            tracing::warn!(error = %error, "Journal could not be compacted");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use kubelet_host::journal::JournalLimits;
    use kubelet_host::journal::disk_faults::{DiskFault, DiskFaults};

    use super::*;
    use crate::testing::Scratch;

    fn open(scratch: &Scratch) -> Journal {
        let path = scratch.path().join("journal");
        Journal::open(&path, JournalLimits::default()).unwrap().0
    }

    #[tokio::test]
    async fn a_record_that_is_too_large_stands_in_no_other_ones_way() {
        let scratch = Scratch::new();
        let records = Records::new(open(&scratch));
        records.put("manifest/large", &"x".repeat(2 << 20));
        records.put("pod/a", &1);
        assert!(records.last_error().unwrap().contains("over the limit"));
        assert_eq!(records.unwritten(), 1);
        drop(records);
        assert_eq!(Records::new(open(&scratch)).get("pod/a"), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_written_is_written_once_the_disk_has_room() {
        static IS_FULL: AtomicBool = AtomicBool::new(true);
        let scratch = Scratch::new();
        let disk = DiskFaults::new(|_| {
            let fault = DiskFault {
                errno: 28,
                written: 9,
            };
            IS_FULL.load(Ordering::Relaxed).then_some(fault)
        });
        let records = Records::new(open(&scratch).on_bad_disk(disk));
        records.put("pod/a", &1);
        assert!(records.last_error().unwrap().contains("no space"));
        assert_eq!(records.get("pod/a"), Some(1));
        IS_FULL.store(false, Ordering::Relaxed);
        tokio::time::advance(WRITE_AGAIN).await;
        records.write_again();
        assert_eq!((records.unwritten(), records.last_error()), (0, None));
        drop(records);
        assert_eq!(Records::new(open(&scratch)).get("pod/a"), Some(1));
    }
}
