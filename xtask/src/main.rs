//! Tools of this repository: `cargo run -p xtask -- tidy`.
//!
//! In:    the checkout
//! Out:   exit status; every finding on a line of its own
//! Calls: make check
//! Upstream: none

mod tidy;

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => tidy::run(),
        _ => tidy::say("usage: xtask tidy"),
    }
}
