//! The mount table, and the few mounts that the kubelet itself makes.
//!
//! In:    paths made by `HostRoot::join`, options
//! Out:   the table; mounts; [`MountError`]
//! Calls: volumes (memory-backed emptyDir), start-up (shared root directory), removal of directories
//! Holds: whether a path is a mount point is read from the table, never by accessing the path (a dead server would block it); a
//!        target is opened first and mounted through its descriptor, and its last component is never a symbolic link; under a
//!        stand-in root no system call is made, the table is the file `proc/self/mountinfo`
//! Upstream: k8s.io/mount-utils, pkg/volume/util/hostutil (MakeRShared), pkg/volume/emptydir (setupTmpfs)

use std::ffi::{CString, OsString};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use crate::HostRoot;

/// Why a mount operation failed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The table cannot be read, so nothing is known about mounts.
    #[error("cannot read the mount table {}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It is in use (EBUSY).
    #[error("cannot unmount {}: it is in use", .0.display())]
    Busy(PathBuf),
    /// A system call failed.
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

/// One line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Id of the mount.
    pub id: u64,
    /// Id of the mount that it is mounted on.
    pub parent: u64,
    /// `major:minor`.
    pub device: String,
    /// The mounted directory of the file system.
    pub root: PathBuf,
    /// The mount point, as the host names it.
    pub mount_point: PathBuf,
    /// Mount options.
    pub options: Vec<String>,
    /// Propagation tags such as `shared:5`.
    pub tags: Vec<String>,
    /// The type of the file system.
    pub filesystem: String,
    /// The mounted device or source.
    pub source: OsString,
    /// Options of the file system.
    pub super_options: Vec<String>,
}

impl Mount {
    /// Whether mounts below it propagate to its peers.
    pub fn is_shared(&self) -> bool {
        self.tags.iter().any(|tag| tag.starts_with("shared:"))
    }
}

/// The options of a tmpfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TmpfsOptions {
    /// The size limit; the kernel's default (half of the memory) if absent.
    pub size_bytes: Option<u64>,
    /// The mode of its root directory.
    pub mode: u32,
    /// Keeps its pages out of swap. Used if the kernel supports it (6.4), otherwise ignored.
    pub no_swap: bool,
}

/// What an unmount may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmount {
    /// Fail with [`MountError::Busy`] if it is in use.
    Plain,
    /// If it is in use, detach it now and let the kernel unmount it after the last user (MNT_DETACH).
    DetachIfBusy,
}

fn table_path(root: &HostRoot) -> PathBuf {
    // The thread's own table: threads of one process may have different mount namespaces, and tests use that.
    root.join(if root.is_stand_in() {
        "/proc/self/mountinfo"
    } else {
        "/proc/thread-self/mountinfo"
    })
}

/// The mount table, in the order of mounting.
///
/// # Errors
/// [`MountError::Table`]. A line of unknown form is an error, too, since overlooking a mount could cost data.
pub fn mount_table(root: &HostRoot) -> Result<Vec<Mount>, MountError> {
    let path = table_path(root);
    let error = |source| MountError::Table {
        path: path.clone(),
        source,
    };
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(missing) if root.is_stand_in() && missing.kind() == ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(error(source)),
    };
    let lines = text
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .map(|line| {
            parse_line(line).ok_or_else(|| {
                let line = String::from_utf8_lossy(line);
                error(io::Error::new(
                    ErrorKind::InvalidData,
                    format!("unknown form: {line}"),
                ))
            })
        })
        .collect()
}

/// One line of `/proc/<pid>/mountinfo`, see proc_pid_mountinfo(5).
pub fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|&byte| byte == b' ');
    let mut word = || words.next();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let list = |bytes: &[u8]| {
        text(bytes)
            .split(',')
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let id = text(word()?).parse().ok()?;
    let parent = text(word()?).parse().ok()?;
    let device = text(word()?);
    let root = unescape(word()?).into();
    let mount_point = unescape(word()?).into();
    let options = list(word()?);
    let mut tags = Vec::new();
    loop {
        match word()? {
            b"-" => break,
            tag => tags.push(text(tag)),
        }
    }
    let filesystem = text(word()?);
    let source = unescape(word()?);
    let super_options = list(word()?);
    Some(Mount {
        id,
        parent,
        device,
        root,
        mount_point,
        options,
        tags,
        filesystem,
        source,
        super_options,
    })
}

/// The kernel escapes space, tab, newline, backslash and `#` as three octal digits.
fn unescape(word: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|digits| {
                byte == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit))
            })
            .and_then(|digits| {
                u8::try_from(
                    digits
                        .iter()
                        .fold(0_u32, |sum, digit| sum * 8 + u32::from(digit - b'0')),
                )
                .ok()
            });
        out.push(octal.unwrap_or(byte));
        rest = &after[if octal.is_some() { 3 } else { 0 }..];
    }
    OsString::from_vec(out)
}

