//! OOM kills from the kernel log, the kernel's version, and the kernel parameters that the kubelet sets.
//!
//! In:    `/dev/kmsg`, and a root directory (`/` in the product, a fixture in tests) for `/proc/sys`
//! Out:   [`OomKill`] per victim; [`TunableOutcome`] for the parameters
//! Calls: the OOM watcher task (an event SystemOOM if `victim_container` is `/`); wiring before the cgroup tree is created
//! Holds: a log that cannot be opened is a typed error, never a reason to stop; lost records are counted, never guessed
//! Upstream: vendor/github.com/google/cadvisor/utils/oomparser, pkg/kubelet/cm/container_manager_linux.go setupKernelTunables
//!           (1.36); differences: reading may start at the end of the log, so that a restart does not report old kills again;
//!           constraint and cgroup of a global kill are read too; a truncated OOM report does not swallow the next one

#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Why the kernel could not be queried.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel log cannot be opened: no permission, or none in this user namespace.
    #[error("open the kernel log {path}")]
    OpenLog {
        /// The log.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: Errno,
    },
    /// The kernel log can no longer be read.
    #[error("read the kernel log {path}")]
    ReadLog {
        /// The log.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

/// One process that the OOM killer killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OomKill {
    /// Microseconds since boot, from the log record that names the process.
    pub at_usec: u64,
    /// 0 if the log does not say.
    pub pid: u32,
    /// The command name; empty if the log does not say.
    pub process: String,
    /// The cgroup of the killed process; `/` if the log does not say.
    pub container: String,
    /// The cgroup whose limit was reached; `/` if the whole machine ran out of memory.
    pub victim_container: String,
    /// `CONSTRAINT_NONE`, `CONSTRAINT_MEMCG` and so on; empty on old kernels.
    pub constraint: String,
}

impl OomKill {
    /// The text of the event SystemOOM; `None` unless the whole machine ran out of memory.
    pub fn system_oom_message(&self) -> Option<String> {
        let known = !self.process.is_empty() && self.pid != 0;
        let victim =
            known.then(|| format!(", victim process: {}, pid: {}", self.process, self.pid));
        (self.victim_container == "/")
            .then(|| format!("System OOM encountered{}", victim.unwrap_or_default()))
    }
}

/// One record of the kernel log: `priority,sequence,microseconds,flags;message`, followed by lines of properties.
#[derive(Debug, PartialEq, Eq)]
pub struct LogRecord<'a> {
    /// Microseconds since boot.
    pub at_usec: u64,
    /// The first line.
    pub message: &'a str,
}

impl<'a> LogRecord<'a> {
    /// `None` for text that is not a record.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (head, body) = text.split_once(';')?;
        let at_usec = head.split(',').nth(2)?.parse().ok()?;
        Some(Self {
            at_usec,
            message: body.lines().next().unwrap_or_default(),
        })
    }
}

/// Assembles the records of an OOM report. Records are fed in order; a complete kill is returned.
#[derive(Debug, Default)]
pub struct OomParser {
    open: Option<OomKill>,
}

impl OomParser {
    /// The kill that this record completes, if any.
    pub fn feed(&mut self, record: &LogRecord<'_>) -> Option<OomKill> {
        if record.message.contains("invoked oom-killer:") {
            self.open = Some(OomKill {
                at_usec: record.at_usec,
                pid: 0,
                process: String::new(),
                container: "/".to_owned(),
                victim_container: "/".to_owned(),
                constraint: String::new(),
            });
            return None;
        }
        let kill = self.open.as_mut()?;
        let finished = read_summary(record.message, kill) || read_last_line(record.message, kill);
        read_legacy_container(record.message, kill);
        if !finished {
            return None;
        }
        kill.at_usec = record.at_usec;
        self.open.take()
    }
}

