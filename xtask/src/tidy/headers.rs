//! Module headers name files that exist; tests run; every reason of a pod's status is used.
//!
//! In:    every tracked source file
//! Out:   one line per finding
//! Calls: tidy
//! Holds: a word of a header with a slash whose first part is one of our crates is a path below that crate's `src`
//! Upstream: none

use std::collections::BTreeSet;
use std::path::Path;

const REASONS: &str = "crates/model/src/reason.rs";

/// Goes through the files.
#[derive(Debug, Default)]
pub(super) struct Headers {
    /// Variants of `Reason`.
    reasons: BTreeSet<String>,
    /// Those that something names.
    used: BTreeSet<String>,
}

impl Headers {
    /// Findings of one file.
    pub(super) fn look(&mut self, file: &str, text: &str) -> Vec<String> {
        let mut findings: Vec<String> = header_paths(text)
            .filter(|path| !is_there(path))
            .map(|path| format!("{file}: its header names {path}, which is not there"))
            .collect();
        let attribute = ["#[", "ignore"].concat();
        if text.contains(&attribute) {
            findings.push(format!("{file}: a test that does not run"));
        }
        if file == REASONS {
            self.declared(text);
        } else if !file.contains("tests") {
            let names = text.split("Reason::").skip(1);
            let names = names.map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next());
            self.used.extend(names.flatten().map(str::to_owned));
        }
        findings
    }

    fn declared(&mut self, text: &str) {
        let body = text.split("pub enum Reason {").nth(1).unwrap_or_default();
        let body = body.split("\n}").next().unwrap_or_default();
        let lines = body.lines().map(str::trim);
        let variants = lines.filter(|line| !line.starts_with("//") && line.ends_with(','));
        self.reasons
            .extend(variants.map(|line| line.trim_end_matches(',').to_owned()));
    }

    /// Reasons that no product file names.
    pub(super) fn unused(&self) -> Vec<String> {
        let unused = self.reasons.difference(&self.used);
        unused
            .map(|reason| format!("{REASONS}: nothing uses Reason::{reason}"))
            .collect()
    }
}

/// Words of the header that are paths below one of our crates.
fn header_paths(text: &str) -> impl Iterator<Item = &str> {
    let header = text.lines().take_while(|line| line.starts_with("//!"));
    // What follows the names of upstream's files are upstream's files.
    let own = header.take_while(|line| !line.starts_with("//! Upstream:"));
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_/.-".contains(c);
    let words = own.flat_map(move |line| line.split(move |c| !is_part(c)));
    words
        .map(|word| word.trim_matches('.'))
        .filter(|word| word.contains('/') && !word.contains("//"))
        .filter(|word| {
            let first = word.split('/').next().unwrap_or_default();
            !first.is_empty() && Path::new("crates").join(first).join("src").is_dir()
        })
}

/// A path below a crate's `src`, with or without the ending; also `crate/src/…` as it is.
fn is_there(path: &str) -> bool {
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let rest = rest.trim_end_matches('/');
    let rest = rest.strip_prefix("src/").unwrap_or(rest);
    let src = Path::new("crates").join(first).join("src");
    let crate_dir = Path::new("crates").join(first);
    rest.is_empty()
        || src.join(rest).exists()
        || src.join(format!("{rest}.rs")).exists()
        || crate_dir.join(rest).exists()
}
