//! The Node object: what the kubelet reports of its machine, and when a report is due.
//!
//! In:    the object as it is now (or one that is about to be created), `NodeStatusView`
//! Out:   the object as it should be, with the events that belong to what changed; whether that must be sent
//! Calls: act/node/node_status each 10 s, and at once on a change of readiness
//! Holds: what others wrote into the object stays (conditions, extended resources, addresses of a cloud provider); a condition's
//!        transition time changes only with its status; Ready is the last of the kubelet's conditions; a heartbeat alone is no
//!        change
//! Upstream: pkg/kubelet/nodestatus/setters.go, pkg/kubelet/kubelet_node_status.go (1.36)
//!
//! | Module | What |
//! |---|---|
//! | `conditions` | pressure and readiness |
//! | `patch` | what differs, as a strategic merge patch |
//! | `registration` | the first object, adoption of one that is there, the lease's and CSINode's first form |

mod conditions;
mod patch;
mod registration;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeDaemonEndpoints, NodeFeatures,
    NodeRuntimeHandler, NodeStatus, NodeSwapStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;
use kubelet_model::emptiness::plain;
use kubelet_model::event::EventType;
use kubelet_model::gates::{Gates, name};
use kubelet_model::quantity::{Format, Quantity};
use serde_json::json;

use crate::report::events::NodeEvent;

pub use patch::node_patch;
pub use registration::{Registration, adopted_node, csi_node, initial_lease, initial_node};

/// Names shown per image.
const NAMES_PER_IMAGE: usize = 5;
/// Where the addresses came from, for a cloud provider to check.
const PROVIDED_IP_ANNOTATION: &str = "alpha.kubernetes.io/provided-node-ip";

/// Who knows the node's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressAuthority {
    /// This kubelet.
    Kubelet,
    /// A cloud controller (`--cloud-provider=external`).
    Cloud,
}

/// Addresses as far as this machine knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressView {
    /// Who decides.
    pub authority: AddressAuthority,
    /// `--node-ip`, unless it is unspecified (`0.0.0.0`, `::`): one, or one of each family.
    pub given: Vec<String>,
    /// Found on the machine, the one to use first; empty when none was found.
    pub found: Vec<String>,
    /// Why none was found.
    pub problem: Option<String>,
    /// Host name, after the override.
    pub hostname: String,
}

/// The machine, its system and its runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemView {
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// Of the firmware.
    pub system_uuid: String,
    /// New at each boot.
    pub boot_id: String,
    /// `uname -r`.
    pub kernel_version: String,
    /// `PRETTY_NAME` of os-release.
    pub os_image: String,
    /// `amd64`.
    pub architecture: String,
    /// Bytes of swap; `None` when there is none.
    pub swap_bytes: Option<i64>,
    /// `v1.36.2`.
    pub kubelet_version: String,
    /// `containerd://1.7.0`; `None` while the runtime does not answer.
    pub runtime_version: Option<String>,
}

/// Resources of the node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResourceView {
    /// Capacity by resource name, `pods` included; empty when the machine could not be read.
    pub capacity: BTreeMap<String, Quantity>,
    /// What is kept back for the system, the kubelet and eviction.
    pub reserved: BTreeMap<String, Quantity>,
    /// Of device plugins: capacity and allocatable.
    pub devices: BTreeMap<String, (Quantity, Quantity)>,
    /// Of device plugins that went away: shown as 0.
    pub removed_devices: Vec<String>,
}

/// One image of the runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageView {
    /// Digests, then tags.
    pub names: Vec<String>,
    /// Bytes.
    pub size: i64,
}

/// What the runtime can do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuntimeFeatureView {
    /// Its handlers, in any order.
    pub handlers: Vec<NodeRuntimeHandler>,
    /// Whether it has the policy for supplemental groups; `None` when it does not say.
    pub supplemental_groups_policy: Option<bool>,
    /// Features that this kubelet declares, sorted.
    pub declared: Vec<String>,
}

