//! Parses query strings and path segments as Go does.
//!
//! In:    the part of a URL after `?`, or a segment of its path
//! Out:   decoded pairs in order
//! Calls: the endpoints with parameters
//! Holds: a pair with an invalid escape or a semicolon is dropped, as upstream does; `+` is a blank only in queries
//! Upstream: Go net/url ParseQuery, PathUnescape

use kubelet_ports::escapes;

/// The pairs of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(raw: &str) -> Self {
        let pairs = raw
            .split('&')
            .filter(|pair| !pair.is_empty() && !pair.contains(';'));
        let decoded = pairs.filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let blank = |text: &str| decode(&text.replace('+', " "));
            Some((blank(key)?, blank(value)?))
        });
        Self(decoded.collect())
    }

    /// The first value of a key.
    pub(crate) fn first(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(found, _)| found == key);
        found.map(|(_, value)| value.as_str())
    }

    /// All values of a key, in order.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(found, _)| found == key)
            .map(|(_, value)| value.as_str())
    }
}

/// Decodes percent escapes; `None` if one is invalid.
pub(crate) fn decode(text: &str) -> Option<String> {
    let bytes = escapes::decoded(text)?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_as_go_reads_them() {
        let query = Query::parse(
            "command=sh&command=-c&command=echo+%22a%26b%22&tty&bad=%z1&x;y=1&e=%C3%A9&&=v",
        );
        let commands: Vec<&str> = query.all("command").collect();
        assert_eq!(commands, ["sh", "-c", "echo \"a&b\""]);
        assert_eq!(
            (query.first("tty"), query.first("e"), query.first("")),
            (Some(""), Some("é"), Some("v"))
        );
        assert_eq!(
            [query.first("bad"), query.first("x;y"), query.first("x")],
            [None; 3]
        );
        assert_eq!(decode("a+b%2F"), Some("a+b/".to_owned()));
        assert_eq!(
            [decode("%"), decode("%4"), decode("%%41")],
            [None, None, None]
        );
    }
}
