//! Making and registering figures.
//!
//! In:    a registry
//! Out:   counters, gauges, histograms of this crate
//! Calls: every file with figures
//! Holds: a figure that cannot be registered ends the start: two of one name would be one lost
//! Upstream: k8s.io/component-base/metrics

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Makes and registers families of the kubelet, whose help upstream begins with their stability.
pub(crate) struct Making<'a>(pub(crate) &'a Registry);

impl Making<'_> {
    pub(crate) fn register<C: Collector + Clone + 'static>(
        &self,
        family: C,
    ) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(family.clone()))?;
        Ok(family)
    }

    pub(crate) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::with_opts(opts(name, help))?)
    }

    pub(crate) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(opts(name, help), labels)?)
    }

    pub(crate) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::with_opts(opts(name, help))?)
    }

    pub(crate) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(opts(name, help), labels)?)
    }

    pub(crate) fn histogram(&self, opts: HistogramOpts) -> Result<Histogram, prometheus::Error> {
        self.register(Histogram::with_opts(opts)?)
    }
}

/// `kubelet_<name>` with upstream's stability before its help.
pub(crate) fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("kubelet_{name}"), format!("[ALPHA] {help}"))
}

/// The same for a histogram with the default buckets.
pub(crate) fn histogram(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::from(opts(name, help))
}
