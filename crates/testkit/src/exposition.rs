//! What `/metrics` shows, held against upstream's families as they are pinned in `parity/metrics.json`.
//!
//! In:    the text format 0.0.4
//! Out:   families with type, help, label names and bucket bounds; differences in words
//! Calls: tests of the crates that register families, and the machine tests
//! Holds: a family that both sides have must be equal in every part; a label may only be missing where the text has no sample
//! Upstream: parity/metrics.json: name, type, labels and buckets are the recorded ones, help is that of pkg/kubelet/metrics

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// Pinned families that every kubelet shows that has started a pod and was asked over HTTP.
pub const SHOWN: &[&str] = &[
    "kubelet_active_pods",
    "kubelet_cgroup_manager_duration_seconds",
    "kubelet_cgroup_version",
    "kubelet_containers_per_pod_count",
    "kubelet_desired_pods",
    "kubelet_evented_pleg_connection_error_count",
    "kubelet_evented_pleg_connection_latency_seconds",
    "kubelet_evented_pleg_connection_success_count",
    "kubelet_first_network_pod_start_sli_duration_seconds",
    "kubelet_http_inflight_requests",
    "kubelet_http_requests_duration_seconds",
    "kubelet_http_requests_total",
    "kubelet_image_manager_ensure_image_requests_total",
    "kubelet_lifecycle_handler_http_fallbacks_total",
    "kubelet_managed_ephemeral_containers",
    "kubelet_mirror_pods",
    "kubelet_node_name",
    "kubelet_orphan_pod_cleaned_volumes",
    "kubelet_orphan_pod_cleaned_volumes_errors",
    "kubelet_orphaned_runtime_pods_total",
    "kubelet_pleg_discard_events",
    "kubelet_pleg_last_seen_seconds",
    "kubelet_pleg_pod_relist_duration_seconds",
    "kubelet_pleg_relist_duration_seconds",
    "kubelet_pleg_relist_interval_seconds",
    "kubelet_pod_start_duration_seconds",
    "kubelet_pod_start_sli_duration_seconds",
    "kubelet_pod_start_total_duration_seconds",
    "kubelet_pod_watch_events_dropped_total",
    "kubelet_pod_worker_duration_seconds",
    "kubelet_pod_worker_start_duration_seconds",
    "kubelet_restarted_pods_total",
    "kubelet_run_podsandbox_duration_seconds",
    "kubelet_running_containers",
    "kubelet_running_pods",
    "kubelet_runtime_operations_duration_seconds",
    "kubelet_runtime_operations_total",
    "kubelet_sleep_action_terminated_early_total",
    "kubelet_started_containers_total",
    "kubelet_started_pods_errors_total",
    "kubelet_started_pods_total",
    "kubelet_working_pods",
    "kubernetes_build_info",
    "kubernetes_feature_enabled",
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_network_receive_bytes_total",
    "process_network_transmit_bytes_total",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
    "process_virtual_memory_max_bytes",
];

/// Pinned families that every kubelet shows, too, that has joined a cluster, has registered its node and rotates its certificates.
pub const IN_CLUSTER: &[&str] = &[
    "kubelet_certificate_manager_client_expiration_renew_errors",
    "kubelet_certificate_manager_client_ttl_seconds",
    "kubelet_certificate_manager_server_rotation_seconds",
    "kubelet_certificate_manager_server_ttl_seconds",
    "kubelet_node_startup_duration_seconds",
    "kubelet_node_startup_post_registration_duration_seconds",
    "kubelet_node_startup_pre_kubelet_duration_seconds",
    "kubelet_node_startup_pre_registration_duration_seconds",
    "kubelet_node_startup_registration_duration_seconds",
    "kubelet_pod_status_sync_duration_seconds",
    "kubelet_server_expiration_renew_errors",
    "rest_client_exec_plugin_certificate_rotation_age",
    "rest_client_exec_plugin_ttl_seconds",
    "rest_client_rate_limiter_duration_seconds",
    "rest_client_request_duration_seconds",
    "rest_client_request_size_bytes",
    "rest_client_requests_total",
    "rest_client_response_size_bytes",
];

