//! The one way into calls that may hang: own threads with a deadline, or inline under simulation.
//!
//! In:    a closure, its deadline, a word what it does, and what it is about
//! Out:   its result, or [`Overdue`] when the deadline passed first or an earlier call still hangs; how each lane stands
//! Calls: every acting task that touches a disk, a mount or a cgroup
//! Holds: an overdue call is abandoned, never awaited, not even when the process stops (tokio's own blocking pool
//!        would wait for it), and counted once; a call that had not begun by its deadline never begins; the threads of
//!        each lane are bounded, so that dead mounts cost at most that many and no other lane; while a call about
//!        something hangs no second one is made about it; a lane whose threads all hang refuses at once
//! Upstream: none (the Go kubelet blocks a goroutine and its thread)

mod lane;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use lane::Threads;

/// A blocking call did not give a result in time, or at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Overdue {
    /// It runs on in its thread; what it does may still happen.
    #[error("{what} has not returned within {deadline:?} and is abandoned")]
    Abandoned {
        /// What the call does, and about what.
        what: String,
        /// How long it was waited for.
        deadline: Duration,
    },
    /// An earlier call about the same was abandoned and has not returned; this one did nothing and never will.
    #[error("{hung} has not returned since {since}; nothing is tried before it does")]
    Hangs {
        /// The call that hangs, and about what.
        hung: String,
        /// When it began.
        since: Timestamp,
    },
    /// All threads were taken by other calls; it did nothing and never will.
    #[error("{what} found no free thread: {abandoned} abandoned calls hold threads{holders}")]
    NotStarted {
        /// What the call does, and about what.
        what: String,
        /// Abandoned calls that still hold a thread.
        abandoned: usize,
        /// The oldest of them, for people; empty when there is none.
        holders: String,
    },
    /// The call panicked; the panic's text went to the panic hook.
    #[error("{what} panicked")]
    Panicked {
        /// What the call does, and about what.
        what: String,
    },
}

/// Calls of one kind, with threads of their own: what hangs in one lane holds up no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Manifests.
    Sources,
    /// What takes pods down, and all of cgroups.
    Removals,
    /// Directories of pods in the node's own root directory, and its journal.
    Pods,
    /// Paths that pods bring along, wherever on the node they lie: any file system may be behind them.
    HostPaths,
    /// What statuses, pulls and figures read.
    Reads,
    /// The look whether the root directory answers at all.
    Probe,
}

