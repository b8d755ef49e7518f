//! Metrics of pod workers, under upstream's names.
//!
//! In:    observations from `pod_figures`
//! Out:   `kubelet_started_*`, `kubelet_terminated_containers_total`, `kubelet_pod_worker_*`, `kubelet_pod_start_*`,
//!        `kubelet_containers_per_pod_count`, `kubelet_working_pods`
//! Calls: pod_path makes it; pod_figures, one per worker
//! Holds: names, labels, help and buckets are upstream's (`parity/metrics.json`)
//! Upstream: pkg/kubelet/metrics/metrics.go

use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::frame::metrics::Making;
use crate::frame::metrics::histogram;

/// From half a second to an hour: how long a pod takes to start.
const START_BUCKETS: [f64; 25] = [
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0,
    300.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];

/// States of a worker, and what is known of its pod: every combination is shown, if only as 0.
pub(crate) const WORKING: [(&str, &str); 5] = [
    ("desired", "true"),
    ("desired", ""),
    ("orphan", "true"),
    ("orphan", ""),
    ("runtime_only", "unknown"),
];

/// The families. Clones share them.
#[derive(Clone, Debug)]
pub struct WorkerMetrics {
    pub(crate) started_pods: IntCounter,
    pub(crate) started_pods_errors: IntCounter,
    pub(crate) started_containers: IntCounterVec,
    pub(crate) started_containers_errors: IntCounterVec,
    pub(crate) started_host_process: IntCounterVec,
    pub(crate) started_host_process_errors: IntCounterVec,
    pub(crate) terminated_containers: IntCounterVec,
    pub(crate) worker: HistogramVec,
    pub(crate) worker_start: Histogram,
    pub(crate) start: Histogram,
    pub(crate) start_total: Histogram,
    pub(crate) start_sli: Histogram,
    pub(crate) first_network_start: Gauge,
    pub(crate) first_network_seen: Arc<AtomicBool>,
    pub(crate) containers_per_pod: Histogram,
    pub(crate) working: IntGaugeVec,
    pub(crate) orphan_errors: IntGauge,
    ended: Arc<[AtomicI64; 2]>,
}

impl WorkerMetrics {
    /// Registers the families.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let made = Making(registry);
        let metrics = Self {
            started_pods: made.counter(
                "started_pods_total",
                "Cumulative number of pods started",
            )?,
            started_pods_errors: made.counter(
                "started_pods_errors_total",
                "Cumulative number of errors when starting pods",
            )?,
            started_containers: made.counters(
                "started_containers_total",
                "Cumulative number of containers started",
                &["container_type"],
            )?,
            started_containers_errors: made.counters(
                "started_containers_errors_total",
                "Cumulative number of errors when starting containers",
                &["container_type", "code"],
            )?,
            started_host_process: made.counters(
                "started_host_process_containers_total",
                "Cumulative number of hostprocess containers started. This metric will only be collected on Windows.",
                &["container_type"],
            )?,
            started_host_process_errors: made.counters(
                "started_host_process_containers_errors_total",
                "Cumulative number of errors when starting hostprocess containers. This metric will only be collected on Windows.",
                &["container_type", "code"],
            )?,
            terminated_containers: made.counters(
                "terminated_containers_total",
                "Cumulative number of container terminations.",
                &["container_type", "exit_code", "reason"],
            )?,
            worker: made.register(HistogramVec::new(
                histogram("pod_worker_duration_seconds", "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync"),
                &["operation_type"],
            )?)?,
            worker_start: made.histogram(histogram(
                "pod_worker_start_duration_seconds",
                "Duration in seconds from kubelet seeing a pod to starting a worker.",
            ))?,
            start: made.histogram(start_histogram(
                "pod_start_duration_seconds",
                "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
            ))?,
            start_total: made.histogram(start_histogram(
                "pod_start_total_duration_seconds",
                "Duration in seconds to start a pod since creation, including time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch",
            ))?,
            start_sli: made.histogram(start_histogram(
                "pod_start_sli_duration_seconds",
                "Duration in seconds to start a pod, excluding time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch",
            ))?,
            first_network_start: made.register(Gauge::with_opts(Opts::new(
                "kubelet_first_network_pod_start_sli_duration_seconds",
                "[INTERNAL] Duration in seconds to start the first network pod, excluding time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch",
            ))?)?,
            first_network_seen: Arc::default(),
            containers_per_pod: made.histogram(
                histogram("containers_per_pod_count", "The number of containers per pod.")
                    .buckets(vec![1.0, 2.0, 4.0, 8.0, 16.0]),
            )?,
            working: made.gauges(
                "working_pods",
                "Number of pods the kubelet is actually running, broken down by lifecycle phase, whether the pod is desired, orphaned, or runtime only (also orphaned), and whether the pod is static. An orphaned pod has been removed from local configuration or force deleted in the API and consumes resources that are not otherwise visible.",
                &["lifecycle", "config", "static"],
            )?,
            orphan_errors: made.gauge(
                "orphan_pod_cleaned_volumes_errors",
                "The number of orphaned Pods whose volumes failed to be cleaned in the last periodic sweep.",
            )?,
            ended: Arc::default(),
        };
        metrics.begin_at_zero();
        Ok(metrics)
    }

    fn begin_at_zero(&self) {
        for life in ["sync", "terminating", "terminated"] {
            for (config, is_static) in WORKING {
                self.working
                    .with_label_values(&[life, config, is_static])
                    .set(0);
            }
        }
    }

    /// Desired pods that will not run again: static ones and those of the API.
    pub(crate) fn ended(&self) -> (i64, i64) {
        let [of_api, statics] = &*self.ended;
        (
            statics.load(Ordering::Relaxed),
            of_api.load(Ordering::Relaxed),
        )
    }

    /// One more or one fewer of them.
    pub(crate) fn count_ended(&self, is_static: bool, by: i64) {
        let [of_api, statics] = &*self.ended;
        let count = if is_static { statics } else { of_api };
        count.fetch_add(by, Ordering::Relaxed);
    }
}

fn start_histogram(name: &str, help: &str) -> HistogramOpts {
    histogram(name, help).buckets(START_BUCKETS.to_vec())
}
