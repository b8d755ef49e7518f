//! Metrics of runtime calls, under upstream's names.
//!
//! In:    a registry, once; the end of each operation
//! Out:   `kubelet_runtime_operations_total`, `…_errors_total`, `…_duration_seconds`; `kubelet_run_podsandbox_*` by handler
//! Holds: label values equal upstream's operation names
//! Upstream: pkg/kubelet/metrics/metrics.go, pkg/kubelet/kuberuntime/instrumented_services.go

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// The metric families.
#[derive(Clone, Debug)]
pub struct Metrics {
    calls: IntCounterVec,
    errors: IntCounterVec,
    seconds: HistogramVec,
    sandbox_seconds: HistogramVec,
    sandbox_errors: IntCounterVec,
}

impl Metrics {
    /// Registers the families.
    ///
    /// # Errors
    /// A name is already registered.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let by_operation = ["operation_type"];
        let by_handler = ["runtime_handler"];
        let calls = opts(
            "runtime_operations_total",
            "Cumulative number of runtime operations by operation type.",
        );
        let errors = opts(
            "runtime_operations_errors_total",
            "Cumulative number of runtime operation errors by operation type.",
        );
        let seconds = opts(
            "runtime_operations_duration_seconds",
            "Duration in seconds of runtime operations. Broken down by operation type.",
        );
        let seconds =
            HistogramOpts::from(seconds).buckets(prometheus::exponential_buckets(0.005, 2.5, 14)?);
        let sandbox_seconds = HistogramOpts::from(opts(
            "run_podsandbox_duration_seconds",
            "Duration in seconds of the run_podsandbox operations. Broken down by RuntimeClass.Handler.",
        ));
        let sandbox_errors = opts(
            "run_podsandbox_errors_total",
            "Cumulative number of the run_podsandbox operation errors by RuntimeClass.Handler.",
        );
        Ok(Self {
            calls: register(registry, IntCounterVec::new(calls, &by_operation)?)?,
            errors: register(registry, IntCounterVec::new(errors, &by_operation)?)?,
            seconds: register(registry, HistogramVec::new(seconds, &by_operation)?)?,
            sandbox_seconds: register(registry, HistogramVec::new(sandbox_seconds, &by_handler)?)?,
            sandbox_errors: register(registry, IntCounterVec::new(sandbox_errors, &by_handler)?)?,
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

    pub(crate) fn ran_sandbox(&self, handler: &str, took: Duration, failed: bool) {
        self.sandbox_seconds
            .with_label_values(&[handler])
            .observe(took.as_secs_f64());
        if failed {
            self.sandbox_errors.with_label_values(&[handler]).inc();
        }
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("kubelet_{name}"), format!("[ALPHA] {help}"))
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    family: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}
