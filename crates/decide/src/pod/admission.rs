//! Admission to this node: sysctls, resources, node selector and affinity, ports, taints, operating system, AppArmor.
//!
//! In:    the pod, the pods that were admitted before it, what the node has, the own Node, what is allowed at all
//! Out:   `Verdict`: admitted with its allocation, to wait for pods that end, or rejected with upstream's reason and message
//! Calls: act/pod/sync_loop/admit, once in the life of a pod
//! Holds: asked only about a pod that never ran here; the first failure in upstream's order is reported
//! Upstream: pkg/kubelet/lifecycle/predicate.go, pkg/scheduler/eventhandlers.go (AdmissionCheck), noderesources/fit.go (Fits),
//!           component-helpers/scheduling/corev1/nodeaffinity; 1.36; differences: upstream rejects a pod at
//!           once for which there is room as soon as pods that are ending have ended

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use kubelet_model::ids::PodFullName;
use kubelet_model::pod::Pod;
use kubelet_model::reason::Reason;

use crate::pod::preemption::{self, Candidate, Shortfall, is_critical, is_preemptable};
use crate::resources::{Overhead, milli_cpu, pod_requests, qos_class};
use crate::shapes::rejection::{OUT_OF, Rejection};
use crate::shapes::waiting::Waiting;

mod affinity;
mod app_armor;
mod sysctls;

use affinity::matches_node;
pub use app_armor::AppArmor;
pub use sysctls::SysctlAllowlist;

/// The operating system of every node that this kubelet runs on.
const OS: &str = "linux";
/// Label with the operating system.
const OS_LABEL: &str = "kubernetes.io/os";
/// Resources in the order in which they are checked; all others follow.
const FIRST: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Ending pods that are named to who waits for them.
const NAMED: usize = 3;

/// What a pod that is let in takes of the node. Base units, cpu in thousandths.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allocation {
    /// By resource.
    pub requests: BTreeMap<String, i64>,
    /// Ports of the host.
    pub ports: Vec<HostPort>,
}

/// A port of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Address; empty is every one.
    pub ip: String,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: String,
    /// Number.
    pub port: i32,
}

/// What a pod takes.
pub fn allocation(pod: &Pod) -> Allocation {
    let amounts = pod_requests(pod, Overhead::Counted);
    let units = amounts.iter().map(|(name, amount)| {
        let units = if name == "cpu" {
            milli_cpu(&amounts)
        } else {
            amount.value()
        };
        (name.clone(), units)
    });
    let ports = pod
        .containers()
        .iter()
        .flat_map(|c| c.ports.iter().flatten());
    let of_host = ports.filter_map(|port| {
        Some(HostPort {
            ip: port
                .host_ip
                .clone()
                .filter(|ip| ip != "0.0.0.0")
                .unwrap_or_default(),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            port: port.host_port.filter(|port| *port > 0)?,
        })
    });
    Allocation {
        requests: units.collect(),
        ports: of_host.collect(),
    }
}

/// What the host and the configuration allow any pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionRules {
    /// Sysctls that pods may set.
    pub sysctls: SysctlAllowlist,
    /// Whether pods can be confined by AppArmor.
    pub app_armor: AppArmor,
}

/// A pod that was admitted and has not ended.
#[derive(Clone, Copy, Debug)]
pub struct Other<'a> {
    /// Which.
    pub pod: &'a Pod,
    /// What it takes.
    pub allocation: &'a Allocation,
    /// It is being stopped, or its containers have ended for good: what it takes is free in a moment.
    pub is_ending: bool,
}

/// Whether a pod may begin.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It may, and takes this.
    Admitted(Allocation),
    /// It may once pods that are ending have ended; should they not, it is rejected.
    Waits(Waiting, Rejection),
    /// It may once these pods have ended, which are to be ended for it; should they not, it is rejected.
    Preempts(Vec<PodFullName>, Waiting, Rejection),
    /// It may not.
    Rejected(Rejection),
}

/// What is decided on.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionView<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The pods that were admitted and have not ended.
    pub others: &'a [Other<'a>],
    /// Allocatable by resource; of one that is not in it the node has none, but cpu, memory, disk and pods are then unlimited.
    pub allocatable: &'a BTreeMap<String, i64>,
    /// The own Node as the API has it, or what this kubelet registers.
    pub node: &'a v1::Node,
    /// What is allowed at all.
    pub rules: &'a AdmissionRules,
}

