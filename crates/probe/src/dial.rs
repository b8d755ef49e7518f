//! A connection to a container, for one probe.
//!
//! In:    host and port, a timeout
//! Out:   a stream; an error in Go's words
//! Calls: tcp, http, grpc
//! Holds: a connection is closed with `SO_LINGER` of a second, which may block: that happens on a blocking thread
//! Upstream: pkg/probe/dialer_others.go (ProbeDialer); net.Dialer's error texts

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, lookup_host};

use crate::join_host_port;

/// As long as upstream's dialer lingers.
const LINGER: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Debug)]
pub(crate) struct DialError {
    address: String,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Lookup(io::Error),
    Connect(io::Error),
    Timeout,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dial tcp {}: ", self.address)?;
        match &self.why {
            Why::Lookup(error) => write!(f, "lookup: {error}"),
            Why::Connect(error) => write!(f, "connect: {}", errno_text(error)),
            Why::Timeout => f.write_str("i/o timeout"),
        }
    }
}

impl std::error::Error for DialError {}

/// The system's own word for an error, in lower case and without its number.
pub(crate) fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    text.to_lowercase()
}

/// A stream that is closed on a blocking thread.
#[derive(Debug)]
pub(crate) struct ProbeStream(Option<TcpStream>);

impl Drop for ProbeStream {
    fn drop(&mut self) {
        let Some(stream) = self.0.take() else {
            return;
        };
        match (stream.into_std(), tokio::runtime::Handle::try_current()) {
            (Ok(stream), Ok(runtime)) => drop(runtime.spawn_blocking(move || drop(stream))),
            (stream, _) => drop(stream),
        }
    }
}

impl ProbeStream {
    fn inner(self: Pin<&mut Self>) -> io::Result<Pin<&mut TcpStream>> {
        let stream = self.get_mut().0.as_mut();
        stream
            .map(Pin::new)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for ProbeStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.inner()?.poll_read(context, buffer)
    }
}

impl AsyncWrite for ProbeStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_shutdown(context)
    }
}

/// Opens a connection; without a timeout the caller has one. Cancel: safe.
pub(crate) async fn dial(
    host: &str,
    port: u16,
    timeout: Option<Duration>,
) -> Result<ProbeStream, DialError> {
    let address = join_host_port(host, port);
    let connect = async {
        let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            // On a blocking thread, which a dead resolver keeps until the system gives up.
            Err(_) => lookup_host(address.as_str())
                .await
                .map_err(Why::Lookup)?
                .collect(),
        };
        let mut last = None;
        for one in found {
            match connect(one).await {
                Ok(stream) => return Ok(ProbeStream(Some(stream))),
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(
            || Why::Lookup(io::Error::other("no such host")),
            Why::Connect,
        ))
    };
    let connected = match timeout {
        Some(timeout) => {
            let connected = tokio::time::timeout(timeout, connect).await;
            connected.unwrap_or(Err(Why::Timeout))
        }
        None => connect.await,
    };
    connected.map_err(|why| DialError { address, why })
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv6() {
        TcpSocket::new_v6()?
    } else {
        TcpSocket::new_v4()?
    };
    rustix::net::sockopt::set_socket_linger(&socket, Some(LINGER))?;
    socket.connect(address).await
}
