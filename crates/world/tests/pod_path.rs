//! Single scenes of the pod path: the product's tasks over the stand-in runtime, on virtual time.
//!
//! In:    one or a few pods
//! Out:   the runtime's trace and instances, the statuses shown
//! Calls: cargo test
//! Holds: no test waits on real time
//! Upstream: none

#![expect(clippy::unwrap_used, reason = "helpers of tests are test code")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1;
use kubelet_act::clock::Clock;
use kubelet_act::exits::ExitSource;
use kubelet_act::faults::Faults;
use kubelet_act::sync_loop::SourceSnapshot;
use kubelet_decide::view::NetworkState;
use kubelet_host::HostRoot;
use kubelet_model::ids::PodUid;
use kubelet_model::pod::{Pod, SourceKind};
use testkit::cri::trace::{EndedBy, Instance, TraceStep};
use testkit::cri::{StandInConfig, StandInRuntime};
use tokio::sync::watch;
use world::kubelet::{Outside, SimKubelet, lay_out_node};
use world::pods;
use world::watch::{is_ready, state_word};

static NEXT: AtomicU32 = AtomicU32::new(0);

struct Node {
    dir: PathBuf,
    runtime: StandInRuntime,
    clock: Clock,
    network: watch::Sender<NetworkState>,
    kubelet: Option<SimKubelet>,
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

impl Node {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("pod-path-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        lay_out_node(&HostRoot::at(&dir)).unwrap();
        let config = StandInConfig {
            images: pods::PRESENT.map(str::to_owned).to_vec(),
            ..StandInConfig::default()
        };
        let began = jiff::Timestamp::from_nanosecond(i128::from(config.epoch_ns)).unwrap();
        let runtime = StandInRuntime::new(config);
        runtime.set_scripts(|scripts| {
            scripts.behaviour = Arc::new(pods::behaviour);
            scripts.pull = Arc::new(pods::pull);
        });
        let mut node = Self {
            dir,
            runtime,
            clock: Clock::simulated(began),
            network: watch::Sender::new(NetworkState::Ready),
            kubelet: None,
        };
        node.start();
        node
    }

    fn start(&mut self) {
        let runtime = self.runtime.clone();
        let outside = Outside {
            root: HostRoot::at(&self.dir),
            clock: self.clock,
            exits: ExitSource::Simulated(Arc::new(move |pid| Box::pin(runtime.exit_of(pid)))),
            network: self.network.subscribe(),
            faults: Faults::none(),
            loses_writes: false,
        };
        self.kubelet = Some(SimKubelet::start(&self.runtime, outside).unwrap());
    }

    fn send(&self, pods: &[Arc<Pod>]) {
        let snapshot = SourceSnapshot {
            source: SourceKind::File,
            pods: pods.to_vec(),
        };
        self.kubelet.as_ref().unwrap().send(snapshot).unwrap();
    }

