//! Percent escapes (`%2F`) in paths and queries.
//!
//! In:    text of a request
//! Out:   the decoded bytes; text with the characters escaped that a path cannot contain
//! Calls: server, apiserver
//! Holds: the caller decides whether a `%` without two digits is an error or stands for itself; Go's `net/url` refuses it
//! Upstream: net/url (unescape, escape)

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Characters that Go does not escape in a path.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// The decoded bytes; `None` if a `%` is not followed by two hexadecimal digits.
pub fn decoded(text: &str) -> Option<Cow<'_, [u8]>> {
    let is_escape = |rest: &str| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let is_right = text.split('%').skip(1).all(is_escape);
    is_right.then(|| percent_decode_str(text).into())
}

/// The same as text, where an invalid `%` stays as it is.
pub fn decoded_leniently(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// A path as Go escapes it.
pub fn encoded_path(path: &str) -> String {
    utf8_percent_encode(path, IN_PATH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_refuses_is_refused_and_what_it_escapes_is_escaped() {
        for (text, bytes) in [
            ("", Some(b"".as_slice())),
            ("a%2Fb%c3%A9", Some("a/b\u{e9}".as_bytes())),
            ("%00%ff", Some(b"\x00\xff")),
            ("%", None),
            ("%4", None),
            ("a%z1", None),
            ("%%41", None),
            ("%4\u{e9}", None),
        ] {
            assert_eq!(decoded(text).as_deref(), bytes, "{text}");
        }
        assert_eq!(decoded_leniently("a%z1%41%"), "a%z1A%");
        let every: String = (0x20..0x7f).map(char::from).collect();
        assert_eq!(
            encoded_path(&every),
            "%20%21%22%23$%25&%27%28%29%2A+,-./0123456789:;%3C=%3E%3F@ABCDEFGHIJKLMNOPQRSTUVWXYZ%5B%5C%5D%5E_%60\
             abcdefghijklmnopqrstuvwxyz%7B%7C%7D~"
        );
        assert_eq!(encoded_path("\u{e9}"), "%C3%A9");
    }
}
