//! Usage of directories, of file systems and of this process.
//!
//! In:    a path and a budget; or the root directory, for `/proc/self`
//! Out:   [`DirectoryUsage`], [`FilesystemUsage`], [`ProcessUsage`]
//! Calls: the resource analyzer (emptyDir usage, each minute, on a blocking thread); the server's `process_*` metrics
//! Holds: a walk that exhausts its budget ends and is marked as incomplete; only the device of the start directory is counted
//! Upstream: vendor/github.com/google/cadvisor/fs/fs.go GetDirUsage, pkg/volume/metrics_du.go; the Go client library's process
//!           collector (1.36); differences: the budget

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};

use crate::files::open_beneath;

/// Why a figure could not be read.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// The path, or its file system, could not be inspected.
    #[error("{operation} {path}")]
    Look {
        /// The system call.
        operation: &'static str,
        /// The path.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: rustix::io::Errno,
    },
    /// A file under `/proc/self` could not be read or parsed.
    #[error("read {path}: {why}")]
    Proc {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// The limits of a walk.
#[derive(Debug, Clone, Copy)]
pub struct WalkBudget {
    /// The number of entries.
    pub entries: u64,
    /// The time.
    pub time: Duration,
}

/// The usage of a directory tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DirectoryUsage {
    /// Allocated blocks, in bytes; a file with several links counts once.
    pub bytes: u64,
    /// Files and directories, including the start; a file with several links counts once.
    pub inodes: u64,
    /// False if the budget was exhausted: the figures are then a lower bound.
    pub complete: bool,
}

/// The usage of a file system, in bytes and inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilesystemUsage {
    /// All bytes.
    pub capacity: u64,
    /// Bytes that an ordinary user can still write.
    pub available: u64,
    /// Free bytes, including root's reserve.
    pub free: u64,
    /// All inodes.
    pub inodes: u64,
    /// Inodes not in use.
    pub inodes_free: u64,
}

/// Walks `start` without following links or entering another device.
///
/// Entries that vanish meanwhile are not an error. A directory that cannot be read is not one either: it counts as itself.
///
/// # Errors
/// [`StatsError::Look`] if `start` itself cannot be inspected.
pub fn directory_usage(start: &Path, budget: WalkBudget) -> Result<DirectoryUsage, StatsError> {
    let look = |source| StatsError::Look {
        operation: "stat",
        path: start.to_owned(),
        source,
    };
    let first = rustix::fs::statat(CWD, start, AtFlags::SYMLINK_NOFOLLOW).map_err(look)?;
    let mut walk = Walk {
        usage: DirectoryUsage::default(),
        several_names: BTreeSet::new(),
    };
    let started = Instant::now();
    walk.add(&first);
    // Below the open directory, so that a link that is put in place meanwhile leads nowhere.
    let top = rustix::fs::open(
        start,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let top = top.map_err(look)?;
    let mut pending = vec![PathBuf::from(".")];
    let mut seen: u64 = 1;
    while let Some(path) = pending.pop() {
        let Ok(handle) = open_beneath(&top, &path, OFlags::RDONLY | OFlags::DIRECTORY) else {
            continue;
        };
        let Ok(entries) = Dir::read_from(&handle) else {
            continue;
        };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if seen >= budget.entries || started.elapsed() >= budget.time {
                return Ok(walk.usage);
            }
            seen += 1;
            let Ok(found) = rustix::fs::statat(&handle, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if found.st_dev != first.st_dev || !walk.add(&found) {
                continue;
            }
            if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
                pending.push(path.join(OsStr::from_bytes(name.to_bytes())));
            }
        }
    }
    walk.usage.complete = true;
    Ok(walk.usage)
}

struct Walk {
    usage: DirectoryUsage,
    several_names: BTreeSet<u64>,
}

impl Walk {
    /// False if this inode was counted before.
    fn add(&mut self, found: &rustix::fs::Stat) -> bool {
        if found.st_nlink > 1
            && FileType::from_raw_mode(found.st_mode) != FileType::Directory
            && !self.several_names.insert(found.st_ino)
        {
            return false;
        }
        // st_blocks counts units of 512 bytes, whatever the file system's block size is.
        self.usage.bytes += u64::try_from(found.st_blocks).unwrap_or(0) * 512;
        self.usage.inodes += 1;
        true
    }
}

/// The usage of the file system that holds `path`. May hang on a dead network server: call it on a blocking thread.
///
/// # Errors
/// [`StatsError::Look`].
pub fn filesystem_usage(path: &Path) -> Result<FilesystemUsage, StatsError> {
    let look = |source| StatsError::Look {
        operation: "statfs",
        path: path.to_owned(),
        source,
    };
    let seen = rustix::fs::statvfs(path).map_err(look)?;
    Ok(FilesystemUsage {
        capacity: seen.f_frsize * seen.f_blocks,
        available: seen.f_frsize * seen.f_bavail,
        free: seen.f_frsize * seen.f_bfree,
        inodes: seen.f_files,
        inodes_free: seen.f_ffree,
    })
}

/// The resource usage of this process, for the `process_*` metrics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcessUsage {
    /// User and system time, in seconds.
    pub cpu_seconds: f64,
    /// Resident bytes.
    pub resident_bytes: u64,
    /// Address space, in bytes.
    pub virtual_bytes: u64,
    /// Limit of the address space, in bytes; `None` if unlimited.
    pub virtual_max_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Soft limit of file descriptors; `None` if unlimited.
    pub max_fds: Option<u64>,
    /// When the process started, in seconds since 1970.
    pub start_seconds: f64,
    /// Bytes received and sent in the process's network namespace, including loopback.
    pub network_bytes: (u64, u64),
}

