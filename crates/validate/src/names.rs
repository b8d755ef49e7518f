//! What a name, a key, a port or an ID may be: each check returns upstream's reasons, empty when all is well.
//!
//! In:    one value
//! Out:   reasons, in upstream's words (with the regular expression that users search for)
//! Calls: validation of this directory
//! Holds: no regular expressions are run: the grammars are few and fixed
//! Upstream: staging/src/k8s.io/apimachinery/pkg/util/validation, pkg/api/validate/content

use std::net::{IpAddr, Ipv4Addr};

type Reasons = Vec<String>;

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const LABEL_UNDERSCORE: &str = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
const KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const KEY_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

fn lower_alnum(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// `edge inner* edge` or one `edge`.
fn framed(text: &str, edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    text.bytes().next().is_some_and(edge)
        && text.bytes().next_back().is_some_and(edge)
        && text.bytes().all(|byte| edge(byte) || inner(byte))
}

fn is_label(text: &str) -> bool {
    framed(text, lower_alnum, |byte| byte == b'-')
}

fn rule(text: &str, expression: &str, examples: &[&str]) -> String {
    let examples = examples.join("',  or '");
    format!("{text} (e.g. '{examples}', regex used for validation is '{expression}')")
}

/// One label of a DNS name (63 characters).
pub(super) fn dns_label(value: &str) -> Reasons {
    let mut reasons = Reasons::new();
    if value.len() > 63 {
        reasons.push("must be no more than 63 characters".to_owned());
    }
    if !is_label(value) {
        reasons.push(if value.split('.').all(is_label) {
            "must not contain dots".to_owned()
        } else {
            rule(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
                LABEL,
                &["my-name", "123-abc"],
            )
        });
    }
    reasons
}

/// Labels joined by dots (253 characters).
pub(super) fn dns_subdomain(value: &str) -> Reasons {
    let mut reasons = Reasons::new();
    if value.len() > 253 {
        reasons.push("must be no more than 253 characters".to_owned());
    }
    if !value.split('.').all(is_label) {
        reasons.push(rule(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            &format!("{LABEL}(\\.{LABEL})*"),
            &["example.com"],
        ));
    }
    reasons
}

/// A search domain: underscores are allowed as well.
pub(super) fn search_domain(value: &str) -> Reasons {
    let label = |text: &str| {
        let text = text.strip_prefix('_').unwrap_or(text);
        framed(text, lower_alnum, |byte| matches!(byte, b'-' | b'_'))
    };
    let mut reasons = Reasons::new();
    if value.len() > 253 {
        reasons.push("must be no more than 253 characters".to_owned());
    }
    if !value.split('.').all(label) {
        reasons.push(rule(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character",
            &format!("{LABEL_UNDERSCORE}(\\.{LABEL_UNDERSCORE})*"),
            &["example.com"],
        ));
    }
    reasons
}

fn is_key(text: &str) -> bool {
    framed(
        text,
        |byte| byte.is_ascii_alphanumeric(),
        |byte| matches!(byte, b'-' | b'_' | b'.'),
    )
}

/// The key of a label: a name of 63 bytes, optionally after a DNS prefix and a slash.
pub(super) fn label_key(value: &str) -> Reasons {
    let mut reasons = Reasons::new();
    let examples = ["MyName", "my.name", "123-abc"];
    let parts: Vec<&str> = value.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                reasons.push("prefix part must be non-empty".to_owned());
            } else {
                let wrong = dns_subdomain(prefix).into_iter();
                reasons.extend(wrong.map(|reason| format!("prefix part {reason}")));
            }
            name
        }
        _ => {
            let start = rule(&format!("a valid label key {KEY_RULE}"), KEY, &examples);
            reasons.push(format!(
                "{start} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
            return reasons;
        }
    };
    if name.is_empty() {
        reasons.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        reasons.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_key(name) {
        reasons.push(rule(&format!("name part {KEY_RULE}"), KEY, &examples));
    }
    reasons
}

/// The value of a label: empty, or as a key's name.
pub(super) fn label_value(value: &str) -> Reasons {
    let mut reasons = Reasons::new();
    if value.len() > 63 {
        reasons.push("must be no more than 63 bytes".to_owned());
    }
    if !value.is_empty() && !is_key(value) {
        reasons.push(rule(
            &format!(
                "a valid label must be an empty string or {}",
                KEY_RULE.trim_start_matches("must ")
            ),
            &format!("({KEY})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    reasons
}

/// The name of a port (15 characters with a letter).
pub(super) fn port_name(value: &str) -> Reasons {
    let bytes = value.as_bytes();
    let checks = [
        (value.len() > 15, "must be no more than 15 characters"),
        (
            bytes.is_empty() || !bytes.iter().all(|b| lower_alnum(*b) || *b == b'-'),
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        (
            !bytes.iter().any(u8::is_ascii_lowercase),
            "must contain at least one letter (a-z)",
        ),
        (value.contains("--"), "must not contain consecutive hyphens"),
        (
            value.starts_with('-') || value.ends_with('-'),
            "must not begin or end with a hyphen",
        ),
    ];
    checks
        .iter()
        .filter(|(wrong, _)| *wrong)
        .map(|(_, reason)| (*reason).to_owned())
        .collect()
}

/// The number of a port.
pub(super) fn port_number(value: i32) -> Reasons {
    in_range(i64::from(value), 1, 65_535)
}

/// A user's or group's ID.
pub(super) fn owner_id(value: i64) -> Reasons {
    in_range(value, 0, i64::from(i32::MAX))
}

/// An inclusive range.
pub(super) fn in_range(value: i64, low: i64, high: i64) -> Reasons {
    if (low..=high).contains(&value) {
        Reasons::new()
    } else {
        vec![format!("must be between {low} and {high}, inclusive")]
    }
}

/// The name of an environment variable: printable ASCII without `=`.
pub(super) fn env_name(value: &str) -> Reasons {
    let mut reasons = Reasons::new();
    if value.is_empty() {
        reasons.push("environment variable name must be non-empty".to_owned());
    }
    if !value
        .bytes()
        .all(|byte| matches!(byte, b' '..=b'~') && byte != b'=')
    {
        reasons.push("a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned());
    }
    reasons
}

/// The name of an HTTP header.
pub(super) fn header_name(value: &str) -> Reasons {
    if !value.is_empty()
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        return Reasons::new();
    }
    vec![rule(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// The name of a kernel parameter, with dots or slashes.
pub(super) fn sysctl_name(value: &str) -> bool {
    let segment = |text: &str| framed(text, lower_alnum, |byte| matches!(byte, b'-' | b'_'));
    value.len() <= 253 && value.split(['.', '/']).all(segment)
}

/// An IP address; leading zeros in IPv4 are forgiven, as upstream does in old fields.
pub(super) fn ip(value: &str) -> Reasons {
    let forgiven = || {
        let parts: Vec<&str> = value.split('.').collect();
        let number = |text: &&str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits
                .then(|| text.trim_start_matches('0'))
                .and_then(|text| {
                    if text.is_empty() {
                        Some(0)
                    } else {
                        text.parse::<u8>().ok()
                    }
                })
        };
        let numbers: Option<Vec<u8>> = parts.iter().map(number).collect();
        numbers
            .and_then(|numbers| <[u8; 4]>::try_from(numbers).ok())
            .map(Ipv4Addr::from)
    };
    if value.parse::<IpAddr>().is_ok() || forgiven().is_some() {
        Reasons::new()
    } else {
        vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()]
    }
}

/// A relative path without `..`.
pub(super) fn descending_path(value: &str) -> Reasons {
    let mut reasons = Reasons::new();
    if value.starts_with('/') {
        reasons.push("must be a relative path".to_owned());
    }
    reasons.extend(no_backsteps(value));
    reasons
}

/// A path without `..`.
pub(super) fn no_backsteps(value: &str) -> Reasons {
    if value.split('/').any(|part| part == "..") {
        vec!["must not contain '..'".to_owned()]
    } else {
        Reasons::new()
    }
}

#[cfg(test)]
mod tests;
