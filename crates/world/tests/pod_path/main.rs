//! Single scenes of the pod path: the product's tasks over the stand-in runtime, on virtual time.
//!
//! In:    one or a few pods
//! Out:   the runtime's trace and instances, the statuses shown
//! Calls: cargo test
//! Holds: no test waits on real time
//! Upstream: none

#![expect(clippy::unwrap_used, reason = "helpers of tests are test code")]

mod clocks;
mod ends;
mod figures;
mod names;
mod starts;
mod untidy;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1;
use kubelet_act::frame::clock::Clock;
use kubelet_act::frame::faults::{FaultPoint, Faults};
use kubelet_act::observe::exits::ExitSource;
use kubelet_act::report::events::Events;
use kubelet_act::sources::SourceSnapshot;
use kubelet_decide::shapes::view::NetworkState;
use kubelet_host::HostRoot;
use kubelet_host::journal::disk_faults::{DiskFault, DiskFaults};
use kubelet_model::ids::PodUid;
use kubelet_model::pod::{Pod, SourceKind};
use testkit::cri::StandInRuntime;
use testkit::cri::trace::{EndedBy, Instance, TraceStep};
use testkit::faults::Fault;
use tokio::sync::watch;
use world::kubelet::{JOURNAL, Outside, SimKubelet};
use world::pods;
use world::scene::{node_dir, runtime_config};
use world::watch::{is_ready, state_word};

struct Node {
    dir: PathBuf,
    runtime: StandInRuntime,
    clock: Clock,
    network: watch::Sender<NetworkState>,
    kubelet: Option<SimKubelet>,
    sources: BTreeSet<SourceKind>,
    faults: Faults,
    disk: DiskFaults,
    set_by: &'static AtomicI64,
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

impl Node {
    fn new() -> Self {
        Self::with_sources(&[SourceKind::File])
    }

    fn with_sources(sources: &[SourceKind]) -> Self {
        let dir = node_dir("pod-path").unwrap();
        let config = runtime_config();
        let began = jiff::Timestamp::from_nanosecond(i128::from(config.epoch_ns)).unwrap();
        let runtime = StandInRuntime::new(config);
        runtime.set_scripts(|scripts| {
            scripts.behaviour = Arc::new(pods::behaviour);
            scripts.pull = Arc::new(pods::pull);
        });
        let set_by: &'static AtomicI64 = Box::leak(Box::default());
        let mut node = Self {
            dir,
            runtime,
            clock: Clock::simulated_and_set(began, set_by),
            network: watch::Sender::new(NetworkState::Ready),
            kubelet: None,
            sources: sources.iter().copied().collect(),
            faults: Faults::none(),
            disk: DiskFaults::default(),
            set_by,
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
            events: Events::logged("node"),
            faults: self.faults.clone(),
            loses_writes: false,
            disk: self.disk.clone(),
            sources: self.sources.clone(),
        };
        self.kubelet = Some(SimKubelet::start(&self.runtime, outside).unwrap());
    }

    fn send(&self, pods: &[Arc<Pod>]) {
        self.send_from(SourceKind::File, pods);
    }

    fn send_from(&self, source: SourceKind, pods: &[Arc<Pod>]) {
        let snapshot = SourceSnapshot::new(source, pods.to_vec());
        self.kubelet.as_ref().unwrap().send(snapshot).unwrap();
    }

    /// Ends the kubelet and starts the next one; nothing was sent to it yet.
    async fn restart(&mut self) {
        self.kubelet.take().unwrap().crash().await;
        self.start();
    }

    /// Sets the node's wall clock this far from the truth.
    fn set_clock(&self, hours: i64) {
        let by = hours * 3_600_000_000_000;
        self.set_by.store(by, Ordering::Relaxed);
        self.runtime.set_wall_clock(by);
    }

