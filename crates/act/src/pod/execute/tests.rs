//! What ends a step early, and what it leaves to the next.
//!
//! Upstream: none

use std::sync::{Arc, mpsc};

use futures_util::poll;
use k8s_openapi::api::core::v1;
use kubelet_decide::shapes::env_files::EnvFileRead;
use kubelet_decide::shapes::life::TerminationCause;
use kubelet_decide::shapes::plan::{StopContainer, StopWhy};
use kubelet_decide::shapes::work::SetUp;
use kubelet_host::HostRoot;
use kubelet_host::blocking::{About, Blocking};
use kubelet_host::remove::Kept;
use kubelet_model::pod::SourceKind;
use prometheus::Registry;
use serde_json::json;
use testkit::cri::{StandInConfig, StandInRuntime};
use testkit::faults::Fault;
use tonic::Code;

use super::ends::{is_untold, less_grace_is_ordered};
use super::*;
use crate::images::PullLimits;
use crate::images::pull_credentials::NodeCredentials;
use crate::testing::Scratch;

fn pod() -> Arc<Pod> {
    let object = json!({
        "metadata": {"name": "p", "namespace": "default", "uid": "u"},
        "spec": {"containers": [{"name": "main", "image": "i"}]},
    });
    let object: v1::Pod = serde_json::from_value(object).unwrap();
    Arc::new(Pod::new(Arc::new(object), SourceKind::Api, Vec::new()).unwrap())
}

fn order(desire: Desire) -> Order {
    Order { pod: pod(), desire }
}

fn stop() -> Desire {
    Desire::Stop {
        cause: TerminationCause::Removed,
        grace_seconds: None,
    }
}

/// A pull asks for any newer order; a wait for one kind of order before it must not have taken the others away.
#[tokio::test]
async fn an_order_that_ends_no_wait_is_still_new_to_the_next_step() {
    let (sender, orders) = watch::channel(order(Desire::Run));
    {
        let mut stops = std::pin::pin!(stop_is_ordered(&orders));
        let mut is_less = std::pin::pin!(less_grace_is_ordered(&orders, 30));
        assert!(poll!(&mut stops).is_pending() && poll!(&mut is_less).is_pending());
        sender.send(order(Desire::Run)).unwrap();
        assert!(poll!(&mut stops).is_pending() && poll!(&mut is_less).is_pending());
    }
    assert!(orders.has_changed().unwrap());
    let mut stops = std::pin::pin!(stop_is_ordered(&orders));
    sender.send(order(stop())).unwrap();
    assert!(poll!(&mut stops).is_ready());
    assert!(orders.has_changed().unwrap());
}

fn executor(scratch: &Scratch, blocking: Blocking) -> Executor {
    executor_over(
        scratch,
        blocking,
        &StandInRuntime::new(StandInConfig::default()),
    )
}

fn executor_over(scratch: &Scratch, blocking: Blocking, runtime: &StandInRuntime) -> Executor {
    let registry = Registry::new();
    let channel = runtime.connect();
    let timeouts = kubelet_cri::Timeouts {
        request: Duration::from_secs(60),
    };
    let metrics = kubelet_cri::Metrics::new(&registry).unwrap();
    let cri = Client::from_channels(channel.clone(), channel, timeouts, metrics);
    let root = HostRoot::at(scratch.path());
    let credentials = NodeCredentials::new(root.clone(), Blocking::Inline, "/kubelet", None, None);
    let limits = PullLimits {
        parallel: None,
        qps: 0,
        burst: 0,
    };
    Executor {
        hooks: Hooks::new(&cri, &Events::logged("n"), &registry).unwrap(),
        images: Images::new(cri.clone(), credentials, limits, &registry).unwrap(),
        cri,
        host: Host {
            root,
            blocking,
            cgroups: None,
            container_logs_dir: "/links".into(),
            kept: Kept::default(),
        },
        clock: Clock::system(),
        timeline: Timeline::default(),
        width: StartWidth::new(1),
        events: Events::logged("n"),
        faults: Faults::none(),
    }
}

#[tokio::test]
async fn a_pod_that_is_to_stop_does_not_wait_for_the_files_of_its_variables() {
    let scratch = Scratch::new();
    let blocking = Blocking::threads(1);
    let executor = executor(&scratch, blocking.clone());
    let (release, held) = mpsc::channel::<()>();
    let busy = blocking.lane(Lane::Reads);
    let hour = Duration::from_secs(3600);
    let mut hangs = std::pin::pin!(busy.run_about(About::the("x"), hour, "read", move || {
        held.recv().unwrap_err();
    }));
    assert!(poll!(&mut hangs).is_pending());
    let (sender, orders) = watch::channel(order(Desire::Run));
    let pod = pod();
    let reads = vec![EnvFileRead {
        index: 0,
        volume_path: "/v".to_owned(),
        path: "f".to_owned(),
        key: "K".to_owned(),
        optional: false,
    }];
    let mut read = std::pin::pin!(executor.read_env_files(&pod, "main".into(), reads, &orders));
    assert!(poll!(&mut read).is_pending());
    sender.send(order(Desire::Run)).unwrap();
    assert!(poll!(&mut read).is_pending());
    sender.send(order(stop())).unwrap();
    assert!(matches!(
        poll!(&mut read),
        std::task::Poll::Ready(Outcome::GivenUp)
    ));
    drop(release);
    hangs.await.unwrap();
}

