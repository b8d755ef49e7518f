//! The HTTPS port: accepts within bounds, finds out who a connection is, drains at the end.
//!
//! In:    an address, the server's pair, the authority of client certificates
//! Out:   per request a call of the service
//! Calls: wiring
//! Holds: connections live inside this future, so its end ends them; a panic in one ends that one; TLS 1.2 and 1.3 by ring
//! Upstream: staging/src/k8s.io/apiserver/pkg/server/secure_serving.go (1.36); differences: a bound on connections

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use kubelet_tls::{AskOnly, provider};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::authority::Pair;
use crate::http::Service;
use crate::server::{ApiServer, Peer};
use crate::user::User;

/// Connections at a time; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 1024;
/// Requests at a time on one connection: a kubelet may watch each secret and config map of its pods on its own.
const STREAMS: u32 = 4096;
/// For a handshake, and for the head of a request.
const HEAD: Duration = Duration::from_secs(30);
/// What finished requests may take at the end.
const DRAIN: Duration = Duration::from_secs(2);
/// A dead peer is noticed after this.
const PING: Duration = Duration::from_secs(30);

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be had.
    #[error("listen on {address}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// Certificate or key cannot be used.
    #[error("the serving certificate cannot be used: {0}")]
    Certificate(String),
}

/// The bound port.
pub struct Listener {
    socket: TcpListener,
    serving: Serving,
    server: ApiServer,
}

/// What the port shows to its next client; clones are the same one.
#[derive(Clone)]
pub struct Serving {
    tls: watch::Sender<Arc<ServerConfig>>,
    authorities: Arc<dyn ClientCertVerifier>,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").finish_non_exhaustive()
    }
}

impl Serving {
    /// Shows another pair from now on; who is connected stays so.
    ///
    /// # Errors
    /// [`ListenError::Certificate`]; then all is as before.
    pub fn show(&self, pair: &Pair) -> Result<(), ListenError> {
        let tls = tls(pair, &self.authorities).map_err(ListenError::Certificate)?;
        self.tls.send_replace(Arc::new(tls));
        Ok(())
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

impl Listener {
    /// Binds; serves nothing yet.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn bind(
        address: SocketAddr,
        pair: &Pair,
        server: ApiServer,
    ) -> Result<Self, ListenError> {
        let authority = server.0.authority.certificate().to_owned();
        let authorities = authorities(&authority).map_err(ListenError::Certificate)?;
        let tls = tls(pair, &authorities).map_err(ListenError::Certificate)?;
        let bound = TcpListener::bind(address).await;
        let socket = bound.map_err(|source| ListenError::Bind { address, source })?;
        Ok(Self {
            socket,
            serving: Serving {
                tls: watch::Sender::new(Arc::new(tls)),
                authorities,
            },
            server,
        })
    }

    /// What it shows.
    pub fn serving(&self) -> Serving {
        self.serving.clone()
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until the stop, then lets running requests finish for 2 s. Cancel: closes everything.
    pub async fn serve(self, stop: CancellationToken) {
        let mut open: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                // The end first, then room, then new ones; no arm loses anything when it is dropped.
                biased;
                () = stop.cancelled() => break,
                Some(()) = open.next(), if !open.is_empty() => {}
                accepted = self.socket.accept(), if open.len() < CONNECTIONS => match accepted {
                    Ok((stream, peer)) => open.push(self.connection(stream, peer, stop.clone())),
                    Err(error) => {
                        // Out of descriptors, most likely: they come back when connections end.
                        tracing::warn!(%error, "accept failed");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        let drained = async { while open.next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::info!(left = open.len(), "connections dropped at the end");
        }
    }

    fn connection(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        stop: CancellationToken,
    ) -> BoxFuture<'_, ()> {
        let talk = async move {
            // Small answers at once.
            let _set = stream.set_nodelay(true);
            let tls = Arc::clone(&self.serving.tls.borrow());
            let accept = TlsAcceptor::from(tls).accept(stream);
            let stream = match tokio::time::timeout(HEAD, accept).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_elapsed) => return tracing::debug!(%peer, "TLS handshake took too long"),
            };
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let who = self.who(chain);
            converse(stream, Service::new(self.server.clone(), who), stop).await;
        };
        let guarded = AssertUnwindSafe(talk).catch_unwind().map(move |end| {
            if end.is_err() {
                tracing::error!(%peer, "a connection's task panicked");
            }
        });
        guarded.boxed()
    }

    /// Whom a client's chain shows.
    fn who(&self, chain: &[CertificateDer<'_>]) -> Peer {
        let [leaf, rest @ ..] = chain else {
            return Peer::Unknown;
        };
        let now = self.server.0.registry.now().as_second();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.max(0).unsigned_abs()));
        if self
            .serving
            .authorities
            .verify_client_cert(leaf, rest, now)
            .is_err()
        {
            return Peer::BadCertificate;
        }
        match (subject(leaf), end_of(chain)) {
            (Some(user), Some(until)) => Peer::Certified { user, until },
            _ => Peer::BadCertificate,
        }
    }
}

async fn converse<S>(stream: S, service: Service, stop: CancellationToken)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    // The executor runs HTTP/2 streams only; they end with their connection.
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .max_concurrent_streams(STREAMS);
    let service = TowerToHyperService::new(service);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let mut stopping = false;
    loop {
        tokio::select! {
            // Progress first; the stop only asks it to end.
            biased;
            end = connection.as_mut() => {
                if let Err(error) = end {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Name and groups of a verified certificate.
fn subject(leaf: &CertificateDer<'_>) -> Option<User> {
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().last()?.as_str().ok()?;
    let groups: Vec<&str> = subject
        .iter_organization()
        .map(|group| group.as_str().ok())
        .collect::<Option<_>>()?;
    (!name.is_empty()).then(|| User::new(name, &groups))
}

/// When the first certificate of a chain ends, in seconds since 1970: a connection outlives it, its rights do not.
fn end_of(chain: &[CertificateDer<'_>]) -> Option<i64> {
    let ends = chain.iter().map(|certificate| {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Some(parsed.validity().not_after.timestamp())
    });
    ends.collect::<Option<Vec<i64>>>()?.into_iter().min()
}

fn authorities(pem: &str) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|e| e.to_string())?;
        roots.add(certificate).map_err(|e| e.to_string())?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    verifier.build().map_err(|e| e.to_string())
}

fn tls(pair: &Pair, authorities: &Arc<dyn ClientCertVerifier>) -> Result<ServerConfig, String> {
    let shown = pair.shown()?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| e.to_string())?
        .with_client_cert_verifier(Arc::new(AskOnly(Arc::clone(authorities))));
    let mut config = builder.with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
