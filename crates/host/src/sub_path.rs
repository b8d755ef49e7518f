//! Mounts a subPath of a volume on its own, so that a container that writes the volume cannot reach other files of the host.
//!
//! In:    the volume's path, the subPath, the mount target
//! Out:   the subPath, created if it is missing, bind-mounted at `ROOT/pods/UID/volume-subpaths/VOLUME/CONTAINER/INDEX`
//! Calls: the work before a container's start; the end of a pod
//! Holds: from the volume on, each component is opened relative to the one before; a link is read and resolved here, and one
//!        that leads out of the volume is never followed; the opened file is what is mounted, so swapping it in between has no
//!        effect
//! Upstream: pkg/volume/util/subpath/subpath_linux.go; differences: none

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::HostRoot;
use crate::beneath::{Found, Mounts, NotFound, find_below, open_directory, path_of};
use crate::files::{FileError, create_dir_all};
use crate::mounts::{
    MountError, Unmount, bind_opened, is_mount_point, mounts_at_or_below, unmount,
};

#[cfg(test)]
mod tests;

/// Why a subPath could not be mounted. Users see which step failed, but nothing about the host's files.
#[derive(Debug, thiserror::Error)]
pub enum SubPathError {
    /// Its directory could not be created.
    #[error("cannot create the directory")]
    Create(#[source] Cause),
    /// It could not be opened or mounted.
    #[error("cannot prepare the mount")]
    Prepare(#[source] Cause),
}

/// The cause, for the log.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// A file operation.
    #[error(transparent)]
    File(#[from] FileError),
    /// A mount.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// It leads out of the volume, or to nothing.
    #[error("{} below the volume {}: {why}", part.display(), volume.display())]
    Lost {
        /// The subPath.
        part: PathBuf,
        /// The volume.
        volume: PathBuf,
        /// The reason.
        why: NotFound,
    },
}

impl SubPathError {
    /// Whether another file system is in the path and was not entered.
    pub fn is_foreign(&self) -> bool {
        let (Self::Create(cause) | Self::Prepare(cause)) = self;
        matches!(
            cause,
            Cause::Lost {
                why: NotFound::Foreign,
                ..
            }
        )
    }
}

/// Mounts `part` of `volume` at `target`, unless it is mounted there already. Unless [`Mounts::Passed`] is given, only the
/// volume's own file system is entered.
///
/// # Errors
/// Nothing but the subPath is ever mounted at `target`.
pub fn prepare(
    root: &HostRoot,
    volume: &Path,
    part: &Path,
    target: &Path,
    mounts: Mounts,
) -> Result<(), SubPathError> {
    let failed = |error| Cause::from(FileError::new("open", volume, error));
    let base = open_directory(volume)
        .map_err(failed)
        .map_err(SubPathError::Prepare)?;
    let base_path = path_of(&base)
        .map_err(failed)
        .map_err(SubPathError::Prepare)?;
    let found = find_below(&base, [&base_path, volume], part, mounts).map_err(|why| {
        let is_to_make = matches!(
            why,
            NotFound::Dangling | NotFound::Outside { is_end: false }
        );
        let cause = Cause::Lost {
            part: part.to_owned(),
            volume: volume.to_owned(),
            why,
        };
        if is_to_make {
            SubPathError::Create(cause)
        } else {
            SubPathError::Prepare(cause)
        }
    })?;
    let opened = if found.missing.as_os_str().is_empty() {
        found.at
    } else {
        make(&base, found, volume).map_err(SubPathError::Create)?
    };
    mount(root, (&opened, &base_path), target).map_err(SubPathError::Prepare)
}

/// Creates the missing directories with the volume's own mode; returns the last one, open.
fn make(base: &OwnedFd, found: Found, volume: &Path) -> Result<OwnedFd, Cause> {
    let failed = |operation, name: &Path| {
        let path = volume.join(name);
        move |errno: Errno| Cause::from(FileError::new(operation, &path, errno))
    };
    let stat = rustix::fs::fstat(base).map_err(failed("stat", Path::new("")))?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    let mut fd = found.at;
    for name in found.missing.iter().map(Path::new) {
        rustix::fs::mkdirat(&fd, name, mode & Mode::from_raw_mode(0o777))
            .map_err(failed("create directory", name))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fd = rustix::fs::openat(&fd, name, flags, Mode::empty()).map_err(failed("open", name))?;
        rustix::fs::fchmod(&fd, mode).map_err(failed("set the mode of", name))?;
    }
    Ok(fd)
}

fn mount(
    root: &HostRoot,
    (opened, base_path): (&OwnedFd, &Path),
    target: &Path,
) -> Result<(), Cause> {
    let failed = |errno: Errno| Cause::from(FileError::new("stat", target, errno));
    let part = rustix::fs::fstat(opened).map_err(failed)?;
    if is_mount_point(root, target)? {
        if shown_at(target).is_some_and(|shown| is_same(&shown, &part)) {
            return Ok(());
        }
        unmount(root, target, Unmount::Plain)?;
    }
    if let Some(parent) = target.parent() {
        create_dir_all(parent, 0o750)?;
    }
    make_target(target, FileType::from_raw_mode(part.st_mode).is_dir())?;
    bind_opened(root, opened.as_fd(), base_path, target)?;
    Ok(())
}

/// A directory for a directory, an empty file for anything else.
fn make_target(target: &Path, is_directory: bool) -> Result<(), FileError> {
    let made = if is_directory {
        std::fs::create_dir(target)
    } else {
        std::fs::File::options()
            .write(true)
            .create_new(true)
            .open(target)
            .map(drop)
    };
    match made {
        Ok(()) => crate::files::set_mode(target, if is_directory { 0o750 } else { 0o640 }),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let found = std::fs::symlink_metadata(target)
                .map_err(|error| FileError::new("stat", target, error))?;
            if found.is_dir() == is_directory && !found.is_symlink() {
                return Ok(());
            }
            // The subPath was of another type when it was last mounted here.
            let removed = if found.is_dir() {
                std::fs::remove_dir(target)
            } else {
                std::fs::remove_file(target)
            };
            removed.map_err(|error| FileError::new("remove", target, error))?;
            make_target(target, is_directory)
        }
        Err(error) => Err(FileError::new("create", target, error)),
    }
}

fn shown_at(target: &Path) -> Option<Stat> {
    rustix::fs::lstat(target).ok()
}

fn is_same(one: &Stat, two: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino)
}

/// Unmounts all subPaths of a pod's volumes.
///
/// # Errors
/// The first one that is in use.
pub fn unmount_parts(root: &HostRoot, pod_dir: &Path) -> Result<(), Cause> {
    let all = pod_dir.join("volume-subpaths");
    match all.symlink_metadata() {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FileError::new("stat", &all, error).into()),
    }
    // VOLUME/CONTAINER/INDEX; deeper mounts belong to what is mounted there and go with it.
    let is_part = |mounted: &PathBuf| {
        let below = mounted.strip_prefix(&all);
        below.is_ok_and(|below| below.components().count() == 3)
    };
    for mounted in mounts_at_or_below(root, &all)?.into_iter().filter(is_part) {
        unmount(root, &mounted, Unmount::DetachIfBusy)?;
    }
    Ok(())
}
