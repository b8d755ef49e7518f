//! Every decision on an event against what the Go kubelet sent, then the texts that were not recorded, then the waits.
//!
//! In:    `parity/events.json`: recorded events, each text once
//! Out:   –
//! Calls: cargo test
//! Holds: a recorded event that nothing here decides on fails the first test
//! Upstream: pkg/kubelet/images/image_manager_test.go, kuberuntime/kuberuntime_container_test.go (texts)

use kubelet_api::runtime::v1 as cri;
use kubelet_model::ids::ContainerId;
use kubelet_model::objects::PodObjects;
use serde_json::{Value, json};

use super::*;
use crate::shapes::plan::{OnFailure, Step};
use crate::testing::seen::Seen;
use crate::testing::{node, pod, pod_of};

const BUSYBOX: &str = "registry.k8s.io/e2e-test-images/busybox:1.37.0-1";

fn shown(event: &PodEvent) -> Value {
    json!({"kind": "Pod", "reason": event.reason, "type": event.type_.as_str(), "message": event.message,
           "fieldPath": event.field_path})
}

fn shown_node(event: &NodeEvent) -> Value {
    json!({"kind": "Node", "reason": event.reason, "type": event.type_.as_str(), "message": event.message,
           "fieldPath": null})
}

fn stop(name: &str, why: StopWhy) -> StopContainer {
    StopContainer {
        id: ContainerId::from("0123"),
        name: name.to_owned(),
        grace_seconds: 30,
        hook: None,
        after: Vec::new(),
        why,
    }
}

fn sandbox_plan(pod: &Pod, attempt: u32) -> PodPlan {
    let config = crate::container::sandbox_config::sandbox_config(pod, &node(), attempt).unwrap();
    let request = cri::RunPodSandboxRequest {
        config: Some(config),
        runtime_handler: String::new(),
    };
    PodPlan {
        steps: vec![Step {
            why: String::new(),
            action: Action::RunSandbox(Box::new(request)),
            on_failure: OnFailure::EndPlan,
        }],
        ..PodPlan::default()
    }
}

fn waits(pod: &Pod, told: &mut ToldWaits, plan: &PodPlan, failed: Option<&Waiting>) -> Vec<Value> {
    let mut seen = Seen::new(pod.clone(), PodObjects::default());
    seen.memory.retry.waiting = failed.cloned();
    let events = seen.see(|view| told.events(view, plan));
    events.iter().map(shown).collect()
}

fn container_waits(name: &str, reason: Reason, message: &str) -> PodPlan {
    let message = message.to_owned();
    PodPlan {
        waiting: vec![(name.to_owned(), Waiting { reason, message })],
        ..PodPlan::default()
    }
}

fn pod_waits(reason: Reason, message: &str) -> PodPlan {
    let message = message.to_owned();
    PodPlan {
        pod_waiting: Some(Waiting { reason, message }),
        ..PodPlan::default()
    }
}

/// What follows from what happened in the recorded run.
fn decided() -> Vec<Value> {
    let host = pod_of("{hostNetwork: true, containers: [{name: b}]}");
    let burstable = pod(
        "metadata: {name: burstable, uid: e805623d-b404-4eaa-845e-047a124e858f}\n\
         spec: {initContainers: [{name: init1}, {name: side}], containers: [{name: main}]}",
    );
    let crasher = pod(
        "metadata: {name: crasher, uid: d3d76e7d-6463-4525-83cb-a0eadb1bd2d6}\nspec: {containers: [{name: c}]}",
    );
    let id = "40991f652f707d0f4207dbd9757f17f15c6555ee4842e2a45419474aeb957277";
    // The id is not known to whoever asked for it: creation failed, and the runtime's text keeps it.
    let refused = format!(
        "rpc error: code = Unknown desc = failed to generate container \"{id}\" spec: failed to generate spec: path \"/srv/demo/hp\" \
         is mounted on \"/\" but it is not a shared or slave mount"
    );
    let (of_pod, of_node) = plan_events(&burstable, &node(), &sandbox_plan(&burstable, 0));
    let back_off = container_waits("c", Reason::CrashLoopBackOff, "back-off 10s …");
    let image = "example.invalid/none:1";
    let mut events = vec![
        shown_node(&starting()),
        shown_node(&cgroup_version(&node()).unwrap()),
        shown_node(&limits_enforced("pods")),
    ];
    events.extend(of_node.iter().map(shown_node));
    let of_containers = [
        image_event((&host, "b"), BUSYBOX, ImageMoment::Present),
        created(&host, "b"),
        started(&host, "b"),
    ];
    events.extend(of_containers.iter().flatten().map(shown));
    events.extend(of_pod.iter().map(shown));
    let of_containers = [
        start_failed(&burstable, "main", None, &refused),
        killing(&burstable, &stop("side", StopWhy::Unwanted)),
    ];
    events.extend(of_containers.iter().flatten().map(shown));
    events.extend(waits(&crasher, &mut ToldWaits::default(), &back_off, None));
    let of_containers = [
        image_event((&crasher, "c"), image, ImageMoment::Pulling),
        image_event((&crasher, "c"), image, ImageMoment::HeldBack),
    ];
    events.extend(of_containers.iter().flatten().map(shown));
    events
}