/// The features that the Node declares, sorted. Of those of 1.36, the restart of all containers is built; the WebSocket protocols of the
/// API server, in-place resize of whole pods and of init containers, and user namespaces on the host's network are not.
///
/// Upstream: staging/src/k8s.io/component-helpers/nodedeclaredfeatures/features/registry.go (KEP-5328)
pub fn declared_features(gates: &Gates) -> Vec<String> {
    let built = [name::RESTART_ALL_CONTAINERS];
    let declared = built.into_iter().filter(|feature| {
        gates.is_enabled(name::NODE_DECLARED_FEATURES) && gates.is_enabled(feature)
    });
    declared.map(ToOwned::to_owned).collect()
}

/// Signals that are over their thresholds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "three conditions of one table, never combined"
)]
pub struct PressureView {
    /// Memory.
    pub memory: bool,
    /// Disk space or inodes.
    pub disk: bool,
    /// Process ids.
    pub pid: bool,
}

/// Everything that the status says.
#[derive(Clone, Debug)]
pub struct NodeStatusView<'a> {
    /// Addresses.
    pub addresses: &'a AddressView,
    /// Machine.
    pub system: &'a SystemView,
    /// Resources.
    pub resources: &'a ResourceView,
    /// Images; `None` when they could not be listed.
    pub images: Option<&'a [ImageView]>,
    /// Images shown; `None` is all.
    pub max_images: Option<usize>,
    /// The runtime's abilities.
    pub runtime: &'a RuntimeFeatureView,
    /// Port of the main listener.
    pub port: i32,
    /// Pressure.
    pub pressure: PressureView,
    /// Why the node is not ready, each in upstream's words; empty is ready.
    pub not_ready: &'a [String],
    /// Trouble of the container manager that does not make the node unready.
    pub warning: Option<&'a str>,
    /// Attached volumes in use, sorted; `None` when nobody attaches volumes for this node.
    pub volumes_in_use: Option<&'a [String]>,
    /// `spec.unschedulable` at the status before.
    pub was_unschedulable: bool,
    /// Now.
    pub now: Timestamp,
}

/// The object as it should be.
#[derive(Clone, Debug)]
pub struct NodeStatusPlan {
    /// The object.
    pub node: Node,
    /// To be sent with it.
    pub events: Vec<NodeEvent>,
    /// What could not be said, for the log.
    pub problems: Vec<String>,
}

/// Brings an object up to date. Other people's parts of it stay.
pub fn node_status(existing: &Node, view: &NodeStatusView<'_>) -> NodeStatusPlan {
    let mut plan = NodeStatusPlan {
        node: existing.clone(),
        events: Vec::new(),
        problems: Vec::new(),
    };
    let name = plan.node.metadata.name.clone().unwrap_or_default();
    addresses(&mut plan, view.addresses);
    resources(&mut plan, view.resources);
    system(&mut plan, view.system, &name);
    let status = plan.node.status.get_or_insert_default();
    status.daemon_endpoints = Some(NodeDaemonEndpoints {
        kubelet_endpoint: Some(DaemonEndpoint { port: view.port }),
    });
    status.images = images(view.images, view.max_images);
    runtime_features(status, view.runtime);
    plan.events.extend(conditions::set(status, view, &name));
    if let Some(volumes) = view.volumes_in_use {
        status.volumes_in_use = Some(volumes.to_vec()).filter(|volumes| !volumes.is_empty());
    }
    if view.images.is_none() {
        plan.problems.push("images could not be listed".to_owned());
    }
    plan.events
        .extend(schedulable_event(&plan.node, view, &name));
    plan
}

fn node_event(reason: &'static str, name: &str) -> NodeEvent {
    NodeEvent {
        type_: EventType::Normal,
        reason,
        message: format!("Node {name} status is now: {reason}"),
    }
}

fn schedulable_event(node: &Node, view: &NodeStatusView<'_>, name: &str) -> Option<NodeEvent> {
    let is = node
        .spec
        .as_ref()
        .and_then(|spec| spec.unschedulable)
        .unwrap_or(false);
    match (view.was_unschedulable, is) {
        (false, true) => Some(node_event("NodeNotSchedulable", name)),
        (true, false) => Some(node_event("NodeSchedulable", name)),
        (true, true) | (false, false) => None,
    }
}

