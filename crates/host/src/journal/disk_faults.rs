//! What a bad disk does to the journal, for the self-test of the simulation; in the product it does nothing.
//!
//! In:    a function of the test, asked at every write
//! Out:   the error that the disk gives, and how much of the write arrived before it
//! Calls: journal.rs
//! Holds: without a test's wish nothing fails here
//! Upstream: none

use std::fmt;
use std::io;
use std::sync::Arc;

/// One call that the disk may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskCall {
    /// A record of so many bytes is appended.
    Append(usize),
    /// What a failed write left is cut off.
    Truncate,
    /// The journal is written anew.
    Compact,
}

/// How the call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskFault {
    /// ENOSPC, EIO, …
    pub errno: i32,
    /// Bytes that arrive all the same.
    pub written: usize,
}

impl DiskFault {
    pub(super) fn error(self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }
}

type At = Arc<dyn Fn(DiskCall) -> Option<DiskFault> + Send + Sync>;

/// Asked at every call. Clones share the function.
#[derive(Clone, Default)]
pub struct DiskFaults(Option<At>);

impl fmt::Debug for DiskFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiskFaults")
    }
}

impl DiskFaults {
    /// Fails where the function says so.
    pub fn new(at: impl Fn(DiskCall) -> Option<DiskFault> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(at)))
    }

    pub(super) fn at(&self, call: DiskCall) -> Option<DiskFault> {
        self.0.as_ref().and_then(|at| at(call))
    }
}
