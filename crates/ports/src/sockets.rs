//! TCP keep-alive, for peers that vanished silently.
//!
//! In:    a connected TCP socket
//! Out:   the kernel probes a silent peer, and closes the connection if it does not answer
//! Calls: `door`
//! Holds: a dead peer is noticed within two and a half minutes
//! Upstream: Go net.KeepAliveConfig (its defaults)

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;

/// Turns keep-alive on: the first probe after 15 s of silence, then every 15 s, nine times.
///
/// # Errors
/// The system call failed.
pub(crate) fn keep_alive(socket: &impl AsFd) -> io::Result<()> {
    const PAUSE: Duration = Duration::from_secs(15);
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, PAUSE)?;
    sockopt::set_tcp_keepintvl(socket, PAUSE)?;
    sockopt::set_tcp_keepcnt(socket, 9)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_alive_is_as_gos() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        keep_alive(&stream).unwrap();
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(
            sockopt::tcp_keepidle(&stream).unwrap(),
            Duration::from_secs(15)
        );
        assert_eq!(sockopt::tcp_keepcnt(&stream).unwrap(), 9);
        assert!(keep_alive(&std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
