//! Settings that are accepted and do nothing yet, or only a part of what they do upstream.
//!
//! In:    the configuration with its defaults and flags, the same without what was set, the pure flags, the gates
//! Out:   one warning for each such setting that is not at its default; `docs/configuration.md`
//! Calls: hyperkube/config_files.rs at start
//! Holds: `cargo xtask tidy` holds the table against the readers: a field of `model::config` that no product code reads is in it,
//!        and one that is read is in it only with the part that works
//! Upstream: none (there each of these settings has its effect)

use std::fmt::Write as _;

use kubelet_api::config::KubeletConfiguration;
use kubelet_model::config::Flags;
use kubelet_model::gates::Gates;
use serde_json::Value;

/// How much of a setting works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// It does nothing yet.
    All,
    /// It does this, and nothing else yet.
    But(&'static str),
    /// It does nothing upstream either.
    Upstream,
}

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// JSON pointer in the configuration file.
    pub pointer: &'static str,
    /// `Struct.field` of `model::config` that holds it; empty when none does.
    pub held: &'static str,
    /// How much of it works.
    pub lack: Lack,
}

const fn all(pointer: &'static str, held: &'static str) -> Setting {
    let lack = Lack::All;
    Setting {
        pointer,
        held,
        lack,
    }
}

const fn but(pointer: &'static str, held: &'static str, works: &'static str) -> Setting {
    let lack = Lack::But(works);
    Setting {
        pointer,
        held,
        lack,
    }
}

const fn upstream(pointer: &'static str, held: &'static str) -> Setting {
    let lack = Lack::Upstream;
    Setting {
        pointer,
        held,
        lack,
    }
}

/// Fields of the configuration file, sorted. A feature that is built takes its rows with it.
#[rustfmt::skip]
pub const FIELDS: &[Setting] = &[
    all("/configMapAndSecretChangeDetectionStrategy", "ClusterConfig.change_detection"),
    all("/containerLogMaxFiles", "ContainerLogsConfig.max_files"),
    all("/containerLogMaxSize", "ContainerLogsConfig.max_size"),
    all("/containerLogMaxWorkers", "ContainerLogsConfig.max_workers"),
    all("/containerLogMonitorInterval", "ContainerLogsConfig.monitor_interval"),
    all("/contentType", "ClusterConfig.content_type"),
    all("/cpuManagerPolicy", "PlacementConfig.cpu_policy"),
    all("/cpuManagerPolicyOptions", "PlacementConfig.cpu_policy_options"),
    all("/cpuManagerReconcilePeriod", "LoopsConfig.cpu_manager_reconcile_period"),
    all("/enableContentionProfiling", ""),
    but("/enableControllerAttachDetach", "NodeConfig.attach_detach_by_cluster", "sets the annotation of the node"),
    all("/enableSystemLogQuery", "ServerConfig.system_log_query"),
    but("/evictionHard", "EvictionConfig.hard", "is subtracted from the allocatable amounts; no pod is evicted"),
    all("/evictionMaxPodGracePeriod", "EvictionConfig.max_pod_grace_period"),
    all("/evictionMinimumReclaim", "EvictionConfig.minimum_reclaim"),
    all("/evictionPressureTransitionPeriod", "EvictionConfig.pressure_transition_period"),
    all("/evictionSoft", "EvictionConfig.soft"),
    all("/evictionSoftGracePeriod", "EvictionConfig.soft_grace_period"),
    all("/failSwapOn", "CgroupsConfig.fail_on_swap"),
    upstream("/hairpinMode", "RuntimeConfig.hairpin_mode"),
    all("/imageGCHighThresholdPercent", "ImagesConfig.high_threshold_percent"),
    all("/imageGCLowThresholdPercent", "ImagesConfig.low_threshold_percent"),
    all("/imageMaximumGCAge", "ImagesConfig.maximum_age"),
    all("/imageMinimumGCAge", "ImagesConfig.minimum_age"),
    all("/imagePullCredentialsVerificationPolicy", "ImagesConfig.credentials_policy"),
    upstream("/iptablesDropBit", ""),
    upstream("/iptablesMasqueradeBit", ""),
    all("/kernelMemcgNotification", "EvictionConfig.kernel_notification"),
    all("/kubeletCgroups", "CgroupsConfig.kubelet"),
    but("/localStorageCapacityIsolation", "ResourcesConfig.local_storage_isolation", "decides whether ephemeral-storage is in the node's capacity; no limit is enforced"),
    all("/memoryManagerPolicy", "PlacementConfig.memory_policy"),
    all("/memoryReservationPolicy", "CgroupsConfig.memory_reservation_policy"),
    all("/memorySwap/swapBehavior", "CgroupsConfig.swap_behavior"),
    all("/memoryThrottlingFactor", "CgroupsConfig.memory_throttling_factor"),
    all("/preloadedImagesVerificationAllowlist", "ImagesConfig.credentials_allowlist"),
    all("/qosReserved", "ResourcesConfig.qos_reserved"),
    all("/reservedMemory", "PlacementConfig.reserved_memory"),
    but("/reservedSystemCPUs", "ResourcesConfig.reserved_system_cpus", "its amount is reserved; the processors of the list are not"),
    all("/showHiddenMetricsForVersion", ""),
    all("/shutdownGracePeriod", "ShutdownConfig.grace_period"),
    all("/shutdownGracePeriodByPodPriority", "ShutdownConfig.by_priority"),
    all("/shutdownGracePeriodCriticalPods", "ShutdownConfig.grace_period_critical_pods"),
    but("/syncFrequency", "LoopsConfig.sync_frequency", "decides when the sync loop counts as dead; pods are synced when something changes"),
    all("/systemCgroups", "CgroupsConfig.system"),
    all("/topologyManagerPolicy", "PlacementConfig.topology_policy"),
    all("/topologyManagerPolicyOptions", "PlacementConfig.topology_policy_options"),
    all("/topologyManagerScope", "PlacementConfig.topology_scope"),
    all("/tracing", ""),
    all("/userNamespaces/idsPerPod", "RuntimeConfig.user_namespace_ids"),
    all("/volumePluginDir", "PathsConfig.volume_plugin_dir"),
];

