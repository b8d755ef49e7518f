//! The end of one pod of the API: deleted, a crash somewhere between that and its last status, perhaps its remains removed by hand.
//!
//! In:    a seed; a bug to plant
//! Out:   what did not hold of the last status
//! Calls: run, after its own world has come to rest
//! Holds: the pod is reported as finished; its last status is final and has an exit of each container that ran: the true one, or, of a
//!        container that was removed by hand before its exit was seen, upstream's word for an unknown one; then nothing is remembered
//! Upstream: none

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kubelet_act::frame::clock::Clock;
use kubelet_act::frame::faults::{FaultPoint, Faults, Planted};
use kubelet_act::frame::records::POD_PREFIX;
use kubelet_act::observe::exits::ExitSource;
use kubelet_act::report::events::Events;
use kubelet_act::sources::SourceSnapshot;
use kubelet_cri::{Client, Metrics, Timeouts};
use kubelet_decide::shapes::view::NetworkState;
use kubelet_host::HostRoot;
use kubelet_host::journal::disk_faults::DiskFaults;
use kubelet_model::ids::PodUid;
use kubelet_model::pod::{Pod, SourceKind};
use kubelet_model::reported::{Progress, ReportedPod};
use prometheus::Registry;
use testkit::cri::trace::Instance;
use testkit::cri::{StandInConfig, StandInRuntime};
use testkit::prng::Prng;
use tokio::sync::{Notify, watch};

use crate::kubelet::{Outside, ROOT_DIR, SimKubelet, lay_out_node};
use crate::pods;

const UID: &str = "end-of-a-pod";
/// The longest grace of a world's pods, what a stuck process takes on top, and the retries of a stop.
const LONGEST_END: Duration = Duration::from_secs(300);
const GRACE: i64 = 5;

/// One node, its one pod, and the API as far as that pod goes.
struct Scene {
    root: HostRoot,
    runtime: StandInRuntime,
    clock: Clock,
    network: watch::Sender<NetworkState>,
    planted: Planted,
    /// Where the kubelet ends.
    fall: Arc<Mutex<Option<(FaultPoint, u64)>>>,
    fell: Arc<Notify>,
}

