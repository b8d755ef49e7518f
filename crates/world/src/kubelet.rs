//! One life of the simulated kubelet: the product's parts wired by the product's own function.
//!
//! In:    the stand-in runtime, a directory that stands in for the node's disk, clock, faults
//! Out:   a running pod path that takes snapshots and shows statuses
//! Calls: run
//! Holds: `crash` ends every task where it stands; only the runtime, the directory and the journal in it live on
//! Upstream: none

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Node;
use kubelet_act::frame::clock::Clock;
use kubelet_act::frame::faults::Faults;
use kubelet_act::frame::records::Records;
use kubelet_act::frame::supervisor::Supervisor;
use kubelet_act::images::PullLimits;
use kubelet_act::observe::exits::ExitSource;
use kubelet_act::pod::host_work::{Host, kept};
use kubelet_act::pod::pod_path::{self, PodPath, PodPathParts};
use kubelet_act::pod::sync_loop::AdmissionParts;
use kubelet_act::pod::timeline::Timeline;
use kubelet_act::probes::probe_metrics::ProbeMetrics;
use kubelet_act::report::events::Events;
use kubelet_act::report::status::StatusHandle;
use kubelet_act::resources::cgroup_metrics::MeasuredCgroups;
use kubelet_act::sources::SourceSnapshot;
use kubelet_cri::{Client, Metrics, Timeouts};
use kubelet_decide::pod::admission::{AdmissionRules, AppArmor, SysctlAllowlist};
use kubelet_decide::probes::timetable::FirstTries;
use kubelet_decide::shapes::view::NetworkState;
use kubelet_host::HostRoot;
use kubelet_host::blocking::Blocking;
use kubelet_host::cgroup::{self, CgroupVersion, stand_in};
use kubelet_host::journal::disk_faults::DiskFaults;
use kubelet_host::journal::{Journal, JournalLimits};
use kubelet_model::node::{CgroupView, DnsView, NodeView};
use kubelet_model::pod::SourceKind;
use prometheus::Registry;
use testkit::cri::StandInRuntime;
use tokio::sync::{mpsc, watch};

/// Kubelet root directory on the simulated node.
pub const ROOT_DIR: &str = "/var/lib/kubelet";
/// Directory of pods' logs on the simulated node.
pub const POD_LOGS_DIR: &str = "/var/log/pods";
const CONTAINER_LOGS_DIR: &str = "/var/log/containers";
/// The journal on the simulated node.
pub const JOURNAL: &str = "/var/lib/kubelet/journal";
/// The product's default of `runtimeRequestTimeout`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// What a life of the kubelet is given.
#[derive(Clone, Debug)]
pub struct Outside {
    /// The node's disk.
    pub root: HostRoot,
    /// The clock of the world.
    pub clock: Clock,
    /// Exits of processes, with what goes wrong with them.
    pub exits: ExitSource,
    /// The runtime's network.
    pub network: watch::Receiver<NetworkState>,
    /// Where people are told.
    pub events: Events,
    /// Where it ends, and the bug that is planted.
    pub faults: Faults,
    /// Whether its journal writes nothing: a planted bug.
    pub loses_writes: bool,
    /// What its journal's disk does.
    pub disk: DiskFaults,
    /// Sources that it has to wait for.
    pub sources: BTreeSet<SourceKind>,
}

/// A running kubelet.
#[derive(Debug)]
pub struct SimKubelet {
    /// Starts its tasks.
    pub supervisor: Supervisor,
    /// Its clock.
    pub clock: Clock,
    snapshots: mpsc::Sender<SourceSnapshot>,
    /// What it shows.
    pub status: StatusHandle,
    /// What it remembers.
    pub records: Records,
    /// Its observations.
    pub path: PodPath,
    /// Its figures.
    pub registry: Registry,
}

/// Makes the directories that are there before a kubelet first starts, with files that are none of its business.
///
/// # Errors
/// A directory could not be made.
pub fn lay_out_node(root: &HostRoot) -> anyhow::Result<()> {
    let pods = format!("{ROOT_DIR}/pods");
    for dir in [&pods, POD_LOGS_DIR, CONTAINER_LOGS_DIR, "/etc", "/data"] {
        std::fs::create_dir_all(root.join(dir)).with_context(|| format!("make {dir}"))?;
    }
    std::fs::write(root.join("/etc/hosts"), "127.0.0.1\tlocalhost\n")?;
    stand_in::lay_out(root, CgroupVersion::V2)?;
    Ok(())
}

