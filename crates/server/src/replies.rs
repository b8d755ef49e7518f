//! Complete responses: text, errors, bytes of a media type.
//!
//! In:    a status and a text
//! Out:   a response
//! Calls: every file that makes responses
//! Holds: the headers are those of Go's `net/http`
//! Upstream: net/http (Error)

use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};

use crate::body::{Answer, full};

/// A complete body of a media type.
pub(crate) fn bytes(content: Bytes, media_type: &'static str) -> Answer {
    let mut answer = Response::new(full(content));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}

/// Text as after Go's `fmt.Fprint`: UTF-8.
pub(crate) fn plain(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(full(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}

/// Text as Go's `http.Error` writes it: with a newline and `nosniff`.
pub(crate) fn error(status: StatusCode, text: &str) -> Answer {
    let mut answer = plain(status, format!("{text}\n"));
    answer
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
