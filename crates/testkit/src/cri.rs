//! A stand-in container runtime that speaks the real CRI over in-memory pipes, on virtual time.
//!
//! In:    gRPC calls over [`StandInRuntime::connect`] or a unix socket; behaviours, images and faults from the simulation
//! Out:   answers with containerd 1.6's semantics, codes and texts; process exits; a trace and the story of every instance
//! Calls: crate world, tests of cri and act, the bin `stand-in-runtime`
//! Holds: all state behind one lock that is never held over an await; one timer task per runtime; nothing reads a real clock
//! Upstream: none (facts: containerd 1.6 pkg/cri)

pub mod behaviour;
mod exec;
mod images;
mod pods;
mod service;
mod state;
#[cfg(test)]
mod tests;
pub mod trace;

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};

use crate::faults::FaultPlan;
use crate::stubs::image_service_server::ImageServiceServer;
use crate::stubs::runtime_service_server::RuntimeServiceServer;
use behaviour::Scripts;
pub use state::CrashScope;
use state::State;
use trace::{Instance, TraceLine};

/// Bytes that fit in each direction of a pipe before the writer waits.
const PIPE_BYTES: usize = 256 * 1024;
/// The kubelet's own limit of a message.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// What a runtime is from its begin on.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each switches an ability of a runtime"
)]
pub struct StandInConfig {
    /// Decides ids (faults have their own seed in the plan).
    pub seed: u64,
    /// Nanoseconds since 1970 at the moment the runtime is made; tokio's clock counts from there.
    pub epoch_ns: i64,
    /// Time from the end of a process until the runtime has noted it.
    pub exit_lag: Duration,
    /// Time that every call takes before its effect.
    pub latency: Duration,
    /// Whether GetContainerEvents is served (containerd 1.7) or unknown (1.6).
    pub events: bool,
    /// Whether ContainerStatus tells resources (containerd 1.7) or not (1.6).
    pub status_resources: bool,
    /// Whether processes have pids; if not, all are 0 and nobody can wait for them.
    pub pids: bool,
    /// Whether a trace is kept.
    pub trace: bool,
    /// What Version tells.
    pub runtime_version: String,
    /// Images on disk at the begin.
    pub images: Vec<String>,
    /// Runtime handlers that are configured.
    pub runtime_handlers: Vec<String>,
    /// Where the images lie.
    pub image_filesystem: String,
    /// Where the URLs of exec, attach and port-forward begin, as `http://127.0.0.1:1`; without it the calls are unknown.
    pub streaming: Option<String>,
}

impl Default for StandInConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            epoch_ns: 1_767_225_600_000_000_000,
            exit_lag: Duration::from_millis(5),
            latency: Duration::ZERO,
            events: false,
            status_resources: false,
            pids: true,
            trace: true,
            runtime_version: "1.6.20".to_owned(),
            images: Vec::new(),
            runtime_handlers: vec![String::new(), "runc".to_owned()],
            image_filesystem: "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs"
                .to_owned(),
            streaming: None,
        }
    }
}

/// A handle on one stand-in runtime; clones are the same runtime.
#[derive(Debug, Clone)]
pub struct StandInRuntime {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    timers_changed: Arc<Notify>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panicking test must not hide its own message behind a second panic here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The timer task finds nobody to upgrade to and ends.
        self.timers_changed.notify_one();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the stand-in's tasks are outside of the product's supervisor"
)]
fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(future));
}

async fn run_timers(shared: Weak<Shared>, changed: Arc<Notify>) {
    loop {
        let next = match shared.upgrade() {
            Some(shared) => shared.lock().fire_due(),
            None => return,
        };
        match next {
            None => changed.notified().await,
            Some(at) => tokio::select! {
                biased;
                // Cancel: both arms only wait; the next turn looks at all timers again.
                () = changed.notified() => {}
                () = tokio::time::sleep_until(at) => {}
            },
        }
    }
}

