//! The cgroup tree: which cgroups exist, and their limits.
//!
//! In:    desired pods, the node's cgroup settings
//! Out:   `Cgroup`: a path (cgroupfs style) and limits, for the tree's root, the QoS tiers and pods
//! Calls: whoever writes cgroups; sandbox_config.rs for the path
//! Holds: every page size of the host is limited in each cgroup; nothing here reads a cgroup
//! Upstream: pkg/kubelet/cm/{helpers_linux.go,pod_container_manager_linux.go,qos_container_manager_linux.go,
//!           node_container_manager_linux.go,cgroup_manager_linux.go}

use std::collections::{BTreeMap, BTreeSet};

use kubelet_model::ids::PodUid;
use kubelet_model::node::NodeView;
use kubelet_model::pod::{Pod, QosClass};

use crate::resources::{
    MIN_SHARES, Overhead, hugepages, limits_declared, memory_bytes, milli_cpu, milli_cpu_to_quota,
    milli_cpu_to_shares, pod_requests, qos_class,
};
use crate::shapes::work::Cgroup;
use crate::shapes::work::PodCgroup;

#[cfg(test)]
mod tests;

/// Name of the cgroup of all pods.
const ALL_PODS: &str = "kubepods";
/// Prefix of a pod's cgroup.
const POD_PREFIX: &str = "pod";
/// "No limit" for huge pages of a tier.
const UNBOUNDED_HUGETLB: u64 = 1 << 62;

/// What pods may use together: capacity less what is reserved for the system and the kubelet (eviction thresholds not taken
/// off), or plain capacity when `pods` is not enforced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodsAllowance {
    /// Processors, thousandths.
    pub milli_cpu: i64,
    /// Memory, bytes.
    pub memory_bytes: i64,
    /// Processes; `None` when unknown.
    pub pids: Option<i64>,
}

fn join(parent: &str, child: &str) -> String {
    format!("{}/{child}", parent.trim_end_matches('/'))
}

/// Path of the cgroup of all pods; the configured root itself without QoS tiers.
pub fn pods_root_path(node: &NodeView) -> String {
    let root = &node.cgroups.root;
    let root = if root.starts_with('/') {
        root.clone()
    } else {
        format!("/{root}")
    };
    if node.cgroups.per_qos {
        join(&root, ALL_PODS)
    } else {
        root
    }
}

/// Path of a QoS tier; Guaranteed pods lie directly below the root.
pub fn tier_path(class: QosClass, node: &NodeView) -> String {
    let root = pods_root_path(node);
    match class {
        QosClass::Guaranteed => root,
        QosClass::Burstable => join(&root, "burstable"),
        QosClass::BestEffort => join(&root, "besteffort"),
    }
}

/// Path of a pod's cgroup, the parent that the runtime puts its containers below; `None` without QoS tiers: then the
/// runtime chooses, and no cgroup is the pod's to remove.
pub fn pod_cgroup_path(pod: &Pod, node: &NodeView) -> Option<String> {
    pod_path_in(qos_class(pod), &pod.uid, node)
}

fn pod_path_in(class: QosClass, uid: &PodUid, node: &NodeView) -> Option<String> {
    let own = || join(&tier_path(class, node), &format!("{POD_PREFIX}{uid}"));
    node.cgroups.per_qos.then(own)
}

/// Every path that a pod's cgroup may have, for one whose spec, and so its class, is not known any more.
pub fn every_pod_cgroup_path(uid: &PodUid, node: &NodeView) -> Vec<String> {
    let classes = [
        QosClass::Guaranteed,
        QosClass::Burstable,
        QosClass::BestEffort,
    ];
    classes
        .into_iter()
        .filter_map(|class| pod_path_in(class, uid, node))
        .collect()
}

/// The pod that a directory name below a tier belongs to; `None` for anything else.
pub fn pod_uid_of_cgroup(directory: &str) -> Option<PodUid> {
    // Quirk: a UID that holds "pod" itself is not recognised (pod_container_manager_linux.go, GetAllPodsFromCgroups).
    directory
        .strip_prefix(POD_PREFIX)
        .filter(|uid| !uid.contains(POD_PREFIX))
        .and_then(|uid| PodUid::parse(uid).ok())
}

/// Amounts below zero were refused before; they count as nothing.
fn unsigned(amount: i64) -> u64 {
    u64::try_from(amount).unwrap_or(0)
}

