//! The durable store: objects by key, one resourceVersion for all, and the recent changes for watches.
//!
//! In:    writes with their preconditions ([`Write`]); keys `<storage>/<namespace>/<name>`
//! Out:   the stored object, or the error; snapshots; changes in order ([`Watcher`])
//! Calls: `registry` (writes), `verbs` (reads and watches), `controllers`
//! Holds: a write becomes visible, and is answered, only after it is synced; writes that arrive during a sync share the next
//!        one; a resourceVersion is never assigned twice; a watcher has no queue and reads the log at its own pace; a failing
//!        disk costs only the writes, until it recovers
//! Upstream: staging/src/k8s.io/apiserver/pkg/storage/{etcd3,cacher} (1.36); differences: one process, no etcd; the log
//!           survives restarts; when an object stops matching a selector, the watch event has the new content (upstream: the
//!           last matching one)

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, mpsc};
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use serde_json::Value;
use tokio::sync::{oneshot, watch};

use crate::base::object::text;

mod disk;
mod keeper;
mod log;
mod medium;
pub(crate) mod references;
mod refusal;
mod ties;

use disk::Disk;
use keeper::Keeper;
use log::Log;
pub use log::{Event, Watcher};
use ties::Ties;
pub(crate) use ties::{Thing, Tie};

/// The longest time that a writer waits for the disk.
const DISK_PATIENCE: Duration = Duration::from_secs(30);
/// The most writes per sync.
const BATCH: usize = 512;
/// The interval between attempts to open a file that another process has open.
const LOCK_RETRY: Duration = Duration::from_millis(500);
/// The size limit of one object, as etcd's default request limit.
const OBJECT_BYTES: usize = 1_536 * 1024;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "the store {0} is in use by another process: stop that process, or use another directory"
    )]
    InUse(PathBuf),
    /// The file could not be read, or is not a store.
    #[error(
        "open the store {path}: if the disk is healthy, restore the file from a copy, or move it away to start with an empty store"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// The library's error.
        #[source]
        source: redb::Error,
    },
    /// The file has a newer schema.
    #[error(
        "the store {path} was written by a newer version (schema {found}, this version reads up to {known}): start that version, or move the file away to start with an empty store"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The file's schema.
        found: u64,
        /// The newest schema that this version reads.
        known: u64,
    },
    /// The writer's thread could not be started.
    #[error("start the store's writer")]
    Writer(#[source] std::io::Error),
}

/// Why a write was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The precondition does not hold.
    #[error("the object is not as expected")]
    Unexpected(Option<Arc<Object>>),
    /// The object is too large.
    #[error("etcdserver: request is too large")]
    TooLarge,
    /// The disk failed.
    #[error("the store failed: {}", .0.why)]
    Failed(Trouble),
}

/// A disk problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The problem in words.
    pub why: Arc<str>,
    /// The disk is full.
    pub is_full: bool,
    /// The write was not done and may be repeated; otherwise its outcome is unknown.
    pub is_settled: bool,
    /// The disk does not answer.
    pub is_hung: bool,
    /// The time until the disk is tried again.
    pub again_in: Duration,
}

/// The log does not reach back to the requested version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOld {
    /// The oldest version after which all changes are known.
    pub oldest: u64,
}

/// One version of one object.
#[derive(Debug)]
pub struct Object {
    /// `<storage>/<namespace>/<name>`; the namespace is empty for cluster-scoped objects.
    pub key: Arc<str>,
    /// The version of the write that made it; for the last state of a deleted object, the version of the deletion.
    pub version: u64,
    /// The JSON text, including that version.
    pub bytes: Bytes,
    /// Its UID.
    pub(crate) uid: String,
    /// The deletion timestamp; empty if there is none.
    pub(crate) deletion: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The fields for field selectors, besides name and namespace.
    pub fields: Vec<(&'static str, String)>,
    /// UIDs of its owners.
    pub owners: Vec<String>,
    /// Its finalizers.
    pub finalizers: Vec<String>,
    /// The references between objects that this object creates, each once.
    pub(crate) ties: Vec<Tie>,
}

impl Object {
    /// The parsed object.
    pub fn value(&self) -> Value {
        #[cfg(test)]
        tests::count_parse();
        crate::base::bounds::read_kept(&self.bytes).unwrap_or_default()
    }

