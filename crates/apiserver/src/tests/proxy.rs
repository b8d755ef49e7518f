//! Requests that are proxied to a kubelet: a stand-in that speaks TLS and HTTP, over loopback.
//!
//! In:    logs, exec, node paths
//! Out:   what the stand-in received, and what came back; certificates over a real connection
//! Upstream: pkg/registry/core/pod/rest/subresources.go

use std::net::SocketAddr;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::identity::authority::Pair;
use crate::serve::listener::{Listener, Serving};

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn pem(pair: &Pair) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    (chain.collect::<Result<_, _>>().unwrap(), key)
}

/// Responds with the request; `exec` becomes an echo.
async fn stand_in(
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let asked = request.uri().to_string();
    let authorized = request.headers().contains_key("authorization");
    if asked.starts_with("/exec/") {
        let echo = async move {
            let mut stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
            let mut bytes = [0; 5];
            stream.read_exact(&mut bytes).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            stream.write_all(asked.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        spawn(echo);
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response
            .headers_mut()
            .insert("connection", "Upgrade".parse().unwrap());
        response
            .headers_mut()
            .insert("upgrade", "SPDY/3.1".parse().unwrap());
        return Ok(response);
    }
    let mut response = Response::new(Full::from(format!("{asked} {authorized}")));
    if asked.contains("/missing/") {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    Ok(response)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's own tasks end with its runtime"
)]
pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}

/// Listens as a kubelet with a certificate of its own.
async fn kubelet() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let own = rcgen::generate_simple_self_signed(["kubelet".to_owned()]).unwrap();
    let (chain, key) = pem(&Pair {
        certificate: own.cert.pem(),
        key: own.signing_key.serialize_pem(),
    });
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    spawn(async move {
        loop {
            let (stream, _) = socket.accept().await.unwrap();
            let acceptor = acceptor.clone();
            spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let served = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(stand_in))
                    .with_upgrades();
                drop(served.await);
            });
        }
    });
    port
}

/// A listening server with a node whose kubelet is the stand-in, and a client for it.
pub(super) struct Served {
    pub(super) world: World,
    pub(super) address: SocketAddr,
    authority: String,
    serving: Serving,
}

impl Served {
    pub(super) async fn new() -> (Self, Pair) {
        Self::limited(Limits::default()).await
    }

    async fn limited(limits: Limits) -> (Self, Pair) {
        let world = World::limited(limits);
        world.settle().await;
        let port = kubelet().await;
        let mut node = ready_node("n");
        node["status"]["daemonEndpoints"] = json!({"kubeletEndpoint": {"Port": port}});
        world.do_it("POST /api/v1/nodes", node).await;
        world.do_it(&format!("POST {PODS}"), pod_on("a", "n")).await;
        let inner = &world.server.0;
        let chance = Chance::System;
        // The certificates are real, so they need the system's clock.
        let now = jiff::Timestamp::now();
        world.clock.store(now.as_second(), Ordering::Relaxed);
        let server_pair = inner
            .authority
            .issue(
                &crate::identity::authority::Purpose::Server(vec!["localhost".to_owned()]),
                &chance,
                now,
            )
            .unwrap();
        let admin = crate::identity::authority::Purpose::Client(
            "jane".to_owned(),
            vec!["system:masters".to_owned()],
        );
        let admin = inner.authority.issue(&admin, &chance, now).unwrap();
        let authority = inner.authority.certificate().to_owned();
        let listener = Listener::bind(
            ([127, 0, 0, 1], 0).into(),
            &server_pair,
            world.server.clone(),
        )
        .await
        .unwrap();
        let address = listener.local_address().unwrap();
        let (server, stop) = (world.server.clone(), world.stop.clone());
        let serving = listener.serving();
        spawn(async move {
            tokio::join!(listener.serve(stop.clone()), server.run(stop));
        });
        let served = Self {
            world,
            address,
            authority,
            serving,
        };
        (served, admin)
    }

    async fn connect(&self, client: Option<&Pair>) -> tokio_rustls::client::TlsStream<TcpStream> {
        self.connect_for(client, b"http/1.1").await
    }

    pub(super) async fn connect_for(
        &self,
        client: Option<&Pair>,
        protocol: &[u8],
    ) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.authority.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match client.map(pem) {
            Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap()
    }

