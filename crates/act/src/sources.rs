//! Step 1, sources: manifests of a directory, a file or a URL become whole sets of pods.
//!
//! In:    where the manifests are, how often to look; the journal, the clock, the machine's root
//! Out:   [`SourceSnapshot`]s to the sync loop; `/debug/sources`; `hyperkube_source_problems`
//! Calls: wiring starts it; one core task per source
//! Holds: a set is sent once it is complete, and only if it changed; an empty source reports too; a manifest that becomes
//!        invalid keeps its last valid pods, across restarts too; a pod keeps the time of its first sight while its UID stays
//! Upstream: pkg/kubelet/config (file.go, http.go, common.go), pkg/kubelet/kubelet.go (makePodSourceConfig)
//!
//! | Module | What |
//! |---|---|
//! | `file`, `scan` | the path: events, looks |
//! | `url`, `fetch` | the URL: one GET per interval |
//! | `reading` | bytes to pods |
//! | `known` | what each manifest last said, and its record |
//! | `report` | what people see |

pub mod cluster_source;

mod fetch;
mod file;
mod known;
mod reading;
mod report;
mod scan;
mod url;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kubelet_host::{Blocking, HostRoot};
use kubelet_model::pod::{Pod, PodGates, SourceKind};
use prometheus::{IntGaugeVec, Opts, Registry};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::frame::clock::Clock;
use crate::frame::records::Records;
use crate::frame::supervisor::{Supervisor, TaskKind};

pub use kubelet_tls::SystemRoots;

use file::FileSource;
use report::{Reporter, SourceReport};
use url::UrlSource;

/// One source's whole set.
#[derive(Clone, Debug)]
pub struct SourceSnapshot {
    /// Which source.
    pub source: SourceKind,
    /// All pods it wants.
    pub pods: Vec<Arc<Pod>>,
    /// How many mirrors of static pods the API server holds.
    pub mirrors: usize,
}

impl SourceSnapshot {
    /// Of a source that has no mirrors.
    pub fn new(source: SourceKind, pods: Vec<Arc<Pod>>) -> Self {
        Self {
            source,
            pods,
            mirrors: 0,
        }
    }
}

/// Manifests in a directory, or one file.
#[derive(Clone, Debug)]
pub struct FileSourceConfig {
    /// `staticPodPath`, as it is written there: it is part of the pods' UIDs.
    pub path: String,
    /// `fileCheckFrequency`.
    pub check_every: Duration,
}

/// Manifests behind a URL.
#[derive(Clone, Debug)]
pub struct UrlSourceConfig {
    /// `staticPodURL`, as it is written there: it is part of the pods' UIDs.
    pub url: String,
    /// `staticPodURLHeader`.
    pub headers: BTreeMap<String, Vec<String>>,
    /// `httpCheckFrequency`.
    pub check_every: Duration,
}

/// A node that takes pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taker {
    /// Its name: part of names and UIDs.
    pub node_name: String,
    /// Which fields of pods act on it.
    pub gates: PodGates,
}

/// Which sources there are.
#[derive(Clone, Debug, Default)]
pub struct SourcesConfig {
    /// Who takes their pods.
    pub taker: Taker,
    /// Directory or file.
    pub file: Option<FileSourceConfig>,
    /// URL.
    pub url: Option<UrlSourceConfig>,
}

impl SourcesConfig {
    /// The sources that the sync loop has to wait for.
    pub fn kinds(&self) -> BTreeSet<SourceKind> {
        let file = self.file.as_ref().map(|_| SourceKind::File);
        let url = self.url.as_ref().map(|_| SourceKind::Url);
        file.into_iter().chain(url).collect()
    }
}

/// What sources work with. Clones share it.
#[derive(Clone, Debug)]
pub struct SourcesParts {
    /// The journal.
    pub records: Records,
    /// The clock.
    pub clock: Clock,
    /// Where paths begin.
    pub root: HostRoot,
    /// Where looks run.
    pub blocking: Blocking,
    /// Whom an https manifest URL is trusted by.
    pub roots: SystemRoots,
    /// To the sync loop.
    pub sender: mpsc::Sender<SourceSnapshot>,
}

impl SourcesParts {
    /// Sends a set unless it is the one that was sent last. False when nobody takes it.
    async fn send(
        &self,
        source: SourceKind,
        sent: &mut Option<Vec<Arc<Pod>>>,
        pods: &[Arc<Pod>],
    ) -> bool {
        let is_same = |old: &Vec<Arc<Pod>>| {
            old.len() == pods.len() && old.iter().zip(pods).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        if sent.as_ref().is_some_and(is_same) {
            return true;
        }
        tracing::debug!(
            source = source.as_str(),
            pods = pods.len(),
            "Set of a source"
        );
        let snapshot = SourceSnapshot::new(source, pods.to_vec());
        *sent = Some(pods.to_vec());
        // What an edit leaves running after a restart is written before it is acted on.
        self.records.settled().await;
        self.sender.send(snapshot).await.is_ok()
    }
}

/// What the sources look like now. Clones see the same.
#[derive(Clone, Debug, Default)]
pub struct SourcesHandle {
    reports: Vec<watch::Receiver<Arc<SourceReport>>>,
}

impl SourcesHandle {
    /// As `/debug/sources` shows it: `{"sources": [{kind, path or url, lastRead, seen, pods, problems, skipped}]}`.
    pub fn to_json(&self) -> Value {
        let reports = self.reports.iter();
        let all: Vec<Value> = reports.map(|report| report.borrow().to_json()).collect();
        json!({ "sources": all })
    }
}

/// Starts the configured sources.
///
/// # Errors
/// When the gauge's name is taken in the registry.
pub fn start(
    config: SourcesConfig,
    parts: SourcesParts,
    registry: &Registry,
    supervisor: &Supervisor,
) -> Result<SourcesHandle, prometheus::Error> {
    let problems = IntGaugeVec::new(
        Opts::new(
            "hyperkube_source_problems",
            "Number of things that are wrong now with a source of pods and its manifests",
        ),
        &["source"],
    )?;
    registry.register(Box::new(problems.clone()))?;
    let mut handle = SourcesHandle::default();
    let mut reporter = |kind: SourceKind, at: &str| {
        let gauge = problems.with_label_values(&[kind.as_str()]);
        let (reporter, shown) = Reporter::new(kind, at, gauge);
        handle.reports.push(shown);
        reporter
    };
    match config.file {
        Some(file) => {
            let reporter = reporter(SourceKind::File, &file.path);
            let source = FileSource::new(file, config.taker.clone(), parts.clone(), reporter);
            spawn(supervisor, "file source", source.run());
        }
        None => known::forget_records(&parts.records, SourceKind::File, |_| false),
    }
    match config.url {
        Some(url) => {
            let reporter = reporter(SourceKind::Url, &url.url);
            let source = UrlSource::new(url, config.taker.clone(), parts.clone(), reporter);
            spawn(supervisor, "url source", source.run());
        }
        None => known::forget_records(&parts.records, SourceKind::Url, |_| false),
    }
    Ok(handle)
}

/// A source holds nothing that its end could tear: it is dropped at the stop.
fn spawn(supervisor: &Supervisor, name: &str, source: impl Future<Output = ()> + Send + 'static) {
    let stop = supervisor.stop().clone();
    supervisor.spawn(TaskKind::Core, name, async move {
        stop.run_until_cancelled(source).await;
    });
}

#[cfg(test)]
mod tests;
