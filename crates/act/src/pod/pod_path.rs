//! Wires the tasks of the pod path: relister, sync loop, workers, images, records, status.
//!
//! In:    the outside as handles: runtime, host, clock, exits, records, network, sources
//! Out:   a running pod path; handles on what it owns
//! Calls: wiring of the product; the simulated kubelet of crate `world`: the same tasks, wired the same way
//! Holds: one channel per direction, made here and nowhere else; both tasks are `Core`: the end of one ends the process
//! Upstream: pkg/kubelet/kubelet.go (NewMainKubelet, Run), the part for pods

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use kubelet_cri::Client;
use kubelet_decide::probes::timetable::FirstTries;
use kubelet_decide::shapes::view::NetworkState;
use kubelet_model::ids::PodUid;
use kubelet_model::node::{NodeView, RuntimeHandlers};
use kubelet_model::pod::SourceKind;
use prometheus::Registry;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::frame::clock::Clock;
use crate::frame::faults::Faults;
use crate::frame::records::Records;
use crate::frame::signal::Signal;
use crate::frame::supervisor::{Supervisor, TaskKind};
use crate::images::pull_credentials::NodeCredentials;
use crate::images::{Images, PullLimits};
use crate::objects::pod_objects::ObjectsHandle;
use crate::observe::exits::ExitSource;
use crate::observe::pleg::{Pleg, PlegHandle, PlegParts};
use crate::observe::pleg_metrics::EventMetrics;
use crate::observe::runtime_events;
use crate::observe::termination_message::MessageReader;
use crate::pod::execute::Executor;
use crate::pod::hooks::Hooks;
use crate::pod::host_work::Host;
use crate::pod::pod_worker::WorkerParts;
use crate::pod::start_width::StartWidth;
use crate::pod::sync_loop::{AdmissionParts, SyncInputs, SyncLoop};
use crate::pod::timeline::Timeline;
use crate::pod::worker_metrics::WorkerMetrics;
use crate::probes::asking::Asking;
use crate::probes::probe_metrics::ProbeMetrics;
use crate::probes::prober::{Prober, ProberParts};
use crate::report::events::Events;
use crate::report::status::StatusHandle;
use crate::sources::SourceSnapshot;

/// What the pod path is made of.
#[derive(Debug)]
pub struct PodPathParts {
    /// The runtime.
    pub cri: Client,
    /// The node's disk, mounts and cgroups.
    pub host: Host,
    /// The clock.
    pub clock: Clock,
    /// Where exits of processes come from.
    pub exits: ExitSource,
    /// What survives a restart.
    pub records: Records,
    /// Where statuses are shown.
    pub status: StatusHandle,
    /// Where starts are marked.
    pub timeline: Timeline,
    /// The node.
    pub node: Arc<NodeView>,
    /// The runtime's network.
    pub network: watch::Receiver<NetworkState>,
    /// What the runtime says of its handlers.
    pub handlers: watch::Receiver<Option<Arc<RuntimeHandlers>>>,
    /// Limits on pulls.
    pub pull_limits: PullLimits,
    /// Sandboxes and containers that are made at once on this node.
    pub start_width: usize,
    /// Sources that must have spoken before anything is removed.
    pub sources: BTreeSet<SourceKind>,
    /// Their whole sets.
    pub snapshots: mpsc::Receiver<SourceSnapshot>,
    /// What is known of API objects.
    pub objects: ObjectsHandle,
    /// Where people are told.
    pub events: Events,
    /// The node, as admission looks at it.
    pub admission: AdmissionParts,
    /// Points at which tests end the process.
    pub faults: Faults,
    /// Figures of probes.
    pub probe_metrics: ProbeMetrics,
    /// When first tries of probes are made.
    pub first_tries: FirstTries,
}

/// A running pod path.
#[derive(Clone, Debug)]
pub struct PodPath {
    /// Observations.
    pub pleg: PlegHandle,
    /// Images and the pulls under way.
    pub images: Images,
    /// True once every source was seen.
    pub all_sources_seen: watch::Receiver<bool>,
    /// Takes pods to look at again.
    pub wakes: mpsc::UnboundedSender<PodUid>,
    /// Probes and their results.
    pub prober: Prober,
    /// When the sync loop last turned.
    pub last_turn: watch::Receiver<Option<tokio::time::Instant>>,
}

