//! What a source shows of itself: the log, the gauge, `/debug/sources`.
//!
//! In:    after each read: problems, skipped names, pods
//! Out:   one log line per problem that comes, goes or changes; `hyperkube_source_problems`; a snapshot for the handle
//! Calls: file, url
//! Holds: a problem that stays is logged once and keeps the time at which it came
//! Upstream: none (there a log line with each read)

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use kubelet_model::pod::{Pod, SourceKind};
use prometheus::IntGauge;
use serde_json::{Value, json};
use tokio::sync::watch;

/// What is wrong with a source or a manifest of it. Prints as one line.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Problem {
    /// The path or URL.
    pub(super) file: String,
    /// From 1.
    pub(super) line: Option<usize>,
    /// From 1.
    pub(super) column: Option<usize>,
    /// Such as `spec.containers[0].image`.
    pub(super) field: Option<String>,
    /// What is wrong.
    pub(super) message: String,
    /// Whether pods of an earlier good read stay desired.
    pub(super) keeps_last_good: bool,
}

impl Problem {
    /// A problem of the whole.
    pub(super) fn at(file: &str, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            message: message.into(),
            ..Self::default()
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown_url(&self.file))?;
        for number in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{number}")?;
        }
        f.write_str(": ")?;
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// A URL without the password in it; a path as it is.
pub(super) fn shown_url(url: &str) -> String {
    let split = url.split_once("://").and_then(|(scheme, rest)| {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, host) = authority.rsplit_once('@')?;
        let name = user.split_once(':').map(|(name, _)| name)?;
        Some(format!("{scheme}://{name}:xxxxx@{host}{path}"))
    });
    split.unwrap_or_else(|| url.to_owned())
}

/// A source at one moment.
#[derive(Clone, Debug)]
pub(super) struct SourceReport {
    pub(super) kind: SourceKind,
    pub(super) at: String,
    pub(super) last_read: Option<Timestamp>,
    /// Whether the sync loop has a set of it.
    pub(super) seen: bool,
    pub(super) pods: Vec<Arc<Pod>>,
    /// With the time at which each came.
    pub(super) problems: BTreeMap<Problem, Timestamp>,
    /// Names that are left alone, with the reason.
    pub(super) skipped: BTreeMap<String, String>,
}

impl SourceReport {
    /// A source that was not read yet.
    pub(super) fn new(kind: SourceKind, at: &str) -> Self {
        Self {
            kind,
            at: at.to_owned(),
            last_read: None,
            seen: false,
            pods: Vec::new(),
            problems: BTreeMap::new(),
            skipped: BTreeMap::new(),
        }
    }

    /// As `/debug/sources` shows it.
    pub(super) fn to_json(&self) -> Value {
        let place = match self.kind {
            SourceKind::Url => "url",
            SourceKind::File | SourceKind::Api => "path",
        };
        let pods = self.pods.iter().map(
            |pod| json!({"name": pod.full_name.to_string(), "uid": pod.uid.to_string(), "unbuilt": &pod.unbuilt[..]}),
        );
        let problems = self.problems.iter().map(|(problem, since)| {
            json!({
                "file": shown_url(&problem.file),
                "line": problem.line,
                "column": problem.column,
                "field": problem.field,
                "message": problem.message,
                "since": since.to_string(),
                "keepsLastGood": problem.keeps_last_good,
            })
        });
        let skipped = self.skipped.iter();
        let skipped = skipped.map(|(name, why)| json!({"name": name, "reason": why}));
        json!({
            "kind": self.kind.as_str(),
            place: shown_url(&self.at),
            "lastRead": self.last_read.map(|at| at.to_string()),
            "seen": self.seen,
            "pods": pods.collect::<Vec<_>>(),
            "problems": problems.collect::<Vec<_>>(),
            "skipped": skipped.collect::<Vec<_>>(),
        })
    }
}

/// Keeps a source's report.
#[derive(Debug)]
pub(super) struct Reporter {
    report: watch::Sender<Arc<SourceReport>>,
    gauge: IntGauge,
}

impl Reporter {
    /// With the receiver that the handle reads.
    pub(super) fn new(
        kind: SourceKind,
        at: &str,
        gauge: IntGauge,
    ) -> (Self, watch::Receiver<Arc<SourceReport>>) {
        let (report, shown) = watch::channel(Arc::new(SourceReport::new(kind, at)));
        (Self { report, gauge }, shown)
    }

    /// Logs what is new in a report and shows it. `problems` come without their times.
    pub(super) fn show(&self, mut new: SourceReport, problems: Vec<Problem>, now: Timestamp) {
        let old = Arc::clone(&self.report.borrow());
        for problem in problems {
            let since = old.problems.get(&problem).copied();
            if since.is_none() {
                tracing::error!(source = new.kind.as_str(), keeps_last_good = problem.keeps_last_good, problem = %problem, "Manifest or source has a problem");
            }
            new.problems.insert(problem, since.unwrap_or(now));
        }
        let bad =
            |report: &SourceReport, file: &str| report.problems.keys().any(|p| p.file == file);
        let mut mended: Vec<&str> = old.problems.keys().map(|p| p.file.as_str()).collect();
        mended.dedup();
        for file in mended.into_iter().filter(|file| !bad(&new, file)) {
            tracing::info!(
                source = new.kind.as_str(),
                at = shown_url(file),
                "Manifest is valid again"
            );
        }
        for (name, why) in &new.skipped {
            if !old.skipped.contains_key(name) {
                tracing::info!(source = new.kind.as_str(), name, why, "Ignoring file");
            }
        }
        self.gauge
            .set(i64::try_from(new.problems.len()).unwrap_or(i64::MAX));
        self.report.send_replace(Arc::new(new));
    }
}
