//! A node without its API server: the product's pod path over the stand-in runtime, with the tasks that speak to the project's own API
//! server over a line that is away for 30 min.
//!
//! In:    pods of the API and static ones; exits, additions and a deletion during the outage
//! Out:   what runs, what the server holds and held, how often it was asked
//! Calls: cargo test
//! Holds: running pods, restarts and static pods go on; within a minute of the return everything agrees, without flips, storms or
//!        duplicates; no test waits on real time
//! Upstream: none

#![expect(clippy::unwrap_used, reason = "helpers of tests are test code")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use k8s_openapi::api::core::v1;
use kubelet_act::frame::clock::Clock;
use kubelet_act::frame::faults::Faults;
use kubelet_act::frame::reconciler::Reconcilers;
use kubelet_act::observe::exits::ExitSource;
use kubelet_act::report::events::{Events, send};
use kubelet_act::report::mirror_pods::{MirrorInputs, MirrorPods};
use kubelet_act::report::status_write::{StatusFigures, StatusInputs, StatusWriter};
use kubelet_act::sources::SourceSnapshot;
use kubelet_act::sources::cluster_source::follow;
use kubelet_apiserver::base::user::User;
use kubelet_cluster::WallClock;
use kubelet_cluster::events::events;
use kubelet_cluster::pods::{PodWatch, Terms};
use kubelet_decide::shapes::view::NetworkState;
use kubelet_host::HostRoot;
use kubelet_host::journal::disk_faults::DiskFaults;
use kubelet_model::dice::Dice;
use kubelet_model::ids::PodUid;
use kubelet_model::pod::{Pod, SourceKind};
use prometheus::Registry;
use serde_json::{Value, json};
use testkit::cluster::{Health, TestCluster};
use testkit::cri::StandInRuntime;
use testkit::cri::trace::Instance;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use world::kubelet::{Outside, SimKubelet};
use world::pods;
use world::scene::{node_dir, runtime_config};

const PODS: &str = "/api/v1/namespaces/default/pods";
const MIRROR: &str = "kubernetes.io/config.mirror";