impl Lane {
    const ALL: [Self; 6] = [
        Self::Sources,
        Self::Removals,
        Self::Pods,
        Self::HostPaths,
        Self::Reads,
        Self::Probe,
    ];

    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sources => "sources",
            Self::Removals => "removals and cgroups",
            Self::Pods => "pods' directories",
            Self::HostPaths => "host paths",
            Self::Reads => "reads",
            Self::Probe => "probe of the root directory",
        }
    }

    /// How many threads it has at most. Host paths have many: each pod's may hang by itself.
    fn width(self) -> usize {
        match self {
            Self::Sources => 4,
            Self::Removals | Self::Pods => 16,
            Self::HostPaths => 64,
            Self::Reads => 8,
            Self::Probe => 1,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a call is about. While a call with this key hangs, no other one is made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// What must not be touched twice: a pod, or a pod and its volume.
    pub key: String,
    /// The same for people.
    pub text: String,
    /// Where the file system is mounted that the call goes to, if that is known: few calls go to one at a time.
    pub mount: Option<String>,
}

impl About {
    /// Something that there is once on the node.
    pub fn the(what: impl Into<String>) -> Self {
        let text = what.into();
        Self {
            key: text.clone(),
            text,
            mount: None,
        }
    }
}

/// How blocking calls run. Cloning shares the threads.
#[derive(Debug, Clone)]
pub enum Blocking {
    /// On own threads (the product), in one lane of them.
    Threads(Arc<Lanes>, Lane),
    /// At once, on the caller's thread, without a deadline (simulation: threads would not hold virtual time still).
    Inline,
}

/// The threads of all lanes.
#[derive(Debug)]
pub struct Lanes([Arc<Threads>; 6]);

impl Blocking {
    /// At most `limit` threads in each lane; none runs before it is needed, and idle ones end after ten seconds.
    pub fn threads(limit: usize) -> Self {
        let lanes = Lane::ALL.map(|_| Threads::new(limit));
        Self::Threads(Arc::new(Lanes(lanes)), Lane::Reads)
    }

    /// As many threads in each lane as it is meant to have.
    pub fn lanes() -> Self {
        let lanes = Lane::ALL.map(|lane| Threads::new(lane.width()));
        Self::Threads(Arc::new(Lanes(lanes)), Lane::Reads)
    }

    /// The same threads, for calls of this kind.
    #[must_use]
    pub fn lane(&self, lane: Lane) -> Self {
        match self {
            Self::Threads(lanes, _) => Self::Threads(Arc::clone(lanes), lane),
            Self::Inline => Self::Inline,
        }
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
        self.run_about(About::default(), deadline, what, call).await
    }

    /// The same, unless an earlier call about the same hangs: then it is refused at once.
    ///
    /// # Errors
    /// [`Overdue`]; the call's own result, an error too, is the `Ok` value.
    pub async fn run_about<T: Send + 'static>(
        &self,
        about: About,
        deadline: Duration,
        what: &'static str,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Overdue> {
        match self {
            Self::Inline => Ok(call()),
            Self::Threads(lanes, lane) => {
                if let Some(hangs) = lanes.hangs(&about) {
                    return Err(hangs);
                }
                let threads = lanes.of(*lane);
                threads.run((about, what), deadline, call).await
            }
        }
    }

    /// Figures of this lane; all zero when inline.
    pub fn counts(&self) -> BlockingCounts {
        match self {
            Self::Inline => BlockingCounts::default(),
            Self::Threads(lanes, lane) => lanes.of(*lane).counts(),
        }
    }

    /// How every lane stands; none when inline.
    pub fn standings(&self) -> Vec<Standing> {
        match self {
            Self::Inline => Vec::new(),
            Self::Threads(lanes, _) => {
                let all = Lane::ALL.into_iter().zip(&lanes.0);
                all.map(|(lane, threads)| threads.standing(lane)).collect()
            }
        }
    }
}

impl Lanes {
    /// Whether a call about the same hangs, in whichever lane.
    fn hangs(&self, about: &About) -> Option<Overdue> {
        self.0.iter().find_map(|threads| threads.hangs(about))
    }

    fn of(&self, lane: Lane) -> &Arc<Threads> {
        let [sources, removals, pods, host_paths, reads, probe] = &self.0;
        match lane {
            Lane::Sources => sources,
            Lane::Removals => removals,
            Lane::Pods => pods,
            Lane::HostPaths => host_paths,
            Lane::Reads => reads,
            Lane::Probe => probe,
        }
    }
}

/// What the threads of a lane are doing and did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockingCounts {
    /// Threads alive.
    pub threads: usize,
    /// Threads waiting for a call.
    pub idle: usize,
    /// Calls that wait for a thread.
    pub queued: usize,
    /// Abandoned calls that have not returned yet.
    pub abandoned: usize,
    /// Calls that were ever overdue, started or not.
    pub overdue_total: u64,
}

/// How a lane stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Which.
    pub lane: Lane,
    /// Its figures.
    pub counts: BlockingCounts,
    /// Calls that were abandoned and have not returned, the oldest first: what each does, and since when.
    pub hung: Vec<(String, Timestamp)>,
    /// For how long calls have waited for a thread while none began or returned, or all threads have been held by abandoned calls.
    pub still_for: Option<Duration>,
}

#[cfg(test)]
mod tests;
