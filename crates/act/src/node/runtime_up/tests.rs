//! The check against the stand-in runtime under paused time; conditions as a table.
//!
//! Upstream: none

use kubelet_cri::{Metrics, Timeouts};
use testkit::cri::{StandInConfig, StandInRuntime};

use super::*;
use crate::frame::clock::Clock;
use crate::frame::reconciler::Reconcilers;
use crate::frame::supervisor::Supervisor;

fn client(runtime: &StandInRuntime) -> Client {
    let timeouts = Timeouts {
        request: Duration::from_secs(2),
    };
    let metrics = Metrics::new(&Registry::new()).unwrap();
    Client::from_channels(runtime.connect(), runtime.connect(), timeouts, metrics)
}

fn condition(kind: &str, status: bool) -> wire::RuntimeCondition {
    wire::RuntimeCondition {
        r#type: kind.to_owned(),
        status,
        reason: "R".to_owned(),
        message: "m".to_owned(),
    }
}

fn answer(conditions: Vec<wire::RuntimeCondition>) -> wire::StatusResponse {
    wire::StatusResponse {
        status: Some(wire::RuntimeStatus { conditions }),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn conditions_are_told_in_upstreams_words() {
    let now = Instant::now();
    let start = RuntimeState::default();
    let never = "container runtime status check may not have completed yet";
    assert_eq!(start.errors(now), [never, "network state unknown"]);
    let cases = [
        (
            vec![
                condition("RuntimeReady", true),
                condition("NetworkReady", true),
            ],
            vec![],
        ),
        (
            vec![
                condition("RuntimeReady", true),
                condition("NetworkReady", false),
            ],
            vec!["container runtime network not ready: NetworkReady=false reason:R message:m"],
        ),
        (
            vec![condition("NetworkReady", true)],
            vec![never, "container runtime not ready: <nil>"],
        ),
        (
            vec![
                condition("RuntimeReady", false),
                condition("NetworkReady", true),
            ],
            vec![
                never,
                "container runtime not ready: RuntimeReady=false reason:R message:m",
            ],
        ),
    ];
    for (conditions, expected) in cases {
        assert_eq!(start.after(answer(conditions), now).errors(now), expected);
    }
    let up = start.after(
        answer(vec![
            condition("RuntimeReady", true),
            condition("NetworkReady", true),
        ]),
        now,
    );
    assert_eq!(up.errors(now + DOWN_AFTER), ["container runtime is down"]);
    assert_eq!(up.network(), NetworkState::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_comes_goes_and_returns_is_followed() {
    let runtime = StandInRuntime::new(StandInConfig::default());
    runtime.crash(Duration::from_secs(12), testkit::cri::CrashScope::Runtime);
    let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
    let supervisor = Supervisor::new(clock);
    let reconcilers = Reconcilers::new(supervisor, clock, 1, &Registry::new()).unwrap();
    let check = RuntimeUp::new(client(&runtime), "unix:///run/x.sock");
    let (state, mut network) = (check.state(), check.network());
    let handlers = check.handlers();
    reconcilers.spawn(check, RuntimeUp::pace());
    tokio::time::sleep(Duration::from_secs(6)).await;
    let error = reconcilers.to_json()["counter"].to_string()
        + &reconcilers.to_json()["runtime_up"]["error"].to_string();
    assert!(
        error.contains("container runtime unix:///run/x.sock: sanity check failed"),
        "{error}"
    );
    assert!(!network.has_changed().unwrap());
    assert_eq!(*handlers.borrow(), None);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(*network.borrow_and_update(), NetworkState::Ready);
    assert!(state.borrow().errors(Instant::now()).is_empty());
    assert!(handlers.borrow().is_some());
    runtime.crash(Duration::from_secs(3600), testkit::cri::CrashScope::Runtime);
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(
        state.borrow().errors(Instant::now()),
        ["container runtime is down"]
    );
    assert!(
        !network.has_changed().unwrap(),
        "what is not known does not change"
    );
}

#[tokio::test(start_paused = true)]
async fn a_runtime_without_the_call_leaves_the_driver_to_the_configuration() {
    let runtime = StandInRuntime::new(StandInConfig::default());
    let registry = Registry::new();
    let driver = cgroup_driver(&client(&runtime), "x", CgroupDriver::Cgroupfs, &registry).await;
    assert_eq!(driver.unwrap(), CgroupDriver::Cgroupfs);
    assert_eq!(registry.gather()[0].name(), "kubelet_cri_losing_support");
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_is_not_there_is_asked_three_times_and_named() {
    let runtime = StandInRuntime::new(StandInConfig::default());
    runtime.crash(Duration::from_secs(3600), testkit::cri::CrashScope::Runtime);
    let began = Instant::now();
    let error = cgroup_driver(
        &client(&runtime),
        "unix:///run/x.sock",
        CgroupDriver::Cgroupfs,
        &Registry::new(),
    )
    .await
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "container runtime unix:///run/x.sock: cannot ask for its cgroup driver"
    );
    assert!(began.elapsed() >= DRIVER_WAIT * 2);
}

#[test]
fn handlers_count_by_what_they_say_they_can() {
    let handler = |name: &str, features: Option<bool>| wire::RuntimeHandler {
        name: name.to_owned(),
        features: features.map(|recursive_read_only_mounts| wire::RuntimeHandlerFeatures {
            recursive_read_only_mounts,
            ..Default::default()
        }),
    };
    let state = RuntimeState {
        handlers: vec![
            handler("", Some(true)),
            handler("kata", Some(false)),
            handler("old", None),
        ],
        ..RuntimeState::default()
    };
    assert_eq!(
        handlers(&state),
        RuntimeHandlers {
            recursive_read_only: [String::new()].into(),
            strict_groups: false,
        }
    );
    for strict in [false, true] {
        let state = RuntimeState {
            features: Some(wire::RuntimeFeatures {
                supplemental_groups_policy: strict,
                ..Default::default()
            }),
            ..RuntimeState::default()
        };
        assert_eq!(handlers(&state).strict_groups, strict);
    }
}
