//! Files and directories: atomic writes, exact modes, bounded reads, file system figures.
//!
//! In:    absolute paths made by `HostRoot::join`, contents
//! Out:   the files on disk, or [`FileError`], in which a full disk is a variant of its own
//! Calls: volumes, sources, status files, the files beside the journal
//! Holds: a reader of an atomically written file sees either the old content or the new one; modes do not depend on the umask;
//!        no read takes more memory than its limit
//! Upstream: pkg/volume/util/atomic_writer.go, pkg/util/filesystem (MkdirAllWithPathCheck), pkg/kubelet/kubelet.go
//!           (setupDataDirs: directories and modes)

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2};

use crate::beneath::{
    Mounts, head_of, open_below, open_by_path, open_directory, open_found, try_again,
};

/// Why a file operation failed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// ENOSPC or EDQUOT: no data was lost, and a retry may succeed once there is space.
    #[error("no space on the disk to {operation} {}", path.display())]
    NoSpace {
        /// The operation.
        operation: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file is larger than the limit of the read.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// A mount point in a tree that is to be removed. Nothing on it was touched.
    #[error("will not remove {}: {} is a mount point", path.display(), mount.display())]
    Mounted {
        /// The tree.
        path: PathBuf,
        /// The mount.
        mount: PathBuf,
    },
    /// A directory that holds the files of several pods, or that lies outside its stated parent, was to be removed.
    #[error("will not remove {}", .0.display())]
    Kept(PathBuf),
    /// A symbolic link or another kind of file in place of a directory.
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// Any other failure of a system call.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// The operation.
        operation: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl FileError {
    pub(crate) fn new(operation: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.to_owned(), source.into());
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::NoSpace {
                operation,
                path,
                source,
            },
            _ => Self::Io {
                operation,
                path,
                source,
            },
        }
    }

    /// Whether the path, or a part of it, does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == ErrorKind::NotFound)
    }
}

/// What an atomic write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process (page cache).
    Process,
    /// A crash of the machine: the file and its directory are synced.
    Machine,
}

/// Replaces `path` with `content`, by a temporary file in the same directory and a rename.
///
/// # Errors
/// The old content is unchanged and the temporary file is gone.
pub fn write_atomically(
    path: &Path,
    content: &[u8],
    mode: u32,
    durability: Durability,
) -> Result<(), FileError> {
    let mut temporary = path.as_os_str().to_owned();
    // A crash leaves at most this one file, and the next write reuses it.
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let written = write_new(&temporary, content, mode, durability)
        .and_then(|()| std::fs::rename(&temporary, path));
    if let Err(source) = written {
        drop(std::fs::remove_file(&temporary));
        return Err(FileError::new("write", path, source));
    }
    if durability == Durability::Machine {
        let directory = path.parent().unwrap_or(Path::new("/"));
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|source| FileError::new("sync", directory, source))?;
    }
    Ok(())
}

fn write_new(path: &Path, content: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    if durability == Durability::Machine {
        file.sync_all()?;
    }
    Ok(())
}

/// Creates `path` and its missing parents with exactly `mode`, regardless of the umask. Existing directories keep their mode.
///
/// # Errors
/// [`FileError::NotADirectory`] names the component that is something else.
pub fn create_dir_all(path: &Path, mode: u32) -> Result<(), FileError> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => return Err(FileError::NotADirectory(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if error.kind() == ErrorKind::NotADirectory => {}
        Err(error) => return Err(FileError::new("stat", path, error)),
    }
    if let Some(parent) = path.parent() {
        create_dir_all(parent, mode)?;
    }
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => set_mode(path, mode),
        // Another process created it first; check again, since it may be a file.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(FileError::new("create directory", path, error)),
    }
}

/// Sets the mode of a file or directory (follows symbolic links).
///
/// # Errors
/// The system call failed.
pub fn set_mode(path: &Path, mode: u32) -> Result<(), FileError> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(|source| FileError::new("set the mode of", path, source))
}

