//! The manifests of one source: what each last said, and the last good content in the journal.
//!
//! In:    readings
//! Out:   the whole set of pods; problems; records of last good manifests
//! Calls: file, url
//! Holds: a bad reading changes no pod; a record is written before its pods are sent; the same pod stays the same `Arc`; a
//!        record that is too large for the journal keeps the times of first sight without the content
//! Upstream: pkg/kubelet/config/config.go (filterInvalidPods, updatePodsFunc); what is kept of bad manifests has no counterpart

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use kubelet_model::pod::{CONFIG_SEEN_ANNOTATION, Pod, SourceKind};
use serde::{Deserialize, Serialize};

use crate::frame::records::{MANIFEST_PREFIX, Records};

use super::Taker;
use super::reading::{FirstSeen, Origin, Reading, fingerprint, pods_of};
use super::report::Problem;

/// Longest record, bytes as it is written: the journal refuses records of a MiB.
const RECORD_BYTES: usize = 768 << 10;
/// All contents that are kept; the journal holds more than manifests.
const KEPT_BYTES: usize = 8 << 20;

/// A last good manifest as the journal has it.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct GoodManifest {
    /// The manifest; `None` when it is too large to be kept.
    pub(super) text: Option<String>,
    /// First sight of its pods, by UID.
    pub(super) seen: BTreeMap<String, Timestamp>,
}

/// One manifest.
#[derive(Debug, Default)]
struct Manifest {
    /// Of the bytes that were judged last.
    judged: Option<u64>,
    /// Of the last good content.
    pods: Vec<Arc<Pod>>,
    problems: Vec<Problem>,
    /// Bytes of content in the journal.
    kept_bytes: usize,
    /// First sight of pods that are only in the journal.
    seen: BTreeMap<String, Timestamp>,
}

/// Manifests of a source by path or URL, in the order in which they count.
#[derive(Debug)]
pub(super) struct Known {
    kind: SourceKind,
    records: Records,
    manifests: BTreeMap<String, Manifest>,
}

/// A manifest out of the journal, judged.
pub(super) type Remembered = (String, GoodManifest, Vec<Arc<Pod>>);

fn prefix(kind: SourceKind) -> String {
    format!("{MANIFEST_PREFIX}{}:", kind.as_str())
}

/// Removes what an earlier configuration left of a kind of source, but for places that `is_wanted`.
pub(super) fn forget_records(
    records: &Records,
    kind: SourceKind,
    is_wanted: impl Fn(&str) -> bool,
) {
    let prefix = prefix(kind);
    for at in records.keys(&prefix).iter().filter(|at| !is_wanted(at)) {
        records.remove(&format!("{prefix}{at}"));
    }
}

/// Records of a source; to be judged by [`judge`], best off the main thread.
pub(super) fn recorded(records: &Records, kind: SourceKind) -> Vec<(String, GoodManifest)> {
    let prefix = prefix(kind);
    let keys = records.keys(&prefix).into_iter();
    keys.filter_map(|at| {
        let record = records.get(&format!("{prefix}{at}"))?;
        Some((at, record))
    })
    .collect()
}

/// Pods of recorded manifests. One that was good under another release and is not now has none.
pub(super) fn judge(
    recorded: Vec<(String, GoodManifest)>,
    kind: SourceKind,
    taker: &Taker,
    now: Timestamp,
) -> Vec<Remembered> {
    let judged = recorded.into_iter().map(|(at, record)| {
        let place = Origin {
            kind,
            at: &at,
            taker,
        };
        let seen = FirstSeen {
            now,
            known: record.seen.clone(),
        };
        let text = record.text.as_deref();
        let pods = text.and_then(|text| pods_of(text.as_bytes(), place, &seen).ok());
        (at, record, pods.unwrap_or_default())
    });
    judged.collect()
}

impl Known {
    /// Starts with what the journal had.
    pub(super) fn new(kind: SourceKind, records: Records, remembered: Vec<Remembered>) -> Self {
        let manifests = remembered.into_iter().map(|(at, record, pods)| {
            let text = record.text.filter(|_| !pods.is_empty());
            let manifest = Manifest {
                judged: text.as_ref().map(|text| fingerprint(text.as_bytes())),
                kept_bytes: text.map_or(0, |text| text.len()),
                pods,
                problems: Vec::new(),
                seen: record.seen,
            };
            (at, manifest)
        });
        Self {
            kind,
            records,
            manifests: manifests.collect(),
        }
    }

    /// Fingerprints of what was judged, by place.
    pub(super) fn judged(&self) -> BTreeMap<String, u64> {
        let all = self.manifests.iter();
        all.filter_map(|(at, manifest)| Some((at.clone(), manifest.judged?)))
            .collect()
    }

    /// Times of first sight by UID.
    pub(super) fn first_seen(&self, now: Timestamp) -> FirstSeen {
        let mut known = BTreeMap::new();
        for manifest in self.manifests.values() {
            known.extend(manifest.seen.iter().map(|(uid, at)| (uid.clone(), *at)));
            known.extend(seen_of(&manifest.pods));
        }
        FirstSeen { now, known }
    }

