//! The stories of pods as the API server tells them: the product's tasks over the stand-in runtime, their events sent to the project's
//! own API server, on virtual time.
//!
//! In:    a pod or two
//! Out:   the events that the server holds
//! Calls: cargo test
//! Holds: no test waits on real time
//! Upstream: none

#![expect(clippy::unwrap_used, reason = "helpers of tests are test code")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use k8s_openapi::api::core::v1;
use kubelet_act::frame::clock::Clock;
use kubelet_act::frame::faults::Faults;
use kubelet_act::observe::exits::ExitSource;
use kubelet_act::report::events::Events;
use kubelet_act::sources::SourceSnapshot;
use kubelet_apiserver::base::clock::Chance;
use kubelet_apiserver::base::user::User;
use kubelet_apiserver::identity::Identity;
use kubelet_apiserver::kinds::resources::selectable_fields;
use kubelet_apiserver::store::Store;
use kubelet_apiserver::{ApiServer, ServerParts};
use kubelet_cluster::events::{EventSender, events};
use kubelet_cluster::{Call, Client, ClientConfig, LaneKind, Pipe, Rate, WallClock};
use kubelet_decide::shapes::view::NetworkState;
use kubelet_host::HostRoot;
use kubelet_host::journal::disk_faults::DiskFaults;
use kubelet_model::dice::Dice;
use kubelet_model::pod::{Pod, SourceKind};
use testkit::cri::StandInRuntime;
use tokio::sync::watch;
use world::kubelet::{Outside, SimKubelet};
use world::pods;
use world::scene::{node_dir, runtime_config};

struct Node {
    dir: PathBuf,
    server: ApiServer,
    clock: Clock,
    network: watch::Sender<NetworkState>,
    kubelet: SimKubelet,
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

impl Node {
    /// A node, and the task that sends its events.
    async fn new(network: NetworkState) -> (Self, EventSender) {
        let dir = node_dir("events").unwrap();
        let config = runtime_config();
        let began = jiff::Timestamp::from_nanosecond(i128::from(config.epoch_ns)).unwrap();
        let clock = Clock::simulated(began);
        let runtime = StandInRuntime::new(config);
        runtime.set_scripts(|scripts| {
            scripts.behaviour = Arc::new(pods::behaviour);
            scripts.pull = Arc::new(pods::pull);
        });
        let server = api_server(clock);
        let namespace = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"default"}}"#;
        let (post, path) = (hyper::Method::POST, "/api/v1/namespaces");
        drop(ask(&server, clock, post, path, namespace).await);
        let node_client = client(&server, clock, User::node("node"));
        let wall = WallClock::new(move || clock.now());
        let (recorder, sender) = events(Some(node_client), wall, "node", Dice::new(3));
        let network = watch::Sender::new(network);
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
            sources: [SourceKind::File].into(),
        };
        let kubelet = SimKubelet::start(&runtime, outside).unwrap();
        let node = Self {
            dir,
            server,
            clock,
            network,
            kubelet,
        };
        (node, sender)
    }

    fn send(&self, pods: &[Arc<Pod>]) {
        let snapshot = SourceSnapshot::new(SourceKind::File, pods.to_vec());
        self.kubelet.send(snapshot).unwrap();
    }

    /// What people read, in the order in which it first happened, each with how often.
    async fn told(&self) -> Vec<String> {
        let path = "/api/v1/namespaces/default/events";
        let answer = ask(&self.server, self.clock, hyper::Method::GET, path, "").await;
        let mut list: k8s_openapi::List<v1::Event> = serde_json::from_slice(&answer).unwrap();
        // Their names end with the nanosecond.
        list.items.sort_by_key(|event| {
            let name = event.metadata.name.clone().unwrap_or_default();
            name.rsplit('.').next().unwrap_or_default().to_owned()
        });
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let line = |event: &v1::Event| {
            format!(
                "{} {} {} {} x{}",
                text(&event.involved_object.field_path),
                text(&event.type_),
                text(&event.reason),
                text(&event.message),
                event.count.unwrap()
            )
        };
        list.items.iter().map(line).collect()
    }
}

fn api_server(clock: Clock) -> ApiServer {
    let chance = Chance::seeded(7);
    let parts = ServerParts {
        store: Store::memory(selectable_fields).unwrap(),
        now: Arc::new(move || clock.now()),
        identity: Identity::fresh(&chance, clock.now()).unwrap(),
        chance,
        static_tokens: BTreeMap::new(),
        advertised: None,
        own_kubelet: None,
    };
    ApiServer::new(parts).unwrap()
}

