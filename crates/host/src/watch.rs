//! Changes in a directory as events (inotify).
//!
//! In:    a directory
//! Out:   names that changed, "list everything again", or "the directory is gone"
//! Calls: act/sources.rs (manifest directory)
//! Holds: events are hints: they may be repeated, merged or (overflow) lost, and the caller lists again anyway; an idle watch
//!        causes no wake-ups; a directory that vanishes ends the watch with an event, not with an error
//! Upstream: pkg/kubelet/config/file_linux.go

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use crate::readable::readable;

/// An event of a watched directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum WatchEvent {
    /// An entry with this name was created, written and closed, or renamed to it.
    Changed(OsString),
    /// An entry with this name was removed or renamed away; another one may exist by now.
    Removed(OsString),
    /// The kernel dropped events: list everything again.
    Overflow,
    /// The directory was removed, renamed or unmounted. No further events come; watch it again when it is back.
    Vanished,
}

/// A watch of one directory, not recursive.
#[derive(Debug)]
pub struct DirectoryWatch {
    fd: AsyncFd<OwnedFd>,
    has_vanished: bool,
}

impl DirectoryWatch {
    /// Starts the watch; later events are seen. Needs the tokio runtime.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR; ENOSPC and EMFILE are limits on watches (`fs.inotify`), not a full disk.
    pub fn new(path: &Path) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        // Not MODIFY: a file that is being written is read once, after its writer closed it.
        let entries = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::ATTRIB;
        let own = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR;
        inotify::add_watch(&fd, path, entries | own)?;
        Ok(Self {
            fd: readable(fd)?,
            has_vanished: false,
        })
    }

    /// Waits for the next events; each distinct one once, sorted by name. After [`WatchEvent::Vanished`] it returns that again
    /// at once.
    ///
    /// Cancel: nothing is lost if this future is dropped before it is ready.
    ///
    /// # Errors
    /// The system call failed, or the runtime ended.
    pub async fn changed(&mut self) -> io::Result<Vec<WatchEvent>> {
        if self.has_vanished {
            return Ok(vec![WatchEvent::Vanished]);
        }
        loop {
            let mut ready = self.fd.readable().await?;
            let events = read_events(self.fd.get_ref())?;
            ready.clear_ready();
            if events.is_empty() {
                continue;
            }
            self.has_vanished = events.contains(&WatchEvent::Vanished);
            return Ok(events.into_iter().collect());
        }
    }
}

/// All queued events.
fn read_events(fd: &OwnedFd) -> io::Result<BTreeSet<WatchEvent>> {
    let mut events = BTreeSet::new();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(fd, &mut buffer);
    loop {
        let event = match reader.next() {
            Ok(event) => event,
            Err(Errno::AGAIN) => return Ok(events),
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let kinds = event.events();
        let gone =
            ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED;
        if kinds.intersects(gone) {
            events.insert(WatchEvent::Vanished);
        } else if kinds.contains(ReadFlags::QUEUE_OVERFLOW) {
            events.insert(WatchEvent::Overflow);
        } else if let Some(name) = event.file_name() {
            let name = std::ffi::OsStr::from_bytes(name.to_bytes());
            let is_removal = kinds.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM);
            let event = if is_removal {
                WatchEvent::Removed
            } else {
                WatchEvent::Changed
            };
            events.insert(event(name.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestDir, block_on};

    fn changed(name: &str) -> WatchEvent {
        WatchEvent::Changed(name.into())
    }

    fn removed(name: &str) -> WatchEvent {
        WatchEvent::Removed(name.into())
    }

    #[test]
    fn writes_renames_links_and_removals_are_seen_and_reads_are_not() {
        let dir = TestDir::new();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("old"), "x").unwrap();
        block_on(async {
            let mut watch = DirectoryWatch::new(dir.path()).unwrap();
            std::fs::read(at("old")).unwrap();
            std::fs::write(at("a.yaml"), "x").unwrap();
            assert_eq!(watch.changed().await.unwrap(), [changed("a.yaml")]);
            std::fs::rename(at("a.yaml"), at("b.yaml")).unwrap();
            assert_eq!(
                watch.changed().await.unwrap(),
                [changed("b.yaml"), removed("a.yaml")]
            );
            std::os::unix::fs::symlink("b.yaml", at("c.yaml")).unwrap();
            std::fs::remove_file(at("b.yaml")).unwrap();
            assert_eq!(
                watch.changed().await.unwrap(),
                [changed("c.yaml"), removed("b.yaml")]
            );
            let quiet =
                tokio::time::timeout(std::time::Duration::from_millis(20), watch.changed()).await;
            assert!(quiet.is_err());
        });
    }

    #[test]
    fn a_directory_that_vanishes_is_an_event_and_can_be_watched_again() {
        let dir = TestDir::new();
        let path = dir.path().join("manifests");
        block_on(async {
            assert_eq!(
                DirectoryWatch::new(&path).unwrap_err().kind(),
                io::ErrorKind::NotFound
            );
            std::fs::create_dir(&path).unwrap();
            let mut watch = DirectoryWatch::new(&path).unwrap();
            std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
            assert_eq!(watch.changed().await.unwrap(), [WatchEvent::Vanished]);
            assert_eq!(watch.changed().await.unwrap(), [WatchEvent::Vanished]);
            std::fs::create_dir(&path).unwrap();
            let mut watch = DirectoryWatch::new(&path).unwrap();
            std::fs::remove_dir(&path).unwrap();
            assert_eq!(watch.changed().await.unwrap(), [WatchEvent::Vanished]);
        });
    }

    #[test]
    fn many_events_come_in_few_answers() {
        let dir = TestDir::new();
        block_on(async {
            let mut watch = DirectoryWatch::new(dir.path()).unwrap();
            for n in 0..500 {
                std::fs::write(dir.path().join(format!("{n:03}.yaml")), "x").unwrap();
            }
            assert_eq!(watch.changed().await.unwrap().len(), 500);
        });
    }
}
