//! Figures of volumes.
//!
//! In:    pods and their directories
//! Out:   how much each volume uses
//! Calls: wiring
//! Holds: a volume that hangs costs only its own figure
//! Upstream: pkg/kubelet/server/stats/resource_analyzer.go

pub mod resource_analyzer;
