//! Creates the kubelet's data directories at start and takes the lock that keeps a second kubelet out.
//!
//! In:    paths of the configuration
//! Out:   directories with upstream's modes, the root directory shared with containers; a held lock
//! Calls: wiring, on a blocking thread (the lock on the main one: it waits by the clock)
//! Holds: an existing file or directory is left as it is; only directories that the kubelet owns are created
//! Upstream: pkg/kubelet/kubelet.go (setupDataDirs, initializeModules), pkg/kubelet/images/pullmanager, pkg/util/flock

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use kubelet_host::HostRoot;
use kubelet_host::files::{FileError, create_dir_all};
use kubelet_host::mounts::{MountError, make_shared};
use kubelet_host::opened::OpenedWatch;
use kubelet_model::config::PathsConfig;
use tokio::time::Instant;

/// Where links to containers' logs lie, for log collectors.
pub const CONTAINER_LOGS_DIR: &str = "/var/log/containers";
/// Below the root directory, with their modes.
const BELOW_ROOT: [(&str, u32); 7] = [
    ("pods", 0o750),
    ("plugins", 0o750),
    ("plugins_registry", 0o750),
    ("pod-resources", 0o750),
    ("image_manager", 0o700),
    ("image_manager/pulling", 0o700),
    ("image_manager/pulled", 0o700),
];
const CHECKPOINTS: (&str, u32) = ("checkpoints", 0o700);

/// The kubelet cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum DataDirsError {
    /// `--root-dir` has doubled slashes, dots or a slash at its end.
    #[error("rootDirectory not in canonical form: expected {expected}, was {given}")]
    NotCanonical {
        /// How it should be written.
        expected: String,
        /// How it was.
        given: String,
    },
    /// A directory.
    #[error("error creating {what} directory {}", path.display())]
    Directory {
        /// Which.
        what: String,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: FileError,
    },
    /// The root directory cannot be shared.
    #[error("error configuring root directory {}", path.display())]
    Share {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: MountError,
    },
    /// The lock file cannot be opened or locked.
    #[error("unable to acquire file lock on {path:?}")]
    Lock {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error("unable to acquire file lock on {path:?}: another process has held it for {waited:?}")]
    LockTaken {
        /// Where.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
}

/// Makes the directories; the list holds what did not work though the kubelet can go on. Blocking.
///
/// # Errors
/// A root directory that is not written canonically, or a directory that cannot be made.
pub fn make_data_dirs(
    paths: &PathsConfig,
    root: &HostRoot,
    has_checkpoints: bool,
) -> Result<Vec<String>, DataDirsError> {
    let given = paths.root_dir.display().to_string();
    let expected = canonical(&given);
    if expected != given {
        return Err(DataDirsError::NotCanonical { expected, given });
    }
    let make = |what: &str, path: PathBuf, mode| {
        create_dir_all(&path, mode).map_err(|source| {
            let what = what.to_owned();
            DataDirsError::Directory { what, path, source }
        })
    };
    let root_dir = root.join(&paths.root_dir);
    make("root", root_dir.clone(), 0o750)?;
    make("pod logs root", root.join(&paths.pod_logs_dir), 0o750)?;
    let warning = share(root, &root_dir)?;
    let checkpoints = has_checkpoints.then_some(CHECKPOINTS);
    for (name, mode) in BELOW_ROOT.into_iter().chain(checkpoints) {
        make(name, root_dir.join(name), mode)?;
    }
    make("container logs", root.join(CONTAINER_LOGS_DIR), 0o755)?;
    Ok(warning.into_iter().collect())
}

/// Mounts below the root directory must reach containers. Without the right to mount the kubelet still runs pods.
fn share(root: &HostRoot, directory: &Path) -> Result<Option<String>, DataDirsError> {
    match make_shared(root, directory) {
        Ok(()) => Ok(None),
        Err(MountError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            Ok(Some(format!(
                "root directory {} cannot be made a shared mount: {source}; mounts of the kubelet do not reach containers",
                directory.display()
            )))
        }
        Err(source) => Err(DataDirsError::Share {
            path: directory.to_owned(),
            source,
        }),
    }
}

/// The same path in the shortest spelling, without a look at the disk.
fn canonical(path: &str) -> String {
    let mut clean = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir if clean.parent().is_some() && !clean.ends_with("..") => {
                clean.pop();
            }
            Component::ParentDir if clean.has_root() => {}
            other => clean.push(other),
        }
    }
    if clean.as_os_str().is_empty() {
        return ".".to_owned();
    }
    clean.display().to_string()
}

/// A lock that is held until this is dropped, or the process ends.
#[derive(Debug)]
pub struct HeldLock {
    _file: File,
}

