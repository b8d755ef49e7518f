//! Durable records: a map from keys to bytes (JSON) that survives `kill -9`, torn writes and damage.
//!
//! In:    `put` and `remove` by the only owner; the file of an earlier process
//! Out:   the map; one [`JournalProblem`] per part that could not be read
//! Calls: the journal's task (through [`crate::Blocking`] for `sync` and `compact`, which wait for the disk)
//! Holds: after a call returned `Ok` its record is in the page cache and survives the end of the process (`sync` makes it
//!        survive a crash of the machine); memory equals what a reader of the file would load, also after ENOSPC or EIO; an
//!        intact record is never truncated; damage costs only the records that it hits; one owner, by flock
//! Upstream: none (the Go kubelet has one checkpoint file per subject, pkg/kubelet/checkpointmanager)
//!
//! Record: magic (4) · length of the body (4) · CRC-32 of length and body (4) · body, all little-endian. Body: version (1) ·
//! kind (1: put, 2: tombstone) · sequence number (8) · length of the key (4) · key · value. The magic is not valid UTF-8, so
//! text never contains it, and a reader finds the next record after a damaged one by searching for it.

pub mod disk_faults;
pub mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use disk_faults::{DiskCall, DiskFaults};
use record::{Body, Operation};
use rustix::fs::{FlockOperation, flock};

/// Why a journal could not be opened or written. Memory and file agree after each of these errors.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process owns the journal.
    #[error("journal {} is owned by another process", .0.display())]
    Owned(PathBuf),
    /// The disk is full (or a quota is reached).
    #[error("no space to write journal {}", path.display())]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// ENOSPC or EDQUOT.
        #[source]
        source: io::Error,
    },
    /// The record, or the map with it, exceeds a limit.
    #[error("journal {}: {what} of {size} bytes is over the limit of {limit}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What exceeds it: the record, the map, the file.
        what: &'static str,
        /// The size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// Any other failure of a system call.
    #[error("cannot {operation} journal {}", path.display())]
    Io {
        /// The operation.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// A part of the file that could not be used when it was loaded. Nothing else was lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalProblem {
    /// The file does not exist: the first start, or it was deleted.
    #[error("journal {} was missing, starting empty", .0.display())]
    Missing(PathBuf),
    /// Bytes that are not a record, between intact ones or instead of them.
    #[error("journal: {length} damaged bytes at offset {offset} skipped, records lost: {}", lost_text(*.records_lost))]
    Damaged {
        /// The offset.
        offset: u64,
        /// The number of bytes.
        length: u64,
        /// The number of lost records, if the sequence numbers on both sides show it.
        records_lost: Option<u64>,
    },
    /// The last record is incomplete: a write was interrupted.
    #[error("journal: torn record of {length} bytes at the end, at offset {offset}, dropped")]
    TornTail {
        /// The offset.
        offset: u64,
        /// The number of its bytes.
        length: u64,
    },
    /// A complete record of another version; kept in the file, not in the map.
    #[error("journal: record of unknown version {version} at offset {offset} kept but not read")]
    UnknownVersion {
        /// The offset.
        offset: u64,
        /// The version.
        version: u8,
    },
}

/// The size limits of a journal.
#[derive(Debug, Clone, Copy)]
pub struct JournalLimits {
    /// Key and value of one record, in bytes.
    pub record_bytes: u64,
    /// All live records, in bytes. The file may be three times as large before it is compacted.
    pub live_bytes: u64,
}

impl Default for JournalLimits {
    fn default() -> Self {
        Self {
            record_bytes: 1 << 20,
            live_bytes: 32 << 20,
        }
    }
}

/// The map and its file.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    limits: JournalLimits,
    file: File,
    /// Holds the flock, on a separate file, because compaction replaces the journal's file.
    _lock: File,
    map: BTreeMap<String, Vec<u8>>,
    /// Complete records of other versions; compaction keeps them.
    foreign: Vec<Vec<u8>>,
    next_sequence: u64,
    /// The end of the last intact record. After a failed write the file may be longer; those bytes are removed first.
    end: u64,
    /// The size of the map's records in a compacted file.
    live: u64,
    tail_is_dirty: bool,
    faults: DiskFaults,
}

/// Less garbage than this does not justify a compaction.
const GARBAGE_ALLOWED: u64 = 256 << 10;

