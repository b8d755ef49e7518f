//! Removal of directory trees that containers could write to.
//!
//! In:    a path made by `HostRoot::join`; the decision to remove it was taken elsewhere, with evidence
//! Out:   the tree is gone, or an error names what stopped it
//! Calls: volumes and garbage collection
//! Holds: never crosses a mount (looked up in the table before the first unlink, and refused by the kernel during
//!        the walk), never follows a symbolic link, works by descriptors so that a renamed directory cannot lead
//!        elsewhere, and uses bounded stack and descriptors however deep the tree is
//! Upstream: pkg/util/removeall (RemoveAllOneFilesystem), pkg/volume/util

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, OFlags, renameat, unlinkat};
use rustix::io::Errno;

use crate::HostRoot;
use crate::files::{FileError, open_beneath};
use crate::mounts::mounts_at_or_below;

/// Directories deeper than this are moved to the top of the tree first, so that the walk stays shallow.
const MAX_DEPTH: usize = 64;
const MAX_PASSES_IN_VAIN: u32 = 8;

/// Removes `path` and all below it. Nothing there is success. The last part of `path` may be a file or a link,
/// which is removed itself.
///
/// # Errors
/// [`FileError::Mounted`] before anything was removed, if something is mounted at or below it.
pub fn remove_tree(root: &HostRoot, path: &Path) -> Result<(), FileError> {
    let mounts = mounts_at_or_below(root, path)
        .map_err(|error| FileError::new("look for mounts below", path, io::Error::other(error)))?;
    if let Some(mount) = mounts.into_iter().next() {
        return Err(FileError::Mounted {
            path: path.to_owned(),
            mount,
        });
    }
    let (parent, name) = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => (parent, CString::new(name.as_bytes())),
        _ => {
            return Err(FileError::new(
                "remove",
                path,
                io::Error::from(io::ErrorKind::InvalidInput),
            ));
        }
    };
    let name = name.map_err(|error| FileError::new("remove", path, io::Error::from(error)))?;
    let parent = match File::open(parent) {
        Ok(parent) => parent,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FileError::new("open", parent, error)),
    };
    // A mount made since the table was read (or in another namespace) is found here.
    remove_beneath(parent.as_fd(), &name, path)
}

/// Removes what `name` is in the open directory `parent`, with all below it; `path` is what errors call it.
pub(crate) fn remove_beneath(
    parent: BorrowedFd<'_>,
    name: &CStr,
    path: &Path,
) -> Result<(), FileError> {
    remove_entry(parent, name, path).map_err(|(at, errno)| match errno {
        Errno::XDEV | Errno::BUSY => FileError::Mounted {
            path: path.to_owned(),
            mount: at,
        },
        errno => FileError::new("remove", &at, errno),
    })
}

/// Removes `path` if it is an empty directory; false when it is not empty. Nothing there is success.
///
/// # Errors
/// [`FileError::NotADirectory`] for anything else.
pub fn remove_empty_directory(path: &Path) -> Result<bool, FileError> {
    match rustix::fs::rmdir(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(Errno::NOTDIR) => Err(FileError::NotADirectory(path.to_owned())),
        Err(Errno::BUSY) => Err(FileError::Mounted {
            path: path.to_owned(),
            mount: path.to_owned(),
        }),
        Err(errno) => Err(FileError::new("remove", path, errno)),
    }
}

type Failed = (std::path::PathBuf, Errno);

fn remove_entry(parent: BorrowedFd<'_>, name: &CStr, path: &Path) -> Result<(), Failed> {
    let at = |errno| (path.to_owned(), errno);
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(at(errno)),
    }
    let top = open_directory(parent, name)
        .map_err(not_permitted)
        .map_err(at)?;
    let mut walk = Walk { top, next_name: 0 };
    // Directories moved up land in the top directory: look again until a pass finds nothing. Who keeps writing, or
    // a server that only renames open files (NFS), must not keep this here for ever.
    let mut passes_in_vain = 0;
    loop {
        let moved_before = walk.next_name;
        if !walk.empty_once(path)? {
            break;
        }
        passes_in_vain = if walk.next_name == moved_before {
            passes_in_vain + 1
        } else {
            0
        };
        if passes_in_vain > MAX_PASSES_IN_VAIN {
            return Err(at(Errno::NOTEMPTY));
        }
    }
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(at(errno)),
    }
}

