//! The kubelet's configuration file: `KubeletConfiguration` v1beta1.
//!
//! In:    JSON (a YAML file is turned into JSON first), upstream's field names
//! Out:   serde types in upstream's field order, so that `/configz` prints as upstream prints it
//! Calls: hyperkube/config_files.rs reads, decide/config/defaults.rs fills, the server prints
//! Holds: absent is `None`. Zero values of upstream's plain Go fields are omitted (`is_empty`); pointer fields are omitted only
//!        if absent; durations are always printed once they are set. Unknown fields are ignored here; strict readers collect
//!        them.
//! Upstream: staging/src/k8s.io/kubelet/config/v1beta1/types.go, component-base/logs/api/v1, component-base/tracing/api/v1

use crate::duration::{GoDuration, TimeOrDuration};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeMap;
use std::fmt;

/// The `kind` of the file.
pub const KIND: &str = "KubeletConfiguration";
/// The `apiVersion` of the file.
pub const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";

/// The whole configuration; every field as in the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeletConfiguration {
    /// `KubeletConfiguration`.
    #[serde(skip_serializing_if = "is_empty")]
    pub kind: Option<String>,
    /// `kubelet.config.k8s.io/v1beta1`.
    #[serde(skip_serializing_if = "is_empty")]
    pub api_version: Option<String>,
    /// Whether the HTTPS server runs at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_server: Option<bool>,
    /// Directory of manifests, or one manifest file.
    #[serde(skip_serializing_if = "is_empty")]
    pub static_pod_path: Option<String>,
    /// Root of the container logs, absolute.
    #[serde(skip_serializing_if = "is_empty")]
    pub pod_logs_dir: Option<String>,
    /// Longest time between two syncs of a pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_frequency: Option<GoDuration>,
    /// How often the manifest directory is listed again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_check_frequency: Option<GoDuration>,
    /// How often the manifest URL is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_check_frequency: Option<GoDuration>,
    /// Manifest URL.
    #[serde(rename = "staticPodURL", skip_serializing_if = "is_empty")]
    pub static_pod_url: Option<String>,
    /// HTTP headers for the manifest URL; may hold secrets.
    #[serde(rename = "staticPodURLHeader", skip_serializing_if = "is_empty")]
    pub static_pod_url_header: Option<BTreeMap<String, Vec<String>>>,
    /// IP address that the servers listen on.
    #[serde(skip_serializing_if = "is_empty")]
    pub address: Option<String>,
    /// Port of the HTTPS server.
    #[serde(skip_serializing_if = "is_empty")]
    pub port: Option<i32>,
    /// Port of the server without authentication; 0 is off.
    #[serde(skip_serializing_if = "is_empty")]
    pub read_only_port: Option<i32>,
    /// Serving certificate, PEM.
    #[serde(skip_serializing_if = "is_empty")]
    pub tls_cert_file: Option<String>,
    /// Key of the serving certificate, PEM.
    #[serde(skip_serializing_if = "is_empty")]
    pub tls_private_key_file: Option<String>,
    /// Permitted cipher suites by their Go names.
    #[serde(skip_serializing_if = "is_empty")]
    pub tls_cipher_suites: Option<Vec<String>>,
    /// Permitted key exchanges by their TLS numbers, in order.
    #[serde(skip_serializing_if = "is_empty")]
    pub tls_curve_preferences: Option<Vec<i32>>,
    /// Lowest TLS version by its Go name.
    #[serde(skip_serializing_if = "is_empty")]
    pub tls_min_version: Option<String>,
    /// Whether the client certificate is renewed.
    #[serde(skip_serializing_if = "is_empty")]
    pub rotate_certificates: Option<bool>,
    /// Whether the serving certificate comes from the cluster.
    #[serde(rename = "serverTLSBootstrap", skip_serializing_if = "is_empty")]
    pub server_tls_bootstrap: Option<bool>,
    /// Who a caller of the HTTPS server is.
    #[serde(deserialize_with = "null_is_default")]
    pub authentication: KubeletAuthentication,
    /// What a caller may do.
    #[serde(deserialize_with = "null_is_default")]
    pub authorization: KubeletAuthorization,
    /// Pulls a second; 0 is no limit.
    #[serde(rename = "registryPullQPS", skip_serializing_if = "Option::is_none")]
    pub registry_pull_qps: Option<i32>,
    /// Pulls in a burst above the rate.
    #[serde(skip_serializing_if = "is_empty")]
    pub registry_burst: Option<i32>,
    /// When a present image still needs the pod's own credentials.
    #[serde(skip_serializing_if = "is_empty")]
    pub image_pull_credentials_verification_policy: Option<String>,
    /// Image patterns that need none.
    #[serde(skip_serializing_if = "is_empty")]
    pub preloaded_images_verification_allowlist: Option<Vec<String>>,
    /// Events a second; 0 is the client's default.
    #[serde(rename = "eventRecordQPS", skip_serializing_if = "Option::is_none")]
    pub event_record_qps: Option<i32>,
    /// Events in a burst above the rate.
    #[serde(skip_serializing_if = "is_empty")]
    pub event_burst: Option<i32>,
    /// Whether logs, exec, attach and port-forward are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_debugging_handlers: Option<bool>,
    /// Whether block profiling is on.
    #[serde(skip_serializing_if = "is_empty")]
    pub enable_contention_profiling: Option<bool>,
    /// Port of the health server; 0 is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthz_port: Option<i32>,
    /// IP address of the health server.
    #[serde(skip_serializing_if = "is_empty")]
    pub healthz_bind_address: Option<String>,
    /// OOM score adjustment of this process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// DNS domain of the cluster.
    #[serde(skip_serializing_if = "is_empty")]
    pub cluster_domain: Option<String>,
    /// DNS servers of the cluster.
    #[serde(rename = "clusterDNS", skip_serializing_if = "is_empty")]
    pub cluster_dns: Option<Vec<String>>,
    /// When an idle exec, attach or port-forward is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streaming_connection_idle_timeout: Option<GoDuration>,
    /// How often the node's status is computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_status_update_frequency: Option<GoDuration>,
    /// How often an unchanged status is posted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_status_report_frequency: Option<GoDuration>,
    /// Seconds that the node's lease lasts.
    #[serde(skip_serializing_if = "is_empty")]
    pub node_lease_duration_seconds: Option<i32>,
    /// An unused image younger than this stays.
    #[serde(rename = "imageMinimumGCAge", skip_serializing_if = "Option::is_none")]
    pub image_minimum_gc_age: Option<GoDuration>,
    /// An unused image older than this goes; 0 is off.
    #[serde(rename = "imageMaximumGCAge", skip_serializing_if = "Option::is_none")]
    pub image_maximum_gc_age: Option<GoDuration>,
    /// Disk use that starts image collection.
    #[serde(
        rename = "imageGCHighThresholdPercent",
        skip_serializing_if = "Option::is_none"
    )]
    pub image_gc_high_threshold_percent: Option<i32>,
    /// Disk use that ends image collection.
    #[serde(
        rename = "imageGCLowThresholdPercent",
        skip_serializing_if = "Option::is_none"
    )]
    pub image_gc_low_threshold_percent: Option<i32>,
    /// How often the volumes' disk use is measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_stats_agg_period: Option<GoDuration>,
    /// Cgroup of this process.
    #[serde(skip_serializing_if = "is_empty")]
    pub kubelet_cgroups: Option<String>,
    /// Cgroup for processes that have none.
    #[serde(skip_serializing_if = "is_empty")]
    pub system_cgroups: Option<String>,
    /// Cgroup above the pods' tree.
    #[serde(skip_serializing_if = "is_empty")]
    pub cgroup_root: Option<String>,
    /// Whether the QoS cgroup tree is made.
    #[serde(rename = "cgroupsPerQOS", skip_serializing_if = "Option::is_none")]
    pub cgroups_per_qos: Option<bool>,
    /// `cgroupfs` or `systemd`.
    #[serde(skip_serializing_if = "is_empty")]
    pub cgroup_driver: Option<String>,
    /// `none` or `static`.
    #[serde(skip_serializing_if = "is_empty")]
    pub cpu_manager_policy: Option<String>,
    /// Whether an OOM kill ends one process rather than the container.
    #[serde(
        rename = "singleProcessOOMKill",
        skip_serializing_if = "Option::is_none"
    )]
    pub single_process_oom_kill: Option<bool>,
    /// Options of that policy.
    #[serde(skip_serializing_if = "is_empty")]
    pub cpu_manager_policy_options: Option<BTreeMap<String, String>>,
    /// How often CPU sets are applied again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_manager_reconcile_period: Option<GoDuration>,
    /// `None` or `Static`.
    #[serde(skip_serializing_if = "is_empty")]
    pub memory_manager_policy: Option<String>,
    /// `none`, `best-effort`, `restricted` or `single-numa-node`.
    #[serde(skip_serializing_if = "is_empty")]
    pub topology_manager_policy: Option<String>,
    /// `container` or `pod`.
    #[serde(skip_serializing_if = "is_empty")]
    pub topology_manager_scope: Option<String>,
    /// Options of that policy.
    #[serde(skip_serializing_if = "is_empty")]
    pub topology_manager_policy_options: Option<BTreeMap<String, String>>,
    /// Share of a resource that is kept for higher QoS classes.
    #[serde(skip_serializing_if = "is_empty")]
    pub qos_reserved: Option<BTreeMap<String, String>>,
    /// Deadline of a runtime call that is not a pull, log, exec or attach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_request_timeout: Option<GoDuration>,
    /// `promiscuous-bridge`, `hairpin-veth` or `none`.
    #[serde(skip_serializing_if = "is_empty")]
    pub hairpin_mode: Option<String>,
    /// Pods at once on this node.
    #[serde(skip_serializing_if = "is_empty")]
    pub max_pods: Option<i32>,
    /// Range of pod addresses, standalone only.
    #[serde(rename = "podCIDR", skip_serializing_if = "is_empty")]
    pub pod_cidr: Option<String>,
    /// Processes a pod may have; -1 is the node's share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_pids_limit: Option<i64>,
    /// Resolver file that pods' DNS settings start from; empty is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolv_conf: Option<String>,
    /// No longer supported.
    #[serde(skip_serializing_if = "is_empty")]
    pub run_once: Option<bool>,
    /// Whether CPU limits are enforced.
    #[serde(rename = "cpuCFSQuota", skip_serializing_if = "Option::is_none")]
    pub cpu_cfs_quota: Option<bool>,
    /// Period of that quota.
    #[serde(rename = "cpuCFSQuotaPeriod", skip_serializing_if = "Option::is_none")]
    pub cpu_cfs_quota_period: Option<GoDuration>,
    /// Images shown in the node's status; -1 is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_status_max_images: Option<i32>,
    /// Open file limit of this process.
    #[serde(skip_serializing_if = "is_empty")]
    pub max_open_files: Option<i64>,
    /// Encoding toward the API server.
    #[serde(skip_serializing_if = "is_empty")]
    pub content_type: Option<String>,
    /// Requests a second to the API server.
    #[serde(rename = "kubeAPIQPS", skip_serializing_if = "Option::is_none")]
    pub kube_api_qps: Option<i32>,
    /// Requests in a burst above the rate.
    #[serde(rename = "kubeAPIBurst", skip_serializing_if = "is_empty")]
    pub kube_api_burst: Option<i32>,
    /// Whether images are pulled one at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serialize_image_pulls: Option<bool>,
    /// Pulls at once when they are not serial; absent is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallel_image_pulls: Option<i32>,
    /// Signal to threshold, at once.
    #[serde(skip_serializing_if = "is_empty")]
    pub eviction_hard: Option<BTreeMap<String, String>>,
    /// Signal to threshold, after a grace.
    #[serde(skip_serializing_if = "is_empty")]
    pub eviction_soft: Option<BTreeMap<String, String>>,
    /// Signal to that grace.
    #[serde(skip_serializing_if = "is_empty")]
    pub eviction_soft_grace_period: Option<BTreeMap<String, String>>,
    /// How long a pressure condition stays after its signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eviction_pressure_transition_period: Option<GoDuration>,
    /// Seconds that a pod gets on a soft threshold.
    #[serde(skip_serializing_if = "is_empty")]
    pub eviction_max_pod_grace_period: Option<i32>,
    /// Signal to the least amount that an eviction must free.
    #[serde(skip_serializing_if = "is_empty")]
    pub eviction_minimum_reclaim: Option<BTreeMap<String, String>>,
    /// Whether thresholds that are not given keep their defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge_default_eviction_settings: Option<bool>,
    /// Pods for each core; 0 is no limit.
    #[serde(skip_serializing_if = "is_empty")]
    pub pods_per_core: Option<i32>,
    /// Whether the cluster attaches volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_controller_attach_detach: Option<bool>,
    /// Whether kernel settings that differ are an error.
    #[serde(skip_serializing_if = "is_empty")]
    pub protect_kernel_defaults: Option<bool>,
    /// Whether the utility chains are made.
    #[serde(
        rename = "makeIPTablesUtilChains",
        skip_serializing_if = "Option::is_none"
    )]
    pub make_iptables_util_chains: Option<bool>,
    /// Bit of the packet mark for source NAT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iptables_masquerade_bit: Option<i32>,
    /// Bit of the packet mark for dropping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iptables_drop_bit: Option<i32>,
    /// Features switched on or off.
    #[serde(skip_serializing_if = "is_empty")]
    pub feature_gates: Option<BTreeMap<String, bool>>,
    /// Whether swap on the node is an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_swap_on: Option<bool>,
    /// Swap that pods may use.
    #[serde(deserialize_with = "null_is_default")]
    pub memory_swap: MemorySwapConfiguration,
    /// Size at which a container's log is rotated.
    #[serde(skip_serializing_if = "is_empty")]
    pub container_log_max_size: Option<String>,
    /// Log files kept for each container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_log_max_files: Option<i32>,
    /// Rotations at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_log_max_workers: Option<i32>,
    /// How often log sizes are looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_log_monitor_interval: Option<GoDuration>,
    /// `Get`, `Cache` or `Watch`.
    #[serde(skip_serializing_if = "is_empty")]
    pub config_map_and_secret_change_detection_strategy: Option<String>,
    /// Resources kept for the system.
    #[serde(skip_serializing_if = "is_empty")]
    pub system_reserved: Option<BTreeMap<String, String>>,
    /// Resources kept for Kubernetes' own processes.
    #[serde(skip_serializing_if = "is_empty")]
    pub kube_reserved: Option<BTreeMap<String, String>>,
    /// CPU list kept for the system and Kubernetes.
    #[serde(rename = "reservedSystemCPUs", skip_serializing_if = "is_empty")]
    pub reserved_system_cpus: Option<String>,
    /// Version whose hidden metrics are shown.
    #[serde(skip_serializing_if = "is_empty")]
    pub show_hidden_metrics_for_version: Option<String>,
    /// Cgroup of the system's processes.
    #[serde(skip_serializing_if = "is_empty")]
    pub system_reserved_cgroup: Option<String>,
    /// Cgroup of Kubernetes' own processes.
    #[serde(skip_serializing_if = "is_empty")]
    pub kube_reserved_cgroup: Option<String>,
    /// Where the reservation is enforced; an empty list differs from none given.
    #[serde(skip_serializing_if = "is_empty")]
    pub enforce_node_allocatable: Option<Vec<String>>,
    /// Unsafe sysctls or patterns that pods may set.
    #[serde(skip_serializing_if = "is_empty")]
    pub allowed_unsafe_sysctls: Option<Vec<String>>,
    /// Directory of exec volume plugins.
    #[serde(skip_serializing_if = "is_empty")]
    pub volume_plugin_dir: Option<String>,
    /// The node's name with the cloud provider.
    #[serde(rename = "providerID", skip_serializing_if = "is_empty")]
    pub provider_id: Option<String>,
    /// Whether the kernel wakes eviction.
    #[serde(skip_serializing_if = "is_empty")]
    pub kernel_memcg_notification: Option<bool>,
    /// Logs of this process.
    #[serde(deserialize_with = "null_is_default")]
    pub logging: LoggingConfiguration,
    /// Whether `/logs/` is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_system_log_handler: Option<bool>,
    /// Whether `/logs/?query=` is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_system_log_query: Option<bool>,
    /// Time for pods when the machine goes down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown_grace_period: Option<GoDuration>,
    /// Part of that time for critical pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown_grace_period_critical_pods: Option<GoDuration>,
    /// The same by priority.
    #[serde(skip_serializing_if = "is_empty")]
    pub shutdown_grace_period_by_pod_priority: Option<Vec<ShutdownGracePeriodByPodPriority>>,
    /// Restart back-off.
    #[serde(deserialize_with = "null_is_default")]
    pub crash_loop_back_off: CrashLoopBackOffConfig,
    /// Memory kept free on each NUMA node.
    #[serde(skip_serializing_if = "is_empty")]
    pub reserved_memory: Option<Vec<MemoryReservation>>,
    /// Whether `/debug/pprof/` is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_profiling_handler: Option<bool>,
    /// Whether `/debug/flags/v` is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_debug_flags_handler: Option<bool>,
    /// Whether pods get the runtime's seccomp profile unless they say otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp_default: Option<bool>,
    /// Share of the limit at which memory is throttled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_throttling_factor: Option<f64>,
    /// `None` or `TieredReservation`.
    #[serde(skip_serializing_if = "is_empty")]
    pub memory_reservation_policy: Option<String>,
    /// Taints of the node when it registers.
    #[serde(skip_serializing_if = "is_empty")]
    pub register_with_taints: Option<Vec<Taint>>,
    /// Whether the node registers itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub register_node: Option<bool>,
    /// OpenTelemetry traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<TracingConfiguration>,
    /// Whether local storage is counted and limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_storage_capacity_isolation: Option<bool>,
    /// Runtime socket as a URL.
    #[serde(serialize_with = "always")]
    pub container_runtime_endpoint: Option<String>,
    /// Image service socket, when it is another.
    #[serde(skip_serializing_if = "is_empty")]
    pub image_service_endpoint: Option<String>,
    /// Whether a cgroup v1 host is an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_cgroup_v1: Option<bool>,
    /// User namespaces of pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_namespaces: Option<UserNamespaces>,
}

