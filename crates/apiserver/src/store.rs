//! The durable store: objects by key, one resourceVersion for all, and the recent changes for watches.
//!
//! In:    writes with what they expect to find ([`Write`]); keys `<storage>/<namespace>/<name>`
//! Out:   the stored object, or why not; snapshots; changes in order ([`Watcher`])
//! Calls: `registry` (writes), `verbs` (reads and watches), `controllers`
//! Holds: nobody sees a write, nor is told of it, before it is synced; writes that wait while a sync runs share the next one;
//!        a resourceVersion is never given twice; a watcher reads the log at its own pace and holds no queue
//! Upstream: staging/src/k8s.io/apiserver/pkg/storage/{etcd3,cacher} (1.36); differences: one process, no etcd; the log is kept
//!           over restarts; an object that stops to match a selector is told of with its new content (upstream: its last matching one)

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, mpsc};

use hyper::body::Bytes;
use serde_json::Value;
use tokio::sync::{oneshot, watch};

mod disk;
mod log;

use disk::Disk;
use log::Log;
pub use log::{Event, Watcher};

/// Writes that one sync may carry.
const BATCH: usize = 512;
/// The most that one object may have, as etcd's default request limit.
const OBJECT_BYTES: usize = 1_536 * 1024;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the store {0} is in use by another process")]
    InUse(PathBuf),
    /// The file could not be read, or is not a store.
    #[error("open the store {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the store's library said.
        #[source]
        source: redb::Error,
    },
    /// The file is a store, and holds something that cannot be read.
    #[error("the store {path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which row, and why.
        what: String,
    },
    /// The writer could not be started.
    #[error("start the store's writer")]
    Writer(#[source] std::io::Error),
}

/// Why a write was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// What was expected is not what is there.
    #[error("the object is not as expected")]
    Unexpected(Option<Arc<Object>>),
    /// The object is too large.
    #[error("etcdserver: request is too large")]
    TooLarge,
    /// The disk failed: whether the write is durable is unknown until the store is opened again, and no further one is taken.
    #[error("the store failed: {0}")]
    Failed(Arc<str>),
}

/// The log does not reach back that far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOld {
    /// The oldest version from which changes are known.
    pub oldest: u64,
}

/// One version of one object.
#[derive(Debug)]
pub struct Object {
    /// `<storage>/<namespace>/<name>`; the namespace is empty for objects of the cluster.
    pub key: Arc<str>,
    /// The version of the write that made it (for the last state of a removed object: of its removal).
    pub version: u64,
    /// JSON, with that version in it.
    pub bytes: Bytes,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What field selectors may ask for, besides name and namespace.
    pub fields: Vec<(&'static str, String)>,
    /// UIDs of its owners.
    pub owners: Vec<String>,
    /// Its finalizers.
    pub finalizers: Vec<String>,
}

impl Object {
    /// The parsed object.
    pub fn value(&self) -> Value {
        crate::bounds::read_kept(&self.bytes).unwrap_or_default()
    }

    /// Namespace (empty for objects of the cluster) and name.
    pub fn place(&self) -> (&str, &str) {
        let mut parts = self.key.splitn(3, '/').skip(1);
        (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        )
    }

    /// What the store keeps of a field; empty for one that it does not keep.
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

/// Reads from an object of a storage what field selectors may ask for.
pub type Fields = fn(&str, &Value) -> Vec<(&'static str, String)>;

/// What a write expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing under this key.
    Absent,
    /// The object, at this version.
    At(u64),
}

/// What a write does.
#[derive(Clone, Debug)]
pub enum Change {
    /// Puts this object; its resourceVersion is set by the store.
    Put(Box<Value>),
    /// Removes it.
    Remove,
}

/// One write.
#[derive(Clone, Debug)]
pub struct Write {
    /// Where.
    pub key: String,
    /// Only if this is there.
    pub expected: Expected,
    /// What.
    pub change: Change,
}

/// Objects at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The version at that moment.
    pub version: u64,
    /// In the order of their keys.
    pub objects: Vec<Arc<Object>>,
}

type Answer = Result<Arc<Object>, WriteError>;

struct Pending {
    write: Write,
    answer: oneshot::Sender<Answer>,
}

/// Who carries the writes to the disk.
enum Writer {
    /// The caller, at once: for simulations, where a thread of its own would have its own time.
    Inline(Mutex<Disk>),
    /// A thread, which waits for syncs and nothing else.
    Thread {
        queue: Option<mpsc::Sender<Pending>>,
        thread: Option<std::thread::JoinHandle<()>>,
    },
}

/// A handle of the store; clones share it. The last one that is dropped closes the file.
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
            // A writer that panicked has said so in its answers.
            let _joined = thread.take().map(std::thread::JoinHandle::join);
        }
    }
}

/// What readers see: committed state only.
struct Shared {
    fields: Fields,
    state: RwLock<State>,
}

struct State {
    version: u64,
    objects: BTreeMap<Arc<str>, Arc<Object>>,
    /// Changes older than this are not known for any storage.
    compacted: u64,
    logs: BTreeMap<String, Log>,
    failed: Option<Arc<str>>,
}

