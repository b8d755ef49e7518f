//! Who asks, and may they: client certificates, the anonymous user, and the refusals of what is not built yet.
//!
//! In:    the configuration, the connection's client certificate (already proven to be the client's), the request's head
//! Out:   [`User`], or the 401 or 403 to answer with
//! Calls: `lib`, per request on the main port
//! Holds: nothing here ever opens a port: a mode that is not built refuses
//! Upstream: pkg/kubelet/server/server.go InstallAuthFilter, staging/src/k8s.io/apiserver/pkg/authentication (1.36);
//!           differences: token review and access review are not built, so tokens are 401 and mode Webhook is 403

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

use crate::endpoints::{subresources, verb};

/// Whether a request without credentials has a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anonymous {
    /// It is `system:anonymous` in group `system:unauthenticated`.
    Allowed,
    /// It is 401.
    Refused,
}

/// What a bearer token means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenAuthentication {
    /// Nothing, as in upstream with the webhook off.
    Ignored,
    /// Webhook: not built yet, so a token is always 401.
    Webhook,
}

/// What an authenticated user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorization {
    /// Everything.
    AlwaysAllow,
    /// Webhook: not built yet, so nothing.
    Webhook,
}

/// A caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The certificate's common name.
    pub name: String,
    /// The certificate's organizations, and `system:authenticated`.
    pub groups: Vec<String>,
}

/// What a connection's certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Certificate {
    /// None was sent, or it names nobody.
    Absent,
    /// One that the configured authorities did not sign, or that is out of date.
    Invalid,
    /// A verified one.
    Of(User),
}

/// An answer that ends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) text: String,
}

/// Verifies a client's chain and reads its user.
pub(crate) fn read_certificate(
    chain: &[CertificateDer<'_>],
    authorities: Option<&Arc<dyn ClientCertVerifier>>,
    now: jiff::Timestamp,
) -> Certificate {
    let ([leaf, rest @ ..], Some(authorities)) = (chain, authorities) else {
        return Certificate::Absent;
    };
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        now.as_second().try_into().unwrap_or(0),
    ));
    if authorities.verify_client_cert(leaf, rest, now).is_err() {
        return Certificate::Invalid;
    }
    let Some((name, mut groups)) = subject(leaf) else {
        return Certificate::Invalid;
    };
    if name.is_empty() {
        return Certificate::Absent;
    }
    groups.push("system:authenticated".to_owned());
    Certificate::Of(User { name, groups })
}

/// The user, or 401. A bad credential is never overlooked in favour of the anonymous user.
pub(crate) fn authenticate(
    anonymous: Anonymous,
    tokens: TokenAuthentication,
    certificate: &Certificate,
    authorization_header: Option<&str>,
) -> Result<User, Refusal> {
    let unauthorized = || {
        Err(Refusal {
            status: 401,
            text: "Unauthorized".to_owned(),
        })
    };
    let has_token = authorization_header.is_some_and(|value| {
        value.trim().split_once(' ').is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()
        })
    });
    match certificate {
        Certificate::Of(user) => Ok(user.clone()),
        Certificate::Invalid => unauthorized(),
        Certificate::Absent if has_token && tokens == TokenAuthentication::Webhook => {
            unauthorized()
        }
        Certificate::Absent if anonymous == Anonymous::Refused => unauthorized(),
        Certificate::Absent => Ok(User {
            name: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
        }),
    }
}

/// 403 when the user may not.
pub(crate) fn authorize(
    mode: Authorization,
    user: &User,
    method: &str,
    path: &str,
) -> Result<(), Refusal> {
    match mode {
        Authorization::AlwaysAllow => Ok(()),
        Authorization::Webhook => Err(Refusal {
            status: 403,
            text: format!(
                "Forbidden (user={}, verb={}, resource=nodes, subresource(s)=[{}])\n",
                user.name,
                verb(method),
                subresources(path).join(" ")
            ),
        }),
    }
}

/// Common name (the last one) and organizations of a certificate that was verified before.
///
/// Walks: certificate, to-be-signed part, skipping version, serial number, algorithm, issuer and validity, to the subject.
fn subject(certificate: &[u8]) -> Option<(String, Vec<String>)> {
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

    fn check(certificate: &Certificate, header: Option<&str>) -> [String; 4] {
        let mut answers = [(); 4].map(|()| String::new());
        let modes = [Anonymous::Allowed, Anonymous::Refused]
            .into_iter()
            .flat_map(|anonymous| {
                [TokenAuthentication::Ignored, TokenAuthentication::Webhook]
                    .map(|tokens| (anonymous, tokens))
            });
        for (answer, (anonymous, tokens)) in answers.iter_mut().zip(modes) {
            *answer = authenticate(anonymous, tokens, certificate, header)
                .map_or_else(|no| no.text, |user| user.name);
        }
        answers
    }

    #[test]
    fn the_user_follows_from_certificate_token_and_modes() {
        let (anonymous, no) = ("system:anonymous", "Unauthorized");
        assert_eq!(
            check(&Certificate::Absent, None),
            [anonymous, anonymous, no, no]
        );
        assert_eq!(
            check(&Certificate::Absent, Some("Bearer x")),
            [anonymous, no, no, no]
        );
        assert_eq!(
            check(&Certificate::Absent, Some("bearer  x")),
            [anonymous, no, no, no]
        );
        assert_eq!(
            check(&Certificate::Absent, Some("Bearer ")),
            [anonymous, anonymous, no, no]
        );
        assert_eq!(check(&Certificate::Invalid, None), [no; 4]);
        let admin = Certificate::Of(User {
            name: "admin".to_owned(),
            groups: Vec::new(),
        });
        assert_eq!(check(&admin, Some("Bearer x")), ["admin"; 4]);
    }

    #[test]
    fn mode_webhook_forbids_everything_in_upstreams_words() {
        let user = User {
            name: "u".to_owned(),
            groups: Vec::new(),
        };
        let refusal = authorize(Authorization::Webhook, &user, "GET", "/pods").unwrap_err();
        assert_eq!(
            (refusal.status, &*refusal.text),
            (
                403,
                "Forbidden (user=u, verb=get, resource=nodes, subresource(s)=[pods proxy])\n"
            )
        );
        assert_eq!(
            authorize(Authorization::AlwaysAllow, &user, "HEAD", "/exec/a"),
            Ok(())
        );
    }

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
