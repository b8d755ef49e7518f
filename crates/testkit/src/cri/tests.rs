//! The stand-in runtime as a client sees it: over the pipe, on virtual time.
//!
//! In:    generated client stubs
//! Holds: no test waits on real time
//! Upstream: none

use std::time::Duration;

use kubelet_api::runtime::v1 as wire;
use tokio::time::Instant;
use tonic::Code;
use tonic::transport::Channel;

use super::trace::{EndedBy, overlapping, repeated_attempts};
use super::{CrashScope, MAX_MESSAGE_BYTES, StandInConfig, StandInRuntime};
use crate::faults::{EventFault, Fault, FaultPlan, FaultRates};
use crate::stubs::image_service_client::ImageServiceClient;
use crate::stubs::runtime_service_client::RuntimeServiceClient;

type Client = RuntimeServiceClient<Channel>;

fn started(config: StandInConfig) -> (StandInRuntime, Client) {
    let runtime = StandInRuntime::new(StandInConfig {
        images: vec!["busybox".to_owned()],
        ..config
    });
    let client = RuntimeServiceClient::new(runtime.connect())
        .max_decoding_message_size(4 * MAX_MESSAGE_BYTES);
    (runtime, client)
}

fn pod(name: &str, attempt: u32) -> wire::PodSandboxConfig {
    wire::PodSandboxConfig {
        metadata: Some(wire::PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "default".to_owned(),
            attempt,
        }),
        log_directory: "/var/log/pods/p".to_owned(),
        labels: [("app".to_owned(), name.to_owned())].into(),
        ..Default::default()
    }
}

fn container(sandbox: &str, name: &str, command: &[&str]) -> wire::CreateContainerRequest {
    wire::CreateContainerRequest {
        pod_sandbox_id: sandbox.to_owned(),
        config: Some(wire::ContainerConfig {
            metadata: Some(wire::ContainerMetadata {
                name: name.to_owned(),
                attempt: 0,
            }),
            image: Some(wire::ImageSpec {
                image: "busybox".to_owned(),
                ..Default::default()
            }),
            command: command.iter().map(ToString::to_string).collect(),
            labels: [("name".to_owned(), name.to_owned())].into(),
            log_path: format!("{name}/0.log"),
            ..Default::default()
        }),
        sandbox_config: None,
    }
}

async fn run_pod(client: &mut Client, name: &str) -> String {
    let request = wire::RunPodSandboxRequest {
        config: Some(pod(name, 0)),
        ..Default::default()
    };
    client
        .run_pod_sandbox(request)
        .await
        .unwrap()
        .into_inner()
        .pod_sandbox_id
}

async fn create(client: &mut Client, sandbox: &str, name: &str, command: &[&str]) -> String {
    client
        .create_container(container(sandbox, name, command))
        .await
        .unwrap()
        .into_inner()
        .container_id
}

async fn start(client: &mut Client, id: &str) -> Result<(), tonic::Status> {
    let request = wire::StartContainerRequest {
        container_id: id.to_owned(),
    };
    client.start_container(request).await.map(|_| ())
}

async fn stop(client: &mut Client, id: &str, timeout: i64) -> Result<(), tonic::Status> {
    client
        .stop_container(wire::StopContainerRequest {
            container_id: id.to_owned(),
            timeout,
        })
        .await
        .map(|_| ())
}

async fn show(
    client: &mut Client,
    id: &str,
) -> Result<(wire::ContainerStatus, u32), tonic::Status> {
    let request = wire::ContainerStatusRequest {
        container_id: id.to_owned(),
        verbose: true,
    };
    let answer = client.container_status(request).await?.into_inner();
    let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
    Ok((
        answer.status.unwrap(),
        u32::try_from(info["pid"].as_u64().unwrap()).unwrap(),
    ))
}

