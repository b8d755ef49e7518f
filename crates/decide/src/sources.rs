//! From bytes of a source to pods that are wanted.
//!
//! In:    manifests and sets of pods
//! Out:   desired pods, their identity, whose turn a name is
//! Calls: act/sources, act/pod/sync_loop
//! Holds: what is not understood is named and kept apart, never dropped
//! Upstream: pkg/kubelet/config

pub mod desired;
pub mod identity;
pub mod manifest;
pub mod name_turn;
