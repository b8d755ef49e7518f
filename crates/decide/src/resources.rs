//! Resources of pods and containers: QoS class, sums, CPU shares and quota, OOM scores, huge pages, swap.
//!
//! In:    requests and limits of a desired pod, the node's cgroup settings
//! Out:   `LinuxContainerResources` for the CRI; the sums that cgroups.rs needs
//! Calls: sandbox_config.rs, container_config.rs, cgroups.rs, env.rs
//! Holds: a quantity that does not parse counts as absent (validation has refused it before)
//! Upstream: staging/src/k8s.io/component-helpers/resource/helpers.go, pkg/apis/core/v1/helper/qos/qos.go,
//!           pkg/kubelet/qos/policy.go, pkg/kubelet/cm/helpers_linux.go,
//!           pkg/kubelet/kuberuntime/kuberuntime_container_linux.go

pub mod cgroups;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::api::resource;
use kubelet_api::runtime::v1::{HugepageLimit, LinuxContainerResources};
use kubelet_model::node::NodeView;
use kubelet_model::pod::{Pod, QosClass, is_sidecar};
use kubelet_model::quantity::Quantity;

/// Amounts by resource name (`cpu`, `memory`, `hugepages-2Mi`, …).
pub(crate) type Amounts = BTreeMap<String, Quantity>;

/// Least CPU shares the kernel takes.
pub const MIN_SHARES: i64 = 2;
/// Most CPU shares the kernel takes.
pub const MAX_SHARES: i64 = 262_144;
const SHARES_PER_CPU: i64 = 1024;
const MIN_QUOTA_US: i64 = 1000;
const HUGEPAGES: &str = "hugepages-";
/// `oom_score_adj` of what is to be killed last.
const GUARANTEED_OOM_SCORE_ADJ: i64 = -997;
/// `oom_score_adj` of what is to be killed first.
const BEST_EFFORT_OOM_SCORE_ADJ: i64 = 1000;

/// Whether `spec.overhead` is part of a sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Overhead {
    Counted,
    LeftOut,
}

type ApiAmounts = BTreeMap<String, resource::Quantity>;

/// What the API object says, parsed.
pub(crate) fn amounts(list: Option<&ApiAmounts>) -> Amounts {
    let parsed =
        |(name, text): (&String, &resource::Quantity)| Some((name.clone(), text.0.parse().ok()?));
    list.into_iter().flatten().filter_map(parsed).collect()
}

/// Whole units of an API quantity; `None` when it does not parse.
pub fn quantity_bytes(quantity: &resource::Quantity) -> Option<i64> {
    Some(quantity.0.parse::<Quantity>().ok()?.value())
}

/// Requests of a container.
pub(crate) fn container_requests(container: &v1::Container) -> Amounts {
    amounts(
        container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref()),
    )
}

/// Limits of a container.
pub(crate) fn container_limits(container: &v1::Container) -> Amounts {
    amounts(
        container
            .resources
            .as_ref()
            .and_then(|resources| resources.limits.as_ref()),
    )
}

/// Thousandths of processors in a list; 0 when it has none.
pub(crate) fn milli_cpu(list: &Amounts) -> i64 {
    list.get("cpu").map_or(0, Quantity::milli_value)
}

/// Bytes of memory in a list; 0 when it has none.
pub(crate) fn memory_bytes(list: &Amounts) -> i64 {
    list.get("memory").map_or(0, Quantity::value)
}

/// Requests and limits written at the pod itself, of the resources that may be written there.
pub(crate) struct PodLevel {
    pub(crate) requests: Amounts,
    pub(crate) limits: Amounts,
}

impl PodLevel {
    pub(crate) fn of(pod: &Pod) -> Self {
        let supported =
            |name: &str| matches!(name, "cpu" | "memory") || name.starts_with(HUGEPAGES);
        let read = |list: Option<&ApiAmounts>| {
            let mut list = amounts(list);
            list.retain(|name, _| supported(name));
            list
        };
        let resources = pod.spec().resources.as_ref();
        Self {
            requests: read(resources.and_then(|resources| resources.requests.as_ref())),
            limits: read(resources.and_then(|resources| resources.limits.as_ref())),
        }
    }
}

fn add(sum: &mut Amounts, list: &Amounts) {
    for (name, amount) in list {
        let total = sum
            .get(name)
            .map_or_else(|| amount.clone(), |present| present.plus(amount));
        sum.insert(name.clone(), total);
    }
}

