//! Validates requests and limits of containers and of a pod.
//!
//! In:    resources
//! Out:   problems of names, amounts and their relation
//! Calls: containers, pods, RuntimeClasses, Nodes
//! Holds: resources that cannot be overcommitted (huge pages, extended resources) need equal request and limit
//! Upstream: pkg/apis/core/validation/validation.go (validateResourceRequirements), pkg/apis/core/helper/helpers.go

use super::{Problems, list, names};
use crate::amounts::amount_of;
use k8s_openapi::api::core::v1::{PodSpec, ResourceClaim, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use kubelet_model::quantity::Quantity;
use std::collections::{BTreeMap, BTreeSet};

type Amounts = BTreeMap<String, Written>;

const HUGE_PAGES: &str = "hugepages-";
/// Resources with integer amounts.
const INTEGERS: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const CONTAINER_RESOURCES: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];
/// Names of resources that are not resources of a container.
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

/// Checks names and amounts, that requests do not exceed limits, and claims.
pub(super) fn validate_resources(
    path: &str,
    resources: &ResourceRequirements,
    claims: &BTreeSet<&str>,
    problems: &mut Problems,
) {
    check_requirements(path, resources, validate_name, problems);
    check_claims(path, list(&resources.claims), claims, problems);
}

/// The pod overhead of a RuntimeClass.
pub(crate) fn validate_overhead(path: &str, overhead: &Amounts, problems: &mut Problems) {
    let limits = ResourceRequirements {
        limits: Some(overhead.clone()),
        ..ResourceRequirements::default()
    };
    check_requirements(path, &limits, validate_name, problems);
}

/// Pod-level resources.
pub(super) fn check_pod(spec: &PodSpec, problems: &mut Problems) {
    let Some(resources) = &spec.resources else {
        return;
    };
    let path = "spec.resources";
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        problems.forbidden(path, "may not be set for a windows pod");
        return;
    }
    if resources.claims.is_some() {
        let detail = "claims may not be set for Resources at pod-level";
        problems.forbidden(format!("{path}.claims"), detail);
    }
    check_requirements(path, resources, validate_pod_name, problems);
    check_sums(path, spec, resources, problems);
}

/// The sum of the containers must fit into the pod-level resources.
fn check_sums(path: &str, spec: &PodSpec, whole: &ResourceRequirements, problems: &mut Problems) {
    for (name, needed) in sums(spec, |resources| resources.requests.as_ref()) {
        let held = whole.requests.as_ref().and_then(|all| amount_of(all, name));
        if let Some(held) = held.filter(|held| *held < needed) {
            let detail = format!(
                "must be greater than or equal to aggregate container requests of {needed}"
            );
            let at = format!("{path}.requests[{name}]");
            problems.invalid(at, held.to_string(), &detail);
        }
    }
    for (name, needed) in sums(spec, |resources| resources.limits.as_ref()) {
        let held = whole.limits.as_ref().and_then(|all| amount_of(all, name));
        if let Some(held) = held.filter(|held| name.starts_with(HUGE_PAGES) && *held < needed) {
            let detail =
                format!("must be greater than or equal to aggregate container limits of {needed}");
            let at = format!("{path}.limits[{name}]");
            problems.invalid(at, held.to_string(), &detail);
        }
    }
    for (index, container) in spec.containers.iter().enumerate() {
        let limits = container.resources.as_ref().and_then(|r| r.limits.as_ref());
        for name in limits.into_iter().flat_map(BTreeMap::keys) {
            let limit = limits.and_then(|all| amount_of(all, name));
            let held = whole.limits.as_ref().and_then(|all| amount_of(all, name));
            if let (Some(limit), Some(held)) = (limit, held)
                && limit > held
            {
                let detail = format!("must be less than or equal to pod limits of {held}");
                let at = format!("{path}.containers[{index}][{name}].limits");
                problems.invalid(at, limit.to_string(), &detail);
            }
        }
    }
}

/// The total of the containers: those that run at the same time, or the maximum of one init container with the sidecars that
/// were started before it.
fn sums<'a>(
    spec: &'a PodSpec,
    of: impl Fn(&'a ResourceRequirements) -> Option<&'a Amounts>,
) -> BTreeMap<&'a str, Quantity> {
    let amounts = |resources: &'a Option<ResourceRequirements>| {
        let all = resources.as_ref().and_then(&of).into_iter().flatten();
        all.filter_map(|(name, amount)| Some((name.as_str(), amount.0.parse::<Quantity>().ok()?)))
    };
    let add = |to: &mut BTreeMap<&'a str, Quantity>, name: &'a str, amount: &Quantity| {
        let sum = to.get(name).map(|held| held.plus(amount));
        to.insert(name, sum.unwrap_or_else(|| amount.clone()));
    };
    let (mut together, mut sidecars) = (BTreeMap::new(), BTreeMap::new());
    let mut most: BTreeMap<&'a str, Quantity> = BTreeMap::new();
    for container in &spec.containers {
        for (name, amount) in amounts(&container.resources) {
            add(&mut together, name, &amount);
        }
    }
    for container in list(&spec.init_containers) {
        let stays = container.restart_policy.as_deref() == Some("Always");
        for (name, amount) in amounts(&container.resources) {
            let mut beside = amount.clone();
            if stays {
                add(&mut together, name, &amount);
                add(&mut sidecars, name, &amount);
            } else if let Some(held) = sidecars.get(name) {
                beside = beside.plus(held);
            }
            let needed = if stays {
                sidecars.get(name)
            } else {
                Some(&beside)
            };
            if let Some(needed) = needed
                && most.get(name).is_none_or(|held| held < needed)
            {
                most.insert(name, needed.clone());
            }
        }
    }
    for (name, amount) in most {
        if together.get(name).is_none_or(|held| *held < amount) {
            together.insert(name, amount);
        }
    }
    together
}

