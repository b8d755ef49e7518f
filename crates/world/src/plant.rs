//! Bugs that are put back in, to see that the simulation finds them.
//!
//! In:    names on the command line
//! Out:   what to change in the kubelet for each
//! Calls: the binary, tests
//! Holds: each is found within 2,000 seeds, or the simulation's own test fails
//! Upstream: none

use kubelet_act::frame::faults::Planted;

/// A bug that can be planted: its name and what the kubelet is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plant {
    /// As on the command line.
    pub name: &'static str,
    /// The switch in the product's own code.
    pub planted: Planted,
    /// The journal drops every write.
    pub loses_writes: bool,
}

const fn of(name: &'static str, planted: Planted) -> Plant {
    Plant {
        name,
        planted,
        loses_writes: false,
    }
}

/// No bug: the product as it is.
pub const NONE: Plant = of("none", Planted::None);

/// All that can be planted.
pub const ALL: [Plant; 14] = [
    of("no-freshness", Planted::NoFreshness),
    of("first-by-name", Planted::FirstByName),
    of("no-evidence", Planted::NoEvidence),
    Plant {
        loses_writes: true,
        ..of("lost-write", Planted::None)
    },
    of("lost-hint", Planted::NoRelist),
    of("unknown-is-failure", Planted::UnknownIsFailure),
    of("removes-early", Planted::RemovesEarly),
    of("wall-clock", Planted::WallClock),
    of("forgets-ends", Planted::ForgetsEnds),
    of("forgets-starts", Planted::ForgetsStarts),
    of("old-results", Planted::OldResults),
    of("sidecars-first", Planted::SidecarsFirst),
    of("hook-twice", Planted::HookTwice),
    of("grace-twice", Planted::GraceTwice),
];

/// Seeds within which each is found.
pub const FOUND_WITHIN: u64 = 2_000;
