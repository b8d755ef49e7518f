//! Waits for a descriptor to become readable: the only `unsafe` of the project.
//!
//! In:    an owned descriptor
//! Out:   its registration with tokio
//! Calls: pidfd.rs, watch.rs; kernel.rs for the kernel log
//! Holds: the descriptor lives exactly as long as its registration
//! Upstream: none

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `fd` with the current tokio runtime.
///
/// # Errors
/// The system call failed, for instance EPERM for a regular file; `Other` outside a runtime with I/O.
pub(crate) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(io::Error::other("no tokio runtime to wait in"));
    }
    #[expect(
        unsafe_code,
        reason = "tokio cannot express in types that the descriptor stays the same one"
    )]
    // SAFETY: `OwnedFd` is open for as long as it lives, always returns the same number, and the AsyncFd owns it.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    Ok(registered?)
}
