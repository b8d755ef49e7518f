//! The tag in an image's name, which decides the default pull policy.
//!
//! In:    an image as a manifest names it
//! Out:   whether its tag is `latest`, written or implied
//! Calls: defaults of this directory
//! Holds: a name that is no valid reference has no tag, so it is not pulled always (validation is elsewhere)
//! Upstream: pkg/util/parsers, github.com/distribution/reference (grammar)

/// Whether the image is tagged `latest`, or has neither tag nor digest. False for an invalid name.
pub(super) fn is_latest(image: &str) -> bool {
    parse(image).is_some_and(|parts| match (parts.tag, parts.digest) {
        (Some(tag), _) => tag == "latest",
        (None, digest) => digest.is_none(),
    })
}

struct Reference<'a> {
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

fn parse(image: &str) -> Option<Reference<'_>> {
    let hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if image.len() == 64 && hex(image) {
        return None; // an image's ID, not a name
    }
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    let (domain, path) = match name.split_once('/') {
        Some((head, path))
            if head.contains(['.', ':']) || head == "localhost" || head.to_lowercase() != head =>
        {
            (Some(head), path)
        }
        _ => (None, name),
    };
    let good = name.len() <= 255
        && domain.is_none_or(is_domain)
        && path.split('/').all(is_path_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest);
    good.then_some(Reference { tag, digest })
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let port_good =
        port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let bracketed = host
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'));
    let host_good = match bracketed {
        Some(inner) => inner.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        }),
    };
    port_good && host_good
}

/// Lower-case words joined by one dot, one or two underscores, or any number of dashes.
fn is_path_component(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let edges = component.bytes().next().is_some_and(word)
        && component.bytes().next_back().is_some_and(word);
    edges
        && component
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        let length_good = match algorithm {
            "sha256" => hex.len() == 64,
            "sha384" => hex.len() == 96,
            "sha512" => hex.len() == 128,
            _ => false,
        };
        length_good && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}
