//! The embedded one-node API server.
//!
//! In:    HTTP requests, as a `tower::Service` or over a listener
//! Out:   answers; objects in a durable store
//! Calls: wiring; tests
//! Holds: nothing yet
//! Upstream: kube-apiserver (1.36)

pub mod store;
