//! `hyperkube apiserver` as a separate process.
//!
//! In:    the limits of the shell
//! Out:   the limits of the process
//! Calls: cargo test
//! Holds: one data directory, deleted afterwards; any free port
//! Upstream: cmd/kube-apiserver

#![expect(clippy::unwrap_used, reason = "helpers of tests are test code")]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_hyperkube");

/// Soft and hard limit of open files.
fn open_files(pid: u32) -> (String, String) {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let mut words = line.unwrap().split_whitespace().skip(3).map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

#[test]
fn it_may_open_more_files_than_a_shell_gives_it() {
    let dir = std::env::temp_dir().join(format!("hyperkube-files-{}", std::process::id()));
    let line = format!(
        "ulimit -Sn 256; exec {BINARY} apiserver --data-dir {} --secure-port 0",
        dir.display()
    );
    let mut child = Command::new("sh")
        .args(["-c", &line])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    let said = lines.find(|line| line.contains("limit of open files"));
    let (soft, hard) = open_files(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    drop(std::fs::remove_dir_all(&dir));
    assert!(said.is_some());
    assert!(
        soft != "256" && (soft == hard || soft == "1000000"),
        "{soft} of {hard}"
    );
}
