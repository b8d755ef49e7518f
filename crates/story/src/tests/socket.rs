//! Both services over a real unix socket.
//!
//! Upstream: pkg/kubelet/apis/pods/server_unit_test.go

use std::collections::BTreeSet;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1;
use kubelet_host::sockets::listen;
use kubelet_model::ids::PodUid;
use kubelet_model::reported::{Progress, ReportedPod, ReportedPods};
use kubelet_model::story::Story;
use prometheus::Registry;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::client::{Client, ClientError, Event};
use crate::server::{Door, serve};
use crate::source::Source;
use crate::stubs::pods::pods_client::PodsClient;
use crate::stubs::pods::{EventType, GetPodRequest, ListPodsRequest, WatchPodsRequest};

/// A directory of one test.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hyperkube-story-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A kubelet's sockets.
struct Node {
    place: Place,
    pods: watch::Sender<ReportedPods>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

fn uid(number: usize) -> PodUid {
    PodUid::parse(&format!("uid-{number:04}")).unwrap()
}

fn pod(number: usize, text: &str) -> ReportedPod {
    let mut object = v1::Pod::default();
    object.metadata.name = Some(format!("pod-{number:04}"));
    object.metadata.namespace = Some("default".to_owned());
    object.metadata.uid = Some(uid(number).to_string());
    let labels = [("text".to_owned(), text.to_owned())];
    object.metadata.labels = Some(labels.into());
    ReportedPod {
        object: Arc::new(object),
        status: Arc::new(v1::PodStatus {
            phase: Some("Running".to_owned()),
            ..v1::PodStatus::default()
        }),
        progress: Progress::Working,
    }
}

impl Node {
    fn new(count: usize, text: &str) -> Self {
        let pods = (0..count).map(|number| (uid(number), pod(number, text)));
        Self {
            place: Place::new(),
            pods: watch::Sender::new(pods.collect()),
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
        }
    }

    fn socket(&self) -> PathBuf {
        self.place.0.join("s.sock")
    }

    fn serve(&mut self, door: Door) {
        let listener: UnixListener = listen(&self.socket(), 0o600).unwrap();
        let story = |uid: &PodUid| Story {
            doing: vec![format!("looking at {uid}")],
            ..Story::default()
        };
        let json = |pod: &v1::Pod| serde_json::to_vec(pod).ok();
        let registry = Registry::new();
        let source = Source::new(self.pods.subscribe(), story, json, &registry).unwrap();
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            serve(listener, door, source, stop).await.unwrap();
        });
    }

    async fn pods_api(&self) -> PodsClient<Channel> {
        let path = self.socket();
        let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://kubelet.invalid");
        PodsClient::new(channel.connect_with_connector(connector).await.unwrap())
    }
}

#[tokio::test]
async fn a_node_with_many_pods_answers_in_pages() {
    // 30 KiB each: a page ends after a megabyte; and small ones: after 64 pods.
    for (count, text) in [(0, 0), (1, 0), (64, 0), (65, 0), (200, 30 << 10)] {
        let mut node = Node::new(count, &"x".repeat(text));
        node.serve(Door::Own);
        let mut client = Client::connect(&node.socket()).await.unwrap();
        let all = client.list().await.unwrap();
        let names: BTreeSet<&str> = all.iter().map(|told| told.name()).collect();
        assert_eq!((all.len(), names.len()), (count, count));
        for told in &all {
            let expected = format!("looking at {}", told.uid());
            assert_eq!(told.story.doing, [expected]);
            assert_eq!(told.json["kind"], "Pod");
            assert_eq!(told.json["status"]["phase"], "Running");
        }
    }
}

#[tokio::test]
async fn a_watch_tells_what_is_there_what_changes_and_what_goes() {
    let mut node = Node::new(2, "");
    node.serve(Door::Own);
    let mut client = Client::connect(&node.socket()).await.unwrap();
    let mut watch = client.watch().await.unwrap();
    let told = async |watch: &mut crate::client::Watch<'_>| match watch.next().await.unwrap() {
        Event::Changed(told) => format!(
            "{} {}",
            told.name(),
            told.json["metadata"]["labels"]["text"].as_str().unwrap()
        ),
        Event::Gone(uid) => format!("gone {uid}"),
        Event::Complete => "complete".to_owned(),
    };
    assert_eq!(told(&mut watch).await, "pod-0000 ");
    assert_eq!(told(&mut watch).await, "pod-0001 ");
    assert_eq!(told(&mut watch).await, "complete");
    node.pods
        .send_modify(|pods| drop(pods.insert(uid(1), pod(1, "new"))));
    assert_eq!(told(&mut watch).await, "pod-0001 new");
    node.pods.send_modify(|pods| drop(pods.remove(&uid(0))));
    assert_eq!(told(&mut watch).await, "gone uid-0000");
    node.stop.cancel();
    node.tasks.join_next().await.unwrap().unwrap();
    let error = watch.next().await.unwrap_err();
    assert!(matches!(error, ClientError::Closed(..)), "{error}");
}

