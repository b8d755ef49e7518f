//! Certificates from a server that signs: bootstrap, rotation, refusals, cut-off requests.
//!
//! In:    a certificate authority and an approver in the test
//! Out:   files and requests
//! Calls: cargo test
//! Holds: requests are signed as they came; files are real
//! Upstream: client-go/util/certificate/certificate_manager_test.go, pkg/kubelet/certificate/bootstrap/bootstrap_test.go

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateSigningRequestParams, IsCa, Issuer};
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use serde_json::{Value, json};

use super::*;
use crate::clock::WallClock;
use crate::testing::{Server as TestServer, answer, config, status};

const START: &str = "2026-11-25T12:00:00Z";

/// What the approver does with requests.
#[derive(Clone, Copy, PartialEq)]
enum Approver {
    Signs,
    Denies,
    Sleeps,
}

struct World {
    server: TestServer,
    /// Requests by name, as they are at the server.
    requests: Arc<Mutex<BTreeMap<String, Value>>>,
    approver: Arc<Mutex<Approver>>,
    directory: PathBuf,
    client: Client,
}

impl Drop for World {
    fn drop(&mut self) {
        // A directory that is left over disturbs nobody.
        let _removed = std::fs::remove_dir_all(&self.directory);
    }
}

fn issuer() -> Issuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Issuer::new(params, KeyPair::generate().unwrap())
}

