//! A value that many tasks wait for. Tasks wake in the order in which they started to wait.
//!
//! In:    `set`, `change` by the one owner
//! Out:   the value now; a wait for its next change, or until it fulfils something
//! Calls: pleg (what was observed, first list), pod path (the runtime's network)
//! Holds: the order of waking is the same in every run, so that a simulated seed repeats (tokio's watch channel wakes many
//!        waiters in random order); a change between two waits is never missed
//! Upstream: none

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The owner's side and the readers' side in one. Clones share the value; each has its own mark of what it has seen.
#[derive(Debug)]
pub struct Signal<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

#[derive(Debug)]
struct Shared<T> {
    value: Mutex<(T, u64)>,
    changed: Notify,
}

impl<T> Clone for Signal<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            seen: self.seen,
        }
    }
}

impl<T> Signal<T> {
    /// With a first value, which counts as seen.
    pub fn new(value: T) -> Self {
        let shared = Shared {
            value: Mutex::new((value, 0)),
            changed: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
            seen: 0,
        }
    }

    fn lock(&self) -> MutexGuard<'_, (T, u64)> {
        self.shared
            .value
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the value; it does not count as seen.
    pub fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.lock().0)
    }

    /// Looks at the value; it counts as seen.
    pub fn see<R>(&mut self, look: impl FnOnce(&T) -> R) -> R {
        let guard = self.lock();
        let (result, seen) = (look(&guard.0), guard.1);
        drop(guard);
        self.seen = seen;
        result
    }

    /// Changes the value and wakes all who wait.
    pub fn change(&self, change: impl FnOnce(&mut T)) {
        let mut guard = self.lock();
        change(&mut guard.0);
        guard.1 += 1;
        drop(guard);
        self.shared.changed.notify_waiters();
    }

    /// Puts another value in its place and wakes all who wait.
    pub fn set(&self, value: T) {
        self.change(|old| *old = value);
    }

    /// Resolves at a change that this clone has not seen. Cancel safe.
    pub async fn changed(&mut self) {
        loop {
            let notified = self.shared.changed.notified();
            let version = self.lock().1;
            if version != self.seen {
                self.seen = version;
                return;
            }
            notified.await;
        }
    }

    /// Resolves as soon as the value fulfils this. Cancel safe.
    pub async fn until(&self, mut is_right: impl FnMut(&T) -> bool) {
        loop {
            // Made before the look: a change after it is told to this one, polled or not.
            let notified = self.shared.changed.notified();
            if self.look(&mut is_right) {
                return;
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream::FuturesUnordered;
    use futures_util::{FutureExt as _, StreamExt as _};

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn waiters_wake_in_the_order_in_which_they_came() {
        let signal = Signal::new(0);
        let wait = |name| {
            let signal = signal.clone();
            async move {
                signal.until(|value| *value > 0).await;
                name
            }
        };
        // Polls what was woken, in the order of waking, as the scheduler does.
        let mut waits: FuturesUnordered<_> = [1, 2, 3].map(wait).into_iter().collect();
        assert!(waits.next().now_or_never().is_none());
        signal.set(1);
        assert_eq!(waits.collect::<Vec<_>>().await, [1, 2, 3]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_change_between_two_waits_is_not_missed() {
        let owner = Signal::new("a");
        let mut reader = owner.clone();
        owner.set("b");
        reader.changed().await;
        assert_eq!(reader.see(|value| *value), "b");
        owner.set("c");
        reader.changed().await;
        assert_eq!(reader.look(|value| *value), "c");
    }
}
