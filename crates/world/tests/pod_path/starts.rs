//! Starts that are cut off: the kubelet, the runtime or both end between the call and its answer.
//!
//! Upstream: pkg/kubelet/container/helpers.go (ShouldContainerBeRestarted) in what it does about created containers

use super::*;

/// It ends well by itself, and says that it is started once.
fn never(uid: &str) -> Arc<Pod> {
    with_spec(
        &pod(uid, HERE, &["sh", "-c", "sleep 5; exit 0"], 5),
        |spec| spec.restart_policy = Some("Never".to_owned()),
    )
}

/// Who ends while a container is being started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Kubelet,
    Runtime,
    Both,
}

/// A node on which the first start of the pod's container was cut off.
async fn cut_off(ends: Ends, pods: &[Arc<Pod>]) -> Node {
    let mut node = Node::new();
    let fault = match ends {
        Ends::Kubelet | Ends::Both => Fault::Hang,
        Ends::Runtime => Fault::Crash(Duration::from_secs(3)),
    };
    node.runtime
        .faults(|plan| plan.add("StartContainer", 1, fault));
    node.send(pods);
    node.run_for(2).await;
    if ends == Ends::Both {
        let down = Duration::from_secs(3);
        node.runtime.crash(down, testkit::cri::CrashScope::Runtime);
    }
    if ends != Ends::Runtime {
        node.restart().await;
        node.send(pods);
    }
    node
}