/// Who a caller of the HTTPS server is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubeletAuthentication {
    /// By client certificate.
    #[serde(deserialize_with = "null_is_default")]
    pub x509: KubeletX509Authentication,
    /// By bearer token.
    #[serde(deserialize_with = "null_is_default")]
    pub webhook: KubeletWebhookAuthentication,
    /// By nothing at all.
    #[serde(deserialize_with = "null_is_default")]
    pub anonymous: KubeletAnonymousAuthentication,
}

/// Authentication by client certificate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubeletX509Authentication {
    /// Authorities whose certificates are believed, PEM.
    #[serde(rename = "clientCAFile", skip_serializing_if = "is_empty")]
    pub client_ca_file: Option<String>,
}

/// Authentication by asking the API server about a token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubeletWebhookAuthentication {
    /// Whether tokens are looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// How long an answer is remembered.
    #[serde(rename = "cacheTTL", skip_serializing_if = "Option::is_none")]
    pub cache_ttl: Option<GoDuration>,
}

/// Requests without credentials.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubeletAnonymousAuthentication {
    /// Whether they are accepted as `system:anonymous`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// What a caller of the HTTPS server may do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubeletAuthorization {
    /// `AlwaysAllow` or `Webhook`.
    #[serde(skip_serializing_if = "is_empty")]
    pub mode: Option<String>,
    /// Settings of the webhook.
    #[serde(deserialize_with = "null_is_default")]
    pub webhook: KubeletWebhookAuthorization,
}

