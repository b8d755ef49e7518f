//! The exit of a process as an event, independent of the runtime.
//!
//! In:    the PID of a container's first process, from the runtime
//! Out:   one wake-up when it has ended; what distinguishes the process from a later one with the same PID
//! Calls: act/observe/pleg.rs
//! Holds: no polling, one descriptor per process; the PID may have been reused before `open`, so the caller opens it and then
//!        asks the runtime again whether the container with that PID still runs (or compares [`start_time`] and [`cgroup_of`])
//! Upstream: none (the Go kubelet lists all containers every second)

pub mod stand_in;

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use stand_in::StandInProcesses;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use crate::HostRoot;
use crate::files::read_bounded;
use crate::readable::readable;

/// The source of processes.
#[derive(Debug, Clone)]
pub enum Processes {
    /// This machine.
    Kernel,
    /// A simulation.
    StandIn(Arc<StandInProcesses>),
}

impl Processes {
    /// As [`ProcessExit::open`], for the kernel and for simulations.
    ///
    /// # Errors
    /// See there.
    pub fn open(&self, pid: u32) -> io::Result<ProcessExit> {
        match self {
            Self::Kernel => ProcessExit::open(pid),
            Self::StandIn(processes) => Ok(ProcessExit(Exit::StandIn(processes.open(pid)?))),
        }
    }
}

/// A process whose exit can be awaited.
#[derive(Debug)]
pub struct ProcessExit(Exit);

#[derive(Debug)]
enum Exit {
    Kernel(AsyncFd<OwnedFd>),
    StandIn(watch::Receiver<bool>),
}

impl ProcessExit {
    /// Opens the process that has this PID now. Needs the tokio runtime.
    ///
    /// # Errors
    /// ESRCH (see [`is_gone`]): no such process, so it has ended; EMFILE; ENOSYS before Linux 5.3.
    pub fn open(pid: u32) -> io::Result<Self> {
        let fd = readable(open(pid, PidfdFlags::NONBLOCK)?)?;
        Ok(Self(Exit::Kernel(fd)))
    }

    /// Whether it has ended already.
    ///
    /// # Errors
    /// The system call failed.
    pub fn has_ended(&self) -> io::Result<bool> {
        match &self.0 {
            Exit::Kernel(fd) => is_readable(fd.get_ref()),
            Exit::StandIn(ended) => Ok(*ended.borrow() || ended.has_changed().is_err()),
        }
    }

    /// Waits until it has ended (a zombie counts as ended).
    ///
    /// # Errors
    /// The runtime shuts down.
    pub async fn wait(self) -> io::Result<()> {
        let fd = match self.0 {
            Exit::Kernel(fd) => fd,
            Exit::StandIn(mut ended) => {
                // The sender is dropped only after it reported the end.
                drop(ended.wait_for(|ended| *ended).await);
                return Ok(());
            }
        };
        loop {
            let mut ready = fd.readable().await?;
            // Readiness may be spurious, says AsyncFd's contract.
            if is_readable(fd.get_ref())? {
                return Ok(());
            }
            ready.clear_ready();
        }
    }
}

/// Whether an error of [`ProcessExit::open`], or of reading `/proc/<pid>`, means that the process has ended.
pub fn is_gone(error: &io::Error) -> bool {
    let gone = rustix::io::Errno::SRCH.raw_os_error();
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(gone)
}

/// When the process started, in clock ticks after boot (field 22 of `/proc/<pid>/stat`). PID and start time together identify a
/// process until the next boot.
///
/// # Errors
/// See [`is_gone`]; `InvalidData` for a stat file of unknown form.
pub fn start_time(root: &HostRoot, pid: u32) -> io::Result<u64> {
    let text = read_small(&root.join(format!("/proc/{pid}/stat")))?;
    // The name may contain anything, even spaces and parentheses, so fields are counted after the last parenthesis.
    let fields = text
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_ascii_whitespace());
    let start = fields
        .and_then(|mut fields| fields.nth(19))
        .and_then(|field| field.parse().ok());
    start.ok_or_else(|| {
        io::Error::new(
            ErrorKind::InvalidData,
            format!("no start time in stat of process {pid}"),
        )
    })
}

/// The cgroup of the process: in the v2 hierarchy if no `controller` is given, else in that v1 controller.
///
/// # Errors
/// See [`is_gone`]; `InvalidData` if the process is in no such hierarchy.
pub fn cgroup_of(root: &HostRoot, pid: u32, controller: Option<&str>) -> io::Result<String> {
    let text = read_small(&root.join(format!("/proc/{pid}/cgroup")))?;
    let found = text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let fits = match controller {
            None => id == "0" && controllers.is_empty(),
            Some(wanted) => controllers.split(',').any(|name| name == wanted),
        };
        fits.then(|| path.to_owned())
    });
    found.ok_or_else(|| {
        io::Error::new(
            ErrorKind::InvalidData,
            format!("process {pid} is not in such a hierarchy"),
        )
    })
}

fn read_small(path: &Path) -> io::Result<String> {
    let bytes = read_bounded(path, 64 << 10).map_err(|error| match error {
        crate::files::FileError::Io { source, .. } => source,
        other => io::Error::other(other),
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn open(pid: u32, flags: PidfdFlags) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid =
        pid.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "a pid is a positive number"))?;
    Ok(pidfd_open(pid, flags)?)
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE)
    )
}

fn is_readable(fd: &OwnedFd) -> io::Result<bool> {
    Ok(poll(
        &mut [PollFd::new(fd, PollFlags::IN)],
        Some(&Timespec::default()),
    )? > 0)
}

