//! The store's file: objects, and for each recent change the state before it.
//!
//! In:    changes in order
//! Out:   at open, the state of the last commit with its logs; after a failure, what the file then holds
//! Calls: `keeper`
//! Holds: one transaction per batch, synced before it returns; the history is an undo log, so each change is on the disk once
//!        as the new object and once as the old one; rows beyond the limits are deleted in the same transaction, oldest first;
//!        an unreadable row is moved to a table of its own and never deleted
//! Upstream: none (in place of etcd); the library's checksums detect a torn commit

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError};
use serde_json::Value;

use super::medium::Medium;
use super::{
    Event, Fields, Known, Log, Object, OpenError, State, Ties, finalizers, labels, owners, render,
};
use crate::base::object::text;
use crate::store::references;

const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const HISTORY: TableDefinition<'_, u64, (&str, &[u8])> = TableDefinition::new("history");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Unreadable rows, by table, key and the version at which they were moved here: the reason, and their content.
const ASIDE: TableDefinition<'_, &str, (&str, &[u8])> = TableDefinition::new("aside");
/// Written and deleted to test whether the disk has room.
const PROBE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("probe");
const VERSION: &str = "version";
const COMPACTED: &str = "compacted";
const SCHEMA: &str = "schema";

/// The schema that this version writes, and the newest that it reads.
const OWN_SCHEMA: u64 = 1;
/// The page cache; objects are read from the file only at open.
const CACHE_BYTES: usize = 2 << 20;
/// The most changes kept on the disk.
const HISTORY_ROWS: usize = 8192;
/// The most bytes of them.
const HISTORY_BYTES: usize = 8 << 20;
/// The free space that is required before writes are accepted again.
const PROBE_BYTES: usize = 256 << 10;

/// The open file.
pub(super) struct Disk {
    medium: Medium,
    /// `None` after a failure, until the file is open again.
    database: Option<Database>,
    /// Version and bytes of each history row.
    history: VecDeque<(u64, usize)>,
    history_bytes: usize,
    compacted: u64,
}

/// The contents of a file.
pub(super) struct Contents {
    pub(super) version: u64,
    pub(super) compacted: u64,
    objects: BTreeMap<Arc<str>, Arc<Object>>,
    /// The recent changes, in order.
    pub(super) events: Vec<Event>,
    history: VecDeque<(u64, usize)>,
    schema: Option<u64>,
    unreadable: Vec<Row>,
}

/// An unreadable row.
struct Row {
    /// `objects` or `history`.
    table: &'static str,
    key: String,
    /// The version of a history row.
    version: u64,
    why: String,
    bytes: Vec<u8>,
}

/// Why the file is not used again.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReopenError {
    #[error(transparent)]
    Library(#[from] redb::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the file does not contain what this process wrote: another process changed it")]
    Other,
}

impl Disk {
    pub(super) fn file(path: &Path, fields: Fields) -> Result<(Self, State), OpenError> {
        let failed = |error: std::io::Error| OpenError::Open {
            path: path.to_owned(),
            source: redb::Error::Io(error),
        };
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        match Medium::lock(file).map_err(failed)? {
            Some(medium) => Self::load(medium, path, fields),
            None => Err(OpenError::InUse(path.to_owned())),
        }
    }

    pub(super) fn backend(
        backend: impl redb::StorageBackend,
        fields: Fields,
    ) -> Result<(Self, State), OpenError> {
        Self::load(Medium::of(backend), &PathBuf::from("(memory)"), fields)
    }

    fn load(medium: Medium, path: &Path, fields: Fields) -> Result<(Self, State), OpenError> {
        let path = path.to_owned();
        let mut disk = Self {
            medium,
            database: None,
            history: VecDeque::new(),
            history_bytes: 0,
            compacted: 0,
        };
        let read = disk
            .open()
            .and_then(|database| read(&database, fields).map(|c| (database, c)));
        let (database, mut contents) = match read {
            Ok(read) => read,
            Err(redb::Error::DatabaseAlreadyOpen) => return Err(OpenError::InUse(path)),
            Err(source) => return Err(OpenError::Open { path, source }),
        };
        if let Some(found) = contents.schema.filter(|schema| *schema > OWN_SCHEMA) {
            return Err(OpenError::Newer {
                path,
                found,
                known: OWN_SCHEMA,
            });
        }
        let settled = settle(&database, &mut contents);
        if let Err(source) = settled {
            return Err(OpenError::Open { path, source });
        }
        disk.database = Some(database);
        disk.take_up(&mut contents);
        Ok((disk, contents.into_state()))
    }

