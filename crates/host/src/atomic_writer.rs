//! Writes the files of a volume, all at once.
//!
//! In:    the volume's directory, its payload, the time
//! Out:   the directory has exactly the payload, or the old files and [`PayloadError`]
//! Calls: the work of volumes, when a volume is set up and when its content changes
//! Holds: a reader through `..data` sees either the old files or the new ones, never a mixture, wherever a write is
//!        interrupted; an equal payload writes nothing; every call uses descriptors and follows no symbolic link; leftovers of
//!        an interrupted write are reused or removed
//! Upstream: pkg/volume/util/atomic_writer.go; differences: a `..data_tmp`, a link or a directory of an interrupted write
//!           causes no error and is cleaned up; links that point elsewhere are replaced
//!
//! ```text
//! VOLUME/..2026_11_23_08_44_03.1188185839/  the files
//!       /..data -> ..2026_11_23_08_44_03.1188185839
//!       /a.txt  -> ..data/a.txt             one for each first part of a path
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use jiff::Timestamp;
use kubelet_model::objects::{Payload, PayloadFile};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::beneath::open_file_in;
use crate::files::{FileError, open_beneath};
use crate::remove::remove_beneath;

#[cfg(test)]
mod tests;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";
const NEW_LINK: &str = "..link_tmp";
const LONGEST_NAME: usize = 255;
const LONGEST_PATH: usize = 4096;
/// Taken names that are tried before a new directory fails.
const MOST_TRIES: u32 = 1000;

/// Why a payload could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// An invalid path. The text is upstream's.
    #[error("invalid path: {0}")]
    Path(String),
    /// A system call failed. The old files are unchanged.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The result of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The files were up to date.
    Nothing,
    /// The files were replaced.
    All,
}

/// Called between two changes of the disk; an error stops the write as a crash would. Tests only.
type Cut<'a> = &'a mut dyn FnMut() -> Result<(), FileError>;

/// Writes `payload` below `target`, which must exist. `set_permissions` runs after the new files are written and before they
/// become visible.
///
/// # Errors
/// Either the old payload or the new one is visible, complete.
pub fn write_payload(
    target: &Path,
    payload: &Payload,
    now: Timestamp,
    mut set_permissions: impl FnMut() -> Result<(), FileError>,
) -> Result<Written, PayloadError> {
    write_cut(target, payload, now, &mut set_permissions, &mut || Ok(()))
}

fn write_cut(
    target: &Path,
    payload: &Payload,
    now: Timestamp,
    set_permissions: Cut<'_>,
    cut: Cut<'_>,
) -> Result<Written, PayloadError> {
    let files = clean_paths(payload)?;
    let volume = Volume::open(target)?;
    let old = volume.current();
    let is_current = match &old {
        Some(name) => volume.holds(name, &files)?,
        None => false,
    };
    if !is_current {
        let name = volume.make_directory(now)?;
        cut()?;
        volume.write_files(&name, &files, cut)?;
        set_permissions()?;
        cut()?;
        volume.switch_to(&name, cut)?;
        cut()?;
    }
    volume.make_links(&files, cut)?;
    volume.remove_leftovers(&files, cut)?;
    Ok(if is_current {
        Written::Nothing
    } else {
        Written::All
    })
}

/// The paths after Go's `filepath.Clean`, all of them valid.
fn clean_paths(payload: &Payload) -> Result<BTreeMap<String, &PayloadFile>, PayloadError> {
    payload
        .iter()
        .map(|(path, file)| {
            check_path(path)?;
            let parts: Vec<_> = path
                .split('/')
                .filter(|part| !matches!(*part, "" | "."))
                .collect();
            if parts.is_empty() {
                return Err(PayloadError::Path(format!("must not be empty: {path:?}")));
            }
            Ok((parts.join("/"), file))
        })
        .collect()
}

/// Refuses invalid paths as upstream's `validatePath`, in its words.
fn check_path(path: &str) -> Result<(), PayloadError> {
    let refuse = |text: String| Err(PayloadError::Path(text));
    if path.is_empty() {
        return refuse("must not be empty: \"\"".to_owned());
    }
    if path.starts_with('/') {
        return refuse(format!("must be relative path: {path}"));
    }
    if path.len() > LONGEST_PATH {
        return refuse(format!(
            "must be less than or equal to {LONGEST_PATH} characters"
        ));
    }
    for part in path.split('/') {
        if part == ".." {
            return refuse(format!("must not contain '..': {path}"));
        }
        if part.len() > LONGEST_NAME {
            return refuse(format!(
                "filenames must be less than or equal to {LONGEST_NAME} characters"
            ));
        }
    }
    if path.starts_with("..") {
        return refuse(format!("must not start with '..': {path}"));
    }
    Ok(())
}

/// The first component of a path.
fn first_part(path: &str) -> &str {
    path.split_once('/').map_or(path, |(first, _)| first)
}

