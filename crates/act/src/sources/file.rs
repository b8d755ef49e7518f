//! The source of manifests in a directory, or of one file.
//!
//! In:    events of the directory, a clock; what a look brought
//! Out:   the whole set to the sync loop whenever it changed; problems
//! Calls: one core task
//! Holds: nothing is sent before the first scan has returned; a file that is gone removes its pod, a directory that is gone
//!        removes none; a file that was removed and put back unchanged restarts its pods; all other file events only shorten the
//!        wait for the next scan; one scan at a time, even if one hangs
//! Upstream: pkg/kubelet/config/file.go, file_linux.go

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kubelet_host::watch::WatchEvent;
use kubelet_model::pod::{Pod, SourceKind};
use tokio::time::Instant;

use super::known::{Known, forget_records, judge, recorded};
use super::reading::Reading;
use super::report::{Problem, Reporter, SourceReport};
use super::scan::{Found, Scan, ScanRequest, Watching, joined, scan};
use super::{FileSourceConfig, SourcesParts, Taker};

/// Longest that a look may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Events of one edit come within this time.
const SETTLE: Duration = Duration::from_millis(5);
/// How soon to look again at a path that cannot be watched, as upstream does.
const UNWATCHED: Duration = Duration::from_secs(1);

/// The source.
#[derive(Debug)]
pub(super) struct FileSource {
    config: FileSourceConfig,
    taker: Taker,
    parts: SourcesParts,
    reporter: Reporter,
    known: Known,
    watching: Option<Watching>,
    watch_error: Option<String>,
    /// A look runs, maybe one that was given up.
    is_busy: Arc<AtomicBool>,
    sent: Option<Vec<Arc<Pod>>>,
    skipped: BTreeMap<String, String>,
    again: Instant,
    /// Names of files that were removed since the last look began.
    removed: BTreeSet<OsString>,
}

/// What the look says of the path itself.
#[derive(Default)]
struct Verdict {
    problem: Option<Problem>,
    /// Whether there is a set to send, even an empty one.
    is_read: bool,
}

impl FileSource {
    /// A source that starts with what the journal holds.
    pub(super) fn new(
        mut config: FileSourceConfig,
        taker: Taker,
        parts: SourcesParts,
        reporter: Reporter,
    ) -> Self {
        // The path is part of UIDs in exactly this form.
        let trimmed = config.path.trim_end_matches('/');
        config.path = if trimmed.is_empty() { "/" } else { trimmed }.to_owned();
        let known = Known::new(SourceKind::File, parts.records.clone(), Vec::new());
        Self {
            config,
            taker,
            parts,
            reporter,
            known,
            watching: None,
            watch_error: None,
            is_busy: Arc::default(),
            sent: None,
            skipped: BTreeMap::new(),
            again: Instant::now(),
            removed: BTreeSet::new(),
        }
    }

    /// Runs until the sync loop is gone.
    pub(super) async fn run(mut self) {
        self.remember().await;
        loop {
            let removed = std::mem::take(&mut self.removed);
            let look = self.look().await;
            let back = look.as_ref().map(|look| self.back(&removed, &look.found));
            if !self.drop_once(&back.unwrap_or_default()).await {
                return;
            }
            let verdict = match look {
                Ok(look) => self.apply(look),
                Err(message) => self.failed(&message),
            };
            if !self.publish(verdict).await {
                return;
            }
            self.wait().await;
        }
    }

    /// Judges what the journal holds.
    async fn remember(&mut self) {
        let path = self.config.path.clone();
        forget_records(&self.parts.records, SourceKind::File, |at| {
            let name = at.rsplit('/').next().unwrap_or(at);
            at == path || at == joined(&path, name)
        });
        let recorded = recorded(&self.parts.records, SourceKind::File);
        if recorded.is_empty() {
            return;
        }
        let (taker, now) = (self.taker.clone(), self.parts.clock.now());
        let judged =
            self.parts
                .blocking
                .run(DEADLINE, "reading of remembered manifests", move || {
                    judge(recorded, SourceKind::File, &taker, now)
                });
        match judged.await {
            Ok(remembered) => {
                self.known = Known::new(SourceKind::File, self.parts.records.clone(), remembered);
            }
            Err(overdue) => {
                tracing::error!(error = %overdue, "Last good manifests cannot be used");
            }
        }
    }

