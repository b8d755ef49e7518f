//! Sidecars and restart rules of real containers, and a kubelet that is killed while they end.
//!
//! Upstream: test/e2e_node/container_lifecycle_test.go, restart_all_containers_test.go

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kubelet::{Kubelet, SOON, condition, container, is_ready, pod, shell};
use crate::node::{pause, until};

/// A container that says when it begins and when it is asked to end, and takes a moment for that.
fn tells(name: &str, rest: &str) -> Value {
    let line = format!(
        "trap 'echo {name}-term >> /told/all; sleep 0.5; echo {name}-end >> /told/all; exit 0' TERM; echo {name} >> /told/all; {rest}"
    );
    let mut tells = shell(name, &line);
    tells["volumeMounts"] = json!([{"name": "told", "mountPath": "/told"}]);
    tells
}

const WAIT: &str = "while :; do sleep 0.1; done";

fn sidecar(name: &str) -> Value {
    let mut sidecar = tells(name, WAIT);
    sidecar["restartPolicy"] = json!("Always");
    sidecar
}

fn with_init(name: &str, init: &[Value], containers: &[Value], told: &Path) -> Value {
    fs::create_dir_all(told).unwrap();
    let mut made = pod(name, containers);
    made["spec"]["initContainers"] = json!(init);
    made["spec"]["terminationGracePeriodSeconds"] = json!(20);
    made["spec"]["volumes"] = json!([{"name": "told", "hostPath": {"path": told}}]);
    made
}

