//! Reads the fields of an X.509 certificate that are reported: subject, issuer, validity.
//!
//! In:    DER or PEM
//! Out:   `Validity`, names
//! Calls: credentials (is the pair of use), certificates (when to rotate), tls (what a server showed)
//! Holds: a certificate that does not parse is an error, never a guess
//! Upstream: crypto/x509 (parser); RFC 5280 section 4.1

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0]`, the version.
const VERSION: u8 = 0xa0;

/// From when until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub not_before: Timestamp,
    /// Last second.
    pub not_after: Timestamp,
}

/// Validity of the first certificate of a PEM text; `None` when there is none that can be read.
pub fn validity_of_pem(pem: &[u8]) -> Option<Validity> {
    let certificate = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
    validity(&certificate)
}

/// Validity of a certificate.
pub(crate) fn validity(certificate: &[u8]) -> Option<Validity> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (mut rest, _) = expect(certificate, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        (_, rest) = expect(rest, VERSION)?;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        // Serial number, signature algorithm, issuer.
        (_, rest) = expect(rest, tag)?;
    }
    let (times, _) = expect(rest, SEQUENCE)?;
    let (not_before, times) = time(times)?;
    let (not_after, _) = time(times)?;
    Some(Validity {
        not_before,
        not_after,
    })
}

/// What a certificate says of itself, in one line.
pub(crate) fn described(certificate: &[u8]) -> Option<String> {
    let Validity {
        not_before,
        not_after,
    } = validity(certificate)?;
    let (subject, issuer) = names(certificate)?;
    Some(format!(
        "a certificate of {subject:?} signed by {issuer:?}, good from {not_before} until {not_after}"
    ))
}

/// Subject and issuer.
fn names(certificate: &[u8]) -> Option<(String, String)> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (mut rest, _) = expect(certificate, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        (_, rest) = expect(rest, VERSION)?;
    }
    for tag in [INTEGER, SEQUENCE] {
        (_, rest) = expect(rest, tag)?;
    }
    let (issuer, rest) = expect(rest, SEQUENCE)?;
    let (_, rest) = expect(rest, SEQUENCE)?;
    let (subject, _) = expect(rest, SEQUENCE)?;
    Some((name(subject), name(issuer)))
}

/// Organizations and common name; what cannot be read is left out.
fn name(mut sets: &[u8]) -> String {
    const SET: u8 = 0x31;
    let mut parts = Vec::new();
    while let Some((set, rest)) = expect(sets, SET) {
        sets = rest;
        let attribute = expect(set, SEQUENCE).and_then(|(pair, _)| value(pair));
        let Some((_, kind, text)) = attribute else {
            continue;
        };
        let key = match kind {
            [0x55, 4, 3] => "CN",
            [0x55, 4, 10] => "O",
            _ => continue,
        };
        if let Some((_, text, _)) = value(text) {
            parts.push(format!("{key}={}", String::from_utf8_lossy(text)));
        }
    }
    parts.join(",")
}

/// Content of the value at the front, and what follows it.
fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = value(bytes)?;
    (found == tag).then_some((content, rest))
}

fn value(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (length, rest) = rest.split_at_checked(count)?;
        let length = length
            .iter()
            .fold(0_usize, |length, byte| (length << 8) | usize::from(*byte));
        (length, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn time(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (tag, content, rest) = value(bytes)?;
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let text = match tag {
        // RFC 5280: two digits of a year from 1950 to 2049.
        UTC_TIME => {
            let year: u8 = text.get(..2)?.parse().ok()?;
            format!("{}{text}", if year < 50 { "20" } else { "19" })
        }
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let civil = DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    // RFC 5280, section 4.1.2.5: the last second of 9999 says "no end", and is beyond what a timestamp holds.
    let at = TimeZone::UTC.to_timestamp(civil);
    Some((at.unwrap_or(Timestamp::MAX), rest))
}

/// The bits of the public key of a PKCS#10 request.
#[cfg(test)]
pub(crate) fn public_key_of_request(request: &[u8]) -> Option<&[u8]> {
    const BIT_STRING: u8 = 0x03;
    let (request, _) = expect(request, SEQUENCE)?;
    let (information, _) = expect(request, SEQUENCE)?;
    let (_, rest) = expect(information, INTEGER)?;
    let (_, key) = expect(rest, SEQUENCE)?;
    let (key, _) = expect(key, SEQUENCE)?;
    let (_, bits) = expect(key, SEQUENCE)?;
    let (bits, _) = expect(bits, BIT_STRING)?;
    // The first byte counts unused bits.
    bits.get(1..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_its_times_on_both_sides_of_2050() {
        for (from, until) in [(2026, 2027), (1999, 2049), (2051, 2300)] {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut wanted = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
            wanted.not_before = rcgen::date_time_ymd(from, 2, 3);
            wanted.not_after = rcgen::date_time_ymd(until, 12, 31);
            let made = wanted.self_signed(&key).unwrap();
            let read = validity_of_pem(made.pem().as_bytes()).unwrap();
            assert_eq!(
                read.not_before.to_string(),
                format!("{from}-02-03T00:00:00Z")
            );
            assert_eq!(
                read.not_after.to_string(),
                format!("{until}-12-31T00:00:00Z")
            );
        }
    }

    #[test]
    fn a_certificate_without_an_end_has_the_last_one() {
        let mut text = vec![GENERALIZED_TIME, 15];
        text.extend_from_slice(b"99991231235959Z");
        assert_eq!(time(&text), Some((Timestamp::MAX, &b""[..])));
        text.truncate(2);
        text.extend_from_slice(b"99991331235959Z");
        assert_eq!(time(&text), None, "no month");
    }

    #[test]
    fn cut_and_changed_certificates_are_refused_without_a_panic() {
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
        let made = made.self_signed(&key).unwrap();
        let whole = made.der().as_ref();
        for length in 0..whole.len() {
            assert_eq!(validity(whole.get(..length).unwrap()), None);
        }
        for at in 0..whole.len() {
            let mut changed = whole.to_vec();
            if let Some(byte) = changed.get_mut(at) {
                *byte = 0xff;
            }
            let _any_answer = validity(&changed);
        }
    }
}
