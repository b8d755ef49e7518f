//! Stand-ins for the outside worlds of the kubelet, for simulation, tests and scale. Development only.
//!
//! In:    a seed, scripts (behaviours, images, faults), calls over the real protocols
//! Out:   answers over the real protocols; traces and instance histories as data
//! Calls: crate world, tests of act and cri, the bench (`stand-in-runtime`)
//! Holds: one seed gives one trace, byte for byte, under paused time on a current_thread runtime; no real sleeping, no real process
//! Upstream: none
//!
//! | Module | Stands in for |
//! |---|---|
//! | [`exposition`] | (not a stand-in) upstream's metric families, to compare with |
//! | [`cluster`] | (the project's own API server) and a line to it on which things go wrong |
//! | [`cri`] | containerd 1.6 behind the CRI |
//! | [`faults`] | what goes wrong between kubelet and runtime |
//! | [`prng`] | randomness that repeats |

#![cfg_attr(
    test,
    expect(
        clippy::too_many_lines,
        reason = "tables and scenes of tests are read from top to bottom"
    )
)]

pub mod cluster;
pub mod cri;
pub mod exposition;
pub mod faults;
pub mod prng;

/// gRPC stubs of the CRI over the messages of `kubelet-api`.
#[expect(
    unreachable_pub,
    unused_qualifications,
    clippy::clone_on_ref_ptr,
    clippy::too_many_lines,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/cri.proto"
)]
mod stubs {
    tonic::include_proto!("runtime.v1");
}
