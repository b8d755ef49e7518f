//! Calls to the file system from code that runs on the async thread: each has to be on a blocking thread, and a table says how.
//!
//! In:    a file's path and text
//! Out:   one line per finding
//! Calls: tidy
//! Holds: a call that is not in the table is a finding, and so is a row that nothing matches; tests call what they like
//! Upstream: none

use std::collections::BTreeSet;

use super::{is_test, product};

/// Crates whose tasks share the one async thread.
const HELD: [&str; 4] = [
    "crates/act/src/",
    "crates/cluster/src/",
    "crates/hyperkube/src/",
    "crates/server/src/",
];

/// Calls that may hang on a dead file system.
const CALLS: [&str; 7] = [
    ".exists()",
    ".try_exists()",
    "fs::metadata(",
    "fs::symlink_metadata(",
    "fs::read_dir(",
    "fs::read_link(",
    "fs::create_dir_all(",
];

/// File, call, where it runs.
const ELSEWHERE: [(&str, &str, &str); 15] = [
    (
        "crates/act/src/frame/host_progress.rs",
        "fs::read_dir(",
        "a blocking thread: whether it answers is the question",
    ),
    (
        "crates/act/src/node/node_facts.rs",
        ".exists()",
        "a blocking thread, at the start",
    ),
    (
        "crates/act/src/sources/scan.rs",
        "fs::metadata(",
        "a blocking thread of the sources",
    ),
    (
        "crates/act/src/sources/scan.rs",
        "fs::symlink_metadata(",
        "a blocking thread of the sources",
    ),
    (
        "crates/act/src/sources/scan.rs",
        "fs::read_dir(",
        "a blocking thread of the sources",
    ),
    (
        "crates/act/src/pod/sync_loop/on_disk.rs",
        "fs::read_dir(",
        "a blocking thread",
    ),
    (
        "crates/hyperkube/src/config_files.rs",
        "fs::symlink_metadata(",
        "the main thread, before there is an async one",
    ),
    (
        "crates/hyperkube/src/config_files.rs",
        "fs::read_dir(",
        "the main thread, before there is an async one",
    ),
    (
        "crates/hyperkube/src/wiring/parts.rs",
        "fs::read_dir(",
        "a blocking thread, at the start",
    ),
    (
        "crates/server/src/system_logs.rs",
        "fs::read_dir(",
        "a blocking thread",
    ),
    (
        "crates/server/src/tls.rs",
        "fs::metadata(",
        "a blocking thread; the first look is at the start, before anything is served",
    ),
    (
        "crates/server/src/tls.rs",
        ".exists()",
        "the start, before anything is served",
    ),
    (
        "crates/server/src/tls.rs",
        "fs::create_dir_all(",
        "the start, before anything is served",
    ),
    (
        "crates/cluster/src/certificates/store.rs",
        "fs::create_dir_all(",
        "tokio's own blocking threads",
    ),
    (
        "crates/cluster/src/files.rs",
        "fs::metadata(",
        "tokio's own blocking threads",
    ),
];

/// Goes through the files.
#[derive(Debug, Default)]
pub(super) struct Blocking {
    used: BTreeSet<usize>,
}

impl Blocking {
    /// Findings of one file.
    pub(super) fn look(&mut self, file: &str, text: &str) -> Vec<String> {
        if is_test(file) || !HELD.iter().any(|held| file.starts_with(held)) {
            return Vec::new();
        }
        let mut findings = Vec::new();
        for (number, line) in product(text).lines().enumerate() {
            let line = line.trim_start();
            if line.starts_with("//") {
                continue;
            }
            for call in CALLS.into_iter().filter(|call| line.contains(call)) {
                let row = ELSEWHERE
                    .iter()
                    .position(|(of, what, _)| *of == file && *what == call);
                match row {
                    Some(row) => drop(self.used.insert(row)),
                    None => findings.push(format!(
                        "{file}:{}: {call} may block the async thread; run it on a blocking thread and name it in xtask/src/tidy/blocking.rs",
                        number + 1
                    )),
                }
            }
        }
        findings
    }

    /// Rows of the table that nothing matches any more.
    pub(super) fn unused(&self) -> Vec<String> {
        let rows = ELSEWHERE.iter().enumerate();
        rows.filter(|(row, _)| !self.used.contains(row))
            .map(|(_, (file, call, _))| format!("xtask/src/tidy/blocking.rs: {file} has no {call}"))
            .collect()
    }
}
