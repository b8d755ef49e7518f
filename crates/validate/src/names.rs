//! Rules for names, keys, ports and IDs: each check returns upstream's reasons, empty if the value is valid.
//!
//! In:    one value
//! Out:   reasons in upstream's words (including the regular expression that users search for)
//! Calls: every rule of this crate
//! Holds: no regular expressions are executed: the grammars are few and fixed
//! Upstream: staging/src/k8s.io/apimachinery/pkg/util/validation, pkg/api/validate/content, pkg/api/validation/generic.go

use std::net::{IpAddr, Ipv4Addr};

type Reasons = Vec<String>;

/// The rule for the names of a kind's objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// Lower case letters, digits, `-` and `.`, at most 253 characters.
    Subdomain,
    /// The same without `.`, at most 63 characters.
    Label,
    /// Any path segment.
    PathSegment,
}

impl NameRule {
    /// Checks a name.
    pub fn check(self, name: &str) -> Vec<String> {
        match self {
            Self::Subdomain => dns_subdomain(name),
            Self::Label => dns_label(name),
            Self::PathSegment => path_segment(name),
        }
    }

    /// Checks the prefix of a generated name; it may end with a dash.
    pub(crate) fn check_prefix(self, prefix: &str) -> Vec<String> {
        match prefix.strip_suffix('-') {
            // Quirk: upstream replaces two characters by one (maskTrailingDash).
            Some(rest) if !rest.is_empty() && self != Self::PathSegment => {
                let mut masked: String = rest.to_owned();
                masked.pop();
                masked.push('a');
                self.check(&masked)
            }
            _ => self.check(prefix),
        }
    }
}

