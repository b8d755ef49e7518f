//! What happened in the stand-in runtime, as data: a line per RPC begin and end and per effect, and the story of every instance ever made.
//!
//! In:    the stand-in's own transitions
//! Out:   [`TraceLine`]s (two runs of one seed give equal lines), [`Instance`]s with who ended them
//! Calls: crate world's invariants, tests
//! Holds: instances are never forgotten, not even when the container is removed
//! Upstream: none

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceLine {
    /// Virtual time since the runtime was made.
    pub at: Duration,
    /// Number of the RPC, from 1; 0 for what no RPC did.
    pub call: u64,
    /// What kind of line.
    pub step: TraceStep,
    /// The RPC's method, or the noun of the effect.
    pub method: &'static str,
    /// Ids and arguments, or the result.
    pub text: String,
}

/// The kinds of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceStep {
    /// An RPC came in.
    Begin,
    /// An RPC was answered, or its caller went away.
    End,
    /// The state changed.
    Effect,
}

impl fmt::Display for TraceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match self.step {
            TraceStep::Begin => ">",
            TraceStep::End => "<",
            TraceStep::Effect => "*",
        };
        write!(
            f,
            "{:>14.6} {:>6} {step} {} {}",
            self.at.as_secs_f64(),
            self.call,
            self.method,
            self.text
        )
    }
}

/// Who ended a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndedBy {
    /// It exited by its own behaviour.
    Itself,
    /// A StopContainer call, by SIGTERM or SIGKILL.
    StopContainer,
    /// A StopPodSandbox call.
    StopPodSandbox,
    /// A RemoveContainer or RemovePodSandbox call on something that still ran.
    Remove,
    /// `StandInRuntime::kill`: somebody outside, such as the OOM killer.
    Outside,
    /// The node went down with everything on it.
    NodeCrash,
}

/// One container or sandbox that was ever made. Times are nanoseconds of the truth; the wire tells them by the node's wall clock,
/// which is the same until somebody sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The pod's UID.
    pub pod_uid: String,
    /// `<namespace>/<name>` of the pod.
    pub pod: String,
    /// The container's name; empty for the sandbox itself.
    pub name: String,
    /// The attempt that the kubelet gave it.
    pub attempt: u32,
    /// Its id.
    pub id: String,
    /// Its sandbox's id (for a sandbox its own).
    pub sandbox_id: String,
    /// The process, 0 before it started.
    pub pid: u32,
    /// When the call came in that created it.
    pub asked: i64,
    /// When it was created.
    pub created: i64,
    /// When it was started.
    pub started: Option<i64>,
    /// Its start was cut off: the caller or the runtime went before it had an effect.
    pub cut_off: bool,
    /// When its process ended (the truth, which the runtime notes later).
    pub ended: Option<i64>,
    /// Exit code of the process.
    pub exit_code: Option<i32>,
    /// Who ended the process.
    pub ended_by: Option<EndedBy>,
    /// When a stop was first asked for (of a sandbox: when it ended).
    pub stop_asked: Option<i64>,
    /// When it was removed from the runtime.
    pub removed: Option<i64>,
    /// Stops that were begun on it while it ran.
    pub stops: Vec<StopCall>,
    /// Commands in it that ended.
    pub execs: Vec<DoneExec>,
}

/// A StopContainer call that found its container running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopCall {
    /// When it was begun.
    pub at: i64,
    /// Its timeout, seconds.
    pub seconds: i64,
}

/// A command in a container, of an ExecSync call, that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoneExec {
    /// Its words.
    pub command: String,
    /// When it was begun.
    pub began: i64,
    /// When it ended.
    pub ended: i64,
    /// With which code.
    pub code: i32,
    /// Whoever asked for it heard nothing of its end.
    pub answer_lost: bool,
}

impl Instance {
    /// Whether its process ran at any moment of the other's.
    fn ran_together_with(&self, other: &Self) -> bool {
        let (Some(mine), Some(theirs)) = (self.started, other.started) else {
            return false;
        };
        mine < other.ended.unwrap_or(i64::MAX) && theirs < self.ended.unwrap_or(i64::MAX)
    }
}

/// Pairs of instances of one (pod UID, container) whose processes ran at the same time: indices, in order. Empty is good.
pub fn overlapping(instances: &[Instance]) -> Vec<(usize, usize)> {
    let mut groups: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for (index, instance) in instances
        .iter()
        .enumerate()
        .filter(|(_, instance)| instance.started.is_some())
    {
        groups
            .entry((&instance.pod_uid, &instance.name))
            .or_default()
            .push(index);
    }
    let mut pairs = Vec::new();
    for group in groups.into_values() {
        for (place, first) in group.iter().enumerate() {
            let later = group.iter().skip(place + 1);
            let together =
                later.filter(|second| instances[*first].ran_together_with(&instances[**second]));
            pairs.extend(together.map(|second| (*first, *second)));
        }
    }
    pairs
}

/// Pairs of *started* instances of one (pod UID, container, attempt), in order of creation. Empty is good.
pub fn repeated_attempts(instances: &[Instance]) -> Vec<(usize, usize)> {
    let mut first: BTreeMap<(&str, &str, u32), usize> = BTreeMap::new();
    let mut pairs = Vec::new();
    for (index, instance) in instances
        .iter()
        .enumerate()
        .filter(|(_, instance)| instance.started.is_some())
    {
        let key = (
            instance.pod_uid.as_str(),
            instance.name.as_str(),
            instance.attempt,
        );
        if let Some(earlier) = first.insert(key, index) {
            pairs.push((earlier, index));
        }
    }
    pairs
}
