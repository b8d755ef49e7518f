//! A container's log file: found without following links, read at offsets, watched for growth and rotation.
//!
//! In:    the directory of pod logs, a path below it from the runtime
//! Out:   [`LogPlace`], [`LogFile`], [`LogWatch`]
//! Calls: server/log_stream.rs
//! Holds: everything starts at a descriptor: no link and no `..` leads out of the directory of pod logs, and a directory that
//!        is swapped meanwhile changes nothing; only regular files are read, so no FIFO can block the reader
//! Upstream: staging/src/k8s.io/cri-client/pkg/logs (which follows links)

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Component, Path};

use rustix::fs::OFlags;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use crate::beneath;
use crate::files::open_beneath;
use crate::readable::readable;

/// The directory of a container's log, and the log's name in it.
#[derive(Debug)]
pub struct LogPlace {
    directory: OwnedFd,
    name: OsString,
}

/// An open log; it stays the same file after a rotation.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    identity: (u64, u64),
}

/// What happened to a watched log since the last check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogNotice {
    /// It may have grown or been rotated: check.
    Changed,
    /// Its writer closed it, and has not written since.
    Closed,
}

/// A watch of one log and of its directory.
#[derive(Debug)]
pub struct LogWatch {
    fd: AsyncFd<OwnedFd>,
    file: i32,
}

impl LogPlace {
    /// Finds the directory of `relative` below `logs`. May hang on a dead disk: only through `Blocking`.
    ///
    /// # Errors
    /// ENOENT; ELOOP for a link in the path, EXDEV for a path that leads out.
    pub fn find(logs: &Path, relative: &Path) -> io::Result<Self> {
        let plain = relative
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        let (Some(directory), Some(name), true) = (relative.parent(), relative.file_name(), plain)
        else {
            return Err(Errno::INVAL.into());
        };
        let directory_only = OFlags::RDONLY | OFlags::DIRECTORY;
        let logs = beneath::open_directory(logs)?;
        Ok(Self {
            directory: open_beneath(&logs, directory, directory_only)?,
            name: name.to_owned(),
        })
    }

    /// Opens the file that has the name now. May hang on a dead disk: only through `Blocking`.
    ///
    /// # Errors
    /// ENOENT between the two steps of a rotation; ELOOP for a link; EINVAL for anything but a regular file.
    pub fn open(&self) -> io::Result<LogFile> {
        let file = beneath::open_file_in(&self.directory, Path::new(&self.name))?;
        let found = file.metadata()?;
        Ok(LogFile {
            file,
            identity: (found.dev(), found.ino()),
        })
    }

    /// Watches `file` and the directory. Needs the tokio runtime.
    ///
    /// # Errors
    /// ENOSPC and EMFILE are limits on watches.
    pub fn watch(&self, file: &LogFile) -> io::Result<LogWatch> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let entries = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&fd, by_descriptor(&self.directory), entries)?;
        let file = inotify::add_watch(&fd, by_descriptor(&file.file), growth())?;
        Ok(LogWatch {
            fd: readable(fd)?,
            file,
        })
    }
}

