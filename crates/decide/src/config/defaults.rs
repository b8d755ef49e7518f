//! Defaults of `KubeletConfiguration`.
//!
//! In:    a configuration as read from a file, the gates
//! Out:   the same with every default filled in, so that it prints at `/configz` as upstream's does
//! Calls: hyperkube/config_files.rs, before and after the drop-ins
//! Holds: applying them twice changes nothing; a value that is set stays, except that upstream takes zero for "not set" in plain
//!        fields and durations
//! Upstream: pkg/kubelet/apis/config/v1beta1/defaults.go, cmd/kubelet/app/options/options.go (applyLegacyDefaults)

use kubelet_api::config::{
    API_VERSION, KIND, KubeletConfiguration, LoggingConfiguration, OutputRoutingOptions,
    QuantityText,
};
use kubelet_api::duration::{GoDuration, TimeOrDuration};
use kubelet_model::gates::{Gates, name};
use kubelet_model::quantity::Quantity;
use std::collections::BTreeMap;

/// Hard eviction thresholds of a configuration file that gives none: signal to threshold.
pub const EVICTION_HARD: [(&str, &str); 5] = [
    ("imagefs.available", "15%"),
    ("imagefs.inodesFree", "5%"),
    ("memory.available", "100Mi"),
    ("nodefs.available", "10%"),
    ("nodefs.inodesFree", "5%"),
];

/// Port of the server without authentication when there is no configuration file.
const READ_ONLY_PORT: i32 = 10255;

const ZERO: GoDuration = GoDuration::ZERO;

const fn seconds(seconds: i64) -> GoDuration {
    GoDuration::from_secs(seconds)
}

/// A Go pointer: only absence takes the default.
fn absent<T>(field: &mut Option<T>, default: T) {
    field.get_or_insert(default);
}

/// A plain Go field: zero takes the default too.
fn zero<T: Default + PartialEq>(field: &mut Option<T>, default: T) {
    if field.as_ref().is_none_or(|value| *value == T::default()) {
        *field = Some(default);
    }
}

fn empty(field: &mut Option<String>, default: &str) {
    zero(field, default.to_owned());
}

/// The configuration with every default of upstream.
pub fn defaults(config: KubeletConfiguration, gates: &Gates) -> KubeletConfiguration {
    let mut config = config;
    empty(&mut config.kind, KIND);
    empty(&mut config.api_version, API_VERSION);
    serving(&mut config);
    access(&mut config);
    rates(&mut config);
    frequencies(&mut config);
    resources(&mut config);
    pods(&mut config, gates);
    logging(&mut config.logging);
    config
}

fn serving(c: &mut KubeletConfiguration) {
    absent(&mut c.enable_server, true);
    empty(&mut c.address, "0.0.0.0");
    zero(&mut c.port, 10250);
    absent(&mut c.enable_debugging_handlers, true);
    absent(&mut c.healthz_port, 10248);
    empty(&mut c.healthz_bind_address, "127.0.0.1");
    zero(&mut c.streaming_connection_idle_timeout, seconds(4 * 3600));
    absent(&mut c.enable_system_log_handler, true);
    absent(&mut c.enable_system_log_query, false);
    absent(&mut c.enable_profiling_handler, true);
    absent(&mut c.enable_debug_flags_handler, true);
}

fn access(c: &mut KubeletConfiguration) {
    absent(&mut c.authentication.anonymous.enabled, false);
    absent(&mut c.authentication.webhook.enabled, true);
    zero(&mut c.authentication.webhook.cache_ttl, seconds(120));
    empty(&mut c.authorization.mode, "Webhook");
    let webhook = &mut c.authorization.webhook;
    zero(&mut webhook.cache_authorized_ttl, seconds(300));
    zero(&mut webhook.cache_unauthorized_ttl, seconds(30));
}