impl StandInRuntime {
    /// A runtime with nothing running. Must be called inside a tokio runtime: the timer task is spawned there.
    pub fn new(config: StandInConfig) -> Self {
        let timers_changed = Arc::new(Notify::new());
        let state = Mutex::new(State::new(config, Arc::clone(&timers_changed)));
        let shared = Arc::new(Shared {
            state,
            timers_changed: Arc::clone(&timers_changed),
        });
        spawn(run_timers(Arc::downgrade(&shared), timers_changed));
        Self { shared }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// A channel whose every (re)connection is a new in-memory pipe; connecting fails while the runtime is down.
    pub fn connect(&self) -> Channel {
        let runtime = self.clone();
        let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
            let pipe = runtime.open_pipe().map(TokioIo::new);
            async move { pipe }
        });
        let window = u32::try_from(PIPE_BYTES).unwrap_or(u32::MAX);
        Endpoint::from_static("http://stand-in.invalid")
            .initial_stream_window_size(window)
            .initial_connection_window_size(window)
            .connect_with_connector_lazy(connector)
    }

    /// One new connection; refused while the runtime is down.
    pub fn open_pipe(&self) -> io::Result<DuplexStream> {
        let life = self
            .lock()
            .life
            .clone()
            .ok_or(io::ErrorKind::ConnectionRefused)?;
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        spawn(self.clone().serve_connection(ours, life));
        Ok(theirs)
    }

    /// Serves on a unix socket until the task is dropped; a file that is in the way is replaced.
    pub async fn serve_unix(&self, path: &Path) -> io::Result<()> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = tokio::net::UnixListener::bind(path)?;
        loop {
            let (stream, _) = listener.accept().await?;
            let life = self.lock().life.clone();
            // While the runtime is down the connection is closed at once.
            if let Some(life) = life {
                spawn(self.clone().serve_connection(stream, life));
            }
        }
    }

    async fn serve_connection<S>(self, stream: S, life: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let runtime =
            RuntimeServiceServer::new(self.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let routes = Routes::new(runtime)
            .add_service(ImageServiceServer::new(self))
            .prepare();
        let mut builder = auto::Builder::new(TokioExecutor::new()).http2_only();
        // Go's gRPC servers, which is what runtimes have, set no limit; hyper's 200 would queue the stops of a thousand pods.
        builder.http2().max_concurrent_streams(u32::MAX);
        let connection =
            builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
        tokio::select! {
            biased;
            // Cancel: this is the crash; the peer sees the connection end.
            () = life.cancelled() => {}
            // An error here is the peer's leaving, which is what connections do.
            _ = connection => {}
        }
    }

    /// Resolves when the process has ended, which is before the runtime's own state says so (by the configured lag). At once for a
    /// process that is not there (any more).
    pub fn exit_of(&self, pid: u32) -> impl Future<Output = ()> + Send + use<> {
        let gone = self.lock().gone(pid);
        async move {
            if let Some(gone) = gone {
                gone.cancelled().await;
            }
        }
    }

    /// Ends a container's or sandbox' process from outside (OOM killer, a person); false if there is no such process.
    pub fn kill(&self, pid: u32, exit_code: i32) -> bool {
        self.lock().kill_pid(pid, exit_code)
    }

    /// Takes the runtime (or the whole node) down; it comes back after `down_for`.
    pub fn crash(&self, down_for: Duration, scope: CrashScope) {
        self.lock().crash(down_for, scope);
    }

    /// Drops all connections; new ones are served at once.
    pub fn cut_connections(&self) {
        self.lock().cut();
    }

    /// Whether it takes connections.
    pub fn is_up(&self) -> bool {
        self.lock().life.is_some()
    }

    /// Replaces the functions that choose behaviours, pulls and execs, for what comes from now on.
    pub fn set_scripts(&self, change: impl FnOnce(&mut Scripts)) {
        change(&mut self.lock().scripts);
    }

    /// Replaces the plan of faults, with its counters.
    pub fn set_faults(&self, plan: FaultPlan) {
        self.lock().faults = plan;
    }

    /// Reads or changes the plan of faults in place.
    pub fn faults<T>(&self, look: impl FnOnce(&mut FaultPlan) -> T) -> T {
        look(&mut self.lock().faults)
    }

    /// Puts an image on disk without a pull and returns its id.
    pub fn add_image(&self, name: &str, size_bytes: u64) -> String {
        self.lock().images.add(name, size_bytes)
    }

    /// Looks at all containers ever made, in order of creation, and the sandboxes among them (those with an empty name).
    pub fn instances<T>(&self, look: impl FnOnce(&[Instance]) -> T) -> T {
        look(&self.lock().instances)
    }

    /// Looks at the trace so far.
    pub fn trace<T>(&self, look: impl FnOnce(&[TraceLine]) -> T) -> T {
        look(&self.lock().trace)
    }

    /// The trace as text, a line each.
    pub fn trace_text(&self) -> String {
        self.trace(|lines| lines.iter().map(|line| format!("{line}\n")).collect())
    }

    /// Nanoseconds since 1970 by the truth.
    pub fn now_ns(&self) -> i64 {
        self.lock().now()
    }

    /// Nanoseconds since 1970 by the node's wall clock.
    pub fn wall_ns(&self) -> i64 {
        self.lock().wall()
    }

    /// Sets the node's wall clock that far from the truth, nanoseconds. Nothing else changes: time goes on as before.
    pub fn set_wall_clock(&self, set_by_ns: i64) {
        self.lock().set_wall(set_by_ns);
    }
}