fn words(told: &Path) -> Vec<String> {
    let text = fs::read_to_string(told.join("all")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn in_order(said: &[String], order: &[&str]) {
    let mut rest = said.iter();
    for word in order {
        assert!(
            rest.any(|said| said == word),
            "{word} of {order:?}: {said:?}"
        );
    }
}

#[test]
fn sidecars_start_in_their_turn_and_end_last_in_reverse() {
    let mut kubelet = Kubelet::running("sidecars");
    let told = kubelet.base.join("told");
    let mut late = sidecar("s2");
    // What comes after it waits until this has been heard.
    late["startupProbe"] =
        json!({"exec": {"command": ["test", "-e", "/told/s2-up"]}, "periodSeconds": 1});
    let init = [sidecar("s1"), tells("i1", "exit 0"), late];
    let made = with_init("order", &init, &[tells("a", WAIT), tells("b", WAIT)], &told);
    kubelet.put("order.yaml", &made);
    let waits = kubelet.wait("order", "s2 runs", SOON, |pod| {
        !container(pod, "s2")["state"]["running"].is_null()
    });
    assert_eq!(container(&waits, "s2")["started"], false);
    assert_eq!(container(&waits, "s1")["started"], true);
    assert_eq!(condition(&waits, "Initialized"), "False");
    assert_eq!(waits["status"]["phase"], "Pending");
    fs::write(told.join("s2-up"), "").unwrap();
    let up = kubelet.wait_ready("order");
    assert_eq!(container(&up, "s2")["started"], true);
    // One that ends is started again beside the others.
    let id = kubelet
        .runtime
        .running()
        .into_iter()
        .find(|((_, name), _)| name == "s1")
        .unwrap()
        .1
        .remove(0);
    kubelet.runtime.stop_container(&id);
    kubelet.wait("order", "s1 is started again", SOON, |pod| {
        container(pod, "s1")["restartCount"] == 1 && is_ready(pod)
    });
    // The kubelet is killed while they end: what is left of them ends in the same order.
    fs::write(told.join("all"), "").unwrap();
    kubelet.take("order.yaml");
    until("a is told", SOON, || {
        words(&told).contains(&"a-term".to_owned()).then_some(())
    });
    kubelet.kill();
    pause(Duration::from_millis(200));
    kubelet.start();
    // Nobody names it any more, so nothing is shown of it.
    until("its end", SOON, || {
        kubelet.runtime.sandboxes().is_empty().then_some(())
    });
    let said = words(&told);
    in_order(&said, &["a-end", "s2-term", "s2-end", "s1-term", "s1-end"]);
    in_order(&said, &["b-end", "s2-term"]);
}

#[test]
fn a_pod_that_is_done_ends_its_sidecars_and_succeeds() {
    let mut kubelet = Kubelet::running("jobs");
    let told = kubelet.base.join("told");
    let mut job = with_init(
        "job",
        &[sidecar("s1")],
        &[tells("work", "sleep 1; exit 0")],
        &told,
    );
    job["spec"]["restartPolicy"] = json!("Never");
    kubelet.put("job.yaml", &job);
    let done = kubelet.wait("job", "done", SOON, |pod| {
        pod["status"]["phase"] == "Succeeded"
    });
    assert_eq!(container(&done, "s1")["state"]["terminated"]["exitCode"], 0);
    in_order(&words(&told), &["s1", "work", "s1-term", "s1-end"]);
    // Its own end does not count.
    let deaf = "trap '' TERM; while :; do sleep 0.1; done";
    let mut killed = shell("s1", deaf);
    killed["restartPolicy"] = json!("Always");
    let mut failed = pod("failed", &[shell("work", "exit 3")]);
    failed["spec"]["initContainers"] = json!([killed]);
    failed["spec"]["restartPolicy"] = json!("Never");
    kubelet.put("failed.yaml", &failed);
    let ended = kubelet.wait("failed", "failed", SOON, |pod| {
        pod["status"]["phase"] == "Failed"
    });
    assert_eq!(
        container(&ended, "s1")["state"]["terminated"]["exitCode"],
        137
    );
}

#[test]
fn an_exit_may_start_all_containers_again() {
    let mut kubelet = Kubelet::running("all-again");
    let told = kubelet.base.join("told");
    let mut source = tells(
        "a",
        "while [ ! -e /told/fail ]; do sleep 0.1; done; rm /told/fail; exit 42",
    );
    source["restartPolicy"] = json!("Never");
    source["restartPolicyRules"] = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]);
    let mut made = with_init(
        "again",
        &[tells("i1", "exit 0"), sidecar("s1")],
        &[source, tells("b", WAIT)],
        &told,
    );
    made["spec"]["restartPolicy"] = json!("Never");
    kubelet.put("again.yaml", &made);
    let first = kubelet.wait_ready("again");
    assert_eq!(condition(&first, "AllContainersRestarting"), "False");
    let sandboxes = kubelet.runtime.sandboxes().len();
    fs::write(told.join("fail"), "").unwrap();
    let again = kubelet.wait("again", "started again", SOON, |pod| {
        is_ready(pod)
            && ["i1", "s1", "a", "b"]
                .iter()
                .all(|name| container(pod, name)["restartCount"] == 1)
    });
    assert_eq!(
        container(&again, "a")["lastState"]["terminated"]["exitCode"],
        42
    );
    let of_target = &container(&again, "b")["lastState"]["terminated"];
    assert_eq!(
        (&of_target["exitCode"], &of_target["reason"]),
        (&json!(137), &json!("RestartingAllContainers"))
    );
    assert_eq!(condition(&again, "AllContainersRestarting"), "False");
    assert_eq!(kubelet.runtime.sandboxes().len(), sandboxes);
    in_order(&words(&told), &["i1", "s1", "a", "i1", "s1", "a"]);
    // Killed in the middle of it, the kubelet goes on.
    fs::write(told.join("fail"), "").unwrap();
    until("it is taken down", SOON, || {
        (!kubelet
            .runtime
            .running()
            .keys()
            .any(|(_, name)| name == "a"))
        .then_some(())
    });
    kubelet.kill();
    kubelet.start();
    kubelet.wait("again", "started a third time", SOON, |pod| {
        is_ready(pod)
            && ["i1", "s1", "a", "b"]
                .iter()
                .all(|name| container(pod, name)["restartCount"] == 2)
    });
}
