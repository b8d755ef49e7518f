//! Unix sockets of the node's own services: made for their owner alone, found again by path.
//!
//! In:    absolute paths
//! Out:   a listener, or the path by which a socket can be reached; sockets that other programs listen on
//! Calls: hyperkube/wiring/story; the crate `story`
//! Holds: what is in the way is removed only if it is a socket; a path that is too long for the kernel is reached through its directory
//! Upstream: staging/src/k8s.io/cri-client/pkg/util/util_unix.go (CreateListener)

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, chmodat, statat, unlinkat};

use crate::beneath::{head_of, open_directory};

/// The longest path that fits into an address, with the zero byte after it.
const LONGEST: usize = 107;
/// The most that is read of the kernel's table of sockets.
const TABLE_BYTES: u64 = 4 << 20;

/// A path at which a socket can be bound or reached, and what must stay open meanwhile.
#[derive(Debug)]
pub struct Reached {
    /// The path.
    pub path: PathBuf,
    _directory: Option<OwnedFd>,
}

/// The path of a socket in a form that the kernel takes.
///
/// # Errors
/// The directory of a long path cannot be opened.
pub fn reached(path: &Path) -> io::Result<Reached> {
    if path.as_os_str().len() <= LONGEST {
        return Ok(Reached {
            path: path.to_owned(),
            _directory: None,
        });
    }
    let (directory, name) = parts(path)?;
    let short = format!("/proc/self/fd/{}", directory.as_raw_fd());
    Ok(Reached {
        path: Path::new(&short).join(name),
        _directory: Some(directory),
    })
}

fn parts(path: &Path) -> io::Result<(OwnedFd, &Path)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    Ok((open_directory(parent)?, Path::new(name)))
}

/// Listens on a socket with exactly this mode, in place of one that an earlier process left. Blocking; the listener is not.
///
/// # Errors
/// Something else bears the name, or the directory does not exist.
pub fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let (directory, name) = parts(path)?;
    match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Socket => {
            unlinkat(&directory, name, AtFlags::empty())?;
        }
        Ok(_) => {
            let what = format!("{} is not a socket", path.display());
            return Err(io::Error::new(ErrorKind::AlreadyExists, what));
        }
        Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let listener = UnixListener::bind(reached(path)?.path)?;
    chmodat(
        &directory,
        name,
        Mode::from_raw_mode(mode),
        AtFlags::empty(),
    )?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Paths of sockets on this machine that end like this and that a process listens on, each once. Blocking.
pub fn listening(ending: &str) -> Vec<PathBuf> {
    let table = File::open("/proc/net/unix").and_then(|file| head_of(file, TABLE_BYTES));
    let table = table.map(|(table, _)| table).unwrap_or_default();
    of_table(&String::from_utf8_lossy(&table), ending)
}

/// Seven columns, then the path. Flags of 0x10000: it accepts connections.
fn of_table(table: &str, ending: &str) -> Vec<PathBuf> {
    let path_of = |line: &str| {
        let (columns, path) = line.split_once(" /")?;
        let accepts = columns.split_whitespace().nth(3) == Some("00010000");
        let is_path = columns.split_whitespace().count() == 7;
        let path = format!("/{path}");
        (accepts && is_path && path.ends_with(ending)).then(|| path.into())
    };
    let mut found: Vec<PathBuf> = table.lines().filter_map(path_of).collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::testing::TestDir;

    #[test]
    fn a_socket_replaces_one_that_was_left_and_nothing_else() {
        let dir = TestDir::new();
        let path = dir.path().join("s.sock");
        for _ in 0..2 {
            let listener = listen(&path, 0o600).unwrap();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            UnixStream::connect(&path).unwrap();
            drop(listener);
            assert!(UnixStream::connect(&path).is_err());
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "a file").unwrap();
        assert_eq!(
            listen(&path, 0o600).unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
    }

    #[test]
    fn a_path_of_any_length_is_reached() {
        let dir = TestDir::new();
        let deep = dir.path().join("a".repeat(100)).join("b".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        let path = deep.join("s.sock");
        let _listener = listen(&path, 0o600).unwrap();
        let reached = reached(&path).unwrap();
        UnixStream::connect(&reached.path).unwrap();
    }

    #[test]
    fn only_sockets_that_accept_are_found() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01    20 /a/hyperkube/story.sock\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 21 /a/hyperkube/story.sock\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 22 /with space/hyperkube/story.sock\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 23 @/b/hyperkube/story.sock\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 24 /run/other.sock\n";
        let found = of_table(table, "/hyperkube/story.sock");
        let expected = [
            "/a/hyperkube/story.sock",
            "/with space/hyperkube/story.sock",
        ];
        assert_eq!(found, expected.map(PathBuf::from));
        let dir = TestDir::new();
        let path = dir.path().join("found.sock");
        let _listener = listen(&path, 0o600).unwrap();
        assert_eq!(listening(path.to_str().unwrap()), [path]);
    }
}
