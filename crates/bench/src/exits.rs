//! How soon an exit shows: from the end of a container's process, as the runtime dates it, to `terminated` in `/pods`.
//!
//! In:    a kubelet straight on the runtime
//! Out:   rows: p50 and p99 of 200 exits, beside what the runtime itself needed until it said so; the same for many in one moment
//! Calls: main
//! Holds: two kinds of exits are judged: long-running containers ended one by one, and containers that end as soon as they started;
//!        the time of the end is the runtime's own (`finished_at`, nanoseconds), the others are when the bench saw it
//! Upstream: none

use std::collections::BTreeMap;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::Plan;
use crate::clock;
use crate::figures::{Samples, Table};
use crate::floor::Floor;
use crate::kubelet::{Kubelet, text_at};
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

/// The first process of a container that runs.
fn first_process(floor: &Floor, id: &str) -> anyhow::Result<Pid> {
    let answer = floor.ask(|client| async move { client.container_status(id).await })?;
    let more: Value = answer
        .info
        .get("info")
        .map_or(Ok(Value::Null), |text| serde_json::from_str(text))?;
    let pid = more.get("pid").and_then(Value::as_i64).unwrap_or(0);
    Pid::from_raw(i32::try_from(pid)?).context("a running container has a process")
}

/// Seconds since 1970 of a container's end, 0 before it. Asked for briefly: whoever asks for all takes processor time from the
/// runtime just when it is being measured.
pub(crate) fn finished(floor: &Floor, id: &str) -> anyhow::Result<f64> {
    let answer = floor.ask(|client| async move { client.container_status_alone(id).await })?;
    Ok(seconds(answer.status.context("a status")?.finished_at))
}

fn seconds(nanoseconds: i64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds since 1970 fit a double"
    )]
    let seconds = (nanoseconds / 1000) as f64 / 1e6;
    seconds
}

/// Delays after the end, in milliseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Delays {
    /// Until `/pods`, or a watcher, showed it.
    pub(crate) shown: Samples,
    /// Until the runtime's own answer said so.
    pub(crate) told: Samples,
}

impl Delays {
    /// All exits against the target, beside what the runtime itself needed for these.
    pub(crate) fn judge(&self, figure: &str, all: &Samples, table: &mut Table) {
        let (p50, p99) = (all.median(), all.percentile(0.99));
        let (told50, told99) = (self.told.median(), self.told.percentile(0.99));
        table.judge(
            figure,
            format!(
                "p50 {p50:.1} ms, p99 {p99:.1} ms, max {:.1} ms (n={}); floor {:+.1}, {:+.1} ms",
                all.max(),
                all.len(),
                p50 - told50,
                p99 - told99
            ),
            format!("p50 {told50:.1} ms, p99 {told99:.1} ms"),
            ("p99 <= 100 ms", p99 <= 100.0),
        );
    }

    pub(crate) fn text(&self) -> String {
        let parts = [("shown", &self.shown), ("told by the runtime", &self.told)];
        let parts = parts.map(|(what, samples)| {
            let (p50, p99, max) = (samples.median(), samples.percentile(0.99), samples.max());
            format!("{what} {p50:.1}/{p99:.1}/{max:.1}")
        });
        format!("{} (n={})", parts.join(", "), self.shown.len())
    }
}

/// Waits until these containers are shown as terminated; notes the delays of each.
fn watch(
    kubelet: &mut Kubelet,
    floor: &Floor,
    mut ids: Vec<String>,
    delays: &mut Delays,
) -> anyhow::Result<()> {
    let mut untold = ids.clone();
    clock::poll(
        "containers that ended are shown as terminated",
        1,
        60.0,
        || {
            let ended = containers(&kubelet.pods()?, "terminated");
            let at = clock::now();
            for id in std::mem::take(&mut untold) {
                match finished(floor, &id)? {
                    0.0 => untold.push(id),
                    finished => delays.told.push((clock::now() - finished) * 1000.0),
                }
            }
            for id in std::mem::take(&mut ids) {
                if ended.contains(&id) {
                    delays.shown.push((at - finished(floor, &id)?) * 1000.0);
                } else {
                    ids.push(id);
                }
            }
            Ok((ids.is_empty() && untold.is_empty()).then_some(()))
        },
    )
}

/// Ends a container's first process.
pub(crate) fn end(floor: &Floor, id: &str) -> anyhow::Result<()> {
    Ok(kill_process(first_process(floor, id)?, Signal::TERM)?)
}

/// Runs one pod after the other whose container ends as soon as it started.
fn short_lived(
    kubelet: &mut Kubelet,
    floor: &Floor,
    (image, count): (&str, u32),
    names: &mut Vec<String>,
) -> anyhow::Result<Samples> {
    let mut delays = Samples::default();
    for number in 0..count {
        let before = containers(&kubelet.pods()?, "terminated");
        let scripts = [("main".to_owned(), "exit 0")];
        let pod = with_containers(&format!("y-{number:06}"), "Never", &scripts, image);
        names.push(pod.0.clone());
        kubelet.add(&[pod])?;
        let (id, at) = clock::poll("a brief container is shown as terminated", 1, 60.0, || {
            let ended = containers(&kubelet.pods()?, "terminated");
            let at = clock::now();
            let fresh = ended.into_iter().find(|id| !before.contains(id));
            Ok(fresh.map(|id| (id, at)))
        })?;
        delays.push((at - finished(floor, &id)?) * 1000.0);
    }
    Ok(delays)
}

/// Four fifths one by one, one fifth short-lived; then as many as the latter in one moment.
pub(crate) fn run(
    kubelet: &mut Kubelet,
    floor: &Floor,
    image: &str,
    plan: &Plan,
    table: &mut Table,
) -> anyhow::Result<()> {
    let pods: Vec<_> = (0..plan.exits / PER_POD)
        .map(|number| {
            let scripts: Vec<_> = (0..PER_POD)
                .map(|container| (format!("c{container}"), LASTING))
                .collect();
            with_containers(&format!("x-{number:06}"), "Never", &scripts, image)
        })
        .collect();
    kubelet.add(&pods)?;
    kubelet.until_ready(pods.len(), 50, 180.0)?;
    clock::pause_ms(500);
    let mut running = containers(&kubelet.pods()?, "running");
    let (mut alone, mut together) = (Delays::default(), Delays::default());
    let burst = running.split_off(running.len() * 4 / 5);
    for id in running {
        end(floor, &id)?;
        watch(kubelet, floor, vec![id], &mut alone)?;
    }
    for id in &burst {
        end(floor, id)?;
    }
    watch(kubelet, floor, burst, &mut together)?;
    let mut names: Vec<String> = pods.into_iter().map(|(name, _)| name).collect();
    crate::pods::clear(kubelet, &names)?;
    names.clear();
    let brief = short_lived(kubelet, floor, (image, plan.exits / 5), &mut names)?;
    crate::pods::clear(kubelet, &names)?;
    let mut all = alone.shown.clone();
    all.extend(&brief);
    alone.judge("exit of a container to terminated in /pods", &all, table);
    table.note("exits one by one: p50/p99/max (ms)", alone.text(), "");
    let (p50, p99, max) = (brief.median(), brief.percentile(0.99), brief.max());
    let text = format!("shown {p50:.1}/{p99:.1}/{max:.1} (n={})", brief.len());
    table.note("exits right after the start: p50/p99/max (ms)", text, "");
    table.note("exits in one moment: p50/p99/max (ms)", together.text(), "");
    Ok(())
}
