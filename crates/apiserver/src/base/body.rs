//! The body of an answer, whatever it is made from.
//!
//! In:    bytes, or a stream of them
//! Out:   [`Body`]
//! Calls: `verbs`, `serve`
//! Holds: a body cannot fail: what goes wrong on the way ends it
//! Upstream: none

use std::convert::Infallible;

use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Bytes;

/// A body of an answer.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;
