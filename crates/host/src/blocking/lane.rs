//! The threads of one lane: the queue, running calls, abandoned calls.
//!
//! In:    calls with their subjects
//! Out:   their results, or why there is none
//! Calls: blocking
//! Holds: one lock covers the queue and the running calls, so that the start of a call and its deadline are ordered; a call
//!        that is given up leaves the queue; at most [`AT_ONE_MOUNT`] calls access one file system at a time
//! Upstream: none

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::{About, BlockingCounts, Lane, Overdue, Standing};

/// Calls to one file system at a time; further calls wait without a thread.
const AT_ONE_MOUNT: usize = 8;
/// So many abandoned calls show that a file system is dead: no more calls are made until one returns.
const HUNG_AT_ONE_MOUNT: usize = 4;
const IDLE_THREAD_LIVES: Duration = Duration::from_secs(10);
/// The number of abandoned calls that an error names.
const NAMED: usize = 3;

/// The threads of one lane.
#[derive(Debug)]
pub(super) struct Threads {
    limit: usize,
    state: Mutex<State>,
    wake: Condvar,
}

type Job = Box<dyn FnOnce() -> Deliver + Send>;
/// Delivers the result, after the call is marked as returned.
type Deliver = Box<dyn FnOnce() + Send>;

struct Queued {
    about: About,
    what: &'static str,
    since: Instant,
    until: Instant,
    job: Job,
}

#[derive(Debug)]
struct Running {
    about: About,
    what: &'static str,
    began: Timestamp,
    /// The deadline.
    until: Instant,
    /// Nobody waits for the call any more.
    is_given_up: bool,
    is_counted: bool,
}

impl Running {
    /// Given up and overdue. A call that was given up before its deadline was given up for another reason than hanging.
    fn is_abandoned(&self) -> bool {
        self.is_given_up && Instant::now() >= self.until
    }

    fn text(&self) -> String {
        text(self.what, &self.about)
    }

    fn hangs(&self) -> Overdue {
        Overdue::Hangs {
            hung: self.text(),
            since: self.began,
        }
    }
}

#[derive(Default)]
struct State {
    next: u64,
    queue: BTreeMap<u64, Queued>,
    running: BTreeMap<u64, Running>,
    threads: usize,
    idle: usize,
    overdue_total: u64,
    /// When a call last began or returned.
    progressed: Option<Instant>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("queue", &self.queue.len())
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

/// Why a call is given up.
#[derive(Clone, Copy, PartialEq)]
enum Why {
    Overdue,
    /// Its caller no longer needs it.
    Dropped,
}

/// The progress of a call when it was given up.
enum GivenUp {
    Queued,
    Running,
    Returned,
}

impl State {
    fn hung(&self) -> impl Iterator<Item = &Running> {
        self.running.values().filter(|call| call.is_abandoned())
    }

    fn at_mount(&self, mount: &str) -> impl Iterator<Item = &Running> + Clone {
        let is_there = move |call: &&Running| call.about.mount.as_deref() == Some(mount);
        self.running.values().filter(is_there)
    }

    /// Why a call is refused without waiting.
    fn refusal(&self, about: &About, what: &'static str, limit: usize) -> Option<Overdue> {
        let mount = about.mount.as_deref().unwrap_or_default();
        let hung = self.at_mount(mount).filter(|call| call.is_abandoned());
        if hung.clone().count() >= HUNG_AT_ONE_MOUNT {
            return hung.map(Running::hangs).next();
        }
        (self.hung().count() >= limit).then(|| self.not_started(what, about))
    }

    fn not_started(&self, what: &'static str, about: &About) -> Overdue {
        let hung = self.hung().count();
        let named: Vec<String> = self
            .hung()
            .take(NAMED)
            .map(|call| format!("{} since {}", call.text(), call.began))
            .collect();
        Overdue::NotStarted {
            what: text(what, about),
            abandoned: hung,
            holders: match named.as_slice() {
                [] => String::new(),
                named if hung > NAMED => format!(" ({}, …)", named.join(", ")),
                named => format!(" ({})", named.join(", ")),
            },
        }
    }

    /// The next call that may begin, with its number.
    fn take(&mut self) -> Option<(u64, Job)> {
        let may_begin = |queued: &Queued| {
            let mount = queued.about.mount.as_deref();
            mount.is_none_or(|mount| self.at_mount(mount).count() < AT_ONE_MOUNT)
        };
        let id = *self.queue.iter().find(|(_, queued)| may_begin(queued))?.0;
        let queued = self.queue.remove(&id)?;
        let running = Running {
            about: queued.about,
            what: queued.what,
            began: Timestamp::now(),
            until: queued.until,
            is_given_up: false,
            is_counted: false,
        };
        self.running.insert(id, running);
        self.progressed = Some(Instant::now());
        Some((id, queued.job))
    }

    fn give_up(&mut self, id: u64, why: Why) -> GivenUp {
        let is_overdue = why == Why::Overdue;
        if self.queue.remove(&id).is_some() {
            self.overdue_total += u64::from(is_overdue);
            return GivenUp::Queued;
        }
        let Some(call) = self.running.get_mut(&id) else {
            return GivenUp::Returned;
        };
        call.is_given_up = true;
        if is_overdue {
            call.until = call.until.min(Instant::now());
            call.is_counted = true;
            self.overdue_total += 1;
        }
        GivenUp::Running
    }