#[tokio::test(start_paused = true)]
async fn a_pod_lives_from_sandbox_to_removal() {
    let (runtime, mut client) = started(StandInConfig::default());
    let sandbox = run_pod(&mut client, "web").await;
    assert_eq!(sandbox.len(), 64);
    let again = wire::RunPodSandboxRequest {
        config: Some(pod("web", 0)),
        ..Default::default()
    };
    let error = client.run_pod_sandbox(again).await.unwrap_err();
    assert_eq!(error.code(), Code::Unknown);
    let reserved = format!("name \"web_default_uid-web_0\" is reserved for {sandbox:?}");
    assert!(error.message().ends_with(&reserved), "{error}");

    let id = create(
        &mut client,
        &sandbox,
        "main",
        &["sh", "-c", "sleep 10; exit 3"],
    )
    .await;
    let error = client
        .create_container(container(&sandbox, "main", &[]))
        .await
        .unwrap_err();
    assert!(error.message().contains("is reserved for"), "{error}");
    let mut unknown = container(&sandbox, "other", &[]);
    unknown
        .config
        .as_mut()
        .unwrap()
        .image
        .as_mut()
        .unwrap()
        .image = "absent".to_owned();
    assert_eq!(
        client.create_container(unknown).await.unwrap_err().code(),
        Code::NotFound
    );

    start(&mut client, &id).await.unwrap();
    let error = start(&mut client, &id).await.unwrap_err();
    assert!(
        error
            .message()
            .ends_with("container is in CONTAINER_RUNNING state"),
        "{error}"
    );
    let (status, pid) = show(&mut client, &id).await.unwrap();
    assert_eq!(status.state(), wire::ContainerState::ContainerRunning);
    assert_eq!(status.log_path, "/var/log/pods/p/main/0.log");
    assert_eq!(
        status.image.unwrap().image,
        "docker.io/library/busybox:latest"
    );

    // The process is gone before the runtime has noted it.
    runtime.exit_of(pid).await;
    assert_eq!(
        show(&mut client, &id).await.unwrap().0.state(),
        wire::ContainerState::ContainerRunning
    );
    tokio::time::sleep(Duration::from_millis(6)).await;
    let (status, pid) = show(&mut client, &id).await.unwrap();
    assert_eq!(
        (status.exit_code, status.reason.as_str(), pid),
        (3, "Error", 0)
    );
    assert_eq!(status.finished_at - status.started_at, 10_000_000_000);

    let request = wire::RemovePodSandboxRequest {
        pod_sandbox_id: sandbox.clone(),
    };
    client.remove_pod_sandbox(request.clone()).await.unwrap();
    client.remove_pod_sandbox(request).await.unwrap();
    assert_eq!(
        show(&mut client, &id).await.unwrap_err().code(),
        Code::NotFound
    );
    runtime.instances(|all| {
        assert_eq!(
            all.iter()
                .map(|instance| instance.ended_by.unwrap())
                .collect::<Vec<_>>(),
            [EndedBy::Remove, EndedBy::Itself]
        );
        assert!(all.iter().all(|instance| instance.removed.is_some()));
    });
}

#[tokio::test(start_paused = true)]
async fn a_stop_takes_its_grace_in_virtual_time_only() {
    let (runtime, mut client) = started(StandInConfig {
        exit_lag: Duration::ZERO,
        ..StandInConfig::default()
    });
    let sandbox = run_pod(&mut client, "web").await;
    let polite = create(&mut client, &sandbox, "polite", &[]).await;
    let stubborn = create(
        &mut client,
        &sandbox,
        "stubborn",
        &["sh", "-c", "trap '' TERM; sleep 1d"],
    )
    .await;
    let real = std::time::Instant::now();
    for (id, took, code) in [(&polite, 0, 143), (&stubborn, 3600, 137)] {
        start(&mut client, id).await.unwrap();
        let begin = Instant::now();
        stop(&mut client, id, 3600).await.unwrap();
        assert_eq!(begin.elapsed().as_secs(), took);
        let (status, _) = show(&mut client, id).await.unwrap();
        assert_eq!((status.exit_code, status.reason.as_str()), (code, "Error"));
        stop(&mut client, id, 3600).await.unwrap();
    }
    assert!(real.elapsed() < Duration::from_secs(5));
    stop(&mut client, "absent", 1).await.unwrap();
    runtime.instances(|all| {
        assert!(
            all[1..]
                .iter()
                .all(|instance| instance.ended_by == Some(EndedBy::StopContainer))
        )
    });
}