#[test]
fn what_happened_in_the_recorded_run_is_told_in_its_words() {
    let recorded = include_str!("../../../../../parity/events.json");
    let recorded: Vec<Value> = serde_json::from_str(recorded).unwrap();
    // Those of the node's conditions are decided on with the conditions: node_status.
    let is_condition = |event: &Value| {
        let message = event["message"].as_str().unwrap();
        message.starts_with("Node bench status is now: ")
    };
    let recorded: Vec<Value> = recorded
        .iter()
        .filter(|event| !is_condition(event))
        .map(|event| {
            json!({"kind": event["kind"], "reason": event["reason"], "type": event["type"],
                   "message": event["message"], "fieldPath": event["fieldPath"]})
        })
        .collect();
    assert_eq!(decided(), recorded);
}

#[test]
fn images_are_told_of_in_upstreams_words() {
    let pod = pod_of("{containers: [{name: c}]}");
    let rows = [
        (
            ImageMoment::Pulled {
                took: Duration::from_micros(1_250_999),
                with_waiting: Duration::from_millis(62_500),
                size: 4_261_574,
            },
            "Normal Pulled Successfully pulled image \"a:1\" in 1.25s (1m2.5s including waiting). Image size: 4261574 bytes.",
        ),
        (
            ImageMoment::Pulled {
                took: Duration::from_micros(999),
                with_waiting: Duration::from_millis(340),
                size: 0,
            },
            "Normal Pulled Successfully pulled image \"a:1\" in 0s (340ms including waiting). Image size: 0 bytes.",
        ),
        (
            ImageMoment::PullFailed("rpc error: code = NotFound desc = no such image"),
            "Warning Failed Failed to pull image \"a:1\": rpc error: code = NotFound desc = no such image",
        ),
        (
            ImageMoment::NeverPulled,
            "Warning ErrImageNeverPull Container image \"a:1\" is not present with pull policy of Never",
        ),
        (
            ImageMoment::BadName("Failed to apply …"),
            "Warning InspectFailed Failed to apply …",
        ),
        (
            ImageMoment::NotInspected("Failed to inspect …"),
            "Warning InspectFailed Failed to inspect …",
        ),
    ];
    for (moment, expected) in rows {
        let event = image_event((&pod, "c"), "a:1", moment).unwrap();
        let told = format!(
            "{} {} {}",
            event.type_.as_str(),
            event.reason,
            event.message
        );
        assert_eq!(told, expected);
    }
    let refused = start_failed(&pod, "c", None, Reason::ErrImagePull.as_str()).unwrap();
    assert_eq!(refused.message, "Error: ErrImagePull");
}

#[test]
fn an_events_place_is_the_containers_in_the_spec_and_an_id_is_never_told() {
    let known = pod_of("{initContainers: [{name: i}], containers: [{name: c}]}");
    let orphan = pod_of("{containers: []}");
    let rows = [
        (&known, "c", Some("spec.containers{c}")),
        (&known, "i", Some("spec.initContainers{i}")),
        (&known, "x", None),
        (&orphan, "x", Some("spec.containers{x}")),
    ];
    for (pod, name, expected) in rows {
        assert_eq!(field_path(pod, name).as_deref(), expected, "{name}");
    }
    assert_eq!(killing(&known, &stop("x", StopWhy::Unwanted)), None);
    let event = start_failed(&known, "c", Some("abc123"), "OCI: abc123: no such file").unwrap();
    assert_eq!(event.message, "Error: OCI: c: no such file");
    let late = "rpc error: code = DeadlineExceeded desc = context deadline exceeded";
    let event = start_failed(&known, "c", Some(""), late).unwrap();
    assert_eq!(event.message, "Error: context deadline exceeded");
}

