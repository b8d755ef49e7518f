//! Whether the sets that the node depends on are current, and what is reported when one is not.
//!
//! In:    what the reflectors of these sets go through
//! Out:   the sets that are behind, for the node's status, `/debug/tasks`, `hyperkube_api_set_behind_seconds` and the log
//! Calls: reflector; act/node/node_status and wiring read
//! Holds: a set is current once it was received and while its watch lasts: a set that can be listed but not watched stays
//!        behind; the log reports a set that is behind after 10 s, then rarely; a server that cannot be reached at all is not
//!        reported once for each set
//! Upstream: client-go/tools/cache (DefaultWatchErrorHandler); differences: upstream logs each failure, and the node's status says
//!           nothing

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts, Registry};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{ClusterError, Happened};

/// A set that is behind for so long is told of.
pub const LATE: Duration = Duration::from_secs(10);
/// And as long as it is, the log says so this often.
const SAY_AGAIN: Duration = Duration::from_secs(300);
/// A watch that lasts this long is a watch.
const SETTLED: Duration = Duration::from_secs(5);

/// The sets of one client that somebody asks after. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Sets(Arc<Mutex<Vec<watch::Receiver<SetState>>>>);

/// A set that is not current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// What it is called: `pods`.
    pub name: &'static str,
    /// Whether there was one before.
    pub was_had: bool,
    /// For how long.
    pub lasts: Duration,
    /// For how long of it the server could be reached.
    pub reachable: Duration,
    /// What the server said last.
    pub why: String,
}

impl std::fmt::Display for Behind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = if self.was_had {
            "not been kept current"
        } else {
            "not been had"
        };
        write!(
            f,
            "{} of the API server have {what}: {}",
            self.name, self.why
        )
    }
}

/// What one set is at.
#[derive(Clone, Debug)]
pub(super) struct SetState {
    name: &'static str,
    was_had: bool,
    behind: Option<Since>,
    /// When the watch that lasts was opened.
    opened: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Since {
    at: Instant,
    reachable: Instant,
    why: String,
}

impl SetState {
    fn behind(&self, now: Instant) -> Option<Behind> {
        let is_settled = self
            .opened
            .is_some_and(|opened| now.saturating_duration_since(opened) >= SETTLED);
        let since = self.behind.as_ref().filter(|_| !is_settled)?;
        Some(Behind {
            name: self.name,
            was_had: self.was_had,
            lasts: now.saturating_duration_since(since.at),
            reachable: now.saturating_duration_since(since.reachable),
            why: since.why.clone(),
        })
    }
}

impl Sets {
    /// Those that are behind for longer than [`LATE`].
    pub fn behind(&self) -> Vec<Behind> {
        let all = self.lock();
        let now = Instant::now();
        let behind = all.iter().filter_map(|state| state.borrow().behind(now));
        behind.filter(|behind| behind.lasts >= LATE).collect()
    }

    /// All of them, for `/debug/tasks`.
    pub fn to_json(&self) -> Value {
        let all = self.lock();
        let now = Instant::now();
        let shown = all.iter().map(|state| {
            let state = state.borrow();
            match state.behind(now) {
                None => json!({"name": state.name, "current": true}),
                Some(behind) => json!({
                    "name": state.name,
                    "current": false,
                    "wasHad": behind.was_had,
                    "behindSeconds": behind.lasts.as_secs(),
                    "why": behind.why,
                }),
            }
        });
        shown.collect()
    }

