//! Bootstrap, rotation and the serving certificate against this program's own API server, under paused time.
//!
//! Upstream: test/e2e_node/{kubelet_tls_test.go,kubelet_server_tls_test.go} (cases)

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kubelet_apiserver::base::user::User;
use kubelet_cluster::certificates::StoredPair;
use kubelet_cluster::{At, ClusterError, LaneKind, Validity};

use super::*;
use crate::wiring::testing::World;

/// A machine without a certificate, and its API server.
struct Machine {
    world: World,
    place: PathBuf,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A leftover directory does no harm.
        let _removed = std::fs::remove_dir_all(&self.place);
    }
}

fn machine(name: &str) -> Machine {
    let place = std::env::temp_dir().join(format!("hyperkube-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&place).unwrap();
    Machine {
        world: World::new(),
        place,
    }
}

impl Machine {
    fn bootstrap(&self) -> Bootstrap {
        Bootstrap {
            kubeconfig: self.place.join("kubelet.conf"),
            directory: self.place.join("pki"),
            node: "n".to_owned(),
        }
    }

    fn store(&self) -> CertificateStore {
        CertificateStore::client(&self.place.join("pki"))
    }

    /// A client of a kubelet that starts now.
    fn start(&self) -> (Client, ClientCertificate) {
        let client = self.world.client(User::node("n"));
        client.set_waiting(Some(
            "the first client certificate has been requested".to_owned(),
        ));
        client.prefer_pair(self.store().current());
        let asks = User::new("system:bootstrap:abc", &["system:bootstrappers"]);
        let server = Server {
            url: "https://10.0.0.1:6443".parse().unwrap(),
            trust: kubelet_cluster::Trust::System,
            tls_name: None,
            proxy: None,
        };
        let task = ClientCertificate {
            client: client.clone(),
            node: "n".to_owned(),
            bootstrap: Some((self.bootstrap(), self.world.client(asks), server)),
            rotation: Some(self.store()),
            listener: Listener::default(),
            dice: Dice::new(1),
        };
        (client, task)
    }

    async fn pair(&self) -> Option<StoredPair> {
        self.store().read().await
    }

    /// Registers its Node, with the addresses for a serving certificate.
    async fn register(&self) {
        let node = serde_json::json!({"metadata": {"name": "n"}, "status": {"addresses": [
            {"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "n"},
        ]}});
        let call = kubelet_cluster::Call {
            operation: "test",
            lane: LaneKind::General,
            method: "POST".parse().unwrap(),
            path: "/api/v1/nodes".to_owned(),
            content_type: "application/json",
            body: node.to_string().into(),
            deadline: Duration::from_secs(10),
        };
        let admin = self.world.client(User::admin());
        admin.call(call).await.unwrap();
    }

    async fn requests(&self) -> usize {
        let admin = self.world.client(User::admin());
        let call = kubelet_cluster::Call {
            operation: "test",
            lane: LaneKind::General,
            method: "GET".parse().unwrap(),
            path: "/apis/certificates.k8s.io/v1/certificatesigningrequests".to_owned(),
            content_type: "application/json",
            body: Default::default(),
            deadline: Duration::from_secs(10),
        };
        let list = admin.call(call).await.unwrap();
        let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
        list["items"].as_array().unwrap().len()
    }
}

fn at(deadline: u64) -> At<'static> {
    At {
        operation: "read account",
        lane: LaneKind::General,
        namespace: Some("default"),
        name: "default",
        subresource: None,
        deadline: Duration::from_secs(deadline),
    }
}

/// A request of the node's client: what matters is whether it may be sent at all.
async fn ask(client: &Client, deadline: u64) -> Result<ServiceAccount, ClusterError> {
    client.get(at(deadline)).await
}

fn life(pair: StoredPair) -> Validity {
    pair.validity
}

#[tokio::test(start_paused = true)]
async fn calls_wait_for_the_bootstrap_and_go_on_with_it() {
    let machine = machine("bootstrap");
    let (client, task) = machine.start();
    // The task does not run yet: the call says what it waits for.
    let error = ask(&client, 5).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "read account: credentials: the first client certificate has been requested"
    );
    let script = async {
        // The call is held until then, and then sent.
        let answer = ask(&client, 60).await;
        assert!(answer.is_err_and(|error| error.is_answer()));
        assert!(machine.pair().await.is_some());
        assert_eq!(machine.requests().await, 1);
        let written = Kubeconfig::read(&machine.bootstrap().kubeconfig).await;
        assert_eq!(written.unwrap().server.url.host(), Some("10.0.0.1"));
        assert!(client.certificate_validity().is_some());
    };
    tokio::select! {
        () = machine.world.run() => panic!("the controllers ended"),
        () = task.run() => panic!("the task ended"),
        () = script => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_while_nobody_signs_asks_only_once_and_a_slow_approval_is_waited_for() {
    let machine = machine("restart");
    for _ in 0..3 {
        // The signer does not run.
        let (client, task) = machine.start();
        let ended = tokio::time::timeout(Duration::from_secs(300), task.run()).await;
        assert!(ended.is_err());
        assert!(ask(&client, 1).await.is_err());
        assert_eq!(machine.requests().await, 1);
    }
    let (client, task) = machine.start();
    let script = async {
        let answer = ask(&client, 60).await;
        assert!(answer.is_err_and(|error| error.is_answer()));
        assert_eq!(machine.requests().await, 1);
    };
    tokio::select! {
        () = machine.world.run() => panic!("the controllers ended"),
        () = task.run() => panic!("the task ended"),
        () = script => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_denied_request_is_told_to_whoever_waits() {
    let machine = machine("denied");
    let (client, task) = machine.start();
    let script = async {
        while machine.requests().await == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        deny(&machine.world.client(User::admin())).await;
        let mut text = String::new();
        while !text.contains("is denied, reason: No, message: not you") {
            text = ask(&client, 5).await.unwrap_err().to_string();
        }
        assert!(text.starts_with("read account: credentials: there is no client certificate: "));
        assert!(machine.pair().await.is_none());
    };
    tokio::select! {
        () = task.run() => panic!("the task ended"),
        () = script => {}
    }
}

async fn deny(admin: &Client) {
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let call = |method: &str, path: String, body: String| kubelet_cluster::Call {
        operation: "test",
        lane: LaneKind::General,
        method: method.parse().unwrap(),
        path,
        content_type: "application/json",
        body: body.into(),
        deadline: Duration::from_secs(10),
    };
    let list = admin
        .call(call("GET", path.to_owned(), String::new()))
        .await;
    let list: serde_json::Value = serde_json::from_slice(&list.unwrap()).unwrap();
    let mut request: CertificateSigningRequest =
        serde_json::from_value(list["items"][0].clone()).unwrap();
    let condition = serde_json::json!({"type": "Denied", "status": "True", "reason": "No", "message": "not you"});
    let status = request.status.get_or_insert_default();
    status.conditions = Some(vec![serde_json::from_value(condition).unwrap()]);
    let name = request.metadata.name.clone().unwrap();
    let mut text = serde_json::to_value(&request).unwrap();
    text["apiVersion"] = "certificates.k8s.io/v1".into();
    text["kind"] = "CertificateSigningRequest".into();
    let put = call("PUT", format!("{path}/{name}/approval"), text.to_string());
    admin.call(put).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_certificate_is_rotated_in_time_on_new_connections_and_asked_for_anew_when_it_ended() {
    let machine = machine("rotation");
    let (client, task) = machine.start();
    let script = async {
        assert!(ask(&client, 60).await.is_err_and(|error| error.is_answer()));
        let first = life(machine.pair().await.unwrap());
        let whole = first
            .not_after
            .duration_since(first.not_before)
            .as_secs_f64();
        let dials = machine.world.dials.load(Ordering::SeqCst);
        assert!(ask(&client, 60).await.is_err_and(|error| error.is_answer()));
        assert_eq!(machine.world.dials.load(Ordering::SeqCst), dials);

        machine.world.skip(whole * 0.69);
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(life(machine.pair().await.unwrap()), first);
        machine.world.skip(whole * 0.22);
        tokio::time::sleep(Duration::from_secs(120)).await;
        let second = life(machine.pair().await.unwrap());
        assert!(second.not_after > first.not_after);
        assert!(ask(&client, 60).await.is_err_and(|error| error.is_answer()));
        assert_eq!(client.certificate_validity(), Some(second));
        assert!(machine.world.dials.load(Ordering::SeqCst) > dials);
    };
    tokio::select! {
        () = machine.world.run() => panic!("the controllers ended"),
        () = task.run() => panic!("the task ended"),
        () = script => {}
    }
    // The machine slept until the certificate had expired.
    let last = life(machine.pair().await.unwrap());
    let until = last.not_after.duration_since(machine.world.clock.now());
    machine.world.skip(until.as_secs_f64() + 1.0);
    assert!(
        machine
            .bootstrap()
            .is_needed(machine.world.clock.now())
            .await
    );
    let (client, task) = machine.start();
    let script = async {
        assert!(ask(&client, 60).await.is_err_and(|error| error.is_answer()));
        assert!(life(machine.pair().await.unwrap()).not_after > last.not_after);
    };
    tokio::select! {
        () = machine.world.run() => panic!("the controllers ended"),
        () = task.run() => panic!("the task ended"),
        () = script => {}
    }
}

#[tokio::test(start_paused = true)]
async fn the_serving_certificate_comes_from_the_cluster_and_its_figures_have_upstreams_names() {
    let machine = machine("serving");
    let client = machine.world.client(User::node("n"));
    let registry = Registry::new();
    let listener = server_figures(&client, &registry).unwrap();
    client_figures(&client, &registry).unwrap();
    let store = CertificateStore::serving(&machine.place);
    let names = ServingNames {
        dns: vec!["n".to_owned()],
        ips: vec!["10.0.0.1".parse().unwrap()],
    };
    let (_names, names) = watch::channel(Purpose::Serving(names));
    let rotation = Rotation::new(client, store.clone(), "n", names, Dice::new(1)).telling(listener);
    let shown = |name: &str| {
        let families = registry.gather();
        let family = families
            .iter()
            .find(|family| family.name() == name)
            .unwrap();
        let metric = &family.get_metric()[0];
        (
            metric.get_gauge().get_value() + metric.get_counter().get_value(),
            metric.get_histogram().get_sample_count(),
        )
    };
    let mut state = rotation.state();
    assert_eq!(shown(SERVER_TTL.0).0, f64::INFINITY);
    assert_eq!(shown(CLIENT_TTL.0).0, f64::INFINITY);
    let script = async {
        let is_good = |state: &kubelet_cluster::certificates::RotationState| {
            matches!(
                state,
                kubelet_cluster::certificates::RotationState::Good { .. }
            )
        };
        // Requested before the Node exists, signed once it exists.
        while machine.requests().await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(store.read().await.is_none());
        machine.register().await;
        state.wait_for(is_good).await.unwrap();
        let pair = life(store.read().await.unwrap());
        let left = pair.not_after.duration_since(machine.world.clock.now());
        assert_eq!(shown(SERVER_TTL.0).0, left.as_secs_f64().trunc());
        assert_eq!(shown(SERVER_AGES.0).1, 0);
        let life = pair.not_after.duration_since(pair.not_before).as_secs_f64();
        machine.world.set_away(true);
        machine.world.skip(life * 0.91);
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert!(shown(SERVER_ERRORS).0 >= 1.0);
        machine.world.set_away(false);
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(shown(SERVER_AGES.0).1, 1);
        assert_eq!(shown(CLIENT_ERRORS).0, 0.0);
    };
    tokio::select! {
        () = machine.world.run() => panic!("the controllers ended"),
        () = rotation.run() => panic!("the rotation ended"),
        () = script => {}
    }
}