/// Whether a name has the form of our data directories: `..`, the time, a number.
fn is_data_directory(name: &[u8]) -> bool {
    name.strip_prefix(b"..").is_some_and(|rest| {
        rest.first().is_some_and(u8::is_ascii_digit)
            && rest
                .iter()
                .all(|byte| byte.is_ascii_digit() || matches!(byte, b'_' | b'.'))
    })
}

/// The open directory of a volume.
struct Volume<'a> {
    path: &'a Path,
    fd: OwnedFd,
}

impl<'a> Volume<'a> {
    fn open(path: &'a Path) -> Result<Self, FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(|errno| FileError::new("open", path, errno))?;
        Ok(Self { path, fd })
    }

    fn error(
        &self,
        operation: &'static str,
        name: impl AsRef<Path>,
    ) -> impl Fn(Errno) -> FileError {
        let path = self.path.join(name);
        move |errno| FileError::new(operation, &path, errno)
    }

    /// The target of a link; `None` if it does not exist or is not a link.
    fn link(&self, name: &str) -> Option<CString> {
        rustix::fs::readlinkat(&self.fd, name, Vec::new()).ok()
    }

    /// The name of the directory that is visible now; `None` also for a link that was not made here.
    fn current(&self) -> Option<String> {
        let to = self.link(DATA)?;
        is_data_directory(to.to_bytes())
            .then(|| to.into_string().ok())
            .flatten()
    }

    /// Whether the directory has exactly these files with this content.
    fn holds(&self, name: &str, files: &BTreeMap<String, &PayloadFile>) -> Result<bool, FileError> {
        let Ok(directory) = open_directory(self.fd.as_fd(), name) else {
            return Ok(false);
        };
        let mut present = BTreeSet::new();
        match list_files(&directory, &mut present) {
            Ok(()) => {}
            // More files or a deeper path than any payload has.
            Err(Errno::TOOBIG | Errno::NAMETOOLONG) => return Ok(false),
            Err(errno) => return Err(self.error("read", name)(errno)),
        }
        if !present.iter().eq(files.keys()) {
            return Ok(false);
        }
        for (path, file) in files {
            if !has_content(&directory, path, &file.data).map_err(self.error("read", path))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Creates a directory with an unused name.
    fn make_directory(&self, now: Timestamp) -> Result<String, FileError> {
        let time = now.strftime("%Y_%m_%d_%H_%M_%S");
        let seed = self.path.as_os_str().as_bytes();
        let seed = seed.iter().fold(
            now.subsec_nanosecond().unsigned_abs() ^ std::process::id(),
            |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193),
        );
        let mut number = seed;
        for _ in 0..MOST_TRIES {
            let name = format!("..{time}.{number}");
            match rustix::fs::mkdirat(&self.fd, name.as_str(), Mode::RWXU) {
                Ok(()) => {
                    let made = open_directory(self.fd.as_fd(), &name)
                        .map_err(self.error("open", &name))?;
                    // World-searchable, regardless of the umask.
                    rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))
                        .map_err(self.error("set the mode of", &name))?;
                    return Ok(name);
                }
                Err(Errno::EXIST) => number = number.wrapping_add(0x9e37_79b9),
                Err(errno) => return Err(self.error("create directory", &name)(errno)),
            }
        }
        Err(self.error("create directory", "..")(Errno::EXIST))
    }

    fn write_files(
        &self,
        name: &str,
        files: &BTreeMap<String, &PayloadFile>,
        cut: Cut<'_>,
    ) -> Result<(), FileError> {
        let directory = open_directory(self.fd.as_fd(), name).map_err(self.error("open", name))?;
        for (path, file) in files {
            write_file(&directory, path, file).map_err(self.error("write", path))?;
            cut()?;
        }
        Ok(())
    }

    /// Makes the directory's files visible instead of the current ones.
    fn switch_to(&self, name: &str, cut: Cut<'_>) -> Result<(), FileError> {
        self.clear(NEW_DATA)?;
        rustix::fs::symlinkat(name, &self.fd, NEW_DATA).map_err(self.error("link", NEW_DATA))?;
        cut()?;
        match rustix::fs::renameat(&self.fd, NEW_DATA, &self.fd, DATA) {
            // A directory is in the way, which was not made here.
            Err(Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY) => {
                self.clear(DATA)?;
                rustix::fs::renameat(&self.fd, NEW_DATA, &self.fd, DATA)
            }
            other => other,
        }
        .map_err(self.error("rename to", DATA))
    }

    /// Creates missing links for first components. Anything else with that name stays: it may be the mount point of another
    /// volume.
    fn make_links(
        &self,
        files: &BTreeMap<String, &PayloadFile>,
        cut: Cut<'_>,
    ) -> Result<(), FileError> {
        for (path, file) in files {
            let name = first_part(path);
            let to = format!("{DATA}/{name}");
            match rustix::fs::readlinkat(&self.fd, name, Vec::new()) {
                Ok(found) if found.as_bytes() == to.as_bytes() => continue,
                Ok(_) | Err(Errno::NOENT) => {}
                Err(Errno::INVAL) => continue,
                Err(errno) => return Err(self.error("read the link", name)(errno)),
            }
            self.clear(NEW_LINK)?;
            rustix::fs::symlinkat(to.as_str(), &self.fd, NEW_LINK)
                .map_err(self.error("link", name))?;
            if let Some(owner) = file.owner {
                let owner = Some(rustix::fs::Uid::from_raw(owner));
                rustix::fs::chownat(&self.fd, NEW_LINK, owner, None, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(self.error("set the owner of", name))?;
            }
            cut()?;
            rustix::fs::renameat(&self.fd, NEW_LINK, &self.fd, name)
                .map_err(self.error("link", name))?;
            cut()?;
        }
        Ok(())
    }

    /// Removes our links that lead nowhere, and data directories that are not visible.
    fn remove_leftovers(
        &self,
        files: &BTreeMap<String, &PayloadFile>,
        cut: Cut<'_>,
    ) -> Result<(), FileError> {
        let shown = self.current();
        let wanted: BTreeSet<&str> = files.keys().map(|path| first_part(path)).collect();
        let entries = names(&self.fd).map_err(self.error("read", ""))?;
        for name in entries {
            let text = name.to_str().unwrap_or_default();
            let is_old = is_data_directory(name.to_bytes()) && shown.as_deref() != Some(text);
            let is_ours = |name| {
                self.link(name)
                    .is_some_and(|to| to.to_bytes() == format!("{DATA}/{name}").as_bytes())
            };
            let is_stale = !text.starts_with("..") && !wanted.contains(text) && is_ours(text);
            if is_old || is_stale || matches!(text, NEW_DATA | NEW_LINK) {
                self.clear_name(&name)?;
                cut()?;
            }
        }
        Ok(())
    }

    fn clear(&self, name: &str) -> Result<(), FileError> {
        let name = CString::new(name)
            .map_err(|error| FileError::new("remove", self.path, std::io::Error::from(error)))?;
        self.clear_name(&name)
    }

    fn clear_name(&self, name: &CStr) -> Result<(), FileError> {
        let path = self.path.join(OsStr::from_bytes(name.to_bytes()));
        remove_beneath(self.fd.as_fd(), name, (&path, None))
    }
}