fn raise(most: &mut Amounts, list: &Amounts) {
    for (name, amount) in list {
        if most.get(name).is_none_or(|present| amount > present) {
            most.insert(name.clone(), amount.clone());
        }
    }
}

/// What the containers need together: the regular ones and sidecars run at once; each init container runs beside the
/// sidecars started before it. `each` sees the need at every such moment.
fn containers_sum(
    pod: &Pod,
    of: impl Fn(&v1::Container) -> Amounts,
    mut each: impl FnMut(&Amounts),
) -> Amounts {
    let mut sum = Amounts::new();
    for container in pod.containers() {
        let own = of(container);
        each(&own);
        add(&mut sum, &own);
    }
    let mut sidecars = Amounts::new();
    let mut most = Amounts::new();
    for container in pod.init_containers() {
        let mut own = of(container);
        if is_sidecar(container) {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            own = sidecars.clone();
        } else {
            add(&mut own, &sidecars);
        }
        each(&own);
        raise(&mut most, &own);
    }
    raise(&mut sum, &most);
    sum
}

/// What the pod requests in all.
pub(crate) fn pod_requests(pod: &Pod, overhead: Overhead) -> Amounts {
    let mut sum = containers_sum(pod, container_requests, |_| {});
    sum.extend(PodLevel::of(pod).requests);
    if overhead == Overhead::Counted {
        add(&mut sum, &amounts(pod.spec().overhead.as_ref()));
    }
    sum
}

/// What the pod may use in all; says nothing about containers without a limit.
pub(crate) fn pod_limits(pod: &Pod, overhead: Overhead) -> Amounts {
    pod_limits_seeing(pod, overhead, |_| {})
}

/// `pod_limits`; `each` sees the limits at every moment that counts.
pub(crate) fn pod_limits_seeing(
    pod: &Pod,
    overhead: Overhead,
    each: impl FnMut(&Amounts),
) -> Amounts {
    let mut sum = containers_sum(pod, container_limits, each);
    sum.extend(PodLevel::of(pod).limits);
    if overhead == Overhead::Counted {
        let mut extra = amounts(pod.spec().overhead.as_ref());
        extra.retain(|name, _| sum.get(name).is_some_and(|limit| !limit.is_zero()));
        add(&mut sum, &extra);
    }
    sum
}

/// QoS class: what the API says, else computed from cpu and memory of all containers (or of the pod, where given there).
pub fn qos_class(pod: &Pod) -> QosClass {
    match pod
        .object
        .status
        .as_ref()
        .and_then(|status| status.qos_class.as_deref())
    {
        Some("Guaranteed") => QosClass::Guaranteed,
        Some("Burstable") => QosClass::Burstable,
        Some("BestEffort") => QosClass::BestEffort,
        _ => computed_qos_class(pod),
    }
}

fn computed_qos_class(pod: &Pod) -> QosClass {
    let counted = |mut list: Amounts| {
        list.retain(|name, amount| matches!(name.as_str(), "cpu" | "memory") && amount.nanos() > 0);
        list
    };
    let mut requests = Amounts::new();
    let mut limits = Amounts::new();
    let mut all_limited = true;
    if let Some(resources) = &pod.spec().resources {
        requests = counted(amounts(resources.requests.as_ref()));
        limits = counted(amounts(resources.limits.as_ref()));
        all_limited = limits.len() == 2;
    } else {
        for container in pod.declared_containers() {
            let own = counted(container_limits(container));
            all_limited &= own.len() == 2;
            add(&mut limits, &own);
            add(&mut requests, &counted(container_requests(container)));
        }
    }
    if requests.is_empty() && limits.is_empty() {
        QosClass::BestEffort
    } else if all_limited && requests == limits {
        QosClass::Guaranteed
    } else {
        QosClass::Burstable
    }
}

