//! The cluster's certificate authority (CA), and the certificates that it signs.
//!
//! In:    names, groups, CSRs, the time
//! Out:   certificates and keys in PEM
//! Calls: `identity` at first start, `certificates` for CSRs
//! Holds: the CA's key leaves this type only to be written to its file
//! Upstream: cmd/kubeadm/app/phases/certs, pkg/controller/certificates/authority (1.36); differences: ECDSA keys

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use kubelet_tls::{AlternativeNames, SigningRequest};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::sign::SingleCertAndKey;

use crate::base::clock::Chance;

/// Ten years.
const AUTHORITY_SECONDS: i64 = 10 * 365 * 24 * 3600;
/// One year.
pub(crate) const LEAF_SECONDS: i64 = 365 * 24 * 3600;
/// Allowed difference between clocks.
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
    /// The pair as a TLS server or client uses it.
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

/// The purpose of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A client with this name and these groups.
    Client(String, Vec<String>),
    /// A server with these names and addresses.
    Server(Vec<String>),
}

/// The CA.
pub(crate) struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// Sets the validity of a certificate, starting now.
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
    /// A new CA certificate and its key in PEM.
    ///
    /// # Errors
    /// The error of the library.
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

    /// The CA of this certificate and key.
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

    /// The CA certificate in PEM.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A new key and its certificate.
    ///
    /// # Errors
    /// The error of the library.
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

    /// Signs a checked CSR. Only the checked parts of the CSR go into the certificate.
    ///
    /// # Errors
    /// The error of the library.
    pub(crate) fn sign(
        &self,
        request: &Request,
        seconds: i64,
        chance: &Chance,
        now: Timestamp,
    ) -> Result<String, rcgen::Error> {
        let mut signed = CertificateSigningRequestParams::from_der(&request.der)?;
        let mut parameters = CertificateParams::new(Vec::new())?;
        // Names stay names and addresses stay addresses, as they were checked. The library would turn a name that looks like an
        // address into one.
        for name in &request.dns {
            let name = SanType::DnsName(name.as_str().try_into()?);
            parameters.subject_alt_names.push(name);
        }
        let ips = request.ips.iter().map(|ip| SanType::IpAddress(*ip));
        parameters.subject_alt_names.extend(ips);
        parameters.distinguished_name = DistinguishedName::new();
        let name = &mut parameters.distinguished_name;
        // The library keeps one value of each kind; the controller has checked that there is only one.
        for organization in &request.organizations {
            name.push(DnType::OrganizationName, organization.as_str());
        }
        name.push(DnType::CommonName, request.common_name.as_str());
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.serial_number = Some(serial(chance));
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if request.usages.contains("key encipherment") {
            parameters.key_usages.push(KeyUsagePurpose::KeyEncipherment);
        }
        let extended = |usage: &String| match usage.as_str() {
            "client auth" => Some(ExtendedKeyUsagePurpose::ClientAuth),
            "server auth" => Some(ExtendedKeyUsagePurpose::ServerAuth),
            _ => None,
        };
        parameters.extended_key_usages = request.usages.iter().filter_map(extended).collect();
        valid(&mut parameters, now, seconds);
        signed.params = parameters;
        Ok(signed.signed_by(&self.issuer)?.pem())
    }
}

/// A parsed CSR. Its signature proves that the requester holds the key.
#[derive(Debug)]
pub(crate) struct Request {
    der: CertificateSigningRequestDer<'static>,
    /// The requested common name.
    pub(crate) common_name: String,
    /// The requested organizations, all of them.
    pub(crate) organizations: Vec<String>,
    /// The requested DNS names.
    pub(crate) dns: Vec<String>,
    /// The requested IP addresses.
    pub(crate) ips: Vec<IpAddr>,
    /// The number of e-mail addresses.
    pub(crate) emails: usize,
    /// The number of URIs.
    pub(crate) uris: usize,
    /// The key usages of the CSR object.
    pub(crate) usages: BTreeSet<String>,
}

impl Request {
    /// Parses a CSR in PEM.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(pem: &[u8], usages: Vec<String>) -> Result<Self, String> {
        let read = SigningRequest::from_pem(pem)?;
        // The library verifies the signature, and refuses extensions that it does not know.
        let der = CertificateSigningRequestDer::from(read.der);
        CertificateSigningRequestParams::from_der(&der).map_err(|e| e.to_string())?;
        if read.subject.common_names().count() > 1 {
            return Err("more than one common name".to_owned());
        }
        let AlternativeNames {
            dns,
            ips,
            emails,
            uris,
            others,
        } = read.names;
        // Clients look for an address among the addresses only; who asks for one as a name wants to get around their checks.
        if dns.iter().any(|name| name.parse::<IpAddr>().is_ok()) {
            return Err("a DNS subjectAltName is an IP address".to_owned());
        }
        if others > 0 {
            return Err("a subjectAltName of an unknown kind".to_owned());
        }
        let organizations = read.subject.organizations().map(str::to_owned);
        Ok(Self {
            common_name: read.subject.common_name().to_owned(),
            organizations: organizations.collect(),
            dns,
            ips,
            emails,
            uris,
            usages: usages.into_iter().collect(),
            der,
        })
    }
}
