//! The kubelet's settings, one struct per component.
//!
//! In:    a defaulted and validated `KubeletConfiguration`, the flags without a field, the feature gates
//! Out:   `Config`; `Option` only if absence has a meaning
//! Calls: decide/config/effective.rs creates it; the wiring passes each component its own part by value
//! Holds: only the wiring has the whole; paths are as given (absolute, or relative to the working directory)
//! Upstream: cmd/kubelet/app/options/options.go (KubeletFlags), pkg/kubelet/apis/config/types.go

use crate::duration::GoDuration;
use crate::gates::Gates;
use crate::quantity::Quantity;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Go's `strconv.ParseBool`; `None` if the text is not a boolean.
pub fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Settings that exist only as flags, not in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of upstream's own"
)]
pub struct Flags {
    /// Configuration file; empty: none.
    pub config: String,
    /// Drop-in directory; empty: none.
    pub config_dir: String,
    /// Kubeconfig for the API server; empty: standalone.
    pub kubeconfig: String,
    /// Kubeconfig for requesting the first client certificate.
    pub bootstrap_kubeconfig: String,
    /// Overrides the host name as the node's name.
    pub hostname_override: String,
    /// One address, or one of each family, separated by a comma.
    pub node_ip: String,
    /// Directory of certificates.
    pub cert_dir: String,
    /// `external` or empty.
    pub cloud_provider: String,
    /// Root directory of the kubelet.
    pub root_dir: String,
    /// Whether first tries of probes come early; on without a kubeconfig.
    pub fast_first_probe: bool,
    /// Like the configuration field of the same name; either one is enough.
    pub seccomp_default: bool,
    /// Labels for the Node's registration.
    pub node_labels: BTreeMap<String, String>,
    /// File that is locked while the kubelet runs; empty: none.
    pub lock_file: String,
    /// Whether to exit when another process opens the lock file.
    pub exit_on_lock_contention: bool,
    /// Minimum age of a dead container before it is removed.
    pub minimum_container_ttl: GoDuration,
    /// Dead containers kept per container name.
    pub maximum_dead_containers_per_container: i32,
    /// Dead containers kept on the node; negative: no limit.
    pub maximum_dead_containers: i32,
    /// Program used instead of the system's mount.
    pub experimental_mounter_path: String,
    /// Whether hard eviction thresholds are not subtracted from allocatable.
    pub experimental_allocatable_ignore_eviction: bool,
    /// Cgroup of the container runtime.
    pub runtime_cgroups: String,
    /// Configuration file of credential provider plugins.
    pub image_credential_provider_config: String,
    /// Directory of credential provider plugins.
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
            fast_first_probe: false,
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

/// The whole configuration, one part per component.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Directories.
    pub paths: PathsConfig,
    /// The HTTP servers.
    pub server: ServerConfig,
    /// Authentication and authorization.
    pub auth: AuthConfig,
    /// Sources of pods.
    pub sources: SourcesConfig,
    /// The container runtime.
    pub runtime: RuntimeConfig,
    /// Image pulls and image garbage collection.
    pub images: ImagesConfig,
    /// Intervals of loops.
    pub loops: LoopsConfig,
    /// The cgroup tree.
    pub cgroups: CgroupsConfig,
    /// Reservations and limits.
    pub resources: ResourcesConfig,
    /// CPU, memory and topology policies.
    pub placement: PlacementConfig,
    /// Eviction.
    pub eviction: EvictionConfig,
    /// Garbage collection of containers.
    pub garbage: GarbageConfig,
    /// Rotation of containers' logs.
    pub container_logs: ContainerLogsConfig,
    /// DNS settings of pods.
    pub dns: DnsConfig,
    /// The Node object.
    pub node: NodeConfig,
    /// The API server.
    pub cluster: ClusterConfig,
    /// Graceful node shutdown.
    pub shutdown: ShutdownConfig,
    /// Logging.
    pub logging: LoggingConfig,
    /// Feature gates.
    pub gates: Gates,
}

/// Directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathsConfig {
    /// Root directory of the kubelet.
    pub root_dir: PathBuf,
    /// Certificates.
    pub cert_dir: PathBuf,
    /// Containers' logs.
    pub pod_logs_dir: PathBuf,
    /// Exec volume plugins.
    pub volume_plugin_dir: PathBuf,
    /// Locked while the kubelet runs.
    pub lock_file: Option<PathBuf>,
    /// Whether to exit when another process opens the lock file.
    pub exit_on_lock_contention: bool,
}

/// The HTTP servers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of upstream's own"
)]
pub struct ServerConfig {
    /// Whether the HTTPS and the read-only server run.
    pub enabled: bool,
    /// Address of both.
    pub address: IpAddr,
    /// Port of the HTTPS server.
    pub port: u16,
    /// Port of the server without authentication.
    pub read_only_port: Option<u16>,
    /// Address of the health server.
    pub healthz: Option<std::net::SocketAddr>,
    /// Certificate and TLS settings.
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
    /// Idle timeout of streams; zero: none.
    pub streaming_idle_timeout: Duration,
}

/// Certificate of the HTTPS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificate and key; without them a self-signed certificate is created.
    pub files: Option<(PathBuf, PathBuf)>,
    /// Whether the certificate comes from the cluster instead.
    pub from_cluster: bool,
    /// Go names; empty: the default set.
    pub cipher_suites: Vec<String>,
    /// TLS numbers of key exchanges; empty: the default set.
    pub curve_preferences: Vec<i32>,
    /// Go name; empty: the default.
    pub min_version: String,
}

/// Authentication and authorization at the HTTPS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    /// Whether requests without credentials are accepted as `system:anonymous`.
    pub anonymous: bool,
    /// How long a token review is cached; `None`: no token authentication.
    pub webhook_cache: Option<Duration>,
    /// CA file for client certificates.
    pub client_ca_file: Option<PathBuf>,
    /// How authenticated users are authorized.
    pub authorization: Authorization,
}

/// How authenticated users are authorized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// They may do everything.
    AlwaysAllow,
    /// By access reviews at the API server.
    Webhook {
        /// How long an allowed answer is cached.
        authorized: Duration,
        /// How long a denied answer is cached.
        unauthorized: Duration,
    },
    /// An unknown mode; every request is refused.
    Unknown(String),
}

/// Sources of pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcesConfig {
    /// Directory of manifests, or one manifest file.
    pub static_pod_path: Option<PathBuf>,
    /// How often it is listed again.
    pub file_check_frequency: Duration,
    /// Manifest URL.
    pub static_pod_url: Option<String>,
    /// Headers for it, in order; may hold secrets.
    pub static_pod_url_header: BTreeMap<String, Vec<String>>,
    /// How often it is fetched.
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
    /// Whether startup and readiness probes are tried early until the first success.
    pub fast_first_probe: bool,
    /// Whether `RuntimeDefault` applies to pods without a seccomp profile.
    pub seccomp_default: bool,
    /// Pod address range in standalone mode.
    pub pod_cidr: Option<String>,
    /// Unsafe sysctls that pods may set.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// The maximum restart back-off.
    pub max_container_restart_period: Option<Duration>,
    /// IDs per pod with a user namespace.
    pub user_namespace_ids: Option<u32>,
}

/// Image pulls and image garbage collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagesConfig {
    /// Whether images are pulled one at a time.
    pub serialize_pulls: bool,
    /// Parallel pulls if not serialized; `None`: no limit.
    pub max_parallel_pulls: Option<u32>,
    /// Pulls per second; `None`: no limit.
    pub pull_rate: Option<u32>,
    /// Pulls in a burst above the rate.
    pub pull_burst: u32,
    /// When an image that is already present needs the pod's own credentials.
    pub credentials_policy: String,
    /// Image patterns that never need credentials.
    pub credentials_allowlist: Vec<String>,
    /// Configuration file of credential provider plugins.
    pub credential_provider_config: Option<PathBuf>,
    /// Directory of credential provider plugins.
    pub credential_provider_bin_dir: Option<PathBuf>,
    /// Minimum age of an unused image before it is removed.
    pub minimum_age: Duration,
    /// Age at which an unused image is removed.
    pub maximum_age: Option<Duration>,
    /// Disk usage at which garbage collection starts.
    pub high_threshold_percent: u8,
    /// Disk usage at which it stops.
    pub low_threshold_percent: u8,
}

