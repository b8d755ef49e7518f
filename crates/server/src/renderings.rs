//! Expensive responses: rendered on threads, a few at a time, once for all requests that wait for the same.
//!
//! In:    what is to be rendered, and how
//! Out:   bytes, shared by those requests
//! Calls: `answer`
//! Holds: the async thread renders nothing long, so that health checks are answered meanwhile; a response is never older than
//!        its request; a request that waits for a turn holds nothing rendered; nothing that may hang holds a turn
//! Upstream: none; Go's goroutines are preempted

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use hyper::StatusCode;
use hyper::body::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::DebugTopic;

/// Renderings at a time. One would do if there is one processor more than the async thread needs.
const AT_ONCE: usize = 2;
/// Questions to other components at a time; their answers stay in memory until they are rendered.
const QUESTIONS: usize = 4;
/// How long another component may take to answer, including the wait for a turn to ask.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// What is rendered. Equal requests that arrive before a rendering begins share it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Metrics,
    HealthMetrics,
    ProbeMetrics,
    Configz,
    Spec,
    RunningPods,
    /// With the request's query.
    Debug(DebugTopic, Option<String>),
}

/// Why there is no response.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub(crate) status: StatusCode,
    pub(crate) text: Arc<str>,
}

impl Failed {
    pub(crate) fn new(status: StatusCode, text: &str) -> Self {
        let text = text.into();
        Self { status, text }
    }

    pub(crate) fn internal(why: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, &why.to_string())
    }
}

pub(crate) type Outcome = Result<Bytes, Failed>;
type Coming = Shared<BoxFuture<'static, Outcome>>;

/// The turns of all ports together. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Turns {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }

    pub(crate) async fn take(&self) -> Result<OwnedSemaphorePermit, Failed> {
        let turn = Arc::clone(&self.0).acquire_owned().await;
        turn.map_err(Failed::internal)
    }

    /// Renders on a thread. The turn lasts until the rendering ends, even if nobody waits for it any more.
    pub(crate) async fn render<T: Send + 'static>(
        turn: OwnedSemaphorePermit,
        render: impl FnOnce() -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, Failed> {
        let work = tokio::task::spawn_blocking(move || {
            let rendered = render();
            drop(turn);
            rendered
        });
        work.await.map_err(Failed::internal)?
    }
}

/// All renderings of the node's ports. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Renderings {
    pub(crate) turns: Turns,
    questions: Arc<Semaphore>,
    waiting: Arc<Mutex<Waiting>>,
}

