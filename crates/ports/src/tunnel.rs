//! Joins two connections: copies bytes in both directions until one ends, or until both are silent for too long.
//!
//! In:    two streams, the idle timeout
//! Out:   why it ended
//! Calls: `server/upgrade` (client and runtime), `apiserver/verbs/proxy` (client and kubelet)
//! Holds: one buffer per direction; the end of one direction ends both; bytes that are not accepted count as silence
//! Upstream: apimachinery pkg/util/proxy/upgradeaware.go (1.36); differences: the idle timeout

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;

const GOODBYE: Duration = Duration::from_secs(1);
/// The buffer of each direction.
const COPY_BYTES: usize = 32 << 10;
/// "Never", as a duration that no clock overflows with.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Why a copy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client closed its side.
    Client,
    /// The other side closed.
    Server,
    /// No bytes moved for too long.
    Idle,
    /// A connection failed.
    Broken,
}

/// Copies until one side ends, or until no bytes move for `idle`.
pub async fn copy<C, R>(client: C, server: R, idle: Option<Duration>) -> End
where
    C: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + AsyncWrite + Unpin,
{
    let (client_in, client_out) = tokio::io::split(client);
    let (server_in, server_out) = tokio::io::split(server);
    let mut up = Way::new(client_in, server_out);
    let mut down = Way::new(server_in, client_out);
    let idle = idle.unwrap_or(NEVER);
    let mut silence = std::pin::pin!(tokio::time::sleep(idle));
    let end = std::future::poll_fn(|cx| {
        let before = up.bytes.wrapping_add(down.bytes);
        // Output first: what a process said before it ended must arrive.
        let ends = [(down.poll(cx), End::Server), (up.poll(cx), End::Client)];
        for (end, who) in ends {
            match end {
                Poll::Ready(Ok(())) => return Poll::Ready(who),
                Poll::Ready(Err(_)) => return Poll::Ready(End::Broken),
                Poll::Pending => {}
            }
        }
        if up.bytes.wrapping_add(down.bytes) != before {
            silence.as_mut().reset(Instant::now() + idle);
        }
        silence.as_mut().poll(cx).map(|()| End::Idle)
    })
    .await;
    // The regular end of TLS, so that a client can tell it from a broken connection.
    let goodbye = async { down.to.shutdown().await.and(up.to.shutdown().await) };
    if !matches!(tokio::time::timeout(GOODBYE, goodbye).await, Ok(Ok(()))) {
        tracing::debug!("a tunnel's connection was not closed cleanly");
    }
    end
}

/// One direction, with one buffer: what was read is written and flushed before more is read.
struct Way<I, O> {
    from: I,
    to: O,
    buffer: Vec<u8>,
    /// The part of the buffer that is still to be written.
    left: std::ops::Range<usize>,
    flushed: bool,
    bytes: u64,
}

impl<I: AsyncRead + Unpin, O: AsyncWrite + Unpin> Way<I, O> {
    fn new(from: I, to: O) -> Self {
        Self {
            from,
            to,
            buffer: vec![0; COPY_BYTES],
            left: 0..0,
            flushed: true,
            bytes: 0,
        }
    }

    /// Ready when the source has ended and all of it is written.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.left.is_empty() {
                let part = self.buffer.get(self.left.clone()).unwrap_or_default();
                let written = ready!(Pin::new(&mut self.to).poll_write(cx, part))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.left.start += written;
                self.bytes = self.bytes.wrapping_add(written as u64);
                self.flushed = false;
            }
            if !self.flushed {
                ready!(Pin::new(&mut self.to).poll_flush(cx))?;
                self.flushed = true;
            }
            let mut read = ReadBuf::new(&mut self.buffer);
            ready!(Pin::new(&mut self.from).poll_read(cx, &mut read))?;
            let count = read.filled().len();
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
            self.left = 0..count;
        }
    }
}
