//! Paths that a user gave, made whole.
//!
//! In:    a directory and what was written relative to it
//! Out:   a path without `.`, `..` and doubled slashes
//! Calls: flags, config_files
//! Holds: nothing is looked up: a link is not followed
//! Upstream: path/filepath (Join)

use std::path::{Path, PathBuf};

/// The directory and the path below it without `.`, `..` and doubled slashes.
pub(crate) fn joined(directory: &Path, path: &str) -> String {
    let mut clean = PathBuf::new();
    for part in directory.join(path).components() {
        match part {
            std::path::Component::ParentDir => drop(clean.pop()),
            std::path::Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean.to_string_lossy().into_owned()
}
