//! The three ports, bound before anything is served, and the data that they show.
//!
//! In:    handles of the parts
//! Out:   one task per port; small tasks that answer `/debug/…`
//! Calls: wiring
//! Holds: a taken port or an invalid certificate stops the start; without requests nothing runs here
//! Upstream: cmd/kubelet/app/server.go (startKubelet), pkg/kubelet/server

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kubelet_act::frame::health::sync_loop_max_age;
use kubelet_act::frame::host_progress::{HOST_WORK_FAILURE, HOST_WORK_MAX_AGE};
use kubelet_act::frame::reconciler::Reconcilers;
use kubelet_act::frame::supervisor::{Supervisor, TaskKind};
use kubelet_act::pod::pod_path::PodPath;
use kubelet_act::pod::timeline::Timeline;
use kubelet_act::report::status::StatusHandle;
use kubelet_act::sources::SourcesHandle;
use kubelet_cluster::Cluster;
use kubelet_cluster::certificates::CertificateStore;
use kubelet_cluster::reflector::Sets;
use kubelet_host::Blocking;
use kubelet_host::machine::Machine;
use kubelet_model::config::{Authorization as Mode, Config};
use kubelet_model::node::NodeView;
use kubelet_server::{
    Anonymous, Authorization, Disabled, LogStreams, LoopHealth, MainConfig, MinTls, Negotiation,
    NodeAccess, Question, Reviewer, RunningPod, ServerConfig, ServerState, ServingPair,
    TokenAuthentication,
};
use prometheus::Registry;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;

use crate::config_files::Loaded;
use crate::logs::LogHandle;
use crate::wiring::reviews::Reviews;

/// Questions that wait for one component.
const QUESTIONS: usize = 16;
/// Threads that read logs.
const LOG_THREADS: usize = 8;

/// What the server needs.
pub(crate) struct Serving<'a> {
    pub(crate) loaded: &'a Loaded,
    pub(crate) config: &'a Config,
    pub(crate) registry: Registry,
    /// What `/metrics/probes` shows.
    pub(crate) of_probes: Registry,
    pub(crate) status: StatusHandle,
    pub(crate) path: PodPath,
    pub(crate) sources: SourcesHandle,
    pub(crate) timeline: Timeline,
    pub(crate) machine: Machine,
    pub(crate) logs: LogHandle,
    pub(crate) node: Arc<NodeView>,
    pub(crate) reconcilers: Reconcilers,
    pub(crate) runtime: kubelet_cri::Client,
    pub(crate) cluster: &'a Cluster,
    /// When work on the node's disk last made progress.
    pub(crate) host_work: watch::Receiver<Option<Instant>>,
    pub(crate) blocking: Blocking,
}

