//! The file under the store: held and locked for the store's whole life, however often the library reopens it.
//!
//! In:    an open file, or a stand-in
//! Out:   the library's backend; its first error
//! Calls: `disk`
//! Holds: the lock outlives each handle of the library, so that no other process can take the file in between; after a failed
//!        sync it is unknown which cached pages are on the disk, so everything is written again before the file is used
//! Upstream: none

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use redb::StorageBackend;

/// The block size for writing everything again.
const BLOCK: usize = 64 << 10;

/// The medium; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Medium {
    backend: Arc<dyn StorageBackend>,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Debug, Default)]
struct Faults {
    /// The first error since the last question; later ones follow from it.
    first: Option<(io::ErrorKind, String)>,
    /// A sync failed, and not everything has been written again yet.
    is_doubtful: bool,
}

/// A file that no other process has open as a store.
#[derive(Debug)]
struct LockedFile(File);

impl Medium {
    /// Locks the file; `None` if another process holds the lock.
    pub(super) fn lock(file: File) -> io::Result<Option<Self>> {
        match file.try_lock() {
            Ok(()) => Ok(Some(Self::of(LockedFile(file)))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub(super) fn of(backend: impl StorageBackend) -> Self {
        Self {
            backend: Arc::new(backend),
            faults: Arc::default(),
        }
    }

    /// The first error since the last call.
    pub(super) fn take_fault(&self) -> Option<(io::ErrorKind, String)> {
        self.faults().first.take()
    }

    /// After a failed sync: writes everything again and syncs, so that reads return what is on the disk.
    pub(super) fn make_certain(&self) -> io::Result<()> {
        if !self.faults().is_doubtful {
            return Ok(());
        }
        let length = self.len()?;
        let mut block = vec![0; BLOCK];
        let mut at = 0;
        while at < length {
            let size = usize::try_from(length - at).unwrap_or(BLOCK).min(BLOCK);
            let Some(part) = block.get_mut(..size) else {
                break;
            };
            self.read(at, part)?;
            // A block that was never written is a hole, and needs no write.
            if part.iter().any(|byte| *byte != 0) {
                self.write(at, part)?;
            }
            at += u64::try_from(size).unwrap_or(length);
        }
        self.sync_data()?;
        self.faults().is_doubtful = false;
        Ok(())
    }

    fn faults(&self) -> std::sync::MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            let first = &mut self.faults().first;
            first.get_or_insert_with(|| (error.kind(), error.to_string()));
        }
        result
    }
}

/// The library closes its handle, but never the medium.
impl StorageBackend for Medium {
    fn len(&self) -> io::Result<u64> {
        self.note(self.backend.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.note(self.backend.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.note(self.backend.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.note(self.backend.sync_data());
        if synced.is_err() {
            self.faults().is_doubtful = true;
        }
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.note(self.backend.write(offset, data))
    }
}

impl StorageBackend for LockedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}
