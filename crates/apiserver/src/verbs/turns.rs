//! Turns for requests that compute for long.
//!
//! In:    verbs
//! Out:   the semaphore for a verb
//! Calls: `verbs/heavy`, `verbs/watch`
//! Holds: writes do not delay lists, and lists do not delay writes
//! Upstream: none

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Long requests of each sort at a time; each may hold several copies of a large object.
const AT_ONCE: usize = 2;

/// The turns of long requests, separate for lists and writes, so that neither delays the other.
#[derive(Debug)]
pub(crate) struct Turns {
    lists: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        let turns = || Arc::new(Semaphore::new(AT_ONCE));
        Self {
            lists: turns(),
            writes: turns(),
        }
    }
}

impl Turns {
    /// The turns for a verb.
    pub(crate) fn of(&self, verb: &str) -> &Arc<Semaphore> {
        if ["get", "list", "watch"].contains(&verb) {
            &self.lists
        } else {
            &self.writes
        }
    }
}
