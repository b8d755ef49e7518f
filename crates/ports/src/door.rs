//! Accepts connections within the bounds of a port.
//!
//! In:    a bound socket
//! Out:   a task for each connection, ended at its time
//! Calls: the listeners
//! Holds: connections are tasks of this future, so its end ends them; each has its own turn, so none starves another; a panic in
//!        one ends that one; one clock runs from the accept on, the TLS handshake included
//! Upstream: net/http Server.Serve; differences: a bound on connections

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

/// Connections that are told to end and have not yet had their turn.
const ENDING: usize = 64;
/// After an accept that failed.
const PAUSE: Duration = Duration::from_millis(100);
const NO_ROOM: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// The way into one port.
#[derive(Debug)]
pub struct Door {
    pub(crate) book: Arc<Book>,
}

/// In the book until it is dropped.
struct Entered(Arc<Connection>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Door {
    /// With these bounds.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            book: Arc::new(Book::new(bounds)),
        }
    }

    /// Accepts until `stop`, then lets what runs finish for 2 s; gives how many were cut then. Cancel: closes everything.
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
                // The end first, then those that ended, then new ones; no arm loses anything when it is dropped.
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
                        // Out of descriptors, most likely: they come back when connections end.
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
            tracing::debug!(%peer, "connection refused: all others are busy");
            if self.book.bounds.is_plain {
                // As far as it goes at once.
                drop(stream.try_write(NO_ROOM));
            }
            return None;
        };
        // Without it a client that vanished without a word would be waited for, where nothing is to be sent.
        if let Err(error) = keep_alive(stream) {
            tracing::debug!(%peer, %error, "no keep-alive");
        }
        // Small answers at once.
        drop(stream.set_nodelay(true));
        Some(Entered(connection))
    }
}

async fn until_over(entered: Entered, talk: impl Future<Output = ()>) {
    let connection = &entered.0;
    let mut talk = std::pin::pin!(talk);
    let idles = tokio::select! {
        // Progress first; the other only bounds it.
        biased;
        () = talk.as_mut() => return,
        idles = connection.over() => idles,
    };
    if idles {
        // In order, so that a request which is on its way is not lost without a word.
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
