//! The node as decisions need it: names, addresses, capacity, paths, cgroup layout.
//!
//! In:    configuration and the machine, read once at start
//! Out:   `NodeView`, handed to every plan by reference
//! Holds: nothing in it changes while the process runs, except the runtime's readiness, which is told apart
//! Upstream: pkg/kubelet/kubelet.go (fields of Kubelet that hold values), pkg/kubelet/cm/container_manager_linux.go

use std::collections::{BTreeMap, BTreeSet};

/// What plans need to know of the node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeView {
    /// Node name (`--hostname-override`, else the host's name, lower case).
    pub name: String,
    /// The host's own name, for pods on its network.
    pub hostname: String,
    /// Addresses of the node, primary first.
    pub ips: Vec<String>,
    /// Processors, thousandths.
    pub capacity_milli_cpu: i64,
    /// Memory, bytes.
    pub capacity_memory_bytes: i64,
    /// Allocatable by resource name, base units (cpu: thousandths), for downward API defaults.
    pub allocatable: BTreeMap<String, i64>,
    /// Sizes of huge pages on the host, as the CRI names them (`2MB`, `1GB`).
    pub hugepage_sizes: Vec<String>,
    /// Kubelet root directory.
    pub root_dir: String,
    /// Directory of pod logs.
    pub pod_logs_dir: String,
    /// Cgroup settings.
    pub cgroups: CgroupView,
    /// DNS settings.
    pub dns: DnsView,
    /// Whether `RuntimeDefault` is used where no seccomp profile is said.
    pub seccomp_default: bool,
    /// Lists of `maskedPaths` entries that exist only on some hosts (per-CPU thermal throttle).
    pub extra_masked_paths: Vec<String>,
    /// Most a crash-loop back-off grows to, seconds.
    pub max_backoff_seconds: i64,
    /// First gap between two starts of a container that crashes, seconds.
    pub first_backoff_seconds: i64,
    /// Whether variables may come from files (`EnvFiles`); else they are empty.
    pub env_files: bool,
    /// Whether SELinux is enabled on the host.
    pub selinux_enabled: bool,
    /// What the runtime calls itself, such as `containerd`: the scheme of container ids in statuses.
    pub runtime_name: String,
}

/// What the runtime says of its handlers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeHandlers {
    /// Names of those that can make mounts read-only with all below them; the empty name is the runtime's own choice.
    pub recursive_read_only: BTreeSet<String>,
}

/// How the cgroup tree is laid out.
#[derive(Clone, Debug, PartialEq)]
pub struct CgroupView {
    /// Root below which `kubepods` lies, `/` by default, cgroupfs style.
    pub root: String,
    /// Whether QoS tiers are used (`cgroupsPerQOS`).
    pub per_qos: bool,
    /// cgroup v2 rules (memory.oom.group, swap) apply.
    pub v2: bool,
    /// Whether the kernel ends all of a container that runs out of memory, not one process; with cgroup v2 alone.
    pub oom_group: bool,
    /// Whether swap can be limited per cgroup.
    pub has_swap: bool,
    /// Whether cpu limits become CFS quota.
    pub cfs_quota: bool,
    /// CFS period, microseconds.
    pub cfs_period_us: i64,
    /// Most processes in a pod; `None` is no limit.
    pub pod_pids_limit: Option<i64>,
}

/// Cluster DNS settings of the node.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct DnsView {
    /// `clusterDNS`.
    pub cluster_servers: Vec<String>,
    /// `clusterDomain`.
    pub cluster_domain: String,
    /// `--node-ip` as it was said, empty when it was not: which families the node's own resolver has.
    pub given_node_ips: Vec<String>,
    /// The node's own resolver settings, read from `resolvConf`; `None` when that is set to nothing.
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
