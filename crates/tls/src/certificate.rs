//! What an X.509 certificate or a signing request says of itself: subject, issuer, validity, alternative names.
//!
//! In:    DER or PEM, from anybody
//! Out:   [`Certificate`], [`SigningRequest`]
//! Calls: server, apiserver (who a client is), cluster (whether a pair is of use, when it is renewed, what a server showed), apiserver
//!        (signing requests, its own leaves)
//! Holds: one reading for all; what cannot be read to its last byte is an error, never a guess and never a part of a name; no trust
//!        is decided here: chains and signatures are verified elsewhere
//! Upstream: Go's crypto/x509 (parser.go) and crypto/x509/pkix (`Name.FillFromRDNSequence`); differences: only subject, issuer, validity
//!           and alternative names are looked at

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::asn1_rs::{Any, Class, DerParser, SequenceIterator, Tag};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::extensions::{GeneralName, ParsedExtension, SubjectAlternativeName};
use x509_parser::oid_registry::{OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME};
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// No certificate or request is longer: TLS itself carries less.
const LONGEST: usize = 256 << 10;

/// From when until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub not_before: Timestamp,
    /// Last second.
    pub not_after: Timestamp,
}

/// A certificate's own words; nobody has verified them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is.
    pub subject: DistinguishedName,
    /// Who signed it.
    pub issuer: DistinguishedName,
    /// When it is good.
    pub validity: Validity,
    /// What else its holder is called.
    pub names: AlternativeNames,
}

impl Certificate {
    /// Reads one certificate.
    ///
    /// # Errors
    /// It is none, or a part of it cannot be read; in one line.
    pub fn from_der(der: &[u8]) -> Result<Self, String> {
        is_short(der)?;
        let parsed = x509_parser::parse_x509_certificate(der);
        let (rest, parsed) = parsed.map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err("trailing data after the certificate".to_owned());
        }
        let alternative = parsed.subject_alternative_name();
        let alternative = alternative.map_err(|error| error.to_string())?;
        let mut names = AlternativeNames::default();
        if let Some(extension) = alternative {
            names.add(extension.value)?;
        }
        Ok(Self {
            subject: DistinguishedName::read(parsed.subject())?,
            issuer: DistinguishedName::read(parsed.issuer())?,
            validity: Validity {
                not_before: time(parsed.validity().not_before),
                not_after: time(parsed.validity().not_after),
            },
            names,
        })
    }

    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// As [`Self::from_der`], or there is none.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let first = CertificateDer::from_pem_slice(pem);
        Self::from_der(&first.map_err(|error| error.to_string())?)
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a certificate of {:?} signed by {:?}, good from {} until {}",
            self.subject.to_string(),
            self.issuer.to_string(),
            self.validity.not_before,
            self.validity.not_after
        )
    }
}

/// A signing request's own words; whether its signature is good is for its reader to verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningRequest {
    /// All of it.
    pub der: Vec<u8>,
    /// Whose certificate is wanted.
    pub subject: DistinguishedName,
    /// Under which names besides.
    pub names: AlternativeNames,
}

impl SigningRequest {
    /// Reads a PEM text, whose first block must be the request.
    ///
    /// # Errors
    /// It is none, or a part of it cannot be read; in one line.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let block = x509_parser::pem::parse_x509_pem(pem).ok();
        let block = block.filter(|(_, block)| block.label == "CERTIFICATE REQUEST");
        let Some((_, block)) = block else {
            return Err("PEM block type must be CERTIFICATE REQUEST".to_owned());
        };
        is_short(&block.contents)?;
        let parsed = X509CertificationRequest::from_der(&block.contents);
        let (rest, parsed) = parsed.map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err("trailing data after the request".to_owned());
        }
        let subject = DistinguishedName::read(&parsed.certification_request_info.subject)?;
        let mut names = AlternativeNames::default();
        for extension in parsed.requested_extensions().into_iter().flatten() {
            match extension {
                ParsedExtension::SubjectAlternativeName(extension) => names.add(extension)?,
                ParsedExtension::ParseError { error } => return Err(error.to_string()),
                _ => {}
            }
        }
        Ok(Self {
            der: block.contents,
            subject,
            names,
        })
    }
}

fn is_short(der: &[u8]) -> Result<(), String> {
    if der.len() > LONGEST {
        return Err(format!("longer than {LONGEST} bytes"));
    }
    Ok(())
}

/// RFC 5280, section 4.1.2.5: the last second of 9999 says "no end", and is beyond what a timestamp holds.
fn time(read: ASN1Time) -> Timestamp {
    Timestamp::from_second(read.timestamp()).unwrap_or(Timestamp::MAX)
}

/// Common names and organizations of a subject or issuer, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DistinguishedName(Vec<(Attribute, String)>);

type Attributes<'a> = SequenceIterator<'a, AttributeTypeAndValue<'a>, DerParser, X509Error>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attribute {
    CommonName,
    Organization,
}

