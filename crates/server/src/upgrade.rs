//! Proxies upgraded connections: sends the client's request to the runtime's streaming server, then copies bytes in both
//! directions.
//!
//! In:    a request that asks for an upgrade, the URL that the runtime returned
//! Out:   the runtime's response: its 101, after which the connection is copied, or its error
//! Calls: `streaming`; `listener` runs the copy once the connection has left HTTP ([`Tunnel::run`])
//! Holds: SPDY and WebSocket are passed unchanged; the client's credentials are never passed to the runtime; 10 s to connect
//!        and to get a response, 64 KiB of an error; a connection without a byte in either direction for the configured time is
//!        closed
//! Upstream: apimachinery pkg/util/proxy/upgradeaware.go (1.36); differences: the idle timeout; no https to the runtime

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue,
    SEC_WEBSOCKET_PROTOCOL, TRANSFER_ENCODING,
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use kubelet_ports::tunnel::copy;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::auth::{Certificate, is_token_protocol, read_certificate};
use crate::body::{Answer, full};
use crate::metrics::InFlight;
use crate::replies::error;

const DIAL: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(10);
const REFUSAL_BYTES: usize = 64 << 10;

/// How long the result for an invalid chain is cached, in seconds.
const INVALID_SECONDS: i64 = 10;

/// The cached result of a chain: user, time and CAs.
#[derive(Debug)]
struct Said {
    second: i64,
    authorities: Option<Arc<dyn ClientCertVerifier>>,
    certificate: Certificate,
}

/// The peer of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// The certificates that it sent; possession of the key is proven, the chain is not verified.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) shutdown: CancellationToken,
    /// The cached result for the chain.
    said: Mutex<Option<Said>>,
    /// Set by a request that was answered with 101; taken when the connection has left HTTP.
    tunnel: Mutex<Option<Tunnel>>,
}

impl Peer {
    pub(crate) fn new(
        address: SocketAddr,
        chain: Vec<CertificateDer<'static>>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            address,
            chain,
            shutdown,
            said: Mutex::new(None),
            tunnel: Mutex::new(None),
        }
    }

    /// The user of the chain now. A crafted chain makes verification slow, so the result is cached for a second, the resolution
    /// of times in certificates, and for ten seconds if the chain is invalid. Changed CAs take effect at once.
    pub(crate) fn certificate(
        &self,
        authorities: Option<&Arc<dyn ClientCertVerifier>>,
        now: jiff::Timestamp,
    ) -> Certificate {
        let mut last = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now.as_second();
        let is_same = |said: &&Said| {
            let lasts = if said.certificate == Certificate::Invalid {
                INVALID_SECONDS
            } else {
                1
            };
            let is_same = match (&said.authorities, authorities) {
                (Some(before), Some(now)) => Arc::ptr_eq(before, now),
                (before, now) => before.is_none() && now.is_none(),
            };
            is_same && (said.second..said.second.saturating_add(lasts)).contains(&now)
        };
        if let Some(said) = last.as_ref().filter(is_same) {
            return said.certificate.clone();
        }
        let certificate = read_certificate(&self.chain, authorities, now);
        *last = Some(Said {
            second: now,
            authorities: authorities.map(Arc::clone),
            certificate: certificate.clone(),
        });
        certificate
    }

    pub(crate) fn take_tunnel(&self) -> Option<Tunnel> {
        self.tunnel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// The request counts as running until its tunnel ends.
    pub(crate) fn count_tunnel(&self, counted: Option<InFlight>) {
        if let Some(tunnel) = &mut *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) {
            tunnel.counted = counted;
        }
    }
}

/// Two connections that are joined.
pub(crate) struct Tunnel {
    client: OnUpgrade,
    runtime: Upgraded,
    idle: Option<Duration>,
    counted: Option<InFlight>,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel")
            .field("idle", &self.idle)
            .finish_non_exhaustive()
    }
}

impl Tunnel {
    /// Copies until one side ends, or until both are silent for too long.
    ///
    /// As upstream: the end of one direction ends both.
    pub(crate) async fn run(self) {
        let counted = self.counted;
        match self.client.await {
            Ok(client) => {
                let copied =
                    copy(TokioIo::new(client), TokioIo::new(self.runtime), self.idle).await;
                tracing::debug!(end = ?copied, "stream ended");
            }
            Err(error) => tracing::debug!(%error, "the client's connection was not upgraded"),
        }
        drop(counted);
    }
}

/// Whether the client asks for a protocol upgrade.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.get_all(CONNECTION).iter().any(|value| {
        value
            .to_str()
            .is_ok_and(|value| value.to_ascii_lowercase().contains("upgrade"))
    })
}

/// Sends the request to `url`; after a 101 the peer has a tunnel.
pub(crate) async fn proxy<B>(
    request: &mut Request<B>,
    url: &str,
    peer: &Peer,
    idle: Option<Duration>,
) -> Answer {
    let failed = |text: &str| error(StatusCode::INTERNAL_SERVER_ERROR, text);
    if !is_upgrade(request.headers()) {
        return failed("Upgrade request required");
    }
    match forward(request, url, peer).await {
        Ok((answer, None)) => answer,
        Ok((answer, Some(runtime))) => {
            let tunnel = Tunnel {
                client: hyper::upgrade::on(request),
                runtime,
                idle,
                counted: None,
            };
            *peer.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
            answer
        }
        Err(text) => {
            tracing::warn!(url, error = text, "stream not opened");
            failed(&text)
        }
    }
}