/// Each page size of the host with its limit, 0 unless given.
fn hugetlb(given: &BTreeMap<String, i64>, node: &NodeView) -> BTreeMap<String, u64> {
    let mut limits: BTreeMap<String, u64> = node
        .hugepage_sizes
        .iter()
        .map(|size| (size.clone(), 0))
        .collect();
    limits.extend(
        given
            .iter()
            .map(|(size, bytes)| (size.clone(), unsigned(*bytes))),
    );
    limits
}

fn unbounded_hugetlb(node: &NodeView) -> BTreeMap<String, u64> {
    node.hugepage_sizes
        .iter()
        .map(|size| (size.clone(), UNBOUNDED_HUGETLB))
        .collect()
}

/// The cgroup of a pod, when it is made; `None` without QoS tiers, where pods have no cgroups of their own.
pub fn pod_cgroup(pod: &Pod, node: &NodeView) -> Option<PodCgroup> {
    let path = pod_cgroup_path(pod, node)?;
    let settings = &node.cgroups;
    let requests = pod_requests(pod, Overhead::Counted);
    let (declared, limits) = limits_declared(pod);
    let class = qos_class(pod);
    let is_limited = |resource: &str| is_limited(class, &declared, resource);
    let quota = if settings.cfs_quota {
        milli_cpu_to_quota(milli_cpu(&limits), settings.cfs_period_us)
    } else {
        -1
    };
    Some(Cgroup {
        path,
        cpu_shares: Some(unsigned(match class {
            QosClass::BestEffort => MIN_SHARES,
            QosClass::Guaranteed | QosClass::Burstable => milli_cpu_to_shares(milli_cpu(&requests)),
        })),
        cpu_quota_us: is_limited("cpu").then_some(quota),
        cpu_period_us: is_limited("cpu").then_some(unsigned(settings.cfs_period_us)),
        memory_limit: pod_memory_limit(pod),
        pids_limit: settings.pod_pids_limit.filter(|limit| *limit > 0),
        hugetlb: Some(hugetlb(&hugepages(&requests), node)),
    })
}

/// What a pod may use of memory, bytes; `None` when not all of it is limited.
pub(crate) fn pod_memory_limit(pod: &Pod) -> Option<i64> {
    let (declared, limits) = limits_declared(pod);
    is_limited(qos_class(pod), &declared, "memory").then(|| memory_bytes(&limits))
}

fn is_limited(class: QosClass, declared: &BTreeSet<&str>, resource: &str) -> bool {
    match class {
        QosClass::Guaranteed => true,
        QosClass::Burstable => declared.contains(resource),
        QosClass::BestEffort => false,
    }
}

/// The tiers as they should be while `active` pods are: all pods, burstable, besteffort. Empty without QoS tiers.
pub fn qos_cgroups<'a>(active: impl IntoIterator<Item = &'a Pod>, node: &NodeView) -> Vec<Cgroup> {
    if !node.cgroups.per_qos {
        return Vec::new();
    }
    let burstable = active
        .into_iter()
        .filter(|pod| qos_class(pod) == QosClass::Burstable);
    let milli: i64 = burstable
        .map(|pod| milli_cpu(&pod_requests(pod, Overhead::Counted)))
        .sum();
    let tier = |class, cpu_shares| Cgroup {
        path: tier_path(class, node),
        cpu_shares,
        hugetlb: Some(unbounded_hugetlb(node)),
        ..Cgroup::default()
    };
    vec![
        tier(QosClass::Guaranteed, None),
        tier(
            QosClass::Burstable,
            Some(unsigned(milli_cpu_to_shares(milli))),
        ),
        tier(QosClass::BestEffort, Some(unsigned(MIN_SHARES))),
    ]
}

/// The cgroup of all pods with its allowance. Huge pages stay unbounded there, as the tiers' update leaves them.
pub fn pods_root_cgroup(allowance: &PodsAllowance, node: &NodeView) -> Cgroup {
    Cgroup {
        path: pods_root_path(node),
        cpu_shares: Some(unsigned(milli_cpu_to_shares(allowance.milli_cpu))),
        memory_limit: Some(allowance.memory_bytes),
        pids_limit: allowance.pids,
        hugetlb: Some(unbounded_hugetlb(node)),
        ..Cgroup::default()
    }
}