/// Reads the whole regular file, if it has at most `limit` bytes. The path is the administrator's and may be a link.
///
/// # Errors
/// [`FileError::TooLarge`], after at most `limit` + 1 bytes were read; EINVAL for a FIFO, a socket or a device, which is not
/// opened.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let read = open_by_path(path).and_then(|file| head_of(file, limit));
    let (content, is_cut) = read.map_err(|source| FileError::new("read", path, source))?;
    if is_cut {
        return Err(FileError::TooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(content)
}

/// As [`read_bounded`], for text.
///
/// # Errors
/// Also when the content is not UTF-8.
pub fn read_text_bounded(path: &Path, limit: u64) -> Result<String, FileError> {
    String::from_utf8(read_bounded(path, limit)?).map_err(|error| {
        FileError::new("read", path, io::Error::new(ErrorKind::InvalidData, error))
    })
}

/// Opens `relative` below the directory `base`, without following symbolic links, leaving it by `..`, or entering another
/// mount.
///
/// # Errors
/// ELOOP for a link, EXDEV for a mount or a path that leads out.
pub fn open_beneath(
    base: &impl std::os::fd::AsFd,
    relative: &Path,
    flags: OFlags,
) -> io::Result<OwnedFd> {
    open_below(base, relative, flags, Mounts::Refused)
}

/// Opens the file or directory `relative` below `directory` for reading. Links are followed as long as they stay below it.
///
/// # Errors
/// ENOENT, also for a link that leads out; ELOOP if a link appeared meanwhile; EINVAL for any other kind of file.
pub fn open_within(directory: &Path, relative: &Path) -> io::Result<File> {
    let top = directory.canonicalize()?;
    let found = top.join(relative).canonicalize()?;
    let Ok(plain) = found.strip_prefix(&top) else {
        return Err(ErrorKind::NotFound.into());
    };
    let here = Path::new(".");
    let plain = if plain.as_os_str().is_empty() {
        here
    } else {
        plain
    };
    let top = open_directory(&top)?;
    let found = open_below(&top, plain, OFlags::PATH, Mounts::Passed)?;
    if FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode).is_dir() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        return Ok(open_below(&found, here, flags, Mounts::Passed)?.into());
    }
    open_found(&found)
}

/// The first bytes, at most `limit`, of the regular file `relative` below `directory`, and whether there are more. Links are
/// resolved as if `directory` were the root directory; other processes may write below it meanwhile.
///
/// # Errors
/// The system call failed; EINVAL for anything but a regular file; EAGAIN if renames prevented finding it.
pub fn read_as_root(directory: &Path, relative: &Path, limit: u64) -> io::Result<(Vec<u8>, bool)> {
    let top = open_directory(directory)?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = try_again(|| openat2(&top, relative, flags, Mode::empty(), resolve))?;
    head_of(open_found(&found)?, limit)
}

/// Figures of the file system that holds a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilesystemFigures {
    /// Size.
    pub capacity_bytes: u64,
    /// Free bytes for users other than root.
    pub available_bytes: u64,
    /// Free bytes including root's reserve.
    pub free_bytes: u64,
    /// Inodes; 0 if the file system does not count them.
    pub inodes: u64,
    /// Free inodes.
    pub inodes_free: u64,
}

