//! Reviews of one kind at the API server: cached, shared by equal questions, few at a time.
//!
//! In:    a question, and how to ask it
//! Out:   the answer, or an immediate refusal because too many reviews are running
//! Calls: `auth`
//! Holds: reviews run only with a turn; a source address has at most a quarter of the turns, and only a source without a turn
//!        waits for one; a review that nobody waits for is cancelled; negative answers never evict positive ones; a credential
//!        with a positive answer in the last hour may use reserved slots
//! Upstream: apiserver pkg/authentication/token/cache (1.36); differences: limits for cached answers and for running reviews

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::memory::{Digests, Key, Memory};
use super::turns::{Grant, Turn, Turns};
use super::{REVIEW_DEADLINE, ReviewError};

/// How long a question with a positive answer may use the reserved slots.
const TRUSTED: Duration = Duration::from_secs(3600);
/// How long the first question of a source waits while other sources have all turns.
const IN_LINE: Duration = Duration::from_secs(2);

type Outcome<V> = Result<V, ReviewError>;
type Asked<V> = Shared<BoxFuture<'static, Outcome<V>>>;

/// The limits of one kind of reviews.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// Cached answers: positive, and negative.
    pub(super) answers: (usize, usize),
    /// Running reviews: for anybody (a quarter of them for one address), and for recently positive questions.
    pub(super) slots: (usize, usize),
}

/// Whether an answer is positive, and how long it is cached.
pub(super) struct Holds {
    pub(super) is_yes: bool,
    pub(super) holds: Duration,
}

/// The reviews of one kind.
pub(super) struct Asking<V> {
    /// `None` if the system has no random numbers: then nothing is cached or shared.
    digests: Option<Digests>,
    kept: Arc<Kept<V>>,
    under_way: Mutex<BTreeMap<Key, WeakShared<BoxFuture<'static, Outcome<V>>>>>,
    turns: Turns,
    trusted_slots: Arc<Semaphore>,
}

/// The permission to run a review.
enum Slot {
    Turn(Grant),
    Trusted(OwnedSemaphorePermit),
}

impl Slot {
    /// Waits for the turn if necessary.
    async fn held(self) -> Outcome<(Option<Turn>, Option<OwnedSemaphorePermit>)> {
        match self {
            Self::Turn(Grant::Turn(turn)) => Ok((Some(turn), None)),
            Self::Turn(Grant::Line(coming)) => match tokio::time::timeout(IN_LINE, coming).await {
                Ok(Ok(turn)) => Ok((Some(turn), None)),
                Ok(Err(_)) | Err(_) => Err(ReviewError::Busy),
            },
            Self::Trusted(slot) => Ok((None, Some(slot))),
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
            turns: Turns::new(anybody),
            trusted_slots: Arc::new(Semaphore::new(trusted)),
        }
    }

    /// The answer to a question from an address. `holds` says how long an answer is cached.
    pub(super) async fn ask(
        &self,
        (question, source): (&[u8], IpAddr),
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

    /// The running review of the same question, or a new one.
    fn asked(
        &self,
        (key, source): (Option<Key>, IpAddr),
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
            let _slot = slot.held().await?;
            let answer = tokio::time::timeout(REVIEW_DEADLINE, answer).await;
            let answer = answer.unwrap_or(Err(ReviewError::Late))?;
            if let Some(key) = key {
                kept.keep(key, answer.clone(), &holds(&answer));
            }
            Ok(answer)
        };
        let asked = asked.boxed().shared();
        if let (Some(key), Some(weak)) = (key, asked.downgrade()) {
            // At most as many remain as there are turns and waiting places.
            under_way
                .retain(|_, asked| asked.upgrade().is_some_and(|asked| asked.peek().is_none()));
            under_way.insert(key, weak);
        }
        Ok(asked)
    }

    fn slot(&self, key: Option<&Key>, source: IpAddr) -> Option<Slot> {
        let place = self.turns.take(source);
        if let Some(Grant::Turn(turn)) = place {
            return Some(Slot::Turn(Grant::Turn(turn)));
        }
        let is_trusted = key.is_some_and(|key| self.kept.trusted.recall(key).is_some());
        let slots = is_trusted.then(|| Arc::clone(&self.trusted_slots));
        let trusted = slots.and_then(|slots| slots.try_acquire_owned().ok());
        trusted.map(Slot::Trusted).or(place.map(Slot::Turn))
    }
}
