//! What every end of TLS shares: the provider, pairs out of PEM texts, what certificates say of themselves, verifiers that check
//! possession and leave belief to others.
//!
//! In:    PEM texts, DER
//! Out:   parts of rustls configurations; who a certificate names
//! Calls: server, apiserver (both ends), cluster (client)
//! Holds: whoever shows a certificate must hold its key, whatever else is believed of it
//! Upstream: crypto/tls in its `ClientAuth: RequestClientCert` and `InsecureSkipVerify`

mod certificate;

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, SignatureScheme};

pub use certificate::{AlternativeNames, Certificate, DistinguishedName, SigningRequest, Validity};

/// The one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// All certificates of a PEM text.
///
/// # Errors
/// There is none, or one that is no PEM; in one line.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("bad PEM: {error}"))?;
    if found.is_empty() {
        return Err("no certificate in it".to_owned());
    }
    Ok(found)
}

/// The first private key of a PEM text.
///
/// # Errors
/// There is none that can be read; in one line, without a byte of it.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| format!("no private key: {error}"))
}

/// A chain and the key of its first certificate, to be shown.
///
/// # Errors
/// The key is of an unknown kind, or not that certificate's.
pub fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, rustls::Error> {
    let signer = provider().key_provider.load_private_key(key)?;
    let pair = CertifiedKey::new(chain, signer);
    match pair.keys_match() {
        Ok(()) => {}
        Err(_) if holds_its_key(&pair) => {}
        Err(error) => return Err(error),
    }
    Ok(pair)
}

/// Whether the certificate holds the public half of the key, for certificates that the library cannot read and need not: of X.509
/// version 1, as `openssl x509 -req` makes them when it is told no more. Go shows and takes such.
fn holds_its_key(pair: &CertifiedKey) -> bool {
    let certificate = pair.end_entity_cert().ok();
    let key = pair.key.public_key();
    certificate
        .zip(key)
        .is_some_and(|(der, key)| der.windows(key.len()).any(|part| part == key.as_ref()))
}

/// Asks clients for a certificate and lets one that cannot be verified through the handshake: such a client gets a 401 that says so,
/// not a broken connection. Who uses it verifies the chain afterwards, by the verifier in it.
#[derive(Debug)]
pub struct AskOnly(pub Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AskOnly {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
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

/// Takes every server's certificate: `insecure-skip-tls-verify`, and an API server that calls a kubelet.
#[derive(Debug)]
pub struct Anybody(Arc<CryptoProvider>);

impl Default for Anybody {
    fn default() -> Self {
        Self(provider())
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `openssl x509 -req`: no extensions, so version 1; with its key.
    const VERSION_1: &str = include_str!("../testdata/version-1.pem");

    #[test]
    fn pairs_are_taken_and_strangers_are_not() {
        let made = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap();
        let (own, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let both = |certificate: &str, key: &str| {
            let chain = certificates(certificate.as_bytes()).unwrap();
            pair(chain, private_key(key.as_bytes()).unwrap())
        };
        both(&own, &key).unwrap();
        both(VERSION_1, VERSION_1).unwrap();
        both(VERSION_1, &key).unwrap_err();
        both(&own, VERSION_1).unwrap_err();
    }

    #[test]
    fn texts_without_what_is_asked_for_are_errors() {
        assert_eq!(certificates(b"").unwrap_err(), "no certificate in it");
        let cut = "-----BEGIN CERTIFICATE-----\nMIIB";
        assert!(certificates(cut.as_bytes()).is_err());
        assert!(
            private_key(b"")
                .unwrap_err()
                .starts_with("no private key: ")
        );
    }
}
