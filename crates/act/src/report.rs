//! What others are told of pods: statuses, mirror pods, events.
//!
//! In:    statuses from the workers, sets of the API
//! Out:   /pods, writes to the API server
//! Calls: pod, wiring
//! Holds: no write is sent that changes nothing
//! Upstream: pkg/kubelet/status, pkg/kubelet/pod/mirror_client.go

pub mod events;
pub mod mirror_pods;
pub mod status;
pub mod status_write;