    /// Removes a call that has returned.
    fn returned(&mut self, id: u64) {
        let call = self.running.remove(&id);
        let is_late = |call: Running| call.is_abandoned() && !call.is_counted;
        self.overdue_total += u64::from(call.is_some_and(is_late));
        self.progressed = Some(Instant::now());
    }

    fn overdue_total(&self) -> u64 {
        let uncounted = self.hung().filter(|call| !call.is_counted).count();
        let uncounted = u64::try_from(uncounted).unwrap_or(u64::MAX);
        self.overdue_total.saturating_add(uncounted)
    }

    fn still_for(&self, limit: usize) -> Option<Duration> {
        let oldest = self.queue.values().map(|queued| queued.since).min();
        let is_full = self.hung().count() >= limit;
        let waits_since = match (oldest, is_full) {
            (Some(oldest), _) => oldest.max(self.progressed.unwrap_or(oldest)),
            (None, true) => self.progressed?,
            (None, false) => return None,
        };
        Some(waits_since.elapsed())
    }
}

impl Threads {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit: limit.max(1),
            state: Mutex::new(State::default()),
            wake: Condvar::new(),
        })
    }

    pub(super) fn counts(&self) -> BlockingCounts {
        let state = self.state();
        BlockingCounts {
            threads: state.threads,
            idle: state.idle,
            queued: state.queue.len(),
            abandoned: state.hung().count(),
            overdue_total: state.overdue_total(),
        }
    }

    pub(super) fn standing(&self, lane: Lane) -> Standing {
        let counts = self.counts();
        let state = self.state();
        Standing {
            lane,
            counts,
            hung: state.hung().map(|call| (call.text(), call.began)).collect(),
            still_for: state.still_for(self.limit),
        }
    }

    /// Whether a call about the same subject was given up in this lane and has not returned, even before its deadline.
    pub(super) fn hangs(&self, about: &About) -> Option<Overdue> {
        let is_same = |call: &&Running| {
            call.is_given_up && !about.key.is_empty() && call.about.key == about.key
        };
        let state = self.state();
        state.running.values().find(is_same).map(Running::hangs)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock can only come from our own counters; they stay usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        (about, what): (About, &'static str),
        deadline: Duration,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Overdue> {
        let (done, mut result) = oneshot::channel();
        let job: Job = Box::new(move || {
            let outcome = catch_unwind(AssertUnwindSafe(call));
            Box::new(move || {
                if let Ok(value) = outcome {
                    // An abandoned call has no receiver.
                    drop(done.send(value));
                }
            })
        });
        let id = self.submit((&about, what), deadline, job)?;
        let mut guard = GiveUp {
            threads: self,
            id,
            is_armed: true,
        };
        let panicked = || Overdue::Panicked {
            what: text(what, &about),
        };
        if let Ok(answer) = tokio::time::timeout(deadline, &mut result).await {
            guard.is_armed = false;
            return answer.map_err(|_| panicked());
        }
        match guard.give_up(Why::Overdue) {
            // It returned at the moment of the deadline: its result is about to arrive.
            GivenUp::Returned => result.await.map_err(|_| panicked()),
            GivenUp::Running => Err(Overdue::Abandoned {
                what: text(what, &about),
                deadline,
            }),
            GivenUp::Queued => Err(self.state().not_started(what, &about)),
        }
    }

    fn submit(
        self: &Arc<Self>,
        (about, what): (&About, &'static str),
        deadline: Duration,
        job: Job,
    ) -> Result<u64, Overdue> {
        let mut state = self.state();
        if let Some(refusal) = state.refusal(about, what, self.limit) {
            state.overdue_total += u64::from(matches!(refusal, Overdue::NotStarted { .. }));
            return Err(refusal);
        }
        state.next += 1;
        let id = state.next;
        let now = Instant::now();
        let queued = Queued {
            about: about.clone(),
            what,
            since: now,
            until: now.checked_add(deadline).unwrap_or(now),
            job,
        };
        state.queue.insert(id, queued);
        if state.queue.len() > state.idle && state.threads < self.limit {
            state.threads += 1;
            let threads = Arc::clone(self);
            let spawned = std::thread::Builder::new()
                .name("blocking".to_owned())
                .stack_size(512 << 10)
                .spawn(move || threads.work());
            if spawned.is_err() {
                // No thread can be started (limits): the job stays queued for the other threads, or its deadline passes.
                state.threads -= 1;
            }
        }
        drop(state);
        self.wake.notify_one();
        Ok(id)
    }

    fn work(&self) {
        let mut state = self.state();
        loop {
            if let Some((id, job)) = state.take() {
                drop(state);
                let deliver = job();
                state = self.state();
                state.returned(id);
                drop(state);
                deliver();
                state = self.state();
                continue;
            }
            state.idle += 1;
            let (woken, timeout) = self
                .wake
                .wait_timeout(state, IDLE_THREAD_LIVES)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if timeout.timed_out() && state.queue.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

/// Gives a call up at its deadline, or when the waiting future is dropped: in that case it counts as abandoned from its
/// deadline on.
struct GiveUp<'a> {
    threads: &'a Threads,
    id: u64,
    is_armed: bool,
}

impl GiveUp<'_> {
    fn give_up(&mut self, why: Why) -> GivenUp {
        self.is_armed = false;
        self.threads.state().give_up(self.id, why)
    }
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        if self.is_armed {
            self.give_up(Why::Dropped);
        }
    }
}

fn text(what: &str, about: &About) -> String {
    if about.text.is_empty() {
        what.to_owned()
    } else {
        format!("{what} ({})", about.text)
    }
}