#[tokio::test(start_paused = true)]
async fn stopping_a_sandbox_kills_what_is_in_it_and_creates_fail_after() {
    let (_, mut client) = started(StandInConfig::default());
    let sandbox = run_pod(&mut client, "web").await;
    let id = create(&mut client, &sandbox, "main", &[]).await;
    let late = create(&mut client, &sandbox, "late", &[]).await;
    start(&mut client, &id).await.unwrap();
    let request = wire::StopPodSandboxRequest {
        pod_sandbox_id: sandbox.clone(),
    };
    client.stop_pod_sandbox(request.clone()).await.unwrap();
    client.stop_pod_sandbox(request).await.unwrap();
    assert_eq!(show(&mut client, &id).await.unwrap().0.exit_code, 137);
    let request = wire::PodSandboxStatusRequest {
        pod_sandbox_id: sandbox.clone(),
        verbose: true,
    };
    let status = client
        .pod_sandbox_status(request)
        .await
        .unwrap()
        .into_inner()
        .status
        .unwrap();
    assert_eq!(status.state(), wire::PodSandboxState::SandboxNotready);
    let error = client
        .create_container(container(&sandbox, "new", &[]))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    start(&mut client, &late).await.unwrap_err();
    let (status, _) = show(&mut client, &late).await.unwrap();
    assert_eq!(
        (status.exit_code, status.reason.as_str()),
        (128, "StartError")
    );
}

#[tokio::test(start_paused = true)]
async fn filters_narrow_lists() {
    let (_, mut client) = started(StandInConfig::default());
    let mut sandboxes = Vec::new();
    for name in ["a", "b", "c"] {
        let sandbox = run_pod(&mut client, name).await;
        let one = create(&mut client, &sandbox, "one", &[]).await;
        create(&mut client, &sandbox, "two", &[]).await;
        start(&mut client, &one).await.unwrap();
        sandboxes.push(sandbox);
    }
    let running = wire::ContainerStateValue {
        state: wire::ContainerState::ContainerRunning.into(),
    };
    let filters = [
        (wire::ContainerFilter::default(), 6),
        (
            wire::ContainerFilter {
                state: Some(running),
                ..Default::default()
            },
            3,
        ),
        (
            wire::ContainerFilter {
                pod_sandbox_id: sandboxes[1].clone(),
                ..Default::default()
            },
            2,
        ),
        (
            wire::ContainerFilter {
                label_selector: [("name".into(), "two".into())].into(),
                ..Default::default()
            },
            3,
        ),
        (
            wire::ContainerFilter {
                id: "absent".to_owned(),
                ..Default::default()
            },
            0,
        ),
    ];
    for (filter, count) in filters {
        let request = wire::ListContainersRequest {
            filter: Some(filter.clone()),
        };
        let answer = client.list_containers(request).await.unwrap().into_inner();
        assert_eq!(answer.containers.len(), count, "{filter:?}");
    }
    let request = wire::StopPodSandboxRequest {
        pod_sandbox_id: sandboxes[0].clone(),
    };
    client.stop_pod_sandbox(request).await.unwrap();
    let ready = wire::PodSandboxStateValue {
        state: wire::PodSandboxState::SandboxReady.into(),
    };
    let filter = wire::PodSandboxFilter {
        state: Some(ready),
        ..Default::default()
    };
    let request = wire::ListPodSandboxRequest {
        filter: Some(filter),
    };
    assert_eq!(
        client
            .list_pod_sandbox(request)
            .await
            .unwrap()
            .into_inner()
            .items
            .len(),
        2
    );
}

