//! One small function per part of the kubelet, from configuration and machine to the finished part.
//!
//! In:    `Config`, the machine
//! Out:   finished parts
//! Calls: wiring
//! Holds: no part is returned half built; a failure is an error that names the part, or a warning if the kubelet can go on
//! Upstream: cmd/kubelet/app/server.go, pkg/kubelet/kubelet.go (NewMainKubelet)

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Node;
use kubelet_act::frame::clock::Clock;
use kubelet_act::frame::data_dirs::{HeldLock, make_data_dirs, take_lock, watch_lock};
use kubelet_act::frame::faults::Faults;
use kubelet_act::frame::host_progress::HostProgress;
use kubelet_act::frame::reconciler::Reconcilers;
use kubelet_act::frame::records::Records;
use kubelet_act::frame::supervisor::{Supervisor, TaskKind};
use kubelet_act::images::PullLimits;
use kubelet_act::images::image_list::{ImageList, ImageSet};
use kubelet_act::node::iptables_chains::IptablesChains;
use kubelet_act::node::memory::Memory;
use kubelet_act::node::node_facts::{admission_rules, cluster_facts, node_view, pods_allowance};
use kubelet_act::node::oom_watcher::{OomWatcher, is_unreadable_log_tolerated};
use kubelet_act::node::pod_cidr::PodCidr;
use kubelet_act::node::runtime_up::{RuntimeState, RuntimeUp, cgroup_driver};
use kubelet_act::pod::host_work::Host;
use kubelet_act::pod::sync_loop::AdmissionParts;
use kubelet_act::probes::probe_metrics::ProbeMetrics;
use kubelet_act::report::events::Events;
use kubelet_act::report::status::StatusHandle;
use kubelet_act::resources::cgroup_metrics::MeasuredCgroups;
use kubelet_act::resources::container_manager::{CgroupTreeParts, ContainerManager, prepare_node};
use kubelet_act::sources::{FileSourceConfig, SourcesConfig, Taker, UrlSourceConfig};
use kubelet_act::volumes::resource_analyzer::ResourceAnalyzer;
use kubelet_cluster::Cluster;
use kubelet_cluster::reflector::Snapshots;
use kubelet_cri::{Client, Metrics, Timeouts};
use kubelet_decide::probes::timetable::FirstTries;
use kubelet_decide::shapes::view::NetworkState;
use kubelet_host::HostRoot;
use kubelet_host::blocking::{Blocking, Lane};
use kubelet_host::cgroup::{self, Cgroups};
use kubelet_host::journal::{Journal, JournalLimits, JournalProblem};
use kubelet_host::kernel::kernel_version;
use kubelet_host::machine::{IdFiles, Machine, read_machine};
use kubelet_model::config::{CgroupDriver, Config};
use kubelet_model::node::{NodeView, RuntimeHandlers};
use kubelet_model::pod::{PodGates, SourceKind};
use prometheus::Registry;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config_files::Loaded;
use crate::flags::{VERSION, platform};

/// The directory of links to container logs, not configurable.
const CONTAINER_LOGS_DIR: &str = "/var/log/containers";

/// How long an older kubelet has to release the lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// The time limit for creating the cgroup tree and setting kernel parameters at start.
const NODE_PREPARATION: Duration = Duration::from_secs(30);

/// As upstream, only logged: whatever needs root fails by itself.
pub(crate) fn check_user() {
    let uid = rustix::process::getuid();
    if !uid.is_root() {
        let uid = uid.as_raw();
        tracing::error!(
            err = format!("kubelet needs to run as uid `0`. It is being run as {uid}"),
            "Kubelet running with insufficient permissions"
        );
    }
}

/// The first log lines: flags, warnings, version.
pub(crate) fn greet(loaded: &Loaded) {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    for path in &loaded.skipped {
        tracing::info!(path = %path.display(), "File of the drop-in directory was not read");
    }
    tracing::info!(kubeletVersion = VERSION, "Kubelet version");
    for flag in &loaded.given {
        tracing::info!("{flag}");
    }
}