/// Kernels since 5.0: one line with everything. `global_oom` replaces the limit's cgroup if there is none.
fn read_summary(message: &str, kill: &mut OomKill) -> bool {
    let Some((_, rest)) = message.split_once("oom-kill:constraint=") else {
        return false;
    };
    let parts = || {
        // From the end, since a command's name may contain anything.
        let (rest, _uid) = rest.rsplit_once(",uid=")?;
        let (rest, pid) = rest.rsplit_once(",pid=")?;
        let (rest, process) = rest.rsplit_once(",task=")?;
        let (rest, container) = rest.split_once(",task_memcg=")?;
        let victim = rest
            .split_once(",oom_memcg=")
            .map_or("/", |(_, victim)| victim);
        Some((
            rest.split(',').next()?,
            victim,
            container,
            process,
            pid.parse().ok()?,
        ))
    };
    let Some((constraint, victim, container, process, pid)) = parts() else {
        return false;
    };
    *kill = OomKill {
        at_usec: kill.at_usec,
        pid,
        process: process.to_owned(),
        container: container.to_owned(),
        victim_container: victim.to_owned(),
        constraint: constraint.to_owned(),
    };
    true
}

/// Kernels before 5.0: the two cgroups are on a line of their own, before the last one.
fn read_legacy_container(message: &str, kill: &mut OomKill) {
    let parts = message
        .split_once("Task in ")
        .and_then(|(_, rest)| rest.split_once(" killed as a result of limit of "));
    if let Some((container, victim)) = parts {
        let rooted = |path: &str| format!("/{}", path.trim_matches('/'));
        kill.container = rooted(container);
        kill.victim_container = rooted(victim);
    }
}

/// `Killed process 123 (name)`: the last line of a report on every kernel.
fn read_last_line(message: &str, kill: &mut OomKill) -> bool {
    let parts = || {
        let (pid, rest) = message.split_once("Killed process ")?.1.split_once(" (")?;
        Some((pid.parse().ok()?, rest.rsplit_once(')')?.0))
    };
    let Some((pid, process)) = parts() else {
        return false;
    };
    kill.pid = pid;
    kill.process = process.to_owned();
    true
}

/// Where reading the kernel log starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStart {
    /// At its end: new records only.
    Now,
    /// At the oldest record, as upstream: old kills are reported again at each start.
    Oldest,
}

/// The kernel log, read as it grows.
#[derive(Debug)]
pub struct OomLog {
    path: PathBuf,
    log: AsyncFd<OwnedFd>,
    parser: OomParser,
    lost: u64,
}

/// The largest record is 8 KiB (PRINTK_MESSAGE_MAX and properties).
const RECORD_BYTES: usize = 8192 + 512;

impl OomLog {
    /// Opens `/dev/kmsg` (or the test's path). Needs a running tokio runtime.
    ///
    /// # Errors
    /// [`KernelError::OpenLog`] if it does not exist, is not readable, or cannot be polled.
    pub fn open(path: &Path, start: LogStart) -> Result<Self, KernelError> {
        let fail = |source| KernelError::OpenLog {
            path: path.to_owned(),
            source,
        };
        let file = rustix::fs::open(
            path,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(fail)?;
        if start == LogStart::Now {
            rustix::fs::seek(&file, SeekFrom::End(0)).map_err(fail)?;
        }
        let log = watch_readable(file)
            .map_err(|e| fail(Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
        Ok(Self {
            path: path.to_owned(),
            log,
            parser: OomParser::default(),
            lost: 0,
        })
    }

    /// Waits for the next kill. Cancel: safe, nothing that was read is lost.
    ///
    /// # Errors
    /// [`KernelError::ReadLog`] if the log ends or fails; do not call it again.
    pub async fn next(&mut self) -> Result<OomKill, KernelError> {
        let mut record = [0_u8; RECORD_BYTES];
        loop {
            let fail = |source| KernelError::ReadLog {
                path: self.path.clone(),
                source,
            };
            let mut ready = self.log.readable().await.map_err(fail)?;
            let read = ready.try_io(|log| match rustix::io::read(log, &mut record) {
                Err(Errno::PIPE) => Ok(None),
                other => Ok(Some(other?)),
            });
            match read {
                Err(_would_block) => {}
                // The ring buffer was overwritten before it was read; the next read continues with the oldest record.
                Ok(Ok(None)) => self.lost += 1,
                Ok(Ok(Some(0))) => return Err(fail(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(Ok(Some(length))) => {
                    let text = String::from_utf8_lossy(&record[..length]);
                    if let Some(kill) =
                        LogRecord::parse(&text).and_then(|record| self.parser.feed(&record))
                    {
                        return Ok(kill);
                    }
                }
                Ok(Err(source)) => return Err(fail(source)),
            }
        }
    }

    /// How often the kernel overwrote records before they were read.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[expect(
    unsafe_code,
    reason = "tokio's only way to wait on a descriptor of our own"
)]
fn watch_readable(file: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the AsyncFd owns the descriptor, so it stays open and the same for as long as it is registered.
    unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) }.map_err(Into::into)
}

/// The kernel release, as `uname -r` prints it.
pub fn kernel_version() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// Identifies the boot of the machine: the kernel's boot ID as a number; `None` if it is not available.
pub fn boot_id() -> Option<u128> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()
}

/// The time since boot, including suspend; it continues across restarts of the process, and cannot be set.
pub fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(time).unwrap_or(Duration::ZERO)
}