fn path_segment(name: &str) -> Reasons {
    if [".", ".."].contains(&name) {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"]
        .iter()
        .filter(|sign| name.contains(**sign))
        .map(|sign| format!("may not contain '{sign}'"))
        .collect()
}

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const LABEL_UNDERSCORE: &str = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
const KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const KEY_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

fn lower_alnum(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Text of the form `edge inner* edge`, or a single `edge`.
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

/// A DNS label (63 characters).
pub(crate) fn dns_label(value: &str) -> Reasons {
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

/// DNS labels joined by dots (253 characters).
pub(crate) fn dns_subdomain(value: &str) -> Reasons {
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

/// A DNS search domain: underscores are allowed, too.
pub(crate) fn search_domain(value: &str) -> Reasons {
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

/// A label key: a name of 63 bytes, optionally after a DNS prefix and a slash.
pub(crate) fn label_key(value: &str) -> Reasons {
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

/// A label value: empty, or like the name of a key.
pub(crate) fn label_value(value: &str) -> Reasons {
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

/// A port name (15 characters, at least one letter).
pub(crate) fn port_name(value: &str) -> Reasons {
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

/// A port number.
pub(crate) fn port_number(value: i32) -> Reasons {
    in_range(i64::from(value), 1, 65_535)
}

/// A user ID or group ID.
pub(crate) fn owner_id(value: i64) -> Reasons {
    in_range(value, 0, i64::from(i32::MAX))
}

/// A number in an inclusive range.
pub(crate) fn in_range(value: i64, low: i64, high: i64) -> Reasons {
    if (low..=high).contains(&value) {
        Reasons::new()
    } else {
        vec![format!("must be between {low} and {high}, inclusive")]
    }
}

/// The name of an environment variable: printable ASCII without `=`.
pub(crate) fn env_name(value: &str) -> Reasons {
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
pub(crate) fn header_name(value: &str) -> Reasons {
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

/// A sysctl name, with dots or slashes.
pub(crate) fn sysctl_name(value: &str) -> bool {
    let segment = |text: &str| framed(text, lower_alnum, |byte| matches!(byte, b'-' | b'_'));
    value.len() <= 253 && value.split(['.', '/']).all(segment)
}

/// A key of a ConfigMap or Secret.
pub(crate) fn config_map_key(value: &str) -> Reasons {
    let mut reasons = Reasons::new();
    if value.len() > 253 {
        reasons.push("must be no more than 253 characters".to_owned());
    }
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if value.is_empty() || !value.bytes().all(known) {
        reasons.push(rule(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match value {
        "." | ".." => reasons.push(format!("must not be '{value}'")),
        _ if value.starts_with("..") => reasons.push("must not start with '..'".to_owned()),
        _ => {}
    }
    reasons
}

/// A CSI driver name: a subdomain in upper or lower case.
pub(crate) fn caseless_subdomain(value: &str) -> Reasons {
    dns_subdomain(&value.to_lowercase())
}

/// An IP address in canonical form: no leading zeros, no IPv4 inside IPv6.
pub(crate) fn strict_ip(value: &str) -> Reasons {
    let reasons = ip(value);
    if !reasons.is_empty() {
        return reasons;
    }
    match value.parse::<IpAddr>() {
        Err(_) => vec!["must not have leading 0s".to_owned()],
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            vec!["must not be an IPv4-mapped IPv6 address".to_owned()]
        }
        Ok(_) => Reasons::new(),
    }
}

/// A CIDR in canonical form.
pub(crate) fn strict_cidr(value: &str) -> Reasons {
    let wrong =
        || vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned()];
    let Some((address, length)) = value.split_once('/') else {
        return wrong();
    };
    if !ip(address).is_empty() || length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
        return wrong();
    }
    let (Ok(bits), parsed) = (length.parse::<u32>(), address.parse::<IpAddr>()) else {
        return wrong();
    };
    let zeros = || vec!["must not have leading 0s in IP or prefix length".to_owned()];
    let (host, most) = match parsed {
        Ok(IpAddr::V4(v4)) => (u128::from(u32::from(v4)) << 96, 32),
        Ok(IpAddr::V6(v6)) => (u128::from(v6), 128),
        Err(_) if bits <= 32 => return zeros(),
        Err(_) => return wrong(),
    };
    if bits > most {
        return wrong();
    }
    if length.len() > 1 && length.starts_with('0') {
        return zeros();
    }
    if let Ok(IpAddr::V6(v6)) = parsed
        && v6.to_ipv4_mapped().is_some()
    {
        return vec!["must not have an IPv4-mapped IPv6 address".to_owned()];
    }
    if host.checked_shl(bits).unwrap_or(0) != 0 {
        return vec!["must not have bits set beyond the prefix length".to_owned()];
    }
    Reasons::new()
}

/// Whether a text is an IPv6 address.
pub(crate) fn is_ipv6(value: &str) -> bool {
    value.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6())
}

/// Whether the addresses are of both families.
pub(crate) fn is_dual_stack<'a>(mut addresses: impl Iterator<Item = &'a str> + Clone) -> bool {
    let mut others = addresses.clone();
    addresses.any(is_ipv6) && others.any(|one| !is_ipv6(one))
}

/// An address that other machines can reach.
pub(crate) fn endpoint_ip(value: &str) -> Reasons {
    let Ok(address) = value.parse::<IpAddr>() else {
        return Reasons::new();
    };
    let (link_local, link_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets().starts_with(&[224, 0, 0])),
        IpAddr::V6(v6) => {
            let head = v6.segments().first().copied().unwrap_or_default();
            (head & 0xffc0 == 0xfe80, head & 0xff0f == 0xff02)
        }
    };
    let mut reasons = Reasons::new();
    if address.is_unspecified() {
        reasons.push(format!("may not be unspecified ({value})"));
    }
    for (wrong, reason) in [
        (
            address.is_loopback(),
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            link_local,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ),
        (
            link_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
    ] {
        if wrong {
            reasons.push(reason.to_owned());
        }
    }
    reasons
}

/// An IP address; leading zeros in IPv4 are accepted, as upstream does in old fields.
pub(crate) fn ip(value: &str) -> Reasons {
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
pub(crate) fn descending_path(value: &str) -> Reasons {
    let mut reasons = Reasons::new();
    if value.starts_with('/') {
        reasons.push("must be a relative path".to_owned());
    }
    reasons.extend(no_backsteps(value));
    reasons
}

/// A relative path that does not start with `..`, as the links of atomically written volumes do.
pub(crate) fn unreserved_path(value: &str) -> Reasons {
    let mut reasons = descending_path(value);
    if value.starts_with("..") && !value.starts_with("../") {
        reasons.push("must not start with '..'".to_owned());
    }
    reasons
}

/// A path without `..`.
pub(crate) fn no_backsteps(value: &str) -> Reasons {
    if value.split('/').any(|part| part == "..") {
        vec!["must not contain '..'".to_owned()]
    } else {
        Reasons::new()
    }
}

#[cfg(test)]
mod tests;