fn rates(c: &mut KubeletConfiguration) {
    absent(&mut c.registry_pull_qps, 5);
    zero(&mut c.registry_burst, 10);
    absent(&mut c.event_record_qps, 50);
    zero(&mut c.event_burst, 100);
    empty(&mut c.content_type, "application/vnd.kubernetes.protobuf");
    absent(&mut c.kube_api_qps, 50);
    zero(&mut c.kube_api_burst, 100);
    if c.serialize_image_pulls.is_none() {
        // Asking for parallel pulls is enough; saying it twice is not needed.
        c.serialize_image_pulls = Some(c.max_parallel_image_pulls.is_none_or(|pulls| pulls < 2));
    }
}

fn frequencies(c: &mut KubeletConfiguration) {
    zero(&mut c.sync_frequency, seconds(60));
    zero(&mut c.file_check_frequency, seconds(20));
    zero(&mut c.http_check_frequency, seconds(20));
    // The report follows the update when only the update is said.
    let update = c
        .node_status_update_frequency
        .filter(|update| *update != ZERO);
    let report = update.unwrap_or(seconds(300));
    zero(&mut c.node_status_report_frequency, report);
    zero(&mut c.node_status_update_frequency, seconds(10));
    zero(&mut c.node_lease_duration_seconds, 40);
    zero(&mut c.image_minimum_gc_age, seconds(120));
    absent(&mut c.image_maximum_gc_age, ZERO);
    zero(&mut c.volume_stats_agg_period, seconds(60));
    zero(&mut c.cpu_manager_reconcile_period, seconds(10));
    zero(&mut c.runtime_request_timeout, seconds(120));
    zero(&mut c.eviction_pressure_transition_period, seconds(300));
    absent(&mut c.container_log_monitor_interval, seconds(10));
    absent(&mut c.shutdown_grace_period, ZERO);
    absent(&mut c.shutdown_grace_period_critical_pods, ZERO);
}

fn resources(c: &mut KubeletConfiguration) {
    absent(&mut c.oom_score_adj, -999);
    absent(&mut c.image_gc_high_threshold_percent, 85);
    absent(&mut c.image_gc_low_threshold_percent, 80);
    absent(&mut c.cgroups_per_qos, true);
    empty(&mut c.cgroup_driver, "cgroupfs");
    empty(&mut c.cpu_manager_policy, "none");
    empty(&mut c.memory_manager_policy, "None");
    empty(&mut c.topology_manager_policy, "none");
    empty(&mut c.topology_manager_scope, "container");
    zero(&mut c.max_pods, 110);
    if c.pod_pids_limit.is_none_or(|limit| limit < 0) {
        c.pod_pids_limit = Some(-1);
    }
    absent(&mut c.cpu_cfs_quota, true);
    absent(&mut c.cpu_cfs_quota_period, GoDuration::from_millis(100));
    zero(&mut c.max_open_files, 1_000_000);
    absent(&mut c.merge_default_eviction_settings, false);
    absent(&mut c.fail_swap_on, true);
    absent(&mut c.enforce_node_allocatable, vec!["pods".to_owned()]);
    absent(&mut c.memory_throttling_factor, 0.9);
    empty(&mut c.memory_reservation_policy, "None");
    absent(&mut c.local_storage_capacity_isolation, true);
    absent(&mut c.fail_cgroup_v1, true);
}

fn pods(c: &mut KubeletConfiguration, gates: &Gates) {
    empty(&mut c.hairpin_mode, "promiscuous-bridge");
    absent(&mut c.resolv_conf, "/etc/resolv.conf".to_owned());
    absent(&mut c.node_status_max_images, 50);
    absent(&mut c.enable_controller_attach_detach, true);
    absent(&mut c.make_iptables_util_chains, true);
    absent(&mut c.iptables_masquerade_bit, 14);
    absent(&mut c.iptables_drop_bit, 15);
    empty(&mut c.container_log_max_size, "10Mi");
    absent(&mut c.container_log_max_files, 5);
    absent(&mut c.container_log_max_workers, 1);
    empty(
        &mut c.config_map_and_secret_change_detection_strategy,
        "Watch",
    );
    empty(
        &mut c.volume_plugin_dir,
        "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/",
    );
    absent(&mut c.seccomp_default, false);
    absent(&mut c.register_node, true);
    empty(
        &mut c.container_runtime_endpoint,
        "unix:///run/containerd/containerd.sock",
    );
    empty(&mut c.pod_logs_dir, "/var/log/pods");
    if gates.is_enabled(name::KUBELET_CRASH_LOOP_BACK_OFF_MAX) {
        absent(
            &mut c.crash_loop_back_off.max_container_restart_period,
            seconds(300),
        );
    }
    if gates.is_enabled(name::KUBELET_ENSURE_SECRET_PULLED_IMAGES) {
        empty(
            &mut c.image_pull_credentials_verification_policy,
            "NeverVerifyPreloadedImages",
        );
    }
}

