//! Connections and requests: listeners, HTTP, and the assembled server.
//!
//! In:    bytes from clients, the server's parts
//! Out:   responses
//! Calls: lib
//! Holds: no lower layer depends on this one
//! Upstream: staging/src/k8s.io/apiserver/pkg/server

pub mod http;
pub mod listener;
pub(crate) mod server;
