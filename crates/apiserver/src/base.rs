//! Common parts of all layers of the API server: objects as JSON, users, `Status` errors, limits, time.
//!
//! In:    nothing of the other folders
//! Out:   values and small functions
//! Calls: every other folder
//! Holds: nothing here knows a kind, the store or a request
//! Upstream: see each file

pub mod body;
pub(crate) mod bounds;
pub mod clock;
pub(crate) mod encoding;
pub mod failure;
pub(crate) mod object;
pub(crate) mod pace;
pub(crate) mod pod;
pub(crate) mod rfc3339;
pub mod user;
