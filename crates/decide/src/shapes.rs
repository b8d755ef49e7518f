//! The nouns of the pod path: what is seen, planned, done and kept. Everything else in this crate works on them.
//!
//! In:    nothing
//! Out:   types with their plainest questions
//! Calls: every other folder
//! Holds: nothing here imports a folder that decides
//! Upstream: see each file

pub mod env_files;
pub mod exits;
pub mod hook;
pub mod life;
pub mod memory;
pub mod outcome;
pub mod paths;
pub mod plan;
pub mod probe;
pub mod record;
pub mod rejection;
pub mod secrets;
pub mod view;
pub mod waiting;
pub mod work;