#[tokio::test]
async fn who_does_not_read_keeps_nobody_waiting() {
    let mut node = Node::new(100, &"x".repeat(30 << 10));
    node.serve(Door::Own);
    // More than there are connections at a time, each with a watch that nobody reads.
    let mut idle = Vec::new();
    for _ in 0..70 {
        let mut client = node.pods_api().await;
        let watch = client.watch_pods(WatchPodsRequest {}).await.unwrap();
        idle.push((client, watch));
    }
    let mut client = Client::connect(&node.socket()).await.unwrap();
    let list = tokio::time::timeout(Duration::from_secs(20), client.list());
    assert_eq!(list.await.unwrap().unwrap().len(), 100);
}

#[tokio::test]
async fn the_pods_api_lists_gets_and_watches() {
    let mut node = Node::new(2, "");
    node.serve(Door::Own);
    let mut client = node.pods_api().await;
    let list = client
        .list_pods(ListPodsRequest {})
        .await
        .unwrap()
        .into_inner();
    let first: v1::Pod = serde_json::from_slice(&list.pods[0]).unwrap();
    assert_eq!(
        (list.pods.len(), first.metadata.uid.as_deref()),
        (2, Some("uid-0000"))
    );
    assert_eq!(first.status.unwrap().phase.as_deref(), Some("Running"));
    let request = |uid: &str| GetPodRequest {
        pod_uid: uid.to_owned(),
    };
    let one = client
        .get_pod(request("uid-0001"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(one.pod, list.pods[1]);
    let none = client.get_pod(request("x")).await.unwrap_err();
    assert_eq!(
        (none.code(), none.message()),
        (Code::NotFound, "pod with UID x not found")
    );
    let mut watch = client
        .watch_pods(WatchPodsRequest {})
        .await
        .unwrap()
        .into_inner();
    let mut types = Vec::new();
    for _ in 0..3 {
        types.push(watch.message().await.unwrap().unwrap().r#type());
    }
    assert_eq!(
        types,
        [
            EventType::Added,
            EventType::Added,
            EventType::InitialSyncComplete
        ]
    );
    node.pods.send_modify(|pods| {
        pods.insert(uid(0), pod(0, "new"));
        pods.insert(uid(7), pod(7, ""));
        pods.remove(&uid(1));
    });
    let mut told = Vec::new();
    for _ in 0..3 {
        let event = watch.message().await.unwrap().unwrap();
        let pod: v1::Pod = serde_json::from_slice(&event.pod).unwrap();
        // Of one that is gone only who it was.
        assert_eq!(pod.status.is_none(), event.r#type() == EventType::Deleted);
        told.push((event.r#type(), pod.metadata.uid.unwrap()));
    }
    let expected = [
        (EventType::Deleted, 1),
        (EventType::Modified, 0),
        (EventType::Added, 7),
    ];
    assert_eq!(
        told,
        expected.map(|(type_, number)| (type_, uid(number).to_string()))
    );
}

#[tokio::test]
async fn upstreams_socket_has_upstreams_service_alone_and_its_limit() {
    let mut node = Node::new(1, "");
    node.serve(Door::PodsApi);
    let mut client = Client::connect(&node.socket()).await.unwrap();
    let error = client.list().await.unwrap_err();
    assert!(matches!(error, ClientError::TooOld(..)), "{error}");
    let mut client = node.pods_api().await;
    let mut refused = None;
    for _ in 0..10_000 {
        if let Err(status) = client.list_pods(ListPodsRequest {}).await {
            refused = Some(status);
            break;
        }
    }
    // A slow machine asks less often than the limit.
    if let Some(status) = refused {
        assert_eq!(
            (status.code(), status.message()),
            (Code::ResourceExhausted, "rejected by rate limit")
        );
    }
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let mut node = Node::new(0, "");
    let at = node.socket().display().to_string();
    let error = async |node: &Node| {
        Client::connect(&node.socket())
            .await
            .unwrap_err()
            .to_string()
    };
    let absent = error(&node).await;
    assert!(
        absent.starts_with(&format!(
            "no kubelet of hyperkube serves {at}: there is no such socket."
        )),
        "{absent}"
    );
    node.serve(Door::Own);
    Client::connect(&node.socket()).await.unwrap();
    node.stop.cancel();
    node.tasks.join_next().await.unwrap().unwrap();
    let left = error(&node).await;
    assert!(
        left.starts_with(&format!("no kubelet listens on {at} any more")),
        "{left}"
    );
}