impl Store {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// [`OpenError`], naming the file; it is left as it is.
    pub fn open(path: &std::path::Path, fields: Fields) -> Result<Self, OpenError> {
        let (disk, state) = Disk::file(path, fields)?;
        let shared = Arc::new(Shared {
            fields,
            state: RwLock::new(state),
        });
        let (queue, pending) = mpsc::channel();
        let writing = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || write_batches(disk, &writing, &pending))
            .map_err(OpenError::Writer)?;
        let writer = Writer::Thread {
            queue: Some(queue),
            thread: Some(thread),
        };
        Ok(Self(Arc::new(Inner { shared, writer })))
    }

    /// A store in memory that writes in the caller's own time: for tests and simulations.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn memory(fields: Fields) -> Result<Self, OpenError> {
        Self::backend(redb::backends::InMemoryBackend::new(), fields)
    }

    /// A store over a backend of the caller's, which writes in the caller's own time.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn backend(backend: impl redb::StorageBackend, fields: Fields) -> Result<Self, OpenError> {
        let (disk, state) = Disk::backend(backend, fields)?;
        let shared = Arc::new(Shared {
            fields,
            state: RwLock::new(state),
        });
        let writer = Writer::Inline(Mutex::new(disk));
        Ok(Self(Arc::new(Inner { shared, writer })))
    }

    /// Does one write; when this returns, it is synced and visible. Cancel: the write may still be done.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write(&self, write: Write) -> Answer {
        let (answer, answered) = oneshot::channel();
        let pending = Pending { write, answer };
        match &self.0.writer {
            Writer::Inline(disk) => commit(&mut unpoisoned(disk), &self.0.shared, vec![pending]),
            Writer::Thread { queue, .. } => {
                // A closed queue drops the answer, which is seen below.
                let _sent = queue.as_ref().map(|queue| queue.send(pending));
            }
        }
        let gone = |_| Err(WriteError::Failed("the writer has ended".into()));
        answered.await.unwrap_or_else(gone)
    }

    /// What a write would keep, without its version; for dry runs.
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

    /// Why no further write is taken.
    pub fn failed(&self) -> Option<Arc<str>> {
        self.0.shared.read().failed.clone()
    }

    /// One object.
    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.0.shared.read().objects.get(key).cloned()
    }

    /// All objects whose key starts with `prefix`, now.
    pub fn list(&self, prefix: &str) -> Snapshot {
        let state = self.0.shared.read();
        Snapshot {
            version: state.version,
            objects: state.range(prefix).cloned().collect(),
        }
    }

    /// All objects whose key starts with `prefix`, as they were at a version.
    ///
    /// # Errors
    /// [`TooOld`] when the changes since are not all known.
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
    /// [`TooOld`] when they are not all known.
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

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
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

fn unpoisoned(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The writer's thread: whatever came while the last sync ran goes with the next one.
fn write_batches(mut disk: Disk, shared: &Shared, queue: &mpsc::Receiver<Pending>) {
    while let Ok(first) = queue.recv() {
        let mut batch = vec![first];
        batch.extend(queue.try_iter().take(BATCH - 1));
        commit(&mut disk, shared, batch);
    }
}

/// Decides each write against what the ones before it left, syncs all of them at once, publishes them, and answers.
fn commit(disk: &mut Disk, shared: &Shared, batch: Vec<Pending>) {
    let (mut events, mut answers) = (Vec::new(), Vec::new());
    {
        let state = shared.read();
        let mut version = state.version;
        let mut now: BTreeMap<Arc<str>, Option<Arc<Object>>> = BTreeMap::new();
        for Pending { write, answer } in batch {
            if let Some(why) = &state.failed {
                answers.push((answer, Err(WriteError::Failed(Arc::clone(why)))));
                continue;
            }
            let before = match now.get(&*write.key) {
                Some(object) => object.clone(),
                None => state.objects.get(&*write.key).cloned(),
            };
            let decided = decide(shared.fields, write, before, version + 1);
            if let Ok(event) = &decided {
                version += 1;
                let left = (!event.removed).then(|| Arc::clone(&event.object));
                now.insert(Arc::clone(&event.object.key), left);
                events.push(event.clone());
            }
            answers.push((answer, decided.map(|event| event.object)));
        }
    }
    let committed = if events.is_empty() {
        Ok(None)
    } else {
        disk.commit(&events).map(Some)
    };
    match committed {
        Ok(None) => {}
        Ok(Some(compacted)) => publish(&mut shared.write(), events, compacted),
        Err(error) => {
            let why: Arc<str> = error.to_string().into();
            tracing::error!(error = &*why, "The store cannot write any more");
            shared.write().failed = Some(Arc::clone(&why));
            for (_, result) in &mut answers {
                if result.is_ok() {
                    *result = Err(WriteError::Failed(Arc::clone(&why)));
                }
            }
        }
    }
    for (answer, result) in answers {
        // Who asked may have gone.
        drop(answer.send(result));
    }
}

/// What a write comes to.
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
        labels: labels(&value),
        fields: fields(storage, &value),
        owners: owners(&value),
        finalizers: finalizers(&value),
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
        if event.removed {
            state.objects.remove(&key);
        } else {
            state.objects.insert(key, Arc::clone(&event.object));
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

/// What a [`Watcher`] is told through.
type News = watch::Receiver<u64>;

#[cfg(test)]
mod tests;
