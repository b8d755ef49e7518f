//! The part of the Node object that does not change while the process runs.
//!
//! In:    the configuration, the machine, the node as plans need it; `/etc/os-release`, `/proc/sys/kernel/osrelease`
//! Out:   addresses, system, resources, the first form of the Node object
//! Calls: wiring, where a cluster was joined
//! Holds: the amounts are those that pods are planned with
//! Upstream: pkg/kubelet/nodestatus/setters.go (NodeAddress, MachineInfo, VersionInfo), cadvisor machine (OSVersion)

use k8s_openapi::api::core::v1::Node;
use kubelet_decide::node::node_status::{
    AddressAuthority, AddressView, Registration, ResourceView, SystemView, initial_node,
};
use kubelet_host::HostRoot;
use kubelet_host::files::read_text_bounded;
use kubelet_host::machine::Machine;
use kubelet_model::config::Config;
use kubelet_model::node::NodeView;
use kubelet_model::quantity::{Format, Quantity};

use super::{capacity, disk_capacity};

/// The facts of one node.
#[derive(Clone, Debug)]
pub struct ClusterFacts {
    /// Where it can be reached.
    pub addresses: AddressView,
    /// What it is.
    pub system: SystemView,
    /// What it has.
    pub resources: ResourceView,
    /// The object to create, still without a status.
    pub initial: Node,
}

/// Collects them. Blocking.
pub fn cluster_facts(
    config: &Config,
    machine: &Machine,
    root: &HostRoot,
    node: &NodeView,
    versions: (&str, &str),
) -> ClusterFacts {
    let authority = match config.node.cloud_provider.as_deref() {
        Some("external") => AddressAuthority::Cloud,
        Some(_) | None => AddressAuthority::Kubelet,
    };
    let hostname = config.node.hostname_override.as_deref();
    let hostname =
        hostname.map_or_else(|| node.hostname.clone(), |name| name.trim().to_lowercase());
    let architecture = architecture();
    let initial = initial_node(&Registration {
        name: &node.name,
        hostname: &hostname,
        architecture,
        labels: &config.node.labels,
        taints: &config.node.taints,
        provider_id: config.node.provider_id.as_deref(),
        authority,
        attach_detach_by_cluster: config.node.attach_detach_by_cluster,
    });
    let given = config.node.node_ip.as_deref().unwrap_or_default();
    let given = given.split(',').map(str::trim);
    let is_said = |ip: &&str| !matches!(*ip, "" | "0.0.0.0" | "::");
    ClusterFacts {
        addresses: AddressView {
            authority,
            given: given.filter(is_said).map(str::to_owned).collect(),
            found: node.ips.clone(),
            problem: node
                .ips
                .is_empty()
                .then(|| "no address was found".to_owned()),
            hostname,
        },
        system: SystemView {
            machine_id: machine.machine_id.clone(),
            system_uuid: machine.system_uuid.clone(),
            boot_id: machine.boot_id.clone(),
            kernel_version: line_of(root, "/proc/sys/kernel/osrelease"),
            os_image: os_image(root),
            architecture: architecture.to_owned(),
            swap_bytes: i64::try_from(machine.swap_capacity).ok().filter(|b| *b > 0),
            kubelet_version: versions.0.to_owned(),
            runtime_version: Some(versions.1.to_owned()),
        },
        resources: resources(config, machine, root),
        initial,
    }
}

fn resources(config: &Config, machine: &Machine, root: &HostRoot) -> ResourceView {
    // What could not be measured was said when the node's facts were collected.
    let mut said = Vec::new();
    let disk = config
        .resources
        .local_storage_isolation
        .then(|| disk_capacity(root, &config.paths.root_dir, &mut said))
        .flatten();
    let amounts = capacity::Amounts::of(config, machine, disk);
    let mut capacity = amounts.capacity;
    let pods = Quantity::from_units(amounts.pods, Format::DecimalSi);
    capacity.insert("pods".to_owned(), pods);
    ResourceView {
        capacity,
        reserved: amounts.reserved,
        ..ResourceView::default()
    }
}

/// As Go calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn line_of(root: &HostRoot, path: &str) -> String {
    let text = read_text_bounded(&root.join(path), 4096).unwrap_or_default();
    text.trim().to_owned()
}

/// `PRETTY_NAME` of the system, `Linux` when it does not say.
fn os_image(root: &HostRoot) -> String {
    let files = ["/etc/os-release", "/usr/lib/os-release"];
    let texts = files
        .iter()
        .filter_map(|path| read_text_bounded(&root.join(path), 1 << 16).ok());
    let name = texts.into_iter().find_map(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
        Some(line.trim().trim_matches(['"', '\'']).to_owned())
    });
    name.unwrap_or_else(|| "Linux".to_owned())
}