/// Binds the ports and serves.
pub(crate) async fn start(serving: Serving<'_>, supervisor: &Supervisor) -> anyhow::Result<()> {
    let reviews = Reviews::new(
        serving.cluster.client(),
        super::parts::seed(&serving.machine, 13),
    );
    let config = server_config(serving.config, &serving.node, &reviews);
    let stop = supervisor.stop().clone();
    let (verbosity, verbosity_set) = watch::channel(serving.logs.verbosity());
    let (_machine_in, machine) = watch::channel(Some(Arc::new(serving.machine)));
    let (table, reconcilers) = (supervisor.clone(), serving.reconcilers);
    let (images, blocking) = (serving.path.images.clone(), serving.blocking);
    let sets = serving.cluster.client().map(|client| client.sets().clone());
    let tasks = move || {
        let mut all = table.to_json();
        all["reconcilers"] = reconcilers.to_json();
        all["pulls"] = json!(images.under_way());
        all["sets"] = sets.as_ref().map_or(json!([]), Sets::to_json);
        all["hostWork"] = host_work(&blocking);
        all
    };
    let timeline = serving.timeline.clone();
    let sources = serving.sources.clone();
    let path = serving.path.clone();
    let state = ServerState {
        pods: serving.status.subscribe(),
        running_pods: answerer(supervisor, "running pods", move || running_pods(&path)),
        machine,
        configz: Arc::new(
            json!({"kubeletconfig": serde_json::to_value(&serving.loaded.config).unwrap_or(Value::Null)}),
        ),
        registry: serving.registry,
        of_probes: serving.of_probes,
        health: vec![
            LoopHealth {
                name: "syncloop",
                last_turn: serving.path.last_turn.clone(),
                max_age: sync_loop_max_age(serving.config.loops.sync_frequency),
                failure: "sync Loop took longer than expected",
            },
            LoopHealth {
                name: "hostwork",
                last_turn: serving.host_work,
                max_age: HOST_WORK_MAX_AGE,
                failure: HOST_WORK_FAILURE,
            },
        ],
        tasks: answerer(supervisor, "debug tasks", tasks),
        sources: answerer(supervisor, "debug sources", move || sources.to_json()),
        timeline: answerer(supervisor, "debug timeline", move || timeline.to_json()),
        node: node_access(serving.config, serving.runtime),
        verbosity,
    };
    // The error says which operation failed.
    let listeners = kubelet_server::bind(config, state).await?;
    for listener in [listeners.healthz, listeners.read_only, listeners.main]
        .into_iter()
        .flatten()
    {
        let name = listener.port().to_string();
        tracing::info!(port = name, address = ?listener.local_address().context("read the listener's address")?, "Listening");
        let stop = stop.clone();
        supervisor.spawn(TaskKind::Stream, name.clone(), async move {
            if let Err(error) = listener.serve(stop).await {
                tracing::error!(port = name, error = %error, "Port is no longer served");
            }
        });
    }
    let logs = serving.logs;
    supervisor.spawn_reconciler("log verbosity", move || {
        follow_verbosity(verbosity_set.clone(), logs.clone(), stop.clone())
    });
    Ok(())
}

async fn follow_verbosity(
    mut set: watch::Receiver<u32>,
    logs: LogHandle,
    stop: tokio_util::sync::CancellationToken,
) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = set.changed() => match changed {
                Ok(()) => logs.set_verbosity(*set.borrow_and_update()),
                Err(_) => return,
            },
        }
    }
}

/// A task that answers one kind of question from a snapshot.
fn answerer<A: Send + 'static>(
    supervisor: &Supervisor,
    name: &'static str,
    answer: impl Fn() -> A + Send + Sync + 'static,
) -> mpsc::Sender<Question<A>> {
    let (questions_out, questions) = mpsc::channel::<Question<A>>(QUESTIONS);
    let stop = supervisor.stop().clone();
    let (questions, answer) = (Arc::new(Mutex::new(questions)), Arc::new(answer));
    supervisor.spawn_reconciler(name, move || {
        let (questions, answer) = (Arc::clone(&questions), Arc::clone(&answer));
        let stop = stop.clone();
        async move {
            // Nobody else takes it: after a panic the next round of the task does.
            let mut questions = questions.lock().await;
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    question = questions.recv() => match question {
                        // The caller may be gone.
                        Some(question) => drop(question.reply.send(answer())),
                        None => stop.cancelled().await,
                    },
                }
            }
        }
    });
    questions_out
}

/// The lanes of blocking calls, and the calls that hang.
fn host_work(blocking: &Blocking) -> Value {
    let lanes = blocking.lane_states().into_iter().map(|lane| {
        let hung: Vec<Value> = lane
            .hung
            .iter()
            .map(|(what, since)| json!({"what": what, "since": since.to_string()}))
            .collect();
        let counts = lane.counts;
        json!({
            "lane": lane.lane.as_str(),
            "threads": counts.threads,
            "waiting": counts.queued,
            "overdue": counts.overdue_total,
            "hung": hung,
        })
    });
    lanes.collect()
}

fn running_pods(path: &PodPath) -> Vec<RunningPod> {
    let running = path.pleg.all().into_iter().filter(|pod| pod.is_running());
    running
        .map(|pod| RunningPod {
            name: pod.name.clone(),
            namespace: pod.namespace.clone(),
            uid: pod.uid.to_string(),
            containers: pod
                .live_containers()
                .map(|c| (c.name.clone(), c.image.clone()))
                .collect(),
        })
        .collect()
}

