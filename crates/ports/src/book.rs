//! The connections of one port, and the memory that all of them hold.
//!
//! In:    connections that open and close; bytes that are held and freed
//! Out:   places, room for bytes, and which connection must be closed for them
//! Calls: `door`, `connection`
//! Holds: one source address has at most three quarters of the port (all of loopback is one source), so others find room; the
//!        oldest waiting connection is closed first, preferably of a source that has more than a quarter
//! Upstream: none

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use crate::Bounds;
use crate::connection::{Connection, Evictable};

/// If too many bytes wait, clients that have read nothing for this long are dropped first.
const SLOW: Duration = Duration::from_secs(2);

/// The free room that is offered to each waiting response.
const OFFER: usize = 256 << 10;

/// The accounts of one port.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) bounds: Bounds,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    open: BTreeMap<u64, Arc<Connection>>,
    sources: BTreeMap<IpAddr, usize>,
    answers: usize,
    /// Bytes of short responses, which have room of their own.
    short: usize,
    /// Bytes of the heads of running requests.
    heads: usize,
    /// Bytes of incomplete heads.
    unfinished: usize,
    /// Responses that wait for room, by ticket number.
    waiting: BTreeMap<u64, Waker>,
    tickets: u64,
}

impl Entries {
    fn remove(&mut self, id: u64) -> Option<Arc<Connection>> {
        let gone = self.open.remove(&id)?;
        if let Some(count) = self.sources.get_mut(&gone.source) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&gone.source);
            }
        }
        Some(gone)
    }

    /// The connection to close for room: the oldest waiting one, of one source or of any.
    fn oldest(&self, source: Option<IpAddr>) -> Option<u64> {
        let of = |c: &&Arc<Connection>| source.is_none_or(|source| c.source == source);
        let waits = |c: &Arc<Connection>| Some((c.evictable()?, c.id));
        let found = self.open.values().filter(of).filter_map(waits).min();
        found.map(|(Evictable { .. }, id)| id)
    }

    /// Closes a connection; the bytes of its responses are free at once.
    fn write_off(&mut self, id: u64) {
        let gone = self.remove(id);
        let (answers, short) = gone.as_ref().map_or((0, 0), |gone| gone.write_off());
        self.answers = self.answers.saturating_sub(answers);
        self.short = self.short.saturating_sub(short);
        dismiss(gone);
    }

    /// Room for a response's bytes; responses of slow clients are dropped for it.
    fn has_room(&mut self, bytes: usize, bound: usize, own: u64) -> bool {
        let now = Instant::now();
        while self.answers.saturating_add(bytes) > bound && self.answers > 0 {
            let slow = |c: &&Arc<Connection>| c.id != own && c.is_slow(now, SLOW);
            let most = self.open.values().filter(slow);
            let Some(victim) = most.max_by_key(|c| c.queued()).map(|c| c.id) else {
                return false;
            };
            self.write_off(victim);
        }
        true
    }

    /// The responses to wake, first come first served: as many as there is room for, or all if nothing would wake the rest
    /// later.
    fn due(&mut self, bound: usize) -> Vec<Waker> {
        let count = match bound.saturating_sub(self.answers) {
            _ if self.answers == 0 => usize::MAX,
            0 => 0,
            free => 1 + free / OFFER,
        };
        let next = || Some(self.waiting.pop_first()?.1);
        std::iter::from_fn(next).take(count).collect()
    }

    fn greediest(&self, share: usize) -> Option<IpAddr> {
        let most = self.sources.iter().max_by_key(|(_, count)| **count)?;
        (*most.1 > share).then_some(*most.0)
    }
}