/// Intervals of loops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoopsConfig {
    /// The longest time between two syncs of a pod.
    pub sync_frequency: Duration,
    /// How often the node's status is computed.
    pub node_status_update_frequency: Duration,
    /// How often an unchanged status is sent.
    pub node_status_report_frequency: Duration,
    /// Duration of the lease.
    pub node_lease_duration: Duration,
    /// How often volume usage is measured; `None`: never.
    pub volume_stats_period: Option<Duration>,
    /// How often CPU sets are applied again.
    pub cpu_manager_reconcile_period: Duration,
}

/// The cgroup driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupDriver {
    /// The kubelet writes cgroup files.
    Cgroupfs,
    /// systemd.
    Systemd,
}

/// The cgroup tree.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of upstream's own"
)]
pub struct CgroupsConfig {
    /// Parent cgroup of the pods' tree; empty: the root.
    pub root: String,
    /// Whether the QoS cgroups are created.
    pub per_qos: bool,
    /// The driver, unless the runtime reports one.
    pub driver: CgroupDriver,
    /// Cgroup of this process.
    pub kubelet: Option<String>,
    /// Cgroup for processes that have none.
    pub system: Option<String>,
    /// Cgroup of the container runtime.
    pub runtime: Option<String>,
    /// Whether CPU limits are enforced.
    pub cpu_quota: bool,
    /// The period of that quota.
    pub cpu_quota_period: Duration,
    /// OOM score adjustment of this process.
    pub oom_score_adj: i32,
    /// Open file limit of this process.
    pub max_open_files: u64,
    /// Whether swap on the node is an error.
    pub fail_on_swap: bool,
    /// `NoSwap`, `LimitedSwap` or empty.
    pub swap_behavior: String,
    /// Whether an OOM kill ends one process instead of the container; `None`: depends on the cgroup version.
    pub single_process_oom_kill: Option<bool>,
    /// The fraction of the limit at which memory is throttled.
    pub memory_throttling_factor: OrderedShare,
    /// `None` or `TieredReservation`.
    pub memory_reservation_policy: String,
    /// Whether kernel parameters with other values are an error.
    pub protect_kernel_defaults: bool,
}

/// A fraction between 0 and 1 in millionths, so that it can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrderedShare(pub u32);

impl OrderedShare {
    /// From a floating-point number.
    pub fn from_fraction(fraction: f64) -> Self {
        Self((fraction.clamp(0.0, 1.0) * 1e6).round() as u32)
    }

    /// As a floating-point number.
    pub fn as_fraction(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

/// Reservations and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourcesConfig {
    /// Maximum number of pods.
    pub max_pods: u32,
    /// Pods per core; `None`: no limit.
    pub pods_per_core: Option<u32>,
    /// Process limit per pod; `None`: no limit of its own.
    pub pod_pids_limit: Option<u64>,
    /// Reserved for the system.
    pub system_reserved: BTreeMap<String, Quantity>,
    /// Reserved for Kubernetes' own processes.
    pub kube_reserved: BTreeMap<String, Quantity>,
    /// CPUs reserved for both, as a list.
    pub reserved_system_cpus: Option<String>,
    /// Cgroup of the system's processes.
    pub system_reserved_cgroup: Option<String>,
    /// Cgroup of Kubernetes' own processes.
    pub kube_reserved_cgroup: Option<String>,
    /// Where reservations are enforced: `pods`, `system-reserved`, …; empty: nowhere.
    pub enforce: BTreeSet<String>,
    /// Percentage of a resource reserved for higher QoS classes.
    pub qos_reserved: BTreeMap<String, u8>,
    /// Whether local storage is counted and limited.
    pub local_storage_isolation: bool,
    /// Whether hard eviction thresholds are not subtracted from allocatable.
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
    /// Reserved memory: NUMA node to resource to amount.
    pub reserved_memory: BTreeMap<i32, BTreeMap<String, Quantity>>,
    /// `none`, `best-effort`, `restricted` or `single-numa-node`.
    pub topology_policy: String,
    /// `container` or `pod`.
    pub topology_scope: String,
    /// Options of the topology policy.
    pub topology_policy_options: BTreeMap<String, String>,
}

/// Eviction settings. Thresholds map a signal to text, as in the file; the eviction manager parses them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvictionConfig {
    /// Hard thresholds.
    pub hard: BTreeMap<String, String>,
    /// Soft thresholds.
    pub soft: BTreeMap<String, String>,
    /// The grace periods of soft thresholds.
    pub soft_grace_period: BTreeMap<String, String>,
    /// The minimum amount that an eviction must free.
    pub minimum_reclaim: BTreeMap<String, String>,
    /// How long a pressure condition stays after its signal has gone.
    pub pressure_transition_period: Duration,
    /// Grace period of pods in a soft eviction, in seconds; negative: the pod's own.
    pub max_pod_grace_period: i32,
    /// Whether kernel memory notifications trigger eviction.
    pub kernel_notification: bool,
}

