//! The decisions about one pod: its life, its memory, its next steps.
//!
//! In:    a view
//! Out:   lifecycle, plan, memory
//! Calls: act/pod/pod_worker
//! Holds: no other folder but report asks this one
//! Upstream: pkg/kubelet/pod_workers.go, pkg/kubelet/kuberuntime

pub mod admission;
pub mod adopt;
pub mod container_start;
pub mod cut_off;
pub mod deadline;
pub mod garbage;
pub mod hooks;
mod host_plan;
pub mod init_containers;
pub mod lifecycle;
pub mod memory;
pub mod phase;
pub mod pod_plan;
pub mod preemption;
pub mod restart;
pub mod restart_all;
pub mod runtime_class;
pub mod stops;