    /// Namespace (empty for cluster-scoped objects) and name.
    pub fn place(&self) -> (&str, &str) {
        let mut parts = self.key.splitn(3, '/').skip(1);
        (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        )
    }

    /// The stored value of a selectable field; empty if the field is not selectable.
    pub fn field(&self, name: &str) -> &str {
        let mut fields = self.fields.iter();
        let found = fields.find(|(field, _)| *field == name);
        found.map_or("", |(_, value)| value)
    }

    /// The first part of the key.
    pub fn storage(&self) -> &str {
        self.key.split('/').next().unwrap_or_default()
    }
}

/// Extracts the selectable fields from an object of a storage.
pub type Fields = fn(&str, &Value) -> Vec<(&'static str, String)>;

/// The precondition of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing under this key.
    Absent,
    /// The object, at this version.
    At(u64),
}

/// The change of a write.
#[derive(Clone, Debug)]
pub enum Change {
    /// Stores this object; the store sets its resourceVersion.
    Put(Box<Value>),
    /// Deletes the object.
    Remove,
}

/// One write.
#[derive(Clone, Debug)]
pub struct Write {
    /// The key.
    pub key: String,
    /// The precondition.
    pub expected: Expected,
    /// The change.
    pub change: Change,
}

/// All objects at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The version at that moment.
    pub version: u64,
    /// Sorted by key.
    pub objects: Vec<Arc<Object>>,
}

type Answer = Result<Arc<Object>, WriteError>;

struct Pending {
    write: Write,
    answer: oneshot::Sender<Answer>,
}

/// How writes reach the disk.
enum Writer {
    /// In the caller's own time: for simulations, in which a thread would have a time of its own.
    Inline(Mutex<Keeper>),
    /// By a thread that only waits for syncs.
    Thread {
        queue: Option<mpsc::Sender<Pending>>,
        thread: Option<std::thread::JoinHandle<()>>,
    },
}

/// A handle of the store; clones share it. Dropping the last one closes the file.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    writer: Writer,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Writer::Thread { queue, thread } = &mut self.writer {
            drop(queue.take());
            // A writer that panicked has reported it in its answers.
            let _joined = thread.take().map(std::thread::JoinHandle::join);
        }
    }
}

/// The state that readers see: committed only.
struct Shared {
    fields: Fields,
    state: RwLock<State>,
    /// Batches that the writer's thread has finished, with any result.
    batches: AtomicU64,
    /// The value of `batches` when a caller last waited in vain. While the two are equal, the disk hangs.
    hung_at: AtomicU64,
}

struct State {
    version: u64,
    objects: BTreeMap<Arc<str>, Arc<Object>>,
    /// The index of references of exactly these objects.
    ties: Ties,
    /// The changes up to this version are not known for any storage.
    compacted: u64,
    logs: BTreeMap<String, Log>,
    failed: Option<Trouble>,
}

/// The published state, by key and version.
struct Known {
    version: u64,
    objects: Vec<(Arc<str>, u64)>,
}

impl Store {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// [`OpenError`] with the file's name; the file is left as it is.
    pub fn open(path: &Path, fields: Fields) -> Result<Self, OpenError> {
        let (disk, state) = Disk::file(path, fields)?;
        Self::with_thread(disk, state, fields)
    }

