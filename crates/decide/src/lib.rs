//! Decisions of the kubelet, pure: values in, values out. No task, no clock, no file, no lock, no log.
//!
//! The pod path (design of the whole; `act` carries it out):
//!
//! | # | step | here | carried out by |
//! |---|---|---|---|
//! | 1 | source | manifest, identity | act/sources |
//! | 2 | desired | desired | act/sync_loop |
//! | 3 | admit | (room only: one pod of a name at a time) | act/sync_loop |
//! | 4 | view | view | act/pod_worker |
//! | 5 | life | lifecycle | act/pod_worker |
//! | 6 | plan | pod_plan, init_containers, container_start, restart, garbage, cut_off, *_config | act/pod_worker |
//! | 7 | execute | plan (its shape) | act/execute, images, volumes |
//! | 8 | observe | pleg | act/pleg |
//! | 9 | status | pod_status, phase | act/pod_worker |
//! | 10 | report | status_write, mirror | act/status, status_write |
//!
//! Holds: pure means that the same view gives the same plan; what a plan depends on is in its view
//! Upstream: see each file

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::wildcard_enum_match_arm)
)]

pub mod admission;
pub mod adopt;
pub mod cgroups;
pub mod config_problem;
pub mod container_config;
pub mod container_start;
pub mod cut_off;
pub mod deadline;
pub mod defaults;
pub mod desired;
pub mod dns;
mod downward;
pub mod effective;
pub mod env;
pub mod env_file;
pub mod events;
pub mod garbage;
pub mod hosts_file;
pub mod identity;
pub mod init_containers;
pub mod iptables_chains;
pub mod labels;
pub mod lifecycle;
pub mod manifest;
pub mod memory;
pub mod mirror;
pub mod name_turn;
pub mod node_status;
pub mod outcome;
pub mod phase;
pub mod plan;
pub mod pleg;
pub mod pod_plan;
pub mod pod_status;
pub mod projected;
pub mod pull_credentials;
pub mod record;
pub mod references;
pub mod resources;
pub mod restart;
pub mod runtime_class;
pub mod sandbox_config;
pub mod security;
mod services;
pub mod status_write;
pub mod validate;
pub mod view;
pub mod volumes;
pub mod without_effect;

#[cfg(test)]
mod testing;
