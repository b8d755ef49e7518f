//! TLS towards the API server: which CA to trust, which certificate to present.
//!
//! In:    PEM texts, the kubeconfig's words
//! Out:   rustls configurations, client certificates
//! Calls: connection (per connection made, so that changed files count without a restart), credentials
//! Holds: TLS 1.2 and 1.3; no CA is trusted by default
//! Upstream: client-go/transport (tls.go)

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use kubelet_tls::{
    Believed, Certificate, SystemRoots, certificates, pair, private_key, provider,
    usable_authorities,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::files::read_bounded;
use crate::kubeconfig::{Material, Trust};

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
    let shown = Shown::default();
    let believed = match trust {
        Trust::Nobody => Believed::Anybody,
        Trust::Authorities(material) => {
            let pem = read_material(material).await?;
            let roots = usable_authorities(&pem).map_err(|why| match material {
                Material::File(path) => format!("{}: {why}", path.display()),
                Material::Data(_) => why,
            });
            verified(roots?, &shown)?
        }
        Trust::System => verified(system_roots().await?, &shown)?,
    };
    let certificate = certificate.map(|key| -> Arc<dyn ResolvesClientCert> {
        Arc::new(SingleCertAndKey::from(CertifiedKey::clone(&key)))
    });
    let mut config = kubelet_tls::client_config(believed, certificate, protocols)?;
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

fn verified(roots: RootCertStore, shown: &Shown) -> Result<Believed, String> {
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    let inner = inner.build().map_err(|error| error.to_string())?;
    Ok(Believed::Verified(Arc::new(Noting {
        inner,
        shown: shown.clone(),
    })))
}

/// The machine's authorities, as they are now.
async fn system_roots() -> Result<RootCertStore, String> {
    let read = || SystemRoots::from_environment().read(Path::to_path_buf);
    let read = tokio::task::spawn_blocking(read).await;
    let roots = read.map_err(|error| error.to_string())?;
    roots.map_err(|why| {
        format!("no certificate authority is given, and none of the machine can be used: {why}")
    })
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
