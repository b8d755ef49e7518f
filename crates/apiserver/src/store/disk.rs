//! The store's file: objects, and for each recent change what was there before it.
//!
//! In:    changes in order
//! Out:   at open the state that the last commit left, with its logs
//! Calls: `store`
//! Holds: one transaction a batch, synced before it returns; the history is an undo log, so each change is on the disk once as
//!        the new object and once as the old one; rows beyond the bounds go in the same transaction, oldest first
//! Upstream: none (etcd's place); the library's checksums tell a torn commit from a whole one

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde_json::Value;

use super::{Event, Fields, Log, Object, OpenError, State, finalizers, labels, owners, render};

const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const HISTORY: TableDefinition<'_, u64, (&str, &[u8])> = TableDefinition::new("history");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const VERSION: &str = "version";
const COMPACTED: &str = "compacted";

/// The page cache; objects are read from it at open only.
const CACHE_BYTES: usize = 2 << 20;
/// Changes kept on the disk.
const HISTORY_ROWS: usize = 8192;
/// And their bytes.
const HISTORY_BYTES: usize = 8 << 20;

/// The open file.
pub(super) struct Disk {
    database: Database,
    /// Version and bytes of each row of the history.
    history: VecDeque<(u64, usize)>,
    history_bytes: usize,
    compacted: u64,
}

impl Disk {
    pub(super) fn file(path: &Path, fields: Fields) -> Result<(Self, State), OpenError> {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|error| OpenError::Open {
                path: path.to_owned(),
                source: redb::Error::Io(error),
            })?;
        let opened = redb::backends::FileBackend::new(file)
            .and_then(|file| builder().create_with_backend(file));
        Self::load(opened, path.to_owned(), fields)
    }

    pub(super) fn backend(
        backend: impl redb::StorageBackend,
        fields: Fields,
    ) -> Result<(Self, State), OpenError> {
        let opened = builder().create_with_backend(backend);
        Self::load(opened, PathBuf::from("(memory)"), fields)
    }

    fn load(
        opened: Result<Database, redb::DatabaseError>,
        path: PathBuf,
        fields: Fields,
    ) -> Result<(Self, State), OpenError> {
        let database = match opened {
            Ok(database) => database,
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => return Err(OpenError::InUse(path)),
            Err(error) => {
                let source = error.into();
                return Err(OpenError::Open { path, source });
            }
        };
        let mut disk = Self {
            database,
            history: VecDeque::new(),
            history_bytes: 0,
            compacted: 0,
        };
        match disk.read(fields) {
            Ok(Ok(state)) => Ok((disk, state)),
            Ok(Err(what)) => Err(OpenError::Damaged { path, what }),
            Err(source) => Err(OpenError::Open { path, source }),
        }
    }

    /// Outer error: the library's. Inner one: a row that makes no sense.
    fn read(&mut self, fields: Fields) -> Result<Result<State, String>, redb::Error> {
        let transaction = self.database.begin_write()?;
        transaction.open_table(OBJECTS)?;
        transaction.open_table(HISTORY)?;
        transaction.open_table(META)?;
        transaction.commit()?;
        let transaction = self.database.begin_read()?;
        let meta = transaction.open_table(META)?;
        let number = |name| Ok::<_, redb::Error>(meta.get(name)?.map_or(1, |row| row.value()));
        let version = number(VERSION)?;
        self.compacted = number(COMPACTED)?;
        let mut objects = BTreeMap::new();
        for row in transaction.open_table(OBJECTS)?.iter()? {
            let (key, bytes) = row?;
            match parse(fields, key.value(), bytes.value()) {
                Ok(object) => objects.insert(Arc::clone(&object.key), object),
                Err(what) => return Ok(Err(what)),
            };
        }
        // From the newest back, `now` is what each change left.
        let mut now = objects.clone();
        let mut events = Vec::new();
        for row in transaction.open_table(HISTORY)?.iter()?.rev() {
            let (at, row) = row?;
            let (key, bytes) = row.value();
            self.note(at.value(), key.len() + bytes.len());
            let before = match bytes {
                [] => None,
                bytes => match parse(fields, key, bytes) {
                    Ok(object) => Some(object),
                    Err(what) => return Ok(Err(what)),
                },
            };
            let after = now.remove(key);
            match undo(fields, at.value(), after, before, &mut now) {
                Some(event) => events.push(event),
                None => return Ok(Err(format!("change {} tells of nothing", at.value()))),
            }
        }
        self.history = std::mem::take(&mut self.history)
            .into_iter()
            .rev()
            .collect();
        let mut logs: BTreeMap<String, Log> = BTreeMap::new();
        for event in events.into_iter().rev() {
            let storage = event.object.storage().to_owned();
            let log = logs
                .entry(storage)
                .or_insert_with(|| Log::new(self.compacted));
            log.push(event);
        }
        Ok(Ok(State {
            version,
            objects,
            compacted: self.compacted,
            logs,
            failed: None,
        }))
    }

    fn note(&mut self, version: u64, bytes: usize) {
        self.history.push_back((version, bytes));
        self.history_bytes += bytes;
    }

    /// Writes and syncs; what comes back is the version up to which changes are no longer kept.
    pub(super) fn commit(&mut self, events: &[Event]) -> Result<u64, redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut objects = transaction.open_table(OBJECTS)?;
            let mut history = transaction.open_table(HISTORY)?;
            let mut meta = transaction.open_table(META)?;
            for event in events {
                let key = &*event.object.key;
                if event.removed {
                    objects.remove(key)?;
                } else {
                    objects.insert(key, &*event.object.bytes)?;
                }
                let before = event.before.as_ref().map_or(&[][..], |o| &o.bytes);
                history.insert(event.version, (key, before))?;
                self.note(event.version, key.len() + before.len());
            }
            while self.history.len() > HISTORY_ROWS || self.history_bytes > HISTORY_BYTES {
                let Some((version, bytes)) = self.history.pop_front() else {
                    break;
                };
                history.remove(version)?;
                self.history_bytes -= bytes;
                self.compacted = version;
            }
            if let Some(last) = events.last() {
                meta.insert(VERSION, last.version)?;
            }
            meta.insert(COMPACTED, self.compacted)?;
        }
        transaction.commit()?;
        Ok(self.compacted)
    }
}

