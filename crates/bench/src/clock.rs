//! The bench's clock: it measures real programs in real time, so this is where real time comes in.
//!
//! In:    the machine's clocks
//! Out:   wall-clock instants in seconds since 1970 (comparable with what the runtime and the kubelet write), pauses, polls
//! Calls: all phases
//! Holds: the only place of the bench that reads the wall clock or sleeps
//! Upstream: none

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::bail;

/// Seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "measuring real programs is this program's purpose"
)]
pub(crate) fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

/// Waits.
#[expect(
    clippy::disallowed_methods,
    reason = "measuring real programs is this program's purpose"
)]
pub(crate) fn pause_ms(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// Asks every `every_ms` until there is an answer; an error after `limit_s` seconds, naming what was waited for.
pub(crate) fn poll<T>(
    what: &str,
    every_ms: u64,
    limit_s: f64,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let begin = now();
    loop {
        if let Some(answer) = look()? {
            return Ok(answer);
        }
        if now() - begin > limit_s {
            bail!("not within {limit_s} s: {what}");
        }
        pause_ms(every_ms);
    }
}
