//! Makes the paths that a user gave absolute.
//!
//! In:    a directory and a path relative to it
//! Out:   a path without `.`, `..` and doubled slashes
//! Calls: flags, config_files
//! Holds: purely textual: symbolic links are not resolved
//! Upstream: path/filepath (Join)

use std::path::{Path, PathBuf};

/// The directory joined with the path, without `.`, `..` and doubled slashes.
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