    fn open(&self) -> Result<Database, redb::Error> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        // A file that was modified from outside gives an error at open, not a panic later.
        builder.set_check_integrity_on_open(true);
        Ok(builder.create_with_backend(self.medium.clone())?)
    }

    fn take_up(&mut self, contents: &mut Contents) {
        self.history = std::mem::take(&mut contents.history);
        self.history_bytes = self.history.iter().map(|(_, bytes)| bytes).sum();
        self.compacted = contents.compacted;
    }

    /// The first error of the medium since the last call.
    pub(super) fn take_fault(&self) -> Option<(std::io::ErrorKind, String)> {
        self.medium.take_fault()
    }

    pub(super) fn is_open(&self) -> bool {
        self.database.is_some()
    }

    /// Drops the library's handle, which is unusable after a failure.
    pub(super) fn close(&mut self) {
        self.database = None;
    }

    /// Opens the file again after a failure. It must hold the published state, possibly followed by changes that were never
    /// reported as done.
    pub(super) fn reopen(
        &mut self,
        fields: Fields,
        known: &Known,
    ) -> Result<Contents, ReopenError> {
        self.close();
        drop(self.medium.take_fault());
        self.medium.make_certain()?;
        if redb::StorageBackend::len(&self.medium)? == 0 {
            return Err(ReopenError::Other);
        }
        let database = self.open()?;
        let mut contents = read(&database, fields)?;
        if !contents.unreadable.is_empty() || !contents.follows(known) {
            return Err(ReopenError::Other);
        }
        self.take_up(&mut contents);
        self.database = Some(database);
        contents
            .events
            .retain(|event| event.version > known.version);
        Ok(contents)
    }

    /// Tests whether there is room again: writes a probe and deletes it.
    pub(super) fn probe(&self) -> Result<(), redb::Error> {
        let bytes = vec![0xa5; PROBE_BYTES];
        let transaction = self.database()?.begin_write()?;
        transaction.open_table(PROBE)?.insert(0, &*bytes)?;
        transaction.commit()?;
        let transaction = self.database()?.begin_write()?;
        transaction.open_table(PROBE)?.remove(0)?;
        transaction.commit()?;
        Ok(())
    }

    fn database(&self) -> Result<&Database, redb::Error> {
        self.database.as_ref().ok_or(redb::Error::PreviousIo)
    }

    /// Writes and syncs. Returns the version up to which changes are no longer kept.
    pub(super) fn commit(&mut self, events: &[Event]) -> Result<u64, redb::Error> {
        let transaction = self.database()?.begin_write()?;
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
                let bytes = key.len() + before.len();
                self.history.push_back((event.version, bytes));
                self.history_bytes += bytes;
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

impl Contents {
    /// Whether this is the published state, possibly with changes after it.
    fn follows(&self, known: &Known) -> bool {
        if self.version < known.version {
            return false;
        }
        if self.compacted > known.version {
            // One batch was so large that its own beginning is no longer in the history: there is nothing to compare with.
            return true;
        }
        let mut then: BTreeMap<&str, u64> = self
            .objects
            .values()
            .map(|object| (&*object.key, object.version))
            .collect();
        for event in self.events.iter().rev() {
            if event.version <= known.version {
                break;
            }
            let key = &*event.object.key;
            match &event.before {
                Some(before) => then.insert(key, before.version),
                None => then.remove(key),
            };
        }
        let published = known.objects.iter();
        then.into_iter()
            .eq(published.map(|(key, version)| (&**key, *version)))
    }

    pub(super) fn into_state(self) -> State {
        let mut logs: BTreeMap<String, Log> = BTreeMap::new();
        for event in self.events {
            let log = logs
                .entry(event.object.storage().to_owned())
                .or_insert_with(|| Log::new(self.compacted));
            log.push(event);
        }
        State {
            version: self.version,
            ties: Ties::of(self.objects.values()),
            objects: self.objects,
            compacted: self.compacted,
            logs,
            failed: None,
        }
    }
}

/// A table that may not exist yet.
fn there<T>(opened: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads everything and writes nothing.
fn read(database: &Database, fields: Fields) -> Result<Contents, redb::Error> {
    let transaction = database.begin_read()?;
    let meta = there(transaction.open_table(META))?;
    let number = |name| match &meta {
        Some(meta) => Ok::<_, redb::Error>(meta.get(name)?.map(|row| row.value())),
        None => Ok(None),
    };
    let mut contents = Contents {
        version: number(VERSION)?.unwrap_or(1),
        compacted: number(COMPACTED)?.unwrap_or(1),
        schema: number(SCHEMA)?,
        objects: BTreeMap::new(),
        events: Vec::new(),
        history: VecDeque::new(),
        unreadable: Vec::new(),
    };
    if contents.schema.is_some_and(|schema| schema > OWN_SCHEMA) {
        return Ok(contents);
    }
    if let Some(objects) = there(transaction.open_table(OBJECTS))? {
        for row in objects.iter()? {
            let (key, bytes) = row?;
            match parse(fields, key.value(), bytes.value()) {
                Ok(object) => drop(contents.objects.insert(Arc::clone(&object.key), object)),
                Err(why) => contents.unreadable.push(Row {
                    table: "objects",
                    key: key.value().to_owned(),
                    version: 0,
                    why,
                    bytes: bytes.value().to_vec(),
                }),
            }
        }
    }
    // If an object cannot be read, its earlier states cannot be reconstructed, so the whole history is dropped.
    if let Some(history) = there(transaction.open_table(HISTORY))?
        && contents.unreadable.is_empty()
    {
        let mut back = Back::new(fields, &contents.objects);
        for row in history.iter()?.rev() {
            let (at, row) = row?;
            let (key, bytes) = row.value();
            match back.one(at.value(), key, bytes) {
                Ok(event) => {
                    contents
                        .history
                        .push_front((at.value(), key.len() + bytes.len()));
                    contents.events.push(event);
                }
                Err(why) => {
                    // Older changes cannot be reconstructed.
                    contents.unreadable.push(Row {
                        table: "history",
                        key: key.to_owned(),
                        version: at.value(),
                        why,
                        bytes: bytes.to_vec(),
                    });
                    break;
                }
            }
        }
        contents.events.reverse();
    }
    Ok(contents)
}

/// Prepares a file for use: creates its tables, and moves unreadable rows aside.
fn settle(database: &Database, contents: &mut Contents) -> Result<(), redb::Error> {
    let unreadable = std::mem::take(&mut contents.unreadable);
    if contents.schema.is_some() && unreadable.is_empty() {
        return Ok(());
    }
    let has_lost_objects = unreadable.iter().any(|row| row.table == "objects");
    if has_lost_objects {
        // Unreadable objects count as deleted; watchers have to list again.
        contents.version += 1;
        contents.compacted = contents.version;
    }
    let broken_at = unreadable.iter().map(|row| row.version).max();
    contents.compacted = contents.compacted.max(broken_at.unwrap_or(0));
    let compacted = contents.compacted;
    contents.events.retain(|event| event.version > compacted);
    contents.history.retain(|(version, _)| *version > compacted);
    let transaction = database.begin_write()?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        let mut history = transaction.open_table(HISTORY)?;
        let mut aside = transaction.open_table(ASIDE)?;
        for row in unreadable {
            let Row { table, key, .. } = &row;
            let name = format!("{table}/{key}@{}", contents.version.max(row.version));
            tracing::error!(
                table,
                key,
                why = row.why,
                kept_as = name,
                "A row of the store cannot be read; it is moved aside, everything else is served"
            );
            aside.insert(&*name, (&*row.why, &*row.bytes))?;
            if row.table == "objects" {
                objects.remove(&**key)?;
            }
        }
        history.retain(|version, _| version > compacted)?;
        let mut meta = transaction.open_table(META)?;
        meta.insert(SCHEMA, OWN_SCHEMA)?;
        meta.insert(VERSION, contents.version)?;
        meta.insert(COMPACTED, compacted)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Walks from the newest change back: the state after each change, and the one before it.
struct Back {
    fields: Fields,
    now: BTreeMap<Arc<str>, Arc<Object>>,
}

impl Back {
    fn new(fields: Fields, objects: &BTreeMap<Arc<str>, Arc<Object>>) -> Self {
        Self {
            fields,
            now: objects.clone(),
        }
    }

    /// The event of the change between the earlier and the current state; moves back to the earlier one.
    fn one(&mut self, version: u64, key: &str, before: &[u8]) -> Result<Event, String> {
        let before = match before {
            [] => None,
            bytes => Some(parse(self.fields, key, bytes)?),
        };
        let after = self.now.remove(key);
        let removed = after.is_none();
        let object = match (after, &before) {
            (Some(after), _) => after,
            (None, Some(before)) => {
                let (key, value) = (Arc::clone(&before.key), before.value());
                Arc::new(render(self.fields, key, value, version))
            }
            (None, None) => return Err(format!("change {version} has no content")),
        };
        if let Some(before) = &before {
            self.now.insert(Arc::clone(&before.key), Arc::clone(before));
        }
        Ok(Event {
            version,
            object,
            before,
            removed,
        })
    }
}

fn parse(fields: Fields, key: &str, bytes: &[u8]) -> Result<Arc<Object>, String> {
    let value: Value = crate::base::bounds::read_kept(bytes).map_err(|e| format!("{key}: {e}"))?;
    let version = value
        .pointer("/metadata/resourceVersion")
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("{key}: it has no resourceVersion"))?;
    let storage = key.split('/').next().unwrap_or_default();
    Ok(Arc::new(Object {
        key: key.into(),
        version,
        uid: text(&value, "/metadata/uid").to_owned(),
        deletion: text(&value, "/metadata/deletionTimestamp").to_owned(),
        labels: labels(&value),
        fields: fields(storage, &value),
        owners: owners(&value),
        finalizers: finalizers(&value),
        ties: references::ties(storage, &value),
        bytes: bytes.to_vec().into(),
    }))
}
