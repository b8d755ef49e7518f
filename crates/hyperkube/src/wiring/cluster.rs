//! The parts of a kubelet in a cluster: the client, its pods, their statuses and mirror pods, the Node and its lease.
//!
//! In:    `--kubeconfig`, the configuration, the parts that run already
//! Out:   tasks; none without a kubeconfig
//! Calls: wiring
//! Holds: static pods never wait for these parts: the API server may be unreachable for any length of time
//! Upstream: cmd/kubelet/app/server.go (buildKubeletClientConfig), pkg/kubelet/kubelet.go (NewMainKubelet, Run)

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::node::v1::RuntimeClass;
use kubelet_act::frame::clock::Clock;
use kubelet_act::frame::reconciler::Reconcilers;
use kubelet_act::frame::supervisor::{Supervisor, TaskKind};
use kubelet_act::images::image_list::ImageSet;
use kubelet_act::node::node_facts::cluster_facts;
use kubelet_act::node::node_status::{NodeLease, NodePace, NodeStatus, NodeStatusParts, Startup};
use kubelet_act::node::runtime_up::RuntimeState;
use kubelet_act::objects::pod_objects::{ObjectsHandle, PodObjectsKeeper, PodObjectsParts};
use kubelet_act::pod::pod_path::PodPath;
use kubelet_act::report::events::{self as act_events, Events};
use kubelet_act::report::mirror_pods::{MirrorInputs, MirrorPods};
use kubelet_act::report::status::StatusHandle;
use kubelet_act::report::status_write::{StatusFigures, StatusInputs, StatusWriter};
use kubelet_act::sources::SourceSnapshot;
use kubelet_act::sources::cluster_source;
use kubelet_cluster::objects::{
    NamedObjects, NamedObjectsTask, own_node, runtime_classes, services,
};
use kubelet_cluster::pods::{PodSet, PodWatch, Terms};
use kubelet_cluster::reflector::{Reflector, Snapshots};
use kubelet_cluster::tokens::Tokens;
use kubelet_cluster::{Client, ClientConfig, Cluster, Kubeconfig, Rate, WallClock};
use kubelet_decide::node::node_status::declared_features;
use kubelet_decide::report::events::{cgroup_version, starting};
use kubelet_decide::sources::manifest::unbuilt_fields_from;
use kubelet_host::HostRoot;
use kubelet_host::files::read_text_bounded;
use kubelet_host::kernel::since_boot;
use kubelet_host::machine::Machine;
use kubelet_model::config::Config;
use kubelet_model::dice::Dice;
use kubelet_model::node::NodeView;
use kubelet_model::pod::{PodGates, SourceKind};
use prometheus::Registry;
use tokio::sync::{Mutex, mpsc, watch};

use super::ttl::Ttl;
use crate::flags::VERSION;

const PROGRAM_TTL: (&str, &str) = (
    "rest_client_exec_plugin_ttl_seconds",
    "[ALPHA] Gauge of the shortest TTL (time-to-live) of the client certificate(s) managed by the auth exec plugin. The value is in seconds until certificate expiry (negative if already expired). If auth exec plugins are unused or manage no TLS certificates, the value will be +INF.",
);
/// The largest kubeconfig.
const KUBECONFIG_BYTES: u64 = 1 << 20;

/// The API server, if one is configured.
pub(crate) fn open(config: &Config, root: &HostRoot, clock: Clock) -> anyhow::Result<Cluster> {
    let Some(path) = &config.cluster.kubeconfig else {
        return Ok(Cluster::Absent);
    };
    let client = client(config, root, path, clock)
        .with_context(|| format!("--kubeconfig {}", path.display()))?;
    Ok(Cluster::Joined(client))
}

fn client(config: &Config, root: &HostRoot, path: &Path, clock: Clock) -> anyhow::Result<Client> {
    let text = read_text_bounded(&root.join(path), KUBECONFIG_BYTES)?;
    let kubeconfig = Kubeconfig::parse(text.as_bytes(), path)?;
    Ok(client_of(config, kubeconfig, clock))
}

/// A client of the API server in a kubeconfig.
pub(crate) fn client_of(config: &Config, kubeconfig: Kubeconfig, clock: Clock) -> Client {
    let settings = &config.cluster;
    let rate = |qps, burst| Rate { qps, burst };
    let client = ClientConfig {
        user_agent: format!("kubelet/{VERSION} (linux/{})", std::env::consts::ARCH),
        rate: rate(settings.qps, settings.burst),
        event_rate: Some(event_rate(settings.event_qps, settings.event_burst)),
    };
    Client::new(kubeconfig, &client, WallClock::new(move || clock.now()))
}

