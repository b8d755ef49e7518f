//! Events at the project's own API server: made, counted up, in order; a full queue, a server that is away, a stop.
//!
//! In:    decided events; the API server in this process, over a pipe
//! Out:   what the server holds
//! Calls: cargo test
//! Holds: the server is the only witness; no test waits on real time
//! Upstream: client-go/tools/record/event_test.go (which cases)

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use k8s_openapi::api::core::v1;
use kubelet_apiserver::base::clock::Chance;
use kubelet_apiserver::base::user::User;
use kubelet_apiserver::identity::Identity;
use kubelet_apiserver::kinds::resources::selectable_fields;
use kubelet_apiserver::store::Store;
use kubelet_apiserver::{ApiServer, ServerParts};
use kubelet_cluster::{Client, ClientConfig, Rate, WallClock};
use kubelet_decide::report::events::{created, sandbox_failed, started, starting};
use kubelet_model::dice::Dice;
use kubelet_model::pod::SourceKind;

use super::*;

const NOON: i64 = 1_795_608_000;

/// The server, and how it is reached.
#[derive(Clone)]
struct World {
    server: ApiServer,
    is_away: Arc<AtomicBool>,
    dials: Arc<AtomicUsize>,
    began: tokio::time::Instant,
}

impl World {
    /// With the namespace that events live in.
    async fn new() -> Self {
        let world = Self::empty();
        let body = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"default"}}"#;
        let made = world.ask(hyper::Method::POST, "/api/v1/namespaces", body);
        made.await;
        world
    }

    fn empty() -> Self {
        let began = tokio::time::Instant::now();
        let chance = Chance::seeded(7);
        let noon = jiff::Timestamp::from_second(NOON).unwrap();
        let parts = ServerParts {
            store: Store::memory(selectable_fields).unwrap(),
            now: Arc::new(move || noon + began.elapsed()),
            identity: Identity::fresh(&chance, noon).unwrap(),
            chance,
            static_tokens: BTreeMap::new(),
            advertised: None,
            own_kubelet: None,
        };
        Self {
            server: ApiServer::new(parts).unwrap(),
            is_away: Arc::default(),
            dials: Arc::default(),
            began,
        }
    }

    fn clock(&self) -> WallClock {
        let (noon, began) = (jiff::Timestamp::from_second(NOON).unwrap(), self.began);
        WallClock::new(move || noon + began.elapsed())
    }

    fn client(&self, user: User) -> Client {
        let world = self.clone();
        let rate = Rate {
            qps: 1000,
            burst: 2000,
        };
        let config = ClientConfig {
            user_agent: "kubelet".to_owned(),
            rate,
            event_rate: Some(rate),
        };
        let pipe: kubelet_cluster::Pipe = Arc::new(move || {
            let (world, user) = (world.clone(), user.clone());
            Box::pin(async move { world.dial(user) })
        });
        Client::in_process(pipe, &config, self.clock())
    }

    fn dial(&self, user: User) -> std::io::Result<Box<dyn kubelet_cluster::Io>> {
        self.dials.fetch_add(1, Ordering::Relaxed);
        if self.is_away.load(Ordering::Relaxed) {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let service = TowerToHyperService::new(self.server.service_as(user));
        #[expect(
            clippy::disallowed_methods,
            reason = "the server's side of a connection in a test"
        )]
        let task = tokio::spawn(async move {
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            drop(
                builder
                    .serve_connection(TokioIo::new(theirs), service)
                    .await,
            );
        });
        drop(task);
        Ok(Box::new(ours))
    }

    fn recorded(&self) -> (Events, EventRecorder, EventSender) {
        let client = self.client(User::node("n"));
        let dice = Dice::new(3);
        let made = kubelet_cluster::events::events(Some(client), self.clock(), "n", dice);
        let (recorder, sender) = made;
        (Events::recorded("n", recorder.clone()), recorder, sender)
    }

    /// As the administrator.
    async fn ask(&self, method: hyper::Method, path: &str, body: &'static str) -> Bytes {
        let call = kubelet_cluster::Call {
            operation: "ask",
            lane: kubelet_cluster::LaneKind::General,
            method,
            path: path.to_owned(),
            content_type: "application/json",
            body: Bytes::from_static(body.as_bytes()),
            deadline: Duration::from_secs(30),
        };
        self.client(User::admin()).call(call).await.unwrap()
    }

    /// What the server holds, in the order in which it was written last.
    async fn held(&self) -> Vec<v1::Event> {
        let answer = self.ask(hyper::Method::GET, "/api/v1/events", "").await;
        let list: k8s_openapi::List<v1::Event> = serde_json::from_slice(&answer).unwrap();
        let mut held = list.items;
        let version = |event: &v1::Event| -> u64 {
            let version = event.metadata.resource_version.as_deref().unwrap();
            version.parse().unwrap()
        };
        held.sort_by_key(version);
        held
    }
}

