//! Accepts connections within the limits of a port.
//!
//! In:    a bound socket
//! Out:   one task per connection, ended by its timers
//! Calls: the listeners
//! Holds: connections are tasks of this future, so its end ends them; tasks are polled in turn, so none starves another; a
//!        panic ends only its own connection; the timers run from the accept on, including the TLS handshake
//! Upstream: net/http Server.Serve; differences: a limit on connections

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::book::Book;
use crate::connection::Connection;
use crate::sockets::keep_alive;
use crate::{Bounds, DRAIN};

/// Connections that were told to close and have not run since.
const ENDING: usize = 64;
/// The pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);
const NO_ROOM: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// A listener's accept loop.
#[derive(Debug)]
pub struct Door {
    pub(crate) book: Arc<Book>,
}

/// Counted in the book until dropped.
struct Entered(Arc<Connection>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Door {
    /// With these limits.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            book: Arc::new(Book::new(bounds)),
        }
    }

    /// Accepts until `stop`, then gives running requests 2 s to finish; returns how many were cut off. Cancel: closes
    /// everything.
    pub async fn serve<T, F>(
        &self,
        socket: &TcpListener,
        stop: &CancellationToken,
        talk: T,
    ) -> usize
    where
        T: Fn(TcpStream, Arc<Connection>) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut open = JoinSet::new();
        let most = self.book.bounds.connections + ENDING;
        loop {
            tokio::select! {
                // The stop first, then ended connections, then new ones; dropping a branch loses nothing.
                biased;
                () = stop.cancelled() => break,
                Some(ended) = open.join_next(), if !open.is_empty() => report(ended),
                accepted = socket.accept(), if open.len() < most => match accepted {
                    Ok((stream, peer)) => {
                        let Some(entered) = self.admit(&stream, peer) else {
                            continue;
                        };
                        let talk = talk(stream, Arc::clone(&entered.0));
                        open.spawn(until_over(entered, talk));
                    }
                    Err(error) => {
                        // Most likely out of descriptors: some are freed when connections close.
                        tracing::warn!(%error, "accept failed");
                        self.book.make_room();
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
        let drained = async {
            while let Some(ended) = open.join_next().await {
                report(ended);
            }
        };
        let drained = tokio::time::timeout(DRAIN, drained).await;
        drained.map_or(open.len(), |()| 0)
    }

    fn admit(&self, stream: &TcpStream, peer: SocketAddr) -> Option<Entered> {
        let Some(connection) = self.book.enter(peer) else {
            tracing::debug!(%peer, "connection refused: all connections are busy");
            if self.book.bounds.is_plain {
                // As much as can be written at once.
                drop(stream.try_write(NO_ROOM));
            }
            return None;
        };
        // Without it, a client that vanished silently would be waited for when there is nothing to send.
        if let Err(error) = keep_alive(stream) {
            tracing::debug!(%peer, %error, "no keep-alive");
        }
        // Small responses are sent at once.
        drop(stream.set_nodelay(true));
        Some(Entered(connection))
    }
}

async fn until_over(entered: Entered, talk: impl Future<Output = ()>) {
    let connection = &entered.0;
    let mut talk = std::pin::pin!(talk);
    let idles = tokio::select! {
        // Progress first; the other branch only limits it.
        biased;
        () = talk.as_mut() => return,
        idles = connection.over() => idles,
    };
    if idles {
        // In order, so that a request in transit is not lost silently.
        connection.take_leave();
        tokio::select! {
            // As above.
            biased;
            () = talk => {}
            _ = connection.over() => {}
        }
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection's task panicked");
    }
}
