//! The client against a scripted runtime: how long each call waits, and what a failed call says of its effect.
//!
//! In:    a gRPC server over an in-memory pipe that does one thing with every call
//! Out:   tables
//! Calls: cargo test
//! Holds: real gRPC from the client's method to the bytes of the pipe; no test waits on real time
//! Upstream: staging/src/k8s.io/cri-client/pkg (remote_runtime_test.go, remote_image.go)

use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex};

use expect_test::expect;
use futures_util::future::BoxFuture;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::rt::Executor as _;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioExecutor;
use prometheus::{Registry, TextEncoder};
use tokio::io::DuplexStream;
use tokio::sync::Notify;
use tonic::Code;

use super::*;
use crate::error::Happened;

const TIMEOUTS: Timeouts = Timeouts {
    request: Duration::from_secs(100),
};

/// What the runtime does with a call.
#[derive(Clone, Debug)]
enum Script {
    /// Cannot be reached.
    IsAway,
    /// Takes the connection and never reads from it.
    NeverReads,
    /// Takes the call and never answers.
    NeverAnswers,
    /// Ends the connection when the call has come.
    HangsUp,
    /// Says that all is well, with these bytes before it.
    Answers(Vec<u8>),
    /// The same, and ends the stream without a word on how the call went.
    StopsAfter(Vec<u8>),
    /// Answers with a code.
    Refuses(Code, &'static str),
    /// Answers as something that is no gRPC server.
    SaysHttp(u16),
}

/// A message as it goes over the wire.
fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// A runtime with a script for each call in turn; the last one counts for all that follow.
#[derive(Clone, Debug)]
struct Runtime {
    scripts: Arc<Mutex<Vec<Script>>>,
}

impl Runtime {
    fn new(scripts: &[Script]) -> Self {
        let mut scripts = scripts.to_vec();
        scripts.reverse();
        Self {
            scripts: Arc::new(Mutex::new(scripts)),
        }
    }

    fn now(&self) -> Script {
        self.scripts.lock().unwrap().last().unwrap().clone()
    }

    fn next(&self) -> Script {
        let mut scripts = self.scripts.lock().unwrap();
        if scripts.len() > 1 {
            return scripts.pop().unwrap();
        }
        scripts.last().unwrap().clone()
    }

    fn channel(&self) -> Channel {
        let runtime = self.clone();
        let connect = move |_: Uri| {
            let pipe = runtime.open();
            async move { pipe.map(TokioIo::new) }
        };
        Endpoint::from_static("http://runtime.invalid")
            .connect_with_connector_lazy(tower::service_fn(connect))
    }

    fn open(&self) -> io::Result<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        match self.now() {
            Script::IsAway => {
                self.next();
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            Script::NeverReads => TokioExecutor::new().execute(async move {
                let _held = ours;
                pending::<()>().await;
            }),
            _ => TokioExecutor::new().execute(self.clone().serve(ours)),
        }
        Ok(theirs)
    }

    async fn serve(self, stream: DuplexStream) {
        let over = Arc::new(Notify::new());
        let told = Arc::clone(&over);
        let service = service_fn(move |request| answer(self.clone(), Arc::clone(&told), request));
        let served = http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            () = over.notified() => {}
            // An error here is the client's leaving.
            _ = served => {}
        }
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

async fn answer(
    runtime: Runtime,
    over: Arc<Notify>,
    request: Request<Incoming>,
) -> Result<Answer, hyper::Error> {
    request.into_body().collect().await?;
    let head = Response::builder().header("content-type", "application/grpc");
    let status = |code: &str| {
        HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())])
    };
    let body = |bytes: Vec<u8>| Full::new(Bytes::from(bytes));
    let answer = match runtime.next() {
        Script::IsAway | Script::NeverReads | Script::NeverAnswers => pending().await,
        Script::HangsUp => {
            over.notify_one();
            pending().await
        }
        Script::Answers(bytes) => {
            let trailers = status("0");
            let whole = body(bytes).with_trailers(async { Some(Ok(trailers)) });
            head.body(whole.boxed())
        }
        Script::StopsAfter(bytes) => head.body(body(bytes).boxed()),
        Script::Refuses(code, text) => head
            .header("grpc-status", i32::from(code))
            .header("grpc-message", text)
            .body(body(Vec::new()).boxed()),
        Script::SaysHttp(status) => head.status(status).body(body(Vec::new()).boxed()),
    };
    Ok(answer.unwrap())
}

