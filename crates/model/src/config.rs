//! The settings that the node agent runs with, cut into one struct per component.
//!
//! In:    a defaulted and validated `KubeletConfiguration`, the pure flags, the gates
//! Out:   `Config`; `Option` only where absence means something
//! Calls: decide/config/effective.rs makes it, the wiring hands each component its own part by value
//! Holds: nobody but the wiring holds the whole; paths are as given (absolute or relative to the working directory)
//! Upstream: cmd/kubelet/app/options/options.go (KubeletFlags), pkg/kubelet/apis/config/types.go

use crate::duration::GoDuration;
use crate::gates::Gates;
use crate::quantity::Quantity;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Go's `strconv.ParseBool`; `None` is no truth value.
pub fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Settings that exist only as flags, never in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flags {
    /// Configuration file; empty is none.
    pub config: String,
    /// Directory of drop-ins; empty is none.
    pub config_dir: String,
    /// How to reach the API server; empty is standalone.
    pub kubeconfig: String,
    /// How to ask for the first client certificate.
    pub bootstrap_kubeconfig: String,
    /// The node's name instead of the host's.
    pub hostname_override: String,
    /// One address, or two of both families with a comma between.
    pub node_ip: String,
    /// Directory of certificates.
    pub cert_dir: String,
    /// `external` or empty.
    pub cloud_provider: String,
    /// Directory of everything that the node agent keeps.
    pub root_dir: String,
    /// The same as the configuration's field of that name; either is enough.
    pub seccomp_default: bool,
    /// Labels of the node when it registers.
    pub node_labels: BTreeMap<String, String>,
    /// File that is locked while running; empty is none.
    pub lock_file: String,
    /// Whether to end when somebody else wants the lock.
    pub exit_on_lock_contention: bool,
    /// A dead container younger than this stays.
    pub minimum_container_ttl: GoDuration,
    /// Dead containers kept per container name.
    pub maximum_dead_containers_per_container: i32,
    /// Dead containers kept on the node; negative is no limit.
    pub maximum_dead_containers: i32,
    /// Program that mounts instead of the system's.
    pub experimental_mounter_path: String,
    /// Whether hard eviction thresholds do not count into allocatable.
    pub experimental_allocatable_ignore_eviction: bool,
    /// Cgroup of the container runtime.
    pub runtime_cgroups: String,
    /// Configuration of credential plugins.
    pub image_credential_provider_config: String,
    /// Directory of credential plugins.
    pub image_credential_provider_bin_dir: String,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            config: String::new(),
            config_dir: String::new(),
            kubeconfig: String::new(),
            bootstrap_kubeconfig: String::new(),
            hostname_override: String::new(),
            node_ip: String::new(),
            cert_dir: "/var/lib/kubelet/pki".to_owned(),
            cloud_provider: String::new(),
            root_dir: "/var/lib/kubelet".to_owned(),
            seccomp_default: false,
            node_labels: BTreeMap::new(),
            lock_file: String::new(),
            exit_on_lock_contention: false,
            minimum_container_ttl: GoDuration::ZERO,
            maximum_dead_containers_per_container: 1,
            maximum_dead_containers: -1,
            experimental_mounter_path: String::new(),
            experimental_allocatable_ignore_eviction: false,
            runtime_cgroups: String::new(),
            image_credential_provider_config: String::new(),
            image_credential_provider_bin_dir: String::new(),
        }
    }
}

/// Everything, one part for each component.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Directories.
    pub paths: PathsConfig,
    /// The HTTP servers.
    pub server: ServerConfig,
    /// Who may call them.
    pub auth: AuthConfig,
    /// Where pods come from.
    pub sources: SourcesConfig,
    /// The container runtime.
    pub runtime: RuntimeConfig,
    /// Pulling and collecting images.
    pub images: ImagesConfig,
    /// How often things happen.
    pub loops: LoopsConfig,
    /// The cgroup tree.
    pub cgroups: CgroupsConfig,
    /// What is kept for whom.
    pub resources: ResourcesConfig,
    /// CPU, memory and topology policies.
    pub placement: PlacementConfig,
    /// Pressure.
    pub eviction: EvictionConfig,
    /// Dead containers and pods.
    pub garbage: GarbageConfig,
    /// Rotation of containers' logs.
    pub container_logs: ContainerLogsConfig,
    /// Names inside pods.
    pub dns: DnsConfig,
    /// The node as the cluster sees it.
    pub node: NodeConfig,
    /// The API server.
    pub cluster: ClusterConfig,
    /// When the machine goes down.
    pub shutdown: ShutdownConfig,
    /// Logs of this process.
    pub logging: LoggingConfig,
    /// Features.
    pub gates: Gates,
}

/// Directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathsConfig {
    /// Everything that the node agent keeps.
    pub root_dir: PathBuf,
    /// Certificates.
    pub cert_dir: PathBuf,
    /// Containers' logs.
    pub pod_logs_dir: PathBuf,
    /// Exec volume plugins.
    pub volume_plugin_dir: PathBuf,
    /// Locked while running.
    pub lock_file: Option<PathBuf>,
    /// Whether to end when somebody else wants the lock.
    pub exit_on_lock_contention: bool,
}

/// The HTTP servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Whether the HTTPS and the read-only server run.
    pub enabled: bool,
    /// Where both listen.
    pub address: IpAddr,
    /// Port of the HTTPS server.
    pub port: u16,
    /// Port of the server without authentication.
    pub read_only_port: Option<u16>,
    /// Where the health server listens.
    pub healthz: Option<std::net::SocketAddr>,
    /// Certificate and what clients may negotiate.
    pub tls: TlsConfig,
    /// Logs, exec, attach, port-forward.
    pub debugging_handlers: bool,
    /// `/logs/`.
    pub system_log_handler: bool,
    /// `/logs/?query=`.
    pub system_log_query: bool,
    /// `/debug/pprof/`.
    pub profiling_handler: bool,
    /// `/debug/flags/v`.
    pub debug_flags_handler: bool,
    /// When an idle stream is closed; zero is never.
    pub streaming_idle_timeout: Duration,
}

/// Certificate of the HTTPS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificate and key; without them a self-signed pair is made.
    pub files: Option<(PathBuf, PathBuf)>,
    /// Whether the certificate comes from the cluster instead.
    pub from_cluster: bool,
    /// Go names; empty is the default set.
    pub cipher_suites: Vec<String>,
    /// TLS numbers of key exchanges; empty is the default set.
    pub curve_preferences: Vec<i32>,
    /// Go name; empty is the default.
    pub min_version: String,
}

/// Who may call the HTTPS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    /// Whether callers without credentials are let in as `system:anonymous`.
    pub anonymous: bool,
    /// How long a token review is remembered; `None` is no token authentication.
    pub webhook_cache: Option<Duration>,
    /// Authorities of client certificates.
    pub client_ca_file: Option<PathBuf>,
    /// What a known caller may do.
    pub authorization: Authorization,
}

/// What a known caller may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// Everything.
    AlwaysAllow,
    /// What the API server says.
    Webhook {
        /// How long a yes is remembered.
        authorized: Duration,
        /// How long a no is remembered.
        unauthorized: Duration,
    },
    /// A mode that does not exist; nothing is served.
    Unknown(String),
}

/// Where pods come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcesConfig {
    /// Directory of manifests, or one manifest.
    pub static_pod_path: Option<PathBuf>,
    /// How often it is listed again.
    pub file_check_frequency: Duration,
    /// Manifest URL.
    pub static_pod_url: Option<String>,
    /// Headers for it, in order; may hold secrets.
    pub static_pod_url_header: BTreeMap<String, Vec<String>>,
    /// How often it is asked.
    pub http_check_frequency: Duration,
}

/// The container runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// Runtime socket as a URL.
    pub endpoint: String,
    /// Image service socket as a URL.
    pub image_endpoint: String,
    /// Deadline of a call that is not a pull, log, exec or attach.
    pub request_timeout: Duration,
    /// `promiscuous-bridge`, `hairpin-veth` or `none`.
    pub hairpin_mode: String,
    /// Whether pods get the runtime's seccomp profile unless they say otherwise.
    pub seccomp_default: bool,
    /// Range of pod addresses in standalone mode.
    pub pod_cidr: Option<String>,
    /// Unsafe sysctls that pods may set.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Longest restart back-off.
    pub max_container_restart_period: Option<Duration>,
    /// Ids that each pod with a user namespace gets.
    pub user_namespace_ids: Option<u32>,
}

