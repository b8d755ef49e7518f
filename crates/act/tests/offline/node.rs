//! node_status: a node whose readiness changes while the server is in trouble.
//!
//! In:    a runtime whose network goes and comes
//! Out:   the Node and the lease that the server holds, and held
//! Calls: cargo test
//! Holds: within a minute the node says what is true, and the lease is fresh; readiness goes as the runtime's went, or skips
//! Upstream: none

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kubelet_act::frame::faults::Faults;
use kubelet_act::node::node_facts::ClusterFacts;
use kubelet_act::node::node_status::{NodeLease, NodePace, NodeStatus, NodeStatusParts, Startup};
use kubelet_act::node::runtime_up::RuntimeState;
use kubelet_act::observe::exits::ExitSource;
use kubelet_act::observe::pleg::{Pleg, PlegParts};
use kubelet_act::observe::termination_message::MessageReader;
use kubelet_act::report::events::Events;
use kubelet_cluster::objects::own_node;
use kubelet_cluster::pods::{PodWatch, Terms};
use kubelet_decide::node::node_status::{
    AddressAuthority, AddressView, Registration, ResourceView, SystemView, initial_node,
};
use kubelet_host::HostRoot;
use kubelet_host::blocking::Blocking;
use kubelet_model::dice::Dice;
use kubelet_model::quantity::{Format, Quantity};
use prometheus::Registry;
use testkit::cri::{StandInConfig, StandInRuntime};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::*;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n";
const THE_NODE: &str = "/api/v1/nodes/n";

struct OneNode {
    site: Site,
    client: Client,
    runtime: watch::Sender<RuntimeState>,
    identity: watch::Receiver<Option<(String, String)>>,
}

fn facts() -> ClusterFacts {
    let registration = Registration {
        name: NODE,
        hostname: NODE,
        architecture: "amd64",
        labels: &std::collections::BTreeMap::new(),
        taints: &[],
        provider_id: None,
        authority: AddressAuthority::Kubelet,
        attach_detach_by_cluster: true,
    };
    let amount = |amount: i64| Quantity::from_units(amount, Format::DecimalSi);
    let capacity = [
        ("cpu", 4),
        ("ephemeral-storage", 1 << 30),
        ("memory", 8 << 30),
        ("pods", 110),
    ];
    ClusterFacts {
        addresses: AddressView {
            authority: AddressAuthority::Kubelet,
            given: Vec::new(),
            found: vec!["192.0.2.1".to_owned()],
            problem: None,
            hostname: NODE.to_owned(),
        },
        system: SystemView::default(),
        resources: ResourceView {
            capacity: capacity
                .map(|(name, units)| (name.to_owned(), amount(units)))
                .into(),
            ..ResourceView::default()
        },
        initial: initial_node(&registration),
    }
}

impl OneNode {
    fn start(site: Site) -> Self {
        let stand_in = StandInRuntime::new(StandInConfig::default());
        let channel = stand_in.connect();
        let registry = Registry::new();
        let metrics = kubelet_cri::Metrics::new(&registry).unwrap();
        let timeouts = kubelet_cri::Timeouts { request: MINUTE };
        let cri = kubelet_cri::Client::from_channels(channel.clone(), channel, timeouts, metrics);
        let parts = PlegParts {
            cri: cri.clone(),
            clock: site.clock,
            exits: ExitSource::None,
            messages: MessageReader::new(
                HostRoot::at("/nowhere"),
                Blocking::Inline,
                "/kubelet",
                "/logs",
            ),
            wakes: mpsc::unbounded_channel().0,
            faults: Faults::none(),
        };
        let (pleg, handle) = Pleg::new(parts, &registry).unwrap();
        site.run(pleg.run(site.stop.clone()));
        let (identity, known) = watch::channel(None);
        let runtime = watch::Sender::new(ready(None));
        let client = site.client();
        let (node_watch, own_node) = own_node(client.clone(), NODE, Dice::new(3));
        site.run(node_watch.run());
        let lease = Duration::from_secs(40);
        let status = NodeStatus::new(NodeStatusParts {
            client: client.clone(),
            cri: cri.clone(),
            clock: site.clock,
            facts: facts(),
            port: 10250,
            declared: Vec::new(),
            max_images: None,
            is_registering: true,
            pace: NodePace {
                update: Duration::from_secs(10),
                report: MINUTE * 5,
                lease,
                fraction: 0.0,
            },
            runtime: runtime.subscribe(),
            host: watch::channel(None).1,
            host_warning: watch::channel(None).1,
            own_node,
            images: watch::channel(None).1,
            pleg: handle,
            events: Events::logged(NODE),
            startup: Startup::new(&registry, None, site.clock.now()).unwrap(),
            identity,
        });
        let pace = status.pace();
        site.keep(status, pace);
        let lease = NodeLease::new(client.clone(), site.clock, lease, known.clone());
        let pace = lease.pace();
        site.keep(lease, pace);
        Self {
            site,
            client,
            runtime,
            identity: known,
        }
    }

