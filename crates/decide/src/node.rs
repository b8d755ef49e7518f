//! What the node says of itself.
//!
//! In:    facts of the machine and the runtime
//! Out:   the Node's status, iptables chains
//! Calls: act/node/node_status, act/node/iptables_chains
//! Holds: a condition names its reason
//! Upstream: pkg/kubelet/nodestatus, pkg/kubelet/kubelet_network_linux.go

pub mod iptables_chains;
pub mod node_status;
