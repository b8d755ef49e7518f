//! How soon an exit is seen: from the process's end, as the runtime recorded it, to `/pods`.
//!
//! Upstream: none (its relist takes up to a second)

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kubelet::{Kubelet, pod, shell};
use crate::node::pause;
use crate::runtime::Runtime;

const PODS: usize = 20;
const CONTAINERS: usize = 10;
const AT_ONCE: usize = 1;
/// More load than these tests make themselves.
const BUSY_PER_CORE: f64 = 3.0;
const LIMIT: Duration = Duration::from_millis(100);

#[expect(
    clippy::disallowed_methods,
    reason = "held against the runtime's times"
)]
fn now() -> Timestamp {
    std::time::SystemTime::now().try_into().unwrap()
}

fn batch(kubelet: &Kubelet, number: usize) {
    // From nothing at all to a second and a half.
    let containers: Vec<Value> = (0..CONTAINERS)
        .map(|n| {
            shell(
                &format!("c{n}"),
                &format!("sleep {}.{}; exit 0", n / 8, n % 8),
            )
        })
        .collect();
    let mut manifest = pod(&format!("short-{number}"), &containers);
    manifest["spec"]["restartPolicy"] = json!("Never");
    kubelet.put(&format!("{number}.yaml"), &manifest);
}

/// When each container was first seen to have ended.
type Seen = BTreeMap<String, Timestamp>;

/// Asks the runtime all the time: it learns of an exit later than the kernel, and nobody can know before it does.
fn watch_runtime(endpoint: &str, done: &AtomicBool) -> Seen {
    let runtime = Runtime::connect(endpoint);
    let mut seen = Seen::new();
    while !done.load(Ordering::Relaxed) {
        let ended = runtime
            .containers()
            .into_values()
            .filter(|held| !held.running && !held.created);
        let at = now();
        for held in ended {
            seen.entry(held.id).or_insert(at);
        }
        pause(Duration::from_millis(3));
    }
    seen
}

/// Runs the pods; when each exit was shown, and when the process had ended as the runtime recorded it.
fn watch_pods(kubelet: &mut Kubelet) -> (Seen, Seen) {
    let (mut shown, mut ended) = (Seen::new(), Seen::new());
    let mut next = 0;
    let mut open: BTreeSet<String> = BTreeSet::new();
    let began = Instant::now();
    while ended.len() < PODS * CONTAINERS {
        assert!(
            began.elapsed() < Duration::from_secs(150),
            "only {} exits were seen",
            ended.len()
        );
        while open.len() < AT_ONCE && next < PODS {
            batch(kubelet, next);
            open.insert(format!("short-{next}-n1"));
            next += 1;
        }
        let pods = kubelet.pods();
        let at = now();
        for pod in &pods {
            for status in pod["status"]["containerStatuses"]
                .as_array()
                .into_iter()
                .flatten()
            {
                if status["state"]["terminated"].is_object() {
                    let id = status["containerID"].as_str().unwrap_or_default();
                    shown
                        .entry(id.trim_start_matches("containerd://").to_owned())
                        .or_insert(at);
                }
            }
            let name = pod["metadata"]["name"].as_str().unwrap();
            if pod["status"]["phase"] == "Succeeded" && open.remove(name) {
                let held = kubelet.runtime.containers();
                let of_pod: Vec<&str> = held
                    .values()
                    .filter(|c| c.pod == name)
                    .map(|c| c.id.as_str())
                    .collect();
                assert_eq!(of_pod.len(), CONTAINERS, "{name}");
                for id in of_pod {
                    let finished_at = kubelet.runtime.container(id).0.finished_at;
                    ended.insert(
                        id.to_owned(),
                        Timestamp::from_nanosecond(finished_at.into()).unwrap(),
                    );
                }
                let number = name.split('-').nth(1).unwrap();
                kubelet.take(&format!("{number}.yaml"));
            }
        }
        pause(Duration::from_millis(2));
    }
    (shown, ended)
}

/// Prints how much later things were; the 99th of a hundred, in milliseconds.
fn p99(what: &str, from: &Seen, to: &Seen) -> f64 {
    let late = |(id, from): (&String, &Timestamp)| {
        let to = to
            .get(id)
            .unwrap_or_else(|| panic!("the end of {id} was never seen"));
        to.duration_since(*from).as_secs_f64().max(0.0) * 1e3
    };
    let mut late: Vec<f64> = from.iter().map(late).collect();
    late.sort_by(f64::total_cmp);
    let percentile = |p: usize| late[(late.len() * p).div_ceil(100) - 1];
    let (median, p90, p99, most) = (
        percentile(50),
        percentile(90),
        percentile(99),
        percentile(100),
    );
    eprintln!(
        "  {what}, {} exits: median {median:.1} ms, p90 {p90:.1}, p99 {p99:.1}, most {most:.1}",
        late.len()
    );
    p99
}

#[test]
fn an_exit_is_visible_within_100_ms() {
    let mut kubelet = Kubelet::running("exits");
    let done = AtomicBool::new(false);
    let endpoint = kubelet.node.endpoint.clone();
    let (runtime, (shown, ended)) = std::thread::scope(|scope| {
        let runtime = scope.spawn(|| watch_runtime(&endpoint, &done));
        let watched = std::panic::catch_unwind(AssertUnwindSafe(|| watch_pods(&mut kubelet)));
        done.store(true, Ordering::Relaxed);
        (
            runtime.join().unwrap(),
            watched.unwrap_or_else(|panic| resume_unwind(panic)),
        )
    });
    eprintln!();
    p99("process ended to known to the runtime", &ended, &runtime);
    p99("process ended to shown in /pods", &ended, &shown);
    // What the runtime does not know yet nobody can show.
    let known: Seen = ended
        .iter()
        .map(|(id, at)| (id.clone(), *runtime.get(id).unwrap_or(at).max(at)))
        .collect();
    let ours = p99("known to the runtime to shown in /pods", &known, &shown);
    // A figure of a machine that works for others at the same time says nothing of us; then it is only printed.
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let load: f64 = load.split(' ').next().unwrap().parse().unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    if load > BUSY_PER_CORE * f64::from(u32::try_from(cores).unwrap()) {
        eprint!("  not judged: the machine is busy (load {load} on {cores} cores) ");
    } else {
        assert!(ours <= LIMIT.as_secs_f64() * 1e3, "p99 {ours:.1} ms");
    }
}
