//! Validates topology spread constraints.
//!
//! In:    the constraints of a pod
//! Out:   problems
//! Calls: `pod`
//! Holds: linear
//! Upstream: pkg/apis/core/validation/validation.go (validateTopologySpreadConstraints)

use super::affinity::check_label_keys;
use super::{Problems, list};
use crate::meta;
use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use std::collections::BTreeMap;

/// Checks each constraint, and that no two are for the same key and action.
pub(super) fn check(constraints: &[TopologySpreadConstraint], problems: &mut Problems) {
    // The last constraint for a key and action is the one that counts.
    let last: BTreeMap<(&str, &str), usize> = constraints
        .iter()
        .enumerate()
        .map(|(index, one)| {
            (
                (one.topology_key.as_str(), one.when_unsatisfiable.as_str()),
                index,
            )
        })
        .collect();
    for (index, one) in constraints.iter().enumerate() {
        let path = format!("spec.topologySpreadConstraints[{index}]");
        let action = one.when_unsatisfiable.as_str();
        problems.positive(format!("{path}.maxSkew"), i64::from(one.max_skew));
        if one.topology_key.is_empty() {
            problems.required(format!("{path}.topologyKey"), "can not be empty");
        }
        let known = ["DoNotSchedule", "ScheduleAnyway"];
        problems.known(format!("{path}.whenUnsatisfiable"), Some(action), &known);
        if last.get(&(one.topology_key.as_str(), action)) != Some(&index) {
            problems.duplicate(
                format!("{path}.{{topologyKey, whenUnsatisfiable}}"),
                format!("{{{}, {action}}}", one.topology_key),
            );
        }
        if let Some(domains) = one.min_domains {
            let at = format!("{path}.minDomains");
            problems.positive(at.as_str(), i64::from(domains));
            if action != "DoNotSchedule" {
                let detail = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                );
                problems.invalid(at, domains, &detail);
            }
        }
        for (field, policy) in [
            ("nodeAffinityPolicy", &one.node_affinity_policy),
            ("nodeTaintsPolicy", &one.node_taints_policy),
        ] {
            let known = ["Honor", "Ignore"];
            problems.known(format!("{path}.{field}"), policy.as_deref(), &known);
        }
        let selector = one.label_selector.as_ref();
        check_label_keys(&path, list(&one.match_label_keys), &[], selector, problems);
        meta::selector(&format!("{path}.labelSelector"), selector, problems);
    }
}
