//! Applies a pod's fsGroup to a volume.
//!
//! In:    the volume's directory, the group, whether containers may write it, when every file is checked
//! Out:   group and permission bits below it; the first file that could not be changed, which does not stop the others
//! Calls: the work of volumes, when an emptyDir is set up and before new files of a payload become visible
//! Holds: uses descriptors and follows no symbolic link: the target of a link keeps owner and mode; a directory is changed
//!        after its contents, so that its own state shows whether everything below is done
//! Upstream: pkg/volume/volume_linux.go (NewVolumeOwnership, changeFilePermission, requiresPermissionChange); differences: none

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::files::FileError;

const SET_GROUP_ID: u32 = 0o2000;

/// Whether containers may write the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The group gets read permission.
    ReadOnly,
    /// The group gets read and write permission.
    ReadWrite,
}

impl Access {
    fn bits(self) -> u32 {
        match self {
            Self::ReadOnly => 0o440,
            Self::ReadWrite => 0o660,
        }
    }
}

/// When every file is checked: `fsGroupChangePolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangePolicy {
    /// Always.
    Always,
    /// Only if the top directory does not have the wanted group and permissions.
    OnRootMismatch,
}

/// Gives everything at and below `path` to `group`.
///
/// # Errors
/// The first directory that could not be read. A file that could not be changed is in the result instead, as upstream logs it
/// and goes on.
pub fn set_group(
    path: &Path,
    group: u32,
    access: Access,
    policy: ChangePolicy,
) -> Result<Option<FileError>, FileError> {
    let failed = |errno| FileError::new("open", path, errno);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(failed)?;
    let stat = rustix::fs::fstat(&top).map_err(failed)?;
    if policy == ChangePolicy::OnRootMismatch && is_as_wanted(&stat, group, access) {
        return Ok(None);
    }
    let mut walk = Walk {
        group,
        access,
        unchanged: None,
    };
    walk.below(&top, path)?;
    walk.change(&top, &stat, path);
    Ok(walk.unchanged)
}

/// Whether the top directory has the group, at least the permissions, and the setgid bit.
fn is_as_wanted(stat: &Stat, group: u32, access: Access) -> bool {
    let wanted = access.bits() | 0o110 | SET_GROUP_ID;
    FileType::from_raw_mode(stat.st_mode).is_dir()
        && stat.st_gid == group
        && stat.st_mode & wanted == wanted
}

struct Walk {
    group: u32,
    access: Access,
    unchanged: Option<FileError>,
}

/// A directory during the walk.
struct Level {
    entries: Dir,
    fd: OwnedFd,
    path: PathBuf,
}

impl Level {
    fn open(fd: OwnedFd, path: PathBuf) -> Result<Self, FileError> {
        let entries = Dir::read_from(&fd).map_err(|errno| FileError::new("read", &path, errno))?;
        Ok(Self { entries, fd, path })
    }
}

impl Walk {
    /// Changes everything in a directory, deepest first. The walk keeps its position in a list, not on the stack.
    fn below(&mut self, top: &OwnedFd, path: &Path) -> Result<(), FileError> {
        let top = top
            .try_clone()
            .map_err(|error| FileError::new("open", path, error))?;
        let mut levels = vec![Level::open(top, path.to_owned())?];
        while let Some(level) = levels.last_mut() {
            let Some(entry) = level.entries.read() else {
                let done = levels.pop();
                // The caller changes the top directory itself.
                if let Some(done) = done.filter(|_| !levels.is_empty())
                    && let Ok(stat) = rustix::fs::fstat(&done.fd)
                {
                    self.change(&done.fd, &stat, &done.path);
                }
                continue;
            };
            let entry = entry.map_err(|errno| FileError::new("read", &level.path, errno))?;
            let name = entry.file_name().to_owned();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if let Some(inner) = self.enter(level, name)? {
                levels.push(inner);
            }
        }
        Ok(())
    }

