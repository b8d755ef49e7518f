//! Keeps a copy of a set of objects: list, then watch from there, repeatedly.
//!
//! In:    a kind, namespace and selectors; the client
//! Out:   [`Snapshot`]s (the whole set, each one a state that the server had), and the changes between them; [`Phase`]
//! Calls: pods, objects, nodes; one task of the owner each
//! Holds: a set is replaced as a whole by a list or changed by one event at a time, in the server's order; after a disconnect
//!        the watch resumes after the last applied event, so none is lost or applied twice; 410 lists again; an object that
//!        cannot be decoded keeps its last good form and is counted; nothing is handed on before the first complete set; after
//!        any failed streaming list the set is listed by pages
//! Upstream: client-go/tools/cache (reflector.go, watch-list); differences: lists ask for the newest state instead of any
//!           (`resourceVersion` unset instead of 0), so that a set never goes back in time; a cut never lists anew;
//!           a server that is away is asked at least each 30 s
//!
//! | Module | What |
//! |---|---|
//! | `feed` | one list, one watch: requests, pages, lines |
//! | `sets` | which sets are behind, and who is told |
//! | `snapshot` | the set and what changes it |

mod feed;
#[cfg(test)]
mod refused_tests;
mod snapshot;
#[cfg(test)]
mod tests;

use std::time::Duration;

use kubelet_model::dice::Dice;
use kubelet_model::doubling::Doubling;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::client::Client;
use crate::error::ClusterError;
use crate::jitter::Backoff;
use crate::objects_api::Object;

pub use crate::sets::{Behind, LATE, Sets};
use crate::sets::{Reporter, is_out_of_reach};
use feed::{Event, Feed, Listed, Watching};
use snapshot::Keeper;
pub use snapshot::{Change, ObjectKey, Prepare, Snapshot};

/// A watch that ends sooner than this without a word counts as a failure.
const SHORT_WATCH: Duration = Duration::from_secs(1);
/// The server refuses a watch so often before its resource version is doubted.
const REFUSALS: u32 = 5;
/// A set that could not be streamed is listed for so long, doubling to the longest, before streaming is tried again.
const PAGED: Doubling = Doubling::new(Duration::from_secs(300), Duration::from_secs(3600));

/// Which objects.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Namespace; `None` is all, or a kind that lives in none.
    pub namespace: Option<String>,
    /// Field selector.
    pub fields: Option<String>,
    /// Label selector.
    pub labels: Option<String>,
}

/// How the set is fetched first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstSet {
    /// By pages of 500.
    Paged,
    /// As the beginning of the watch; by pages where that fails, however it does.
    Streamed,
}

/// What the reflector is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Fetching the whole set.
    Listing,
    /// Hearing every change.
    Watching,
    /// Waiting before it tries again.
    Waiting {
        /// What went wrong.
        why: String,
        /// Failures since the last success.
        failures: u32,
    },
}

/// Receives the set: `None` until there is one.
pub type Snapshots<T> = watch::Receiver<Option<std::sync::Arc<Snapshot<T>>>>;

/// A reflector that somebody has to run.
#[derive(Debug)]
pub struct Reflector<T> {
    feed: Feed,
    keeper: Keeper<T>,
    phase: watch::Sender<Phase>,
    streaming: Streaming,
    reporter: Reporter,
    backoff: Backoff,
    dice: Dice,
    failures: u32,
}

/// Whether the set is streamed the next time.
#[derive(Debug)]
struct Streaming {
    is_wanted: bool,
    /// In a row.
    failures: u32,
    /// Not before then.
    after: Option<Instant>,
}

impl Streaming {
    fn is_due(&self) -> bool {
        self.is_wanted && self.after.is_none_or(|after| Instant::now() >= after)
    }

    fn worked(&mut self) {
        (self.failures, self.after) = (0, None);
    }

    fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.after = Some(Instant::now() + PAGED.after(self.failures));
    }
}

/// Why a watch is over.
enum End {
    /// The server ended it, or its connection went: go on from where it was.
    Resume(Option<ClusterError>),
    /// Its resource version is too old, or in doubt.
    List(Option<ClusterError>),
}

impl<T: Object + Clone> Reflector<T> {
    /// A reflector, and where its set shows.
    pub fn new(
        client: Client,
        selection: Selection,
        first: FirstSet,
        dice: Dice,
    ) -> (Self, Snapshots<T>) {
        let (keeper, snapshots) = Keeper::new();
        let reflector = Self {
            feed: Feed::new::<T>(client, selection),
            keeper,
            phase: watch::Sender::new(Phase::Listing),
            streaming: Streaming {
                is_wanted: first == FirstSet::Streamed,
                failures: 0,
                after: None,
            },
            reporter: Reporter::default(),
            backoff: Backoff::of_reflectors(),
            dice,
            failures: 0,
        };
        (reflector, snapshots)
    }

    /// Sends each change here, too, after the set shows it. A receiver that does not take them holds the watch up.
    #[must_use]
    pub fn with_changes(mut self, changes: mpsc::Sender<Change<T>>) -> Self {
        self.keeper.changes = Some(changes);
        self
    }

    /// Passes each object through `prepare` before it is kept.
    #[must_use]
    pub fn with_prepare(mut self, prepare: Prepare<T>) -> Self {
        self.keeper.prepare = Some(prepare);
        self
    }

    /// Shows among the client's sets, under this name, whether this one is current.
    #[must_use]
    pub fn reported(mut self, name: &'static str) -> Self {
        self.reporter = self.feed.sets().reporter(name);
        self
    }

