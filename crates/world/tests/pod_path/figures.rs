//! What the pod path's metrics say of it.
//!
//! Upstream: pkg/kubelet/metrics

use super::*;

/// Families that the pod path must come to show in the scene below.
const PATH_METRICS: [&str; 32] = [
    "kubelet_active_pods",
    "kubelet_cgroup_manager_duration_seconds",
    "kubelet_containers_per_pod_count",
    "kubelet_desired_pods",
    "kubelet_evented_pleg_connection_error_count",
    "kubelet_evented_pleg_connection_latency_seconds",
    "kubelet_evented_pleg_connection_success_count",
    "kubelet_first_network_pod_start_sli_duration_seconds",
    "kubelet_image_manager_ensure_image_requests_total",
    "kubelet_managed_ephemeral_containers",
    "kubelet_mirror_pods",
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
    "kubelet_pod_worker_duration_seconds",
    "kubelet_pod_worker_start_duration_seconds",
    "kubelet_restarted_pods_total",
    "kubelet_run_podsandbox_duration_seconds",
    "kubelet_running_containers",
    "kubelet_runtime_operations_duration_seconds",
    "kubelet_started_containers_errors_total",
    "kubelet_started_containers_total",
    "kubelet_terminated_containers_total",
    "kubelet_working_pods",
];

#[tokio::test(start_paused = true)]
#[expect(clippy::too_many_lines, reason = "one scene after the other")]
async fn figures_are_upstreams_in_name_and_shape_and_tell_what_happened() {
    let mut node = Node::new();
    node.send(&[]);
    node.run_for(5).await;
    let seen = |pod: &Arc<Pod>| {
        let mut object = (*pod.object).clone();
        let annotations = object.metadata.annotations.get_or_insert_default();
        let now = node.clock.now();
        annotations.insert("kubernetes.io/config.seen".to_owned(), format!("{now:.9}"));
        object
    };
    let mut with_init = seen(&pod("a", HERE, &["serve"], 1));
    let spec = with_init.spec.as_mut().unwrap();
    let mut init = spec.containers[0].clone();
    init.name = "first".to_owned();
    init.command = Some(["sh", "-c", "sleep 6; exit 0"].map(str::to_owned).into());
    spec.init_containers = Some(vec![init]);
    let mut slow = seen(&pod("slow", "img/slow:1", &["serve"], 1));
    slow.spec.as_mut().unwrap().host_network = Some(true);
    let missing = seen(&pod("missing", pods::MISSING, &["serve"], 1));
    let mut ends = seen(&pod("ends", HERE, &["sh", "-c", "sleep 1; exit 3"], 1));
    ends.spec.as_mut().unwrap().restart_policy = Some("Never".to_owned());
    let all: Vec<Arc<Pod>> = [with_init, slow, missing, ends]
        .into_iter()
        .map(|object| Arc::new(Pod::new(Arc::new(object), SourceKind::File, Vec::new()).unwrap()))
        .collect();
    node.send(&all);
    node.run_for(60).await;
    let text = metrics(&node);
    let lines = testkit::exposition::differences(&text, &PATH_METRICS).unwrap();
    assert!(lines.is_empty(), "{lines:#?}");
    for (sample, expected) in [
        ("kubelet_desired_pods{static=\"true\"}", 4.0),
        ("kubelet_desired_pods{static=\"\"}", 0.0),
        ("kubelet_active_pods{static=\"true\"}", 3.0),
        (
            "kubelet_working_pods{config=\"desired\",lifecycle=\"sync\",static=\"true\"}",
            3.0,
        ),
        ("kubelet_started_pods_total", 4.0),
        ("kubelet_started_pods_errors_total", 0.0),
        ("kubelet_containers_per_pod_count_count", 4.0),
        ("kubelet_pod_worker_start_duration_seconds_count", 4.0),
        (
            "kubelet_started_containers_total{container_type=\"init_container\"}",
            1.0,
        ),
        (
            "kubelet_started_containers_errors_total{code=\"ErrImagePull\",container_type=\"container\"}",
            3.0,
        ),
        (
            "kubelet_terminated_containers_total{container_type=\"container\",exit_code=\"3\",reason=\"Error\"}",
            1.0,
        ),
        (
            "kubelet_terminated_containers_total{container_type=\"init_container\",exit_code=\"0\",reason=\"Completed\"}",
            1.0,
        ),
        (
            "kubelet_image_manager_ensure_image_requests_total{present_locally=\"true\",pull_policy=\"ifnotpresent\",pull_required=\"false\"}",
            3.0,
        ),
        ("kubelet_pod_start_total_duration_seconds_count", 3.0),
        ("kubelet_pod_start_sli_duration_seconds_count", 3.0),
    ] {
        assert!(
            (value(&text, sample) - expected).abs() < 0.5,
            "{sample}: {text}"
        );
    }
    // The init container's 6 s and the pull's 25 s count in the whole, not in what is promised.
    assert!(value(&text, "kubelet_pod_start_total_duration_seconds_sum") > 31.0);
    assert!(value(&text, "kubelet_pod_start_sli_duration_seconds_sum") < 6.0);
    let first = "kubelet_first_network_pod_start_sli_duration_seconds";
    assert!(value(&text, first) < 6.0, "{text}");

    // A pod that goes while the kubelet is down is an orphan of the next one; one that comes back at once is restarted.
    node.kubelet.take().unwrap().crash().await;
    node.start();
    node.send(&all[..3]);
    node.run_for(20).await;
    assert!((value(&metrics(&node), "kubelet_orphan_pod_cleaned_volumes") - 0.0).abs() < 0.5);
    node.send(&all[1..3]);
    node.send(&all[..3]);
    node.run_for(60).await;
    let text = metrics(&node);
    for (sample, expected) in [
        ("kubelet_orphaned_runtime_pods_total", 1.0),
        ("kubelet_restarted_pods_total{static=\"true\"}", 1.0),
        ("kubelet_pod_start_total_duration_seconds_count", 1.0),
        (
            "kubelet_working_pods{config=\"orphan\",lifecycle=\"terminating\",static=\"true\"}",
            0.0,
        ),
    ] {
        assert!(
            (value(&text, sample) - expected).abs() < 0.5,
            "{sample}: {text}"
        );
    }
}