/// One try at the life of a pod under faults; `None` before anything was started.
async fn live(client: &mut Client, attempt: u32) -> Option<()> {
    let request = wire::RunPodSandboxRequest {
        config: Some(pod("web", attempt)),
        ..Default::default()
    };
    let limit = Duration::from_secs(120);
    let answer = tokio::time::timeout(limit, client.run_pod_sandbox(request))
        .await
        .ok()?
        .ok()?;
    let sandbox = answer.into_inner().pod_sandbox_id;
    let mut request = container(&sandbox, "main", &["sleep", "90"]);
    let metadata = request.config.as_mut()?.metadata.as_mut()?;
    metadata.attempt = attempt;
    let answer = tokio::time::timeout(limit, client.create_container(request))
        .await
        .ok()?
        .ok()?;
    let id = answer.into_inner().container_id;
    drop(tokio::time::timeout(limit, start(client, &id)).await);
    drop(tokio::time::timeout(limit, stop(client, &id, 30)).await);
    let request = wire::RemovePodSandboxRequest {
        pod_sandbox_id: sandbox,
    };
    drop(tokio::time::timeout(limit, client.remove_pod_sandbox(request)).await);
    Some(())
}

/// Pods come and go under faults by a client that tries three times; the trace of it, and the faults.
async fn bad_day(seed: u64) -> (String, String) {
    let (runtime, mut client) = started(StandInConfig {
        seed,
        ..StandInConfig::default()
    });
    runtime.set_faults(FaultPlan::new(
        seed,
        FaultRates {
            crash: 200,
            cut: 200,
            ..FaultRates::chaos()
        },
    ));
    for round in 0..40 {
        for _ in 0..3 {
            if live(&mut client, round).await.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
    }
    runtime.instances(|all| {
        assert!(all.len() > 40, "{}", all.len());
        let containers: Vec<_> = all
            .iter()
            .filter(|instance| !instance.name.is_empty())
            .cloned()
            .collect();
        assert_eq!(repeated_attempts(&containers), []);
    });
    (
        runtime.trace_text(),
        runtime.faults(|plan| plan.to_string()),
    )
}

#[test]
fn a_seed_gives_the_same_trace_byte_for_byte() {
    let run = |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(bad_day(seed))
    };
    for seed in 1..6 {
        let (trace, faults) = run(seed);
        let (again, faults_again) = run(seed);
        let first = trace
            .lines()
            .zip(again.lines())
            .find(|(one, two)| one != two);
        assert_eq!(first, None, "seed {seed}");
        assert_eq!((trace.len(), &faults), (again.len(), &faults_again));
        println!("seed {seed}: {} lines, {faults}", trace.lines().count());
    }
    assert_ne!(run(1).0, run(2).0);
}

#[tokio::test(start_paused = true)]
async fn containers_outlive_a_crash_of_the_runtime_and_clients_reconnect() {
    let (runtime, mut client) = started(StandInConfig::default());
    let sandbox = run_pod(&mut client, "web").await;
    let ids = [
        create(&mut client, &sandbox, "long", &[]).await,
        create(&mut client, &sandbox, "short", &["sleep", "5"]).await,
    ];
    for id in &ids {
        start(&mut client, id).await.unwrap();
    }
    runtime.crash(Duration::from_secs(30), CrashScope::Runtime);
    // The first call meets the dead connection, the second finds nobody to connect to.
    let codes = [
        show(&mut client, &ids[0]).await,
        show(&mut client, &ids[0]).await,
    ]
    .map(|it| it.unwrap_err().code());
    assert_eq!(codes, [Code::Cancelled, Code::Unavailable]);
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(
        show(&mut client, &ids[0]).await.unwrap().0.state(),
        wire::ContainerState::ContainerRunning
    );
    let (short, _) = show(&mut client, &ids[1]).await.unwrap();
    assert_eq!(
        (short.exit_code, short.finished_at - short.started_at),
        (0, 5_000_000_000)
    );
    runtime.crash(Duration::from_secs(1), CrashScope::Node);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (long, _) = show(&mut client, &ids[0]).await.unwrap();
    assert_eq!((long.exit_code, long.reason.as_str()), (255, "Unknown"));
}