fn logging(logging: &mut LoggingConfiguration) {
    empty(&mut logging.format, "text");
    if logging
        .flush_frequency
        .is_none_or(|flush| flush.duration() == ZERO)
    {
        logging.flush_frequency = Some(TimeOrDuration::Text(seconds(5)));
    }
    absent(&mut logging.verbosity, 0);
    buffer(&mut logging.options.text);
    buffer(&mut logging.options.json);
}

fn buffer(options: &mut OutputRoutingOptions) {
    let size = options.info_buffer_size.take();
    let text = size.map_or_else(|| "0".to_owned(), |size| size.0);
    // A text that is no quantity stays as it is, for validation to name it.
    let canonical = text
        .parse::<Quantity>()
        .map_or(text, |size| size.to_string());
    options.info_buffer_size = Some(QuantityText(canonical));
}

/// What the command line means without a configuration file, on top of the defaults. Upstream keeps it for those who
/// still run with flags alone: everybody may do everything, and the read-only port is open.
pub fn without_file(config: KubeletConfiguration) -> KubeletConfiguration {
    let mut config = config;
    config.authentication.anonymous.enabled = Some(true);
    config.authentication.webhook.enabled = Some(false);
    config.authorization.mode = Some("AlwaysAllow".to_owned());
    config.read_only_port = Some(READ_ONLY_PORT);
    config
}