struct Node {
    dir: PathBuf,
    runtime: StandInRuntime,
    cluster: TestCluster,
    kubelet: Arc<SimKubelet>,
    stop: CancellationToken,
    _network: watch::Sender<NetworkState>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

impl Node {
    /// A node whose line to the server is like this from the first moment.
    async fn new(health: Health) -> Self {
        let dir = node_dir("offline").unwrap();
        let config = runtime_config();
        let began = jiff::Timestamp::from_nanosecond(i128::from(config.epoch_ns)).unwrap();
        let cluster = TestCluster::new(began).unwrap();
        cluster.run_controllers();
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}});
        let made = cluster
            .ask(Method::POST, "/api/v1/nodes", &node)
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        cluster.line.set(health);
        let clock = Clock::simulated(cluster.clock().now());
        let runtime = StandInRuntime::new(config);
        runtime.set_scripts(|scripts| {
            scripts.behaviour = Arc::new(pods::behaviour);
            scripts.pull = Arc::new(pods::pull);
        });
        let wall = WallClock::new(move || clock.now());
        let client = cluster.client(User::node("node"), wall.clone());
        let (recorder, sender) = events(Some(client.clone()), wall, "node", Dice::new(3));
        let network = watch::Sender::new(NetworkState::Ready);
        let exits = runtime.clone();
        let outside = Outside {
            root: HostRoot::at(&dir),
            clock,
            exits: ExitSource::Simulated(Arc::new(move |pid| Box::pin(exits.exit_of(pid)))),
            network: network.subscribe(),
            events: Events::recorded("node", recorder),
            faults: Faults::none(),
            loses_writes: false,
            disk: DiskFaults::default(),
            sources: [SourceKind::File, SourceKind::Api].into(),
        };
        let kubelet = Arc::new(SimKubelet::start(&runtime, outside).unwrap());
        let node = Self {
            dir,
            runtime,
            cluster,
            kubelet,
            stop: CancellationToken::new(),
            _network: network,
        };
        node.run(send(
            Arc::new(tokio::sync::Mutex::new(sender)),
            node.stop.clone(),
        ));
        node.join(client, made["metadata"]["uid"].as_str().unwrap());
        node
    }

    /// Starts what speaks to the API server, as the product's wiring does.
    fn join(&self, client: kubelet_cluster::Client, uid: &str) {
        let (watched, sets) = PodWatch::new(client.clone(), "node", Terms::default(), Dice::new(1));
        self.run(watched.run());
        let (snapshots, mut taken) = mpsc::channel(64);
        self.run(follow(sets.clone(), snapshots));
        let kubelet = Arc::clone(&self.kubelet);
        self.run(async move {
            while let Some(snapshot) = taken.recv().await {
                kubelet.send(snapshot).unwrap();
            }
        });
        let status = &self.kubelet.status;
        let inputs = StatusInputs {
            status: status.clone(),
            held: sets.clone(),
            figures: StatusFigures::new(&Registry::new()).unwrap(),
        };
        let supervisor = self.kubelet.supervisor.clone();
        let clock = self.kubelet.clock;
        let reconcilers = Reconcilers::new(supervisor, clock, 1, &Registry::new()).unwrap();
        reconcilers.spawn(
            StatusWriter::new(client.clone(), inputs),
            StatusWriter::pace(),
        );
        let identity = watch::Sender::new(Some(("node".to_owned(), uid.to_owned())));
        let inputs = MirrorInputs {
            reported: status.subscribe(),
            held: sets,
            node: identity.subscribe(),
            all_seen: self.kubelet.path.all_sources_seen.clone(),
        };
        reconcilers.spawn(MirrorPods::new(client, inputs), MirrorPods::pace());
        let stop = self.stop.clone();
        self.run(async move {
            stop.cancelled().await;
            drop(identity);
        });
    }

    fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        #[expect(clippy::disallowed_methods, reason = "the tasks of the node in a test")]
        drop(tokio::spawn(
            self.stop.clone().run_until_cancelled_owned(task),
        ));
    }

    fn statics(&self, names: &[&str]) {
        let snapshot = SourceSnapshot::new(
            SourceKind::File,
            names.iter().map(|name| static_pod(name)).collect(),
        );
        self.kubelet.send(snapshot).unwrap();
    }

    /// A pod of the API, made by the administrator: its UID.
    async fn pod(&self, name: &str, restart: &str, command: &[&str]) -> String {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": "node", "automountServiceAccountToken": false, "restartPolicy": restart, "dnsPolicy": "Default",
                     "containers": [{"name": "main", "image": pods::PRESENT[0], "command": command}]},
        });
        let made = self.cluster.ask(Method::POST, PODS, &pod).await.unwrap();
        made["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// Runs of a pod's container that began, oldest first.
    fn runs(&self, uid: &str) -> Vec<Instance> {
        let all = self.runtime.instances(<[Instance]>::to_vec);
        let of_pod = all
            .into_iter()
            .filter(|i| i.pod_uid == uid && i.name == "main");
        of_pod.filter(|i| i.started.is_some()).collect()
    }

    /// By name, what the server holds.
    async fn held(&self) -> BTreeMap<String, v1::Pod> {
        let list = self
            .cluster
            .ask(Method::GET, PODS, &Value::Null)
            .await
            .unwrap();
        let list: k8s_openapi::List<v1::Pod> = serde_json::from_value(list).unwrap();
        let named = list.items.into_iter();
        named
            .map(|pod| (pod.metadata.name.clone().unwrap(), pod))
            .collect()
    }
}

fn static_uid(name: &str) -> String {
    format!("hash-{name}")
}

