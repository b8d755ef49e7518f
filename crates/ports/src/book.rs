//! The connections of one port, and what all of them hold together.
//!
//! In:    who comes and goes; bytes that are held and given back
//! Out:   places, room for bytes, and which connection must go for them
//! Calls: `door`, `connection`
//! Holds: one source address has three quarters of the port at the most (all of loopback is one source), so others find room;
//!        who goes is the oldest that waits, first of a source that has more than a quarter
//! Upstream: none

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use crate::Bounds;
use crate::connection::{Connection, Evictable};

/// Who took nothing for this long goes first when the bytes that wait are too many.
const SLOW: Duration = Duration::from_secs(2);

/// The book of one port.
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
    /// Short ones, which have room of their own.
    short: usize,
    /// Of running requests.
    heads: usize,
    /// Heads that have not ended.
    unfinished: usize,
    /// Answers that wait for room.
    waiting: Vec<Waker>,
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

    /// The one that makes room: the oldest that waits, of one source or of any.
    fn oldest(&self, source: Option<IpAddr>) -> Option<u64> {
        let of = |c: &&Arc<Connection>| source.is_none_or(|source| c.source == source);
        let waits = |c: &Arc<Connection>| Some((c.evictable()?, c.id));
        let found = self.open.values().filter(of).filter_map(waits).min();
        found.map(|(Evictable { .. }, id)| id)
    }

    /// Ends a connection; what its answers held is free at once.
    fn write_off(&mut self, id: u64) {
        let gone = self.remove(id);
        let (answers, short) = gone.as_ref().map_or((0, 0), |gone| gone.write_off());
        self.answers = self.answers.saturating_sub(answers);
        self.short = self.short.saturating_sub(short);
        dismiss(gone);
    }

    fn greediest(&self, share: usize) -> Option<IpAddr> {
        let most = self.sources.iter().max_by_key(|(_, count)| **count)?;
        (*most.1 > share).then_some(*most.0)
    }
}

/// All of loopback is one source, and so is a network of IPv6.
fn source_of(peer: SocketAddr) -> IpAddr {
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

    /// A place for a connection; `None` when all that are there are busy.
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

    /// Ends the oldest connection that waits, as when descriptors run out.
    pub(crate) fn make_room(&self) {
        let mut entries = self.lock();
        if let Some(victim) = entries.oldest(None) {
            dismiss(entries.remove(victim));
        }
    }

    pub(crate) fn leave(&self, id: u64) {
        drop(self.lock().remove(id));
    }

    /// Takes room for an answer's bytes; those of slow clients are dropped for it. False when there is none.
    pub(crate) fn take_answer(&self, bytes: usize, own: u64) -> bool {
        let now = Instant::now();
        let mut entries = self.lock();
        let bound = self.bounds.answers - self.short_bound();
        while entries.answers.saturating_add(bytes) > bound && entries.answers > 0 {
            let slow = |c: &&Arc<Connection>| c.id != own && c.is_slow(now, SLOW);
            let most = entries.open.values().filter(slow);
            let Some(victim) = most.max_by_key(|c| c.queued()).map(|c| c.id) else {
                return false;
            };
            entries.write_off(victim);
        }
        entries.answers += bytes;
        true
    }

    /// Short answers have an eighth of all.
    fn short_bound(&self) -> usize {
        self.bounds.answers / 8
    }

    /// Takes room for a short answer, which it always finds: the client that took none of its own for the longest time is
    /// dropped for it.
    pub(crate) fn take_short(&self, bytes: usize) {
        let mut entries = self.lock();
        while entries.short + bytes > self.short_bound() {
            let waits = entries.open.values();
            let waits = waits.filter_map(|c| Some((c.short_since()?, c.id)));
            let Some((_, victim)) = waits.min() else {
                break;
            };
            entries.write_off(victim);
        }
        entries.short += bytes;
    }

    /// Counts bytes that are held already, whether there is room or not.
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
        if entries.answers < self.bounds.answers - self.short_bound() {
            entries.waiting.drain(..).for_each(Waker::wake);
        }
    }

    /// Wakes this one when bytes were given back.
    pub(crate) fn wait(&self, waker: &Waker) {
        let mut entries = self.lock();
        if !entries.waiting.iter().any(|known| known.will_wake(waker)) {
            entries.waiting.push(waker.clone());
        }
    }

    /// Counts bytes of an unfinished head; the connection with the longest goes when they are too many.
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

    /// Takes room for the head of a request; false when there is none.
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

    /// Connections, bytes of answers, and of heads.
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
