//! The tests, by subject; each runs alone on the node (`--test-threads=1`).
//!
//! Upstream: test/e2e_node, in what it looks at

mod exits;
mod restarts;
mod starts;
mod survives;
