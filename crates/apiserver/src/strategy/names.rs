//! Which names an object may have.
//!
//! In:    a name and the rule of its kind
//! Out:   what is wrong with it, in upstream's words
//! Calls: `registry`, `pod`
//! Holds: pure
//! Upstream: staging/src/k8s.io/apimachinery/pkg/util/validation/validation.go (1.36); differences: none

use crate::resources::NameRule;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

/// What is wrong with a name.
pub(crate) fn problem(rule: NameRule, name: &str) -> Option<String> {
    let too_long =
        |limit: usize| (name.len() > limit).then(|| format!("must be no more than {limit} bytes"));
    match rule {
        NameRule::Label if !is_label(name) => Some(LABEL.to_owned()),
        NameRule::Label => too_long(63),
        NameRule::Label1035 if !is_label(name) || !starts_with_letter(name) => {
            Some(LABEL_1035.to_owned())
        }
        NameRule::Label1035 => too_long(63),
        NameRule::Subdomain if !name.split('.').all(is_label) => Some(SUBDOMAIN.to_owned()),
        NameRule::Subdomain => too_long(253),
        NameRule::PathSegment if [".", ".."].contains(&name) => {
            Some(format!("may not be '{name}'"))
        }
        NameRule::PathSegment => ["/", "%"]
            .iter()
            .find(|sign| name.contains(**sign))
            .map(|sign| format!("may not contain '{sign}'")),
    }
}

fn starts_with_letter(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
}

fn is_label(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.starts_with(letter)
        && name.ends_with(letter)
        && name.chars().all(|c| letter(c) || c == '-')
}
