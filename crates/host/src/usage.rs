//! The disk usage of a directory tree, as `du` counts it, within a budget.
//!
//! In:    a directory made by `HostRoot::join`, the most entries to inspect
//! Out:   [`DiskUsage`]
//! Calls: act/volumes/resource_analyzer, always through `Blocking`
//! Holds: counts blocks, not lengths; counts hard links once; stays on one mount; follows no link; entries that vanish during
//!        the walk are not an error
//! Upstream: vendor/github.com/google/cadvisor/fs/fs.go (GetDirUsage)

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, OFlags, StatxFlags, statx};
use rustix::io::Errno;

use crate::files::{FileError, open_beneath};

/// The usage of a tree on its file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Allocated blocks.
    pub bytes: u64,
    /// Files and directories, including the top one.
    pub inodes: u64,
    /// Directories that could not be read or are deeper than 1,000 levels; the figures are too low in that case.
    pub skipped_directories: u64,
    /// The budget was exhausted; the figures are too low.
    pub is_partial: bool,
}

const MAX_DEPTH: usize = 1000;

/// Walks the tree below `path` and inspects at most `max_entries` entries.
///
/// # Errors
/// Only for the top directory.
pub fn disk_usage(path: &Path, max_entries: u64) -> Result<DiskUsage, FileError> {
    let top = File::open(path).map_err(|source| FileError::new("open", path, source))?;
    let mut walk = Walk {
        usage: DiskUsage::default(),
        links: BTreeSet::new(),
        left: max_entries,
    };
    let fail = |errno: Errno| FileError::new("measure", path, errno);
    walk.count(&top, c"").map_err(fail)?;
    let mut levels = vec![Level::open(top.into()).map_err(fail)?];
    while let Some(level) = levels.last_mut() {
        let entry = match level.directory.read() {
            None => {
                levels.pop();
                continue;
            }
            Some(Ok(entry)) => entry,
            Some(Err(_)) => {
                walk.usage.skipped_directories += 1;
                levels.pop();
                continue;
            }
        };
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if walk.left == 0 {
            walk.usage.is_partial = true;
            break;
        }
        walk.left -= 1;
        if entry.file_type() == FileType::Directory || entry.file_type() == FileType::Unknown {
            let relative = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
            match open_beneath(&level.fd, relative, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(fd) => walk.descend(&mut levels, fd),
                Err(error) => match Errno::from_io_error(&error) {
                    // Another mount is another volume's usage; a vanished entry uses nothing.
                    Some(Errno::XDEV | Errno::NOENT) => {}
                    Some(Errno::NOTDIR | Errno::LOOP) => walk.count_entry(&level.fd, name),
                    _ => walk.usage.skipped_directories += 1,
                },
            }
        } else {
            walk.count_entry(&level.fd, name);
        }
    }
    Ok(walk.usage)
}

struct Level {
    directory: Dir,
    fd: OwnedFd,
}

impl Level {
    fn open(fd: OwnedFd) -> Result<Self, Errno> {
        Ok(Self {
            directory: Dir::read_from(&fd)?,
            fd,
        })
    }
}

struct Walk {
    usage: DiskUsage,
    /// Device and inode of counted files with several links.
    links: BTreeSet<(u32, u32, u64)>,
    left: u64,
}

impl Walk {
    fn descend(&mut self, levels: &mut Vec<Level>, fd: OwnedFd) {
        if self.count(&fd, c"").is_err() {
            self.usage.skipped_directories += 1;
        }
        if levels.len() >= MAX_DEPTH {
            self.usage.skipped_directories += 1;
            return;
        }
        match Level::open(fd) {
            Ok(level) => levels.push(level),
            Err(_) => self.usage.skipped_directories += 1,
        }
    }

    /// A file that cannot be inspected has vanished, or the file system fails; in both cases it adds nothing.
    fn count_entry(&mut self, directory: &OwnedFd, name: &std::ffi::CStr) {
        self.count(directory, name).unwrap_or_default();
    }

    /// Counts `name` in `directory`, or the directory itself for an empty name.
    fn count(&mut self, directory: &impl AsFd, name: &std::ffi::CStr) -> Result<(), Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
        let wanted = StatxFlags::BLOCKS | StatxFlags::NLINK | StatxFlags::INO | StatxFlags::TYPE;
        let found = statx(directory, name, flags, wanted)?;
        let is_directory = FileType::from_raw_mode(found.stx_mode.into()) == FileType::Directory;
        let identity = (found.stx_dev_major, found.stx_dev_minor, found.stx_ino);
        if found.stx_nlink > 1 && !is_directory && !self.links.insert(identity) {
            return Ok(());
        }
        self.usage.bytes += found.stx_blocks * 512;
        self.usage.inodes += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDir;

    #[test]
    fn usage_is_what_du_says_and_hard_links_count_once() {
        let dir = TestDir::new();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/file"), vec![1; 100_000]).unwrap();
        std::fs::hard_link(dir.path().join("a/file"), dir.path().join("a/b/link")).unwrap();
        std::os::unix::fs::symlink("/usr", dir.path().join("a/usr")).unwrap();
        let sparse = File::create(dir.path().join("sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
        let usage = disk_usage(dir.path(), 1000).unwrap();
        assert_eq!(
            (usage.inodes, usage.is_partial, usage.skipped_directories),
            (6, false, 0)
        );
        let du = std::process::Command::new("du")
            .args(["-s", "-B1"])
            .arg(dir.path())
            .output()
            .unwrap();
        let du = String::from_utf8(du.stdout).unwrap();
        assert_eq!(
            usage.bytes.to_string(),
            du.split_whitespace().next().unwrap()
        );
        assert!(usage.bytes < 1 << 20);
    }

    #[test]
    fn the_budget_ends_the_walk() {
        let dir = TestDir::new();
        for n in 0..20 {
            std::fs::write(dir.path().join(n.to_string()), "x").unwrap();
        }
        let usage = disk_usage(dir.path(), 5).unwrap();
        assert_eq!((usage.inodes, usage.is_partial), (6, true));
        assert!(!disk_usage(dir.path(), 20).unwrap().is_partial);
        assert!(
            disk_usage(&dir.path().join("absent"), 5)
                .unwrap_err()
                .is_not_found()
        );
    }

    #[test]
    fn another_mount_is_not_counted() {
        let usage = disk_usage(Path::new("/dev"), 10_000).unwrap();
        let figures = crate::files::filesystem_figures(Path::new("/dev")).unwrap();
        assert!(usage.inodes <= figures.inodes - figures.inodes_free);
    }
}
