//! Validates Nodes: taints, capacities, fields that cannot change.
//!
//! In:    a node
//! Out:   problems
//! Calls: the API server
//! Holds: linear
//! Upstream: pkg/apis/core/validation/validation.go (ValidateNode, ValidateNodeUpdate); differences: the annotations for taints
//!           and for pods to avoid, which no client writes any more, are not checked
//! Gap:   dynamic kubelet configuration (`spec.configSource`), which was removed

use crate::Checked;
use crate::names;
use crate::pod::{check_amounts, check_effect};
use crate::problem::{Problems, list, plain};
use k8s_openapi::api::core::v1::{Node, NodeStatus, Taint};
use std::collections::BTreeSet;

impl Checked for Node {
    fn check(&self, problems: &mut Problems) {
        let spec = self.spec.clone().unwrap_or_default();
        // Quirk: upstream reports taints below the metadata (ValidateNode).
        check_taints("metadata.taints", list(&spec.taints), problems);
        if let Some(status) = &self.status {
            check_state(status, problems);
        }
        let ranges = list(&spec.pod_cidrs);
        for (index, range) in ranges.iter().enumerate() {
            let path = format!("spec.podCIDRs[{index}]");
            problems.reasons(path, range, names::strict_cidr(range));
        }
        let addresses = ranges
            .iter()
            .map(|range| range.split('/').next().unwrap_or_default());
        if ranges.len() > 2 || (ranges.len() == 2 && !names::is_dual_stack(addresses)) {
            let detail = "may specify no more than one CIDR for each IP family";
            problems.invalid("spec.podCIDRs", ranges, detail);
        }
    }

    fn check_change(&self, old: &Self, problems: &mut Problems) {
        let spec = self.spec.clone().unwrap_or_default();
        let before = old.spec.clone().unwrap_or_default();
        if !list(&before.pod_cidrs).is_empty() && before.pod_cidrs != spec.pod_cidrs {
            let detail = "node updates may not change podCIDR except from \"\" to valid";
            problems.forbidden("spec.podCIDRs", detail);
        }
        if !plain(&before.provider_id).is_empty() && before.provider_id != spec.provider_id {
            let detail = "node updates may not change providerID except from \"\" to valid";
            problems.forbidden("spec.providerID", detail);
        }
        if plain(&spec.external_id) != plain(&before.external_id) {
            problems.forbidden("spec.externalID", "may not be updated");
        }
    }

    fn check_status(&self, old: &Self, problems: &mut Problems) {
        let Some(status) = &self.status else { return };
        let mut now = Problems::default();
        check_state(status, &mut now);
        let mut seen = BTreeSet::new();
        for (index, address) in list(&status.addresses).iter().enumerate() {
            if !seen.insert((&address.type_, &address.address)) {
                now.duplicate(format!("status.addresses[{index}]"), address);
            }
        }
        let mut then = Problems::default();
        if let Some(status) = &old.status {
            check_state(status, &mut then);
        }
        let then: BTreeSet<_> = then.found().into_iter().collect();
        problems.append_but(now, &then);
    }
}

fn check_state(status: &NodeStatus, problems: &mut Problems) {
    check_amounts("status.capacity", status.capacity.as_ref(), problems);
    check_amounts("status.allocatable", status.allocatable.as_ref(), problems);
    let swap = status
        .node_info
        .as_ref()
        .and_then(|info| info.swap.as_ref());
    if let Some(capacity) = swap.and_then(|swap| swap.capacity) {
        problems.positive("metadata.nodeSwapStatus.capacity", capacity);
    }
    let features = list(&status.declared_features);
    for (index, feature) in features.iter().enumerate() {
        let path = format!("status.declaredFeatures[{index}]");
        if !is_feature(feature) {
            let detail = format!(
                "invalid feature name {feature:?}: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
            );
            problems.invalid(path.as_str(), feature, &detail);
        }
        let before = index.checked_sub(1).and_then(|before| features.get(before));
        match before {
            Some(before) if before == feature => problems.duplicate(path, feature),
            Some(before) if before > feature => {
                problems.invalid(path, feature, "list must be sorted alphabetically");
            }
            _ => {}
        }
    }
}

fn is_feature(name: &str) -> bool {
    name.len() <= 253
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.split('/').all(|segment| {
            !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
}

fn check_taints(path: &str, taints: &[Taint], problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for (index, taint) in taints.iter().enumerate() {
        let at = format!("{path}[{index}]");
        problems.reasons(
            format!("{at}.key"),
            &taint.key,
            names::label_key(&taint.key),
        );
        let value = plain(&taint.value);
        let reasons = names::label_value(value);
        if !reasons.is_empty() {
            problems.invalid(format!("{at}.value"), value, &reasons.join(";"));
        }
        check_effect(format!("{at}.effect"), &taint.effect, problems);
        if !seen.insert((&taint.effect, &taint.key)) {
            let detail = "taints must be unique by key and effect pair";
            problems.duplicate_because(at, taint, detail);
        }
    }
}
