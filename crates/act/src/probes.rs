//! Probes of containers: the timers of all of them, and their tries.
//!
//! In:    what pods want probed; the runtime, the network
//! Out:   results, which wake the pod's worker
//! Calls: pod
//! Holds: a probe that hangs delays no other
//! Upstream: pkg/kubelet/prober

pub mod asking;
pub mod probe_metrics;
pub mod prober;
mod told;