    fn with_thread(disk: Disk, state: State, fields: Fields) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared::new(fields, state));
        let (queue, pending) = mpsc::channel();
        let writing = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || write_batches(Keeper::new(disk), &writing, &pending))
            .map_err(OpenError::Writer)?;
        let writer = Writer::Thread {
            queue: Some(queue),
            thread: Some(thread),
        };
        Ok(Self(Arc::new(Inner { shared, writer })))
    }

    /// As [`Self::open`], but waits for a file that another process has open: a killed process may not have ended yet.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_waiting(
        path: &Path,
        fields: Fields,
        patience: Duration,
    ) -> Result<Self, OpenError> {
        let began = tokio::time::Instant::now();
        loop {
            let opened = Self::open(path, fields);
            let waited = began.elapsed();
            if !matches!(opened, Err(OpenError::InUse(_))) || waited >= patience {
                return opened;
            }
            if waited < LOCK_RETRY {
                tracing::info!(path = %path.display(), ?patience, "The store is in use by another process; waiting for it");
            }
            tokio::time::sleep(LOCK_RETRY).await;
        }
    }

    /// A store in memory that writes in the caller's own time, for tests and simulations.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn memory(fields: Fields) -> Result<Self, OpenError> {
        Self::backend(redb::backends::InMemoryBackend::new(), fields)
    }

    /// A store on a backend of the caller, which writes in the caller's own time.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn backend(backend: impl redb::StorageBackend, fields: Fields) -> Result<Self, OpenError> {
        let (disk, state) = Disk::backend(backend, fields)?;
        let shared = Arc::new(Shared::new(fields, state));
        let writer = Writer::Inline(Mutex::new(Keeper::new(disk)));
        Ok(Self(Arc::new(Inner { shared, writer })))
    }

    /// Does one write. When this returns, the write is synced and visible. A caller waits up to 30 s for a disk that does not
    /// answer; callers after that do not wait. If the call is cancelled or the wait ends, a write that has begun may still be
    /// done; one that has not begun is not done.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write(&self, write: Write) -> Answer {
        let (answer, mut answered) = oneshot::channel();
        let pending = Pending { write, answer };
        match &self.0.writer {
            Writer::Inline(keeper) => {
                let mut keeper = unpoisoned(keeper);
                // An inline writer has no time of its own.
                if keeper.again_at().is_some() {
                    keeper.try_again(&self.0.shared);
                }
                keeper.take(&self.0.shared, vec![pending]);
            }
            Writer::Thread { .. } if self.0.shared.is_hung() => {
                return Err(WriteError::Failed(Trouble::hung(true)));
            }
            Writer::Thread { queue, .. } => {
                // If the queue is closed, the answer is dropped, which is handled below.
                let _sent = queue.as_ref().map(|queue| queue.send(pending));
                if let Ok(answer) = tokio::time::timeout(DISK_PATIENCE, &mut answered).await {
                    return answer
                        .unwrap_or_else(|_| Err(WriteError::Failed(Trouble::unanswered())));
                }
                return self.0.shared.waited_in_vain(&mut answered);
            }
        }
        let gone = |_| Err(WriteError::Failed(Trouble::unanswered()));
        answered.await.unwrap_or_else(gone)
    }

    /// What a write would store, without its version; for dry runs.
    pub(crate) fn preview(&self, key: String, value: Value) -> Arc<Object> {
        let version = self.get(&key).map_or(0, |object| object.version);
        let mut object = render(self.0.shared.fields, key.into(), value.clone(), version);
        if version == 0 {
            object.bytes = serde_json::to_vec(&value).unwrap_or_default().into();
        }
        Arc::new(object)
    }

    /// The newest committed version.
    pub fn version(&self) -> u64 {
        self.0.shared.read().version
    }

    /// Why writes are refused now.
    pub fn failed(&self) -> Option<Arc<str>> {
        if self.0.shared.is_hung() {
            return Some(Trouble::hung(true).why);
        }
        let failed = &self.0.shared.read().failed;
        failed.as_ref().map(|trouble| Arc::clone(&trouble.why))
    }

    /// One object.
    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.0.shared.read().objects.get(key).cloned()
    }

    /// Whether the index has a reference from one thing to the other.
    pub(crate) fn is_tied(&self, from: Thing, to: Thing) -> bool {
        self.0.shared.read().ties.has(&Tie { from, to })
    }

    /// Whether both have a reference to the same thing of a kind.
    pub(crate) fn is_tied_over(&self, kind: &'static str, from: &Thing, other: &Thing) -> bool {
        let state = self.0.shared.read();
        let mut both = state.ties.after(from, kind).cloned();
        both.any(|to| {
            let from = other.clone();
            state.ties.has(&Tie { from, to })
        })
    }

    /// How many things of a kind a thing refers to, and their bytes in this storage.
    pub(crate) fn tied_size(
        &self,
        from: &Thing,
        kind: &'static str,
        storage: &str,
    ) -> (usize, usize) {
        let state = self.0.shared.read();
        let sizes = state.ties.after(from, kind).map(|to| {
            let object = state.objects.get(&*to.key(storage));
            object.map_or(0, |object| object.bytes.len())
        });
        sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size))
    }

    /// All objects whose key starts with `prefix`.
    pub fn list(&self, prefix: &str) -> Snapshot {
        let state = self.0.shared.read();
        Snapshot {
            version: state.version,
            objects: state.range(prefix).cloned().collect(),
        }
    }

    /// All objects whose key starts with `prefix`, as of a version.
    ///
    /// # Errors
    /// [`TooOld`] if the changes since then are not all known.
    pub fn list_at(&self, prefix: &str, version: u64) -> Result<Snapshot, TooOld> {
        let state = self.0.shared.read();
        let storage = prefix.split('/').next().unwrap_or_default();
        let mut objects: BTreeMap<&str, &Arc<Object>> =
            state.range(prefix).map(|o| (&*o.key, o)).collect();
        if let Some(log) = state.logs.get(storage) {
            if version < log.floor() {
                return Err(TooOld {
                    oldest: log.floor(),
                });
            }
            for event in log.after(version).rev() {
                let key = &*event.object.key;
                match &event.before {
                    _ if !key.starts_with(prefix) => {}
                    Some(before) => drop(objects.insert(key, before)),
                    None => drop(objects.remove(key)),
                }
            }
        } else if version < state.compacted {
            return Err(TooOld {
                oldest: state.compacted,
            });
        }
        Ok(Snapshot {
            version,
            objects: objects.into_values().cloned().collect(),
        })
    }

    /// The changes of one storage after a version.
    ///
    /// # Errors
    /// [`TooOld`] if they are not all known.
    pub fn watch(&self, storage: &str, after: u64) -> Result<Watcher, TooOld> {
        let mut state = self.0.shared.write();
        let compacted = state.compacted;
        let log = state
            .logs
            .entry(storage.to_owned())
            .or_insert_with(|| Log::new(compacted));
        if after < log.floor() {
            return Err(TooOld {
                oldest: log.floor(),
            });
        }
        let news = log.subscribe();
        Ok(Watcher::new(self.clone(), storage.to_owned(), after, news))
    }
}

