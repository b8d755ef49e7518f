//! Builds the parts of the kubelet in start order, and stops them in reverse.
//!
//! In:    the loaded configuration, the log handle
//! Out:   runs until a signal or a fatal error; `Ok` is a regular stop
//! Calls: main
//! Holds: `run`, read from top to bottom, is the start order; a part is complete when it is passed on; containers keep
//!        running when the kubelet stops
//! Upstream: cmd/kubelet/app/server.go (run, RunKubelet), pkg/kubelet/kubelet.go (NewMainKubelet, Run)

mod certificates;
mod cluster;
mod node_metrics;
mod parts;
mod reviews;
mod serving;
mod signals;
mod story;
#[cfg(test)]
mod testing;
mod ttl;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kubelet_act::frame::clock::Clock;
use kubelet_act::frame::supervisor::Supervisor;
use kubelet_act::objects::pod_objects::ObjectsHandle;
use kubelet_act::pod::pod_path::{self, PodPathParts};
use kubelet_act::pod::timeline::Timeline;
use kubelet_act::report::status::StatusHandle;
use kubelet_act::sources::{self, SourcesParts, SystemRoots};
use kubelet_host::HostRoot;
use kubelet_host::blocking::{Blocking, Lane};
use kubelet_model::pod::PodGates;
use tokio::sync::{mpsc, watch};

use crate::config_files::Loaded;
use crate::logs::LogHandle;
use signals::StopSignals;

