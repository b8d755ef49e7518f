//! One connection: its state, the memory it holds, and when it must be closed.
//!
//! In:    requests that begin and end, bytes read, responses passed on and sent
//! Out:   its timers ([`Connection::over`]); whether it may be closed for another
//! Calls: `door`, `serve`, `stream`, `answer`; `book` inspects all of them
//! Holds: the lock of the book is never taken while a connection's lock is held
//! Upstream: net/http Server.ReadHeaderTimeout, IdleTimeout; differences: a response that the client does not read has a
//!           timeout of its own

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::book::Book;
use crate::frames::{Credit, Frames};
use crate::serve::Protocol;
use crate::{DRAIN, HEAD, IDLE};

/// Bytes of streamed responses that wait on one connection; more are produced after some were sent.
const COMING: usize = 256 << 10;
/// Bytes of complete responses that wait on one connection, if there are several.
const WHOLE: usize = 4 << 20;
/// A response of this size always finds room.
const SHORT: usize = 1 << 10;
/// The overhead of each complete response: the state of its stream.
const PRICE: usize = 4 << 10;
const SHORT_HEAD: usize = 4 << 10;
/// The credit in frames for a piece that the client read: the most window updates that it sends for it.
const PIECE_EARNS: u64 = 16;

/// One accepted connection.
#[derive(Debug)]
pub struct Connection {
    pub(crate) id: u64,
    pub(crate) peer: SocketAddr,
    pub(crate) source: IpAddr,
    book: Arc<Book>,
    born: Instant,
    state: Mutex<State>,
    closed: CancellationToken,
    /// The server asks the connection to close.
    pub(crate) leaving: CancellationToken,
    /// The timers must be checked again.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    protocol: Protocol,
    /// Requests in progress, responses that wait for the server, and a tunnel.
    running: usize,
    /// Bytes have arrived that are not yet a request; true at first.
    head_begun: bool,
    /// When the current wait began.
    since: Instant,
    /// Bytes of the incomplete head that the book counts.
    head: usize,
    /// Responses in progress, and since when and how long the server waits for the client to read each.
    answers: BTreeMap<u64, Option<(Instant, Duration)>>,
    next_answer: u64,
    /// Since when the client has read nothing: from its first response, or from the last piece that it read. New requests do
    /// not change it.
    owes: Instant,
    /// The client cancelled a response and has read nothing since.
    gave_up: bool,
    /// Bytes of responses that wait for the client.
    queued: usize,
    /// The average time since when they wait; close to now only for a client that reads as fast as they come.
    taken: Instant,
    /// Bytes of short responses, counted separately, and since when none of them was read.
    short: usize,
    short_since: Instant,
    /// The book no longer counts its bytes.
    written_off: bool,
    head_written_off: bool,
    /// When the server asked it to close.
    left_at: Option<Instant>,
    /// It has left HTTP.
    switched: bool,
    waiting: Vec<Waker>,
    frames: Frames,
    credit: Credit,
}

/// Why a connection may be closed, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Evictable {
    is_answering: bool,
    since: Instant,
}

/// A request in progress, or a tunnel.
#[derive(Debug)]
pub struct Running(Arc<Connection>);

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.running -= 1;
        state.since = Instant::now();
    }
}

/// The head of a running request.
#[derive(Debug)]
pub(crate) struct Head(Arc<Connection>, usize);

impl Drop for Head {
    fn drop(&mut self) {
        self.0.book.give_head(self.1);
    }
}

/// Bytes of a response that wait for their client.
#[derive(Debug)]
pub(crate) struct Charge {
    connection: Arc<Connection>,
    bytes: usize,
    is_short: bool,
}

impl State {
    fn held(&mut self, is_short: bool) -> &mut usize {
        if is_short {
            &mut self.short
        } else {
            &mut self.queued
        }
    }
}

