//! Emits `SystemOOM` events and counts processes that the kernel's OOM killer ended.
//!
//! In:    the kernel's log
//! Out:   a warning per kill, `hyperkube_oom_kills_total`; event `SystemOOM` when the machine itself ran out
//! Calls: wiring
//! Holds: kills before the kubelet's start are not reported again; a kernel log that ends is reopened
//! Upstream: pkg/kubelet/oom/oom_watcher_linux.go; differences: upstream tells old kills again at each start, and nothing of
//!           kills inside a pod's limit

use std::fmt;
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubelet_decide::report::events::system_oom;
use kubelet_host::HostRoot;
use kubelet_host::files::read_text_bounded;
use kubelet_host::kernel::{KernelError, LogStart, OomKill, OomLog};
use prometheus::{IntCounterVec, Opts, Registry};

use tokio::sync::Mutex;

use crate::frame::reconciler::{Pace, Reconciler, RoundError, RoundResult, WakeReason};
use crate::report::events::Events;

/// The watcher.
#[derive(Clone, Debug)]
pub struct OomWatcher {
    path: PathBuf,
    /// `None` before it is opened, and after it ended.
    log: Arc<Mutex<Option<OomLog>>>,
    /// Read, and not told yet.
    seen: Vec<OomKill>,
    kills: IntCounterVec,
    events: Events,
}

impl OomWatcher {
    /// A watcher of `/dev/kmsg` below a root.
    ///
    /// # Errors
    /// When the metric's name is taken.
    pub fn new(
        root: &HostRoot,
        registry: &Registry,
        events: Events,
    ) -> Result<Self, prometheus::Error> {
        let options = Opts::new(
            "hyperkube_oom_kills_total",
            "Processes killed by the OOM killer, by what ran out of memory",
        );
        let kills = IntCounterVec::new(options, &["scope"])?;
        registry.register(Box::new(kills.clone()))?;
        Ok(Self {
            path: root.join("/dev/kmsg"),
            log: Arc::default(),
            seen: Vec::new(),
            kills,
            events,
        })
    }

    /// Opens the log; kills from here on are told.
    ///
    /// # Errors
    /// The log cannot be opened; whether that matters is [`is_unreadable_log_tolerated`].
    pub fn open(&mut self) -> Result<(), KernelError> {
        let log = OomLog::open(&self.path, LogStart::Now)?;
        self.log = Arc::new(Mutex::new(Some(log)));
        Ok(())
    }

    /// A round for each kill; without any, a look each minute whether the log is open.
    pub fn pace() -> Pace {
        Pace {
            gap: Duration::ZERO,
            retry: Duration::from_secs(5),
            ..Pace::every(Duration::from_secs(60))
        }
    }

    fn record(&self, kill: &OomKill) {
        match kill.system_oom_message() {
            Some(message) => {
                self.kills.with_label_values(&["system"]).inc();
                tracing::warn!(
                    reason = "SystemOOM",
                    message,
                    constraint = kill.constraint,
                    "Got sys oom event"
                );
                self.events.node(system_oom(message));
            }
            None => {
                self.kills.with_label_values(&["cgroup"]).inc();
                tracing::warn!(
                    process = kill.process,
                    pid = kill.pid,
                    cgroup = kill.container,
                    limit_of = kill.victim_container,
                    "Process was killed at its cgroup's memory limit"
                );
            }
        }
    }
}

impl Reconciler for OomWatcher {
    const NAME: &'static str = "oom_watcher";
    type Seen = Vec<OomKill>;
    type Plan = Kills;

    async fn observe(&mut self, _why: WakeReason) -> Result<Vec<OomKill>, RoundError> {
        let mut log = self.log.lock().await;
        if log.is_none() {
            // What is killed meanwhile is not seen: the log begins where it is opened.
            let opened = OomLog::open(&self.path, LogStart::Now);
            *log = Some(opened.map_err(|error| RoundError::of(&error))?);
        }
        Ok(std::mem::take(&mut self.seen))
    }

