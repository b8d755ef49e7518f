//! Connections and requests: listeners, HTTP, the server put together.
//!
//! In:    bytes from clients, parts
//! Out:   answers
//! Calls: lib
//! Holds: no layer below knows this one
//! Upstream: staging/src/k8s.io/apiserver/pkg/server

pub mod http;
pub mod listener;
pub(crate) mod server;
