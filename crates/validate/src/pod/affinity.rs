//! Validates node affinity, pod affinity and pod anti-affinity.
//!
//! In:    the affinity of a pod; a node selector
//! Out:   problems
//! Calls: pods, persistent volumes
//! Holds: linear
//! Upstream: pkg/apis/core/validation/validation.go (validateAffinity, ValidateNodeSelector,
//!           ValidateMatchLabelKeysAndMismatchLabelKeys)

use super::{Problems, list, names};
use crate::meta;
use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
    PodAffinityTerm, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::{BTreeMap, BTreeSet};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Checks all three kinds.
pub(super) fn check(affinity: Option<&Affinity>, problems: &mut Problems) {
    let Some(affinity) = affinity else { return };
    let path = "spec.affinity";
    if let Some(node) = &affinity.node_affinity {
        check_node(&format!("{path}.nodeAffinity"), node, problems);
    }
    if let Some(pod) = &affinity.pod_affinity {
        let at = format!("{path}.podAffinity");
        let required = &pod.required_during_scheduling_ignored_during_execution;
        let preferred = &pod.preferred_during_scheduling_ignored_during_execution;
        check_terms(&at, list(required), list(preferred), problems);
    }
    if let Some(pod) = &affinity.pod_anti_affinity {
        let at = format!("{path}.podAntiAffinity");
        let required = &pod.required_during_scheduling_ignored_during_execution;
        let preferred = &pod.preferred_during_scheduling_ignored_during_execution;
        check_terms(&at, list(required), list(preferred), problems);
    }
}

fn check_node(path: &str, affinity: &NodeAffinity, problems: &mut Problems) {
    if let Some(selector) = &affinity.required_during_scheduling_ignored_during_execution {
        node_selector(&format!("{path}.{REQUIRED}"), selector, problems);
    }
    let preferred = list(&affinity.preferred_during_scheduling_ignored_during_execution);
    for (index, term) in preferred.iter().enumerate() {
        let at = format!("{path}.{PREFERRED}[{index}]");
        check_weight(&at, term.weight, problems);
        check_term(
            &format!("{at}.preference"),
            &term.preference,
            Values::Any,
            problems,
        );
    }
}

fn check_weight(path: &str, weight: i32, problems: &mut Problems) {
    if !(1..=100).contains(&weight) {
        let detail = "must be in the range 1-100";
        problems.invalid(format!("{path}.weight"), weight, detail);
    }
}

/// Whether values must be valid label values.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    OfLabels,
    Any,
}

/// A node selector at `path`.
pub(crate) fn node_selector(path: &str, selector: &NodeSelector, problems: &mut Problems) {
    let at = format!("{path}.nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        problems.required(at.as_str(), "must have at least one node selector term");
    }
    for (index, term) in selector.node_selector_terms.iter().enumerate() {
        check_term(&format!("{at}[{index}]"), term, Values::OfLabels, problems);
    }
}

fn check_term(path: &str, term: &NodeSelectorTerm, values: Values, problems: &mut Problems) {
    for (index, one) in list(&term.match_expressions).iter().enumerate() {
        let at = format!("{path}.matchExpressions[{index}]");
        check_expression(&at, one, values, problems);
    }
    for (index, one) in list(&term.match_fields).iter().enumerate() {
        check_field(&format!("{path}.matchFields[{index}]"), one, problems);
    }
}

fn check_expression(
    path: &str,
    one: &NodeSelectorRequirement,
    kind: Values,
    problems: &mut Problems,
) {
    let values = list(&one.values);
    let at = format!("{path}.values");
    match one.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => problems.required(
            at.as_str(),
            "must be specified when `operator` is 'In' or 'NotIn'",
        ),
        "Exists" | "DoesNotExist" if !values.is_empty() => problems.forbidden(
            at.as_str(),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        "Gt" | "Lt" if values.len() != 1 => problems.required(
            at.as_str(),
            "must be specified single value when `operator` is 'Lt' or 'Gt'",
        ),
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => {
            let detail = "not a valid selector operator";
            problems.invalid(format!("{path}.operator"), other, detail);
        }
    }
    problems.reasons(format!("{path}.key"), &one.key, names::label_key(&one.key));
    if kind == Values::OfLabels {
        for (index, value) in values.iter().enumerate() {
            problems.reasons(format!("{at}[{index}]"), value, names::label_value(value));
        }
    }
}

