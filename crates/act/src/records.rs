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

use kubelet_host::journal::{Journal, JournalError};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Prefix of pods' records; behind it the UID.
pub const POD_PREFIX: &str = "pod/";
/// Prefix of last good manifests; behind it the path.
pub const MANIFEST_PREFIX: &str = "manifest/";

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
        while let Some((key, value)) = self.unwritten.first_key_value() {
            let key = key.clone();
            let result: Result<(), JournalError> = match value {
                Some(bytes) => journal.put(&key, bytes),
                None => journal.remove(&key).map(|_| ()),
            };
            match result {
                Ok(()) => {
                    self.unwritten.remove(&key);
                    self.last_error = None;
                }
                Err(error) => {
                    let text = error.to_string();
                    if self.last_error.as_ref() != Some(&text) {
                        tracing::error!(key, error = %text, "Journal cannot be written; kept in memory until it can");
                    }
                    self.last_error = Some(text);
                    return;
                }
            }
        }
        if journal.wants_compaction()
            && let Err(error) = journal.compact()
        {
            tracing::warn!(error = %error, "Journal could not be compacted");
        }
    }
}
