//! Tests of the real binary on a real containerd: what a user of the node sees, and what the runtime, the disk and the kernel hold.
//!
//! | module | part |
//! |---|---|
//! | node | the environment made by `scripts/machine_env.sh`: containerd's start and death, cgroups, what is left over |
//! | runtime | the runtime asked over CRI, beside the kubelet |
//! | kubelet | one kubelet with directories and ports of its own: start, kill, stop, `/pods` |
//! | cluster | one `hyperkube node`: its API server asked by kubectl and without |
//! | dead_mount | a file system that never answers |
//! | http | as much of an HTTP client as polling needs |
//! | stream | one request over TLS whose connection is kept: upgrades, WebSocket frames, logs that come |
//! | tests | the tests, one file per subject |
//!
//! In:    `HK_…` of the node environment, `HYPERKUBE_BIN` (built with feature `fault-points`)
//! Out:   test results; figures on stderr; on failure the kubelet's log in `target/machine/`
//! Calls: `scripts/test.sh machine`, with `--features machine -- --test-threads=1`
//! Holds: a test leaves no pod, mount, cgroup, link or process behind, whatever its end, and fails if it does
//! Upstream: none

#![cfg_attr(
    all(test, feature = "machine"),
    expect(
        clippy::too_many_lines,
        reason = "tables and scenes of tests are read from top to bottom"
    )
)]

#[cfg(test)]
#[cfg(feature = "machine")]
mod cluster;
#[cfg(test)]
#[cfg(feature = "machine")]
mod dead_mount;
#[cfg(test)]
#[cfg(feature = "machine")]
mod http;
#[cfg(test)]
#[cfg(feature = "machine")]
mod kubelet;
#[cfg(test)]
#[cfg(feature = "machine")]
mod node;
#[cfg(test)]
#[cfg(feature = "machine")]
mod runtime;
#[cfg(test)]
#[cfg(feature = "machine")]
mod stream;
#[cfg(test)]
#[cfg(feature = "machine")]
mod tests;