impl DistinguishedName {
    /// Every attribute has to be text, though only two kinds of them are kept.
    fn read(name: &X509Name<'_>) -> Result<Self, String> {
        let said = |error: X509Error| error.to_string();
        // The library's own list ends at the first attribute that it cannot read, without a word: who somebody is would change.
        let (_, whole) = Any::from_der(name.as_raw()).map_err(|error| error.to_string())?;
        let mut parts = Vec::new();
        for set in SequenceIterator::<Any<'_>, DerParser>::new(whole.data) {
            let set = set.map_err(|error| error.to_string())?;
            let is_set = set.class() == Class::Universal && set.tag() == Tag::Set;
            if !is_set {
                return Err("a part of the name is no set".to_owned());
            }
            for attribute in Attributes::new(set.data) {
                let attribute = attribute.map_err(said)?;
                let text = text(attribute.attr_value())?;
                if *attribute.attr_type() == OID_X509_COMMON_NAME {
                    parts.push((Attribute::CommonName, text));
                } else if *attribute.attr_type() == OID_X509_ORGANIZATION_NAME {
                    parts.push((Attribute::Organization, text));
                }
            }
        }
        Ok(Self(parts))
    }

    fn all(&self, kind: Attribute) -> impl Iterator<Item = &str> {
        let parts = self.0.iter().filter(move |(of, _)| *of == kind);
        parts.map(|(_, text)| text.as_str())
    }

    /// The common name: of several the last one, as in Go; empty where there is none.
    pub fn common_name(&self) -> &str {
        self.common_names().last().unwrap_or_default()
    }

    /// All common names.
    pub fn common_names(&self) -> impl Iterator<Item = &str> {
        self.all(Attribute::CommonName)
    }

    /// All organizations.
    pub fn organizations(&self) -> impl Iterator<Item = &str> {
        self.all(Attribute::Organization)
    }
}

impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (kind, text)) in self.0.iter().enumerate() {
            let gap = if number == 0 { "" } else { "," };
            let key = match kind {
                Attribute::CommonName => "CN",
                Attribute::Organization => "O",
            };
            write!(f, "{gap}{key}={text}")?;
        }
        Ok(())
    }
}

/// The text of an attribute, by the alphabet of its kind.
fn text(value: &Any<'_>) -> Result<String, String> {
    let bytes = value.data;
    let is_plain = value.class() == Class::Universal && !value.header.constructed();
    let ascii = |is_allowed: fn(u8) -> bool, kind: &str| {
        if bytes.iter().all(|byte| is_allowed(*byte)) {
            Ok(bytes.iter().copied().map(char::from).collect())
        } else {
            Err(format!("invalid {kind}"))
        }
    };
    match value.tag() {
        _ if !is_plain => Err("an attribute of the name is no text".to_owned()),
        Tag::Utf8String => {
            let text = std::str::from_utf8(bytes).map(str::to_owned);
            text.map_err(|_| "invalid UTF-8 string".to_owned())
        }
        Tag::PrintableString => ascii(is_printable, "PrintableString"),
        Tag::Ia5String => ascii(|byte| byte.is_ascii(), "IA5String"),
        Tag::NumericString => ascii(
            |byte| byte.is_ascii_digit() || byte == b' ',
            "NumericString",
        ),
        // An alphabet that nobody uses any more; who writes it means Latin-1.
        Tag::TeletexString => Ok(bytes.iter().copied().map(char::from).collect()),
        Tag::BmpString => two_bytes_each(bytes).ok_or_else(|| "invalid BMPString".to_owned()),
        other => Err(format!("unsupported string type: {}", other.0)),
    }
}

/// The alphabet of PrintableString, and two characters that authorities write in it all the same.
fn is_printable(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" '()+,-./:=?*&".contains(&byte)
}

/// Characters of the basic plane, two bytes each; a zero at the end is none.
fn two_bytes_each(bytes: &[u8]) -> Option<String> {
    let (pairs, odd) = bytes.as_chunks::<2>();
    let pairs = pairs.strip_suffix(&[[0, 0]]).unwrap_or(pairs);
    let text = pairs
        .iter()
        .map(|pair| character(u16::from_be_bytes(*pair)));
    let text: Option<String> = text.collect();
    text.filter(|_| odd.is_empty())
}

/// A character of the basic plane; halves of others, and what is never to be a character, are none.
fn character(unit: u16) -> Option<char> {
    let is_none = matches!(unit, 0xfdd0..=0xfdef | 0xfffe | 0xffff);
    char::from_u32(u32::from(unit)).filter(|_| !is_none)
}

/// Names of a holder beside its subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlternativeNames {
    /// DNS names.
    pub dns: Vec<String>,
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// How many mail addresses.
    pub emails: usize,
    /// How many URIs.
    pub uris: usize,
    /// How many of other kinds.
    pub others: usize,
}

impl AlternativeNames {
    fn add(&mut self, extension: &SubjectAlternativeName<'_>) -> Result<(), String> {
        for name in &extension.general_names {
            match name {
                GeneralName::DNSName(name) => self.dns.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => self.ips.push(address(bytes)?),
                GeneralName::RFC822Name(_) => self.emails += 1,
                GeneralName::URI(_) => self.uris += 1,
                GeneralName::Invalid(tag, _) => {
                    return Err(format!("a subjectAltName of kind {} is invalid", tag.0));
                }
                _ => self.others += 1,
            }
        }
        Ok(())
    }

    /// Whether this name or address, as a person writes it, is among them.
    pub fn has(&self, name: &str) -> bool {
        match name.parse::<IpAddr>() {
            Ok(ip) => self.ips.contains(&ip),
            Err(_) => self.dns.iter().any(|known| known == name),
        }
    }
}

fn address(bytes: &[u8]) -> Result<IpAddr, String> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let sixteen = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| sixteen())
        .map_err(|_| format!("cannot parse IP address of length {}", bytes.len()))
}
