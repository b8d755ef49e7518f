//! The pod path: the sync loop, one worker for each pod, and the executor of their plans.
//!
//! In:    sets of pods, observations
//! Out:   calls to the runtime and the host; statuses
//! Calls: wiring
//! Holds: no other folder knows this one
//! Upstream: pkg/kubelet/pod_workers.go, pkg/kubelet/kuberuntime

pub mod execute;
pub mod hooks;
pub mod host_work;
pub(crate) mod loop_metrics;
pub mod orphan;
pub(crate) mod pod_figures;
pub mod pod_path;
pub mod pod_worker;
pub mod start_width;
pub mod sync_loop;
pub mod timeline;
pub mod worker_metrics;
