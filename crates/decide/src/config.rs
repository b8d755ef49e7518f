//! The kubelet's configuration: defaults, the merge of flags and files, validation.
//!
//! In:    KubeletConfiguration and flags
//! Out:   the configuration in effect; problems with their field
//! Calls: hyperkube
//! Holds: a setting without effect is named, never accepted in silence
//! Upstream: pkg/kubelet/apis/config, cmd/kubelet/app

pub mod defaults;
pub mod effective;
pub mod validate;
pub mod without_effect;