/// The change that took `before` to `after`; `now` goes back to before it.
fn undo(
    fields: Fields,
    version: u64,
    after: Option<Arc<Object>>,
    before: Option<Arc<Object>>,
    now: &mut BTreeMap<Arc<str>, Arc<Object>>,
) -> Option<Event> {
    let removed = after.is_none();
    let object = match (after, &before) {
        (Some(after), _) => after,
        (None, Some(before)) => Arc::new(render(
            fields,
            Arc::clone(&before.key),
            before.value(),
            version,
        )),
        (None, None) => return None,
    };
    if let Some(before) = &before {
        now.insert(Arc::clone(&before.key), Arc::clone(before));
    }
    Some(Event {
        version,
        object,
        before,
        removed,
    })
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    // A file that was changed behind our back is an error at open, not a panic later.
    builder.set_check_integrity_on_open(true);
    builder
}

fn parse(fields: Fields, key: &str, bytes: &[u8]) -> Result<Arc<Object>, String> {
    let value: Value = crate::bounds::read_kept(bytes).map_err(|e| format!("{key}: {e}"))?;
    let version = value
        .pointer("/metadata/resourceVersion")
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("{key}: it has no resourceVersion"))?;
    let storage = key.split('/').next().unwrap_or_default();
    Ok(Arc::new(Object {
        key: key.into(),
        version,
        labels: labels(&value),
        fields: fields(storage, &value),
        owners: owners(&value),
        finalizers: finalizers(&value),
        bytes: bytes.to_vec().into(),
    }))
}
