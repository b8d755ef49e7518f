//! Removes directory trees that containers could write to.
//!
//! In:    a directory as it was inspected when the removal was decided, and what below it is to be removed
//! Out:   the tree is removed, or an error says what prevented it
//! Calls: the end of a pod
//! Holds: if the path now refers to something else than what was inspected, it is left alone; so is a directory that holds the
//!        files of several pods ([`Kept`]), whatever path leads there; never crosses a mount (checked in the table before the
//!        first unlink, and refused by the kernel during the walk), never follows a symbolic link, uses descriptors so that a
//!        renamed directory cannot lead elsewhere, and limits stack and descriptors however deep the tree is
//! Upstream: pkg/util/removeall (RemoveAllOneFilesystem), pkg/volume/util

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use kubelet_model::disk::FileId;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, renameat, unlinkat};
use rustix::io::Errno;

use crate::HostRoot;
use crate::beneath::open_directory;
use crate::files::{FileError, open_beneath};
use crate::mounts::mounts_at_or_below;

/// Deeper directories are moved to the top of the tree first, so that the walk stays shallow.
const MAX_DEPTH: usize = 64;
const MAX_PASSES_IN_VAIN: u32 = 8;

/// Directories that are never removed, by path and by identity: they hold the files of several pods.
#[derive(Clone, Debug, Default)]
pub struct Kept(Vec<PathBuf>);

impl Kept {
    /// Keeps these paths (made by [`HostRoot::join`]), all their parents, and the root.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(paths.into_iter().collect())
    }

    fn refuses_name(&self, path: &Path) -> bool {
        path.parent().is_none() || self.0.iter().any(|kept| kept.starts_with(path))
    }

    /// Whether this is one of them under another path. One that does not exist now cannot be it.
    fn refuses(&self, found: FileId) -> bool {
        let mut kept = self.0.iter().map(PathBuf::as_path).chain([Path::new("/")]);
        kept.any(|kept| rustix::fs::stat(kept).is_ok_and(|stat| id_of(&stat) == found))
    }
}

/// The time limit of one call. Further calls remove the rest, so that a large tree delays no other removal.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    end: Option<Instant>,
}

impl Turn {
    /// Starts now and lasts so long; each call removes at least one entry.
    pub fn of(length: Duration) -> Self {
        Self {
            end: Instant::now().checked_add(length),
        }
    }

    /// Without a limit.
    pub fn whole() -> Self {
        Self { end: None }
    }

    /// Whether the time is over.
    pub fn is_over(self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }
}

/// Whether the tree is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is, or it did not exist.
    Yes,
    /// Partly; the time was over.
    More,
    /// Its path now refers to something else, which was left alone.
    Replaced,
}

/// The identity of `path` now, without following links; `None` if it does not exist.
///
/// # Errors
/// The system call failed.
pub fn identity(path: &Path) -> Result<Option<FileId>, FileError> {
    match rustix::fs::lstat(path) {
        Ok(stat) => Ok(Some(id_of(&stat))),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(FileError::new("stat", path, errno)),
    }
}

pub(crate) fn id_of(stat: &rustix::fs::Stat) -> FileId {
    FileId {
        device: stat.st_dev,
        inode: stat.st_ino,
    }
}

/// Removes `below` in the directory `top`, or `top` itself if `below` is empty, with everything in it, if `top` is still what
/// was `seen`. A missing path counts as removed. The target may also be a file or a link. When the time is over the rest stays.
///
/// # Errors
/// [`FileError::Kept`] and [`FileError::Mounted`] before anything was removed.
pub fn remove_seen(
    root: &HostRoot,
    kept: &Kept,
    (top, seen): (&Path, FileId),
    below: &Path,
    turn: Turn,
) -> Result<Removed, FileError> {
    let is_plain = |part| matches!(part, Component::Normal(_));
    let path = if below.as_os_str().is_empty() {
        top.to_owned()
    } else {
        top.join(below)
    };
    let (Some(above), Some(name), true) = (
        top.parent(),
        top.file_name(),
        below.components().all(is_plain),
    ) else {
        return Err(FileError::Kept(path));
    };
    if kept.refuses_name(&path) || kept.refuses(seen) {
        return Err(FileError::Kept(path));
    }
    refuse_mounted(root, &path)?;
    let failed = |error: io::Error| FileError::new("open", &path, error);
    let above = match open_directory(above) {
        Ok(above) => above,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Removed::Yes),
        Err(error) => return Err(failed(error)),
    };
    match rustix::fs::statat(&above, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if id_of(&stat) == seen => {}
        Ok(_) => return Ok(Removed::Replaced),
        Err(Errno::NOENT) => return Ok(Removed::Yes),
        Err(errno) => return Err(failed(errno.into())),
    }
    if below.as_os_str().is_empty() {
        let name = c_name(name, &path)?;
        return remove_in_turn(above.as_fd(), &name, (&path, Some(seen)), turn);
    }
    remove_inside((&above, name), seen, (below, &path), turn)
}

