//! Figures of the relister, under upstream's names.
//!
//! In:    ends of relists, the observed pods
//! Out:   `kubelet_pleg_*`, `kubelet_running_pods`, `kubelet_running_containers`
//! Calls: pleg
//! Upstream: pkg/kubelet/metrics/metrics.go

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kubelet_model::ids::PodUid;
use kubelet_model::observed::ObservedPod;
use prometheus::{Gauge, Histogram, HistogramOpts, IntGauge, IntGaugeVec, Opts, Registry};
use tokio::time::Instant;

/// The families.
#[derive(Debug)]
pub(crate) struct PlegMetrics {
    took: Histogram,
    interval: Histogram,
    last_seen: Gauge,
    running_pods: IntGauge,
    running_containers: IntGaugeVec,
    last: std::cell::Cell<Option<Instant>>,
}

impl PlegMetrics {
    /// Registers the families.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let buckets = vec![
            0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
        ];
        let took = HistogramOpts::new(
            "kubelet_pleg_relist_duration_seconds",
            "Duration in seconds for relisting pods in PLEG.",
        )
        .buckets(buckets.clone());
        let interval = HistogramOpts::new(
            "kubelet_pleg_relist_interval_seconds",
            "Interval in seconds between relisting in PLEG.",
        )
        .buckets(buckets);
        let metrics = Self {
            took: Histogram::with_opts(took)?,
            interval: Histogram::with_opts(interval)?,
            last_seen: Gauge::new(
                "kubelet_pleg_last_seen_seconds",
                "Timestamp in seconds when PLEG was last seen active.",
            )?,
            running_pods: IntGauge::new(
                "kubelet_running_pods",
                "Number of pods that have a running pod sandbox",
            )?,
            running_containers: IntGaugeVec::new(
                Opts::new(
                    "kubelet_running_containers",
                    "Number of containers currently running",
                ),
                &["container_state"],
            )?,
            last: std::cell::Cell::new(None),
        };
        registry.register(Box::new(metrics.took.clone()))?;
        registry.register(Box::new(metrics.interval.clone()))?;
        registry.register(Box::new(metrics.last_seen.clone()))?;
        registry.register(Box::new(metrics.running_pods.clone()))?;
        registry.register(Box::new(metrics.running_containers.clone()))?;
        Ok(metrics)
    }

    /// A list ended.
    pub(crate) fn relisted(&self, took: Duration, at: jiff::Timestamp) {
        self.took.observe(took.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "seconds of this century fit")]
        self.last_seen.set(at.as_second() as f64);
        if let Some(last) = self.last.replace(Some(Instant::now())) {
            self.interval.observe(last.elapsed().as_secs_f64());
        }
    }

    /// What the runtime holds.
    pub(crate) fn holds(&self, pods: &BTreeMap<PodUid, Arc<ObservedPod>>) {
        let mut states: BTreeMap<&str, i64> = [
            ("created", 0),
            ("running", 0),
            ("exited", 0),
            ("unknown", 0),
        ]
        .into();
        let mut running = 0;
        for pod in pods.values() {
            running += i64::from(pod.ready_sandboxes().next().is_some());
            for container in &pod.containers {
                *states.entry(container.state.word()).or_default() += 1;
            }
        }
        self.running_pods.set(running);
        for (state, count) in states {
            self.running_containers
                .with_label_values(&[state])
                .set(count);
        }
    }
}
