//! Metrics of probes, under upstream's names; served at `/metrics/probes`.
//!
//! In:    answers that count
//! Out:   `prober_probe_total`, `prober_probe_duration_seconds`; `hyperkube_probe_lateness_seconds` at `/metrics`
//! Calls: prober
//! Holds: the rows of a probe go with it
//! Upstream: pkg/kubelet/prober/prober_manager.go (ProberResults, ProberDuration)

use std::time::Duration;

use kubelet_decide::probes::timetable::TryResult;
use kubelet_decide::shapes::probe::ProbeKind;
use kubelet_model::pod::Pod;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// The families. Clones share them.
#[derive(Clone, Debug)]
pub struct ProbeMetrics {
    total: IntCounterVec,
    seconds: HistogramVec,
    lateness: Histogram,
}

/// Seconds that a try may begin after its time.
const LATE: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0];

impl ProbeMetrics {
    /// Registers upstream's families in the registry of `/metrics/probes`, and ours in the node's.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn new(registry: &Registry, of_node: &Registry) -> Result<Self, prometheus::Error> {
        let options = HistogramOpts::new(
            "hyperkube_probe_lateness_seconds",
            "How long after their time tries of probes begin",
        );
        let lateness = Histogram::with_opts(options.buckets(LATE.to_vec()))?;
        of_node.register(Box::new(lateness.clone()))?;
        let total = IntCounterVec::new(
            Opts::new(
                "prober_probe_total",
                "Cumulative number of a liveness, readiness or startup probe for a container by result.",
            ),
            &[
                "probe_type",
                "result",
                "container",
                "pod",
                "namespace",
                "pod_uid",
            ],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "prober_probe_duration_seconds",
                "Duration in seconds for a probe response.",
            ),
            &["probe_type", "container", "pod", "namespace"],
        )?;
        registry.register(Box::new(total.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self {
            total,
            seconds,
            lateness,
        })
    }

    /// A try began this long after its time.
    pub fn began(&self, late: Duration) {
        self.lateness.observe(late.as_secs_f64());
    }

    /// An answer.
    pub fn answered(
        &self,
        (pod, container): (&Pod, &str),
        kind: ProbeKind,
        result: TryResult,
        took: Duration,
    ) {
        let word = match result {
            TryResult::Success => "successful",
            TryResult::Failure => "failed",
            // Thrown away.
            TryResult::Error => return,
        };
        let of = (pod, container);
        self.total.with_label_values(&counted(of, kind, word)).inc();
        if result == TryResult::Success {
            let seconds = self.seconds.with_label_values(&measured(of, kind));
            seconds.observe(took.as_secs_f64());
        }
    }

    /// The container is not probed any more.
    pub fn forget(&self, pod: &Pod, container: &str) {
        let of = (pod, container);
        for kind in ProbeKind::ALL {
            for word in ["successful", "failed"] {
                // It may have answered nothing.
                let labels = counted(of, kind, word);
                self.total.remove_label_values(&labels).ok();
            }
            let labels = measured(of, kind);
            self.seconds.remove_label_values(&labels).ok();
        }
    }
}

/// The row of `prober_probe_total`.
fn counted<'a>(
    (pod, container): (&'a Pod, &'a str),
    kind: ProbeKind,
    result: &'a str,
) -> [&'a str; 6] {
    let (name, uid) = (&pod.full_name, pod.uid.as_str());
    let (name, namespace) = (&name.name, &name.namespace);
    [kind.as_str(), result, container, name, namespace, uid]
}

/// The row of `prober_probe_duration_seconds`.
fn measured<'a>((pod, container): (&'a Pod, &'a str), kind: ProbeKind) -> [&'a str; 4] {
    let name = &pod.full_name;
    [kind.as_str(), container, &name.name, &name.namespace]
}