    async fn new() -> Self {
        let node = Self::start(Site::new().await);
        seconds(15).await;
        assert!(node.identity.borrow().is_some(), "it is registered");
        node
    }

    /// Answers of the runtime, every 5 s, for ever.
    async fn answers(&self, network: &watch::Sender<Option<&'static str>>) {
        loop {
            let why = *network.borrow();
            self.runtime.send_replace(ready(why));
            seconds(5).await;
        }
    }

    async fn readiness(&self) -> String {
        let node: Arc<Node> = typed(&self.site.get(THE_NODE).await);
        ready_of(&node)
    }

    /// What the Ready condition says.
    async fn says(&self) -> String {
        let node: Arc<Node> = typed(&self.site.get(THE_NODE).await);
        let ready = condition_of(&node);
        ready.and_then(|c| c.message).unwrap_or_default()
    }

    /// How old the lease is by the server's clock, seconds.
    async fn lease_age(&self) -> i64 {
        let lease: Arc<Lease> = typed(&self.site.get(LEASE).await);
        let renewed = lease.spec.as_ref().unwrap().renew_time.as_ref().unwrap().0;
        self.site.cluster.clock().now().as_second() - renewed.as_second()
    }
}

fn ready(network_error: Option<&str>) -> RuntimeState {
    RuntimeState {
        last_ready: Some(Instant::now()),
        network_error: network_error.map(str::to_owned),
        ..RuntimeState::default()
    }
}

fn condition_of(node: &Node) -> Option<NodeCondition> {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.clone());
    let mut conditions = conditions.into_iter().flatten();
    conditions.find(|c| c.type_ == "Ready")
}

