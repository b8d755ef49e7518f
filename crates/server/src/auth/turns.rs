//! Turns for reviews at the API server, shared out among source addresses.
//!
//! In:    a caller's source address
//! Out:   a turn, a place in the line, or neither
//! Calls: `asking`
//! Holds: a source has at most a quarter of the turns; while others have all turns, a source without one gets a place in the
//!        line, first come first served; so a flood from a few addresses does not lock out others
//! Upstream: none; the API server's priority and fairness does the same for requests

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Waiting sources per turn.
const WAITING: usize = 4;

/// The turns of one kind of review.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    /// The turns that one source may have.
    each: usize,
    /// The number of sources that may wait.
    most: usize,
    held: BTreeMap<IpAddr, usize>,
    /// Empty while a turn is free. A source stands in the line only once.
    line: VecDeque<(IpAddr, oneshot::Sender<Turn>)>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    source: IpAddr,
}

/// What a caller gets.
#[derive(Debug)]
pub(super) enum Grant {
    Turn(Turn),
    Line(oneshot::Receiver<Turn>),
}

impl Turns {
    pub(super) fn new(count: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: count,
            each: (count / 4).max(1),
            most: count * WAITING,
            held: BTreeMap::new(),
            line: VecDeque::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` if the source has its share, or if too many wait.
    pub(super) fn take(&self, source: IpAddr) -> Option<Grant> {
        let mut state = self.lock();
        let held = state.held.get(&source).copied().unwrap_or(0);
        if held >= state.each {
            return None;
        }
        if state.free > 0 {
            state.free -= 1;
            *state.held.entry(source).or_default() += 1;
            let turns = self.clone();
            return Some(Grant::Turn(Turn { turns, source }));
        }
        state.line.retain(|(_, place)| !place.is_closed());
        let waits = state.line.iter().any(|(waiting, _)| *waiting == source);
        if held > 0 || waits || state.line.len() >= state.most {
            return None;
        }
        let (place, turn) = oneshot::channel();
        state.line.push_back((source, place));
        Some(Grant::Line(turn))
    }
}

impl State {
    /// The turn of a source has ended; it goes to the next one.
    fn pass_on(&mut self, from: IpAddr) -> Option<(IpAddr, oneshot::Sender<Turn>)> {
        if let Some(count) = self.held.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&from);
            }
        }
        while let Some((source, place)) = self.line.pop_front() {
            if !place.is_closed() {
                *self.held.entry(source).or_default() += 1;
                return Some((source, place));
            }
        }
        self.free += 1;
        None
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = self.turns.lock().pass_on(self.source);
        if let Some((source, place)) = next {
            let turns = self.turns.clone();
            // A caller that has left gives it back, to the next one.
            drop(place.send(Turn { turns, source }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    fn turn(place: Option<Grant>) -> Turn {
        match place {
            Some(Grant::Turn(turn)) => turn,
            other => panic!("{other:?}"),
        }
    }

    fn line(place: Option<Grant>) -> oneshot::Receiver<Turn> {
        match place {
            Some(Grant::Line(line)) => line,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_source_has_a_quarter_and_others_are_served_in_their_order() {
        let turns = Turns::new(8);
        let mut held: Vec<Turn> = (0..8).map(|n| turn(turns.take(source(n / 2)))).collect();
        assert!(turns.take(source(0)).is_none(), "has its quarter");
        let (mut fifth, sixth) = (line(turns.take(source(5))), line(turns.take(source(6))));
        let mut seventh = line(turns.take(source(7)));
        assert!(
            turns.take(source(5)).is_none(),
            "stands in the line already"
        );
        drop(held.pop());
        let own = fifth.try_recv().unwrap();
        assert!(
            turns.take(source(3)).is_none(),
            "has one, and all are taken"
        );
        // A caller that has left the line is skipped.
        drop(sixth);
        drop(own);
        let own = seventh.try_recv().unwrap();
        drop((own, held));
        let state = turns.lock();
        assert_eq!((state.free, state.held.len(), state.line.len()), (8, 0, 0));
    }

    #[test]
    fn the_line_is_bounded_and_those_who_left_it_are_forgotten() {
        let turns = Turns::new(4);
        let _held: Vec<Turn> = (0..4).map(|n| turn(turns.take(source(n)))).collect();
        let waiting: Vec<_> = (10..26).map(|n| line(turns.take(source(n)))).collect();
        assert!(turns.take(source(30)).is_none());
        drop(waiting);
        drop(line(turns.take(source(30))));
        drop(line(turns.take(source(31))));
        assert_eq!(turns.lock().line.len(), 1);
    }
}
