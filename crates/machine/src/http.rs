//! GET over HTTP/1.1 on one connection that is kept: `/pods` is asked every few milliseconds.
//!
//! In:    a port of 127.0.0.1, a path
//! Out:   status and body; an error when nobody answers
//! Calls: kubelet, tests
//! Holds: no answer takes longer than 5 s
//! Upstream: none

use std::io::{BufRead as _, BufReader, Error, Read as _, Result, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// A client of one port. A connection that the other side closed is made again.
#[derive(Debug)]
pub(crate) struct Http {
    address: String,
    connection: Option<BufReader<TcpStream>>,
}

impl Http {
    pub(crate) fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            connection: None,
        }
    }

    /// Status and body.
    pub(crate) fn get(&mut self, path: &str) -> Result<(u16, Vec<u8>)> {
        if let Some(mut kept) = self.connection.take()
            && let Ok(answer) = ask(&mut kept, path)
        {
            return Ok(self.keep(kept, answer));
        }
        let address = self.address.parse().map_err(Error::other)?;
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.set_nodelay(true)?;
        let mut fresh = BufReader::new(stream);
        let answer = ask(&mut fresh, path)?;
        Ok(self.keep(fresh, answer))
    }

    fn keep(
        &mut self,
        connection: BufReader<TcpStream>,
        (status, body, close): (u16, Vec<u8>, bool),
    ) -> (u16, Vec<u8>) {
        self.connection = (!close).then_some(connection);
        (status, body)
    }

    /// The body of a 200 as text.
    pub(crate) fn text(&mut self, path: &str) -> Result<String> {
        let (status, body) = self.get(path)?;
        let body = String::from_utf8_lossy(&body).into_owned();
        if status == 200 {
            Ok(body)
        } else {
            Err(Error::other(format!("{path}: {status} {body}")))
        }
    }
}

fn ask(connection: &mut BufReader<TcpStream>, path: &str) -> Result<(u16, Vec<u8>, bool)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n");
    connection.get_mut().write_all(request.as_bytes())?;
    let first = line(connection)?;
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| Error::other(format!("no status in {first:?}")))?;
    let (mut length, mut chunked, mut close) = (None, false, first.starts_with("HTTP/1.0"));
    loop {
        let header = line(connection)?.to_ascii_lowercase();
        match header.split_once(": ") {
            Some(("content-length", n)) => length = n.parse::<usize>().ok(),
            Some(("transfer-encoding", "chunked")) => chunked = true,
            Some(("connection", "close")) => close = true,
            _ if header.is_empty() => break,
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            let size = usize::from_str_radix(&line(connection)?, 16).map_err(Error::other)?;
            let at = body.len();
            body.resize(at + size, 0);
            connection.read_exact(&mut body[at..])?;
            line(connection)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = length {
        body.resize(length, 0);
        connection.read_exact(&mut body)?;
    } else {
        close = true;
        connection.read_to_end(&mut body)?;
    }
    Ok((status, body, close))
}

fn line(connection: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    if connection.read_line(&mut line)? == 0 {
        return Err(Error::other("the connection was closed"));
    }
    Ok(line.trim_end().to_owned())
}
