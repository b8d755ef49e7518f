//! Decisions of the kubelet, pure: values in, values out. No task, no clock, no file, no lock, no log.
//!
//! | Folder | Question |
//! |---|---|
//! | shapes | nouns: what is seen, planned, done and kept |
//! | sources | which pods are wanted |
//! | pod | what becomes of one pod |
//! | container | the messages that make a sandbox and a container |
//! | images | who may ask for an image |
//! | volumes | where volumes lie and what is written there |
//! | resources | QoS, sums, cgroups |
//! | observe | what changed between two looks |
//! | report | what others are told of a pod |
//! | node | what the node says of itself |
//! | config | which configuration is in effect |
//!
//! The ten steps of the pod path stand in ARCHITECTURE.md; `act` carries them out.
//!
//! Holds: pure means that the same view gives the same plan; what a plan depends on is in its view
//! Upstream: see each file

#![cfg_attr(
    test,
    expect(
        clippy::too_many_lines,
        reason = "tables and scenes of tests are read from top to bottom"
    )
)]
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
pub mod probes;
pub mod report;
pub mod resources;
pub mod shapes;
pub mod sources;
pub mod volumes;

#[cfg(test)]
mod testing;