fn open_directory(below: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    open_beneath(&below, Path::new(name), flags)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// The names in a directory, without `.` and `..`.
fn names(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            found.push(name);
        }
    }
    Ok(found)
}

/// The most names that are read in a directory: more than the largest payload has.
const MOST_NAMES: usize = 1 << 20;

/// The paths of everything but directories. An empty directory counts as a path, since no payload has one. The walk keeps its
/// position in a list, not on the stack, with one open directory at a time, however deep or wide the tree is.
fn list_files(directory: &OwnedFd, found: &mut BTreeSet<String>) -> Result<(), Errno> {
    let mut to_read = vec![String::new()];
    let mut read = 0;
    while let Some(above) = to_read.pop() {
        let is_top = above.is_empty();
        let opened = open_directory(directory.as_fd(), if is_top { "." } else { &above })?;
        let entries = names(&opened)?;
        read += entries.len();
        if read > MOST_NAMES {
            return Err(Errno::TOOBIG);
        }
        if entries.is_empty() && !is_top {
            found.insert(format!("{above}/"));
        }
        for name in entries {
            let name = name.to_string_lossy();
            let path = if is_top {
                name.clone().into_owned()
            } else {
                format!("{above}/{name}")
            };
            // Longer than any path can be: not ours.
            if path.len() <= LONGEST_PATH && open_directory(opened.as_fd(), &name).is_ok() {
                to_read.push(path);
            } else {
                found.insert(path);
            }
        }
    }
    Ok(())
}

fn has_content(directory: &OwnedFd, path: &str, content: &[u8]) -> Result<bool, Errno> {
    let Ok(opened) = open_file_in(directory, Path::new(path)) else {
        // A link, a socket, another file system: not written by us.
        return Ok(false);
    };
    let stat = rustix::fs::fstat(&opened)?;
    if u64::try_from(stat.st_size) != Ok(content.len() as u64) {
        return Ok(false);
    }
    let mut found = Vec::with_capacity(content.len());
    let limit = (content.len() as u64).saturating_add(1);
    opened
        .take(limit)
        .read_to_end(&mut found)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(found == content)
}

fn write_file(directory: &OwnedFd, path: &str, file: &PayloadFile) -> Result<(), Errno> {
    let as_errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut at = directory.try_clone().map_err(as_errno)?;
    for parent in parents.split('/').filter(|parent| !parent.is_empty()) {
        match rustix::fs::mkdirat(&at, parent, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        at = open_directory(at.as_fd(), parent)?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(&at, name, flags, Mode::RUSR | Mode::WUSR)?;
    let mut written = File::from(fd);
    written.write_all(&file.data).map_err(as_errno)?;
    rustix::fs::fchmod(&written, Mode::from_raw_mode(file.mode & 0o777))?;
    if let Some(owner) = file.owner {
        rustix::fs::fchown(&written, Some(rustix::fs::Uid::from_raw(owner)), None)?;
    }
    Ok(())
}