fn made(node: &Node) -> Vec<(u32, bool, bool)> {
    let instances = node.instances();
    let containers = instances.iter().filter(|i| !i.name.is_empty());
    containers
        .map(|i| (i.attempt, i.cut_off, i.removed.is_some()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_start_that_was_cut_off_is_made_again_even_if_the_pod_says_never() {
    for ends in [Ends::Kubelet, Ends::Runtime, Ends::Both] {
        let node = cut_off(ends, &[never("a")]).await;
        node.run_for(60).await;
        let status = node.status("a").unwrap();
        assert_eq!(status.phase.as_deref(), Some("Succeeded"), "{ends:?}");
        let main = &status.container_statuses.as_ref().unwrap()[0];
        assert_eq!(main.restart_count, 0, "{ends:?}");
        assert!(
            main.last_state
                .as_ref()
                .is_none_or(|s| s.terminated.is_none())
        );
        assert_eq!(node.runs_of("a", "main"), [(0, Some(5))], "{ends:?}");
        let expected = [(0, true, true), (0, false, false)];
        assert_eq!(made(&node), expected, "{ends:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_runtime_does_not_remove_of_a_start_that_was_cut_off_holds_nothing_up() {
    let node = cut_off(Ends::Both, &[never("a")]).await;
    node.runtime.faults(|plan| {
        for call in 1..=2 {
            let refused = Fault::FailBefore(tonic::Code::Unknown);
            plan.add("RemoveContainer", call, refused);
        }
    });
    node.run_for(30).await;
    let phase = || node.status("a").unwrap().phase.clone().unwrap_or_default();
    assert_eq!(phase(), "Succeeded");
    assert_eq!(made(&node), [(0, true, false), (1, false, false)]);
    node.run_for(200).await;
    assert_eq!(phase(), "Succeeded");
    assert_eq!(made(&node), [(0, true, true), (1, false, false)]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_the_runtime_refuses_has_failed() {
    let mut node = Node::new();
    let pods = [with_spec(
        &pod("a", HERE, &["start-fails", "9"], 5),
        |spec| spec.restart_policy = Some("Never".to_owned()),
    )];
    node.send(&pods);
    for _ in 0..2 {
        node.run_for(30).await;
        let status = node.status("a").unwrap();
        assert_eq!(status.phase.as_deref(), Some("Failed"));
        assert_eq!(made(&node), [(0, false, false)]);
        node.restart().await;
        node.send(&pods);
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_pod_leaves_nothing_of_a_start_that_was_cut_off() {
    let node = cut_off(Ends::Both, &[never("a")]).await;
    node.send(&[]);
    node.run_for(60).await;
    assert!(node.instances().iter().all(|i| i.removed.is_some()));
    assert_eq!(node.status("a"), None);
}

/// Statuses of the pod's container that were shown, second by second.
async fn waits(node: &Node, seconds: u64) -> Vec<String> {
    let mut shown: Vec<String> = Vec::new();
    for _ in 0..seconds {
        node.run_for(1).await;
        let status = node.status("a").unwrap();
        let main = &status.container_statuses.as_ref().unwrap()[0];
        let waiting = main.state.as_ref().and_then(|s| s.waiting.as_ref());
        let reason = waiting.and_then(|waiting| waiting.reason.clone());
        shown.push(reason.unwrap_or_else(|| "-".to_owned()));
    }
    shown
}

#[tokio::test(start_paused = true)]
async fn a_container_that_never_starts_backs_off_like_one_that_ends() {
    let node = Node::new();
    node.send(&[pod("a", HERE, &["start-fails", "9"], 5)]);
    let shown = waits(&node, 60).await;
    // At once, at once again, and after 10, 20 and 40 seconds.
    let starts = made(&node).len();
    assert!((4..=5).contains(&starts), "{starts}: {shown:?}");
    let backs_off = shown.iter().filter(|reason| *reason == "CrashLoopBackOff");
    assert!(backs_off.count() > 45, "{shown:?}");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_cannot_be_made_is_tried_less_and_less_often() {
    let node = Node::new();
    node.runtime.faults(|plan| {
        for call in 1..=60 {
            let refused = Fault::FailBefore(tonic::Code::Unknown);
            plan.add("CreateContainer", call, refused);
        }
    });
    node.send(&[pod("a", HERE, &["sleep", "100"], 5)]);
    let shown = waits(&node, 60).await;
    // After 1, 2, 4, 8 and then 10 seconds each.
    let calls = node.calls_since(0);
    let tries = calls.iter().filter(|c| c.starts_with("CreateContainer"));
    let tries = tries.count();
    assert!((7..=10).contains(&tries), "{tries}: {shown:?}");
    let says_so = shown.iter().filter(|r| *r == "CreateContainerError");
    assert!(says_so.count() > 50, "{shown:?}");
}

/// A pod on a port of the host.
fn on_port(uid: &str, command: &[&str], grace_seconds: i64) -> Arc<Pod> {
    with_spec(&pod(uid, HERE, command, grace_seconds), |spec| {
        let port = v1::ContainerPort {
            container_port: 80,
            host_port: Some(80),
            ..v1::ContainerPort::default()
        };
        spec.containers[0].ports = Some(vec![port]);
    })
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_what_an_ending_one_still_takes() {
    let node = Node::new();
    node.send(&[on_port("old", &["serve", "stubborn"], 7)]);
    node.run_for(20).await;
    node.send(&[on_port("new", &["serve"], 5)]);
    node.run_for(3).await;
    let status = node.status("new").unwrap();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    assert_eq!(text(&status.phase), "Pending");
    assert_eq!(text(&status.reason), "WaitingForRoom");
    let waits = text(&status.message);
    assert!(
        waits.ends_with("waits for the end of default/old-node"),
        "{waits}"
    );
    assert!(node.instances().iter().all(|i| i.pod_uid == "old"));
    node.run_for(10).await;
    assert!(is_ready(&node.status("new").unwrap()));
    assert_eq!(node.runs_of("new", "main"), [(0, None)]);
}

/// At the API server such a pod counts no more: whoever binds pods sends the next one.
#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_one_that_has_ended_while_the_runtime_is_away() {
    let node = Node::new();
    node.runtime
        .faults(|plan| plan.add("StopPodSandbox", 1, Fault::Crash(Duration::from_secs(40))));
    let job = with_spec(
        &on_port("job", &["sh", "-c", "sleep 5; exit 0"], 5),
        |spec| {
            spec.restart_policy = Some("Never".to_owned());
        },
    );
    node.send(&[Arc::clone(&job)]);
    node.run_for(20).await;
    let phase = |uid: &str| node.status(uid).unwrap().phase.clone();
    assert_eq!(phase("job").as_deref(), Some("Succeeded"));
    node.send(&[job, on_port("new", &["serve"], 5)]);
    node.run_for(3).await;
    let reason = node.status("new").unwrap().reason.clone();
    assert_eq!(reason.as_deref(), Some("WaitingForRoom"));
    node.run_for(60).await;
    assert!(is_ready(&node.status("new").unwrap()));
}

#[tokio::test(start_paused = true)]
async fn room_that_does_not_come_is_not_waited_for_without_end() {
    let node = Node::new();
    node.send(&[on_port("old", &["serve", "stubborn"], 600)]);
    node.run_for(20).await;
    node.send(&[on_port("new", &["serve"], 5)]);
    node.run_for(110).await;
    let phase = |uid: &str| node.status(uid).unwrap().phase.clone();
    assert_eq!(phase("new").as_deref(), Some("Pending"));
    node.run_for(20).await;
    let status = node.status("new").unwrap();
    assert_eq!(phase("new").as_deref(), Some("Failed"));
    assert_eq!(status.reason.as_deref(), Some("NodePorts"));
}

#[tokio::test(start_paused = true)]
async fn another_image_starts_a_container_again_whatever_the_policy() {
    for policy in ["Never", "OnFailure", "Always"] {
        let mut node = Node::new();
        // It ends with 0 when it is asked to: by its policy alone it would be done.
        let of_image = |image: &str| {
            with_spec(&pod("a", image, &["serve", "slowly-ending"], 30), |spec| {
                spec.restart_policy = Some(policy.to_owned());
            })
        };
        node.send(&[of_image(HERE)]);
        node.run_for(20).await;
        node.send(&[of_image("img/here:2")]);
        node.run_for(2).await;
        // The reason of the stop outlives the process.
        node.restart().await;
        node.send(&[of_image("img/here:2")]);
        node.run_for(20).await;
        let status = node.status("a").unwrap();
        assert!(is_ready(&status), "{policy}: {status:?}");
        let runs = node.runs_of("a", "main");
        assert_eq!(runs, [(0, Some(23)), (23, None)], "{policy}");
        let main = status.container_statuses.as_ref().unwrap().first().unwrap();
        assert_eq!(main.restart_count, 1);
        assert!(main.image.ends_with("img/here:2"), "{}", main.image);
    }
}
