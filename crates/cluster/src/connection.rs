//! Opens connections to the API server, and keeps the connections of one lane.
//!
//! In:    the server's address, proxy and trust; the identity to show; or a pipe to a server in this process
//! Out:   a connection with room for one more request, and word when it is left for a newer certificate
//! Calls: client
//! Holds: a dead connection is detected within 25 s, even an idle one; a lane opens another connection when all streams of the
//!        existing ones are taken (as many as the server allows, 100 at most); calls on connections of an old certificate
//!        finish, watches on them are restarted
//! Upstream: client-go/transport, golang.org/x/net/http2 (health checks); differences: pings after 15 s (upstream 30)

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::Uri;
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use k8s_openapi::ByteString;
use kubelet_model::error_text::error_text;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::credentials::Identity;
use crate::greeting::Greeted;
use crate::io::Io;
use crate::kubeconfig::{Server, Trust};
use crate::limiter::Limiter;
use crate::tls;

/// A ping goes out when nothing was heard for this long.
const PING_AFTER: Duration = Duration::from_secs(15);
/// And must be answered within this.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// TCP, proxy and TLS together.
const CONNECT: Duration = Duration::from_secs(20);
/// More streams are not put on one connection, whatever the server takes: the API server's default limit.
const STREAMS: usize = 100;
/// How long a server is waited for to say how many streams it takes.
const GREETING: Duration = Duration::from_secs(1);
/// What a server may send ahead per stream, and per connection.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// A proxy's answer is not longer.
const PROXY_HEAD: usize = 8 << 10;

/// A connection to be made by the owner: to a server in this process, which speaks HTTP/2 over it.
pub type Pipe =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>> + Send + Sync>;

/// How connections are made.
#[derive(Clone)]
pub(crate) enum Dialer {
    Network,
    Pipe(Pipe),
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "Network",
            Self::Pipe(_) => "Pipe",
        })
    }
}

/// A place for one request.
#[derive(Debug)]
pub(crate) struct RequestSlot {
    pub(crate) sender: Sender,
    pub(crate) guard: StreamGuard,
    /// Cancelled when the connection is left for one with a newer certificate.
    pub(crate) left: CancellationToken,
}

#[derive(Debug)]
pub(crate) enum Sender {
    Http2(http2::SendRequest<Full<Bytes>>),
    Http1(http1::SendRequest<Full<Bytes>>),
}

/// Counts a stream until it is dropped.
#[derive(Debug)]
pub(crate) struct StreamGuard(Arc<AtomicUsize>);

impl StreamGuard {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Connection {
    sender: http2::SendRequest<Full<Bytes>>,
    streams: Arc<AtomicUsize>,
    /// Streams that the server takes.
    most: Arc<AtomicUsize>,
    generation: u64,
    left: CancellationToken,
}

impl Connection {
    /// A server that takes none just now is asked on all the same: the request waits for its word, and not for a further connection.
    fn has_room(&self) -> bool {
        let taken = self.most.load(Ordering::Relaxed).clamp(1, STREAMS);
        self.streams.load(Ordering::Relaxed) < taken
    }

    fn place(&self) -> RequestSlot {
        RequestSlot {
            sender: Sender::Http2(self.sender.clone()),
            guard: StreamGuard::new(&self.streams),
            left: self.left.clone(),
        }
    }
}

/// The connections of calls that must not wait for others.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) limiter: Option<Limiter>,
    connecting: Semaphore,
    connections: Mutex<Vec<Connection>>,
}

impl Lane {
    pub(crate) fn new(limiter: Option<Limiter>) -> Self {
        Self {
            limiter,
            connecting: Semaphore::new(1),
            connections: Mutex::default(),
        }
    }

    /// A place on a connection of this identity, made if there is none.
    pub(crate) async fn place(
        &self,
        dialer: &Dialer,
        server: &Server,
        identity: &Identity,
    ) -> Result<RequestSlot, String> {
        if let Some(place) = self.free(identity.generation) {
            return Ok(place);
        }
        let _turn = self
            .connecting
            .acquire()
            .await
            .map_err(|error| error.to_string())?;
        if let Some(place) = self.free(identity.generation) {
            return Ok(place);
        }
        let made = tokio::time::timeout(CONNECT, connect(dialer, server, identity)).await;
        let (sender, most) = made.map_err(|_| format!("no connection within {CONNECT:?}"))??;
        let streams = Arc::new(AtomicUsize::new(0));
        match sender {
            // One request at a time: HTTP/1.1 connections are not kept.
            Sender::Http1(_) => Ok(RequestSlot {
                sender,
                guard: StreamGuard::new(&streams),
                left: CancellationToken::new(),
            }),
            Sender::Http2(sender) => {
                let connection = Connection {
                    sender,
                    streams,
                    most,
                    generation: identity.generation,
                    left: CancellationToken::new(),
                };
                let place = connection.place();
                self.lock().push(connection);
                Ok(place)
            }
        }
    }

