//! Maps the complete configuration and the flags to the settings that each component runs with.
//!
//! In:    a defaulted `KubeletConfiguration`, the pure flags, the gates
//! Out:   `model::config::Config`, or every text in it that cannot be read (amounts, addresses)
//! Calls: hyperkube/config_files.rs, after validation
//! Holds: pure mapping; a rule about what may be set belongs in validate.rs
//! Upstream: cmd/kubelet/app/server.go (parseResourceList and the like), pkg/kubelet/kubelet.go (NewMainKubelet)

use crate::config::validate::FieldProblem;
use kubelet_api::config::{KubeletConfiguration, OutputRoutingOptions};
use kubelet_api::duration::GoDuration;
use kubelet_model::config::*;
use kubelet_model::gates::Gates;
use kubelet_model::quantity::Quantity;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Resources that may be reserved for the system and for Kubernetes.
const RESERVABLE: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pid"];

/// What each component runs with. All problems at once, each with its field.
pub fn effective(
    config: &KubeletConfiguration,
    flags: &Flags,
    gates: &Gates,
) -> Result<Config, Vec<FieldProblem>> {
    let mut reader = Reader::default();
    let effective = Config {
        paths: paths(config, flags),
        server: server(config, &mut reader),
        auth: auth(config),
        sources: sources(config),
        runtime: runtime(config, flags),
        images: images(config, flags),
        loops: loops(config),
        cgroups: cgroups(config, flags),
        resources: resources(config, flags, &mut reader),
        placement: placement(config, &mut reader),
        eviction: eviction(config),
        garbage: garbage(flags),
        container_logs: container_logs(config, &mut reader),
        dns: dns(config, &mut reader),
        node: node(config, flags),
        cluster: cluster(config, flags),
        shutdown: shutdown(config),
        logging: logging(config),
        gates: gates.clone(),
    };
    if reader.problems.is_empty() {
        Ok(effective)
    } else {
        Err(reader.problems)
    }
}

/// Reads texts and remembers which could not be read.
#[derive(Default)]
struct Reader {
    problems: Vec<FieldProblem>,
}

impl Reader {
    fn quantity(&mut self, field: &str, text: &str) -> Quantity {
        text.parse().unwrap_or_else(|error| {
            self.problems.push(FieldProblem::new(
                field,
                format!("invalid quantity {text:?}: {error}"),
            ));
            Quantity::default()
        })
    }

    fn ip(&mut self, field: &str, text: &str) -> IpAddr {
        text.parse().unwrap_or_else(|_| {
            self.problems.push(FieldProblem::new(
                field,
                format!("invalid IP address {text:?}"),
            ));
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        })
    }

    fn reserved(&mut self, field: &str, list: &Map) -> BTreeMap<String, Quantity> {
        let mut amounts = BTreeMap::new();
        for (resource, text) in list {
            let path = format!("{field}.{resource}");
            if !RESERVABLE.contains(&resource.as_str()) {
                let words = format!("cannot reserve {resource:?} resource");
                self.problems.push(FieldProblem::new(&path, words));
                continue;
            }
            let amount = self.quantity(&path, text);
            if amount.nanos() < 0 {
                let words =
                    format!("resource quantity for {resource:?} cannot be negative: {text}");
                self.problems.push(FieldProblem::new(&path, words));
            }
            amounts.insert(resource.clone(), amount);
        }
        amounts
    }

    /// `memory=50%`: the percent, for memory only.
    fn qos_reserved(&mut self, list: &Map) -> BTreeMap<String, u8> {
        let mut percents = BTreeMap::new();
        for (resource, text) in list {
            let path = format!("qosReserved.{resource}");
            let percent = text
                .strip_suffix('%')
                .and_then(|digits| digits.parse().ok());
            match (resource.as_str(), percent) {
                ("memory", Some(percent @ 0..=100)) => {
                    percents.insert(resource.clone(), percent);
                }
                ("memory", _) => self.problems.push(FieldProblem::new(
                    &path,
                    format!("qos-reserved: {text:?} is not a percentage between 0% and 100%"),
                )),
                _ => self.problems.push(FieldProblem::new(
                    &path,
                    format!("only memory resources supported for QOSReserved, not {resource:?}"),
                )),
            }
        }
        percents
    }
}

