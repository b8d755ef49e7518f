//! Counts and times of runtime calls, under upstream's names.
//!
//! In:    a registry, once; an operation's end
//! Out:   `kubelet_runtime_operations_total`, `…_errors_total`, `…_duration_seconds`
//! Holds: label values equal upstream's operation names
//! Upstream: pkg/kubelet/metrics/metrics.go, pkg/kubelet/kuberuntime/instrumented_services.go

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// The three families.
#[derive(Clone, Debug)]
pub struct Metrics {
    calls: IntCounterVec,
    errors: IntCounterVec,
    seconds: HistogramVec,
}

impl Metrics {
    /// Registers the families.
    ///
    /// # Errors
    /// When one of the names is taken in this registry.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let label = ["operation_type"];
        let calls = IntCounterVec::new(
            Opts::new(
                "kubelet_runtime_operations_total",
                "Cumulative number of runtime operations by operation type.",
            ),
            &label,
        )?;
        let errors = IntCounterVec::new(
            Opts::new(
                "kubelet_runtime_operations_errors_total",
                "Cumulative number of runtime operation errors by operation type.",
            ),
            &label,
        )?;
        let buckets = prometheus::exponential_buckets(0.005, 2.5, 14)?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "kubelet_runtime_operations_duration_seconds",
                "Duration in seconds of runtime operations. Broken down by operation type.",
            )
            .buckets(buckets),
            &label,
        )?;
        registry.register(Box::new(calls.clone()))?;
        registry.register(Box::new(errors.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self {
            calls,
            errors,
            seconds,
        })
    }

    pub(crate) fn ended(&self, operation: &str, took: Duration, failed: bool) {
        self.calls.with_label_values(&[operation]).inc();
        self.seconds
            .with_label_values(&[operation])
            .observe(took.as_secs_f64());
        if failed {
            self.errors.with_label_values(&[operation]).inc();
        }
    }
}
