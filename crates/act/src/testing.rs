//! What tests of the node side share: a directory that goes with the test, and a configuration as `hyperkube kubelet` makes it.
//!
//! In:    changes to the defaulted configuration
//! Out:   `Scratch`, `Config`
//! Calls: unit tests of this crate only
//! Upstream: none

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use kubelet_api::config::KubeletConfiguration;
use kubelet_decide::config::defaults::{defaults, eviction_hard};
use kubelet_decide::config::effective::effective;
use kubelet_model::config::{Config, Flags};
use kubelet_model::gates::Gates;

/// A directory under the system's temporary one, removed at the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hyperkube-act-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file with the directories above it.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// What a kubelet without a configuration file runs with, after a change to it.
pub(crate) fn config(change: impl FnOnce(&mut KubeletConfiguration)) -> Config {
    let gates = Gates::default();
    let mut configuration = KubeletConfiguration::default();
    change(&mut configuration);
    let configuration = eviction_hard(defaults(configuration, &gates));
    effective(&configuration, &Flags::default(), &gates).unwrap()
}
