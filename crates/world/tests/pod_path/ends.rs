//! How pods end: removal, deadlines, what the runtime refuses.
//!
//! Upstream: pkg/kubelet/active_deadline.go in what the deadline does

use super::*;

#[tokio::test(start_paused = true)]
async fn a_removed_pod_gets_its_grace_and_leaves_nothing() {
    let node = Node::new();
    node.send(&[pod("a", HERE, &["serve", "stubborn"], 7)]);
    node.run_for(60).await;
    let before = node.runtime.now_ns();
    node.send(&[]);
    node.run_for(60).await;
    let container = node.instances()[1].clone();
    let took = container.ended.unwrap() - before;
    assert!((7_000_000_000..7_100_000_000).contains(&took), "{took}");
    assert_eq!(container.ended_by, Some(EndedBy::StopContainer));
    assert!(node.instances().iter().all(|i| i.removed.is_some()));
    assert_eq!(node.status("a"), None);
    for dir in ["var/lib/kubelet/pods", "var/log/pods", "var/log/containers"] {
        assert_eq!(node.dir.join(dir).read_dir().unwrap().count(), 0, "{dir}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_static_pod_may_say_itself_how_long_its_removal_takes() {
    let node = Node::new();
    let mut object = (*pod("a", HERE, &["serve", "stubborn"], 30).object).clone();
    object.metadata.deletion_grace_period_seconds = Some(3);
    let own = Arc::new(Pod::new(Arc::new(object), SourceKind::File, Vec::new()).unwrap());
    node.send(&[own]);
    node.run_for(60).await;
    let before = node.runtime.now_ns();
    node.send(&[]);
    node.run_for(60).await;
    let took = node.instances()[1].ended.unwrap() - before;
    assert!((3_000_000_000..3_100_000_000).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_pull_ends_when_its_pod_is_removed() {
    let node = Node::new();
    node.send(&[pod("a", "img/slow:1", &["serve"], 30)]);
    node.run_for(5).await;
    node.send(&[]);
    node.run_for(1).await;
    let cancelled = node.runtime.trace(|lines| {
        lines
            .iter()
            .any(|l| l.method == "PullImage" && l.step == TraceStep::End && l.text == "cancelled")
    });
    assert!(cancelled, "{}", node.runtime.trace_text());
    assert!(node.instances().iter().all(|i| i.removed.is_some()));
}

#[tokio::test(start_paused = true)]
async fn an_ended_pod_that_is_removed_leaves_no_directory() {
    let node = Node::new();
    let mut object = (*pod("a", HERE, &["sh", "-c", "exit 0"], 30).object).clone();
    object.spec.as_mut().unwrap().restart_policy = Some("Never".to_owned());
    let ends = Arc::new(Pod::new(Arc::new(object), SourceKind::File, Vec::new()).unwrap());
    node.send(&[ends]);
    node.run_for(30).await;
    assert_eq!(
        node.status("a").unwrap().phase.as_deref(),
        Some("Succeeded")
    );
    node.send(&[]);
    node.run_for(30).await;
    assert_eq!(
        node.dir
            .join("var/lib/kubelet/pods")
            .read_dir()
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn a_record_of_a_life_that_is_over_ends_nothing_that_runs() {
    static IS_FULL: AtomicBool = AtomicBool::new(false);
    const ENOSPC: i32 = 28;
    let mut node = Node::new();
    node.kubelet.take().unwrap().crash().await;
    node.disk = DiskFaults::new(|_| {
        let fault = DiskFault {
            errno: ENOSPC,
            written: 7,
        };
        IS_FULL.load(Ordering::Relaxed).then_some(fault)
    });
    node.start();
    let pods = [pod("a", HERE, &["serve", "stubborn"], 5)];
    node.send(&pods);
    node.run_for(30).await;
    // That it goes is written; that it is gone is not, and nothing of its next life.
    node.send(&[]);
    node.run_for(2).await;
    IS_FULL.store(true, Ordering::Relaxed);
    node.run_for(20).await;
    node.send(&pods);
    node.run_for(20).await;
    assert_eq!(node.runs_of("a", "main").len(), 2);
    node.kubelet.take().unwrap().crash().await;
    IS_FULL.store(false, Ordering::Relaxed);
    node.start();
    node.send(&pods);
    node.run_for(60).await;
    let runs = node.runs_of("a", "main");
    assert_eq!((runs.len(), runs[1].1), (2, None));
    assert!(is_ready(&node.status("a").unwrap()));
}

/// The pod with this deadline.
fn with_deadline(pod: &Pod, seconds: i64) -> Arc<Pod> {
    with_spec(pod, |spec| spec.active_deadline_seconds = Some(seconds))
}

fn phase_and_reason(node: &Node, uid: &str) -> String {
    let status = node.status(uid).unwrap();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{} {}", text(&status.phase), text(&status.reason))
        .trim()
        .to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_pod_ends_at_its_deadline_with_its_grace_and_stays_so() {
    let mut node = Node::new();
    let pods = [with_deadline(
        &pod("a", HERE, &["serve", "stubborn"], 20),
        60,
    )];
    node.send(&pods);
    node.run_for(55).await;
    assert!(is_ready(&node.status("a").unwrap()));
    node.run_for(10).await;
    // Told to end, and still there.
    assert_eq!(phase_and_reason(&node, "a"), "Running");
    node.run_for(30).await;
    let ends = |node: &Node| -> Vec<i64> {
        let instances = node.instances();
        let ran = instances.iter().filter(|i| i.name == "main");
        ran.map(|i| (i.ended.unwrap() - i.asked) / 1_000_000_000)
            .collect()
    };
    assert_eq!(ends(&node), [80]);
    for _ in 0..2 {
        assert_eq!(phase_and_reason(&node, "a"), "Failed DeadlineExceeded");
        let message = node.status("a").unwrap().message.clone();
        assert_eq!(
            message.as_deref(),
            Some("Pod was active on the node longer than the specified deadline")
        );
        node.restart().await;
        node.send(&pods);
        node.run_for(30).await;
    }
    assert_eq!(ends(&node).len(), 1, "it was not started again");
}

#[tokio::test(start_paused = true)]
async fn clocks_that_are_set_and_restarts_neither_end_a_pod_nor_keep_it() {
    for years in [-1, 1] {
        let mut node = Node::new();
        let pods = [with_deadline(&pod("a", HERE, &["serve"], 5), 100)];
        node.send(&pods);
        node.run_for(20).await;
        node.set_clock(years * YEAR);
        node.run_for(20).await;
        node.kubelet.take().unwrap().crash().await;
        node.run_for(20).await;
        node.set_clock(years * 2 * YEAR);
        node.start();
        node.send(&pods);
        node.run_for(35).await;
        assert_eq!(phase_and_reason(&node, "a"), "Running", "{years}");
        assert_eq!(node.runs_of("a", "main"), [(0, None)]);
        node.run_for(20).await;
        assert_eq!(phase_and_reason(&node, "a"), "Failed DeadlineExceeded");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_set_or_lowered_later_counts_from_the_start() {
    let node = Node::new();
    let plain = pod("a", HERE, &["serve"], 5);
    node.send(std::slice::from_ref(&plain));
    node.run_for(30).await;
    node.send(&[with_deadline(&plain, 1000)]);
    node.run_for(30).await;
    assert_eq!(phase_and_reason(&node, "a"), "Running");
    node.send(&[with_deadline(&plain, 70)]);
    node.run_for(5).await;
    assert_eq!(phase_and_reason(&node, "a"), "Running");
    node.run_for(10).await;
    assert_eq!(phase_and_reason(&node, "a"), "Failed DeadlineExceeded");
}

#[tokio::test(start_paused = true)]
async fn a_pull_ends_with_the_time_of_its_pod() {
    let node = Node::new();
    node.send(&[with_deadline(&pod("a", "img/slow:1", &["serve"], 5), 10)]);
    node.run_for(9).await;
    assert_eq!(phase_and_reason(&node, "a"), "Pending");
    node.run_for(3).await;
    assert_eq!(phase_and_reason(&node, "a"), "Failed DeadlineExceeded");
}

/// Whatever is being made of a pod when it is to stop, and never answers: it is given up, and the pod is gone.
#[tokio::test(start_paused = true)]
async fn a_start_that_hangs_ends_soon_after_its_pod_is_to_stop() {
    for method in ["RunPodSandbox", "CreateContainer", "StartContainer"] {
        for fault in [Fault::Hang, Fault::HangAfter] {
            let node = Node::new();
            node.runtime
                .faults(|plan| plan.add(method, 1, fault.clone()));
            node.send(&[pod("a", HERE, &["serve"], 5)]);
            node.run_for(5).await;
            assert!(node.status("a").is_some(), "{method}");
            node.send(&[]);
            // A second for the call, the grace of what runs behind it, the runtime's own time.
            node.run_for(8).await;
            assert_eq!(node.status("a"), None, "{method} {fault:?}");
            let left = node.instances();
            let left = left.iter().filter(|one| one.removed.is_none());
            assert_eq!(left.count(), 0, "{method} {fault:?}");
        }
    }
}

/// A runtime that ends a sandbox's processes and then fails at its network says that it is not ready. Its address and ports are not
/// free before a stop was answered.
#[tokio::test(start_paused = true)]
async fn a_sandbox_whose_stop_was_not_answered_is_stopped_again_before_the_name_is_free() {
    let node = Node::new();
    node.send(&[pod("a", HERE, &["serve"], 5)]);
    node.run_for(10).await;
    node.runtime.faults(|plan| {
        plan.add(
            "StopPodSandbox",
            1,
            Fault::LoseAnswer(tonic::Code::Unavailable),
        );
        let refused = Fault::FailBefore(tonic::Code::Unknown);
        (2..=4).for_each(|nth| plan.add("StopPodSandbox", nth, refused.clone()));
    });
    let other = pod("b", HERE, &["serve"], 5);
    node.send(&[as_other(&other, "b", "a-node", SourceKind::File)]);
    let calls = |method| node.runtime.faults(|plan| plan.calls_of(method));
    let mut seen = Vec::new();
    for _ in 0..60 {
        node.run_for(1).await;
        seen.push((calls("StopPodSandbox"), calls("RunPodSandbox")));
    }
    assert!(
        seen.iter().all(|(stops, runs)| *runs == 1 || *stops >= 5),
        "{seen:?}"
    );
    assert!(is_ready(&node.status("b").unwrap()), "{seen:?}");
}

/// Removals of pods that leave wait for each other; what is removed of a pod that goes on does not wait among them.
#[tokio::test(start_paused = true)]
async fn removals_that_hang_keep_no_running_pod_from_its_orders() {
    let node = Node::new();
    let crashes = pod("a", HERE, &["sh", "-c", "sleep 20; exit 1"], 5);
    let others: Vec<_> = (0..6)
        .map(|n| pod(&format!("o{n}"), HERE, &["serve"], 1))
        .collect();
    let all: Vec<_> = others
        .iter()
        .cloned()
        .chain([Arc::clone(&crashes)])
        .collect();
    node.send(&all);
    // Its second run is about to end, and the first instance to be removed.
    node.run_for(48).await;
    assert_eq!(node.runs_of("a", "main").len(), 2);
    node.runtime.faults(|plan| {
        (1..=6).for_each(|nth| plan.add("RemovePodSandbox", nth, Fault::Hang));
    });
    node.send(&[crashes]);
    node.run_for(7).await;
    node.send(&[]);
    node.run_for(8).await;
    assert_eq!(node.status("a"), None);
}

#[tokio::test(start_paused = true)]
async fn what_the_runtime_refuses_to_remove_holds_nothing_up() {
    let node = Node::new();
    node.send(&[pod("a", HERE, &["serve"], 5)]);
    node.run_for(10).await;
    let refused = Fault::FailBefore(tonic::Code::FailedPrecondition);
    node.runtime.faults(|plan| {
        (1..=8).for_each(|nth| plan.add("RemovePodSandbox", nth, refused.clone()));
    });
    // Another pod of the name: it runs though the sandbox of the first one stays.
    node.send(&[as_other(
        &pod("b", HERE, &["serve"], 5),
        "b",
        "a-node",
        SourceKind::File,
    )]);
    node.run_for(20).await;
    assert!(is_ready(&node.status("b").unwrap()));
    let sandbox = || node.instances()[0].clone();
    assert_eq!((&*sandbox().pod_uid, sandbox().removed), ("a", None));
    assert_eq!(node.status("a"), None);
    // It is asked again until it does; the pod itself does not come back before that.
    node.run_for(60).await;
    assert!(sandbox().removed.is_some());
    let asked = node
        .runtime
        .faults(|plan| plan.calls_of("RemovePodSandbox"));
    assert_eq!(asked, 9);
    assert!(is_ready(&node.status("b").unwrap()));
}

/// The API server dropped it first: nobody else takes it out of what is shown.
#[tokio::test(start_paused = true)]
async fn a_pod_of_the_api_whose_removal_is_refused_is_shown_no_more_once_it_is_gone_there() {
    let node = Node::with_sources(&[SourceKind::Api]);
    node.send_from(SourceKind::Api, &[api_pod("a", &["serve"]).0]);
    node.run_for(10).await;
    let refused = Fault::FailBefore(tonic::Code::FailedPrecondition);
    node.runtime.faults(|plan| {
        (1..=8).for_each(|nth| plan.add("RemovePodSandbox", nth, refused.clone()));
    });
    node.send_from(SourceKind::Api, &[]);
    node.run_for(20).await;
    assert_eq!(node.instances()[0].removed, None);
    assert_eq!(node.status("a"), None);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_comes_back_is_shown_while_the_runtime_refuses_to_remove_its_past() {
    let node = Node::new();
    let wanted = pod("a", HERE, &["serve"], 5);
    node.send(std::slice::from_ref(&wanted));
    node.run_for(10).await;
    let refused = Fault::FailBefore(tonic::Code::FailedPrecondition);
    node.runtime.faults(|plan| {
        (1..=8).for_each(|nth| plan.add("RemovePodSandbox", nth, refused.clone()));
    });
    // Before it is known that the runtime refuses, and after it.
    for pause in [0, 5] {
        node.send(&[]);
        node.run_for(pause).await;
        assert_eq!(node.status("a").is_some(), pause == 0);
        node.send(std::slice::from_ref(&wanted));
        node.run_for(20 - 3 * pause).await;
        assert_eq!(phase_and_reason(&node, "a"), "Pending WaitingForRemoval");
    }
    node.run_for(60).await;
    assert!(is_ready(&node.status("a").unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_comes_back_while_it_goes_counts_a_restart() {
    let node = Node::new();
    let wanted = pod("a", HERE, &["serve"], 5);
    node.send(std::slice::from_ref(&wanted));
    node.run_for(10).await;
    node.send(&[]);
    node.send(&[wanted]);
    node.run_for(20).await;
    let status = node.status("a").unwrap();
    assert!(is_ready(&status));
    assert_eq!(
        status.container_statuses.as_ref().unwrap()[0].restart_count,
        1
    );
}

/// A pod of the API that serves, and the same one deleted.
fn api_pod(uid: &str, command: &[&str]) -> (Arc<Pod>, Arc<Pod>) {
    let made = |object| Arc::new(Pod::new(Arc::new(object), SourceKind::Api, Vec::new()).unwrap());
    let object = (*pod(uid, HERE, command, 5).object).clone();
    let mut deleted = object.clone();
    let at = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
    deleted.metadata.deletion_timestamp = Some(at);
    deleted.metadata.deletion_grace_period_seconds = Some(5);
    (made(object), made(deleted))
}

/// How its one container ended, as shown: phase, code, reason.
fn shown_end(node: &Node, uid: &str) -> (String, Option<i32>, String) {
    let status = node.status(uid).unwrap();
    let containers = status.container_statuses.as_ref().unwrap();
    let state = containers[0].state.clone().unwrap_or_default();
    let end = state.terminated;
    let reason = end.as_ref().and_then(|end| end.reason.clone());
    let phase = status.phase.clone().unwrap_or_default();
    (
        phase,
        end.map(|end| end.exit_code),
        reason.unwrap_or_default(),
    )
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_whose_remains_went_while_no_kubelet_ran_is_finished_and_says_what_is_known()
{
    let mut node = Node::with_sources(&[SourceKind::Api]);
    let (pod, deleted) = api_pod("a", &["serve"]);
    node.send_from(SourceKind::Api, &[pod]);
    node.run_for(10).await;
    assert!(is_ready(&node.status("a").unwrap()));
    node.send_from(SourceKind::Api, std::slice::from_ref(&deleted));
    node.kubelet.take().unwrap().crash().await;
    let root = HostRoot::at(&node.dir);
    world::ends::remove_by_hand(&node.runtime, &root, "a")
        .await
        .unwrap();
    node.start();
    node.send_from(SourceKind::Api, &[deleted]);
    node.run_for(30).await;
    let shown = node
        .kubelet
        .as_ref()
        .unwrap()
        .status
        .shown(&PodUid::parse("a").unwrap());
    let progress = shown.unwrap().progress;
    assert_eq!(progress, kubelet_model::reported::Progress::Finished);
    let unknown = (
        "Failed".to_owned(),
        Some(137),
        "ContainerStatusUnknown".to_owned(),
    );
    assert_eq!(shown_end(&node, "a"), unknown);
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_a_pods_end_and_before_its_last_status_loses_no_exit() {
    let mut node = Node::with_sources(&[SourceKind::Api]);
    node.kubelet.take().unwrap().crash().await;
    let died = Arc::new(AtomicBool::new(false));
    let dies = Arc::clone(&died);
    node.faults =
        Faults::at(move |point| point == FaultPoint::Gone && !dies.swap(true, Ordering::Relaxed));
    node.start();
    let (pod, deleted) = api_pod("a", &["serve", "slowly-ending"]);
    node.send_from(SourceKind::Api, &[pod]);
    node.run_for(10).await;
    node.send_from(SourceKind::Api, std::slice::from_ref(&deleted));
    node.run_for(20).await;
    assert!(died.load(Ordering::Relaxed), "it came to its end");
    node.restart().await;
    node.send_from(SourceKind::Api, &[deleted]);
    node.run_for(30).await;
    let ended = ("Succeeded".to_owned(), Some(0), "Completed".to_owned());
    assert_eq!(shown_end(&node, "a"), ended);
    node.send_from(SourceKind::Api, &[]);
    node.run_for(10).await;
    let records = &node.kubelet.as_ref().unwrap().records;
    assert!(
        records
            .keys(kubelet_act::frame::records::POD_PREFIX)
            .is_empty()
    );
}

/// The pod as the API has it once it was asked to end with this grace.
fn deleted(pod: &Pod, grace_seconds: i64) -> Arc<Pod> {
    let mut object = (*pod.object).clone();
    let at = jiff::Timestamp::UNIX_EPOCH;
    object.metadata.deletion_timestamp = Some(at.into());
    object.metadata.deletion_grace_period_seconds = Some(grace_seconds);
    Arc::new(Pod::new(Arc::new(object), SourceKind::Api, Vec::new()).unwrap())
}

fn of_the_api(pod: &Pod) -> Arc<Pod> {
    Arc::new(Pod::new(Arc::clone(&pod.object), SourceKind::Api, Vec::new()).unwrap())
}

/// Seconds from the first order to end until the pod's container has ended, when the order changes to `then` after ten.
async fn ends_after(then: impl FnOnce(&Pod) -> Vec<Arc<Pod>>) -> i64 {
    let node = Node::with_sources(&[SourceKind::Api]);
    let pod = of_the_api(&pod("a", HERE, &["serve", "stubborn"], 90));
    node.send_from(SourceKind::Api, &[Arc::clone(&pod)]);
    node.run_for(60).await;
    assert!(is_ready(&node.status("a").unwrap()));
    let asked = node.runtime.now_ns();
    node.send_from(SourceKind::Api, &[deleted(&pod, 90)]);
    node.run_for(10).await;
    node.send_from(SourceKind::Api, &then(&pod));
    node.run_for(110).await;
    let instances = node.instances();
    let main = instances.iter().find(|i| i.name == "main").unwrap();
    assert_eq!(main.ended_by, Some(EndedBy::StopContainer));
    (main.ended.unwrap() - asked) / 1_000_000_000
}

#[tokio::test(start_paused = true)]
async fn a_stop_under_way_ends_sooner_when_less_grace_is_ordered() {
    assert_eq!(ends_after(|pod| vec![deleted(pod, 2)]).await, 12);
    // More is not given once less was said, and what is said again changes nothing.
    assert_eq!(ends_after(|pod| vec![deleted(pod, 200)]).await, 90);
    assert_eq!(ends_after(|pod| vec![deleted(pod, 90)]).await, 90);
    // By force: the API holds it no more.
    assert_eq!(ends_after(|_| Vec::new()).await, 12);
}

/// A container that is being replaced has the pod's grace; the pod's end does not wait for it.
#[tokio::test(start_paused = true)]
async fn a_replacement_under_way_ends_sooner_when_its_pod_is_to_end() {
    for by_deadline in [true, false] {
        let node = Node::with_sources(&[SourceKind::Api]);
        let first = of_the_api(&pod("a", HERE, &["serve", "stubborn"], 300));
        let deadline = by_deadline.then_some(80);
        let first = with_spec(&first, |spec| spec.active_deadline_seconds = deadline);
        node.send_from(SourceKind::Api, &[Arc::clone(&first)]);
        node.run_for(60).await;
        let image = Some("img/here:2".to_owned());
        let second = with_spec(&first, |spec| spec.containers[0].image = image);
        node.send_from(SourceKind::Api, &[Arc::clone(&second)]);
        node.run_for(10).await;
        if by_deadline {
            // At 80 s it is told to end anew, and shows so.
            node.run_for(20).await;
            let stops = node.calls_since(0);
            let stops = stops.iter().filter(|call| call.contains("StopContainer"));
            assert_eq!(stops.count(), 2);
        } else {
            let asked = node.runtime.now_ns();
            node.send_from(SourceKind::Api, &[deleted(&second, 3)]);
            node.run_for(30).await;
            let instances = node.instances();
            let main = instances.iter().find(|i| i.name == "main").unwrap();
            assert_eq!((main.ended.unwrap() - asked) / 1_000_000_000, 3);
        }
    }
}

/// Labels and annotations change while a pod ends: whoever watches the node sees them before its end.
#[tokio::test(start_paused = true)]
async fn a_change_of_the_object_is_shown_while_its_containers_are_stopped() {
    let node = Node::with_sources(&[SourceKind::Api]);
    let running = of_the_api(&pod("a", HERE, &["serve", "stubborn"], 30));
    node.send_from(SourceKind::Api, std::slice::from_ref(&running));
    node.run_for(20).await;
    let ending = deleted(&running, 30);
    node.send_from(SourceKind::Api, std::slice::from_ref(&ending));
    node.run_for(5).await;
    let mut object = (*ending.object).clone();
    object.metadata.labels = Some([("state".to_owned(), "later".to_owned())].into());
    let labelled = Pod::new(Arc::new(object), SourceKind::Api, Vec::new()).unwrap();
    let status = &node.kubelet.as_ref().unwrap().status;
    let mut watched = status.subscribe();
    watched.mark_unchanged();
    node.send_from(SourceKind::Api, &[Arc::new(labelled)]);
    node.run_for(1).await;
    assert!(watched.has_changed().unwrap(), "whoever watches is told");
    let shown = status.shown(&PodUid::parse("a").unwrap()).unwrap();
    assert_eq!(
        shown
            .object
            .metadata
            .labels
            .as_ref()
            .map(|labels| labels.len()),
        Some(1)
    );
    let main = &shown.status.container_statuses.as_ref().unwrap()[0];
    assert_eq!(state_word(main), "running");
    node.run_for(30).await;
    assert!(node.instances().iter().all(|i| i.ended.is_some()));
}