fn addresses(plan: &mut NodeStatusPlan, view: &AddressView) {
    let is_cloud = view.authority == AddressAuthority::Cloud;
    let annotations = &mut plan.node.metadata.annotations;
    if is_cloud && !view.given.is_empty() {
        let both = view.given.join(",");
        let annotations = annotations.get_or_insert_default();
        annotations.insert(PROVIDED_IP_ANNOTATION.to_owned(), both);
    } else if let Some(annotations) = annotations {
        annotations.remove(PROVIDED_IP_ANNOTATION);
    }
    let status = plan.node.status.get_or_insert_default();
    let has_some = status.addresses.as_ref().is_some_and(|all| !all.is_empty());
    // A cloud provider's own addresses take precedence; until it has spoken, given ones help it to start.
    if is_cloud && has_some {
        return;
    }
    let internal: &[String] = match (view.given.as_slice(), is_cloud) {
        ([], true) => &[],
        ([], false) => view.found.get(..1).unwrap_or_default(),
        (given, true | false) => given,
    };
    if internal.is_empty() && !is_cloud {
        let name = plan.node.metadata.name.as_deref().unwrap_or_default();
        let why = view.problem.as_deref().unwrap_or("<nil>");
        let problem = format!("can't get ip address of node {name}. error: {why}");
        plan.problems.push(problem);
        return;
    }
    let address = |type_: &str, address: &str| NodeAddress {
        type_: type_.to_owned(),
        address: address.to_owned(),
    };
    let internal = internal.iter().map(|ip| address("InternalIP", ip));
    let all = internal.chain([address("Hostname", &view.hostname)]);
    status.addresses = Some(all.collect());
}

fn resources(plan: &mut NodeStatusPlan, view: &ResourceView) {
    let status = plan.node.status.get_or_insert_default();
    let capacity = status.capacity.get_or_insert_default();
    if view.capacity.is_empty() {
        plan.problems
            .push("the machine could not be read".to_owned());
        for name in ["cpu", "memory"] {
            capacity.insert(name.to_owned(), WireQuantity("0".to_owned()));
        }
    }
    for (name, amount) in &view.capacity {
        capacity.insert(name.clone(), wire(amount));
    }
    for (name, (amount, _)) in &view.devices {
        capacity.insert(name.clone(), wire(amount));
    }
    for name in &view.removed_devices {
        capacity.insert(name.clone(), WireQuantity("0".to_owned()));
    }
    let capacity = capacity.clone();
    let allocatable = status.allocatable.get_or_insert_default();
    allocatable.retain(|name, _| capacity.contains_key(name) || !is_extended(name));
    let nothing = Quantity::default();
    for (name, amount) in &capacity {
        let amount: Quantity = amount.0.parse().unwrap_or_default();
        let left = amount.minus(view.reserved.get(name).unwrap_or(&nothing));
        allocatable.insert(name.clone(), wire(&positive(left)));
    }
    for (name, (_, amount)) in &view.devices {
        allocatable.insert(name.clone(), wire(amount));
    }
    // Huge pages are taken from memory.
    let pages = capacity
        .iter()
        .filter(|(name, _)| name.starts_with("hugepages-"));
    for (_, amount) in pages {
        if let Some(memory) = allocatable.get_mut("memory") {
            let amount: Quantity = amount.0.parse().unwrap_or_default();
            let had: Quantity = memory.0.parse().unwrap_or_default();
            *memory = wire(&positive(had.minus(&amount)));
        }
    }
}

fn positive(amount: Quantity) -> Quantity {
    if amount.nanos() < 0 {
        return Quantity::from_units(0, Format::DecimalSi);
    }
    amount
}

fn wire(amount: &Quantity) -> WireQuantity {
    WireQuantity(amount.to_string())
}

/// Resources that are not the kubelet's own: `example.com/dongle`.
pub(crate) fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