struct Walk {
    top: OwnedFd,
    next_name: u64,
}

struct Level {
    directory: Dir,
    fd: OwnedFd,
    /// In the level above; empty for the top.
    name: CString,
}

impl Walk {
    /// One walk through the tree; true when it found anything to remove.
    fn empty_once(&mut self, path: &Path) -> Result<bool, Failed> {
        let mut found = false;
        let top = self
            .top
            .try_clone()
            .map_err(|_| (path.to_owned(), Errno::MFILE))?;
        let mut levels =
            vec![Level::open(top, CString::default()).map_err(|errno| (path.to_owned(), errno))?];
        while let Some(level) = levels.last_mut() {
            let Some(entry) = level.directory.read() else {
                let Some(done) = levels.pop() else { break };
                let Some(above) = levels.last() else { break };
                match unlinkat(&above.fd, &done.name, AtFlags::REMOVEDIR) {
                    // Not empty: someone still writes there, or the listing missed what moved; the next pass sees.
                    Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => {}
                    Err(errno) => return Err((place(path, &levels, &done.name), errno)),
                }
                continue;
            };
            let entry = entry.map_err(|errno| (place(path, &levels, c""), errno))?;
            let name = entry.file_name().to_owned();
            if name.as_bytes() == b"." || name.as_bytes() == b".." {
                continue;
            }
            found = true;
            self.remove_below(&mut levels, entry.file_type(), name, path)?;
        }
        Ok(found)
    }

    fn remove_below(
        &mut self,
        levels: &mut Vec<Level>,
        kind: FileType,
        name: CString,
        path: &Path,
    ) -> Result<(), Failed> {
        let depth = levels.len();
        let Some(level) = levels.last() else {
            return Ok(());
        };
        if kind != FileType::Directory {
            match unlinkat(&level.fd, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                // It is a directory after all (kinds are not known everywhere).
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(errno) => return Err((place(path, levels, &name), errno)),
            }
        }
        if depth >= MAX_DEPTH {
            return self
                .move_up(&level.fd, &name)
                .map_err(|errno| (place(path, levels, &name), errno));
        }
        let opened = open_directory(level.fd.as_fd(), &name)
            .map_err(not_permitted)
            .and_then(|fd| Level::open(fd, name.clone()));
        match opened {
            Ok(below) => levels.push(below),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err((place(path, levels, &name), errno)),
        }
        Ok(())
    }

