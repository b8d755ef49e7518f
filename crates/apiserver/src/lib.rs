//! The embedded API server of a cluster of one node.
//!
//! In:    HTTP requests, as a `tower::Service` ([`ApiServer::service_as`]) or over a listener
//! Out:   answers; objects in a durable store
//! Calls: wiring; tests hand the service to a client
//! Holds: what a kubelet and kubectl see is what kube-apiserver would show them, for the kinds in `resources`; no clock, chance or
//!        task of its own: they are handed in
//! Upstream: cmd/kube-apiserver, pkg/controlplane (1.36); differences: one node, no server-side apply, OpenAPI or aggregation

mod admission;
mod authority;
mod authz;
mod binder;
mod bounds;
pub mod clock;
mod controllers;
mod discovery;
mod duplicates;
mod encoding;
pub mod failure;
mod figures;
mod form;
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod heavy;
pub mod http;
pub mod identity;
mod impersonation;
mod inflight;
pub mod listener;
mod object;
mod options;
mod pace;
mod patch;
mod path;
mod protobuf;
mod proxy;
mod references;
mod registry;
pub mod resources;
mod reviews;
mod rfc3339;
mod schema;
mod selectors;
mod server;
pub mod store;
mod strategy;
mod subresources;
mod table;
mod tokens;
mod typed;
pub mod user;
mod verbs;
mod warnings;

pub use authority::Pair;
pub use inflight::Limits;
pub use server::{ApiServer, Parts};

#[cfg(test)]
mod tests;