/// Lives through the end that the seed says; what did not hold.
///
/// # Errors
/// The scene could not be set up.
pub async fn live(seed: u64, planted: Planted, dir: &Path) -> anyhow::Result<Option<String>> {
    let mut random = Prng::stream(seed, "ends");
    let scene = Scene::new(seed, planted, dir)?;
    let pod = pod(&mut random);
    let mut kubelet = scene.start(&[&pod])?;
    tokio::time::sleep(Duration::from_millis(200 + random.below(20_000))).await;
    // What the API holds of it is what was shown.
    let deleted = deleted(&pod, scene.shown(&kubelet), scene.clock.now());
    let points = FaultPoint::OF_WORKERS;
    let point = points[pods::at(&mut random, points.len())];
    scene.arm(Some((point, random.below(6))));
    scene.send(&kubelet, &[&deleted])?;
    let patience = Duration::from_millis(random.below(12_000));
    // Somewhere on the way, or where it stands by then.
    drop(tokio::time::timeout(patience, scene.fell.notified()).await);
    kubelet.crash().await;
    scene.arm(None);
    let by_hand = random.chance(5_000);
    if by_hand {
        remove_by_hand(&scene.runtime, &scene.root, UID).await?;
    }
    kubelet = scene.start(&[&deleted])?;
    let finished = async {
        loop {
            let shown = scene.shown(&kubelet);
            if let Some(shown) = shown.filter(|shown| shown.progress == Progress::Finished) {
                return shown;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let last = match tokio::time::timeout(LONGEST_END, finished).await {
        Ok(last) => last,
        Err(_) => return Ok(Some("end of a pod: it is never finished".to_owned())),
    };
    if let Some(wrong) = scene
        .runtime
        .instances(|all| judge(&last.status, all, by_hand))
    {
        let how = if by_hand { ", removed by hand" } else { "" };
        return Ok(Some(format!("end of a pod at {point:?}{how}: {wrong}")));
    }
    // Its object is gone.
    scene.send(&kubelet, &[])?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let left = kubelet.records.keys(POD_PREFIX);
    kubelet.crash().await;
    Ok((!left.is_empty()).then(|| format!("end of a pod: remembered for ever: {left:?}")))
}

/// What is wrong with the last status, by what truly ran.
fn judge(status: &v1::PodStatus, all: &[Instance], by_hand: bool) -> Option<String> {
    let phase = status.phase.as_deref().unwrap_or_default();
    if !matches!(phase, "Succeeded" | "Failed") {
        return Some(format!("its last phase is {phase:?}"));
    }
    let mut newest: BTreeMap<&str, &Instance> = BTreeMap::new();
    for one in all.iter().filter(|one| one.started.is_some()) {
        newest.insert(&one.name, one);
    }
    let mut all_good = true;
    for container in status.container_statuses.iter().flatten() {
        let state = container.state.as_ref();
        let said = state.and_then(|state| state.terminated.as_ref());
        let truth = newest.get(&*container.name).and_then(|one| one.exit_code);
        let name = &container.name;
        all_good &= said.is_some_and(|said| said.exit_code == 0);
        match (said, truth) {
            (_, None) => {}
            (None, Some(code)) => return Some(format!("{name} ended with {code}: {state:?}")),
            (Some(said), Some(code)) => {
                let unknown = said.reason.as_deref() == Some("ContainerStatusUnknown");
                let is_right = if unknown {
                    by_hand
                } else {
                    said.exit_code == code
                };
                if !is_right {
                    return Some(format!("{name} ended with {code}: {said:?}"));
                }
            }
        }
    }
    (all_good != (phase == "Succeeded")).then(|| format!("its phase is {phase}: {status:?}"))
}

impl Scene {
    fn new(seed: u64, planted: Planted, dir: &Path) -> anyhow::Result<Self> {
        let root = HostRoot::at(dir);
        lay_out_node(&root)?;
        let config = StandInConfig {
            seed,
            latency: Duration::from_millis(5),
            images: pods::PRESENT.map(str::to_owned).to_vec(),
            ..StandInConfig::default()
        };
        let from = jiff::Timestamp::from_nanosecond(i128::from(config.epoch_ns))?;
        let runtime = StandInRuntime::new(config);
        runtime.set_scripts(|scripts| {
            scripts.behaviour = Arc::new(pods::behaviour);
            scripts.pull = Arc::new(pods::pull);
            scripts.exec = Arc::new(pods::exec);
        });
        Ok(Self {
            root,
            runtime,
            clock: Clock::simulated(from),
            network: watch::Sender::new(NetworkState::Ready),
            planted,
            fall: Arc::default(),
            fell: Arc::default(),
        })
    }

    fn start(&self, held: &[&Arc<Pod>]) -> anyhow::Result<SimKubelet> {
        let (fall, fell) = (Arc::clone(&self.fall), Arc::clone(&self.fell));
        let faults = Faults::at(move |point| {
            let mut fall = fall.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *fall {
                Some((at, 0)) if *at == point => {
                    fell.notify_one();
                    true
                }
                Some((at, left)) if *at == point => {
                    *left -= 1;
                    false
                }
                _ => false,
            }
        });
        let exits = self.runtime.clone();
        let outside = Outside {
            root: self.root.clone(),
            clock: self.clock,
            exits: ExitSource::Simulated(Arc::new(move |pid| Box::pin(exits.exit_of(pid)))),
            network: self.network.subscribe(),
            events: Events::logged("node"),
            faults: faults.with_planted(self.planted),
            loses_writes: false,
            disk: DiskFaults::default(),
            sources: [SourceKind::Api].into(),
        };
        let kubelet = SimKubelet::start(&self.runtime, outside)?;
        self.send(&kubelet, held)?;
        Ok(kubelet)
    }

    fn send(&self, kubelet: &SimKubelet, held: &[&Arc<Pod>]) -> anyhow::Result<()> {
        kubelet.send(SourceSnapshot::new(
            SourceKind::Api,
            held.iter().map(|pod| Arc::clone(pod)).collect(),
        ))
    }

    fn arm(&self, fall: Option<(FaultPoint, u64)>) {
        *self.fall.lock().unwrap_or_else(PoisonError::into_inner) = fall;
    }

    fn shown(&self, kubelet: &SimKubelet) -> Option<ReportedPod> {
        kubelet.status.shown(&PodUid::parse(UID).ok()?)
    }
}

/// Removes a pod's sandboxes and its directory, as with `crictl rmp -f` and `rm -rf`.
///
/// # Errors
/// The runtime or the disk refused.
pub async fn remove_by_hand(
    runtime: &StandInRuntime,
    root: &HostRoot,
    uid: &str,
) -> anyhow::Result<()> {
    let channel = runtime.connect();
    let timeouts = Timeouts {
        request: Duration::from_secs(120),
    };
    let metrics = Metrics::new(&Registry::new())?;
    let client = Client::from_channels(channel.clone(), channel, timeouts, metrics);
    let is_held =
        |one: &&Instance| one.pod_uid == uid && one.name.is_empty() && one.removed.is_none();
    let sandboxes: Vec<String> = runtime.instances(|all| {
        let held = all.iter().filter(is_held);
        held.map(|one| one.id.clone()).collect()
    });
    for id in sandboxes {
        client.stop_pod_sandbox(&id).await.context("stop by hand")?;
        client
            .remove_pod_sandbox(&id)
            .await
            .context("remove by hand")?;
    }
    let dir = root.join(format!("{ROOT_DIR}/pods/{uid}"));
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    Ok(())
}

/// Its containers serve, or end by themselves with some code.
fn pod(random: &mut Prng) -> Arc<Pod> {
    let commands: [&[&str]; 4] = [
        &["serve"],
        &["serve", "slowly-ending"],
        &["sh", "-c", "sleep 3; exit 0"],
        &["sh", "-c", "sleep 4; exit 5"],
    ];
    let containers = (0..1 + random.below(2)).map(|number| {
        let command = commands[pods::at(random, commands.len())];
        v1::Container {
            name: format!("c{number}"),
            image: Some(pods::PRESENT[0].to_owned()),
            command: Some(command.iter().map(|word| (*word).to_owned()).collect()),
            ..v1::Container::default()
        }
    });
    let containers = containers.collect();
    let policy = ["Always", "OnFailure", "Never"][pods::at(random, 3)];
    let mut object = v1::Pod::default();
    object.metadata.name = Some("ends".to_owned());
    object.metadata.namespace = Some("default".to_owned());
    object.metadata.uid = Some(UID.to_owned());
    object.spec = Some(v1::PodSpec {
        containers,
        restart_policy: Some(policy.to_owned()),
        enable_service_links: Some(true),
        termination_grace_period_seconds: Some(GRACE),
        ..v1::PodSpec::default()
    });
    made(object)
}

fn deleted(pod: &Pod, shown: Option<ReportedPod>, now: jiff::Timestamp) -> Arc<Pod> {
    let mut object = (*pod.object).clone();
    object.metadata.deletion_timestamp = Some(Time(now));
    object.metadata.deletion_grace_period_seconds = Some(GRACE);
    object.status = shown.map(|shown| (*shown.status).clone());
    made(object)
}

fn made(object: v1::Pod) -> Arc<Pod> {
    let pod = Pod::new(Arc::new(object), SourceKind::Api, Vec::new());
    Arc::new(pod.expect("name, namespace and UID are set"))
}
