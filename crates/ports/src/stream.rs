//! Observes the bytes of one connection.
//!
//! In:    a stream, plain or TLS
//! Out:   the same stream; its connection counts what is read
//! Calls: `serve`
//! Holds: a response to a request that was not read is not lost by a TCP reset: after the end of the response, the rest of the
//!        request is read and discarded for a second, at most 4 MiB
//! Upstream: net/http server.go closeWriteAndWait (rstAvoidanceDelay)

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::connection::Connection;

/// How long, and how much of, an unread body is discarded, so that the client gets the response instead of a reset. That is
/// more than the largest body that an API server accepts, since a client slightly above the limit sends the whole body before
/// it reads.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 4 << 20;
/// The most bytes per read: buffers of the layers above grow with what they get.
const READ: usize = 8 << 10;

pub(crate) struct Watched<S> {
    inner: S,
    connection: Arc<Connection>,
    /// Set if a request was answered before it was read.
    pub(crate) lingers: Arc<AtomicBool>,
    farewell: Option<Pin<Box<Sleep>>>,
    dropped: usize,
}

impl<S> Watched<S> {
    pub(crate) fn new(inner: S, connection: Arc<Connection>) -> Self {
        Self {
            inner,
            connection,
            lingers: Arc::default(),
            farewell: None,
            dropped: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = if buf.remaining() > READ {
            let mut part = [0; READ];
            let mut part = ReadBuf::new(&mut part);
            let result = Pin::new(&mut self.inner).poll_read(cx, &mut part);
            buf.put_slice(part.filled());
            result
        } else {
            Pin::new(&mut self.inner).poll_read(cx, buf)
        };
        let fresh = buf.filled().get(before..).unwrap_or_default();
        if !fresh.is_empty() && !self.connection.read(fresh) {
            let why = "too many frames that request nothing";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)));
        }
        result
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.farewell.is_none() {
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
            if !this.lingers.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        let end = this
            .farewell
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        if end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut scratch = [0; 4096];
        while this.dropped < LINGER_BYTES {
            let mut buf = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buf));
            let count = buf.filled().len();
            if read.is_err() || count == 0 {
                break;
            }
            this.dropped += count;
        }
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }
}
