//! Re-exports Go's duration type.
//!
//! In:    –
//! Out:   `GoDuration` (defined in the `api` crate, because configuration files hold it)
//! Calls: everything that reads or prints a span of time in Go's syntax
//! Holds: only a re-export, so that there is one type
//! Upstream: metav1.Duration

pub use kubelet_api::duration::{DurationParseError, GoDuration, TimeOrDuration};
