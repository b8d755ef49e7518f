//! The one way into calls that may hang: own threads with a deadline, or inline under simulation.
//!
//! In:    a closure, its deadline and a word what it does
//! Out:   its result, or [`Overdue`] when the deadline passed first
//! Calls: every acting task that touches a disk, a mount or a cgroup
//! Holds: an overdue call is abandoned, never awaited, not even when the process stops (tokio's own blocking pool
//!        would wait for it); a call that had not begun by its deadline never begins; the number of threads is
//!        bounded, so that dead mounts cost at most that many threads and later calls say so by [`Overdue`]
//! Upstream: none (the Go kubelet blocks a goroutine and its thread)

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// A blocking call did not give a result in time, or at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Overdue {
    /// It runs on in its thread; what it does may still happen.
    #[error("{what} has not returned within {deadline:?} and is abandoned")]
    Abandoned {
        /// What the call does.
        what: &'static str,
        /// How long it was waited for.
        deadline: Duration,
    },
    /// All threads were taken by other calls; it did nothing and never will.
    #[error(
        "{what} found no free thread within {deadline:?}: {abandoned} abandoned calls hold threads"
    )]
    NotStarted {
        /// What the call does.
        what: &'static str,
        /// How long it was waited for.
        deadline: Duration,
        /// Abandoned calls that still hold a thread.
        abandoned: usize,
    },
    /// The call panicked; the panic's text went to the panic hook.
    #[error("{what} panicked")]
    Panicked {
        /// What the call does.
        what: &'static str,
    },
}

/// How blocking calls run. Cloning shares the threads.
#[derive(Debug, Clone)]
pub enum Blocking {
    /// On own threads (the product).
    Threads(Arc<Threads>),
    /// At once, on the caller's thread, without a deadline (simulation: threads would not hold virtual time still).
    Inline,
}

impl Blocking {
    /// At most `limit` threads; none runs before it is needed, and idle ones end after ten seconds.
    pub fn threads(limit: usize) -> Self {
        Self::Threads(Arc::new(Threads {
            limit: limit.max(1),
            state: Mutex::new(State::default()),
            wake: Condvar::new(),
        }))
    }

    /// Runs `call` and waits at most `deadline` for it.
    ///
    /// # Errors
    /// [`Overdue`]; the call's own result, an error too, is the `Ok` value.
    pub async fn run<T: Send + 'static>(
        &self,
        deadline: Duration,
        what: &'static str,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Overdue> {
        match self {
            Self::Inline => Ok(call()),
            Self::Threads(threads) => threads.run(deadline, what, call).await,
        }
    }

    /// Figures for `/debug/tasks` and metrics; all zero when inline.
    pub fn counts(&self) -> BlockingCounts {
        match self {
            Self::Inline => BlockingCounts::default(),
            Self::Threads(threads) => threads.state().counts,
        }
    }
}

/// What the threads are doing and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockingCounts {
    /// Threads alive.
    pub threads: usize,
    /// Threads waiting for a call.
    pub idle: usize,
    /// Abandoned calls that have not returned yet.
    pub abandoned: usize,
    /// Calls that were ever overdue, started or not.
    pub overdue_total: u64,
}

/// The bounded set of threads behind [`Blocking::Threads`].
#[derive(Debug)]
pub struct Threads {
    limit: usize,
    state: Mutex<State>,
    wake: Condvar,
}

type Job = Box<dyn FnOnce(&Threads) + Send>;

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    counts: BlockingCounts,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("queue", &self.queue.len())
            .field("counts", &self.counts)
            .finish()
    }
}

/// Who got there first: the thread that would begin the call, or the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Queued,
    Running,
    Returned,
    Abandoned,
}

const IDLE_THREAD_LIVES: Duration = Duration::from_secs(10);

