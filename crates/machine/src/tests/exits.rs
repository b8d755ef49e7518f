//! How soon an exit is seen: from the process's end, as the runtime recorded it, to `/pods`.
//!
//! Upstream: none (its relist takes up to a second)

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kubelet::{Kubelet, pod, shell};
use crate::node::pause;

const PODS: usize = 20;
const CONTAINERS: usize = 10;
const AT_ONCE: usize = 2;
const LIMIT: Duration = Duration::from_millis(100);

#[expect(clippy::disallowed_methods, reason = "held against the runtime's times")]
fn now() -> Timestamp {
    std::time::SystemTime::now().try_into().unwrap()
}

fn batch(kubelet: &Kubelet, number: usize) {
    // From nothing at all to a second and a half.
    let containers: Vec<Value> = (0..CONTAINERS)
        .map(|n| shell(&format!("c{n}"), &format!("sleep {}.{}; exit 0", n / 8, n % 8)))
        .collect();
    let mut manifest = pod(&format!("short-{number}"), &containers);
    manifest["spec"]["restartPolicy"] = json!("Never");
    kubelet.put(&format!("{number}.yaml"), &manifest);
}

#[test]
fn an_exit_is_visible_within_100_ms() {
    let mut kubelet = Kubelet::running("exits");
    let mut seen: BTreeMap<String, Timestamp> = BTreeMap::new();
    let mut delays: Vec<Duration> = Vec::new();
    let mut next = 0;
    let mut open: BTreeSet<String> = BTreeSet::new();
    let began = Instant::now();
    while delays.len() < PODS * CONTAINERS {
        assert!(began.elapsed() < Duration::from_secs(150), "only {} exits were seen", delays.len());
        while open.len() < AT_ONCE && next < PODS {
            batch(&kubelet, next);
            open.insert(format!("short-{next}-n1"));
            next += 1;
        }
        let pods = kubelet.pods();
        let at = now();
        for pod in &pods {
            for status in pod["status"]["containerStatuses"].as_array().into_iter().flatten() {
                if status["state"]["terminated"].is_object() {
                    let id = status["containerID"].as_str().unwrap_or_default();
                    seen.entry(id.trim_start_matches("containerd://").to_owned()).or_insert(at);
                }
            }
            let name = pod["metadata"]["name"].as_str().unwrap();
            if pod["status"]["phase"] == "Succeeded" && open.remove(name) {
                delays.extend(delays_of(&kubelet, name, &seen));
                let number = name.split('-').nth(1).unwrap();
                kubelet.take(&format!("{number}.yaml"));
            }
        }
        pause(Duration::from_millis(2));
    }
    delays.sort();
    let percentile = |p: usize| delays[(delays.len() * p).div_ceil(100) - 1].as_secs_f64() * 1e3;
    let p99 = percentile(99);
    eprintln!(
        "\nexit to visible, {} exits: median {:.1} ms, p90 {:.1} ms, p99 {p99:.1} ms, most {:.1} ms",
        delays.len(),
        percentile(50),
        percentile(90),
        percentile(100)
    );
    assert!(p99 <= LIMIT.as_secs_f64() * 1e3, "p99 {p99:.1} ms");
}

fn delays_of(kubelet: &Kubelet, pod: &str, seen: &BTreeMap<String, Timestamp>) -> Vec<Duration> {
    let held = kubelet.runtime.containers();
    let of_pod: Vec<&str> = held.values().filter(|c| c.pod == pod).map(|c| c.id.as_str()).collect();
    assert_eq!(of_pod.len(), CONTAINERS, "{pod}");
    of_pod
        .into_iter()
        .map(|id| {
            let (status, _) = kubelet.runtime.container(id);
            let ended = Timestamp::from_nanosecond(status.finished_at.into()).unwrap();
            let seen = seen.get(id).unwrap_or_else(|| panic!("{id} of {pod} was never shown as ended"));
            Duration::try_from(seen.duration_since(ended)).unwrap_or_default()
        })
        .collect()
}