    /// Instances of a container that ran, in order, as seconds since the first one's start: (start, end).
    fn runs_of(&self, uid: &str, name: &str) -> Vec<(i64, Option<i64>)> {
        let all = self.instances();
        let ran: Vec<&Instance> = all
            .iter()
            .filter(|i| i.pod_uid == uid && i.name == name && i.started.is_some())
            .collect();
        let first = ran.first().and_then(|i| i.started).unwrap_or(0);
        let seconds = |at: i64| (at - first) / 1_000_000_000;
        ran.iter()
            .map(|i| (seconds(i.started.unwrap()), i.ended.map(seconds)))
            .collect()
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
            .shown(&PodUid::parse(uid).unwrap());
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

/// Hours.
const YEAR: i64 = 365 * 24;
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
async fn an_exit_shows_as_soon_as_the_runtime_knows() {
    let node = Node::new();
    node.send(&[pod("a", HERE, &["sh", "-c", "sleep 50; exit 3"], 30)]);
    node.run_for(40).await;
    let mut shown = node.kubelet.as_ref().unwrap().status.subscribe();
    let ended = |pods: &kubelet_act::report::status::ReportedPods| {
        let status = &pods[&PodUid::parse("a").unwrap()].status;
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
async fn a_sandbox_that_cannot_be_made_is_waited_for_quietly() {
    let node = Node::new();
    node.runtime.faults(|plan| {
        for call in 1..=6 {
            plan.add(
                "RunPodSandbox",
                call,
                Fault::FailBefore(tonic::Code::Unknown),
            );
        }
    });
    node.send(&[pod("a", HERE, &["serve"], 30)]);
    node.run_for(20).await;
    // Tries after 1, 2, 4, 8 s, each with a look or two behind it, and the slow list every second.
    let calls = node.calls_since(0);
    assert!(calls.len() < 80, "{} calls", calls.len());
    node.run_for(60).await;
    assert!(is_ready(&node.status("a").unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_panics_is_started_again_and_its_pod_is_not_forgotten() {
    static LEFT: AtomicU32 = AtomicU32::new(2);
    let mut node = Node::new();
    node.kubelet.take().unwrap().crash().await;
    node.faults = Faults::at(|point| {
        let is_it = point == FaultPoint::BetweenCreateAndStart;
        if is_it && LEFT.load(Ordering::Relaxed) > 0 {
            LEFT.fetch_sub(1, Ordering::Relaxed);
            std::panic::resume_unwind(Box::new("the test's own"));
        }
        false
    });
    node.start();
    node.send(&[pod("a", HERE, &["serve"], 5), pod("b", HERE, &["serve"], 5)]);
    node.run_for(60).await;
    for uid in ["a", "b"] {
        assert!(is_ready(&node.status(uid).unwrap()));
        assert_eq!(node.runs_of(uid, "main").len(), 1);
    }
    node.send(&[]);
    node.run_for(60).await;
    assert!(node.instances().iter().all(|i| i.removed.is_some()));
}

#[tokio::test(start_paused = true)]
async fn a_lost_journal_flips_no_pod() {
    let mut node = Node::new();
    let pods = [pod("a", HERE, &["serve"], 5)];
    node.send(&pods);
    node.run_for(60).await;
    node.kubelet.take().unwrap().crash().await;
    std::fs::remove_file(node.dir.join(JOURNAL.trim_start_matches('/'))).unwrap();
    node.runtime
        .crash(Duration::from_secs(10), testkit::cri::CrashScope::Runtime);
    node.start();
    let mut shown = node.kubelet.as_ref().unwrap().status.subscribe();
    node.send(&pods);
    for _ in 0..400 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = shown.borrow_and_update().clone();
        if let Some(pod) = now.get(&PodUid::parse("a").unwrap()) {
            assert!(is_ready(&pod.status), "{:?}", pod.status);
        }
    }
    assert!(node.status("a").is_some());
    assert_eq!(node.runs_of("a", "main"), [(0, None)]);
}

/// After a restart every pod is looked at before any is planned for; one that the runtime does not tell of keeps no other waiting.
#[tokio::test(start_paused = true)]
async fn a_first_look_that_hangs_holds_up_its_own_pod_alone() {
    let mut node = Node::new();
    let [a, b, c] = ["a", "b", "c"].map(|uid| pod(uid, HERE, &["serve"], 5));
    node.send(&[Arc::clone(&a), Arc::clone(&b)]);
    node.run_for(30).await;
    node.kubelet.take().unwrap().crash().await;
    node.runtime.faults(|plan| {
        let next = plan.calls_of("PodSandboxStatus") + 1;
        plan.add("PodSandboxStatus", next, Fault::Hang);
    });
    node.start();
    node.send(&[a, b, c]);
    node.run_for(20).await;
    assert!(is_ready(&node.status("c").unwrap()), "the new one");
    let seen = ["a", "b"].map(|uid| node.status(uid).is_some_and(|status| is_ready(&status)));
    assert_eq!(seen.into_iter().filter(|is_seen| *is_seen).count(), 1);
    node.run_for(300).await;
    for uid in ["a", "b", "c"] {
        assert!(is_ready(&node.status(uid).unwrap()), "{uid}");
        assert_eq!(node.runs_of(uid, "main").len(), 1, "{uid}");
    }
}

/// As many starts hang as there are slots; the next pod waits for them some seconds, and no longer.
#[tokio::test(start_paused = true)]
async fn starts_that_hang_hold_up_nobody_elses() {
    for method in ["RunPodSandbox", "CreateContainer", "StartContainer"] {
        let node = Node::new();
        node.runtime.faults(|plan| {
            for call in 1..=4 {
                plan.add(method, call, Fault::Hang);
            }
        });
        let hung: Vec<_> = ["a", "b", "c", "d"]
            .map(|uid| pod(uid, HERE, &["serve"], 5))
            .to_vec();
        node.send(&hung);
        node.run_for(5).await;
        let other = pod("e", HERE, &["serve"], 5);
        node.send(&[hung, vec![other]].concat());
        node.run_for(15).await;
        assert!(is_ready(&node.status("e").unwrap()), "{method}");
        assert!(!is_ready(&node.status("a").unwrap()), "{method}");
        // What hung has an end, too.
        node.run_for(600).await;
        for uid in ["a", "b", "c", "d"] {
            assert!(is_ready(&node.status(uid).unwrap()), "{method} {uid}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_the_network_behind_an_older_failure_too() {
    let node = Node::new();
    node.runtime.faults(|plan| {
        plan.add("RunPodSandbox", 1, Fault::FailBefore(tonic::Code::Unknown));
    });
    node.send(&[pod("a", HERE, &["serve"], 5)]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let why = NetworkState::NotReady("cni plugin not initialized".to_owned());
    node.network.send_replace(why);
    node.run_for(30).await;
    node.network.send_replace(NetworkState::Ready);
    node.run_for(5).await;
    assert!(is_ready(&node.status("a").unwrap()));
}

/// The pod with this changed in its spec.
fn with_spec(pod: &Pod, change: impl FnOnce(&mut v1::PodSpec)) -> Arc<Pod> {
    let mut object = (*pod.object).clone();
    change(object.spec.as_mut().unwrap());
    Arc::new(Pod::new(Arc::new(object), pod.source, Vec::new()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_rejected_fails_and_what_runs_stays_whoever_comes_first_after_a_restart() {
    let mut node = Node::new();
    let on_port = |uid: &str| {
        with_spec(&pod(uid, HERE, &["serve"], 5), |spec| {
            let port = v1::ContainerPort {
                container_port: 80,
                host_port: Some(80),
                ..v1::ContainerPort::default()
            };
            spec.containers[0].ports = Some(vec![port]);
        })
    };
    // By name the one that runs comes last.
    let (runs, late) = (on_port("b"), on_port("a"));
    let other_os = with_spec(&pod("w", HERE, &["serve"], 5), |spec| {
        spec.os = Some(v1::PodOS {
            name: "windows".to_owned(),
        });
    });
    node.send(&[Arc::clone(&runs)]);
    node.run_for(20).await;
    let all = [late, other_os, runs];
    for _ in 0..3 {
        node.send(&all);
        node.run_for(30).await;
        let shown = |uid: &str| {
            let status = node.status(uid).unwrap();
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let all = [&status.phase, &status.reason, &status.message].map(text);
            (
                all.join(" "),
                status.conditions.clone(),
                status.container_statuses.clone(),
            )
        };
        assert_eq!(
            shown("a"),
            (
                "Failed NodePorts Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the \
                 requested pod ports"
                    .to_owned(),
                None,
                None
            )
        );
        assert_eq!(
            shown("w").0,
            "Failed PodOSNotSupported Pod was rejected: Failed to admit pod as the OS field doesn't match node OS"
        );
        assert!(is_ready(&node.status("b").unwrap()));
        assert_eq!(node.runs_of("b", "main"), [(0, None)]);
        assert!(node.instances().iter().all(|i| i.pod_uid == "b"));
        node.restart().await;
    }
    // The port is free, and a static pod is asked anew.
    node.send(&all[..1]);
    node.run_for(30).await;
    assert!(is_ready(&node.status("a").unwrap()));
    let rejections = "kubelet_admission_rejections_total";
    assert!(!metrics(&node).contains(rejections), "of this process");
}

#[tokio::test(start_paused = true)]
async fn variables_come_from_the_file_that_an_init_container_left() {
    let node = Node::new();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = Arc::clone(&seen);
    node.runtime.set_scripts(move |scripts| {
        scripts.behaviour = Arc::new(move |call| {
            let envs = call.container.envs.iter();
            let envs = envs.filter(|env| ["A", "B"].contains(&env.key.as_str()));
            let mut told = told.lock().unwrap();
            told.extend(
                envs.map(|env| format!("{}={}", env.key, String::from_utf8_lossy(&env.value))),
            );
            pods::behaviour(call)
        });
    });
    let pod = with_spec(
        &pod("a", HERE, &["sh", "-c", "sleep 20; exit 1"], 5),
        |spec| {
            let from = |key: &str, optional| v1::EnvVar {
                name: key.to_owned(),
                value_from: Some(v1::EnvVarSource {
                    file_key_ref: Some(v1::FileKeySelector {
                        key: key.to_owned(),
                        optional,
                        path: "env".to_owned(),
                        volume_name: "v".to_owned(),
                    }),
                    ..v1::EnvVarSource::default()
                }),
                ..v1::EnvVar::default()
            };
            spec.containers[0].env = Some(vec![from("A", None), from("B", Some(true))]);
            let mut init = spec.containers[0].clone();
            init.name = "init".to_owned();
            init.env = None;
            init.command = Some(["sh", "-c", "sleep 5"].map(str::to_owned).to_vec());
            spec.init_containers = Some(vec![init]);
            spec.volumes = Some(vec![v1::Volume {
                name: "v".to_owned(),
                empty_dir: Some(v1::EmptyDirVolumeSource::default()),
                ..v1::Volume::default()
            }]);
        },
    );
    node.send(&[pod]);
    node.run_for(12).await;
    let waiting = |node: &Node| {
        let statuses = node
            .status("a")
            .unwrap()
            .container_statuses
            .clone()
            .unwrap();
        let waiting = statuses[0].state.clone().unwrap().waiting;
        waiting.map(|w| (w.reason.unwrap_or_default(), w.message.unwrap_or_default()))
    };
    let waits = |message: &str| Some(("CreateContainerConfigError".to_owned(), message.to_owned()));
    assert_eq!(waiting(&node), waits("couldn't parse env file"));
    let volume = "/var/lib/kubelet/pods/a/volumes/kubernetes.io~empty-dir/v";
    let file = node.dir.join(volume.trim_start_matches('/')).join("env");
    std::fs::write(&file, "B='2'\n").unwrap();
    node.run_for(12).await;
    let missing = format!("environment variable key \"A\" not found in file \"{volume}/env\"");
    assert_eq!(waiting(&node), waits(&missing));
    std::fs::write(&file, "A='1'\n").unwrap();
    node.run_for(12).await;
    assert_eq!(*seen.lock().unwrap(), ["A=1"]);
    // Every start reads anew.
    std::fs::write(&file, "A='3'\nB='4'\n").unwrap();
    node.run_for(25).await;
    assert_eq!(*seen.lock().unwrap(), ["A=1", "A=3", "B=4"]);
}

/// The same pod under another UID, name and source.
fn as_other(pod: &Pod, uid: &str, name: &str, source: SourceKind) -> Arc<Pod> {
    let mut object = (*pod.object).clone();
    object.metadata.uid = Some(uid.to_owned());
    object.metadata.name = Some(name.to_owned());
    Arc::new(Pod::new(Arc::new(object), source, Vec::new()).unwrap())
}

fn reason(status: &v1::PodStatus) -> &str {
    status.reason.as_deref().unwrap_or_default()
}

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
