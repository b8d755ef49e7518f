//! Decisions of the kubelet, pure: values in, values out. No task, no clock, no file, no lock, no log.
//!
//! The pod path (design of the whole; `act` carries it out):
//!
//! | # | step | here | carried out by |
//! |---|---|---|---|
//! | 1 | source | manifest, identity | act/sources |
//! | 2 | desired | desired | act/pod/sync_loop |
//! | 3 | admit | (room only: one pod of a name at a time) | act/pod/sync_loop |
//! | 4 | view | view | act/pod/pod_worker |
//! | 5 | life | lifecycle | act/pod/pod_worker |
//! | 6 | plan | pod_plan, init_containers, container_start, restart, garbage, cut_off, *_config | act/pod/pod_worker |
//! | 7 | execute | plan (its shape) | act/pod/execute, images, volumes |
//! | 8 | observe | pleg | act/observe/pleg |
//! | 9 | status | pod_status, phase | act/pod/pod_worker |
//! | 10 | report | status_write, mirror | act/report/status, status_write |
//!
//! Holds: pure means that the same view gives the same plan; what a plan depends on is in its view
//! Upstream: see each file

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::wildcard_enum_match_arm)
)]

pub mod config;
pub mod container;
pub mod images;
pub mod node;
pub mod observe;
pub mod pod;
pub mod report;
pub mod resources;
pub mod shapes;
pub mod sources;
pub mod volumes;

#[cfg(test)]
mod testing;
