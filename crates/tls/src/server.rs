//! The listening end: its configuration, the handshake, and whether the authorities answer for a client.
//!
//! In:    PEM texts of authorities, a resolver of what is shown; accepted connections
//! Out:   server configurations; connections with the client's chain
//! Calls: server (the main port), apiserver
//! Holds: a client's certificate never ends a handshake: what it is worth is asked at each request; of a chain no more is looked at
//!        than nine certificates
//! Upstream: crypto/tls with `ClientAuth: RequestClientCert`; staging/src/k8s.io/apiserver/pkg/server/secure_serving.go

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::{authorities, provider};

/// Certificates of a client that are looked at: its own, and what lies between it and an authority.
const CHAIN: usize = 9;

/// The lowest version spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinTls {
    /// 1.2.
    V12,
    /// 1.3.
    V13,
}

/// The configuration of a port that speaks HTTP/2 and HTTP/1.1.
///
/// # Errors
/// The provider has nothing of these versions; in one line.
pub fn server_config(
    (provider, min): (Arc<CryptoProvider>, MinTls),
    clients: Option<&Arc<dyn ClientCertVerifier>>,
    shown: Arc<dyn ResolvesServerCert>,
) -> Result<ServerConfig, String> {
    let versions: &[&rustls::SupportedProtocolVersion] = match min {
        MinTls::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        MinTls::V13 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?;
    let builder = match clients {
        Some(inner) => builder.with_client_cert_verifier(Arc::new(AskOnly(Arc::clone(inner)))),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(shown);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct Accepted<S> {
    /// What is said over it.
    pub stream: TlsStream<S>,
    /// What the client showed: that it holds the first one's key is all that is known.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whether HTTP/2 was agreed on.
    pub is_http2: bool,
}

/// Shakes hands.
///
/// # Errors
/// What the library said.
pub async fn accept<S>(config: Arc<ServerConfig>, stream: S) -> io::Result<Accepted<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stream = TlsAcceptor::from(config).accept(stream).await?;
    let session = stream.get_ref().1;
    let chain = session.peer_certificates().unwrap_or_default();
    let chain = chain.iter().take(CHAIN);
    Ok(Accepted {
        chain: chain.map(|one| one.clone().into_owned()).collect(),
        is_http2: session.alpn_protocol() == Some(b"h2"),
        stream,
    })
}

/// The authorities of a PEM text, as a judge of clients.
///
/// # Errors
/// As [`authorities`].
pub fn client_authorities(pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let roots = Arc::new(authorities(pem)?);
    // What a client's certificate may be signed with does not follow the suites.
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
    verifier.build().map_err(|error| error.to_string())
}

/// Whether the authorities answer for a client's certificate at a time, in seconds since 1970.
pub fn is_good(
    authorities: &Arc<dyn ClientCertVerifier>,
    (leaf, rest): (&CertificateDer<'_>, &[CertificateDer<'_>]),
    second: i64,
) -> bool {
    let at = UnixTime::since_unix_epoch(Duration::from_secs(second.max(0).unsigned_abs()));
    authorities.verify_client_cert(leaf, rest, at).is_ok()
}

/// Asks clients for a certificate and lets one that cannot be verified through the handshake: such a client gets a 401 that says so,
/// not a broken connection. Who uses it verifies the chain afterwards, by the verifier in it.
#[derive(Debug)]
pub struct AskOnly(pub Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AskOnly {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
