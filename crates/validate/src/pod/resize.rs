//! Validates a resize: a change of a running pod's CPU and memory.
//!
//! In:    the new pod and the old one
//! Out:   problems
//! Calls: `pod`
//! Holds: only amounts of CPU and memory change
//! Upstream: pkg/apis/core/validation/validation.go (ValidatePodResize); differences: the caller, who knows the QoS class,
//!           compares it
//! Gap:   whether the node supports resizing, which the kubelet reports in the container's status

use super::update::said;
use super::{Problems, list};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

type Amounts = BTreeMap<String, Quantity>;
const MUTABLE: [&str; 2] = ["cpu", "memory"];

/// What a resize may not change.
pub(super) fn check(new: &Pod, old: &Pod, problems: &mut Problems) {
    let (Some(spec), Some(before)) = (&new.spec, &old.spec) else {
        return;
    };
    if before.os.as_ref().is_some_and(|os| os.name == "windows") {
        problems.forbidden("", "windows pods cannot be resized");
        return;
    }
    let mut rest = spec.clone();
    check_pod_level(&mut rest, before, problems);
    let lists = [
        ("containers", &*spec.containers, &*before.containers),
        (
            "initContainers",
            list(&spec.init_containers),
            list(&before.init_containers),
        ),
    ];
    let before_order = problems.len();
    for (field, now, then) in lists {
        check_order(field, now, then, problems);
    }
    if problems.len() > before_order {
        return;
    }
    for (field, now, then) in lists {
        for (index, (now, then)) in now.iter().zip(then).enumerate() {
            let path = format!("spec.{field}[{index}].resources");
            check_removed(
                &path,
                now.resources.as_ref(),
                then.resources.as_ref(),
                problems,
            );
        }
    }
    for (now, then) in rest.containers.iter_mut().zip(&before.containers) {
        keep_mutable(now, then);
    }
    if let (Some(now), Some(then)) = (&mut rest.init_containers, &before.init_containers) {
        for (index, (now, then)) in now.iter_mut().zip(then).enumerate() {
            check_init(index, now, then, problems);
        }
    }
    if problems.len() == 0 && said(&rest) != said(before) {
        problems.forbidden("spec", "only cpu and memory resources are mutable");
    }
}

fn check_order(field: &str, now: &[Container], then: &[Container], problems: &mut Problems) {
    if now.len() != then.len() {
        let detail = format!("{field} may not be added or removed on resize");
        problems.forbidden(format!("spec.{field}"), &detail);
        return;
    }
    for (index, (now, then)) in now.iter().zip(then).enumerate() {
        if now.name != then.name {
            let detail = format!("{field} may not be renamed or reordered on resize");
            problems.forbidden(format!("spec.{field}[{index}].name"), &detail);
        }
    }
}

fn check_init(index: usize, now: &mut Container, then: &Container, problems: &mut Problems) {
    let changed = said(now) != said(then);
    keep_mutable(now, then);
    let path = format!("spec.initContainers[{index}]");
    let sidecar = then.restart_policy.as_deref() == Some("Always");
    let restarts = list(&now.resize_policy)
        .iter()
        .any(|policy| policy.restart_policy == "RestartContainer");
    if changed && !sidecar && restarts {
        let detail = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
        problems.forbidden(path, detail);
    }
}

fn check_removed(
    path: &str,
    now: Option<&ResourceRequirements>,
    then: Option<&ResourceRequirements>,
    problems: &mut Problems,
) {
    let gone = |of: fn(&ResourceRequirements) -> Option<&Amounts>| {
        let held = now.and_then(of);
        let mut names = then.and_then(of).into_iter().flat_map(BTreeMap::keys);
        names.any(|name| !held.is_some_and(|held| held.contains_key(name)))
    };
    if gone(|resources| resources.requests.as_ref()) {
        let detail = "resource requests cannot be removed";
        problems.forbidden(format!("{path}.requests"), detail);
    }
    if gone(|resources| resources.limits.as_ref()) {
        let detail = "resource limits cannot be removed";
        problems.forbidden(format!("{path}.limits"), detail);
    }
}

fn check_pod_level(rest: &mut PodSpec, old: &PodSpec, problems: &mut Problems) {
    if rest.resources.is_none() && old.resources.is_some() {
        problems.forbidden("spec.resources", "pod-level resources cannot be removed");
    }
    let now = rest.resources.clone();
    check_pod_removed(now.as_ref(), old.resources.as_ref(), problems);
    rest.resources = kept(now, old.resources.as_ref());
    if said(&rest.resources) != said(&old.resources) {
        let detail = "only cpu and memory resources are mutable at pod-level";
        problems.forbidden("spec", detail);
        rest.resources.clone_from(&old.resources);
    }
}

fn check_pod_removed(
    now: Option<&ResourceRequirements>,
    then: Option<&ResourceRequirements>,
    problems: &mut Problems,
) {
    let mut own = Problems::default();
    if now.is_some() {
        check_removed("spec.resources", now, then, &mut own);
    }
    for problem in own.found() {
        let detail = format!(
            "pod-level {}",
            problem.message.trim_start_matches("Forbidden: ")
        );
        problems.forbidden(problem.path, &detail);
    }
}

fn keep_mutable(now: &mut Container, then: &Container) {
    now.resources = kept(now.resources.take(), then.resources.as_ref());
}

/// The new resources with the old amounts of everything that may change.
fn kept(
    now: Option<ResourceRequirements>,
    then: Option<&ResourceRequirements>,
) -> Option<ResourceRequirements> {
    let mut now = now?;
    let keep = |now: &mut Option<Amounts>, then: Option<&Amounts>| {
        let all = now.get_or_insert_default();
        for name in MUTABLE {
            match then.and_then(|then| then.get(name)) {
                Some(amount) => drop(all.insert(name.to_owned(), amount.clone())),
                None => drop(all.remove(name)),
            }
        }
    };
    keep(
        &mut now.requests,
        then.and_then(|then| then.requests.as_ref()),
    );
    keep(&mut now.limits, then.and_then(|then| then.limits.as_ref()));
    Some(now)
}
