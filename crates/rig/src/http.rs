//! A client that costs the machine as little as possible: one connection, blocking, HTTP/1.1, plain or over TLS.
//!
//! In:    a port on the loopback address; for the API server its authority and a token
//! Out:   answers; the lines of a watch as they come
//! Calls: bench (kubelet, for each look at `/pods`; cluster, watcher, api_load), attack
//! Holds: a GET reconnects when the connection was closed; no answer waits longer than a minute, only a watch waits as long as it lives
//! Upstream: none

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Error, bail};
use kubelet_tls::{Believed, authorities, certificates, client_config, pair, private_key};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

const PATIENCE: Duration = Duration::from_secs(60);

/// Who a client is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Credential {
    /// Nobody.
    #[default]
    Nobody,
    /// Whoever holds this bearer token.
    Token(String),
    /// Whom a certificate names; both in PEM.
    Certificate {
        /// The chain, the leaf first.
        chain: String,
        /// Its key.
        key: String,
    },
}

/// How to speak to a server over TLS.
#[derive(Debug, Clone)]
pub struct Secure {
    config: Arc<ClientConfig>,
    token: Option<String>,
}

impl Secure {
    /// With the certificates of a file as authority, and a bearer token.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn new(authority: &Path, token: &str) -> anyhow::Result<Self> {
        let roots = authorities(&std::fs::read(authority)?).map_err(Error::msg)?;
        let config = client_config(Believed::Roots(roots), None, &[]).map_err(Error::msg)?;
        Ok(Self {
            config: Arc::new(config),
            token: Some(token.to_owned()),
        })
    }

    /// As somebody, to a server of this machine whatever it shows: what is looked at is what the server makes of the client.
    ///
    /// # Errors
    /// The certificate cannot be used.
    pub fn client(who: &Credential, protocols: &[&str]) -> anyhow::Result<Self> {
        let shown = match who {
            Credential::Certificate { chain, key } => {
                let chain = certificates(chain.as_bytes()).map_err(Error::msg)?;
                let key = private_key(key.as_bytes()).map_err(Error::msg)?;
                let shown = SingleCertAndKey::from(pair(chain, key)?);
                Some(Arc::new(shown) as Arc<dyn ResolvesClientCert>)
            }
            _ => None,
        };
        let protocols: Vec<&[u8]> = protocols.iter().map(|p| p.as_bytes()).collect();
        let config = client_config(Believed::Anybody, shown, &protocols).map_err(Error::msg)?;
        let token = match who {
            Credential::Token(token) => Some(token.clone()),
            _ => None,
        };
        Ok(Self {
            config: Arc::new(config),
            token,
        })
    }

    /// The header that goes with each request, or nothing.
    pub fn authorization(&self) -> String {
        let token = self.token.as_ref();
        token.map_or_else(String::new, |token| {
            format!("Authorization: Bearer {token}\r\n")
        })
    }
}

/// A connection's two kinds.
#[derive(Debug)]
pub enum Wire {
    /// As it is.
    Plain(TcpStream),
    /// Over TLS; the handshake comes with the first byte.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(buffer),
            Self::Tls(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl Wire {
    /// Connects to a port of this machine; every wait on it is bounded.
    ///
    /// # Errors
    /// Nobody listens, or not in time.
    pub fn open(port: u16, secure: Option<&Secure>, patience: Duration) -> anyhow::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(match secure {
            None => Self::Plain(stream),
            Some(secure) => {
                let name = ServerName::try_from("localhost")?;
                let session = ClientConnection::new(Arc::clone(&secure.config), name)?;
                Self::Tls(Box::new(StreamOwned::new(session, stream)))
            }
        })
    }

    /// The socket under it.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref(),
        }
    }
}

/// What is sent with a request.
#[derive(Debug, Clone, Copy)]
pub struct Body<'a> {
    /// The media type.
    pub kind: &'a str,
    /// What it is.
    pub bytes: &'a [u8],
}

/// A server on this machine.
#[derive(Debug)]
pub struct Http {
    port: u16,
    secure: Option<Secure>,
    headers: String,
    patience: Duration,
    connection: Option<BufReader<Wire>>,
}

impl Http {
    /// Plain.
    pub fn new(port: u16) -> Self {
        Self {
            port,
            secure: None,
            headers: String::new(),
            patience: PATIENCE,
            connection: None,
        }
    }

    /// The same, which waits so long for a connection and for each part of an answer.
    #[must_use]
    pub fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The same with more header lines, each with its end.
    #[must_use]
    pub fn with(mut self, headers: &str) -> Self {
        self.headers.push_str(headers);
        self
    }

    /// Other header lines from the next request on, each with its end.
    pub fn set_headers(&mut self, headers: &str) {
        headers.clone_into(&mut self.headers);
    }

    /// Over TLS.
    pub fn secure(port: u16, secure: Secure) -> Self {
        Self {
            secure: Some(secure),
            ..Self::new(port)
        }
    }