    /// Shows `hyperkube_api_set_behind_seconds`.
    pub(crate) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        let help = "For how long a set of API objects that the node lives by is not current; 0 while it is";
        let opts = Opts::new("hyperkube_api_set_behind_seconds", help);
        registry.register(Box::new(Shown {
            gauge: GaugeVec::new(opts, &["set"])?,
            sets: self.clone(),
        }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<watch::Receiver<SetState>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn reporter(&self, name: &'static str) -> Reporter {
        let now = Instant::now();
        let state = watch::Sender::new(SetState {
            name,
            was_had: false,
            behind: Some(Since {
                at: now,
                reachable: now,
                why: "the server has not answered yet".to_owned(),
            }),
            opened: None,
        });
        self.lock().push(state.subscribe());
        Reporter(Some(state))
    }
}

/// The family, reckoned when somebody looks.
struct Shown {
    gauge: GaugeVec,
    sets: Sets,
}

impl Collector for Shown {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = Instant::now();
        for state in self.sets.lock().iter() {
            let state = state.borrow();
            let lasts = state.behind(now).map_or(0.0, |it| it.lasts.as_secs_f64());
            self.gauge.with_label_values(&[state.name]).set(lasts);
        }
        self.gauge.collect()
    }
}

/// A reflector's word on its set; of a set that nobody asks after, none.
#[derive(Debug, Default)]
pub(super) struct Reporter(Option<watch::Sender<SetState>>);

impl Reporter {
    /// The server is asked from now on.
    fn begins(&self) {
        let Some(state) = &self.0 else { return };
        let now = Instant::now();
        state.send_modify(|state| {
            if let Some(since) = &mut state.behind {
                (since.at, since.reachable) = (now, now);
            }
        });
    }

    /// The whole set is there. One that was had before is not current for that: its watch may be refused again.
    pub(super) fn listed(&self) {
        let Some(state) = &self.0 else { return };
        let was_had = state.borrow().was_had;
        if !was_had {
            self.had();
        }
    }

    /// Its watch tells of it.
    pub(super) fn had(&self) {
        let Some(state) = &self.0 else { return };
        state.send_if_modified(|state| {
            let is_new = state.behind.is_some();
            (state.behind, state.was_had) = (None, true);
            is_new
        });
    }

    /// A watch was opened.
    pub(super) fn opened(&self) {
        let Some(state) = &self.0 else { return };
        state.send_modify(|state| state.opened = Some(Instant::now()));
    }

    /// List or watch failed, or the watch ended at once.
    pub(super) fn failed(&self, error: Option<&ClusterError>, why: &str) {
        let Some(state) = &self.0 else { return };
        let now = Instant::now();
        state.send_modify(|state| {
            let was_current = state.behind(now).is_none();
            state.opened = None;
            let mut since = state
                .behind
                .take()
                .filter(|_| !was_current)
                .unwrap_or(Since {
                    at: now,
                    reachable: now,
                    why: String::new(),
                });
            why.clone_into(&mut since.why);
            if error.is_some_and(is_out_of_reach) {
                since.reachable = now;
            }
            state.behind = Some(since);
        });
    }

    /// Tells the log, as long as it is polled; it is polled before anything is asked.
    pub(super) async fn tell(&self) {
        self.begins();
        let Some(state) = &self.0 else {
            return std::future::pending().await;
        };
        let mut state = state.subscribe();
        let (mut said, mut is_open) = (None::<Instant>, false);
        loop {
            let now = Instant::now();
            let next = {
                let state = state.borrow_and_update();
                let again = said.map(|said| said + SAY_AGAIN);
                match state.behind(now) {
                    None if is_open => {
                        is_open = false;
                        tracing::info!(set = state.name, "Set of API objects is current again");
                        None
                    }
                    None => None,
                    Some(behind) if behind.lasts < LATE => Some(now + (LATE - behind.lasts)),
                    Some(behind) if again.is_none_or(|again| now >= again) => {
                        (said, is_open) = (Some(now), true);
                        tracing::warn!(set = behind.name, was_had = behind.was_had, lasts = ?behind.lasts, why = behind.why, "List or watch fails, or is stale; it is tried again; tried again");
                        Some(now + SAY_AGAIN)
                    }
                    Some(_) => {
                        let settles = state.opened.map(|opened| opened + SETTLED);
                        settles.into_iter().chain(again).min()
                    }
                }
            };
            tokio::select! {
                biased;
                // Both arms only say "look again".
                changed = state.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                () = until(next) => {}
            }
        }
    }
}

async fn until(next: Option<Instant>) {
    match next {
        Some(next) => tokio::time::sleep_until(next).await,
        None => std::future::pending().await,
    }
}

/// There was no server to say anything: that is nobody's refusal of this set.
pub(super) fn is_out_of_reach(error: &ClusterError) -> bool {
    match error {
        ClusterError::Unreachable { .. }
        | ClusterError::Credentials { .. }
        | ClusterError::Crowded { .. } => true,
        ClusterError::Deadline { happened, .. } => *happened == Happened::No,
        _ => false,
    }
}
