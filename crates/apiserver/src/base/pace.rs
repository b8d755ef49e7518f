//! The pace of long answers: they go out slice by slice, in turn, so that a short one waits for a slice or two of them.
//!
//! In:    answers that have given a slice
//! Out:   leave for the next one
//! Calls: `http`; runs beside the controllers
//! Holds: of all that wait for leave one gets it in each round of the runtime, whatever many they are; who never takes what it got
//!        leave for holds nobody up; where nobody gives leave none is needed
//! Upstream: none; Go's goroutines are preempted

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use hyper::body::Bytes;
use tokio::sync::{Notify, oneshot};

/// What an answer gives at a time.
pub(crate) const SLICE: usize = 64 << 10;

type Waiting = VecDeque<oneshot::Sender<()>>;

/// Who waits for leave.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// `None` while nobody gives leave.
    waiting: Mutex<Option<Waiting>>,
    news: Notify,
}

/// Ends the giving of leave; who waits for it goes on.
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

    /// Gives leave.
    pub(crate) async fn run(&self) {
        *self.lock() = Some(Waiting::new());
        let _running = Running(self);
        loop {
            let next = self.lock().as_mut().and_then(VecDeque::pop_front);
            match next {
                Some(next) => {
                    // One that has gone uses no time.
                    if next.send(()).is_ok() {
                        tokio::task::yield_now().await;
                    }
                }
                None => self.news.notified().await,
            }
        }
    }

    /// Waits for leave.
    async fn leave(&self) {
        let (leave, given) = oneshot::channel();
        match self.lock().as_mut() {
            Some(waiting) => waiting.push_back(leave),
            None => return,
        }
        self.news.notify_one();
        // An end of the giver is leave too.
        let _given = given.await;
    }

    /// The same bytes, in slices.
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