impl SimKubelet {
    /// Starts on what an earlier life left.
    ///
    /// # Errors
    /// The journal is still owned by the life before, or the stand-in node is not laid out.
    pub fn start(runtime: &StandInRuntime, outside: Outside) -> anyhow::Result<Self> {
        let registry = Registry::new();
        let channel = runtime.connect();
        let timeouts = Timeouts {
            request: REQUEST_TIMEOUT,
        };
        let cri =
            Client::from_channels(channel.clone(), channel, timeouts, Metrics::new(&registry)?);
        let (journal, _) = Journal::open(&outside.root.join(JOURNAL), JournalLimits::default())?;
        let records = Records::new(journal.on_bad_disk(outside.disk));
        let clock = outside.clock.of_new_process();
        if outside.loses_writes {
            records.lose_writes();
        }
        let kept = kept(&outside.root, &node_view(), Path::new(CONTAINER_LOGS_DIR));
        let host = Host {
            kept,
            cgroups: Some(Arc::new(MeasuredCgroups::new(
                cgroup::open(&outside.root)?,
                &registry,
            )?)),
            root: outside.root,
            blocking: Blocking::Inline,
            container_logs_dir: Path::new(CONTAINER_LOGS_DIR).to_owned(),
        };
        let supervisor = Supervisor::new(clock);
        let (snapshots, snapshots_out) = mpsc::channel(64);
        let status = StatusHandle::default();
        let parts = PodPathParts {
            objects: kubelet_act::objects::pod_objects::ObjectsHandle::default(),
            events: outside.events,
            admission: AdmissionParts {
                initial: Arc::new(own_node()),
                own: None,
                handlers: watch::Sender::new(Some(Arc::default())).subscribe(),
                rules: Arc::new(AdmissionRules {
                    sysctls: SysctlAllowlist::new("6.1.0", &[]).map_err(anyhow::Error::msg)?,
                    app_armor: AppArmor::Absent,
                }),
            },
            cri,
            host,
            clock,
            exits: outside.exits,
            records: records.clone(),
            status: status.clone(),
            timeline: Timeline::default(),
            node: Arc::new(node_view()),
            network: outside.network,
            handlers: watch::Sender::new(Some(Arc::default())).subscribe(),
            pull_limits: PullLimits {
                parallel: Some(1),
                qps: 5,
                burst: 10,
            },
            start_width: 4,
            sources: outside.sources,
            snapshots: snapshots_out,
            faults: outside.faults,
            probe_metrics: ProbeMetrics::new(&Registry::new(), &registry)?,
            first_tries: FirstTries::ByPeriod,
        };
        let path = pod_path::start(parts, &supervisor, &registry)?;
        Ok(Self {
            supervisor,
            clock,
            snapshots,
            status,
            records,
            path,
            registry,
        })
    }

    /// Hands over a source's whole set.
    ///
    /// # Errors
    /// The sync loop has ended or does not take anything any more.
    pub fn send(&self, snapshot: SourceSnapshot) -> anyhow::Result<()> {
        self.snapshots
            .try_send(snapshot)
            .context("hand a snapshot to the sync loop")
    }

    /// How many tasks have panicked so far.
    pub fn panics(&self) -> u64 {
        self.supervisor.to_json()["panics"].as_u64().unwrap_or(0)
    }

    /// Ends it as `kill -9` would. What its tasks owned is dropped when this resolves.
    pub async fn crash(self) {
        self.supervisor.abort_all();
        drop(self);
        // Aborted tasks are dropped when the scheduler comes to them.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
}

/// The Node as admission sees it: its name, and nothing that keeps a pod away.
fn own_node() -> Node {
    let mut node = Node::default();
    node.metadata.name = Some(node_view().name);
    node
}

/// The simulated node.
pub fn node_view() -> NodeView {
    NodeView {
        name: "node".to_owned(),
        hostname: "node".to_owned(),
        ips: vec!["192.0.2.1".to_owned()],
        capacity_milli_cpu: 4000,
        capacity_memory_bytes: 8 << 30,
        allocatable: BTreeMap::new(),
        hugepage_sizes: Vec::new(),
        root_dir: ROOT_DIR.to_owned(),
        pod_logs_dir: POD_LOGS_DIR.to_owned(),
        cgroups: CgroupView {
            root: "/".to_owned(),
            per_qos: true,
            v2: true,
            oom_group: true,
            has_swap: false,
            cfs_quota: true,
            cfs_period_us: 100_000,
            pod_pids_limit: None,
        },
        dns: DnsView::default(),
        seccomp_default: false,
        extra_masked_paths: Vec::new(),
        max_backoff_seconds: 300,
        first_backoff_seconds: 10,
        env_files: true,
        selinux_enabled: false,
        runtime_name: "containerd".to_owned(),
    }
}