    async fn run_for(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    fn status(&self, uid: &str) -> Option<Arc<v1::PodStatus>> {
        let shown = self
            .kubelet
            .as_ref()
            .unwrap()
            .status
            .shown(&PodUid::from(uid));
        shown.map(|pod| pod.status)
    }

    /// Begins of calls since a line of the trace.
    fn calls_since(&self, line: usize) -> Vec<String> {
        self.runtime.trace(|lines| {
            lines[line..]
                .iter()
                .filter(|l| l.step == TraceStep::Begin)
                .map(|l| format!("{} {}", l.method, l.text))
                .collect()
        })
    }

    fn instances(&self) -> Vec<Instance> {
        self.runtime.instances(<[Instance]>::to_vec)
    }
}

fn pod(uid: &str, image: &str, command: &[&str], grace_seconds: i64) -> Arc<Pod> {
    let mut object = v1::Pod::default();
    object.metadata.name = Some(format!("{uid}-node"));
    object.metadata.namespace = Some("default".to_owned());
    object.metadata.uid = Some(uid.to_owned());
    object.spec = Some(v1::PodSpec {
        containers: vec![v1::Container {
            name: "main".to_owned(),
            image: Some(image.to_owned()),
            command: Some(command.iter().map(ToString::to_string).collect()),
            ..v1::Container::default()
        }],
        enable_service_links: Some(true),
        termination_grace_period_seconds: Some(grace_seconds),
        ..v1::PodSpec::default()
    });
    Arc::new(Pod::new(Arc::new(object), SourceKind::File, Vec::new()).unwrap())
}

const HERE: &str = pods::PRESENT[0];

#[tokio::test(start_paused = true)]
async fn a_start_needs_at_most_three_scoped_reads_and_no_list() {
    let node = Node::new();
    node.send(&[]);
    node.run_for(5).await;
    let before = node.runtime.trace(<[_]>::len);
    node.send(&[pod("a", HERE, &["serve"], 30)]);
    node.run_for(5).await;
    assert!(is_ready(&node.status("a").unwrap()));
    let calls = node.calls_since(before);
    let of = |method: &str| calls.iter().filter(|c| c.starts_with(method)).count();
    assert_eq!(of("List"), 0, "{calls:#?}");
    let reads = of("PodSandboxStatus") + of("ContainerStatus");
    assert!(reads <= 3, "{calls:#?}");
    assert_eq!(calls.len(), reads + of("ImageStatus") + 3, "{calls:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_kubelet_does_nothing_to_running_pods() {
    let mut node = Node::new();
    let pods = ["a", "b", "c"].map(|uid| pod(uid, HERE, &["serve"], 30));
    node.send(&pods);
    node.run_for(60).await;
    let (instances, status) = (node.instances(), node.status("b").unwrap());
    node.kubelet.take().unwrap().crash().await;
    node.run_for(60).await;
    let before = node.runtime.trace(<[_]>::len);
    node.start();
    node.send(&pods);
    node.run_for(200).await;
    assert_eq!(node.instances(), instances);
    assert_eq!(node.status("b").unwrap(), status);
    let reads = [
        "List",
        "PodSandboxStatus",
        "ContainerStatus",
        "ImageStatus",
        "GetContainerEvents",
    ];
    let is_read = |call: &String| reads.iter().any(|read| call.starts_with(read));
    assert!(node.calls_since(before).iter().all(is_read));
}

#[tokio::test(start_paused = true)]
async fn a_removed_pod_gets_its_grace_and_leaves_nothing() {
    let node = Node::new();
    node.send(&[pod("a", HERE, &["serve", "stubborn"], 7)]);
    node.run_for(60).await;
    let before = node.runtime.now_ns();
    node.send(&[]);
    node.run_for(60).await;
    let container = node.instances()[1].clone();
    let took = container.ended.unwrap() - before;
    assert!((7_000_000_000..7_100_000_000).contains(&took), "{took}");
    assert_eq!(container.ended_by, Some(EndedBy::StopContainer));
    assert!(node.instances().iter().all(|i| i.removed.is_some()));
    assert_eq!(node.status("a"), None);
    for dir in ["var/lib/kubelet/pods", "var/log/pods", "var/log/containers"] {
        assert_eq!(node.dir.join(dir).read_dir().unwrap().count(), 0, "{dir}");
    }
}

#[tokio::test(start_paused = true)]
async fn crash_loop_gaps_double() {
    let node = Node::new();
    node.send(&[pod("a", HERE, &["sh", "-c", "sleep 1; exit 1"], 30)]);
    node.run_for(400).await;
    let runs: Vec<Instance> = node.instances().split_off(1);
    let gaps: Vec<i64> = runs
        .windows(2)
        .map(|two| (two[1].started.unwrap() - two[0].ended.unwrap()) / 1_000_000_000)
        .collect();
    assert_eq!(gaps[..6], [0, 10, 20, 40, 80, 160]);
    let status = node.status("a").unwrap();
    let main = &status.container_statuses.as_ref().unwrap()[0];
    assert!(state_word(main).starts_with("CrashLoopBackOff: back-off 5m0s"));
    assert_eq!(main.restart_count, 6);
}

#[tokio::test(start_paused = true)]
async fn a_pull_ends_when_its_pod_is_removed() {
    let node = Node::new();
    node.send(&[pod("a", "img/slow:1", &["serve"], 30)]);
    node.run_for(5).await;
    node.send(&[]);
    node.run_for(1).await;
    let cancelled = node.runtime.trace(|lines| {
        lines
            .iter()
            .any(|l| l.method == "PullImage" && l.step == TraceStep::End && l.text == "cancelled")
    });
    assert!(cancelled, "{}", node.runtime.trace_text());
    assert!(node.instances().iter().all(|i| i.removed.is_some()));
}

#[tokio::test(start_paused = true)]
async fn an_exit_shows_as_soon_as_the_runtime_knows() {
    let node = Node::new();
    node.send(&[pod("a", HERE, &["sh", "-c", "sleep 50; exit 3"], 30)]);
    node.run_for(40).await;
    let mut shown = node.kubelet.as_ref().unwrap().status.subscribe();
    let ended = |pods: &kubelet_act::status::ReportedPods| {
        let status = &pods[&PodUid::from("a")].status;
        let main = &status.container_statuses.as_ref().unwrap()[0];
        main.last_state
            .as_ref()
            .is_some_and(|s| s.terminated.is_some())
            || main.state.as_ref().is_some_and(|s| s.terminated.is_some())
    };
    drop(shown.wait_for(ended).await.unwrap());
    let late = node.runtime.now_ns() - node.instances()[1].ended.unwrap();
    assert!(late <= 100_000_000, "{late} ns");
}

#[tokio::test(start_paused = true)]
async fn another_pod_of_the_name_waits_for_the_end_of_the_one_that_was_left() {
    let mut node = Node::new();
    node.send(&[pod("a", HERE, &["serve", "stubborn"], 30)]);
    node.run_for(10).await;
    node.kubelet.take().unwrap().crash().await;
    let mut object = (*pod("b", HERE, &["serve"], 30).object).clone();
    object.metadata.name = Some("a-node".to_owned());
    let next = Arc::new(Pod::new(Arc::new(object), SourceKind::File, Vec::new()).unwrap());
    node.start();
    node.send(&[next]);
    node.run_for(60).await;
    let all = node.instances();
    let started = all.iter().find(|i| i.pod_uid == "b").unwrap().created;
    assert!(
        all.iter()
            .filter(|i| i.pod_uid == "a")
            .all(|i| i.removed.unwrap() <= started)
    );
    assert!(is_ready(&node.status("b").unwrap()));
}

#[tokio::test(start_paused = true)]
async fn an_ended_pod_that_is_removed_leaves_no_directory() {
    let node = Node::new();
    let mut object = (*pod("a", HERE, &["sh", "-c", "exit 0"], 30).object).clone();
    object.spec.as_mut().unwrap().restart_policy = Some("Never".to_owned());
    let ends = Arc::new(Pod::new(Arc::new(object), SourceKind::File, Vec::new()).unwrap());
    node.send(&[ends]);
    node.run_for(30).await;
    assert_eq!(
        node.status("a").unwrap().phase.as_deref(),
        Some("Succeeded")
    );
    node.send(&[]);
    node.run_for(30).await;
    assert_eq!(
        node.dir
            .join("var/lib/kubelet/pods")
            .read_dir()
            .unwrap()
            .count(),
        0
    );
}

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

fn metrics(node: &Node) -> String {
    let families = node.kubelet.as_ref().unwrap().registry.gather();
    prometheus::TextEncoder::new()
        .encode_to_string(&families)
        .unwrap()
}

/// The value of a sample, by all that stands before it.
fn value(text: &str, sample: &str) -> f64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    assert!(line.is_some(), "no {sample} in {text}");
    line.unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
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