fn static_pod(name: &str) -> Arc<Pod> {
    let hash = static_uid(name);
    let object = json!({
        "metadata": {"name": format!("{name}-node"), "namespace": "default", "uid": hash,
            "annotations": {"kubernetes.io/config.hash": hash, "kubernetes.io/config.source": "file"}},
        "spec": {"nodeName": "node", "enableServiceLinks": true, "terminationGracePeriodSeconds": 30, "dnsPolicy": "Default",
                 "tolerations": [{"operator": "Exists", "effect": "NoExecute"}],
                 "containers": [{"name": "main", "image": pods::PRESENT[0], "command": ["serve"]}]},
    });
    let object = Arc::new(serde_json::from_value(object).unwrap());
    Arc::new(Pod::new(object, SourceKind::File, Vec::new()).unwrap())
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn phase(pod: &v1::Pod) -> &str {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    phase.unwrap_or_default()
}

fn restarts(status: Option<&v1::PodStatus>) -> i32 {
    let containers = status.and_then(|s| s.container_statuses.as_ref());
    containers
        .and_then(|all| all.first())
        .map_or(0, |c| c.restart_count)
}

/// No pod's restart count or phase ever goes back, and no name but these ever has a second object.
fn assert_no_flips(history: &[Arc<v1::Pod>]) {
    let rank = |pod: &v1::Pod| match phase(pod) {
        "Pending" | "" => 0,
        "Running" => 1,
        _ => 2,
    };
    let mut last: BTreeMap<String, Arc<v1::Pod>> = BTreeMap::new();
    let mut uids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for pod in history {
        let uid = pod.metadata.uid.clone().unwrap();
        let name = pod.metadata.name.clone().unwrap();
        uids.entry(name.clone()).or_default().insert(uid.clone());
        if let Some(before) = last.insert(uid, Arc::clone(pod)) {
            assert!(
                rank(&before) <= rank(pod),
                "{name}: {} to {}",
                phase(&before),
                phase(pod)
            );
            let (old, new) = (
                restarts(before.status.as_ref()),
                restarts(pod.status.as_ref()),
            );
            assert!(old <= new, "{name}: {old} restarts to {new}");
        }
    }
    let doubled = uids.iter().find(|(_, uids)| uids.len() > 1);
    assert_eq!(doubled, None, "made twice");
}

#[expect(clippy::too_many_lines, reason = "one scene after the other")]
async fn outage(health: Health) {
    let node = Node::new(Health::Good).await;
    let history = node.cluster.witness::<v1::Pod>();
    let line = node.cluster.line.clone();
    node.statics(&["a"]);
    let serves = node.pod("serves", "Always", &["serve"]).await;
    let crashes = node
        .pod("crashes", "Always", &["sh", "-c", "sleep 20; exit 1"])
        .await;
    let job = node
        .pod("job", "Never", &["sh", "-c", "sleep 600; exit 0"])
        .await;
    let doomed = node.pod("doomed", "Always", &["serve"]).await;
    seconds(60).await;
    assert_eq!(phase(&node.held().await["serves"]), "Running");
    assert!(
        node.held().await["a-node"].status.is_some(),
        "its mirror has a status"
    );

    let began = line.now();
    line.set(health);
    seconds(300).await;
    node.statics(&["a", "b"]);
    seconds(2).await;
    assert_eq!(node.runs(&static_uid("b")).len(), 1, "a static pod starts");
    seconds(298).await;
    node.cluster
        .ask(Method::DELETE, &format!("{PODS}/doomed"), &Value::Null)
        .await
        .unwrap();
    seconds(300).await;
    let pid = node.runs(&serves).last().unwrap().pid;
    assert!(node.runtime.kill(pid, 3));
    seconds(15).await;
    let runs = node.runs(&serves);
    assert_eq!(runs.len(), 2, "it is restarted");
    assert_eq!(runs[1].ended, None);
    seconds(1800 - 615 - 300).await;
    assert!(
        node.runs(&crashes).len() >= 5,
        "restarts go on: {}",
        node.runs(&crashes).len()
    );
    assert_eq!(
        node.runs(&doomed)[0].ended,
        None,
        "nobody said that it is to go"
    );
    // Six tasks: two reflector-like ones each 15 to 30 s, the others after 1, 2, 4, 8 and then every 10 s, each with its connection;
    // and at the moment at which the line goes what is on its way.
    assert!(
        line.busiest_minute(began) <= 60,
        "{} in a minute",
        line.busiest_minute(began)
    );

    let healed = line.now();
    line.set(Health::Good);
    seconds(60).await;
    let held = node.held().await;
    let names: Vec<&str> = held.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["a-node", "b-node", "crashes", "job", "serves"],
        "{health:?}"
    );
    assert_eq!(phase(&held["job"]), "Succeeded");
    assert_eq!(
        (
            phase(&held["serves"]),
            restarts(held["serves"].status.as_ref())
        ),
        ("Running", 1)
    );
    for (name, uid) in [("serves", &serves), ("crashes", &crashes), ("job", &job)] {
        let shown = node
            .kubelet
            .status
            .shown(&PodUid::parse(uid).unwrap())
            .unwrap();
        let count = restarts(Some(&shown.status));
        assert_eq!(restarts(held[name].status.as_ref()), count, "{name}");
        assert_eq!(held[name].metadata.uid.as_ref(), Some(uid));
    }
    for name in ["a", "b"] {
        let mirror = &held[&format!("{name}-node")];
        assert_eq!(phase(mirror), "Running", "{name}");
        let hash = mirror.metadata.annotations.as_ref().unwrap().get(MIRROR);
        assert_eq!(hash, Some(&static_uid(name)));
        let runs = node.runs(&static_uid(name));
        assert_eq!((runs.len(), runs[0].ended), (1, None), "{name} runs on");
    }
    assert!(node.runs(&doomed).iter().all(|run| run.ended.is_some()));
    assert_eq!(node.runs(&job).len(), 1);
    // Six objects, each with a few writes, and events that waited, one after the other.
    let after = line.attempts_since(healed);
    assert!(after <= 120, "{health:?}: {after} in the minute after");
    assert_no_flips(&history.forms(0));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_for_half_an_hour_stops_nothing_and_is_told_all() {
    outage(Health::Refused).await;
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_of_half_an_hour_stops_nothing_and_the_server_is_told_all() {
    outage(Health::BlackHole).await;
}

#[tokio::test(start_paused = true)]
async fn a_start_without_any_server_starts_static_pods_in_the_first_second() {
    for health in [Health::Refused, Health::BlackHole] {
        let node = Node::new(health).await;
        node.statics(&["a", "b", "c"]);
        seconds(1).await;
        for name in ["a", "b", "c"] {
            assert_eq!(node.runs(&static_uid(name)).len(), 1, "{health:?}: {name}");
        }
        seconds(600).await;
        node.cluster.line.set(Health::Good);
        seconds(60).await;
        let held = node.held().await;
        for name in ["a-node", "b-node", "c-node"] {
            assert_eq!(phase(&held[name]), "Running", "{health:?}: {name}");
        }
        for name in ["a", "b", "c"] {
            let runs = node.runs(&static_uid(name));
            assert_eq!((runs.len(), runs[0].ended), (1, None), "{name} runs on");
        }
    }
}

/// Statuses that were written of this pod.
fn writes(node: &Node, name: &str) -> Vec<Value> {
    let path = format!("PATCH {PODS}/{name}/status");
    let asked = node.cluster.line.asked_since(Duration::ZERO);
    let of_pod = asked.iter().filter(|asked| asked.line() == path);
    of_pod
        .map(|asked| serde_json::from_slice::<Value>(&asked.body).unwrap()["status"].take())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_starts_is_written_twice_unless_its_start_takes_long() {
    let node = Node::new(Health::Good).await;
    node.pod("quick", "Always", &["serve"]).await;
    seconds(30).await;
    let quick = writes(&node, "quick");
    assert_eq!(quick.len(), 2, "{quick:#?}");
    assert!(quick[0]["startTime"].is_string(), "{:#}", quick[0]);
    assert_eq!(quick[0]["podIP"], Value::Null);
    assert_eq!(
        quick[1]["phase"], "Running",
        "with its address: {:#}",
        quick[1]
    );
    assert!(quick[1]["podIP"].is_string());
    assert_eq!(phase(&node.held().await["quick"]), "Running");

    // Its image is pulled for many seconds.
    let image = "img/slow:1";
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "slow", "namespace": "default"},
        "spec": {"nodeName": "node", "automountServiceAccountToken": false, "dnsPolicy": "Default",
                 "containers": [{"name": "main", "image": image, "command": ["serve"]}]},
    });
    node.cluster.ask(Method::POST, PODS, &pod).await.unwrap();
    seconds(2).await;
    let slow = writes(&node, "slow");
    assert_eq!(slow.len(), 2, "{slow:#?}");
    assert!(slow[1]["podIP"].is_string(), "its network is not kept back");
}

