//! The messages that make a sandbox and a container.
//!
//! In:    a pod, the node, what its API objects are
//! Out:   CRI configurations; why one cannot be made
//! Calls: pod
//! Holds: what upstream would send is what is sent
//! Upstream: pkg/kubelet/kuberuntime, pkg/kubelet/kubelet_pods.go

pub mod config_problem;
pub mod container_config;
pub mod dns;
pub(crate) mod downward;
pub mod env;
pub mod env_file;
pub mod hosts_file;
pub mod labels;
pub mod sandbox_config;
pub mod security;
pub(crate) mod services;
