//! A port under floods: real sockets, HTTP/2 frames written by hand.
//!
//! In:    silent connections, incomplete heads, frames that request nothing, responses that nobody reads
//! Out:   how long a health check takes meanwhile, and how much memory the process uses
//! Upstream: none

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::{Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;

/// The memory that a flood may cost.
const BOUND: usize = 64 << 20;
/// The time that a health check may take.
const HEALTHY: Duration = Duration::from_millis(100);
const MEGABYTE: usize = 1 << 20;

type Content = UnsyncBoxBody<Bytes, io::Error>;

fn full(bytes: impl Into<Bytes>) -> Content {
    let body = Full::new(bytes.into());
    body.map_err(|never| match never {}).boxed_unsync()
}

/// Bytes produced for streamed responses.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// Frames of [`LARGE`] bytes that were produced.
static LARGE_MADE: AtomicUsize = AtomicUsize::new(0);
const LARGE: usize = 3 * MEGABYTE;

/// Requests that are never answered.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

async fn answer(request: Request<Received>) -> Response<Content> {
    match request.uri().path() {
        "/whole" => Response::new(full(vec![b'x'; MEGABYTE])),
        "/coming" => {
            let parts = stream::repeat_with(|| {
                MADE.fetch_add(64 << 10, Ordering::Relaxed);
                Ok(Frame::data(Bytes::from(vec![b'x'; 64 << 10])))
            });
            Response::new(StreamBody::new(parts).boxed_unsync())
        }
        "/large" => {
            let parts = stream::repeat_with(|| {
                LARGE_MADE.fetch_add(1, Ordering::Relaxed);
                Ok(Frame::data(Bytes::from(vec![b'x'; LARGE])))
            });
            Response::new(StreamBody::new(parts).boxed_unsync())
        }
        "/slow" => {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Response::new(full("late"))
        }
        "/never" => {
            RUNNING.fetch_add(1, Ordering::Relaxed);
            std::future::pending().await
        }
        _ => Response::new(full("ok")),
    }
}

/// A port that serves while the test runs.
async fn with<T>(
    bounds: Bounds,
    protocol: Protocol,
    talk: impl AsyncFnOnce(SocketAddr, &Door) -> T,
) -> T {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, stop) = (socket.local_addr().unwrap(), CancellationToken::new());
    let door = Door::new(bounds);
    let serve = |stream, connection: std::sync::Arc<Connection>| {
        let stop = stop.clone();
        async move {
            connection.converse((stream, protocol), &stop, answer).await;
        }
    };
    tokio::select! {
        left = door.serve(&socket, &stop, serve) => panic!("ended, {left} left"),
        result = talk(at, &door) => result,
    }
}

fn plain(connections: usize) -> Bounds {
    Bounds {
        is_plain: true,
        ..Bounds::new(connections)
    }
}

/// Resident bytes of this process.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// A health check over HTTP/1, on a new connection.
async fn check(at: SocketAddr) -> Duration {
    let begin = Instant::now();
    let mut stream = TcpStream::connect(at).await.unwrap();
    let head = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let is_ok = text.starts_with("HTTP/1.1 200") && text.ends_with("ok");
    assert!(is_ok, "{text}");
    begin.elapsed()
}

/// The slowest of 20 checks, in the best of several rounds, since other processes may load the machine.
async fn slowest(check: impl AsyncFn() -> Duration) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            slowest = slowest.max(check().await);
        }
        best = best.min(slowest);
        if best < HEALTHY {
            break;
        }
    }
    best
}

fn shown(what: &str, slowest: Duration, held: usize) {
    println!(
        "{what}: a health check took {slowest:?} at the most, memory grew by {} KiB",
        held >> 10
    );
    assert!(
        slowest < HEALTHY && held < BOUND,
        "{what}: {slowest:?}, {held} bytes"
    );
}

#[tokio::test]
async fn silent_connections_do_not_shut_a_port() {
    with(plain(64), Protocol::Http1, async |at, door| {
        let before = resident();
        let mut silent = Vec::new();
        for _ in 0..200 {
            silent.push(TcpStream::connect(at).await.unwrap());
        }
        shown(
            "silence",
            slowest(async || check(at).await).await,
            resident().saturating_sub(before),
        );
        let (open, ..) = door.book.held();
        assert!(
            open <= 48,
            "one source has three quarters at the most: {open}"
        );
    })
    .await;
}