/// The administrator puts a condition of somebody else's into a pod's status.
async fn put_condition(node: &Node, name: &str, type_: &str, status: &str) {
    let path = format!("{PODS}/{name}");
    let mut pod = node
        .cluster
        .ask(Method::GET, &path, &Value::Null)
        .await
        .unwrap();
    let conditions = pod["status"]["conditions"].as_array_mut().unwrap();
    conditions.retain(|condition| condition["type"] != type_);
    conditions.push(json!({"type": type_, "status": status}));
    let path = format!("{path}/status");
    node.cluster.ask(Method::PUT, &path, &pod).await.unwrap();
}

fn said(pod: Option<&v1::PodStatus>, type_: &str) -> Option<String> {
    let conditions = pod?.conditions.as_ref()?;
    let found = conditions
        .iter()
        .find(|condition| condition.type_ == type_)?;
    Some(found.status.clone())
}

#[tokio::test(start_paused = true)]
async fn what_others_say_of_a_quiet_pod_is_shown_and_never_put_back() {
    let node = Node::new(Health::Good).await;
    let uid = node.pod("quiet", "Always", &["serve"]).await;
    let uid = PodUid::parse(&uid).unwrap();
    seconds(30).await;
    let before = writes(&node, "quiet").len();
    for type_ in ["DisruptionTarget", "example.com/seen"] {
        for status in ["True", "False"] {
            put_condition(&node, "quiet", type_, status).await;
            seconds(30).await;
            let shown = node.kubelet.status.shown(&uid).unwrap();
            let held = node.held().await["quiet"].clone();
            for status_of in [Some(&*shown.status), held.status.as_ref()] {
                assert_eq!(said(status_of, type_).as_deref(), Some(status), "{type_}");
            }
            let of = |pod: &v1::Pod| pod.metadata.resource_version.clone();
            assert_eq!(of(&shown.object), of(&held), "{type_}");
        }
    }
    assert_eq!(
        writes(&node, "quiet").len(),
        before,
        "nothing to say to that"
    );
}
