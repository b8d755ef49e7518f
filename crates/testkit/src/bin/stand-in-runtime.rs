//! The stand-in runtime on a unix socket, so that the real binary can be measured with pods that cost nothing.
//!
//! In:    `stand-in-runtime <socket path> [--latency-ms n] [--events]`
//! Out:   a CRI endpoint on real time; ends with SIGINT or SIGTERM
//! Holds: nothing is spawned, so every pid is 0: the kubelet finds no process to wait for and relies on its relist
//! Upstream: none

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use testkit::cri::{StandInConfig, StandInRuntime};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: stand-in-runtime <socket path> [--latency-ms n] [--events]";

/// Socket path and configuration from the words of the command line.
fn parse(words: &[String]) -> Option<(String, StandInConfig)> {
    let mut config = StandInConfig {
        pids: false,
        trace: false,
        ..StandInConfig::default()
    };
    let mut path = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--latency-ms" => config.latency = Duration::from_millis(words.next()?.parse().ok()?),
            "--events" => config.events = true,
            word if word.starts_with('-') || path.is_some() => return None,
            word => path = Some(word.to_owned()),
        }
    }
    path.map(|path| (path, config))
}

#[expect(
    clippy::disallowed_methods,
    reason = "this program's one look at the real clock"
)]
fn epoch_ns() -> i64 {
    let passed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX)
}

#[expect(clippy::print_stderr, reason = "a program's usage and errors")]
fn complain(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(2)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((path, mut config)) = parse(&words) else {
        return complain(USAGE);
    };
    config.epoch_ns = epoch_ns();
    let runtime = StandInRuntime::new(config);
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return complain("cannot listen for SIGTERM");
    };
    let ended = tokio::select! {
        biased;
        // Cancel: the program ends, and the sockets with it.
        _ = terminate.recv() => Ok(()),
        result = tokio::signal::ctrl_c() => result,
        result = runtime.serve_unix(Path::new(&path)) => result,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("{path}: {error}")),
    }
}
