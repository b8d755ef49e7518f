//! What is asked, read from a request's path, query and headers.
//!
//! In:    path, query, Accept
//! Out:   target, options, form of the answer
//! Calls: access, registry, verbs, serve
//! Holds: what cannot be read is refused with its name
//! Upstream: staging/src/k8s.io/apiserver/pkg/endpoints/request

pub(crate) mod form;
pub(crate) mod options;
pub(crate) mod path;
