//! The URL of a probe: made from the parts of an `httpGet`, and from where a redirect points.
//!
//! In:    scheme, host, port, path as the spec has it; `Location`
//! Out:   [`Url`], whose path and query are valid in a request line
//! Calls: http
//! Holds: a path that is no path is asked for all the same, escaped
//! Upstream: pkg/probe/http/request.go (formatURL); net/url

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::http::Scheme;
use crate::join_host_port;

/// What a path may not show as it is.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');
/// The same of a text that holds no query and no escapes.
const WHOLE: &AsciiSet = &PATH.add(b'?').add(b'%').add(b'#');

/// Where a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) scheme: Scheme,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path and query, valid in a request line but for a path that is empty.
    target: String,
    /// Whether the text of the URL names the port.
    names_port: bool,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}{}",
            self.scheme.as_str(),
            self.authority(),
            self.target
        )
    }
}

/// Whether every `%` begins an escape.
fn is_escaped(text: &str) -> bool {
    let mut parts = text.split('%').skip(1);
    parts.all(|part| {
        let mut digits = part.bytes().take(2);
        let two = (digits.next(), digits.next());
        matches!(two, (Some(a), Some(b)) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
    })
}

/// Path and query of a request line.
fn target_of(path: &str) -> String {
    let without_fragment = path.split('#').next().unwrap_or_default();
    let (path_only, query) = match without_fragment.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (without_fragment, None),
    };
    let is_path = !path.contains(|c: char| c.is_ascii_control()) && is_escaped(path_only);
    let mut target = if is_path {
        let mut target = utf8_percent_encode(path_only, PATH).to_string();
        if let Some(query) = query {
            target.push('?');
            target.extend(utf8_percent_encode(query, PATH));
        }
        target
    } else {
        utf8_percent_encode(path, WHOLE).to_string()
    };
    if !target.is_empty() && !target.starts_with(['/', '?']) {
        target.insert(0, '/');
    }
    target
}

impl Url {
    pub(crate) fn new(scheme: Scheme, host: &str, port: u16, path: &str) -> Self {
        Self {
            scheme,
            host: host.to_owned(),
            port,
            target: target_of(path),
            names_port: true,
        }
    }

    /// Path and query for the request line.
    pub(crate) fn request_target(&self) -> String {
        let slash = if self.target.starts_with('/') {
            ""
        } else {
            "/"
        };
        format!("{slash}{}", self.target)
    }

    /// `Host` of a request.
    pub(crate) fn authority(&self) -> String {
        if self.names_port {
            join_host_port(&self.host, self.port)
        } else if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        }
    }

    /// Where a redirect from here leads, and whether it names no host of its own; `None` for what is no HTTP URL.
    pub(crate) fn join(&self, location: &str) -> Option<(Self, bool)> {
        let rest = if let Some(rest) = location.strip_prefix("http://") {
            (Scheme::Http, rest)
        } else if let Some(rest) = location.strip_prefix("https://") {
            (Scheme::Https, rest)
        } else if let Some(rest) = location.strip_prefix("//") {
            (self.scheme, rest)
        } else {
            return Some((self.relative(location)?, true));
        };
        let (scheme, rest) = rest;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end)?;
        let authority = authority.rsplit('@').next().unwrap_or(authority);
        let (host, port) = split_authority(authority)?;
        Some((
            Self {
                scheme,
                host: host.to_owned(),
                port: port.unwrap_or(scheme.port()),
                target: target_of(path),
                names_port: port.is_some(),
            },
            false,
        ))
    }

    fn relative(&self, location: &str) -> Option<Self> {
        let before_path = location.split(['/', '?', '#']).next().unwrap_or_default();
        if before_path.contains(':') {
            return None;
        }
        let target = if location.starts_with('/') {
            target_of(location)
        } else if location.starts_with('?') {
            let path = self.target.split('?').next().unwrap_or_default();
            target_of(&format!("{path}{location}"))
        } else {
            let path = self.target.split('?').next().unwrap_or_default();
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            target_of(&format!("{folder}/{location}"))
        };
        Some(Self {
            target: without_dots(&target),
            ..self.clone()
        })
    }
}

/// `.` and `..` resolved.
fn without_dots(target: &str) -> String {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        parts.push("");
    }
    let path = format!("/{}", parts.join("/"));
    query.map_or(path.clone(), |query| format!("{path}?{query}"))
}

fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        (host, rest.strip_prefix(':'))
    } else {
        match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    let port = port.filter(|port| !port.is_empty());
    let port = port.map(str::parse).transpose().ok()?;
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_made_fit_for_a_request_line() {
        for (path, target) in [
            ("", "/"),
            ("?a", "/?a"),
            ("/", "/"),
            ("healthz", "/healthz"),
            ("/healthz?verbose=1&x=a b", "/healthz?verbose=1&x=a%20b"),
            ("/a b#part", "/a%20b"),
            // No escape: the whole text is the path.
            ("/%41%zz?x", "/%2541%25zz%3Fx"),
            ("/ä", "/%C3%A4"),
            ("/a\nb", "/a%0Ab"),
        ] {
            let url = Url::new(Scheme::Http, "10.0.0.1", 80, path);
            assert_eq!(url.request_target(), target, "{path:?}");
        }
        let url = Url::new(Scheme::Https, "fd00::1", 8443, "/x");
        assert_eq!(url.to_string(), "https://[fd00::1]:8443/x");
    }

    #[test]
    fn redirects_lead_where_a_browser_would_go() {
        let from = Url::new(Scheme::Http, "10.0.0.1", 8080, "/a/b?q=1");
        for (location, url, is_relative) in [
            ("/x", "http://10.0.0.1:8080/x", true),
            ("c", "http://10.0.0.1:8080/a/c", true),
            ("../c?d", "http://10.0.0.1:8080/c?d", true),
            ("?z", "http://10.0.0.1:8080/a/b?z", true),
            ("//other/x", "http://other/x", false),
            ("https://10.0.0.1/x", "https://10.0.0.1/x", false),
            ("http://10.0.0.1:9090", "http://10.0.0.1:9090", false),
            ("http://[::1]:1/", "http://[::1]:1/", false),
        ] {
            let (to, relative) = from.join(location).unwrap();
            assert_eq!((to.to_string().as_str(), relative), (url, is_relative));
        }
        for location in ["ftp://10.0.0.1/", "mailto:me", "http://", "http://h:x/"] {
            assert_eq!(from.join(location), None, "{location}");
        }
    }
}
