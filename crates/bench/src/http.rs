//! A client for the read-only port that costs the machine as little as possible: one connection, blocking, HTTP/1.1.
//!
//! In:    a port on the loopback address
//! Out:   bodies
//! Calls: node, for each look at `/pods`
//! Holds: reconnects when the connection was closed; no answer waits longer than five seconds
//! Upstream: none

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail};

/// A server on this machine.
#[derive(Debug)]
pub(crate) struct Http {
    port: u16,
    connection: Option<BufReader<TcpStream>>,
}

impl Http {
    pub(crate) fn new(port: u16) -> Self {
        Self {
            port,
            connection: None,
        }
    }

    /// The body of an answer 200.
    pub(crate) fn get(&mut self, path: &str) -> anyhow::Result<Vec<u8>> {
        let reused = self.connection.is_some();
        match self.attempt(path) {
            // The server may have closed a connection that was idle.
            Err(_) if reused => self.attempt(path),
            result => result,
        }
    }

    fn attempt(&mut self, path: &str) -> anyhow::Result<Vec<u8>> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let stream = TcpStream::connect(("127.0.0.1", self.port))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                BufReader::new(stream)
            }
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        connection.get_mut().write_all(request.as_bytes())?;
        let body = read_answer(&mut connection)?;
        self.connection = Some(connection);
        Ok(body)
    }
}

fn read_line(connection: &mut BufReader<TcpStream>) -> anyhow::Result<String> {
    let mut line = String::new();
    if connection.read_line(&mut line)? == 0 {
        bail!("the connection was closed");
    }
    Ok(line.trim_end().to_owned())
}

fn read_answer(connection: &mut BufReader<TcpStream>) -> anyhow::Result<Vec<u8>> {
    let status = read_line(connection)?;
    let (mut length, mut chunked) = (0, false);
    loop {
        let line = read_line(connection)?.to_ascii_lowercase();
        match line.split_once(':') {
            Some(("content-length", value)) => length = value.trim().parse()?,
            Some(("transfer-encoding", value)) => chunked = value.trim() == "chunked",
            Some(_) => {}
            None => break,
        }
    }
    let mut body = Vec::new();
    if !chunked {
        body.resize(length, 0);
        connection.read_exact(&mut body)?;
    }
    while chunked {
        let size = usize::from_str_radix(&read_line(connection)?, 16)?;
        let begin = body.len();
        body.resize(begin + size, 0);
        connection.read_exact(body.get_mut(begin..).context("a chunk")?)?;
        read_line(connection)?;
        chunked = size > 0;
    }
    if !status.contains(" 200") {
        bail!("{status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(body)
}
