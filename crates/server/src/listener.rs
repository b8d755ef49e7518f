//! Sockets and connections: binds the ports, accepts within bounds, ends what idles, drains at the end.
//!
//! In:    [`ServerConfig`], [`ServerState`]; then connections
//! Out:   bound [`Listeners`]; per request a call of `answer`
//! Calls: wiring ([`bind`]); the supervisor, one task per listener ([`Listener::serve`])
//! Holds: connections live inside their listener's future, so its owner's cancellation ends them all; a panic in one
//!        connection ends that one; a connection that neither asks nor reads is closed
//! Upstream: pkg/kubelet/server/server.go ListenAndServe…, cmd/kubelet/app/server.go (1.36); differences: bounded numbers of
//!           connections; 30 s for a request's head (upstream: 4 h)

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use kubelet_host::sockets::keep_alive;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::answer::{Secured, Shared, answer};
use crate::body::Content;
use crate::metrics::HttpMetrics;
use crate::tls::TlsFiles;
use crate::upgrade::Peer;
use crate::{Port, ServeError, ServerConfig, ServerState};

const IDLE: Duration = Duration::from_secs(90);
const HEAD: Duration = Duration::from_secs(30);
/// A client that does not take what a log has for it, as one behind a pager: upstream's write timeout.
const STALLED: Duration = Duration::from_secs(4 * 3600);
/// What a finished request may take at shutdown to get its answer out.
const DRAIN: Duration = Duration::from_secs(2);
const HEADER_BYTES: u32 = 1 << 20;

/// The bound ports; those that the configuration turns off are `None`.
#[derive(Debug)]
pub struct Listeners {
    /// 10248.
    pub healthz: Option<Listener>,
    /// 10255.
    pub read_only: Option<Listener>,
    /// 10250.
    pub main: Option<Listener>,
}

/// One bound port.
pub struct Listener {
    socket: TcpListener,
    shared: Arc<Shared>,
    /// Connections at a time; further ones wait in the kernel's queue.
    limit: usize,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("port", &self.shared.port)
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// Binds all configured ports, making the serving certificate if there is none. Serves nothing yet.
///
/// # Errors
/// [`ServeError`], naming the port, or the file.
pub async fn bind(config: ServerConfig, state: ServerState) -> Result<Listeners, ServeError> {
    let metrics = HttpMetrics::register(&state.registry)?;
    let open = async |port, address, main, limit| {
        let socket = TcpListener::bind(address)
            .await
            .map_err(|source| ServeError::Bind {
                port,
                address,
                source,
            })?;
        let shared = Arc::new(Shared {
            port,
            main,
            state: state.clone(),
            metrics: metrics.clone(),
        });
        Ok::<_, ServeError>(Listener {
            socket,
            shared,
            limit,
        })
    };
    let mut listeners = Listeners {
        healthz: None,
        read_only: None,
        main: None,
    };
    if let Some(main) = config.main {
        let tls = TlsFiles::open(
            &main.pair,
            main.client_ca.clone(),
            &main.negotiation,
            &config.node_name,
            (config.now)(),
        )?;
        let address = main.address;
        let secured = Secured::new(main, tls, (&config.node_name, config.now));
        listeners.main = Some(open(Port::Main, address, Some(secured), 512).await?);
    }
    if let Some(address) = config.read_only {
        listeners.read_only = Some(open(Port::ReadOnly, address, None, 256).await?);
    }
    if let Some(address) = config.healthz {
        listeners.healthz = Some(open(Port::Healthz, address, None, 64).await?);
    }
    Ok(listeners)
}

impl Listener {
    /// Which of the three this is.
    pub fn port(&self) -> Port {
        self.shared.port
    }

