//! A turn that is given back when its call takes too long, while the call goes on.
//!
//! In:    the permit of a semaphore, how long it may be held
//! Out:   [`Slot`]
//! Calls: pod/start_width, probes/asking
//! Holds: a call that hangs holds up nobody else; it is never cancelled for that
//! Upstream: none

use std::future::Future;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// A turn of the node's, until it is dropped or its time is over.
#[derive(Debug)]
pub struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    until: Instant,
}

impl Slot {
    /// A slot that is given back after so long at the latest.
    pub(crate) fn new(permit: Option<OwnedSemaphorePermit>, patience: Duration) -> Self {
        Self {
            permit,
            until: Instant::now() + patience,
        }
    }

    /// For a call that takes no turn.
    pub(crate) fn free() -> Self {
        Self::new(None, Duration::ZERO)
    }

    /// Waits for an answer, and gives the slot back when that takes too long. The call goes on. Cancel: as the call.
    pub async fn during<T>(&mut self, call: impl Future<Output = T>) -> T {
        let mut call = std::pin::pin!(call);
        if self.permit.is_some() {
            tokio::select! {
                // An answer first: it is what is waited for.
                biased;
                answer = &mut call => return answer,
                () = tokio::time::sleep_until(self.until) => self.permit = None,
            }
        }
        call.await
    }
}
