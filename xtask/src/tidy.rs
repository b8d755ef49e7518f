//! Holds the repository to what ARCHITECTURE.md promises: headers, sizes, edges of crates and folders, the domain matrix, how files
//! are opened, who reads which setting, what moves which metric, the walk of a pod.
//!
//! In:    tracked Rust files, `cargo metadata`, ARCHITECTURE.md
//! Out:   one line per finding
//! Calls: main
//! Holds: checks read, they never write
//! Upstream: none; the idea is rust-analyzer's tidy

mod blocking;
mod folders;
mod headers;
mod metrics;
mod opens;
mod settings;
mod walk;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use serde_json::Value;

/// No file may be longer; a longer one wants to become a folder.
const LONGEST_FILE: usize = 800;

/// Crates and what they may use of ours, besides development dependencies.
const EDGES: [(&str, &[&str]); 15] = [
    ("kubelet-api", &[]),
    ("kubelet-tls", &[]),
    ("kubelet-probe", &["kubelet-api", "kubelet-tls"]),
    ("kubelet-ports", &[]),
    ("kubelet-model", &["kubelet-api"]),
    ("kubelet-validate", &["kubelet-model"]),
    (
        "kubelet-decide",
        &["kubelet-model", "kubelet-api", "kubelet-validate"],
    ),
    ("kubelet-cri", &["kubelet-model", "kubelet-api"]),
    ("kubelet-host", &["kubelet-model"]),
    ("kubelet-cluster", &["kubelet-model", "kubelet-tls"]),
    (
        "kubelet-act",
        &[
            "kubelet-decide",
            "kubelet-model",
            "kubelet-api",
            "kubelet-cri",
            "kubelet-host",
            "kubelet-cluster",
            "kubelet-probe",
            "kubelet-tls",
        ],
    ),
    (
        "kubelet-server",
        &[
            "kubelet-model",
            "kubelet-api",
            "kubelet-cri",
            "kubelet-host",
            "kubelet-cluster",
            "kubelet-tls",
            "kubelet-ports",
        ],
    ),
    (
        "kubelet-apiserver",
        &[
            "kubelet-model",
            "kubelet-tls",
            "kubelet-ports",
            "kubelet-validate",
        ],
    ),
    ("kubelet-story", &["kubelet-model", "kubelet-host"]),
    (
        "hyperkube",
        &[
            "kubelet-api",
            "kubelet-model",
            "kubelet-decide",
            "kubelet-cri",
            "kubelet-host",
            "kubelet-cluster",
            "kubelet-act",
            "kubelet-server",
            "kubelet-apiserver",
            "kubelet-story",
        ],
    ),
];

/// Runs every check.
pub(crate) fn run() -> ExitCode {
    match findings() {
        Ok(findings) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(findings) => say(&findings.join("\n")),
        Err(error) => say(&format!("tidy: {error:#}")),
    }
}

/// Prints and fails.
pub(crate) fn say(text: &str) -> ExitCode {
    // Nobody is left to tell when stderr is closed.
    let _written = writeln!(std::io::stderr(), "{text}");
    ExitCode::FAILURE
}

fn findings() -> anyhow::Result<Vec<String>> {
    let mut findings = Vec::new();
    let mut opens = opens::Opens::default();
    let mut settings = settings::Settings::default();
    let mut blocking = blocking::Blocking::default();
    let mut headers = headers::Headers::default();
    let mut folders = folders::Folders::default();
    let mut metrics = metrics::Metrics::default();
    let tracked = output("git", &["ls-files", "*.rs"])?;
    for file in tracked.lines().filter(|file| Path::new(file).exists()) {
        let text = std::fs::read_to_string(file).with_context(|| format!("read {file}"))?;
        if !text.starts_with("//!") {
            findings.push(format!("{file}: has no header"));
        }
        findings.extend(opens.look(file, &text));
        findings.extend(blocking.look(file, &text));
        findings.extend(headers.look(file, &text));
        settings.look(file, &text);
        folders.look(file, &text);
        metrics.look(file, &text);
        let lines = text.lines().count();
        if lines > LONGEST_FILE && !file.contains("tests") {
            findings.push(format!("{file}: {lines} lines, {LONGEST_FILE} is the most"));
        }
    }
    findings.extend(opens.unused());
    findings.extend(blocking.unused());
    findings.extend(headers.unused());
    findings.extend(settings.findings());
    findings.extend(folders.findings());
    findings.extend(metrics.findings());
    findings.extend(edges()?);
    findings.extend(matrix(&tracked)?);
    findings.extend(walk::findings(&page()?));
    Ok(findings)
}

/// Uses among our crates against the table.
fn edges() -> anyhow::Result<Vec<String>> {
    let metadata: Value = serde_json::from_str(&output(
        "cargo",
        &["metadata", "--no-deps", "--format-version=1", "--offline"],
    )?)?;
    let allowed: BTreeMap<&str, &[&str]> = EDGES.into_iter().collect();
    let mut findings = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(allowed) = allowed.get(name) else {
            continue;
        };
        for used in package["dependencies"].as_array().into_iter().flatten() {
            let is_ours = used["path"].is_string();
            let used_name = used["name"].as_str().unwrap_or_default();
            if is_ours && used["kind"].is_null() && !allowed.contains(&used_name) {
                findings.push(format!("{name}: may not use {used_name}"));
            }
        }
    }
    Ok(findings)
}

fn page() -> anyhow::Result<String> {
    std::fs::read_to_string("ARCHITECTURE.md").context("read ARCHITECTURE.md")
}

/// Every module of `decide` and `act` stands in ARCHITECTURE.md.
fn matrix(tracked: &str) -> anyhow::Result<Vec<String>> {
    let page = page()?;
    let words: Vec<&str> = page
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .collect();
    let modules = tracked.lines().filter_map(|file| {
        let rest = file
            .strip_prefix("crates/decide/src/")
            .or_else(|| file.strip_prefix("crates/act/src/"))?;
        let module = rest.strip_suffix(".rs")?;
        // A folder, and the files in it; what belongs to one file stands below that.
        let is_shown = module.matches('/').count() <= 1 && !module.contains("test");
        let (_, name) = module.rsplit_once('/').unwrap_or(("", module));
        (is_shown && name != "lib").then_some(name)
    });
    Ok(modules
        .filter(|module| !words.contains(module))
        .map(|module| format!("ARCHITECTURE.md: {module} is not on the page"))
        .collect())
}

/// A file without the tests at its end.
fn product(text: &str) -> &str {
    let parts = text.split_once("#[cfg(test)]\nmod tests {");
    parts.map_or(text, |(product, _)| product)
}

/// Whether a file is tests alone, or what they share.
fn is_test(file: &str) -> bool {
    file.contains("tests") || file.ends_with("/testing.rs")
}

fn output(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("run {program}"))?;
    anyhow::ensure!(output.status.success(), "{program} {arguments:?} failed");
    Ok(String::from_utf8(output.stdout)?)
}
