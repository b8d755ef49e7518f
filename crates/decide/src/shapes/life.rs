//! The states of a pod's life.
//!
//! In:    nothing
//! Out:   [`Lifecycle`]
//! Calls: pod, report, act/pod
//! Holds: the states are in the order of the enum; a pod never goes back
//! Upstream: pkg/kubelet/pod_workers.go (podSyncStatus)

use jiff::Timestamp;

/// Where a pod stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// It is kept running.
    Syncing,
    /// It is being stopped.
    Terminating(Terminating),
    /// Nothing of it runs any more; what is left of it on the host and in the runtime is being removed.
    Terminated {
        /// Why it ended.
        cause: TerminationCause,
    },
    /// Nothing is left to do.
    Finished {
        /// Why it ended.
        cause: TerminationCause,
    },
}

/// A stop in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminating {
    /// Why.
    pub cause: TerminationCause,
    /// Since when.
    pub since: Timestamp,
    /// Grace in force, seconds, at least 1.
    pub grace_seconds: i64,
}

/// Why a pod is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TerminationCause {
    /// Its source does not name it any more.
    Removed,
    /// The runtime holds it and no source knows it.
    Orphaned,
    /// Its containers have all ended and none will be started again, or its time is over and they are made to end.
    Ended,
}

impl TerminationCause {
    /// For logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed from its source",
            Self::Orphaned => "unknown to every source",
            Self::Ended => "containers completed or deadline exceeded",
        }
    }
}

impl Lifecycle {
    /// Order of the states; a worker asserts that it never falls.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Syncing => 0,
            Self::Terminating(_) => 1,
            Self::Terminated { .. } => 2,
            Self::Finished { .. } => 3,
        }
    }

    /// Why the pod ends, once it does.
    pub fn cause(&self) -> Option<TerminationCause> {
        match self {
            Self::Syncing => None,
            Self::Terminating(t) => Some(t.cause),
            Self::Terminated { cause } | Self::Finished { cause } => Some(*cause),
        }
    }

    /// One word for logs and tables.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Syncing => "syncing",
            Self::Terminating(_) => "terminating",
            Self::Terminated { .. } => "terminated",
            Self::Finished { .. } => "finished",
        }
    }

    /// Whether the pod's place is wanted no more: removed or orphaned, whatever the progress.
    pub fn is_leaving(&self) -> bool {
        match self {
            Self::Syncing => false,
            Self::Terminating(t) => t.cause != TerminationCause::Ended,
            Self::Terminated { cause } | Self::Finished { cause } => {
                *cause != TerminationCause::Ended
            }
        }
    }
}
