//! The node as decisions need it: names, addresses, capacity, paths, cgroup layout.
//!
//! In:    configuration and the machine, read once at start
//! Out:   `NodeView`, passed to every plan by reference
//! Holds: nothing in it changes while the process runs, except the runtime's readiness, which is kept separately
//! Upstream: pkg/kubelet/kubelet.go (fields of Kubelet that hold values), pkg/kubelet/cm/container_manager_linux.go

use std::collections::{BTreeMap, BTreeSet};

/// The node as plans see it.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about the node"
)]
pub struct NodeView {
    /// Node name (`--hostname-override`, else the host's name, lower case).
    pub name: String,
    /// The host's own name, for pods on the host network.
    pub hostname: String,
    /// Addresses of the node, primary first.
    pub ips: Vec<String>,
    /// CPU capacity in millicores.
    pub capacity_milli_cpu: i64,
    /// Memory capacity in bytes.
    pub capacity_memory_bytes: i64,
    /// Allocatable by resource name, in base units (CPU: millicores), for defaults of the downward API.
    pub allocatable: BTreeMap<String, i64>,
    /// Huge page sizes of the host, as the CRI names them (`2MB`, `1GB`).
    pub hugepage_sizes: Vec<String>,
    /// Kubelet root directory.
    pub root_dir: String,
    /// Directory of pod logs.
    pub pod_logs_dir: String,
    /// Cgroup settings.
    pub cgroups: CgroupView,
    /// DNS settings.
    pub dns: DnsView,
    /// Whether `RuntimeDefault` applies to containers without a seccomp profile.
    pub seccomp_default: bool,
    /// Additional `maskedPaths` that exist only on some hosts (per-CPU thermal throttle).
    pub extra_masked_paths: Vec<String>,
    /// The maximum crash-loop back-off, in seconds.
    pub max_backoff_seconds: i64,
    /// The first back-off of a crashing container, in seconds.
    pub first_backoff_seconds: i64,
    /// Whether environment variables may come from files (`EnvFiles`); otherwise they are empty.
    pub env_files: bool,
    /// Whether SELinux is enabled on the host.
    pub selinux_enabled: bool,
    /// The runtime's name, such as `containerd`: the scheme of container IDs in statuses.
    pub runtime_name: String,
}

/// The features of the runtime and its handlers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeHandlers {
    /// The handlers that support recursive read-only mounts; the empty name is the runtime's default handler.
    pub recursive_read_only: BTreeSet<String>,
    /// Whether the runtime honours `supplementalGroupsPolicy: Strict`.
    pub strict_groups: bool,
}

/// The layout of the cgroup tree.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about the node"
)]
pub struct CgroupView {
    /// The parent of `kubepods`, `/` by default, in cgroupfs notation.
    pub root: String,
    /// Whether QoS cgroups are used (`cgroupsPerQOS`).
    pub per_qos: bool,
    /// Whether cgroup v2 rules apply (memory.oom.group, swap).
    pub v2: bool,
    /// Whether the kernel kills all processes of a container that runs out of memory, instead of one; cgroup v2 only.
    pub oom_group: bool,
    /// Whether swap can be limited per cgroup.
    pub has_swap: bool,
    /// Whether CPU limits become CFS quota.
    pub cfs_quota: bool,
    /// CFS period, microseconds.
    pub cfs_period_us: i64,
    /// The process limit of a pod; `None`: no limit.
    pub pod_pids_limit: Option<i64>,
}

/// Cluster DNS settings of the node.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct DnsView {
    /// `clusterDNS`.
    pub cluster_servers: Vec<String>,
    /// `clusterDomain`.
    pub cluster_domain: String,
    /// `--node-ip` as given, empty if not given: it determines the address families of the node's own resolver.
    pub given_node_ips: Vec<String>,
    /// The node's own resolver settings, read from `resolvConf`; `None` if that is set to empty.
    pub host: Option<HostResolver>,
}

/// The node's `resolv.conf`, parsed.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct HostResolver {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// The last `search` line.
    pub searches: Vec<String>,
    /// `options`.
    pub options: Vec<String>,
}
