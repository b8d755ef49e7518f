//! Pods that are more than one container: five containers, a preStop hook, a server that listens late.
//!
//! In:    a kubelet straight on the runtime and the floor with a recording; nodes in a cluster, with and without fast first probes
//! Out:   rows of the table
//! Calls: main
//! Holds: kubelet and floor alternate, as in pods; the floor of five containers creates and starts them one after the other, and stops
//!        them at once; times of the late server begin with the POST and end with the event of a watch that was open before
//! Upstream: none

use serde_json::{Value, json};

use crate::Plan;
use crate::clock;
use crate::cluster::{Cluster, LASTING, pod};
use crate::figures::{Samples, Table};
use crate::floor::Floor;
use crate::kubelet::Kubelet;
use crate::node::{KubeletPlaces, Node};
use crate::pods::{by_turns, manifest, with_containers};
use crate::recording::Recording;

/// Containers of the pod that has several.
const CONTAINERS: usize = 5;
/// A server whose port opens 300 ms after its container began.
const LATE: &str = "trap \"exit 0\" TERM; mkdir -p /w; echo ok >/w/index.html; sleep 0.3; httpd -f -p 8080 -h /w & wait";
/// Rounds of the slow way, each of which takes a probe's whole period.
const SLOW_ROUNDS: u32 = 3;

/// A pod of five containers beside its floor.
pub(crate) fn containers(
    kubelet: &mut Kubelet,
    floor: &mut Floor,
    (recording, image): (&Recording, &str),
    plan: &Plan,
    table: &mut Table,
) -> anyhow::Result<()> {
    let script = "trap \\\"exit 0\\\" TERM; sleep 100000 & wait";
    let all: Vec<_> = (0..CONTAINERS)
        .map(|number| (format!("c{number}"), script))
        .collect();
    let recording = recording.with_containers(CONTAINERS);
    let (alone, start, end) = by_turns(kubelet, floor, &recording, plan.single_rounds, |name| {
        with_containers(name, "Always", &all, image)
    })?;
    table.over_floor(
        &format!("a pod of {CONTAINERS} containers: manifest to Ready in /pods"),
        &alone.start,
        &start,
        60.0,
    );
    table.over_floor(
        &format!("a pod of {CONTAINERS} containers: removed to gone everywhere"),
        &alone.end,
        &end,
        80.0,
    );
    table.note(
        &format!("a pod of {CONTAINERS} containers: stages (ms, medians)"),
        alone.stages.text(),
        "",
    );
    Ok(())
}

/// The end of a pod whose preStop hook takes a second.
pub(crate) fn hook(
    kubelet: &mut Kubelet,
    floor: &mut Floor,
    (recording, image): (&Recording, &str),
    plan: &Plan,
    table: &mut Table,
) -> anyhow::Result<()> {
    let (alone, _, end) = by_turns(kubelet, floor, recording, plan.single_rounds, |name| {
        let (name, text) = manifest(image, name);
        let hook = "    lifecycle: {preStop: {sleep: {seconds: 1}}}\n";
        (name, text + hook)
    })?;
    let over = alone.end.median() - end.median() - 1000.0;
    table.judge(
        "a preStop of 1 s: removed to gone everywhere",
        format!("{}; floor + 1 s {over:+.1} ms", alone.end.spread("ms")),
        end.spread("ms"),
        ("<= floor + 1 s + 80 ms", over <= 80.0),
    );
    Ok(())
}

/// A pod whose server listens late, with a readiness probe.
fn late_pod(image: &str, name: &str) -> Value {
    let mut late = pod(image, name, "Always", LATE);
    if let Some(container) = late.pointer_mut("/spec/containers/0") {
        container["readinessProbe"] =
            json!({"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 10});
    }
    late
}

/// POST to Ready of such pods, one after the other.
fn ready_times(
    cluster: &mut Cluster,
    rounds: u32,
    made: impl Fn(&str) -> Value,
) -> anyhow::Result<Samples> {
    let watcher = cluster.watcher()?;
    let mut times = Samples::default();
    for round in 0..rounds {
        let name = format!("p-{round:06}");
        let pods = [made(&name)];
        let names = [name];
        watcher.forget();
        times.push(cluster.run(&watcher, &pods, &names)? * 1000.0);
        let _seconds = cluster.clear(&watcher, &names)?;
        clock::pause_ms(200);
    }
    Ok(times)
}

/// A server that listens after 300 ms, with fast first probes (`hyperkube node`) and by the period alone (a kubelet of a cluster).
pub(crate) fn late(
    node: &Node,
    (fast, period): (&KubeletPlaces, &KubeletPlaces),
    plan: &Plan,
    table: &mut Table,
) -> anyhow::Result<()> {
    let image = node.value("HK_BUSYBOX_IMAGE");
    let mut cluster = Cluster::node(node, fast)?;
    let plain = ready_times(&mut cluster, plan.single_rounds, |name| {
        pod(image, name, "Always", LASTING)
    })?;
    let late = |name: &str| late_pod(image, name);
    let soon = ready_times(&mut cluster, plan.single_rounds, late)?;
    cluster.stop()?;
    let over = soon.median() - plain.median() - 300.0;
    table.judge(
        "cluster, a server that listens after 300 ms: POST to Ready, fast first probes",
        format!(
            "{}; without a probe {:.1} ms; that + 300 ms {over:+.1} ms",
            soon.spread("ms"),
            plain.median()
        ),
        "",
        ("<= 450 ms more than one without probe", over <= 150.0),
    );
    let mut cluster = Cluster::apart(node, period)?;
    let by_period = ready_times(&mut cluster, plan.single_rounds.min(SLOW_ROUNDS), late)?;
    cluster.stop()?;
    table.note(
        "cluster, the same by the probe's period of 10 s alone, as upstream",
        by_period.spread("ms"),
        "",
    );
    Ok(())
}