/// A kernel parameter and the value that the kubelet wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunable {
    /// The name under `/proc/sys`.
    pub name: &'static str,
    /// The wanted value.
    pub value: i64,
}

/// The parameters that the kubelet sets at start, by name.
pub const TUNABLES: [Tunable; 6] = [
    Tunable {
        name: "kernel/keys/root_maxbytes",
        value: 25_000_000,
    },
    Tunable {
        name: "kernel/keys/root_maxkeys",
        value: 1_000_000,
    },
    Tunable {
        name: "kernel/panic",
        value: 10,
    },
    Tunable {
        name: "kernel/panic_on_oops",
        value: 1,
    },
    Tunable {
        name: "vm/overcommit_memory",
        value: 1,
    },
    Tunable {
        name: "vm/panic_on_oom",
        value: 0,
    },
];

/// What to do about a parameter with another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunablePolicy {
    /// Set it.
    Modify,
    /// `protectKernelDefaults`: leave it unchanged and report an error.
    Refuse,
}

/// Why a parameter does not have its wanted value.
#[derive(Debug, thiserror::Error)]
pub enum TunableError {
    /// It cannot be read.
    #[error("read kernel flag {name}")]
    Read {
        /// The parameter.
        name: &'static str,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be set.
    #[error("set kernel flag {name} to {value}")]
    Write {
        /// The parameter.
        name: &'static str,
        /// The wanted value.
        value: i64,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// It has another value and must not be changed.
    #[error("invalid kernel flag: {name}, expected value: {expected}, actual value: {actual}")]
    Differs {
        /// The parameter.
        name: &'static str,
        /// The wanted value.
        expected: i64,
        /// The current value.
        actual: i64,
    },
}

/// The result of [`apply_tunables`]; every parameter is tried, whatever happens to the others.
#[derive(Debug, Default)]
pub struct TunableOutcome {
    /// Each parameter that was set, with its previous value.
    pub changed: Vec<(Tunable, i64)>,
    /// What failed. With [`TunablePolicy::Refuse`] any entry stops the kubelet.
    pub errors: Vec<TunableError>,
}

/// Sets `tunables` to their wanted values, or reports which differ. Blocking, but never for long.
pub fn apply_tunables(root: &Path, tunables: &[Tunable], policy: TunablePolicy) -> TunableOutcome {
    let mut outcome = TunableOutcome::default();
    for tunable in tunables {
        let Tunable { name, value } = *tunable;
        let path = root.join("proc/sys").join(name);
        let parse = |text: String| text.trim().parse::<i64>().map_err(std::io::Error::other);
        let actual = match std::fs::read_to_string(&path).and_then(parse) {
            Ok(actual) if actual == value => continue,
            Ok(actual) => actual,
            Err(source) => {
                outcome.errors.push(TunableError::Read { name, source });
                continue;
            }
        };
        match policy {
            TunablePolicy::Refuse => outcome.errors.push(TunableError::Differs {
                name,
                expected: value,
                actual,
            }),
            TunablePolicy::Modify => match std::fs::write(&path, value.to_string()) {
                Ok(()) => outcome.changed.push((*tunable, actual)),
                Err(source) => outcome.errors.push(TunableError::Write {
                    name,
                    value,
                    source,
                }),
            },
        }
    }
    outcome
}
