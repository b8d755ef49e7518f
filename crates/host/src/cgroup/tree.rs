//! One mounted cgroup hierarchy, as a tree of directories with control files.
//!
//! In:    checked paths, names of control files
//! Out:   directories created and removed, files read and written
//! Calls: cgroup_v1.rs (one tree per controller), cgroup_v2.rs (one tree)
//! Holds: no path leaves the mount; removal starts with the children and uses only rmdir
//! Upstream: vendor/github.com/opencontainers/cgroups (utils.go, fscommon)

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{CgroupError, stand_in};
use crate::HostRoot;
use crate::pidfd::HeldProcesses;

/// A hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree {
    /// The mount point, under the host root.
    pub(crate) mount: PathBuf,
    /// Whether it is a stand-in without a kernel.
    pub(crate) is_stand_in: bool,
}

/// The number of rounds of killing and removing.
const TRIES: u32 = 5;
/// How long each round waits for killed processes to end.
const END_OF_KILLED: Duration = Duration::from_millis(500);

/// The components of a cgroup path: absolute, without empty, `.` or `..` components.
pub(crate) fn names(path: &str) -> Result<Vec<&str>, CgroupError> {
    let bad = || CgroupError::BadPath(path.to_owned());
    let rest = path.strip_prefix('/').ok_or_else(bad)?;
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<_> = rest.split('/').collect();
    if names
        .iter()
        .any(|name| matches!(*name, "" | "." | "..") || name.contains('\0'))
    {
        return Err(bad());
    }
    Ok(names)
}

impl Tree {
    pub(crate) fn new(root: &HostRoot, mount_point: &Path) -> Self {
        Self {
            mount: root.join(mount_point),
            is_stand_in: root.is_stand_in(),
        }
    }

    /// The directory of a cgroup.
    pub(crate) fn directory(&self, path: &str) -> Result<PathBuf, CgroupError> {
        Ok(names(path)?
            .into_iter()
            .fold(self.mount.clone(), |at, name| at.join(name)))
    }

    /// The directories from the root to the cgroup, both included.
    pub(crate) fn directories(&self, path: &str) -> Result<Vec<PathBuf>, CgroupError> {
        let mut at = self.mount.clone();
        let mut all = vec![at.clone()];
        for name in names(path)? {
            at.push(name);
            all.push(at.clone());
        }
        Ok(all)
    }

