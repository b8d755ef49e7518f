//! The log files of one container: `<attempt>.log` of every instance, and its rotated parts.
//!
//! In:    the directory of all pods' logs, a container's directory below it
//! Out:   the files of an instance are deleted; the attempts that have files
//! Calls: act/pod/host_work
//! Holds: files are found below an open directory without following links, so a container that can write there cannot redirect
//!        a deletion; only files are deleted
//! Upstream: pkg/kubelet/logs/container_log_manager.go (Clean), pkg/kubelet/kuberuntime/kuberuntime_container.go
//!           (calcRestartCountByLogDir), 1.36

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, OFlags};
use rustix::io::Errno;

use crate::beneath::{Mounts, open_below, open_directory};

/// The most names that are read; a directory with more was not made by a kubelet.
const MOST_NAMES: usize = 100_000;

fn open(logs: &Path, below: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let opened =
        open_directory(logs).and_then(|logs| open_below(&logs, below, flags, Mounts::Refused));
    match opened {
        Ok(directory) => Ok(Some(directory)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The attempt in a file name.
fn attempt_of(name: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(name).ok()?;
    let (attempt, rest) = text.split_once(".log")?;
    let is_plain = attempt.bytes().all(|c| c.is_ascii_digit());
    let is_log = rest.is_empty() || rest.starts_with('.');
    attempt.parse().ok().filter(|_| is_plain && is_log)
}

/// Deletes the log of one instance and its rotated parts. Missing files are not an error.
///
/// # Errors
/// The system call failed; ELOOP for a link in the path.
pub fn remove(logs: &Path, below: &Path, attempt: u32) -> io::Result<()> {
    let Some(directory) = open(logs, below)? else {
        return Ok(());
    };
    for entry in Dir::read_from(&directory)?.take(MOST_NAMES) {
        let entry = entry?;
        let name = entry.file_name();
        if attempt_of(name.to_bytes()) != Some(attempt) {
            continue;
        }
        match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
            // A directory is not a log.
            Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// The highest attempt that has a log.
///
/// # Errors
/// As [`remove`].
pub fn highest_attempt(logs: &Path, below: &Path) -> io::Result<Option<u32>> {
    let Some(directory) = open(logs, below)? else {
        return Ok(None);
    };
    let names = Dir::read_from(&directory)?.take(MOST_NAMES);
    let attempts = names.filter_map(|entry| attempt_of(entry.ok()?.file_name().to_bytes()));
    Ok(attempts.max())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::testing::TestDir;

    fn names(path: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(path).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_log_of_one_instance_goes_with_its_rotated_parts() {
        let dir = TestDir::new();
        let own = dir.path().join("ns_pod_uid/c");
        std::fs::create_dir_all(own.join("1.log.d")).unwrap();
        for name in [
            "0.log",
            "1.log",
            "1.log.20260101-000000.gz",
            "1.logger",
            "10.log",
            "x1.log",
            "1.txt",
        ] {
            std::fs::write(own.join(name), "").unwrap();
        }
        let below = Path::new("ns_pod_uid/c");
        assert_eq!(highest_attempt(dir.path(), below).unwrap(), Some(10));
        remove(dir.path(), below, 1).unwrap();
        let left = ["0.log", "1.log.d", "1.logger", "1.txt", "10.log", "x1.log"];
        assert_eq!(names(&own), left);
        remove(dir.path(), below, 1).unwrap();
        remove(dir.path(), Path::new("ns_pod_uid/gone"), 1).unwrap();
        assert_eq!(
            highest_attempt(dir.path(), Path::new("gone")).unwrap(),
            None
        );
    }

    #[test]
    fn a_link_in_place_of_a_directory_of_logs_leads_nowhere() {
        let (dir, other) = (TestDir::new(), TestDir::new());
        std::fs::write(other.path().join("0.log"), "").unwrap();
        std::fs::create_dir(dir.path().join("ns_pod_uid")).unwrap();
        symlink(other.path(), dir.path().join("ns_pod_uid/c")).unwrap();
        let below = Path::new("ns_pod_uid/c");
        assert!(remove(dir.path(), below, 0).is_err());
        assert!(highest_attempt(dir.path(), below).is_err());
        assert_eq!(names(other.path()), ["0.log"]);
    }
}
