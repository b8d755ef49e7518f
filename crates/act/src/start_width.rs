//! How many sandboxes and containers are made at once on this node, and who goes first.
//!
//! In:    the width
//! Out:   slots, held while the runtime works
//! Calls: execute
//! Holds: at most `width` slots are out; whoever waits for a container waits behind one sandbox at the most. Otherwise, of many pods
//!        at once, all sandboxes would come first: no pod would be ready until the last one had its network, and the two kinds of
//!        work, which wait for different things, would not overlap
//! Upstream: none (there every pod worker calls at will)

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Slots of the node. Clones share them.
#[derive(Clone, Debug)]
pub struct StartWidth {
    slots: Arc<Semaphore>,
    /// Whoever has it is the one sandbox that waits among the containers.
    sandbox_turn: Arc<Semaphore>,
}

impl StartWidth {
    /// So many slots, at least one.
    pub fn new(width: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(width.max(1))),
            sandbox_turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Waits for a slot to make a sandbox in.
    pub async fn for_sandbox(&self) -> Option<SemaphorePermit<'_>> {
        // Semaphores hand out in the order of asking; they are never closed, so there is always a slot in the end.
        let _turn = self.sandbox_turn.acquire().await;
        self.slots.acquire().await.ok()
    }

    /// Waits for a slot to make and start a container in.
    pub async fn for_container(&self) -> Option<SemaphorePermit<'_>> {
        self.slots.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use futures_util::future::join_all;

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
}
