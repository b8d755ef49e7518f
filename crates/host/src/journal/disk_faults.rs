//! Disk faults for the journal, for the self-test of the simulation; in the product there are none.
//!
//! In:    a function of the test, called at every write
//! Out:   the error of the disk, and how much of the write was done before it
//! Calls: journal.rs
//! Holds: nothing fails here unless a test asks for it
//! Upstream: none

use std::fmt;
use std::io;
use std::sync::Arc;

/// A call that the disk may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskCall {
    /// A record of this size is appended.
    Append(usize),
    /// The remains of a failed write are truncated.
    Truncate,
    /// The journal is compacted.
    Compact,
}

/// How the call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskFault {
    /// ENOSPC, EIO, …
    pub errno: i32,
    /// The number of bytes that are written nevertheless.
    pub written: usize,
}

impl DiskFault {
    pub(super) fn error(self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }
}

type At = Arc<dyn Fn(DiskCall) -> Option<DiskFault> + Send + Sync>;

/// Called at every disk operation. Clones share the function.
#[derive(Clone, Default)]
pub struct DiskFaults(Option<At>);

impl fmt::Debug for DiskFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiskFaults")
    }
}

impl DiskFaults {
    /// Fails as the function says.
    pub fn new(at: impl Fn(DiskCall) -> Option<DiskFault> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(at)))
    }

    pub(super) fn at(&self, call: DiskCall) -> Option<DiskFault> {
        self.0.as_ref().and_then(|at| at(call))
    }
}
