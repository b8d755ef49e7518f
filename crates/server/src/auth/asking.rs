//! Asks the API server one kind of question: what was answered lately is remembered, equal questions are asked once, few at a time.
//!
//! In:    a question, and how to ask it
//! Out:   the answer, or at once that too much is being asked
//! Calls: `auth`
//! Holds: no more questions under way than there are slots, of which one source of connections has a quarter at the most, and nobody
//!        waits for one; a question that nobody waits for any more is not
//!        asked on; a no never drives out a yes; who had a yes lately has slots that nobody else gets
//! Upstream: apiserver pkg/authentication/token/cache (1.36); differences: bounded, both in answers and in questions under way

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::memory::{Digests, Key, Memory};
use super::{REVIEW_DEADLINE, ReviewError};

/// How long a question that was answered by a yes is known to come from somebody.
const TRUSTED: Duration = Duration::from_secs(3600);

type Outcome<V> = Result<V, ReviewError>;
type Asked<V> = Shared<BoxFuture<'static, Outcome<V>>>;

/// How much of one kind there may be.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// Answers kept: yes, and no.
    pub(super) answers: (usize, usize),
    /// Questions under way: of anybody, and of those who had a yes lately.
    pub(super) slots: (usize, usize),
}

/// One answer: whether it is a yes, and how long it holds.
pub(super) struct Holds {
    pub(super) is_yes: bool,
    pub(super) holds: Duration,
}

/// Questions of one kind.
pub(super) struct Asking<V> {
    /// `None` when the machine gives no random numbers: then everything is asked.
    digests: Option<Digests>,
    kept: Arc<Kept<V>>,
    under_way: Mutex<BTreeMap<Key, WeakShared<BoxFuture<'static, Outcome<V>>>>>,
    slots: Arc<Semaphore>,
    shares: Arc<Shares>,
    trusted_slots: Arc<Semaphore>,
}

/// How many slots each source of connections has.
struct Shares {
    most: usize,
    held: Mutex<BTreeMap<IpAddr, usize>>,
}

/// One slot of a source, until it is dropped.
struct Share(Arc<Shares>, IpAddr);

impl Shares {
    fn take(self: &Arc<Self>, source: IpAddr) -> Option<Share> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.entry(source).or_default();
        if *own >= self.most {
            return None;
        }
        *own += 1;
        Some(Share(Arc::clone(self), source))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = held.get_mut(&self.1) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.1);
            }
        }
    }
}

struct Kept<V> {
    yes: Memory<V>,
    no: Memory<V>,
    trusted: Memory<()>,
}

impl<V: Clone> Kept<V> {
    fn keep(&self, key: Key, value: V, Holds { is_yes, holds }: &Holds) {
        if *is_yes {
            self.yes.keep(key, value, *holds);
            self.trusted.keep(key, (), TRUSTED);
        } else {
            self.no.keep(key, value, *holds);
        }
    }
}

impl<V: Clone + Send + Sync + 'static> Asking<V> {
    pub(super) fn new(bounds: Bounds) -> Self {
        let (yes, no) = bounds.answers;
        let (anybody, trusted) = bounds.slots;
        Self {
            digests: Digests::new(),
            kept: Arc::new(Kept {
                yes: Memory::new(yes),
                no: Memory::new(no),
                trusted: Memory::new(yes),
            }),
            under_way: Mutex::default(),
            slots: Arc::new(Semaphore::new(anybody)),
            shares: Arc::new(Shares {
                most: anybody.div_ceil(4),
                held: Mutex::default(),
            }),
            trusted_slots: Arc::new(Semaphore::new(trusted)),
        }
    }

    /// The answer to a question; `holds` says of an answer how long it is believed. One that comes from a source of connections has
    /// a slot of that source's share.
    pub(super) async fn ask(
        &self,
        (question, source): (&[u8], Option<IpAddr>),
        ask: impl FnOnce() -> BoxFuture<'static, Outcome<V>>,
        holds: impl FnOnce(&V) -> Holds + Send + 'static,
    ) -> Outcome<V> {
        let key = self.digests.as_ref().map(|digests| digests.key(question));
        if let Some(key) = &key
            && let Some(known) = self
                .kept
                .yes
                .recall(key)
                .or_else(|| self.kept.no.recall(key))
        {
            return Ok(known);
        }
        self.asked((key, source), ask, holds)?.await
    }

    /// The same question under way, or a new one.
    fn asked(
        &self,
        (key, source): (Option<Key>, Option<IpAddr>),
        ask: impl FnOnce() -> BoxFuture<'static, Outcome<V>>,
        holds: impl FnOnce(&V) -> Holds + Send + 'static,
    ) -> Result<Asked<V>, ReviewError> {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let same = key.and_then(|key| under_way.get(&key)?.upgrade());
        if let Some(same) = same.filter(|same| same.peek().is_none()) {
            return Ok(same);
        }
        let slot = self.slot(key.as_ref(), source).ok_or(ReviewError::Busy)?;
        let (kept, answer) = (Arc::clone(&self.kept), ask());
        let asked = async move {
            let _slot = slot;
            let answer = tokio::time::timeout(REVIEW_DEADLINE, answer).await;
            let answer = answer.unwrap_or(Err(ReviewError::Late))?;
            if let Some(key) = key {
                kept.keep(key, answer.clone(), &holds(&answer));
            }
            Ok(answer)
        };
        let asked = asked.boxed().shared();
        if let (Some(key), Some(weak)) = (key, asked.downgrade()) {
            // No more than there are slots stay.
            under_way
                .retain(|_, asked| asked.upgrade().is_some_and(|asked| asked.peek().is_none()));
            under_way.insert(key, weak);
        }
        Ok(asked)
    }

    fn slot(
        &self,
        key: Option<&Key>,
        source: Option<IpAddr>,
    ) -> Option<(OwnedSemaphorePermit, Option<Share>)> {
        let of_all = || Arc::clone(&self.slots).try_acquire_owned().ok();
        let slot = match source {
            None => of_all().map(|slot| (slot, None)),
            Some(source) => {
                let share = self.shares.take(source);
                share.and_then(|share| Some((of_all()?, Some(share))))
            }
        };
        if slot.is_some() {
            return slot;
        }
        self.kept.trusted.recall(key?)?;
        let slot = Arc::clone(&self.trusted_slots).try_acquire_owned().ok()?;
        Some((slot, None))
    }
}
