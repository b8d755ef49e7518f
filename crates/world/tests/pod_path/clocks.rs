//! Clocks that are set.
//!
//! Upstream: none

use super::*;

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_by_a_year_does_not_freeze_a_crash_loop() {
    let node = Node::new();
    node.send(&[pod("a", HERE, &["sh", "-c", "sleep 1; exit 1"], 30)]);
    node.run_for(35).await;
    node.set_clock(-YEAR);
    node.run_for(400).await;
    let runs = node.runs_of("a", "main");
    let gaps: Vec<i64> = runs
        .windows(2)
        .map(|two| two[1].0 - two[0].1.unwrap())
        .collect();
    assert_eq!(gaps[..6], [0, 10, 20, 40, 80, 160]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_on_by_a_year_does_not_cut_a_back_off_short() {
    let node = Node::new();
    let pod = pod("a", HERE, &["sh", "-c", "sleep 1; exit 1"], 30);
    node.send(std::slice::from_ref(&pod));
    node.run_for(60).await;
    node.set_clock(YEAR);
    // Another version of it makes its worker think again.
    let mut object = (*pod.object).clone();
    let labels = object.metadata.labels.get_or_insert_default();
    labels.insert("version".to_owned(), "2".to_owned());
    let next = Pod::new(Arc::new(object), SourceKind::File, Vec::new());
    node.send(&[Arc::new(next.unwrap())]);
    node.run_for(400).await;
    let runs = node.runs_of("a", "main");
    let gaps: Vec<i64> = runs
        .windows(2)
        .map(|two| two[1].0 - two[0].1.unwrap())
        .collect();
    assert_eq!(gaps[..6], [0, 10, 20, 40, 80, 160]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_while_the_kubelet_is_down_does_not_freeze_a_crash_loop() {
    let mut node = Node::new();
    let pods = [pod("a", HERE, &["sh", "-c", "sleep 1; exit 1"], 30)];
    node.send(&pods);
    node.run_for(60).await;
    node.kubelet.take().unwrap().crash().await;
    node.set_clock(-YEAR);
    node.start();
    node.send(&pods);
    let before = node.runs_of("a", "main").len();
    node.run_for(400).await;
    assert!(node.runs_of("a", "main").len() >= before + 2);
}

#[tokio::test(start_paused = true)]
async fn after_a_clock_was_set_back_the_newest_instance_is_still_the_newest() {
    let node = Node::new();
    node.send(&[pod("a", HERE, &["serve"], 30)]);
    node.run_for(60).await;
    node.set_clock(-YEAR);
    let pid = |name: &str| {
        let all = node.instances();
        let runs = all.iter().find(|i| i.name == name && i.ended.is_none());
        runs.unwrap().pid
    };
    assert!(node.runtime.kill(pid("main"), 9));
    node.run_for(120).await;
    assert_eq!(node.runs_of("a", "main").len(), 2);
    assert!(is_ready(&node.status("a").unwrap()));
    assert!(node.runtime.kill(pid(""), 9));
    node.run_for(120).await;
    assert_eq!(node.runs_of("a", "main").len(), 3);
    assert!(is_ready(&node.status("a").unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_does_not_hold_back_what_failed() {
    let node = Node::new();
    node.runtime.faults(|plan| {
        plan.add("RunPodSandbox", 1, Fault::FailBefore(tonic::Code::Unknown));
    });
    node.send(&[pod("a", HERE, &["serve"], 30)]);
    node.run_for(0).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    node.set_clock(-YEAR);
    node.run_for(20).await;
    assert!(is_ready(&node.status("a").unwrap()));
}