/// Pulling and collecting images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagesConfig {
    /// Whether images are pulled one at a time.
    pub serialize_pulls: bool,
    /// Pulls at once when not serial; `None` is no limit.
    pub max_parallel_pulls: Option<u32>,
    /// Pulls a second; `None` is no limit.
    pub pull_rate: Option<u32>,
    /// Pulls in a burst above the rate.
    pub pull_burst: u32,
    /// When a present image still needs the pod's own credentials.
    pub credentials_policy: String,
    /// Image patterns that need none.
    pub credentials_allowlist: Vec<String>,
    /// Configuration of credential plugins.
    pub credential_provider_config: Option<PathBuf>,
    /// Directory of credential plugins.
    pub credential_provider_bin_dir: Option<PathBuf>,
    /// An unused image younger than this stays.
    pub minimum_age: Duration,
    /// An unused image older than this goes.
    pub maximum_age: Option<Duration>,
    /// Disk use that starts collection.
    pub high_threshold_percent: u8,
    /// Disk use that ends it.
    pub low_threshold_percent: u8,
}

/// How often things happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoopsConfig {
    /// Longest time between two syncs of a pod.
    pub sync_frequency: Duration,
    /// How often the node's status is computed.
    pub node_status_update_frequency: Duration,
    /// How often an unchanged status is posted.
    pub node_status_report_frequency: Duration,
    /// How long the lease lasts.
    pub node_lease_duration: Duration,
    /// How often volumes are measured; `None` is never.
    pub volume_stats_period: Option<Duration>,
    /// How often CPU sets are applied again.
    pub cpu_manager_reconcile_period: Duration,
}

/// Who makes cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupDriver {
    /// This process, by writing files.
    Cgroupfs,
    /// systemd.
    Systemd,
}

/// The cgroup tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupsConfig {
    /// Cgroup above the pods' tree; empty is the top.
    pub root: String,
    /// Whether the QoS tree is made.
    pub per_qos: bool,
    /// Who makes it, unless the runtime says.
    pub driver: CgroupDriver,
    /// Cgroup of this process.
    pub kubelet: Option<String>,
    /// Cgroup for processes that have none.
    pub system: Option<String>,
    /// Cgroup of the container runtime.
    pub runtime: Option<String>,
    /// Whether CPU limits are enforced.
    pub cpu_quota: bool,
    /// Period of that quota.
    pub cpu_quota_period: Duration,
    /// OOM score adjustment of this process.
    pub oom_score_adj: i32,
    /// Open file limit of this process.
    pub max_open_files: u64,
    /// Whether swap on the node is an error.
    pub fail_on_swap: bool,
    /// `NoSwap`, `LimitedSwap` or empty.
    pub swap_behavior: String,
    /// Whether an OOM kill ends one process rather than the container; `None` is by the cgroup version.
    pub single_process_oom_kill: Option<bool>,
    /// Share of the limit at which memory is throttled.
    pub memory_throttling_factor: OrderedShare,
    /// `None` or `TieredReservation`.
    pub memory_reservation_policy: String,
    /// Whether kernel settings that differ are an error.
    pub protect_kernel_defaults: bool,
}

/// A share between 0 and 1 in millionths, so that it can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrderedShare(pub u32);

impl OrderedShare {
    /// From a fraction.
    pub fn from_fraction(fraction: f64) -> Self {
        Self((fraction.clamp(0.0, 1.0) * 1e6).round() as u32)
    }

    /// As a fraction.
    pub fn as_fraction(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

/// What is kept for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourcesConfig {
    /// Pods at once.
    pub max_pods: u32,
    /// Pods for each core; `None` is no limit.
    pub pods_per_core: Option<u32>,
    /// Processes a pod may have; `None` is the node's share.
    pub pod_pids_limit: Option<u64>,
    /// Kept for the system.
    pub system_reserved: BTreeMap<String, Quantity>,
    /// Kept for Kubernetes' own processes.
    pub kube_reserved: BTreeMap<String, Quantity>,
    /// CPU list kept for both.
    pub reserved_system_cpus: Option<String>,
    /// Cgroup of the system's processes.
    pub system_reserved_cgroup: Option<String>,
    /// Cgroup of Kubernetes' own processes.
    pub kube_reserved_cgroup: Option<String>,
    /// Where the reservation is enforced: `pods`, `system-reserved`, …; empty is nowhere.
    pub enforce: BTreeSet<String>,
    /// Percent of a resource kept for higher QoS classes.
    pub qos_reserved: BTreeMap<String, u8>,
    /// Whether local storage is counted and limited.
    pub local_storage_isolation: bool,
    /// Whether hard eviction thresholds do not count into allocatable.
    pub ignore_eviction_in_allocatable: bool,
}

/// CPU, memory and topology policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementConfig {
    /// `none` or `static`.
    pub cpu_policy: String,
    /// Its options.
    pub cpu_policy_options: BTreeMap<String, String>,
    /// `None` or `Static`.
    pub memory_policy: String,
    /// Memory kept free: NUMA node to resource to amount.
    pub reserved_memory: BTreeMap<i32, BTreeMap<String, Quantity>>,
    /// `none`, `best-effort`, `restricted` or `single-numa-node`.
    pub topology_policy: String,
    /// `container` or `pod`.
    pub topology_scope: String,
    /// Options of the topology policy.
    pub topology_policy_options: BTreeMap<String, String>,
}

