//! Probes against servers on this machine: answers, refusals, silence, floods.
//!
//! Upstream: pkg/probe/http/http_test.go, pkg/probe/tcp/tcp_test.go, pkg/probe/grpc/grpc_test.go

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const SOON: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(20);

#[expect(clippy::disallowed_methods, reason = "the servers of the tests")]
fn run(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}

async fn bound() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port on which nobody listens.
async fn nobody() -> u16 {
    let (listener, port) = bound().await;
    drop(listener);
    port
}

/// Reads a request's head.
async fn request(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.unwrap() == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Answers every connection with what is made of its request's head.
async fn server(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> u16 {
    let (listener, port) = bound().await;
    run(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = request(&mut stream).await;
            stream.write_all(answer(&head).as_bytes()).await.unwrap();
        }
    });
    port
}

fn response(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}Connection: close\r\n\r\n{body}"
    )
}

fn get(port: u16, path: &str, headers: &[(&str, &str)]) -> HttpGet {
    let headers = headers.iter();
    HttpGet {
        scheme: Scheme::Http,
        host: "127.0.0.1".to_owned(),
        port,
        path: path.to_owned(),
        headers: headers
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        user_agent: "kube-probe/1.36".to_owned(),
    }
}

#[tokio::test]
async fn a_status_from_200_to_399_is_well() {
    let port = server(|head| {
        let status = head.split('/').nth(1).unwrap().split(' ').next().unwrap();
        response(&format!("{status} x"), "", "body")
    })
    .await;
    for (status, expected) in [
        ("200", Answer::Success("body".to_owned())),
        ("299", Answer::Success("body".to_owned())),
        (
            "302",
            Answer::Warning("Probe terminated redirects, Response body: body".to_owned()),
        ),
        (
            "404",
            Answer::Failure("HTTP probe failed with statuscode: 404".to_owned()),
        ),
        (
            "500",
            Answer::Failure("HTTP probe failed with statuscode: 500".to_owned()),
        ),
    ] {
        let answer = http(&get(port, &format!("/{status}"), &[]), LONG).await;
        assert_eq!(answer, expected);
    }
}

#[tokio::test]
async fn the_request_is_as_upstream_makes_it() {
    let port = server(|head| response("200 OK", "", &head.replace("\r\n", "|"))).await;
    let asked = async |headers: &[(&str, &str)]| {
        let Answer::Success(head) = http(&get(port, "/a?b=c", headers), LONG).await else {
            panic!("no answer");
        };
        let mut lines: Vec<_> = head
            .split('|')
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines.join("|").replace(&port.to_string(), "PORT")
    };
    assert_eq!(
        asked(&[]).await,
        "Accept: */*|Connection: close|GET /a?b=c HTTP/1.1|Host: 127.0.0.1:PORT|User-Agent: kube-probe/1.36"
    );
    let own = [
        ("Host", "example.org"),
        ("user-agent", "me"),
        ("Accept", ""),
        ("X-A", "1"),
        ("X-A", "2"),
    ];
    assert_eq!(
        asked(&own).await,
        "Connection: close|GET /a?b=c HTTP/1.1|Host: example.org|User-Agent: me|X-A: 1|X-A: 2"
    );
}

#[tokio::test]
async fn redirects_are_followed_within_the_host_and_ten_times_at_most() {
    let port = server(|head| {
        let path = head.split(' ').nth(1).unwrap();
        match path {
            "/start" => response("302 Found", "Location: /end\r\n", ""),
            "/away" => response("302 Found", "Location: http://example.org/\r\n", "left"),
            "/loop" => response("301 Moved", "Location: /loop\r\n", ""),
            "/odd" => response("302 Found", "Location: ftp://x/\r\n", ""),
            "/none" => response("302 Found", "", "here"),
            path => response("200 OK", "", path),
        }
    })
    .await;
    let warned =
        |body: &str| Answer::Warning(format!("Probe terminated redirects, Response body: {body}"));
    let failed = |path: &str, why: &str| {
        Answer::Failure(format!("Get \"http://127.0.0.1:{port}{path}\": {why}"))
    };
    for (path, expected) in [
        ("/start", Answer::Success("/end".to_owned())),
        ("/away", warned("left")),
        ("/none", warned("here")),
        ("/loop", failed("/loop", "stopped after 10 redirects")),
        (
            "/odd",
            failed(
                "/odd",
                "failed to parse Location header \"ftp://x/\": no HTTP URL",
            ),
        ),
    ] {
        assert_eq!(http(&get(port, path, &[]), LONG).await, expected);
    }
}

