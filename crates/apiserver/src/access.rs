//! Who may do what, and as whom.
//!
//! In:    a user and a target
//! Out:   allowed, or why not
//! Calls: registry, verbs, serve
//! Holds: nothing is allowed that no rule allows
//! Upstream: plugin/pkg/auth, staging/src/k8s.io/apiserver/pkg/endpoints/filters

pub(crate) mod authz;
pub(crate) mod impersonation;
