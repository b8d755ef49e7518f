//! Emits `SystemOOM` events and counts processes that the kernel's OOM killer ended.
//!
//! In:    the kernel's log
//! Out:   a warning per kill, `hyperkube_oom_kills_total`; event `SystemOOM` when the machine itself ran out
//! Calls: wiring
//! Holds: kills before the kubelet's start are not reported again; a kernel log that ends is reopened
//! Upstream: pkg/kubelet/oom/oom_watcher_linux.go; differences: upstream tells old kills again at each start, and nothing of
//!           kills inside a pod's limit

use std::future::pending;
use std::path::PathBuf;

use kubelet_decide::report::events::system_oom;
use kubelet_host::HostRoot;
use kubelet_host::files::read_text_bounded;
use kubelet_host::kernel::{KernelError, LogStart, OomKill, OomLog};
use prometheus::{IntCounterVec, Opts, Registry};

use crate::frame::reconciler::RoundError;
use crate::frame::supervisor::Supervisor;
use crate::report::events::Events;

const TASK: &str = "oom_watcher";

/// The watcher.
#[derive(Clone, Debug)]
pub struct OomWatcher {
    log: PathBuf,
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
            log: root.join("/dev/kmsg"),
            kills,
            events,
        })
    }

    /// Opens the log and watches it under the supervisor.
    ///
    /// # Errors
    /// The log cannot be opened; whether that matters is [`is_unreadable_log_tolerated`].
    pub fn start(self, supervisor: &Supervisor) -> Result<(), KernelError> {
        let mut first = Some(OomLog::open(&self.log, LogStart::Now)?);
        let stop = supervisor.stop().clone();
        supervisor.spawn_reconciler(TASK, move || {
            let opened = match first.take() {
                Some(log) => Ok(log),
                None => OomLog::open(&self.log, LogStart::Now),
            };
            let (this, stop) = (self.clone(), stop.clone());
            async move {
                tokio::select! {
                    // The stop first; a kill that is read at that very moment is told by the next process' figures or not at all.
                    biased;
                    () = stop.cancelled() => {}
                    () = this.watch(opened) => {}
                }
            }
        });
        Ok(())
    }

    async fn watch(&self, opened: Result<OomLog, KernelError>) {
        let mut log = match opened {
            Ok(log) => log,
            Err(error) => {
                tracing::error!(err = %RoundError::of(&error), "Kernel log cannot be opened again: OOM kills are not seen any more");
                return pending().await;
            }
        };
        loop {
            match log.next().await {
                Ok(kill) => self.tell(&kill),
                Err(error) => {
                    tracing::error!(err = %RoundError::of(&error), lost = log.lost(), "Unexpectedly stopped receiving OOM notifications");
                    return;
                }
            }
        }
    }

    fn tell(&self, kill: &OomKill) {
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
    use crate::frame::clock::Clock;
    use crate::testing::Scratch;

    #[tokio::test]
    async fn the_machines_log_is_watched_and_an_absent_one_is_an_error() {
        let supervisor = Supervisor::new(Clock::simulated(jiff::Timestamp::UNIX_EPOCH));
        let scratch = Scratch::new();
        let watcher = OomWatcher::new(
            &HostRoot::at(scratch.path()),
            &Registry::new(),
            Events::logged("n"),
        )
        .unwrap();
        let error = watcher.start(&supervisor).unwrap_err();
        assert!(
            error.to_string().starts_with("open the kernel log "),
            "{error}"
        );
        // Not every machine lets its log be read; where it does, the task stays.
        let watcher =
            OomWatcher::new(&HostRoot::real(), &Registry::new(), Events::logged("n")).unwrap();
        if watcher.start(&supervisor).is_ok() {
            tokio::task::yield_now().await;
            assert_eq!(
                supervisor.running(crate::frame::supervisor::TaskKind::Reconciler),
                1
            );
            supervisor.stop().cancel();
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
            watcher.tell(&kill(victim));
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
