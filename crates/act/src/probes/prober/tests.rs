//! Commands by the thousand that do not end: bounded, in turn, and in nobody's way.
//!
//! Upstream: none (there every probe has a worker and its commands are unbounded)

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use kubelet_api::runtime::v1 as cri;
use kubelet_cri::Client;
use kubelet_decide::shapes::probe::Target;
use kubelet_model::pod::SourceKind;
use prometheus::Registry;
use serde_json::json;
use testkit::cri::behaviour::{ExecOutcome, Scripts};
use testkit::cri::{StandInConfig, StandInRuntime};
use tokio::time::Instant;

use super::*;

const PODS: usize = 40;
const CONTAINERS: usize = 25;
const TIMEOUT: Duration = Duration::from_secs(1);
/// As `Asking` has it.
const AT_ONCE: usize = 64;

/// When which container's command was begun.
type Begun = Arc<Mutex<Vec<(String, Instant)>>>;

fn pod(name: &str, seconds: u64) -> Arc<Pod> {
    let probe = json!({"exec": {"command": ["sleep", seconds.to_string()]}, "periodSeconds": 10, "timeoutSeconds": 1, "failureThreshold": 1000});
    let container =
        |number: usize| json!({"name": format!("{name}-{number}"), "readinessProbe": probe});
    let containers: Vec<_> = (0..CONTAINERS).map(container).collect();
    let object = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"containers": containers},
    });
    let object: v1::Pod = serde_json::from_value(object).unwrap();
    Arc::new(Pod::new(Arc::new(object), SourceKind::Api, Vec::new()).unwrap())
}

/// Its containers, running.
async fn targets(cri: &Client, pod: &Arc<Pod>, now: Timestamp) -> PodTargets {
    let config = cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: pod.full_name.name.to_string(),
            uid: pod.uid.to_string(),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        ..cri::PodSandboxConfig::default()
    };
    let sandbox = cri::RunPodSandboxRequest {
        config: Some(config.clone()),
        ..cri::RunPodSandboxRequest::default()
    };
    let sandbox = cri.run_pod_sandbox(sandbox).await.unwrap();
    let mut containers = BTreeMap::new();
    for spec in pod.containers() {
        let container = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.clone(),
            config: Some(cri::ContainerConfig {
                metadata: Some(cri::ContainerMetadata {
                    name: spec.name.clone(),
                    attempt: 0,
                }),
                image: Some(cri::ImageSpec {
                    image: "i".to_owned(),
                    ..cri::ImageSpec::default()
                }),
                ..cri::ContainerConfig::default()
            }),
            sandbox_config: Some(config.clone()),
        };
        let id = cri.create_container(container).await.unwrap();
        cri.start_container(&id).await.unwrap();
        let target = Target {
            id: ContainerId::from(id.as_str()),
            started_at: now,
            known: None,
        };
        containers.insert(spec.name.clone(), target);
    }
    PodTargets {
        pod: Arc::clone(pod),
        ip: String::new(),
        is_leaving: false,
        containers,
    }
}

fn asked(begun: &Begun) -> Vec<(String, Instant)> {
    begun.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn a_thousand_commands_that_sleep_are_bounded_and_asked_in_turn() {
    let runtime = StandInRuntime::new(StandInConfig::default());
    runtime.add_image("i", 1);
    let begun = Begun::default();
    let told = Arc::clone(&begun);
    runtime.set_scripts(|scripts: &mut Scripts| {
        scripts.exec = Arc::new(move |call, words| {
            let name = call.container.metadata.clone().unwrap_or_default().name;
            told.lock().unwrap().push((name, Instant::now()));
            let seconds = words[1].parse().unwrap();
            ExecOutcome {
                latency: Duration::from_secs(seconds),
                ..ExecOutcome::default()
            }
        });
    });
    let registry = Registry::new();
    let channel = runtime.connect();
    let timeouts = kubelet_cri::Timeouts {
        request: Duration::from_secs(120),
    };
    let metrics = kubelet_cri::Metrics::new(&registry).unwrap();
    let cri = Client::from_channels(channel.clone(), channel, timeouts, metrics);
    let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
    let supervisor = Supervisor::new(clock);
    let (wakes, _woken) = mpsc::unbounded_channel();
    let prober = Prober::new(ProberParts {
        asking: Asking::new(cri.clone()),
        events: Events::logged("n"),
        clock,
        metrics: ProbeMetrics::new(&registry, &Registry::new()).unwrap(),
        first_tries: FirstTries::ByPeriod,
        wakes,
    });
    prober.start(&supervisor);
    for number in 0..PODS {
        let sleeps = pod(&format!("p{number}"), 3600);
        prober.aim(targets(&cri, &sleeps, clock.steady()).await);
    }
    tokio::time::sleep(Duration::from_secs(120)).await;
    let before = asked(&begun);
    // One that answers at once waits for its turn among them, and no longer.
    let quick = pod("quick", 0);
    let uid = quick.uid.clone();
    prober.aim(targets(&cri, &quick, clock.steady()).await);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let ready = prober.results(&uid);
    assert!(
        ready
            .values()
            .all(|probes| probes.readiness
                == Some(kubelet_decide::shapes::probe::ProbeResult::Success)),
        "{ready:?}"
    );
    supervisor.abort_all();
    // Every command takes its whole second: no more than so many begin within one.
    for (place, (_, at)) in before.iter().enumerate() {
        let within = before[place..]
            .iter()
            .take_while(|(_, later)| *later - *at < TIMEOUT);
        let count = within.count();
        assert!(count <= AT_ONCE, "{count} at once");
    }
    // A round takes 1,000 / 64 s; nobody is asked twice before the others were asked once.
    let mut last: BTreeMap<&str, Instant> = BTreeMap::new();
    let mut longest = Duration::ZERO;
    for (name, at) in &before {
        if let Some(before) = last.insert(name, *at) {
            longest = longest.max(*at - before);
        }
    }
    assert_eq!(last.len(), PODS * CONTAINERS);
    assert!(longest <= Duration::from_secs(30), "{longest:?}");
}
