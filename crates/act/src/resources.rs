//! Cgroups of the node and its pods.
//!
//! In:    the configuration, active pods
//! Out:   cgroups with their limits; figures
//! Calls: pod, wiring
//! Holds: what is not the kubelet's is left alone
//! Upstream: pkg/kubelet/cm

pub mod cgroup_metrics;
pub mod container_manager;
pub(crate) mod limits;