    fn decide(&self, seen: Vec<OomKill>, _now: Timestamp) -> Kills {
        Kills(seen)
    }

    async fn act(&mut self, kills: Kills) -> RoundResult {
        kills.0.iter().for_each(|kill| self.record(kill));
        Ok(())
    }

    async fn changed(&mut self) {
        let mut held = self.log.lock().await;
        let Some(log) = held.as_mut() else {
            drop(held);
            return pending().await;
        };
        match log.next().await {
            Ok(kill) => self.seen.push(kill),
            Err(error) => {
                tracing::error!(err = %RoundError::of(&error), lost = log.lost(), "Unexpectedly stopped receiving OOM notifications");
                *held = None;
            }
        }
    }
}

/// Kills that are told in a round.
#[derive(Debug)]
pub struct Kills(Vec<OomKill>);

impl fmt::Display for Kills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            0 => Ok(()),
            kills => write!(f, "tell {kills} kills"),
        }
    }
}

/// Whether the kubelet goes on without the kernel's log: only inside a user namespace, and with the gate for it.
pub fn is_unreadable_log_tolerated(root: &HostRoot, is_user_namespace_gate_on: bool) -> bool {
    let map = read_text_bounded(&root.join("/proc/self/uid_map"), 1 << 16).unwrap_or_default();
    // What the first namespace shows, and old kernels without namespaces show nothing at all.
    let fields: Vec<&str> = map.split_whitespace().collect();
    let is_first = fields.is_empty() || fields == ["0", "0", "4294967295"];
    !is_first && is_user_namespace_gate_on
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[tokio::test]
    async fn the_machines_log_is_watched_and_an_absent_one_is_an_error() {
        let scratch = Scratch::new();
        let root = HostRoot::at(scratch.path());
        let mut watcher = OomWatcher::new(&root, &Registry::new(), Events::logged("n")).unwrap();
        let error = watcher.open().unwrap_err();
        assert!(
            error.to_string().starts_with("open the kernel log "),
            "{error}"
        );
        let round = watcher.observe(WakeReason::Start).await;
        assert!(round.unwrap_err().0.starts_with("open the kernel log "));
        // Not every machine lets its log be read; where it does, it is opened once.
        let mut watcher =
            OomWatcher::new(&HostRoot::real(), &Registry::new(), Events::logged("n")).unwrap();
        if watcher.open().is_ok() {
            let seen = watcher.observe(WakeReason::Clock).await.unwrap();
            assert!(seen.is_empty() && watcher.log.lock().await.is_some());
        }
    }

    #[test]
    fn kills_are_counted_by_what_ran_out() {
        let scratch = Scratch::new();
        let registry = Registry::new();
        let watcher = OomWatcher::new(
            &HostRoot::at(scratch.path()),
            &registry,
            Events::logged("n"),
        )
        .unwrap();
        let kill = |victim: &str| OomKill {
            at_usec: 1,
            pid: 7,
            process: "x".to_owned(),
            container: "/kubepods/podx/c".to_owned(),
            victim_container: victim.to_owned(),
            constraint: String::new(),
        };
        for victim in ["/", "/kubepods/podx", "/kubepods/podx/c"] {
            watcher.record(&kill(victim));
        }
        let count = |scope: &str| watcher.kills.with_label_values(&[scope]).get();
        assert_eq!((count("system"), count("cgroup")), (1, 2));
    }

    #[test]
    fn an_unreadable_log_is_tolerated_in_a_user_namespace_only() {
        let scratch = Scratch::new();
        let root = HostRoot::at(scratch.path());
        let cases = [
            ("", true, false),
            ("         0          0 4294967295\n", true, false),
            ("0 100000 65536\n", true, true),
            ("0 100000 65536\n", false, false),
        ];
        for (map, gate, expected) in cases {
            scratch.write("/proc/self/uid_map", map);
            assert_eq!(
                is_unreadable_log_tolerated(&root, gate),
                expected,
                "{map:?} {gate}"
            );
        }
    }
}
