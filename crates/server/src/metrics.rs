//! The server's own metrics, and the text of `/metrics`.
//!
//! In:    the shared registry; the build's version; `/proc/self` at each scrape
//! Out:   request counts, durations and requests in flight; `kubernetes_build_info`; `process_*`; health results
//! Calls: wiring once ([`register_build`], [`register_process`]); `lib` per request
//! Holds: names, labels, help and buckets are upstream's
//! Upstream: pkg/kubelet/server/metrics, component-base/metrics/prometheus/{version,slis} (1.36); differences: no `go_*`

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Counter, Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

/// The version that `kubernetes_build_info` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildVersion {
    /// `v1.36.x+…`.
    pub git_version: String,
    /// Empty when not known.
    pub git_commit: String,
    /// `clean`, `dirty` or empty.
    pub git_tree_state: String,
    /// RFC 3339.
    pub build_date: String,
    /// `1`.
    pub major: String,
    /// `36`.
    pub minor: String,
    /// What compiled it: `rustc`.
    pub compiler: String,
    /// The compiler's version, under upstream's label `go_version`.
    pub compiler_version: String,
    /// `linux/amd64` and so on.
    pub platform: String,
}

/// Registers `kubernetes_build_info`.
///
/// # Errors
/// The name is already registered.
pub fn register_build(registry: &Registry, version: &BuildVersion) -> prometheus::Result<()> {
    const LABELS: [&str; 9] = [
        "major",
        "minor",
        "git_version",
        "git_commit",
        "git_tree_state",
        "build_date",
        "go_version",
        "compiler",
        "platform",
    ];
    let help = "[BETA] A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.";
    let gauge = GaugeVec::new(Opts::new("kubernetes_build_info", help), &LABELS)?;
    let v = version;
    let values = [
        &v.major,
        &v.minor,
        &v.git_version,
        &v.git_commit,
        &v.git_tree_state,
        &v.build_date,
        &v.compiler_version,
        &v.compiler,
        &v.platform,
    ];
    gauge.with_label_values(&values).set(1.0);
    registry.register(Box::new(gauge))
}

/// Registers the `process_*` metrics, read at each scrape.
///
/// # Errors
/// A name is already registered.
pub fn register_process(registry: &Registry) -> prometheus::Result<()> {
    registry.register(Box::new(ProcessCollector::new()?))
}

struct ProcessCollector {
    /// In the order of [`GAUGES`].
    gauges: Vec<Gauge>,
    descriptions: Vec<Desc>,
}

const GAUGES: [(&str, &str); 6] = [
    (
        "process_max_fds",
        "Maximum number of open file descriptors.",
    ),
    ("process_open_fds", "Number of open file descriptors."),
    (
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
    ),
    (
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
    ),
    (
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes.",
    ),
    (
        "process_virtual_memory_max_bytes",
        "Maximum amount of virtual memory available in bytes.",
    ),
];

const COUNTERS: [(&str, &str); 3] = [
    (
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
    ),
    (
        "process_network_receive_bytes_total",
        "Number of bytes received by the process over the network.",
    ),
    (
        "process_network_transmit_bytes_total",
        "Number of bytes sent by the process over the network.",
    ),
];

impl ProcessCollector {
    fn new() -> prometheus::Result<Self> {
        let gauges = GAUGES
            .iter()
            .map(|(name, help)| Gauge::new(*name, *help))
            .collect::<Result<Vec<_>, _>>()?;
        let counters = COUNTERS
            .iter()
            .map(|(name, help)| Counter::new(*name, *help))
            .collect::<Result<Vec<_>, _>>()?;
        let descriptions = gauges
            .iter()
            .flat_map(Collector::desc)
            .chain(counters.iter().flat_map(Collector::desc));
        Ok(Self {
            descriptions: descriptions.cloned().collect(),
            gauges,
        })
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus has doubles only")]
    fn collect(&self) -> Vec<MetricFamily> {
        let Ok(usage) = kubelet_host::stats::process_usage() else {
            return Vec::new();
        };
        // Unlimited is shown as the largest number, as Go's process collector does.
        let limit = |limit: Option<u64>| limit.unwrap_or(u64::MAX) as f64;
        let values = [
            limit(usage.max_fds),
            usage.open_fds as f64,
            usage.resident_bytes as f64,
            usage.start_seconds,
            usage.virtual_bytes as f64,
            limit(usage.virtual_max_bytes),
        ];
        let mut families = Vec::new();
        for (gauge, value) in self.gauges.iter().zip(values) {
            gauge.set(value);
            families.extend(gauge.collect());
        }
        let totals = [
            usage.cpu_seconds,
            usage.network_bytes.0 as f64,
            usage.network_bytes.1 as f64,
        ];
        for ((name, help), total) in COUNTERS.iter().zip(totals) {
            // The kernel keeps the total; a new counter takes it over.
            if let Ok(counter) = Counter::new(*name, *help) {
                counter.inc_by(total);
                families.extend(counter.collect());
            }
        }
        families
    }
}

/// Labels of one request.
pub(crate) struct RequestLabels {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) server_type: &'static str,
    pub(crate) long_running: &'static str,
}

