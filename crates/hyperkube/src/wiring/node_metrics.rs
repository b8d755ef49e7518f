//! Metrics that do not change at run time: the node's name, its cgroup version, the feature gates.
//!
//! In:    `Config`, the node
//! Out:   `kubelet_node_name`, `kubelet_cgroup_version`, `kubernetes_feature_enabled`
//! Calls: wiring, once
//! Holds: every gate is shown with upstream's stage (empty if it is GA)
//! Upstream: pkg/kubelet/kubelet_linux.go, component-base/metrics/prometheus/feature, component-base/featuregate (AddMetrics)

use anyhow::Context as _;
use kubelet_model::config::Config;
use kubelet_model::gates::{Gates, Stage};
use kubelet_model::node::NodeView;
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};

/// The two gates that set many; upstream counts them like all others.
const ALL: [(&str, Stage); 2] = [("AllAlpha", Stage::Alpha), ("AllBeta", Stage::Beta)];

/// Registers and sets the metrics.
pub(crate) fn register(
    config: &Config,
    node: &NodeView,
    registry: &Registry,
) -> anyhow::Result<()> {
    set(&node.name, node.cgroups.v2, &config.gates, registry)
        .context("register metrics of the node")
}

fn set(node: &str, is_v2: bool, gates: &Gates, registry: &Registry) -> prometheus::Result<()> {
    let name = Opts::new(
        "kubelet_node_name",
        "[ALPHA] The node's name. The count is always 1.",
    );
    let name = IntGaugeVec::new(name, &["node"])?;
    name.with_label_values(&[node]).set(1);
    registry.register(Box::new(name))?;

    let version = IntGauge::new(
        "kubelet_cgroup_version",
        "[ALPHA] cgroup version on the hosts.",
    )?;
    version.set(if is_v2 { 2 } else { 1 });
    registry.register(Box::new(version))?;

    let features = Opts::new(
        "kubernetes_feature_enabled",
        "[BETA] This metric records the data about the stage and enablement of a k8s feature.",
    );
    let features = IntGaugeVec::new(features, &["name", "stage"])?;
    let known = Gates::known().iter().map(|gate| (gate.name, gate.stage));
    for (name, stage) in known.chain(ALL) {
        features
            .with_label_values(&[name, stage.to_string().as_str()])
            .set(i64::from(gates.is_enabled(name)));
    }
    registry.register(Box::new(features))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::{Encoder as _, TextEncoder};

    #[test]
    fn name_version_and_gates_are_shown_as_upstream_does() {
        let registry = Registry::new();
        let changes = [("MemoryQoS".to_owned(), true)].into();
        set("n1", false, &Gates::with(&changes).unwrap(), &registry).unwrap();
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&registry.gather(), &mut text)
            .unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in [
            "kubelet_node_name{node=\"n1\"} 1",
            "kubelet_cgroup_version 1",
            "kubernetes_feature_enabled{name=\"MemoryQoS\",stage=\"ALPHA\"} 1",
            "kubernetes_feature_enabled{name=\"AllAlpha\",stage=\"ALPHA\"} 0",
            "kubernetes_feature_enabled{name=\"NodeSwap\",stage=\"\"} 1",
        ] {
            assert!(
                text.lines().any(|shown| shown == line),
                "{line} is not in {text}"
            );
        }
        let gates = text
            .lines()
            .filter(|line| line.starts_with("kubernetes_feature_enabled{"));
        assert_eq!(gates.count(), Gates::known().len() + 2);
    }
}