#[tokio::test(start_paused = true)]
async fn scripted_faults_lose_answers_and_repeat_effects() {
    let (runtime, mut client) = started(StandInConfig::default());
    let plan = FaultPlan::default()
        .at("RunPodSandbox", 1, Fault::LoseAnswer(Code::Unavailable))
        .at("RunPodSandbox", 2, Fault::Twice)
        .at("Version", 1, Fault::Delay(Duration::from_secs(7)));
    runtime.set_faults(plan);
    let request = |name| wire::RunPodSandboxRequest {
        config: Some(pod(name, 0)),
        ..Default::default()
    };
    assert_eq!(
        client
            .run_pod_sandbox(request("a"))
            .await
            .unwrap_err()
            .code(),
        Code::Unavailable
    );
    let error = client.run_pod_sandbox(request("b")).await.unwrap_err();
    assert!(error.message().contains("is reserved for"), "{error}");
    assert_eq!(runtime.instances(<[_]>::len), 2);
    let begin = Instant::now();
    client
        .version(wire::VersionRequest::default())
        .await
        .unwrap();
    assert_eq!(begin.elapsed().as_secs(), 7);
    assert_eq!(
        runtime.faults(|plan| plan.to_string()),
        "delay 1, lose answer 1, twice 1"
    );
}

