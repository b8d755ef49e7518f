//! Metrics of the relister and of the runtime's events, under upstream's names.
//!
//! In:    ends of relists and looks, the observed pods; ends of the stream of events, events
//! Out:   `kubelet_pleg_*`, `kubelet_evented_pleg_*`, `kubelet_running_pods`, `kubelet_running_containers`
//! Calls: pleg, runtime_events
//! Holds: names, labels, help and buckets are upstream's (`parity/metrics.json`)
//! Upstream: pkg/kubelet/metrics/metrics.go

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kubelet_model::ids::PodUid;
use kubelet_model::observed::ObservedPod;
use prometheus::{Gauge, Histogram, HistogramTimer, IntCounter, IntGauge, IntGaugeVec, Registry};
use tokio::time::Instant;

use crate::frame::metrics::{Making, histogram, opts};

/// The families of the relister.
#[derive(Debug)]
pub(crate) struct PlegMetrics {
    took: Histogram,
    interval: Histogram,
    look: Histogram,
    discarded: IntCounter,
    last_seen: Gauge,
    running_pods: IntGauge,
    running_containers: IntGaugeVec,
    last: std::cell::Cell<Option<Instant>>,
}

impl PlegMetrics {
    /// Registers the families.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let made = Making(registry);
        let last_seen = opts(
            "pleg_last_seen_seconds",
            "Timestamp in seconds when PLEG was last seen active.",
        );
        Ok(Self {
            took: made.histogram(histogram(
                "pleg_relist_duration_seconds",
                "Duration in seconds for relisting pods in PLEG.",
            ))?,
            interval: made.histogram(histogram(
                "pleg_relist_interval_seconds",
                "Interval in seconds between relisting in PLEG.",
            ))?,
            look: made.histogram(histogram(
                "pleg_pod_relist_duration_seconds",
                "Duration in seconds for relisting a single pod in PLEG.",
            ))?,
            discarded: made.counter(
                "pleg_discard_events",
                "The number of discard events in PLEG.",
            )?,
            last_seen: made.register(Gauge::with_opts(last_seen)?)?,
            running_pods: made.gauge(
                "running_pods",
                "Number of pods that have a running pod sandbox",
            )?,
            running_containers: made.gauges(
                "running_containers",
                "Number of containers currently running",
                &["container_state"],
            )?,
            last: std::cell::Cell::new(None),
        })
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

    /// A look at one pod begins; it ends with the timer.
    pub(crate) fn look(&self) -> HistogramTimer {
        self.look.start_timer()
    }

    /// A change that nobody was there to hear of.
    pub(crate) fn discarded(&self) {
        self.discarded.inc();
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

/// The families of the runtime's own events.
#[derive(Clone, Debug)]
pub(crate) struct EventMetrics {
    connected: IntCounter,
    errors: IntCounter,
    latency: Histogram,
}

impl EventMetrics {
    /// Registers the families.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let made = Making(registry);
        Ok(Self {
            connected: made.counter(
                "evented_pleg_connection_success_count",
                "The number of times a streaming client was obtained to receive CRI Events.",
            )?,
            errors: made.counter(
                "evented_pleg_connection_error_count",
                "The number of errors encountered during the establishment of streaming connection with the CRI runtime.",
            )?,
            latency: made.histogram(histogram(
                "evented_pleg_connection_latency_seconds",
                "The latency of streaming connection with the CRI runtime, measured in seconds.",
            ))?,
        })
    }

    /// The stream is open.
    pub(crate) fn connected(&self) {
        self.connected.inc();
    }

    /// It could not be opened.
    pub(crate) fn not_connected(&self) {
        self.errors.inc();
    }

    /// An event came, made at that nanosecond of the Unix epoch.
    pub(crate) fn event(&self, made_at: i64, now: jiff::Timestamp) {
        if let Ok(made) = jiff::Timestamp::from_nanosecond(i128::from(made_at)) {
            self.latency.observe(now.duration_since(made).as_secs_f64());
        }
    }
}
