//! What every listening port shares: who is let in, what a connection may hold, when it ends.
//!
//! In:    a bound socket, the [`Bounds`] of the port, and what answers its requests
//! Out:   connections served within the bounds ([`Door::serve`], [`Connection::converse`])
//! Calls: the listeners of `server` and `apiserver`; [`tunnel`] also their proxies
//! Holds: at the limit the oldest connection without a running request makes room; activity is requests, not frames; every byte
//!        that waits for a client that does not read is counted, per connection and per port, and bounded
//! Upstream: net/http and golang.org/x/net/http2 (servers); differences: bounds on connections and on bytes that wait

mod answer;
mod book;
mod connection;
mod door;
pub mod escapes;
mod frames;
mod received;
mod serve;
mod sockets;
mod stream;
pub mod tunnel;

#[cfg(test)]
mod tests;

pub use answer::{Patience, Taken};
pub use book::source_of;
pub use connection::{Connection, Running};
pub use door::Door;
pub use received::{Received, Refusal, Uploads};
pub use serve::Protocol;

use std::time::Duration;

/// From the accept, or from the first byte of a later head, to the end of the head; the TLS handshake is in it.
pub const HEAD: Duration = Duration::from_secs(30);
/// Without a request.
pub const IDLE: Duration = Duration::from_secs(90);
/// A client that takes nothing of its answer.
pub const STALLED: Duration = Duration::from_secs(60);
/// A client that takes nothing of a log, as one behind a pager: upstream's write timeout.
pub const PAGER: Duration = Duration::from_secs(4 * 3600);
/// What finished requests may take at the end to get their answers out.
pub const DRAIN: Duration = Duration::from_secs(2);

/// What one port may hold at a time.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections.
    pub connections: usize,
    /// Requests on one connection, over HTTP/2.
    pub streams: u32,
    /// Bytes of answers that wait for their clients.
    pub answers: usize,
    /// Bytes of unfinished heads, and again as many of those of running requests.
    pub heads: usize,
    /// No TLS: a connection that finds no room is told so.
    pub is_plain: bool,
}

impl Bounds {
    /// For this many connections.
    pub const fn new(connections: usize) -> Self {
        Self {
            connections,
            streams: 100,
            answers: 16 << 20,
            heads: 4 << 20,
            is_plain: false,
        }
    }
}
