//! Each target for a moment, in this process, and the harness itself.
//!
//! In:    the saved corpora
//! Out:   nothing
//! Upstream: none

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::generate::Corpus;
use crate::run::{Found, STACK, inputs};
use crate::targets::{TARGETS, Target};

fn short(name: &str) {
    let target = crate::target(name).unwrap();
    let corpus = Corpus::read(&crate::corpus(), target.name).unwrap();
    let number = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&number);
    let work = move || {
        let which = (7, 0, Duration::from_secs(2));
        inputs(target, &corpus, which, |now| {
            told.store(now, Ordering::Relaxed)
        })
    };
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(work);
    let found = thread.unwrap().join().unwrap();
    let last = number.load(Ordering::Relaxed);
    assert_eq!(found, Found::Nothing, "{name}, seed 7, input {last}");
    assert!(last > 20, "{name}: only {last} inputs in 2 s");
}

macro_rules! short_runs {
    ($($test:ident: $name:literal),* $(,)?) => {
        const TESTED: &[&str] = &[$($name),*];
        $(#[test]
        fn $test() {
            short($name);
        })*
    };
}

short_runs! {
    manifests: "manifest",
    configurations: "configuration",
    kubeconfigs: "kubeconfig",
    json_patches: "json-patch",
    merge_patches: "merge-patch",
    strategic_patches: "strategic-patch",
    selectors: "selectors",
    protobuf_bodies: "protobuf",
    journals: "journal",
    log_lines: "log-lines",
    upgrade_heads: "upgrade-head",
    docker_configurations: "docker-config",
    cri_replies: "cri-reply",
    certificates: "certificate",
}

#[test]
fn every_target_has_its_short_run() {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, TESTED);
}

#[test]
fn an_input_follows_from_seed_and_number() {
    let corpus = Corpus::read(&crate::corpus(), "manifest").unwrap();
    for number in [0, 7, 5_000] {
        assert_eq!(corpus.input(3, number, &[]), corpus.input(3, number, &[]));
    }
    assert_ne!(corpus.input(3, 5_000, &[]), corpus.input(4, 5_000, &[]));
}

#[test]
fn a_panic_is_found() {
    static FRAGILE: Target = Target {
        name: "manifest",
        words: &["fragile"],
        run: |input| assert!(!input.windows(7).any(|part| part == b"fragile")),
    };
    let corpus = Corpus::read(&crate::corpus(), FRAGILE.name).unwrap();
    let which = (1, 0, Duration::from_secs(20));
    assert_eq!(inputs(&FRAGILE, &corpus, which, |_| {}), Found::Panic);
}
