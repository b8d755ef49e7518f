//! The body of a response: complete bytes, or a stream.
//!
//! In:    bytes, or a log that is being read
//! Out:   the body type of all responses
//! Calls: `answer`, `container_logs`, `system_logs`, `listener`
//! Holds: a stream is produced chunk by chunk as the client reads; dropping it ends its production
//! Upstream: none

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream::{Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::Response;
use hyper::body::{Body, Bytes, Frame, SizeHint};

/// A response, complete or with a streamed body.
pub(crate) type Answer = Response<Content>;
/// The body of every response.
pub(crate) type Content = UnsyncBoxBody<Bytes, std::io::Error>;

/// Complete bytes.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Content {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A stream of bytes.
pub(crate) fn coming(
    chunks: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
) -> Content {
    StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))).boxed_unsync()
}

/// A body that holds a value until it was sent or dropped.
pub(crate) struct Held<G> {
    pub(crate) body: Content,
    pub(crate) held: Option<G>,
}

impl<G: Unpin> Body for Held<G> {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) {
            self.held = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