/// CPU shares of an amount of processor.
pub fn milli_cpu_to_shares(milli: i64) -> i64 {
    (milli.saturating_mul(SHARES_PER_CPU) / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// CFS quota in microseconds per `period_us`; 0 means none.
pub fn milli_cpu_to_quota(milli: i64, period_us: i64) -> i64 {
    if milli == 0 {
        0
    } else {
        (milli.saturating_mul(period_us) / 1000).max(MIN_QUOTA_US)
    }
}

/// Thousandths of a processor that shares stand for, rounded up; 0 below the least shares.
pub fn shares_to_milli_cpu(shares: i64) -> i64 {
    if shares < MIN_SHARES {
        0
    } else {
        shares
            .saturating_mul(1000)
            .saturating_add(SHARES_PER_CPU - 1)
            / SHARES_PER_CPU
    }
}

/// Thousandths of a processor that a quota stands for; 0 when there is none.
pub fn quota_to_milli_cpu(quota_us: i64, period_us: i64) -> i64 {
    if quota_us == -1 || period_us <= 0 {
        0
    } else {
        quota_us.saturating_mul(1000) / period_us
    }
}

/// `oom_score_adj` of a container's processes.
pub fn oom_score_adj(pod: &Pod, container: &v1::Container, capacity_memory_bytes: i64) -> i64 {
    if pod.is_node_critical() {
        return GUARANTEED_OOM_SCORE_ADJ;
    }
    match qos_class(pod) {
        QosClass::Guaranteed => return GUARANTEED_OOM_SCORE_ADJ,
        QosClass::BestEffort => return BEST_EFFORT_OOM_SCORE_ADJ,
        QosClass::Burstable => {}
    }
    let capacity = i128::from(capacity_memory_bytes.max(1));
    let adjustment = |request: i64| 1000 - 1000 * i128::from(request) / capacity;
    let share = unclaimed_memory_share(pod);
    let mut score = adjustment(memory_bytes(&container_requests(container)).saturating_add(share));
    let is_init = pod
        .init_containers()
        .iter()
        .any(|init| init.name == container.name);
    if is_init && is_sidecar(container) {
        // A sidecar is not killed before the container that it serves.
        let least = pod
            .containers()
            .iter()
            .map(|c| memory_bytes(&container_requests(c)))
            .min()
            .unwrap_or(0);
        score = score.min(adjustment(least.saturating_add(share)));
    }
    let floor = i128::from(1000 + GUARANTEED_OOM_SCORE_ADJ);
    // A pod of an API server that took a negative request stays below one that asks for nothing, too.
    let score = score.clamp(floor, i128::from(BEST_EFFORT_OOM_SCORE_ADJ - 1));
    i64::try_from(score).unwrap_or(BEST_EFFORT_OOM_SCORE_ADJ)
}

/// Memory requested by the pod itself beyond its containers, in equal parts; 0 without such a request.
fn unclaimed_memory_share(pod: &Pod) -> i64 {
    let own = memory_bytes(&PodLevel::of(pod).requests);
    let count = i64::try_from(pod.declared_containers().count()).unwrap_or(i64::MAX);
    if own == 0 || count == 0 {
        return 0;
    }
    own.saturating_sub(memory_bytes(&containers_sum(
        pod,
        container_requests,
        |_| {},
    ))) / count
}

/// The kernel's name of a huge page size (`2MB`) for a resource name (`hugepages-2Mi`); `None` when it is not one.
pub(crate) fn hugepage_size(resource_name: &str) -> Option<String> {
    let mut size = resource_name
        .strip_prefix(HUGEPAGES)?
        .parse::<Quantity>()
        .ok()?
        .value();
    let mut units = ["B", "KB", "MB", "GB", "TB", "PB"].into_iter();
    let mut unit = units.next()?;
    while size != 0 && size % 1024 == 0 {
        let Some(next) = units.next() else { break };
        (size, unit) = (size / 1024, next);
    }
    (size > 0 && (size <= 1024 || unit == "PB")).then(|| format!("{size}{unit}"))
}

/// Huge page amounts of a list by the kernel's size name; sizes spelled in two ways are summed.
pub(crate) fn hugepages(list: &Amounts) -> BTreeMap<String, i64> {
    let mut sizes = BTreeMap::<String, i64>::new();
    for (name, amount) in list {
        if let Some(size) = hugepage_size(name) {
            let total = sizes.entry(size).or_default();
            *total = total.saturating_add(amount.value());
        }
    }
    sizes
}

/// A limit for each page size of the host, 0 unless asked for; a container's own limit goes before its pod's.
pub fn hugepage_limits(
    pod: &Pod,
    container: &v1::Container,
    sizes: &[String],
) -> Vec<HugepageLimit> {
    let mut asked = hugepages(&PodLevel::of(pod).limits);
    asked.extend(hugepages(&container_limits(container)));
    let limit = |size: &String| {
        asked
            .get(size)
            .and_then(|bytes| u64::try_from(*bytes).ok())
            .unwrap_or(0)
    };
    sizes
        .iter()
        .map(|size| HugepageLimit {
            page_size: size.clone(),
            limit: limit(size),
        })
        .collect()
}

/// What one scope may use: the common part of sandbox, overhead and container.
struct Need {
    /// `None` when no cpu request is written: the limit stands in.
    request_milli_cpu: Option<i64>,
    limit_milli_cpu: i64,
    limit_memory_bytes: i64,
}

fn linux_resources(need: &Need, node: &NodeView) -> LinuxContainerResources {
    let mut resources = LinuxContainerResources {
        cpu_shares: milli_cpu_to_shares(need.request_milli_cpu.unwrap_or(need.limit_milli_cpu)),
        memory_limit_in_bytes: need.limit_memory_bytes,
        ..Default::default()
    };
    if node.cgroups.cfs_quota {
        resources.cpu_period = node.cgroups.cfs_period_us;
        resources.cpu_quota = milli_cpu_to_quota(need.limit_milli_cpu, node.cgroups.cfs_period_us);
    }
    if node.cgroups.v2 && node.cgroups.oom_group {
        // One process too many ends the whole container, so that none is left half alive.
        resources
            .unified
            .insert("memory.oom.group".to_owned(), "1".to_owned());
    }
    resources
}

/// Resources of the pod's containers together, told to the runtime with the sandbox.
pub fn sandbox_resources(pod: &Pod, node: &NodeView) -> LinuxContainerResources {
    let requests = pod_requests(pod, Overhead::LeftOut);
    let limits = pod_limits(pod, Overhead::LeftOut);
    let need = Need {
        request_milli_cpu: requests.get("cpu").map(Quantity::milli_value),
        limit_milli_cpu: milli_cpu(&limits),
        limit_memory_bytes: memory_bytes(&limits),
    };
    linux_resources(&need, node)
}

/// `spec.overhead` as resources; empty without one.
pub fn sandbox_overhead(pod: &Pod, node: &NodeView) -> LinuxContainerResources {
    if pod.spec().overhead.is_none() {
        return LinuxContainerResources::default();
    }
    let overhead = amounts(pod.spec().overhead.as_ref());
    let cpu = milli_cpu(&overhead);
    let need = Need {
        request_milli_cpu: Some(cpu),
        limit_milli_cpu: cpu,
        limit_memory_bytes: memory_bytes(&overhead),
    };
    linux_resources(&need, node)
}

/// Whether the kernel accounts swap per cgroup: v1 has `memory.memsw.limit_in_bytes`, v2 `memory.swap.max`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SwapController {
    /// The file is there.
    Available,
    /// It is not.
    Missing,
}

/// Resources of one container, without swap (behaviour `NoSwap`).
pub fn container_resources(
    pod: &Pod,
    container: &v1::Container,
    node: &NodeView,
    swap: SwapController,
) -> LinuxContainerResources {
    let limits = container_limits(container);
    let pod_level = PodLevel::of(pod).limits;
    let or_pod = |own: i64, pods: i64| if own == 0 { pods } else { own };
    let need = Need {
        request_milli_cpu: container_requests(container)
            .get("cpu")
            .map(Quantity::milli_value),
        limit_milli_cpu: or_pod(milli_cpu(&limits), milli_cpu(&pod_level)),
        limit_memory_bytes: or_pod(memory_bytes(&limits), memory_bytes(&pod_level)),
    };
    let mut resources = linux_resources(&need, node);
    resources.oom_score_adj = oom_score_adj(pod, container, node.capacity_memory_bytes);
    resources.hugepage_limits = hugepage_limits(pod, container, &node.hugepage_sizes);
    if swap == SwapController::Available {
        if node.cgroups.v2 {
            resources
                .unified
                .insert("memory.swap.max".to_owned(), "0".to_owned());
        } else {
            // v1 counts memory and swap together: equal limits leave no swap.
            resources.memory_swap_limit_in_bytes = resources.memory_limit_in_bytes;
        }
    }
    resources
}

/// Whether every container (or the pod) has a non-zero limit, for cpu and for memory.
pub(crate) fn limits_declared(pod: &Pod) -> (BTreeSet<&'static str>, Amounts) {
    let mut declared = BTreeSet::from(["cpu", "memory"]);
    let is_zero = |list: &Amounts, name: &str| list.get(name).is_none_or(Quantity::is_zero);
    let limits = pod_limits_seeing(pod, Overhead::Counted, |own| {
        declared.retain(|name| !is_zero(own, name))
    });
    let pod_level = PodLevel::of(pod).limits;
    declared.extend(
        ["cpu", "memory"]
            .into_iter()
            .filter(|name| !is_zero(&pod_level, name)),
    );
    (declared, limits)
}
