//! Real sockets on loopback: TLS with client certificates, both HTTP versions, proxies, rotation, wrong authorities.
//!
//! In:    certificates made in the test, a server that notes who called
//! Out:   what the client sees and shows
//! Calls: cargo test
//! Holds: real time, because sockets have no other; nothing sleeps
//! Upstream: client-go/transport/tls_test.go, cert_rotation_test.go (which cases)

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;

use super::*;
use crate::client::{Call, Client, LaneKind};
use crate::clock::WallClock;
use crate::error::ClusterError;
use crate::kubeconfig::{ClientPair, Kubeconfig, Login, Material, Secret};
use crate::testing::config;

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    /// Certificate and key of a name, PEM.
    fn pair(&self, name: &str, until: i32) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// Certificates that the server was shown, one per request.
type Callers = Arc<Mutex<Vec<Option<CertificateDer<'static>>>>>;

/// A TLS server of one certificate; requests to `/watch` are answered and never ended.
async fn tls_server(
    authority: &Authority,
    pair: (String, String),
    alpn: &[u8],
) -> (SocketAddr, Callers) {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap())
        .unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), kubelet_tls::provider())
            .allow_unauthenticated()
            .build()
            .unwrap();
    let mut server = rustls::ServerConfig::builder_with_provider(kubelet_tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(pair.0.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(pair.1.as_bytes()).unwrap(),
        )
        .unwrap();
    server.alpn_protocols = vec![alpn.to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let callers = Callers::default();
    let noted = Arc::clone(&callers);
    TokioExecutor::new().execute(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, noted) = (acceptor.clone(), Arc::clone(&noted));
            TokioExecutor::new().execute(async move {
                // A client that does not trust us ends here.
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, noted).await;
                }
            });
        }
    });
    (address, callers)
}

