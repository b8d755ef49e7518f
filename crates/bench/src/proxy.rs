//! The recording proxy: a CRI endpoint that passes every call on and keeps what was asked.
//!
//! In:    gRPC calls of the kubelet on a unix socket
//! Out:   the runtime's answers, byte for byte; the recorded calls
//! Calls: phase record
//! Holds: it knows nothing of the messages: a call is a path and bytes, so no field can be lost; a thread of its own, so that it
//!        never waits for the phases
//! Upstream: none

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{UnixListener, UnixStream};
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::ServiceExt as _;

use crate::clock;

/// One call of the kubelet.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// When it came, in seconds since 1970.
    pub(crate) at: f64,
    /// For example `RunPodSandbox`.
    pub(crate) method: String,
    /// The protobuf message.
    pub(crate) request: Vec<u8>,
}

/// The calls so far; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Vec<Call>>>);

impl Calls {
    fn push(&self, call: Call) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(call);
    }

    /// A copy of all calls that came in a span of time.
    pub(crate) fn between(&self, begin: f64, end: f64) -> Vec<Call> {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls
            .iter()
            .filter(|call| call.at >= begin && call.at <= end)
            .cloned()
            .collect()
    }
}

/// A channel to a unix socket.
fn channel(path: PathBuf) -> Channel {
    Endpoint::from_static("http://runtime.invalid").connect_with_connector_lazy(tower::service_fn(
        move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        },
    ))
}

async fn forward(
    request: Request<Incoming>,
    runtime: Channel,
    calls: Calls,
) -> anyhow::Result<Response<Body>> {
    let at = clock::now();
    let (head, body) = request.into_parts();
    let bytes = body.collect().await?.to_bytes();
    calls.push(Call {
        at,
        method: head
            .uri
            .path()
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned(),
        // Five bytes of gRPC framing come before the message.
        request: bytes.get(5..).unwrap_or_default().to_vec(),
    });
    let request = Request::from_parts(head, Body::new(Full::new(bytes)));
    Ok(runtime.oneshot(request).await?)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the proxy's connections are outside of the product's supervisor"
)]
async fn serve(listener: UnixListener, runtime: PathBuf, calls: Calls) -> anyhow::Result<()> {
    let runtime = channel(runtime);
    loop {
        let (stream, _) = listener.accept().await?;
        let (runtime, calls) = (runtime.clone(), calls.clone());
        let service = hyper::service::service_fn(move |request| {
            forward(request, runtime.clone(), calls.clone())
        });
        drop(tokio::spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new()).http2_only();
            // An error here is the kubelet's leaving.
            let _ended = builder
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }));
    }
}

/// Starts a proxy in a thread that lives as long as the process.
pub(crate) fn start(socket: &Path, runtime: &Path) -> anyhow::Result<Calls> {
    let calls = Calls::default();
    let executor = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listener = {
        let _entered = executor.enter();
        UnixListener::bind(socket).with_context(|| format!("listen on {}", socket.display()))?
    };
    let (shared, runtime) = (calls.clone(), runtime.to_owned());
    std::thread::Builder::new()
        .name("proxy".to_owned())
        .spawn(move || executor.block_on(serve(listener, runtime, shared)))?;
    Ok(calls)
}
