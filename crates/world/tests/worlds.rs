//! The simulation tested by itself: seeds repeat, the product holds, planted bugs are found.
//!
//! In:    seeds
//! Out:   verdicts
//! Calls: cargo test
//! Holds: `make world SEEDS=n` runs more of the same
//! Upstream: none

use std::path::{Path, PathBuf};

use world::plant::{self, Plant};
use world::run::{Options, Verdict, run_seed};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        Self(parent.join(format!("world-test-{name}-{}", std::process::id())))
    }

    fn run(&self, seed: u64, plant: Plant, keeps_trace: bool) -> Verdict {
        let options = Options {
            plant,
            keeps_trace,
            scratch: &self.0,
        };
        run_seed(seed, &options).expect("a world can be set up")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[test]
fn fifty_seeds_give_the_same_trace_twice_byte_for_byte() {
    let scratch = Scratch::new("twice");
    for seed in 0..50 {
        let [first, second] = [0; 2].map(|_| scratch.run(seed, plant::NONE, true));
        assert!(!first.trace.is_empty());
        if first.trace != second.trace {
            let differing = first.trace.lines().zip(second.trace.lines());
            let at = differing.into_iter().find(|(a, b)| a != b);
            panic!("seed {seed} differs, first at {at:?}");
        }
    }
}

#[test]
fn everything_holds_in_three_hundred_worlds() {
    let scratch = Scratch::new("holds");
    for seed in 100_000..100_300 {
        let verdict = scratch.run(seed, plant::NONE, false);
        assert_eq!(verdict.problem, None, "seed {seed}");
    }
}

/// Looks for the planted bug; the same seed must hold without it, so that it is this bug that was found.
#[expect(clippy::print_stdout, reason = "which seed found it is worth a line")]
fn is_found(name: &str) {
    let scratch = Scratch::new(name);
    let plant = plant::ALL.into_iter().find(|plant| plant.name == name);
    let plant = plant.expect("it is in the list");
    let found =
        (0..plant::FOUND_WITHIN).find(|seed| scratch.run(*seed, plant, false).problem.is_some());
    let seed = found.expect("the planted bug is found");
    println!("{name}: found at seed {seed}");
    assert_eq!(
        scratch.run(seed, plant::NONE, false).problem,
        None,
        "seed {seed}"
    );
}

#[test]
fn plans_on_old_observations_are_found() {
    is_found("no-freshness");
}

#[test]
fn the_first_match_by_name_is_found() {
    is_found("first-by-name");
}

#[test]
fn removal_without_evidence_is_found() {
    is_found("no-evidence");
}

#[test]
fn lost_journal_writes_are_found() {
    is_found("lost-write");
}

#[test]
fn a_lost_hint_that_no_relist_makes_good_is_found() {
    is_found("lost-hint");
}

#[test]
fn an_unknown_outcome_taken_for_a_failure_is_found() {
    is_found("unknown-is-failure");
}

#[test]
fn a_removal_before_all_sources_have_spoken_is_found() {
    is_found("removes-early");
}

#[test]
fn a_wait_until_a_time_of_the_wall_clock_is_found() {
    is_found("wall-clock");
}

#[test]
fn a_record_that_goes_before_the_last_status_is_found() {
    is_found("forgets-ends");
}

#[test]
fn a_start_that_was_cut_off_and_counts_as_a_failed_one_is_found() {
    is_found("forgets-starts");
}
