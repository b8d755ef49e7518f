//! (placeholder)

pub mod cgroups;
pub mod config_problem;
pub mod container_config;
pub mod dns;
pub mod env;
pub mod hosts_file;
pub mod labels;
pub mod resources;
pub mod sandbox_config;
pub mod security;

#[cfg(test)]
mod testing;