impl Journal {
    /// Opens `path`, or creates it (mode 0600; the directory must exist), and loads the readable records.
    ///
    /// # Errors
    /// [`JournalError::Owned`], or a failed system call. Damage is not an error; it is in the returned list.
    pub fn open(
        path: &Path,
        limits: JournalLimits,
    ) -> Result<(Self, Vec<JournalProblem>), JournalError> {
        let lock = Self::lock(path)?;
        let mut problems = Vec::new();
        let io = |operation| move |source| failure(operation, path, source);
        // The leftover of an interrupted compaction.
        match std::fs::remove_file(beside(path, ".new")) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(failure("remove the unfinished copy of", path, source));
            }
            _ => {}
        }
        if !path.exists() {
            problems.push(JournalProblem::Missing(path.to_owned()));
        }
        let mut file = open_file(path).map_err(io("open"))?;
        let length = file.metadata().map_err(io("stat"))?.len();
        let limit = limits
            .live_bytes
            .saturating_mul(4)
            .saturating_add(GARBAGE_ALLOWED);
        if length > limit {
            return Err(JournalError::TooLarge {
                path: path.to_owned(),
                what: "the file",
                size: length,
                limit,
            });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io("read"))?;
        let loaded = record::load(&bytes);
        problems.extend(loaded.problems);
        let mut journal = Self {
            path: path.to_owned(),
            limits,
            file,
            _lock: lock,
            live: loaded
                .map
                .iter()
                .map(|(key, value)| record::size(key, value))
                .sum(),
            map: loaded.map,
            foreign: loaded.foreign,
            next_sequence: loaded.next_sequence,
            end: loaded.end,
            tail_is_dirty: loaded.end < length,
            faults: DiskFaults::default(),
        };
        // Only bytes after the last intact record; if this fails, the next write tries again.
        drop(journal.drop_tail());
        Ok((journal, problems))
    }

    /// Disk faults for the self-test of the simulation.
    #[must_use]
    pub fn on_bad_disk(mut self, faults: DiskFaults) -> Self {
        self.faults = faults;
        self
    }

    fn lock(path: &Path) -> Result<File, JournalError> {
        let lock_path = beside(path, ".lock");
        let lock =
            open_file(&lock_path).map_err(|source| failure("open the lock of", path, source))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(lock),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(JournalError::Owned(path.to_owned())),
            Err(errno) => Err(failure("lock", path, errno.into())),
        }
    }

    /// Sets `key`. After `Ok` the record survives the end of the process.
    ///
    /// # Errors
    /// The map is unchanged; the call may be repeated at any time.
    pub fn put(&mut self, key: &str, value: &[u8]) -> Result<(), JournalError> {
        let size = record::size(key, value);
        if size > self.limits.record_bytes {
            return Err(self.too_large("a record", size, self.limits.record_bytes));
        }
        let replaced = self.map.get(key).map_or(0, |old| record::size(key, old));
        let live = self.live - replaced + size;
        if live > self.limits.live_bytes {
            return Err(self.too_large("the map", live, self.limits.live_bytes));
        }
        if self.map.get(key).is_some_and(|old| old == value) {
            return Ok(());
        }
        self.append(Operation::Put { key, value })?;
        self.map.insert(key.to_owned(), value.to_owned());
        self.live = live;
        Ok(())
    }

    /// Removes `key`; true if it existed. After `Ok` the removal survives the end of the process.
    ///
    /// # Errors
    /// The map is unchanged; the call may be repeated at any time.
    pub fn remove(&mut self, key: &str) -> Result<bool, JournalError> {
        let Some(old) = self.map.get(key) else {
            return Ok(false);
        };
        let size = record::size(key, old);
        self.append(Operation::Remove { key })?;
        self.map.remove(key);
        self.live -= size;
        Ok(true)
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.map.get(key).map(Vec::as_slice)
    }

    /// The keys that start with `prefix` and their values, sorted by key.
    pub fn iter<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.map
            .range::<str, _>((
                std::ops::Bound::Included(prefix),
                std::ops::Bound::Unbounded,
            ))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.as_str(), value.as_slice()))
    }

    /// Waits until all earlier changes are on the disk (fdatasync).
    ///
    /// # Errors
    /// The disk failed; its content is unknown until the next `compact` succeeds.
    pub fn sync(&self) -> Result<(), JournalError> {
        self.file
            .sync_data()
            .map_err(|source| failure("sync", &self.path, source))
    }

    /// Whether more than half of the file is garbage and worth a `compact`.
    pub fn wants_compaction(&self) -> bool {
        self.end > GARBAGE_ALLOWED && self.end > 2 * (self.live + self.foreign_bytes())
    }

    /// Writes the live records to a new file, syncs it, and replaces the old file with it.
    ///
    /// # Errors
    /// The old file is unchanged and stays in use (or the new one is in place and only the sync of its directory failed).
    pub fn compact(&mut self) -> Result<(), JournalError> {
        let new_path = beside(&self.path, ".new");
        let written = match self.faults.at(DiskCall::Compact) {
            Some(fault) => Err(fault.error()),
            None => self.write_compacted(&new_path),
        };
        let (file, end, next_sequence) = match written {
            Ok(written) => written,
            Err(source) => {
                // Frees the space at once; the next open would delete it, too.
                drop(std::fs::remove_file(&new_path));
                return Err(failure("compact", &self.path, source));
            }
        };
        self.file = file;
        self.end = end;
        self.next_sequence = next_sequence;
        self.tail_is_dirty = false;
        // The rename is done; only a crash of the machine could bring the old file back, which is as good.
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|source| failure("sync the directory of", &self.path, source))
    }

    fn write_compacted(&self, new_path: &Path) -> io::Result<(File, u64, u64)> {
        let mut sequence = self.next_sequence;
        let mut bytes = Vec::new();
        for (key, value) in &self.map {
            record::encode(
                &Body {
                    sequence,
                    operation: Operation::Put { key, value },
                },
                &mut bytes,
            );
            sequence += 1;
        }
        for foreign in &self.foreign {
            bytes.extend_from_slice(foreign);
        }
        let mut file = OpenOptions::new()
            .write(true)
            .read(true)
            .create_new(true)
            .mode(0o600)
            .open(new_path)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(new_path, &self.path)?;
        Ok((file, bytes.len() as u64, sequence))
    }

    fn append(&mut self, operation: Operation<'_>) -> Result<(), JournalError> {
        let size = match operation {
            Operation::Put { key, value } => record::size(key, value),
            Operation::Remove { key } => record::size(key, &[]),
        };
        // Live bytes are limited, so garbage is limited, too. The owner compacts long before this (`wants_compaction`).
        if self.end + size
            > self
                .limits
                .live_bytes
                .saturating_mul(3)
                .saturating_add(GARBAGE_ALLOWED)
        {
            self.compact()?;
        }
        self.drop_tail()
            .map_err(|source| failure("repair the end of", &self.path, source))?;
        let (mut bytes, sequence) = (Vec::new(), self.next_sequence);
        record::encode(
            &Body {
                sequence,
                operation,
            },
            &mut bytes,
        );
        let written = self.write_at_end(&bytes);
        if let Err(source) = written {
            // A part of it may have been written; it must not stay before the next record.
            self.tail_is_dirty = true;
            drop(self.drop_tail());
            return Err(failure("append to", &self.path, source));
        }
        self.end += size;
        self.next_sequence += 1;
        Ok(())
    }

    fn write_at_end(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        match self.faults.at(DiskCall::Append(bytes.len())) {
            Some(fault) => {
                let part = bytes.get(..fault.written).unwrap_or(bytes);
                self.file.write_all(part)?;
                Err(fault.error())
            }
            None => self.file.write_all(bytes),
        }
    }

    fn drop_tail(&mut self) -> io::Result<()> {
        if self.tail_is_dirty {
            if let Some(fault) = self.faults.at(DiskCall::Truncate) {
                return Err(fault.error());
            }
            self.file.set_len(self.end)?;
            self.tail_is_dirty = false;
        }
        Ok(())
    }

    fn foreign_bytes(&self) -> u64 {
        self.foreign.iter().map(|record| record.len() as u64).sum()
    }

    fn too_large(&self, what: &'static str, size: u64, limit: u64) -> JournalError {
        JournalError::TooLarge {
            path: self.path.clone(),
            what,
            size,
            limit,
        }
    }
}

fn lost_text(records: Option<u64>) -> String {
    records.map_or_else(|| "unknown".to_owned(), |records| records.to_string())
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn failure(operation: &'static str, path: &Path, source: io::Error) -> JournalError {
    let path = path.to_owned();
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => JournalError::NoSpace { path, source },
        _ => JournalError::Io {
            operation,
            path,
            source,
        },
    }
}
