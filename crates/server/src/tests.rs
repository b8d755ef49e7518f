//! The ports over real sockets on loopback, plain and TLS.
//!
//! Upstream: none

use std::path::Path;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
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

/// Held so that the channels stay open.
struct World {
    verbosity: watch::Receiver<u32>,
    running: mpsc::Receiver<Question<Vec<RunningPod>>>,
    tasks: mpsc::Receiver<Question<serde_json::Value>>,
    last_turn: watch::Sender<Option<Instant>>,
    _pods: watch::Sender<Arc<Vec<Arc<Pod>>>>,
    _machine: watch::Sender<Option<Arc<Machine>>>,
}

fn state() -> (ServerState, World) {
    let mut pod = Pod::default();
    pod.metadata.name = Some("web".to_owned());
    let (pods_in, pods) = watch::channel(Arc::new(vec![Arc::new(pod)]));
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
        health,
        tasks,
        timeline: sources.clone(),
        sources,
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

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn main_config(dir: &Path) -> MainConfig {
    MainConfig {
        address: loopback(),
        pair: ServingPair::SelfSigned(dir.to_owned()),
        min_tls: MinTls::V12,
        client_ca: None,
        anonymous: Anonymous::Allowed,
        tokens: TokenAuthentication::Ignored,
        authorization: Authorization::AlwaysAllow,
        disabled: Vec::new(),
    }
}

fn config(main: Option<MainConfig>) -> ServerConfig {
    // Certificates are checked against the real time by the clients here.
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

async fn tls_stream(
    address: SocketAddr,
    ca: &Path,
    identity: Option<&Identity>,
    alpn: &[u8],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some((chain, key)) => builder
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap()
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

async fn tls_client(address: SocketAddr, ca: &Path, identity: Option<&Identity>) -> Client {
    let stream = tls_stream(address, ca, identity, b"http/1.1").await;
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

/// Runs `listener` and `talk` side by side, then stops the listener and sees it end.
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
    let bucket = format!(
        "kubelet_http_requests_duration_seconds_bucket{{{},le=\"",
        labels("GET", "pods")
    );
    let buckets: Vec<&str> = metrics
        .lines()
        .filter_map(|l| l.strip_prefix(&bucket)?.split('"').next())
        .collect();
    assert_eq!(
        buckets,
        [
            "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"
        ]
    );
    for name in [
        "cpu_seconds_total",
        "max_fds",
        "network_receive_bytes_total",
        "network_transmit_bytes_total",
        "open_fds",
        "resident_memory_bytes",
        "start_time_seconds",
        "virtual_memory_bytes",
        "virtual_memory_max_bytes",
    ] {
        assert!(
            metrics.contains(&format!("\nprocess_{name} ")),
            "process_{name}"
        );
    }
}

#[tokio::test]
async fn the_main_port_makes_its_certificate_and_serves_both_http_versions() {
    let scratch = Scratch::new("main");
    let (state, mut world) = state();
    let listeners = bind(config(Some(main_config(&scratch.0))), state.clone())
        .await
        .unwrap();
    let (at, crt) = (
        address(listeners.main.as_ref()),
        scratch.0.join("kubelet.crt"),
    );
    let key = std::fs::metadata(scratch.0.join("kubelet.key")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777,
        0o600
    );
    with(listeners.main, async {
        let mut client = tls_client(at, &crt, None).await;
        assert_eq!(
            get(&mut client, "/configz").await,
            (
                200,
                r#"{"kubeletconfig":{"kind":"KubeletConfiguration"}}"#.to_owned()
            )
        );
        assert_eq!(get(&mut client, "/exec/a/b/c").await.0, 501);
        let mut put = request("PUT", "/debug/flags/v");
        *put.body_mut() = Full::from("6");
        let (status, text, _) = send(&mut client, put).await;
        assert_eq!(
            (status, &*text, *world.verbosity.borrow_and_update()),
            (200, "successfully set klog.logging.verbosity to 6", 6)
        );
        let mut put = request("PUT", "/debug/flags/v");
        *put.body_mut() = Full::from("x");
        assert_eq!(send(&mut client, put).await.0, 400);
        let mut put = request("PUT", "/debug/flags/v");
        *put.body_mut() = Full::from(vec![b'1'; 5000]);
        assert_eq!(send(&mut client, put).await.0, 400);
        assert_eq!(
            get(&mut client, "/debug/flags/v").await,
            (406, "unsupported http method".to_owned())
        );
    })
    .await;
    // A second start keeps the pair.
    let before = std::fs::read(&crt).unwrap();
    let again = ServerState {
        registry: Registry::new(),
        ..state
    };
    let listeners = bind(config(Some(main_config(&scratch.0))), again)
        .await
        .unwrap();
    assert_eq!(std::fs::read(&crt).unwrap(), before);
    let at = address(listeners.main.as_ref());
    with(listeners.main, async {
        let stream = tls_stream(at, &crt, None, b"h2").await;
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        drop(tokio::task::spawn_local(connection));
        let mut get = Request::get("https://localhost/healthz")
            .body(Full::<Bytes>::default())
            .unwrap();
        *get.version_mut() = hyper::Version::HTTP_2;
        let response = client.send_request(get).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.version()),
            (200, hyper::Version::HTTP_2)
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn components_are_asked_on_demand_and_may_be_gone_or_slow() {
    let scratch = Scratch::new("questions");
    let (state, mut world) = state();
    let listeners = bind(config(Some(main_config(&scratch.0))), state)
        .await
        .unwrap();
    let at = address(listeners.main.as_ref());
    with(listeners.main, async {
        let mut client = tls_client(at, &scratch.0.join("kubelet.crt"), None).await;
        let answer = async {
            let question = world.tasks.recv().await.unwrap();
            question.reply.send(serde_json::json!({"asked": question.query})).unwrap();
        };
        let ((), shown) = tokio::join!(answer, get(&mut client, "/debug/tasks?x=1"));
        assert_eq!(shown, (200, "{\n  \"asked\": \"x=1\"\n}".to_owned()));
        let answer = async {
            let pod = RunningPod { name: "a".to_owned(), namespace: "b".to_owned(), uid: "c".to_owned(), containers: Vec::new() };
            world.running.recv().await.unwrap().reply.send(vec![pod]).unwrap();
        };
        let ((), (status, pods)) = tokio::join!(answer, get(&mut client, "/runningpods/"));
        assert_eq!(status, 200);
        assert!(pods.contains(r#"{"metadata":{"name":"a","namespace":"b","uid":"c"},"spec":{"containers":null},"status":{}}"#), "{pods}");
        let gone = (503, "the component that knows this is not running\n".to_owned());
        assert_eq!(get(&mut client, "/debug/sources").await, gone);
        let slow = (503, "the component that knows this did not answer in 2 s\n".to_owned());
        assert_eq!(get(&mut client, "/debug/tasks").await, slow);
    })
    .await;
}

/// An authority's certificate in a file, and clients that it signs.
struct Authority(Issuer<'static, KeyPair>, PathBuf);

impl Authority {
    fn new(dir: &Path, name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let path = dir.join(format!("{name}.crt"));
        std::fs::write(&path, parameters.self_signed(&key).unwrap().pem()).unwrap();
        Self(Issuer::new(parameters, key), path)
    }

    fn client(&self, name: &str) -> Identity {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters
            .distinguished_name
            .push(DnType::OrganizationName, "system:masters");
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        (
            vec![certificate.der().clone()],
            PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        )
    }
}

#[tokio::test]
async fn a_client_is_its_certificate_and_modes_that_are_not_built_refuse() {
    let scratch = Scratch::new("auth");
    let (known, unknown) = (
        Authority::new(&scratch.0, "known"),
        Authority::new(&scratch.0, "unknown"),
    );
    let crt = scratch.0.join("kubelet.crt");
    let bearer = || {
        let mut request = request("GET", "/pods");
        request
            .headers_mut()
            .insert("authorization", "Bearer abc".parse().unwrap());
        request
    };
    let closed = MainConfig {
        anonymous: Anonymous::Refused,
        client_ca: Some(known.1.clone()),
        ..main_config(&scratch.0)
    };
    let (state, _world) = state();
    let listeners = bind(config(Some(closed.clone())), state.clone())
        .await
        .unwrap();
    let at = address(listeners.main.as_ref());
    let unauthorized = (401, "Unauthorized".to_owned());
    with(listeners.main, async {
        let mut admin = tls_client(at, &crt, Some(&known.client("admin"))).await;
        assert_eq!(get(&mut admin, "/pods").await.0, 200);
        let mut nobody = tls_client(at, &crt, None).await;
        assert_eq!(get(&mut nobody, "/healthz").await, unauthorized);
        assert_eq!(send(&mut nobody, bearer()).await.0, 401);
        assert_eq!(
            get(&mut nobody, "/nowhere").await,
            (404, "404 page not found\n".to_owned())
        );
        let mut stranger = tls_client(at, &crt, Some(&unknown.client("admin"))).await;
        assert_eq!(get(&mut stranger, "/pods").await, unauthorized);
    })
    .await;

    let webhook = MainConfig {
        anonymous: Anonymous::Allowed,
        tokens: TokenAuthentication::Webhook,
        authorization: Authorization::Webhook,
        ..closed
    };
    let again = ServerState {
        registry: Registry::new(),
        ..state
    };
    let listeners = bind(config(Some(webhook)), again).await.unwrap();
    let at = address(listeners.main.as_ref());
    with(listeners.main, async {
        let mut nobody = tls_client(at, &crt, None).await;
        let (status, text, _) = send(&mut nobody, bearer()).await;
        assert_eq!((status, text), unauthorized);
        let forbidden = "Forbidden (user=system:anonymous, verb=get, resource=nodes, subresource(s)=[healthz proxy])\n";
        assert_eq!(get(&mut nobody, "/healthz").await, (403, forbidden.to_owned()));
        let mut admin = tls_client(at, &crt, Some(&known.client("admin"))).await;
        let forbidden = "Forbidden (user=admin, verb=, resource=nodes, subresource(s)=[metrics])\n";
        let mut options = request("OPTIONS", "/metrics");
        options.headers_mut().insert("authorization", "Bearer abc".parse().unwrap());
        let (status, text, _) = send(&mut admin, options).await;
        assert_eq!((status, &*text), (403, forbidden));
    })
    .await;
}

async fn peer_certificate(at: SocketAddr, ca: &Path) -> Vec<u8> {
    let stream = tls_stream(at, ca, None, b"http/1.1").await;
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn changed_files_are_served_to_the_next_connection_and_broken_ones_are_not() {
    let scratch = Scratch::new("reload");
    let (old, new) = (scratch.0.join("old"), scratch.0.join("new"));
    let make = |dir: &Path| {
        tls::TlsFiles::open(
            &ServingPair::SelfSigned(dir.to_owned()),
            None,
            MinTls::V13,
            "n",
            (config(None).now)(),
        )
        .err()
    };
    assert!(make(&old).is_none() && make(&new).is_none());
    let (certificate, key) = (scratch.0.join("c.pem"), scratch.0.join("k.pem"));
    let install = |from: &Path| {
        std::fs::copy(from.join("kubelet.crt"), &certificate).unwrap();
        std::fs::copy(from.join("kubelet.key"), &key).unwrap();
    };
    install(&old);
    let pair = ServingPair::Files {
        certificate: certificate.clone(),
        key: key.clone(),
    };
    let (state, _world) = state();
    let listeners = bind(
        config(Some(MainConfig {
            pair,
            ..main_config(&scratch.0)
        })),
        state,
    )
    .await
    .unwrap();
    let at = address(listeners.main.as_ref());
    with(listeners.main, async {
        let first = peer_certificate(at, &old.join("kubelet.crt")).await;
        install(&new);
        let second = peer_certificate(at, &new.join("kubelet.crt")).await;
        assert_ne!(first, second);
        std::fs::write(&certificate, "broken").unwrap();
        assert_eq!(peer_certificate(at, &new.join("kubelet.crt")).await, second);
    })
    .await;
}

/// An error and its causes, as a log shows them.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn a_taken_port_and_bad_tls_files_are_named_at_bind() {
    let scratch = Scratch::new("errors");
    let taken = std::net::TcpListener::bind(loopback()).unwrap();
    let (state, _world) = state();
    let fresh = || ServerState {
        registry: Registry::new(),
        ..state.clone()
    };
    let at = taken.local_addr().unwrap();
    let error = bind(
        ServerConfig {
            read_only: Some(at),
            ..config(None)
        },
        fresh(),
    )
    .await
    .unwrap_err();
    assert_eq!(
        chain(&error),
        format!("listen on {at} (read-only port): Address already in use (os error 98)")
    );

    let path = |name: &str| scratch.0.join(name);
    std::fs::write(path("empty"), "").unwrap();
    assert!(
        tls::TlsFiles::open(
            &ServingPair::SelfSigned(path("a")),
            None,
            MinTls::V12,
            "n",
            (config(None).now)()
        )
        .is_ok()
    );
    assert!(
        tls::TlsFiles::open(
            &ServingPair::SelfSigned(path("b")),
            None,
            MinTls::V12,
            "n",
            (config(None).now)()
        )
        .is_ok()
    );
    std::fs::create_dir(path("c")).unwrap();
    std::fs::copy(path("a/kubelet.crt"), path("c/kubelet.crt")).unwrap();
    let d = scratch.0.display();
    for (certificate, key, ca, expected) in [
        (
            "none",
            "a/kubelet.key",
            None,
            format!("read {d}/none: No such file or directory (os error 2)"),
        ),
        (
            "empty",
            "a/kubelet.key",
            None,
            format!("{d}/empty: no certificate in it"),
        ),
        (
            "a/kubelet.crt",
            "empty",
            None,
            format!("{d}/empty: no private key: "),
        ),
        (
            "a/kubelet.crt",
            "b/kubelet.key",
            None,
            format!(
                "certificate {d}/a/kubelet.crt and key {d}/b/kubelet.key cannot be used together: "
            ),
        ),
        (
            "a/kubelet.crt",
            "a/kubelet.key",
            Some("empty"),
            format!("{d}/empty: no certificate in it"),
        ),
    ] {
        let pair = ServingPair::Files {
            certificate: path(certificate),
            key: path(key),
        };
        let main = MainConfig {
            pair,
            client_ca: ca.map(path),
            ..main_config(&scratch.0)
        };
        let error = bind(config(Some(main)), fresh()).await.unwrap_err();
        assert!(
            chain(&error).starts_with(&format!("TLS of the main port: {expected}")),
            "{}",
            chain(&error)
        );
    }
    let error = bind(config(Some(main_config(&path("c")))), fresh())
        .await
        .unwrap_err();
    assert!(chain(&error).ends_with(&format!(
        "c/kubelet.crt: the key that belongs to it, {d}/c/kubelet.key, is missing"
    )));
    std::fs::create_dir(path("k")).unwrap();
    std::fs::copy(path("a/kubelet.key"), path("k/kubelet.key")).unwrap();
    bind(config(Some(main_config(&path("k")))), fresh())
        .await
        .unwrap();
    assert_eq!(
        std::fs::read(path("k/kubelet.key")).unwrap(),
        std::fs::read(path("a/kubelet.key")).unwrap()
    );
}

/// Sends `head` on a fresh connection and returns what comes until the server closes it, and when (seconds).
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
async fn connections_beyond_the_limit_wait_for_one_to_end() {
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
        let mut late = plain_client(at).await;
        let mut answer = std::pin::pin!(get(&mut late, "/healthz"));
        for _ in 0..100 {
            assert!(futures_util::poll!(&mut answer).is_pending());
            tokio::task::yield_now().await;
        }
        held.pop();
        assert_eq!(answer.await.0, 200);
    })
    .await;
}