#[tokio::test]
async fn half_heads_are_bounded_in_bytes() {
    with(plain(512), Protocol::Http1, async |at, door| {
        let before = resident();
        let half = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(1000 << 10));
        let send = async |_: usize| {
            let mut stream = TcpStream::connect(at).await.unwrap();
            // It may be closed for another connection.
            drop(stream.write_all(half.as_bytes()).await);
            stream
        };
        let _held = join_all((0..200).map(send)).await;
        shown(
            "half heads",
            slowest(async || check(at).await).await,
            resident().saturating_sub(before),
        );
        let (.., heads) = door.book.held();
        assert!(heads <= door.book.bounds.heads, "{heads}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_clock_runs_from_the_accept_to_the_end_of_the_head() {
    with(plain(64), Protocol::Http1, async |at, _| {
        let begin = Instant::now();
        let mut stream = TcpStream::connect(at).await.unwrap();
        // A byte every 7 s does not keep a connection alive.
        let head = b"GET /healthz HTTP/1.1\r\nHost: a\r\n";
        for byte in head {
            let written = stream.write_all(&[*byte]).await;
            let mut answer = [0; 1];
            tokio::select! {
                end = stream.read(&mut answer) => {
                    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
                    break;
                }
                () = tokio::time::sleep(Duration::from_secs(7)) => written.unwrap(),
            }
        }
        let took = begin.elapsed().as_secs();
        assert!((30..=31).contains(&took), "{took}");
    })
    .await;
}

#[tokio::test]
async fn who_finds_all_others_busy_is_refused_at_once() {
    with(plain(4), Protocol::Http1, async |at, _| {
        let ask = async |path: &str| {
            let mut stream = TcpStream::connect(at).await.unwrap();
            let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            stream
        };
        let mut busy = Vec::new();
        for count in 1..=3 {
            busy.push(ask("/never").await);
            while RUNNING.load(Ordering::Relaxed) < count {
                tokio::task::yield_now().await;
            }
        }
        let mut late = TcpStream::connect(at).await.unwrap();
        let mut text = String::new();
        late.read_to_string(&mut text).await.unwrap();
        let is_refused = text.starts_with("HTTP/1.1 503 ") && text.contains("Retry-After: 1");
        assert!(is_refused, "{text}");
        busy.pop();
        // The place is free again once the server has seen the end.
        loop {
            let mut stream = TcpStream::connect(at).await.unwrap();
            drop(stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await);
            let mut text = String::new();
            drop(stream.read_to_string(&mut text).await);
            if text.contains("200 OK") {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_before_the_body_is_the_last_one_and_arrives() {
    with(plain(4), Protocol::Http1, async |at, _| {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; 200 << 10]).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        assert!(text.contains("connection: close\r\n"), "{text}");
        // A connection whose request had an empty body, or none, stays open.
        let mut stream = TcpStream::connect(at).await.unwrap();
        for head in [
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = vec![0; 1000];
            let count = stream.read(&mut answer).await.unwrap();
            let text = String::from_utf8_lossy(&answer[..count]).into_owned();
            assert!(
                text.starts_with("HTTP/1.1 200") && !text.contains("close"),
                "{text}"
            );
        }
    })
    .await;
}

/// A client that writes its own frames.
struct Raw(TcpStream);

impl Raw {
    /// With this initial window for streams.
    async fn connect(at: SocketAddr, window: u32) -> Self {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let mut setting = vec![0, 4];
        setting.extend(window.to_be_bytes());
        bytes.extend(Self::frame(4, 0, 0, &setting));
        // The connection's window has the largest size.
        bytes.extend(Self::frame(8, 0, 0, &0x7fff_0000_u32.to_be_bytes()));
        stream.write_all(&bytes).await.unwrap();
        Self(stream)
    }

    fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend(id.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// As [`Self::get`], with a header of 15,000 bytes.
    fn get_long(id: u32, path: &str) -> Vec<u8> {
        let mut bytes = Self::get(id, path);
        let mut block = bytes.split_off(9);
        // Literal, never indexed: name and length (127, then seven bits at a time).
        block.extend([0x10, 1, b'x', 0x7f, 0x99, 0x74]);
        block.extend([b'x'; 127 + 0x19 + (0x74 << 7)]);
        Self::frame(1, 5, id, &block)
    }

    /// `GET https://a<path>`, without Huffman and without the table.
    fn get(id: u32, path: &str) -> Vec<u8> {
        // Indexed: method GET, scheme https; literal: authority (1), path (4).
        let mut block = vec![0x82, 0x87, 0x01, 1, b'a', 0x04];
        block.push(u8::try_from(path.len()).unwrap());
        block.extend(path.as_bytes());
        Self::frame(1, 5, id, &block)
    }

    /// Sends this request on so many streams.
    async fn ask(&mut self, path: &str, streams: u32) {
        for n in 0..streams {
            // The connection may be closed meanwhile.
            drop(self.0.write_all(&Self::get(2 * n + 1, path)).await);
        }
    }

    /// Sends PINGs until the server closes the connection, or for so long; returns how many.
    async fn ping(&mut self, pause: Duration, time: Duration) -> usize {
        let mut ping = Self::frame(6, 0, 0, &[7; 8]);
        // The answer to the server's own PING, whether it came or not; the payload is the library's.
        let own = [0x3b, 0x7c, 0xdb, 0x7a, 0x0b, 0x87, 0x16, 0xb4];
        ping.extend(Self::frame(6, 1, 0, &own));
        let end = Instant::now() + time;
        let (mut count, mut scratch) = (0, vec![0; 64 << 10]);
        while Instant::now() < end {
            if self.0.write_all(&ping).await.is_err() {
                break;
            }
            count += 1;
            tokio::time::sleep(pause).await;
            loop {
                match self.0.try_read(&mut scratch) {
                    Ok(1..) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    _ => return count,
                }
            }
        }
        count
    }

    /// How long it takes until the server answers on stream 1.
    async fn health(at: SocketAddr) -> Duration {
        let begin = Instant::now();
        let mut raw = Self::connect(at, 65_535).await;
        raw.ask("/healthz", 1).await;
        let mut all = Vec::new();
        while !all.ends_with(b"ok") {
            let count = raw.0.read_buf(&mut all).await.unwrap();
            assert!(count > 0, "the health check was cut");
        }
        begin.elapsed()
    }
}

#[tokio::test]
async fn answers_that_nobody_takes_are_bounded_in_bytes() {
    for path in ["/whole", "/coming"] {
        with(Bounds::new(64), Protocol::Http2, async |at, door| {
            let before = resident();
            let mut held = Vec::new();
            for _ in 0..8 {
                let mut raw = Raw::connect(at, 0).await;
                raw.ask(path, 100).await;
                held.push(raw);
            }
            let pause = Duration::from_millis(5);
            let time = Duration::from_millis(500);
            let pings = join_all(held.iter_mut().map(|raw| raw.ping(pause, time)));
            let (_, slowest) = tokio::join!(pings, slowest(async || Raw::health(at).await));
            shown(path, slowest, resident().saturating_sub(before));
            let (_, answers, _) = door.book.held();
            assert!(answers <= door.book.bounds.answers, "{answers}");
        })
        .await;
    }
    // Each stream produced at most one part.
    assert!(MADE.load(Ordering::Relaxed) < BOUND);
}

#[tokio::test]
async fn parts_larger_than_the_room_that_is_left_are_counted() {
    let bounds = Bounds {
        answers: 8 * MEGABYTE,
        ..Bounds::new(64)
    };
    with(bounds, Protocol::Http2, async |at, door| {
        let before = resident();
        let mut held = Vec::new();
        for _ in 0..3 {
            // One byte each, so that every stream polls its body for the first frame.
            let mut raw = Raw::connect(at, 1).await;
            raw.ask("/large", 20).await;
            held.push(raw);
        }
        let (pause, time) = (Duration::from_millis(5), Duration::from_millis(300));
        join_all(held.iter_mut().map(|raw| raw.ping(pause, time))).await;
        let (_, answers, _) = door.book.held();
        let made = LARGE_MADE.load(Ordering::Relaxed);
        assert!((1..=4).contains(&made), "{made} frames were made");
        assert_eq!(answers, made * LARGE, "each frame that is held is counted");
        let slowest = slowest(async || Raw::health(at).await).await;
        shown("large parts", slowest, resident().saturating_sub(before));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_asks_anew_and_takes_nothing_does_not_keep_a_place() {
    // Six places for one source.
    with(Bounds::new(8), Protocol::Http2, async |at, _| {
        let mut held = Vec::new();
        for _ in 0..5 {
            let mut raw = Raw::connect(at, 0).await;
            raw.ask("/healthz", 1).await;
            held.push(raw);
        }
        let mut reader = Raw::connect(at, 65_535).await;
        reader.ask("/coming", 1).await;
        let mut scratch = vec![0; 64 << 10];
        for round in 0..5 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let count = reader.0.read(&mut scratch).await;
            assert!(
                count.is_ok_and(|count| count > 0),
                "who reads keeps its place"
            );
            let more = Raw::frame(8, 0, 1, &(64_u32 << 10).to_be_bytes());
            reader.0.write_all(&more).await.unwrap();
            tokio::time::sleep(Duration::from_secs(2)).await;
            for raw in &mut held {
                // Each round cancels its last request as soon as a newer one is sent.
                let mut bytes = Raw::get(2 * round + 3, "/healthz");
                bytes.extend(Raw::frame(3, 0, 2 * round + 1, &8_u32.to_be_bytes()));
                drop(raw.0.write_all(&bytes).await);
            }
            Raw::health(at).await;
            // One more of them takes the place of the health check.
            let mut raw = Raw::connect(at, 0).await;
            raw.ask("/healthz", round + 2).await;
            held.push(raw);
        }
    })
    .await;
}

#[tokio::test]
async fn short_answers_that_nobody_takes_have_a_price_and_a_bound() {
    let bounds = Bounds {
        answers: 4 * MEGABYTE,
        ..Bounds::new(64)
    };
    with(bounds, Protocol::Http2, async |at, door| {
        let mut raw = Raw::connect(at, 0).await;
        raw.ask("/healthz", 20).await;
        let (pause, time) = (Duration::from_millis(5), Duration::from_millis(100));
        raw.ping(pause, time).await;
        let (_, answers, _) = door.book.held();
        assert!(answers >= 20 * 4096, "{answers}");
        let mut held = vec![raw];
        for path in ["/whole", "/healthz"] {
            for _ in 0..20 {
                let mut raw = Raw::connect(at, 0).await;
                raw.ask(path, 100).await;
                raw.ping(pause, pause).await;
                held.push(raw);
                let (_, answers, _) = door.book.held();
                assert!(answers <= door.book.bounds.answers, "{answers}");
            }
            // A short response still finds room.
            Raw::health(at).await;
        }
    })
    .await;
}

impl Raw {
    /// Allows so many more bytes on a stream.
    async fn allow(&mut self, id: u32, bytes: u32) -> io::Result<()> {
        let update = Self::frame(8, 0, id, &bytes.to_be_bytes());
        self.0.write_all(&update).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_piece_now_and_then_does_not_keep_the_room_of_the_port() {
    let bounds = Bounds {
        answers: 8 * MEGABYTE,
        ..Bounds::new(64)
    };
    with(bounds, Protocol::Http2, async |at, door| {
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut raw = Raw::connect(at, 16 << 10).await;
            raw.ask("/whole", 3).await;
            held.push(raw);
        }
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_millis(1900)).await;
            for raw in &mut held {
                raw.allow(1, 16 << 10).await.unwrap();
            }
        }
        let (_, answers, _) = door.book.held();
        assert!(answers > 5 * MEGABYTE, "{answers}");
        let mut raw = Raw::connect(at, 16 << 20).await;
        raw.ask("/whole", 2).await;
        let mut all = Vec::new();
        while all.len() < 2 * MEGABYTE {
            let read = raw.0.read_buf(&mut all);
            let read = tokio::time::timeout(Duration::from_secs(1), read).await;
            assert!(matches!(read, Ok(Ok(1..))), "{} bytes came", all.len());
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_taken_of_a_whole_answer_is_given_back() {
    with(Bounds::new(64), Protocol::Http2, async |at, door| {
        let mut raw = Raw::connect(at, 900 << 10).await;
        raw.ask("/whole", 1).await;
        let mut taken = 0;
        let mut scratch = vec![0; 64 << 10];
        while taken < 900 << 10 {
            taken += raw.0.read(&mut scratch).await.unwrap();
        }
        let given_back = async {
            while door.book.held().1 > 256 << 10 {
                tokio::task::yield_now().await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(5), given_back).await;
        let (_, left, _) = door.book.held();
        assert!(in_time.is_ok(), "{left} bytes are still counted");
        assert!(left >= 124 << 10, "what is left counts: {left}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_crosses_the_farewell_is_answered() {
    with(Bounds::new(64), Protocol::Http2, async |at, _| {
        let begin = Instant::now();
        let mut raw = Raw::connect(at, 65_535).await;
        raw.ask("/healthz", 1).await;
        // The answers to the server's PINGs.
        let (pause, time) = (Duration::from_secs(5), Duration::from_secs(88));
        raw.ping(pause, time).await;
        tokio::time::sleep_until(begin + Duration::from_millis(90_500)).await;
        let mut all = Vec::new();
        raw.0.read_buf(&mut all).await.unwrap();
        let goaway = [7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff];
        assert!(all.windows(10).any(|part| part == goaway), "{all:?}");
        raw.0.write_all(&Raw::get(3, "/slow")).await.unwrap();
        drop(raw.0.read_to_end(&mut all).await);
        assert!(all.windows(4).any(|part| part == b"late"), "it was cut");
        let took = begin.elapsed().as_secs();
        assert!((101..=103).contains(&took), "{took}");
    })
    .await;
}

#[tokio::test]
async fn heads_of_requests_that_hang_are_bounded() {
    with(Bounds::new(64), Protocol::Http2, async |at, door| {
        let before = resident();
        let mut held = Vec::new();
        for _ in 0..8 {
            let mut raw = Raw::connect(at, 65_535).await;
            for n in 0..100 {
                let request = Raw::get_long(2 * n + 1, "/never");
                raw.0.write_all(&request).await.unwrap();
            }
            held.push(raw);
        }
        let check = async || Raw::health(at).await;
        shown(
            "long heads",
            slowest(check).await,
            resident().saturating_sub(before),
        );
        let (.., heads) = door.book.held();
        let bound = door.book.bounds.heads;
        assert!((bound / 2..=2 * bound).contains(&heads), "{heads}");
    })
    .await;
}

#[tokio::test]
async fn what_was_held_for_a_client_is_given_back_when_it_goes() {
    with(Bounds::new(64), Protocol::Http2, async |at, door| {
        let mut raw = Raw::connect(at, 0).await;
        raw.ask("/whole", 3).await;
        raw.ask("/coming", 0).await;
        let wait = async |wanted: &dyn Fn(usize) -> bool| {
            while !wanted(door.book.held().1) {
                tokio::task::yield_now().await;
            }
        };
        wait(&|answers| answers >= 3 * MEGABYTE).await;
        drop(raw);
        wait(&|answers| answers == 0).await;
        while door.book.held() != (0, 0, 0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_frames_is_cut_and_the_port_answers_meanwhile() {
    with(Bounds::new(64), Protocol::Http2, async |at, _| {
        let before = resident();
        let ping = Raw::frame(6, 0, 0, &[7; 8]).repeat(1000);
        let flood = async |_: usize| {
            let raw = Raw::connect(at, 65_535).await;
            let (mut from, mut to) = raw.0.into_split();
            let write = async {
                let mut count = 0_u64;
                while to.write_all(&ping).await.is_ok() {
                    count += 1000;
                    tokio::task::yield_now().await;
                }
                count
            };
            let read = async {
                let mut scratch = vec![0; 64 << 10];
                while matches!(from.read(&mut scratch).await, Ok(1..)) {}
            };
            tokio::join!(write, read).0
        };
        let floods = join_all((0..16).map(flood));
        let (counts, slowest) = tokio::join!(floods, slowest(async || Raw::health(at).await));
        // The bytes that the kernel had accepted when the connection was closed come on top.
        assert!(counts.iter().all(|count| *count < 2_000_000), "{counts:?}");
        shown("PINGs", slowest, resident().saturating_sub(before));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn frames_keep_nothing_alive() {
    with(Bounds::new(64), Protocol::Http2, async |at, _| {
        let pause = Duration::from_secs(5);
        let long = Duration::from_secs(1000);
        for (path, streams, seconds) in [
            // No request at all; one that was answered; responses that nobody reads.
            ("", 0, 30),
            ("/healthz", 1, 90),
            ("/whole", 2, 60),
            ("/coming", 2, 60),
        ] {
            let begin = Instant::now();
            let mut raw = Raw::connect(at, if seconds == 60 { 0 } else { 65_535 }).await;
            raw.ask(path, streams).await;
            raw.ping(pause, long).await;
            let took = begin.elapsed().as_secs();
            assert!((seconds..seconds + 11).contains(&took), "{path}: {took}");
        }
    })
    .await;
}

/// A body of these pieces; `None` waits for ever.
fn pieces(all: Vec<Option<usize>>) -> Content {
    let parts = stream::unfold(all.into_iter(), async |mut all| match all.next()? {
        Some(size) => Some((Ok(Frame::data(Bytes::from(vec![b'x'; size]))), all)),
        None => std::future::pending().await,
    });
    StreamBody::new(parts).boxed_unsync()
}

#[tokio::test(start_paused = true)]
async fn bodies_have_one_budget_a_share_each_and_a_deadline() {
    let uploads = Uploads::new(8 * MEGABYTE);
    let slow = |size| pieces(vec![Some(size), None]);
    let begin = Instant::now();
    let refusal = |read: Result<received::Upload, Refusal>| read.unwrap_err();
    let jane = async {
        // One after the other: what the first one holds is not available to the second.
        let first = uploads.read(slow(MEGABYTE), "jane", 3 * MEGABYTE);
        let second = uploads.read(slow(MEGABYTE), "jane", 3 * MEGABYTE);
        tokio::join!(first, second)
    };
    let bob = uploads.read(pieces(vec![Some(10); 1000]), "bob", 3 * MEGABYTE);
    let ((first, second), bob) = tokio::join!(jane, bob);
    assert_eq!(refusal(first), Refusal::Slow);
    assert_eq!(refusal(second), Refusal::Slow);
    assert_eq!(begin.elapsed(), Duration::from_secs(30));
    let bob = bob.unwrap();
    assert_eq!(bob.bytes.len(), 10_000);
    assert!(uploads.held() > 0);
    drop(bob);
    assert_eq!(uploads.held(), 0);
    let large = uploads.read(pieces(vec![Some(2 * MEGABYTE + 1)]), "jane", 3 * MEGABYTE);
    assert_eq!(refusal(large.await), Refusal::Busy);
    let long = uploads.read(pieces(vec![Some(101)]), "jane", 100);
    assert_eq!(refusal(long.await), Refusal::TooLarge);
    let announced = uploads.read(full(vec![0; 101]), "jane", 100);
    assert_eq!(refusal(announced.await), Refusal::TooLarge);
    // A slightly oversized body is read to its end, so that the client is listening when the response arrives; but not for
    // long.
    let begin = Instant::now();
    let taken = std::sync::Arc::new(AtomicUsize::new(0));
    let counts = std::sync::Arc::clone(&taken);
    let parts = stream::iter((0..1000).map(move |_| {
        counts.fetch_add(1, Ordering::Relaxed);
        Ok::<_, io::Error>(Frame::data(Bytes::from_static(b"x")))
    }));
    let read = uploads.read(StreamBody::new(parts), "jane", 100);
    assert_eq!(refusal(read.await), Refusal::TooLarge);
    assert_eq!(taken.load(Ordering::Relaxed), 1000);
    let stuck = uploads.read(pieces(vec![Some(101), None]), "jane", 100);
    assert_eq!(refusal(stuck.await), Refusal::TooLarge);
    assert_eq!(begin.elapsed(), Duration::from_secs(5));
}
