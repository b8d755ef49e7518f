//! Exec, attach, port-forward, run and checkpoint against the stand-in runtime and a small streaming server.
//!
//! In:    raw requests over TLS
//! Out:   the calls to the runtime, what passes the proxy, upstream's errors
//! Upstream: none

use kubelet_api::runtime::v1 as cri;
use testkit::cri::{StandInConfig, StandInRuntime};
use tokio::io::AsyncRead;
use tokio::net::TcpListener;

use super::secure::{tls_client, tls_stream};
use super::*;

/// A node with one running pod `p` in `ns`, known to the runtime as well.
pub(super) struct Node {
    pub(super) runtime: StandInRuntime,
    pub(super) state: ServerState,
    pub(super) container: String,
    pub(super) sandbox: String,
    pub(super) pods: watch::Sender<ReportedPods>,
    _world: World,
}

pub(super) fn pod_object() -> Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u1"},
        "spec": {"containers": [{"name": "c", "tty": true}, {"name": "waits"}]},
    }))
    .unwrap()
}

pub(super) fn pods_with(status: serde_json::Value) -> ReportedPods {
    let pod = ReportedPod {
        object: Arc::new(pod_object()),
        status: Arc::new(serde_json::from_value(status).unwrap()),
        progress: kubelet_model::reported::Progress::Working,
    };
    [(PodUid::parse("u1").unwrap(), pod)].into()
}

pub(super) fn shown_running(container: &str) -> ReportedPods {
    pods_with(serde_json::json!({"containerStatuses": [
        {"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
         "containerID": format!("stand-in://{container}"), "state": {"running": {}}},
        {"name": "waits", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
         "state": {"waiting": {"reason": "ImagePullBackOff"}}},
    ]}))
}

impl Node {
    pub(super) async fn new(logs: &Path, streaming: Option<String>, command: &str) -> Self {
        let config = StandInConfig {
            images: vec!["i".to_owned()],
            streaming,
            ..StandInConfig::default()
        };
        let runtime = StandInRuntime::new(config);
        let channel = runtime.connect();
        let timeouts = kubelet_cri::Timeouts {
            request: Duration::from_secs(10),
        };
        let metrics = kubelet_cri::Metrics::new(&Registry::new()).unwrap();
        let client =
            kubelet_cri::Client::from_channels(channel.clone(), channel, timeouts, metrics);
        let labels = |container: &str| {
            let label = |key: &str, value: &str| (format!("io.kubernetes.{key}"), value.to_owned());
            [label("pod.uid", "u1"), label("container.name", container)].into()
        };
        let pod = cri::PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata {
                name: "p".to_owned(),
                uid: "u1".to_owned(),
                namespace: "ns".to_owned(),
                attempt: 0,
            }),
            log_directory: logs.join("ns_p_u1").display().to_string(),
            labels: labels(""),
            ..Default::default()
        };
        let request = cri::RunPodSandboxRequest {
            config: Some(pod.clone()),
            runtime_handler: String::new(),
        };
        let sandbox = Box::pin(client.run_pod_sandbox(request)).await.unwrap();
        let container = cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata {
                name: "c".to_owned(),
                attempt: 0,
            }),
            image: Some(cri::ImageSpec {
                image: "i".to_owned(),
                ..Default::default()
            }),
            command: vec!["sh".to_owned(), "-c".to_owned(), command.to_owned()],
            log_path: "c/0.log".to_owned(),
            labels: labels("c"),
            ..Default::default()
        };
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.clone(),
            config: Some(container),
            sandbox_config: Some(pod),
        };
        let container = Box::pin(client.create_container(request)).await.unwrap();
        client.start_container(&container).await.unwrap();
        let (mut state, world) = state();
        let (pods, seen) = watch::channel(shown_running(&container));
        state.pods = seen;
        state.node.runtime = client;
        state.node.pod_logs = logs.to_owned();
        Self {
            runtime,
            state,
            container,
            sandbox,
            pods,
            _world: world,
        }
    }
}

/// Reads a head, up to its empty line.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(text).unwrap()
}

/// What the proxy sends to the runtime, and the connection.
async fn accept(server: &TcpListener) -> (String, TcpStream) {
    let (mut stream, _) = server.accept().await.unwrap();
    (head(&mut stream).await, stream)
}

const UPGRADE: &str = "Host: node\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n";