    /// Creates one directory in an existing one; true if it did not exist.
    pub(crate) fn make(&self, directory: &Path) -> Result<bool, CgroupError> {
        match std::fs::DirBuilder::new().mode(0o755).create(directory) {
            Ok(()) => {
                if self.is_stand_in {
                    stand_in::fill(directory)
                        .map_err(|e| CgroupError::io("fill stand-in", directory, e))?;
                }
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(CgroupError::io("create cgroup", directory, error)),
        }
    }

    /// Writes a control file. It must exist, since the kernel creates them, except under a stand-in.
    pub(crate) fn write(
        &self,
        directory: &Path,
        file: &str,
        value: &str,
    ) -> Result<(), CgroupError> {
        let path = directory.join(file);
        let written = if self.is_stand_in {
            stand_in::write(directory, file, value)
        } else {
            // One write call: the kernel treats each as a complete value.
            std::fs::File::options()
                .write(true)
                .open(&path)
                .and_then(|mut file| file.write_all(value.as_bytes()))
        };
        written.map_err(|source| CgroupError::io(format!("write {value:?} to"), &path, source))
    }

    /// The content of a control file, trimmed.
    pub(crate) fn read(&self, directory: &Path, file: &str) -> Result<String, CgroupError> {
        let path = directory.join(file);
        let text = std::fs::read_to_string(&path)
            .map_err(|source| CgroupError::io("read", &path, source))?;
        Ok(text.trim().to_owned())
    }

    /// A number; `max` reads as `None`.
    pub(crate) fn read_number<T: std::str::FromStr>(
        &self,
        directory: &Path,
        file: &str,
    ) -> Result<Option<T>, CgroupError> {
        let text = self.read(directory, file)?;
        if text == "max" {
            return Ok(None);
        }
        let invalid =
            || io::Error::new(ErrorKind::InvalidData, format!("{text:?} is not a number"));
        text.parse()
            .map(Some)
            .map_err(|_| CgroupError::io("read", &directory.join(file), invalid()))
    }

    /// The names of the directories in one; none if it does not exist.
    pub(crate) fn children_of(&self, directory: &Path) -> Result<BTreeSet<String>, CgroupError> {
        let failed = |source| CgroupError::io("list", directory, source);
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => return Ok(BTreeSet::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = BTreeSet::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if entry.file_type().map_err(failed)?.is_dir()
                && let Some(name) = entry.file_name().to_str()
            {
                names.insert(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Adds the processes of a directory and of those below it.
    pub(crate) fn add_pids(
        &self,
        directory: &Path,
        pids: &mut BTreeSet<u32>,
    ) -> Result<(), CgroupError> {
        let file = directory.join("cgroup.procs");
        match std::fs::read_to_string(&file) {
            // 0 stands for a process of another PID namespace, which cannot be addressed from here.
            Ok(text) => pids.extend(
                text.lines()
                    .filter_map(|line| line.parse().ok())
                    .filter(|pid: &u32| *pid != 0),
            ),
            Err(error) if is_gone(&error) => {}
            // A threaded v2 cgroup: its processes are listed in its domain.
            Err(error)
                if error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => {}
            Err(error) => return Err(CgroupError::io("read", &file, error)),
        }
        for name in self.children_of(directory)? {
            self.add_pids(&directory.join(name), pids)?;
        }
        Ok(())
    }

    /// Removes a directory, children first. A missing directory counts as removed; EBUSY is returned as `ResourceBusy`.
    fn remove_directories(&self, directory: &Path) -> Result<(), CgroupError> {
        for name in self.children_of(directory)? {
            self.remove_directories(&directory.join(name))?;
        }
        let removed = if self.is_stand_in {
            stand_in::rmdir(directory)
        } else {
            std::fs::remove_dir(directory)
        };
        match removed {
            Err(error) if !is_gone(&error) => {
                Err(CgroupError::io("remove cgroup", directory, error))
            }
            _ => Ok(()),
        }
    }
}

/// ENOENT, and ENODEV for a control file of a cgroup that was just removed.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

/// The processes of a cgroup in all trees.
pub(crate) fn pids(trees: &[Tree], path: &str) -> Result<Vec<u32>, CgroupError> {
    let mut pids = BTreeSet::new();
    for tree in trees {
        tree.add_pids(&tree.directory(path)?, &mut pids)?;
    }
    Ok(pids.into_iter().collect())
}

/// Kills the processes of a cgroup and removes it from all trees.
pub(crate) fn remove(trees: &[Tree], path: &str) -> Result<(), CgroupError> {
    if names(path)?.is_empty() {
        return Err(CgroupError::BadPath(path.to_owned()));
    }
    let mut left = Vec::new();
    for attempt in 0..TRIES {
        left = kill(trees, path)?;
        let mut is_busy = false;
        for tree in trees {
            match tree.remove_directories(&tree.directory(path)?) {
                Err(CgroupError::Io { source, .. }) if source.kind() == ErrorKind::ResourceBusy => {
                    is_busy = true
                }
                Err(CgroupError::Io { source, .. })
                    if source.kind() == ErrorKind::DirectoryNotEmpty =>
                {
                    is_busy = true
                }
                other => other?,
            }
        }
        if !is_busy {
            return Ok(());
        }
        // The kernel releases ended processes with a delay, and v1 has no event for it.
        let pause = Duration::from_millis(10 << attempt);
        let pause = rustix::event::Timespec::try_from(pause).unwrap_or_default();
        if attempt + 1 < TRIES && !trees.iter().any(|tree| tree.is_stand_in) {
            rustix::event::poll(&mut [], Some(&pause)).unwrap_or_default();
        }
    }
    Err(CgroupError::Busy {
        path: path.to_owned(),
        tries: TRIES,
        pids: left,
    })
}

/// One round; returns the processes that were found.
fn kill(trees: &[Tree], path: &str) -> Result<Vec<u32>, CgroupError> {
    let found = pids(trees, path)?;
    if found.is_empty() {
        return Ok(found);
    }
    if trees.iter().any(|tree| tree.is_stand_in) {
        for tree in trees {
            let directory = tree.directory(path)?;
            stand_in::end_processes(&directory)
                .map_err(|e| CgroupError::io("end processes of", &directory, e))?;
        }
        return Ok(found);
    }
    let failed = |source| {
        CgroupError::io(
            format!("kill processes {found:?} of"),
            Path::new(path),
            source,
        )
    };
    let held = HeldProcesses::open(&found).map_err(failed)?;
    // A PID may have been reused before its pidfd was opened: only processes that are still listed are killed.
    let still_there = pids(trees, path)?;
    for tree in trees {
        // v2 since 5.14: kills all processes at once, including those that a fork bomb creates meanwhile.
        let directory = tree.directory(path)?;
        if directory.join("cgroup.kill").exists() {
            tree.write(&directory, "cgroup.kill", "1")?;
        }
    }
    held.kill(&still_there, END_OF_KILLED).map_err(failed)?;
    Ok(still_there)
}
