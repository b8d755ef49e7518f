//! The body of a response on its way to a client: sent in pieces, which are counted until they are sent.
//!
//! In:    a body, complete or streamed
//! Out:   the same bytes in pieces of at most 16 KiB
//! Calls: `serve` wraps every response; hyper reads the pieces
//! Holds: a piece is counted until its last byte is dropped, sent or not; more is produced only while there is room
//! Upstream: none

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};

use crate::connection::{Charge, Connection, Running};

const PIECE: usize = 16 << 10;
/// A shorter rest is not copied to free the memory of the whole body.
const REST: usize = 64 << 10;

/// How long the server waits for the client to read, as an extension of the response; the default is [`crate::STALLED`].
#[derive(Clone, Copy, Debug)]
pub struct Patience(pub Duration);

/// A response body that is being sent.
#[derive(Debug)]
pub struct Taken<B> {
    /// `None`: everything is in `left`.
    body: Option<B>,
    left: Bytes,
    charge: Option<Arc<Charge>>,
    /// The bytes that are counted for it.
    charged: usize,
    is_whole: bool,
    /// Everything was passed to hyper.
    is_finished: bool,
    connection: Arc<Connection>,
    key: u64,
    /// Its place in the port's queue for room.
    ticket: Option<u64>,
    patience: Duration,
    /// Held while the client waits for the server.
    running: Option<Running>,
}

/// Bytes that report when they are dropped.
struct Piece {
    bytes: Bytes,
    charge: Arc<Charge>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.charge.taken(self.bytes.len());
    }
}

impl<B: Body> Taken<B> {
    /// `None` if there is no room for a response of that size.
    pub(crate) fn new(body: B, connection: &Arc<Connection>, patience: Duration) -> Option<Self> {
        let size = body.size_hint().exact();
        let size = size.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let charge = match size {
            Some(bytes) => Some(Arc::new(connection.take_whole(bytes)?)),
            None => None,
        };
        Some(Self {
            is_finished: body.is_end_stream(),
            body: Some(body),
            left: Bytes::new(),
            charge,
            charged: size.unwrap_or(0),
            is_whole: size.is_some(),
            connection: Arc::clone(connection),
            key: connection.answer(patience),
            ticket: None,
            patience,
            running: None,
        })
    }

    /// A short text.
    pub(crate) fn said(text: &'static str, connection: &Arc<Connection>) -> Self {
        Self {
            body: None,
            left: Bytes::from_static(text.as_bytes()),
            charge: connection.take_whole(text.len()).map(Arc::new),
            charged: text.len(),
            is_whole: true,
            is_finished: false,
            connection: Arc::clone(connection),
            key: connection.answer(crate::STALLED),
            ticket: None,
            patience: crate::STALLED,
            running: None,
        }
    }

    /// Once half is sent, the rest is copied to memory of its own, so that the memory of the whole body can be freed with its
    /// last piece.
    fn shrink(&mut self) {
        let to_come = match &self.body {
            Some(body) if self.is_whole => body.size_hint().upper().unwrap_or(0),
            _ => 0,
        };
        let rest = usize::try_from(to_come).unwrap_or(usize::MAX);
        let rest = rest.saturating_add(self.left.len());
        if rest >= REST && rest <= self.charged / 2 {
            self.left = Bytes::copy_from_slice(&self.left);
            self.charge = Some(Arc::new(self.connection.take_rest(rest, self.is_whole)));
            self.charged = rest;
        }
    }

    fn hand_out(&mut self) -> Option<Frame<Bytes>> {
        let charge = Arc::clone(self.charge.as_ref()?);
        let bytes = self.left.split_to(self.left.len().min(PIECE));
        if self.left.is_empty() && !self.is_whole {
            self.charge = None;
        } else {
            self.shrink();
        }
        self.connection
            .wait_for_client(self.key, Some(self.patience));
        Some(Frame::data(Bytes::from_owner(Piece { bytes, charge })))
    }
}

impl<B> Drop for Taken<B> {
    fn drop(&mut self) {
        self.connection.leave_line(&mut self.ticket);
        self.connection.answered(self.key, self.is_finished);
    }
}

impl<B> Body for Taken<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        loop {
            if !this.left.is_empty() {
                let frame = this.hand_out();
                this.is_finished = this.is_end_stream();
                return Poll::Ready(frame.map(Ok));
            }
            if !this.is_whole && !this.connection.has_room(&mut this.ticket, cx) {
                return Poll::Pending;
            }
            let Some(body) = &mut this.body else {
                this.is_finished = true;
                return Poll::Ready(None);
            };
            let polled = Pin::new(body).poll_frame(cx);
            if polled.is_pending() {
                if this.running.is_none() {
                    this.running = Some(this.connection.begin());
                    this.connection.wait_for_client(this.key, None);
                }
                return Poll::Pending;
            }
            if this.running.take().is_some() {
                this.connection
                    .wait_for_client(this.key, Some(this.patience));
            }
            match polled {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => {
                        if !this.is_whole {
                            this.charged = bytes.len();
                            this.charge = Some(Arc::new(this.connection.take_part(bytes.len())));
                        }
                        this.left = bytes;
                    }
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                other => {
                    this.is_finished = true;
                    return other;
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self
            .body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let left = self.left.len() as u64;
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(left));
        }
        hint.set_lower(rest.lower().saturating_add(left));
        hint
    }
}
