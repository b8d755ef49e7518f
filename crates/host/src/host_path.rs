//! Checks the path of a hostPath volume against its `type`, and creates it if the type says so.
//!
//! In:    the path on the host and the type from the API object
//! Out:   nothing, or upstream's message for the pod's event
//! Calls: volumes, before the first container of a pod is created
//! Holds: symbolic links are followed (the path is the user's choice); an existing file is never changed; with an unset type
//!        the path is not accessed at all
//! Upstream: pkg/volume/hostpath/host_path.go (checkTypeInternal, makeDir, makeFile)

use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::HostRoot;
use crate::files::{FileError, create_dir_all};
use crate::mounts::mount_table;

/// The values of `hostPath.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPathType {
    /// Empty: no check.
    Unset,
    /// A directory, created with mode 0755 if nothing exists.
    DirectoryOrCreate,
    /// A directory.
    Directory,
    /// A file, created empty with mode 0644 if nothing exists; its directory must exist.
    FileOrCreate,
    /// A regular file.
    File,
    /// A UNIX socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// The path does not have the required type. `Display` is upstream's message.
#[derive(Debug, thiserror::Error)]
pub enum HostPathError {
    /// Something else exists there, or nothing.
    #[error("hostPath type check failed: {path} is not a {kind}")]
    WrongKind {
        /// The path as the user wrote it.
        path: String,
        /// The required type.
        kind: &'static str,
    },
    /// Unknown type.
    #[error("{0} is an invalid volume type")]
    UnknownType(String),
    /// The directory or file could not be created.
    #[error(transparent)]
    Create(#[from] FileError),
}

impl std::str::FromStr for HostPathType {
    type Err = HostPathError;

