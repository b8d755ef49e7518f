//! How many sandboxes and containers are made and removed at once on this node, and who goes first.
//!
//! In:    the width
//! Out:   slots, held while the runtime works
//! Calls: execute
//! Holds: at most `width` slots are out; whoever waits for a container waits behind one sandbox at the most. Otherwise, of many
//!        pods at once, all sandboxes would come first: no pod would be ready until the last one had its network, and the two
//!        kinds of work, which wait for different things, would not overlap. Removals of pods that
//!        leave have [`REMOVALS`] slots of their own, since nothing waits for them. A slot is given back after [`PATIENCE`], whatever the runtime does: a call that hangs holds up
//!        its own pod and no other
//! Upstream: none (there every pod worker calls at will)

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::frame::slot::Slot;

/// A runtime that has not answered for so long works on something else, or not at all: others may try.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removals at once: each costs the runtime several syncs of its database, which starts and stops need more.
const REMOVALS: usize = 2;

/// Slots of the node. Clones share them.
#[derive(Clone, Debug)]
pub struct StartWidth {
    slots: Arc<Semaphore>,
    /// Whoever has it is the one sandbox that waits among the containers.
    sandbox_turn: Arc<Semaphore>,
    removals: Arc<Semaphore>,
}

impl StartWidth {
    /// So many slots, at least one.
    pub fn new(width: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(width.max(1))),
            sandbox_turn: Arc::new(Semaphore::new(1)),
            removals: Arc::new(Semaphore::new(REMOVALS)),
        }
    }

    /// Waits for a slot to make a sandbox in.
    pub async fn for_sandbox(&self) -> Slot {
        // Semaphores hand out in the order of asking; they are never closed, so there is always a slot in the end.
        let _turn = self.sandbox_turn.acquire().await;
        self.for_container().await
    }

    /// Waits for a slot to make and start a container in.
    pub async fn for_container(&self) -> Slot {
        let permit = Arc::clone(&self.slots).acquire_owned().await.ok();
        Slot::new(permit, PATIENCE)
    }

    /// Waits for a slot to remove a stopped sandbox or container in.
    pub async fn for_removal(&self) -> Slot {
        let permit = Arc::clone(&self.removals).acquire_owned().await.ok();
        Slot::new(permit, PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use futures_util::future::join_all;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_container_waits_behind_one_sandbox_at_most() {
        let width = StartWidth::new(1);
        let order = RefCell::new(Vec::new());
        let busy = width.for_container().await;
        let sandboxes = (0..4).map(|number| {
            let (width, order) = (&width, &order);
            async move {
                let _slot = width.for_sandbox().await;
                order.borrow_mut().push(format!("sandbox {number}"));
            }
        });
        let container = async {
            let _slot = width.for_container().await;
            order.borrow_mut().push("container".to_owned());
        };
        let end = async { drop(busy) };
        // Polled in this order: all sandboxes ask before the container does.
        tokio::join!(biased; join_all(sandboxes), container, end);
        let place = order.borrow().iter().position(|who| who == "container");
        assert_eq!(place, Some(1), "{order:?}");
    }

    #[tokio::test]
    async fn no_more_than_the_width_are_out() {
        let width = StartWidth::new(2);
        let _one = width.for_sandbox().await;
        let _two = width.for_container().await;
        assert_eq!(width.slots.available_permits(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_gives_its_slot_back_and_goes_on() {
        let width = StartWidth::new(1);
        let (answer, answered) = tokio::sync::oneshot::channel::<u8>();
        let hangs = async {
            let mut slot = width.for_sandbox().await;
            slot.during(answered).await.unwrap()
        };
        let began = Instant::now();
        let other = async {
            let mut slot = width.for_container().await;
            let waited = slot.during(async { began.elapsed() }).await;
            answer.send(7).unwrap();
            waited
        };
        let (late, waited) = tokio::join!(biased; hangs, other);
        assert_eq!((late, waited), (7, PATIENCE));
        assert_eq!(width.slots.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_slot_counts_over_all_its_calls() {
        let width = StartWidth::new(1);
        let mut slot = width.for_container().await;
        for seconds in [6, 6] {
            let call = tokio::time::sleep(Duration::from_secs(seconds));
            slot.during(call).await;
        }
        assert_eq!(width.slots.available_permits(), 1);
    }
}