    /// Places with pods.
    pub(super) fn places(&self) -> Vec<String> {
        let all = self.manifests.iter().filter(|(_, m)| !m.pods.is_empty());
        all.map(|(at, _)| at.clone()).collect()
    }

    /// Whether the content that was judged last is good.
    pub(super) fn is_good(&self, at: &str) -> bool {
        let manifest = self.manifests.get(at);
        manifest.is_some_and(|manifest| manifest.problems.is_empty())
    }

    /// Takes in what a look brought.
    pub(super) fn apply(&mut self, at: &str, reading: Reading) {
        let kept: usize = self.manifests.values().map(|m| m.kept_bytes).sum();
        let manifest = self.manifests.entry(at.to_owned()).or_default();
        match reading {
            Reading::Unchanged => {}
            Reading::Bad {
                fingerprint,
                problems,
            } => {
                manifest.judged = fingerprint;
                manifest.problems = problems;
            }
            Reading::Good {
                fingerprint,
                text,
                pods,
            } => {
                let old = std::mem::take(&mut manifest.pods);
                let same = |pod: &Arc<Pod>| old.iter().find(|o| o.uid == pod.uid && **o == *pod);
                manifest.pods = pods
                    .into_iter()
                    .map(|pod| same(&pod).map_or_else(|| Arc::clone(&pod), Arc::clone))
                    .collect();
                manifest.judged = Some(fingerprint);
                manifest.problems.clear();
                manifest.seen.clear();
                let others = kept - manifest.kept_bytes;
                manifest.kept_bytes = keep(
                    &self.records,
                    &format!("{}{at}", prefix(self.kind)),
                    (text, seen_of(&manifest.pods).collect()),
                    KEPT_BYTES.saturating_sub(others),
                );
            }
        }
    }

    /// The manifest is gone, and its pods with it.
    pub(super) fn forget(&mut self, at: &str) {
        self.manifests.remove(at);
        self.records.remove(&format!("{}{at}", prefix(self.kind)));
    }

    /// Forgets all but these.
    pub(super) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self
            .manifests
            .keys()
            .filter(|at| !is_there(at))
            .cloned()
            .collect();
        for at in gone {
            self.forget(&at);
        }
    }

    /// The whole set, and all problems of manifests. Of pods with one full name or UID the first counts.
    pub(super) fn pods(&self) -> (Vec<Arc<Pod>>, Vec<Problem>) {
        self.pods_but_of(&[])
    }

    /// The same without the manifests at some places.
    pub(super) fn pods_but_of(&self, places: &[String]) -> (Vec<Arc<Pod>>, Vec<Problem>) {
        let (mut pods, mut problems) = (Vec::new(), Vec::new());
        let mut names = BTreeMap::new();
        let mut uids = BTreeSet::new();
        for (at, manifest) in self.manifests.iter().filter(|(at, _)| !places.contains(at)) {
            let keeps_last_good = !manifest.pods.is_empty();
            problems.extend(manifest.problems.iter().map(|problem| Problem {
                keeps_last_good,
                ..problem.clone()
            }));
            for pod in &manifest.pods {
                let first = names.get(&pod.full_name).copied();
                let twice = if let Some(first) = first {
                    let name = &pod.full_name;
                    Some(format!(
                        "a pod {name} is in {first} already, which comes first"
                    ))
                } else if uids.insert(pod.uid.clone()) {
                    None
                } else {
                    Some(format!("a pod with UID {} comes before it", pod.uid))
                };
                if let Some(message) = twice {
                    problems.push(Problem {
                        field: Some("metadata.name".to_owned()),
                        ..Problem::at(at, message)
                    });
                } else {
                    names.insert(pod.full_name.clone(), at.as_str());
                    pods.push(Arc::clone(pod));
                }
            }
        }
        (pods, problems)
    }
}

fn seen_of(pods: &[Arc<Pod>]) -> impl Iterator<Item = (String, Timestamp)> {
    pods.iter().filter_map(|pod| {
        let seen = pod.annotation(CONFIG_SEEN_ANNOTATION)?.parse().ok()?;
        Some((pod.uid.to_string(), seen))
    })
}

/// Writes a record; returns how many bytes of content it keeps.
fn keep(
    records: &Records,
    key: &str,
    (text, seen): (String, BTreeMap<String, Timestamp>),
    room: usize,
) -> usize {
    let length = text.len();
    let record = GoodManifest {
        text: Some(text),
        seen,
    };
    let encoded = serde_json::to_vec(&record).map_or(usize::MAX, |bytes| bytes.len());
    if encoded <= RECORD_BYTES && length <= room {
        records.put(key, &record);
        return length;
    }
    tracing::warn!(
        key,
        length,
        "Manifest is too large for the journal; its last good content is lost when the kubelet restarts"
    );
    let mut record = GoodManifest {
        text: None,
        ..record
    };
    // A list with ten thousands of pods: they then get a new time at a restart.
    if record.seen.len() > 4096 {
        record.seen.clear();
    }
    records.put(key, &record);
    0
}
