//! Who a certificate names: its subject, and its digest.
//!
//! In:    the DER of a certificate that was verified before
//! Out:   common name, organizations
//! Calls: `auth`
//! Holds: what is cut or odd names nobody
//! Upstream: staging/src/k8s.io/apiserver/pkg/authentication/request/x509 CommonNameUserConversion (1.36)

/// Common name (the last one) and organizations of a certificate that was verified before.
///
/// Walks: certificate, to-be-signed part, skipping version, serial number, algorithm, issuer and validity, to the subject.
pub(super) fn subject(certificate: &[u8]) -> Option<(String, Vec<String>)> {
    const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    const ORGANIZATION: &[u8] = &[0x55, 4, 10];
    let (_, outer, _) = element(certificate)?;
    let (_, mut fields, _) = element(outer)?;
    if fields.first() == Some(&0xa0) {
        fields = element(fields)?.2;
    }
    for _ in 0..4 {
        fields = element(fields)?.2;
    }
    let (mut name, mut groups) = (String::new(), Vec::new());
    let (_, mut sets, _) = element(fields)?;
    while !sets.is_empty() {
        let (_, mut pairs, next) = element(sets)?;
        sets = next;
        while !pairs.is_empty() {
            let (_, pair, next) = element(pairs)?;
            pairs = next;
            let (_, kind, value) = element(pair)?;
            let (tag, text, _) = element(value)?;
            // UTF-8, numeric, printable, teletex and ASCII strings; Go reads these as UTF-8 too.
            let text = [0x0c, 0x12, 0x13, 0x14, 0x16]
                .contains(&tag)
                .then(|| std::str::from_utf8(text).ok())
                .flatten();
            match (kind, text) {
                (COMMON_NAME, Some(text)) => text.clone_into(&mut name),
                (ORGANIZATION, Some(text)) => groups.push(text.to_owned()),
                (COMMON_NAME | ORGANIZATION, None) => return None,
                _ => {}
            }
        }
    }
    Some((name, groups))
}

/// Tag, content and what follows of the first DER element.
fn element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (
                bytes
                    .iter()
                    .fold(0, |length, byte| length << 8 | usize::from(*byte)),
                rest,
            )
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_read_and_no_cut_certificate_is_believed() {
        let mut parameters = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, "system:masters");
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, "kubernetes-admin");
        let der = parameters
            .self_signed(&rcgen::KeyPair::generate().unwrap())
            .unwrap()
            .der()
            .to_vec();
        assert_eq!(
            subject(&der),
            Some((
                "kubernetes-admin".to_owned(),
                vec!["system:masters".to_owned()]
            ))
        );
        assert!((0..der.len()).all(|cut| subject(&der[..cut]).is_none()));
    }
}
