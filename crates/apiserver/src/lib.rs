//! The embedded API server of a one-node cluster.
//!
//! In:    HTTP requests, as a `tower::Service` ([`ApiServer::service_as`]) or over a listener
//! Out:   responses; objects in a durable store
//! Calls: wiring; tests hand the service to a client
//! Holds: a kubelet and kubectl see what kube-apiserver would show them, for the kinds in `resources`; clock, randomness and
//!        tasks are handed in
//! Upstream: cmd/kube-apiserver, pkg/controlplane (1.36); differences: one node, no server-side apply, OpenAPI or aggregation

#![cfg_attr(
    test,
    expect(
        clippy::too_many_lines,
        reason = "tables and scenes of tests are read from top to bottom"
    )
)]

mod access;
pub mod base;
mod controllers;
#[doc(hidden)]
pub mod fuzzing;
pub mod identity;
pub mod kinds;
mod registry;
mod request;
pub mod serve;
pub mod store;
mod verbs;

pub use identity::authority::Pair;
pub use kinds::protobuf::encode;
pub use serve::server::{ApiServer, ServerParts};
pub use verbs::inflight::Limits;

#[cfg(test)]
mod tests;