/// Of two stops that fail, the first failure does not speak for the second.
#[tokio::test]
async fn of_stops_that_fail_together_each_keeps_what_is_known_of_it() {
    let container = |name: &str| ContainerId::from(name);
    let failure = |code| Fault::FailBefore(code);
    let stop_of = |name: &str| StopContainer {
        id: container(name),
        name: name.to_owned(),
        grace_seconds: 90,
        hook: None,
        after: Vec::new(),
        why: StopWhy::Unwanted,
    };
    for (faults, is_open, untold) in [
        (
            vec![failure(Code::Unknown), failure(Code::Unavailable)],
            true,
            vec!["a"],
        ),
        (
            vec![failure(Code::Unavailable), failure(Code::Unknown)],
            true,
            vec!["b"],
        ),
        (
            vec![failure(Code::Unknown), failure(Code::Unknown)],
            false,
            vec!["a", "b"],
        ),
    ] {
        let scratch = Scratch::new();
        let runtime = StandInRuntime::new(StandInConfig::default());
        let executor = executor_over(&scratch, Blocking::Inline, &runtime);
        runtime.faults(|plan| {
            for (call, fault) in (1..).zip(faults) {
                plan.add("StopContainer", call, fault);
            }
        });
        let plan = PodPlan {
            steps: vec![Step {
                why: "ends".to_owned(),
                action: Action::StopContainers(vec![stop_of("a"), stop_of("b")]),
                on_failure: OnFailure::EndPlan,
            }],
            ..PodPlan::default()
        };
        let (_sender, mut orders) = watch::channel(order(Desire::Run));
        let (done_hooks, _ended) = tokio::sync::mpsc::unbounded_channel();
        let executed = executor
            .execute(&pod(), plan, &mut orders, &done_hooks)
            .await;
        let [outcome] = &executed.outcomes[..] else {
            panic!("{executed:?}");
        };
        assert_eq!(
            matches!(outcome, Outcome::Unknown(_)),
            is_open,
            "{outcome:?}"
        );
        let untold: Vec<_> = untold.into_iter().map(container).collect();
        assert_eq!(outcome.unstopped(), untold, "{outcome:?}");
    }
}

#[test]
fn a_refusal_that_comes_late_may_follow_a_stop_that_was_begun() {
    let operation = "stop_container";
    let refused = CriError::Refused {
        operation,
        code: Code::Unknown,
        message: "failed to kill".to_owned(),
    };
    let (soon, late) = (Duration::from_millis(20), Duration::from_secs(10));
    let after = late;
    let lost = CriError::Deadline { operation, after };
    assert!(is_untold(&refused, soon));
    assert!(!is_untold(&refused, late));
    assert!(!is_untold(&lost, soon));
}

/// One volume that fails keeps the pod from its sandbox, and no other volume from standing.
#[tokio::test]
async fn the_other_volumes_are_set_up_when_one_fails() {
    let scratch = Scratch::new();
    let executor = executor(&scratch, Blocking::Inline);
    let step = |action, on_failure| Step {
        why: "first start".to_owned(),
        action,
        on_failure,
    };
    let host_path = |volume: &str, kind: &str| {
        let work = HostWork::HostPath {
            volume: volume.to_owned(),
            path: format!("/srv/{volume}"),
            kind: kind.to_owned(),
        };
        let work = VolumeWork {
            volume: volume.to_owned(),
            work: vec![work],
            makes: SetUp::Directory,
        };
        step(Action::SetUpVolume(work), OnFailure::EndAfterVolumes)
    };
    let sandbox = Action::RunSandbox(Box::default());
    let plan = PodPlan {
        steps: vec![
            host_path("missing", "Directory"),
            host_path("made", "DirectoryOrCreate"),
            step(sandbox, OnFailure::EndPlan),
        ],
        ..PodPlan::default()
    };
    let (_sender, mut orders) = watch::channel(order(Desire::Run));
    let (done_hooks, _ended) = tokio::sync::mpsc::unbounded_channel();
    let pod = pod();
    let executed = executor.execute(&pod, plan, &mut orders, &done_hooks);
    let executed = executed.await;
    let [Outcome::Failed(failure), Outcome::Done(effect)] = &executed.outcomes[..] else {
        panic!("{executed:?}");
    };
    assert_eq!(failure.of, Subject::Volume("missing".to_owned()));
    assert!(
        matches!(effect, Effect::VolumeSetUp(name, _) if name == "made"),
        "{effect:?}"
    );
    assert!(scratch.path().join("srv/made").is_dir());
    assert!(executed.look.is_none(), "no sandbox was asked for");
}