/// Starts the relister and the sync loop, which starts the workers.
///
/// # Errors
/// When a metric is already registered.
pub fn start(
    parts: PodPathParts,
    supervisor: &Supervisor,
    registry: &Registry,
) -> Result<PodPath, prometheus::Error> {
    let images = images(&parts, registry)?;
    let (wakes_out, wakes) = mpsc::unbounded_channel();
    let (events_out, events) = mpsc::unbounded_channel();
    let (pleg, pleg_handle) = Pleg::new(
        PlegParts {
            cri: parts.cri.clone(),
            clock: parts.clock,
            exits: parts.exits,
            messages: MessageReader::new(
                parts.host.root.clone(),
                parts.host.blocking.clone(),
                &parts.node.root_dir,
                &parts.node.pod_logs_dir,
            ),
            wakes: wakes_out.clone(),
            faults: parts.faults.clone(),
        },
        registry,
    )?;
    let event_client = parts.cri.clone();
    let hooks = Hooks::new(&parts.cri, &parts.events, registry)?;
    let executor = Executor {
        cri: parts.cri,
        host: parts.host,
        images: images.clone(),
        clock: parts.clock,
        timeline: parts.timeline,
        width: StartWidth::new(parts.start_width),
        events: parts.events,
        hooks,
        faults: parts.faults,
    };
    let of_probes = (parts.probe_metrics, parts.first_tries);
    let prober = start_prober(&executor, of_probes, &wakes_out, supervisor);
    let workers = WorkerParts {
        executor,
        pleg: pleg_handle.clone(),
        status: parts.status,
        records: parts.records,
        node: parts.node,
        network: start_relay(parts.network, supervisor),
        handlers: parts.handlers,
        objects: parts.objects,
        prober: prober.clone(),
        metrics: WorkerMetrics::new(registry)?,
        events: events_out,
    };
    let sync_loop = SyncLoop::new(
        workers,
        parts.admission,
        supervisor.clone(),
        parts.sources,
        registry,
    )?;
    let (all_sources_seen, last_turn) = (sync_loop.all_sources_seen(), sync_loop.last_turn());
    let inputs = SyncInputs {
        snapshots: parts.snapshots,
        wakes,
        events,
    };
    let stop = supervisor.stop().clone();
    runtime_events::start(
        event_client,
        pleg_handle.clone(),
        EventMetrics::new(registry)?,
        parts.clock,
        supervisor,
    );
    supervisor.spawn(TaskKind::Core, "pleg", pleg.run(stop.clone()));
    supervisor.spawn(TaskKind::Core, "sync loop", sync_loop.run(inputs, stop));
    Ok(PodPath {
        pleg: pleg_handle,
        images,
        all_sources_seen,
        wakes: wakes_out,
        prober,
        last_turn,
    })
}

fn start_relay(
    network: watch::Receiver<NetworkState>,
    supervisor: &Supervisor,
) -> Signal<NetworkState> {
    let signal = Signal::new(network.borrow().clone());
    let relay = relay(network, signal.clone(), supervisor.stop().clone());
    supervisor.spawn(TaskKind::Core, "network state", relay);
    signal
}

fn start_prober(
    executor: &Executor,
    (metrics, first_tries): (ProbeMetrics, FirstTries),
    wakes: &mpsc::UnboundedSender<PodUid>,
    supervisor: &Supervisor,
) -> Prober {
    let prober = Prober::new(ProberParts {
        asking: Asking::new(executor.cri.clone()),
        events: executor.events.clone(),
        clock: executor.clock,
        metrics,
        first_tries,
        wakes: wakes.clone(),
    });
    prober.start(supervisor);
    prober
}

fn images(parts: &PodPathParts, registry: &Registry) -> Result<Images, prometheus::Error> {
    let credentials = NodeCredentials::new(
        parts.host.root.clone(),
        parts.host.blocking.clone(),
        &parts.node.root_dir,
        std::env::var_os("HOME").map(PathBuf::from),
        std::env::current_dir().ok(),
    );
    Images::new(parts.cri.clone(), credentials, parts.pull_limits, registry)
}

/// One waits on the channel, and wakes the workers in order.
async fn relay(
    mut from: watch::Receiver<NetworkState>,
    to: Signal<NetworkState>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = from.changed() => {
                if changed.is_err() {
                    // It stays as it is for good.
                    stop.cancelled().await;
                    return;
                }
            }
        }
        to.set(from.borrow_and_update().clone());
    }
}