/// A certificate of ten days for the key of a request.
fn signed(issuer: &Issuer<'static, KeyPair>, request: &Value) -> String {
    let pem: ByteString = serde_json::from_value(request["spec"]["request"].clone()).unwrap();
    let pem = String::from_utf8(pem.0).unwrap();
    let mut request = CertificateSigningRequestParams::from_pem(&pem).unwrap();
    let mut params = CertificateParams::new(vec!["one".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2026, 11, 25);
    params.not_after = rcgen::date_time_ymd(2026, 12, 5);
    request.params = params;
    request.signed_by(issuer).unwrap().pem()
}

fn world(name: &str, approver: Approver) -> World {
    let requests: Arc<Mutex<BTreeMap<String, Value>>> = Arc::default();
    let approver = Arc::new(Mutex::new(approver));
    let (kept, does) = (Arc::clone(&requests), Arc::clone(&approver));
    let issuer = Arc::new(issuer());
    let server = TestServer::new(move |seen| {
        let (kept, does, issuer) = (Arc::clone(&kept), Arc::clone(&does), Arc::clone(&issuer));
        async move {
            assert_eq!(
                seen.path,
                "/apis/certificates.k8s.io/v1/certificatesigningrequests"
            );
            if seen.method == "POST" {
                let mut request = seen.json();
                let mut kept = kept.lock().unwrap();
                let number = kept.len();
                let metadata = request["metadata"].as_object_mut().unwrap();
                let name = match metadata.get("generateName").and_then(Value::as_str) {
                    Some(start) => format!("{start}{number}"),
                    None => metadata["name"].as_str().unwrap().to_owned(),
                };
                if kept.contains_key(&name) {
                    return status(409, "AlreadyExists");
                }
                metadata.insert("name".to_owned(), json!(name));
                kept.insert(name, request.clone());
                return answer(201, &request);
            }
            if seen.parameter("watch").is_some() {
                // Ends soon: the next list shows the verdict.
                tokio::time::sleep(Duration::from_secs(5)).await;
                return status(410, "Expired");
            }
            let name = seen
                .parameter("fieldSelector")
                .unwrap()
                .replace("metadata.name%3D", "");
            let mut kept = kept.lock().unwrap();
            let Some(request) = kept.get_mut(&name) else {
                return answer(
                    200,
                    &json!({ "metadata": { "resourceVersion": "1" }, "items": [] }),
                );
            };
            match *does.lock().unwrap() {
                Approver::Sleeps => {}
                Approver::Denies => {
                    let denied = json!({ "type": "Denied", "status": "True", "reason": "No", "message": "not you" });
                    request["status"] = json!({ "conditions": [denied] });
                }
                Approver::Signs => {
                    let certificate = ByteString(signed(&issuer, request).into_bytes());
                    request["status"] = json!({ "certificate": certificate });
                }
            }
            answer(
                200,
                &json!({ "metadata": { "resourceVersion": "1" }, "items": [request.clone()] }),
            )
        }
    });
    let directory =
        std::env::temp_dir().join(format!("kubelet-cluster-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let client = server.client_at(START.parse().unwrap());
    World {
        server,
        requests,
        approver,
        directory,
        client,
    }
}

fn bootstrap_server() -> Server {
    Server {
        url: "https://10.0.0.1:6443".parse().unwrap(),
        trust: Trust::Authorities(Material::File("/etc/kubernetes/pki/ca.crt".into())),
        tls_name: None,
        proxy: None,
    }
}

fn bootstrap(world: &World) -> Bootstrap {
    Bootstrap {
        kubeconfig: world.directory.join("etc/kubelet.conf"),
        directory: world.directory.join("pki"),
        node: "one".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_bootstrap_leaves_certificate_link_and_kubeconfig() {
    let world = world("bootstrap", Approver::Signs);
    let bootstrap = bootstrap(&world);
    let now: Timestamp = START.parse().unwrap();
    assert!(bootstrap.is_needed(now).await);
    bootstrap
        .run(&world.client, &bootstrap_server(), &mut Dice::new(1))
        .await
        .unwrap();
    let (name, request) = world.requests.lock().unwrap().pop_first().unwrap();
    assert!(name.starts_with("node-csr-") && name.len() == 73, "{name}");
    assert_eq!(
        request["spec"]["signerName"],
        "kubernetes.io/kube-apiserver-client-kubelet"
    );
    assert_eq!(
        request["spec"]["usages"],
        json!(["digital signature", "client auth"])
    );
    let link = world.directory.join("pki/kubelet-client-current.pem");
    assert_eq!(
        std::fs::read_link(&link).unwrap(),
        world
            .directory
            .join("pki/kubelet-client-2026-11-25-12-00-00.pem")
    );
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&link).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let left: Vec<_> = std::fs::read_dir(world.directory.join("pki"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 2, "no temporary files are left");
    let config = Kubeconfig::read(&bootstrap.kubeconfig).await.unwrap();
    assert_eq!(config.server, bootstrap_server());
    assert_eq!(config.pair.unwrap().key, Material::File(link));
    assert!(!bootstrap.is_needed(now).await);
    assert!(
        bootstrap
            .is_needed("2026-12-06T00:00:00Z".parse().unwrap())
            .await
    );
}

#[tokio::test(start_paused = true)]
async fn a_bootstrap_that_was_cut_off_is_taken_up_with_the_same_key() {
    let world = world("cut-off", Approver::Sleeps);
    let bootstrap = bootstrap(&world);
    let mut dice = Dice::new(1);
    let server = bootstrap_server();
    let cut = tokio::time::timeout(
        Duration::from_secs(60),
        bootstrap.run(&world.client, &server, &mut dice),
    );
    cut.await.unwrap_err();
    *world.approver.lock().unwrap() = Approver::Signs;
    bootstrap
        .run(&world.client, &server, &mut dice)
        .await
        .unwrap();
    assert_eq!(world.requests.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_denied_or_never_approved_in_words() {
    let world = world("denied", Approver::Denies);
    let bootstrap = bootstrap(&world);
    let mut dice = Dice::new(1);
    let error = bootstrap
        .run(&world.client, &bootstrap_server(), &mut dice)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("is denied, reason: No, message: not you"),
        "{error}"
    );
    world.requests.lock().unwrap().clear();
    *world.approver.lock().unwrap() = Approver::Sleeps;
    let began = Instant::now();
    let error = bootstrap
        .run(&world.client, &bootstrap_server(), &mut dice)
        .await
        .unwrap_err();
    assert!(
        matches!(error, CertificateError::NotApproved { .. }),
        "{error}"
    );
    assert_eq!(began.elapsed().as_secs(), 900);
    world
        .server
        .is_down
        .store(true, std::sync::atomic::Ordering::SeqCst);
}

#[test]
fn the_deadline_lies_between_seven_and_nine_tenths() {
    let validity = Validity {
        not_before: "2026-01-01T00:00:00Z".parse().unwrap(),
        not_after: "2026-01-11T00:00:00Z".parse().unwrap(),
    };
    for (fraction, expected) in [
        (0.0, "2026-01-08T00:00:00Z"),
        (0.5, "2026-01-09T00:00:00Z"),
        (1.0, "2026-01-10T00:00:00Z"),
    ] {
        let deadline = rotation_deadline(validity, fraction);
        let off = deadline.duration_since(expected.parse().unwrap());
        assert!(
            off.abs() < SignedDuration::from_secs(1),
            "{fraction}: {deadline}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_certificate_is_rotated_in_time_and_after_failures() {
    let world = world("rotation", Approver::Denies);
    let store = CertificateStore::new(&world.directory, "kubelet-client");
    let (_purposes, purpose) = watch::channel(Purpose::Client);
    let rotation = Rotation::new(
        world.client.clone(),
        store.clone(),
        "one",
        purpose,
        Dice::new(1),
    );
    let mut state = rotation.state();
    let script = async {
        let failed = |state: &RotationState| matches!(state, RotationState::Failed { failures, .. } if *failures >= 3);
        state.wait_for(failed).await.unwrap();
        *world.approver.lock().unwrap() = Approver::Signs;
        let good = |state: &RotationState| matches!(state, RotationState::Good { .. });
        let RotationState::Good { until, rotate_at } = state.wait_for(good).await.unwrap().clone()
        else {
            unreachable!("it was waited for")
        };
        assert_eq!(until.to_string(), "2026-12-05T00:00:00Z");
        let first: Timestamp = "2026-12-02T00:00:00Z".parse().unwrap();
        assert!(rotate_at >= first, "{rotate_at}");
        let before = std::fs::read_link(store.current()).unwrap();
        state
            .wait_for(|state| *state == RotationState::Asking)
            .await
            .unwrap();
        assert!(world.client.clock().now() >= rotate_at);
        *world.approver.lock().unwrap() = Approver::Denies;
        state.wait_for(failed).await.unwrap();
        assert!(
            store.read().await.is_some(),
            "a failed rotation keeps what is there"
        );
        *world.approver.lock().unwrap() = Approver::Signs;
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_ne!(std::fs::read_link(store.current()).unwrap(), before);
        // From now on the signer gives certificates that are old already: asked about once a minute.
        let old: Timestamp = "2026-12-04T00:01:00Z".parse().unwrap();
        tokio::time::sleep(world.client.clock().until(old)).await;
        let asked = world.requests.lock().unwrap().len();
        tokio::time::sleep(Duration::from_secs(600)).await;
        let again = world.requests.lock().unwrap().len() - asked;
        assert!((5..=11).contains(&again), "{again}");
    };
    tokio::select! {
        () = rotation.run() => unreachable!("a rotation does not end"),
        () = script => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_serving_certificate_waits_for_names_and_follows_them() {
    let world = world("serving", Approver::Signs);
    let store = CertificateStore::new(&world.directory, "kubelet-server");
    let (purposes, purpose) = watch::channel(Purpose::Serving(ServingNames::default()));
    let rotation = Rotation::new(
        world.client.clone(),
        store.clone(),
        "one",
        purpose,
        Dice::new(1),
    );
    let names = |ip: &str| {
        Purpose::Serving(ServingNames {
            dns: vec!["one".to_owned()],
            ips: vec![ip.parse().unwrap()],
        })
    };
    let script = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(world.requests.lock().unwrap().len(), 0);
        for (count, ip) in [(1, "10.0.0.1"), (2, "10.0.0.2")] {
            purposes.send_replace(names(ip));
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(world.requests.lock().unwrap().len(), count);
        }
        let requests = world.requests.lock().unwrap();
        let request = requests.values().next_back().unwrap();
        assert_eq!(
            request["spec"]["signerName"],
            "kubernetes.io/kubelet-serving"
        );
        assert_eq!(
            request["spec"]["usages"],
            json!(["digital signature", "server auth"])
        );
        let pem: ByteString = serde_json::from_value(request["spec"]["request"].clone()).unwrap();
        let (_, der) = <(SectionKind, Vec<u8>)>::from_pem_slice(&pem.0).unwrap();
        let holds = |bytes: &[u8]| der.windows(bytes.len()).any(|window| window == bytes);
        assert!(holds(b"system:nodes") && holds(b"system:node:one"));
        // The address as a subject alternative name: `[7]`, four bytes.
        assert!(holds(&[0x87, 4, 10, 0, 0, 2]) && holds(&[0x82, 3, b'o', b'n', b'e']));
    };
    tokio::select! {
        () = rotation.run() => unreachable!("a rotation does not end"),
        () = script => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_right_brings_the_rotation_forward() {
    let world = world("clock", Approver::Signs);
    let store = CertificateStore::new(&world.directory, "kubelet-client");
    let ahead = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let days = Arc::clone(&ahead);
    let start: Timestamp = START.parse().unwrap();
    let clock = WallClock::new(move || {
        start + SignedDuration::from_hours(24 * days.load(std::sync::atomic::Ordering::SeqCst))
    });
    let client = Client::in_process(world.server.pipe(), &config(), clock);
    let (_purposes, purpose) = watch::channel(Purpose::Client);
    let rotation = Rotation::new(client, store, "one", purpose, Dice::new(1));
    let script = async {
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(world.requests.lock().unwrap().len(), 1);
        ahead.store(10, std::sync::atomic::Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert!(world.requests.lock().unwrap().len() > 1);
    };
    tokio::select! {
        () = rotation.run() => unreachable!("a rotation does not end"),
        () = script => {}
    }
}
