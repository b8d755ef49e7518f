//! Decisions without deeds: pure functions from what is known to what should happen.
//!
//! In:    values of `model` and messages of `api`
//! Out:   plans, statuses, lists of problems; each carries its reasons
//! Holds: no clock, no I/O, no threads, no logs
//! Upstream: none

pub mod cgroups;
pub mod config_problem;
pub mod container_config;
pub mod defaults;
pub mod dns;
pub mod effective;
pub mod env;
pub mod hosts_file;
pub mod labels;
pub mod resources;
pub mod sandbox_config;
pub mod security;
pub mod validate;

#[cfg(test)]
mod testing;