type Map = BTreeMap<String, String>;

fn on(field: Option<bool>) -> bool {
    field.unwrap_or(false)
}

fn text(field: &Option<String>) -> String {
    field.clone().unwrap_or_default()
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn given_field(field: &Option<String>) -> Option<String> {
    field.as_deref().and_then(given)
}

fn path(field: &Option<String>) -> Option<PathBuf> {
    given_field(field).map(PathBuf::from)
}

fn path_flag(text: &str) -> Option<PathBuf> {
    given(text).map(PathBuf::from)
}

fn span(field: Option<GoDuration>) -> Duration {
    field.unwrap_or_default().to_std()
}

fn positive(field: Option<GoDuration>) -> Option<Duration> {
    field
        .filter(|span| span.as_nanos() > 0)
        .map(GoDuration::to_std)
}

fn count(field: Option<i32>) -> u32 {
    field
        .and_then(|count| u32::try_from(count).ok())
        .unwrap_or(0)
}

/// Zero means "no limit" or "off".
fn above_zero(field: Option<i32>) -> Option<u32> {
    Some(count(field)).filter(|count| *count > 0)
}

fn port(field: Option<i32>) -> Option<u16> {
    let port = field.and_then(|port| u16::try_from(port).ok());
    port.filter(|port| *port > 0)
}

fn percent(field: Option<i32>) -> u8 {
    field
        .and_then(|percent| u8::try_from(percent).ok())
        .unwrap_or(100)
}

fn map<T: Clone>(field: &Option<BTreeMap<String, T>>) -> BTreeMap<String, T> {
    field.clone().unwrap_or_default()
}

fn list<T: Clone>(field: &Option<Vec<T>>) -> Vec<T> {
    field.clone().unwrap_or_default()
}

fn paths(c: &KubeletConfiguration, flags: &Flags) -> PathsConfig {
    PathsConfig {
        root_dir: PathBuf::from(&flags.root_dir),
        cert_dir: PathBuf::from(&flags.cert_dir),
        pod_logs_dir: PathBuf::from(text(&c.pod_logs_dir)),
        volume_plugin_dir: PathBuf::from(text(&c.volume_plugin_dir)),
        lock_file: path_flag(&flags.lock_file),
        exit_on_lock_contention: flags.exit_on_lock_contention,
    }
}

fn server(c: &KubeletConfiguration, reader: &mut Reader) -> ServerConfig {
    let healthz_address = reader.ip("healthzBindAddress", &text(&c.healthz_bind_address));
    ServerConfig {
        enabled: on(c.enable_server),
        address: reader.ip("address", &text(&c.address)),
        port: port(c.port).unwrap_or(0),
        read_only_port: port(c.read_only_port),
        healthz: port(c.healthz_port).map(|port| SocketAddr::new(healthz_address, port)),
        tls: TlsConfig {
            files: path(&c.tls_cert_file).zip(path(&c.tls_private_key_file)),
            from_cluster: on(c.server_tls_bootstrap),
            cipher_suites: list(&c.tls_cipher_suites),
            curve_preferences: list(&c.tls_curve_preferences),
            min_version: text(&c.tls_min_version),
        },
        debugging_handlers: on(c.enable_debugging_handlers),
        system_log_handler: on(c.enable_system_log_handler),
        system_log_query: on(c.enable_system_log_query),
        profiling_handler: on(c.enable_profiling_handler),
        debug_flags_handler: on(c.enable_debug_flags_handler),
        streaming_idle_timeout: span(c.streaming_connection_idle_timeout),
    }
}

fn auth(c: &KubeletConfiguration) -> AuthConfig {
    let webhook = &c.authentication.webhook;
    let decided = &c.authorization.webhook;
    AuthConfig {
        anonymous: on(c.authentication.anonymous.enabled),
        webhook_cache: on(webhook.enabled).then(|| span(webhook.cache_ttl)),
        client_ca_file: path(&c.authentication.x509.client_ca_file),
        authorization: match text(&c.authorization.mode).as_str() {
            "AlwaysAllow" => Authorization::AlwaysAllow,
            "Webhook" => Authorization::Webhook {
                authorized: span(decided.cache_authorized_ttl),
                unauthorized: span(decided.cache_unauthorized_ttl),
            },
            other => Authorization::Unknown(other.to_owned()),
        },
    }
}

fn sources(c: &KubeletConfiguration) -> SourcesConfig {
    SourcesConfig {
        static_pod_path: path(&c.static_pod_path),
        file_check_frequency: span(c.file_check_frequency),
        static_pod_url: given_field(&c.static_pod_url),
        static_pod_url_header: map(&c.static_pod_url_header),
        http_check_frequency: span(c.http_check_frequency),
    }
}

fn runtime(c: &KubeletConfiguration, flags: &Flags) -> RuntimeConfig {
    let endpoint = text(&c.container_runtime_endpoint);
    let ids = c
        .user_namespaces
        .as_ref()
        .and_then(|users| users.ids_per_pod);
    RuntimeConfig {
        image_endpoint: given_field(&c.image_service_endpoint).unwrap_or_else(|| endpoint.clone()),
        endpoint,
        request_timeout: span(c.runtime_request_timeout),
        hairpin_mode: text(&c.hairpin_mode),
        fast_first_probe: flags.fast_first_probe || flags.kubeconfig.is_empty(),
        seccomp_default: on(c.seccomp_default) || flags.seccomp_default,
        pod_cidr: given_field(&c.pod_cidr),
        allowed_unsafe_sysctls: list(&c.allowed_unsafe_sysctls),
        max_container_restart_period: positive(c.crash_loop_back_off.max_container_restart_period),
        user_namespace_ids: ids.and_then(|ids| u32::try_from(ids).ok()),
    }
}

fn images(c: &KubeletConfiguration, flags: &Flags) -> ImagesConfig {
    ImagesConfig {
        serialize_pulls: on(c.serialize_image_pulls),
        max_parallel_pulls: above_zero(c.max_parallel_image_pulls),
        pull_rate: above_zero(c.registry_pull_qps),
        pull_burst: count(c.registry_burst),
        credentials_policy: text(&c.image_pull_credentials_verification_policy),
        credentials_allowlist: list(&c.preloaded_images_verification_allowlist),
        credential_provider_config: path_flag(&flags.image_credential_provider_config),
        credential_provider_bin_dir: path_flag(&flags.image_credential_provider_bin_dir),
        minimum_age: span(c.image_minimum_gc_age),
        maximum_age: positive(c.image_maximum_gc_age),
        high_threshold_percent: percent(c.image_gc_high_threshold_percent),
        low_threshold_percent: percent(c.image_gc_low_threshold_percent),
    }
}

fn loops(c: &KubeletConfiguration) -> LoopsConfig {
    LoopsConfig {
        sync_frequency: span(c.sync_frequency),
        node_status_update_frequency: span(c.node_status_update_frequency),
        node_status_report_frequency: span(c.node_status_report_frequency),
        node_lease_duration: Duration::from_secs(count(c.node_lease_duration_seconds).into()),
        volume_stats_period: positive(c.volume_stats_agg_period),
        cpu_manager_reconcile_period: span(c.cpu_manager_reconcile_period),
    }
}

fn cgroups(c: &KubeletConfiguration, flags: &Flags) -> CgroupsConfig {
    CgroupsConfig {
        root: text(&c.cgroup_root),
        per_qos: on(c.cgroups_per_qos),
        driver: match c.cgroup_driver.as_deref() {
            Some("systemd") => CgroupDriver::Systemd,
            _ => CgroupDriver::Cgroupfs,
        },
        kubelet: given_field(&c.kubelet_cgroups),
        system: given_field(&c.system_cgroups),
        runtime: given(&flags.runtime_cgroups),
        cpu_quota: on(c.cpu_cfs_quota),
        cpu_quota_period: span(c.cpu_cfs_quota_period),
        oom_score_adj: c.oom_score_adj.unwrap_or(0),
        max_open_files: c
            .max_open_files
            .and_then(|files| u64::try_from(files).ok())
            .unwrap_or(0),
        fail_on_swap: on(c.fail_swap_on),
        swap_behavior: text(&c.memory_swap.swap_behavior),
        single_process_oom_kill: c.single_process_oom_kill,
        memory_throttling_factor: OrderedShare::from_fraction(
            c.memory_throttling_factor.unwrap_or(1.0),
        ),
        memory_reservation_policy: text(&c.memory_reservation_policy),
        protect_kernel_defaults: on(c.protect_kernel_defaults),
    }
}

fn resources(c: &KubeletConfiguration, flags: &Flags, reader: &mut Reader) -> ResourcesConfig {
    let enforce = list(&c.enforce_node_allocatable);
    ResourcesConfig {
        max_pods: count(c.max_pods),
        pods_per_core: above_zero(c.pods_per_core),
        pod_pids_limit: c.pod_pids_limit.and_then(|limit| u64::try_from(limit).ok()),
        system_reserved: reader.reserved("systemReserved", &map(&c.system_reserved)),
        kube_reserved: reader.reserved("kubeReserved", &map(&c.kube_reserved)),
        reserved_system_cpus: given_field(&c.reserved_system_cpus),
        system_reserved_cgroup: given_field(&c.system_reserved_cgroup),
        kube_reserved_cgroup: given_field(&c.kube_reserved_cgroup),
        enforce: enforce
            .into_iter()
            .filter(|level| level != "none")
            .collect(),
        qos_reserved: reader.qos_reserved(&map(&c.qos_reserved)),
        local_storage_isolation: on(c.local_storage_capacity_isolation),
        ignore_eviction_in_allocatable: flags.experimental_allocatable_ignore_eviction,
    }
}

fn placement(c: &KubeletConfiguration, reader: &mut Reader) -> PlacementConfig {
    let mut reserved_memory: BTreeMap<i32, BTreeMap<String, Quantity>> = BTreeMap::new();
    for (index, reservation) in c.reserved_memory.iter().flatten().enumerate() {
        let node = reserved_memory.entry(reservation.numa_node).or_default();
        for (resource, text) in &reservation.limits {
            let field = format!("reservedMemory[{index}].limits.{resource}");
            node.insert(resource.clone(), reader.quantity(&field, &text.0));
        }
    }
    PlacementConfig {
        cpu_policy: text(&c.cpu_manager_policy),
        cpu_policy_options: map(&c.cpu_manager_policy_options),
        memory_policy: text(&c.memory_manager_policy),
        reserved_memory,
        topology_policy: text(&c.topology_manager_policy),
        topology_scope: text(&c.topology_manager_scope),
        topology_policy_options: map(&c.topology_manager_policy_options),
    }
}

fn eviction(c: &KubeletConfiguration) -> EvictionConfig {
    EvictionConfig {
        hard: map(&c.eviction_hard),
        soft: map(&c.eviction_soft),
        soft_grace_period: map(&c.eviction_soft_grace_period),
        minimum_reclaim: map(&c.eviction_minimum_reclaim),
        pressure_transition_period: span(c.eviction_pressure_transition_period),
        max_pod_grace_period: c.eviction_max_pod_grace_period.unwrap_or(0),
        kernel_notification: on(c.kernel_memcg_notification),
    }
}

fn garbage(flags: &Flags) -> GarbageConfig {
    let per_container = flags.maximum_dead_containers_per_container;
    GarbageConfig {
        minimum_age: flags.minimum_container_ttl.to_std(),
        // Quirk: upstream takes a negative number for no limit here too (container/container_gc.go).
        max_per_container: usize::try_from(per_container).unwrap_or(usize::MAX),
        max_containers: usize::try_from(flags.maximum_dead_containers).ok(),
    }
}

fn container_logs(c: &KubeletConfiguration, reader: &mut Reader) -> ContainerLogsConfig {
    let size = reader.quantity("containerLogMaxSize", &text(&c.container_log_max_size));
    ContainerLogsConfig {
        max_size: u64::try_from(size.value()).ok(),
        max_files: count(c.container_log_max_files),
        max_workers: count(c.container_log_max_workers),
        monitor_interval: span(c.container_log_monitor_interval),
    }
}

fn dns(c: &KubeletConfiguration, reader: &mut Reader) -> DnsConfig {
    let servers = c.cluster_dns.iter().flatten().enumerate();
    DnsConfig {
        cluster_dns: servers
            .map(|(index, address)| reader.ip(&format!("clusterDNS[{index}]"), address))
            .collect(),
        cluster_domain: text(&c.cluster_domain),
        resolv_conf: path(&c.resolv_conf),
    }
}

fn node(c: &KubeletConfiguration, flags: &Flags) -> NodeConfig {
    let taints = c.register_with_taints.iter().flatten();
    NodeConfig {
        hostname_override: given(&flags.hostname_override),
        node_ip: given(&flags.node_ip),
        labels: flags.node_labels.clone(),
        taints: taints
            .map(|taint| NodeTaint {
                key: taint.key.clone(),
                value: text(&taint.value),
                effect: taint.effect.clone(),
            })
            .collect(),
        register: on(c.register_node),
        provider_id: given_field(&c.provider_id),
        cloud_provider: given(&flags.cloud_provider),
        status_max_images: c
            .node_status_max_images
            .and_then(|max| usize::try_from(max).ok()),
        attach_detach_by_cluster: on(c.enable_controller_attach_detach),
        make_iptables_util_chains: on(c.make_iptables_util_chains),
    }
}

fn cluster(c: &KubeletConfiguration, flags: &Flags) -> ClusterConfig {
    ClusterConfig {
        kubeconfig: path_flag(&flags.kubeconfig),
        bootstrap_kubeconfig: path_flag(&flags.bootstrap_kubeconfig),
        rotate_certificates: on(c.rotate_certificates),
        content_type: text(&c.content_type),
        qps: count(c.kube_api_qps),
        burst: count(c.kube_api_burst),
        event_qps: count(c.event_record_qps),
        event_burst: count(c.event_burst),
        change_detection: text(&c.config_map_and_secret_change_detection_strategy),
    }
}

fn shutdown(c: &KubeletConfiguration) -> ShutdownConfig {
    let by_priority = c.shutdown_grace_period_by_pod_priority.iter().flatten();
    ShutdownConfig {
        grace_period: span(c.shutdown_grace_period),
        grace_period_critical_pods: span(c.shutdown_grace_period_critical_pods),
        by_priority: by_priority
            .map(|entry| (entry.priority, entry.shutdown_grace_period_seconds))
            .collect(),
    }
}

fn logging(c: &KubeletConfiguration) -> LoggingConfig {
    let vmodule = c.logging.vmodule.iter().flatten();
    let (format, options) = match c.logging.format.as_deref() {
        Some("json") => (LogFormat::Json, &c.logging.options.json),
        _ => (LogFormat::Text, &c.logging.options.text),
    };
    LoggingConfig {
        format,
        split_stream: on(options.split_stream),
        info_buffer: info_buffer(options),
        flush_frequency: span(c.logging.flush_frequency.map(|flush| flush.duration())),
        verbosity: c.logging.verbosity.unwrap_or(0),
        vmodule: vmodule
            .map(|item| (item.file_pattern.clone(), item.verbosity))
            .collect(),
    }
}

/// Only what goes to its own stream is held back, and never more than upstream would.
fn info_buffer(options: &OutputRoutingOptions) -> usize {
    const MOST: i64 = 2 << 30;
    let size = options
        .info_buffer_size
        .as_ref()
        .filter(|_| on(options.split_stream));
    let bytes = size.and_then(|size| size.0.parse::<Quantity>().ok());
    bytes.map_or(0, |bytes| {
        usize::try_from(bytes.value().min(MOST)).unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::defaults::{defaults, without_file};
    use serde_json::{Value, json};

    fn read(value: Value) -> KubeletConfiguration {
        let config = serde_json::from_value(value).unwrap();
        defaults(config, &Gates::default())
    }

    fn of(value: Value) -> Config {
        effective(&read(value), &Flags::default(), &Gates::default()).unwrap()
    }

    #[test]
    fn what_is_zero_or_empty_means_off_or_none() {
        let config = of(json!({
            "readOnlyPort": 0, "healthzPort": 0, "resolvConf": "", "registryPullQPS": 0,
            "imageMaximumGCAge": "0s", "podPidsLimit": -1, "volumeStatsAggPeriod": "-1s",
            "nodeStatusMaxImages": -1, "containerLogMaxSize": "-1", "enforceNodeAllocatable": ["none"],
        }));
        assert_eq!(config.server.read_only_port, None);
        assert_eq!(config.server.healthz, None);
        assert_eq!(config.dns.resolv_conf, None);
        assert_eq!(config.images.pull_rate, None);
        assert_eq!(config.images.maximum_age, None);
        assert_eq!(config.resources.pod_pids_limit, None);
        assert_eq!(config.loops.volume_stats_period, None);
        assert_eq!(config.node.status_max_images, None);
        assert_eq!(config.container_logs.max_size, None);
        assert!(config.resources.enforce.is_empty());
    }

    #[test]
    fn amounts_are_read_into_units() {
        let config = of(json!({
            "systemReserved": {"cpu": "200m", "memory": "1Gi"}, "qosReserved": {"memory": "50%"},
            "reservedMemory": [{"numaNode": 1, "limits": {"memory": "1Gi"}}],
        }));
        assert_eq!(config.resources.system_reserved["cpu"].milli_value(), 200);
        assert_eq!(config.resources.qos_reserved["memory"], 50);
        assert_eq!(
            config.placement.reserved_memory[&1]["memory"].value(),
            1 << 30
        );
        assert_eq!(config.container_logs.max_size, Some(10 << 20));
    }

    #[test]
    fn flags_alone_give_an_open_node_and_a_file_a_closed_one() {
        let open = without_file(read(json!({})));
        let open = effective(&open, &Flags::default(), &Gates::default()).unwrap();
        assert_eq!(open.server.read_only_port, Some(10255));
        assert_eq!(open.auth.authorization, Authorization::AlwaysAllow);
        let closed = of(json!({}));
        assert_eq!(closed.server.read_only_port, None);
        assert!(!closed.auth.anonymous);
    }

    #[test]
    fn every_text_that_cannot_be_read_is_named_with_its_field() {
        let config = read(json!({
            "address": "here", "clusterDNS": ["10.0.0.10", "dns"], "containerLogMaxSize": "big",
            "kubeReserved": {"cpu": "-1", "gpu": "1"}, "qosReserved": {"memory": "50", "cpu": "1%"},
        }));
        let problems = effective(&config, &Flags::default(), &Gates::default()).unwrap_err();
        let fields: Vec<&str> = problems
            .iter()
            .map(|problem| problem.field.as_str())
            .collect();
        assert_eq!(
            fields,
            [
                "address",
                "kubeReserved.cpu",
                "kubeReserved.gpu",
                "qosReserved.cpu",
                "qosReserved.memory",
                "containerLogMaxSize",
                "clusterDNS[1]"
            ]
        );
    }
}
