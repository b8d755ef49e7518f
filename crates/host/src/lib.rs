//! Hosts (placeholder header of this branch; the crate's own header comes with the other files).
//!
//! Upstream: none

pub mod kernel;
pub mod machine;
pub mod stats;