    fn move_up(&mut self, from: &OwnedFd, name: &CStr) -> Result<(), Errno> {
        loop {
            self.next_name += 1;
            match renameat(
                from,
                name,
                &self.top,
                format!(".removing-{}", self.next_name),
            ) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR | Errno::ISDIR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl Level {
    fn open(fd: OwnedFd, name: CString) -> Result<Self, Errno> {
        let directory = Dir::read_from(&fd)?;
        Ok(Self {
            directory,
            fd,
            name,
        })
    }
}

fn place(path: &Path, levels: &[Level], name: &CStr) -> std::path::PathBuf {
    let mut place = path.to_owned();
    for name in levels
        .iter()
        .map(|level| level.name.as_c_str())
        .chain([name])
    {
        if !name.is_empty() {
            place.push(std::ffi::OsStr::from_bytes(name.to_bytes()));
        }
    }
    place
}

/// What could neither be unlinked (EPERM) nor opened as a directory is a file that may not be removed.
fn not_permitted(errno: Errno) -> Errno {
    if errno == Errno::NOTDIR {
        Errno::PERM
    } else {
        errno
    }
}

fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let name = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
    open_beneath(
        &parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
    )
    .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mounts::{TmpfsOptions, Unmount, mount_tmpfs, unmount};
    use crate::testing::TestDir;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_tree_goes_and_what_its_links_point_to_stays() {
        let dir = TestDir::new();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::write(dir.path().join("precious"), "x").unwrap();
        std::fs::create_dir(dir.path().join("directory")).unwrap();
        std::fs::write(dir.path().join("directory/precious"), "x").unwrap();
        symlink(dir.path().join("precious"), tree.join("a/link")).unwrap();
        symlink(dir.path().join("directory"), tree.join("a/b/link")).unwrap();
        std::fs::write(tree.join("a/b/file"), "x").unwrap();
        remove_tree(&HostRoot::real(), &tree).unwrap();
        remove_tree(&HostRoot::real(), &tree).unwrap();
        assert!(!tree.exists());
        assert!(
            dir.path().join("precious").exists() && dir.path().join("directory/precious").exists()
        );
        symlink(dir.path().join("directory"), &tree).unwrap();
        remove_tree(&HostRoot::real(), &tree).unwrap();
        assert!(tree.symlink_metadata().is_err() && dir.path().join("directory/precious").exists());
    }

    #[test]
    fn depth_and_width_do_not_matter() {
        let dir = TestDir::new();
        let tree = dir.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        for n in 0..400 {
            std::fs::write(tree.join(format!("file-{n}")), "").unwrap();
        }
        let mut at: OwnedFd = File::open(&tree).unwrap().into();
        for _ in 0..400 {
            rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::RWXU).unwrap();
            at = open_directory(at.as_fd(), c"d").unwrap();
        }
        drop(at);
        remove_tree(&HostRoot::real(), &tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn nothing_is_removed_when_something_is_mounted_below() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = TestDir::new();
        let (root, tree) = (HostRoot::real(), dir.path().join("tree"));
        let mount = tree.join("a/mount");
        std::fs::create_dir_all(&mount).unwrap();
        std::fs::write(tree.join("file"), "x").unwrap();
        let options = TmpfsOptions {
            size_bytes: Some(1 << 20),
            mode: 0o755,
            no_swap: false,
        };
        mount_tmpfs(&root, &mount, &options).unwrap();
        std::fs::write(mount.join("precious"), "x").unwrap();
        let error = remove_tree(&root, &tree).unwrap_err();
        // The kernel alone would have stopped at the mount, too.
        let walked =
            remove_entry(File::open(dir.path()).unwrap().as_fd(), c"tree", &tree).unwrap_err();
        let kept = mount.join("precious").exists();
        unmount(&root, &mount, Unmount::Plain).unwrap();
        assert!(kept);
        assert!(matches!(error, FileError::Mounted { mount: at, .. } if at == mount));
        assert_eq!(walked, (mount, Errno::XDEV));
        remove_tree(&root, &tree).unwrap();
    }

    #[test]
    fn a_stand_in_mount_stops_the_removal_too() {
        let dir = TestDir::new();
        let root = HostRoot::at(dir.path());
        let mount = root.join("/pods/a/mount");
        std::fs::create_dir_all(&mount).unwrap();
        let options = TmpfsOptions {
            size_bytes: None,
            mode: 0o755,
            no_swap: false,
        };
        mount_tmpfs(&root, &mount, &options).unwrap();
        let error = remove_tree(&root, &root.join("/pods/a")).unwrap_err();
        assert!(matches!(error, FileError::Mounted { mount: at, .. } if at == mount));
        unmount(&root, &mount, Unmount::Plain).unwrap();
        remove_tree(&root, &root.join("/pods/a")).unwrap();
    }

    #[test]
    fn only_empty_directories_go_without_their_content() {
        let dir = TestDir::new();
        let inner = dir.path().join("outer/inner");
        std::fs::create_dir_all(&inner).unwrap();
        assert!(!remove_empty_directory(&dir.path().join("outer")).unwrap());
        assert!(remove_empty_directory(&inner).unwrap());
        assert!(remove_empty_directory(&inner).unwrap());
        std::fs::write(&inner, "").unwrap();
        assert!(matches!(
            remove_empty_directory(&inner),
            Err(FileError::NotADirectory(_))
        ));
    }
}
