//! Opens files that a container can change or a user can write: below a directory, without following links, regular files only.
//!
//! In:    a directory, a path below it; how many bytes are wanted
//! Out:   an open regular file, or at most so many of its bytes
//! Calls: files, log_file, sub_path, remove, usage; act/observe/termination_message
//! Holds: the path of the directory comes from the administrator and may contain links; below it no link is followed and no
//!        `..` leads out, even if another process swaps entries meanwhile; a FIFO, a socket or a device is inspected but never
//!        opened, so no open blocks and no device is triggered; no read takes more memory than its limit
//! Upstream: none (there os.Open follows links and blocks on FIFOs)

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

#[cfg(test)]
mod tests;

/// The most attempts to open one file.
const TRIES: usize = 32;
/// The most links in one path, as in the kernel.
const LINKS: usize = 40;

/// Set if `openat2` does not exist: kernels before 5.6, and seccomp filters of that age.
static IS_MISSING: AtomicBool = AtomicBool::new(false);

/// Whether another file system below the directory is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounts {
    /// It is not: EXDEV.
    Refused,
    /// It is.
    Passed,
}

/// Opens `relative` below the directory `base`, without following links and without leaving the directory by `..`.
///
/// # Errors
/// ELOOP for a link, EXDEV for a path that leads out, or for a mount that is refused.
pub fn open_below(
    base: &impl AsFd,
    relative: &Path,
    flags: OFlags,
    mounts: Mounts,
) -> io::Result<OwnedFd> {
    if IS_MISSING.load(Ordering::Relaxed) {
        return walk(base, relative, flags, mounts);
    }
    let mut resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    if mounts == Mounts::Refused {
        resolve |= ResolveFlags::NO_XDEV;
    }
    let flags = flags | OFlags::CLOEXEC;
    match try_again(|| openat2(base, relative, flags, Mode::empty(), resolve)) {
        Err(Errno::NOSYS) => {
            IS_MISSING.store(true, Ordering::Relaxed);
            walk(base, relative, flags, mounts)
        }
        other => refuse_link(other?, flags),
    }
}

/// Repeats an open while the kernel asks for it (EAGAIN), because a rename somewhere made the result uncertain. At most
/// [`TRIES`] times, since a process that can rename in a volume could cause that for ever.
pub(crate) fn try_again<T>(mut open: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 1..TRIES {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    open()
}

/// `O_PATH` opens a link itself at the end of a path; that is refused.
fn refuse_link(found: OwnedFd, flags: OFlags) -> io::Result<OwnedFd> {
    let is_link = flags.contains(OFlags::PATH)
        && FileType::from_raw_mode(fstat(&found)?.st_mode).is_symlink();
    if is_link {
        return Err(Errno::LOOP.into());
    }
    Ok(found)
}

/// As [`open_below`], component by component.
fn walk(base: &impl AsFd, relative: &Path, flags: OFlags, mounts: Mounts) -> io::Result<OwnedFd> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = openat(base, ".", directory, Mode::empty())?;
    let device = fstat(&at)?.st_dev;
    let mut parts = relative.components().peekable();
    if parts.peek().is_none() {
        return Err(Errno::NOENT.into());
    }
    while let Some(part) = parts.next() {
        let name = match part {
            Component::Normal(name) => Path::new(name),
            Component::CurDir => Path::new("."),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(Errno::XDEV.into());
            }
        };
        let is_last = parts.peek().is_none();
        // Inspected before it is opened.
        let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = openat(&at, name, look, Mode::empty())?;
        let stat = fstat(&found)?;
        if FileType::from_raw_mode(stat.st_mode).is_symlink() {
            return Err(Errno::LOOP.into());
        }
        if mounts == Mounts::Refused && stat.st_dev != device {
            return Err(Errno::XDEV.into());
        }
        let flags = if is_last { flags } else { directory };
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at = openat(&at, name, flags, Mode::empty())?;
    }
    Ok(at)
}

/// The target of a path below a directory.
#[derive(Debug)]
pub struct Found {
    /// The longest existing part of the path, opened with `O_PATH` only.
    pub at: OwnedFd,
    /// The missing rest; empty if the whole path exists.
    pub missing: PathBuf,
}

