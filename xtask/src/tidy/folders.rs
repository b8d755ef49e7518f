//! Who imports whom: folders by a table, and no circle of files beside each other.
//!
//! In:    every tracked source file of the crates below
//! Out:   one line per finding
//! Calls: tidy
//! Holds: a file and its own sub-modules count as one, so that a head may use its parts and they its types; tests import what they like
//! Upstream: none

use std::collections::{BTreeMap, BTreeSet};

use super::{is_test, product};

/// Crates in which no circle of files is left. `host` (a trait and its two drivers) and `ports` (types of one connection) have one each.
const CRATES: [&str; 9] = [
    "act",
    "apiserver",
    "cluster",
    "decide",
    "hyperkube",
    "model",
    "server",
    "story",
    "validate",
];

/// Crate, folder, and the folders that it may import.
const EDGES: [(&str, &str, &[&str]); 31] = [
    ("decide", "shapes", &[]),
    ("decide", "config", &[]),
    ("decide", "observe", &[]),
    ("decide", "probes", &["container", "shapes"]),
    ("decide", "sources", &[]),
    ("decide", "images", &["shapes"]),
    ("decide", "resources", &["shapes"]),
    ("decide", "container", &["resources", "shapes"]),
    ("decide", "volumes", &["container", "resources", "shapes"]),
    (
        "decide",
        "pod",
        &[
            "container",
            "images",
            "probes",
            "resources",
            "shapes",
            "sources",
            "volumes",
        ],
    ),
    (
        "decide",
        "report",
        &["container", "pod", "probes", "resources", "shapes"],
    ),
    ("decide", "node", &["report"]),
    ("act", "frame", &[]),
    ("act", "images", &["frame"]),
    ("act", "objects", &["frame"]),
    ("act", "observe", &["frame"]),
    ("act", "report", &["frame"]),
    ("act", "probes", &["frame", "report"]),
    ("act", "resources", &["frame"]),
    ("act", "sources", &["frame"]),
    ("act", "volumes", &["frame"]),
    ("act", "node", &["frame", "images", "observe", "report"]),
    (
        "act",
        "pod",
        &[
            "frame",
            "images",
            "objects",
            "observe",
            "probes",
            "report",
            "resources",
            "sources",
        ],
    ),
    ("apiserver", "base", &[]),
    ("apiserver", "store", &["base"]),
    ("apiserver", "identity", &["base"]),
    ("apiserver", "kinds", &["base", "store"]),
    ("apiserver", "request", &["base", "kinds", "store"]),
    (
        "apiserver",
        "access",
        &["base", "kinds", "request", "store"],
    ),
    (
        "apiserver",
        "registry",
        &["access", "base", "identity", "kinds", "request", "store"],
    ),
    (
        "apiserver",
        "verbs",
        &[
            "access", "base", "identity", "kinds", "registry", "request", "store",
        ],
    ),
];

/// Crates whose top folders stand in the table; a folder of theirs that is not in it may import all.
const WITH_TABLE: [&str; 3] = ["act", "apiserver", "decide"];

/// Modules of a crate by their path, `pod::pod_plan`, with their text.
type Modules = BTreeMap<String, String>;

/// Goes through the files.
#[derive(Debug, Default)]
pub(super) struct Folders(BTreeMap<&'static str, Modules>);

impl Folders {
    /// Takes in one file.
    pub(super) fn look(&mut self, file: &str, text: &str) {
        let inside = |name: &str| {
            let rest = file.strip_prefix("crates/")?.strip_prefix(name)?;
            rest.strip_prefix("/src/")?.strip_suffix(".rs")
        };
        let found = CRATES.iter().find_map(|name| Some((*name, inside(name)?)));
        let Some((name, module)) = found.filter(|_| !is_test(file)) else {
            return;
        };
        let module = match module {
            "lib" | "main" => String::new(),
            other => other.replace('/', "::"),
        };
        self.0.entry(name).or_default().insert(module, bare(text));
    }

    /// All findings.
    pub(super) fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for (name, modules) in &self.0 {
            let edges = edges(modules);
            findings.extend(circles(name, modules, &edges));
            if WITH_TABLE.contains(name) {
                findings.extend(against_the_table(name, &edges));
            }
        }
        findings
    }
}

/// The text without comments and without the tests at its end.
fn bare(text: &str) -> String {
    let lines = product(text).lines();
    let code = lines.map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    code.collect::<Vec<_>>().join("\n")
}

type Edges = BTreeSet<(String, String)>;

fn edges(modules: &Modules) -> Edges {
    let mut edges = Edges::new();
    for (module, text) in modules {
        for path in uses(module, text) {
            let target = target(modules, &path);
            if target != *module && !target.is_empty() {
                edges.insert((module.clone(), target));
            }
        }
    }
    edges
}

/// The module in which the item of a path stands.
fn target(modules: &Modules, path: &str) -> String {
    let mut path = path;
    loop {
        if modules.contains_key(path) || path.is_empty() {
            return path.to_owned();
        }
        path = path.rsplit_once("::").map_or("", |(head, _)| head);
    }
}

/// Paths from the crate's root that a module names.
fn uses(module: &str, text: &str) -> Vec<String> {
    let parts: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
    let mut found = Vec::new();
    for (root, up) in [("crate::", None), ("self::", Some(0)), ("super::", Some(1))] {
        let begins = text.match_indices(root).map(|(at, _)| at);
        for at in begins {
            let (before, rest) = text.split_at(at);
            if before.ends_with(|c: char| c.is_alphanumeric() || "_:$".contains(c)) {
                continue;
            }
            let mut rest = &rest[root.len()..];
            let mut up = up;
            while let Some(further) = rest.strip_prefix("super::") {
                rest = further;
                up = up.map(|up| up + 1);
            }
            let base = match up {
                None => Vec::new(),
                Some(up) => parts[..parts.len().saturating_sub(up)].to_vec(),
            };
            tree(rest, &base.join("::"), &mut found);
        }
    }
    found
}

