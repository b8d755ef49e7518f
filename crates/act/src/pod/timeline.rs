//! When each pod's start reached which stage: one small record per pod.
//!
//! In:    marks from sources, sync loop, worker
//! Out:   `/debug/timeline`, `hyperkube timeline`; one log line when a pod becomes ready
//! Calls: sync_loop, pod_worker, execute
//! Holds: the first mark of a stage counts, of one that repeats the last before Ready; memory is limited by the number of pods
//! Upstream: none (k/k#124935 asks for it)

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use kubelet_model::ids::{PodFullName, PodUid};
use kubelet_model::story;
use serde_json::{Value, json};

/// The stages of a start, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Seen in its source.
    Queued,
    /// Taken up by a worker.
    Admitted,
    /// Cgroup, directories and volumes stand.
    Volumes,
    /// The sandbox runs.
    Sandbox,
    /// All images asked for are present.
    Pull,
    /// The last container was created.
    Create,
    /// The last container was started.
    Start,
    /// Condition Ready turned true.
    Ready,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Admitted => "admitted",
            Self::Volumes => "volumes",
            Self::Sandbox => "sandbox",
            Self::Pull => "pull",
            Self::Create => "create",
            Self::Start => "start",
            Self::Ready => "ready",
        }
    }

    /// Stages that repeat in a start with several volumes or containers: the last mark before Ready stands.
    fn last_counts(self) -> bool {
        matches!(
            self,
            Self::Volumes | Self::Pull | Self::Create | Self::Start
        )
    }
}

#[derive(Debug)]
struct Record {
    name: PodFullName,
    stages: BTreeMap<Stage, Timestamp>,
}

/// The records. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    records: Arc<Mutex<BTreeMap<PodUid, Record>>>,
}

impl Timeline {
    /// Marks a stage; a pod's start is over with Ready, later marks are left out.
    pub fn mark(&self, uid: &PodUid, name: &PodFullName, stage: Stage, at: Timestamp) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let record = records.entry(uid.clone()).or_insert_with(|| Record {
            name: name.clone(),
            stages: BTreeMap::new(),
        });
        if record.stages.contains_key(&Stage::Ready) {
            return;
        }
        if stage.last_counts() {
            record.stages.insert(stage, at);
        } else {
            record.stages.entry(stage).or_insert(at);
        }
        if stage == Stage::Ready {
            tracing::info!(pod = %name, uid = %uid, timeline = %line(&record.stages), "Pod is ready");
        }
    }

    /// Forgets a pod.
    pub fn forget(&self, uid: &PodUid) {
        self.records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }

    /// The stages that a pod's start has reached, by time.
    pub fn of(&self, uid: &PodUid) -> Vec<story::Stage> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let stages = records.get(uid).map(|record| ordered(&record.stages));
        let stages = stages.into_iter().flatten();
        stages
            .map(|(stage, at, _)| story::Stage {
                stage: stage.as_str().to_owned(),
                at,
            })
            .collect()
    }

    /// All records: pod, uid, stage → time, and seconds since the stage before.
    pub fn to_json(&self) -> Value {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let pods: Vec<Value> = records
            .iter()
            .map(|(uid, record)| {
                let stages: Vec<Value> = ordered(&record.stages)
                    .into_iter()
                    .map(|(stage, at, since)| json!({"stage": stage.as_str(), "at": at.to_string(), "afterMillis": since}))
                    .collect();
                json!({"namespace": &*record.name.namespace, "name": &*record.name.name, "uid": uid.as_str(), "stages": stages})
            })
            .collect();
        json!({ "pods": pods })
    }
}

/// Stages by time, each with the milliseconds since the one before.
fn ordered(stages: &BTreeMap<Stage, Timestamp>) -> Vec<(Stage, Timestamp, i128)> {
    let mut list: Vec<(Timestamp, Stage)> =
        stages.iter().map(|(stage, at)| (*at, *stage)).collect();
    list.sort();
    let mut before = list.first().map(|(at, _)| *at);
    list.into_iter()
        .map(|(at, stage)| {
            let since = before.map_or(0, |b| at.duration_since(b).as_millis());
            before = Some(at);
            (stage, at, since)
        })
        .collect()
}

fn line(stages: &BTreeMap<Stage, Timestamp>) -> String {
    let mut text = String::new();
    for (stage, _, since) in ordered(stages) {
        let space = if text.is_empty() { "" } else { " " };
        // Writing to a String cannot fail.
        let _written = write!(text, "{space}{}+{since}ms", stage.as_str());
    }
    text
}
