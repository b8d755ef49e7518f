//! Pods that share a name, and pods that come back.
//!
//! Upstream: none

use super::*;

#[tokio::test(start_paused = true)]
async fn another_pod_of_the_name_waits_for_the_end_of_the_one_that_was_left() {
    let mut node = Node::new();
    node.send(&[pod("a", HERE, &["serve", "stubborn"], 30)]);
    node.run_for(10).await;
    node.kubelet.take().unwrap().crash().await;
    let mut object = (*pod("b", HERE, &["serve"], 30).object).clone();
    object.metadata.name = Some("a-node".to_owned());
    let next = Arc::new(Pod::new(Arc::new(object), SourceKind::File, Vec::new()).unwrap());
    node.start();
    node.send(&[next]);
    node.run_for(60).await;
    let all = node.instances();
    let started = all.iter().find(|i| i.pod_uid == "b").unwrap().created;
    assert!(
        all.iter()
            .filter(|i| i.pod_uid == "a")
            .all(|i| i.removed.unwrap() <= started)
    );
    assert!(is_ready(&node.status("b").unwrap()));
}

#[tokio::test(start_paused = true)]
async fn the_later_of_two_sources_waits_for_the_name_and_says_so() {
    let node = Node::with_sources(&[SourceKind::File, SourceKind::Url]);
    let first = pod("a", HERE, &["serve"], 5);
    let second = as_other(&first, "b", "a-node", SourceKind::Url);
    node.send(std::slice::from_ref(&first));
    node.send_from(SourceKind::Url, &[second]);
    node.run_for(60).await;
    assert!(is_ready(&node.status("a").unwrap()));
    let waits = node.status("b").unwrap();
    assert_eq!(waits.phase.as_deref(), Some("Pending"));
    assert_eq!(reason(&waits), "WaitingForName");
    assert_eq!(
        waits.message.as_deref(),
        Some(
            "waits for the end of another pod of the same name: default/a-node (uid a, from source file)"
        )
    );
    node.send(&[]);
    node.run_for(60).await;
    assert!(is_ready(&node.status("b").unwrap()));
    let all = node.instances();
    let gone = all.iter().filter(|i| i.pod_uid == "a").map(|i| i.removed);
    let began = all.iter().find(|i| i.pod_uid == "b").unwrap().created;
    assert!(gone.into_iter().all(|removed| removed.unwrap() <= began));
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_the_pod_that_runs_has_the_name_whoever_speaks_first() {
    let mut node = Node::with_sources(&[SourceKind::File, SourceKind::Url]);
    let first = pod("a", HERE, &["serve"], 5);
    let second = as_other(&first, "b", "a-node", SourceKind::Url);
    node.send(std::slice::from_ref(&first));
    node.send_from(SourceKind::Url, std::slice::from_ref(&second));
    node.run_for(60).await;
    node.restart().await;
    node.send_from(SourceKind::Url, &[second]);
    node.run_for(60).await;
    node.send(&[first]);
    node.run_for(60).await;
    assert!(is_ready(&node.status("a").unwrap()));
    assert_eq!(reason(&node.status("b").unwrap()), "WaitingForName");
    assert_eq!(node.runs_of("a", "main"), [(0, None)]);
    let pid = node
        .instances()
        .iter()
        .find(|i| i.name == "main")
        .unwrap()
        .pid;
    assert!(node.runtime.kill(pid, 9));
    node.run_for(30).await;
    assert_eq!(node.runs_of("a", "main").len(), 2, "it is cared for");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_ended_gives_its_name_to_the_next() {
    let node = Node::with_sources(&[SourceKind::File, SourceKind::Url]);
    let mut object = (*pod("a", HERE, &["sh", "-c", "sleep 5; exit 0"], 5).object).clone();
    object.spec.as_mut().unwrap().restart_policy = Some("Never".to_owned());
    let first = Arc::new(Pod::new(Arc::new(object), SourceKind::File, Vec::new()).unwrap());
    let serves = pod("b", HERE, &["serve"], 5);
    let second = as_other(&serves, "b", "a-node", SourceKind::Url);
    node.send(&[first]);
    node.send_from(SourceKind::Url, &[second]);
    node.run_for(60).await;
    assert_eq!(
        node.status("a").unwrap().phase.as_deref(),
        Some("Succeeded")
    );
    assert!(is_ready(&node.status("b").unwrap()));
}

#[tokio::test(start_paused = true)]
async fn what_a_source_drops_stays_until_all_have_spoken() {
    let node = Node::with_sources(&[SourceKind::File, SourceKind::Url]);
    let pods = ["a", "b"].map(|uid| pod(uid, HERE, &["serve"], 5));
    node.send(&pods);
    node.run_for(60).await;
    node.send(&[]);
    node.run_for(600).await;
    assert!(node.instances().iter().all(|i| i.ended.is_none()));
    node.send(&pods[..1]);
    node.run_for(10).await;
    node.send_from(SourceKind::Url, &[]);
    node.run_for(60).await;
    assert_eq!(node.runs_of("a", "main"), [(0, None)]);
    assert!(node.status("b").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_uid_that_moves_from_one_source_to_the_other_goes_on_running() {
    let node = Node::with_sources(&[SourceKind::File, SourceKind::Url]);
    let from_file = pod("a", HERE, &["serve"], 5);
    let from_url = as_other(&from_file, "a", "a-node", SourceKind::Url);
    node.send(&[from_file]);
    node.run_for(10).await;
    node.send_from(SourceKind::Url, &[from_url]);
    node.run_for(10).await;
    node.send(&[]);
    node.run_for(60).await;
    assert_eq!(node.runs_of("a", "main"), [(0, None)]);
    assert!(is_ready(&node.status("a").unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_comes_back_runs_in_its_newest_version() {
    let node = Node::new();
    node.send(&[pod("a", HERE, &["serve", "stubborn"], 30)]);
    node.run_for(10).await;
    node.send(&[]);
    node.run_for(2).await;
    node.send(&[pod("a", HERE, &["serve"], 30)]);
    node.run_for(2).await;
    let other = pods::PRESENT[1];
    node.send(&[pod("a", other, &["serve"], 30)]);
    node.run_for(90).await;
    let status = node.status("a").unwrap();
    assert!(is_ready(&status));
    assert!(
        status.container_statuses.as_ref().unwrap()[0]
            .image
            .contains(other)
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_cannot_be_looked_at_keeps_no_other_waiting_and_is_not_taken_for_absent() {
    let mut node = Node::new();
    let broken = pod("a", HERE, &["serve"], 5);
    node.send(std::slice::from_ref(&broken));
    node.run_for(60).await;
    node.kubelet.take().unwrap().crash().await;
    let seen = node.runtime.faults(|plan| plan.calls_of("ContainerStatus"));
    node.runtime.faults(|plan| {
        for nth in 1..=40 {
            let fault = Fault::FailBefore(tonic::Code::Unknown);
            plan.add("ContainerStatus", seen + nth, fault);
        }
    });
    node.start();
    // Its own source is of another opinion: the directory of a pod that nobody names must not be taken down unseen either.
    node.send(&[pod("b", "img/slow:1", &["serve"], 5)]);
    node.run_for(10).await;
    assert!(node.status("b").is_some());
    let pulls = node.calls_since(0);
    assert!(
        pulls.iter().any(|call| call.starts_with("PullImage")),
        "the other pod is being started"
    );
    assert!(node.dir.join("var/lib/kubelet/pods/a").is_dir());
}
