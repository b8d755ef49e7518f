//! Probes and init containers that mean harm: outputs without end, servers that keep a client waiting, children that stay.
//!
//! Upstream: none (its bounds: pkg/probe/{exec,http,grpc}, 10 KiB of a body, 16 MiB of a message of the runtime)

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kubelet::{Kubelet, SOON, container, is_ready, pod, shell};
use crate::node::{settles, until};

/// Redirects to itself on port 8080, sends its head byte by byte on port 8081.
const SERVER: &str = r#"mkdir -p /www/cgi-bin
printf '#!/bin/sh\nprintf "Status: 302 Found\\r\\nLocation: /cgi-bin/again\\r\\n\\r\\n"\n' > /www/cgi-bin/again
printf '#!/bin/sh\nwhile printf H; do sleep 0.1; done\n' > /www/slowly
chmod +x /www/cgi-bin/again /www/slowly
httpd -p 8080 -h /www
while :; do nc -l -p 8081 -e /www/slowly; done"#;

/// The most that the kubelet's memory may grow by for an answer that a stranger made large, KiB.
const GROWS_KIB: u64 = 96 << 10;

fn idle(name: &str, probe: &Value) -> Value {
    let mut idle = shell(name, "sleep 1000");
    idle["readinessProbe"] = probe.clone();
    idle
}

/// Processes of this machine whose command line is so.
fn processes(words: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        (line.trim() == words).then(|| format!("{} {line}", entry.path().display()))
    });
    lines.collect()
}

#[test]
fn servers_that_keep_a_probe_waiting_cost_one_verdict_each() {
    let mut kubelet = Kubelet::running("waiting");
    let probe = |kind: &str, target: Value| {
        let mut probe = json!({"periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1});
        probe[kind] = target;
        probe
    };
    let again = probe("httpGet", json!({"port": 8080, "path": "/cgi-bin/again"}));
    let slowly = probe("httpGet", json!({"port": 8081}));
    let other = probe("grpc", json!({"port": 8080}));
    let containers = [
        shell("server", SERVER),
        idle("again", &again),
        idle("slowly", &slowly),
        idle("other", &other),
    ];
    kubelet.put("hostile.yaml", &pod("hostile", &containers));
    kubelet.wait_log("stopped after 10 redirects");
    kubelet.wait_log("(Client.Timeout exceeded while awaiting headers)");
    kubelet.wait_log("timeout: failed to connect service ");
    let descriptors = kubelet.descriptors();
    let calm = idle("c", &probe("exec", json!({"command": ["true"]})));
    kubelet.put("calm.yaml", &pod("calm", &[calm]));
    kubelet.wait_ready("calm");
    // Some seconds of it leave no connection behind.
    let failed = |kubelet: &Kubelet| {
        kubelet
            .log_text()
            .matches("stopped after 10 redirects")
            .count()
    };
    let before = failed(&kubelet);
    until("ten more tries", SOON, || {
        (failed(&kubelet) >= before + 10).then_some(())
    });
    let now = kubelet.descriptors();
    assert!(
        now <= descriptors + 16,
        "{descriptors} descriptors, then {now}"
    );
    let shown = kubelet.pod("hostile").unwrap();
    assert!(!is_ready(&shown));
    for name in ["again", "slowly", "other"] {
        let shown = container(&shown, name);
        assert_eq!(
            (&shown["ready"], &shown["restartCount"]),
            (&json!(false), &json!(0)),
            "{name}"
        );
    }
    assert!(is_ready(&kubelet.pod("calm").unwrap()));
}

#[test]
fn a_command_that_prints_a_gigabyte_costs_no_memory() {
    let mut kubelet = Kubelet::running("flood");
    kubelet.put(
        "calm.yaml",
        &pod(
            "calm",
            &[idle(
                "c",
                &json!({"exec": {"command": ["true"]}, "periodSeconds": 1}),
            )],
        ),
    );
    kubelet.wait_ready("calm");
    let before = kubelet.peak_memory_kib();
    let mut flood = shell("c", "sleep 1000");
    let command = json!(["dd", "if=/dev/zero", "bs=1M", "count=1024"]);
    flood["livenessProbe"] = json!({"exec": {"command": command}, "periodSeconds": 1, "timeoutSeconds": 60, "failureThreshold": 1});
    kubelet.put("flood.yaml", &pod("flood", &[flood]));
    kubelet.wait("flood", "running", SOON, |pod| {
        container(pod, "c")["started"] == true
    });
    // The answer is too large for a message of the runtime, which is no verdict, as upstream; three tries are one.
    until("an answer of the runtime", Duration::from_secs(180), || {
        let log = kubelet.log_text();
        log.contains("Liveness probe errored and resulted in unknown state")
            .then_some(())
    });
    let grown = kubelet.peak_memory_kib() - before;
    assert!(grown <= GROWS_KIB, "{grown} KiB more");
    let shown = kubelet.pod("flood").unwrap();
    assert_eq!(container(&shown, "c")["restartCount"], 0);
    assert!(is_ready(&kubelet.pod("calm").unwrap()));
}

#[test]
fn children_that_an_init_container_leaves_behind_end_with_it() {
    let mut kubelet = Kubelet::running("children");
    let forks = "trap '' TERM HUP; setsid sleep 424242 & sleep 424242 & (sleep 424242 &) & exit 0";
    for (name, is_shared) in [("own", false), ("shared", true)] {
        let mut forking = pod(name, &[shell("c", "sleep 1000")]);
        forking["spec"]["initContainers"] = json!([shell("forks", forks)]);
        forking["spec"]["shareProcessNamespace"] = json!(is_shared);
        kubelet.put(&format!("{name}.yaml"), &forking);
        kubelet.wait_ready(name);
        settles("the children to end", SOON, || processes("sleep 424242"));
        let shown = kubelet.pod(name).unwrap();
        let init = &container(&shown, "forks")["state"]["terminated"];
        assert_eq!(init["reason"], "Completed", "{name}: {init}");
    }
}
