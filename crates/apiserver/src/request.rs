//! Parses a request's path, query and headers.
//!
//! In:    path, query, Accept
//! Out:   target, options, form of the response
//! Calls: access, registry, verbs, serve
//! Holds: a value that cannot be parsed is refused by name
//! Upstream: staging/src/k8s.io/apiserver/pkg/endpoints/request

pub(crate) mod form;
pub(crate) mod options;
pub(crate) mod path;