/// Whether the pod may begin.
pub fn admission(view: &AdmissionView<'_>) -> Verdict {
    let wanted = allocation(view.pod);
    let Some(rejection) = rejection(view, &wanted) else {
        return Verdict::Admitted(wanted);
    };
    let (ending, staying): (Vec<Other<'_>>, Vec<Other<'_>>) =
        view.others.iter().partition(|other| other.is_ending);
    let later = AdmissionView {
        others: &staying,
        ..*view
    };
    if self::rejection(&later, &wanted).is_none() {
        let names = ending.iter().map(|other| &other.pod.full_name);
        return Verdict::Waits(waits_for(&rejection, names), rejection);
    }
    if is_critical(view.pod) {
        return preempts(&later, &wanted, rejection);
    }
    Verdict::Rejected(rejection)
}

fn waits_for<'a>(
    rejection: &Rejection,
    names: impl ExactSizeIterator<Item = &'a PodFullName>,
) -> Waiting {
    let more = if names.len() > NAMED { ", …" } else { "" };
    let names: Vec<String> = names.take(NAMED).map(ToString::to_string).collect();
    let message = format!(
        "{}; waits for the end of {}{more}",
        rejection.message,
        names.join(", ")
    );
    Waiting {
        reason: Reason::WaitingForRoom,
        message,
    }
}

/// What a critical pod is short of, others make room for; anything else that is against it stands.
fn preempts(view: &AdmissionView<'_>, wanted: &Allocation, rejection: Rejection) -> Verdict {
    if let Some(other) = rejection_but_for_room(view, wanted) {
        return Verdict::Rejected(other);
    }
    let candidates: Vec<Candidate<'_>> = view
        .others
        .iter()
        .filter(|other| is_preemptable(view.pod, other.pod))
        .map(|other| Candidate {
            name: &other.pod.full_name,
            class: qos_class(other.pod),
            requests: &other.allocation.requests,
        })
        .collect();
    let missing: Shortfall = shortfalls(view, wanted)
        .into_iter()
        .map(|short| (short.resource, short.missing))
        .collect();
    match preemption::victims(&candidates, &missing) {
        Ok(victims) => {
            let waiting = waits_for(&rejection, victims.iter().copied());
            let victims = victims.into_iter().cloned().collect();
            Verdict::Preempts(victims, waiting, rejection)
        }
        Err(why) => Verdict::Rejected(Rejection::new(
            "UnexpectedAdmissionError",
            format!(
                "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to preempt: {why}"
            ),
        )),
    }
}

/// The first thing that is against it.
fn rejection(view: &AdmissionView<'_>, wanted: &Allocation) -> Option<Rejection> {
    whatever_else_runs(view)
        .or_else(|| shortfalls(view, wanted).first().map(Short::rejection))
        .or_else(|| general(view, wanted))
}

/// The same, whatever there is room for.
fn rejection_but_for_room(view: &AdmissionView<'_>, wanted: &Allocation) -> Option<Rejection> {
    whatever_else_runs(view).or_else(|| general(view, wanted))
}

fn whatever_else_runs(view: &AdmissionView<'_>) -> Option<Rejection> {
    let sysctls = view.rules.sysctls.rejection(view.pod);
    sysctls
        .or_else(|| operating_system(view))
        .or_else(|| supplemental_groups(view))
}

fn general(view: &AdmissionView<'_>, wanted: &Allocation) -> Option<Rejection> {
    let affinity = (!matches_node(view.pod.spec(), view.node)).then(|| {
        Rejection::predicate(
            "NodeAffinity",
            "node(s) didn't match Pod's node affinity/selector",
        )
    });
    affinity
        .or_else(|| node_name(view))
        .or_else(|| ports(view, wanted))
        .or_else(|| taints(view))
        .or_else(|| app_armor::rejection(view.pod, view.rules.app_armor))
}

fn operating_system(view: &AdmissionView<'_>) -> Option<Rejection> {
    // Quirk: it is the pod's label that is compared, not its selector (rejectPodAdmissionBasedOnOSSelector).
    let labels = view.pod.object.metadata.labels.as_ref();
    if labels
        .and_then(|labels| labels.get(OS_LABEL))
        .is_some_and(|os| os != OS)
    {
        return Some(Rejection::new(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        ));
    }
    let os = view.pod.spec().os.as_ref();
    os.is_some_and(|os| os.name != OS).then(|| {
        Rejection::new(
            "PodOSNotSupported",
            "Failed to admit pod as the OS field doesn't match node OS",
        )
    })
}

