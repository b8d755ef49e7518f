//! The body of a response.
//!
//! In:    bytes, or a stream of them
//! Out:   [`Body`]
//! Calls: `verbs`, `serve`
//! Holds: a body has no error type: a failure while it is sent ends it
//! Upstream: none

use std::convert::Infallible;

use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Bytes;

/// The body of a response.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;