impl LogFile {
    /// Reads into `buffer` at `offset`; 0 at the end.
    ///
    /// # Errors
    /// The system call failed.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.file.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// The current size in bytes.
    ///
    /// # Errors
    /// The system call failed.
    pub fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Whether both are the same file.
    pub fn is(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl LogWatch {
    /// Watches `file` instead of the previous one.
    ///
    /// # Errors
    /// As [`LogPlace::watch`].
    pub fn follow(&mut self, file: &LogFile) -> io::Result<()> {
        let fd = self.fd.get_ref();
        // The previous file may be deleted, and its watch with it.
        let _gone = inotify::remove_watch(fd, self.file);
        self.file = inotify::add_watch(fd, by_descriptor(&file.file), growth())?;
        Ok(())
    }

    /// Waits for the next events; all queued ones are merged into one notice. Cancel: nothing is lost if this future is dropped
    /// before it is ready.
    ///
    /// # Errors
    /// The system call failed, or the runtime ended.
    pub async fn changed(&mut self) -> io::Result<LogNotice> {
        loop {
            let mut ready = self.fd.readable().await?;
            let notice = read_notice(self.fd.get_ref(), self.file)?;
            ready.clear_ready();
            if let Some(notice) = notice {
                return Ok(notice);
            }
        }
    }
}

fn growth() -> WatchFlags {
    WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE
}

/// The kernel's link to an open descriptor: the path is not resolved again.
fn by_descriptor(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn read_notice(fd: &OwnedFd, file: i32) -> io::Result<Option<LogNotice>> {
    let mut notice = None;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(fd, &mut buffer);
    loop {
        let event = match reader.next() {
            Ok(event) => event,
            Err(Errno::AGAIN) => return Ok(notice),
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let kinds = event.events();
        let of_file = event.wd() == file;
        if of_file && kinds.contains(ReadFlags::CLOSE_WRITE) {
            notice = Some(LogNotice::Closed);
        } else if notice.is_none() || of_file && kinds.contains(ReadFlags::MODIFY) {
            notice = Some(LogNotice::Changed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::testing::{TestDir, block_on};

    const LOG: &str = "ns_pod_uid/c/0.log";

    fn with_log() -> TestDir {
        let dir = TestDir::new();
        std::fs::create_dir_all(dir.path().join("ns_pod_uid/c")).unwrap();
        std::fs::write(dir.path().join(LOG), "one\n").unwrap();
        dir
    }

    #[test]
    fn a_log_is_read_where_it_is_and_no_link_leads_elsewhere() {
        let dir = with_log();
        let at = |path: &str| dir.path().join(path);
        let place = LogPlace::find(dir.path(), Path::new(LOG)).unwrap();
        let file = place.open().unwrap();
        let mut buffer = [0; 8];
        assert_eq!(
            (file.read_at(&mut buffer, 1).unwrap(), &buffer[..3]),
            (3, &b"ne\n"[..])
        );
        assert_eq!(
            (file.read_at(&mut buffer, 4).unwrap(), file.size().unwrap()),
            (0, 4)
        );

        std::fs::write(at("secret"), "s").unwrap();
        std::os::unix::fs::symlink(at("secret"), at("ns_pod_uid/c/1.log")).unwrap();
        std::os::unix::fs::symlink("c", at("ns_pod_uid/d")).unwrap();
        std::fs::create_dir(at("ns_pod_uid/c/2.log")).unwrap();
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, at("ns_pod_uid/c/3.log"), kind, mode, 0).unwrap();
        let errno = |path: &str| {
            let place = LogPlace::find(dir.path(), Path::new(path));
            place
                .and_then(|place| place.open())
                .unwrap_err()
                .raw_os_error()
                .unwrap()
        };
        assert_eq!(errno("ns_pod_uid/c/1.log"), Errno::LOOP.raw_os_error());
        assert_eq!(errno("ns_pod_uid/d/0.log"), Errno::LOOP.raw_os_error());
        assert_eq!(errno("ns_pod_uid/c/2.log"), Errno::INVAL.raw_os_error());
        assert_eq!(errno("ns_pod_uid/c/3.log"), Errno::INVAL.raw_os_error());
        assert_eq!(errno("ns_pod_uid/c/9.log"), Errno::NOENT.raw_os_error());
        for bad in ["../x/0.log", "/etc/passwd", "a/../../b", "x/..", ""] {
            assert_eq!(errno(bad), Errno::INVAL.raw_os_error(), "{bad}");
        }
    }

    #[test]
    fn growth_closing_and_rotation_are_noticed_and_a_swapped_directory_is_not_followed() {
        let dir = with_log();
        let at = |path: &str| dir.path().join(path);
        block_on(async {
            let place = LogPlace::find(dir.path(), Path::new(LOG)).unwrap();
            let first = place.open().unwrap();
            let mut watch = place.watch(&first).unwrap();
            let mut writer = File::options().append(true).open(at(LOG)).unwrap();
            writer.write_all(b"two\n").unwrap();
            assert_eq!(watch.changed().await.unwrap(), LogNotice::Changed);
            std::fs::rename(at(LOG), at("ns_pod_uid/c/0.log.1")).unwrap();
            assert_eq!(watch.changed().await.unwrap(), LogNotice::Changed);
            assert_eq!(place.open().unwrap_err().kind(), io::ErrorKind::NotFound);
            std::fs::write(at(LOG), "new\n").unwrap();
            assert_eq!(watch.changed().await.unwrap(), LogNotice::Changed);
            let second = place.open().unwrap();
            assert!(!second.is(&first) && second.is(&place.open().unwrap()));
            writer.write_all(b"late\n").unwrap();
            drop(writer);
            assert_eq!(watch.changed().await.unwrap(), LogNotice::Closed);
            watch.follow(&second).unwrap();
            // The end of the previous watch is an event of its own.
            watch.changed().await.unwrap();
            std::fs::rename(at("ns_pod_uid/c"), at("ns_pod_uid/old")).unwrap();
            std::fs::create_dir(at("ns_pod_uid/c")).unwrap();
            std::fs::write(at(LOG), "other\n").unwrap();
            watch.changed().await.unwrap();
            assert!(place.open().unwrap().is(&second));
        });
    }
}