/// Hard eviction thresholds that a configuration file (but not the command line alone) gets.
pub fn eviction_hard(config: KubeletConfiguration) -> KubeletConfiguration {
    let mut config = config;
    let given = config.eviction_hard.take();
    let merge = config.merge_default_eviction_settings == Some(true);
    let defaults =
        EVICTION_HARD.map(|(signal, threshold)| (signal.to_owned(), threshold.to_owned()));
    config.eviction_hard = Some(match given {
        None => BTreeMap::from(defaults),
        Some(given) if merge => BTreeMap::from(defaults).into_iter().chain(given).collect(),
        Some(given) => given,
    });
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(value: Value) -> KubeletConfiguration {
        serde_json::from_value(value).unwrap()
    }

    fn field(config: &KubeletConfiguration, path: &str) -> Value {
        let value = serde_json::to_value(config).unwrap();
        value.pointer(path).cloned().unwrap_or(Value::Null)
    }

    #[test]
    fn a_field_takes_its_default_or_keeps_what_it_has() {
        let rows = [
            (json!({}), "/port", json!(10250)),
            (json!({"port": 0}), "/port", json!(10250)),
            (json!({"healthzPort": 0}), "/healthzPort", json!(0)),
            (json!({"registryPullQPS": 0}), "/registryPullQPS", json!(0)),
            (json!({"registryBurst": 0}), "/registryBurst", json!(10)),
            (
                json!({"syncFrequency": "0s"}),
                "/syncFrequency",
                json!("1m0s"),
            ),
            (
                json!({"syncFrequency": "5s"}),
                "/syncFrequency",
                json!("5s"),
            ),
            (json!({}), "/readOnlyPort", json!(null)),
            (json!({}), "/authentication/anonymous/enabled", json!(false)),
            (json!({}), "/authentication/webhook/enabled", json!(true)),
            (json!({}), "/authorization/mode", json!("Webhook")),
            (json!({}), "/nodeStatusReportFrequency", json!("5m0s")),
            (
                json!({"nodeStatusUpdateFrequency": "30s"}),
                "/nodeStatusReportFrequency",
                json!("30s"),
            ),
            (json!({"podPidsLimit": -5}), "/podPidsLimit", json!(-1)),
            (json!({"podPidsLimit": 0}), "/podPidsLimit", json!(0)),
            (json!({"resolvConf": ""}), "/resolvConf", json!("")),
            (json!({}), "/serializeImagePulls", json!(true)),
            (
                json!({"maxParallelImagePulls": 5}),
                "/serializeImagePulls",
                json!(false),
            ),
            (
                json!({"maxParallelImagePulls": 1}),
                "/serializeImagePulls",
                json!(true),
            ),
            (
                json!({"maxParallelImagePulls": 5, "serializeImagePulls": true}),
                "/serializeImagePulls",
                json!(true),
            ),
            (json!({}), "/enforceNodeAllocatable", json!(["pods"])),
            (
                json!({"enforceNodeAllocatable": []}),
                "/enforceNodeAllocatable",
                json!(null),
            ),
            (json!({}), "/evictionHard", json!(null)),
            (json!({}), "/logging/flushFrequency", json!("5s")),
            (
                json!({"logging": {"flushFrequency": 7}}),
                "/logging/flushFrequency",
                json!(7),
            ),
            (
                json!({"logging": {"options": {"json": {"infoBufferSize": 2048}}}}),
                "/logging/options/json/infoBufferSize",
                json!("2048"),
            ),
        ];
        for (given, path, value) in rows {
            let config = defaults(read(given.clone()), &Gates::default());
            assert_eq!(field(&config, path), value, "{given} {path}");
        }
    }

    #[test]
    fn gates_decide_over_their_own_fields() {
        let off = BTreeMap::from([
            (name::KUBELET_CRASH_LOOP_BACK_OFF_MAX.to_owned(), false),
            (name::KUBELET_ENSURE_SECRET_PULLED_IMAGES.to_owned(), false),
        ]);
        let off = Gates::with(&off).unwrap();
        for (gates, period, policy) in [
            (
                Gates::default(),
                json!("5m0s"),
                json!("NeverVerifyPreloadedImages"),
            ),
            (off, json!(null), json!(null)),
        ] {
            let config = defaults(KubeletConfiguration::default(), &gates);
            assert_eq!(
                field(&config, "/crashLoopBackOff/maxContainerRestartPeriod"),
                period
            );
            assert_eq!(
                field(&config, "/imagePullCredentialsVerificationPolicy"),
                policy
            );
        }
    }

    #[test]
    fn applying_the_defaults_twice_changes_nothing() {
        for given in [
            json!({}),
            json!({"nodeStatusUpdateFrequency": "30s", "maxParallelImagePulls": 3}),
        ] {
            let once = defaults(read(given), &Gates::default());
            assert_eq!(defaults(once.clone(), &Gates::default()), once);
        }
    }

    #[test]
    fn without_a_file_the_node_is_open() {
        let config = without_file(defaults(KubeletConfiguration::default(), &Gates::default()));
        let rows = [
            ("/authentication/anonymous/enabled", json!(true)),
            ("/authentication/webhook/enabled", json!(false)),
            ("/authorization/mode", json!("AlwaysAllow")),
            ("/readOnlyPort", json!(10255)),
            ("/evictionHard", json!(null)),
        ];
        for (path, value) in rows {
            assert_eq!(field(&config, path), value, "{path}");
        }
    }

    #[test]
    fn eviction_thresholds_are_replaced_or_merged() {
        let all = json!({"imagefs.available": "15%", "imagefs.inodesFree": "5%", "memory.available": "100Mi",
            "nodefs.available": "10%", "nodefs.inodesFree": "5%"});
        let mut merged = all.clone();
        merged["memory.available"] = json!("1Gi");
        let rows = [
            (json!({}), all),
            (
                json!({"evictionHard": {"memory.available": "1Gi"}}),
                json!({"memory.available": "1Gi"}),
            ),
            (
                json!({"evictionHard": {"memory.available": "1Gi"}, "mergeDefaultEvictionSettings": true}),
                merged,
            ),
        ];
        for (given, hard) in rows {
            assert_eq!(field(&eviction_hard(read(given)), "/evictionHard"), hard);
        }
    }
}
