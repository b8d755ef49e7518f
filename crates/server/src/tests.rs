//! The ports over real sockets on loopback, plain and TLS.
//!
//! In:    requests over sockets; the test owns the state with its pods, machine and channels
//! Out:   responses, byte for byte where upstream has a text
//! Upstream: none

mod logs;
mod renderings;
mod reviews;
mod secure;
mod streams;

use std::path::Path;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kubelet_model::ids::PodUid;
use kubelet_model::reported::{ReportedPod, ReportedPods};
use testkit::exposition;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::*;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir =
            std::env::temp_dir().join(format!("hyperkube-server-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Keeps the channels open.
struct World {
    verbosity: watch::Receiver<u32>,
    running: mpsc::Receiver<Question<Vec<RunningPod>>>,
    tasks: mpsc::Receiver<Question<serde_json::Value>>,
    last_turn: watch::Sender<Option<Instant>>,
    _pods: watch::Sender<ReportedPods>,
    _machine: watch::Sender<Option<Arc<Machine>>>,
}

fn state() -> (ServerState, World) {
    let mut pod = Pod::default();
    pod.metadata.name = Some("web".to_owned());
    let (pods_in, pods) = watch::channel(reported(pod));
    let ids = kubelet_host::machine::IdFiles::default();
    let machine =
        kubelet_host::machine::read_machine(Path::new("/"), &ids, jiff::Timestamp::UNIX_EPOCH)
            .unwrap()
            .0;
    let (machine_in, machine) = watch::channel(Some(Arc::new(machine)));
    let (verbosity, verbosity_out) = watch::channel(2);
    let (running_pods, running) = mpsc::channel(1);
    let (tasks, tasks_out) = mpsc::channel(1);
    let (sources, _) = mpsc::channel(1);
    let (turn, last_turn) = watch::channel(None);
    let registry = Registry::new();
    register_process(&registry).unwrap();
    let text = str::to_owned;
    let version = BuildVersion {
        git_version: text("v1.36.0+hyperkube.1"),
        git_commit: text("c"),
        git_tree_state: text("clean"),
        build_date: text("d"),
        major: text("1"),
        minor: text("36"),
        compiler: text("rustc"),
        compiler_version: text("1.95"),
        platform: text("linux/amd64"),
    };
    register_build(&registry, &version).unwrap();
    let health = vec![LoopHealth {
        name: "syncloop",
        last_turn,
        max_age: Duration::from_secs(300),
        failure: "sync Loop took longer than expected",
    }];
    let configz = Arc::new(serde_json::json!({"kubeletconfig": {"kind": "KubeletConfiguration"}}));
    let state = ServerState {
        pods,
        running_pods,
        machine,
        configz,
        registry,
        of_probes: Registry::new(),
        health,
        tasks,
        timeline: sources.clone(),
        sources,
        node: NodeAccess {
            runtime: nowhere(),
            blocking: Blocking::threads(4),
            pod_logs: PathBuf::from("/nonexistent"),
            system_logs: PathBuf::from("/nonexistent"),
            checkpoints: PathBuf::from("/nonexistent"),
        },
        verbosity,
    };
    let world = World {
        verbosity: verbosity_out,
        running,
        tasks: tasks_out,
        last_turn: turn,
        _pods: pods_in,
        _machine: machine_in,
    };
    (state, world)
}

/// A runtime that does not answer.
fn nowhere() -> kubelet_cri::Client {
    let timeouts = kubelet_cri::Timeouts {
        request: Duration::from_secs(10),
    };
    let metrics = kubelet_cri::Metrics::new(&Registry::new()).unwrap();
    kubelet_cri::Client::connect("unix:///nonexistent/socket", None, timeouts, metrics).unwrap()
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn main_config(dir: &Path) -> MainConfig {
    MainConfig {
        address: loopback(),
        pair: ServingPair::SelfSigned(dir.to_owned()),
        negotiation: negotiation(MinTls::V12),
        client_ca: None,
        anonymous: Anonymous::Allowed,
        tokens: TokenAuthentication::Ignored,
        authorization: Authorization::AlwaysAllow,
        disabled: Vec::new(),
        log_streams: LogStreams::Together,
        streaming_idle: None,
    }
}

fn negotiation(min: MinTls) -> Negotiation {
    Negotiation {
        min,
        cipher_suites: Vec::new(),
        curves: Vec::new(),
    }
}

fn config(main: Option<MainConfig>) -> ServerConfig {
    // The clients here check certificates against the real time.
    let now = || {
        jiff::Timestamp::from_second(
            rustls::pki_types::UnixTime::now()
                .as_secs()
                .try_into()
                .unwrap(),
        )
        .unwrap()
    };
    ServerConfig {
        node_name: "node1".to_owned(),
        healthz: Some(loopback()),
        read_only: Some(loopback()),
        main,
        now,
    }
}

type Client = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

async fn plain_client(address: SocketAddr) -> Client {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    drop(tokio::task::spawn_local(connection));
    client
}

fn request(method: &str, path: &str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .body(Full::default())
        .unwrap()
}

async fn send(client: &mut Client, request: Request<Full<Bytes>>) -> (u16, String, Response<()>) {
    client.ready().await.unwrap();
    let (parts, body) = client.send_request(request).await.unwrap().into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    (parts.status.as_u16(), text, Response::from_parts(parts, ()))
}

async fn get(client: &mut Client, path: &str) -> (u16, String) {
    let (status, text, _) = send(client, request("GET", path)).await;
    (status, text)
}

/// Runs `listener` and `talk` side by side, then stops the listener and waits for its end.
async fn with<T>(listener: Option<Listener>, talk: impl Future<Output = T>) -> T {
    let shutdown = CancellationToken::new();
    let local = tokio::task::LocalSet::new();
    let serving = listener.unwrap().serve(shutdown.clone());
    let talking = local.run_until(async {
        let result = talk.await;
        shutdown.cancel();
        result
    });
    let (served, result) = tokio::join!(serving, talking);
    served.unwrap();
    result
}

fn address(listener: Option<&Listener>) -> SocketAddr {
    listener.unwrap().local_address().unwrap()
}

#[tokio::test]
async fn the_health_port_answers_ok_and_nothing_else() {
    let (state, _world) = state();
    let listeners = bind(config(None), state).await.unwrap();
    let at = address(listeners.healthz.as_ref());
    with(listeners.healthz, async {
        let mut client = plain_client(at).await;
        assert_eq!(get(&mut client, "/healthz").await, (200, "ok".to_owned()));
        let (status, body, response) = send(&mut client, request("HEAD", "/healthz")).await;
        assert_eq!(
            (
                status,
                &*body,
                response.headers()["content-length"].to_str().unwrap()
            ),
            (200, "", "2")
        );
        assert_eq!(
            get(&mut client, "/healthz?verbose").await,
            (200, "[+]ping ok\nhealthz check passed\n".to_owned())
        );
        assert_eq!(
            get(&mut client, "/pods").await,
            (404, "404 page not found\n".to_owned())
        );
    })
    .await;
}

#[tokio::test]
async fn the_read_only_port_shows_pods_machine_and_metrics_and_no_debug_endpoint() {
    let (state, world) = state();
    let listeners = bind(config(None), state).await.unwrap();
    let at = address(listeners.read_only.as_ref());
    with(listeners.read_only, async {
        let mut client = plain_client(at).await;
        let (status, pods) = get(&mut client, "/pods").await;
        assert_eq!(status, 200);
        assert!(pods.starts_with(r#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[{"metadata":{"name":"web"}"#), "{pods}");
        for path in ["/spec", "/spec/"] {
            let machine: serde_json::Value = serde_json::from_str(&get(&mut client, path).await.1).unwrap();
            assert_eq!(machine["cloud_provider"], "Unknown");
            assert!(machine["memory_capacity"].as_u64().unwrap() > 0);
        }
        for path in ["/run/", "/exec/a/b/c", "/logs/", "/runningpods/", "/debug/pprof/"] {
            assert_eq!(get(&mut client, path).await, (405, "Debug endpoints are disabled.\n".to_owned()), "{path}");
        }
        for path in ["/configz", "/debug/tasks", "/x"] {
            assert_eq!(get(&mut client, path).await, (404, "404 page not found\n".to_owned()), "{path}");
        }
        assert_eq!(get(&mut client, "/pods/x").await, (404, "404: Page Not Found".to_owned()));
        let (status, text, response) = send(&mut client, request("POST", "/pods")).await;
        assert_eq!((status, &*text, response.headers()["allow"].to_str().unwrap()), (405, "405: Method Not Allowed", "GET"));
        let all = "[+]ping ok\n[+]log ok\n[+]syncloop ok\nhealthz check passed\n";
        assert_eq!(get(&mut client, "/healthz?verbose=1").await, (200, all.to_owned()));
        world.last_turn.send_replace(Instant::now().checked_sub(Duration::from_secs(301)));
        let (status, text) = get(&mut client, "/healthz").await;
        assert_eq!((status, &*text), (500, "[+]ping ok\n[+]log ok\n[-]syncloop failed: reason withheld\nhealthz check failed\n"));
        let (status, text) = get(&mut client, "/healthz/syncloop").await;
        assert_eq!((status, &*text), (500, "internal server error: sync Loop took longer than expected\n"));
        assert_eq!(get(&mut client, "/healthz?exclude=syncloop").await, (200, "ok".to_owned()));
        let slis = get(&mut client, "/metrics/slis").await.1;
        assert!(slis.contains(r#"kubernetes_healthcheck{name="syncloop",type="healthz"} 0"#), "{slis}");
        assert_eq!(get(&mut client, "/metrics/cadvisor").await.0, 501);
    })
    .await;
}

#[tokio::test]
async fn metrics_have_upstreams_names_labels_and_buckets() {
    let (state, _world) = state();
    let listeners = bind(config(None), state).await.unwrap();
    let at = address(listeners.read_only.as_ref());
    let (metrics, response) = with(listeners.read_only, async {
        let mut client = plain_client(at).await;
        get(&mut client, "/pods").await;
        send(&mut client, request("PATCH", "/nowhere")).await;
        let (_, text, response) = send(&mut client, request("GET", "/metrics")).await;
        (text, response)
    })
    .await;
    assert!(
        response.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    let labels = |method: &str, path: &str| {
        format!(r#"long_running="false",method="{method}",path="{path}",server_type="readonly""#)
    };
    for line in [
        format!("kubelet_http_requests_total{{{}}} 1", labels("GET", "pods")),
        format!("kubelet_http_requests_total{{{}}} 1", labels("other", "other")),
        format!("kubelet_http_inflight_requests{{{}}} 1", labels("GET", "metrics")),
        format!("kubelet_http_inflight_requests{{{}}} 0", labels("GET", "pods")),
        format!("kubelet_http_requests_duration_seconds_count{{{}}} 1", labels("GET", "pods")),
        r#"kubernetes_build_info{build_date="d",compiler="rustc",git_commit="c",git_tree_state="clean",git_version="v1.36.0+hyperkube.1",go_version="1.95",major="1",minor="36",platform="linux/amd64"} 1"#.to_owned(),
        "# HELP kubelet_http_requests_total [ALPHA] Number of the http requests received since the server started".to_owned(),
        "# TYPE process_cpu_seconds_total counter".to_owned(),
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}\nnot in\n{metrics}");
    }
    let is_ours = |name: &&str| {
        ["kubelet_http_", "process_", "kubernetes_build_info"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    let ours: Vec<&str> = exposition::SHOWN.iter().copied().filter(is_ours).collect();
    let lines = exposition::differences(&metrics, &ours).unwrap();
    assert!(lines.is_empty(), "{lines:#?}");
}

/// Sends `head` on a new connection. Returns what arrives until the server closes it, and after how many seconds.
async fn raw(at: SocketAddr, head: &[u8]) -> (String, u64) {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let begin = Instant::now();
    // The server may answer and close before it has read everything.
    drop(stream.write_all(head).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    (
        String::from_utf8_lossy(&answer).into_owned(),
        begin.elapsed().as_secs(),
    )
}

#[tokio::test(start_paused = true)]
async fn connections_that_idle_or_dawdle_are_closed_and_large_heads_refused() {
    let (state, _world) = state();
    let listeners = bind(config(None), state).await.unwrap();
    let at = address(listeners.read_only.as_ref());
    with(listeners.read_only, async {
        assert_eq!(raw(at, b"").await, (String::new(), 30));
        assert_eq!(
            raw(at, b"GET /healthz HTTP/1.1\r\nhost: ").await,
            (String::new(), 30)
        );
        let (answer, seconds) = raw(at, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"),
            "{answer}"
        );
        assert_eq!(seconds, 90);
        let (answer, _) = raw(
            at,
            format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", "x".repeat(2 << 20)).as_bytes(),
        )
        .await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
            "{answer}"
        );
    })
    .await;
}

#[tokio::test]
async fn at_the_limit_the_oldest_idle_connection_makes_room() {
    let (state, _world) = state();
    let listeners = bind(config(None), state).await.unwrap();
    let at = address(listeners.healthz.as_ref());
    with(listeners.healthz, async {
        let mut held = Vec::new();
        for _ in 0..64 {
            let mut client = plain_client(at).await;
            assert_eq!(get(&mut client, "/healthz").await.0, 200);
            held.push(client);
        }
        let begin = Instant::now();
        let mut late = plain_client(at).await;
        assert_eq!(get(&mut late, "/healthz").await.0, 200);
        assert!(begin.elapsed().as_secs() < 10, "it waited");
        held.first_mut().unwrap().ready().await.unwrap_err();
        assert_eq!(get(held.last_mut().unwrap(), "/healthz").await.0, 200);
    })
    .await;
}

#[tokio::test]
async fn plain_ports_speak_http_1_alone() {
    let (state, _world) = state();
    let listeners = bind(config(None), state).await.unwrap();
    let at = address(listeners.read_only.as_ref());
    with(listeners.read_only, async {
        // The preface of HTTP/2, with empty settings.
        let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        let (answer, _) = raw(at, hello).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
    })
    .await;
}

fn reported(pod: Pod) -> ReportedPods {
    let uid = PodUid::parse(pod.metadata.uid.as_deref().unwrap_or("u1")).unwrap();
    let status = Arc::new(pod.status.clone().unwrap_or_default());
    [(
        uid,
        ReportedPod {
            object: Arc::new(pod),
            status,
            progress: kubelet_model::reported::Progress::Working,
        },
    )]
    .into()
}