/// The queue of snapshots from one source.
const SNAPSHOTS: usize = 50;
/// The time limit of a stop, after which the process exits anyway.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Runs the kubelet until a signal or a fatal error.
#[expect(
    clippy::too_many_lines,
    reason = "the order of the start is read from top to bottom"
)]
pub(crate) async fn run(loaded: Loaded, logs: LogHandle) -> anyhow::Result<()> {
    let config = Arc::new(loaded.effective.clone());
    parts::greet(&loaded);
    parts::check_user();
    let mut stop_signals = StopSignals::new()?;
    signals::end_at_the_second(logs.clone())?;

    let clock = Clock::system();
    let started = clock.now();
    let supervisor = Supervisor::new(clock);
    let registry = parts::metrics()?;
    let root = HostRoot::real();
    let blocking = Blocking::lanes();

    let _lock = parts::lock(&config).await?;
    let (of, at) = (Arc::clone(&config), root.clone());
    parts::on_disk(&blocking, "make the kubelet's directories", move || {
        parts::data_dirs(&of, &at)
    })
    .await?;
    let (of, at) = (Arc::clone(&config), root.clone());
    let records = parts::on_disk(&blocking, "read the journal", move || {
        parts::records(&of, &at)
    })
    .await?;
    let certificates = certificates::open(&config, &root, clock).await?;
    let cluster = certificates.cluster.clone();
    cluster::register_figures(&cluster, &registry).context("register metrics of API calls")?;
    let (cri, identity) = parts::runtime(&config, &registry).await?;
    let machine = parts::machine(&root, clock)?;
    let (of, at) = (Arc::clone(&config), root.clone());
    let (seen, name) = (machine.clone(), identity.name.clone());
    let node = parts::on_disk(&blocking, "look at the node", move || {
        parts::node(&of, &seen, &at, &name)
    })
    .await?;
    let cgroups = parts::cgroups(&root, &registry)?;
    let host = parts::host(&root, &blocking, cgroups, &node);
    let events = cluster::events(&cluster, &node, &machine, clock, &supervisor);
    node_metrics::register(&config, &node, &registry)?;
    certificates.start(
        &config,
        &node,
        parts::seed(&machine, 17),
        &registry,
        &supervisor,
    )?;
    let status = StatusHandle::default();
    let timeline = Timeline::default();
    let reconcilers = parts::reconcilers(&supervisor, clock, &machine, &status, &registry)?;

    let images = parts::image_list(&cri, &registry, &reconcilers)?;
    let (seen_in, all_seen) = watch::channel(false);
    let tree = parts::cgroup_tree(&config, &machine, &root, &node, &host, (&status, all_seen))?;
    parts::container_manager(&config, &root, tree, &reconcilers, &events).await?;
    parts::oom_watcher(&config, &root, &registry, &reconcilers, &events)?;
    parts::resource_analyzer(&config, &host, &status, &registry, &reconcilers)?;
    let heard = parts::runtime_up(&config, &cri, &registry, &reconcilers).await?;
    let progress = parts::host_progress(&config, &root, &blocking, &records, &reconcilers);

    let (snapshots_out, snapshots) = mpsc::channel(SNAPSHOTS);
    let source_config = parts::source_config(&config, &node);
    let runtime = cri.clone();
    let gates = PodGates::of(&config.gates);
    let joined = cluster.client().map(|client| {
        (
            client,
            cluster::watches(client, &node, &machine, gates, clock),
        )
    });
    let (joined, objects) = match joined {
        Some((client, (watches, objects))) => (Some((client, watches)), objects),
        None => (None, ObjectsHandle::default()),
    };
    let own_node = joined.as_ref().map(|(_, watches)| watches.own_node());
    parts::pod_cidr(&config, &runtime, own_node.clone(), &reconcilers);
    parts::iptables_chains(&config, &reconcilers);
    let abilities = heard.handlers.clone();
    let admission = parts::admission(&config, &machine, &root, &node, own_node, abilities)?;
    let (probe_metrics, of_probes) = parts::probe_metrics(&registry)?;
    let path = pod_path::start(
        PodPathParts {
            objects,
            events: events.clone(),
            admission,
            cri,
            host,
            clock,
            exits: kubelet_act::observe::exits::ExitSource::Kernel,
            records: records.clone(),
            status: status.clone(),
            timeline: timeline.clone(),
            node: Arc::clone(&node),
            network: heard.network,
            handlers: heard.handlers,
            pull_limits: parts::pull_limits(&config),
            start_width: parts::start_width(&node),
            sources: parts::source_kinds(&source_config, &cluster),
            snapshots,
            faults: parts::faults(),
            probe_metrics,
            first_tries: parts::first_tries(&config),
        },
        &supervisor,
        &registry,
    )
    .context("start the pod path")?;
    parts::pass_on(path.all_sources_seen.clone(), seen_in, &supervisor);
    if let Some((client, watches)) = joined {
        cluster::start(
            cluster::Member {
                client,
                watches,
                config: &config,
                root: &root,
                machine: &machine,
                node: &node,
                cri: &runtime,
                runtime_version: &format!("{}://{}", identity.name, identity.version),
                clock,
                path: &path,
                status: &status,
                runtime: heard.state,
                host: progress.problem,
                host_warning: progress.warning,
                images,
                events,
                snapshots: snapshots_out.clone(),
                started,
                registry: &registry,
                reconcilers: &reconcilers,
            },
            &supervisor,
        )
        .context("join the cluster")?;
    }
    let source_parts = SourcesParts {
        records: records.clone(),
        clock,
        root,
        blocking: blocking.lane(Lane::Sources),
        roots: SystemRoots::from_environment(),
        sender: snapshots_out,
    };
    let sources = sources::start(source_config, source_parts, &registry, &supervisor)
        .context("start the sources")?;

    story::start(
        &config,
        story::Owners {
            status: &status,
            path: &path,
            timeline: &timeline,
            registry: &registry,
        },
        &blocking,
        &supervisor,
    )
    .await?;
    serving::start(
        serving::Serving {
            loaded: &loaded,
            config: &config,
            registry,
            of_probes,
            status,
            path,
            sources,
            timeline,
            machine,
            logs,
            node,
            reconcilers,
            runtime,
            cluster: &cluster,
            host_work: progress.last_good,
            blocking,
        },
        &supervisor,
    )
    .await?;

    let ended = tokio::select! {
        // A fatal error first, since it says more than a signal.
        biased;
        reason = supervisor.fatal() => Err(anyhow::Error::msg(reason)),
        contended = parts::lock_contention(&config) => contended.and(Err(anyhow::Error::msg("received \"opened\" on the lock file, exiting"))),
        name = stop_signals.next() => {
            tracing::info!(signal = name, "Stopping; containers keep running");
            Ok(())
        }
    };
    stop(&supervisor, &records).await;
    ended
}

/// Readiness and the servers stop first, then workers finish their step, then the journal is synced.
async fn stop(supervisor: &Supervisor, records: &kubelet_act::frame::records::Records) {
    supervisor.stop().cancel();
    if tokio::time::timeout(STOP_WITHIN, supervisor.drained())
        .await
        .is_err()
    {
        tracing::warn!(tasks = %supervisor.to_json(), "Tasks did not end in time");
    }
    records.sync().await;
}
