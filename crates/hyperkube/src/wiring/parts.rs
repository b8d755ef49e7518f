//! One small function per part of the kubelet: from configuration and machine to the part.
//!
//! In:    `Config`, the machine
//! Out:   finished parts
//! Calls: wiring
//! Holds: nothing is half built; what cannot be had is an error that names it, or a warning where the kubelet can go on
//! Upstream: cmd/kubelet/app/server.go, pkg/kubelet/kubelet.go (NewMainKubelet)

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use kubelet_act::clock::Clock;
use kubelet_act::faults::Faults;
use kubelet_act::host_work::Host;
use kubelet_act::images::PullLimits;
use kubelet_act::node_facts::node_view;
use kubelet_act::records::Records;
use kubelet_act::sources::{FileSourceConfig, SourcesConfig, UrlSourceConfig};
use kubelet_cri::{Client, Metrics, Timeouts};
use kubelet_host::HostRoot;
use kubelet_host::blocking::Blocking;
use kubelet_host::cgroup::{self, Cgroups};
use kubelet_host::journal::{Journal, JournalLimits};
use kubelet_host::machine::{IdFiles, Machine, read_machine};
use kubelet_model::config::Config;
use kubelet_model::node::NodeView;
use prometheus::Registry;

use crate::config_files::Loaded;
use crate::flags::VERSION;

/// Links to container logs lie here, whatever the configuration says.
const CONTAINER_LOGS_DIR: &str = "/var/log/containers";

/// What people see first in the log.
pub(crate) fn greet(loaded: &Loaded) {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    for path in &loaded.skipped {
        tracing::info!(path = %path.display(), "File of the drop-in directory was not read");
    }
    tracing::info!(kubeletVersion = VERSION, "Kubelet version");
}

/// The registry with what describes the process.
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
        platform: "linux/amd64".to_owned(),
    };
    kubelet_server::register_build(&registry, &version).context("register build metrics")?;
    kubelet_server::register_process(&registry).context("register process metrics")?;
    Ok(registry)
}

/// The journal; without one the kubelet runs, and remembers nothing over a restart.
pub(crate) fn records(config: &Config, root: &HostRoot) -> anyhow::Result<Records> {
    let directory = root.join(config.paths.root_dir.join("hyperkube"));
    if let Err(error) = kubelet_host::files::create_dir_all(&directory, 0o700) {
        tracing::error!(error = %error, "Journal cannot be kept; a restart will remember nothing");
        return Ok(Records::none());
    }
    let path = directory.join("journal");
    match Journal::open(&path, JournalLimits::default()) {
        Ok((journal, problems)) => {
            for problem in problems {
                tracing::warn!(problem = %problem, "Journal was damaged; what could be read is used");
            }
            Ok(Records::new(journal))
        }
        Err(error @ kubelet_host::journal::JournalError::Owned(_)) => Err(error).context("another kubelet runs on this root directory"),
        Err(error) => {
            tracing::error!(error = %error, "Journal cannot be kept; a restart will remember nothing");
            Ok(Records::none())
        }
    }
}

/// The runtime, which must answer now.
pub(crate) async fn runtime(config: &Config, registry: &Registry) -> anyhow::Result<Client> {
    let metrics = Metrics::new(registry).context("register runtime metrics")?;
    let timeouts = Timeouts { request: config.runtime.request_timeout };
    let endpoint = &config.runtime.endpoint;
    let client = Client::connect(endpoint, Some(&config.runtime.image_endpoint), timeouts, metrics)?;
    let version = client
        .version()
        .await
        .with_context(|| format!("validate service connection: validate CRI v1 runtime API for endpoint {endpoint:?}"))?;
    tracing::info!(
        containerRuntime = version.runtime_name,
        version = version.runtime_version,
        apiVersion = version.runtime_api_version,
        "Container runtime initialized"
    );
    Ok(client)
}

/// The machine as `/spec/` shows it.
pub(crate) fn machine(root: &HostRoot, clock: Clock) -> anyhow::Result<Machine> {
    let ids = IdFiles::default();
    let (machine, problems) = read_machine(&root.join("/"), &ids, clock.now()).context("read the machine's facts")?;
    for problem in problems {
        tracing::debug!(problem, "A fact of the machine is missing");
    }
    Ok(machine)
}

/// The cgroup tree.
pub(crate) fn cgroups(root: &HostRoot) -> anyhow::Result<Arc<dyn Cgroups>> {
    cgroup::open(root).context("open the cgroup hierarchy")
}

/// The node as plans need it.
pub(crate) fn node(config: &Config, machine: &Machine, root: &HostRoot) -> anyhow::Result<Arc<NodeView>> {
    let version = cgroup::version(root).context("find the cgroup version")?;
    let (node, problems) = node_view(config, machine, root, version).context("find the node's facts")?;
    for problem in problems {
        tracing::warn!(problem, "A fact of the node is missing");
    }
    tracing::info!(node = node.name, ips = ?node.ips, "Node");
    Ok(Arc::new(node))
}

/// The node's disk, mounts and cgroups.
pub(crate) fn host(root: &HostRoot, blocking: &Blocking, cgroups: Arc<dyn Cgroups>) -> Host {
    Host {
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
        images.max_parallel_pulls.and_then(|n| usize::try_from(n).ok())
    };
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    PullLimits { parallel, qps: images.pull_rate.map_or(0, number), burst: number(images.pull_burst) }
}

/// Sandboxes and containers made at once: enough to keep the runtime busy, not so many that it thrashes.
pub(crate) fn start_width(node: &NodeView) -> usize {
    let cores = usize::try_from(node.capacity_milli_cpu / 1000).unwrap_or(1);
    (cores * 4).clamp(4, 32)
}

/// Where manifests come from.
pub(crate) fn source_config(config: &Config, node: &NodeView) -> SourcesConfig {
    let sources = &config.sources;
    SourcesConfig {
        node_name: node.name.clone(),
        file: sources.static_pod_path.as_ref().map(|path| FileSourceConfig {
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

/// Kinds of sources that must have spoken before anything is removed.
pub(crate) fn source_kinds(config: &SourcesConfig) -> BTreeSet<kubelet_model::pod::SourceKind> {
    config.kinds()
}

/// Nothing, but in a binary built for the machine tests: the process ends itself at the point named in `HYPERKUBE_FAULT`.
pub(crate) fn faults() -> Faults {
    Faults::none()
}