    /// Where it listens; with port 0 asked for, the port that it got.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `shutdown`, then lets running requests finish for 2 s. Cancel: closes the port and all connections.
    ///
    /// # Errors
    /// None at present: a failing accept is logged and tried again.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let mut open: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                // The end first, then room (a finished connection), then new ones; no arm loses anything when it is dropped.
                biased;
                () = shutdown.cancelled() => break,
                Some(()) = open.next(), if !open.is_empty() => {}
                accepted = self.socket.accept(), if open.len() < self.limit => match accepted {
                    Ok((stream, peer)) => {
                        // Without it a client that vanished without a word would be waited for, where nothing is to be sent.
                        if let Err(error) = keep_alive(&stream) {
                            tracing::debug!(%peer, %error, "no keep-alive");
                        }
                        open.push(self.connection(stream, peer, shutdown.clone()));
                    }
                    Err(error) => {
                        // Out of descriptors, most likely: they come back when connections end.
                        tracing::warn!(%error, port = %self.shared.port, "accept failed");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        let drained = tokio::time::timeout(DRAIN, async { while open.next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::warn!(port = %self.shared.port, left = open.len(), "connections dropped at shutdown");
        }
        Ok(())
    }

    fn connection(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        shutdown: CancellationToken,
    ) -> BoxFuture<'_, ()> {
        let shared = Arc::clone(&self.shared);
        let tls = shared.main.as_ref().map(Secured::tls);
        let talk = async move {
            let Some(tls) = tls else {
                let peer = Peer::new(peer, Vec::new(), shutdown);
                return converse(stream, shared, (peer, Protocol::Http1)).await;
            };
            let handshake =
                tokio::time::timeout(HEAD, TlsAcceptor::from(tls.config).accept(stream));
            match handshake.await {
                Ok(Ok(stream)) => {
                    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
                    let chain = chain.iter().map(|c| c.clone().into_owned()).collect();
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let protocol = if http2 {
                        Protocol::Http2
                    } else {
                        Protocol::Http1
                    };
                    let peer = Peer::new(peer, chain, shutdown);
                    converse(stream, shared, (peer, protocol)).await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_elapsed) => tracing::debug!(%peer, "TLS handshake took too long"),
            }
        };
        let guarded = AssertUnwindSafe(talk).catch_unwind().map(move |end| {
            if end.is_err() {
                tracing::error!(%peer, "a connection's task panicked");
            }
        });
        guarded.boxed()
    }
}

/// What a connection speaks, as far as its clock cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    /// Frames that are no request come at any time.
    Http2,
}

/// Serves one connection until it ends, idles too long, or the shutdown's drain is over.
async fn converse<S>(stream: S, shared: Arc<Shared>, (peer, protocol): (Peer, Protocol))
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity::new(protocol));
    let peer = Arc::new(peer);
    let service = {
        let (activity, peer) = (Arc::clone(&activity), Arc::clone(&peer));
        service_fn(move |request| {
            let (shared, peer) = (Arc::clone(&shared), Arc::clone(&peer));
            let busy = activity.begin();
            let activity = Arc::clone(&activity);
            async move {
                let answer = answer(&shared, &peer, request).await;
                drop(busy);
                Ok::<_, Infallible>(answer.map(|body| WaitedFor::new(body, activity)))
            }
        })
    };
    // The executor runs HTTP/2 streams only; they end with their connection.
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // Our own clock tells an idle connection from a slow head, this one does not.
        .header_read_timeout(None)
        .max_buf_size(HEADER_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_BYTES)
        .max_concurrent_streams(100);
    let io = TokioIo::new(Watched {
        inner: stream,
        activity: Arc::clone(&activity),
    });
    let mut connection = std::pin::pin!(builder.serve_connection_with_upgrades(io, service));
    let mut stopping = false;
    loop {
        tokio::select! {
            // Progress first; the other two only bound it.
            biased;
            end = connection.as_mut() => {
                if let Err(error) = end {
                    tracing::debug!(%error, "connection ended");
                }
                break;
            }
            () = peer.shutdown.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep_until(activity.deadline()) => {
                if activity.deadline() <= Instant::now() {
                    return;
                }
            }
        }
    }
    if let Some(tunnel) = peer.take_tunnel() {
        tokio::select! {
            biased;
            () = peer.shutdown.cancelled() => {}
            () = tunnel.run() => {}
        }
    }
}

/// A body that keeps its connection from being idle while the client waits for more of it; while it waits for the client, a
/// body that is made on the way has more patience than one that was there.
struct WaitedFor {
    body: Content,
    activity: Arc<Activity>,
    busy: Option<Busy>,
    coming: bool,
}

impl WaitedFor {
    fn new(body: Content, activity: Arc<Activity>) -> Self {
        let coming = body.size_hint().exact().is_none();
        if coming {
            activity.coming.fetch_add(1, Ordering::Relaxed);
        }
        Self {
            body,
            activity,
            busy: None,
            coming,
        }
    }
}

impl Drop for WaitedFor {
    fn drop(&mut self) {
        if self.coming {
            self.activity.coming.fetch_sub(1, Ordering::Relaxed);
            self.activity.touch();
        }
    }
}

impl Body for WaitedFor {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_ready() {
            self.busy = None;
        } else if self.busy.is_none() {
            self.busy = Some(self.activity.begin());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a connection is doing: serving, in the middle of a head, or nothing.
struct Activity {
    start: Instant,
    protocol: Protocol,
    serving: AtomicUsize,
    /// Answers being made while they are sent.
    coming: AtomicUsize,
    /// Bytes came that are not yet a request.
    head: AtomicBool,
    /// Milliseconds after `start` at which the present state began.
    since: AtomicU64,
}

impl Activity {
    fn new(protocol: Protocol) -> Self {
        Self {
            start: Instant::now(),
            protocol,
            serving: AtomicUsize::new(0),
            coming: AtomicUsize::new(0),
            head: AtomicBool::new(true),
            since: AtomicU64::new(0),
        }
    }

    fn touch(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since.store(now, Ordering::Relaxed);
    }

    fn begin(self: &Arc<Self>) -> Busy {
        self.head.store(false, Ordering::Relaxed);
        self.serving.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    fn read(&self) {
        let serving = self.serving.load(Ordering::Relaxed) + self.coming.load(Ordering::Relaxed);
        let idle = self.protocol == Protocol::Http1 && serving == 0;
        if idle && !self.head.swap(true, Ordering::Relaxed) {
            self.touch();
        }
    }

    /// When to look again; in the past means that the time is over. A fresh connection counts as in the middle of a head.
    ///
    /// An idle connection is looked at each 30 s, so that a head begun meanwhile has at most twice its time.
    fn deadline(&self) -> Instant {
        let since = self.start + Duration::from_millis(self.since.load(Ordering::Relaxed));
        if self.serving.load(Ordering::Relaxed) > 0 {
            return Instant::now() + HEAD;
        }
        let end = since
            + if self.coming.load(Ordering::Relaxed) > 0 {
                STALLED
            } else if self.head.load(Ordering::Relaxed) {
                HEAD
            } else {
                IDLE
            };
        if end <= Instant::now() {
            end
        } else {
            end.min(Instant::now() + HEAD)
        }
    }
}

/// A request being served.
struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.serving.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
    }
}

/// A stream that tells its [`Activity`] of every byte.
struct Watched<S> {
    inner: S,
    activity: Arc<Activity>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.read();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        if result.is_ready() {
            self.activity.touch();
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        if result.is_ready() {
            self.activity.touch();
        }
        result
    }
}