/// The source of an address: all of loopback is one source, and so is an IPv6 network.
pub fn source_of(peer: SocketAddr) -> IpAddr {
    match peer.ip().to_canonical() {
        ip if ip.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

impl Book {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            entries: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection; `None` if all connections are busy.
    pub(crate) fn enter(self: &Arc<Self>, peer: SocketAddr) -> Option<Arc<Connection>> {
        let source = source_of(peer);
        let limit = self.bounds.connections;
        let mut entries = self.lock();
        let own = entries.sources.get(&source).copied().unwrap_or(0);
        if own >= (limit * 3 / 4).max(1) {
            let victim = entries.oldest(Some(source))?;
            dismiss(entries.remove(victim));
        } else if entries.open.len() >= limit {
            let greedy = entries.greediest(limit / 4);
            let victim = greedy.and_then(|greedy| entries.oldest(Some(greedy)));
            let victim = victim.or_else(|| entries.oldest(None))?;
            dismiss(entries.remove(victim));
        }
        let id = entries.next;
        entries.next += 1;
        let connection = Arc::new(Connection::new(id, (peer, source), Arc::clone(self)));
        entries.open.insert(id, Arc::clone(&connection));
        *entries.sources.entry(source).or_default() += 1;
        Some(connection)
    }

    /// Closes the oldest waiting connection, for instance when descriptors run out.
    pub(crate) fn make_room(&self) {
        let mut entries = self.lock();
        if let Some(victim) = entries.oldest(None) {
            dismiss(entries.remove(victim));
        }
    }

    pub(crate) fn leave(&self, id: u64) {
        drop(self.lock().remove(id));
    }

    /// Reserves room for a response's bytes; responses of slow clients are dropped for it. False if there is none.
    pub(crate) fn take_answer(&self, bytes: usize, own: u64) -> bool {
        let bound = self.long_bound();
        let mut entries = self.lock();
        let before = entries.answers;
        let room = entries.has_room(bytes, bound, own);
        let is_freed = entries.answers < before;
        entries.answers += if room { bytes } else { 0 };
        let due = if is_freed {
            entries.due(bound)
        } else {
            Vec::new()
        };
        drop(entries);
        due.into_iter().for_each(Waker::wake);
        room
    }

    /// Whether there is room for another part. If not, its task is woken later; the ticket keeps its place in the queue.
    pub(crate) fn has_room(&self, ticket: &mut Option<u64>, own: u64, waker: &Waker) -> bool {
        let bound = self.long_bound();
        let mut entries = self.lock();
        let before = entries.answers;
        if !entries.has_room(1, bound, own) {
            let drawn = ticket.get_or_insert(entries.tickets);
            entries.tickets += u64::from(*drawn == entries.tickets);
            entries.waiting.insert(*drawn, waker.clone());
            return false;
        }
        let due = if entries.answers < before {
            entries.due(bound)
        } else {
            Vec::new()
        };
        drop(entries);
        due.into_iter().for_each(Waker::wake);
        self.leave_line(ticket);
        true
    }

    /// The response got its turn or is gone: the next one may check.
    pub(crate) fn leave_line(&self, ticket: &mut Option<u64>) {
        let Some(ticket) = ticket.take() else {
            return;
        };
        let mut entries = self.lock();
        let own = entries.waiting.remove(&ticket);
        let is_free = entries.answers < self.long_bound();
        let next = is_free.then(|| entries.waiting.pop_first()).flatten();
        drop(entries);
        drop(own);
        if let Some((_, next)) = next {
            next.wake();
        }
    }

    fn long_bound(&self) -> usize {
        self.bounds.answers - self.short_bound()
    }

    /// Short responses have an eighth of the room.
    fn short_bound(&self) -> usize {
        self.bounds.answers / 8
    }

    /// Reserves room for a short response, which always succeeds: the client that has read none of its short responses for the
    /// longest time is dropped for it.
    pub(crate) fn take_short(&self, bytes: usize) {
        let mut entries = self.lock();
        let mut is_freed = false;
        while entries.short + bytes > self.short_bound() {
            let waits = entries.open.values();
            let waits = waits.filter_map(|c| Some((c.short_since()?, c.id)));
            let Some((_, victim)) = waits.min() else {
                break;
            };
            entries.write_off(victim);
            is_freed = true;
        }
        entries.short += bytes;
        let due = if is_freed {
            entries.due(self.long_bound())
        } else {
            Vec::new()
        };
        drop(entries);
        due.into_iter().for_each(Waker::wake);
    }

    /// Counts bytes that are already in memory, whether there is room or not.
    pub(crate) fn add_answer(&self, bytes: usize) {
        self.lock().answers += bytes;
    }

    pub(crate) fn give_answer(&self, bytes: usize, is_short: bool) {
        let mut entries = self.lock();
        if is_short {
            entries.short = entries.short.saturating_sub(bytes);
            return;
        }
        entries.answers = entries.answers.saturating_sub(bytes);
        let due = entries.due(self.long_bound());
        drop(entries);
        due.into_iter().for_each(Waker::wake);
    }

    /// Counts bytes of an incomplete head; if they are too many, the connection with the longest head is closed.
    pub(crate) fn grow_unfinished(&self, bytes: usize) {
        let mut entries = self.lock();
        entries.unfinished += bytes;
        while entries.unfinished > self.bounds.heads {
            let by_head = entries.open.values().map(|c| (c.unfinished(), c.id));
            let Some((1.., victim)) = by_head.max() else {
                return;
            };
            let gone = entries.remove(victim);
            let written_off = gone.as_ref().map_or(0, |gone| gone.write_off_head());
            entries.unfinished = entries.unfinished.saturating_sub(written_off);
            dismiss(gone);
        }
    }

    pub(crate) fn shrink_unfinished(&self, bytes: usize) {
        let mut entries = self.lock();
        entries.unfinished = entries.unfinished.saturating_sub(bytes);
    }

    /// Reserves room for the head of a request; false if there is none.
    pub(crate) fn take_head(&self, bytes: usize) -> bool {
        let mut entries = self.lock();
        let room = entries.heads + bytes <= self.bounds.heads || entries.heads == 0;
        entries.heads += if room { bytes } else { 0 };
        room
    }

    pub(crate) fn give_head(&self, bytes: usize) {
        let mut entries = self.lock();
        entries.heads = entries.heads.saturating_sub(bytes);
    }

    /// Connections, bytes of responses, and bytes of heads.
    #[cfg(test)]
    pub(crate) fn held(&self) -> (usize, usize, usize) {
        let entries = self.lock();
        let heads = entries.heads + entries.unfinished;
        (entries.open.len(), entries.answers + entries.short, heads)
    }
}

fn dismiss(victim: Option<Arc<Connection>>) {
    if let Some(victim) = victim {
        tracing::debug!(peer = %victim.peer, "connection closed to make room");
        victim.close();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn those_that_wait_for_room_are_woken_in_their_order_and_as_many_as_it_has_room_for() {
        let book = Book::new(Bounds::new(64));
        let all = book.long_bound();
        assert!(book.take_answer(all, 0));
        let mut line = Vec::new();
        for _ in 0..3000 {
            let woken = Arc::new(Woken::default());
            let mut ticket = None;
            assert!(!book.has_room(&mut ticket, 0, &Arc::clone(&woken).into()));
            line.push((woken, ticket));
        }
        let woken = |line: &[(Arc<Woken>, Option<u64>)]| -> Vec<usize> {
            line.iter()
                .map(|(woken, _)| woken.0.load(Ordering::Relaxed))
                .collect()
        };
        book.give_answer(OFFER, false);
        assert_eq!(woken(&line)[..3], [1, 1, 0]);
        // The first one gets the room; the second one keeps its place in the queue.
        let waker = Arc::clone(&line[0].0).into();
        assert!(book.has_room(&mut line[0].1, 0, &waker));
        assert_eq!(woken(&line)[..4], [1, 1, 1, 0]);
        assert!(book.take_answer(OFFER, 0));
        for n in [2, 1] {
            let waker = Arc::clone(&line[n].0).into();
            assert!(!book.has_room(&mut line[n].1, 0, &waker));
        }
        book.give_answer(1, false);
        assert_eq!(woken(&line)[..4], [1, 2, 1, 0]);
        // If one is gone when its turn comes, the turn goes to the next.
        book.leave_line(&mut line[1].1);
        assert_eq!(woken(&line)[..4], [1, 2, 2, 0]);
        assert_eq!(woken(&line).iter().sum::<usize>(), 5);
        // No bytes are held any more, so nothing would wake the others later.
        book.give_answer(all - 1, false);
        assert!(woken(&line).iter().all(|count| *count > 0));
    }
}