/// Authorization by asking the API server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubeletWebhookAuthorization {
    /// How long a yes is remembered.
    #[serde(rename = "cacheAuthorizedTTL", skip_serializing_if = "Option::is_none")]
    pub cache_authorized_ttl: Option<GoDuration>,
    /// How long a no is remembered.
    #[serde(
        rename = "cacheUnauthorizedTTL",
        skip_serializing_if = "Option::is_none"
    )]
    pub cache_unauthorized_ttl: Option<GoDuration>,
}

/// Memory kept free on one NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemoryReservation {
    /// The NUMA node's number.
    pub numa_node: i32,
    /// `memory` or `hugepages-<size>` to the amount.
    pub limits: BTreeMap<String, QuantityText>,
}

/// Time that pods of a priority get when the machine goes down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ShutdownGracePeriodByPodPriority {
    /// Pods of at least this priority.
    pub priority: i32,
    /// Seconds that they get.
    pub shutdown_grace_period_seconds: i64,
}

/// Swap that pods may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemorySwapConfiguration {
    /// `NoSwap` or `LimitedSwap`.
    #[serde(skip_serializing_if = "is_empty")]
    pub swap_behavior: Option<String>,
}

/// Restart back-off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CrashLoopBackOffConfig {
    /// Longest wait between two restarts of a container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_container_restart_period: Option<GoDuration>,
}

