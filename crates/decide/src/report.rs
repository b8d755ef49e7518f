//! What others are told of a pod: its status, its mirror, its events.
//!
//! In:    a view; what the API server has
//! Out:   statuses, patches, mirror pods, events
//! Calls: act/pod_worker, act/status_write, act/mirror_pods, act/events
//! Holds: nothing here decides what a pod does
//! Upstream: pkg/kubelet/status, pkg/kubelet/kubelet_pods.go

pub mod events;
pub mod mirror;
pub mod pod_status;
pub mod status_write;