/// Queries the file system that holds `path`. May hang on a dead server: only through `Blocking`.
///
/// # Errors
/// The system call failed.
pub fn filesystem_figures(path: &Path) -> Result<FilesystemFigures, FileError> {
    let found =
        rustix::fs::statvfs(path).map_err(|source| FileError::new("statfs", path, source))?;
    Ok(FilesystemFigures {
        capacity_bytes: found.f_blocks.saturating_mul(found.f_frsize),
        available_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        free_bytes: found.f_bfree.saturating_mul(found.f_frsize),
        inodes: found.f_files,
        inodes_free: found.f_ffree,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDir;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn an_atomic_write_replaces_the_content_sets_the_mode_and_leaves_nothing_else() {
        let dir = TestDir::new();
        let path = dir.path().join("state");
        std::fs::write(dir.path().join("state.tmp"), "left by a crash").unwrap();
        write_atomically(&path, b"one", 0o644, Durability::Machine).unwrap();
        write_atomically(&path, b"two", 0o666, Durability::Process).unwrap();
        assert_eq!(
            (read_bounded(&path, 3).unwrap(), mode(&path)),
            (b"two".to_vec(), 0o666)
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_keeps_the_old_content() {
        let dir = TestDir::new();
        let path = dir.path().join("directory");
        std::fs::create_dir(&path).unwrap();
        assert!(write_atomically(&path, b"x", 0o600, Durability::Process).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let absent = dir.path().join("absent/file");
        assert!(
            write_atomically(&absent, b"x", 0o600, Durability::Process)
                .unwrap_err()
                .is_not_found()
        );
    }

    #[test]
    fn directories_get_their_mode_and_existing_ones_keep_theirs() {
        let dir = TestDir::new();
        let deep = dir.path().join("a/b/c");
        create_dir_all(&dir.path().join("a"), 0o700).unwrap();
        create_dir_all(&deep, 0o777).unwrap();
        create_dir_all(&deep, 0o750).unwrap();
        assert_eq!(
            [
                mode(&dir.path().join("a")),
                mode(&dir.path().join("a/b")),
                mode(&deep)
            ],
            [0o700, 0o777, 0o777]
        );
        std::fs::write(dir.path().join("file"), "").unwrap();
        let error = create_dir_all(&dir.path().join("file/below"), 0o750).unwrap_err();
        assert!(
            matches!(&error, FileError::NotADirectory(path) if path.ends_with("file")),
            "{error:?}"
        );
    }

    #[test]
    fn a_read_over_its_limit_is_refused_and_a_fifo_does_not_block() {
        let dir = TestDir::new();
        let path = dir.path().join("manifest");
        std::fs::write(&path, [b'x'; 11]).unwrap();
        let error = read_bounded(&path, 10).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} is larger than 10 bytes", path.display())
        );
        assert_eq!(read_text_bounded(&path, 11).unwrap().len(), 11);
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        // Not even opened: that would release a writer that waits for a reader.
        let error = read_bounded(&fifo, 10).unwrap_err();
        assert!(
            matches!(error, FileError::Io { source, .. } if source.kind() == ErrorKind::InvalidInput)
        );
    }

    #[test]
    fn nothing_is_opened_outside_the_base() {
        let dir = TestDir::new();
        std::fs::create_dir(dir.path().join("base")).unwrap();
        std::fs::write(dir.path().join("base/inside"), "").unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("base/link")).unwrap();
        let base = File::open(dir.path().join("base")).unwrap();
        let open = |path: &str| {
            open_beneath(&base, Path::new(path), OFlags::RDONLY)
                .map(drop)
                .map_err(|e| e.raw_os_error())
        };
        assert_eq!(open("inside"), Ok(()));
        assert_eq!(
            open("link/passwd"),
            Err(Some(rustix::io::Errno::LOOP.raw_os_error()))
        );
        assert_eq!(
            open("../base/inside"),
            Err(Some(rustix::io::Errno::XDEV.raw_os_error()))
        );
        assert_eq!(
            open("/etc/passwd"),
            Err(Some(rustix::io::Errno::XDEV.raw_os_error()))
        );
    }

    #[test]
    fn the_filesystem_tells_its_figures() {
        let figures = filesystem_figures(Path::new("/tmp")).unwrap();
        assert!(
            figures.capacity_bytes >= figures.free_bytes
                && figures.free_bytes >= figures.available_bytes
        );
        assert!(figures.capacity_bytes > 0);
    }

    #[test]
    fn a_file_below_a_directory_is_read_as_if_that_were_the_root() {
        let dir = TestDir::new();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("v/sub")).unwrap();
        std::fs::write(at("secret"), "outside").unwrap();
        std::fs::write(at("v/sub/f"), "inside").unwrap();
        for (link, to) in [
            ("v/up", "../secret"),
            ("v/absolute", "/sub/f"),
            ("v/relative", "sub/../sub/f"),
            ("v/away", "/secret"),
        ] {
            std::os::unix::fs::symlink(to, at(link)).unwrap();
        }
        let fifo = FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at("v/fifo"), fifo, Mode::RUSR, 0).unwrap();
        let read = |path: &str| {
            let read = read_as_root(&at("v"), Path::new(path), 6);
            read.map(|(content, is_cut)| (String::from_utf8(content).unwrap(), is_cut))
                .map_err(|error| error.kind())
        };
        let inside = Ok(("inside".to_owned(), false));
        for path in ["sub/f", "/sub/f", "../sub/f", "absolute", "relative"] {
            assert_eq!(read(path), inside, "{path}");
        }
        for path in ["up", "away", "../secret", "none"] {
            assert_eq!(read(path), Err(ErrorKind::NotFound), "{path}");
        }
        for path in ["fifo", "sub"] {
            assert_eq!(read(path), Err(ErrorKind::InvalidInput), "{path}");
        }
        std::fs::write(at("v/sub/f"), "inside and more").unwrap();
        assert_eq!(read("sub/f"), Ok(("inside".to_owned(), true)));
    }
}