/// Flags that are no field of the file: name, field of `Flags`, `Struct.field` that holds it.
pub const FLAGS: &[(&str, &str, &str)] = &[
    (
        "experimental-mounter-path",
        "experimental_mounter_path",
        "Flags.experimental_mounter_path",
    ),
    (
        "image-credential-provider-bin-dir",
        "image_credential_provider_bin_dir",
        "ImagesConfig.credential_provider_bin_dir",
    ),
    (
        "image-credential-provider-config",
        "image_credential_provider_config",
        "ImagesConfig.credential_provider_config",
    ),
    (
        "maximum-dead-containers",
        "maximum_dead_containers",
        "GarbageConfig.max_containers",
    ),
    (
        "maximum-dead-containers-per-container",
        "maximum_dead_containers_per_container",
        "GarbageConfig.max_per_container",
    ),
    (
        "minimum-container-ttl-duration",
        "minimum_container_ttl",
        "GarbageConfig.minimum_age",
    ),
    (
        "runtime-cgroups",
        "runtime_cgroups",
        "CgroupsConfig.runtime",
    ),
];

/// Gates that switch something here. Any other gate is known and switches nothing.
pub const GATES: &[&str] = &[
    "AllAlpha",
    "AllBeta",
    "ContainerCheckpoint",
    "ContainerRestartRules",
    "ContainerStopSignals",
    "CustomCPUCFSQuotaPeriod",
    "EnvFiles",
    "KubeletCrashLoopBackOffMax",
    "KubeletInUserNamespace",
    "LoggingAlphaOptions",
    "LoggingBetaOptions",
    "PodLogsQuerySplitStreams",
    "PodsAPI",
    "ReduceDefaultCrashLoopBackOffDecay",
    "RestartAllContainersOnContainerExits",
    "RotateKubeletServerCertificate",
];

/// A warning for every setting that does less than it says, in the order of the tables.
///
/// `untouched` is the configuration of a node that sets nothing.
pub fn warnings(
    config: &KubeletConfiguration,
    untouched: &KubeletConfiguration,
    flags: &Flags,
    gates: &Gates,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let (config, untouched) = (plain(config), plain(untouched));
    for setting in FIELDS {
        let value = |of: &Value| of.pointer(setting.pointer).filter(|v| is_said(v)).cloned();
        if value(&config) == value(&untouched) {
            continue;
        }
        let field = dotted(setting.pointer);
        match setting.lack {
            Lack::All => warnings.push(format!("{field} is set and has no effect yet")),
            Lack::But(works) => warnings.push(format!("{field} is set: it {works}")),
            Lack::Upstream => {}
        }
    }
    let (given, default) = (plain(flags), plain(&Flags::default()));
    for (name, field, _) in FLAGS {
        if given.get(field) != default.get(field) {
            warnings.push(format!("--{name} is set and has no effect yet"));
        }
    }
    for name in gates.changed().filter(|name| !GATES.contains(name)) {
        warnings.push(format!("feature gate {name} is set and switches nothing"));
    }
    for (all, switched) in gates.changed_by_all() {
        let idle = switched.into_iter().filter(|name| !GATES.contains(name));
        let idle: Vec<_> = idle.collect();
        if !idle.is_empty() {
            let idle = idle.join(", ");
            warnings.push(format!(
                "feature gate {all} is set; of what it changes, these switch nothing: {idle}"
            ));
        }
    }
    warnings
}

fn plain<T: serde::Serialize>(of: &T) -> Value {
    // Both types are plain data.
    serde_json::to_value(of).unwrap_or_default()
}

/// An empty map, list or text says what absence says.
fn is_said(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => map.values().any(is_said),
    }
}

fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

