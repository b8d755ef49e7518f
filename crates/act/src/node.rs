//! The node as a whole: its status and lease, the runtime's state, its network rules, its memory.
//!
//! In:    the machine, the runtime, the own Node object
//! Out:   the Node's status, wake-ups
//! Calls: wiring
//! Holds: nothing here knows a pod
//! Upstream: pkg/kubelet/kubelet_node_status.go, pkg/kubelet/nodelease, pkg/kubelet/oom

pub mod iptables_chains;
pub mod memory;
pub mod node_facts;
pub mod node_status;
pub mod oom_watcher;
pub mod pod_cidr;
pub mod runtime_up;
