//! The URL source over TLS: whom it trusts, and what it says of whom it does not.
//!
//! Upstream: none of its own; Go's crypto/x509 (root_unix_test.go)

use std::ffi::OsString;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// An authority of one test.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(parameters, key),
            pem,
        }
    }

    /// A server for this name that gives one manifest to everybody.
    async fn server(&self, name: &str) -> (String, tokio::task::JoinSet<()>) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/pods", listener.local_addr().unwrap());
        let mut task = tokio::task::JoinSet::new();
        task.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that does not trust us goes away.
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                let body = manifest("a", "i:1");
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
                drop(stream.write_all(answer.as_bytes()).await);
                drop(stream.shutdown().await);
            }
        });
        (url, task)
    }
}

fn source(machine: &Machine, url: &str) -> Running {
    machine.start_with(SourcesConfig {
        taker: bench(),
        file: None,
        url: Some(UrlSourceConfig {
            url: url.to_owned(),
            headers: BTreeMap::new(),
            check_every: Duration::from_millis(5),
        }),
    })
}

fn put(machine: &Machine, path: &str, pem: &str) {
    let path = machine.dir.join(path.trim_start_matches('/'));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, pem).unwrap();
}

#[tokio::test]
async fn every_place_of_authorities_that_go_knows_is_trusted() {
    let authority = Authority::new("an authority");
    let (url, _task) = authority.server("127.0.0.1").await;
    let other = Authority::new("another authority").pem;
    let wish = |file: &str, directories: &str| SystemRoots {
        file: (!file.is_empty()).then(|| OsString::from(file)),
        directories: (!directories.is_empty()).then(|| OsString::from(directories)),
    };
    type Row<'a> = (&'a str, SystemRoots, &'a str, bool);
    let unknown = "UnknownIssuer";
    let rows: [Row<'_>; 9] = [
        ("/etc/ssl/certs/ca-certificates.crt", wish("", ""), "", true),
        ("/etc/pki/tls/certs/ca-bundle.crt", wish("", ""), "", true),
        ("/etc/ssl/certs/own.pem", wish("", ""), "", true),
        ("/own/bundle.pem", wish("/own/bundle.pem", ""), "", true),
        ("/own/dir/one.pem", wish("", "/none:/own/dir"), "", true),
        // What the environment names is taken instead of the usual places, not beside them.
        (
            "/etc/ssl/cert.pem",
            wish("/own/other.pem", ""),
            unknown,
            false,
        ),
        (
            "/etc/ssl/certs/own.pem",
            wish("/own/other.pem", "/none"),
            unknown,
            false,
        ),
        ("/elsewhere", wish("/own/other.pem", ""), unknown, false),
        (
            "/elsewhere",
            wish("", ""),
            "cannot read certificate authorities",
            false,
        ),
    ];
    for (place, roots, problem, is_trusted) in rows {
        let mut machine = Machine::new();
        machine.roots = roots.clone();
        put(
            &machine,
            place,
            &format!("# a comment\n{other}{}", authority.pem),
        );
        put(&machine, "/own/other.pem", &other);
        let mut running = source(&machine, &url);
        if is_trusted {
            assert_eq!(running.next_names().await, ["a-bench"], "{place} {roots:?}");
        } else {
            let shown = running.problem().await["message"].to_string();
            assert!(shown.contains(problem), "{place} {roots:?}: {shown}");
            assert!(running.is_quiet());
        }
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new("an authority");
    let (url, _task) = authority.server("manifests.example").await;
    let machine = Machine::new();
    put(&machine, "/etc/ssl/cert.pem", &authority.pem);
    let mut running = source(&machine, &url);
    let shown = running.problem().await["message"].to_string();
    assert!(shown.contains("not valid for name"), "{shown}");
    assert!(running.is_quiet());
}

#[tokio::test]
async fn authorities_that_come_later_are_found_without_a_restart() {
    let authority = Authority::new("an authority");
    let (url, _task) = authority.server("127.0.0.1").await;
    let machine = Machine::new();
    let mut running = source(&machine, &url);
    running.problem().await;
    put(&machine, "/etc/ssl/cert.pem", &authority.pem);
    assert_eq!(running.next_names().await, ["a-bench"]);
    running.no_problem().await;
}