#[tokio::test]
async fn who_does_not_answer_fails_in_gos_words() {
    let refused = nobody().await;
    let (silent, silent_port) = bound().await;
    let hangs_up = server(|_| String::new()).await;
    let dribbles = {
        let (listener, port) = bound().await;
        run(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            request(&mut stream).await;
            let mut wait = tokio::time::interval(Duration::from_millis(20));
            loop {
                wait.tick().await;
                if stream.write_all(b"H").await.is_err() {
                    return;
                }
            }
        });
        port
    };
    let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    for (port, timeout, why) in [
        (
            refused,
            LONG,
            format!("dial tcp 127.0.0.1:{refused}: connect: connection refused"),
        ),
        (silent_port, SOON, late.to_owned()),
        (dribbles, SOON, late.to_owned()),
        (hangs_up, LONG, "EOF".to_owned()),
    ] {
        let answer = http(&get(port, "/", &[]), timeout).await;
        let text = format!("Get \"http://127.0.0.1:{port}/\": {why}");
        assert_eq!(answer, Answer::Failure(text));
    }
    drop(silent);
}

#[tokio::test]
async fn a_body_is_read_up_to_its_bound_and_one_that_does_not_come_is_no_verdict() {
    let endless = server(|_| response("200 OK", "", &"x".repeat(1 << 20))).await;
    let Answer::Success(body) = http(&get(endless, "/", &[]), LONG).await else {
        panic!("no answer");
    };
    assert_eq!(body.len(), 10 << 10);
    let (listener, port) = bound().await;
    run(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        request(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        stream.write_all(head).await.unwrap();
        // It keeps the connection.
        std::future::pending::<()>().await;
        drop(stream);
    });
    let message =
        "context deadline exceeded (Client.Timeout or context cancellation while reading body)"
            .to_owned();
    let state = "failure";
    assert_eq!(
        http(&get(port, "/", &[]), SOON).await,
        Answer::Error { state, message }
    );
    let message = "net/http: invalid header field name \"a b\"".to_owned();
    let state = "unknown";
    assert_eq!(
        http(&get(port, "/", &[("a b", "c")]), SOON).await,
        Answer::Error { state, message }
    );
}

