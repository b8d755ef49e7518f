//! Reports when another process opens or removes a file (inotify).
//!
//! In:    a file
//! Out:   one event
//! Calls: act/frame/data_dirs.rs, for the lock file
//! Holds: an idle watch causes no wake-ups
//! Upstream: cmd/kubelet/app/server_linux.go

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use crate::readable::readable;

/// A watch of one file.
#[derive(Debug)]
pub struct OpenedWatch {
    fd: AsyncFd<OwnedFd>,
}

impl OpenedWatch {
    /// Starts the watch; later events are seen. Needs the tokio runtime.
    ///
    /// # Errors
    /// ENOENT; ENOSPC and EMFILE are limits on watches.
    pub fn new(path: &Path) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&fd, path, WatchFlags::OPEN | WatchFlags::DELETE_SELF)?;
        Ok(Self { fd: readable(fd)? })
    }

    /// Resolves when the file was opened or removed. Cancel: safe.
    ///
    /// # Errors
    /// The system call failed, or the runtime ended.
    pub async fn next(&mut self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        loop {
            let mut ready = self.fd.readable().await?;
            match Reader::new(self.fd.get_ref(), &mut buffer).next() {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{TestDir, block_on};

    #[test]
    fn an_opened_file_is_noticed_and_one_that_is_left_alone_is_not() {
        let dir = TestDir::new();
        let path = dir.path().join("lock");
        std::fs::write(&path, "").unwrap();
        block_on(async {
            let mut watch = OpenedWatch::new(&path).unwrap();
            let quiet = tokio::time::timeout(Duration::from_millis(20), watch.next()).await;
            assert!(quiet.is_err());
            drop(std::fs::File::open(&path).unwrap());
            watch.next().await.unwrap();
            assert!(OpenedWatch::new(&dir.path().join("absent")).is_err());
        });
    }
}
