//! Observations compared.
//!
//! In:    two looks at the runtime
//! Out:   what changed
//! Calls: act/observe/pleg
//! Holds: every instance of a container is kept
//! Upstream: pkg/kubelet/pleg

pub mod pleg;
