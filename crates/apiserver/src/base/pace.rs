//! Long responses take turns: each sends one slice at a time, so that a short response waits for a slice or two at most.
//!
//! In:    responses that have sent a slice
//! Out:   the turn to send the next slice
//! Calls: `http`; runs beside the controllers
//! Holds: in each round of the async runtime exactly one waiting response gets its turn, however many wait; a response that
//!        never uses its turn blocks no other; if the task that gives turns does not run, nobody waits
//! Upstream: none; Go's goroutines are preempted

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use hyper::body::Bytes;
use tokio::sync::{Notify, oneshot};

/// The bytes of one slice.
pub(crate) const SLICE: usize = 64 << 10;

type Waiting = VecDeque<oneshot::Sender<()>>;

/// The queue of responses that wait for their turn.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// `None` while the task that gives turns does not run.
    waiting: Mutex<Option<Waiting>>,
    news: Notify,
}

/// Ends the queue when the task ends; the responses in it go on.
struct Running<'a>(&'a Pace);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

impl Pace {
    fn lock(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives one response after the other its turn.
    pub(crate) async fn run(&self) {
        *self.lock() = Some(Waiting::new());
        let _running = Running(self);
        loop {
            let next = self.lock().as_mut().and_then(VecDeque::pop_front);
            match next {
                Some(next) => {
                    // A response that is gone uses no time.
                    if next.send(()).is_ok() {
                        tokio::task::yield_now().await;
                    }
                }
                None => self.news.notified().await,
            }
        }
    }

    /// Waits for the turn.
    async fn leave(&self) {
        let (leave, given) = oneshot::channel();
        match self.lock().as_mut() {
            Some(waiting) => waiting.push_back(leave),
            None => return,
        }
        self.news.notify_one();
        // The end of the task counts as a turn, too.
        let _given = given.await;
    }

    /// Splits a body into slices and waits for a turn between them.
    pub(crate) fn slices(
        pace: Arc<Self>,
        parts: BoxStream<'static, Bytes>,
    ) -> impl Stream<Item = Bytes> + Send + 'static {
        let begin = (pace, parts, Bytes::new(), 0);
        stream::unfold(begin, async |(pace, mut parts, mut left, mut given)| {
            while left.is_empty() {
                left = parts.next().await?;
            }
            if given >= SLICE {
                pace.leave().await;
                given = 0;
            }
            let slice = left.split_to(left.len().min(SLICE - given));
            given += slice.len();
            Some((slice, (pace, parts, left, given)))
        })
    }
}
