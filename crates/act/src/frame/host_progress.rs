//! Checks whether file system work on the node makes progress: the root directory, the journal, each lane of blocking threads.
//!
//! In:    the kubelet's root directory; since when the journal waits for the disk; how each lane of blocking calls stands
//! Out:   beats for `/healthz`; what keeps the node from being Ready, naming what hangs
//! Calls: wiring, as a reconciler; node_status reads what it says
//! Holds: one pod whose file system hangs does not make the node NotReady; a root directory that does not answer does, and so
//!        do a journal that is not written and a lane without any progress. A full lane of host paths is only a warning in the
//!        message of the Ready condition
//! Upstream: none (there a hung disk shows in nothing but what does not happen); the words follow PLEG's in
//!           pkg/kubelet/runtime.go (runtimeErrors)

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubelet_host::HostRoot;
use kubelet_host::blocking::{About, Blocking, Lane, LaneState};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::frame::health::LoopBeat;
use crate::frame::reconciler::{Pace, Reconciler, RoundError, WakeReason};
use crate::frame::records::Records;

/// What `/healthz` says when there is no progress.
pub const HOST_WORK_FAILURE: &str = "host work makes no progress";
/// The oldest that the last good round may be.
pub const HOST_WORK_MAX_AGE: Duration = Duration::from_secs(45);

const PERIOD: Duration = Duration::from_secs(5);
/// Longest for one look at the root directory; a slower one counts when it returns.
const LOOK: Duration = Duration::from_secs(4);
/// Without an answer or progress for so long the node is not ready.
const THRESHOLD: Duration = Duration::from_secs(30);
/// So many calls that hang are named.
const NAMED: usize = 3;

/// The check.
#[derive(Clone, Debug)]
pub struct HostProgress {
    blocking: Blocking,
    directory: PathBuf,
    records: Records,
    answered: Instant,
    beat: Arc<LoopBeat>,
    problem: watch::Sender<Option<String>>,
    warning: watch::Sender<Option<String>>,
}

/// What one round found.
#[derive(Debug)]
pub struct Progress {
    problem: Option<String>,
    is_new: bool,
    warning: Option<String>,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Some(problem) if self.is_new => f.write_str(problem),
            None if self.is_new => f.write_str("host work is healthy again"),
            Some(_) | None => Ok(()),
        }
    }
}

impl HostProgress {
    /// Of a node with this root directory of the kubelet.
    pub fn new(root: &HostRoot, root_dir: &Path, blocking: &Blocking, records: Records) -> Self {
        let beat = LoopBeat::new();
        beat.turn();
        Self {
            blocking: blocking.clone(),
            directory: root.join(root_dir),
            records,
            answered: Instant::now(),
            beat: Arc::new(beat),
            problem: watch::Sender::new(None),
            warning: watch::Sender::new(None),
        }
    }

    /// How often it looks.
    pub fn pace() -> Pace {
        Pace::every(PERIOD)
    }

    /// When a round last found that all gets on.
    pub fn last_good(&self) -> watch::Receiver<Option<Instant>> {
        self.beat.last_turn()
    }

    /// What keeps the node from being ready.
    pub fn problem(&self) -> watch::Receiver<Option<String>> {
        self.problem.subscribe()
    }

    /// What hangs without keeping the node from being ready.
    pub fn warning(&self) -> watch::Receiver<Option<String>> {
        self.warning.subscribe()
    }
}

impl Reconciler for HostProgress {
    const NAME: &'static str = "host_progress";
    type Seen = Vec<LaneState>;
    type Plan = Progress;

    async fn observe(&mut self, _why: WakeReason) -> Result<Self::Seen, RoundError> {
        let directory = self.directory.clone();
        let about = About::the(self.directory.display().to_string());
        // An error is an answer, too.
        let look = move || drop(std::fs::read_dir(&directory).map(|mut entries| entries.next()));
        let blocking = self.blocking.lane(Lane::Probe);
        let answer = blocking.run_about(about, LOOK, "look at the root directory", look);
        if answer.await.is_ok() {
            self.answered = Instant::now();
        }
        Ok(self.blocking.lane_states())
    }

    fn decide(&self, lanes: Self::Seen, _now: Timestamp) -> Progress {
        let unanswered = Unanswered {
            look: self.answered.elapsed(),
            journal: self.records.unanswered_for(),
        };
        let problem = problem(&self.directory, unanswered, &lanes);
        Progress {
            is_new: *self.problem.borrow() != problem,
            problem,
            warning: warning(&lanes),
        }
    }

    async fn act(&mut self, plan: Progress) -> Result<(), RoundError> {
        match &plan.problem {
            Some(problem) if plan.is_new => tracing::error!(problem, "Host work is not healthy"),
            None if plan.is_new => tracing::info!("Host work is healthy again"),
            Some(_) | None => {}
        }
        if plan.problem.is_none() {
            self.beat.turn();
        }
        self.warning.send_if_modified(|shown| {
            let is_new = *shown != plan.warning;
            if is_new && let Some(warning) = &plan.warning {
                tracing::warn!(warning, "Host paths of pods hang");
            }
            *shown = plan.warning.clone();
            is_new
        });
        self.problem.send_if_modified(|shown| {
            *shown = plan.problem;
            plan.is_new
        });
        Ok(())
    }
}

/// For how long the disk has not answered.
#[derive(Clone, Copy, Debug, Default)]
struct Unanswered {
    /// A look at the root directory.
    look: Duration,
    /// A write of the journal, which lies below it.
    journal: Duration,
}

