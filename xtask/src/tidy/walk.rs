//! The walk of a pod on ARCHITECTURE.md: the files that a reader goes through from the manifest to the status, and how long they are.
//!
//! In:    the table under "The pod path": in its last column, files as `` `crate/path` lines ``
//! Out:   one line per finding
//! Calls: tidy
//! Holds: the walk is short enough to be read in a morning; its files exist, and their lengths are true to a tenth
//! Upstream: none

use std::path::Path;

use super::product;

/// So many files at most.
const LONGEST_WALK: usize = 25;

/// Differences of so many lines are none.
const SLACK: usize = 30;

/// What the page says against the files.
pub(super) fn findings(page: &str) -> Vec<String> {
    let files = walk(page);
    let mut findings = Vec::new();
    if files.is_empty() || files.len() > LONGEST_WALK {
        let count = files.len();
        findings.push(format!(
            "ARCHITECTURE.md: the walk of a pod is {count} files, {LONGEST_WALK} is the most"
        ));
    }
    for (name, lines) in files {
        let (owner, path) = name.split_once('/').unwrap_or((name, ""));
        let file = format!("crates/{owner}/src/{path}.rs");
        let Ok(text) = std::fs::read_to_string(Path::new(&file)) else {
            findings.push(format!("ARCHITECTURE.md: there is no {file}"));
            continue;
        };
        let real = product(&text).lines().count();
        if real.abs_diff(lines) > SLACK + real / 10 {
            findings.push(format!(
                "ARCHITECTURE.md: {file} has {real} lines, not {lines}"
            ));
        }
    }
    findings
}

/// Files and their lines, from the last column of the table.
fn walk(page: &str) -> Vec<(&str, usize)> {
    let part = page
        .split("\n## ")
        .find(|part| part.starts_with("The pod path"));
    let rows = part.into_iter().flat_map(str::lines);
    let cells = rows.filter_map(|line| {
        line.strip_prefix("| ")?
            .strip_suffix(" |")?
            .rsplit(" | ")
            .next()
    });
    cells
        .flat_map(|cell| cell.split(", "))
        .filter_map(|entry| {
            let (name, lines) = entry.strip_prefix('`')?.split_once("` ")?;
            Some((name, lines.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_is_read_from_the_last_column() {
        let page = "# A\n\n## The pod path\n\n| # | Step | Walk |\n|---|---|---|\n| 1 | a `x/y` 3 | `act/a` 10, `decide/b/c` 20 |\n| 2 | b | `act/d` 5 |\n\n## Next\n\n| `act/e` 1 |\n";
        assert_eq!(
            walk(page),
            [("act/a", 10), ("decide/b/c", 20), ("act/d", 5)]
        );
    }

    #[test]
    fn a_walk_that_is_not_there_is_a_finding() {
        let page = "## The pod path\n\n| 1 | a | `act/none` 10 |\n";
        let found = findings(&format!("\n{page}"));
        assert_eq!(
            found,
            ["ARCHITECTURE.md: there is no crates/act/src/none.rs"]
        );
        assert_eq!(findings("").len(), 1);
    }
}
