//! Limits shared by all listening ports: connections, their memory and their timeouts.
//!
//! In:    a bound socket, the [`Bounds`] of the port, and the service that handles its requests
//! Out:   connections served within the limits ([`Door::serve`], [`Connection::converse`])
//! Calls: the listeners of `server` and `apiserver`; [`tunnel`] also their proxies
//! Holds: at the limit, the oldest connection without a running request is closed; only requests count as activity, frames do
//!        not; every byte that waits for a client that does not read is counted and limited, per connection and per port
//! Upstream: net/http and golang.org/x/net/http2 (servers); differences: limits on connections and on waiting bytes

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

/// The timeout for a request's head, from the accept or from the first byte of a later head; includes the TLS handshake.
pub const HEAD: Duration = Duration::from_secs(30);
/// The timeout without a request.
pub const IDLE: Duration = Duration::from_secs(90);
/// The timeout for a client that reads nothing of its response.
pub const STALLED: Duration = Duration::from_secs(60);
/// The same for logs, whose reader may be a pager: upstream's write timeout.
pub const PAGER: Duration = Duration::from_secs(4 * 3600);
/// The time at the end to send the responses of finished requests.
pub const DRAIN: Duration = Duration::from_secs(2);

/// The limits of one port.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections.
    pub connections: usize,
    /// Concurrent requests per connection, over HTTP/2.
    pub streams: u32,
    /// Bytes of responses that wait for their clients.
    pub answers: usize,
    /// Bytes of incomplete heads, and the same again for heads of running requests.
    pub heads: usize,
    /// Whether the port has no TLS: a connection without a place then gets an error response.
    pub is_plain: bool,
}

impl Bounds {
    /// The limits for this number of connections.
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
