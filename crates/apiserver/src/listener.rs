//! The HTTPS port: accepts within bounds, finds out who a connection is, drains at the end.
//!
//! In:    an address, the server's pair, the authority of client certificates
//! Out:   per request a call of the service
//! Calls: wiring
//! Holds: connections are tasks of this future, so its end ends them; what a connection may hold, and when it ends, is `ports`'
//!        business; TLS 1.2 and 1.3 by ring
//! Upstream: staging/src/k8s.io/apiserver/pkg/server/secure_serving.go (1.36); differences: a bound on connections

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kubelet_ports::{Bounds, Connection, Door, Protocol};
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
use tower_service::Service as _;

use crate::authority::Pair;
use crate::http::Service;
use crate::server::{ApiServer, Peer};
use crate::user::User;

/// Connections at a time.
const CONNECTIONS: usize = 1024;

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
        let bounds = Bounds {
            streams: self.server.0.limits.streams,
            ..Bounds::new(CONNECTIONS)
        };
        let door = Door::new(bounds);
        let port = Arc::new(self);
        let talk = |stream, connection| {
            Box::pin(talk(stream, connection, (Arc::clone(&port), stop.clone())))
        };
        let left = door.serve(&port.socket, &stop, talk).await;
        if left > 0 {
            tracing::info!(left, "connections dropped at the end");
        }
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

/// One connection, from its accept to its end; the port's clock runs beside it.
async fn talk(
    stream: TcpStream,
    connection: Arc<Connection>,
    (port, stop): (Arc<Listener>, CancellationToken),
) {
    let peer = connection.peer();
    let tls = Arc::clone(&port.serving.tls.borrow());
    let stream = match TlsAcceptor::from(tls).accept(stream).await {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%peer, %error, "TLS handshake failed"),
    };
    let protocol = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        _ => Protocol::Http1,
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let service = Service::new(port.server.clone(), port.who(chain));
    let serve = move |request| {
        let mut service = service.clone();
        async move {
            let answered = service.call(request).await;
            answered.unwrap_or_else(|never| match never {})
        }
    };
    connection.converse((stream, protocol), &stop, serve).await;
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