/// Whether the groups of the image are not to be added (`supplementalGroupsPolicy: Strict`).
pub fn asks_strict_groups(pod: &Pod) -> bool {
    let context = pod.spec().security_context.as_ref();
    let policy = context.and_then(|context| context.supplemental_groups_policy.as_deref());
    policy == Some("Strict")
}

fn supplemental_groups(view: &AdmissionView<'_>) -> Option<Rejection> {
    let status = view.node.status.as_ref();
    let features = status.and_then(|status| status.features.as_ref());
    let is_offered = features.and_then(|f| f.supplemental_groups_policy) == Some(true);
    (asks_strict_groups(view.pod) && !is_offered).then(|| {
        Rejection::new(
            "SupplementalGroupsPolicyNotSupported",
            "SupplementalGroupsPolicy=Strict is not supported in this node",
        )
    })
}

/// A resource of which there is too little.
struct Short {
    resource: String,
    requested: i64,
    used: i64,
    capacity: i64,
    missing: i64,
}

impl Short {
    fn rejection(&self) -> Rejection {
        let Self {
            resource,
            requested,
            used,
            capacity,
            ..
        } = self;
        Rejection::new(
            format!("{OUT_OF}{resource}"),
            format!(
                "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
            ),
        )
    }
}

/// What there is too little of, in upstream's order.
fn shortfalls(view: &AdmissionView<'_>, wanted: &Allocation) -> Vec<Short> {
    let others = i64::try_from(view.others.len()).unwrap_or(i64::MAX);
    let short = |resource: &str, requested: i64, used: i64, capacity: i64| {
        let missing = requested.saturating_sub(capacity.saturating_sub(used));
        (missing > 0).then(|| Short {
            resource: resource.to_owned(),
            requested,
            used,
            capacity,
            missing,
        })
    };
    let capacity = view.allocatable.get("pods").copied();
    let places = capacity.and_then(|most| short("pods", 1, others, most));
    let requests = &wanted.requests;
    let rest = requests
        .keys()
        .map(String::as_str)
        .filter(|name| !FIRST.contains(name));
    let amounts = FIRST.into_iter().chain(rest).filter_map(|name| {
        let requested = *requests.get(name).filter(|amount| **amount > 0)?;
        let capacity = match view.allocatable.get(name) {
            Some(capacity) => *capacity,
            None if name.starts_with("hugepages-") => 0,
            // Not measured; or an extended resource that the node does not have: somebody else's concern.
            None => return None,
        };
        let used = |other: &Other<'_>| other.allocation.requests.get(name).copied().unwrap_or(0);
        let used = view.others.iter().map(used).sum();
        short(name, requested, used, capacity)
    });
    places.into_iter().chain(amounts).collect()
}

fn node_name(view: &AdmissionView<'_>) -> Option<Rejection> {
    let wanted = view.pod.spec().node_name.as_deref().unwrap_or_default();
    let is_other = !wanted.is_empty() && Some(wanted) != view.node.metadata.name.as_deref();
    is_other
        .then(|| Rejection::predicate("NodeName", "node(s) didn't match the requested node name"))
}

fn ports(view: &AdmissionView<'_>, wanted: &Allocation) -> Option<Rejection> {
    let others = view.others.iter();
    let taken: Vec<&HostPort> = others.flat_map(|other| &other.allocation.ports).collect();
    let is_taken = |port: &HostPort| {
        taken.iter().any(|other| {
            other.port == port.port
                && other.protocol == port.protocol
                && (other.ip == port.ip || other.ip.is_empty() || port.ip.is_empty())
        })
    };
    wanted.ports.iter().any(is_taken).then(|| {
        Rejection::predicate(
            "NodePorts",
            "node(s) didn't have free ports for the requested pod ports",
        )
    })
}

/// Of taints only those that end what runs; a static pod stands above them.
fn taints(view: &AdmissionView<'_>) -> Option<Rejection> {
    if view.pod.is_static() {
        return None;
    }
    let taints = view
        .node
        .spec
        .iter()
        .flat_map(|s| s.taints.iter().flatten());
    let tolerations = || view.pod.spec().tolerations.iter().flatten();
    let mut ending = taints.filter(|taint| taint.effect == "NoExecute");
    let is_refused = ending.any(|taint| !tolerations().any(|t| is_tolerated(t, taint)));
    is_refused.then(|| {
        Rejection::predicate(
            "TaintToleration",
            "node(s) had taints that the pod didn't tolerate",
        )
    })
}

fn is_tolerated(toleration: &v1::Toleration, taint: &v1::Taint) -> bool {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => text(&toleration.value) == text(&taint.value),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests;
