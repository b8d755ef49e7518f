//! The harness on readers with a planted fault: each kind is found, made small, kept and counted.
//!
//! In:    the program, a corpus of one input, a directory for findings
//! Out:   exit code, table, the kept input
//! Upstream: none

#![expect(clippy::unwrap_used, reason = "helpers of tests are test code")]

use std::path::PathBuf;
use std::process::Command;

struct Scratch(PathBuf);

impl Scratch {
    fn new(target: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("fuzz-{target}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join(target)).unwrap();
        std::fs::write(folder.join(target).join("saved"), "0123456789 saved\n").unwrap();
        Self(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// The kind of end that is told, and the shortest input.
fn found(target: &str, kind: &str) {
    let scratch = Scratch::new(target);
    let findings = scratch.0.join("findings");
    let ran = Command::new(env!("CARGO_BIN_EXE_fuzz"))
        .args([target, "--seconds", "4"])
        .arg("--corpus")
        .arg(&scratch.0)
        .arg("--findings")
        .arg(&findings)
        .output()
        .unwrap();
    let (table, told) = (
        String::from_utf8(ran.stdout).unwrap(),
        String::from_utf8(ran.stderr).unwrap(),
    );
    assert_eq!(ran.status.code(), Some(1), "{told}");
    let line = format!("{target}: {kind} at seed 1, input ");
    assert!(told.lines().any(|told| told.starts_with(&line)), "{told}");
    let kept: Vec<_> = std::fs::read_dir(&findings).unwrap().collect();
    let least = kept.iter().flatten().map(|one| std::fs::read(one.path()));
    let least = least.min_by_key(|input| input.as_ref().unwrap().len());
    assert_eq!(least.unwrap().unwrap(), b"fault", "{told}");
    let total = table.lines().last().unwrap();
    let cells: Vec<&str> = total.split('|').map(str::trim).collect();
    assert_eq!((cells[1], cells[5]), ("total", "1"), "{table}");
    assert_eq!(cells[6], kept.len().to_string(), "{table}");
}

#[test]
fn a_panic_is_found_and_made_small() {
    found("planted-panic", "Panic");
}

#[test]
fn a_stack_that_is_too_small_is_found_and_made_small() {
    found("planted-stack", "Killed");
}

#[test]
fn memory_is_found_and_made_small() {
    found("planted-large", "Large");
}
