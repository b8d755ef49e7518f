//! The signals that end the kubelet: the first one stops it regularly, the second one at once.
//!
//! In:    SIGTERM and SIGINT
//! Out:   the name of the first; the end of the process, with status 1, at the second
//! Calls: wiring
//! Holds: a thread of its own waits for the second signal, so that it ends a process whose tasks are stuck, too
//! Upstream: staging/src/k8s.io/apiserver/pkg/server/signal.go (SetupSignalContext)

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::logs::LogHandle;

/// SIGTERM and SIGINT, from now on.
pub(crate) struct StopSignals {
    term: Signal,
    interrupt: Signal,
}

impl StopSignals {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let open = |kind| signal(kind).context("listen for signals");
        Ok(Self {
            term: open(SignalKind::terminate())?,
            interrupt: open(SignalKind::interrupt())?,
        })
    }

    /// Resolves with the name of the next signal.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            biased;
            _ = self.term.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// From now on the second signal ends the process, during start, run or stop.
pub(crate) fn end_at_the_second(logs: LogHandle) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("make a runtime for the second signal")?;
    let mut signals = {
        let _inside = runtime.enter();
        StopSignals::new()?
    };
    let wait = async move {
        signals.next().await;
        signals.next().await
    };
    let thread = std::thread::Builder::new().name("second-signal".to_owned());
    let run = move || end(runtime.block_on(wait), &logs);
    thread.spawn(run).context("wait for a second signal")?;
    Ok(())
}

#[expect(clippy::exit, reason = "the wish is to end now, whatever hangs")]
fn end(name: &str, logs: &LogHandle) {
    tracing::warn!(signal = name, "Second signal; ending at once");
    logs.flush_if_free();
    std::process::exit(1);
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;
    use rustix::process::{Pid, Signal as Number, kill_process};

    const IS_CHILD: &str = "HYPERKUBE_TEST_SECOND_SIGNAL";

    /// A process that gets stuck during its regular stop.
    #[test]
    fn child_that_is_stuck_while_it_stops() {
        if std::env::var_os(IS_CHILD).is_none() {
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut signals = StopSignals::new().unwrap();
            end_at_the_second(LogHandle::to_nowhere()).unwrap();
            println!("ready");
            let name = signals.next().await;
            println!("first {name}");
            // The async runtime is blocked, too.
            loop {
                std::thread::park();
            }
        });
    }

    fn line_with(child: &mut BufReader<std::process::ChildStdout>, words: &str) -> String {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert_ne!(
                child.read_line(&mut line).unwrap(),
                0,
                "it ended without {words:?}"
            );
        }
        line
    }

    fn send(child: &Child, number: Number) {
        let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
        kill_process(pid, number).unwrap();
    }

    #[test]
    fn the_second_signal_ends_a_process_that_is_stuck() {
        for (one, name, two) in [
            (Number::TERM, "first SIGTERM", Number::TERM),
            (Number::TERM, "first SIGTERM", Number::INT),
            (Number::INT, "first SIGINT", Number::TERM),
        ] {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "--nocapture"])
                .arg("wiring::signals::tests::child_that_is_stuck_while_it_stops")
                .env(IS_CHILD, "1")
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut out = BufReader::new(child.stdout.take().unwrap());
            line_with(&mut out, "ready");
            send(&child, one);
            line_with(&mut out, name);
            assert_eq!(child.try_wait().unwrap(), None, "it waits");
            let before = Instant::now();
            send(&child, two);
            assert_eq!(child.wait().unwrap().code(), Some(1));
            assert!(before.elapsed() < Duration::from_secs(4));
        }
    }
}
