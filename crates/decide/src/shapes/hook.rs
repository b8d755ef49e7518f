//! What one of a container's lifecycle hooks does.
//!
//! In:    nothing
//! Out:   [`Hook`]
//! Calls: pod/hooks (which makes it), shapes/plan; act/pod/hooks runs it
//! Holds: all that is needed to run it
//! Upstream: pkg/kubelet/lifecycle/handlers.go (Run)

use std::time::Duration;

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A command in the container, as it stands in the spec.
    Exec(Vec<String>),
    /// A request; any answer is a good one.
    Http(HttpHook),
    /// Nothing, for so long.
    Sleep {
        /// What the spec says, seconds.
        seconds: i64,
        /// What is left of it.
        left: Duration,
    },
    /// It cannot be run, and this is why.
    Impossible(String),
}

/// A request of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpHook {
    /// Whether over TLS; a server that speaks plain HTTP is asked again without it.
    pub is_tls: bool,
    /// Address or name.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// Headers.
    pub headers: Vec<(String, String)>,
}

/// Which of a container's hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookKind {
    /// After its start.
    PostStart,
    /// Before its end.
    PreStop,
}