/// Reads `a::{b, c::d}` behind a prefix; gives what follows it.
fn tree<'a>(text: &'a str, prefix: &str, found: &mut Vec<String>) -> &'a str {
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let path = match (prefix, word) {
        (prefix, "" | "self") => prefix.to_owned(),
        ("", word) => word.to_owned(),
        (prefix, word) => format!("{prefix}::{word}"),
    };
    if let Some(rest) = rest.strip_prefix("::") {
        return tree(rest, &path, found);
    }
    if !word.is_empty() {
        found.push(path);
        return rest;
    }
    let Some(mut rest) = rest.strip_prefix('{') else {
        found.push(path);
        return rest;
    };
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if rest.is_empty() || rest.starts_with('}') {
            return rest.get(1..).unwrap_or_default();
        }
        let after = tree(rest, &path, found);
        // `as` and what else stands behind a name.
        let next = after.find([',', '}']).unwrap_or(after.len());
        rest = if after.len() == rest.len() {
            ""
        } else {
            &after[next..]
        };
    }
}

/// The part of a module's path that stands directly below `parent`, with the parent.
fn below<'a>(module: &'a str, parent: &str) -> Option<&'a str> {
    let from = match parent {
        "" => 0,
        parent => module
            .strip_prefix(parent)?
            .strip_prefix("::")
            .map(|_| parent.len() + 2)?,
    };
    let rest = &module[from..];
    let end = rest.find("::").unwrap_or(rest.len());
    (!rest.is_empty()).then(|| &module[..from + end])
}

fn circles(name: &str, modules: &Modules, edges: &Edges) -> Vec<String> {
    let above = |module: &'_ str| {
        module
            .rsplit_once("::")
            .map_or("", |(parent, _)| parent)
            .len()
    };
    let parents = modules.keys().flat_map(|module| {
        std::iter::successors(Some(module.as_str()), move |module| {
            (!module.is_empty()).then(|| &module[..above(module)])
        })
    });
    let parents: BTreeSet<&str> = parents.collect();
    let mut findings = Vec::new();
    for parent in parents {
        let between = edges.iter().filter_map(|(from, to)| {
            let (from, to) = (below(from, parent)?, below(to, parent)?);
            (from != to).then_some((from, to))
        });
        let mut left: BTreeSet<(&str, &str)> = between.collect();
        loop {
            let from: BTreeSet<&str> = left.iter().map(|(from, _)| *from).collect();
            let to: BTreeSet<&str> = left.iter().map(|(_, to)| *to).collect();
            let before = left.len();
            left.retain(|(a, b)| to.contains(a) && from.contains(b));
            if left.len() == before {
                break;
            }
        }
        if !left.is_empty() {
            let files: BTreeSet<&str> = left.iter().map(|(from, _)| *from).collect();
            let files: Vec<&str> = files.into_iter().collect();
            findings.push(format!(
                "crates/{name}: a circle of imports: {}",
                files.join(", ")
            ));
        }
    }
    findings
}

fn against_the_table(name: &str, edges: &Edges) -> Vec<String> {
    let top = |module: &str| module.split("::").next().unwrap_or_default().to_owned();
    let mut findings = BTreeSet::new();
    for (from, to) in edges {
        let (folder, used) = (top(from), top(to));
        let row = EDGES
            .iter()
            .find(|(of, one, _)| *of == name && *one == folder);
        if let Some((_, _, allowed)) = row
            && folder != used
            && !allowed.contains(&used.as_str())
        {
            findings.insert(format!(
                "crates/{name}/src/{}.rs: {folder} may not import {used}",
                from.replace("::", "/")
            ));
        }
    }
    findings.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let mut folders = Folders::default();
        for (file, text) in files {
            folders.look(file, text);
        }
        folders.findings()
    }

    #[test]
    fn a_circle_of_files_is_found_and_a_head_with_its_parts_is_none() {
        let circle = [
            ("crates/server/src/a.rs", "use crate::{b::B, c as d};\n"),
            ("crates/server/src/b.rs", "fn f() { crate::c::g() }\n"),
            ("crates/server/src/c.rs", "use super::b::B;\n"),
        ];
        assert_eq!(found(&circle), ["crates/server: a circle of imports: b, c"]);
        let family = [
            ("crates/server/src/a.rs", "use crate::a::part::P;\n"),
            ("crates/server/src/a/part.rs", "use super::A; // crate::b\n"),
            ("crates/server/src/b.rs", "use crate::a::A;\n"),
            ("crates/server/src/a/tests.rs", "use crate::b::B;\n"),
        ];
        assert_eq!(found(&family), [""; 0]);
        let inside = [
            ("crates/server/src/a/x.rs", "use super::y::{Y, Z};\n"),
            ("crates/server/src/a/y.rs", "use crate::a::x::X;\n"),
        ];
        assert_eq!(
            found(&inside),
            ["crates/server: a circle of imports: a::x, a::y"]
        );
    }

    #[test]
    fn a_folder_imports_what_the_table_allows() {
        let upward = [
            (
                "crates/act/src/frame/clock.rs",
                "use crate::pod::execute::E;\n",
            ),
            (
                "crates/act/src/pod/execute.rs",
                "use crate::frame::signal::S;\n",
            ),
            ("crates/act/src/frame/signal.rs", ""),
        ];
        assert_eq!(
            found(&upward),
            [
                "crates/act: a circle of imports: frame, pod",
                "crates/act/src/frame/clock.rs: frame may not import pod",
            ]
        );
    }
}