/// What does not get on. The same for as long as the same hangs: people compare it.
fn problem(directory: &Path, unanswered: Unanswered, lanes: &[LaneState]) -> Option<String> {
    let mut words = Vec::new();
    let at = directory.display();
    if unanswered.look >= THRESHOLD {
        words.push(format!("the root directory {at} does not answer"));
    } else if unanswered.journal >= THRESHOLD {
        words.push(format!(
            "the journal below the root directory {at} is not written"
        ));
    }
    let is_needed = |lane: Lane| !matches!(lane, Lane::HostPaths | Lane::Probe);
    let is_still = |lane_state: &&LaneState| {
        is_needed(lane_state.lane) && lane_state.still_for.is_some_and(|still| still >= THRESHOLD)
    };
    words.extend(lanes.iter().filter(is_still).map(no_progress));
    let text = words.join("; ");
    (!words.is_empty())
        .then(|| format!("host work is not healthy: {text}; threshold is {THRESHOLD:?}"))
}

/// No new host path of a pod can be looked at: those pods wait, and nobody else.
fn warning(lanes: &[LaneState]) -> Option<String> {
    let is_full = |lane_state: &&LaneState| {
        lane_state.lane == Lane::HostPaths
            && lane_state.still_for.is_some_and(|still| still >= THRESHOLD)
    };
    lanes.iter().find(is_full).map(no_progress)
}

fn no_progress(lane_state: &LaneState) -> String {
    let hung: Vec<String> = lane_state
        .hung
        .iter()
        .take(NAMED)
        .map(|(what, since)| format!("{what} has not returned since {since}"))
        .collect();
    let why = if hung.is_empty() {
        String::new()
    } else {
        format!(": {}", hung.join(", "))
    };
    format!("{} make no progress{why}", lane_state.lane)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::testing::Scratch;

    /// One round of the check.
    async fn round(check: &mut HostProgress) -> Option<String> {
        let seen = check.observe(WakeReason::Clock).await.unwrap();
        let plan = check.decide(seen, Timestamp::UNIX_EPOCH);
        check.act(plan).await.unwrap();
        let shown = check.problem();
        shown.borrow().clone()
    }

    /// A call in this lane that has begun, is overdue, and hangs until the sender is dropped.
    async fn hang(blocking: &Blocking, lane: Lane, pod: &str) -> mpsc::Sender<()> {
        let (release, held) = mpsc::channel::<()>();
        let (report, began) = tokio::sync::oneshot::channel();
        let about = About {
            key: pod.to_owned(),
            text: format!("pod {pod}"),
            mount: None,
        };
        let call = move || {
            report.send(()).unwrap();
            held.recv().unwrap_err();
        };
        let blocking = blocking.lane(lane);
        let deadline = Duration::from_millis(500);
        let before = blocking.counts().abandoned;
        tokio::select! {
            _ = blocking.run_about(about, deadline, "host side of a pod", call) => {}
            _ = began => {}
        }
        while blocking.counts().abandoned == before {
            tokio::task::yield_now().await;
        }
        release
    }

    #[tokio::test]
    async fn pods_that_hang_are_no_fault_of_the_node_and_a_lane_without_progress_is() {
        let scratch = Scratch::new();
        let blocking = Blocking::threads(2);
        let root = HostRoot::real();
        let mut check = HostProgress::new(&root, scratch.path(), &blocking, Records::none());
        let mut held = Vec::new();
        for pod in ["a", "b"] {
            held.push(hang(&blocking, Lane::HostPaths, pod).await);
        }
        let one = hang(&blocking, Lane::Removals, "c").await;
        assert_eq!(round(&mut check).await, None);
        let beaten = check.last_good().borrow().unwrap();
        let two = hang(&blocking, Lane::Removals, "d").await;
        assert_eq!(round(&mut check).await, None, "not before the threshold");
        let mut lanes = blocking.lane_states();
        assert_eq!(warning(&lanes), None, "not before the threshold");
        for lane in &mut lanes {
            lane.still_for = lane.still_for.map(|_| THRESHOLD);
        }
        let text = warning(&lanes).unwrap();
        assert!(
            text.starts_with(
                "host paths make no progress: host side of a pod (pod a) has not returned since 2"
            ) && !text.contains("pod c"),
            "{text}"
        );
        let text = problem(scratch.path(), Unanswered::default(), &lanes).unwrap();
        assert!(
            text.starts_with("host work is not healthy: removals and cgroups make no progress: host side of a pod (pod c) has not returned since 2")
                && text.contains("(pod d)")
                && !text.contains("(pod a)"),
            "{text}"
        );
        let plan = Progress {
            problem: Some(text),
            is_new: true,
            warning: None,
        };
        check.act(plan).await.unwrap();
        let after = check.last_good().borrow().unwrap();
        assert!(after >= beaten && check.problem().borrow().is_some());
        drop((one, two));
        while blocking.lane(Lane::Removals).counts().abandoned > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(round(&mut check).await, None, "it gets on again");
    }

    #[test]
    fn a_root_directory_that_does_not_answer_is_named() {
        let at = Path::new("/var/lib/kubelet");
        let problem = |look, journal| problem(at, Unanswered { look, journal }, &[]);
        assert_eq!(problem(Duration::ZERO, Duration::ZERO), None);
        assert_eq!(
            problem(THRESHOLD, THRESHOLD).unwrap(),
            "host work is not healthy: the root directory /var/lib/kubelet does not answer; threshold is 30s"
        );
        assert_eq!(
            problem(Duration::ZERO, THRESHOLD).unwrap(),
            "host work is not healthy: the journal below the root directory /var/lib/kubelet is not written; threshold is 30s"
        );
    }
}
