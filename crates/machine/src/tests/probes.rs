//! Probes of real containers: commands, HTTP, TCP; restarts for liveness and startup; a kubelet that is killed meanwhile.
//!
//! Upstream: test/e2e/common/node/container_probe.go

use std::time::Duration;

use serde_json::{Value, json};

use crate::kubelet::{Kubelet, SOON, condition, container, is_ready, pod, shell};

fn with(mut container: Value, probes: &Value) -> Value {
    for (name, probe) in probes.as_object().unwrap() {
        container[name] = probe.clone();
    }
    container
}

fn restarts(pod: &Value, name: &str) -> u64 {
    container(pod, name)["restartCount"].as_u64().unwrap_or(0)
}

/// Serves HTTP on 8080 after a while; `/tmp/www/ready` is there as long as nobody removes it.
const SERVER: &str =
    "mkdir -p /tmp/www; echo yes > /tmp/www/ready; sleep 0.3; exec httpd -f -p 8080 -h /tmp/www";

#[test]
fn a_pod_is_ready_as_its_probes_say() {
    let mut kubelet = Kubelet::running("ready");
    let http = json!({"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1});
    let tcp = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1});
    let exec = json!({"exec": {"command": ["cat", "/tmp/www/ready"]}, "periodSeconds": 1});
    let server = with(
        shell("web", SERVER),
        &json!({"startupProbe": tcp, "readinessProbe": http, "livenessProbe": exec}),
    );
    let never = with(
        shell("never", "sleep 1000"),
        &json!({"readinessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1}}),
    );
    kubelet.put("web.yaml", &pod("web", &[server]));
    kubelet.put("never.yaml", &pod("never", &[never]));
    let web = kubelet.wait_ready("web");
    assert_eq!(container(&web, "web")["started"], true);
    let never = kubelet.wait("never", "running", SOON, |pod| {
        container(pod, "never")["started"] == true
    });
    assert_eq!(condition(&never, "Ready"), "False");
    assert_eq!(container(&never, "never")["ready"], false);
    kubelet.wait_log("Readiness probe failed: ");
    // It ran for as long as its tries: nobody restarted anything.
    let again = kubelet.pod("web").unwrap();
    assert_eq!((restarts(&again, "web"), is_ready(&again)), (0, true));
    let (status, metrics) = kubelet.main_port("/metrics/probes", &[]);
    assert_eq!(status, 200);
    for (kind, result, name) in [
        ("Startup", "successful", "web"),
        ("Readiness", "successful", "web"),
        ("Readiness", "failed", "never"),
    ] {
        let begin = format!("prober_probe_total{{container=\"{name}\"");
        let found = metrics.lines().any(|line| {
            line.starts_with(&begin)
                && line.contains(&format!("probe_type=\"{kind}\""))
                && line.contains(&format!("result=\"{result}\""))
        });
        assert!(found, "{kind} {result} {name}: {metrics}");
    }
}

#[test]
fn liveness_and_startup_restart_their_container_with_the_probes_own_grace() {
    let mut kubelet = Kubelet::running("alive");
    // It ignores the request to end, and would have half a minute.
    let deaf = "trap '' TERM; touch /tmp/alive; sleep 2; rm /tmp/alive; while :; do sleep 1; done";
    let liveness = json!({"exec": {"command": ["cat", "/tmp/alive"]}, "periodSeconds": 1, "failureThreshold": 2,
        "terminationGracePeriodSeconds": 2});
    let startup = json!({"tcpSocket": {"port": 9}, "periodSeconds": 1, "failureThreshold": 2,
        "terminationGracePeriodSeconds": 1});
    let alive = with(shell("c", deaf), &json!({"livenessProbe": liveness}));
    let slow = with(
        shell("c", "trap '' TERM; while :; do sleep 1; done"),
        &json!({"startupProbe": startup}),
    );
    let mut never = pod("never", std::slice::from_ref(&slow));
    never["spec"]["restartPolicy"] = json!("Never");
    kubelet.put("alive.yaml", &pod("alive", &[alive]));
    kubelet.put("slow.yaml", &pod("slow", &[slow]));
    kubelet.put("never.yaml", &never);
    for name in ["alive", "slow"] {
        let again = kubelet.wait(name, "restarted", SOON, |pod| restarts(pod, "c") > 0);
        let last = &container(&again, "c")["lastState"]["terminated"];
        assert_eq!(last["exitCode"], 137, "{name}");
    }
    kubelet.wait_log("Container c failed liveness probe, will be restarted");
    kubelet.wait_log("Container c failed startup probe, will be restarted");
    let never = kubelet.wait("never", "failed", SOON, |pod| {
        pod["status"]["phase"] == "Failed"
    });
    assert_eq!(restarts(&never, "c"), 0);
}

#[test]
fn a_kubelet_that_is_killed_flips_no_ready_pod() {
    let mut kubelet = Kubelet::running("flips");
    let slow = json!({"exec": {"command": ["true"]}, "periodSeconds": 60});
    let calm = with(
        shell("c", "sleep 1000"),
        &json!({"startupProbe": slow, "readinessProbe": slow, "livenessProbe": slow}),
    );
    kubelet.put("calm.yaml", &pod("calm", &[calm]));
    kubelet.wait_ready("calm");
    for _ in 0..3 {
        kubelet.kill();
        kubelet.start();
        // A minute passes before any of them is asked again: what was known stands from the first status on.
        let shown = kubelet.wait("calm", "shown", SOON, |pod| {
            !container(pod, "c")["state"]["running"].is_null()
        });
        assert!(is_ready(&shown), "{shown}");
        assert_eq!(restarts(&shown, "c"), 0);
    }
}

#[test]
fn probes_that_hang_delay_no_other() {
    let mut kubelet = Kubelet::running("hang");
    let sleeps = json!({"exec": {"command": ["sleep", "100"]}, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1000});
    let hangs = |name: &str| {
        let probed = with(shell("c", "sleep 1000"), &json!({"livenessProbe": sleeps}));
        pod(name, &[probed])
    };
    for number in 0..6 {
        let name = format!("hangs-{number}");
        kubelet.put(&format!("{name}.yaml"), &hangs(&name));
        kubelet.wait_ready(&name);
    }
    kubelet.wait_log("command timed out: ");
    let began = std::time::Instant::now();
    let http = json!({"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1});
    let server = with(shell("web", SERVER), &json!({"readinessProbe": http}));
    kubelet.put("web.yaml", &pod("web", &[server]));
    kubelet.wait_ready("web");
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}