fn system(plan: &mut NodeStatusPlan, view: &SystemView, name: &str) {
    let status = plan.node.status.get_or_insert_default();
    let before = status.node_info.as_ref().map(|info| info.boot_id.clone());
    if before.is_some_and(|before| !before.is_empty() && before != view.boot_id) {
        plan.events.push(NodeEvent {
            type_: EventType::Warning,
            reason: "Rebooted",
            message: format!("Node {name} has been rebooted, boot id: {}", view.boot_id),
        });
    }
    let runtime = view
        .runtime_version
        .as_deref()
        .unwrap_or("unknown://Unknown");
    status.node_info = Some(NodeSystemInfo {
        architecture: view.architecture.clone(),
        boot_id: view.boot_id.clone(),
        container_runtime_version: runtime.to_owned(),
        kernel_version: view.kernel_version.clone(),
        // Cleared on purpose: a kubelet does not know it.
        kube_proxy_version: String::new(),
        kubelet_version: view.kubelet_version.clone(),
        machine_id: view.machine_id.clone(),
        operating_system: "linux".to_owned(),
        os_image: view.os_image.clone(),
        swap: view.swap_bytes.map(|bytes| NodeSwapStatus {
            capacity: Some(bytes),
        }),
        system_uuid: view.system_uuid.clone(),
    });
}

/// The biggest first, a few names each; names say which comes first of equal sizes, so that the list does not flicker.
fn images(images: Option<&[ImageView]>, most: Option<usize>) -> Option<Vec<ContainerImage>> {
    let mut sorted: Vec<&ImageView> = images?.iter().collect();
    sorted.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.names.cmp(&b.names)));
    let shown = sorted.into_iter().take(most.unwrap_or(usize::MAX));
    let shown = shown.map(|image| ContainerImage {
        names: Some(image.names.iter().take(NAMES_PER_IMAGE).cloned().collect()),
        size_bytes: Some(image.size),
    });
    let shown: Vec<ContainerImage> = shown.collect();
    Some(shown).filter(|shown| !shown.is_empty())
}

fn runtime_features(status: &mut NodeStatus, view: &RuntimeFeatureView) {
    let mut handlers = view.handlers.clone();
    handlers.sort_by(|a, b| a.name.cmp(&b.name));
    status.runtime_handlers = Some(handlers).filter(|handlers| !handlers.is_empty());
    status.features = view.supplemental_groups_policy.map(|has| NodeFeatures {
        supplemental_groups_policy: Some(has),
    });
    let declared = Some(view.declared.clone());
    status.declared_features = declared.filter(|declared| !declared.is_empty());
}

/// When a status was sent last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReportTimes {
    /// Since the last one; `None` before the first.
    pub since_last: Option<Duration>,
    /// `nodeStatusReportFrequency`.
    pub frequency: Duration,
    /// Random part, -50 % to +50 % of the frequency, chosen anew when something changed: keeps nodes that changed together apart.
    pub fraction: f64,
}

/// Whether a status must be sent: when something but the heartbeats differs, or the last one is old.
pub fn must_report(existing: &Node, wanted: &Node, times: &ReportTimes) -> bool {
    if is_different(existing, wanted) {
        return true;
    }
    let due = times.frequency.mul_f64((1.0 + times.fraction).max(0.0));
    times.since_last.is_none_or(|since| since >= due)
}

/// Whether two objects differ in more than heartbeats.
pub fn is_different(existing: &Node, wanted: &Node) -> bool {
    let meta = |node: &Node| {
        let metadata = node.metadata.clone();
        (
            metadata.labels.unwrap_or_default(),
            metadata.annotations.unwrap_or_default(),
        )
    };
    let status = |node: &Node| {
        let mut status = node.status.clone().unwrap_or_default();
        let conditions = status.conditions.get_or_insert_default();
        conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        for condition in conditions {
            condition.last_heartbeat_time = None;
        }
        status
    };
    if meta(existing) != meta(wanted) {
        return true;
    }
    let (existing, wanted) = (status(existing), status(wanted));
    existing != wanted && plain(json!(existing)) != plain(json!(wanted))
}