    async fn look(&mut self) -> Result<Scan, String> {
        let busy =
            || "an earlier look at it has not come back; is its file system dead?".to_owned();
        if self.is_busy.load(Ordering::Acquire) {
            self.again = Instant::now() + self.config.check_every;
            return Err(busy());
        }
        let request = ScanRequest {
            root: self.parts.root.clone(),
            path: self.config.path.clone(),
            taker: self.taker.clone(),
            judged: self.known.judged(),
            seen: self.known.first_seen(self.parts.clock.now()),
            wants_watch: self.watching.is_none(),
        };
        self.again = Instant::now() + self.config.check_every;
        let runtime = tokio::runtime::Handle::current();
        let is_busy = Arc::clone(&self.is_busy);
        let look = self
            .parts
            .blocking
            .run(DEADLINE, "look at the manifests", move || {
                let _busy = Busy::new(is_busy);
                let _entered = runtime.enter();
                scan(&request)
            });
        let mut look = look.await.map_err(|overdue| overdue.to_string())?;
        match look.watching.take() {
            Some(Ok(watching)) => {
                self.watching = Some(watching);
                self.watch_error = None;
            }
            Some(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
            Some(Err(error)) => {
                self.watch_error = Some(format!(
                    "cannot be watched, changes are noticed late: {error}"
                ));
            }
            None => {}
        }
        Ok(look)
    }

    /// Manifests that were removed and are there again, with the same content: who does that wants their pods anew. Other content
    /// speaks for itself, whether it is good or not: editors remove and write.
    fn back(&self, removed: &BTreeSet<OsString>, found: &Found) -> Vec<String> {
        let at = |name: &OsString| match found {
            Found::Directory { .. } => joined(&self.config.path, &name.to_string_lossy()),
            _ => self.config.path.clone(),
        };
        let reading = |at: &String| match found {
            Found::Directory { files, .. } => files.get(at),
            Found::File(reading) => Some(reading),
            Found::Missing { .. } | Found::Failed(_) => None,
        };
        let is_back =
            |at: &String| matches!(reading(at), Some(Reading::Unchanged)) && self.known.is_good(at);
        removed.iter().map(at).filter(is_back).collect()
    }

    /// Sends the last set without these manifests; the next one has them again. False when nobody takes it.
    async fn drop_once(&mut self, places: &[String]) -> bool {
        if places.is_empty() || self.sent.is_none() {
            return true;
        }
        let (pods, _) = self.known.pods_but_of(places);
        tracing::info!(manifests = ?places, "Manifests were removed and added again; their pods are restarted");
        self.parts
            .send(SourceKind::File, &mut self.sent, &pods)
            .await
    }

    fn apply(&mut self, look: Scan) -> Verdict {
        self.keep_watch(&look.found);
        match look.found {
            Found::Directory { files, skipped, .. } => {
                self.known.retain(|at| files.contains_key(at));
                for (at, reading) in files {
                    self.known.apply(&at, reading);
                }
                self.skipped = skipped;
                Verdict {
                    problem: None,
                    is_read: true,
                }
            }
            Found::File(reading) => {
                let path = self.config.path.clone();
                self.known.retain(|at| at == path);
                let is_gone =
                    matches!(&reading, Reading::Bad { problems, .. } if problems.is_empty());
                if is_gone {
                    self.known.forget(&path);
                } else {
                    self.known.apply(&path, reading);
                }
                self.skipped.clear();
                Verdict {
                    problem: None,
                    is_read: true,
                }
            }
            Found::Missing { has_parent } => self.missing(has_parent),
            Found::Failed(message) => self.failed(&message),
        }
    }

    /// Nothing is there: an empty source, unless a directory with manifests was.
    fn missing(&mut self, has_parent: bool) -> Verdict {
        let path = self.config.path.as_str();
        if has_parent {
            // The manifest itself was removed.
            self.known.forget(path);
        }
        self.skipped.clear();
        let kept = self.known.places().len();
        let message = if kept == 0 {
            "does not exist; no pods come from it until it does".to_owned()
        } else {
            format!(
                "is gone; the pods of the {kept} manifests in it keep running until it is back (an empty one removes them)"
            )
        };
        let problem = Problem {
            keeps_last_good: kept > 0,
            ..Problem::at(path, message)
        };
        Verdict {
            problem: Some(problem),
            is_read: true,
        }
    }

    /// The path could not be looked at: all stays as it was.
    fn failed(&self, message: &str) -> Verdict {
        let keeps_last_good = !self.known.places().is_empty();
        Verdict {
            problem: Some(Problem {
                keeps_last_good,
                ..Problem::at(&self.config.path, message)
            }),
            is_read: keeps_last_good,
        }
    }

    /// Gives up a watch of what the path is not any more, and looks again at once.
    fn keep_watch(&mut self, found: &Found) {
        let is_right = match (&self.watching, found) {
            (None, _) => true,
            (Some(watching), Found::Directory { identity, .. }) => {
                watching.identity == Some(*identity)
            }
            (Some(watching), _) => watching.only.is_some(),
        };
        if !is_right {
            self.watching = None;
            self.again = Instant::now();
        }
    }

    /// Sends the set if it is new, and shows what there is to see. False when nobody takes it.
    async fn publish(&mut self, verdict: Verdict) -> bool {
        let (pods, mut problems) = self.known.pods();
        problems.extend(verdict.problem);
        if let Some(error) = &self.watch_error {
            problems.push(Problem::at(&self.config.path, error.as_str()));
        }
        let is_taken = if verdict.is_read {
            self.parts
                .send(SourceKind::File, &mut self.sent, &pods)
                .await
        } else {
            true
        };
        let now = self.parts.clock.now();
        let report = SourceReport {
            last_read: Some(now),
            seen: self.sent.is_some(),
            pods,
            skipped: self.skipped.clone(),
            ..SourceReport::new(SourceKind::File, &self.config.path)
        };
        self.reporter.show(report, problems, now);
        is_taken
    }

    /// Waits for the next event or the next list.
    async fn wait(&mut self) {
        let Some(watching) = &mut self.watching else {
            // A limit on watches does not go away by asking; a path that is missing may come.
            let soon = match self.watch_error {
                None => self.again.min(Instant::now() + UNWATCHED),
                Some(_) => self.again,
            };
            tokio::time::sleep_until(soon).await;
            return;
        };
        loop {
            let events = tokio::select! {
                // Either way the next is a look; no event is lost that the list would not show.
                biased;
                () = tokio::time::sleep_until(self.again) => return,
                events = watching.events.changed() => events,
            };
            let events = match events {
                Ok(events) => events,
                Err(error) => {
                    tracing::warn!(error = %error, "Watch of the manifests failed");
                    self.watching = None;
                    return;
                }
            };
            if events.contains(&WatchEvent::Vanished) {
                self.watching = None;
                return;
            }
            let is_ours = |event: &WatchEvent| match (event, &watching.only) {
                (WatchEvent::Changed(name) | WatchEvent::Removed(name), Some(only)) => name == only,
                _ => true,
            };
            if events.iter().any(is_ours) {
                self.removed.extend(removals(events));
                settle(watching, &mut self.removed).await;
                let is_ours = |name: &OsString| watching.only.as_ref().is_none_or(|o| o == name);
                self.removed.retain(is_ours);
                return;
            }
        }
    }
}

fn removals(events: Vec<WatchEvent>) -> impl Iterator<Item = OsString> {
    events.into_iter().filter_map(|event| match event {
        WatchEvent::Removed(name) => Some(name),
        WatchEvent::Changed(_) | WatchEvent::Overflow | WatchEvent::Vanished => None,
    })
}

/// Takes in the events that belong to the same edit.
async fn settle(watching: &mut Watching, removed: &mut BTreeSet<OsString>) {
    let more = async {
        while let Ok(events) = watching.events.changed().await {
            if events.contains(&WatchEvent::Vanished) {
                return;
            }
            removed.extend(removals(events));
        }
    };
    // What comes later is another event: the look that follows then has a successor.
    drop(tokio::time::timeout(SETTLE, more).await);
}

/// Says that a look runs for as long as it lives.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn new(flag: Arc<AtomicBool>) -> Self {
        flag.store(true, Ordering::Release);
        Self(flag)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
