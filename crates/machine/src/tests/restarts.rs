//! Containers that end: restart policies, back-off, init containers.
//!
//! Upstream: test/e2e_node/{container_restart_test.go,container_lifecycle_test.go}

use std::fs;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kubelet::{Kubelet, SOON, condition, container, is_ready, pod, shell};
use crate::node::until;

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

fn restarts(pod: &Value) -> u64 {
    container(pod, "c")["restartCount"].as_u64().unwrap_or(0)
}

fn back_off(wait: &str, pod: &Value) -> bool {
    let waiting = &container(pod, "c")["state"]["waiting"];
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let name = pod["metadata"]["name"].as_str().unwrap();
    let message =
        format!("back-off {wait} restarting failed container=c pod={name}_default({uid})");
    waiting["reason"] == "CrashLoopBackOff" && waiting["message"] == message
}

#[test]
fn a_crash_looping_container_waits_nothing_then_ten_seconds_then_twenty() {
    let mut kubelet = Kubelet::running("crash-loop");
    kubelet.put(
        "crash.yaml",
        &pod(
            "crash",
            &[shell("c", "echo bye > /dev/termination-log; exit 3")],
        ),
    );
    let first = kubelet.wait("crash", "in back-off of 10 s", SOON, |pod| {
        back_off("10s", pod)
    });
    assert_eq!(restarts(&first), 1);
    let last = &container(&first, "c")["lastState"]["terminated"];
    assert_eq!(last["exitCode"], 3);
    assert_eq!(last["reason"], "Error");
    assert_eq!(last["message"], "bye\n");
    assert_eq!(first["status"]["phase"], "Running");
    assert_eq!(condition(&first, "Ready"), "False");
    let ended = time(&last["finishedAt"]);
    let second = kubelet.wait("crash", "in back-off of 20 s", SOON, |pod| {
        back_off("20s", pod)
    });
    assert_eq!(restarts(&second), 2);
    let started = time(&container(&second, "c")["lastState"]["terminated"]["startedAt"]);
    // Times in the status are whole seconds.
    let gap = started.duration_since(ended).as_secs();
    assert!((9..=11).contains(&gap), "restarted after {gap} s");
    // The newest dead container per name is kept, older ones are removed.
    until("the older containers to go", SOON, || {
        (kubelet.runtime.containers().len() == 1).then_some(())
    });
    let uid = second["metadata"]["uid"].as_str().unwrap();
    let id = kubelet.runtime.containers().into_keys().next().unwrap();
    let (status, _) = kubelet.runtime.container(&id);
    assert_eq!(status.metadata.unwrap().attempt, 2);
    assert_eq!(
        status.annotations["io.kubernetes.container.restartCount"],
        "2"
    );
    assert!(
        status
            .log_path
            .ends_with(&format!("default_crash-n1_{uid}/c/2.log")),
        "{}",
        status.log_path
    );
}

#[test]
fn the_longest_back_off_is_the_configured_one() {
    let mut kubelet = Kubelet::new("back-off");
    kubelet.config["crashLoopBackOff"] = json!({"maxContainerRestartPeriod": "1s"});
    kubelet.start();
    kubelet.put("crash.yaml", &pod("crash", &[shell("c", "exit 3")]));
    let pod = kubelet.wait("crash", "restarted three times", SOON, |pod| {
        restarts(pod) >= 3
    });
    assert_eq!(
        container(&pod, "c")["lastState"]["terminated"]["exitCode"],
        3
    );
}

#[test]
fn restart_policies_and_init_containers_are_followed() {
    let mut kubelet = Kubelet::running("policies");
    let out = kubelet.base.join("out");
    fs::create_dir_all(&out).unwrap();
    let with_out = |mut container: Value| {
        container["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}]);
        container
    };
    let with_policy = |name: &str, policy: &str, line: &str| {
        let mut pod = pod(name, &[with_out(shell("c", line))]);
        pod["spec"]["restartPolicy"] = json!(policy);
        pod["spec"]["volumes"] = json!([{"name": "out", "hostPath": {"path": out}}]);
        pod
    };
    kubelet.put("1.yaml", &with_policy("done", "OnFailure", "exit 0"));
    kubelet.put(
        "2.yaml",
        &with_policy(
            "again",
            "OnFailure",
            "test -e /out/x || { touch /out/x; exit 1; }",
        ),
    );
    kubelet.put("3.yaml", &with_policy("failed", "Never", "exit 7"));
    let mut ordered = with_policy(
        "ordered",
        "Always",
        "echo main >> /out/order; while :; do sleep 1; done",
    );
    ordered["spec"]["initContainers"] = json!([
        with_out(shell("one", "sleep 0.3; echo one >> /out/order")),
        with_out(shell("two", "echo two >> /out/order")),
    ]);
    kubelet.put("4.yaml", &ordered);

    let phase = |phase: &'static str| move |pod: &Value| pod["status"]["phase"] == phase;
    let done = kubelet.wait("done", "Succeeded", SOON, phase("Succeeded"));
    assert_eq!(
        container(&done, "c")["state"]["terminated"]["reason"],
        "Completed"
    );
    assert_eq!(restarts(&done), 0);
    let again = kubelet.wait("again", "Succeeded", SOON, phase("Succeeded"));
    assert_eq!(restarts(&again), 1);
    assert_eq!(
        container(&again, "c")["lastState"]["terminated"]["exitCode"],
        1
    );
    let failed = kubelet.wait("failed", "Failed", SOON, phase("Failed"));
    assert_eq!(
        container(&failed, "c")["state"]["terminated"]["exitCode"],
        7
    );
    let ordered = kubelet.wait_ready("ordered");
    assert_eq!(
        fs::read_to_string(out.join("order")).unwrap(),
        "one\ntwo\nmain\n"
    );
    for init in ["one", "two"] {
        let state = &container(&ordered, init)["state"]["terminated"];
        assert_eq!(state["reason"], "Completed", "{init}");
        assert_eq!(container(&ordered, init)["ready"], true);
    }
    assert_eq!(condition(&ordered, "Initialized"), "True");
    crate::node::pause(Duration::from_secs(1));
    assert_eq!(restarts(&kubelet.pod("failed").unwrap()), 0);
    assert_eq!(restarts(&kubelet.pod("done").unwrap()), 0);
}

#[test]
fn a_manifest_that_is_removed_and_put_back_at_once_is_a_restart() {
    let mut kubelet = Kubelet::running("put-back");
    let manifest = pod(
        "back",
        &[shell(
            "c",
            "trap 'exit 0' TERM; while :; do sleep 0.05; done",
        )],
    );
    kubelet.put("back.yaml", &manifest);
    let first = kubelet.wait_ready("back");
    kubelet.take("back.yaml");
    kubelet.put("back.yaml", &manifest);
    let again = kubelet.wait("back", "restarted", SOON, |pod| {
        restarts(pod) == 1 && is_ready(pod)
    });
    assert_eq!(again["metadata"]["uid"], first["metadata"]["uid"]);
    assert_ne!(
        container(&again, "c")["containerID"],
        container(&first, "c")["containerID"]
    );
}