/// Pinned families that are shown once there is something to tell: an old runtime, an error, an end, a volume.
pub const SOMETIMES: &[&str] = &[
    "kubelet_cri_losing_support",
    "kubelet_runtime_operations_errors_total",
    "kubelet_started_containers_errors_total",
    "kubelet_terminated_containers_total",
    "kubelet_volume_metric_collection_duration_seconds",
];

/// Pinned families whose work is not built yet.
pub const NOT_BUILT: &[&str] = &[
    // volume manager
    "force_cleaned_failed_volume_operation_errors_total",
    "force_cleaned_failed_volume_operations_total",
    "kubelet_image_volume_mounted_errors_total",
    "kubelet_image_volume_mounted_succeed_total",
    "kubelet_image_volume_requested_total",
    "reconstruct_volume_operations_errors_total",
    "reconstruct_volume_operations_total",
    "storage_operation_duration_seconds",
    "volume_manager_total_volumes",
    "volume_operation_total_seconds",
    // component-base's own accounts of its registry
    "disabled_metrics_total",
    "hidden_metrics_total",
    "registered_metrics_total",
    // resource managers, resize
    "kubelet_cpu_manager_exclusive_cpu_allocation_count",
    "kubelet_cpu_manager_pinning_errors_total",
    "kubelet_cpu_manager_pinning_requests_total",
    "kubelet_cpu_manager_shared_pool_size_millicores",
    "kubelet_memory_manager_pinning_errors_total",
    "kubelet_memory_manager_pinning_requests_total",
    "kubelet_pod_in_progress_resizes",
    "kubelet_topology_manager_admission_duration_ms",
    "kubelet_topology_manager_admission_errors_total",
    "kubelet_topology_manager_admission_requests_total",
    // records of pulls
    "kubelet_imagemanager_image_mustpull_checks_total",
    "kubelet_imagemanager_inmemory_pulledrecords_usage_percent",
    "kubelet_imagemanager_inmemory_pullintents_usage_percent",
    "kubelet_imagemanager_ondisk_pulledrecords",
    "kubelet_imagemanager_ondisk_pullintents",
    // user namespaces
    "kubelet_started_user_namespaced_pods_errors_total",
    "kubelet_started_user_namespaced_pods_total",
    // shutdown
    "kubelet_graceful_shutdown_end_time_seconds",
    "kubelet_graceful_shutdown_start_time_seconds",
    // figures of containers
    "kubelet_container_log_filesystem_used_bytes",
    "kubelet_metrics_provider",
];

/// One family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its help; empty where it is not pinned.
    #[serde(default)]
    pub help: String,
    /// Names of its labels, without `le`.
    #[serde(default)]
    pub labels: BTreeSet<String>,
    /// Upper bounds of a histogram's buckets, as they are printed.
    #[serde(default)]
    pub buckets: Vec<String>,
}

/// Families by name.
pub type Families = BTreeMap<String, Family>;

/// Upstream's families.
///
/// # Errors
/// The pinned file cannot be read.
pub fn pinned() -> Result<Families, serde_json::Error> {
    serde_json::from_str(include_str!("../../../parity/metrics.json"))
}

/// The families of a text.
pub fn families(text: &str) -> Families {
    let mut families = Families::new();
    for line in text.lines() {
        if let Some((name, help)) = line
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split_once(' '))
        {
            families.entry(name.to_owned()).or_default().help = help.to_owned();
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else if let Some((name, labels)) = sample(line) {
            add_sample(&mut families, name, labels);
        }
    }
    families
}

fn add_sample(families: &mut Families, name: &str, labels: Vec<(&str, &str)>) {
    let base = ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|end| name.strip_suffix(end).filter(|n| families.contains_key(*n)));
    let Some(family) = families.get_mut(base.unwrap_or(name)) else {
        return;
    };
    for (label, value) in labels {
        if label == "le" {
            if !family.buckets.iter().any(|bound| bound == value) {
                family.buckets.push(value.to_owned());
            }
        } else {
            family.labels.insert(label.to_owned());
        }
    }
}