#[tokio::test]
async fn https_takes_any_certificate_and_knows_plain_http() {
    let certified = rcgen::generate_simple_self_signed(vec!["elsewhere".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(std::sync::Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(vec![certified.cert.der().clone()], key)
    .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let (listener, port) = bound().await;
    run(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let mut head = [0; 1024];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        let answer = response("200 OK", "", "safe");
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let over_tls = |port| HttpGet {
        scheme: Scheme::Https,
        ..get(port, "/", &[])
    };
    assert_eq!(
        http(&over_tls(port), LONG).await,
        Answer::Success("safe".to_owned())
    );
    let (listener, plain) = bound().await;
    run(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
    });
    let text = format!(
        "Get \"https://127.0.0.1:{plain}/\": http: server gave HTTP response to HTTPS client"
    );
    assert_eq!(http(&over_tls(plain), LONG).await, Answer::Failure(text));
}

#[tokio::test]
async fn tcp_opens_a_connection_and_closes_it() {
    let (listener, port) = bound().await;
    assert_eq!(
        tcp("127.0.0.1", port, LONG).await,
        Answer::Success(String::new())
    );
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    let port = nobody().await;
    assert_eq!(
        tcp("127.0.0.1", port, LONG).await,
        Answer::Failure(format!(
            "dial tcp 127.0.0.1:{port}: connect: connection refused"
        ))
    );
}

/// `grpc.health.v1.Health/Check`, as far as HTTP/2 frames go, by hyper's own server.
async fn health_server(status: Option<u8>) -> u16 {
    use http_body_util::{BodyExt as _, StreamBody};
    use hyper::body::{Bytes, Frame};
    let (listener, port) = bound().await;
    run(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(move |_request| async move {
                let mut trailers = hyper::HeaderMap::new();
                let mut frames = Vec::new();
                if let Some(status) = status {
                    let message: &[u8] = &[0, 0, 0, 0, 2, 8, status];
                    frames.push(Ok::<_, std::convert::Infallible>(Frame::data(
                        Bytes::copy_from_slice(message),
                    )));
                    trailers.insert("grpc-status", "0".parse().unwrap());
                } else {
                    trailers.insert("grpc-status", "12".parse().unwrap());
                    trailers.insert("grpc-message", "unknown service".parse().unwrap());
                }
                frames.push(Ok(Frame::trailers(trailers)));
                let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
                let response =
                    hyper::Response::builder().header("content-type", "application/grpc");
                Ok::<_, std::convert::Infallible>(response.body(body).unwrap())
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            let executor = hyper_util::rt::TokioExecutor::new();
            let server = hyper::server::conn::http2::Builder::new(executor);
            run(async move {
                // The client hangs up when it has its answer.
                server.serve_connection(io, service).await.ok();
            });
        }
    });
    port
}

#[tokio::test]
async fn grpc_health_is_serving_or_says_what_it_is() {
    let asked = async |port, timeout| grpc("127.0.0.1", port, "", "kube-probe/1.36", timeout).await;
    let serving = health_server(Some(1)).await;
    assert_eq!(
        asked(serving, LONG).await,
        Answer::Success("service healthy".to_owned())
    );
    let not_serving = health_server(Some(2)).await;
    assert_eq!(
        asked(not_serving, LONG).await,
        Answer::Failure("service unhealthy (responded with \"NOT_SERVING\")".to_owned())
    );
    let without = health_server(None).await;
    assert_eq!(
        asked(without, LONG).await,
        Answer::Failure("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown service".to_owned())
    );
    let nobody = nobody().await;
    assert_eq!(
        asked(nobody, SOON).await,
        Answer::Failure(format!(
            "timeout: failed to connect service \"127.0.0.1:{nobody}\" within 300ms: context deadline exceeded"
        ))
    );
    // One speaks HTTP/1, one says nothing, one ends each connection: there is no connection for gRPC.
    let other = server(|_| response("200 OK", "", "hello")).await;
    let (silent, silent_port) = bound().await;
    let hangs_up = server(|_| String::new()).await;
    for port in [other, silent_port, hangs_up] {
        assert_eq!(
            asked(port, SOON).await,
            Answer::Failure(format!(
                "timeout: failed to connect service \"127.0.0.1:{port}\" within 300ms: context deadline exceeded"
            ))
        );
    }
    drop(silent);
}

/// It speaks HTTP/2 and never answers.
#[tokio::test]
async fn a_health_check_that_is_not_answered_is_told_from_a_connection_that_is_not_made() {
    let (listener, port) = bound().await;
    run(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let never = hyper::service::service_fn(|_request| {
            std::future::pending::<Result<hyper::Response<String>, std::convert::Infallible>>()
        });
        let io = hyper_util::rt::TokioIo::new(stream);
        let executor = hyper_util::rt::TokioExecutor::new();
        let server = hyper::server::conn::http2::Builder::new(executor);
        server.serve_connection(io, never).await.ok();
    });
    assert_eq!(
        grpc("127.0.0.1", port, "", "kube-probe/1.36", SOON).await,
        Answer::Failure("timeout: health rpc did not complete within 300ms".to_owned())
    );
}
