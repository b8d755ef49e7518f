//! The main port over real TLS: its certificate, authentication, `/debug`, reload, and errors at bind.
//!
//! In:    requests over TLS, certificates made in a scratch directory
//! Out:   answers, and the errors of bind with their causes
//! Upstream: none

use std::sync::atomic::{AtomicUsize, Ordering};

use hyper_util::rt::TokioExecutor;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName};

use super::*;
use crate::auth::Certificate;
use crate::upgrade::Peer;

pub(super) async fn tls_stream(
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

pub(super) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

pub(super) async fn tls_client(
    address: SocketAddr,
    ca: &Path,
    identity: Option<&Identity>,
) -> Client {
    let stream = tls_stream(address, ca, identity, b"http/1.1").await;
    let (client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    drop(tokio::task::spawn_local(connection));
    client
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
    with(
        listeners.main,
        Box::pin(async {
            let mut client = tls_client(at, &crt, None).await;
            assert_eq!(
                get(&mut client, "/configz").await,
                (
                    200,
                    r#"{"kubeletconfig":{"kind":"KubeletConfiguration"}}"#.to_owned()
                )
            );
            assert_eq!(get(&mut client, "/exec/a/b/c").await.0, 400);
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
        }),
    )
    .await;
    // A second start keeps the certificate.
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
    with(
        listeners.main,
        Box::pin(async {
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
        }),
    )
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
        let gone = (503, "the component is not running\n".to_owned());
        assert_eq!(get(&mut client, "/debug/sources").await, gone);
        let slow = (503, "the component did not answer within 2 s\n".to_owned());
        assert_eq!(get(&mut client, "/debug/tasks").await, slow);
    })
    .await;
}

/// A CA certificate in a file, and clients that it signs.
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
        // A changed CA takes effect within a second, on open connections too.
        let before = std::fs::read(&known.1).unwrap();
        std::fs::copy(&unknown.1, &known.1).unwrap();
        soon(async { while get(&mut admin, "/pods").await != unauthorized {} }).await;
        assert_eq!(get(&mut stranger, "/pods").await.0, 200);
        std::fs::write(&known.1, before).unwrap();
    })
    .await;

    let webhook = MainConfig {
        anonymous: Anonymous::Allowed,
        tokens: TokenAuthentication::Webhook {
            holds: Duration::from_secs(120),
            reviewer: Reviewer::Standalone,
        },
        authorization: Authorization::Webhook {
            yes_holds: Duration::from_secs(300),
            no_holds: Duration::from_secs(30),
            reviewer: Reviewer::Standalone,
        },
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

/// Waits for at most 10 s.
async fn soon(wanted: impl Future<Output = ()>) {
    let timeout = Duration::from_secs(10);
    tokio::time::timeout(timeout, wanted).await.unwrap();
}

/// A TLS connection that pauses before its handshake.
async fn shaken(at: SocketAddr, pause: Duration) -> tokio_rustls::client::TlsStream<TcpStream> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(kubelet_tls::Anybody::default()))
        .with_no_client_auth();
    let stream = TcpStream::connect(at).await.unwrap();
    tokio::time::sleep(pause).await;
    let name = ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.unwrap()
}

async fn shown_certificate(at: SocketAddr) -> Vec<u8> {
    let stream = shaken(at, Duration::ZERO).await;
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test(start_paused = true)]
async fn the_handshake_is_in_the_clock_of_the_first_head() {
    let scratch = Scratch::new("handshake");
    let (state, _world) = state();
    let listeners = bind(config(Some(main_config(&scratch.0))), state)
        .await
        .unwrap();
    let at = address(listeners.main.as_ref());
    with(
        listeners.main,
        Box::pin(async {
            let begin = Instant::now();
            let mut stream = shaken(at, Duration::from_secs(20)).await;
            stream
                .write_all(b"GET /healthz HTTP/1.1\r\n")
                .await
                .unwrap();
            let mut answer = Vec::new();
            drop(stream.read_to_end(&mut answer).await);
            let seconds = begin.elapsed().as_secs();
            assert!(
                answer.is_empty() && (30..=32).contains(&seconds),
                "{seconds}"
            );
        }),
    )
    .await;
}

