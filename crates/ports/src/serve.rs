//! HTTP over one connection.
//!
//! In:    a stream with a known protocol, and the service that handles requests
//! Out:   responses within the port's limits
//! Calls: the listeners, through [`Connection::converse`]
//! Holds: HTTP/2 is used only if TLS negotiated it, never on a plain port; a request whose body was not read ends its HTTP/1
//!        connection; a head has at most 128 KiB over HTTP/2 and 1 MiB over HTTP/1
//! Upstream: net/http Server, secure_serving.go (1.36); differences: smaller windows; heads over HTTP/2 (upstream: 1 MiB)

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::answer::{Patience, Taken};
use crate::connection::Connection;
use crate::received::Received;
use crate::stream::Watched;

const HEAD_BYTES: usize = 1 << 20;
const HTTP2_HEAD_BYTES: u32 = 128 << 10;
/// The receive window of a stream, as upstream's.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// The protocol library's send buffer of one stream.
const SEND_BUFFER: usize = 32 << 10;
/// The limit of streams that the client reset before they were handled, and of streams that were refused.
const PENDING_RESETS: usize = 20;
const OWN_RESETS: usize = 100;
/// The interval and the timeout of PINGs; after both a dead peer is noticed.
const PING: Duration = Duration::from_secs(30);
const PING_ANSWER: Duration = Duration::from_secs(20);
/// Upstream's text for a busy server.
const TOO_MANY: &str = "Too many requests, please try again later.\n";

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 and 1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// What a TLS handshake agreed on.
    pub fn agreed(is_http2: bool) -> Self {
        if is_http2 { Self::Http2 } else { Self::Http1 }
    }
}

impl Connection {
    /// Serves one connection until it ends; after `stop` it accepts no further requests.
    pub async fn converse<S, V, F, B>(
        self: &Arc<Self>,
        (stream, protocol): (S, Protocol),
        stop: &CancellationToken,
        serve: V,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        V: Fn(Request<Received>) -> F + Send + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.speaks(protocol);
        let watched = Watched::new(stream, Arc::clone(self));
        let lingers = Arc::clone(&watched.lingers);
        let connection = Arc::clone(self);
        let service = service_fn(move |request: Request<Incoming>| {
            let (connection, lingers) = (Arc::clone(&connection), Arc::clone(&lingers));
            let running = connection.begin();
            let head = connection.hold_head(size_of_head(&request));
            let is_http1 = request.version() <= Version::HTTP_11;
            let (parts, body) = request.into_parts();
            let (body, is_read) = Received::new(body);
            let answer = head
                .is_some()
                .then(|| serve(Request::from_parts(parts, body)));
            async move {
                let answer = match answer {
                    Some(answer) => connection.taken(answer.await),
                    None => connection.too_many(),
                };
                drop((running, head));
                let is_left = is_http1 && !is_read.load(Ordering::Relaxed);
                Ok::<_, Infallible>(connection.closing(answer, is_left, &lingers))
            }
        });
        let io = TokioIo::new(watched);
        match protocol {
            Protocol::Http1 => {
                let mut builder = http1::Builder::new();
                // The connection has its own timers. Responses are not copied together, so that they stay counted.
                builder
                    .timer(TokioTimer::new())
                    .header_read_timeout(None)
                    .max_buf_size(HEAD_BYTES)
                    .writev(true);
                let talk = builder.serve_connection(io, service).with_upgrades();
                let mut talk = std::pin::pin!(talk);
                let stopped = tokio::select! {
                    // Progress first; the stop only asks it to end.
                    biased;
                    end = talk.as_mut() => return ended(end),
                    () = self.ends(stop) => talk.as_mut(),
                };
                stopped.graceful_shutdown();
                ended(talk.await);
            }
            Protocol::Http2 => {
                // The executor runs only streams, which end with their connection.
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder
                    .timer(TokioTimer::new())
                    .max_header_list_size(HTTP2_HEAD_BYTES)
                    .max_concurrent_streams(self.streams())
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .max_send_buf_size(SEND_BUFFER)
                    .max_pending_accept_reset_streams(PENDING_RESETS)
                    .max_local_error_reset_streams(OWN_RESETS)
                    .keep_alive_interval(PING)
                    .keep_alive_timeout(PING_ANSWER);
                let talk = builder.serve_connection(io, service);
                let mut talk = std::pin::pin!(talk);
                let stopped = tokio::select! {
                    // As above.
                    biased;
                    end = talk.as_mut() => return ended(end),
                    () = self.ends(stop) => talk.as_mut(),
                };
                stopped.graceful_shutdown();
                ended(talk.await);
            }
        }
    }

    /// Waits until the port stops, or until this connection is asked to close.
    async fn ends(&self, stop: &CancellationToken) {
        tokio::select! {
            // Either is enough.
            biased;
            () = stop.cancelled() => {}
            () = self.leaving.cancelled() => {}
        }
    }

    /// The response with its bytes counted, or an error response if there is no room for it.
    fn taken<B: Body>(self: &Arc<Self>, answer: Response<B>) -> Response<Taken<B>> {
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.switched();
        }
        let patience = answer.extensions().get::<Patience>();
        let patience = patience.map_or(crate::STALLED, |patience| patience.0);
        let (parts, body) = answer.into_parts();
        match Taken::new(body, self, patience) {
            Some(body) => Response::from_parts(parts, body),
            None => self.too_many(),
        }
    }

    fn too_many<B: Body>(self: &Arc<Self>) -> Response<Taken<B>> {
        let mut answer = Response::new(Taken::said(TOO_MANY, self));
        *answer.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        let headers = answer.headers_mut();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(CONTENT_TYPE, plain);
        answer
    }

    /// The response to an HTTP/1 request that was not read is the last one of its connection.
    fn closing<B>(
        &self,
        mut answer: Response<B>,
        is_left: bool,
        lingers: &AtomicBool,
    ) -> Response<B> {
        if is_left && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            lingers.store(true, Ordering::Relaxed);
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(CONNECTION, close);
        }
        answer
    }
}

fn ended(end: hyper::Result<()>) {
    if let Err(error) = end {
        tracing::debug!(%error, "connection ended");
    }
}

/// The size as HTTP/2 counts it.
fn size_of_head<B>(request: &Request<B>) -> usize {
    let headers = request.headers().iter();
    let headers: usize = headers
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum();
    let path = request.uri().path_and_query();
    headers + path.map_or(0, |path| path.as_str().len())
}