/// Renderings that have not begun.
#[derive(Default)]
struct Waiting {
    next: u64,
    coming: BTreeMap<What, (u64, WeakShared<BoxFuture<'static, Outcome>>)>,
}

/// The entry of a rendering that has not begun; removed when dropped.
struct Unbegun {
    waiting: Arc<Mutex<Waiting>>,
    what: What,
    id: u64,
}

impl Drop for Unbegun {
    fn drop(&mut self) {
        let mut waiting = locked(&self.waiting);
        if waiting
            .coming
            .get(&self.what)
            .is_some_and(|(id, _)| *id == self.id)
        {
            waiting.coming.remove(&self.what);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Renderings {
    pub(crate) fn new() -> Self {
        Self {
            turns: Turns::new(),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            waiting: Arc::default(),
        }
    }

    /// Renders data that is at hand.
    pub(crate) async fn render(
        &self,
        what: What,
        render: impl FnOnce() -> Outcome + Send + 'static,
    ) -> Outcome {
        let turns = self.turns.clone();
        let coming = self.shared(what, |place| {
            async move {
                let turn = turns.take().await?;
                drop(place);
                Turns::render(turn, render).await
            }
            .boxed()
        });
        coming.await
    }

    /// Asks another component, and renders its answer. Asking needs a turn of its own, since a component may hang.
    pub(crate) async fn ask<A: Send + 'static>(
        &self,
        what: What,
        ask: impl Future<Output = Option<A>> + Send + 'static,
        render: impl FnOnce(A) -> Outcome + Send + 'static,
    ) -> Outcome {
        let (turns, questions) = (self.turns.clone(), Arc::clone(&self.questions));
        let coming = self.shared(what, |place| {
            async move {
                let unavailable = |text| Failed::new(StatusCode::SERVICE_UNAVAILABLE, text);
                let asked = tokio::time::timeout(ANSWER_DEADLINE, async {
                    let question = questions.acquire_owned().await.ok();
                    drop(place);
                    (question, ask.await)
                });
                let late = "the component did not answer within 2 s";
                let (_question, known) = asked.await.map_err(|_elapsed| unavailable(late))?;
                let gone = "the component is not running";
                let known = known.ok_or_else(|| unavailable(gone))?;
                let turn = turns.take().await?;
                Turns::render(turn, move || render(known)).await
            }
            .boxed()
        });
        coming.await
    }

    /// The same rendering if it has not begun, or a new one.
    fn shared(
        &self,
        what: What,
        make: impl FnOnce(Unbegun) -> BoxFuture<'static, Outcome>,
    ) -> Coming {
        let mut waiting = locked(&self.waiting);
        let same = waiting
            .coming
            .get(&what)
            .and_then(|(_, coming)| coming.upgrade());
        if let Some(same) = same {
            return same;
        }
        let id = waiting.next;
        waiting.next += 1;
        let place = Unbegun {
            waiting: Arc::clone(&self.waiting),
            what: what.clone(),
            id,
        };
        let coming = make(place).shared();
        if let Some(weak) = coming.downgrade() {
            waiting.coming.insert(what, (id, weak));
        }
        coming
    }

    /// The number of renderings that have not begun.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        locked(&self.waiting).coming.len()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn said(text: &str) -> Outcome {
        Ok(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_component_that_hangs_keeps_no_turn_of_what_is_at_hand() {
        let all = Renderings::new();
        let hung = |number: usize| {
            let what = What::Debug(DebugTopic::Tasks, Some(number.to_string()));
            all.ask(what, std::future::pending::<Option<()>>(), |()| said(""))
        };
        let mut asking: Vec<_> = (0..50).map(|number| Box::pin(hung(number))).collect();
        assert!(asking.iter_mut().all(|one| one.now_or_never().is_none()));
        assert_eq!(all.waiting(), 50 - QUESTIONS);
        let thread = std::thread::current().id();
        let render = move || {
            assert_ne!(std::thread::current().id(), thread);
            said("here")
        };
        assert_eq!(all.render(What::Spec, render).await.unwrap(), "here");
        let began = tokio::time::Instant::now();
        for one in asking {
            let failed = one.await.unwrap_err();
            assert_eq!(failed.status, StatusCode::SERVICE_UNAVAILABLE);
        }
        assert_eq!(began.elapsed(), ANSWER_DEADLINE);
        assert_eq!(all.waiting(), 0);
    }

    #[tokio::test]
    async fn who_gives_up_leaves_no_place_and_a_panic_no_turn() {
        let all = Renderings::new();
        let taken = [
            all.turns.take().await.unwrap(),
            all.turns.take().await.unwrap(),
        ];
        let mut first = Box::pin(all.render(What::Metrics, || said("a")));
        let mut second = Box::pin(all.render(What::Metrics, || said("b")));
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        assert_eq!(all.waiting(), 1);
        drop(first);
        assert_eq!(all.waiting(), 1, "the other still waits");
        drop(taken);
        // It shares the rendering that the first request waits for.
        assert_eq!(second.await.unwrap(), "a");
        assert_eq!(all.waiting(), 0);
        for _ in 0..AT_ONCE {
            let failed = all.render(What::Metrics, || panic!("planted")).await;
            assert_eq!(
                failed.unwrap_err().status,
                StatusCode::INTERNAL_SERVER_ERROR
            );
        }
        assert_eq!(all.render(What::Metrics, || said("c")).await.unwrap(), "c");
        let taken = [
            all.turns.take().await.unwrap(),
            all.turns.take().await.unwrap(),
        ];
        drop(all.render(What::Metrics, || said("d")).now_or_never());
        assert_eq!(all.waiting(), 0, "nobody waits any more");
        drop(taken);
    }
}