/// Removes `below` in the directory `name`, if it is the inspected one; `path` is its name in errors.
fn remove_inside(
    (above, name): (&OwnedFd, &OsStr),
    seen: FileId,
    (below, path): (&Path, &Path),
    turn: Turn,
) -> Result<Removed, FileError> {
    let failed = |error: io::Error| FileError::new("open", path, error);
    let (Some(inner), Some(last)) = (below.parent(), below.file_name()) else {
        return Err(FileError::Kept(path.to_owned()));
    };
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    // Something that is not a directory has nothing below it.
    let is_nothing = |error: &io::Error| {
        let errno = Errno::from_io_error(error);
        matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
    };
    let opened = match open_beneath(above, Path::new(name), directory) {
        Ok(opened) => opened,
        Err(error) if is_nothing(&error) => return Ok(Removed::Yes),
        Err(error) => return Err(failed(error)),
    };
    let stat = rustix::fs::fstat(&opened).map_err(|errno| failed(errno.into()))?;
    if id_of(&stat) != seen {
        return Ok(Removed::Replaced);
    }
    let inner = if inner.as_os_str().is_empty() {
        Ok(opened)
    } else {
        open_beneath(&opened, inner, directory)
    };
    let inner = match inner {
        Ok(inner) => inner,
        Err(error) if is_nothing(&error) => return Ok(Removed::Yes),
        Err(error) => return Err(failed(error)),
    };
    // This also finds a mount that was made after the table was read (or in another namespace).
    remove_in_turn(inner.as_fd(), &c_name(last, path)?, (path, None), turn)
}

fn refuse_mounted(root: &HostRoot, path: &Path) -> Result<(), FileError> {
    let mounts = mounts_at_or_below(root, path)
        .map_err(|error| FileError::new("look for mounts below", path, io::Error::other(error)))?;
    match mounts.into_iter().next() {
        None => Ok(()),
        Some(mount) => Err(FileError::Mounted {
            path: path.to_owned(),
            mount,
        }),
    }
}

fn c_name(name: &OsStr, path: &Path) -> Result<CString, FileError> {
    CString::new(name.as_bytes())
        .map_err(|error| FileError::new("remove", path, io::Error::from(error)))
}

/// Removes `name` in the open directory `parent`, with everything in it; `path` is its name in errors. With an ID, only the
/// directory that has it.
pub(crate) fn remove_beneath(
    parent: BorrowedFd<'_>,
    name: &CStr,
    (path, seen): (&Path, Option<FileId>),
) -> Result<(), FileError> {
    remove_in_turn(parent, name, (path, seen), Turn::whole()).map(drop)
}

fn remove_in_turn(
    parent: BorrowedFd<'_>,
    name: &CStr,
    (path, seen): (&Path, Option<FileId>),
    turn: Turn,
) -> Result<Removed, FileError> {
    remove_entry(parent, name, (path, seen), turn).map_err(|(at, errno)| match errno {
        Errno::XDEV | Errno::BUSY => FileError::Mounted {
            path: path.to_owned(),
            mount: at,
        },
        errno => FileError::new("remove", &at, errno),
    })
}

type Failed = (PathBuf, Errno);

fn remove_entry(
    parent: BorrowedFd<'_>,
    name: &CStr,
    (path, seen): (&Path, Option<FileId>),
    turn: Turn,
) -> Result<Removed, Failed> {
    let at = |errno| (path.to_owned(), errno);
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(Removed::Yes),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(at(errno)),
    }
    let top = open_listed(parent, name)
        .map_err(not_permitted)
        .map_err(at)?;
    let opened = id_of(&rustix::fs::fstat(&top).map_err(at)?);
    if seen.is_some_and(|seen| seen != opened) {
        // Replaced since it was compared: the next decision inspects it again.
        return Err(at(Errno::STALE));
    }
    let mut walk = Walk {
        top,
        next_name: 0,
        has_removed: false,
        turn,
    };
    // Directories that were moved up are now in the top directory, so passes repeat until one finds nothing. A process that
    // keeps writing, or a server that only renames open files (NFS), must not make this endless.
    let mut passes_in_vain = 0;
    loop {
        let moved_before = walk.next_name;
        if !walk.empty_once(path)? {
            break;
        }
        if walk.is_over() {
            return Ok(Removed::More);
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
        Ok(()) | Err(Errno::NOENT) => Ok(Removed::Yes),
        Err(errno) => Err(at(errno)),
    }
}