/// `docs/configuration.md`.
pub fn document() -> String {
    let mut text = String::from(
        "# Settings without effect\n\n\
         Every field, flag and feature gate of the 1.36 kubelet is read and validated. These do nothing yet, or only a part of what\n\
         they do upstream. The kubelet warns at start about each of them that is not at its default. This page is made from the table\n\
         in `crates/decide/src/config/without_effect.rs`: `UPDATE_EXPECT=1 cargo test -p kubelet-decide without_effect`.\n\n\
         ## Fields of the configuration file\n\n| Field | Effect |\n|---|---|\n",
    );
    let mut line = |words: String| {
        // Writing to a String cannot fail.
        let _written = writeln!(text, "{words}");
    };
    for setting in FIELDS {
        let effect = match setting.lack {
            Lack::All => "none yet",
            Lack::But(works) => works,
            Lack::Upstream => "none, as upstream",
        };
        line(format!("| `{}` | {effect} |", dotted(setting.pointer)));
    }
    line("\n## Flags\n".to_owned());
    for (name, _, _) in FLAGS {
        line(format!("- `--{name}`"));
    }
    line(
        "- the flags of cAdvisor that `--help` shows as deprecated, and `--housekeeping-interval`, `--max-housekeeping-interval`"
            .to_owned(),
    );
    line("\n## Feature gates\n\nOf all gates these switch something here; `kubernetes_feature_enabled` shows upstream's value of every gate:\n".to_owned());
    for name in GATES {
        line(format!("- `{name}`"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::defaults::{defaults, eviction_hard};
    use serde_json::json;

    fn configured(set: Value) -> KubeletConfiguration {
        eviction_hard(defaults(
            serde_json::from_value(set).unwrap(),
            &Gates::default(),
        ))
    }

    fn told(set: Value, flags: &Flags, gates: &[(&str, bool)]) -> Vec<String> {
        let gates = gates.iter().map(|(name, on)| ((*name).to_owned(), *on));
        let gates = Gates::with(&gates.collect()).unwrap();
        warnings(&configured(set), &configured(json!({})), flags, &gates)
    }

    #[test]
    fn a_node_that_sets_nothing_is_told_nothing() {
        let nothing: Vec<String> = Vec::new();
        assert_eq!(told(json!({}), &Flags::default(), &[]), nothing);
        let as_by_default = json!({
            "cpuManagerPolicy": "none", "failSwapOn": true, "evictionSoft": {}, "tracing": null,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "10%", "nodefs.inodesFree": "5%",
                             "imagefs.available": "15%", "imagefs.inodesFree": "5%"},
        });
        assert_eq!(told(as_by_default, &Flags::default(), &[]), nothing);
    }

    #[test]
    fn each_setting_that_does_nothing_is_named_once() {
        let set = json!({
            "cpuManagerPolicy": "static", "memorySwap": {"swapBehavior": "LimitedSwap"}, "hairpinMode": "none",
            "evictionHard": {"memory.available": "200Mi"}, "shutdownGracePeriod": "30s", "maxPods": 20,
        });
        let flags = Flags {
            maximum_dead_containers: 5,
            node_ip: "127.0.0.1".to_owned(),
            ..Flags::default()
        };
        let gates = [("MemoryQoS", true), ("EnvFiles", false)];
        assert_eq!(
            told(set, &flags, &gates),
            [
                "cpuManagerPolicy is set and has no effect yet",
                "evictionHard is set: it is subtracted from the allocatable amounts; no pod is evicted",
                "memorySwap.swapBehavior is set and has no effect yet",
                "shutdownGracePeriod is set and has no effect yet",
                "--maximum-dead-containers is set and has no effect yet",
                "feature gate MemoryQoS is set and switches nothing",
            ]
        );
    }

    #[test]
    fn what_all_alpha_and_all_beta_switch_in_vain_is_named() {
        let flags = Flags::default();
        let alpha = told(
            json!({}),
            &flags,
            &[("AllAlpha", true), ("QOSReserved", false)],
        );
        let [warning] = &alpha[..] else {
            panic!("{alpha:?}");
        };
        let begin = "feature gate AllAlpha is set; of what it changes, these switch nothing: ";
        let named: Vec<_> = warning.strip_prefix(begin).unwrap().split(", ").collect();
        assert!(named.len() > 5 && !named.iter().any(|name| GATES.contains(name)));
        assert!(!named.contains(&"QOSReserved"), "it was set by itself");
        let beta = told(json!({}), &flags, &[("AllBeta", false)]);
        assert!(beta.iter().any(|text| text.contains("AllBeta")), "{beta:?}");
        assert!(told(json!({}), &flags, &[("AllAlpha", false)]).is_empty());
    }

    #[test]
    fn the_tables_name_what_there_is_in_order() {
        assert!(FIELDS.is_sorted_by_key(|setting| setting.pointer.to_ascii_lowercase()));
        assert!(FLAGS.is_sorted() && GATES.is_sorted());
        let flags = plain(&Flags::default());
        for (_, field, _) in FLAGS {
            assert!(flags.get(field).is_some(), "{field}");
        }
        for name in GATES.iter().filter(|name| !name.starts_with("All")) {
            assert!(Gates::find(name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_page_is_the_table() {
        expect_test::expect_file!["../../../../docs/configuration.md"].assert_eq(&document());
    }
}