/// A rate of zero means the client's default, not "no limit", despite the field's documentation.
///
/// Quirk: client-go/rest/config.go (`DefaultQPS`, `DefaultBurst`).
fn event_rate(qps: u32, burst: u32) -> Rate {
    let or = |given: u32, default| if given == 0 { default } else { given };
    Rate {
        qps: or(qps, 5),
        burst: or(burst, 10),
    }
}

/// The event recorder, and in a cluster the task that sends events. Logs if events are not sent.
pub(crate) fn events(
    cluster: &Cluster,
    node: &NodeView,
    machine: &Machine,
    clock: Clock,
    supervisor: &Supervisor,
) -> Events {
    let events = match cluster.client() {
        None => {
            tracing::info!("No api server defined - no events will be sent to API server");
            Events::logged(&node.name)
        }
        Some(client) => {
            let dice = Dice::new(super::parts::seed(machine, 13));
            let wall = WallClock::new(move || clock.now());
            let made =
                kubelet_cluster::events::events(Some(client.clone()), wall, &node.name, dice);
            let (recorder, sender) = made;
            let (sender, stop) = (Arc::new(Mutex::new(sender)), supervisor.stop().clone());
            supervisor.spawn_reconciler("events", move || {
                act_events::send(Arc::clone(&sender), stop.clone())
            });
            Events::recorded(&node.name, recorder)
        }
    };
    events.node(starting());
    if let Some(event) = cgroup_version(node) {
        events.node(event);
    }
    events
}

/// Watches that are created before the pod path, which reads their objects, and that run after it.
#[derive(Debug)]
pub(crate) struct Watches {
    dice: Dice,
    pods: PodWatch,
    sets: watch::Receiver<Option<Arc<PodSet>>>,
    keeper: PodObjectsKeeper,
    named: [NamedObjectsTask; 2],
    services: Reflector<Service>,
    runtime_classes: Reflector<RuntimeClass>,
    node: (Reflector<Node>, Snapshots<Node>),
}

impl Watches {
    /// The kubelet's own Node, once it is known.
    pub(crate) fn own_node(&self) -> Snapshots<Node> {
        self.node.1.clone()
    }
}

/// Creates the watches, and the object views for the workers.
pub(crate) fn watches(
    client: &Client,
    node: &NodeView,
    machine: &Machine,
    gates: PodGates,
    clock: Clock,
) -> (Watches, ObjectsHandle) {
    let mut dice = Dice::new(super::parts::seed(machine, 11));
    let terms = Terms {
        unbuilt: |pod| unbuilt_fields_from(pod, SourceKind::Api),
        gates,
    };
    let (pods, sets) = PodWatch::new(client.clone(), &node.name, terms, dice.split());
    let (secrets, secrets_task) = NamedObjects::new(client.clone(), dice.split());
    let (config_maps, config_maps_task) = NamedObjects::new(client.clone(), dice.split());
    let (services, listed) = services(client.clone(), dice.split());
    let (runtime_classes, classes) = runtime_classes(client.clone(), dice.split());
    let node = own_node(client.clone(), &node.name, dice.split());
    let (keeper, handle) = PodObjectsKeeper::new(PodObjectsParts {
        secrets,
        config_maps,
        tokens: Tokens::new(client.clone(), dice.split()),
        services: listed,
        runtime_classes: classes,
        pods: sets.clone(),
        clock,
    });
    let watches = Watches {
        dice,
        pods,
        sets,
        keeper,
        named: [secrets_task, config_maps_task],
        services,
        runtime_classes,
        node,
    };
    (watches, handle)
}

/// What the tasks of a kubelet in a cluster need.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    pub(crate) client: &'a Client,
    pub(crate) watches: Watches,
    pub(crate) config: &'a Config,
    pub(crate) root: &'a HostRoot,
    pub(crate) machine: &'a Machine,
    pub(crate) node: &'a Arc<NodeView>,
    pub(crate) cri: &'a kubelet_cri::Client,
    /// `containerd://1.7.0`.
    pub(crate) runtime_version: &'a str,
    pub(crate) clock: Clock,
    pub(crate) path: &'a PodPath,
    pub(crate) status: &'a StatusHandle,
    pub(crate) runtime: watch::Receiver<RuntimeState>,
    /// Why work on the node's disk is stuck.
    pub(crate) host: watch::Receiver<Option<String>>,
    /// Hung work that delays only some pods.
    pub(crate) host_warning: watch::Receiver<Option<String>>,
    pub(crate) images: watch::Receiver<Option<ImageSet>>,
    pub(crate) events: Events,
    pub(crate) snapshots: mpsc::Sender<SourceSnapshot>,
    /// When this process started.
    pub(crate) started: Timestamp,
    pub(crate) registry: &'a Registry,
    pub(crate) reconcilers: &'a Reconcilers,
}