struct Walk {
    top: OwnedFd,
    next_name: u64,
    has_removed: bool,
    turn: Turn,
}

struct Level {
    directory: Dir,
    fd: OwnedFd,
    /// The name in the level above; empty for the top.
    name: CString,
}

impl Walk {
    fn is_over(&self) -> bool {
        self.has_removed && self.turn.is_over()
    }

    /// One walk through the tree, to its end or until the time is over; true if it found anything to remove.
    fn empty_once(&mut self, path: &Path) -> Result<bool, Failed> {
        let mut found = false;
        let top = self
            .top
            .try_clone()
            .map_err(|_| (path.to_owned(), Errno::MFILE))?;
        let mut levels =
            vec![Level::open(top, CString::default()).map_err(|errno| (path.to_owned(), errno))?];
        while let Some(level) = levels.last_mut() {
            if self.is_over() {
                return Ok(true);
            }
            let Some(entry) = level.directory.read() else {
                let Some(done) = levels.pop() else { break };
                let Some(above) = levels.last() else { break };
                match unlinkat(&above.fd, &done.name, AtFlags::REMOVEDIR) {
                    // Not empty: a process still writes there, or the listing missed a moved directory; the next pass handles
                    // it.
                    Ok(()) => self.has_removed = true,
                    Err(Errno::NOENT | Errno::NOTEMPTY) => {}
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
                Ok(()) | Err(Errno::NOENT) => {
                    self.has_removed = true;
                    return Ok(());
                }
                // It is a directory after all (not every file system reports types).
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(errno) => return Err((place(path, levels, &name), errno)),
            }
        }
        if depth >= MAX_DEPTH {
            return self
                .move_up(&level.fd, &name)
                .map_err(|errno| (place(path, levels, &name), errno));
        }
        let opened = open_listed(level.fd.as_fd(), &name)
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
                Ok(()) | Err(Errno::NOENT) => {
                    self.has_removed = true;
                    return Ok(());
                }
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

fn place(path: &Path, levels: &[Level], name: &CStr) -> PathBuf {
    let mut place = path.to_owned();
    for name in levels
        .iter()
        .map(|level| level.name.as_c_str())
        .chain([name])
    {
        if !name.is_empty() {
            place.push(OsStr::from_bytes(name.to_bytes()));
        }
    }
    place
}

/// An entry that could neither be unlinked (EPERM) nor opened as a directory is a file that may not be removed.
fn not_permitted(errno: Errno) -> Errno {
    if errno == Errno::NOTDIR {
        Errno::PERM
    } else {
        errno
    }
}

fn open_listed(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let name = Path::new(OsStr::from_bytes(name.to_bytes()));
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
    use std::fs::File;
    use std::os::unix::fs::symlink;

    /// Removes without a time limit.
    fn remove_seen(
        root: &HostRoot,
        kept: &Kept,
        top: (&Path, FileId),
        below: &Path,
    ) -> Result<Removed, FileError> {
        super::remove_seen(root, kept, top, below, Turn::whole())
    }

    #[test]
    fn a_turn_that_is_over_leaves_the_rest_and_each_removes_something() {
        let dir = TestDir::new();
        let tree = dir.path().join("tree");
        let deep = tree.join("d/".repeat(MAX_DEPTH + 6));
        std::fs::create_dir_all(&deep).unwrap();
        for name in 0..20 {
            std::fs::write(tree.join(format!("file-{name}")), "x").unwrap();
            std::fs::write(deep.join(format!("file-{name}")), "x").unwrap();
        }
        let seen = identity(&tree).unwrap().unwrap();
        let (root, kept) = (HostRoot::real(), Kept::default());
        let mut turns = 1;
        let remove = || {
            let turn = Turn::of(Duration::ZERO);
            super::remove_seen(&root, &kept, (&tree, seen), Path::new(""), turn).unwrap()
        };
        while remove() == Removed::More {
            turns += 1;
            assert!(turns < 300, "no turn is in vain");
        }
        assert!(!tree.exists());
        assert!(turns > 40, "{turns}");
    }

    /// Removes what exists now.
    fn remove_tree(root: &HostRoot, path: &Path) -> Result<(), FileError> {
        let Some(seen) = identity(path)? else {
            return Ok(());
        };
        let removed = remove_seen(root, &Kept::default(), (path, seen), Path::new(""))?;
        assert_eq!(removed, Removed::Yes);
        Ok(())
    }

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
            at = open_listed(at.as_fd(), c"d").unwrap();
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
        let walked = remove_entry(
            File::open(dir.path()).unwrap().as_fd(),
            c"tree",
            (&tree, None),
            Turn::whole(),
        )
        .unwrap_err();
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
    fn what_took_the_place_of_what_was_seen_stays() {
        let (dir, root) = (TestDir::new(), HostRoot::real());
        let (tree, other) = (dir.path().join("tree"), dir.path().join("other"));
        std::fs::create_dir_all(tree.join("a")).unwrap();
        let seen = identity(&tree).unwrap().unwrap();
        std::fs::rename(&tree, &other).unwrap();
        std::fs::create_dir_all(tree.join("a")).unwrap();
        let remove =
            |below: &str| remove_seen(&root, &Kept::default(), (&tree, seen), Path::new(below));
        for below in ["", "a", "a/b"] {
            assert_eq!(remove(below).unwrap(), Removed::Replaced);
        }
        assert!(tree.join("a").exists() && other.join("a").exists());
        // A link to the inspected directory is not the inspected directory.
        std::fs::remove_dir_all(&tree).unwrap();
        symlink(&other, &tree).unwrap();
        assert_eq!(remove("a").unwrap(), Removed::Replaced);
        std::fs::remove_file(&tree).unwrap();
        assert_eq!(remove("a").unwrap(), Removed::Yes);
        // An inspected link or file has nothing below it, and is itself removed.
        for is_link in [true, false] {
            if is_link {
                symlink(&other, &tree).unwrap();
            } else {
                std::fs::write(&tree, "").unwrap();
            }
            let seen = identity(&tree).unwrap().unwrap();
            for below in ["a", "a/b", ""] {
                let removed = remove_seen(&root, &Kept::default(), (&tree, seen), Path::new(below));
                assert_eq!(removed.unwrap(), Removed::Yes);
            }
            assert!(tree.symlink_metadata().is_err() && other.join("a").exists());
        }
        std::fs::rename(&other, &tree).unwrap();
        assert_eq!(remove("a").unwrap(), Removed::Yes);
        assert!(tree.exists() && !tree.join("a").exists());
        assert_eq!(remove("").unwrap(), Removed::Yes);
        assert!(!tree.exists());
        assert_eq!(identity(&tree).unwrap(), None);
    }

    #[test]
    fn what_holds_more_than_one_pods_files_is_never_removed() {
        let (dir, root) = (TestDir::new(), HostRoot::real());
        let pods = dir.path().join("kubelet/pods");
        std::fs::create_dir_all(pods.join("u1/volumes")).unwrap();
        std::fs::create_dir_all(pods.join("u2")).unwrap();
        let kept = Kept::new([dir.path().join("kubelet"), pods.clone()]);
        let remove = |top: &Path, below: &str| {
            let seen = identity(top).unwrap().unwrap();
            remove_seen(&root, &kept, (top, seen), Path::new(below))
        };
        for (top, below) in [
            (pods.join(""), ""),
            (pods.clone(), ""),
            (dir.path().join("kubelet"), ""),
            (dir.path().to_owned(), ""),
            (PathBuf::from("/"), ""),
            (pods.join("u1"), ".."),
            (pods.join("u1"), "../u2"),
            (pods.join("u1"), "/"),
            (pods.join("u1/.."), ""),
        ] {
            let refused = remove(&top, below).unwrap_err();
            assert!(
                matches!(refused, FileError::Kept(_)),
                "{} {below}: {refused}",
                top.display()
            );
        }
        // The same directory under another path.
        let bound = dir.path().join("bound");
        if rustix::process::geteuid().is_root() {
            std::fs::create_dir(&bound).unwrap();
            if rustix::mount::mount_bind(&pods, &bound).is_ok() {
                let refused = remove(&bound, "");
                unmount(&root, &bound, Unmount::Plain).unwrap();
                assert!(matches!(refused, Err(FileError::Kept(_))));
            }
        }
        assert!(pods.join("u1/volumes").exists() && pods.join("u2").exists());
        assert_eq!(remove(&pods.join("u1"), "").unwrap(), Removed::Yes);
        assert!(pods.join("u2").exists());
    }
}