/// The metrics registry with the process metrics.
pub(crate) fn metrics() -> anyhow::Result<Registry> {
    let registry = Registry::new();
    let version = kubelet_server::BuildVersion {
        git_version: VERSION.to_owned(),
        git_commit: String::new(),
        git_tree_state: String::new(),
        build_date: String::new(),
        major: "1".to_owned(),
        minor: "36".to_owned(),
        compiler: "rustc".to_owned(),
        compiler_version: String::new(),
        platform: platform(),
    };
    kubelet_server::register_build(&registry, &version).context("register build metrics")?;
    kubelet_server::register_process(&registry).context("register process metrics")?;
    Ok(registry)
}

/// `--lock-file`, held until the process ends.
pub(crate) async fn lock(config: &Config) -> anyhow::Result<Option<HeldLock>> {
    match &config.paths.lock_file {
        Some(path) => Ok(Some(take_lock(path, LOCK_PATIENCE).await?)),
        None => Ok(None),
    }
}

/// The time limit of each disk operation at start. After it the process exits with an error that names the operation.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// Runs a disk operation of the start on a thread of its own, with a time limit.
pub(crate) async fn on_disk<T: Send + 'static>(
    blocking: &Blocking,
    what: &'static str,
    call: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let blocking = blocking.lane(Lane::Pods);
    let done = blocking.run(START_DEADLINE, what, call).await;
    done.with_context(|| format!("{what}: the disk does not answer"))?
}

/// Creates the root, pods, plugins and log directories.
pub(crate) fn data_dirs(config: &Config, root: &HostRoot) -> anyhow::Result<()> {
    let has_checkpoints = config.gates.is_enabled("ContainerCheckpoint");
    match make_data_dirs(&config.paths, root, has_checkpoints) {
        Ok(warnings) => warnings
            .iter()
            .for_each(|warning| tracing::warn!("{warning}")),
        Err(error) => return Err(error).context("set up data directories"),
    }
    Ok(())
}

/// A random seed that differs between nodes and boots; `salt` separates several generators.
pub(crate) fn seed(machine: &Machine, salt: u64) -> u64 {
    machine.boot_id.bytes().fold(salt, |seed: u64, byte| {
        seed.wrapping_mul(31).wrapping_add(u64::from(byte))
    })
}

/// The background loops; their jitter differs between nodes.
pub(crate) fn reconcilers(
    supervisor: &Supervisor,
    clock: Clock,
    machine: &Machine,
    status: &StatusHandle,
    registry: &Registry,
) -> anyhow::Result<Reconcilers> {
    let reconcilers = Reconcilers::new(supervisor.clone(), clock, seed(machine, 7), registry)
        .context("register metrics of the background loops")?;
    reconcilers.spawn(Memory::new(status), Memory::pace());
    Ok(reconcilers)
}

/// Lists the images every five minutes.
pub(crate) fn image_list(
    cri: &Client,
    registry: &Registry,
    reconcilers: &Reconcilers,
) -> anyhow::Result<watch::Receiver<Option<ImageSet>>> {
    let list =
        ImageList::new(cri.clone(), registry).context("register metrics of the image list")?;
    let images = list.subscribe();
    reconcilers.spawn(list, ImageList::pace());
    Ok(images)
}

/// The parameters of the container manager.
pub(crate) fn cgroup_tree(
    config: &Config,
    machine: &Machine,
    root: &HostRoot,
    node: &Arc<NodeView>,
    host: &Host,
    shared: (&StatusHandle, watch::Receiver<bool>),
) -> anyhow::Result<CgroupTreeParts> {
    let (status, all_seen) = shared;
    Ok(CgroupTreeParts {
        cgroups: host.cgroups.clone().context("there is no cgroup tree")?,
        blocking: host.blocking.lane(Lane::Removals),
        node: Arc::clone(node),
        allowance: pods_allowance(config, machine, root),
        pods: status.subscribe(),
        all_seen,
    })
}

/// Creates the cgroup tree of all pods, and keeps it up to date.
pub(crate) async fn container_manager(
    config: &Config,
    root: &HostRoot,
    tree: CgroupTreeParts,
    reconcilers: &Reconcilers,
    events: &Events,
) -> anyhow::Result<()> {
    let blocking = tree.blocking.clone();
    let (wanted, at, parts) = (config.clone(), root.clone(), tree.clone());
    let prepared = blocking.run(NODE_PREPARATION, "node preparation", move || {
        prepare_node(&wanted, &at, &parts)
    });
    let prepared = prepared
        .await
        .context("prepare the node")?
        .context("start the container manager")?;
    for warning in prepared.warnings {
        tracing::warn!("{warning}");
    }
    for event in prepared.events {
        events.node(event);
    }
    reconcilers.spawn(ContainerManager::new(tree), ContainerManager::pace());
    Ok(())
}

