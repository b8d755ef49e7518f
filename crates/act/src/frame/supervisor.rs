//! The only place that starts tasks. The kind of a task says what its end, its error and its panic mean.
//!
//! In:    `TaskKind`, name, future
//! Out:   a table of what runs (`/debug/tasks`); the first fatal end, for the process to exit on
//! Calls: everyone
//! Holds: a panic never leaves its task; the end of a `Core` task ends the process; no task outlives `abort_all`
//! Upstream: none (there 90 `go` statements); the idea is restate's task centre

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::frame::clock::Clock;

/// What the end of a task means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaskKind {
    /// Without it the process is worth nothing: its end, unless asked for, ends the process.
    Core,
    /// A loop that is started again after a while.
    Reconciler,
    /// One pod's: its panic is logged and leaves the other pods alone.
    PodWorker,
    /// A connection, a listener, a one-off.
    Stream,
}

impl TaskKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Reconciler => "reconciler",
            Self::PodWorker => "pod worker",
            Self::Stream => "stream",
        }
    }
}

/// Why a task's future came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It returned.
    Returned,
    /// It panicked, with this text.
    Panicked(String),
}

struct Entry {
    kind: TaskKind,
    name: String,
    started: jiff::Timestamp,
    restarts: u32,
    abort: AbortHandle,
}

#[derive(Default)]
struct Table {
    next: u64,
    tasks: BTreeMap<u64, Entry>,
    panics: u64,
}

/// Starts tasks and knows them. Clones share one table.
#[derive(Clone)]
pub struct Supervisor {
    table: Arc<Mutex<Table>>,
    clock: Clock,
    stop: CancellationToken,
    fatal: watch::Sender<Option<String>>,
    ends: watch::Sender<u64>,
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("stop", &self.stop.is_cancelled())
            .finish_non_exhaustive()
    }
}

/// A reconciler that ended is started again after this long.
const RESTART_AFTER: Duration = Duration::from_secs(5);

impl Supervisor {
    /// An empty table.
    pub fn new(clock: Clock) -> Self {
        Self {
            table: Arc::default(),
            clock,
            stop: CancellationToken::new(),
            fatal: watch::Sender::new(None),
            ends: watch::Sender::new(0),
        }
    }

    /// Cancelled when the process is asked to stop; every task watches it.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Resolves with the reason when a core task has ended.
    pub async fn fatal(&self) -> String {
        let mut fatal = self.fatal.subscribe();
        match fatal.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the supervisor is gone".to_owned(),
        }
    }

    /// Starts a task.
    pub fn spawn(
        &self,
        kind: TaskKind,
        name: impl Into<String>,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        let id = {
            let mut table = self.lock();
            table.next += 1;
            table.next
        };
        let this = self.clone();
        let name = name.into();
        let task_name = name.clone();
        // The entry is put in before the task can end: nothing awaits between spawn and insert on this one thread,
        // and the end takes the same lock.
        let mut table = self.lock();
        // Boxed before it is captured: a block holds what it captures and what it awaits side by side, so twice.
        let future = Box::pin(AssertUnwindSafe(future).catch_unwind());
        #[expect(clippy::disallowed_methods, reason = "the one place")]
        let handle = tokio::spawn(async move {
            let end = match future.await {
                Ok(()) => End::Returned,
                Err(panic) => End::Panicked(panic_text(panic.as_ref())),
            };
            this.ended(id, kind, &task_name, &end);
        });
        let entry = Entry {
            kind,
            name,
            started: self.clock.now(),
            restarts: 0,
            abort: handle.abort_handle(),
        };
        table.tasks.insert(id, entry);
    }

    /// Starts a loop that is made and started again whenever it ends before the stop.
    pub fn spawn_reconciler<F>(
        &self,
        name: &'static str,
        mut make: impl FnMut() -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let (this, stop) = (self.clone(), self.stop.clone());
        self.spawn(TaskKind::Reconciler, name, async move {
            loop {
                let ended = AssertUnwindSafe(make()).catch_unwind().await;
                if stop.is_cancelled() {
                    return;
                }
                this.restarts(name, ended.is_err());
                match ended {
                    Ok(()) => tracing::warn!(task = name, "Task ended and is started again"),
                    Err(panic) => {
                        tracing::error!(
                            task = name,
                            panic = panic_text(panic.as_ref()),
                            "Task panicked and is started again"
                        );
                    }
                }
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(RESTART_AFTER) => {}
                }
            }
        });
    }

    /// Notes that a loop is begun anew.
    fn restarts(&self, name: &str, has_panicked: bool) {
        let mut table = self.lock();
        table.panics += u64::from(has_panicked);
        let mut tasks = table.tasks.values_mut();
        if let Some(task) = tasks.find(|t| t.kind == TaskKind::Reconciler && t.name == name) {
            task.restarts = task.restarts.saturating_add(1);
        }
    }

    /// Ends every task at once, as a crash would.
    pub fn abort_all(&self) {
        let mut table = self.lock();
        for entry in table.tasks.values() {
            entry.abort.abort();
        }
        table.tasks.clear();
    }

    /// Names of tasks of a kind that still run.
    pub fn running(&self, kind: TaskKind) -> usize {
        self.lock()
            .tasks
            .values()
            .filter(|t| t.kind == kind)
            .count()
    }

    /// Resolves when no task runs any more.
    pub async fn drained(&self) {
        let mut ends = self.ends.subscribe();
        loop {
            ends.borrow_and_update();
            if self.lock().tasks.is_empty() {
                return;
            }
            if ends.changed().await.is_err() {
                return;
            }
        }
    }

    /// The table, for `/debug/tasks`.
    pub fn to_json(&self) -> Value {
        let table = self.lock();
        let tasks: Vec<Value> = table
            .tasks
            .values()
            .map(|t| json!({"name": t.name, "kind": t.kind.as_str(), "since": t.started.to_string(), "restarts": t.restarts}))
            .collect();
        json!({"tasks": tasks, "panics": table.panics})
    }

    fn ended(&self, id: u64, kind: TaskKind, name: &str, end: &End) {
        let stopping = self.stop.is_cancelled();
        {
            let mut table = self.lock();
            table.tasks.remove(&id);
            if matches!(end, End::Panicked(_)) {
                table.panics += 1;
            }
        }
        self.ends.send_modify(|ends| *ends += 1);
        if let End::Panicked(text) = end {
            tracing::error!(task = name, kind = kind.as_str(), panic = %text, "Task panicked");
        }
        if kind == TaskKind::Core && !stopping {
            let reason = match end {
                End::Returned => format!("task {name} ended"),
                End::Panicked(text) => format!("task {name} panicked: {text}"),
            };
            self.fatal.send_replace(Some(reason));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no text".to_owned())
}
