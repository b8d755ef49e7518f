//! Part of a volume as a mount of its own, so that a container that writes the volume can not show itself the host.
//!
//! In:    the volume's path, the part below it, where the part is to be mounted
//! Out:   the part, made where nothing is, bound at `ROOT/pods/UID/volume-subpaths/VOLUME/CONTAINER/INDEX`
//! Calls: the work before a container's start; the end of a pod
//! Holds: links are resolved first and the result must lie in the volume; then every step from the volume on is opened without
//!        following links, and what was opened is what is mounted: a swap in between leads nowhere
//! Upstream: pkg/volume/util/subpath/subpath_linux.go; differences: none

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::HostRoot;
use crate::beneath::{Mounts, open_below};
use crate::files::{FileError, create_dir_all};
use crate::mounts::{
    MountError, Unmount, bind_opened, is_mount_point, mounts_at_or_below, unmount,
};

#[cfg(test)]
mod tests;

/// A part of a volume can not be had. People are told which step failed, not what the host's files are.
#[derive(Debug, thiserror::Error)]
pub enum SubPathError {
    /// Its directory could not be made.
    #[error("cannot create the directory")]
    Create(#[source] Cause),
    /// It could not be opened or mounted.
    #[error("cannot prepare the mount")]
    Prepare(#[source] Cause),
}

/// Why, for the log.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// A file operation.
    #[error(transparent)]
    File(#[from] FileError),
    /// A mount.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// It leads out of the volume.
    #[error("{} is not in the volume {}", .0.display(), .1.display())]
    Outside(PathBuf, PathBuf),
}

/// Mounts `part` of `volume` at `target`, unless it is mounted there.
///
/// # Errors
/// Nothing is mounted at `target` then that is not the part.
pub fn prepare(
    root: &HostRoot,
    volume: &Path,
    part: &Path,
    target: &Path,
) -> Result<(), SubPathError> {
    let wanted = volume.join(part);
    if matches!(std::fs::metadata(&wanted), Err(error) if error.kind() == ErrorKind::NotFound) {
        make(volume, part).map_err(SubPathError::Create)?;
    }
    mount(root, volume, &wanted, target).map_err(SubPathError::Prepare)
}

/// Makes the directories that are missing, with the volume's own mode.
fn make(volume: &Path, part: &Path) -> Result<(), Cause> {
    let base = resolve(volume)?;
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |errno: Errno| Cause::from(FileError::new(operation, &path, errno))
    };
    let mode = std::fs::metadata(&base).map_err(|error| FileError::new("stat", &base, error))?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o7777;
    let parts: Vec<_> = part.components().collect();
    // The longest beginning that exists; links in it are resolved, and must stay inside.
    let mut at = base.clone();
    let mut missing = parts.as_slice();
    while let [next, rest @ ..] = missing {
        match at.join(next).canonicalize() {
            Ok(found) => (at, missing) = (found, rest),
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            Err(error) => return Err(FileError::new("resolve", &at.join(next), error).into()),
        }
    }
    let mut fd = open_inside(&base, &at, OFlags::RDONLY | OFlags::DIRECTORY)?;
    for name in missing {
        at.push(name);
        let name: &Path = name.as_ref();
        rustix::fs::mkdirat(&fd, name, Mode::from_raw_mode(mode & 0o777))
            .map_err(failed("create directory", &at))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fd = rustix::fs::openat(&fd, name, flags, Mode::empty()).map_err(failed("open", &at))?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))
            .map_err(failed("set the mode of", &at))?;
    }
    Ok(())
}

fn mount(root: &HostRoot, volume: &Path, wanted: &Path, target: &Path) -> Result<(), Cause> {
    let base = resolve(volume)?;
    let opened = open_inside(&base, &resolve(wanted)?, OFlags::PATH)?;
    let failed = |errno: Errno| Cause::from(FileError::new("stat", wanted, errno));
    let part = rustix::fs::fstat(&opened).map_err(failed)?;
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
    bind_opened(root, opened.as_fd(), &base, target)?;
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
            // The part was of another kind when it was last mounted here.
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

fn resolve(path: &Path) -> Result<PathBuf, FileError> {
    path.canonicalize()
        .map_err(|error| FileError::new("resolve", path, error))
}

/// Opens `path`, which has no links left, from `base` on without following any; mounts on the way are passed.
fn open_inside(base: &Path, path: &Path, flags: OFlags) -> Result<OwnedFd, Cause> {
    let Ok(below) = path.strip_prefix(base) else {
        return Err(Cause::Outside(path.to_owned(), base.to_owned()));
    };
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let failed = |errno: Errno| Cause::from(FileError::new("open", path, errno));
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if below.as_os_str().is_empty() {
        return rustix::fs::open(base, flags, Mode::empty()).map_err(failed);
    }
    let base = rustix::fs::open(base, directory, Mode::empty()).map_err(failed)?;
    open_below(&base, below, flags, Mounts::Passed)
        .map_err(|error| FileError::new("open", path, error).into())
}

fn shown_at(target: &Path) -> Option<Stat> {
    rustix::fs::lstat(target).ok()
}

fn is_same(one: &Stat, two: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino)
}

/// Unmounts every part of a pod's volumes.
///
/// # Errors
/// The first that is in use.
pub fn unmount_parts(root: &HostRoot, pod_dir: &Path) -> Result<(), Cause> {
    let all = pod_dir.join("volume-subpaths");
    match all.symlink_metadata() {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FileError::new("stat", &all, error).into()),
    }
    // VOLUME/CONTAINER/INDEX; what is deeper belongs to what is mounted there and goes with it.
    let is_part = |mounted: &PathBuf| {
        let below = mounted.strip_prefix(&all);
        below.is_ok_and(|below| below.components().count() == 3)
    };
    for mounted in mounts_at_or_below(root, &all)?.into_iter().filter(is_part) {
        unmount(root, &mounted, Unmount::DetachIfBusy)?;
    }
    Ok(())
}
