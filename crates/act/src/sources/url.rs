//! The source of manifests behind a URL.
//!
//! In:    bodies of GETs, one per interval
//! Out:   the whole set to the sync loop whenever it changed; problems
//! Calls: one core task
//! Holds: any failure keeps the set, over restarts too; an empty body empties it
//! Upstream: pkg/kubelet/config/http.go; there a body that comes again after an empty one counts as unchanged and its pods
//!           stay away

use std::sync::Arc;
use std::time::Duration;

use kubelet_model::pod::{Pod, SourceKind};

use super::fetch::Fetch;
use super::known::{Known, forget_records, judge, recorded};
use super::reading::{Origin, read_manifest};
use super::report::{Problem, Reporter, SourceReport, shown_url};
use super::{SourcesParts, Taker, UrlSourceConfig};

/// Longest that judging a body may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Failures in a row that are logged loudly.
const LOUD_FAILURES: u32 = 3;

/// The source.
#[derive(Debug)]
pub(super) struct UrlSource {
    config: UrlSourceConfig,
    taker: Taker,
    parts: SourcesParts,
    reporter: Reporter,
    known: Known,
    failures: u32,
    sent: Option<Vec<Arc<Pod>>>,
}

impl UrlSource {
    /// A source that starts with what the journal holds.
    pub(super) fn new(
        config: UrlSourceConfig,
        taker: Taker,
        parts: SourcesParts,
        reporter: Reporter,
    ) -> Self {
        let url = config.url.as_str();
        forget_records(&parts.records, SourceKind::Url, |at| at == url);
        let recorded = recorded(&parts.records, SourceKind::Url);
        let remembered = judge(recorded, SourceKind::Url, &taker, parts.clock.now());
        let known = Known::new(SourceKind::Url, parts.records.clone(), remembered);
        Self {
            config,
            taker,
            parts,
            reporter,
            known,
            failures: 0,
            sent: None,
        }
    }

    /// Runs until the sync loop is gone.
    pub(super) async fn run(mut self) {
        let (root, blocking) = (self.parts.root.clone(), self.parts.blocking.clone());
        let roots = (root, self.parts.roots.clone());
        let mut fetch = Fetch::new(&self.config.url, &self.config.headers, roots, blocking);
        loop {
            let got = match &mut fetch {
                Ok(fetch) => fetch.get().await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            let (problem, is_read) = match got {
                Ok(body) => self.apply(body).await,
                Err(message) => (Some(message), false),
            };
            self.log(problem.as_deref());
            if !self.publish(problem, is_read).await {
                return;
            }
            tokio::time::sleep(self.config.check_every).await;
        }
    }

    /// Takes in a body: what is wrong with it as a whole, and whether there is a set to send.
    async fn apply(&mut self, body: Vec<u8>) -> (Option<String>, bool) {
        if body.is_empty() {
            self.known.forget(&self.config.url);
            let message = "the answer is empty: no pods come from it".to_owned();
            return (Some(message), true);
        }
        let judged = self.known.judged().get(&self.config.url).copied();
        let seen = self.known.first_seen(self.parts.clock.now());
        let (url, taker) = (self.config.url.clone(), self.taker.clone());
        let read = self
            .parts
            .blocking
            .run(DEADLINE, "judging of manifests", move || {
                let place = Origin {
                    kind: SourceKind::Url,
                    at: &url,
                    taker: &taker,
                };
                read_manifest(body, judged, place, &seen)
            });
        match read.await {
            Ok(reading) => {
                let url = self.config.url.clone();
                self.known.apply(&url, reading);
                (None, self.known.is_good(&url))
            }
            Err(overdue) => (Some(overdue.to_string()), false),
        }
    }

    /// Failures one by one, quietly after the first few.
    fn log(&mut self, problem: Option<&str>) {
        let url = shown_url(&self.config.url);
        match problem {
            Some(problem) => {
                if self.failures < LOUD_FAILURES {
                    tracing::warn!(url, problem, "Failed to read pods from URL");
                } else if self.failures == LOUD_FAILURES {
                    tracing::warn!(
                        url,
                        problem,
                        "Failed to read pods from URL; further failures are logged at debug level"
                    );
                } else {
                    tracing::debug!(url, problem, "Failed to read pods from URL");
                }
                self.failures = self.failures.saturating_add(1);
            }
            None if self.failures > 0 => {
                tracing::info!(url, "Successfully read pods from URL");
                self.failures = 0;
            }
            None => {}
        }
    }

    /// Sends the set if it is new, and shows what there is to see. False when nobody takes it.
    async fn publish(&mut self, problem: Option<String>, is_read: bool) -> bool {
        let (pods, mut problems) = self.known.pods();
        let keeps_last_good = !pods.is_empty();
        problems.extend(problem.map(|message| Problem {
            keeps_last_good,
            ..Problem::at(&self.config.url, message)
        }));
        // What was good before counts when nothing can be read; where nothing was, the source is not seen yet.
        let is_taken = if is_read || keeps_last_good {
            let source = SourceKind::Url;
            self.parts.send(source, &mut self.sent, &pods).await
        } else {
            true
        };
        let now = self.parts.clock.now();
        let report = SourceReport {
            last_read: Some(now),
            seen: self.sent.is_some(),
            pods,
            ..SourceReport::new(SourceKind::Url, &self.config.url)
        };
        self.reporter.show(report, problems, now);
        is_taken
    }
}