/// Watches the kernel log for OOM kills.
pub(crate) fn oom_watcher(
    config: &Config,
    root: &HostRoot,
    registry: &Registry,
    reconcilers: &Reconcilers,
    events: &Events,
) -> anyhow::Result<()> {
    let mut watcher = OomWatcher::new(root, registry, events.clone())
        .context("register metrics of the OOM watcher")?;
    match watcher.open() {
        Err(error)
            if is_unreadable_log_tolerated(
                root,
                config.gates.is_enabled("KubeletInUserNamespace"),
            ) =>
        {
            tracing::warn!(error = %error, "OOM kills cannot be watched");
            return Ok(());
        }
        other => other.context("start the OOM watcher")?,
    }
    reconcilers.spawn(watcher, OomWatcher::pace());
    Ok(())
}

/// Figures of probes, and the registry that `/metrics/probes` shows.
pub(crate) fn probe_metrics(of_node: &Registry) -> anyhow::Result<(ProbeMetrics, Registry)> {
    let registry = Registry::new();
    let metrics = ProbeMetrics::new(&registry, of_node).context("register metrics of probes")?;
    Ok((metrics, registry))
}

/// When first tries of probes are made.
pub(crate) fn first_tries(config: &Config) -> FirstTries {
    if config.runtime.fast_first_probe {
        FirstTries::Early
    } else {
        FirstTries::ByPeriod
    }
}

/// Measures the usage of emptyDir volumes every minute.
pub(crate) fn resource_analyzer(
    config: &Config,
    host: &Host,
    status: &StatusHandle,
    registry: &Registry,
    reconcilers: &Reconcilers,
) -> anyhow::Result<()> {
    let Some(period) = config.loops.volume_stats_period else {
        return Ok(());
    };
    let root_dir = config.paths.root_dir.to_string_lossy();
    let analyzer = ResourceAnalyzer::new(
        host.root.clone(),
        &root_dir,
        host.blocking.clone(),
        status.subscribe(),
        registry,
    )
    .context("register metrics of the resource analyzer")?;
    reconcilers.spawn(analyzer, ResourceAnalyzer::pace(period));
    Ok(())
}

/// Reads the runtime's conditions every five seconds: the state of its network, and everything else it reports.
pub(crate) async fn runtime_up(
    config: &Config,
    cri: &Client,
    registry: &Registry,
    reconcilers: &Reconcilers,
) -> anyhow::Result<Heard> {
    let endpoint = &config.runtime.endpoint;
    let driver = cgroup_driver(cri, endpoint, config.cgroups.driver, registry).await;
    if driver.context("ask the runtime for its cgroup driver")? == CgroupDriver::Systemd {
        anyhow::bail!(
            "cgroupDriver: the runtime at {endpoint} uses systemd, but this kubelet supports only cgroupfs so far"
        );
    }
    let check = RuntimeUp::new(cri.clone(), endpoint.clone());
    let heard = Heard {
        network: check.network(),
        handlers: check.handlers(),
        state: check.state(),
    };
    reconcilers.spawn(check, RuntimeUp::pace());
    Ok(heard)
}

/// The runtime's state, for the parts that need it.
#[derive(Debug)]
pub(crate) struct Heard {
    /// For starting pods.
    pub(crate) network: watch::Receiver<NetworkState>,
    /// For their mounts and groups.
    pub(crate) handlers: watch::Receiver<Option<Arc<RuntimeHandlers>>>,
    /// For the Node status.
    pub(crate) state: watch::Receiver<RuntimeState>,
}

/// Checks every five seconds whether work on the node's disk makes progress.
pub(crate) fn host_progress(
    config: &Config,
    root: &HostRoot,
    blocking: &Blocking,
    records: &Records,
    reconcilers: &Reconcilers,
) -> ShownProgress {
    let check = HostProgress::new(root, &config.paths.root_dir, blocking, records.clone());
    let shown = ShownProgress {
        last_good: check.last_good(),
        problem: check.problem(),
        warning: check.warning(),
    };
    reconcilers.spawn(check, HostProgress::pace());
    shown
}