#[tokio::test]
async fn streams_pass_both_ways_until_one_side_ends() {
    let scratch = Scratch::new("exec");
    let server = TcpListener::bind(loopback()).await.unwrap();
    let base = format!("http://{}", server.local_addr().unwrap());
    let node = Node::new(&scratch.0, Some(base), "sleep infinity").await;
    let listeners = bind(config(Some(main_config(&scratch.0))), node.state.clone())
        .await
        .unwrap();
    let (at, crt) = (
        address(listeners.main.as_ref()),
        scratch.0.join("kubelet.crt"),
    );
    let registry = node.state.registry.clone();
    let inflight = move || {
        let text = String::from_utf8(metrics::text(&registry).unwrap()).unwrap();
        let line = text.lines().find(|line| {
            line.starts_with("kubelet_http_inflight_requests{") && line.contains("path=\"exec\"")
        });
        line.map(|line| line.rsplit(' ').next().unwrap().to_owned())
    };
    with(listeners.main, Box::pin(async {
        let mut client = tls_stream(at, &crt, None, b"http/1.1").await;
        let ask = format!(
            "POST /exec/ns/p/c?command=sh&command=a+b&input=1&output=1&error=1 HTTP/1.1\r\n{UPGRADE}\
             Authorization: Bearer secret\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nX-Forwarded-For: 10.0.0.1\r\n\
             Sec-WebSocket-Protocol: a, base64url.bearer.authorization.k8s.io.c2VjcmV0\r\n\r\nearly"
        );
        client.write_all(ask.as_bytes()).await.unwrap();
        let (asked, mut backend) = accept(&server).await;
        let lower = asked.to_lowercase();
        assert!(asked.starts_with(&format!("POST /exec/{} HTTP/1.1\r\n", node.container)), "{asked}");
        for line in ["upgrade: spdy/3.1", "connection: upgrade", "host: node", "x-stream-protocol-version: v4.channel.k8s.io", "x-forwarded-for: 10.0.0.1, 127.0.0.1", "sec-websocket-protocol: a"] {
            assert!(lower.lines().any(|found| found == line), "{line} not in {asked}");
        }
        assert!(!lower.contains("secret") && !lower.contains("c2vjcmv0"), "{asked}");
        let traced = node.runtime.trace_text();
        assert!(traced.contains(&format!("{} sh a b false true true true", node.container)), "{traced}");
        backend
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\nfirst")
            .await
            .unwrap();
        let answer = head(&mut client).await.to_lowercase();
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        assert!(answer.contains("\r\nx-stream-protocol-version: v4.channel.k8s.io\r\n") && answer.contains("\r\nupgrade: spdy/3.1\r\n"), "{answer}");
        let mut five = [0; 5];
        client.read_exact(&mut five).await.unwrap();
        assert_eq!(&five, b"first");
        backend.read_exact(&mut five).await.unwrap();
        assert_eq!(&five, b"early");
        assert_eq!(inflight().as_deref(), Some("1"));
        // More than any buffer, in both directions at once.
        let big: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let (mut client_in, mut client_out) = tokio::io::split(client);
        let (mut backend_in, mut backend_out) = tokio::io::split(backend);
        let (mut up, mut down) = (vec![0; big.len()], vec![0; big.len()]);
        let (a, b, c, d) = tokio::join!(
            async { client_out.write_all(&big).await.unwrap(); client_out.flush().await },
            backend_out.write_all(&big),
            async { backend_in.read_exact(&mut up).await.map(|_| ()) },
            async { client_in.read_exact(&mut down).await.map(|_| ()) },
        );
        assert!(a.is_ok() && b.is_ok() && c.is_ok() && d.is_ok() && up == big && down == big);
        backend_out.write_all(b"last").await.unwrap();
        drop((backend_in, backend_out));
        let mut rest = Vec::new();
        // A regular end, not a broken connection.
        client_in.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"last");
        // When the client closes, the runtime's connection closes.
        let mut client = tls_stream(at, &crt, None, b"http/1.1").await;
        client.write_all(format!("GET /attach/ns/p/c?output=1 HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes()).await.unwrap();
        let (asked, mut backend) = accept(&server).await;
        assert!(asked.starts_with(&format!("GET /attach/{} HTTP/1.1\r\n", node.container)), "{asked}");
        assert!(node.runtime.trace_text().contains(&format!("{} true false true false", node.container)), "the terminal is the container's");
        backend.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n").await.unwrap();
        head(&mut client).await;
        drop(client);
        assert_eq!(backend.read(&mut five).await.unwrap(), 0);
        assert_eq!(inflight().as_deref(), Some("0"));
    }))
    .await;
}

#[tokio::test]
async fn silence_ends_a_stream_and_so_does_the_servers_end() {
    let scratch = Scratch::new("idle");
    let server = TcpListener::bind(loopback()).await.unwrap();
    let base = format!("http://{}", server.local_addr().unwrap());
    let node = Node::new(&scratch.0, Some(base), "sleep infinity").await;
    for (idle, silent) in [(Some(Duration::from_millis(300)), true), (None, false)] {
        let mut state = node.state.clone();
        state.registry = Registry::new();
        let main = MainConfig {
            streaming_idle: idle,
            ..main_config(&scratch.0)
        };
        let listeners = bind(config(Some(main)), state).await.unwrap();
        let (at, crt) = (
            address(listeners.main.as_ref()),
            scratch.0.join("kubelet.crt"),
        );
        let (mut client, mut backend) = with(listeners.main, Box::pin(async {
            let mut client = tls_stream(at, &crt, None, b"http/1.1").await;
            client.write_all(format!("GET /portForward/ns/p HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes()).await.unwrap();
            let (asked, mut backend) = accept(&server).await;
            assert!(asked.starts_with(&format!("GET /portforward/{} ", node.sandbox)), "{asked}");
            backend.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n").await.unwrap();
            head(&mut client).await;
            if silent {
                let mut byte = [0];
                for _ in 0..4 {
                    // Any byte restarts the idle time.
                    tokio::time::sleep(Duration::from_millis(150)).await;
                    client.write_all(b"x").await.unwrap();
                    client.flush().await.unwrap();
                    backend.read_exact(&mut byte).await.unwrap();
                }
                assert_eq!(client.read(&mut byte).await.unwrap(), 0);
            }
            (client, backend)
        }))
        .await;
        let mut byte = [0];
        assert_eq!(backend.read(&mut byte).await.unwrap(), 0);
        assert!(silent || client.read(&mut byte).await.map_or(true, |read| read == 0));
    }
}

#[tokio::test]
async fn refusals_have_upstreams_statuses_and_words() {
    let scratch = Scratch::new("refusals");
    let server = TcpListener::bind(loopback()).await.unwrap();
    let base = format!("http://{}", server.local_addr().unwrap());
    let node = Node::new(&scratch.0, Some(base), "sleep infinity").await;
    let listeners = bind(config(Some(main_config(&scratch.0))), node.state.clone())
        .await
        .unwrap();
    let (at, crt) = (
        address(listeners.main.as_ref()),
        scratch.0.join("kubelet.crt"),
    );
    with(
        listeners.main,
        Box::pin(async {
            let mut client = tls_client(at, &crt, None).await;
            for (method, path, status, text) in [
                (
                    "GET",
                    "/exec/ns/p/c",
                    400,
                    "you must specify at least 1 of stdin, stdout, stderr",
                ),
                (
                    "POST",
                    "/attach/ns/p/c?input=true",
                    400,
                    "you must specify at least 1 of stdin, stdout, stderr",
                ),
                ("GET", "/exec/ns/q/c?output=1", 404, "pod does not exist"),
                ("GET", "/attach/nn/p/c?output=1", 404, "pod does not exist"),
                ("GET", "/portForward/ns/q", 404, "pod does not exist"),
                ("POST", "/run/ns/q/c?cmd=x", 404, "pod does not exist"),
                ("GET", "/portForward/ns/p/other", 404, "pod not found"),
                (
                    "GET",
                    "/exec/ns/p/waits?output=1",
                    500,
                    "container not found (\"waits\")",
                ),
                (
                    "GET",
                    "/attach/ns/p/waits?output=1",
                    500,
                    "container waits not found in pod p_ns",
                ),
                (
                    "GET",
                    "/attach/ns/p/other/c?output=1",
                    500,
                    "pod p_ns not found",
                ),
                (
                    "POST",
                    "/run/ns/p/waits?cmd=x",
                    500,
                    "container not found (\"waits\")",
                ),
                (
                    "GET",
                    "/exec/ns/p/u1/c?output=1",
                    500,
                    "Upgrade request required\n",
                ),
                (
                    "GET",
                    "/portForward/ns/p/u1",
                    500,
                    "Upgrade request required\n",
                ),
                ("GET", "/exec/ns/p", 404, "404: Page Not Found"),
                ("PUT", "/exec/ns/p/c", 405, "405: Method Not Allowed"),
                ("GET", "/run/ns/p/c", 405, "405: Method Not Allowed"),
                ("POST", "/checkpoint/ns/q/c", 404, "pod does not exist"),
                (
                    "POST",
                    "/checkpoint/ns/p/x",
                    404,
                    "container x does not exist",
                ),
                (
                    "POST",
                    "/checkpoint/ns/p/c?timeout=x",
                    404,
                    "cannot parse value of timeout parameter",
                ),
                (
                    "POST",
                    "/checkpoint/ns/p/waits",
                    500,
                    "checkpointing of ns/p/waits failed (container waits not found)",
                ),
            ] {
                let (found, body, _) = send(&mut client, request(method, path)).await;
                assert_eq!((found, &*body), (status, text), "{method} {path}");
            }
            let (status, body, _) =
                send(&mut client, request("POST", "/checkpoint/ns/p/c?timeout=5")).await;
            assert_eq!(status, 500);
            assert!(
                body.starts_with(
                    "checkpointing of ns/p/c failed (rpc error: code = Unimplemented desc = "
                ),
                "{body}"
            );
            // The runtime's own error is passed on.
            let mut client = tls_stream(at, &crt, None, b"http/1.1").await;
            client
                .write_all(
                    format!("GET /exec/ns/p/c?output=1 HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes(),
                )
                .await
                .unwrap();
            let (_, mut backend) = accept(&server).await;
            backend
                .write_all(b"HTTP/1.1 403 Forbidden\r\nX-A: b\r\nContent-Length: 8\r\n\r\nno v5 ws")
                .await
                .unwrap();
            let refused = head(&mut client).await.to_lowercase();
            assert!(
                refused.starts_with("http/1.1 403 ") && refused.contains("\r\nx-a: b\r\n"),
                "{refused}"
            );
            let mut body = [0; 8];
            client.read_exact(&mut body).await.unwrap();
            assert_eq!(&body, b"no v5 ws");
            client
                .write_all(
                    format!("GET /exec/ns/p/c?output=1 HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes(),
                )
                .await
                .unwrap();
            let (_, mut backend) = accept(&server).await;
            backend
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await
                .unwrap();
            assert!(head(&mut client).await.starts_with("HTTP/1.1 500 "));
            let mut body = [0; 41];
            client.read_exact(&mut body).await.unwrap();
            assert_eq!(&body, b"invalid upgrade response: status code 200");
        }),
    )
    .await;
}

#[tokio::test]
async fn run_gives_the_output_and_a_failing_commands_words() {
    let scratch = Scratch::new("run");
    let node = Node::new(&scratch.0, None, "sleep infinity").await;
    node.runtime.set_scripts(|scripts| {
        scripts.exec = Arc::new(|_, command| testkit::cri::behaviour::ExecOutcome {
            exit_code: i32::from(command.first().is_some_and(|word| word == "false")),
            stdout: if command.len() > 1 {
                format!("{command:?}").into_bytes()
            } else {
                Vec::new()
            },
            stderr: if command.len() > 1 || command[0] == "false" {
                b"err".to_vec()
            } else {
                Vec::new()
            },
            ..Default::default()
        });
    });
    let listeners = bind(config(Some(main_config(&scratch.0))), node.state.clone())
        .await
        .unwrap();
    let (at, crt) = (
        address(listeners.main.as_ref()),
        scratch.0.join("kubelet.crt"),
    );
    with(
        listeners.main,
        Box::pin(async {
            let mut client = tls_client(at, &crt, None).await;
            let (status, body, response) =
                send(&mut client, request("POST", "/run/ns/p/c?cmd=echo+a%20b")).await;
            assert_eq!((status, &*body), (200, "[\"echo\", \"a\", \"b\"]err"));
            assert_eq!(response.headers()["content-type"], "application/json");
            let (status, body, response) =
                send(&mut client, request("POST", "/run/ns/p/u1/c?cmd=true")).await;
            assert_eq!(
                (status, &*body, response.headers().get("content-type")),
                (200, "", None)
            );
            let (status, body, _) =
                send(&mut client, request("POST", "/run/ns/p/c?cmd=false")).await;
            assert_eq!(
                (status, &*body),
                (500, "command 'false' exited with 1: err")
            );
            let (status, body, _) =
                send(&mut client, request("GET", "/exec/ns/p/c?output=1")).await;
            assert_eq!(
                (status, &*body),
                (
                    500,
                    "rpc error: code = Unimplemented desc = no streaming server"
                )
            );
        }),
    )
    .await;
}
