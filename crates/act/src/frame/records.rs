//! The journal's interface: one record per key, written before anything that depends on it.
//!
//! In:    keys and values of sources, workers
//! Out:   what was there at the last start; a warning when a record could not be written; for how long the disk has not answered
//! Calls: pod_worker, sources, sync_loop, host_progress
//! Holds: after `put` and `settled` the record is in the page cache, unless the disk refuses it or does not answer; only
//!        `settled` waits for the disk, and never without end; a failed write is repeated with the next one
//! Upstream: none (there status at the API server takes its place)

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kubelet_host::journal::{Journal, JournalError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::Instant;

/// Prefix of pods' records; behind it the UID.
pub const POD_PREFIX: &str = "pod/";
/// Prefix of last good manifests; behind it the path.
pub const MANIFEST_PREFIX: &str = "manifest/";

/// Between two tries at what could not be written, when nothing new is to be written.
const WRITE_AGAIN: Duration = Duration::from_secs(5);
/// What the last writes may take when the journal is let go.
const LAST_WRITES: Duration = Duration::from_secs(1);
/// A disk that has not taken a record for so long keeps nobody waiting any more.
const PATIENCE: Duration = Duration::from_secs(5);

/// The journal. Clones share it.
#[derive(Clone)]
pub struct Records {
    shared: Arc<Shared>,
    /// The last clone's end is the writer's.
    _open: Arc<Open>,
}

struct Shared {
    state: Mutex<State>,
    /// Tells the writer that there is something to do.
    wake: Condvar,
    /// Up to which number writes were tried.
    tried: watch::Sender<u64>,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is set and taken back by another side"
)]
struct State {
    writer: Writer,
    /// What the journal holds, or will.
    values: BTreeMap<String, Vec<u8>>,
    /// Writes that are not done, with their numbers: `None` is a removal.
    unwritten: BTreeMap<String, (u64, Option<Vec<u8>>)>,
    /// Of the last write that was asked for.
    number: u64,
    /// Somebody has waited in vain; nobody else does before the disk answers.
    is_late: bool,
    wants_sync: bool,
    is_closed: bool,
    last_error: Option<String>,
    /// When it was last written to.
    tried_at: Option<Instant>,
    /// Since when its thread has been in a write.
    writing_since: Option<Instant>,
    /// Planted bug of the simulation's self-test: this many writes are lost.
    skip_writes: bool,
}

/// Who carries writes to the disk.
enum Writer {
    /// Nobody: nothing is kept.
    None,
    /// Whoever asks for them, at once: for simulations, where a thread of its own would have its own time.
    Here(Box<Journal>),
    /// A thread of its own: a disk that hangs holds that and nothing else.
    Thread,
}

struct Open(Arc<Shared>);

impl Drop for Open {
    /// The journal is let go before this returns, unless the disk hangs.
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.wake.notify_all();
        let state = self.0.lock();
        let runs = |state: &mut State| matches!(state.writer, Writer::Thread);
        drop(self.0.wake.wait_timeout_while(state, LAST_WRITES, runs));
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Records")
    }
}

impl Records {
    /// Takes over an open journal, and writes in the caller's own time.
    pub fn new(journal: Journal) -> Self {
        let values = values_of(&journal);
        Self::of(Writer::Here(Box::new(journal)), values)
    }