    /// The body of an answer 200.
    ///
    /// # Errors
    /// No answer, or another one.
    pub fn get(&mut self, path: &str) -> anyhow::Result<Vec<u8>> {
        let reused = self.connection.is_some();
        let result = match self.ask("GET", path, None) {
            // The server may have closed a connection that was idle.
            Err(_) if reused => self.ask("GET", path, None),
            result => result,
        };
        let (status, body) = result?;
        if status != 200 {
            bail!("{path}: {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }

    /// Sends a request once: status and body.
    ///
    /// # Errors
    /// No answer.
    pub fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: Option<Body<'_>>,
    ) -> anyhow::Result<(u16, Vec<u8>)> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        self.send(&mut connection, method, path, body)?;
        let head = read_head(&mut connection)?;
        let mut answer = Vec::new();
        if method == "HEAD" {
            return Ok((head.status, answer));
        }
        if head.chunked {
            while let Some(mut chunk) = read_chunk(&mut connection)? {
                answer.append(&mut chunk);
            }
        } else {
            answer.resize(head.length, 0);
            connection.read_exact(&mut answer)?;
        }
        // After an upgrade the connection speaks another protocol.
        if head.status != 101 && !head.close {
            self.connection = Some(connection);
        }
        Ok((head.status, answer))
    }

    /// Asks for a watch on a connection of its own.
    ///
    /// # Errors
    /// It is not granted.
    pub fn watch(&self, path: &str) -> anyhow::Result<Lines> {
        let mut connection = self.connect()?;
        self.send(&mut connection, "GET", path, None)?;
        let head = read_head(&mut connection)?;
        if head.status != 200 || !head.chunked {
            bail!("{path}: {}", head.status);
        }
        connection.get_ref().socket().set_read_timeout(None)?;
        Ok(Lines {
            connection,
            rest: Vec::new(),
        })
    }

    fn connect(&self) -> anyhow::Result<BufReader<Wire>> {
        let wire = Wire::open(self.port, self.secure.as_ref(), self.patience)?;
        Ok(BufReader::new(wire))
    }

    fn send(
        &self,
        connection: &mut BufReader<Wire>,
        method: &str,
        path: &str,
        body: Option<Body<'_>>,
    ) -> anyhow::Result<()> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        if let Some(secure) = &self.secure {
            request.push_str(&secure.authorization());
        }
        request.push_str(&self.headers);
        if let Some(body) = body {
            let (kind, length) = (body.kind, body.bytes.len());
            request.push_str(&format!(
                "Content-Type: {kind}\r\nContent-Length: {length}\r\n"
            ));
        }
        request.push_str("\r\n");
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body.map_or(&[], |body| body.bytes));
        connection.get_mut().write_all(&bytes)?;
        Ok(connection.get_mut().flush()?)
    }
}

/// The lines of a body that does not end.
#[derive(Debug)]
pub struct Lines {
    connection: BufReader<Wire>,
    rest: Vec<u8>,
}

impl Lines {
    /// The next line, without its end; nothing at the end of the body.
    ///
    /// # Errors
    /// The connection was cut.
    pub fn line(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.rest.drain(..=end).collect();
                line.pop();
                return Ok(Some(line));
            }
            match read_chunk(&mut self.connection)? {
                Some(mut chunk) => self.rest.append(&mut chunk),
                None => return Ok(None),
            }
        }
    }

    /// A second hold on the socket, to close it from elsewhere.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn socket(&self) -> io::Result<TcpStream> {
        self.connection.get_ref().socket().try_clone()
    }
}

#[derive(Debug)]
struct Head {
    status: u16,
    length: usize,
    chunked: bool,
    close: bool,
}

fn read_line(connection: &mut BufReader<Wire>) -> anyhow::Result<String> {
    let mut line = String::new();
    if connection.read_line(&mut line)? == 0 {
        bail!("the connection was closed");
    }
    Ok(line.trim_end().to_owned())
}

fn read_head(connection: &mut BufReader<Wire>) -> anyhow::Result<Head> {
    let status = read_line(connection)?;
    let code = status.split(' ').nth(1).unwrap_or_default();
    let mut head = Head {
        status: code.parse().with_context(|| status.clone())?,
        length: 0,
        chunked: false,
        close: false,
    };
    loop {
        let line = read_line(connection)?.to_ascii_lowercase();
        match line.split_once(':') {
            Some(("content-length", value)) => head.length = value.trim().parse()?,
            Some(("transfer-encoding", value)) => head.chunked = value.trim() == "chunked",
            Some(("connection", value)) => head.close = value.trim() == "close",
            Some(_) => {}
            None => return Ok(head),
        }
    }
}

/// The next chunk; nothing at the last one.
fn read_chunk(connection: &mut BufReader<Wire>) -> anyhow::Result<Option<Vec<u8>>> {
    let size = usize::from_str_radix(&read_line(connection)?, 16)?;
    let mut chunk = vec![0; size];
    connection.read_exact(&mut chunk)?;
    read_line(connection)?;
    Ok((size > 0).then_some(chunk))
}
