//! What the runtime and the kernel say of containers.
//!
//! In:    the runtime's lists and events, ends of processes
//! Out:   observed pods, wake-ups
//! Calls: pod, wiring
//! Holds: every event only says: look again
//! Upstream: pkg/kubelet/pleg

pub mod exits;
pub mod look;
pub mod pleg;
pub(crate) mod pleg_metrics;
pub mod runtime_events;
pub mod termination_message;