/// Why a path has no target.
#[derive(Debug, thiserror::Error)]
pub enum NotFound {
    /// A link or a `..` leads out of the directory. `is_end`: it is the last component of the path.
    #[error("it leads out of the directory")]
    Outside {
        /// Whether no component of the path follows.
        is_end: bool,
    },
    /// Another file system is in the path, and it is not entered.
    #[error("another file system is in the path")]
    Foreign,
    /// A link has no target.
    #[error("a symbolic link has no target")]
    Dangling,
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Finds the target of `relative` below `base`, which has these paths. Links are followed as long as they stay below it; each
/// one is read and resolved here, so nothing outside is ever accessed, and with [`Mounts::Refused`] no other file system.
///
/// # Errors
/// [`NotFound`].
pub fn find_below(
    base: &OwnedFd,
    base_paths: [&Path; 2],
    relative: &Path,
    mounts: Mounts,
) -> Result<Found, NotFound> {
    let mut way = Vec::new();
    // The remaining components, and whether each belongs to the path itself or to a link in it.
    let mut left: VecDeque<(OsString, bool)> = VecDeque::new();
    put_before(&mut left, relative, true);
    let mut links = 0;
    while let Some((name, is_own)) = left.pop_front() {
        let is_end = !left.iter().any(|(_, is_own)| *is_own);
        if name == ".." {
            if way.pop().is_none() {
                return Err(NotFound::Outside { is_end });
            }
            continue;
        }
        let at = way.last().unwrap_or(base);
        let found = match look_at(at, &name, mounts) {
            Err(errno) if errno == Errno::NOENT && !is_own => return Err(NotFound::Dangling),
            Err(errno) if errno == Errno::NOENT => {
                let behind = left.iter().map(|(name, _)| name);
                let missing: PathBuf = std::iter::once(&name).chain(behind).collect();
                return Ok(Found {
                    at: way.pop().map_or_else(|| base.try_clone(), Ok)?,
                    missing,
                });
            }
            Err(errno) if errno == Errno::XDEV => return Err(NotFound::Foreign),
            looked => looked.map_err(io::Error::from)?,
        };
        let stat = fstat(&found).map_err(io::Error::from)?;
        if !FileType::from_raw_mode(stat.st_mode).is_symlink() {
            way.push(found);
            continue;
        }
        links += 1;
        if links > LINKS {
            return Err(NotFound::Io(Errno::LOOP.into()));
        }
        let target = rustix::fs::readlinkat(&found, "", Vec::new()).map_err(io::Error::from)?;
        let target = Path::new(OsStr::from_bytes(target.as_bytes()));
        let mut inside = base_paths.iter().map(|path| target.strip_prefix(path));
        let inside = match inside.find_map(Result::ok) {
            Some(inside) => {
                way.clear();
                inside
            }
            None if target.is_absolute() => return Err(NotFound::Outside { is_end }),
            None => target,
        };
        put_before(&mut left, inside, false);
    }
    let at = way.pop().map_or_else(|| base.try_clone(), Ok)?;
    let missing = PathBuf::new();
    Ok(Found { at, missing })
}

fn put_before(left: &mut VecDeque<(OsString, bool)>, path: &Path, is_own: bool) {
    for part in path.components().rev() {
        match part {
            Component::Normal(name) => left.push_front((name.to_owned(), is_own)),
            Component::ParentDir => left.push_front(("..".into(), is_own)),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
}

/// Inspects one name in a directory; a link is not followed.
fn look_at(at: &OwnedFd, name: &OsStr, mounts: Mounts) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if !IS_MISSING.load(Ordering::Relaxed) {
        let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        if mounts == Mounts::Refused {
            resolve |= ResolveFlags::NO_XDEV;
        }
        match try_again(|| openat2(at, name, flags, Mode::empty(), resolve)) {
            Err(Errno::NOSYS) => IS_MISSING.store(true, Ordering::Relaxed),
            other => return other,
        }
    }
    let found = openat(at, name, flags, Mode::empty())?;
    if mounts == Mounts::Refused && fstat(&found)?.st_dev != fstat(at)?.st_dev {
        return Err(Errno::XDEV);
    }
    Ok(found)
}

/// The kernel's path of an open file.
///
/// # Errors
/// The system call failed.
pub fn path_of(opened: &OwnedFd) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/thread-self/fd/{}", opened.as_raw_fd()))
}

/// Opens the regular file `relative` below `directory` for reading.
///
/// # Errors
/// ELOOP for a link, EXDEV for a path that leads out or to another file system, EINVAL for anything but a regular file.
pub fn open_file(directory: &Path, relative: &Path) -> io::Result<File> {
    let directory = open_directory(directory)?;
    open_file_in(&directory, relative)
}

/// As [`open_file`], below an open directory.
///
/// # Errors
/// As [`open_file`].
pub fn open_file_in(directory: &impl AsFd, relative: &Path) -> io::Result<File> {
    let found = open_below(directory, relative, OFlags::PATH, Mounts::Refused)?;
    open_found(&found)
}

/// Opens a directory by the administrator's path, following links.
///
/// # Errors
/// ENOENT; ENOTDIR.
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

/// Opens for reading what was opened with `O_PATH`, if it is a regular file.
///
/// # Errors
/// EINVAL for anything else.
pub fn open_found(found: &OwnedFd) -> io::Result<File> {
    if !FileType::from_raw_mode(fstat(found)?.st_mode).is_file() {
        return Err(Errno::INVAL.into());
    }
    // The kernel's link to the open file: the path is not resolved again. O_NONBLOCK, so that another process's lease on the
    // file does not block.
    let link = format!("/proc/thread-self/fd/{}", found.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(openat(CWD, link.as_str(), flags, Mode::empty())?.into())
}

/// Opens a regular file by the administrator's path, which may be a link.
///
/// # Errors
/// ENOENT; EINVAL for anything but a regular file.
pub fn open_by_path(path: &Path) -> io::Result<File> {
    let found = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    open_found(&found)
}

/// The first bytes of a file, at most `limit`, and whether there are more.
///
/// # Errors
/// The system call failed.
pub fn head_of(file: File, limit: u64) -> io::Result<(Vec<u8>, bool)> {
    let mut content = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut content)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_cut = content.len() > limit;
    content.truncate(limit);
    Ok((content, is_cut))
}

/// The last bytes of a file, at most `limit`, and whether there are more before them.
///
/// # Errors
/// The system call failed.
pub fn tail_of(mut file: File, limit: u64) -> io::Result<(Vec<u8>, bool)> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut content = Vec::new();
    file.take(limit).read_to_end(&mut content)?;
    Ok((content, length > limit))
}