/// Between two tries.
const LOCK_RETRY: Duration = Duration::from_millis(500);

/// Takes the lock of `--lock-file`, waiting up to `patience`: an older kubelet with `--exit-on-lock-contention` leaves when it
/// sees the file opened.
///
/// # Errors
/// The file cannot be opened, or another process still holds it.
pub async fn take_lock(path: &Path, patience: Duration) -> Result<HeldLock, DataDirsError> {
    let failed = |source| DataDirsError::Lock {
        path: path.to_owned(),
        source,
    };
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(HeldLock { _file: file }),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) => {}
        }
        let waited = began.elapsed();
        if waited >= patience {
            return Err(DataDirsError::LockTaken {
                path: path.to_owned(),
                waited,
            });
        }
        if waited.is_zero() {
            tracing::info!(path = %path.display(), "Lock file is held by another process; waiting for it");
        }
        tokio::time::sleep(LOCK_RETRY).await;
    }
}

/// Watches the lock file that is held; `next` resolves when another process opens or removes it, and then the kubelet ends
/// (`--exit-on-lock-contention`). Take the watch after the lock, so that the own opening is not seen.
///
/// # Errors
/// The file cannot be watched.
pub fn watch_lock(path: &Path) -> Result<OpenedWatch, DataDirsError> {
    OpenedWatch::new(path).map_err(|source| DataDirsError::Lock {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::testing::{Scratch, config};

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn directories_have_the_recorded_modes_and_state_files_stay() {
        let scratch = Scratch::new();
        let root = HostRoot::at(scratch.path());
        let paths = config(|_| {}).paths;
        scratch.write("/var/lib/kubelet/cpu_manager_state", "{}");
        for _ in 0..2 {
            assert_eq!(
                make_data_dirs(&paths, &root, true).unwrap(),
                Vec::<String>::new()
            );
        }
        let top = root.join("/var/lib/kubelet");
        let expected = [
            ("checkpoints", 0o700),
            ("image_manager", 0o700),
            ("image_manager/pulled", 0o700),
            ("image_manager/pulling", 0o700),
            ("plugins", 0o750),
            ("plugins_registry", 0o750),
            ("pod-resources", 0o750),
            ("pods", 0o750),
        ];
        for (name, wanted) in expected {
            assert_eq!(mode(&top.join(name)), wanted, "{name}");
        }
        // Six directories and the file that was there: nothing that other work owns.
        assert_eq!(std::fs::read_dir(&top).unwrap().count(), 7);
        assert_eq!(
            std::fs::read_to_string(top.join("cpu_manager_state")).unwrap(),
            "{}"
        );
        assert_eq!(mode(&root.join("/var/log/pods")), 0o750);
        assert_eq!(mode(&root.join(CONTAINER_LOGS_DIR)), 0o755);
    }

    #[test]
    fn a_file_in_the_way_and_a_path_that_is_not_canonical_are_named() {
        let scratch = Scratch::new();
        let root = HostRoot::at(scratch.path());
        let mut paths = config(|_| {}).paths;
        scratch.write("/var/lib/kubelet/pods", "a file");
        let error = make_data_dirs(&paths, &root, true).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("error creating pods directory "),
            "{error}"
        );
        for (given, expected) in [
            ("/var//lib/kubelet", "/var/lib/kubelet"),
            ("/var/lib/kubelet/", "/var/lib/kubelet"),
            ("/var/./lib/../x", "/var/x"),
            ("./x", "x"),
            ("/../x", "/x"),
            ("../../x/..", "../.."),
            ("x/..", "."),
        ] {
            assert_eq!(canonical(given), expected, "{given}");
        }
        paths.root_dir = PathBuf::from("/var/lib/kubelet/");
        assert_eq!(
            make_data_dirs(&paths, &root, true).unwrap_err().to_string(),
            "rootDirectory not in canonical form: expected /var/lib/kubelet, was /var/lib/kubelet/"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_is_waited_for_and_then_named() {
        let scratch = Scratch::new();
        let path = scratch.path().join("lock");
        let patience = Duration::from_secs(10);
        let held = take_lock(&path, patience).await.unwrap();
        assert_eq!(mode(&path), 0o600);
        let error = take_lock(&path, patience).await.unwrap_err().to_string();
        assert!(
            error.ends_with("lock\": another process has held it for 10s"),
            "{error}"
        );
        let (second, ()) = tokio::join!(take_lock(&path, patience), async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(held);
        });
        assert!(second.is_ok());
        let absent = take_lock(Path::new("/no-such-dir/lock"), patience).await;
        assert!(matches!(absent, Err(DataDirsError::Lock { .. })));
    }
}
