//! Upstream: none
