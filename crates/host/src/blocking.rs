//! Runs calls that may hang: on threads with a deadline, or inline in simulations.
//!
//! In:    a closure, its deadline, a description, and its subject
//! Out:   its result, or [`Overdue`] if the deadline passed or an earlier call hangs; the state of each lane
//! Calls: every task that accesses a disk, a mount or a cgroup
//! Holds: an overdue call is abandoned, never awaited, not even when the process stops (tokio's own blocking pool would wait
//!        for it), and counted once; a call that has not begun by its deadline never begins; each lane has a limited number of
//!        threads, so that dead mounts cost at most that many and no other lane; while a call about a subject hangs, no second
//!        call about it is made; if all threads of a lane hang, it refuses calls at once
//! Upstream: none (the Go kubelet blocks a goroutine and its thread)

mod lane;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use lane::Threads;

/// Why a blocking call gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Overdue {
    /// The deadline passed. The call goes on in its thread, and may still take effect.
    #[error("{what} has not returned within {deadline:?} and is abandoned")]
    Abandoned {
        /// The description of the call and its subject.
        what: String,
        /// The deadline.
        deadline: Duration,
    },
    /// An earlier call about the same subject was abandoned and has not returned. This call did nothing and never will.
    #[error("{hung} has not returned since {since}; no further call is made until it does")]
    Hangs {
        /// The description of the hung call and its subject.
        hung: String,
        /// When it began.
        since: Timestamp,
    },
    /// All threads were busy with other calls. This call did nothing and never will.
    #[error("{what} found no free thread: {abandoned} abandoned calls hold threads{holders}")]
    NotStarted {
        /// The description of the call and its subject.
        what: String,
        /// The number of abandoned calls that still hold a thread.
        abandoned: usize,
        /// The oldest of them, for people; empty if there is none.
        holders: String,
    },
    /// The call panicked; the panic hook has reported the text.
    #[error("{what} panicked")]
    Panicked {
        /// The description of the call and its subject.
        what: String,
    },
}

/// A group of calls with threads of their own: a call that hangs in one lane does not delay another lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Manifest files.
    Sources,
    /// Removal of pods' files, and all cgroup operations.
    Removals,
    /// Pod directories in the node's own root directory, and the journal.
    Pods,
    /// Host paths of pods, wherever they are: any file system may be behind them.
    HostPaths,
    /// Reads for statuses, image pulls and metrics.
    Reads,
    /// The check whether the root directory responds.
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

    /// The name, for people.
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

    /// The number of threads. Host paths have many, since each pod's path may hang on its own.
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

/// The subject of a call. While a call with this key hangs, no other call with it is made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// What must not be accessed twice: a pod, or a pod and its volume.
    pub key: String,
    /// The same, for people.
    pub text: String,
    /// The mount point of the file system that the call accesses, if known: only a few calls access the same one at a time.
    pub mount: Option<String>,
}

impl About {
    /// A subject that exists once per node.
    pub fn the(what: impl Into<String>) -> Self {
        let text = what.into();
        Self {
            key: text.clone(),
            text,
            mount: None,
        }
    }
}

/// How blocking calls run. Clones share the threads.
#[derive(Debug, Clone)]
pub enum Blocking {
    /// On the threads of one lane (product).
    Threads(Arc<Lanes>, Lane),
    /// At once, on the caller's thread, without a deadline (simulation: threads would not follow virtual time).
    Inline,
}

/// The threads of all lanes.
#[derive(Debug)]
pub struct Lanes([Arc<Threads>; 6]);

impl Blocking {
    /// At most `limit` threads per lane. Threads start on demand; idle ones end after ten seconds.
    pub fn threads(limit: usize) -> Self {
        let lanes = Lane::ALL.map(|_| Threads::new(limit));
        Self::Threads(Arc::new(Lanes(lanes)), Lane::Reads)
    }

    /// The number of threads that each lane is meant to have.
    pub fn lanes() -> Self {
        let lanes = Lane::ALL.map(|lane| Threads::new(lane.width()));
        Self::Threads(Arc::new(Lanes(lanes)), Lane::Reads)
    }

    /// The same threads, for calls of this lane.
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
    /// [`Overdue`]. The call's own result, even an error, is the `Ok` value.
    pub async fn run<T: Send + 'static>(
        &self,
        deadline: Duration,
        what: &'static str,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Overdue> {
        self.run_about(About::default(), deadline, what, call).await
    }

    /// The same, but refused at once if an earlier call about the same subject hangs.
    ///
    /// # Errors
    /// [`Overdue`]. The call's own result, even an error, is the `Ok` value.
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

    /// The counters of this lane; all zero if inline.
    pub fn counts(&self) -> BlockingCounts {
        match self {
            Self::Inline => BlockingCounts::default(),
            Self::Threads(lanes, lane) => lanes.of(*lane).counts(),
        }
    }

    /// The state of every lane; none if inline.
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
    /// Whether a call about the same subject hangs, in any lane.
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

/// The counters of a lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockingCounts {
    /// Running threads.
    pub threads: usize,
    /// Threads that wait for a call.
    pub idle: usize,
    /// Calls that wait for a thread.
    pub queued: usize,
    /// Abandoned calls that have not returned.
    pub abandoned: usize,
    /// All calls that were ever overdue, started or not.
    pub overdue_total: u64,
}

/// The state of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The lane.
    pub lane: Lane,
    /// Its counters.
    pub counts: BlockingCounts,
    /// Abandoned calls that have not returned, the oldest first: the description, and when each began.
    pub hung: Vec<(String, Timestamp)>,
    /// How long calls have waited for a thread without any call beginning or returning, or how long abandoned calls have held
    /// all threads.
    pub still_for: Option<Duration>,
}

#[cfg(test)]
mod tests;