async fn serve(stream: tokio_rustls::server::TlsStream<TcpStream>, noted: Callers) {
    let caller = stream.get_ref().1.peer_certificates();
    let caller = caller
        .and_then(|chain| chain.first())
        .map(|one| one.clone().into_owned());
    let service = service_fn(move |request: Request<Incoming>| {
        noted.lock().unwrap().push(caller.clone());
        async move {
            let body = if request.uri().path() == "/watch" {
                let (sender, response) = crate::testing::streamed();
                TokioExecutor::new().execute(async move { sender.closed().await });
                return Ok::<_, Infallible>(response);
            } else {
                Empty::new().map_err(|never| match never {}).boxed_unsync()
            };
            Ok(Response::new(body))
        }
    });
    // The connection ends with its client.
    let _ended = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn kubeconfig(address: SocketAddr, trust: Trust) -> Kubeconfig {
    Kubeconfig {
        server: Server {
            url: format!("https://localhost:{}", address.port())
                .parse()
                .unwrap(),
            trust,
            tls_name: None,
            proxy: None,
        },
        pair: None,
        login: Login::None,
    }
}

fn trusting(authority: &Authority) -> Trust {
    Trust::Authorities(Material::Data(Secret(authority.pem.clone().into_bytes())))
}

fn client(kubeconfig: Kubeconfig) -> Client {
    let clock = WallClock::new(|| "2026-11-25T12:00:00Z".parse().unwrap());
    Client::new(kubeconfig, &config(), clock)
}

fn call(path: &str) -> Call {
    Call {
        operation: "test",
        lane: LaneKind::General,
        method: Method::GET,
        path: path.to_owned(),
        content_type: "application/json",
        body: Bytes::new(),
        deadline: Duration::from_secs(20),
    }
}

#[tokio::test]
async fn a_rotated_certificate_is_shown_by_the_next_call_and_watches_begin_anew() {
    let authority = Authority::new();
    let (address, callers) = tls_server(&authority, authority.pair("localhost", 2100), b"h2").await;
    let directory =
        std::env::temp_dir().join(format!("kubelet-cluster-tls-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file: PathBuf = directory.join("current.pem");
    let put =
        |pair: &(String, String)| std::fs::write(&file, format!("{}{}", pair.0, pair.1)).unwrap();
    let (first, second) = (authority.pair("one", 2100), authority.pair("two", 2100));
    put(&first);
    let mut kubeconfig = kubeconfig(address, trusting(&authority));
    kubeconfig.pair = Some(ClientPair {
        certificate: Material::File(file.clone()),
        key: Material::File(file.clone()),
    });
    let client = client(kubeconfig);
    client.call(call("/")).await.unwrap();
    assert!(client.certificate_validity().is_some());
    let mut watch = call("/watch");
    watch.lane = LaneKind::Watches;
    let opened = client.open(&watch).await.unwrap();
    assert!(!opened.left.is_cancelled());
    put(&second);
    client.credentials_changed();
    client.call(call("/")).await.unwrap();
    opened.left.cancelled().await;
    let der =
        |pair: &(String, String)| Some(CertificateDer::from_pem_slice(pair.0.as_bytes()).unwrap());
    assert_eq!(
        *callers.lock().unwrap(),
        [der(&first), der(&first), der(&second)]
    );
    std::fs::write(&file, "half a certificate").unwrap();
    client.credentials_changed();
    client.call(call("/")).await.unwrap();
    assert_eq!(
        callers.lock().unwrap().last(),
        Some(&der(&second)),
        "what is unusable is not used"
    );
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn nobody_is_trusted_but_who_is_named() {
    let authority = Authority::new();
    let (address, callers) = tls_server(&authority, authority.pair("localhost", 2100), b"h2").await;
    let other = Authority::new();
    let error = client(kubeconfig(address, trusting(&other)))
        .call(call("/"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ClusterError::Unreachable { message, .. } if message.contains("invalid peer certificate")),
        "{error}"
    );
    assert!(callers.lock().unwrap().is_empty());
    client(kubeconfig(address, Trust::Nobody))
        .call(call("/"))
        .await
        .unwrap();
    let mut misnamed = kubeconfig(address, trusting(&authority));
    misnamed.server.tls_name = Some("elsewhere".to_owned());
    let error = client(misnamed).call(call("/")).await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
    let (address, _) = tls_server(&authority, authority.pair("localhost", 2020), b"h2").await;
    let error = client(kubeconfig(address, trusting(&authority)))
        .call(call("/"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
    let garbage = Trust::Authorities(Material::Data(Secret(b"no certificate".to_vec())));
    let error = client(kubeconfig(address, garbage))
        .call(call("/"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("holds none"), "{error}");
}

#[tokio::test]
async fn a_server_of_http_1_is_spoken_to_one_request_a_connection() {
    let authority = Authority::new();
    let (address, callers) =
        tls_server(&authority, authority.pair("localhost", 2100), b"http/1.1").await;
    let client = client(kubeconfig(address, trusting(&authority)));
    for _ in 0..3 {
        client.call(call("/")).await.unwrap();
    }
    assert_eq!(callers.lock().unwrap().len(), 3);
}

/// A proxy that answers `CONNECT` with `status` and, if that is 200, connects; notes what it was asked.
async fn proxy(status: &'static str) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let noted = Arc::clone(&asked);
    TokioExecutor::new().execute(async move {
        while let Ok((near, _)) = listener.accept().await {
            let mut near: Box<dyn Io> = Box::new(near);
            let head = proxy_answer(&mut near).await.unwrap();
            let target = head.split(' ').nth(1).unwrap().to_owned();
            noted.lock().unwrap().push(head);
            near.write_all(format!("HTTP/1.1 {status}\r\nX: y\r\n\r\n").as_bytes())
                .await
                .unwrap();
            if status.starts_with("200") {
                let mut far = TcpStream::connect(target).await.unwrap();
                TokioExecutor::new().execute(async move {
                    // Ends when either side does.
                    let _ended = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        }
    });
    (address, asked)
}

#[tokio::test]
async fn a_proxy_is_asked_for_a_tunnel() {
    let authority = Authority::new();
    let (address, callers) = tls_server(&authority, authority.pair("localhost", 2100), b"h2").await;
    let (proxy_at, asked) = proxy("200 Connection established").await;
    let mut through = kubeconfig(address, trusting(&authority));
    let url = format!("http://user:word@{proxy_at}");
    through.server.proxy = Some(url.parse().unwrap());
    client(through.clone()).call(call("/")).await.unwrap();
    assert_eq!(callers.lock().unwrap().len(), 1);
    let head = asked.lock().unwrap()[0].clone();
    let wanted = format!("CONNECT localhost:{} HTTP/1.1\r\n", address.port());
    assert!(
        head.starts_with(&wanted) && head.contains("Basic dXNlcjp3b3Jk\r\n"),
        "{head}"
    );
    let (denying, _) = proxy("407 Proxy Authentication Required").await;
    through.server.proxy = Some(format!("http://{denying}").parse().unwrap());
    let error = client(through).call(call("/")).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("refused the tunnel: HTTP/1.1 407 Proxy Authentication Required"),
        "{error}"
    );
}

/// What a call over a real socket fails with.
async fn failure(kubeconfig: Kubeconfig, now: &str) -> String {
    let now: jiff::Timestamp = now.parse().unwrap();
    let client = Client::new(kubeconfig, &config(), WallClock::new(move || now));
    client.call(call("/")).await.unwrap_err().to_string()
}

const NOW: &str = "2026-11-25T12:00:00Z";

#[tokio::test]
async fn a_server_that_is_not_believed_is_named_with_what_it_showed_and_the_time() {
    let authority = Authority::new();
    let mut early = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    early.distinguished_name = rcgen::DistinguishedName::new();
    early
        .distinguished_name
        .push(rcgen::DnType::CommonName, "kube-apiserver");
    early.not_before = rcgen::date_time_ymd(2090, 1, 1);
    early.not_after = rcgen::date_time_ymd(2100, 1, 1);
    let key = KeyPair::generate().unwrap();
    let made = early.signed_by(&key, &authority.issuer).unwrap();
    let pair = (made.pem(), key.serialize_pem());
    let (address, _) = tls_server(&authority, pair, b"h2").await;
    let early = failure(kubeconfig(address, trusting(&authority)), NOW).await;
    let other = failure(kubeconfig(address, trusting(&Authority::new())), NOW).await;
    for (text, why) in [(early, "not valid yet"), (other, "")] {
        for part in [
            why,
            &format!("TLS with https://localhost:{}/: ", address.port()),
            "it showed a certificate of \"CN=kube-apiserver\" signed by \"CN=rcgen self signed cert\"",
            "good from 2090-01-01T00:00:00Z until 2100-01-01T00:00:00Z",
            "; the time here is 20",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}

#[tokio::test]
async fn bad_files_of_credentials_are_named_with_what_is_wrong() {
    let authority = Authority::new();
    let (address, _) = tls_server(&authority, authority.pair("localhost", 2100), b"h2").await;
    let directory =
        std::env::temp_dir().join(format!("kubelet-cluster-bad-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let with = |certificate: PathBuf, key: PathBuf| Kubeconfig {
        pair: Some(ClientPair {
            certificate: Material::File(certificate),
            key: Material::File(key),
        }),
        ..kubeconfig(address, trusting(&authority))
    };
    let (old, key) = authority.pair("n", 2020);
    let (_, other) = authority.pair("m", 2100);
    let (old, key, other) = (
        file("old.crt", &old),
        file("old.key", &key),
        file("m.key", &other),
    );
    let (empty, absent) = (file("empty", ""), directory.join("absent"));
    let login = |path: &std::path::Path| Kubeconfig {
        login: Login::TokenFile(path.to_owned(), None),
        ..kubeconfig(address, trusting(&authority))
    };
    let authorities = Trust::Authorities(Material::File(empty.clone()));
    for (kubeconfig, parts) in [
        (
            with(old.clone(), key.clone()),
            [
                "/old.crt ended at 2020-01-01T00:00:00Z",
                "the time here is 2026-11-25T12:00:00Z",
            ],
        ),
        (
            with(old.clone(), other),
            ["/old.crt: ", "client certificate and key: "],
        ),
        (
            with(absent.clone(), key.clone()),
            ["/absent: ", "No such file"],
        ),
        (
            with(empty.clone(), key),
            ["/empty: client certificate: ", "no certificate in it"],
        ),
        (login(&absent), ["token file ", "/absent: No such file"]),
        (login(&directory), ["token file ", "Is a directory"]),
        (login(&empty), ["token file ", "/empty: is empty"]),
        (
            kubeconfig(address, authorities),
            ["/empty: certificate authorities: ", "holds none"],
        ),
    ] {
        let text = failure(kubeconfig, NOW).await;
        for part in parts {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("PRIVATE KEY"));
    }
    std::fs::remove_dir_all(&directory).unwrap();
}
