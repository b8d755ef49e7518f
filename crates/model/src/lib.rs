//! Data types of the kubelet: desired pods, the observed state of the runtime, the node. No behaviour, no I/O.
//!
//! In:    API objects (`k8s-openapi`), configuration after validation
//! Out:   the types that every crate above uses
//! Holds: names tell the three views apart: `desired_`, `observed_`, `reported_`
//! Upstream: pkg/kubelet/container/runtime.go, pkg/kubelet/types

pub mod config;
pub mod dice;
pub mod disk;
pub mod doubling;
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
pub mod story;
pub mod yaml;