#[tokio::test(start_paused = true)]
async fn events_come_when_switched_on_and_faults_swap_them() {
    let (_, mut client) = started(StandInConfig::default());
    let error = client
        .get_container_events(wire::GetEventsRequest {})
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    assert_eq!(
        client
            .runtime_config(wire::RuntimeConfigRequest {})
            .await
            .unwrap_err()
            .code(),
        Code::Unimplemented
    );

    let (runtime, mut client) = started(StandInConfig {
        events: true,
        ..StandInConfig::default()
    });
    let sandbox = run_pod(&mut client, "web").await;
    let mut events = client
        .get_container_events(wire::GetEventsRequest {})
        .await
        .unwrap()
        .into_inner();
    runtime.set_faults(FaultPlan::default().at_event(1, EventFault::Swap));
    let id = create(&mut client, &sandbox, "main", &["sleep", "5"]).await;
    start(&mut client, &id).await.unwrap();
    let mut kinds = Vec::new();
    for _ in 0..3 {
        let event = events.message().await.unwrap().unwrap();
        assert_eq!(
            (event.container_id.as_str(), event.containers_statuses.len()),
            (id.as_str(), 1)
        );
        kinds.push(event.container_event_type().as_str_name());
    }
    assert_eq!(
        kinds,
        [
            "CONTAINER_STARTED_EVENT",
            "CONTAINER_CREATED_EVENT",
            "CONTAINER_STOPPED_EVENT"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn pulls_take_their_time_and_fail_as_scripted() {
    let (runtime, _) = started(StandInConfig::default());
    let mut images = ImageServiceClient::new(runtime.connect());
    runtime.set_scripts(|scripts| {
        scripts.pull = std::sync::Arc::new(|_, nth| super::behaviour::PullOutcome {
            latency: Duration::from_secs(20),
            failure: (nth == 1).then(|| (Code::NotFound, "no such image".to_owned())),
            ..Default::default()
        });
    });
    let spec = Some(wire::ImageSpec {
        image: "example.org/a:1".to_owned(),
        ..Default::default()
    });
    let pull = wire::PullImageRequest {
        image: spec.clone(),
        ..Default::default()
    };
    assert_eq!(
        images.pull_image(pull.clone()).await.unwrap_err().message(),
        "no such image"
    );
    let begin = Instant::now();
    let image_ref = images
        .pull_image(pull)
        .await
        .unwrap()
        .into_inner()
        .image_ref;
    assert_eq!(begin.elapsed().as_secs(), 20);
    let request = wire::ImageStatusRequest {
        image: spec.clone(),
        verbose: false,
    };
    let image = images
        .image_status(request.clone())
        .await
        .unwrap()
        .into_inner()
        .image
        .unwrap();
    assert_eq!(
        (image.id, image.repo_tags),
        (image_ref, vec!["example.org/a:1".to_owned()])
    );
    images
        .remove_image(wire::RemoveImageRequest { image: spec })
        .await
        .unwrap();
    assert!(
        images
            .image_status(request)
            .await
            .unwrap()
            .into_inner()
            .image
            .is_none()
    );
    assert_eq!(
        images
            .list_images(wire::ListImagesRequest::default())
            .await
            .unwrap()
            .into_inner()
            .images
            .len(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn forty_thousand_containers_list_quickly() {
    let (runtime, mut client) = started(StandInConfig {
        trace: false,
        ..StandInConfig::default()
    });
    for number in 0..1000 {
        let request = wire::RunPodSandboxRequest {
            config: Some(pod(&format!("p{number}"), 0)),
            ..Default::default()
        };
        let mut state = runtime.lock();
        let sandbox = state.run_sandbox(&request).unwrap();
        for name in 0..40 {
            let id = state
                .create_container(&container(&sandbox, &format!("c{name}"), &[]))
                .unwrap();
            state.start_container(&id).unwrap();
        }
    }
    let real = std::time::Instant::now();
    let answer = client
        .list_containers(wire::ListContainersRequest::default())
        .await
        .unwrap();
    assert_eq!(answer.into_inner().containers.len(), 40_000);
    let listed = real.elapsed();
    let filter = Some(wire::ContainerFilter {
        pod_sandbox_id: runtime.instances(|all| all[0].id.clone()),
        ..Default::default()
    });
    let real = std::time::Instant::now();
    for _ in 0..1000 {
        client
            .list_containers(wire::ListContainersRequest {
                filter: filter.clone(),
            })
            .await
            .unwrap();
    }
    println!(
        "40,000 listed in {listed:?}; 1,000 scoped lists in {:?}",
        real.elapsed()
    );
    assert!(listed < Duration::from_secs(10), "{listed:?}");
}

#[tokio::test(start_paused = true)]
async fn two_at_once_and_one_attempt_twice_are_found() {
    let (runtime, mut client) = started(StandInConfig::default());
    let sandbox = run_pod(&mut client, "web").await;
    let id = create(&mut client, &sandbox, "main", &["sleep", "5"]).await;
    start(&mut client, &id).await.unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let first = runtime.instances(|all| all[1].clone());
    let mut second = first.clone();
    second.started = first.ended;
    second.ended = None;
    assert_eq!(
        repeated_attempts(&[first.clone(), second.clone()]),
        [(0, 1)]
    );
    assert_eq!(overlapping(&[first.clone(), second.clone()]), []);
    second.started = first.started;
    assert_eq!(overlapping(&[first, second]), [(0, 1)]);
}

#[tokio::test]
async fn a_unix_socket_serves_the_same_without_pids() {
    let (runtime, _) = started(StandInConfig {
        pids: false,
        ..StandInConfig::default()
    });
    let path = std::env::temp_dir().join(format!("stand-in-{}.sock", std::process::id()));
    let socket = path.clone();
    let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        let stream = tokio::net::UnixStream::connect(socket.clone());
        async move { stream.await.map(hyper_util::rt::TokioIo::new) }
    });
    let calls = async {
        let channel = tonic::transport::Endpoint::from_static("http://unix.invalid")
            .connect_with_connector_lazy(connector);
        let mut client = RuntimeServiceClient::new(channel);
        let sandbox = run_pod(&mut client, "web").await;
        let id = create(&mut client, &sandbox, "main", &[]).await;
        start(&mut client, &id).await.unwrap();
        show(&mut client, &id).await.unwrap().1
    };
    let pid = tokio::select! {
        biased;
        // The first poll binds the socket before the first connection.
        result = runtime.serve_unix(&path) => panic!("{result:?}"),
        pid = calls => pid,
    };
    assert_eq!(pid, 0);
    std::fs::remove_file(path).unwrap();
}
