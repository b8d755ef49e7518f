//! What every scene of its own begins with: a node's directory, and a runtime that has the images of [`pods`](crate::pods).
//!
//! In:    a name for the directory
//! Out:   the directory, laid out; the runtime's configuration
//! Calls: the tests beside the simulation
//! Holds: two scenes of one process never share a directory
//! Upstream: none

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;
use kubelet_host::HostRoot;
use testkit::cri::StandInConfig;

use crate::kubelet::lay_out_node;
use crate::pods;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A fresh directory for a node, in memory where the machine has a place for that. Whoever asks removes it.
///
/// # Errors
/// It cannot be made or laid out.
pub fn node_dir(scene: &str) -> anyhow::Result<PathBuf> {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = parent.join(format!("world-{scene}-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    lay_out_node(&HostRoot::at(&dir))?;
    Ok(dir)
}

/// A runtime with the images that are present from the first moment.
pub fn runtime_config() -> StandInConfig {
    StandInConfig {
        images: pods::PRESENT.map(str::to_owned).to_vec(),
        ..StandInConfig::default()
    }
}
