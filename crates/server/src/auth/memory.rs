//! A cache of answers, limited in time and number.
//!
//! In:    a key (a keyed digest, never the secret itself), an answer and how long it is valid
//! Out:   the answer, while it is valid
//! Calls: `auth`
//! Holds: never more entries than the limit; when full, the entry that expires first is dropped
//! Upstream: apiserver pkg/authentication/token/cache, plugin/pkg/authorizer/webhook (1.36)

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ring::hmac;
use ring::rand::SystemRandom;
use tokio::time::Instant;

pub(super) type Key = [u8; 32];

/// Makes the keys of questions, which contain secrets.
pub(super) struct Digests(hmac::Key);

impl Digests {
    /// `None` if the system has no random numbers.
    pub(super) fn new() -> Option<Self> {
        let secret = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Some(Self(secret.ok()?))
    }

    /// The key of a question.
    pub(super) fn key(&self, question: &[u8]) -> Key {
        let mut key = [0; 32];
        for (to, from) in key.iter_mut().zip(hmac::sign(&self.0, question).as_ref()) {
            *to = *from;
        }
        key
    }
}

/// Cached answers by question.
pub(super) struct Memory<V> {
    limit: usize,
    /// Never locked across an await.
    entries: Mutex<BTreeMap<Key, (Instant, V)>>,
}

impl<V: Clone> Memory<V> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            entries: Mutex::new(BTreeMap::new()),
        }
    }

    pub(super) fn recall(&self, key: &Key) -> Option<V> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, value) = entries.get(key)?;
        (Instant::now() < *until).then(|| value.clone())
    }

    pub(super) fn keep(&self, key: Key, value: V, holds: Duration) {
        let now = Instant::now();
        let Some(until) = now.checked_add(holds).filter(|until| *until > now) else {
            return;
        };
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.limit {
            entries.retain(|_, (until, _)| now < *until);
        }
        if entries.len() >= self.limit {
            let first = entries.iter().min_by_key(|(_, (until, _))| *until);
            if let Some(first) = first.map(|(key, _)| *key) {
                entries.remove(&first);
            }
        }
        entries.insert(key, (until, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_hold_for_their_time_and_no_more_than_the_limit_are_kept() {
        let (digests, memory) = (Digests::new().unwrap(), Memory::new(2));
        let [a, b, c] = ["a", "b", "c"].map(|text| digests.key(text.as_bytes()));
        assert!(a != b && a == digests.key(b"a"));
        let other = Digests::new().unwrap();
        assert_ne!(a, other.key(b"a"), "each has its secret");
        memory.keep(a, 1, Duration::from_secs(10));
        memory.keep(b, 2, Duration::from_secs(20));
        memory.keep(c, 3, Duration::ZERO);
        assert_eq!(
            [a, b, c].map(|key| memory.recall(&key)),
            [Some(1), Some(2), None]
        );
        memory.keep(c, 3, Duration::from_secs(30));
        assert_eq!(
            [a, b, c].map(|key| memory.recall(&key)),
            [None, Some(2), Some(3)]
        );
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(
            [a, b, c].map(|key| memory.recall(&key)),
            [None, None, Some(3)]
        );
        assert_eq!(memory.entries.lock().unwrap().len(), 2);
    }
}
