//! The kubelet's HTTP servers: health on 10248, the read-only port 10255, and the main port 10250 with TLS and authentication.
//!
//! In:    [`ServerConfig`], and [`ServerState`]: snapshots and request channels; the server can change only the log verbosity;
//!        the runtime, for exec, logs and the like
//! Out:   [`bind`] gives one [`Listener`] per port; each is run as its own task by [`Listener::serve`]
//! Calls: wiring binds early, so that a taken port or an invalid certificate stops the start; the supervisor runs the listeners
//! Holds: everything is limited: connections, headers (1 MiB; 128 KiB over HTTP/2), bodies, idle time (90 s), slow heads (30
//!        s), answers of other tasks (2 s), bytes that wait for slow clients (`ports`); logs and streams are copied block by
//!        block as the client reads; without requests nothing runs: pods are rendered on request (`renderings`: on threads, in
//!        turn), and components report `/debug/…` over a request channel (a watch channel would make them render at every
//!        change)
//! Upstream: pkg/kubelet/server/server.go, cmd/kubelet/app/server.go (1.36); differences: see endpoints.rs, auth.rs, tls.rs

#![cfg_attr(
    test,
    expect(
        clippy::too_many_lines,
        reason = "tables and scenes of tests are read from top to bottom"
    )
)]

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

/// Why the server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address could not be bound.
    #[error("listen on {address} ({port})")]
    Bind {
        /// Which of the three ports.
        port: Port,
        /// The requested address.
        address: SocketAddr,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The main port has no usable certificate.
    #[error("TLS of the main port")]
    Tls(#[from] TlsError),
    /// A metric's name is already registered.
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

/// What the configuration disables on the main port.
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

/// The configuration of the main port.
#[derive(Debug, Clone)]
pub struct MainConfig {
    /// The address.
    pub address: SocketAddr,
    /// The serving certificate and its key.
    pub pair: ServingPair,
    /// TLS versions and cipher suites.
    pub negotiation: Negotiation,
    /// The CA of client certificates.
    pub client_ca: Option<PathBuf>,
    /// How requests without credentials are treated.
    pub anonymous: Anonymous,
    /// How bearer tokens are authenticated.
    pub tokens: TokenAuthentication,
    /// How users are authorized.
    pub authorization: Authorization,
    /// What is disabled.
    pub disabled: Vec<Disabled>,
    /// Whether stdout and stderr of a log can be requested separately.
    pub log_streams: LogStreams,
    /// The idle timeout of exec, attach and port-forward; `None` means no timeout.
    pub streaming_idle: Option<Duration>,
}

/// The parts of the node that requests access.
#[derive(Debug, Clone)]
pub struct NodeAccess {
    /// The runtime, for logs, exec and so on.
    pub runtime: kubelet_cri::Client,
    /// The threads on which logs are read.
    pub blocking: Blocking,
    /// `podLogsDir`.
    pub pod_logs: PathBuf,
    /// `/var/log`.
    pub system_logs: PathBuf,
    /// The directory of checkpoints.
    pub checkpoints: PathBuf,
}

/// The configuration of all ports.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The name in the self-signed certificate that is created if there is no certificate.
    pub node_name: String,
    /// `None` if the port is 0.
    pub healthz: Option<SocketAddr>,
    /// `None` if the port is 0.
    pub read_only: Option<SocketAddr>,
    /// `None` if `enableServer` is false.
    pub main: Option<MainConfig>,
    /// Reads the wall clock.
    pub now: fn() -> jiff::Timestamp,
}

/// A loop that must keep running, checked at `/healthz`.
#[derive(Debug, Clone)]
pub struct LoopHealth {
    /// The check's name: `syncloop`.
    pub name: &'static str,
    /// When the loop's last round began; `None` before the first round, which counts as healthy.
    pub last_turn: watch::Receiver<Option<Instant>>,
    /// The check fails if that is longer ago.
    pub max_age: Duration,
    /// The text of a failure.
    pub failure: &'static str,
}

/// The topics of `/debug/…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DebugTopic {
    /// `/debug/tasks`.
    Tasks,
    /// `/debug/sources`.
    Sources,
    /// `/debug/timeline`.
    Timeline,
}

/// A question to a component. A dropped `reply` becomes 503.
#[derive(Debug)]
pub struct Question<A> {
    /// The request's query string, not decoded.
    pub query: Option<String>,
    /// The channel for the answer, which must come within 2 s.
    pub reply: oneshot::Sender<A>,
}

/// The sources of everything that the server shows. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ServerState {
    /// All known pods with their current status.
    pub pods: watch::Receiver<ReportedPods>,
    /// Returns the pods that the runtime runs.
    pub running_pods: mpsc::Sender<Question<Vec<RunningPod>>>,
    /// The machine information; `None` until it was read.
    pub machine: watch::Receiver<Option<Arc<Machine>>>,
    /// The body of `/configz`.
    pub configz: Arc<serde_json::Value>,
    /// The metrics of `/metrics`.
    pub registry: Registry,
    /// The metrics of `/metrics/probes`.
    pub of_probes: Registry,
    /// Checks of `/healthz` besides ping and log.
    pub health: Vec<LoopHealth>,
    /// Answers `/debug/tasks`.
    pub tasks: mpsc::Sender<Question<serde_json::Value>>,
    /// Answers `/debug/sources`.
    pub sources: mpsc::Sender<Question<serde_json::Value>>,
    /// Answers `/debug/timeline`.
    pub timeline: mpsc::Sender<Question<serde_json::Value>>,
    /// What exec, logs and the like access.
    pub node: NodeAccess,
    /// Set by `PUT /debug/flags/v`.
    pub verbosity: watch::Sender<u32>,
}
