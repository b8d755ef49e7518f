//! Nouns of the kubelet: what a pod is, what the runtime was seen to hold, what the node is. No verbs, no I/O.
//!
//! In:    API objects (`k8s-openapi`), configuration after validation
//! Out:   the types every crate above speaks
//! Holds: the three worlds are kept apart by name: `desired_`, `observed_`, `reported_`
//! Upstream: pkg/kubelet/container/runtime.go, pkg/kubelet/types

pub mod config;
pub mod disk;
pub mod duration;
pub mod emptiness;
pub mod error_text;
pub mod event;
pub mod gates;
pub mod ids;
pub mod names;
pub mod node;
pub mod objects;
pub mod observed;
pub mod pod;
pub mod quantity;
pub mod reason;
pub mod reported;
pub mod yaml;