/// Amounts that must not be negative.
pub(crate) fn check_amounts(path: &str, amounts: Option<&Amounts>, problems: &mut Problems) {
    for (name, amount) in amounts.into_iter().flatten() {
        let at = format!("{path}.{name}");
        match amount.0.parse::<Quantity>() {
            Ok(quantity) => {
                if quantity.is_negative() {
                    let detail = "must be greater than or equal to 0";
                    problems.invalid(at.as_str(), quantity.to_string(), detail);
                }
                if (is_extended(name) || INTEGERS.contains(&name.as_str()))
                    && !quantity.is_integer()
                {
                    problems.invalid(at, quantity.to_string(), "must be an integer");
                }
            }
            Err(error) => problems.invalid(at, &amount.0, &error.to_string()),
        }
    }
}

fn check_requirements(
    path: &str,
    resources: &ResourceRequirements,
    check_name: fn(&str, &str, &mut Problems),
    problems: &mut Problems,
) {
    let limits = amounts(
        (path, "limits"),
        resources.limits.as_ref(),
        check_name,
        problems,
    );
    let requests = amounts(
        (path, "requests"),
        resources.requests.as_ref(),
        check_name,
        problems,
    );
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

/// The valid amounts; a problem for each that cannot be parsed or has an invalid name.
fn amounts<'a>(
    (path, field): (&str, &str),
    written: Option<&'a Amounts>,
    check_name: fn(&str, &str, &mut Problems),
    problems: &mut Problems,
) -> BTreeMap<&'a str, Quantity> {
    let mut read = BTreeMap::new();
    for (name, amount) in written.into_iter().flatten() {
        let at = format!("{path}.{field}[{name}]");
        check_name(&at, name, problems);
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

/// Device claims of a container, which the pod must have.
fn check_claims(
    path: &str,
    claims: &[ResourceClaim],
    held: &BTreeSet<&str>,
    problems: &mut Problems,
) {
    // Claims that are used as a whole, and claims of which single requests are used.
    let mut whole = BTreeSet::new();
    let mut parts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (index, claim) in claims.iter().enumerate() {
        let at = format!("{path}.claims[{index}]");
        let (name, request) = (
            claim.name.as_str(),
            claim.request.as_deref().unwrap_or_default(),
        );
        if name.is_empty() {
            problems.required(at, "");
            continue;
        }
        if whole.contains(name) {
            problems.duplicate(at.as_str(), name);
        } else if request.is_empty() {
            for _ in parts.get(name).into_iter().flatten() {
                problems.duplicate(at.as_str(), name);
            }
            whole.insert(name);
        } else {
            problems.reasons(format!("{at}.request"), request, names::dns_label(request));
            if !parts.entry(name).or_default().insert(request) {
                problems.duplicate(at.as_str(), format!("{name}/{request}"));
            }
        }
        if !held.contains(name) {
            let mut detail = "must be one of the names in pod.spec.resourceClaims".to_owned();
            if held.is_empty() {
                detail.push_str(" which is empty");
            } else {
                let held: Vec<&str> = held.iter().copied().collect();
                detail = format!("{detail}: {}", held.join(", "));
            }
            problems.not_found(at, name, &detail);
        }
    }
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

/// Resources that are allowed at pod level only.
fn validate_pod_name(at: &str, name: &str, problems: &mut Problems) {
    let reasons = names::label_key(name);
    if !reasons.is_empty() {
        problems.reasons(at, name, reasons);
        return;
    }
    let standard = CONTAINER_RESOURCES.contains(&name) || OTHER_RESOURCES.contains(&name);
    if !name.contains('/') && !standard && !name.starts_with(HUGE_PAGES) {
        let detail = "must be a standard resource type or fully qualified";
        problems.invalid(at, name, detail);
        return;
    }
    if !["cpu", "memory"].contains(&name) && !name.starts_with(HUGE_PAGES) {
        problems.unsupported(at, name, &["cpu", HUGE_PAGES, "memory"]);
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