impl RequestLabels {
    fn values(&self) -> [&'static str; 4] {
        [self.method, self.path, self.server_type, self.long_running]
    }
}

/// Metrics of requests and of health checks.
#[derive(Clone)]
pub(crate) struct HttpMetrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    inflight: IntGaugeVec,
    health: GaugeVec,
    health_total: IntCounterVec,
    health_registry: Registry,
}

impl HttpMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        const LABELS: [&str; 4] = ["method", "path", "server_type", "long_running"];
        let opts = |name: &str, help: &str| Opts::new(name, format!("[ALPHA] {help}"));
        let requests = opts(
            "kubelet_http_requests_total",
            "Number of the http requests received since the server started",
        );
        let duration = opts(
            "kubelet_http_requests_duration_seconds",
            "Duration in seconds to serve http requests",
        );
        let inflight = opts(
            "kubelet_http_inflight_requests",
            "Number of the inflight http requests",
        );
        let health = Opts::new(
            "kubernetes_healthcheck",
            "[STABLE] This metric records the result of a single healthcheck.",
        );
        let health_total = Opts::new(
            "kubernetes_healthchecks_total",
            "[STABLE] This metric records the results of all healthcheck.",
        );
        let metrics = Self {
            requests: IntCounterVec::new(requests, &LABELS)?,
            duration: HistogramVec::new(HistogramOpts::from(duration), &LABELS)?,
            inflight: IntGaugeVec::new(inflight, &LABELS)?,
            health: GaugeVec::new(health, &["name", "type"])?,
            health_total: IntCounterVec::new(health_total, &["name", "type", "status"])?,
            health_registry: Registry::new(),
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.inflight.clone()))?;
        metrics
            .health_registry
            .register(Box::new(metrics.health.clone()))?;
        metrics
            .health_registry
            .register(Box::new(metrics.health_total.clone()))?;
        Ok(metrics)
    }

    /// Counts a request as running until the response is dropped.
    pub(crate) fn begin(&self, labels: &RequestLabels) -> InFlight {
        let values = labels.values();
        self.requests.with_label_values(&values).inc();
        let gauge = self.inflight.with_label_values(&values);
        gauge.inc();
        InFlight {
            gauge,
            timer: Some(self.duration.with_label_values(&values).start_timer()),
        }
    }

    pub(crate) fn observe_health(&self, name: &str, healthy: bool) {
        let status = if healthy { "success" } else { "error" };
        self.health
            .with_label_values(&[name, "healthz"])
            .set(f64::from(u8::from(healthy)));
        self.health_total
            .with_label_values(&[name, "healthz", status])
            .inc();
    }

    pub(crate) fn health_text(&self) -> Result<Vec<u8>, prometheus::Error> {
        text(&self.health_registry)
    }
}

/// A running request.
pub(crate) struct InFlight {
    gauge: prometheus::IntGauge,
    timer: Option<prometheus::HistogramTimer>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gauge.dec();
        drop(self.timer.take());
    }
}

/// The media type of [`text`].
pub(crate) const TEXT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=values";

/// All metrics of a registry, in the text format 0.0.4.
pub(crate) fn text(registry: &Registry) -> Result<Vec<u8>, prometheus::Error> {
    let mut out = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut out)?;
    Ok(out)
}