fn escape(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    bytes
        .iter()
        .map(|byte| match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}"),
            other => char::from(*other).to_string(),
        })
        .collect()
}

/// Whether something is mounted exactly at `path` (from the table; symbolic links in the parents are followed).
///
/// # Errors
/// The table cannot be read.
pub fn is_mount_point(root: &HostRoot, path: &Path) -> Result<bool, MountError> {
    let name = host_name(root, path);
    Ok(mount_table(root)?
        .iter()
        .any(|mount| mount.mount_point == name))
}

/// The mount points at `path` and below it, deepest and latest first: the order in which to unmount them.
///
/// # Errors
/// The table cannot be read.
pub fn mounts_at_or_below(root: &HostRoot, path: &Path) -> Result<Vec<PathBuf>, MountError> {
    let name = host_name(root, path);
    let mut found: Vec<_> = mount_table(root)?
        .into_iter()
        .map(|mount| mount.mount_point)
        .filter(|at| at.starts_with(&name))
        .collect();
    found.reverse();
    found.sort_by_key(|at| std::cmp::Reverse(at.components().count()));
    Ok(found.into_iter().map(|at| root.join(at)).collect())
}

/// The path as the mount table names it. Only the parents are resolved, since the last component may hang.
fn host_name(root: &HostRoot, path: &Path) -> PathBuf {
    let resolved = match (
        path.parent().and_then(|parent| parent.canonicalize().ok()),
        path.file_name(),
    ) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    };
    root.host_name_of(&resolved).into_owned()
}

/// Mounts a tmpfs on the existing directory `target`.
///
/// # Errors
/// ELOOP if `target` is a symbolic link.
pub fn mount_tmpfs(
    root: &HostRoot,
    target: &Path,
    options: &TmpfsOptions,
) -> Result<(), MountError> {
    let mut text = format!("mode={:o}", options.mode);
    if let Some(size) = options.size_bytes {
        text += &format!(",size={size}");
    }
    if options.no_swap && kernel_is_at_least(6, 4) {
        text += ",noswap";
    }
    if root.is_stand_in() {
        return stand_in::mount(root, target, "tmpfs", "tmpfs", &text);
    }
    let fd = open_target(target)?;
    let text = CString::new(text).expect("no zero byte in numbers and option names");
    rustix::mount::mount(
        "tmpfs",
        through(fd.as_fd()),
        "tmpfs",
        MountFlags::empty(),
        text.as_c_str(),
    )
    .map_err(|errno| failure("mount tmpfs on", target, errno))
}

/// Bind-mounts the tree `source` at `target`, with the mounts below it. Both exist; links in `source` are followed.
///
/// # Errors
/// ELOOP if `target` is a symbolic link.
pub fn bind(root: &HostRoot, source: &Path, target: &Path) -> Result<(), MountError> {
    if root.is_stand_in() {
        let source = root.host_name_of(source).display().to_string();
        return stand_in::mount(root, target, "none", &source, "bind");
    }
    let from = rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failure("open", source, errno))?;
    let fd = open_target(target)?;
    rustix::mount::mount_bind_recursive(through(from.as_fd()), through(fd.as_fd()))
        .map_err(|errno| failure("bind to", target, errno))
}

/// Bind-mounts an open file or directory at `target`, without the mounts below it. `source` is its name in messages and in a
/// stand-in's table.
///
/// # Errors
/// ELOOP if `target` is a symbolic link.
pub fn bind_opened(
    root: &HostRoot,
    opened: BorrowedFd<'_>,
    source: &Path,
    target: &Path,
) -> Result<(), MountError> {
    if root.is_stand_in() {
        let source = root.host_name_of(source).display().to_string();
        return stand_in::mount(root, target, "none", &source, "bind");
    }
    let fd = open_target(target)?;
    rustix::mount::mount_bind(through(opened), through(fd.as_fd()))
        .map_err(|errno| failure("bind to", target, errno))
}

/// Unmounts the last mount at `target`. It is not an error if nothing is mounted there.
///
/// # Errors
/// [`MountError::Busy`], unless `how` allows detaching.
pub fn unmount(root: &HostRoot, target: &Path, how: Unmount) -> Result<(), MountError> {
    if root.is_stand_in() {
        return stand_in::unmount(root, target);
    }
    match rustix::mount::unmount(target, UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        // EINVAL means "not a mount point" (or locked by another namespace); the table decides.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT)
            if !is_mount_point(root, target)? =>
        {
            Ok(())
        }
        Err(rustix::io::Errno::BUSY) if how == Unmount::DetachIfBusy => {
            rustix::mount::unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
                .map_err(|errno| failure("detach", target, errno))
        }
        Err(rustix::io::Errno::BUSY) => Err(MountError::Busy(target.to_owned())),
        Err(errno) => Err(failure("unmount", target, errno)),
    }
}

