//! What every task is built on: starting and stopping tasks, reconciler rounds, clocks, signals, records, health, metrics.
//!
//! In:    tasks
//! Out:   their handles and figures
//! Calls: every other folder, wiring
//! Holds: nothing here knows a pod, a node or a source
//! Upstream: pkg/kubelet/kubelet.go (Run)

pub(crate) mod away;
pub mod clock;
pub mod data_dirs;
pub mod faults;
pub mod health;
pub mod host_progress;
pub(crate) mod metrics;
pub mod reconciler;
pub mod records;
pub mod signal;
pub mod slot;
pub mod supervisor;