fn check_field(path: &str, one: &NodeSelectorRequirement, problems: &mut Problems) {
    let values = list(&one.values);
    let at = format!("{path}.values");
    match one.operator.as_str() {
        "In" | "NotIn" if values.len() != 1 => problems.required(
            at.as_str(),
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        ),
        "In" | "NotIn" => {}
        other => {
            let detail = "not a valid selector operator";
            problems.invalid(format!("{path}.operator"), other, detail);
        }
    }
    if one.key != "metadata.name" {
        let detail = "not a valid field selector key";
        problems.invalid(format!("{path}.key"), &one.key, detail);
        return;
    }
    for (index, value) in values.iter().enumerate() {
        problems.reasons(format!("{at}[{index}]"), value, names::dns_subdomain(value));
    }
}

fn check_terms(
    path: &str,
    required: &[PodAffinityTerm],
    preferred: &[WeightedPodAffinityTerm],
    problems: &mut Problems,
) {
    for (index, term) in required.iter().enumerate() {
        check_pod_term(&format!("{path}.{REQUIRED}[{index}]"), term, problems);
    }
    for (index, term) in preferred.iter().enumerate() {
        let at = format!("{path}.{PREFERRED}[{index}]");
        check_weight(&at, term.weight, problems);
        let at = format!("{at}.podAffinityTerm");
        check_pod_term(&at, &term.pod_affinity_term, problems);
    }
}

fn check_pod_term(path: &str, term: &PodAffinityTerm, problems: &mut Problems) {
    let labels = term.label_selector.as_ref();
    meta::selector(&format!("{path}.labelSelector"), labels, problems);
    let namespaces = term.namespace_selector.as_ref();
    meta::selector(&format!("{path}.namespaceSelector"), namespaces, problems);
    for name in list(&term.namespaces) {
        problems.reasons(format!("{path}.namespace"), name, names::dns_label(name));
    }
    let (matched, mismatched) = (
        list(&term.match_label_keys),
        list(&term.mismatch_label_keys),
    );
    check_label_keys(path, matched, mismatched, labels, problems);
    let at = format!("{path}.topologyKey");
    if term.topology_key.is_empty() {
        problems.required(at.as_str(), "can not be empty");
    }
    problems.reasons(at, &term.topology_key, names::label_key(&term.topology_key));
}

/// `matchLabelKeys` and `mismatchLabelKeys`; the selector at `path` may not contain the same keys.
pub(super) fn check_label_keys(
    path: &str,
    matched: &[String],
    mismatched: &[String],
    selector: Option<&LabelSelector>,
    problems: &mut Problems,
) {
    for (field, keys) in [
        ("matchLabelKeys", matched),
        ("mismatchLabelKeys", mismatched),
    ] {
        let at = format!("{path}.{field}");
        if !keys.is_empty() && selector.is_none() {
            problems.forbidden(at, "must not be specified when labelSelector is not set");
            continue;
        }
        for (index, key) in keys.iter().enumerate() {
            problems.reasons(format!("{at}[{index}]"), key, names::label_key(key));
        }
    }
    let places: BTreeMap<&String, usize> = matched
        .iter()
        .enumerate()
        .map(|(index, key)| (key, index))
        .collect();
    if let Some(selector) = selector {
        // The API server adds one expression per key, so only a second one comes from the user.
        let mut seen: BTreeSet<&String> = selector
            .match_labels
            .iter()
            .flat_map(BTreeMap::keys)
            .collect();
        for one in list(&selector.match_expressions) {
            if let Some(index) = places.get(&one.key)
                && seen.contains(&one.key)
            {
                let detail = "exists in both matchLabelKeys and labelSelector";
                problems.invalid(format!("{path}[{index}]"), &one.key, detail);
            }
            seen.insert(&one.key);
        }
    }
    let others: BTreeSet<&String> = mismatched.iter().collect();
    for (index, key) in matched.iter().enumerate() {
        if others.contains(key) {
            let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
            problems.invalid(format!("{path}.matchLabelKeys[{index}]"), key, detail);
        }
    }
}