/// The progress of work on the node's disk, for the parts that need it.
#[derive(Debug)]
pub(crate) struct ShownProgress {
    /// For `/healthz`.
    pub(crate) last_good: watch::Receiver<Option<Instant>>,
    /// For the Node status.
    pub(crate) problem: watch::Receiver<Option<String>>,
    /// For the message of the Ready condition.
    pub(crate) warning: watch::Receiver<Option<String>>,
}

/// `makeIPTablesUtilChains`.
pub(crate) fn iptables_chains(config: &Config, reconcilers: &Reconcilers) {
    if config.node.make_iptables_util_chains {
        reconcilers.spawn(IptablesChains::new(), IptablesChains::pace());
    }
}

/// The node as admission sees it.
pub(crate) fn admission(
    config: &Config,
    machine: &Machine,
    root: &HostRoot,
    node: &NodeView,
    own: Option<Snapshots<Node>>,
    handlers: watch::Receiver<Option<Arc<RuntimeHandlers>>>,
) -> anyhow::Result<AdmissionParts> {
    // The registered object has no versions.
    let facts = cluster_facts(config, machine, root, node, (VERSION, ""));
    let rules = admission_rules(config, root, &kernel_version())?;
    Ok(AdmissionParts {
        initial: Arc::new(facts.initial),
        own,
        handlers,
        rules: Arc::new(rules),
    })
}

/// Passes the pod CIDR to the runtime.
pub(crate) fn pod_cidr(
    config: &Config,
    cri: &Client,
    own_node: Option<Snapshots<Node>>,
    reconcilers: &Reconcilers,
) {
    let cidr = PodCidr::new(cri.clone(), config.runtime.pod_cidr.clone(), own_node);
    reconcilers.spawn(cidr, PodCidr::pace());
}

/// `--exit-on-lock-contention`: resolves when another process opens the lock file; never resolves without the flag.
pub(crate) async fn lock_contention(config: &Config) -> anyhow::Result<()> {
    match &config.paths.lock_file {
        Some(path) if config.paths.exit_on_lock_contention => {
            let mut opened = watch_lock(path)?;
            opened.next().await.context("watch the lock file")?;
            Ok(())
        }
        Some(_) | None => std::future::pending().await,
    }
}

/// Passes a value on to a part that was created before its source.
pub(crate) fn pass_on(
    mut from: watch::Receiver<bool>,
    to: watch::Sender<bool>,
    supervisor: &Supervisor,
) {
    supervisor.spawn(TaskKind::Stream, "all sources seen", async move {
        if from.wait_for(|seen| *seen).await.is_ok() {
            to.send_replace(true);
        }
    });
}

/// The journal. Without one the kubelet runs, but keeps no records across a restart.
pub(crate) fn records(config: &Config, root: &HostRoot) -> anyhow::Result<Records> {
    let directory = root.join(config.paths.root_dir.join("hyperkube"));
    if let Err(error) = kubelet_host::files::create_dir_all(&directory, 0o700) {
        tracing::error!(error = %error, "Journal is not available; no records survive a restart of the kubelet");
        return Ok(Records::none());
    }
    let path = directory.join("journal");
    match Journal::open(&path, JournalLimits::default()) {
        Ok((journal, problems)) => {
            let has_pods = has_pods(&config.paths.root_dir, root);
            for problem in problems {
                match problem {
                    JournalProblem::Missing(path) if !has_pods => {
                        tracing::info!(journal = %path.display(), "Starting a new journal");
                    }
                    problem @ JournalProblem::Missing(_) => tracing::warn!(
                        problem = %problem,
                        "Journal is missing, but there are pods on this node; the records of an earlier kubelet are lost"
                    ),
                    problem => {
                        tracing::warn!(problem = %problem, "Journal was damaged; the readable records are used");
                    }
                }
            }
            Records::behind(journal).context("start the journal's thread")
        }
        Err(error @ kubelet_host::journal::JournalError::Owned(_)) => {
            Err(error).context("another kubelet runs on this root directory")
        }
        Err(error) => {
            tracing::error!(error = %error, "Journal is not available; no records survive a restart of the kubelet");
            Ok(Records::none())
        }
    }
}

