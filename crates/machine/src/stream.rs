//! One request to the main port over TLS, and its connection afterwards: raw bytes, or WebSocket frames in channels.
//!
//! In:    a kubelet or an API server, method, path, headers
//! Out:   the answer's status and head; what comes, as it comes
//! Calls: tests of exec, attach, port-forward and logs
//! Holds: no read waits longer than 20 s
//! Upstream: apimachinery pkg/util/httpstream/wsstream, in what it sends

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::kubelet::Kubelet;

/// A connection whose request was answered.
#[derive(Debug)]
pub(crate) struct Stream {
    tls: StreamOwned<ClientConnection, TcpStream>,
    pub(crate) status: u16,
    pub(crate) head: String,
    left: Vec<u8>,
}

/// The headers of a WebSocket with this protocol.
pub(crate) fn websocket(protocol: &str) -> String {
    format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {protocol}\r\n"
    )
}

impl Stream {
    /// Sends the head and reads the answer's.
    pub(crate) fn open(kubelet: &Kubelet, method: &str, path: &str, headers: &str) -> Self {
        let port = format!("{}", kubelet.config["port"]);
        Self::open_at(
            &port,
            &kubelet.base.join("pki/kubelet.crt"),
            &[method, path],
            headers,
        )
    }

    /// The same at any port of this machine whose certificate this file's vouch for.
    pub(crate) fn open_at(
        port: &str,
        file: &Path,
        [method, path]: &[&str; 2],
        headers: &str,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(file).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        let limit = Some(Duration::from_secs(20));
        socket.set_read_timeout(limit).unwrap();
        socket.set_write_timeout(limit).unwrap();
        let mut tls = StreamOwned::new(session, socket);
        let request = format!("{method} {path} HTTP/1.1\r\nHost: node\r\n{headers}\r\n");
        tls.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tls.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self {
            tls,
            status,
            head,
            left: Vec::new(),
        }
    }

    /// Exactly so many bytes.
    pub(crate) fn exact(&mut self, count: usize) -> Vec<u8> {
        while self.left.len() < count {
            assert!(
                self.more(),
                "the end, with {} of {count} bytes",
                self.left.len()
            );
        }
        self.left.drain(..count).collect()
    }

    /// Everything up to and with this text.
    pub(crate) fn until(&mut self, wanted: &str) -> String {
        let found = |left: &[u8]| {
            left.windows(wanted.len())
                .position(|part| part == wanted.as_bytes())
        };
        loop {
            if let Some(at) = found(&self.left) {
                return String::from_utf8_lossy(&self.exact(at + wanted.len())).into_owned();
            }
            let more = self.more();
            assert!(
                more,
                "the end before {wanted:?}: {}",
                String::from_utf8_lossy(&self.left)
            );
        }
    }

    /// Whether more came, and not the end.
    fn more(&mut self) -> bool {
        let mut block = [0; 16384];
        let read = self.tls.read(&mut block).unwrap();
        self.left.extend_from_slice(&block[..read]);
        read > 0
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.tls.write_all(bytes).unwrap();
        self.tls.flush().unwrap();
    }

    /// Sends bytes of one channel in one frame. Clients must mask; with zeros that changes nothing.
    pub(crate) fn send(&mut self, channel: u8, bytes: &[u8]) {
        let length = u8::try_from(bytes.len() + 1).unwrap();
        assert!(length < 126, "short frames only");
        let mut frame = vec![0x82, 0x80 | length, 0, 0, 0, 0, channel];
        frame.extend_from_slice(bytes);
        self.send_raw(&frame);
    }

    /// The next frame with data: its channel and bytes; nothing when the other side closes.
    pub(crate) fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            let head = self.exact(2);
            let length = match head[1] & 0x7f {
                126 => usize::from(u16::from_be_bytes(self.exact(2).try_into().unwrap())),
                127 => {
                    usize::try_from(u64::from_be_bytes(self.exact(8).try_into().unwrap())).unwrap()
                }
                short => usize::from(short),
            };
            let mut payload = self.exact(length);
            match head[0] & 0x0f {
                8 => return None,
                // An empty one of each channel comes first.
                1 | 2 if payload.len() > 1 => return Some((payload.remove(0), payload)),
                _ => {}
            }
        }
    }

    /// What comes on each of the channels 0 to 3 until the other side closes.
    pub(crate) fn channels(&mut self) -> [String; 4] {
        let mut all: [Vec<u8>; 4] = Default::default();
        while let Some((channel, bytes)) = self.receive() {
            all[usize::from(channel)].extend(bytes);
        }
        all.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    /// What comes on one channel until this text was among it.
    pub(crate) fn channel_until(&mut self, channel: u8, wanted: &str) -> String {
        let mut text = String::new();
        while !text.contains(wanted) {
            let (from, bytes) = self
                .receive()
                .unwrap_or_else(|| panic!("closed before {wanted:?}: {text:?}"));
            assert_eq!(from, channel, "{}", String::from_utf8_lossy(&bytes));
            text += &String::from_utf8_lossy(&bytes);
        }
        text
    }
}