/// Makes the mount of `directory` shared, so that mounts below it propagate to containers that mount it, and back. Does nothing
/// if it is shared already; otherwise bind-mounts the directory on itself.
///
/// # Errors
/// The table cannot be read, or the system call failed.
pub fn make_shared(root: &HostRoot, directory: &Path) -> Result<(), MountError> {
    if root.is_stand_in() {
        return Ok(());
    }
    let resolved = directory.canonicalize().map_err(|source| {
        let path = directory.to_owned();
        MountError::Io {
            operation: "resolve",
            path,
            source,
        }
    })?;
    let table = mount_table(root)?;
    // The deepest one, and at the same mount point the last one.
    let holder = table
        .iter()
        .filter(|mount| resolved.starts_with(&mount.mount_point))
        .max_by_key(|mount| mount.mount_point.components().count());
    if holder.is_some_and(Mount::is_shared) {
        return Ok(());
    }
    rustix::mount::mount_bind(&resolved, &resolved)
        .map_err(|errno| failure("bind on itself", directory, errno))?;
    let flags = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    rustix::mount::mount_change(&resolved, flags)
        .map_err(|errno| failure("make shared", directory, errno))
}

/// Whether the running kernel has at least this version.
pub fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|digits| digits.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

fn open_target(target: &Path) -> Result<OwnedFd, MountError> {
    let fd = rustix::fs::open(
        target,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| failure("open", target, errno))?;
    let stat = rustix::fs::fstat(&fd).map_err(|errno| failure("stat", target, errno))?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink() {
        return Err(failure(
            "mount on the symbolic link",
            target,
            rustix::io::Errno::LOOP,
        ));
    }
    Ok(fd)
}

/// A name for the descriptor's file, which cannot be swapped in between.
fn through(fd: BorrowedFd<'_>) -> String {
    format!("/proc/thread-self/fd/{}", fd.as_raw_fd())
}

fn failure(operation: &'static str, path: &Path, errno: rustix::io::Errno) -> MountError {
    MountError::Io {
        operation,
        path: path.to_owned(),
        source: errno.into(),
    }
}

/// Mounts under a stand-in root: lines in its table file.
mod stand_in {
    use super::{HostRoot, MountError, Path, PathBuf, escape, host_name, mount_table, table_path};
    use crate::files::{Durability, FileError, create_dir_all, write_atomically};

    pub(super) fn mount(
        root: &HostRoot,
        target: &Path,
        filesystem: &str,
        source: &str,
        options: &str,
    ) -> Result<(), MountError> {
        if let Err(source) = std::fs::metadata(target) {
            return Err(MountError::Io {
                operation: "mount on",
                path: target.to_owned(),
                source,
            });
        }
        let mut lines = lines(root)?;
        let id = mount_table(root)?
            .iter()
            .map(|mount| mount.id)
            .max()
            .unwrap_or(0)
            + 1;
        let at = escape(&host_name(root, target));
        lines.push(format!(
            "{id} 0 0:{id} / {at} rw - {filesystem} {} rw,{options}",
            escape(Path::new(source))
        ));
        write(root, &lines)
    }

    /// Also empties the directory of a tmpfs, as unmounting one would.
    pub(super) fn unmount(root: &HostRoot, target: &Path) -> Result<(), MountError> {
        let at = host_name(root, target);
        let table = mount_table(root)?;
        let Some(index) = table.iter().rposition(|mount| mount.mount_point == at) else {
            return Ok(());
        };
        if table
            .iter()
            .any(|mount| mount.mount_point != at && mount.mount_point.starts_with(&at))
        {
            return Err(MountError::Busy(target.to_owned()));
        }
        if table[index].filesystem == "tmpfs" {
            let emptied =
                std::fs::remove_dir_all(target).and_then(|()| std::fs::create_dir(target));
            emptied.map_err(|source| MountError::Io {
                operation: "empty",
                path: target.to_owned(),
                source,
            })?;
        }
        let mut lines = lines(root)?;
        lines.remove(index);
        write(root, &lines)
    }

    fn lines(root: &HostRoot) -> Result<Vec<String>, MountError> {
        match std::fs::read_to_string(table_path(root)) {
            Ok(text) => Ok(text
                .lines()
                .filter(|line| !line.is_empty())
                .map(str::to_owned)
                .collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(MountError::Table {
                path: table_path(root),
                source,
            }),
        }
    }

    fn write(root: &HostRoot, lines: &[String]) -> Result<(), MountError> {
        let path: PathBuf = table_path(root);
        let text: String = lines
            .iter()
            .flat_map(|line| [line.as_str(), "\n"])
            .collect();
        let written = create_dir_all(path.parent().unwrap_or(Path::new("/")), 0o755)
            .and_then(|()| write_atomically(&path, text.as_bytes(), 0o444, Durability::Process));
        written.map_err(|error| {
            let source = match error {
                FileError::Io { source, .. } | FileError::NoSpace { source, .. } => source,
                other => std::io::Error::other(other),
            };
            MountError::Table { path, source }
        })
    }
}

#[cfg(test)]
mod tests;