impl Trouble {
    fn unanswered() -> Self {
        Self {
            why: "its writer gave no answer".into(),
            is_full: false,
            is_settled: false,
            is_hung: false,
            again_in: Duration::ZERO,
        }
    }

    /// A disk that does not answer. `is_settled` is false for a write that the disk has, true for the next ones.
    fn hung(is_settled: bool) -> Self {
        let seconds = DISK_PATIENCE.as_secs();
        let kept = if is_settled {
            "no write is accepted until it does"
        } else {
            "it is not known whether this write was done"
        };
        Self {
            why: format!("its disk has not answered for {seconds} s; {kept}").into(),
            is_full: false,
            is_settled,
            is_hung: true,
            again_in: DISK_PATIENCE,
        }
    }
}

impl Shared {
    fn new(fields: Fields, state: State) -> Self {
        Self {
            fields,
            state: RwLock::new(state),
            batches: AtomicU64::new(0),
            hung_at: AtomicU64::new(u64::MAX),
        }
    }

    fn is_hung(&self) -> bool {
        self.hung_at.load(Ordering::SeqCst) == self.batches.load(Ordering::SeqCst)
    }

    /// The answer for a caller that waited in vain, unless its answer arrives at this moment. Later callers do not wait until
    /// the batch is finished.
    fn waited_in_vain(&self, answered: &mut oneshot::Receiver<Answer>) -> Answer {
        // Answers are sent before the batch is counted, so without an answer here this batch is not yet in the count.
        let batches = self.batches.load(Ordering::SeqCst);
        if let Ok(answer) = answered.try_recv() {
            return answer;
        }
        self.hung_at.store(batches, Ordering::SeqCst);
        tracing::error!(
            "The store's disk does not answer; writes are refused until it does, reads continue"
        );
        Err(WriteError::Failed(Trouble::hung(false)))
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The published state, for a check of the disk that may take long and must hold no lock.
    fn known(&self) -> Known {
        let state = self.read();
        let objects = state.objects.values();
        Known {
            version: state.version,
            objects: objects
                .map(|object| (Arc::clone(&object.key), object.version))
                .collect(),
        }
    }
}

impl State {
    fn range<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Arc<Object>> {
        use std::ops::Bound::{Included, Unbounded};
        self.objects
            .range::<str, _>((Included(prefix), Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(_, object)| object)
    }
}

fn unpoisoned(keeper: &Mutex<Keeper>) -> MutexGuard<'_, Keeper> {
    keeper.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The writer's thread: all writes that arrived during the last sync go into the next one.
fn write_batches(mut keeper: Keeper, shared: &Shared, queue: &mpsc::Receiver<Pending>) {
    loop {
        let first = match keeper.again_at() {
            None => queue
                .recv()
                .map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            Some(at) => queue.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        let mut batch = match first {
            Ok(first) => vec![first],
            Err(mpsc::RecvTimeoutError::Timeout) => Vec::new(),
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        };
        batch.extend(queue.try_iter().take(BATCH - 1));
        // A panic of the library counts as a failure of the disk; it must not refuse writes for ever.
        let done = catch_unwind(AssertUnwindSafe(|| {
            keeper.take(shared, batch);
            if keeper.again_at().is_some_and(|at| at <= Instant::now()) {
                keeper.try_again(shared);
            }
        }));
        if done.is_err() {
            keeper.panicked(shared);
        }
        shared.batches.fetch_add(1, Ordering::SeqCst);
    }
}

/// Checks a write's precondition and makes its event.
fn decide(
    fields: Fields,
    write: Write,
    before: Option<Arc<Object>>,
    version: u64,
) -> Result<Event, WriteError> {
    let found = before.as_ref().map(|object| object.version);
    let as_expected = match write.expected {
        Expected::Absent => found.is_none(),
        Expected::At(version) => found == Some(version),
    };
    if !as_expected {
        return Err(WriteError::Unexpected(before));
    }
    let (value, removed) = match (write.change, &before) {
        (Change::Put(value), _) => (*value, false),
        (Change::Remove, Some(before)) => (before.value(), true),
        (Change::Remove, None) => return Err(WriteError::Unexpected(None)),
    };
    let object = Arc::new(render(fields, write.key.into(), value, version));
    if object.bytes.len() > OBJECT_BYTES && !removed {
        return Err(WriteError::TooLarge);
    }
    Ok(Event {
        version,
        object,
        before,
        removed,
    })
}

/// The object with its version written into it.
fn render(fields: Fields, key: Arc<str>, mut value: Value, version: u64) -> Object {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".to_owned(), version.to_string().into());
    }
    let bytes = serde_json::to_vec(&value).unwrap_or_default();
    let storage = key.split('/').next().unwrap_or_default();
    Object {
        version,
        uid: text(&value, "/metadata/uid").to_owned(),
        deletion: text(&value, "/metadata/deletionTimestamp").to_owned(),
        labels: labels(&value),
        fields: fields(storage, &value),
        owners: owners(&value),
        finalizers: finalizers(&value),
        ties: references::ties(storage, &value),
        bytes: bytes.into(),
        key,
    }
}

fn labels(value: &Value) -> BTreeMap<String, String> {
    let labels = value.pointer("/metadata/labels").and_then(Value::as_object);
    labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn owners(value: &Value) -> Vec<String> {
    let owners = value
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array);
    let uids = owners.into_iter().flatten();
    uids.filter_map(|owner| Some(owner.get("uid")?.as_str()?.to_owned()))
        .collect()
}

fn finalizers(value: &Value) -> Vec<String> {
    let all = value
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array);
    let all = all.into_iter().flatten();
    all.filter_map(|one| one.as_str().map(str::to_owned))
        .collect()
}

fn publish(state: &mut State, events: Vec<Event>, compacted: u64) {
    state.compacted = compacted;
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    for event in events {
        state.version = event.version;
        let key = Arc::clone(&event.object.key);
        let replaced = if event.removed {
            state.objects.remove(&key)
        } else {
            state.ties.add(&event.object);
            state.objects.insert(key, Arc::clone(&event.object))
        };
        if let Some(replaced) = replaced {
            state.ties.remove(&replaced);
        }
        let storage = event.object.storage().to_owned();
        told.insert(storage.clone(), event.version);
        let log = state
            .logs
            .entry(storage)
            .or_insert_with(|| Log::new(compacted));
        log.push(event);
    }
    for (storage, version) in told {
        if let Some(log) = state.logs.get(&storage) {
            log.tell(version);
        }
    }
}

/// The channel that wakes a [`Watcher`].
type News = watch::Receiver<u64>;

#[cfg(test)]
pub(crate) mod tests;
