//! What every end of TLS shares: the provider, pairs out of PEM texts, whom to believe, configurations, what certificates say.
//!
//! In:    PEM texts, DER, the machine's certificate authorities
//! Out:   rustls configurations; who a certificate names
//! Calls: server, apiserver (both ends), cluster, act (clients)
//! Holds: whoever shows a certificate must hold its key, whatever else is believed of it; TLS 1.2 and 1.3 by ring
//! Upstream: crypto/tls, crypto/x509
//!
//! | Module | What |
//! |---|---|
//! | `certificate` | what a certificate or a signing request says of itself |
//! | `roots` | certificate authorities, of a text or of the machine |
//! | `client`, `server` | configurations of the two ends, and verifiers that check possession and leave belief to others |

#![cfg_attr(
    test,
    expect(
        clippy::too_many_lines,
        reason = "tables and scenes of tests are read from top to bottom"
    )
)]

mod certificate;
mod client;
mod roots;
mod server;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

pub use certificate::{AlternativeNames, Certificate, DistinguishedName, SigningRequest, Validity};
pub use client::{Anybody, Believed, client_config};
pub use roots::{SystemRoots, authorities, usable_authorities};
pub use rustls::RootCertStore;
pub use server::{Accepted, AskOnly, MinTls, accept, client_authorities, is_good, server_config};

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