async fn forward<B>(
    request: &Request<B>,
    url: &str,
    peer: &Peer,
) -> Result<(Answer, Option<Upgraded>), String> {
    let uri: Uri = url
        .parse()
        .map_err(|error| format!("parse {url:?}: {error}"))?;
    let (Some(authority), Some("http")) = (uri.authority(), uri.scheme_str()) else {
        return Err(format!(
            "the runtime's streaming address {url:?} is not plain http"
        ));
    };
    let address = (
        authority.host().trim_matches(['[', ']']),
        authority.port_u16().unwrap_or(80),
    );
    let dialed = tokio::time::timeout(DIAL, TcpStream::connect(address)).await;
    let stream = dialed
        .map_err(|_| format!("dial tcp {authority}: i/o timeout"))?
        .map_err(|error| format!("dial tcp {authority}: connect: {error}"))?;
    // Keystrokes must not wait for more data.
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    let onward = onward(request, &uri, peer)?;
    let asked = tokio::time::timeout(ANSWER, ask(stream, onward)).await;
    asked.map_err(|_| "the runtime's streaming server did not answer in 10 s".to_owned())?
}

/// The request for the runtime's server.
fn onward<B>(
    request: &Request<B>,
    uri: &Uri,
    peer: &Peer,
) -> Result<Request<Empty<Bytes>>, String> {
    let forwarded = HeaderName::from_static("x-forwarded-for");
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut onward = Request::builder()
        .method(request.method())
        .uri(path)
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    let headers = onward.headers_mut();
    for (name, value) in request.headers() {
        // Credentials are for this server only, and a body is not passed on.
        if ![
            AUTHORIZATION,
            CONTENT_LENGTH,
            TRANSFER_ENCODING,
            SEC_WEBSOCKET_PROTOCOL,
        ]
        .contains(name)
        {
            headers.append(name.clone(), value.clone());
        }
    }
    let protocols = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let protocols: Vec<&str> = protocols
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|protocol| !is_token_protocol(protocol))
        .collect();
    let text = |text: &str| HeaderValue::from_str(text).map_err(|error| error.to_string());
    if !protocols.is_empty() {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, text(&protocols.join(","))?);
    }
    if !headers.contains_key(HOST) {
        headers.insert(
            HOST,
            text(uri.authority().map_or("", |authority| authority.as_str()))?,
        );
    }
    let former = headers
        .get(&forwarded)
        .and_then(|value| value.to_str().ok());
    let address = peer.address.ip().to_string();
    let chain = former.map_or_else(|| address.clone(), |former| format!("{former}, {address}"));
    let chain = text(&chain)?;
    headers.insert(forwarded, chain);
    Ok(onward)
}

/// The runtime's response, and its connection after a 101.
async fn ask(
    stream: TcpStream,
    onward: Request<Empty<Bytes>>,
) -> Result<(Answer, Option<Upgraded>), String> {
    let shown = |error: hyper::Error| error.to_string();
    let mut builder = http1::Builder::new();
    builder.preserve_header_case(true);
    let (mut sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(shown)?;
    // No other task drives the connection: it is polled beside each wait.
    let mut connection = Driven {
        connection: Box::pin(connection.with_upgrades()),
        over: false,
    };
    let mut answer = connection
        .beside(sender.send_request(onward))
        .await
        .map_err(shown)?;
    let status = answer.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let upgrade = hyper::upgrade::on(&mut answer);
        let upgraded = connection.beside(upgrade).await.map_err(shown)?;
        let (parts, _) = answer.into_parts();
        return Ok((Response::from_parts(parts, full("")), Some(upgraded)));
    }
    if status.as_u16() < 400 {
        return Err(format!(
            "invalid upgrade response: status code {}",
            status.as_u16()
        ));
    }
    let (mut parts, body) = answer.into_parts();
    let body = connection
        .beside(Limited::new(body, REFUSAL_BYTES).collect())
        .await;
    let bytes = body.map_err(|error| error.to_string())?.to_bytes();
    for header in [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION] {
        parts.headers.remove(header);
    }
    Ok((Response::from_parts(parts, full(bytes)), None))
}

struct Driven {
    connection: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    over: bool,
}

impl Driven {
    /// Waits for `wanted` while the connection is driven.
    async fn beside<T>(&mut self, wanted: impl Future<Output = T>) -> T {
        let mut wanted = std::pin::pin!(wanted);
        std::future::poll_fn(|cx| {
            if !self.over
                && let Poll::Ready(end) = self.connection.as_mut().poll(cx)
            {
                self.over = true;
                if let Err(error) = end {
                    tracing::debug!(%error, "the runtime's connection ended");
                }
            }
            wanted.as_mut().poll(cx)
        })
        .await
    }
}