/// Name and labels of a sample line. Values may hold any byte but an unescaped quote.
fn sample(line: &str) -> Option<(&str, Vec<(&str, &str)>)> {
    if line.starts_with('#') {
        return None;
    }
    let Some((name, mut rest)) = line.split_once('{') else {
        return line.split_once(' ').map(|(name, _)| (name, Vec::new()));
    };
    let mut labels = Vec::new();
    while let Some((label, after)) = rest.split_once("=\"") {
        let mut escaped = false;
        let end = after.char_indices().find(|(_, c)| {
            let is_end = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            is_end
        });
        let (end, _) = end?;
        labels.push((label.trim_start_matches(','), after.get(..end)?));
        rest = after.get(end + 1..)?;
        if rest.starts_with('}') {
            break;
        }
    }
    Some((name, labels))
}

/// What differs from the pinned families, a line each: a name of `expected` that is not shown, and any part of a family shown.
///
/// # Errors
/// The pinned file cannot be read.
pub fn differences(text: &str, expected: &[&str]) -> Result<Vec<String>, serde_json::Error> {
    let (pinned, shown) = (pinned()?, families(text));
    let mut lines = Vec::new();
    for name in expected {
        if !pinned.contains_key(*name) {
            lines.push(format!("{name}: is not pinned"));
        } else if !shown.contains_key(*name) {
            lines.push(format!("{name}: is not shown"));
        }
    }
    for (name, own) in &shown {
        let Some(theirs) = pinned.get(name) else {
            continue;
        };
        let mut part = |what: &str, own: &dyn std::fmt::Debug, theirs: &dyn std::fmt::Debug| {
            let (own, theirs) = (format!("{own:?}"), format!("{theirs:?}"));
            if own != theirs {
                lines.push(format!("{name}: {what} is {own}, upstream's {theirs}"));
            }
        };
        part("type", &own.kind, &theirs.kind);
        part("labels", &own.labels, &theirs.labels);
        if !theirs.help.is_empty() {
            part("help", &own.help, &theirs.help);
        }
        if own.kind == "histogram" {
            part("buckets", &numbers(&own.buckets), &numbers(&theirs.buckets));
        }
    }
    Ok(lines)
}

/// Bounds as numbers: how many digits are printed is the printer's choice.
fn numbers(bounds: &[String]) -> Vec<f64> {
    let number = |bound: &String| bound.parse().unwrap_or(f64::NAN);
    bounds.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP kubelet_active_pods wrong\n\
        # TYPE kubelet_active_pods counter\n\
        kubelet_active_pods{other=\"a\\\"b,c=\\\"\"} 1\n\
        # HELP kubelet_containers_per_pod_count [ALPHA] The number of containers per pod.\n\
        # TYPE kubelet_containers_per_pod_count histogram\n\
        kubelet_containers_per_pod_count_bucket{le=\"1\"} 0\n\
        kubelet_containers_per_pod_count_bucket{le=\"3\"} 0\n\
        kubelet_containers_per_pod_count_sum 0\n\
        kubelet_containers_per_pod_count_count 0\n\
        # TYPE own_family gauge\n\
        own_family 3\n";

    #[test]
    fn every_part_that_differs_is_named() {
        let lines = differences(TEXT, &["kubelet_node_name", "no_such"]).unwrap();
        let begins: Vec<&str> = lines
            .iter()
            .map(|line| line.split(" is ").next().unwrap())
            .collect();
        assert_eq!(
            begins,
            [
                "kubelet_node_name:",
                "no_such:",
                "kubelet_active_pods: type",
                "kubelet_active_pods: labels",
                "kubelet_active_pods: help",
                "kubelet_containers_per_pod_count: buckets",
            ],
            "{lines:#?}"
        );
    }

    #[test]
    fn every_pinned_family_has_its_place() {
        let pinned: BTreeSet<String> = pinned().unwrap().into_keys().collect();
        let all = [SHOWN, IN_CLUSTER, SOMETIMES, NOT_BUILT].concat();
        let listed: BTreeSet<String> = all.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(listed.len(), all.len(), "a name stands twice");
        assert_eq!(listed, pinned);
    }
}
