//! How the product may open files: what a container can touch or a user can write, by the host crate's functions alone.
//!
//! In:    a file's path and text
//! Out:   one line per finding
//! Calls: tidy
//! Holds: tests open what they like; an exception names its file, its call and its reason, and one that is not used is a finding
//! Upstream: none

use super::{is_test, product};

/// Where it is held to: what acts on pods and answers requests. The host crate has the functions, and is where to look at them.
const HELD: [&str; 4] = [
    "crates/act/src/",
    "crates/decide/src/",
    "crates/hyperkube/src/",
    "crates/server/src/",
];

/// Calls that follow links, wait for a pipe, read without a bound, or remove by name.
const CALLS: [&str; 15] = [
    "File::open(",
    "File::create(",
    "File::options(",
    "OpenOptions::new(",
    "fs::read(",
    "fs::read_to_string(",
    "fs::write(",
    "fs::copy(",
    "fs::rename(",
    "fs::remove_file(",
    "fs::remove_dir(",
    "fs::remove_dir_all(",
    "fs::canonicalize(",
    ".canonicalize(",
    "tokio::fs::",
];

/// What may all the same: file, call, why.
const EXCEPTIONS: [(&str, &str, &str); 8] = [
    (
        "crates/act/src/frame/data_dirs.rs",
        "File::options(",
        "the lock file, in a place of the administrator's choice",
    ),
    (
        "crates/hyperkube/src/apiserver.rs",
        "fs::read_to_string(",
        "the token file of the command line",
    ),
    (
        "crates/hyperkube/src/config_files/document.rs",
        "fs::read(",
        "a configuration file of the command line, which may be a pipe",
    ),
    (
        "crates/server/src/profiles.rs",
        "fs::read(",
        "the process's own command line",
    ),
    (
        "crates/server/src/tls.rs",
        "fs::read(",
        "serving certificate and key, in the kubelet's own directory",
    ),
    (
        "crates/server/src/tls.rs",
        "OpenOptions::new(",
        "the same, when they are made",
    ),
    (
        "crates/server/src/tls.rs",
        "fs::rename(",
        "the same, when they are made",
    ),
    (
        "crates/server/src/tls.rs",
        "fs::remove_file(",
        "the same, left by a cut-off write",
    ),
];

/// Goes through the files.
#[derive(Debug, Default)]
pub(super) struct Opens {
    used: Vec<(String, &'static str)>,
}

impl Opens {
    /// Findings in one file.
    pub(super) fn look(&mut self, file: &str, text: &str) -> Vec<String> {
        if is_test(file) || !HELD.iter().any(|held| file.starts_with(held)) {
            return Vec::new();
        }
        let mut findings = Vec::new();
        for (number, line) in (1..).zip(product(text).lines()) {
            let code = line.split("//").next().unwrap_or_default();
            for call in CALLS.into_iter().filter(|call| code.contains(call)) {
                let is_exception = EXCEPTIONS
                    .iter()
                    .any(|(where_, what, _)| *where_ == file && *what == call);
                if is_exception {
                    self.used.push((file.to_owned(), call));
                } else {
                    findings.push(format!(
                        "{file}:{number}: {call}…) follows links and may wait; use kubelet_host::beneath or files"
                    ));
                }
            }
        }
        findings
    }

    /// Exceptions that nothing needs.
    pub(super) fn unused(&self) -> Vec<String> {
        let is_used =
            |file: &str, call: &str| self.used.iter().any(|(f, c)| f == file && *c == call);
        EXCEPTIONS
            .iter()
            .filter(|(file, call, _)| !is_used(file, call))
            .map(|(file, call, _)| format!("{file}: {call}…) is an exception that nothing needs"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_follows_links_is_found_where_it_counts() {
        let mut opens = Opens::default();
        let text = "//! x\nfn f() {\n    let _ = std::fs::File::open(path);\n}\n#[cfg(test)]\nmod tests {\n    fs::read(x);\n}\n";
        let found = opens.look("crates/act/src/observe/termination_message.rs", text);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("crates/act/src/observe/termination_message.rs:3: File::open("),
            "{found:?}"
        );
        for elsewhere in [
            "crates/host/src/files.rs",
            "crates/act/src/x/tests.rs",
            "crates/act/src/testing.rs",
            "crates/world/src/run.rs",
        ] {
            assert_eq!(opens.look(elsewhere, text), [""; 0]);
        }
        for bad in CALLS {
            let text = format!("let x = {bad}y);");
            assert!(
                !opens.look("crates/server/src/new.rs", &text).is_empty(),
                "{bad}"
            );
            let comment = format!("let x = 1; // not {bad}y)");
            assert_eq!(opens.look("crates/server/src/new.rs", &comment), [""; 0]);
        }
    }

    #[test]
    fn an_exception_holds_for_its_file_and_call_and_must_be_needed() {
        let mut opens = Opens::default();
        assert_eq!(opens.unused().len(), EXCEPTIONS.len());
        for (file, call, _) in EXCEPTIONS {
            assert_eq!(opens.look(file, call), [""; 0]);
        }
        assert_eq!(opens.unused(), [""; 0]);
        assert_eq!(
            opens
                .look("crates/server/src/profiles.rs", "File::open(x)")
                .len(),
            1
        );
    }
}
