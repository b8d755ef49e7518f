//! How much emptyDir volumes hold, measured each `volumeStatsAggPeriod`.
//!
//! In:    reported pods, the directories of their volumes
//! Out:   a snapshot by pod, for `/stats/summary` and local eviction later; `kubelet_volume_metric_collection_duration_seconds`
//! Calls: wiring
//! Holds: nothing is read while no pod has an emptyDir; off the main thread, one pod at a time, within a budget of entries; a
//!        volume that cannot be measured keeps no old figure
//! Upstream: pkg/kubelet/server/stats (resource_analyzer.go, volume_stat_calculator.go); differences: one loop, not one per pod;
//!           upstream has figures of volumes for claims only, so there are none here

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use kubelet_host::blocking::About;
use kubelet_host::files::{FilesystemFigures, filesystem_figures};
use kubelet_host::usage::{DiskUsage, disk_usage};
use kubelet_host::{Blocking, HostRoot};
use kubelet_model::ids::PodUid;
use prometheus::{HistogramVec, Registry};
use tokio::sync::watch;

use crate::frame::metrics::{Making, histogram};
use crate::frame::reconciler::{Pace, Reconciler, RoundError, WakeReason};
use kubelet_model::reported::ReportedPods;

/// Entries looked at in one volume; more make the figures a lower bound.
const ENTRIES: u64 = 100_000;
/// For all volumes of one pod.
const DEADLINE: Duration = Duration::from_secs(30);

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeUsage {
    /// Its name in the pod.
    pub name: String,
    /// When it was measured.
    pub at: Timestamp,
    /// What is in it.
    pub used: DiskUsage,
    /// The filesystem that it lies on.
    pub filesystem: FilesystemFigures,
}

/// Volumes by pod; pods without any are left out.
pub type VolumeUsages = BTreeMap<PodUid, Vec<VolumeUsage>>;

/// The measurer.
#[derive(Clone, Debug)]
pub struct ResourceAnalyzer {
    root: HostRoot,
    pods_dir: PathBuf,
    blocking: Blocking,
    pods: watch::Receiver<ReportedPods>,
    usages: watch::Sender<Arc<VolumeUsages>>,
    took: HistogramVec,
}

/// A finished measurement.
#[derive(Debug)]
pub struct Measured {
    usages: VolumeUsages,
    problems: Vec<String>,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.usages.is_empty() && self.problems.is_empty() {
            return Ok(());
        }
        write!(
            f,
            "volumes of {} pods measured, {} problems",
            self.usages.len(),
            self.problems.len()
        )
    }
}

type Figures = Vec<(String, Result<(DiskUsage, FilesystemFigures), String>)>;

impl ResourceAnalyzer {
    /// Nothing is measured yet. `root_dir` is the kubelet's.
    ///
    /// # Errors
    /// When the metric's name is taken.
    pub fn new(
        root: HostRoot,
        root_dir: &str,
        blocking: Blocking,
        pods: watch::Receiver<ReportedPods>,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let took = histogram(
            "volume_metric_collection_duration_seconds",
            "Duration in seconds to calculate volume stats",
        );
        Ok(Self {
            took: Making(registry).register(HistogramVec::new(took, &["metric_source"])?)?,
            pods_dir: PathBuf::from(root_dir).join("pods"),
            root,
            blocking,
            pods,
            usages: watch::Sender::default(),
        })
    }

    /// Each period, and up to as much later, so that nodes do not measure in step.
    pub fn pace(period: Duration) -> Pace {
        Pace {
            jitter_percent: 100,
            ..Pace::every(period)
        }
    }

    /// The last measurement.
    pub fn subscribe(&self) -> watch::Receiver<Arc<VolumeUsages>> {
        self.usages.subscribe()
    }

    async fn measure(&self, uid: &PodUid, names: Vec<String>) -> Result<Figures, String> {
        let directory = self.root.join(
            self.pods_dir
                .join(uid.as_str())
                .join("volumes/kubernetes.io~empty-dir"),
        );
        let took = self.took.with_label_values(&["du"]);
        let call = move || {
            let one = |name: String| {
                let _timer = took.start_timer();
                let path = directory.join(&name);
                let figures = disk_usage(&path, ENTRIES)
                    .and_then(|used| Ok((used, filesystem_figures(&path)?)))
                    .map_err(|error| RoundError::of(&error).0);
                (name, figures)
            };
            names.into_iter().map(one).collect()
        };
        let about = About::the(format!("volumes of pod {uid}"));
        let measured = self
            .blocking
            .run_about(about, DEADLINE, "measure volumes", call);
        let answer = measured.await;
        answer.map_err(|error| error.to_string())
    }
}

