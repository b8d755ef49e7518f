//! How soon an exit shows in a cluster: from the end of a pod's container, as the runtime dates it, to phase Failed at a watcher.
//!
//! In:    `hyperkube node` straight on the runtime
//! Out:   rows: p50 and p99, beside what the runtime itself needed until it said so
//! Calls: main
//! Holds: as in exits: long-running containers ended one by one, and containers that end as soon as they started; the next one ends
//!        when the runtime has nothing to do with the one before
//! Upstream: none

use anyhow::Context as _;
use serde_json::Value;

use crate::Plan;
use crate::clock;
use crate::cluster::{Cluster, pod};
use crate::exits::{Delays, end, finished};
use crate::figures::{Samples, Table};
use crate::floor::Floor;
use crate::kubelet::text_at;
use crate::watcher::{Event, Watcher};

/// Ends with an error when it is asked to end.
const LASTING: &str = "trap \"exit 3\" TERM; sleep 100000 & wait";

fn container(pod: &Value) -> String {
    text_at(pod, "/status/containerStatuses/0/containerID").replace("containerd://", "")
}

/// When the watcher saw that a pod had failed.
fn failed(watcher: &Watcher, name: &str) -> anyhow::Result<Event> {
    let names = [name.to_owned()];
    let mut seen = watcher.wait("a pod has failed", &names, 60.0, Event::has_failed)?;
    seen.remove(name).context("an event of the pod")
}

/// Waits until the sandbox of a pod that failed is down: the runtime's work on it is no part of the next exit.
fn torn_down(watcher: &Watcher, name: &str) -> anyhow::Result<()> {
    let names = [name.to_owned()];
    watcher
        .wait("a sandbox is down", &names, 60.0, Event::is_torn_down)
        .map(drop)
}

/// Containers that run, ended one by one; and how long after the runtime's own answer each was seen, in milliseconds.
fn lasting(
    cluster: &mut Cluster,
    watcher: &Watcher,
    floor: &Floor,
    (image, count): (&str, u32),
) -> anyhow::Result<(Delays, Samples)> {
    let names: Vec<String> = (0..count).map(|number| format!("x-{number:06}")).collect();
    let pods: Vec<Value> = names
        .iter()
        .map(|name| pod(image, name, "Never", LASTING))
        .collect();
    cluster.post(&pods)?;
    let running = watcher.wait("pods are Ready", &names, 180.0, Event::is_ready)?;
    clock::pause_ms(1000);
    let (mut delays, mut own) = (Delays::default(), Samples::default());
    for (name, event) in &running {
        let id = container(&event.pod);
        end(floor, &id)?;
        let ended = clock::poll("the runtime tells of an end", 1, 60.0, || {
            Ok(Some(finished(floor, &id)?).filter(|ended| *ended > 0.0))
        })?;
        let told = clock::now();
        delays.told.push((told - ended) * 1000.0);
        let seen = failed(watcher, name)?;
        delays.shown.push((seen.at - ended) * 1000.0);
        own.push((seen.at - told) * 1000.0);
        torn_down(watcher, name)?;
    }
    cluster.clear(watcher, &names)?;
    Ok((delays, own))
}

/// One pod after the other whose container ends as soon as it started.
fn brief(
    cluster: &mut Cluster,
    watcher: &Watcher,
    floor: &Floor,
    (image, count): (&str, u32),
) -> anyhow::Result<Delays> {
    let mut delays = Delays::default();
    let mut names = Vec::new();
    for number in 0..count {
        let name = format!("y-{number:06}");
        cluster.post(&[pod(image, &name, "Never", "exit 3")])?;
        let seen = failed(watcher, &name)?;
        let ended = finished(floor, &container(&seen.pod))?;
        delays.shown.push((seen.at - ended) * 1000.0);
        torn_down(watcher, &name)?;
        names.push(name);
    }
    cluster.clear(watcher, &names)?;
    Ok(delays)
}

/// Four fifths one by one, one fifth short-lived.
pub(crate) fn run(
    cluster: &mut Cluster,
    floor: &Floor,
    image: &str,
    plan: &Plan,
    table: &mut Table,
) -> anyhow::Result<()> {
    let watcher = cluster.watcher()?;
    let short = plan.api_exits / 5;
    let (one_by_one, own) = lasting(cluster, &watcher, floor, (image, plan.api_exits - short))?;
    let brief = brief(cluster, &watcher, floor, (image, short))?;
    let mut all = one_by_one.shown.clone();
    all.extend(&brief.shown);
    one_by_one.judge(
        "cluster, exit of a container to Failed seen by a watcher",
        &all,
        table,
    );
    let title = "cluster, exits one by one: p50/p99/max (ms)";
    let own = format!(
        "{:.1}/{:.1}/{:.1}",
        own.median(),
        own.percentile(0.99),
        own.max()
    );
    let text = format!("{}; from told to shown {own}", one_by_one.text());
    table.note(title, text, "");
    let (p50, p99, max) = (
        brief.shown.median(),
        brief.shown.percentile(0.99),
        brief.shown.max(),
    );
    let text = format!("shown {p50:.1}/{p99:.1}/{max:.1} (n={})", brief.shown.len());
    let title = "cluster, exits right after the start: p50/p99/max (ms)";
    table.note(title, text, "");
    Ok(())
}
