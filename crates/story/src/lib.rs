//! A pod's story: what the node itself tells of its pods, over a unix socket, with or without an API server.
//!
//! In:    the kubelet's pods with their statuses, probes, waits and timelines, as values; a command line
//! Out:   the local pods API of Kubernetes and our additions to it; `hyperkube get|describe|why|timeline`
//! Calls: hyperkube/wiring/story serves, hyperkube/main runs the commands
//! Holds: read only; each answer is one snapshot, in pages of a bounded size; what people read is made by pure functions of what was
//!        answered and of one moment
//! Upstream: pkg/kubelet/apis/pods (KEP-4188, 1.36), kubectl's get and describe; differences: a slow watcher is given the last state of
//!           each pod and is never dropped

mod changes;
mod client;
mod command;
mod completion;
mod describe;
mod limiter;
mod paint;
mod pods_api;
mod row;
mod run;
mod select;
mod server;
mod source;
mod story_api;
mod table;
#[cfg(test)]
mod tests;
mod timeline;
mod times;
mod why;
mod wire;
mod words;

use std::path::{Path, PathBuf};

pub use command::VERBS;
pub use run::run;
pub use server::{Door, serve};
pub use source::Source;

/// Our socket, below the kubelet's root directory.
const SOCKET: &str = "hyperkube/story.sock";
/// Upstream's socket of the local pods API, below the kubelet's root directory.
const PODS_API: &str = "pods-api/pods-api.sock";
/// Its directory's mode, as upstream makes it.
pub const PODS_API_DIRECTORY_MODE: u32 = 0o750;
/// The mode that upstream's socket has under the usual umask: who is not its owner may not connect.
pub const PODS_API_MODE: u32 = 0o755;
/// Ours.
pub const SOCKET_MODE: u32 = 0o600;

/// Where a kubelet with this root directory serves its stories.
pub fn socket(root_dir: &Path) -> PathBuf {
    root_dir.join(SOCKET)
}

/// Where it serves the local pods API behind its gate.
pub fn pods_api_socket(root_dir: &Path) -> PathBuf {
    root_dir.join(PODS_API)
}

/// Generated from `proto/`.
mod stubs {
    /// The local pods API of Kubernetes.
    pub(crate) mod pods {
        #![expect(
            unreachable_pub,
            unused_qualifications,
            clippy::allow_attributes,
            clippy::allow_attributes_without_reason,
            clippy::clone_on_ref_ptr,
            clippy::too_many_lines,
            reason = "generated from proto/pods.proto"
        )]
        tonic::include_proto!("v1alpha1");
    }
    /// Our additions.
    pub(crate) mod story {
        #![expect(
            unreachable_pub,
            unused_qualifications,
            clippy::allow_attributes,
            clippy::allow_attributes_without_reason,
            clippy::clone_on_ref_ptr,
            clippy::too_many_lines,
            reason = "generated from proto/story.proto"
        )]
        tonic::include_proto!("hyperkube.story.v1alpha1");
    }
}