    /// Takes over an open journal, and writes on a thread of its own.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn behind(journal: Journal) -> std::io::Result<Self> {
        let records = Self::of(Writer::Thread, values_of(&journal));
        let shared = Arc::clone(&records.shared);
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || shared.write_on(journal))?;
        Ok(records)
    }

    /// Remembers nothing: for a kubelet whose root directory cannot be written.
    pub fn none() -> Self {
        Self::of(Writer::None, BTreeMap::new())
    }

    fn of(writer: Writer, values: BTreeMap<String, Vec<u8>>) -> Self {
        let state = State {
            writer,
            values,
            unwritten: BTreeMap::new(),
            number: 0,
            is_late: false,
            wants_sync: false,
            is_closed: false,
            last_error: None,
            tried_at: None,
            writing_since: None,
            skip_writes: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wake: Condvar::new(),
            tried: watch::Sender::new(0),
        });
        Self {
            _open: Arc::new(Open(Arc::clone(&shared))),
            shared,
        }
    }

    /// Self-test of the simulation: every later write is dropped.
    pub fn lose_writes(&self) {
        self.shared.lock().skip_writes = true;
    }

    /// The record under a key; `None` when there is none or it does not decode.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        serde_json::from_slice(self.shared.lock().values.get(key)?).ok()
    }

    /// Every key that begins with the prefix, without it.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let state = self.shared.lock();
        let from = state.values.range(prefix.to_owned()..);
        from.map_while(|(key, _)| key.strip_prefix(prefix).map(str::to_owned))
            .collect()
    }

    /// Writes a record.
    pub fn put(&self, key: &str, value: &impl Serialize) {
        match serde_json::to_vec(value) {
            Ok(bytes) => self.write(key, Some(bytes)),
            Err(error) => {
                tracing::error!(key, error = %error, "A journal record could not be encoded")
            }
        }
    }

    /// Removes a record.
    pub fn remove(&self, key: &str) {
        self.write(key, None);
    }

    /// Waits until all that was put is on disk, or was refused by it. Cancel: safe.
    pub async fn settled(&self) {
        let mut tried = self.shared.tried.subscribe();
        let wanted = {
            let state = self.shared.lock();
            match state.writer {
                Writer::Thread if !state.is_late => state.number,
                Writer::Thread | Writer::None | Writer::Here(_) => return,
            }
        };
        let is_settled = tried.wait_for(|tried| *tried >= wanted);
        if tokio::time::timeout(PATIENCE, is_settled).await.is_err() {
            let mut state = self.shared.lock();
            if !std::mem::replace(&mut state.is_late, true) {
                state.last_error = Some("the disk does not answer".to_owned());
                tracing::error!(
                    waited = ?PATIENCE,
                    "Journal writes are stalled, the disk does not answer; the kubelet goes on without waiting for them"
                );
            }
        }
    }

    /// Tries again what could not be written; free when there is nothing. A thread does so by itself.
    pub fn write_again(&self) {
        let mut state = self.shared.lock();
        let is_due = state.tried_at.is_none_or(|at| at.elapsed() >= WRITE_AGAIN);
        if !state.unwritten.is_empty() && is_due {
            state.write_here();
        }
    }

    /// Records that a restart would not find as they are now.
    pub fn unwritten(&self) -> usize {
        self.shared.lock().unwritten.len()
    }

    /// Brings it to the disk; for the stop.
    pub async fn sync(&self) {
        {
            let mut state = self.shared.lock();
            state.write_here();
            match &state.writer {
                Writer::None => return,
                Writer::Here(journal) => {
                    warn_unsynced(journal.sync());
                    return;
                }
                Writer::Thread => {}
            }
            state.number += 1;
            state.wants_sync = true;
        }
        self.shared.wake.notify_all();
        self.settled().await;
    }

    /// For how long the disk has not answered the write that is under way.
    pub fn unanswered_for(&self) -> Duration {
        let since = self.shared.lock().writing_since;
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// The last failure, for health.
    pub fn last_error(&self) -> Option<String> {
        self.shared.lock().last_error.clone()
    }

    fn write(&self, key: &str, value: Option<Vec<u8>>) {
        let mut state = self.shared.lock();
        if state.skip_writes || matches!(state.writer, Writer::None) {
            return;
        }
        match &value {
            Some(bytes) => drop(state.values.insert(key.to_owned(), bytes.clone())),
            None => drop(state.values.remove(key)),
        }
        state.number += 1;
        let number = state.number;
        state.unwritten.insert(key.to_owned(), (number, value));
        state.write_here();
        drop(state);
        self.shared.wake.notify_all();
    }
}

fn values_of(journal: &Journal) -> BTreeMap<String, Vec<u8>> {
    let held = journal.iter("");
    held.map(|(key, bytes)| (key.to_owned(), bytes.to_vec()))
        .collect()
}

fn warn_unsynced(synced: Result<(), JournalError>) {
    if let Err(error) = synced {
        tracing::warn!(error = %error, "Journal could not be synced");
    }
}

/// Writes with their numbers.
type Batch = BTreeMap<String, (u64, Option<Vec<u8>>)>;

/// Writes what can be written; what could not, and why. Every key is tried: one that is too large must not stand in front of all
/// others for good.
fn write_all(journal: &mut Journal, batch: &Batch) -> BTreeMap<String, String> {
    let mut failed = BTreeMap::new();
    for (key, (_, value)) in batch {
        let result = match value {
            Some(bytes) => journal.put(key, bytes),
            None => journal.remove(key).map(drop),
        };
        if let Err(error) = result {
            failed.insert(key.clone(), error.to_string());
        }
    }
    if journal.wants_compaction()
        && let Err(error) = journal.compact()
    {
        tracing::warn!(error = %error, "Journal could not be compacted");
    }
    failed
}

