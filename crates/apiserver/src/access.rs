//! Authorization and impersonation.
//!
//! In:    a user and a target
//! Out:   allowed, or denied with a reason
//! Calls: registry, verbs, serve
//! Holds: a request that no rule allows is denied
//! Upstream: plugin/pkg/auth, staging/src/k8s.io/apiserver/pkg/endpoints/filters

pub(crate) mod authz;
pub(crate) mod impersonation;
