//! Figures of pod workers, under upstream's names.
//!
//! In:    a container started, a plan carried out, a pod ready
//! Out:   `kubelet_started_*`, `kubelet_pod_worker_duration_seconds`, `kubelet_pod_start_duration_seconds`
//! Calls: pod_worker, sync_loop
//! Upstream: pkg/kubelet/metrics/metrics.go

use std::time::Duration;

use jiff::Timestamp;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// The families. Clones share them.
#[derive(Clone, Debug)]
pub struct WorkerMetrics {
    started_pods: IntCounter,
    started_containers: IntCounterVec,
    worker: HistogramVec,
    start: Histogram,
    desired: IntGaugeVec,
    working: IntGaugeVec,
    orphans: IntCounter,
    /// Pods held because of a field that is not supported here.
    held: IntGauge,
}

impl WorkerMetrics {
    /// Registers the families.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let start_buckets = vec![
            0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0,
            240.0, 300.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
        ];
        let default_buckets = prometheus::DEFAULT_BUCKETS.to_vec();
        let metrics = Self {
            started_pods: IntCounter::new("kubelet_started_pods_total", "Cumulative number of pods started")?,
            started_containers: IntCounterVec::new(
                Opts::new("kubelet_started_containers_total", "Cumulative number of containers started"),
                &["container_type"],
            )?,
            worker: HistogramVec::new(
                HistogramOpts::new(
                    "kubelet_pod_worker_duration_seconds",
                    "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
                )
                .buckets(default_buckets),
                &["operation_type"],
            )?,
            start: Histogram::with_opts(
                HistogramOpts::new(
                    "kubelet_pod_start_duration_seconds",
                    "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
                )
                .buckets(start_buckets),
            )?,
            desired: IntGaugeVec::new(
                Opts::new("kubelet_desired_pods", "The number of pods the kubelet is being instructed to run. static is true if the pod is not from the apiserver."),
                &["static"],
            )?,
            working: IntGaugeVec::new(
                Opts::new("kubelet_working_pods", "Number of pods the kubelet is actually running, broken down by lifecycle phase, whether the pod is desired, orphaned, or runtime only (also orphaned), and whether the pod is static."),
                &["lifecycle", "config", "static"],
            )?,
            orphans: IntCounter::new(
                "kubelet_orphaned_runtime_pods_total",
                "Number of pods that have been detected in the container runtime without being already known to the pod worker.",
            )?,
            held: IntGauge::new("hyperkube_held_pods", "Pods that are held because they use a field that is not supported")?,
        };
        registry.register(Box::new(metrics.started_pods.clone()))?;
        registry.register(Box::new(metrics.started_containers.clone()))?;
        registry.register(Box::new(metrics.worker.clone()))?;
        registry.register(Box::new(metrics.start.clone()))?;
        registry.register(Box::new(metrics.desired.clone()))?;
        registry.register(Box::new(metrics.working.clone()))?;
        registry.register(Box::new(metrics.orphans.clone()))?;
        registry.register(Box::new(metrics.held.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn started_pod(&self) {
        self.started_pods.inc();
    }

    pub(crate) fn started_container(&self) {
        self.started_containers
            .with_label_values(&["container"])
            .inc();
    }

    pub(crate) fn found_orphan(&self) {
        self.orphans.inc();
    }

    pub(crate) fn acted(&self, life: &str, took: Duration) {
        let operation = if life == "syncing" {
            "sync"
        } else {
            "terminate"
        };
        self.worker
            .with_label_values(&[operation])
            .observe(took.as_secs_f64());
    }

    pub(crate) fn became_ready(&self, since: Option<Timestamp>, now: Timestamp) {
        if let Some(since) = since {
            self.start.observe(now.duration_since(since).as_secs_f64());
        }
    }

    /// Counts of what is desired and worked on: (static, api), and held ones.
    pub(crate) fn counts(&self, desired: (i64, i64), working: i64, held: i64) {
        self.desired.with_label_values(&["true"]).set(desired.0);
        self.desired.with_label_values(&["false"]).set(desired.1);
        self.working
            .with_label_values(&["sync", "desired", "true"])
            .set(working);
        self.held.set(held);
    }
}
