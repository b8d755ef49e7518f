//! What the ports answer, held against the kernel's own files and the recordings; who may ask.
//!
//! Upstream: pkg/kubelet/server, test/e2e_node/{runtime_conformance,node_problem…}: none alike

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::exposition;

use crate::http::Http;
use crate::kubelet::{Kubelet, SOON, idle};
use crate::node::until;

#[test]
fn health_debug_and_timeline_are_served() {
    let mut kubelet = Kubelet::running("serves");
    let mut healthz = Http::new(format!("127.0.0.1:{}", kubelet.config["healthzPort"]));
    assert_eq!(healthz.text("/healthz").unwrap(), "ok");
    assert_eq!(kubelet.read_only.text("/healthz").unwrap(), "ok");
    assert_eq!(kubelet.main_port("/healthz", &[]), (200, "ok".to_owned()));
    assert_eq!(kubelet.read_only.get("/configz").unwrap().0, 404);
    assert_eq!(kubelet.read_only.get("/debug/tasks").unwrap().0, 404);

    kubelet.put("a.yaml", &idle("a"));
    kubelet.wait_ready("a");
    let tasks = kubelet.main_json("/debug/tasks").to_string();
    for task in ["sync loop", "pleg"] {
        assert!(tasks.contains(task), "no {task:?} in {tasks}");
    }
    let sources = kubelet.main_json("/debug/sources");
    assert_eq!(sources["sources"][0]["seen"], true, "{sources}");
    let timeline = kubelet.main_json("/debug/timeline");
    let stages: Vec<&str> = timeline["pods"][0]["stages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|stage| stage["stage"].as_str())
        .collect();
    let all: BTreeSet<&str> = stages.iter().copied().collect();
    let expected = [
        "queued", "admitted", "volumes", "pull", "sandbox", "create", "start", "ready",
    ];
    assert_eq!(all, BTreeSet::from(expected), "{timeline}");
    assert_eq!(
        (stages.first(), stages.last()),
        (Some(&"queued"), Some(&"ready"))
    );
    kubelet.wait_log("Pod is ready");
    let running = kubelet.main_json("/runningpods/");
    assert_eq!(running["items"][0]["metadata"]["name"], "a-n1", "{running}");
}

#[test]
fn the_machine_is_described_as_the_kernel_does() {
    let mut kubelet = Kubelet::running("spec");
    let spec: Value = serde_json::from_str(&kubelet.read_only.text("/spec/").unwrap()).unwrap();
    let read = |path: &str| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let cpuinfo = read("/proc/cpuinfo");
    let values = |key: &str| -> Vec<String> {
        let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        lines
            .filter(|(found, _)| found.trim() == key)
            .map(|(_, value)| value.trim().to_owned())
            .collect()
    };
    let distinct = |key: &str| {
        values(key)
            .into_iter()
            .collect::<BTreeSet<_>>()
            .len()
            .max(1)
    };
    assert_eq!(spec["num_cores"], values("processor").len());
    assert_eq!(spec["num_physical_cores"], distinct("core id"));
    assert_eq!(spec["num_sockets"], distinct("physical id"));
    let highest = read("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq");
    let clock = highest.parse().unwrap_or_else(|_| {
        values("cpu MHz")
            .first()
            .map_or(0.0, |mhz| mhz.parse::<f64>().unwrap() * 1e3)
    });
    assert!(
        (spec["cpu_frequency_khz"].as_f64().unwrap() - clock).abs() <= clock / 2.0,
        "{}",
        spec["cpu_frequency_khz"]
    );
    let meminfo = read("/proc/meminfo");
    let amount = |key: &str| {
        let line = meminfo.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            * 1024
    };
    assert_eq!(spec["memory_capacity"], amount("MemTotal:"));
    assert_eq!(spec["swap_capacity"], amount("SwapTotal:"));
    assert!(spec["memory_by_type"].is_object());
    assert!(spec["nvm"].is_object());
    for page in spec["hugepages"].as_array().into_iter().flatten() {
        let size = page["page_size"].as_u64().unwrap();
        let count = read(&format!(
            "/sys/kernel/mm/hugepages/hugepages-{size}kB/nr_hugepages"
        ));
        assert_eq!(page["num_pages"].to_string(), count);
    }
    let sizes = fs::read_dir("/sys/kernel/mm/hugepages").map_or(0, Iterator::count);
    assert_eq!(spec["hugepages"].as_array().map_or(0, Vec::len), sizes);
    let machine_id = [read("/etc/machine-id"), read("/var/lib/dbus/machine-id")];
    assert_eq!(
        spec["machine_id"],
        *machine_id
            .iter()
            .find(|id| !id.is_empty())
            .unwrap_or(&String::new())
    );
    let dmi = read("/sys/class/dmi/id/product_uuid");
    assert!(
        dmi.is_empty() || spec["system_uuid"] == dmi,
        "{}",
        spec["system_uuid"]
    );
    assert_eq!(spec["boot_id"], read("/proc/sys/kernel/random/boot_id"));
    let mounts = read("/proc/self/mountinfo");
    let filesystems = spec["filesystems"].as_array().unwrap();
    assert!(!filesystems.is_empty());
    for filesystem in filesystems {
        let device = filesystem["device"].as_str().unwrap();
        // Overlays are those of pods, of other nodes too: they come and go, and are named by their number.
        let is_overlay = device
            .strip_prefix("overlay_")
            .is_some_and(|rest| rest.contains('-'));
        assert!(is_overlay || mounts.contains(device), "{device}");
        assert!(
            filesystem["capacity"].as_u64().unwrap() > 0 || device == "overlay",
            "{filesystem}"
        );
    }
    for (number, disk) in spec["disk_map"].as_object().unwrap() {
        let sysfs = format!("/sys/block/{}", disk["name"].as_str().unwrap());
        assert_eq!(read(&format!("{sysfs}/dev")), *number);
        let sectors: u64 = read(&format!("{sysfs}/size")).parse().unwrap();
        assert_eq!(disk["size"], sectors * 512);
    }
    for device in spec["network_devices"].as_array().unwrap() {
        let name = device["name"].as_str().unwrap();
        let sysfs = format!("/sys/class/net/{name}");
        // Other nodes of this machine come and go.
        if Path::new(&sysfs).exists() {
            assert_eq!(
                device["mac_address"],
                read(&format!("{sysfs}/address")),
                "{name}"
            );
            assert_eq!(
                device["mtu"].to_string(),
                read(&format!("{sysfs}/mtu")),
                "{name}"
            );
        }
    }
    let threads: usize = spec["topology"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|node| node["cores"].as_array().cloned().unwrap_or_default())
        .map(|core| core["thread_ids"].as_array().map_or(0, Vec::len))
        .sum();
    assert_eq!(threads, values("processor").len());
    assert_eq!(spec["cloud_provider"], "Unknown");
    assert_eq!(spec["instance_type"], "Unknown");
    assert_eq!(spec["instance_id"], "None");
}

#[test]
fn upstreams_metrics_are_there() {
    let mut kubelet = Kubelet::running("metrics");
    kubelet.put("a.yaml", &idle("a"));
    kubelet.wait_ready("a");
    let text = until("the metrics", SOON, || {
        kubelet.read_only.text("/metrics").ok()
    });
    // The request that asked counts from its end on.
    let text = kubelet.read_only.text("/metrics").unwrap_or(text);
    let lines = exposition::differences(&text, exposition::SHOWN).unwrap();
    assert!(lines.is_empty(), "{lines:#?}");
    let shown = exposition::families(&text);
    let built: Vec<&str> = exposition::NOT_BUILT
        .iter()
        .copied()
        .filter(|name| shown.contains_key(*name))
        .collect();
    assert!(built.is_empty(), "said not to be built: {built:#?}");
    eprint!(
        "[{} families; not built: {}] ",
        shown.len(),
        exposition::NOT_BUILT.len()
    );
    for line in [
        "kubelet_started_pods_total 1",
        "kubelet_active_pods{static=\"true\"} 1",
        "kubelet_node_name{node=\"n1\"} 1",
        "kubelet_working_pods{config=\"desired\",lifecycle=\"sync\",static=\"true\"} 1",
        "kubelet_pod_start_total_duration_seconds_count 1",
    ] {
        assert!(
            text.lines().any(|shown| shown == line),
            "{line} is not in {text}"
        );
    }
}

#[test]
fn the_configuration_in_force_goes_in_again_as_it_came_out() {
    let mut kubelet = Kubelet::running("configz");
    let shown = kubelet.main_json("/configz")["kubeletconfig"].clone();
    for (key, value) in kubelet.config.as_object().unwrap() {
        if !value.is_object() {
            assert_eq!(shown[key], *value, "{key}");
        }
    }
    kubelet.kill();
    kubelet.config = shown.clone();
    kubelet.config["kind"] = json!("KubeletConfiguration");
    kubelet.config["apiVersion"] = json!("kubelet.config.k8s.io/v1beta1");
    kubelet.start();
    let mut again = kubelet.main_json("/configz")["kubeletconfig"].clone();
    for key in ["kind", "apiVersion"] {
        again[key] = shown[key].clone();
    }
    assert_eq!(again, shown);
}

#[test]
fn a_mode_that_is_not_built_opens_nothing() {
    let mut kubelet = Kubelet::new("closed");
    let healthz = kubelet.config["healthzPort"].clone();
    let read_only = kubelet.config["readOnlyPort"].take();
    kubelet
        .config
        .as_object_mut()
        .unwrap()
        .remove("readOnlyPort");
    kubelet.config["authentication"] =
        json!({"anonymous": {"enabled": false}, "webhook": {"enabled": true}});
    kubelet.config["authorization"] = json!({"mode": "Webhook"});
    let healthy = |port: &Value| Http::new(format!("127.0.0.1:{port}")).text("/healthz");
    kubelet.launch();
    until("healthz", SOON, || healthy(&healthz).ok());
    until("the main port", SOON, || {
        (kubelet.main_port("/pods", &[]).0 != 0).then_some(())
    });
    assert!(
        healthy(&read_only).is_err(),
        "the read-only port is open without being asked for"
    );
    assert_eq!(kubelet.main_port("/pods", &[]).0, 401);
    let token = ["-H", "Authorization: Bearer abc"];
    assert_eq!(kubelet.main_port("/pods", &token).0, 401);
    kubelet.kill();
    kubelet.config["authentication"] =
        json!({"anonymous": {"enabled": true}, "webhook": {"enabled": false}});
    kubelet.launch();
    until("the main port", SOON, || {
        (kubelet.main_port("/pods", &[]).0 != 0).then_some(())
    });
    for path in ["/pods", "/configz", "/debug/tasks", "/metrics"] {
        assert_eq!(kubelet.main_port(path, &[]).0, 403, "{path}");
    }
}

#[test]
fn it_ends_within_five_seconds_and_the_pods_go_on() {
    let mut kubelet = Kubelet::running("sigterm");
    kubelet.put("a.yaml", &idle("a"));
    kubelet.wait_ready("a");
    let before = kubelet.runtime.containers();
    // In the midst of a start, too.
    kubelet.put("b.yaml", &idle("b"));
    let (status, took) = kubelet.terminate();
    eprint!("[ended after {:.0?}] ", took);
    assert_eq!(status.code(), Some(0));
    assert!(took <= Duration::from_secs(5), "{took:?}");
    let after = kubelet.runtime.containers();
    assert!(
        before.values().all(|held| after[&held.id] == *held),
        "{after:?}"
    );
    kubelet.start();
    kubelet.wait_ready("b");
    assert_eq!(
        kubelet.runtime.running()[&("a-n1".to_owned(), "c".to_owned())].len(),
        1
    );
    assert!(
        before
            .values()
            .all(|held| kubelet.runtime.containers()[&held.id] == *held)
    );
}
