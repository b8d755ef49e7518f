//! When a loop last began a turn, for `/healthz`.
//!
//! In:    the loop's own call at each turn, and at least once a minute when nothing else wakes it
//! Out:   a receiver that the server compares with the clock
//! Calls: sync_loop beats; wiring hands the receiver to the server's `LoopHealth`
//! Holds: a beat wakes nobody
//! Upstream: pkg/kubelet/kubelet.go (syncLoopMonitor, SyncLoopHealthCheck)

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// What `/healthz` says of a loop that stands still.
pub const SYNC_LOOP_FAILURE: &str = "sync Loop took longer than expected";
/// A loop that nothing wakes shows by this that it lives. Far below the shortest limit, five minutes.
const IDLE_BEAT: Duration = Duration::from_secs(60);

/// A loop's own end.
#[derive(Debug)]
pub struct LoopBeat {
    last: watch::Sender<Option<Instant>>,
}

impl Default for LoopBeat {
    fn default() -> Self {
        Self::new()
    }
}

impl LoopBeat {
    /// Before the first turn.
    pub fn new() -> Self {
        Self {
            last: watch::Sender::new(None),
        }
    }

    /// For the server.
    pub fn last_turn(&self) -> watch::Receiver<Option<Instant>> {
        self.last.subscribe()
    }

    /// A turn begins.
    pub fn turn(&self) {
        self.last.send_replace(Some(Instant::now()));
    }

    /// Resolves a minute after the last turn: one more arm of the loop's `select!`. Cancel: safe.
    pub async fn idle(&self) {
        let last = *self.last.borrow();
        let due = last.unwrap_or_else(Instant::now) + IDLE_BEAT;
        tokio::time::sleep_until(due).await;
    }
}

/// The oldest that the last turn of the sync loop may be: twice the sync period, five minutes at least.
pub fn sync_loop_max_age(sync_frequency: Duration) -> Duration {
    (sync_frequency * 2).max(Duration::from_secs(300))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_idle_loop_beats_each_minute_and_a_busy_one_at_each_turn() {
        let beat = LoopBeat::new();
        let seen = beat.last_turn();
        assert_eq!(*seen.borrow(), None);
        beat.turn();
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(seen.borrow().unwrap().elapsed(), Duration::from_secs(40));
        let before = Instant::now();
        beat.idle().await;
        assert_eq!(before.elapsed().as_secs(), 20);
        beat.turn();
        assert_eq!(seen.borrow().unwrap().elapsed(), Duration::ZERO);
    }

    #[test]
    fn the_limit_is_twice_the_period_but_five_minutes_at_least() {
        assert_eq!(sync_loop_max_age(Duration::from_secs(60)).as_secs(), 300);
        assert_eq!(sync_loop_max_age(Duration::from_secs(600)).as_secs(), 1200);
    }
}
