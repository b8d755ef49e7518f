//! The cluster's certificate authority, and the certificates that it signs.
//!
//! In:    names, groups, signing requests, the time
//! Out:   certificates and keys in PEM
//! Calls: `identity` at first start, `certificates` for signing requests
//! Holds: the authority's key leaves this type only to be written to its file
//! Upstream: cmd/kubeadm/app/phases/certs, pkg/controller/certificates/authority (1.36); differences: ECDSA keys

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::sign::SingleCertAndKey;

use crate::clock::Chance;

/// Ten years.
const AUTHORITY_SECONDS: i64 = 10 * 365 * 24 * 3600;
/// One year.
pub(crate) const LEAF_SECONDS: i64 = 365 * 24 * 3600;
/// Clocks differ.
const BACKDATE_SECONDS: i64 = 300;

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its key; a secret.
    pub key: String,
}

impl Pair {
    /// As a TLS end shows it.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub(crate) fn shown(&self) -> Result<SingleCertAndKey, String> {
        let chain = kubelet_tls::certificates(self.certificate.as_bytes())?;
        let key = kubelet_tls::private_key(self.key.as_bytes())?;
        let pair = kubelet_tls::pair(chain, key).map_err(|error| error.to_string())?;
        Ok(SingleCertAndKey::from(pair))
    }
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").finish_non_exhaustive()
    }
}

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A client of this name, of these groups.
    Client(String, Vec<String>),
    /// A server of these names and addresses.
    Server(Vec<String>),
}

/// The authority.
pub(crate) struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// The validity of a certificate from now on.
fn valid(parameters: &mut CertificateParams, now: Timestamp, seconds: i64) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |seconds: i64| epoch + Duration::from_secs(seconds.max(0).unsigned_abs());
    parameters.not_before = at(now.as_second() - BACKDATE_SECONDS);
    parameters.not_after = at(now.as_second() + seconds);
}

fn serial(chance: &Chance) -> SerialNumber {
    // The highest bit is the sign.
    (chance.bits() >> 1).into()
}

impl Authority {
    /// A fresh one, and its key in PEM.
    ///
    /// # Errors
    /// What the library said.
    pub(crate) fn fresh(now: Timestamp) -> Result<Pair, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.distinguished_name = DistinguishedName::new();
        parameters
            .distinguished_name
            .push(DnType::CommonName, "kubernetes");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyCertSign,
        ];
        valid(&mut parameters, now, AUTHORITY_SECONDS);
        Ok(Pair {
            certificate: parameters.self_signed(&key)?.pem(),
            key: key.serialize_pem(),
        })
    }

    /// The authority of this certificate and key.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn of(pair: &Pair) -> Result<Self, rcgen::Error> {
        let key = KeyPair::from_pem(&pair.key)?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_pem(&pair.certificate, key)?,
            certificate: pair.certificate.clone(),
        })
    }

    /// Its certificate in PEM.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A fresh key and its certificate.
    ///
    /// # Errors
    /// What the library said.
    pub(crate) fn issue(
        &self,
        purpose: &Purpose,
        chance: &Chance,
        now: Timestamp,
    ) -> Result<Pair, rcgen::Error> {
        let key = KeyPair::generate()?;
        let names = match purpose {
            Purpose::Server(names) => names.clone(),
            Purpose::Client(..) => Vec::new(),
        };
        let mut parameters = CertificateParams::new(names)?;
        parameters.distinguished_name = DistinguishedName::new();
        let usage = match purpose {
            Purpose::Server(_) => {
                parameters
                    .distinguished_name
                    .push(DnType::CommonName, "kube-apiserver");
                ExtendedKeyUsagePurpose::ServerAuth
            }
            Purpose::Client(name, groups) => {
                for group in groups {
                    parameters
                        .distinguished_name
                        .push(DnType::OrganizationName, group.as_str());
                }
                parameters
                    .distinguished_name
                    .push(DnType::CommonName, name.as_str());
                ExtendedKeyUsagePurpose::ClientAuth
            }
        };
        parameters.extended_key_usages = vec![usage];
        parameters.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        parameters.serial_number = Some(serial(chance));
        valid(&mut parameters, now, LEAF_SECONDS);
        Ok(Pair {
            certificate: parameters.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }

    /// The certificate that a checked request asks for.
    ///
    /// # Errors
    /// What the library said.
    pub(crate) fn sign(
        &self,
        request: &Request,
        seconds: i64,
        chance: &Chance,
        now: Timestamp,
    ) -> Result<String, rcgen::Error> {
        let mut parsed = CertificateSigningRequestParams::from_der(&request.der)?;
        parsed.params.is_ca = IsCa::NoCa;
        parsed.params.serial_number = Some(serial(chance));
        parsed.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if request
            .usages
            .iter()
            .any(|usage| usage == "key encipherment")
        {
            parsed
                .params
                .key_usages
                .push(KeyUsagePurpose::KeyEncipherment);
        }
        let extended = |usage: &String| match usage.as_str() {
            "client auth" => Some(ExtendedKeyUsagePurpose::ClientAuth),
            "server auth" => Some(ExtendedKeyUsagePurpose::ServerAuth),
            _ => None,
        };
        parsed.params.extended_key_usages = request.usages.iter().filter_map(extended).collect();
        valid(&mut parsed.params, now, seconds);
        Ok(parsed.signed_by(&self.issuer)?.pem())
    }
}

/// A signing request: what it says of itself, proven to come from the holder of its key.
#[derive(Debug)]
pub(crate) struct Request {
    der: CertificateSigningRequestDer<'static>,
    /// The wanted common name.
    pub(crate) common_name: String,
    /// The wanted organizations.
    pub(crate) organizations: Vec<String>,
    /// Names and addresses of a server.
    pub(crate) dns_or_ip: usize,
    /// Other names: mail addresses, URIs.
    pub(crate) other_names: usize,
    /// Usages asked for beside it.
    pub(crate) usages: Vec<String>,
}

impl Request {
    /// Reads PEM.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(pem: &[u8], usages: Vec<String>) -> Result<Self, String> {
        use rustls::pki_types::pem::PemObject as _;
        let der = CertificateSigningRequestDer::from_pem_slice(pem)
            .map_err(|_| "PEM block type must be CERTIFICATE REQUEST".to_owned())?;
        let parsed = CertificateSigningRequestParams::from_der(&der).map_err(|e| e.to_string())?;
        let text = |kind: &DnType| {
            parsed
                .params
                .distinguished_name
                .iter()
                .filter(move |(k, _)| *k == kind)
                .map(|(_, value)| match value {
                    rcgen::DnValue::Utf8String(text) => text.clone(),
                    rcgen::DnValue::PrintableString(text) => text.as_str().to_owned(),
                    rcgen::DnValue::Ia5String(text) => text.as_str().to_owned(),
                    _ => String::new(),
                })
                .collect::<Vec<_>>()
        };
        let names = &parsed.params.subject_alt_names;
        let server = |name: &&rcgen::SanType| {
            matches!(
                name,
                rcgen::SanType::DnsName(_) | rcgen::SanType::IpAddress(_)
            )
        };
        let dns_or_ip = names.iter().filter(server).count();
        Ok(Self {
            common_name: text(&DnType::CommonName).pop().unwrap_or_default(),
            organizations: text(&DnType::OrganizationName),
            dns_or_ip,
            other_names: names.len() - dns_or_ip,
            usages,
            der,
        })
    }
}