/// Garbage collection of containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GarbageConfig {
    /// Minimum age of a dead container before it is removed.
    pub minimum_age: Duration,
    /// Dead containers kept per container name.
    pub max_per_container: usize,
    /// Dead containers kept on the node; `None`: no limit.
    pub max_containers: Option<usize>,
}

/// Rotation of containers' logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerLogsConfig {
    /// Size at which a log is rotated, in bytes; `None`: never.
    pub max_size: Option<u64>,
    /// Files kept per container.
    pub max_files: u32,
    /// Parallel rotations.
    pub max_workers: u32,
    /// How often log sizes are checked.
    pub monitor_interval: Duration,
}

/// DNS settings of pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// DNS servers of the cluster.
    pub cluster_dns: Vec<IpAddr>,
    /// DNS domain of the cluster; empty: none.
    pub cluster_domain: String,
    /// Resolver file from which pods' settings are derived; `None`: empty settings.
    pub resolv_conf: Option<PathBuf>,
}

/// The Node object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of upstream's own"
)]
pub struct NodeConfig {
    /// Overrides the host name as the node's name.
    pub hostname_override: Option<String>,
    /// Addresses as given: one, or two separated by a comma.
    pub node_ip: Option<String>,
    /// Labels at registration.
    pub labels: BTreeMap<String, String>,
    /// Taints at registration.
    pub taints: Vec<NodeTaint>,
    /// Whether the kubelet registers its Node.
    pub register: bool,
    /// The cloud provider's name of the node.
    pub provider_id: Option<String>,
    /// `external` or nothing.
    pub cloud_provider: Option<String>,
    /// Images in the status; `None`: all.
    pub status_max_images: Option<usize>,
    /// Whether a controller attaches volumes.
    pub attach_detach_by_cluster: bool,
    /// Whether the iptables utility chains are created.
    pub make_iptables_util_chains: bool,
}

/// A taint for the Node's registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTaint {
    /// Its key.
    pub key: String,
    /// Its value; may be empty.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// The API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Kubeconfig; `None`: standalone.
    pub kubeconfig: Option<PathBuf>,
    /// Kubeconfig for requesting the first client certificate.
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// Whether the client certificate is renewed.
    pub rotate_certificates: bool,
    /// Content type of requests.
    pub content_type: String,
    /// Requests per second.
    pub qps: u32,
    /// Requests in a burst above the rate.
    pub burst: u32,
    /// Events per second.
    pub event_qps: u32,
    /// Events in a burst above the rate.
    pub event_burst: u32,
    /// `Get`, `Cache` or `Watch`.
    pub change_detection: String,
}

/// Graceful node shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownConfig {
    /// Time for all pods.
    pub grace_period: Duration,
    /// The part of it for critical pods.
    pub grace_period_critical_pods: Duration,
    /// Seconds by minimum priority.
    pub by_priority: Vec<(i32, i64)>,
}

/// Log format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// klog's text.
    Text,
    /// One JSON object a line.
    Json,
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggingConfig {
    /// The log format.
    pub format: LogFormat,
    /// Whether errors go to stderr and everything else to stdout; otherwise everything goes to stderr.
    pub split_stream: bool,
    /// Buffer of stdout in bytes; 0 writes each line at once, as stderr always does.
    pub info_buffer: usize,
    /// The longest time that a line stays in the buffer.
    pub flush_frequency: Duration,
    /// The highest level of information that is written.
    pub verbosity: u32,
    /// File pattern to level; the first match wins.
    pub vmodule: Vec<(String, u32)>,
}
