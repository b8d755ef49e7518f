//! Probes: what is asked when, and what the answers mean.
//!
//! In:    views; answers of probes
//! Out:   targets, timetables, readiness
//! Calls: pod, report; act/probes/prober
//! Holds: no other folder is imported but shapes and container
//! Upstream: pkg/kubelet/prober

pub mod ask;
pub mod readiness;
pub mod spec;
pub mod timetable;
