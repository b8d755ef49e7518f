//! Requests and limits of a container.
//!
//! In:    a container's resources
//! Out:   problems with names, amounts and their relation
//! Calls: validation of this directory
//! Holds: what cannot be overcommitted (huge pages, extended resources) needs equal request and limit
//! Upstream: pkg/apis/core/validation/validation.go (validateResourceRequirements), pkg/apis/core/helper/helpers.go

use super::{Problems, names};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use kubelet_model::quantity::Quantity;
use std::collections::BTreeMap;

const HUGE_PAGES: &str = "hugepages-";
const CONTAINER_RESOURCES: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];
/// Names that are resources of something, but not of a container.
const OTHER_RESOURCES: [&str; 17] = [
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];

/// Checks names, amounts, and that requests do not exceed limits.
pub(super) fn validate_resources(
    path: &str,
    resources: &ResourceRequirements,
    problems: &mut Problems,
) {
    let limits = amounts(path, "limits", resources.limits.as_ref(), problems);
    let requests = amounts(path, "requests", resources.requests.as_ref(), problems);
    for (name, request) in &requests {
        let at = format!("{path}.requests");
        let limit = limits.get(name);
        let shown = request.to_string();
        match limit {
            Some(limit) if request != limit && !overcommits(name) => {
                let detail = format!("must be equal to {name} limit of {limit}");
                problems.invalid(at, shown, &detail);
            }
            Some(limit) if request > limit => {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                problems.invalid(at, shown, &detail);
            }
            None if !overcommits(name) => problems.required(
                format!("{path}.limits"),
                "Limit must be set for non overcommitable resources",
            ),
            _ => {}
        }
    }
    let any = |wanted: fn(&str) -> bool| {
        limits
            .keys()
            .chain(requests.keys())
            .any(|name| wanted(name))
    };
    if any(|name| name.starts_with(HUGE_PAGES)) && !any(|name| matches!(name, "cpu" | "memory")) {
        problems.forbidden(path, "HugePages require cpu or memory");
    }
}

/// The amounts that can be read; a problem for each that cannot, or has a wrong name.
fn amounts<'a>(
    path: &str,
    list: &str,
    written: Option<&'a BTreeMap<String, Written>>,
    problems: &mut Problems,
) -> BTreeMap<&'a str, Quantity> {
    let mut read = BTreeMap::new();
    for (name, amount) in written.into_iter().flatten() {
        let at = format!("{path}.{list}[{name}]");
        validate_name(&at, name, problems);
        match amount.0.parse::<Quantity>() {
            Ok(quantity) => {
                validate_amount(&at, name, &quantity, problems);
                read.insert(name.as_str(), quantity);
            }
            Err(error) => problems.invalid(at, &amount.0, &error.to_string()),
        }
    }
    read
}

fn validate_amount(at: &str, name: &str, amount: &Quantity, problems: &mut Problems) {
    if amount.is_negative() {
        let detail = "must be greater than or equal to 0";
        problems.invalid(at, amount.to_string(), detail);
    }
    if is_extended(name) && !amount.is_integer() {
        problems.invalid(at, amount.to_string(), "must be an integer");
    }
    if let Some(size) = name.strip_prefix(HUGE_PAGES)
        && !size
            .parse::<Quantity>()
            .is_ok_and(|page| amount.is_multiple_of(&page))
    {
        let detail = format!("{amount} is not positive integer multiple of {name}");
        problems.invalid(at, amount.to_string(), &detail);
    }
}

fn validate_name(at: &str, name: &str, problems: &mut Problems) {
    let reasons = names::label_key(name);
    let fine = reasons.is_empty();
    problems.reasons(at, name, reasons);
    if name.contains('/') {
        if !is_native(name) && !is_extended(name) {
            problems.invalid(at, name, "doesn't follow extended resource name standard");
        }
        return;
    }
    if CONTAINER_RESOURCES.contains(&name) || name.starts_with(HUGE_PAGES) {
        return;
    }
    if fine && !OTHER_RESOURCES.contains(&name) {
        let detail = "must be a standard resource type or fully qualified";
        problems.invalid(at, name, detail);
    }
    problems.invalid(at, name, "must be a standard resource for containers");
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::label_key(&format!("requests.{name}")).is_empty()
}

fn overcommits(name: &str) -> bool {
    is_native(name) && !name.starts_with(HUGE_PAGES)
}
