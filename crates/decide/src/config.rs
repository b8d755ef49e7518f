//! The kubelet's configuration: defaults, what flags and files make of it, what is refused.
//!
//! In:    KubeletConfiguration and flags
//! Out:   the configuration in effect; problems with their field
//! Calls: hyperkube
//! Holds: a setting without effect is named, never taken in silence
//! Upstream: pkg/kubelet/apis/config, cmd/kubelet/app

pub mod defaults;
pub mod effective;
pub mod validate;
pub mod without_effect;