impl Charge {
    /// The client has read some of it.
    pub(crate) fn taken(&self, bytes: usize) {
        let mut state = self.connection.lock();
        let now = Instant::now();
        state.taken = if bytes < state.queued {
            // The average wait shrinks by the share of the waiting bytes that was read.
            let waited = now.saturating_duration_since(state.taken).as_nanos();
            let over = waited.saturating_mul(bytes as u128) / state.queued as u128;
            state.taken + Duration::from_nanos(u64::try_from(over).unwrap_or(u64::MAX))
        } else {
            now
        };
        state.short_since = now;
        state.owes = now;
        state.gave_up = false;
        state.credit.earn(PIECE_EARNS);
        if state.running == 0 && state.answers.is_empty() {
            state.since = now;
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let connection = &self.connection;
        let (waiting, counts) = {
            let mut state = connection.lock();
            let held = state.held(self.is_short);
            *held = held.saturating_sub(self.bytes);
            (std::mem::take(&mut state.waiting), !state.written_off)
        };
        if counts {
            connection.book.give_answer(self.bytes, self.is_short);
        }
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Connection {
    pub(crate) fn new(id: u64, (peer, source): (SocketAddr, IpAddr), book: Arc<Book>) -> Self {
        let now = Instant::now();
        Self {
            id,
            peer,
            source,
            book,
            born: now,
            state: Mutex::new(State {
                protocol: Protocol::Http1,
                running: 0,
                head_begun: true,
                since: now,
                head: 0,
                answers: BTreeMap::new(),
                next_answer: 0,
                owes: now,
                gave_up: false,
                queued: 0,
                taken: now,
                short: 0,
                short_since: now,
                written_off: false,
                head_written_off: false,
                left_at: None,
                switched: false,
                waiting: Vec::new(),
                frames: Frames::default(),
                credit: Credit::default(),
            }),
            closed: CancellationToken::new(),
            leaving: CancellationToken::new(),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The most concurrent requests of one connection.
    pub(crate) fn streams(&self) -> u32 {
        self.book.bounds.streams
    }

    pub(crate) fn speaks(&self, protocol: Protocol) {
        self.lock().protocol = protocol;
    }

    /// Counts as busy until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> Running {
        let finished = {
            let mut state = self.lock();
            state.running += 1;
            state.head_begun = false;
            match (state.protocol, state.head_written_off) {
                (Protocol::Http1, false) => std::mem::take(&mut state.head),
                _ => 0,
            }
        };
        self.book.shrink_unfinished(finished);
        Running(Arc::clone(self))
    }

    /// Room for the head of a running request. The only request of a connection always gets it, unless its head is long.
    pub(crate) fn hold_head(self: &Arc<Self>, bytes: usize) -> Option<Head> {
        if bytes <= SHORT_HEAD && self.lock().running == 1 {
            return Some(Head(Arc::clone(self), 0));
        }
        let taken = self.book.take_head(bytes);
        taken.then(|| Head(Arc::clone(self), bytes))
    }

    /// The connection has left HTTP: its owner limits it from now on.
    pub(crate) fn switched(&self) {
        self.lock().switched = true;
    }

    /// Counts received bytes. False if the client sent too much that requests nothing.
    pub(crate) fn read(&self, bytes: &[u8]) -> bool {
        let grown = {
            let mut state = self.lock();
            if state.switched || state.head_written_off {
                return true;
            }
            let before = state.head;
            if state.protocol == Protocol::Http2 {
                let seen = state.frames.read(bytes);
                state.credit.earn(seen.requests.saturating_mul(4));
                if !state.credit.pay(seen.idle_frames, self.born.elapsed()) {
                    return false;
                }
                state.head = state.frames.unfinished;
            } else if state.running == 0 && state.answers.is_empty() {
                if !state.head_begun {
                    state.head_begun = true;
                    state.since = Instant::now();
                    self.changed.notify_one();
                }
                state.head += bytes.len();
            }
            match state.head.checked_sub(before) {
                Some(grown) => grown,
                None => {
                    let shrunk = before - state.head;
                    drop(state);
                    self.book.shrink_unfinished(shrunk);
                    0
                }
            }
        };
        if grown > 0 {
            self.book.grow_unfinished(grown);
        }
        true
    }

    /// A new response; the server waits for the client to read it.
    pub(crate) fn answer(&self, patience: Duration) -> u64 {
        let mut state = self.lock();
        if state.answers.is_empty() && !state.gave_up {
            state.owes = Instant::now();
        }
        let key = state.next_answer;
        state.next_answer += 1;
        state.answers.insert(key, Some((Instant::now(), patience)));
        key
    }

    /// From now on the server waits for the client, or (`None`) the client waits for the server.
    pub(crate) fn wait_for_client(&self, key: u64, patience: Option<Duration>) {
        let mut state = self.lock();
        if let Some(answer) = state.answers.get_mut(&key) {
            *answer = patience.map(|patience| (Instant::now(), patience));
        }
    }

    /// A response ended, or (`!is_finished`) its client cancelled it.
    pub(crate) fn answered(&self, key: u64, is_finished: bool) {
        let mut state = self.lock();
        state.gave_up |= !is_finished;
        state.answers.remove(&key);
        state.since = Instant::now();
    }

    /// Room for a complete response.
    pub(crate) fn take_whole(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let cost = bytes.saturating_add(PRICE);
        if bytes <= SHORT {
            self.book.take_short(cost);
            return Some(self.charge(cost, true));
        }
        let queued = self.queued();
        if queued > 0 && queued.saturating_add(cost) > WHOLE {
            return None;
        }
        let room = self.book.take_answer(cost, self.id);
        room.then(|| self.charge(cost, false))
    }

    /// Bytes of a streamed response. They are already in memory, so they count even beyond the limit; in that case no more are
    /// produced.
    pub(crate) fn take_part(self: &Arc<Self>, bytes: usize) -> Charge {
        if !self.book.take_answer(bytes, self.id) {
            self.book.add_answer(bytes);
        }
        self.charge(bytes, false)
    }

    /// The rest of a response; the room of the whole is freed when its last piece is sent.
    pub(crate) fn take_rest(self: &Arc<Self>, bytes: usize, is_whole: bool) -> Charge {
        let cost = bytes.saturating_add(if is_whole { PRICE } else { 0 });
        self.book.add_answer(cost);
        self.charge(cost, false)
    }

    /// The bytes that the book has counted.
    fn charge(self: &Arc<Self>, bytes: usize, is_short: bool) -> Charge {
        let mut state = self.lock();
        // A closed connection holds nothing.
        let is_held = !state.written_off;
        if is_held {
            let now = Instant::now();
            if state.queued == 0 {
                state.taken = now;
            }
            if state.short == 0 {
                state.short_since = now;
            }
            *state.held(is_short) += bytes;
        }
        drop(state);
        if !is_held {
            self.book.give_answer(bytes, is_short);
        }
        Charge {
            connection: Arc::clone(self),
            bytes: if is_held { bytes } else { 0 },
            is_short,
        }
    }

    /// Whether more of a response may be produced now. If not, the task is woken after some was read.
    pub(crate) fn has_room(&self, ticket: &mut Option<u64>, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        if state.queued >= COMING {
            if !state.waiting.iter().any(|w| w.will_wake(cx.waker())) {
                state.waiting.push(cx.waker().clone());
            }
            drop(state);
            // Meanwhile another response may use the port's room.
            self.book.leave_line(ticket);
            return false;
        }
        drop(state);
        self.book.has_room(ticket, self.id, cx.waker())
    }

    /// A response no longer waits for room.
    pub(crate) fn leave_line(&self, ticket: &mut Option<u64>) {
        self.book.leave_line(ticket);
    }

    pub(crate) fn queued(&self) -> usize {
        self.lock().queued
    }

    pub(crate) fn unfinished(&self) -> usize {
        self.lock().head
    }

    pub(crate) fn is_slow(&self, now: Instant, slow: Duration) -> bool {
        let state = self.lock();
        state.queued > 0 && now.saturating_duration_since(state.taken) >= slow
    }

    /// Since when none of its short responses was read, if it has any.
    pub(crate) fn short_since(&self) -> Option<Instant> {
        let state = self.lock();
        (state.short > 0).then_some(state.short_since)
    }

    /// Drops its responses; returns the bytes that they held, and the bytes of the short ones.
    pub(crate) fn write_off(&self) -> (usize, usize) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.written_off, true) {
            return (0, 0);
        }
        (state.queued, state.short)
    }

    pub(crate) fn write_off_head(&self) -> usize {
        let mut state = self.lock();
        state.head_written_off = true;
        std::mem::take(&mut state.head)
    }

    /// Whether it may be closed for another, and its rank: idle ones first, then those that read nothing for the longest time.
    pub(crate) fn evictable(&self) -> Option<Evictable> {
        let state = self.lock();
        let is_answering = !state.answers.is_empty();
        (state.running == 0).then_some(Evictable {
            is_answering,
            since: if is_answering {
                state.owes
            } else {
                state.since
            },
        })
    }

    /// Closes it.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// When to check again; a time in the past means that the connection must be closed. Also whether it is only idle.
    fn deadline(&self) -> (Instant, bool) {
        let now = Instant::now();
        let state = self.lock();
        let answers = state.answers.values().flatten();
        let stalled = answers
            .filter_map(|(at, patience)| at.checked_add(*patience))
            .min();
        let waits = state.running == 0 && state.answers.is_empty();
        // The end of the last request does not wake the timers.
        let look = now + if state.left_at.is_some() { DRAIN } else { HEAD };
        let own = waits.then(|| match state.left_at {
            Some(at) => at.max(state.since) + DRAIN,
            None => state.since + if state.head_begun { HEAD } else { IDLE },
        });
        let first = stalled.into_iter().chain(own).min().unwrap_or(look);
        (first.min(look), waits && !state.head_begun)
    }

    /// Returns when the connection must be closed: a timeout passed, or another connection needs its place. True if it was idle
    /// for too long.
    pub(crate) async fn over(&self) -> bool {
        loop {
            let (deadline, idles) = self.deadline();
            if deadline <= Instant::now() {
                return idles;
            }
            tokio::select! {
                // Each branch only checks again; dropping one loses nothing.
                biased;
                () = self.closed.cancelled() => return false,
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }

    /// Asks the connection to close in order: from now on it only lasts for requests that arrived before the client knew.
    pub(crate) fn take_leave(&self) {
        self.lock().left_at = Some(Instant::now());
        self.leaving.cancel();
    }

    /// Removes it from the book.
    pub(crate) fn leave(&self) {
        self.book.leave(self.id);
        let (answers, short) = self.write_off();
        let head = {
            let mut state = self.lock();
            if std::mem::replace(&mut state.head_written_off, true) {
                0
            } else {
                std::mem::take(&mut state.head)
            }
        };
        self.book.give_answer(answers, false);
        self.book.give_answer(short, true);
        self.book.shrink_unfinished(head);
    }
}
