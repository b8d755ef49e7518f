//! Counts incoming HTTP/2 frames for the timers and limits of a connection.
//!
//! In:    the bytes that a client sends
//! Out:   the number of frames that request nothing, and the length of the incomplete head
//! Calls: `connection`
//! Holds: credit for frames that request nothing comes from time, from requests and from responses that the client reads;
//!        without credit the connection is closed
//! Upstream: golang.org/x/net/http2 maxQueuedControlFrames; differences: frames are counted as they arrive, not as their
//!           answers queue up

use std::time::Duration;

/// A client's first bytes: `PRI * HTTP/2.0…`.
const PREFACE: usize = 24;
const FRAME_HEAD: usize = 9;
/// The initial credit in frames, as the queue of golang.org/x/net/http2.
const BURST: u64 = 10_000;
/// The credit per second, in frames.
const RATE: u64 = 200;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Parses frame headers in a stream of bytes.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// Bytes of the preface that have arrived.
    passed: usize,
    head: [u8; FRAME_HEAD],
    filled: usize,
    /// Payload bytes that have not arrived.
    skip: usize,
    /// Bytes of an incomplete header block.
    pub(crate) unfinished: usize,
}

/// The frames in a piece of input.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) idle_frames: u64,
    pub(crate) requests: u64,
}

impl Frames {
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Seen {
        let mut seen = Seen::default();
        let preface = (PREFACE - self.passed).min(bytes.len());
        self.passed += preface;
        bytes = bytes.get(preface..).unwrap_or_default();
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let wanted = (FRAME_HEAD - self.filled).min(bytes.len());
            let (head, rest) = bytes.split_at(wanted);
            if let Some(place) = self.head.get_mut(self.filled..self.filled + wanted) {
                place.copy_from_slice(head);
            }
            self.filled += wanted;
            bytes = rest;
            if self.filled == FRAME_HEAD {
                self.filled = 0;
                self.frame(&mut seen);
            }
        }
        seen
    }

    fn frame(&mut self, seen: &mut Seen) {
        let [a, b, c, kind, flags, ..] = self.head;
        self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        match kind {
            DATA if self.skip > 0 || flags & END_STREAM != 0 => {}
            HEADERS | CONTINUATION => {
                seen.requests += u64::from(kind == HEADERS);
                seen.idle_frames += u64::from(kind == CONTINUATION);
                self.unfinished += self.skip;
                if flags & END_HEADERS != 0 {
                    self.unfinished = 0;
                }
            }
            _ => seen.idle_frames += 1,
        }
    }
}

/// The remaining credit for frames that request nothing.
#[derive(Debug)]
pub(crate) struct Credit {
    left: u64,
    at: Duration,
}

impl Default for Credit {
    fn default() -> Self {
        Self {
            left: BURST,
            at: Duration::ZERO,
        }
    }
}

impl Credit {
    pub(crate) fn earn(&mut self, frames: u64) {
        self.left = self.left.saturating_add(frames).min(BURST);
    }

    /// False if there is not enough credit; `now` is the age of the connection.
    pub(crate) fn pay(&mut self, frames: u64, now: Duration) -> bool {
        let millis = u64::try_from(now.saturating_sub(self.at).as_millis()).unwrap_or(u64::MAX);
        let earned = millis.saturating_mul(RATE) / 1000;
        if earned > 0 {
            self.at = now;
            self.earn(earned);
        }
        let enough = self.left >= frames;
        self.left = self.left.saturating_sub(frames);
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; FRAME_HEAD + length];
        bytes[1] = u8::try_from(length >> 8).unwrap();
        bytes[2] = u8::try_from(length & 255).unwrap();
        (bytes[3], bytes[4]) = (kind, flags);
        bytes
    }

    #[test]
    fn frames_are_told_apart_however_their_bytes_are_cut() {
        let mut all = vec![b'P'; PREFACE];
        for part in [
            frame(4, 0, 0),
            frame(HEADERS, END_HEADERS, 300),
            frame(DATA, 0, 5),
            frame(DATA, 0, 0),
            frame(6, 0, 8),
            frame(HEADERS, 0, 40),
            frame(CONTINUATION, 0, 60),
        ] {
            all.extend(part);
        }
        for size in [1, 2, 7, 100, all.len()] {
            let (mut frames, mut sum) = (Frames::default(), Seen::default());
            for part in all.chunks(size) {
                let seen = frames.read(part);
                sum.idle_frames += seen.idle_frames;
                sum.requests += seen.requests;
            }
            let expected = Seen {
                idle_frames: 4,
                requests: 2,
            };
            assert_eq!((sum, frames.unfinished), (expected, 100), "{size}");
        }
    }

    #[test]
    fn credit_is_used_up_and_comes_back_with_time() {
        let mut credit = Credit::default();
        assert!(credit.pay(BURST, Duration::ZERO));
        assert!(!credit.pay(1, Duration::ZERO));
        assert!(credit.pay(RATE, Duration::from_secs(1)));
        assert!(!credit.pay(1, Duration::from_secs(1)));
        credit.earn(3);
        assert!(credit.pay(3, Duration::from_secs(1)));
    }
}
