//! What the API refuses in an object: one set of rules for static pods and for every write of the API server.
//!
//! In:    objects with their defaults
//! Out:   every problem, with the field's path, upstream's type of error and upstream's message
//! Calls: `decide/manifest` (static pods)
//! Holds: pure; the order of problems is stable
//! Upstream: pkg/apis/*/validation

mod names;
mod pod;
mod problem;

pub use pod::{containers_of, pod};
pub use problem::{FieldProblem, Problems};