/// Whether an earlier kubelet, of any kind, left pods below the root directory. An unreadable directory counts as yes.
fn has_pods(root_dir: &Path, root: &HostRoot) -> bool {
    match std::fs::read_dir(root.join(root_dir.join("pods"))) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

/// The name and version of a runtime.
#[derive(Debug)]
pub(crate) struct RuntimeIdentity {
    /// `containerd`.
    pub(crate) name: String,
    /// `1.7.0`.
    pub(crate) version: String,
}

/// The runtime, which must answer now, and its name and version.
pub(crate) async fn runtime(
    config: &Config,
    registry: &Registry,
) -> anyhow::Result<(Client, RuntimeIdentity)> {
    let metrics = Metrics::new(registry).context("register runtime metrics")?;
    let timeouts = Timeouts {
        request: config.runtime.request_timeout,
    };
    let endpoint = &config.runtime.endpoint;
    let client = Client::connect(
        endpoint,
        Some(&config.runtime.image_endpoint),
        timeouts,
        metrics,
    )?;
    let version = client.version().await.with_context(|| {
        format!(
            "validate service connection: validate CRI v1 runtime API for endpoint {endpoint:?}"
        )
    })?;
    tracing::info!(
        containerRuntime = version.runtime_name,
        version = version.runtime_version,
        apiVersion = version.runtime_api_version,
        "Container runtime initialized"
    );
    let identity = RuntimeIdentity {
        name: version.runtime_name,
        version: version.runtime_version,
    };
    Ok((client, identity))
}

/// The machine information for `/spec/`.
pub(crate) fn machine(root: &HostRoot, clock: Clock) -> anyhow::Result<Machine> {
    let ids = IdFiles::default();
    let (machine, problems) =
        read_machine(&root.join("/"), &ids, clock.now()).context("read the machine information")?;
    for problem in problems {
        tracing::debug!(problem, "Machine information is incomplete");
    }
    Ok(machine)
}

/// The cgroup driver.
pub(crate) fn cgroups(root: &HostRoot, registry: &Registry) -> anyhow::Result<Arc<dyn Cgroups>> {
    let tree = cgroup::open(root).context("open the cgroup hierarchy")?;
    let measured = MeasuredCgroups::new(tree, registry).context("register metrics of cgroups")?;
    Ok(Arc::new(measured))
}

/// The node as plans need it.
pub(crate) fn node(
    config: &Config,
    machine: &Machine,
    root: &HostRoot,
    runtime_name: &str,
) -> anyhow::Result<Arc<NodeView>> {
    let version = cgroup::version(root).context("find the cgroup version")?;
    let (node, problems) = node_view(config, machine, root, version, runtime_name)
        .context("read the node information")?;
    for problem in problems {
        tracing::warn!(problem, "Node information is incomplete");
    }
    tracing::info!(node = node.name, ips = ?node.ips, "Node name and addresses");
    Ok(Arc::new(node))
}

/// The node's disk, mounts and cgroups.
pub(crate) fn host(
    root: &HostRoot,
    blocking: &Blocking,
    cgroups: Arc<dyn Cgroups>,
    node: &NodeView,
) -> Host {
    let links = Path::new(CONTAINER_LOGS_DIR);
    Host {
        kept: kubelet_act::pod::host_work::kept(root, node, links),
        root: root.clone(),
        blocking: blocking.clone(),
        cgroups: Some(cgroups),
        container_logs_dir: PathBuf::from(CONTAINER_LOGS_DIR),
    }
}

/// `serializeImagePulls`, `maxParallelImagePulls`, `registryPullQPS`, `registryBurst`.
pub(crate) fn pull_limits(config: &Config) -> PullLimits {
    let images = &config.images;
    let parallel = if images.serialize_pulls {
        Some(1)
    } else {
        images
            .max_parallel_pulls
            .and_then(|n| usize::try_from(n).ok())
    };
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    PullLimits {
        parallel,
        qps: images.pull_rate.map_or(0, number),
        burst: number(images.pull_burst),
    }
}

/// The number of sandboxes and containers that are created at once: enough to keep the runtime busy, not so many that it
/// thrashes.
pub(crate) fn start_width(node: &NodeView) -> usize {
    let cores = usize::try_from(node.capacity_milli_cpu / 1000).unwrap_or(1);
    (cores * 4).clamp(4, 32)
}

/// The configured manifest sources.
pub(crate) fn source_config(config: &Config, node: &NodeView) -> SourcesConfig {
    let sources = &config.sources;
    SourcesConfig {
        taker: Taker {
            node_name: node.name.clone(),
            gates: PodGates::of(&config.gates),
        },
        file: sources
            .static_pod_path
            .as_ref()
            .map(|path| FileSourceConfig {
                path: path.to_string_lossy().into_owned(),
                check_every: sources.file_check_frequency,
            }),
        url: sources.static_pod_url.as_ref().map(|url| UrlSourceConfig {
            url: url.clone(),
            headers: sources.static_pod_url_header.clone(),
            check_every: sources.http_check_frequency,
        }),
    }
}

/// The kinds of sources that must have reported before anything is removed.
pub(crate) fn source_kinds(config: &SourcesConfig, cluster: &Cluster) -> BTreeSet<SourceKind> {
    let mut kinds = config.kinds();
    if matches!(cluster, Cluster::Joined(_)) {
        kinds.insert(SourceKind::Api);
    }
    kinds
}

/// Fault injection, only in a binary built for the machine tests: the process kills itself, as in a crash, when it first passes
/// the point named in `HYPERKUBE_FAULT`, or at the n-th time with `name:n`.
pub(crate) fn faults() -> Faults {
    #[cfg(feature = "fault-points")]
    if let Ok(wish) = std::env::var("HYPERKUBE_FAULT") {
        return ends_at(&wish);
    }
    Faults::none()
}

#[cfg(feature = "fault-points")]
fn ends_at(wish: &str) -> Faults {
    use std::sync::atomic::{AtomicU64, Ordering};

    let (name, nth) = wish.split_once(':').unwrap_or((wish, "1"));
    let (Some(end), Ok(nth)) = (
        kubelet_act::frame::faults::FaultPoint::from_name(name),
        nth.parse::<u64>(),
    ) else {
        tracing::error!(wish, "HYPERKUBE_FAULT names an unknown fault point");
        return Faults::none();
    };
    let passed = AtomicU64::new(0);
    Faults::at(move |point| {
        let ends = point == end && passed.fetch_add(1, Ordering::Relaxed) + 1 == nth;
        if ends {
            let killed = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
            tracing::error!(?killed, "The process should have ended here");
        }
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::tests::captured;
    use kubelet_decide::config::validate::HostFacts;

    #[test]
    fn a_journal_that_never_was_is_no_damage_and_one_that_is_gone_is() {
        let place = std::env::temp_dir().join(format!("hyperkube-records-{}", std::process::id()));
        std::fs::create_dir_all(place.join("var/pods")).unwrap();
        let root = HostRoot::at(&place);
        let line = crate::flags::parse(&["--root-dir=/var".to_owned()]).unwrap();
        let facts = HostFacts { cgroup_v2: true };
        let config = crate::config_files::load(&line, facts).unwrap().effective;
        let start = || captured(|| drop(records(&config, &root).unwrap()));
        let journal = place.join("var/hyperkube/journal");

        let first = start();
        assert!(
            first.starts_with('I') && first.contains("Starting a new journal"),
            "{first}"
        );
        assert_eq!(start(), "", "it is there now");
        std::fs::remove_file(&journal).unwrap();
        assert!(
            start().starts_with('I'),
            "there is still nothing that it could have told of"
        );

        std::fs::remove_file(&journal).unwrap();
        std::fs::create_dir(place.join("var/pods/some-uid")).unwrap();
        let gone = start();
        assert!(
            gone.starts_with('W') && gone.contains("Journal is missing, but there are pods"),
            "{gone}"
        );

        std::fs::write(&journal, "no record").unwrap();
        let damaged = start();
        assert!(
            damaged.starts_with('W') && damaged.contains("Journal was damaged"),
            "{damaged}"
        );
        std::fs::remove_dir_all(place).unwrap();
    }
}
