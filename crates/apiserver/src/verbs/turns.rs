//! Turns of requests that compute for long.
//!
//! In:    verbs
//! Out:   the semaphore that a verb waits at
//! Calls: `verbs/heavy`, `verbs/watch`
//! Holds: what many writes compute holds up no list, and the other way round
//! Upstream: none

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Long requests at a time, of each sort; each may hold several copies of a large object.
const AT_ONCE: usize = 2;

/// The turns of long requests: what many writes compute holds up no list, and the other way round.
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
    /// The ones that a verb takes.
    pub(crate) fn of(&self, verb: &str) -> &Arc<Semaphore> {
        if ["get", "list", "watch"].contains(&verb) {
            &self.lists
        } else {
            &self.writes
        }
    }
}
