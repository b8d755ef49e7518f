//! The node's HTTP: health on 10248, the read-only port 10255, and the main port 10250 behind TLS and authentication.
//!
//! In:    [`ServerConfig`], and [`ServerState`]: snapshots and request channels, nothing that the server could change
//!        except the log verbosity; the runtime, for what runs in containers
//! Out:   [`bind`] gives one [`Listener`] per port; each is run as its own task by [`Listener::serve`]
//! Calls: wiring binds early, so that a taken port or a bad certificate stops the start; the supervisor runs the listeners
//! Holds: bounded everything: connections, headers (1 MiB; 128 KiB over HTTP/2), bodies, idle time (90 s), slow heads (30 s),
//!        answers of other tasks (2 s), bytes that wait for slow clients (`ports`); logs and streams are copied block by block as the client takes them; nothing runs while nobody asks: pods are rendered when somebody asks (`renderings`: on threads, in turn), and
//!        what components tell at `/debug/…` comes over a request channel (a watch would make them render at every change)
//! Upstream: pkg/kubelet/server/server.go, cmd/kubelet/app/server.go (1.36); differences: endpoints.rs, auth.rs, tls.rs say theirs

mod answer;
mod auth;
mod body;
mod container_logs;
mod endpoints;
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod listener;
mod log_lines;
mod log_options;
mod log_stream;
mod metrics;
mod pods;
mod profiles;
mod query;
mod renderings;
mod replies;
mod shared;
mod streaming;
mod system_logs;
mod targets;
#[cfg(test)]
mod tests;
mod tls;
mod upgrade;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kubelet_host::Blocking;
use kubelet_host::machine::Machine;
use kubelet_model::reported::ReportedPods;
use prometheus::Registry;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

pub use auth::{
    Access, AccessReview, Anonymous, Authorization, ReviewError, Reviewer, TokenAuthentication,
    TokenReview, User, attributes,
};
pub use endpoints::{subresources, verb};
pub use kubelet_tls::MinTls;
pub use listener::{Listener, Listeners, bind};
pub use log_options::LogStreams;
pub use metrics::{BuildVersion, register_build, register_process};
pub use pods::RunningPod;
pub use tls::{Negotiation, ServingPair, TlsError};

/// Why the server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A port is taken or not allowed.
    #[error("listen on {address} ({port})")]
    Bind {
        /// Which of the three.
        port: Port,
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The main port has no usable certificate.
    #[error("TLS of the main port")]
    Tls(#[from] TlsError),
    /// A metric's name is taken.
    #[error("register the server's metrics")]
    Metrics(#[from] prometheus::Error),
}

/// The three ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    /// 10248.
    Healthz,
    /// 10255.
    ReadOnly,
    /// 10250.
    Main,
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Healthz => "healthz port",
            Self::ReadOnly => "read-only port",
            Self::Main => "main port",
        })
    }
}

/// What the configuration turns off on the main port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disabled {
    /// `enableDebuggingHandlers: false`.
    AllDebug,
    /// `enableProfilingHandler: false`.
    Profiling,
    /// `enableSystemLogHandler: false`.
    SystemLogs,
    /// `enableSystemLogQuery: false`.
    SystemLogQuery,
    /// `enableDebugFlagsHandler: false`.
    Flags,
    /// Gate `ContainerCheckpoint` off.
    Checkpoints,
}

/// The main port.
#[derive(Debug, Clone)]
pub struct MainConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its certificate and key.
    pub pair: ServingPair,
    /// What clients may negotiate.
    pub negotiation: Negotiation,
    /// Who signs client certificates.
    pub client_ca: Option<PathBuf>,
    /// Whether everybody has a user.
    pub anonymous: Anonymous,
    /// What a bearer token means.
    pub tokens: TokenAuthentication,
    /// What a user may do.
    pub authorization: Authorization,
    /// What is off.
    pub disabled: Vec<Disabled>,
    /// Whether a log's streams can be had apart.
    pub log_streams: LogStreams,
    /// An exec, attach or port-forward that is silent for this long ends; `None` is never.
    pub streaming_idle: Option<Duration>,
}

/// The parts of the node that requests reach into.
#[derive(Debug, Clone)]
pub struct NodeAccess {
    /// Logs, exec and so on are asked of it.
    pub runtime: kubelet_cri::Client,
    /// Reads of logs go through it.
    pub blocking: Blocking,
    /// `podLogsDir`.
    pub pod_logs: PathBuf,
    /// `/var/log`.
    pub system_logs: PathBuf,
    /// Where checkpoints are written.
    pub checkpoints: PathBuf,
}

/// Which ports, and how.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Goes into the certificate that is made when none is there.
    pub node_name: String,
    /// `None` when the port is 0.
    pub healthz: Option<SocketAddr>,
    /// `None` when the port is 0.
    pub read_only: Option<SocketAddr>,
    /// `None` when `enableServer` is false.
    pub main: Option<MainConfig>,
    /// Reads the wall clock.
    pub now: fn() -> jiff::Timestamp,
}

/// A loop that must keep turning, checked at `/healthz`.
#[derive(Debug, Clone)]
pub struct LoopHealth {
    /// The check's name: `syncloop`.
    pub name: &'static str,
    /// When the loop last began a turn; `None` before the first, which is healthy.
    pub last_turn: watch::Receiver<Option<Instant>>,
    /// Older than this is a failure.
    pub max_age: Duration,
    /// What a failure says.
    pub failure: &'static str,
}

/// What a component can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DebugTopic {
    /// `/debug/tasks`.
    Tasks,
    /// `/debug/sources`.
    Sources,
    /// `/debug/timeline`.
    Timeline,
}

/// A question to a component. Dropping `reply` is an answer too: 503.
#[derive(Debug)]
pub struct Question<A> {
    /// The request's query string, not decoded.
    pub query: Option<String>,
    /// Where the answer goes; it must come within 2 s.
    pub reply: oneshot::Sender<A>,
}

/// Where the server gets what it shows. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ServerState {
    /// All known pods with their present status.
    pub pods: watch::Receiver<ReportedPods>,
    /// Answers with what the runtime runs.
    pub running_pods: mpsc::Sender<Question<Vec<RunningPod>>>,
    /// The machine; `None` until it was read.
    pub machine: watch::Receiver<Option<Arc<Machine>>>,
    /// The whole answer of `/configz`.
    pub configz: Arc<serde_json::Value>,
    /// Everything that `/metrics` shows.
    pub registry: Registry,
    /// Checked at `/healthz` besides ping and log.
    pub health: Vec<LoopHealth>,
    /// Answers `/debug/tasks`.
    pub tasks: mpsc::Sender<Question<serde_json::Value>>,
    /// Answers `/debug/sources`.
    pub sources: mpsc::Sender<Question<serde_json::Value>>,
    /// Answers `/debug/timeline`.
    pub timeline: mpsc::Sender<Question<serde_json::Value>>,
    /// What exec, logs and the like reach.
    pub node: NodeAccess,
    /// Set by `PUT /debug/flags/v`.
    pub verbosity: watch::Sender<u32>,
}