/// User namespaces of pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserNamespaces {
    /// Ids that each pod gets, a multiple of 65536.
    #[serde(rename = "idsPerPod", skip_serializing_if = "Option::is_none")]
    pub ids_per_pod: Option<i64>,
}

/// A taint of the node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value.
    #[serde(skip_serializing_if = "is_empty")]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
    /// When it was added, RFC 3339. Not allowed in a configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_added: Option<String>,
}

/// OpenTelemetry traces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TracingConfiguration {
    /// The collector, a gRPC target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Samples per million spans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling_rate_per_million: Option<i32>,
}

/// Logs of this process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoggingConfiguration {
    /// `text` or `json`.
    #[serde(skip_serializing_if = "is_empty")]
    pub format: Option<String>,
    /// Longest time that a line stays in the buffer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flush_frequency: Option<TimeOrDuration>,
    /// Level up to which information is written.
    #[serde(serialize_with = "always")]
    pub verbosity: Option<u32>,
    /// The same by source file.
    #[serde(skip_serializing_if = "is_empty")]
    pub vmodule: Option<Vec<VModuleItem>>,
    /// By format.
    #[serde(deserialize_with = "null_is_default")]
    pub options: FormatOptions,
}

/// Verbosity of the source files that match a pattern.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VModuleItem {
    /// File name without extension; `*` and `?` match.
    pub file_pattern: String,
    /// Level for those files.
    pub verbosity: u32,
}

