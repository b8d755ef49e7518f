//! Seconds until a certificate ends, as a figure.
//!
//! In:    when it ends; the clock
//! Out:   a gauge that is reckoned when somebody looks
//! Calls: wiring/certificates, wiring/cluster
//! Holds: no certificate shows as infinity
//! Upstream: pkg/kubelet/certificate/kubelet.go, client-go/plugin/pkg/client/auth/exec/metrics.go

use jiff::Timestamp;
use kubelet_cluster::Client;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Registry};

/// Seconds until a certificate ends, reckoned when somebody looks.
pub(super) struct Ttl {
    gauge: Gauge,
    left: Box<dyn Fn() -> f64 + Send + Sync>,
}

impl Ttl {
    pub(super) fn register(
        (name, help): (&str, &str),
        client: &Client,
        until: impl Fn() -> Option<Timestamp> + Send + Sync + 'static,
        registry: &Registry,
    ) -> prometheus::Result<()> {
        let clock = client.clock().clone();
        let left = move || {
            let left = until().map(|until| until.duration_since(clock.now()).as_secs_f64().trunc());
            left.unwrap_or(f64::INFINITY)
        };
        registry.register(Box::new(Self {
            gauge: Gauge::new(name, help)?,
            left: Box::new(left),
        }))
    }
}

impl Collector for Ttl {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.gauge.set((self.left)());
        self.gauge.collect()
    }
}
