//! A metric with the seconds until a certificate expires.
//!
//! In:    the expiry time; the clock
//! Out:   a gauge that is computed when it is read
//! Calls: wiring/certificates, wiring/cluster
//! Holds: without a certificate the value is infinity
//! Upstream: pkg/kubelet/certificate/kubelet.go, client-go/plugin/pkg/client/auth/exec/metrics.go

use jiff::Timestamp;
use kubelet_cluster::Client;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Registry};

/// The seconds until a certificate expires, computed when read.
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