/// Output options of each log format.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FormatOptions {
    /// Of `text`.
    #[serde(deserialize_with = "null_is_default")]
    pub text: OutputRoutingOptions,
    /// Of `json`.
    #[serde(deserialize_with = "null_is_default")]
    pub json: OutputRoutingOptions,
}

/// Where lines go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutputRoutingOptions {
    /// Errors to stderr, the rest to stdout.
    #[serde(skip_serializing_if = "is_empty")]
    pub split_stream: Option<bool>,
    /// Buffer of what goes to stdout, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info_buffer_size: Option<QuantityText>,
}

/// A resource quantity as text; a JSON number is taken as its digits. Not checked here.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct QuantityText(pub String);

impl<'de> Deserialize<'de> for QuantityText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrNumber;
        impl de::Visitor<'_> for TextOrNumber {
            type Value = QuantityText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity")
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(QuantityText(text.trim().to_owned()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(QuantityText(number.to_string()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(QuantityText(number.to_string()))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(QuantityText(number.to_string()))
            }
        }
        deserializer.deserialize_any(TextOrNumber)
    }
}

/// What Go's `omitempty` leaves out of a plain field.
trait OmitEmpty {
    fn is_zero(&self) -> bool;
}

macro_rules! omit_empty {
    ($($type:ty => $zero:expr),+ $(,)?) => {$(
        impl OmitEmpty for $type {
            fn is_zero(&self) -> bool {
                *self == $zero
            }
        }
    )+};
}
omit_empty!(bool => false, i32 => 0, i64 => 0, String => "");

