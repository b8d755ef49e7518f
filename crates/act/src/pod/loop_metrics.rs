//! Metrics of the sync loop, under upstream's names: desired pods, and what the loop found.
//!
//! In:    the desired pods after each change; orphans and restarts as they are found
//! Out:   `kubelet_desired_pods`, `kubelet_active_pods`, `kubelet_mirror_pods`, `kubelet_managed_ephemeral_containers`,
//!        `kubelet_orphaned_runtime_pods_total`, `kubelet_restarted_pods_total`, `kubelet_orphan_pod_cleaned_volumes`,
//!        `kubelet_admission_rejections_total`, `kubelet_preemptions`
//! Calls: sync_loop
//! Holds: names, labels, help and buckets are upstream's (`parity/metrics.json`); a pod counts as active until nothing of it
//!        will run again
//! Upstream: pkg/kubelet/kubelet_pods.go (HandlePodCleanups), pkg/kubelet/kubelet_volumes.go, pkg/kubelet/pod/pod_manager.go

use std::sync::Arc;

use kubelet_model::pod::Pod;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use crate::frame::metrics::Making;
use crate::pod::worker_metrics::WorkerMetrics;

/// The families.
#[derive(Debug)]
pub(crate) struct LoopMetrics {
    desired: IntGaugeVec,
    active: IntGaugeVec,
    mirrors: IntGauge,
    ephemeral: IntGauge,
    orphans: IntCounter,
    restarted: IntCounterVec,
    cleaned: IntGauge,
    rejections: IntCounterVec,
    preemptions: IntCounterVec,
    /// Pods held because of a field that is not supported here.
    held: IntGauge,
    /// Static ones, those of the API.
    counted: (i64, i64),
}

impl LoopMetrics {
    /// Registers the families.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let made = Making(registry);
        let held = IntGauge::new(
            "hyperkube_held_pods",
            "Pods that are held because they use a field that is not supported",
        )?;
        let metrics = Self {
            desired: made.gauges(
                "desired_pods",
                "The number of pods the kubelet is being instructed to run. static is true if the pod is not from the apiserver.",
                &["static"],
            )?,
            active: made.gauges(
                "active_pods",
                "The number of pods the kubelet considers active and which are being considered when admitting new pods. static is true if the pod is not from the apiserver.",
                &["static"],
            )?,
            mirrors: made.gauge(
                "mirror_pods",
                "The number of mirror pods the kubelet will try to create (one per admitted static pod)",
            )?,
            ephemeral: made.gauge(
                "managed_ephemeral_containers",
                "Current number of ephemeral containers in pods managed by this kubelet.",
            )?,
            orphans: made.counter(
                "orphaned_runtime_pods_total",
                "Number of pods that have been detected in the container runtime without being already known to the pod worker. This typically indicates the kubelet was restarted while a pod was force deleted in the API or in the local configuration, which is unusual.",
            )?,
            restarted: made.counters(
                "restarted_pods_total",
                "Number of pods that have been restarted because they were deleted and recreated with the same UID while the kubelet was watching them (common for static pods, extremely uncommon for API pods)",
                &["static"],
            )?,
            cleaned: made.gauge(
                "orphan_pod_cleaned_volumes",
                "The total number of orphaned Pods whose volumes were cleaned in the last periodic sweep.",
            )?,
            preemptions: made.counters(
                "preemptions",
                "Cumulative number of pod preemptions by preemption resource",
                &["preemption_signal"],
            )?,
            rejections: made.counters(
                "admission_rejections_total",
                "Cumulative number pod admission rejections by the Kubelet.",
                &["reason"],
            )?,
            held: made.register(held)?,
            counted: (0, 0),
        };
        for word in ["", "true"] {
            metrics.restarted.with_label_values(&[word]).inc_by(0);
        }
        Ok(metrics)
    }

    /// What is desired now.
    pub(crate) fn desire<'a>(&mut self, pods: impl Iterator<Item = &'a Arc<Pod>>) {
        let (mut counted, mut ephemeral, mut held) = ((0, 0), 0, 0);
        for pod in pods {
            if pod.is_static() {
                counted.0 += 1;
            } else {
                counted.1 += 1;
            }
            let containers = pod.spec().ephemeral_containers.as_ref();
            ephemeral += containers.map_or(0, Vec::len);
            held += i64::from(!pod.unbuilt.is_empty());
        }
        self.counted = counted;
        self.desired.with_label_values(&["true"]).set(counted.0);
        self.desired.with_label_values(&[""]).set(counted.1);
        self.ephemeral
            .set(i64::try_from(ephemeral).unwrap_or(i64::MAX));
        self.held.set(held);
    }

    /// How many mirrors of static pods the API server holds.
    pub(crate) fn hold_mirrors(&self, mirrors: usize) {
        self.mirrors.set(i64::try_from(mirrors).unwrap_or(i64::MAX));
    }

    /// How many of the desired ones are still to run or run.
    pub(crate) fn turn(&self, workers: &WorkerMetrics) {
        let (statics, of_api) = workers.ended();
        let active = |word, count: i64| self.active.with_label_values(&[word]).set(count.max(0));
        active("true", self.counted.0 - statics);
        active("", self.counted.1 - of_api);
    }

    /// The runtime holds a pod that no source knows.
    pub(crate) fn found_orphan(&self) {
        self.orphans.inc();
    }

    /// A pod was not let in.
    pub(crate) fn rejected(&self, reason: &str) {
        self.rejections.with_label_values(&[reason]).inc();
    }

    /// A pod was ended to make room for a critical one, which was short of this.
    pub(crate) fn preempted(&self, signal: &str) {
        self.preemptions.with_label_values(&[signal]).inc();
    }

    /// A pod came back under the UID of the one that just ended.
    pub(crate) fn restarted(&self, pod: &Pod) {
        let word = if pod.is_static() { "true" } else { "" };
        self.restarted.with_label_values(&[word]).inc();
    }

    /// So many directories of pods that no source knows were found, and are being taken down.
    pub(crate) fn swept(&self, orphans: usize) {
        self.cleaned.set(i64::try_from(orphans).unwrap_or(i64::MAX));
    }
}