fn empty_dirs(pod: &v1::Pod) -> Vec<String> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter(|volume| volume.empty_dir.is_some())
        .map(|volume| volume.name.clone())
        .collect()
}

impl Reconciler for ResourceAnalyzer {
    const NAME: &'static str = "resource_analyzer";
    type Seen = Vec<(PodUid, Result<Figures, String>)>;
    type Plan = Measured;

    async fn observe(&mut self, _why: WakeReason) -> Result<Self::Seen, RoundError> {
        let wanted: Vec<(PodUid, Vec<String>)> = self
            .pods
            .borrow_and_update()
            .iter()
            .map(|(uid, pod)| (uid.clone(), empty_dirs(&pod.object)))
            .filter(|(_, names)| !names.is_empty())
            .collect();
        let mut seen = Vec::new();
        for (uid, names) in wanted {
            let figures = self.measure(&uid, names).await;
            seen.push((uid, figures));
        }
        Ok(seen)
    }

    fn decide(&self, seen: Self::Seen, now: Timestamp) -> Measured {
        let mut measured = Measured {
            usages: VolumeUsages::new(),
            problems: Vec::new(),
        };
        for (uid, figures) in seen {
            let figures = figures.unwrap_or_else(|why| {
                measured.problems.push(format!("pod {uid}: {why}"));
                Vec::new()
            });
            for (name, figures) in figures {
                match figures {
                    Ok((used, filesystem)) => {
                        let usage = VolumeUsage {
                            name,
                            at: now,
                            used,
                            filesystem,
                        };
                        measured.usages.entry(uid.clone()).or_default().push(usage);
                    }
                    Err(why) => measured
                        .problems
                        .push(format!("pod {uid}, volume {name}: {why}")),
                }
            }
        }
        measured
    }

    async fn act(&mut self, plan: Measured) -> Result<(), RoundError> {
        // A pod that starts or goes has no directory for a moment; that is no failure of the round.
        for problem in &plan.problems {
            tracing::debug!(problem, "Volume could not be measured");
        }
        self.usages.send_if_modified(|shown| {
            let is_new = !(shown.is_empty() && plan.usages.is_empty());
            *shown = Arc::new(plan.usages);
            is_new
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::clock::Clock;
    use crate::frame::reconciler::Reconcilers;
    use crate::frame::supervisor::Supervisor;
    use crate::report::status::StatusHandle;
    use crate::testing::Scratch;

    fn pod(volumes: &[&str]) -> Arc<v1::Pod> {
        let volumes = volumes.iter().map(|name| v1::Volume {
            name: (*name).to_owned(),
            empty_dir: Some(v1::EmptyDirVolumeSource::default()),
            ..Default::default()
        });
        let spec = v1::PodSpec {
            volumes: Some(volumes.collect()),
            ..Default::default()
        };
        Arc::new(v1::Pod {
            spec: Some(spec),
            ..Default::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn volumes_are_measured_each_period_and_forgotten_with_their_pod() {
        let scratch = Scratch::new();
        let status = StatusHandle::default();
        let (one, bare) = (
            PodUid::parse("one").unwrap(),
            PodUid::parse("bare").unwrap(),
        );
        status.report(&one, &pod(&["cache", "absent"]), v1::PodStatus::default());
        status.report(&bare, &pod(&[]), v1::PodStatus::default());
        let file = "/root/pods/one/volumes/kubernetes.io~empty-dir/cache/sub/file";
        scratch.write(file, &"x".repeat(10_000));
        let analyzer = ResourceAnalyzer::new(
            HostRoot::at(scratch.path()),
            "/root",
            Blocking::Inline,
            status.subscribe(),
            &Registry::new(),
        )
        .unwrap();
        let usages = analyzer.subscribe();
        let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
        let reconcilers =
            Reconcilers::new(Supervisor::new(clock), clock, 3, &Registry::new()).unwrap();
        let period = Duration::from_secs(60);
        reconcilers.spawn(analyzer, ResourceAnalyzer::pace(period));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let first = Arc::clone(&usages.borrow());
        assert_eq!(first.len(), 1);
        let [cache] = first[&one].as_slice() else {
            panic!("{first:?}")
        };
        assert_eq!((cache.name.as_str(), cache.used.inodes), ("cache", 3));
        assert!(cache.used.bytes >= 10_000 && cache.filesystem.capacity_bytes > 0);
        status.forget(&one);
        tokio::time::sleep(period * 2).await;
        assert!(usages.borrow().is_empty());
        assert_eq!(reconcilers.to_json()["resource_analyzer"]["failures"], 0);
    }
}