#[test]
fn a_stop_says_what_for_and_what_of_it_failed() {
    let pod = pod_of("{initContainers: [{name: i}], containers: [{name: c}]}");
    let rows = [
        ("c", StopWhy::Unwanted, "Stopping container c"),
        (
            "c",
            StopWhy::DefinitionChanged,
            "Container c definition changed, will be restarted",
        ),
        (
            "c",
            StopWhy::UnknownState,
            "Container is in \"unknown\" state, try killing it before restart",
        ),
        (
            "i",
            StopWhy::UnknownState,
            "Init container is in \"unknown\" state, try killing it before restart",
        ),
        (
            "c",
            StopWhy::ProbeFailed(ProbeKind::Liveness, Restarts::Yes),
            "Container c failed liveness probe, will be restarted",
        ),
        (
            "c",
            StopWhy::ProbeFailed(ProbeKind::Startup, Restarts::No),
            "Container c failed startup probe",
        ),
    ];
    for (name, why, expected) in rows {
        assert_eq!(killing(&pod, &stop(name, why)).unwrap().message, expected);
    }
    let container = kill_failure(Kill::Container("c"), "task \"x\" is stuck");
    let sandbox = kill_failure(Kill::Sandbox("u1"), "no");
    assert_eq!(
        kill_failed(std::slice::from_ref(&container)).message,
        r#"error killing pod: failed to "KillContainer" for "c" with KillContainerError: "task \"x\" is stuck""#
    );
    assert_eq!(
        kill_failed(&[container, sandbox]).message,
        r#"error killing pod: [failed to "KillContainer" for "c" with KillContainerError: "task \"x\" is stuck", failed to "KillPodSandbox" for "u1" with KillPodSandboxError: "no"]"#
    );
}

#[test]
fn a_wait_is_told_when_it_begins_and_again_after_it_was_over() {
    let pod = pod_of("{containers: [{name: c}]}");
    let mut told = ToldWaits::default();
    let plan = container_waits("c", Reason::CrashLoopBackOff, "back-off 10s …");
    let texts = [
        (&plan, 1),
        (&plan, 0),
        (&PodPlan::default(), 0),
        (&plan, 1),
        (
            &container_waits("c", Reason::CrashLoopBackOff, "back-off 20s …"),
            1,
        ),
    ];
    for (plan, expected) in texts {
        assert_eq!(waits(&pod, &mut told, plan, None).len(), expected);
    }
}

#[test]
fn waits_of_a_pod_are_told_by_their_kind_and_failures_only_once() {
    let pod = pod_of("{containers: [{name: c}]}");
    let rows = [
        (
            Reason::NetworkNotReady,
            "network is not ready: no plugin",
            "NetworkNotReady",
            "network is not ready: no plugin",
        ),
        (
            Reason::CreatePodSandboxError,
            "Failed to generate sandbox config for pod \"web_default(u1)\": too long",
            "FailedCreatePodSandBox",
            "Failed to create pod sandbox: too long",
        ),
    ];
    for (reason, message, event, text) in rows {
        let plan = pod_waits(reason, message);
        let told = waits(&pod, &mut ToldWaits::default(), &plan, None);
        assert_eq!(
            told,
            [
                json!({"kind": "Pod", "type": "Warning", "reason": event, "message": text, "fieldPath": null})
            ]
        );
        let failed = plan.pod_waiting.as_ref();
        let told = waits(&pod, &mut ToldWaits::default(), &plan, failed);
        assert!(told.is_empty(), "the step that failed told it: {told:?}");
    }
    let plan = container_waits(
        "c",
        Reason::CreateContainerConfigError,
        "secret \"s\" not found",
    );
    let told = waits(&pod, &mut ToldWaits::default(), &plan, None);
    assert_eq!(
        (&told[0]["reason"], &told[0]["message"]),
        (&json!("Failed"), &json!("Error: secret \"s\" not found"))
    );
    let ours = pod_waits(Reason::WaitingForName, "another pod");
    assert!(waits(&pod, &mut ToldWaits::default(), &ours, None).is_empty());
}

