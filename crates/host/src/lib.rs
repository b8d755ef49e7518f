//! The kernel and the disk: cgroups, mounts, files, processes, durable records.
//!
//! In:    paths and limits computed by `decide`; process IDs reported by the runtime
//! Out:   typed results; nothing here knows what a pod is
//! Calls: the acting tasks, through [`Blocking::run`], the only way to make calls that may hang
//! Holds: every path of the product starts at a [`HostRoot`], so that tests and the simulation use a directory; this is the
//!        only crate that may contain `unsafe` (one place: readable.rs; rustix covers all other calls)
//! Upstream: none
//!
//! | Module | What |
//! |---|---|
//! | [`blocking`] | blocking calls with a deadline |
//! | [`cgroup`], [`cgroup_v1`], [`cgroup_v2`] | one trait, two drivers |
//! | [`pidfd`] | the exit of a process as an event |
//! | [`mounts`] | the mount table, tmpfs, bind, unmount, propagation |
//! | [`files`], [`remove`], [`links`], [`usage`], [`host_path`], [`watch`] | files and directories |
//! | [`beneath`] | files that a container can change or a user can write |
//! | [`atomic_writer`], [`empty_dir`], [`ownership`], [`sub_path`] | volumes |
//! | [`journal`] | durable records |
//! | [`log_file`] | a container's log, read and followed |
//! | [`oom`] | oom_score_adj and RLIMIT_NOFILE |
//! | [`addresses`], [`opened`] | interfaces and routes; a lock file that is opened |

#![cfg_attr(
    test,
    expect(
        clippy::too_many_lines,
        reason = "tables and scenes of tests are read from top to bottom"
    )
)]

pub mod addresses;
pub mod atomic_writer;
pub mod beneath;
pub mod blocking;
pub mod cgroup;
pub mod cgroup_v1;
pub mod cgroup_v2;
pub mod empty_dir;
pub mod files;
pub mod host_path;
pub mod instance_logs;
pub mod journal;
pub mod kernel;
pub mod links;
pub mod log_file;
pub mod machine;
pub mod memory;
pub mod mounts;
pub mod oom;
pub mod opened;
pub mod ownership;
pub mod pidfd;
mod readable;
pub mod remove;
pub mod sockets;
pub mod stats;
pub mod sub_path;
#[cfg(test)]
mod testing;
pub mod usage;
pub mod watch;

use std::path::{Path, PathBuf};

pub use blocking::{Blocking, Overdue};

/// The root of the host's file tree: `/`, or a stand-in directory.
///
/// A stand-in has no kernel behind it: the modules here imitate what a plain directory does not have (cgroup control files, a
/// mount table at `proc/self/mountinfo`), and never send a signal or mount anything for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostRoot {
    prefix: Option<PathBuf>,
}

impl HostRoot {
    /// The machine itself.
    pub fn real() -> Self {
        Self { prefix: None }
    }

    /// A directory that replaces `/`; it must exist. Links in its own path are resolved now, so that paths from the kernel can
    /// be recognized as lying below it.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        Self {
            prefix: Some(directory.canonicalize().unwrap_or(directory)),
        }
    }

    /// The path to use for a path of the host; absolute and relative paths both start at this root.
    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        match &self.prefix {
            None => Path::new("/").join(path),
            Some(prefix) => prefix.join(path.strip_prefix("/").unwrap_or(path)),
        }
    }

    /// The host's name of a path from [`HostRoot::join`]; a path outside is returned unchanged.
    pub fn host_name_of<'a>(&self, joined: &'a Path) -> std::borrow::Cow<'a, Path> {
        match &self.prefix {
            Some(prefix) => match joined.strip_prefix(prefix) {
                Ok(rest) => Path::new("/").join(rest).into(),
                Err(_) => joined.into(),
            },
            None => joined.into(),
        }
    }

    /// Whether it was made by [`HostRoot::at`].
    pub fn is_stand_in(&self) -> bool {
        self.prefix.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_starts_at_the_root() {
        assert_eq!(
            HostRoot::real().join("/var/lib/kubelet"),
            Path::new("/var/lib/kubelet")
        );
        assert_eq!(HostRoot::real().join("etc"), Path::new("/etc"));
        let root = HostRoot::at("/no-such/x");
        assert_eq!(root.join("/var/lib"), Path::new("/no-such/x/var/lib"));
        assert_eq!(root.join("var"), Path::new("/no-such/x/var"));
        assert_eq!(root.join("/"), Path::new("/no-such/x/"));
        assert_eq!(
            root.host_name_of(Path::new("/no-such/x/var/lib")),
            Path::new("/var/lib")
        );
        assert_eq!(root.host_name_of(Path::new("/other")), Path::new("/other"));
    }
}
