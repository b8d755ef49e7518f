//! Everything the kubelet sends to and reads from the API server.
//!
//! In:    a kubeconfig, or nothing (standalone); decided objects
//! Out:   whole sets of pods and objects, each with the state of its watch; answers, or [`ClusterError`]
//! Calls: act, server, hyperkube/wiring
//! Holds: no call without a deadline; a set is replaced whole or changed by events in the server's order; nothing decides here
//! Upstream: client-go, pkg/kubelet/{status,token,certificate,secret,configmap,util/manager}, pkg/kubelet/kubelet_node_status.go
//!
//! | Module | What |
//! |---|---|
//! | `kubeconfig`, `credentials`, `exec_plugin`, `tls` | where the server is, whom to trust, who we are |
//! | `connection`, `limiter`, `client`, `objects_api`, `error`, `figures` | calls |
//! | `reflector`, `jitter` | sets that are kept current, and which of them are not |
//! | `pods` | our pods, their status, mirrors |
//! | `objects` | Secrets and ConfigMaps by name; Services, RuntimeClasses, the own Node |
//! | `nodes` | Node, lease, CSINode |
//! | `events` | Events |
//! | `reviews` | whose a token is, and who may do what here |
//! | `tokens`, `certificates` | service account tokens; this node's own certificates |

#![cfg_attr(
    test,
    expect(
        clippy::too_many_lines,
        reason = "tables and scenes of tests are read from top to bottom"
    )
)]

pub mod certificates;
mod client;
mod clock;
mod connection;
mod credentials;
mod error;
pub mod events;
mod exec_plugin;
mod figures;
mod files;
mod greeting;
mod io;
pub mod jitter;
mod kubeconfig;
mod limiter;
pub mod nodes;
pub mod objects;
mod objects_api;
pub mod pods;
pub mod reflector;
pub mod reviews;
mod sets;
#[cfg(test)]
mod testing;
mod tls;
pub mod tokens;

pub use client::{Call, Client, ClientConfig, LaneKind};
pub use clock::WallClock;
pub use connection::Pipe;
pub use error::{ClusterError, Happened, Refusal};
pub use io::Io;
pub use kubeconfig::{
    ClientPair, ExecConfig, Kubeconfig, KubeconfigError, Login, Material, Secret, Server, Trust,
};
pub use kubelet_tls::Validity;
pub use limiter::Rate;
pub use objects_api::{At, Object, PatchKind};

/// Whether there is an API server at all.
#[derive(Clone, Debug)]
pub enum Cluster {
    /// Standalone: no kubeconfig was given.
    Absent,
    /// A member of a cluster.
    Joined(Client),
}

impl Cluster {
    /// The client, in a cluster.
    pub fn client(&self) -> Option<&Client> {
        match self {
            Self::Absent => None,
            Self::Joined(client) => Some(client),
        }
    }
}