/// Registers the metrics of calls to the API server, if one is configured.
pub(crate) fn register_figures(cluster: &Cluster, registry: &Registry) -> prometheus::Result<()> {
    let Some(client) = cluster.client() else {
        return Ok(());
    };
    client.register_figures(registry)?;
    let shown = client.clone();
    let until = move || {
        shown
            .program_certificate_validity()
            .map(|pair| pair.not_after)
    };
    Ttl::register(PROGRAM_TTL, client, until, registry)
}

/// Starts the tasks.
#[expect(
    clippy::too_many_lines,
    reason = "the order of the start is read from top to bottom"
)]
pub(crate) fn start(member: Member<'_>, supervisor: &Supervisor) -> prometheus::Result<()> {
    let stop = supervisor.stop();
    let client = member.client;
    let Watches {
        mut dice,
        pods,
        sets,
        keeper,
        named,
        services,
        runtime_classes,
        node: (node_watch, own_node),
    } = member.watches;
    let stopped = |task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        let stop = stop.clone();
        async move {
            stop.run_until_cancelled(task).await;
        }
    };
    supervisor.spawn(TaskKind::Core, "pod watch", stopped(Box::pin(pods.run())));
    for task in named {
        supervisor.spawn(
            TaskKind::Core,
            "object watches",
            stopped(Box::pin(task.run())),
        );
    }
    let services = Box::pin(async move {
        services.run().await;
    });
    supervisor.spawn(TaskKind::Core, "service watch", stopped(services));
    let classes = Box::pin(runtime_classes.run());
    supervisor.spawn(TaskKind::Core, "runtime class watch", stopped(classes));
    let node_watch = Box::pin(node_watch.run());
    supervisor.spawn(TaskKind::Core, "node watch", stopped(node_watch));
    let keeper = Box::pin(keeper.run(member.path.wakes.clone()));
    supervisor.spawn(TaskKind::Core, "pod objects", stopped(keeper));
    let follow = cluster_source::follow(sets.clone(), member.snapshots);
    supervisor.spawn(TaskKind::Core, "cluster source", stopped(Box::pin(follow)));
    let inputs = StatusInputs {
        status: member.status.clone(),
        held: sets.clone(),
        figures: StatusFigures::new(member.registry)?,
    };
    let writer = StatusWriter::new(client.clone(), inputs);
    member.reconcilers.spawn(writer, StatusWriter::pace());
    let (identity, known) = watch::channel(None);
    let mirrors = MirrorInputs {
        reported: member.status.subscribe(),
        held: sets,
        node: known.clone(),
        all_seen: member.path.all_sources_seen.clone(),
    };
    let mirrors = MirrorPods::new(client.clone(), mirrors);
    member.reconcilers.spawn(mirrors, MirrorPods::pace());
    let loops = &member.config.loops;
    let pace = NodePace {
        update: loops.node_status_update_frequency,
        report: loops.node_status_report_frequency,
        lease: loops.node_lease_duration,
        fraction: dice.fraction() - 0.5,
    };
    let versions = (VERSION, member.runtime_version);
    let facts = cluster_facts(
        member.config,
        member.machine,
        member.root,
        member.node,
        versions,
    );
    let node = NodeStatus::new(NodeStatusParts {
        client: client.clone(),
        cri: member.cri.clone(),
        clock: member.clock,
        facts,
        port: i32::from(member.config.server.port),
        max_images: member.config.node.status_max_images,
        declared: declared_features(&member.config.gates),
        is_registering: member.config.node.register,
        pace,
        runtime: member.runtime,
        host: member.host,
        host_warning: member.host_warning,
        own_node,
        images: member.images,
        pleg: member.path.pleg.clone(),
        events: member.events,
        startup: Startup::new(
            member.registry,
            member.clock.now().checked_sub(since_boot()).ok(),
            member.started,
        )?,
        identity,
    });
    let node_pace = node.pace();
    member.reconcilers.spawn(node, node_pace);
    let lease = NodeLease::new(client.clone(), member.clock, pace.lease, known);
    let lease_pace = lease.pace();
    member.reconcilers.spawn(lease, lease_pace);
    Ok(())
}