    /// Status line and body, over HTTP/1.1 and a connection of its own.
    pub(super) async fn raw(&self, client: Option<&Pair>, head: &str, then: &str) -> String {
        let mut stream = self.connect(client).await;
        let request = format!("{head}\r\nHost: localhost\r\n");
        stream
            .write_all(format!("{request}\r\n{then}").as_bytes())
            .await
            .unwrap();
        let mut answer = Vec::new();
        // A peer that closes without close_notify has still responded.
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

#[tokio::test]
async fn another_certificate_is_shown_to_the_next_client_and_who_is_there_stays() {
    let (served, admin) = Served::new().await;
    let shown = |stream: &tokio_rustls::client::TlsStream<TcpStream>| {
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        chain.first().unwrap().to_vec()
    };
    let mut first = served.connect(Some(&admin)).await;
    let purpose = crate::identity::authority::Purpose::Server(vec!["localhost".to_owned()]);
    let authority = &served.world.server.0.authority;
    let now = jiff::Timestamp::now();
    let next = authority.issue(&purpose, &Chance::System, now).unwrap();
    served.serving.show(&next).unwrap();
    let second = served.connect(Some(&admin)).await;
    assert_ne!(shown(&first), shown(&second));
    // A certificate that cannot be used changes nothing.
    let bad = Pair {
        key: admin.key.clone(),
        ..next
    };
    served.serving.show(&bad).unwrap_err();
    assert_eq!(shown(&second), shown(&served.connect(Some(&admin)).await));
    let head = "GET /api/v1/nodes/n HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    first.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    drop(first.read_to_string(&mut answer).await);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_client_certificate_is_a_user_and_a_foreign_one_is_401() {
    let (served, admin) = Served::new().await;
    let head = "GET /api/v1/nodes/n HTTP/1.1\r\nConnection: close";
    assert!(
        served
            .raw(Some(&admin), head, "")
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert!(served.raw(None, head, "").await.starts_with("HTTP/1.1 401"));
    let stranger = Identity::fresh(&Chance::System, jiff::Timestamp::now()).unwrap();
    let stranger = stranger
        .client(
            "jane",
            &["system:masters"],
            &Chance::System,
            jiff::Timestamp::now(),
        )
        .unwrap();
    assert!(
        served
            .raw(Some(&stranger), head, "")
            .await
            .starts_with("HTTP/1.1 401")
    );
    let token = format!("{head}\r\nAuthorization: Bearer secret-token");
    assert!(
        served
            .raw(None, &token, "")
            .await
            .starts_with("HTTP/1.1 403")
    );
    served.world.stop.cancel();
}

#[tokio::test]
async fn logs_and_node_paths_reach_the_kubelet_without_the_callers_credentials() {
    let (served, admin) = Served::new().await;
    for (path, asked) in [
        (
            "/api/v1/namespaces/default/pods/a/log?tailLines=5&follow=true&container=c&pretty=1",
            "/containerLogs/default/a/c?follow=true&tailLines=5 false",
        ),
        ("/api/v1/nodes/n/proxy/pods?x=%20y", "/pods?x=%20y false"),
        ("/api/v1/nodes/n/proxy/missing/", "/missing/ false"),
        (
            "/api/v1/nodes/n/proxy/logs/a%2Fb//c%20d/%2e%2e/?x=%2F+y",
            "/logs/a%2Fb//c%20d/%2e%2e/?x=%2F+y false",
        ),
        ("/api/v1/nodes/n/proxy", "/ false"),
    ] {
        let head = format!("GET {path} HTTP/1.1\r\nConnection: close\r\nAuthorization: Bearer x");
        let answer = served.raw(Some(&admin), &head, "").await;
        assert!(answer.contains(asked), "{path}: {answer}");
    }
    let (code, answer) = served
        .world
        .ask(&format!("GET {PODS}/a/log?container=x"), Value::Null)
        .await;
    assert_eq!(
        (code, &answer["message"]),
        (400, &json!("container x is not valid for pod a"))
    );
    served
        .world
        .do_it(&format!("POST {PODS}"), pod("unbound"))
        .await;
    let gone = json!("pod unbound does not have a host assigned");
    let mut other = pod("unbound2");
    other["spec"]["schedulerName"] = "none".into();
    served.world.do_it(&format!("POST {PODS}"), other).await;
    let (code, answer) = served
        .world
        .ask(&format!("GET {PODS}/unbound2/log"), Value::Null)
        .await;
    assert_eq!(
        (
            code,
            answer["message"]
                .as_str()
                .map(|m| m.replace("unbound2", "unbound"))
        ),
        (400, gone.as_str().map(str::to_owned))
    );
    served.world.stop.cancel();
}

#[tokio::test]
async fn exec_is_passed_on_byte_for_byte() {
    let (served, admin) = Served::new().await;
    let path = "/api/v1/namespaces/default/pods/a/exec?command=sh&command=-c&command=echo%20hi&stdin=true&stdout=true&tty=false";
    let head = format!(
        "POST {path} HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0"
    );
    let answer = served.raw(Some(&admin), &head, "hello").await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(
        answer.ends_with(
            "hello/exec/default/a/c?input=1&output=1&command=sh&command=-c&command=echo%20hi"
        ),
        "{answer}"
    );
    served.world.stop.cancel();
}

/// One request on a connection that stays open; its status line.
async fn on(stream: &mut tokio_rustls::client::TlsStream<TcpStream>) -> String {
    let request = "GET /api/v1/nodes/n HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().trim().parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    head.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn a_connection_has_no_rights_after_the_end_of_its_certificate() {
    let (served, admin) = Served::new().await;
    let mut stream = served.connect(Some(&admin)).await;
    let year = crate::identity::authority::LEAF_SECONDS;
    for (advance, status) in [(0, "200"), (year - 60, "200"), (120, "401"), (0, "401")] {
        served.world.advance(advance);
        let line = on(&mut stream).await;
        assert!(line.starts_with(&format!("http/1.1 {status}")), "{line}");
    }
    served.world.stop.cancel();
}

/// Starts an exec and reads the response head; the stand-in waits for five bytes.
async fn exec(served: &Served, who: &Pair) -> (tokio_rustls::client::TlsStream<TcpStream>, String) {
    let path = "/api/v1/namespaces/default/pods/a/exec?command=cat&stdin=true&stdout=true";
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n"
    );
    let mut stream = served.connect(Some(who)).await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    (stream, String::from_utf8(head).unwrap().to_lowercase())
}

/// Waits for a condition that becomes true soon.
async fn becomes(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
    assert!(waited.is_ok(), "{what}");
}

#[tokio::test]
async fn streams_beyond_the_bound_are_told_429_at_once_and_each_holds_its_place_in_flight() {
    let (served, admin) = Served::limited(Limits {
        proxied: 2,
        ..Limits::default()
    })
    .await;
    let staying = || served.world.server.0.in_flight.staying();
    let (mut first, head) = exec(&served, &admin).await;
    assert!(head.starts_with("http/1.1 101"), "{head}");
    let (_second, head) = exec(&served, &admin).await;
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert_eq!(staying(), 2);
    let third = tokio::time::timeout(Duration::from_secs(20), exec(&served, &admin)).await;
    let (_, head) = third.expect("an answer at once");
    assert!(head.starts_with("http/1.1 429"), "{head}");
    assert!(head.contains("\r\nretry-after: 1\r\n"), "{head}");
    // The end of one stream makes room.
    first.write_all(b"hello").await.unwrap();
    drop(first.read_to_end(&mut Vec::new()).await);
    becomes("its place is given back", || staying() == 1).await;
    let (_fourth, head) = exec(&served, &admin).await;
    assert!(head.starts_with("http/1.1 101"), "{head}");
    served.world.stop.cancel();
}

#[tokio::test]
async fn a_stream_ends_with_the_certificate_that_began_it() {
    let (served, admin) = Served::new().await;
    served
        .world
        .advance(crate::identity::authority::LEAF_SECONDS - 1);
    let (mut stream, head) = exec(&served, &admin).await;
    assert!(head.starts_with("http/1.1 101"), "{head}");
    let mut said = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut said)).await;
    assert!(ended.is_ok(), "the stream goes on");
    assert!(said.is_empty());
    let staying = || served.world.server.0.in_flight.staying();
    becomes("its place is given back", || staying() == 0).await;
    served.world.stop.cancel();
}