    /// What it is at.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let reporter = std::mem::take(&mut self.reporter);
        tokio::select! {
            biased;
            // Cancel: neither ends.
            () = reporter.tell() => {}
            () = self.keep(&reporter) => {}
        }
    }

    async fn keep(&mut self, reporter: &Reporter) {
        loop {
            let watching = match self.list(reporter).await {
                Ok(watching) => watching,
                Err(error) => {
                    self.wait(Some(error), reporter).await;
                    continue;
                }
            };
            let listed = Instant::now();
            let why = self.watch(watching, reporter).await;
            // An expired version means that this copy is behind already: list at once, unless lists do not help.
            if why.is_some() || listed.elapsed() < SHORT_WATCH {
                self.wait(why, reporter).await;
            }
        }
    }

    /// Fetches the whole set and opens the watch behind it, if it is not open already.
    async fn list(&mut self, reporter: &Reporter) -> Result<Option<Watching>, ClusterError> {
        self.phase.send_replace(Phase::Listing);
        if self.streaming.is_due() {
            match Box::pin(self.feed.stream(&mut self.dice)).await {
                Ok((listed, watching)) => {
                    self.streaming.worked();
                    self.took(listed, reporter).await;
                    return Ok(Some(watching));
                }
                Err(error) => self.not_streamed(error)?,
            }
        }
        // Boxed: a call takes much room for a moment, and a reflector watches nearly all the time.
        let listed = Box::pin(self.feed.pages()).await?;
        self.took(listed, reporter).await;
        Ok(None)
    }

    /// Whatever the server has against a stream, it may give a list; unless there is no server, or it wants to be left alone.
    fn not_streamed(&mut self, error: ClusterError) -> Result<(), ClusterError> {
        if is_out_of_reach(&error) {
            return Err(error);
        }
        let kind = self.feed.kind();
        if self.streaming.failures == 0 {
            tracing::info!(kind, %error, "Set cannot be streamed, it is listed instead");
        } else {
            tracing::debug!(kind, %error, "Set still cannot be streamed, it is listed instead");
        }
        self.streaming.failed();
        match error.retry_after() {
            Some(_) => Err(error),
            None => Ok(()),
        }
    }

    async fn took(&mut self, listed: Listed, reporter: &Reporter) {
        self.failures = 0;
        reporter.listed();
        self.keeper.replace(listed).await;
    }

    /// Watches over any number of cuts, until the set has to be fetched anew; says why that is a failure, if it is.
    async fn watch(
        &mut self,
        mut open: Option<Watching>,
        reporter: &Reporter,
    ) -> Option<ClusterError> {
        let mut refusals = 0;
        loop {
            let began = Instant::now();
            let mut heard = 0_u64;
            let end = self.watch_once(open.take(), &mut heard, reporter).await;
            if heard > 0 {
                (refusals, self.failures) = (0, 0);
            }
            match end {
                End::List(why) => return why,
                End::Resume(Some(error)) => {
                    refusals += u32::from(error.is_answer());
                    if refusals >= REFUSALS {
                        return Some(error);
                    }
                    self.wait(Some(error), reporter).await;
                }
                End::Resume(None) if heard == 0 && began.elapsed() < SHORT_WATCH => {
                    self.wait(None, reporter).await;
                }
                End::Resume(None) => {}
            }
        }
    }

    async fn watch_once(
        &mut self,
        open: Option<Watching>,
        heard: &mut u64,
        reporter: &Reporter,
    ) -> End {
        let mut watching = match open {
            Some(watching) => watching,
            None => {
                let version = self.keeper.version().to_owned();
                match Box::pin(self.feed.watch(&version, &mut self.dice)).await {
                    Ok(watching) => watching,
                    Err(error) => return end_of(error),
                }
            }
        };
        self.phase.send_replace(Phase::Watching);
        reporter.opened();
        loop {
            match watching.next().await {
                Ok(Some(Event::Bookmark(version))) => {
                    *heard += 1;
                    reporter.had();
                    self.keeper.bookmark(version);
                }
                Ok(Some(Event::Changed(change))) => {
                    *heard += 1;
                    reporter.had();
                    self.keeper.apply(change).await;
                    if let Err(error) = self.feed.may_hold(self.keeper.len()) {
                        return End::List(Some(error));
                    }
                }
                Ok(None) => return End::Resume(None),
                Err(error) => return end_of(error),
            }
        }
    }

    async fn wait(&mut self, error: Option<ClusterError>, reporter: &Reporter) {
        self.failures += 1;
        let least = error.as_ref().and_then(ClusterError::retry_after);
        let why = error.as_ref().map_or_else(
            || "watch ended at once".to_owned(),
            |error| error.to_string(),
        );
        reporter.failed(error.as_ref(), &why);
        let wait = self.backoff.next(Instant::now(), &mut self.dice);
        let wait = wait.max(least.unwrap_or_default());
        tracing::debug!(kind = self.feed.kind(), why, ?wait, "Reflector waits");
        self.phase.send_replace(Phase::Waiting {
            why,
            failures: self.failures,
        });
        tokio::time::sleep(wait).await;
    }
}

fn end_of(error: ClusterError) -> End {
    if error.is_expired() {
        return End::List(None);
    }
    match error.code() {
        // The server does not understand this version, or has lost it: it may have been restored.
        Some(400 | 422) => End::List(Some(error)),
        _ => End::Resume(Some(error)),
    }
}
