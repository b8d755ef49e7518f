//! `pause`: the first process of every pod sandbox. It holds the pod's namespaces open and does nothing else.
//!
//! In: SIGCHLD, SIGINT, SIGTERM. Out: exit code 0 on SIGINT or SIGTERM; no output.
//! With a shared process namespace it is process 1 of the whole pod, so it must reap every orphan that is handed to it.
//! Signals are blocked before the first wait and then taken one by one, so none is lost between a check and a wait,
//! and no handler runs.
//! `scripts/images.sh` builds it statically into the sandbox image of `make run` and of the machine tests; the kubelet
//! itself never starts it. `main` is the C library's: without Rust's own start-up code the file stays below 1 MB.
//!
//! Upstream: build/pause/linux/pause.c
#![cfg_attr(not(test), no_main)] // a test harness brings its own `main`

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

/// Waits for signals until SIGINT or SIGTERM; the result is the exit code (0; 2 and 3 when a system call fails).
#[cfg_attr(
    not(test),
    expect(
        unsafe_code,
        reason = "the C library looks for the unmangled name; it is the only `main` of this program"
    ),
    unsafe(no_mangle)
)]
pub extern "C" fn main() -> i32 {
    let wanted = SigSet::from_iter([Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM]);
    if wanted.thread_block().is_err() {
        return 2;
    }
    // Children may have ended before the signals were blocked.
    reap();
    loop {
        match wanted.wait() {
            Ok(Signal::SIGCHLD) => reap(),
            Ok(_) => return 0,
            Err(_) => return 3,
        }
    }
}

/// Collects every child that has ended; several may stand behind one SIGCHLD.
fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}