    /// Opens an entry if it is a directory, otherwise changes it.
    fn enter(&mut self, level: &Level, name: CString) -> Result<Option<Level>, FileError> {
        let path = level
            .path
            .join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&level.fd, &name, flags, Mode::empty()) {
            Ok(fd) => return Level::open(fd, path).map(Some),
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            // Removed meanwhile.
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(FileError::new("open", &path, errno)),
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&level.fd, &name, flags, Mode::empty())
            .and_then(|fd| rustix::fs::fstat(&fd).map(|stat| (fd, stat)));
        match opened {
            Ok((fd, stat)) => self.change(&fd, &stat, &path),
            Err(errno) => self.note("open", &path, errno),
        }
        Ok(None)
    }

    fn change(&mut self, fd: &OwnedFd, stat: &Stat, path: &Path) {
        let group = Some(Gid::from_raw(self.group));
        let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
        if let Err(errno) = rustix::fs::chownat(fd.as_fd(), "", None, group, flags) {
            self.note("set the group of", path, errno);
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind.is_symlink() {
            return;
        }
        let mut mode = (stat.st_mode & 0o7777) | self.access.bits();
        if kind.is_dir() {
            mode |= SET_GROUP_ID | 0o110;
        }
        // An `O_PATH` descriptor does not support fchmod; its name under /proc does.
        let name = format!("/proc/thread-self/fd/{}", fd.as_raw_fd());
        if let Err(errno) = rustix::fs::chmodat(
            CWD,
            name.as_str(),
            Mode::from_raw_mode(mode),
            AtFlags::empty(),
        ) {
            self.note("set the mode of", path, errno);
        }
    }

    fn note(&mut self, operation: &'static str, path: &Path, errno: Errno) {
        self.unchanged
            .get_or_insert_with(|| FileError::new(operation, path, errno));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;
    use crate::testing::TestDir;

    fn looks(path: &Path) -> (u32, u32) {
        let found = path.symlink_metadata().unwrap();
        (found.mode() & 0o7777, found.gid())
    }

    fn tree(dir: &TestDir) -> PathBuf {
        let top = dir.path().join("volume");
        std::fs::create_dir_all(top.join("a/b")).unwrap();
        let set = |path: &str, mode| {
            std::fs::set_permissions(top.join(path), std::fs::Permissions::from_mode(mode))
                .unwrap();
        };
        std::fs::write(top.join("a/secret"), "x").unwrap();
        std::fs::write(dir.path().join("outside"), "x").unwrap();
        symlink(dir.path().join("outside"), top.join("a/link")).unwrap();
        for (path, mode) in [
            ("a/secret", 0o600),
            ("a/b", 0o700),
            ("a", 0o755),
            ("", 0o777),
        ] {
            set(path, mode);
        }
        std::fs::set_permissions(
            dir.path().join("outside"),
            std::fs::Permissions::from_mode(0o600),
        )
        .unwrap();
        top
    }

    #[test]
    fn bits_are_added_as_upstream_adds_them_and_links_are_not_followed() {
        let is_root = rustix::process::geteuid().is_root();
        let group = if is_root {
            4711
        } else {
            rustix::process::getegid().as_raw()
        };
        for (access, secret, inner, top_mode) in [
            (Access::ReadOnly, 0o640, 0o2750, 0o2777),
            (Access::ReadWrite, 0o660, 0o2770, 0o2777),
        ] {
            let dir = TestDir::new();
            let top = tree(&dir);
            let unchanged = set_group(&top, group, access, ChangePolicy::Always).unwrap();
            assert!(unchanged.is_none(), "{unchanged:?}");
            assert_eq!(looks(&top.join("a/secret")), (secret, group));
            assert_eq!(looks(&top.join("a/b")), (inner, group));
            assert_eq!(looks(&top), (top_mode, group));
            assert_eq!(looks(&top.join("a/link")).1, group);
            let outside = looks(&dir.path().join("outside"));
            assert_eq!(outside.0, 0o600);
            assert!(!is_root || outside.1 != group);
        }
    }

    #[test]
    fn a_top_directory_that_fits_spares_the_rest_when_asked_to() {
        let dir = TestDir::new();
        let top = tree(&dir);
        let group = rustix::process::getegid().as_raw();
        let mode =
            |mode| std::fs::set_permissions(&top, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o2775);
        let policy = ChangePolicy::OnRootMismatch;
        std::fs::set_permissions(top.join("a"), std::fs::Permissions::from_mode(0o755)).unwrap();
        set_group(&top, group, Access::ReadWrite, policy).unwrap();
        assert_eq!(looks(&top.join("a")).0, 0o755);
        for other in [0o775, 0o2750] {
            mode(other);
            set_group(&top, group, Access::ReadWrite, policy).unwrap();
            assert_eq!(looks(&top.join("a")).0, 0o2775);
            std::fs::set_permissions(top.join("a"), std::fs::Permissions::from_mode(0o755))
                .unwrap();
        }
    }
}