fn pod(name: &str) -> Pod {
    let object = serde_json::json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "resourceVersion": "7"},
        "spec": {"containers": [{"name": "main"}]},
    });
    let object = Arc::new(serde_json::from_value(object).unwrap());
    Pod::new(object, SourceKind::Api, Vec::new()).unwrap()
}

fn words(events: &[v1::Event]) -> Vec<String> {
    let word = |event: &v1::Event| {
        let about = &event.involved_object;
        let reason = event.reason.as_deref().unwrap();
        format!(
            "{} {reason} x{}",
            about.name.as_deref().unwrap(),
            event.count.unwrap()
        )
    };
    events.iter().map(word).collect()
}

#[tokio::test(start_paused = true)]
async fn an_event_is_made_and_counted_up_when_it_repeats() {
    let world = World::new().await;
    let (events, recorder, mut sender) = world.recorded();
    let told = async move {
        for _ in 0..3 {
            events.pod(&pod("web"), started(&pod("web"), "main").unwrap());
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        drop((events, recorder));
    };
    tokio::join!(told, sender.run());
    let held = world.held().await;
    assert_eq!(words(&held), ["web Started x3"]);
    let event = &held[0];
    let about = &event.involved_object;
    assert_eq!(about.field_path.as_deref(), Some("spec.containers{main}"));
    assert_eq!(about.uid.as_deref(), Some("uid-web"));
    assert_eq!(about.resource_version.as_deref(), Some("7"));
    assert_eq!(event.message.as_deref(), Some("Container started"));
    let source = event.source.as_ref().unwrap();
    assert_eq!(source.component.as_deref(), Some("kubelet"));
    assert_eq!(source.host.as_deref(), Some("n"));
    let second = |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
        time.as_ref().unwrap().0.as_second() - NOON
    };
    assert_eq!(
        (
            second(&event.first_timestamp),
            second(&event.last_timestamp)
        ),
        (0, 40)
    );
}

#[tokio::test(start_paused = true)]
async fn events_are_sent_in_their_order() {
    let world = World::new().await;
    let (events, recorder, mut sender) = world.recorded();
    events.node(starting());
    for name in ["a", "b"] {
        events.pod(&pod(name), created(&pod(name), "main").unwrap());
        tokio::time::advance(Duration::from_millis(1)).await;
        events.pod(&pod(name), started(&pod(name), "main").unwrap());
    }
    drop((events, recorder));
    sender.run().await;
    assert_eq!(
        words(&world.held().await),
        [
            "n Starting x1",
            "a Created x1",
            "a Started x1",
            "b Created x1",
            "b Started x1"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_and_says_so_and_nobody_waits() {
    let world = World::new().await;
    let (events, recorder, mut sender) = world.recorded();
    let before = tokio::time::Instant::now();
    for number in 0..1005 {
        let pod = pod(&format!("p{number}"));
        events.pod(&pod, sandbox_failed("no"));
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(recorder.counts().dropped, 5);
    drop(events);
    sender.flush().await;
    assert_eq!(recorder.counts().sent, 1000);
}

#[tokio::test(start_paused = true)]
async fn while_the_server_is_away_events_wait_and_then_come_in_their_order() {
    let world = World::new().await;
    world.is_away.store(true, Ordering::Relaxed);
    let (events, recorder, mut sender) = world.recorded();
    let script = async {
        events.pod(&pod("a"), sandbox_failed("no"));
        events.pod(&pod("b"), sandbox_failed("no"));
        tokio::time::sleep(Duration::from_secs(35)).await;
        assert_eq!(recorder.counts().sent, 0);
        assert!(world.dials.load(Ordering::Relaxed) > 1, "it is tried again");
        world.is_away.store(false, Ordering::Relaxed);
        drop(events);
        drop(recorder);
    };
    tokio::join!(script, sender.run());
    assert_eq!(
        words(&world.held().await),
        ["a FailedCreatePodSandBox x1", "b FailedCreatePodSandBox x1"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_stop_sends_what_waits_but_does_not_wait_for_a_server_that_is_away() {
    let world = World::new().await;
    let (events, _recorder, sender) = world.recorded();
    let stop = CancellationToken::new();
    stop.cancel();
    events.pod(&pod("a"), sandbox_failed("no"));
    send(Arc::new(Mutex::new(sender)), stop.clone()).await;
    assert_eq!(words(&world.held().await), ["a FailedCreatePodSandBox x1"]);

    let away = World::new().await;
    away.is_away.store(true, Ordering::Relaxed);
    let (events, _recorder, sender) = away.recorded();
    events.pod(&pod("a"), sandbox_failed("no"));
    let before = tokio::time::Instant::now();
    send(Arc::new(Mutex::new(sender)), stop).await;
    assert_eq!(before.elapsed(), FLUSH);
}
