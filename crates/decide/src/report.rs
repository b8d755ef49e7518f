//! What others are told of a pod: its status, its mirror, its events.
//!
//! In:    a view; what the API server has
//! Out:   statuses, patches, mirror pods, events
//! Calls: act/pod/pod_worker, act/report/status_write, act/report/mirror_pods, act/report/events
//! Holds: nothing here decides what a pod does
//! Upstream: pkg/kubelet/status, pkg/kubelet/kubelet_pods.go

pub mod conditions;
pub mod events;
pub mod mirror;
pub mod pod_status;
pub mod status_write;
pub mod transitions;
pub mod waits;
