//! TLS towards the API server: which CA to trust, which certificate to present.
//!
//! In:    PEM texts, the kubeconfig's words
//! Out:   rustls configurations, client certificates
//! Calls: connection (per connection made, so that changed files count without a restart), credentials
//! Holds: TLS 1.2 and 1.3; no CA is trusted by default
//! Upstream: client-go/transport (tls.go), crypto/x509 (root_linux.go: where the machine's authorities are)

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use kubelet_tls::{Anybody, Certificate, certificates, pair, private_key, provider};
use rustls::client::WantsClientCert;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
    WantsVerifier,
};

use crate::files::read_bounded;
use crate::kubeconfig::{Material, Trust};

/// Where distributions keep certificate authorities; the first that is there counts, as in Go.
const SYSTEM_ROOTS: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// A PEM file is not longer.
const MAX_BYTES: u64 = 8 << 20;

/// The bytes of a material, read now when it is a file.
pub(crate) async fn read_material(material: &Material) -> Result<Vec<u8>, String> {
    match material {
        Material::Data(data) => Ok(data.0.clone()),
        Material::File(path) => read_file(path).await,
    }
}

/// A file of at most 8 MiB.
pub(crate) async fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let said = |error: std::io::Error| format!("{}: {error}", path.display());
    read_bounded(path, MAX_BYTES).await.map_err(said)
}

/// A certificate chain and its key from PEM texts, checked to belong together.
pub(crate) fn certified_key(certificate: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, String> {
    let chain = certificates(certificate).map_err(|why| format!("client certificate: {why}"))?;
    let key = private_key(key).map_err(|why| format!("client key: {why}"))?;
    pair(chain, key)
        .map(Arc::new)
        .map_err(|error| format!("client certificate and key: {error}"))
}

/// The configuration of the next connection.
pub(crate) async fn client_config(
    trust: &Trust,
    certificate: Option<Arc<CertifiedKey>>,
    protocols: &[&[u8]],
) -> Result<(ClientConfig, Shown), String> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let shown = Shown::default();
    let builder = match trust {
        Trust::Nobody => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody::default())),
        Trust::Authorities(material) => {
            let pem = read_material(material).await?;
            let roots = roots(&pem).map_err(|why| match material {
                Material::File(path) => format!("{}: {why}", path.display()),
                Material::Data(_) => why,
            });
            verified(builder, roots?, &shown)?
        }
        Trust::System => {
            let pem = read_file(&system_roots().await?).await?;
            verified(builder, roots(&pem)?, &shown)?
        }
    };
    let mut config = match certificate {
        Some(key) => builder
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::clone(&key)))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    // A resumed session would show the certificate of an earlier one.
    config.resumption = rustls::client::Resumption::disabled();
    Ok((config, shown))
}

/// What a server showed that was not believed, and what time it was held to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown(Arc<Mutex<Option<String>>>);

impl Shown {
    /// In words that follow the library's.
    pub(crate) fn in_words(&self) -> String {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown.clone().unwrap_or_default()
    }

    fn note(&self, certificate: &[u8], now: UnixTime) {
        let now = i64::try_from(now.as_secs()).map(Timestamp::from_second);
        let now = now.ok().and_then(Result::ok);
        let now = now.map_or_else(String::new, |now| format!("; the time here is {now}"));
        let certificate = Certificate::from_der(certificate).map_or_else(
            |_| "a certificate that cannot be read".to_owned(),
            |certificate| certificate.to_string(),
        );
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(format!("; it showed {certificate}{now}"));
    }
}

fn verified(
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    roots: RootCertStore,
    shown: &Shown,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, String> {
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    let inner = inner.build().map_err(|error| error.to_string())?;
    let verifier = Noting {
        inner,
        shown: shown.clone(),
    };
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

/// The library's own verifier, but what it refuses is noted for people.
#[derive(Debug)]
struct Noting {
    inner: Arc<WebPkiServerVerifier>,
    shown: Shown,
}

impl ServerCertVerifier for Noting {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        if verified.is_err() {
            self.shown.note(end_entity, now);
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

async fn system_roots() -> Result<PathBuf, String> {
    for path in SYSTEM_ROOTS {
        if tokio::fs::try_exists(path).await.unwrap_or(false) {
            return Ok(PathBuf::from(path));
        }
    }
    Err("no certificate authority is given, and none is installed on the machine".to_owned())
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // One that does not parse is left out, as in Go.
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).flatten());
    if roots.is_empty() {
        return Err("certificate authorities: the PEM text holds none that can be used".to_owned());
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_file_or_has_no_end_is_not_read() {
        let error = read_file(Path::new("/dev/zero")).await.unwrap_err();
        assert_eq!(error, "/dev/zero: is not a regular file");
        let error = read_bounded(Path::new("/proc/self/maps"), 10).await;
        assert_eq!(error.unwrap_err().to_string(), "has more than 10 bytes");
        let error = read_file(Path::new("/")).await.unwrap_err();
        assert!(error.starts_with("/: Is a directory"), "{error}");
    }
}