#[tokio::test]
async fn silent_connections_do_not_shut_the_main_port() {
    let scratch = Scratch::new("silence");
    let (state, _world) = state();
    let listeners = bind(config(Some(main_config(&scratch.0))), state)
        .await
        .unwrap();
    let at = address(listeners.main.as_ref());
    with(
        listeners.main,
        Box::pin(async {
            let mut silent = Vec::new();
            for _ in 0..600 {
                silent.push(TcpStream::connect(at).await.unwrap());
            }
            let begin = Instant::now();
            let mut client = tls_client(at, &scratch.0.join("kubelet.crt"), None).await;
            assert_eq!(get(&mut client, "/healthz").await, (200, "ok".to_owned()));
            assert!(begin.elapsed().as_secs() < 10, "it waited");
        }),
    )
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
            &negotiation(MinTls::V13),
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
    with(
        listeners.main,
        Box::pin(async {
            let first = peer_certificate(at, &old.join("kubelet.crt")).await;
            install(&new);
            let mut second = first.clone();
            soon(async {
                while second == first {
                    second = shown_certificate(at).await;
                }
            })
            .await;
            assert_eq!(peer_certificate(at, &new.join("kubelet.crt")).await, second);
            std::fs::write(&certificate, "broken").unwrap();
            let until = Instant::now() + Duration::from_millis(1500);
            while Instant::now() < until {
                assert_eq!(peer_certificate(at, &new.join("kubelet.crt")).await, second);
            }
        }),
    )
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
            &negotiation(MinTls::V12),
            "n",
            (config(None).now)()
        )
        .is_ok()
    );
    assert!(
        tls::TlsFiles::open(
            &ServingPair::SelfSigned(path("b")),
            None,
            &negotiation(MinTls::V12),
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

/// The CAs' verifier, and how often it was called.
#[derive(Debug)]
struct Counting(Arc<dyn ClientCertVerifier>, AtomicUsize);

impl ClientCertVerifier for Counting {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.verify_client_cert(leaf, rest, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

fn counting(authority: &Authority) -> (Arc<dyn ClientCertVerifier>, Arc<Counting>) {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(&authority.1).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let counting = Arc::new(Counting(verifier.build().unwrap(), AtomicUsize::new(0)));
    let authorities: Arc<dyn ClientCertVerifier> = Arc::<Counting>::clone(&counting);
    (authorities, counting)
}

#[test]
fn a_chain_is_verified_once_in_a_second_and_at_once_by_other_authorities() {
    let scratch = Scratch::new("chain");
    let [ours, others] = ["ours", "others"].map(|name| Authority::new(&scratch.0, name));
    let [(first, count), (second, other_count)] = [counting(&ours), counting(&others)];
    let peer = |authority: &Authority| {
        let (chain, _) = authority.client("admin");
        Peer::new(loopback(), chain, CancellationToken::new())
    };
    let begin = UnixTime::now().as_secs().try_into().unwrap();
    let begin = jiff::Timestamp::from_second(begin).unwrap();
    let good = peer(&ours);
    let later = |milliseconds| begin + jiff::SignedDuration::from_millis(milliseconds);
    for (moment, verified) in [(0, 1), (10, 1), (999, 1), (1000, 2), (1999, 2), (-1, 3)] {
        let said = good.certificate(Some(&first), later(moment));
        assert!(matches!(said, Certificate::Of(_)), "{moment}");
        assert_eq!(count.1.load(Ordering::SeqCst), verified, "{moment}");
    }
    let said = good.certificate(Some(&second), later(-1));
    assert_eq!(
        said,
        Certificate::Invalid,
        "nobody waits for other authorities"
    );
    assert_eq!(good.certificate(None, later(-1)), Certificate::Absent);
    // An invalid certificate is verified even less often.
    let bad = peer(&ours);
    let before = other_count.1.load(Ordering::SeqCst);
    for moment in [0, 1000, 9999, 10_000] {
        let said = bad.certificate(Some(&second), later(moment));
        assert_eq!(said, Certificate::Invalid, "{moment}");
    }
    assert_eq!(other_count.1.load(Ordering::SeqCst), before + 2);
}
