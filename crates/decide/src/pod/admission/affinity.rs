//! Node selector and required node affinity of a pod against a Node.
//!
//! In:    a pod's spec, the Node
//! Out:   whether the pod may be on it
//! Calls: admission
//! Holds: terms are alternatives, what is in a term must hold together; an empty term, or no term at all, takes no node
//! Upstream: component-helpers/scheduling/corev1/nodeaffinity/nodeaffinity.go, apimachinery labels/selector.go; 1.36

use k8s_openapi::api::core::v1;

/// Whether the node is one that the pod asks for.
pub(super) fn matches_node(spec: &v1::PodSpec, node: &v1::Node) -> bool {
    let label = |key: &str| node.metadata.labels.as_ref()?.get(key).map(String::as_str);
    let mut selector = spec.node_selector.iter().flatten();
    if !selector.all(|(key, value)| label(key) == Some(value)) {
        return false;
    }
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| {
        affinity
            .required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let Some(required) = required else {
        return true;
    };
    let name = node.metadata.name.as_deref().unwrap_or_default();
    required.node_selector_terms.iter().any(|term| {
        let (labels, fields) = (
            term.match_expressions.as_deref().unwrap_or_default(),
            term.match_fields.as_deref().unwrap_or_default(),
        );
        let by_field = |wanted: &v1::NodeSelectorRequirement| {
            // The only field that may be named.
            wanted.key == "metadata.name" && fulfils(wanted, Some(name))
        };
        !(labels.is_empty() && fields.is_empty())
            && labels
                .iter()
                .all(|wanted| fulfils(wanted, label(&wanted.key)))
            && fields.iter().all(by_field)
    })
}

fn fulfils(wanted: &v1::NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = wanted.values.as_deref().unwrap_or_default();
    let is_listed = |value: &str| values.iter().any(|listed| listed == value);
    let numbers = || -> Option<(i64, i64)> {
        let limit = values.first().filter(|_| values.len() == 1)?;
        Some((value?.parse().ok()?, limit.parse().ok()?))
    };
    match wanted.operator.as_str() {
        "In" => value.is_some_and(is_listed),
        "NotIn" => !values.is_empty() && !value.is_some_and(is_listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(value, limit)| value > limit),
        "Lt" => numbers().is_some_and(|(value, limit)| value < limit),
        _ => false,
    }
}