fn client(scripts: &[Script]) -> (Client, Registry) {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).unwrap();
    let channel = Runtime::new(scripts).channel();
    let client = Client::from_channels(channel.clone(), channel, TIMEOUTS, metrics);
    (client, registry)
}

type Failure<'a> = BoxFuture<'a, Option<CriError>>;

/// Every call, by name.
fn calls(client: &Client) -> Vec<(&'static str, Failure<'_>)> {
    macro_rules! calls {
        ($($name:ident($($argument:expr),*)),* $(,)?) => {
            vec![$((
                stringify!($name($($argument),*)),
                Box::pin(async move { client.$name($($argument),*).await.err() }) as Failure<'_>,
            )),*]
        };
    }
    let seconds = Duration::from_secs;
    calls![
        version(),
        status(),
        runtime_config(),
        update_runtime_config("10.0.0.0/24"),
        run_pod_sandbox(Default::default()),
        stop_pod_sandbox("s"),
        remove_pod_sandbox("s"),
        pod_sandbox_status("s"),
        list_pod_sandboxes(None),
        create_container(Default::default()),
        start_container("c"),
        stop_container("c", 30),
        stop_container("c", 0),
        stop_container("c", -1),
        remove_container("c"),
        list_containers(None),
        container_status("c"),
        container_status_alone("c"),
        exec_sync("c", Vec::new(), seconds(7)),
        exec_sync("c", Vec::new(), Duration::ZERO),
        exec(Default::default()),
        attach(Default::default()),
        port_forward("s", Vec::new()),
        reopen_container_log("c"),
        checkpoint_container("c", "/x", 40),
        checkpoint_container("c", "/x", 0),
        checkpoint_container("c", "/x", -1),
        container_events(),
        image_status("i"),
        pull_image("i", None, Default::default()),
        list_images(),
        image_fs_info(),
    ]
}

