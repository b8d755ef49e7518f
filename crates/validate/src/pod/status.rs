//! Validates a kubelet's update of a pod's status.
//!
//! In:    the pod with its new status, and the old pod
//! Out:   problems
//! Calls: `pod`
//! Holds: a container that has terminated for good cannot run again
//! Gap:   statuses of device claims, which this API server does not serve
//! Upstream: pkg/apis/core/validation/validation.go (ValidatePodStatusUpdate), pkg/api/v1/pod/util.go (ContainerShouldRestart)

use super::update::check_annotations;
use super::{Problems, list, names, plain, text};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, PodStatus};
use std::collections::{BTreeMap, BTreeSet};

/// Condition types that need no domain prefix.
const SYSTEM_CONDITIONS: [&str; 3] = ["PodScheduled", "Ready", "Initialized"];

/// Compares the new status with the old one.
pub(super) fn check(new: &Pod, old: &Pod, problems: &mut Problems) {
    check_annotations(&new.metadata, &old.metadata, problems);
    let (now, then) = (
        new.status.clone().unwrap_or_default(),
        old.status.clone().unwrap_or_default(),
    );
    for (index, condition) in list(&now.conditions).iter().enumerate() {
        let path = format!("status.conditions[{index}]");
        check_generation(&path, condition.observed_generation, problems);
        if !SYSTEM_CONDITIONS.contains(&condition.type_.as_str()) {
            let reasons = names::label_key(&condition.type_);
            problems.reasons(format!("{path}.Type"), &condition.type_, reasons);
        }
    }
    check_nominated(old, (&now, &then), problems);
    check_generation("status", now.observed_generation, problems);
    if text(&now.qos_class).is_some() {
        problems.immutable("status.qosClass", &now.qos_class, &then.qos_class);
    }
    if let Some(spec) = &old.spec {
        check_transitions(spec, &now, &then, problems);
    }
    check_pod_addresses(&now, &then, problems);
    check_host_addresses(&now, &then, problems);
    let os = new.spec.as_ref().and_then(|spec| spec.os.as_ref());
    let windows = os.is_some_and(|os| os.name == "windows");
    for (field, statuses) in lists(&now) {
        check_users(&format!("status.{field}"), statuses, windows, problems);
    }
}

fn check_generation(path: &str, generation: Option<i64>, problems: &mut Problems) {
    if let Some(generation) = generation.filter(|generation| *generation < 0) {
        let detail = "must be a non-negative integer";
        problems.invalid(format!("{path}.observedGeneration"), generation, detail);
    }
}

fn check_nominated(old: &Pod, (now, then): (&PodStatus, &PodStatus), problems: &mut Problems) {
    let name = plain(&now.nominated_node_name);
    if name.is_empty() || name == plain(&then.nominated_node_name) {
        return;
    }
    let path = "status.nominatedNodeName";
    problems.reasons(path, name, names::dns_subdomain(name));
    let spec = old.spec.as_ref();
    if spec.is_some_and(|spec| text(&spec.node_name).is_some()) {
        let detail = "may not be set on pods that are already bound to a node";
        problems.forbidden(path, detail);
    }
}