    fn from_str(name: &str) -> Result<Self, HostPathError> {
        Ok(match name {
            "" => Self::Unset,
            "DirectoryOrCreate" => Self::DirectoryOrCreate,
            "Directory" => Self::Directory,
            "FileOrCreate" => Self::FileOrCreate,
            "File" => Self::File,
            "Socket" => Self::Socket,
            "CharDevice" => Self::CharDevice,
            "BlockDevice" => Self::BlockDevice,
            other => return Err(HostPathError::UnknownType(other.to_owned())),
        })
    }
}

/// The mount point of the file system that holds `path`, derived from the path's text alone: the path is not accessed, and
/// links in it are not seen. `None` for the root file system, where a link may lead anywhere. Blocking: reads the mount table.
pub fn mount_of(root: &HostRoot, path: &str) -> Option<PathBuf> {
    let mounts = mount_table(root).ok()?.into_iter();
    let above = mounts
        .map(|mount| mount.mount_point)
        .filter(|at| Path::new(path).starts_with(at) && at != Path::new("/"));
    above.max_by_key(|at| at.components().count())
}

/// Checks `path` (as the host names it) and creates it if the type says so.
///
/// # Errors
/// [`HostPathError::WrongKind`], also if the path cannot be inspected.
pub fn check_host_path(
    root: &HostRoot,
    path: &str,
    wanted: HostPathType,
) -> Result<(), HostPathError> {
    if wanted == HostPathType::Unset {
        return Ok(());
    }
    let at = root.join(path);
    let metadata = std::fs::metadata(&at);
    let exists = metadata.is_ok();
    let kind = metadata.ok().map(|found| found.file_type());
    let is = |test: fn(&std::fs::FileType) -> bool| kind.as_ref().is_some_and(test);
    let (fits, name) = match wanted {
        HostPathType::Unset => return Ok(()),
        HostPathType::DirectoryOrCreate if !exists => return Ok(create_dir_all(&at, 0o755)?),
        HostPathType::FileOrCreate if !exists => return Ok(create_file(&at)?),
        HostPathType::DirectoryOrCreate | HostPathType::Directory => {
            (is(std::fs::FileType::is_dir), "directory")
        }
        HostPathType::FileOrCreate | HostPathType::File => (is(std::fs::FileType::is_file), "file"),
        HostPathType::Socket => (is(FileTypeExt::is_socket), "socket file"),
        HostPathType::CharDevice => (is(FileTypeExt::is_char_device), "character device"),
        HostPathType::BlockDevice => (is(FileTypeExt::is_block_device), "block device"),
    };
    if fits {
        Ok(())
    } else {
        Err(HostPathError::WrongKind {
            path: path.to_owned(),
            kind: name,
        })
    }
}

fn create_file(path: &Path) -> Result<(), FileError> {
    match std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)
    {
        Ok(_) => crate::files::set_mode(path, 0o644),
        // Another process created it first: as good.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(FileError::new("create", path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDir;
    use std::os::unix::fs::PermissionsExt;

    const TYPES: [&str; 7] = [
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
        "CharDevice",
        "BlockDevice",
    ];

    #[test]
    fn each_kind_of_file_fits_its_types_only() {
        let dir = TestDir::new();
        let root = HostRoot::at(dir.path());
        std::fs::create_dir(root.join("/directory")).unwrap();
        std::fs::write(root.join("/file"), "").unwrap();
        std::os::unix::fs::symlink("file", root.join("/link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("/socket")).unwrap();
        let fits = |root: &HostRoot, path: &str| -> Vec<&str> {
            TYPES
                .into_iter()
                .filter(|name| check_host_path(root, path, name.parse().unwrap()).is_ok())
                .collect()
        };
        assert_eq!(
            fits(&root, "/directory"),
            ["Directory", "DirectoryOrCreate"]
        );
        assert_eq!(fits(&root, "/file"), ["File", "FileOrCreate"]);
        assert_eq!(fits(&root, "/link"), ["File", "FileOrCreate"]);
        assert_eq!(fits(&root, "/socket"), ["Socket"]);
        assert_eq!(fits(&HostRoot::real(), "/dev/null"), ["CharDevice"]);
        assert!(check_host_path(&root, "/absent", HostPathType::Unset).is_ok());
    }

    #[test]
    fn the_mount_of_a_path_is_known_by_its_name() {
        let dir = TestDir::new();
        let root = HostRoot::at(dir.path());
        let table = "20 1 8:1 / / rw - ext4 /dev/a rw\n\
                     21 20 0:40 / /mnt/dead rw - fuse.x x rw\n\
                     22 21 0:41 / /mnt/dead/below rw - tmpfs t rw\n";
        std::fs::create_dir_all(root.join("/proc/self")).unwrap();
        std::fs::write(root.join("/proc/self/mountinfo"), table).unwrap();
        let of = |path: &str| mount_of(&root, path).map(|at| at.display().to_string());
        assert_eq!(of("/mnt/dead/x").as_deref(), Some("/mnt/dead"));
        assert_eq!(of("/mnt/dead").as_deref(), Some("/mnt/dead"));
        assert_eq!(of("/mnt/dead/below/y").as_deref(), Some("/mnt/dead/below"));
        assert_eq!(of("/mnt/deadly"), None);
        assert_eq!(of("/srv"), None);
    }

    #[test]
    fn messages_are_upstreams() {
        let dir = TestDir::new();
        let root = HostRoot::at(dir.path());
        let message = |name: &str| {
            check_host_path(&root, "/x", name.parse().unwrap())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            message("Directory"),
            "hostPath type check failed: /x is not a directory"
        );
        assert_eq!(
            message("File"),
            "hostPath type check failed: /x is not a file"
        );
        assert_eq!(
            message("Socket"),
            "hostPath type check failed: /x is not a socket file"
        );
        assert_eq!(
            message("CharDevice"),
            "hostPath type check failed: /x is not a character device"
        );
        assert_eq!(
            message("BlockDevice"),
            "hostPath type check failed: /x is not a block device"
        );
        assert_eq!(
            "Dir".parse::<HostPathType>().unwrap_err().to_string(),
            "Dir is an invalid volume type"
        );
    }

    #[test]
    fn missing_ones_are_made_where_the_type_says_so() {
        let dir = TestDir::new();
        let root = HostRoot::at(dir.path());
        let mode = |path: &str| {
            std::fs::metadata(root.join(path))
                .unwrap()
                .permissions()
                .mode()
                & 0o7777
        };
        check_host_path(&root, "/a/b", HostPathType::DirectoryOrCreate).unwrap();
        check_host_path(&root, "/a/b/file", HostPathType::FileOrCreate).unwrap();
        assert_eq!((mode("/a/b"), mode("/a/b/file")), (0o755, 0o644));
        let error = check_host_path(&root, "/none/file", HostPathType::FileOrCreate).unwrap_err();
        assert!(matches!(error, HostPathError::Create(error) if error.is_not_found()));
    }
}
