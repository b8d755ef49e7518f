//! The clock of programs that measure real programs: this is where real time comes in.
//!
//! In:    the machine's clocks
//! Out:   wall-clock instants in seconds since 1970 (comparable with what the runtime and the kubelet write), pauses, polls
//! Calls: bench, attack
//! Holds: the only place of these programs that reads the wall clock or sleeps
//! Upstream: none

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::bail;

/// Seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "measuring real programs is this program's purpose"
)]
pub fn now() -> f64 {
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
pub fn pause_ms(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// Asks every `every_ms` until there is an answer.
///
/// # Errors
/// What the look said; after `limit_s` seconds, what was waited for.
pub fn poll<T>(
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
