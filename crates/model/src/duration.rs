//! Go's duration, under the name that the rest of the program uses.
//!
//! In:    –
//! Out:   `GoDuration` (defined in the `api` crate, because configuration files hold it)
//! Calls: everything that reads or prints a span of time in Go's syntax
//! Holds: this crate adds nothing; one type, one definition
//! Upstream: metav1.Duration

pub use kubelet_api::duration::{DurationParseError, GoDuration, TimeOrDuration};