fn ready_of(node: &Node) -> String {
    condition_of(node).map(|c| c.status).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_refused_its_pods_says_so_and_is_not_ready_while_it_never_had_them() {
    let node = OneNode::new().await;
    let line = &node.site.cluster.line;
    let network = watch::Sender::new(None);
    let script = async {
        seconds(15).await;
        assert_eq!(node.readiness().await, "True");
        // As by an etcd that cannot tell of its progress, and a list that is forbidden besides.
        line.set_rule(|asked| {
            let is_pods = asked.path.ends_with("/pods") && !asked.is_write();
            let code = if asked.is_watch() { 500 } else { 403 };
            is_pods.then_some(Fault::Answer {
                code,
                reason: "Forbidden",
                retry_after: None,
            })
        });
        let (watch, mut sets) =
            PodWatch::new(node.client.clone(), NODE, Terms::default(), Dice::new(1));
        node.site.run(watch.run());
        seconds(5).await;
        assert_eq!(node.says().await, "kubelet is posting ready status");
        seconds(25).await;
        let words =
            "pods of the API server have not been had: list: 403 Forbidden: made by the line";
        assert_eq!(node.readiness().await, "True", "a restart flips nothing");
        assert_eq!(
            node.says().await,
            format!("kubelet is posting ready status. WARNING: {words}")
        );
        seconds(50).await;
        assert_eq!(node.readiness().await, "False");
        assert!(node.says().await.contains(words), "{}", node.says().await);
        assert_eq!(node.client.sets().to_json()[1]["name"], "pods");
        assert_eq!(node.client.sets().to_json()[1]["current"], false);
        // The list is allowed; streams are not.
        line.set_rule(|asked| {
            let is_stream = asked.query.contains("sendInitialEvents");
            is_stream.then_some(Fault::Answer {
                code: 500,
                reason: "InternalError",
                retry_after: None,
            })
        });
        let had = tokio::time::timeout(MINUTE, sets.wait_for(Option::is_some)).await;
        assert!(had.is_ok());
        seconds(15).await;
        assert_eq!(node.readiness().await, "True");
        assert_eq!(node.says().await, "kubelet is posting ready status");
        // A set that was had and is refused from now on makes no node unready: what runs is known.
        line.set_rule(|asked| {
            let is_pods = asked.path.ends_with("/pods") && !asked.is_write();
            is_pods.then_some(Fault::Answer {
                code: 403,
                reason: "Forbidden",
                retry_after: None,
            })
        });
        line.cut();
        seconds(100).await;
        let said = node.says().await;
        assert_eq!(node.readiness().await, "True", "{said}");
        assert!(
            said.contains("WARNING: pods of the API server have not been kept current"),
            "{said}"
        );
    };
    tokio::select! {
        () = script => {}
        () = node.answers(&network) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_may_watch_itself_and_not_read_itself_gets_over_a_failed_write() {
    let node = OneNode::new().await;
    let network = watch::Sender::new(None);
    let script = async {
        seconds(15).await;
        let has_failed = AtomicBool::new(false);
        node.site.cluster.line.set_rule(move |asked| {
            let is_write = asked.is_write() && asked.path.starts_with(THE_NODE);
            let fails = is_write && !has_failed.swap(true, Ordering::SeqCst);
            let is_read = asked.line() == format!("GET {THE_NODE}");
            let code = if fails { 500 } else { 403 };
            (fails || is_read).then_some(Fault::Answer {
                code,
                reason: "Forbidden",
                retry_after: None,
            })
        });
        network.send_replace(Some("cni is not there"));
        seconds(60).await;
        assert_eq!(node.readiness().await, "False");
    };
    tokio::select! {
        () = script => {}
        () = node.answers(&network) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_puts_a_registration_off_for_a_day_is_asked_again_after_five_minutes() {
    let site = Site::new().await;
    site.cluster.line.set_rule(|asked| {
        (asked.line() == "POST /api/v1/nodes").then_some(Fault::Answer {
            code: 429,
            reason: "TooManyRequests",
            retry_after: Some(u16::MAX),
        })
    });
    let began = site.cluster.line.now();
    let node = OneNode::start(site);
    seconds(16 * 60).await;
    let asked = node.site.cluster.line.asked_since(began);
    let tries = asked.iter().filter(|a| a.line() == "POST /api/v1/nodes");
    assert_eq!(tries.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn within_a_minute_the_node_says_what_is_true_and_its_lease_is_fresh() {
    in_every_trouble(|trouble| async move {
        let node = OneNode::new().await;
        let (site, line) = (&node.site, &node.site.cluster.line);
        let network = watch::Sender::new(None);
        let script = async {
            seconds(15).await;
            let history = site.cluster.witness::<Node>();
            seconds(1).await;
            let (mark, began) = (history.len(), line.now());
            let meanwhile = async {
                tokio::time::sleep(trouble.lasts() / 3).await;
                network.send_replace(Some("cni is not there"));
            };
            tokio::join!(trouble.run(site), meanwhile);
            // The node is looked at with each answer of the runtime, every 5 s, and then read and written; the lease every 10 s, or
            // when that fails every 7 s and at a conflict five times in a row; the watch; the first tries are 0.2 s apart.
            let lease = if trouble == Trouble::Conflicts {
                9 * 10
            } else {
                15
            };
            assert_calm(site, began, 12 * 3 + lease + 30, &format!("{trouble:?}"));
            let healed = line.now();
            seconds(60).await;
            assert_eq!(node.readiness().await, "False", "{trouble:?}");
            let age = node.lease_age().await;
            assert!(
                (0..=11).contains(&age),
                "{trouble:?}: the lease is {age} s old"
            );
            let after = line.attempts_since(healed);
            assert!(after <= 40, "{trouble:?}: {after} after it healed");
            network.send_replace(None);
            seconds(15).await;
            let mut shown: Vec<String> = history.forms(mark).iter().map(|n| ready_of(n)).collect();
            shown.dedup();
            let shown = shown.join(" ");
            assert!(
                ["True False True", "False True"].contains(&shown.as_str()),
                "{trouble:?}: {shown}"
            );
        };
        tokio::select! {
            () = script => {}
            () = node.answers(&network) => {}
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_node_of_somebody_else_is_taken_over_and_keeps_its_uid_and_what_is_not_ours() {
    let site = Site::new().await;
    let other = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": NODE, "labels": {"team": "a", "kubernetes.io/hostname": "other"}},
        "spec": {"externalID": "other-machine", "providerID": "cloud://1", "unschedulable": true},
        "status": {"capacity": {"cpu": "64", "example.com/gpu": "8"}},
    });
    let made = site
        .cluster
        .ask(Method::POST, "/api/v1/nodes", &other)
        .await
        .unwrap();
    let node = OneNode::start(site);
    seconds(20).await;
    let uid = made["metadata"]["uid"].as_str().unwrap().to_owned();
    let known = node.identity.borrow().clone();
    assert_eq!(known, Some((NODE.to_owned(), uid.clone())));
    let held = node.site.get(THE_NODE).await;
    assert_eq!(text(&held, "/metadata/uid"), uid);
    assert_eq!(held["metadata"]["labels"]["team"], "a");
    assert_eq!(held["metadata"]["labels"]["kubernetes.io/hostname"], NODE);
    assert_eq!(held["spec"]["providerID"], "cloud://1");
    assert_eq!(held["spec"]["unschedulable"], true);
    assert_eq!(held["status"]["capacity"]["cpu"], "4");
    assert_eq!(node.readiness().await, "True");
    assert!(node.lease_age().await <= 11);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_deleted_and_made_again_is_known_by_its_new_uid() {
    let node = OneNode::new().await;
    let network = watch::Sender::new(None);
    let script = async {
        seconds(15).await;
        let before = node.identity.borrow().clone();
        let cluster = &node.site.cluster;
        let gone = cluster.ask(Method::DELETE, THE_NODE, &json!({})).await;
        gone.unwrap();
        seconds(20).await;
        let again = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
        let made = cluster.ask(Method::POST, "/api/v1/nodes", &again).await;
        let uid = made.unwrap()["metadata"]["uid"]
            .as_str()
            .unwrap()
            .to_owned();
        seconds(30).await;
        let known = node.identity.borrow().clone();
        assert_eq!(known, Some((NODE.to_owned(), uid.clone())));
        assert_ne!(known, before);
        let csi_node = format!("/apis/storage.k8s.io/v1/csinodes/{NODE}");
        let held = node.site.get(&csi_node).await;
        assert_eq!(text(&held, "/metadata/ownerReferences/0/uid"), uid);
        assert_eq!(node.readiness().await, "True");
    };
    tokio::select! {
        () = script => {}
        () = node.answers(&network) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_server_it_registers_within_a_minute_of_its_coming() {
    for health in [Health::Refused, Health::BlackHole] {
        let site = Site::new().await;
        site.cluster.line.set(health);
        let began = site.cluster.line.now();
        let node = OneNode::start(site);
        seconds(1800).await;
        assert!(node.identity.borrow().is_none());
        // Tries 7 s apart at the most, those of the first second closer; and the watch.
        assert_calm(&node.site, began, 30, &format!("{health:?}"));
        node.site.cluster.line.set(Health::Good);
        let network = watch::Sender::new(None);
        tokio::select! {
            () = seconds(60) => {}
            () = node.answers(&network) => {}
        }
        assert_eq!(node.readiness().await, "True", "{health:?}");
        assert!(node.lease_age().await <= 11, "{health:?}");
    }
}