/// Processes held by pidfds, so that a signal reaches exactly these. Blocking; for the removal of cgroups.
#[derive(Debug)]
pub(crate) struct HeldProcesses(Vec<(u32, OwnedFd)>);

impl HeldProcesses {
    /// Opens those that still exist.
    pub(crate) fn open(pids: &[u32]) -> io::Result<Self> {
        let mut held = Vec::new();
        for &pid in pids {
            match open(pid, PidfdFlags::empty()) {
                Ok(fd) => held.push((pid, fd)),
                Err(error) if is_gone(&error) => {}
                // Out of descriptors: these first, the others in the next round.
                Err(error) if !held.is_empty() && is_out_of_descriptors(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Self(held))
    }

    /// Sends SIGKILL to those among `pids` and waits for their exit, at most `wait` in total.
    pub(crate) fn kill(&self, pids: &[u32], wait: std::time::Duration) -> io::Result<()> {
        let chosen: Vec<_> = self
            .0
            .iter()
            .filter(|(pid, _)| pids.contains(pid))
            .collect();
        for (_, fd) in &chosen {
            match pidfd_send_signal(fd, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let until = std::time::Instant::now() + wait;
        for (_, fd) in &chosen {
            let left = until.saturating_duration_since(std::time::Instant::now());
            let left = Timespec::try_from(left).unwrap_or_default();
            poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&left))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::block_on;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    /// A process that runs until its stdin is closed.
    fn cat() -> std::process::Child {
        Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    #[test]
    fn an_exit_is_one_event_and_a_zombie_has_ended() {
        let mut child = cat();
        block_on(async {
            let exit = ProcessExit::open(child.id()).unwrap();
            assert!(!exit.has_ended().unwrap());
            assert!(
                tokio::time::timeout(Duration::from_millis(20), exit.wait())
                    .await
                    .is_err()
            );
            let exit = ProcessExit::open(child.id()).unwrap();
            drop(child.stdin.take());
            exit.wait().await.unwrap();
            assert!(
                ProcessExit::open(child.id()).unwrap().has_ended().unwrap(),
                "not reaped yet"
            );
            ProcessExit::open(child.id()).unwrap().wait().await.unwrap();
        });
        let pid = child.id();
        child.wait().unwrap();
        block_on(async { assert!(is_gone(&ProcessExit::open(pid).unwrap_err())) });
        assert!(is_gone(&start_time(&HostRoot::real(), pid).unwrap_err()));
    }

    #[test]
    fn a_simulated_process_ends_when_it_is_told_to() {
        let table = Arc::new(StandInProcesses::default());
        let processes = Processes::StandIn(Arc::clone(&table));
        assert!(is_gone(&processes.open(7).unwrap_err()));
        table.start(7);
        let (first, second) = (processes.open(7).unwrap(), processes.open(7).unwrap());
        assert!(!first.has_ended().unwrap());
        table.start(7);
        assert!(first.has_ended().unwrap(), "the pid was used again");
        block_on(async { first.wait().await.unwrap() });
        block_on(async { second.wait().await.unwrap() });
        assert!(!processes.open(7).unwrap().has_ended().unwrap());
        assert!(table.end(7) && !table.end(7));
    }

    #[test]
    fn many_waits_cost_one_descriptor_each_and_all_fire() {
        let mut child = cat();
        block_on(async {
            let waits: Vec<_> = (0..500)
                .map(|_| ProcessExit::open(child.id()).unwrap())
                .collect();
            drop(child.stdin.take());
            for wait in waits {
                wait.wait().await.unwrap();
            }
        });
        child.wait().unwrap();
    }

    #[test]
    fn pid_start_time_and_cgroup_tell_a_process() {
        let root = HostRoot::real();
        let mut child = cat();
        let (mine, its) = (
            start_time(&root, std::process::id()).unwrap(),
            start_time(&root, child.id()).unwrap(),
        );
        assert!(mine <= its);
        assert_eq!(start_time(&root, child.id()).unwrap(), its);
        let v2 = cgroup_of(&root, child.id(), None).unwrap();
        assert!(v2.starts_with('/'));
        assert!(cgroup_of(&root, child.id(), Some("no-such-controller")).is_err());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn names_with_parentheses_do_not_confuse_the_start_time() {
        let dir = crate::testing::TestDir::new();
        let root = HostRoot::at(dir.path());
        std::fs::create_dir_all(root.join("/proc/7")).unwrap();
        let numbers: Vec<_> = (4..=52).map(|n| n.to_string()).collect();
        std::fs::write(
            root.join("/proc/7/stat"),
            format!("7 (a) b ) c) S {}", numbers.join(" ")),
        )
        .unwrap();
        assert_eq!(start_time(&root, 7).unwrap(), 22);
        std::fs::write(
            root.join("/proc/7/cgroup"),
            "3:cpu,cpuacct:/kubepods/x:y\n0::/\n",
        )
        .unwrap();
        assert_eq!(
            cgroup_of(&root, 7, Some("cpuacct")).unwrap(),
            "/kubepods/x:y"
        );
        assert_eq!(cgroup_of(&root, 7, None).unwrap(), "/");
    }

    #[test]
    fn held_processes_are_killed_by_descriptor() {
        let (mut victim, mut other) = (cat(), cat());
        let held = HeldProcesses::open(&[victim.id(), other.id(), u32::MAX >> 2]).unwrap();
        held.kill(&[victim.id()], Duration::from_secs(10)).unwrap();
        assert!(!victim.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