/// Pressure. Thresholds are signal to text, as in the file; who evicts parses them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvictionConfig {
    /// At once.
    pub hard: BTreeMap<String, String>,
    /// After a grace.
    pub soft: BTreeMap<String, String>,
    /// That grace.
    pub soft_grace_period: BTreeMap<String, String>,
    /// Least amount that an eviction must free.
    pub minimum_reclaim: BTreeMap<String, String>,
    /// How long a condition stays after its signal.
    pub pressure_transition_period: Duration,
    /// Seconds that a pod gets on a soft threshold; negative is the pod's own.
    pub max_pod_grace_period: i32,
    /// Whether the kernel wakes eviction.
    pub kernel_notification: bool,
}

/// Dead containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GarbageConfig {
    /// A dead container younger than this stays.
    pub minimum_age: Duration,
    /// Dead containers kept per container name.
    pub max_per_container: usize,
    /// Dead containers kept on the node; `None` is no limit.
    pub max_containers: Option<usize>,
}

/// Rotation of containers' logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerLogsConfig {
    /// Bytes at which a log is rotated; `None` is never.
    pub max_size: Option<u64>,
    /// Files kept for each container.
    pub max_files: u32,
    /// Rotations at once.
    pub max_workers: u32,
    /// How often sizes are looked at.
    pub monitor_interval: Duration,
}

/// Names inside pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// DNS servers of the cluster.
    pub cluster_dns: Vec<IpAddr>,
    /// DNS domain of the cluster; empty is none.
    pub cluster_domain: String,
    /// Resolver file that pods' settings start from; `None` is empty settings.
    pub resolv_conf: Option<PathBuf>,
}

/// The node as the cluster sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// The node's name instead of the host's.
    pub hostname_override: Option<String>,
    /// Addresses as given: one, or two with a comma between.
    pub node_ip: Option<String>,
    /// Labels when it registers.
    pub labels: BTreeMap<String, String>,
    /// Taints when it registers.
    pub taints: Vec<NodeTaint>,
    /// Whether it registers itself.
    pub register: bool,
    /// Its name with the cloud provider.
    pub provider_id: Option<String>,
    /// `external` or nothing.
    pub cloud_provider: Option<String>,
    /// Images shown in the status; `None` is all.
    pub status_max_images: Option<usize>,
    /// Whether the cluster attaches volumes.
    pub attach_detach_by_cluster: bool,
    /// Whether iptables utility chains are made.
    pub make_iptables_util_chains: bool,
}

/// A taint when the node registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTaint {
    /// Its key.
    pub key: String,
    /// Its value, may be empty.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// The API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// How to reach it; `None` is standalone.
    pub kubeconfig: Option<PathBuf>,
    /// How to ask for the first client certificate.
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// Whether the client certificate is renewed.
    pub rotate_certificates: bool,
    /// Encoding.
    pub content_type: String,
    /// Requests a second.
    pub qps: u32,
    /// Requests in a burst above the rate.
    pub burst: u32,
    /// Events a second.
    pub event_qps: u32,
    /// Events in a burst above the rate.
    pub event_burst: u32,
    /// `Get`, `Cache` or `Watch`.
    pub change_detection: String,
}

/// When the machine goes down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownConfig {
    /// Time for all pods.
    pub grace_period: Duration,
    /// Part of it for critical pods.
    pub grace_period_critical_pods: Duration,
    /// Seconds by lowest priority.
    pub by_priority: Vec<(i32, i64)>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// klog's text.
    Text,
    /// One JSON object a line.
    Json,
}

/// Logs of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggingConfig {
    /// How lines look.
    pub format: LogFormat,
    /// Whether errors go to stderr and all else to stdout; otherwise all goes to stderr.
    pub split_stream: bool,
    /// Bytes of what goes to stdout that may wait; 0 writes each line at once, as stderr always is.
    pub info_buffer: usize,
    /// Longest time that a line stays in the buffer.
    pub flush_frequency: Duration,
    /// Level up to which information is written.
    pub verbosity: u32,
    /// File pattern to level, first match wins.
    pub vmodule: Vec<(String, u32)>,
}
