//! Files that a container can touch or a user can write: opened below a directory, without links, and only if they are files.
//!
//! In:    a directory, a path below it; how much is wanted
//! Out:   an opened regular file, or at most so many of its bytes
//! Calls: files, log_file, sub_path, remove, usage; act/observe/termination_message
//! Holds: the directory is found by the administrator's path, which may have links; below it no link is followed and no `..` leads
//!        out, whoever swaps what meanwhile; a FIFO, a socket or a device is looked at but never opened, so nothing is waited
//!        for and no device does anything; no read takes more memory than its limit
//! Upstream: none (there os.Open follows links and waits for FIFOs)

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

/// How often one file is opened at most.
const TRIES: usize = 32;
/// How many links one path may have on its way, as the kernel has it.
const LINKS: usize = 40;

/// Kernels before 5.6, and filters of system calls that are as old, do not have `openat2`.
static IS_MISSING: AtomicBool = AtomicBool::new(false);

/// Whether another file system on the way is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounts {
    /// It ends the way: EXDEV.
    Refused,
    /// It is passed.
    Passed,
}

/// Opens what `relative` names below the directory `base`: no `..` out of it, no link.
///
/// # Errors
/// ELOOP for a link, EXDEV for a way out or for a mount that is refused.
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

/// Opens, again when a rename somewhere on the machine made the kernel unsure and it asks for that: at most [`TRIES`] times, because
/// whoever can rename in a volume can make it ask for ever.
pub(crate) fn try_again<T>(mut open: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 1..TRIES {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    open()
}

/// A link at the very end is looked at, not followed, when nothing but a look was asked for.
fn refuse_link(found: OwnedFd, flags: OFlags) -> io::Result<OwnedFd> {
    let is_link = flags.contains(OFlags::PATH)
        && FileType::from_raw_mode(fstat(&found)?.st_mode).is_symlink();
    if is_link {
        return Err(Errno::LOOP.into());
    }
    Ok(found)
}

/// As [`open_below`], part by part.
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
        // Looked at before anything else is done with it.
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

/// What a path leads to below a directory.
#[derive(Debug)]
pub struct Found {
    /// The longest part of the way that is there, only looked at (`O_PATH`).
    pub at: OwnedFd,
    /// What is missing behind it; empty when all is there.
    pub missing: PathBuf,
}

/// Why a path leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum NotFound {
    /// A link or a `..` leads out of the directory. `is_end`: it is the path's last part.
    #[error("it leads out of the directory")]
    Outside {
        /// Nothing of the path is behind the part that leads out.
        is_end: bool,
    },
    /// Another file system is on the way, and is not entered.
    #[error("another file system is on the way")]
    Foreign,
    /// A link leads to what is not there.
    #[error("a link leads to what is not there")]
    Dangling,
    /// A system call's.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Finds what `relative` names below `base`, which has these paths. Links are followed as long as they stay below it, each read and
/// resolved here: nothing outside of it is ever touched, and with [`Mounts::Refused`] no other file system.
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
    // Parts to go, and whether each is of the path itself or of a link on it.
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

/// Looks at one name in a directory: a link is seen, not followed.
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

/// The path by which the kernel knows what is open.
///
/// # Errors
/// The system call's.
pub fn path_of(opened: &OwnedFd) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/thread-self/fd/{}", opened.as_raw_fd()))
}

/// Opens the regular file `relative` below `directory` for reading.
///
/// # Errors
/// ELOOP for a link, EXDEV for a way out or another file system, EINVAL for what is no regular file.
pub fn open_file(directory: &Path, relative: &Path) -> io::Result<File> {
    let directory = open_directory(directory)?;
    open_file_in(&directory, relative)
}

/// As [`open_file`], below a directory that is open.
///
/// # Errors
/// As [`open_file`].
pub fn open_file_in(directory: &impl AsFd, relative: &Path) -> io::Result<File> {
    let found = open_below(directory, relative, OFlags::PATH, Mounts::Refused)?;
    open_found(&found)
}

/// The directory that a path of the administrator names, links and all.
///
/// # Errors
/// ENOENT; ENOTDIR.
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

/// Opens for reading what was only looked at so far (`O_PATH`), if it is a regular file.
///
/// # Errors
/// EINVAL for anything else.
pub fn open_found(found: &OwnedFd) -> io::Result<File> {
    if !FileType::from_raw_mode(fstat(found)?.st_mode).is_file() {
        return Err(Errno::INVAL.into());
    }
    // The kernel's own link to what was found: no path is walked again. Somebody's lease on the file must not be waited for.
    let link = format!("/proc/thread-self/fd/{}", found.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(openat(CWD, link.as_str(), flags, Mode::empty())?.into())
}

/// Opens the regular file at a path of the administrator, which may be a link.
///
/// # Errors
/// ENOENT; EINVAL for what is no regular file.
pub fn open_by_path(path: &Path) -> io::Result<File> {
    let found = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    open_found(&found)
}

/// The begin of a file, at most `limit` bytes, and whether there is more.
///
/// # Errors
/// The system call's.
pub fn head_of(file: File, limit: u64) -> io::Result<(Vec<u8>, bool)> {
    let mut content = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut content)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_cut = content.len() > limit;
    content.truncate(limit);
    Ok((content, is_cut))
}

/// The end of a file, at most `limit` bytes, and whether there is something before it.
///
/// # Errors
/// The system call's.
pub fn tail_of(mut file: File, limit: u64) -> io::Result<(Vec<u8>, bool)> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut content = Vec::new();
    file.take(limit).read_to_end(&mut content)?;
    Ok((content, length > limit))
}