impl State {
    /// Writes at once, where nobody else does.
    fn write_here(&mut self) {
        let Writer::Here(journal) = &mut self.writer else {
            return;
        };
        let failed = write_all(journal, &self.unwritten);
        let batch = self.unwritten.clone();
        self.tried(&batch, &failed);
    }

    /// Takes in what became of a batch; what was written anew meanwhile stays to be written.
    fn tried(&mut self, batch: &Batch, failed: &BTreeMap<String, String>) {
        self.tried_at = Some(Instant::now());
        self.writing_since = None;
        self.is_late = false;
        for (key, (number, _)) in batch.iter().filter(|(key, _)| !failed.contains_key(*key)) {
            if self
                .unwritten
                .get(key)
                .is_some_and(|(now, _)| now == number)
            {
                self.unwritten.remove(key);
            }
        }
        let first = failed.first_key_value();
        if let Some((key, text)) = first
            && self.last_error.as_ref() != Some(text)
        {
            tracing::error!(key, error = %text, "Journal cannot be written; kept in memory until it can");
        }
        self.last_error = first.map(|(_, text)| text.clone());
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer's thread, until the records are dropped.
    fn write_on(&self, mut journal: Journal) {
        let mut tried = 0;
        let mut state = self.lock();
        loop {
            if state.number == tried && state.is_closed {
                drop(state);
                drop(journal);
                self.lock().writer = Writer::None;
                self.wake.notify_all();
                return;
            }
            let mut is_due = state.number > tried;
            if !is_due {
                let (woken, timeout) = self
                    .wake
                    .wait_timeout(state, WRITE_AGAIN)
                    .unwrap_or_else(PoisonError::into_inner);
                state = woken;
                is_due = timeout.timed_out() && !state.unwritten.is_empty();
            }
            if !is_due {
                continue;
            }
            let (batch, number) = (state.unwritten.clone(), state.number);
            let wants_sync = std::mem::take(&mut state.wants_sync);
            state.writing_since = Some(Instant::now());
            drop(state);
            let failed = write_all(&mut journal, &batch);
            if wants_sync {
                warn_unsynced(journal.sync());
            }
            state = self.lock();
            state.tried(&batch, &failed);
            tried = number;
            self.tried.send_replace(tried);
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

    /// A journal whose disk hangs until the sender is dropped.
    fn on_hung_disk(scratch: &Scratch) -> (Journal, std::sync::mpsc::Sender<()>) {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Mutex::new(held);
        let disk = DiskFaults::new(move |_| {
            let _dropped = held.lock().unwrap().recv();
            None
        });
        (open(scratch).on_bad_disk(disk), release)
    }

    #[tokio::test]
    async fn what_is_put_is_on_the_disk_once_it_has_settled() {
        let scratch = Scratch::new();
        let records = Records::behind(open(&scratch)).unwrap();
        for number in 0..100 {
            records.put("pod/a", &number);
            records.settled().await;
            assert_eq!(
                (records.unwritten(), records.get("pod/a")),
                (0, Some(number))
            );
        }
        records.put("pod/b", &1);
        records.remove("pod/a");
        assert_eq!(records.keys("pod/"), ["b"]);
        records.sync().await;
        drop(records);
        let again = Records::new(open(&scratch));
        assert_eq!(
            (again.get("pod/a"), again.get("pod/b")),
            (None::<i32>, Some(1))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_keeps_nobody_waiting_for_long() {
        let scratch = Scratch::new();
        let (journal, release) = on_hung_disk(&scratch);
        let records = Records::behind(journal).unwrap();
        let began = Instant::now();
        records.put("pod/a", &1);
        records.put("pod/b", &2);
        assert_eq!(records.get("pod/b"), Some(2), "at once");
        records.settled().await;
        assert_eq!(began.elapsed(), PATIENCE);
        assert!(records.last_error().unwrap().contains("does not answer"));
        records.put("pod/a", &3);
        records.settled().await;
        assert_eq!(began.elapsed(), PATIENCE, "the next one does not wait");
        drop(release);
        while records.unwritten() > 0 {
            std::thread::yield_now();
        }
        records.put("pod/c", &4);
        records.sync().await;
        drop(records);
        let again = Records::new(open(&scratch));
        assert_eq!(again.keys("pod/"), ["a", "b", "c"]);
        assert_eq!(again.get("pod/a"), Some(3));
    }
}
