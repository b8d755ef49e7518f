//! The tests, by subject; each runs alone on the node (`--test-threads=1`).
//!
//! Upstream: test/e2e_node, in what it looks at

mod bad_input;
mod cluster_input;
mod dead_disk;
mod exits;
mod hooks;
mod hostile_files;
mod hostile_probes;
mod kubectl;
mod manifests;
mod node;
mod probes;
mod restarts;
mod serves;
mod sidecars;
mod starts;
mod story;
mod streams;
mod survives;
mod volumes;