impl Threads {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held can only be one of our own counters; they stay usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        deadline: Duration,
        what: &'static str,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Overdue> {
        let (done, mut result) = oneshot::channel();
        let progress = Arc::new(Mutex::new(Progress::Queued));
        let seen = Arc::clone(&progress);
        self.submit(Box::new(move |threads: &Self| {
            // The lock orders the start against the deadline: exactly one of them wins.
            {
                let mut progress = seen.lock().unwrap_or_else(PoisonError::into_inner);
                if *progress == Progress::Abandoned {
                    return;
                }
                *progress = Progress::Running;
            }
            let outcome = catch_unwind(AssertUnwindSafe(call));
            {
                let mut progress = seen.lock().unwrap_or_else(PoisonError::into_inner);
                if *progress == Progress::Abandoned {
                    threads.state().counts.abandoned -= 1;
                } else {
                    *progress = Progress::Returned;
                }
            }
            if let Ok(value) = outcome {
                // Nobody listens when the call was abandoned.
                drop(done.send(value));
            }
        }));
        let mut guard = GiveUp {
            threads: self,
            progress: &progress,
            armed: true,
        };
        if let Ok(answer) = tokio::time::timeout(deadline, &mut result).await {
            guard.armed = false;
            return answer.map_err(|_| Overdue::Panicked { what });
        }
        match guard.give_up() {
            // It returned at the very moment of the deadline: its result is on the way.
            Progress::Returned => result.await.map_err(|_| Overdue::Panicked { what }),
            Progress::Running | Progress::Abandoned => Err(Overdue::Abandoned { what, deadline }),
            Progress::Queued => Err(Overdue::NotStarted {
                what,
                deadline,
                abandoned: self.state().counts.abandoned,
            }),
        }
    }

    fn submit(self: &Arc<Self>, job: Job) {
        let mut state = self.state();
        state.queue.push_back(job);
        if state.queue.len() > state.counts.idle && state.counts.threads < self.limit {
            state.counts.threads += 1;
            let threads = Arc::clone(self);
            let spawned = std::thread::Builder::new()
                .name("blocking".to_owned())
                .stack_size(512 << 10)
                .spawn(move || threads.work());
            if spawned.is_err() {
                // No thread to be had (limits): the job stays queued for the others, or its deadline passes.
                state.counts.threads -= 1;
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    fn work(&self) {
        let mut state = self.state();
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                job(self);
                state = self.state();
                continue;
            }
            state.counts.idle += 1;
            let (woken, timeout) = self
                .wake
                .wait_timeout(state, IDLE_THREAD_LIVES)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.counts.idle -= 1;
            if timeout.timed_out() && state.queue.is_empty() {
                state.counts.threads -= 1;
                return;
            }
        }
    }
}

/// Marks a call as abandoned at its deadline, and also when the waiting future is dropped.
struct GiveUp<'a> {
    threads: &'a Threads,
    progress: &'a Mutex<Progress>,
    armed: bool,
}

impl GiveUp<'_> {
    /// How far the call was when it was given up.
    fn give_up(&mut self) -> Progress {
        self.armed = false;
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let was = *progress;
        if was != Progress::Returned {
            *progress = Progress::Abandoned;
            let mut state = self.threads.state();
            state.counts.overdue_total += 1;
            state.counts.abandoned += usize::from(was == Progress::Running);
        }
        was
    }
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.give_up();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::block_on;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(30);

    #[test]
    fn a_call_gives_its_result_and_inline_runs_on_the_same_thread() {
        let here = std::thread::current().id();
        let blocking = Blocking::threads(2);
        let there = block_on(blocking.run(LONG, "look", || std::thread::current().id()));
        assert_ne!(there.unwrap(), here);
        let there = block_on(Blocking::Inline.run(LONG, "look", || std::thread::current().id()));
        assert_eq!(there.unwrap(), here);
    }

    #[test]
    fn an_overdue_call_is_counted_abandoned_and_frees_its_thread_when_it_returns() {
        let blocking = Blocking::threads(1);
        let (release, held) = mpsc::channel::<()>();
        let (report, began) = mpsc::channel::<&str>();
        let first = report.clone();
        block_on(async {
            let stuck = blocking.run(SHORT, "stat a dead server", move || {
                first.send("stuck").unwrap();
                held.recv().unwrap_err();
            });
            let overdue = stuck.await.unwrap_err();
            assert_eq!(
                overdue,
                Overdue::Abandoned {
                    what: "stat a dead server",
                    deadline: SHORT
                }
            );
            let second = report.clone();
            let overdue = blocking
                .run(SHORT, "mount", move || second.send("mount").unwrap())
                .await
                .unwrap_err();
            assert_eq!(
                overdue,
                Overdue::NotStarted {
                    what: "mount",
                    deadline: SHORT,
                    abandoned: 1
                }
            );
            assert_eq!(blocking.counts().overdue_total, 2);
            drop(release);
            assert_eq!(blocking.run(LONG, "again", || 7).await, Ok(7));
        });
        drop(report);
        assert_eq!(blocking.counts().abandoned, 0);
        assert_eq!(
            began.iter().collect::<Vec<_>>(),
            ["stuck"],
            "the call that never began did not run later"
        );
    }

    #[test]
    fn a_panic_in_a_call_is_an_error_and_the_thread_lives_on() {
        let blocking = Blocking::threads(1);
        block_on(async {
            let outcome: Result<(), _> = blocking.run(LONG, "boom", || panic!("on purpose")).await;
            assert_eq!(outcome, Err(Overdue::Panicked { what: "boom" }));
            assert_eq!(blocking.run(LONG, "next", || 1).await, Ok(1));
        });
    }

    #[test]
    fn never_more_threads_than_the_limit() {
        let blocking = Blocking::threads(3);
        block_on(async {
            let calls: Vec<_> = (0..40)
                .map(|i| blocking.run(LONG, "count", move || i))
                .collect();
            let mut sum = 0;
            for call in calls {
                sum += call.await.unwrap();
            }
            assert_eq!(sum, 780);
        });
        assert!(blocking.counts().threads <= 3);
    }
}