/// Reads `/proc/self`, about six small files.
///
/// # Errors
/// [`StatsError::Proc`].
pub fn process_usage() -> Result<ProcessUsage, StatsError> {
    let read = |path: &str| {
        std::fs::read_to_string(path).map_err(|e| StatsError::Proc {
            path: path.into(),
            why: e.to_string(),
        })
    };
    let strange = |path: &str| StatsError::Proc {
        path: path.into(),
        why: "unexpected content".to_owned(),
    };
    let stat = read("/proc/self/stat")?;
    // The command name is in parentheses and may contain anything, so fields are counted after the last parenthesis.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_ascii_whitespace().collect())
        .unwrap_or_default();
    let field = |n: usize| {
        fields
            .get(n - 3)
            .and_then(|f| f.parse::<u64>().ok())
            .ok_or_else(|| strange("/proc/self/stat"))
    };
    let ticks = rustix::param::clock_ticks_per_second();
    let boot = read("/proc/stat")?;
    let boot = boot
        .lines()
        .find_map(|l| l.strip_prefix("btime ")?.trim().parse::<u64>().ok());
    let limit = |resource| rustix::process::getrlimit(resource).current;
    let network = read("/proc/self/net/dev")
        .map(|text| network_bytes(&text))
        .unwrap_or_default();
    Ok(ProcessUsage {
        cpu_seconds: seconds(field(14)? + field(15)?, ticks),
        resident_bytes: field(24)? * rustix::param::page_size() as u64,
        virtual_bytes: field(23)?,
        virtual_max_bytes: limit(rustix::process::Resource::As),
        open_fds: std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
        max_fds: limit(rustix::process::Resource::Nofile),
        start_seconds: seconds(
            boot.ok_or_else(|| strange("/proc/stat"))? * ticks + field(22)?,
            ticks,
        ),
        network_bytes: network,
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds of a process's life fit a double"
)]
fn seconds(ticks: u64, per_second: u64) -> f64 {
    ticks as f64 / per_second as f64
}

/// Sums of the receive and transmit columns over all devices.
fn network_bytes(text: &str) -> (u64, u64) {
    let mut total = (0, 0);
    for (_, counts) in text.lines().filter_map(|line| line.split_once(':')) {
        let counts: Vec<u64> = counts
            .split_ascii_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        total.0 += counts.first().copied().unwrap_or(0);
        total.1 += counts.get(8).copied().unwrap_or(0);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMPLE: WalkBudget = WalkBudget {
        entries: 1000,
        time: Duration::from_secs(60),
    };

    fn scratch(name: &str) -> PathBuf {
        let dir =
            std::env::temp_dir().join(format!("hyperkube-stats-{name}-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        dir
    }

    #[test]
    fn a_walk_counts_blocks_and_names_once_and_stops_at_links() {
        let dir = scratch("walk");
        std::fs::write(dir.join("sub/a"), vec![1; 10_000]).unwrap();
        std::fs::hard_link(dir.join("sub/a"), dir.join("b")).unwrap();
        std::os::unix::fs::symlink("/", dir.join("root")).unwrap();
        let usage = directory_usage(&dir, AMPLE).unwrap();
        assert_eq!((usage.inodes, usage.complete), (4, true));
        let blocks = |p: &str| {
            std::os::unix::fs::MetadataExt::blocks(&std::fs::symlink_metadata(dir.join(p)).unwrap())
                * 512
        };
        assert_eq!(
            usage.bytes,
            blocks("") + blocks("sub") + blocks("sub/a") + blocks("root")
        );
        let short = directory_usage(
            &dir,
            WalkBudget {
                entries: 2,
                ..AMPLE
            },
        )
        .unwrap();
        assert_eq!((short.inodes, short.complete), (2, false));
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(
            directory_usage(&dir, AMPLE).unwrap_err().to_string(),
            format!("stat {}", dir.display())
        );
    }

    #[test]
    fn a_filesystem_has_room_within_its_capacity() {
        let usage = filesystem_usage(Path::new("/")).unwrap();
        assert!(
            usage.capacity >= usage.free
                && usage.free >= usage.available
                && usage.inodes >= usage.inodes_free
        );
        assert!(usage.capacity > 0);
    }

    #[test]
    fn this_process_uses_what_proc_status_says() {
        let usage = process_usage().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let kib = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
            line.trim()
                .strip_suffix(" kB")
                .unwrap()
                .trim()
                .parse::<u64>()
                .unwrap()
                * 1024
        };
        assert!(
            usage.resident_bytes.abs_diff(kib("VmRSS:")) < 8 << 20,
            "{usage:?}"
        );
        assert!(
            usage.virtual_bytes.abs_diff(kib("VmSize:")) < 256 << 20,
            "{usage:?}"
        );
        assert!(usage.open_fds >= 3 && usage.max_fds.is_none_or(|max| max >= usage.open_fds));
        assert!(usage.start_seconds > 1_600_000_000.0 && usage.cpu_seconds >= 0.0);
    }

    #[test]
    fn network_columns_are_summed_over_devices() {
        let text = "Inter-| Receive | Transmit\n face |bytes packets\n lo: 10 1 0 0 0 0 0 0 20 1 0\neth0:5 1 0 0 0 0 0 0 7 1 0\n";
        assert_eq!(network_bytes(text), (15, 27));
    }
}