impl<T> OmitEmpty for Vec<T> {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> OmitEmpty for BTreeMap<K, V> {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

fn is_empty<T: OmitEmpty>(field: &Option<T>) -> bool {
    field.as_ref().is_none_or(T::is_zero)
}

/// A plain Go field without `omitempty`: absent is printed as zero.
fn always<T, S>(field: &Option<T>, serializer: S) -> Result<S::Ok, S::Error>
where
    T: Serialize + Default,
    S: Serializer,
{
    match field {
        Some(value) => value.serialize(serializer),
        None => T::default().serialize(serializer),
    }
}

/// `null` where Go has a struct changes nothing.
fn null_is_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn zero_is_left_out_of_plain_fields_only() {
        let read: KubeletConfiguration = serde_json::from_value(json!({
            "maxPods": 0, "address": "", "runOnce": false, "clusterDNS": [], "evictionHard": {},
            "resolvConf": "", "registryPullQPS": 0, "seccompDefault": false, "imageMaximumGCAge": "0s",
        }))
        .unwrap();
        assert_eq!(
            serde_json::to_value(&read).unwrap(),
            json!({
                "resolvConf": "", "registryPullQPS": 0, "seccompDefault": false, "imageMaximumGCAge": "0s",
                "authentication": {"x509": {}, "webhook": {}, "anonymous": {}},
                "authorization": {"webhook": {}}, "memorySwap": {}, "crashLoopBackOff": {},
                "logging": {"verbosity": 0, "options": {"text": {}, "json": {}}},
                "containerRuntimeEndpoint": "",
            })
        );
    }

    #[test]
    fn null_is_absent() {
        let read: KubeletConfiguration = serde_json::from_value(json!({
            "maxPods": null, "authentication": {"x509": null}, "memorySwap": null, "tracing": null,
        }))
        .unwrap();
        assert_eq!(read, KubeletConfiguration::default());
    }

    #[test]
    fn quantities_are_texts_or_numbers() {
        let read: MemoryReservation = serde_json::from_value(
            json!({"numaNode": 1, "limits": {"memory": 5, "hugepages-2Mi": "1Gi"}}),
        )
        .unwrap();
        let texts: Vec<&str> = read.limits.values().map(|text| text.0.as_str()).collect();
        assert_eq!(texts, ["1Gi", "5"]);
    }
}
