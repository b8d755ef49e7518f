//! How soon an exit shows: from the end of a container's process, as the runtime dates it, to `terminated` in `/pods`.
//!
//! In:    a kubelet straight on the runtime
//! Out:   one row: p50 and p99 of 200 exits
//! Calls: main
//! Holds: three kinds of exits: long-running containers ended one by one, many in one moment, and containers that end as soon as they
//!        started; the time of the end is the runtime's own (`finished_at`, nanoseconds), the other one is when the bench saw it
//! Upstream: none

use std::collections::BTreeMap;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::Plan;
use crate::clock;
use crate::figures::{Samples, Table};
use crate::floor::Floor;
use crate::node::{Kubelet, text_at};
use crate::pods::with_containers;

const PER_POD: u32 = 10;
const LASTING: &str = "trap \\\"exit 0\\\" TERM; sleep 100000 & wait";

/// Ids of the containers in `/pods`, by state: `running`, `terminated`.
fn containers(pods: &BTreeMap<String, Value>, state: &str) -> Vec<String> {
    let statuses = pods
        .values()
        .filter_map(|pod| pod.pointer("/status/containerStatuses")?.as_array())
        .flatten();
    statuses
        .filter(|status| status.pointer(&format!("/state/{state}")).is_some())
        .map(|status| text_at(status, "/containerID").replace("containerd://", ""))
        .collect()
}

/// Seconds since 1970 of a container's end, and its first process.
fn inspected(floor: &Floor, id: &str) -> anyhow::Result<(f64, i32)> {
    let answer = floor.ask(|client| async move { client.container_status(id).await })?;
    let status = answer.status.context("a status")?;
    let more: Value = answer
        .info
        .get("info")
        .map_or(Ok(Value::Null), |text| serde_json::from_str(text))?;
    let pid = more.get("pid").and_then(Value::as_i64).unwrap_or(0);
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds since 1970 fit a double"
    )]
    let finished = (status.finished_at / 1000) as f64 / 1e6;
    Ok((finished, i32::try_from(pid)?))
}

/// Waits until these containers are shown as terminated; notes the delay of each.
fn watch(
    kubelet: &mut Kubelet,
    floor: &Floor,
    mut ids: Vec<String>,
    delays: &mut Samples,
) -> anyhow::Result<()> {
    let mut seen = BTreeMap::new();
    clock::poll(
        "containers that ended are shown as terminated",
        1,
        60.0,
        || {
            let ended = containers(&kubelet.pods()?, "terminated");
            let at = clock::now();
            ids.retain(|id| {
                let shown = ended.contains(id);
                if shown {
                    seen.insert(id.clone(), at);
                }
                !shown
            });
            Ok(ids.is_empty().then_some(()))
        },
    )?;
    for (id, at) in seen {
        delays.push((at - inspected(floor, &id)?.0) * 1000.0);
    }
    Ok(())
}

/// Ends a container's first process.
fn end(floor: &Floor, id: &str) -> anyhow::Result<()> {
    let pid =
        Pid::from_raw(inspected(floor, id)?.1).context("a running container has a process")?;
    Ok(kill_process(pid, Signal::TERM)?)
}

/// 60 % one by one, 20 % at once, 20 % that end at once after their start.
pub(crate) fn run(
    kubelet: &mut Kubelet,
    floor: &Floor,
    image: &str,
    plan: &Plan,
    table: &mut Table,
) -> anyhow::Result<()> {
    let lasting = plan.exits * 4 / 5;
    let pods: Vec<_> = (0..lasting / PER_POD)
        .map(|number| {
            let scripts: Vec<_> = (0..PER_POD)
                .map(|container| (format!("c{container}"), LASTING))
                .collect();
            with_containers(&format!("x-{number:06}"), "Never", &scripts, image)
        })
        .collect();
    kubelet.add(&pods)?;
    kubelet.until_ready(pods.len(), 50, 120.0)?;
    clock::pause_ms(500);
    let mut running = containers(&kubelet.pods()?, "running");
    let (mut alone, mut together, mut brief) =
        (Samples::default(), Samples::default(), Samples::default());
    let burst = running.split_off(running.len() * 3 / 4);
    for id in running {
        end(floor, &id)?;
        watch(kubelet, floor, vec![id], &mut alone)?;
    }
    for id in &burst {
        end(floor, id)?;
    }
    watch(kubelet, floor, burst, &mut together)?;
    let mut names: Vec<String> = pods.into_iter().map(|(name, _)| name).collect();
    for number in 0..plan.exits - lasting {
        let before = containers(&kubelet.pods()?, "terminated");
        let pod = with_containers(
            &format!("y-{number:06}"),
            "Never",
            &[("main".to_owned(), "exit 0")],
            image,
        );
        names.push(pod.0.clone());
        kubelet.add(&[pod])?;
        let mut delays = Samples::default();
        let fresh = clock::poll("a brief container is shown as terminated", 1, 60.0, || {
            let ended = containers(&kubelet.pods()?, "terminated");
            let at = clock::now();
            Ok(ended
                .into_iter()
                .find(|id| !before.contains(id))
                .map(|id| (id, at)))
        })?;
        delays.push((fresh.1 - inspected(floor, &fresh.0)?.0) * 1000.0);
        brief.push(delays.median());
    }
    crate::pods::clear(kubelet, &names)?;
    let mut all = alone.clone();
    all.extend(&together);
    all.extend(&brief);
    table.judge(
        "exit of a container to terminated in /pods",
        format!(
            "p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms (n={})",
            all.median(),
            all.percentile(0.99),
            all.max(),
            all.len()
        ),
        "",
        ("p99 <= 100 ms", all.percentile(0.99) <= 100.0),
    );
    let kinds = [
        ("one by one", alone),
        ("many at once", together),
        ("short-lived", brief),
    ];
    let kinds = kinds.map(|(kind, samples)| {
        format!(
            "{kind} {:.1}/{:.1}/{:.1} (n={})",
            samples.median(),
            samples.percentile(0.99),
            samples.max(),
            samples.len()
        )
    });
    table.note("exits by kind: p50/p99/max (ms)", kinds.join(", "), "");
    Ok(())
}
