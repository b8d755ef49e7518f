//! One connection: what it does, what it holds, and when it must end.
//!
//! In:    requests that begin and end, bytes read, answers handed out and taken
//! Out:   its clock ([`Connection::over`]); whether it may be closed for another
//! Calls: `door`, `serve`, `stream`, `answer`; `book` looks at all of them
//! Holds: no lock of the book is taken under a lock of a connection
//! Upstream: net/http Server.ReadHeaderTimeout, IdleTimeout; differences: an answer that nobody takes has a time of its own

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

/// Bytes of answers that are made on the way and wait on one connection; more are made when some were taken.
const COMING: usize = 256 << 10;
/// Bytes of finished answers that wait on one connection, besides a single one.
const WHOLE: usize = 4 << 20;
/// So short an answer always finds room.
const SHORT: usize = 1 << 10;
/// What each whole answer costs beside its bytes: the state of its stream.
const PRICE: usize = 4 << 10;
const SHORT_HEAD: usize = 4 << 10;
/// What a piece that was taken earns, in frames: window updates for it come at the most that often.
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
    /// It is to take its leave.
    pub(crate) leaving: CancellationToken,
    /// The clock must look again.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    protocol: Protocol,
    /// Requests being answered, answers that wait for us, and a tunnel.
    running: usize,
    /// Bytes came that are not yet a request; true at first.
    head_begun: bool,
    /// When the present wait began.
    since: Instant,
    /// Bytes of the unfinished head, as the book counts them.
    head: usize,
    /// Answers under way, and since when and how long their client is waited for.
    answers: BTreeMap<u64, Option<(Instant, Duration)>>,
    next_answer: u64,
    /// Since when the client owes us: from its first answer on, or from the last piece that it took. New requests do not move it.
    owes: Instant,
    /// It gave up an answer, and has taken nothing since.
    gave_up: bool,
    /// Bytes of answers that wait for the client.
    queued: usize,
    /// How long they wait, on the average; near to now only for a client that takes them as fast as they come.
    taken: Instant,
    /// Of short ones, which are counted apart, and since when none of them was taken.
    short: usize,
    short_since: Instant,
    /// The book does not count them any more.
    written_off: bool,
    head_written_off: bool,
    /// Since when it takes its leave.
    left_at: Option<Instant>,
    /// Speaks something else now.
    switched: bool,
    waiting: Vec<Waker>,
    frames: Frames,
    credit: Credit,
}

/// Why a connection may go, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Evictable {
    is_answering: bool,
    since: Instant,
}

/// A request that is being answered, or a tunnel.
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

/// Bytes of an answer that wait for their client.
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
    /// Some of it was taken.
    pub(crate) fn taken(&self, bytes: usize) {
        let mut state = self.connection.lock();
        let now = Instant::now();
        state.taken = if bytes < state.queued {
            // As much of the wait is over as was taken of what waits.
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

    /// The other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Requests that one connection may have at a time.
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

    /// Room for a request's head while it runs; the only request of a connection finds it, unless it is long.
    pub(crate) fn hold_head(self: &Arc<Self>, bytes: usize) -> Option<Head> {
        if bytes <= SHORT_HEAD && self.lock().running == 1 {
            return Some(Head(Arc::clone(self), 0));
        }
        let taken = self.book.take_head(bytes);
        taken.then(|| Head(Arc::clone(self), bytes))
    }

    /// The connection has left HTTP: its owner bounds it from now on.
    pub(crate) fn switched(&self) {
        self.lock().switched = true;
    }

    /// Tells of bytes that came. False when they were too many for what they asked.
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

    /// A new answer, which its client is waited for.
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

    /// The client is waited for from now on, or (`None`) waits for us.
    pub(crate) fn wait_for_client(&self, key: u64, patience: Option<Duration>) {
        let mut state = self.lock();
        if let Some(answer) = state.answers.get_mut(&key) {
            *answer = patience.map(|patience| (Instant::now(), patience));
        }
    }

    /// An answer ended, or (`!is_finished`) its client gave it up.
    pub(crate) fn answered(&self, key: u64, is_finished: bool) {
        let mut state = self.lock();
        state.gave_up |= !is_finished;
        state.answers.remove(&key);
        state.since = Instant::now();
    }

    /// Room for a whole answer.
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

    /// Bytes of an answer that is made on the way. They are there already, so they count even where they pass the bound;
    /// then nobody makes more.
    pub(crate) fn take_part(self: &Arc<Self>, bytes: usize) -> Charge {
        if !self.book.take_answer(bytes, self.id) {
            self.book.add_answer(bytes);
        }
        self.charge(bytes, false)
    }

    /// What is left of an answer; the room of the whole of it is given back when its last piece has left.
    pub(crate) fn take_rest(self: &Arc<Self>, bytes: usize, is_whole: bool) -> Charge {
        let cost = bytes.saturating_add(if is_whole { PRICE } else { 0 });
        self.book.add_answer(cost);
        self.charge(cost, false)
    }

    /// Holds what the book counted.
    fn charge(self: &Arc<Self>, bytes: usize, is_short: bool) -> Charge {
        let mut state = self.lock();
        // A connection that is closed already holds nothing any more.
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

    /// Whether more of an answer may be made now; if not, the task is woken when some was taken.
    pub(crate) fn has_room(&self, ticket: &mut Option<u64>, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        if state.queued >= COMING {
            if !state.waiting.iter().any(|w| w.will_wake(cx.waker())) {
                state.waiting.push(cx.waker().clone());
            }
            drop(state);
            // The port's room is for another meanwhile.
            self.book.leave_line(ticket);
            return false;
        }
        drop(state);
        self.book.has_room(ticket, self.id, cx.waker())
    }

    /// An answer that waits for room does so no more.
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

    /// Since when none of its short answers was taken, if it has any.
    pub(crate) fn short_since(&self) -> Option<Instant> {
        let state = self.lock();
        (state.short > 0).then_some(state.short_since)
    }

    /// Its answers are given up; gives what they held, and what the short ones held.
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

    /// Whether it may go for another, and how soon: who idles first, then who took nothing for the longest time.
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

    /// Ends it.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// When to look again; in the past means that the time is over. And whether it only idles.
    fn deadline(&self) -> (Instant, bool) {
        let now = Instant::now();
        let state = self.lock();
        let answers = state.answers.values().flatten();
        let stalled = answers
            .filter_map(|(at, patience)| at.checked_add(*patience))
            .min();
        let waits = state.running == 0 && state.answers.is_empty();
        // Nothing tells the clock that the last request has ended.
        let look = now + if state.left_at.is_some() { DRAIN } else { HEAD };
        let own = waits.then(|| match state.left_at {
            Some(at) => at.max(state.since) + DRAIN,
            None => state.since + if state.head_begun { HEAD } else { IDLE },
        });
        let first = stalled.into_iter().chain(own).min().unwrap_or(look);
        (first.min(look), waits && !state.head_begun)
    }

    /// Returns when the connection must end: its time is over, or another needs its place. True when it idled for too long.
    pub(crate) async fn over(&self) -> bool {
        loop {
            let (deadline, idles) = self.deadline();
            if deadline <= Instant::now() {
                return idles;
            }
            tokio::select! {
                // Any of them only looks again; none loses anything.
                biased;
                () = self.closed.cancelled() => return false,
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }

    /// Takes its leave, in order: from now on it has only as long as requests run that came before the client knew.
    pub(crate) fn take_leave(&self) {
        self.lock().left_at = Some(Instant::now());
        self.leaving.cancel();
    }

    /// Leaves the book.
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