fn lists(status: &PodStatus) -> [(&'static str, &[ContainerStatus]); 3] {
    [
        ("containerStatuses", list(&status.container_statuses)),
        (
            "initContainerStatuses",
            list(&status.init_container_statuses),
        ),
        (
            "ephemeralContainerStatuses",
            list(&status.ephemeral_container_statuses),
        ),
    ]
}

/// The exit code of a terminated container.
fn ended(status: &ContainerStatus) -> Option<i32> {
    let state = status.state.as_ref()?;
    state.terminated.as_ref().map(|ended| ended.exit_code)
}

fn check_transitions(spec: &PodSpec, now: &PodStatus, then: &PodStatus, problems: &mut Problems) {
    let all_may_restart = spec
        .containers
        .iter()
        .chain(list(&spec.init_containers))
        .flat_map(|container| list(&container.restart_policy_rules))
        .any(|rule| rule.action == "RestartAllContainers");
    let named = |containers: &'_ [Container]| -> BTreeMap<String, Container> {
        let all = containers.iter();
        all.map(|one| (one.name.clone(), one.clone())).collect()
    };
    let containers = [
        named(&spec.containers),
        named(list(&spec.init_containers)),
        BTreeMap::new(),
    ];
    for (at, ((field, now), (_, then))) in lists(now).into_iter().zip(lists(then)).enumerate() {
        if all_may_restart && field != "ephemeralContainerStatuses" {
            continue;
        }
        let runs: BTreeSet<&str> = now
            .iter()
            .filter(|status| ended(status).is_none())
            .map(|status| status.name.as_str())
            .collect();
        for (index, before) in then.iter().enumerate() {
            let Some(code) = ended(before) else { continue };
            let container = containers.get(at).and_then(|all| all.get(&before.name));
            let may = container.is_some_and(|container| restarts(container, spec, code));
            if runs.contains(before.name.as_str()) && !may {
                let detail = "may not be transitioned to non-terminated state";
                problems.forbidden(format!("status.{field}[{index}].state"), detail);
            }
        }
    }
}

/// Whether a container that exited with `code` is restarted: by its rules, then its own policy, then the pod's.
fn restarts(container: &Container, spec: &PodSpec, code: i32) -> bool {
    let matches = list(&container.restart_policy_rules).iter().any(|rule| {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let named = list(&codes.values).contains(&code);
            (codes.operator == "In" && named) || (codes.operator == "NotIn" && !named)
        })
    });
    let policy = container.restart_policy.as_deref();
    let policy = policy.or(spec.restart_policy.as_deref());
    matches
        || match policy {
            Some("OnFailure") => code != 0,
            Some("Never") => false,
            _ => true,
        }
}

fn check_pod_addresses(now: &PodStatus, then: &PodStatus, problems: &mut Problems) {
    let of = |status: &'_ PodStatus| -> Vec<String> {
        list(&status.pod_ips)
            .iter()
            .map(|one| one.ip.clone())
            .collect()
    };
    check_addresses("status.podIPs", &of(now), &of(then), problems);
}

fn check_host_addresses(now: &PodStatus, then: &PodStatus, problems: &mut Problems) {
    let of = |status: &'_ PodStatus| -> Vec<String> {
        list(&status.host_ips)
            .iter()
            .map(|one| one.ip.clone())
            .collect()
    };
    let addresses = of(now);
    if let Some(first) = addresses.first()
        && first != plain(&now.host_ip)
    {
        problems.invalid("status.hostIPs[0].ip", first, "must be equal to `hostIP`");
    }
    check_addresses("status.hostIPs", &addresses, &of(then), problems);
}

fn check_addresses(path: &str, now: &[String], then: &[String], problems: &mut Problems) {
    for (index, address) in now.iter().enumerate() {
        if !then.contains(address) {
            let reasons = names::strict_ip(address);
            problems.reasons(format!("{path}[{index}]"), address, reasons);
        }
    }
    let both = names::is_dual_stack(now.iter().map(String::as_str));
    if now.len() > 2 || (now.len() == 2 && !both) {
        let shown: Vec<_> = now.iter().map(|ip| serde_json::json!({"ip": ip})).collect();
        let detail = "may specify no more than one IP for each IP family";
        problems.invalid(path, shown, detail);
    }
}

fn check_users(
    path: &str,
    statuses: &[ContainerStatus],
    is_windows: bool,
    problems: &mut Problems,
) {
    for (index, status) in statuses.iter().enumerate() {
        let user = status.user.as_ref().and_then(|user| user.linux.as_ref());
        let Some(user) = user else { continue };
        let at = format!("{path}[{index}].user.linux");
        if is_windows {
            problems.forbidden(at, "cannot be set for a windows pod");
            continue;
        }
        for (field, id) in [("uid", user.uid), ("gid", user.gid)] {
            problems.reasons(format!("{at}.{field}"), id, names::owner_id(id));
        }
        for (index, id) in list(&user.supplemental_groups).iter().enumerate() {
            let at = format!("{at}.supplementalGroups[{index}]");
            problems.reasons(at, *id, names::owner_id(*id));
        }
    }
}