/// The parts of the node that requests access. Reads of logs have threads of their own, so that a dead disk under them delays
/// nothing else.
fn node_access(config: &Config, runtime: kubelet_cri::Client) -> NodeAccess {
    NodeAccess {
        runtime,
        blocking: Blocking::threads(LOG_THREADS),
        pod_logs: config.paths.pod_logs_dir.clone(),
        system_logs: "/var/log".into(),
        checkpoints: config.paths.root_dir.join("checkpoints"),
    }
}

fn server_config(config: &Config, node: &NodeView, reviews: &Reviews) -> ServerConfig {
    let server = &config.server;
    ServerConfig {
        node_name: node.name.clone(),
        healthz: server.healthz,
        read_only: server
            .read_only_port
            .map(|port| SocketAddr::new(server.address, port)),
        main: server.enabled.then(|| main_config(config, reviews)),
        now: jiff::Timestamp::now,
    }
}

/// What the configuration switches off.
fn disabled(config: &Config) -> Vec<Disabled> {
    let server = &config.server;
    let switches = [
        (server.debugging_handlers, Disabled::AllDebug),
        (server.profiling_handler, Disabled::Profiling),
        (server.system_log_handler, Disabled::SystemLogs),
        (server.system_log_query, Disabled::SystemLogQuery),
        (server.debug_flags_handler, Disabled::Flags),
        (
            config.gates.is_enabled("ContainerCheckpoint"),
            Disabled::Checkpoints,
        ),
    ];
    let is_off = |(on, what): (bool, Disabled)| (!on).then_some(what);
    switches.into_iter().filter_map(is_off).collect()
}

fn main_config(config: &Config, reviews: &Reviews) -> MainConfig {
    let (server, auth) = (&config.server, &config.auth);
    let pair = match &server.tls.files {
        _ if super::certificates::is_from_cluster(config) => {
            ServingPair::FromCluster(CertificateStore::serving(&config.paths.cert_dir).current())
        }
        Some((certificate, key)) => ServingPair::Files {
            certificate: certificate.clone(),
            key: key.clone(),
        },
        None => ServingPair::SelfSigned(config.paths.cert_dir.clone()),
    };
    let (idle, tls) = (server.streaming_idle_timeout, &server.tls);
    let negotiation = Negotiation {
        min: if tls.min_version == "VersionTLS13" {
            MinTls::V13
        } else {
            MinTls::V12
        },
        cipher_suites: tls.cipher_suites.clone(),
        curves: tls.curve_preferences.clone(),
    };
    let weak: Vec<&str> = negotiation.weak_suites().collect();
    if !weak.is_empty() {
        tracing::warn!(
            suites = weak.join(","),
            "tlsCipherSuites names weak cipher suites that are not offered; the rest of the list is used"
        );
    }
    MainConfig {
        address: SocketAddr::new(server.address, server.port),
        pair,
        negotiation,
        client_ca: auth.client_ca_file.clone(),
        anonymous: if auth.anonymous {
            Anonymous::Allowed
        } else {
            Anonymous::Refused
        },
        tokens: match auth.webhook_cache {
            Some(holds) => TokenAuthentication::Webhook {
                holds,
                reviewer: reviews.tokens(),
            },
            None => TokenAuthentication::Ignored,
        },
        authorization: match auth.authorization {
            Mode::AlwaysAllow => Authorization::AlwaysAllow,
            Mode::Webhook {
                authorized,
                unauthorized,
            } => Authorization::Webhook {
                yes_holds: authorized,
                no_holds: unauthorized,
                reviewer: reviews.access(),
            },
            // An unknown mode must not allow anything either.
            Mode::Unknown(_) => Authorization::Webhook {
                yes_holds: Duration::ZERO,
                no_holds: Duration::ZERO,
                reviewer: Reviewer::Standalone,
            },
        },
        log_streams: if config.gates.is_enabled("PodLogsQuerySplitStreams") {
            LogStreams::Apart
        } else {
            LogStreams::Together
        },
        streaming_idle: (!idle.is_zero()).then_some(idle),
        disabled: disabled(config),
    }
}