    /// Leaves connections of older certificates: what runs on them ends, nothing new begins.
    pub(crate) fn leave_older(&self, generation: u64) {
        self.lock().retain(|connection| {
            let is_current = connection.generation >= generation;
            if !is_current {
                connection.left.cancel();
            }
            is_current
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn free(&self, generation: u64) -> Option<RequestSlot> {
        let mut connections = self.lock();
        connections.retain(|connection| !connection.sender.is_closed());
        connections
            .iter()
            .find(|connection| connection.generation == generation && connection.has_room())
            .map(Connection::place)
    }
}

/// A connection, and how many streams its server takes.
type Made = (Sender, Arc<AtomicUsize>);

async fn connect(dialer: &Dialer, server: &Server, identity: &Identity) -> Result<Made, String> {
    let (io, is_http2) = match dialer {
        Dialer::Pipe(pipe) => (pipe().await.map_err(|error| error.to_string())?, true),
        Dialer::Network => dial(server, identity).await?,
    };
    if is_http2 {
        http2_sender(io).await
    } else {
        http1_sender(io).await
    }
}

async fn http2_sender(io: Box<dyn Io>) -> Result<Made, String> {
    let (io, greeting) = Greeted::new(io);
    let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| error_text(&error))?;
    let most = Arc::new(AtomicUsize::new(STREAMS));
    let says = Arc::clone(&most);
    drive(std::future::poll_fn(move |cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        says.store(connection.current_max_send_streams(), Ordering::Relaxed);
        polled.map_err(|error| error_text(&error))
    }));
    // Requests beyond what it takes would wait behind watches that never end. One that stays silent may answer all the same.
    let _said = tokio::time::timeout(GREETING, greeting).await;
    // The connection's task has read the frame; now it has acted on it.
    tokio::task::yield_now().await;
    Ok((Sender::Http2(sender), most))
}

async fn http1_sender(io: Box<dyn Io>) -> Result<Made, String> {
    let (sender, connection) = http1::handshake(TokioIo::new(io))
        .await
        .map_err(|error| error_text(&error))?;
    drive(async move { connection.await.map_err(|error| error_text(&error)) });
    Ok((Sender::Http1(sender), Arc::new(AtomicUsize::new(1))))
}

/// A connection's own task: it moves bytes, ends with the connection, and has nothing to supervise.
fn drive(connection: impl Future<Output = Result<(), String>> + Send + 'static) {
    TokioExecutor::new().execute(async move {
        if let Err(why) = connection.await {
            tracing::debug!(why, "Connection to the API server ended");
        }
    });
}

async fn dial(server: &Server, identity: &Identity) -> Result<(Box<dyn Io>, bool), String> {
    let is_tls = server.url.scheme_str() == Some("https");
    let (host, port) = host_and_port(&server.url);
    let io: Box<dyn Io> = match &server.proxy {
        None => Box::new(tcp(&host, port).await?),
        Some(proxy) => through_proxy(proxy, &host, port).await?,
    };
    if !is_tls {
        return Ok((io, false));
    }
    let config = tls::client_config(
        &server.trust,
        identity.certificate.clone(),
        &[b"h2", b"http/1.1"],
    );
    let name = server.tls_name.clone().unwrap_or(host);
    let stream = handshake(config.await?, name, io).await.map_err(|why| {
        let own = identity.validity.map(|own| {
            format!(
                "; the client certificate is good from {} until {}",
                own.not_before, own.not_after
            )
        });
        let server = &server.url;
        format!("TLS with {server}: {why}{}", own.unwrap_or_default())
    })?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((Box::new(stream), is_http2))
}

async fn handshake(
    (config, shown): (rustls::ClientConfig, tls::Shown),
    name: String,
    io: Box<dyn Io>,
) -> Result<tokio_rustls::client::TlsStream<Box<dyn Io>>, String> {
    let name =
        ServerName::try_from(name.clone()).map_err(|_| format!("{name:?} is not a server name"))?;
    TlsConnector::from(Arc::new(config))
        .connect(name, io)
        .await
        .map_err(|error| format!("{error}{}", shown.in_words()))
}

/// Host without brackets, and the port that is meant.
fn host_and_port(url: &Uri) -> (String, u16) {
    let host = url.host().unwrap_or_default();
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let default = if url.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    (host, url.port_u16().unwrap_or(default))
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, String> {
    let stream = TcpStream::connect((host, port)).await;
    let stream = stream.map_err(|error| format!("{host}:{port}: {error}"))?;
    // Small requests must not wait for an acknowledgement.
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    Ok(stream)
}

/// A tunnel made by `CONNECT`.
async fn through_proxy(proxy: &Uri, host: &str, port: u16) -> Result<Box<dyn Io>, String> {
    let (proxy_host, proxy_port) = host_and_port(proxy);
    let said = |why: String| format!("proxy {proxy_host}:{proxy_port}: {why}");
    let mut io: Box<dyn Io> = Box::new(tcp(&proxy_host, proxy_port).await.map_err(said)?);
    if proxy.scheme_str() == Some("https") {
        let config = tls::client_config(&Trust::System, None, &[b"http/1.1"]).await;
        let stream = handshake(config.map_err(said)?, proxy_host.clone(), io).await;
        io = Box::new(stream.map_err(said)?);
    }
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let mut head = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    let authority = proxy.authority().map(|authority| authority.as_str());
    if let Some((user, _)) = authority.and_then(|authority| authority.rsplit_once('@')) {
        let encoded =
            serde_json::to_value(ByteString(user.as_bytes().to_vec())).unwrap_or_default();
        let encoded = encoded.as_str().unwrap_or_default().to_owned();
        head.push_str(&format!("Proxy-Authorization: Basic {encoded}\r\n"));
    }
    head.push_str("\r\n");
    let asked = io.write_all(head.as_bytes()).await;
    asked.map_err(|error| said(error.to_string()))?;
    let answer = proxy_answer(&mut io).await.map_err(said)?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        return Ok(io);
    }
    let line = answer.lines().next().unwrap_or_default();
    Err(said(format!("refused the tunnel: {line}")))
}

/// The head of the answer; read byte by byte, because what follows belongs to the server.
async fn proxy_answer(io: &mut Box<dyn Io>) -> Result<String, String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = io.read_u8().await;
        head.push(byte.map_err(|error| format!("ended the connection: {error}"))?);
        if head.len() > PROXY_HEAD {
            return Err("answers with more than a head".to_owned());
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[cfg(test)]
mod tests;