#[test]
fn each_volume_that_cannot_be_had_is_told_once() {
    let mut seen = Seen::new(pod_of("{containers: [{name: c}]}"), PodObjects::default());
    let wait = |volume: &str, why: &str| {
        let waiting = Waiting {
            reason: Reason::FailedMount,
            message: format!("MountVolume.SetUp failed for volume \"{volume}\" : {why}"),
        };
        (volume.to_owned(), waiting)
    };
    let mut told = ToldWaits::default();
    let mut tell = |seen: &Seen, volumes_waiting: &[(String, Waiting)]| {
        let plan = PodPlan {
            volumes_waiting: volumes_waiting.to_vec(),
            ..PodPlan::default()
        };
        let events = seen.see(|view| told.events(view, &plan));
        let messages = events.into_iter().map(|event| {
            assert_eq!(event.reason, "FailedMount");
            event.message
        });
        messages.collect::<Vec<_>>()
    };
    let both = [wait("a", "no a"), wait("b", "no b")];
    assert_eq!(
        tell(&seen, &both),
        [both[0].1.message.clone(), both[1].1.message.clone()]
    );
    assert!(tell(&seen, &both).is_empty());
    let changed = [wait("a", "no a"), wait("b", "another reason")];
    assert_eq!(tell(&seen, &changed), [changed[1].1.message.clone()]);
    // A pause of the whole pod is no news, and what was told before it neither.
    seen.memory.retry.later(seen.now);
    assert!(tell(&seen, &[]).is_empty());
    seen.memory.retry.at = None;
    assert!(tell(&seen, &changed).is_empty());
    // What a step failed with was told when it failed.
    let failed = wait("c", "the step failed");
    let volume = seen.memory.volumes.entry("c".to_owned()).or_default();
    volume.retry.waiting = Some(failed.1.clone());
    assert!(tell(&seen, &[failed]).is_empty());
}

#[test]
fn a_sandbox_that_is_made_again_and_settings_left_out_are_told() {
    let text = "{dnsPolicy: None, dnsConfig: {nameservers: [10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4]}, containers: [{name: c}]}";
    let pod = pod_of(text);
    let reasons = |attempt| {
        let (of_pod, of_node) = plan_events(&pod, &node(), &sandbox_plan(&pod, attempt));
        assert!(of_node.is_empty());
        let reasons: Vec<String> = of_pod
            .iter()
            .map(|event| event.reason.to_string())
            .collect();
        reasons
    };
    assert_eq!(reasons(0), ["DNSConfigForming"]);
    assert_eq!(reasons(1), ["SandboxChanged", "DNSConfigForming"]);
    let (of_pod, _) = plan_events(&pod, &node(), &PodPlan::default());
    assert!(of_pod.is_empty());
}

#[test]
fn the_rest_of_the_texts() {
    let pod = pod("metadata: {name: web, uid: u1}\nspec: {containers: []}");
    let rows = [
        (
            host_failed(
                Reason::FailedToCreatePodContainer,
                "unable to ensure pod container exists: x",
            ),
            "FailedCreatePodContainer unable to ensure pod container exists: x",
        ),
        (
            host_failed(Reason::FailedMount, "took longer than 120 s"),
            "FailedMount Unable to attach or mount volumes: took longer than 120 s",
        ),
        (
            sandbox_failed("rpc error: code = Unknown desc = no"),
            "FailedCreatePodSandBox Failed to create pod sandbox: rpc error: code = Unknown desc = no",
        ),
        (
            not_observed("rpc error: code = Unavailable desc = gone"),
            "FailedSync error determining status: rpc error: code = Unavailable desc = gone",
        ),
        (
            duplicate_name(&pod),
            "FailedValidation Error validating pod web_default(u1) from file due to duplicate pod name \"web\", ignoring",
        ),
    ];
    for (event, expected) in rows {
        assert_eq!(format!("{} {}", event.reason, event.message), expected);
        assert_eq!((event.type_, event.field_path), (EventType::Warning, None));
    }
    let failed = limits_failed("/kubepods", "no");
    assert_eq!(
        failed.message,
        "Failed to update Node Allocatable Limits [\"kubepods\"]: no"
    );
    let reserved = limits_enforced("system reserved cgroup /system");
    assert_eq!(
        reserved.message,
        "Updated limits on system reserved cgroup /system"
    );
}