fn client(server: &ApiServer, clock: Clock, user: User) -> Client {
    let server = server.clone();
    let pipe: Pipe = Arc::new(move || {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let service = TowerToHyperService::new(server.service_as(user.clone()));
        #[expect(
            clippy::disallowed_methods,
            reason = "the server's side of a connection in a test"
        )]
        drop(tokio::spawn(async move {
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            drop(
                builder
                    .serve_connection(TokioIo::new(theirs), service)
                    .await,
            );
        }));
        Box::pin(async move { Ok(Box::new(ours) as Box<dyn kubelet_cluster::Io>) })
    });
    let rate = Rate {
        qps: 100,
        burst: 200,
    };
    let config = ClientConfig {
        user_agent: "kubelet".to_owned(),
        rate,
        event_rate: Some(rate),
    };
    Client::in_process(pipe, &config, WallClock::new(move || clock.now()))
}

async fn ask(
    server: &ApiServer,
    clock: Clock,
    method: hyper::Method,
    path: &str,
    body: &'static str,
) -> Bytes {
    let call = Call {
        operation: "ask",
        lane: LaneKind::General,
        method,
        path: path.to_owned(),
        content_type: "application/json",
        body: Bytes::from_static(body.as_bytes()),
        deadline: Duration::from_secs(30),
    };
    let client = client(server, clock, User::admin());
    client.call(call).await.unwrap()
}

fn pod(image: &str, command: &[&str]) -> Arc<Pod> {
    let object = serde_json::json!({
        "metadata": {"name": "a-node", "namespace": "default", "uid": "a"},
        "spec": {"enableServiceLinks": true, "terminationGracePeriodSeconds": 30, "dnsPolicy": "Default",
                 "containers": [{"name": "main", "image": image, "command": command}]},
    });
    let object = Arc::new(serde_json::from_value(object).unwrap());
    Arc::new(Pod::new(object, SourceKind::File, Vec::new()).unwrap())
}

/// What is told of a pod that runs so long, is removed then, and of its end.
async fn story(network: NetworkState, pod: Arc<Pod>, seconds: u64) -> Vec<String> {
    let (node, mut sender) = Node::new(network).await;
    let script = async {
        node.send(&[pod]);
        tokio::time::sleep(Duration::from_secs(5)).await;
        node.network.send_replace(NetworkState::Ready);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        node.send(&[]);
        tokio::time::sleep(Duration::from_secs(60)).await;
        node.told().await
    };
    tokio::select! {
        told = script => told,
        () = sender.run() => Vec::new(),
    }
}

const AT: &str = "spec.containers{main}";

#[tokio::test(start_paused = true)]
async fn a_pod_that_serves_tells_of_its_start_and_its_end() {
    let network = NetworkState::NotReady("no plugin".to_owned());
    let told = story(network, pod(pods::PRESENT[0], &["serve"]), 30).await;
    let expected = [
        " Warning NetworkNotReady network is not ready: no plugin x1".to_owned(),
        format!(
            "{AT} Normal Pulled Container image \"img/here:1\" already present on machine and can be accessed by the pod x1"
        ),
        format!("{AT} Normal Created Container created x1"),
        format!("{AT} Normal Started Container started x1"),
        format!("{AT} Normal Killing Stopping container main x1"),
    ];
    assert_eq!(told, expected);
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_is_counted_up() {
    let pod = pod(pods::PRESENT[0], &["sh", "-c", "sleep 1; exit 1"]);
    let told = story(NetworkState::Ready, pod, 30).await;
    // Runs at 0, 1 and 12 s; the next waits for 20 s more.
    let expected = [
        format!(
            "{AT} Normal Pulled Container image \"img/here:1\" already present on machine and can be accessed by the pod x4"
        ),
        format!("{AT} Normal Created Container created x4"),
        format!("{AT} Normal Started Container started x4"),
        format!(
            "{AT} Warning BackOff Back-off restarting failed container main in pod a-node_default(a) x3"
        ),
    ];
    assert_eq!(told, expected);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_nobody_has_is_told_of_as_upstream_does() {
    let told = story(NetworkState::Ready, pod(pods::MISSING, &["serve"]), 20).await;
    let heads: Vec<String> = told
        .iter()
        .map(|line| line.split(": rpc error").next().unwrap().to_owned())
        .map(|line| {
            line.rsplit_once(" x")
                .map_or(line.clone(), |(head, _)| head.to_owned())
        })
        .collect();
    let expected = [
        format!("{AT} Normal Pulling Pulling image \"img/missing:1\""),
        format!("{AT} Warning Failed Failed to pull image \"img/missing:1\""),
        format!("{AT} Warning Failed Error: ErrImagePull"),
        format!("{AT} Normal BackOff Back-off pulling image \"img/missing:1\""),
        format!("{AT} Warning Failed Error: ImagePullBackOff"),
    ];
    assert_eq!(heads, expected, "{told:#?}");
}
