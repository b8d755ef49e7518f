//! The first frame of an HTTP/2 server (SETTINGS), which says how many streams it allows.
//!
//! In:    the bytes of a new connection
//! Out:   the same; word when the first frame has come
//! Calls: connection
//! Holds: only the HTTP library interprets the frame
//! Upstream: golang.org/x/net/http2 (client); differences: it sends up to 100 requests before it knows

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::io::Io;

const FRAME_HEAD: usize = 9;

/// A connection whose first frame is waited for.
pub(crate) struct Greeted {
    inner: Box<dyn Io>,
    head: [u8; FRAME_HEAD],
    filled: usize,
    /// Of the frame's payload.
    left: usize,
    /// Until it has come.
    tell: Option<oneshot::Sender<()>>,
}

impl Greeted {
    /// And what is told when the first frame has come; its sender goes with the connection.
    pub(crate) fn new(inner: Box<dyn Io>) -> (Self, oneshot::Receiver<()>) {
        let (tell, told) = oneshot::channel();
        let greeted = Self {
            inner,
            head: [0; FRAME_HEAD],
            filled: 0,
            left: 0,
            tell: Some(tell),
        };
        (greeted, told)
    }

    fn came(&mut self, bytes: &[u8]) {
        let count = (FRAME_HEAD - self.filled).min(bytes.len());
        let (head, rest) = bytes.split_at(count);
        if let Some(place) = self.head.get_mut(self.filled..self.filled + count) {
            place.copy_from_slice(head);
        }
        self.filled += count;
        if self.filled < FRAME_HEAD {
            return;
        }
        if count > 0 {
            let [a, b, c, ..] = self.head;
            self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        }
        self.left = self.left.saturating_sub(rest.len());
        if self.left == 0
            && let Some(tell) = self.tell.take()
        {
            // Nobody waits any longer: it came late.
            let _late = tell.send(());
        }
    }
}

impl AsyncRead for Greeted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if self.tell.is_some() {
            let fresh = buf.filled().get(before..).unwrap_or_default();
            self.came(fresh);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Greeted {
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
        Pin::new(&mut self.inner).poll_shutdown(cx)
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn the_first_frame_is_told_of_however_it_is_cut() {
        // Settings with one value, then a ping's head.
        let frames = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 8, 6, 0];
        for cut in 0..frames.len() {
            let (near, mut far) = tokio::io::duplex(64);
            let (mut greeted, mut told) = Greeted::new(Box::new(near));
            let mut read = [0; 64];
            let (first, second) = frames.split_at(cut);
            for part in [first, second] {
                far.write_all(part).await.unwrap();
                let mut left = part.len();
                while left > 0 {
                    left -= greeted.read(&mut read).await.unwrap();
                }
                let is_whole = part.len() == second.len() && part == second || cut >= 15;
                assert_eq!(told.try_recv().is_ok(), is_whole && greeted.tell.is_none());
                if is_whole {
                    break;
                }
            }
            assert!(greeted.tell.is_none(), "cut at {cut}");
        }
    }
}