/// Longer than any deadline.
const LONG: Duration = Duration::from_secs(24 * 3600);

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_ends_at_its_deadline() {
    let (client, registry) = client(&[Script::NeverAnswers]);
    let mut out = String::new();
    for (name, call) in calls(&client) {
        let began = Instant::now();
        let end = match tokio::time::timeout(LONG, call).await {
            Ok(Some(error)) => {
                assert_eq!(error.happened(), Happened::Maybe, "{error}");
                format!("{} s: {error}", began.elapsed().as_secs())
            }
            Ok(None) => "an answer".to_owned(),
            Err(_) => "waits for ever".to_owned(),
        };
        writeln!(out, "{name}: {end}").unwrap();
    }
    expect![[r#"
        version (): 100 s: version: no answer within 100s
        status (): 100 s: status: no answer within 100s
        runtime_config (): 100 s: runtime_config: no answer within 100s
        update_runtime_config ("10.0.0.0/24"): 100 s: update_runtime_config: no answer within 100s
        run_pod_sandbox (Default::default()): 200 s: run_podsandbox: no answer within 200s
        stop_pod_sandbox ("s"): 200 s: stop_podsandbox: no answer within 200s
        remove_pod_sandbox ("s"): 100 s: remove_podsandbox: no answer within 100s
        pod_sandbox_status ("s"): 100 s: podsandbox_status: no answer within 100s
        list_pod_sandboxes (None): 100 s: list_podsandbox: no answer within 100s
        create_container (Default::default()): 100 s: create_container: no answer within 100s
        start_container ("c"): 100 s: start_container: no answer within 100s
        stop_container ("c", 30): 130 s: stop_container: no answer within 130s
        stop_container ("c", 0): 100 s: stop_container: no answer within 100s
        stop_container ("c", -1): 100 s: stop_container: no answer within 100s
        remove_container ("c"): 100 s: remove_container: no answer within 100s
        list_containers (None): 100 s: list_containers: no answer within 100s
        container_status ("c"): 100 s: container_status: no answer within 100s
        container_status_alone ("c"): 100 s: container_status: no answer within 100s
        exec_sync ("c", Vec::new(), seconds(7)): 107 s: exec_sync: no answer within 107s
        exec_sync ("c", Vec::new(), Duration::ZERO): waits for ever
        exec (Default::default()): 100 s: exec: no answer within 100s
        attach (Default::default()): 100 s: attach: no answer within 100s
        port_forward ("s", Vec::new()): 100 s: port_forward: no answer within 100s
        reopen_container_log ("c"): 100 s: reopen_container_log: no answer within 100s
        checkpoint_container ("c", "/x", 40): 40 s: checkpoint_container: no answer within 40s
        checkpoint_container ("c", "/x", 0): 100 s: checkpoint_container: no answer within 100s
        checkpoint_container ("c", "/x", -1): 100 s: checkpoint_container: no answer within 100s
        container_events (): 100 s: get_container_events: no answer within 100s
        image_status ("i"): 100 s: image_status: no answer within 100s
        pull_image ("i", None, Default::default()): waits for ever
        list_images (): 100 s: list_images: no answer within 100s
        image_fs_info (): 100 s: image_fs_info: no answer within 100s
    "#]]
    .assert_eq(&out);
    let metrics = TextEncoder::new().encode_to_string(&registry.gather());
    let metrics = metrics.unwrap();
    for counted in ["total", "errors_total"] {
        let line =
            format!("kubelet_runtime_operations_{counted}{{operation_type=\"stop_container\"}} 3");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_never_reads_holds_no_call_longer() {
    let (client, _) = client(&[Script::NeverReads]);
    let began = Instant::now();
    let error = client.version().await.unwrap_err();
    assert_eq!(began.elapsed().as_secs(), 100, "{error}");
    assert_eq!(error.happened(), Happened::Maybe);
}

/// What a call's failure says.
fn told(error: &CriError) -> String {
    let happened = match error.happened() {
        Happened::No => "did not happen",
        Happened::Maybe => "may have happened",
    };
    let kind = match error {
        CriError::Refused { .. } => "refused",
        CriError::Lost { .. } => "lost",
        CriError::Deadline { .. } => "late",
    };
    let mut marks = String::new();
    for (is, mark) in [
        (error.is_not_found(), ", is gone"),
        (error.is_unimplemented(), ", is unknown to the runtime"),
    ] {
        marks.push_str(if is { mark } else { "" });
    }
    format!("{kind}, {happened}{marks}: {}", error.message())
}

#[tokio::test(start_paused = true)]
async fn each_code_says_whether_the_call_had_its_effect() {
    let mut out = String::new();
    for number in 1..=17 {
        let code = Code::from_i32(number);
        let (client, _) = client(&[Script::Refuses(code, "it is so")]);
        let error = client.create_container(Default::default()).await;
        writeln!(out, "{number}: {}", told(&error.unwrap_err())).unwrap();
    }
    expect![[r#"
        1: lost, may have happened: it is so
        2: refused, did not happen: rpc error: code = Unknown desc = it is so
        3: refused, did not happen: rpc error: code = InvalidArgument desc = it is so
        4: lost, may have happened: it is so
        5: refused, did not happen, is gone: rpc error: code = NotFound desc = it is so
        6: refused, did not happen: rpc error: code = AlreadyExists desc = it is so
        7: refused, did not happen: rpc error: code = PermissionDenied desc = it is so
        8: refused, did not happen: rpc error: code = ResourceExhausted desc = it is so
        9: refused, did not happen: rpc error: code = FailedPrecondition desc = it is so
        10: refused, did not happen: rpc error: code = Aborted desc = it is so
        11: refused, did not happen: rpc error: code = OutOfRange desc = it is so
        12: refused, did not happen, is unknown to the runtime: rpc error: code = Unimplemented desc = it is so
        13: refused, did not happen: rpc error: code = Internal desc = it is so
        14: lost, may have happened: it is so
        15: refused, did not happen: rpc error: code = DataLoss desc = it is so
        16: refused, did not happen: rpc error: code = Unauthenticated desc = it is so
        17: refused, did not happen: rpc error: code = Unknown desc = it is so
    "#]].assert_eq(&out);
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_stopped_and_removed_but_not_inspected() {
    let mut out = String::new();
    for script in [
        Script::Refuses(Code::NotFound, "no such thing"),
        // containerd's words where it has no code for it.
        Script::Refuses(Code::Unknown, "container \"c\": not found"),
        Script::Refuses(Code::Unknown, "not found, or worse"),
        Script::Refuses(Code::Internal, "not found"),
        Script::Answers(frame(&[])),
    ] {
        let (client, _) = client(std::slice::from_ref(&script));
        writeln!(out, "{script:?}").unwrap();
        let stops = [
            client.stop_container("c", 1).await.err(),
            client.remove_container("c").await.err(),
            client.stop_pod_sandbox("s").await.err(),
            client.remove_pod_sandbox("s").await.err(),
        ];
        let names = ["stop", "remove", "stop sandbox", "remove sandbox"];
        let looks = [
            client.container_status("c").await.err(),
            client.pod_sandbox_status("s").await.err(),
        ];
        let names = names.into_iter().chain(["status", "sandbox status"]);
        for (name, error) in names.zip(stops.into_iter().chain(looks)) {
            let end = error.map_or_else(|| "done".to_owned(), |error| told(&error));
            writeln!(out, "  {name}: {end}").unwrap();
        }
    }
    expect![[r#"
        Refuses(NotFound, "no such thing")
          stop: done
          remove: done
          stop sandbox: done
          remove sandbox: done
          status: refused, did not happen, is gone: rpc error: code = NotFound desc = no such thing
          sandbox status: refused, did not happen, is gone: rpc error: code = NotFound desc = no such thing
        Refuses(Unknown, "container \"c\": not found")
          stop: done
          remove: done
          stop sandbox: done
          remove sandbox: done
          status: refused, did not happen, is gone: rpc error: code = Unknown desc = container "c": not found
          sandbox status: refused, did not happen, is gone: rpc error: code = Unknown desc = container "c": not found
        Refuses(Unknown, "not found, or worse")
          stop: refused, did not happen: rpc error: code = Unknown desc = not found, or worse
          remove: refused, did not happen: rpc error: code = Unknown desc = not found, or worse
          stop sandbox: refused, did not happen: rpc error: code = Unknown desc = not found, or worse
          remove sandbox: refused, did not happen: rpc error: code = Unknown desc = not found, or worse
          status: refused, did not happen: rpc error: code = Unknown desc = not found, or worse
          sandbox status: refused, did not happen: rpc error: code = Unknown desc = not found, or worse
        Refuses(Internal, "not found")
          stop: refused, did not happen: rpc error: code = Internal desc = not found
          remove: refused, did not happen: rpc error: code = Internal desc = not found
          stop sandbox: refused, did not happen: rpc error: code = Internal desc = not found
          remove sandbox: refused, did not happen: rpc error: code = Internal desc = not found
          status: refused, did not happen: rpc error: code = Internal desc = not found
          sandbox status: refused, did not happen: rpc error: code = Internal desc = not found
        Answers([0, 0, 0, 0, 0])
          stop: done
          remove: done
          stop sandbox: done
          remove sandbox: done
          status: done
          sandbox status: refused, did not happen: rpc error: code = Internal desc = the answer is empty
    "#]].assert_eq(&out);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_none_leaves_open_what_happened() {
    let large = u32::try_from(MAX_MESSAGE_BYTES + 1).unwrap().to_be_bytes();
    let rows = [
        ("nobody is there", Script::IsAway),
        ("the connection ends", Script::HangsUp),
        (
            "an answer that is too long",
            Script::Answers([&[0], &large[..], &[0; 9]].concat()),
        ),
        (
            "an answer that is no message",
            Script::Answers(frame(b"\xff\xff")),
        ),
        (
            "a compressed one",
            Script::Answers([1, 0, 0, 0, 1, 0].to_vec()),
        ),
        (
            "one of an unknown kind",
            Script::Answers([9, 0, 0, 0, 1, 0].to_vec()),
        ),
        (
            "one that is cut",
            Script::Answers([0, 0, 0, 0, 9, 0].to_vec()),
        ),
        ("no message", Script::Answers(Vec::new())),
        ("no message and no word", Script::StopsAfter(Vec::new())),
        (
            "a message that is cut, and no word",
            Script::StopsAfter([0, 0, 0, 0, 9].to_vec()),
        ),
        ("400", Script::SaysHttp(400)),
        ("401", Script::SaysHttp(401)),
        ("403", Script::SaysHttp(403)),
        ("404", Script::SaysHttp(404)),
        ("500", Script::SaysHttp(500)),
        ("503", Script::SaysHttp(503)),
    ];
    let mut out = String::new();
    for (name, script) in rows {
        let (client, _) = client(&[script]);
        let end = match client.exec_sync("c", Vec::new(), LONG).await {
            Ok(answer) => format!("{answer:?}"),
            Err(error) => told(&error),
        };
        writeln!(out, "{name}: {end}").unwrap();
    }
    expect![[r#"
        nobody is there: lost, may have happened: connection refused: transport error
        the connection ends: lost, may have happened: transport error: connection error: stream closed because of a broken pipe
        an answer that is too long: lost, may have happened: Error, decoded message length too large: found 16777217 bytes, the limit is: 16777216 bytes
        an answer that is no message: lost, may have happened: failed to decode Protobuf message: invalid varint
        a compressed one: lost, may have happened: protocol error: received message with compressed-flag but no grpc-encoding was specified
        one of an unknown kind: lost, may have happened: protocol error: received message with invalid compression flag: 9 (valid flags are 0 and 1) while receiving response with status: 200 OK
        one that is cut: lost, may have happened: Missing response message.
        no message: lost, may have happened: Missing response message.
        no message and no word: lost, may have happened: protocol error: missing grpc-status trailer, stream was terminated without a final status (possible truncation by a proxy or load balancer)
        a message that is cut, and no word: lost, may have happened: protocol error: missing grpc-status trailer, stream was terminated without a final status (possible truncation by a proxy or load balancer)
        400: lost, may have happened: grpc-status header missing, mapped from HTTP status code 400
        401: lost, may have happened: grpc-status header missing, mapped from HTTP status code 401
        403: lost, may have happened: grpc-status header missing, mapped from HTTP status code 403
        404: lost, may have happened: grpc-status header missing, mapped from HTTP status code 404
        500: lost, may have happened: grpc-status header missing, mapped from HTTP status code 500
        503: lost, may have happened: grpc-status header missing, mapped from HTTP status code 503
    "#]].assert_eq(&out);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_made_again_by_the_next_call() {
    let (client, _) = client(&[Script::IsAway, Script::HangsUp, Script::Answers(frame(&[]))]);
    let mut out = String::new();
    for _ in 0..3 {
        let end = match client.start_container("c").await {
            Ok(()) => "done".to_owned(),
            Err(error) => told(&error),
        };
        writeln!(out, "{end}").unwrap();
    }
    expect![[r#"
        lost, may have happened: connection refused: transport error
        lost, may have happened: transport error: connection error: stream closed because of a broken pipe
        done
    "#]].assert_eq(&out);
}

#[tokio::test(start_paused = true)]
async fn answers_are_read_to_their_last_field() {
    use prost::Message as _;
    let id = cri::CreateContainerResponse {
        container_id: "c1".to_owned(),
    };
    let (client, registry) = client(&[Script::Answers(frame(&id.encode_to_vec()))]);
    let made = client.create_container(Default::default()).await.unwrap();
    assert_eq!(made, "c1");
    let metrics = TextEncoder::new().encode_to_string(&registry.gather());
    let metrics = metrics.unwrap();
    assert!(
        !metrics.contains("kubelet_runtime_operations_errors_total{"),
        "{metrics}"
    );
}

#[tokio::test]
async fn an_endpoint_is_a_unix_socket_or_an_absolute_path() {
    let mut out = String::new();
    for endpoint in [
        "unix:///run/containerd/containerd.sock",
        "/run/containerd/containerd.sock",
        "unix://run/containerd.sock",
        "unix:run/containerd.sock",
        "tcp://127.0.0.1:1",
        "npipe:////./pipe/containerd",
        "",
    ] {
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let made = Client::connect(endpoint, None, TIMEOUTS, metrics);
        let end = made.map_or_else(|error| error.to_string(), |_| "taken".to_owned());
        writeln!(out, "{endpoint}: {end}").unwrap();
    }
    expect![[r#"
        unix:///run/containerd/containerd.sock: taken
        /run/containerd/containerd.sock: taken
        unix://run/containerd.sock: container runtime endpoint "unix://run/containerd.sock": the path must be absolute
        unix:run/containerd.sock: container runtime endpoint "unix:run/containerd.sock": only unix sockets are supported, such as unix:///run/containerd/containerd.sock
        tcp://127.0.0.1:1: container runtime endpoint "tcp://127.0.0.1:1": only unix sockets are supported, such as unix:///run/containerd/containerd.sock
        npipe:////./pipe/containerd: container runtime endpoint "npipe:////./pipe/containerd": only unix sockets are supported, such as unix:///run/containerd/containerd.sock
        : container runtime endpoint "": only unix sockets are supported, such as unix:///run/containerd/containerd.sock
    "#]].assert_eq(&out);
}
