//! The outside of one node as real processes: what the benchmark and the attack suite start, ask and measure. Development only.
//!
//! | module | part |
//! |---|---|
//! | clock | the real time, pauses, polls |
//! | node | a private containerd, places, ports and configuration of a kubelet on it |
//! | program | one life of a component |
//! | process | what the kernel says about it |
//! | http | a blocking client, plain or over TLS, with a token or a certificate |
//!
//! In:    `scripts/machine_env.sh`, the release binary
//! Out:   processes, answers, figures
//! Calls: bench, attack
//! Holds: nothing that was started here is left at the end
//! Upstream: none

pub mod clock;
pub mod http;
pub mod node;
pub mod process;
pub mod program;

/// Progress, on stderr.
#[expect(clippy::print_stderr, reason = "programs for people")]
pub fn say(text: &str) {
    eprintln!("{text}");
}
