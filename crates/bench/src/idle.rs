//! What the kubelet costs while nothing happens, and how soon after its start the first pod runs.
//!
//! In:    a node; kubelets of its own, started fresh
//! Out:   rows on memory, processor time, wake-ups; process start to first container
//! Calls: main
//! Holds: quiet means: no manifest changes, nobody asks a port
//! Upstream: none

use std::fs;

use crate::Plan;
use crate::clock;
use crate::figures::{Samples, Table};
use crate::kubelet::Kubelet;
use crate::node::{KubeletPlaces, Node, binary};
use crate::pods::{burst, clear, manifest};
use crate::process;

/// Time for a burst's last work to end, and for its memory to be given back.
pub(crate) const SETTLE_MS: u64 = 8000;

/// What of a memory figure was waited for, as the table says it.
pub(crate) fn settled(pods: usize) -> String {
    match pods {
        0 => ", 3 s after it was ready".to_owned(),
        _ => format!(", {} s after the last was Ready", SETTLE_MS / 1000),
    }
}

fn memory_row(
    kubelet: &Kubelet,
    pods: usize,
    limit: Option<f64>,
    table: &mut Table,
) -> anyhow::Result<()> {
    let memory = process::memory(kubelet.program.pid())?;
    let figure = format!("memory with {pods} pods");
    let value = memory.text() + &settled(pods);
    match limit {
        Some(limit) => table.judge(
            &figure,
            value,
            "",
            (
                &format!("<= {limit:.0} MB resident"),
                memory.resident <= limit,
            ),
        ),
        None => table.note(&figure, value, ""),
    }
    Ok(())
}

fn activity_row(
    kubelet: &Kubelet,
    pods: usize,
    judged: bool,
    plan: &Plan,
    table: &mut Table,
) -> anyhow::Result<()> {
    let activity = process::activity(kubelet.program.pid(), plan.quiet_s)?;
    let figure = format!("quiet {} s with {pods} pods", plan.quiet_s);
    let cpu = format!("{:.3} % of a core", activity.cpu_percent);
    let wakeups = format!("{:.1} wake-ups/s", activity.wakeups);
    if judged {
        table.judge(
            &format!("{figure}: processor"),
            cpu,
            "",
            ("<= 0.2 %", activity.cpu_percent <= 0.2),
        );
        table.judge(
            &format!("{figure}: wake-ups"),
            wakeups,
            "",
            ("<= 10/s", activity.wakeups <= 10.0),
        );
    } else {
        table.note(&figure, format!("{cpu}, {wakeups}"), "");
    }
    Ok(())
}

/// Memory, processor time and wake-ups at 0, 60 and 110 pods.
pub(crate) fn quiet(
    node: &Node,
    places: &KubeletPlaces,
    plan: &Plan,
    table: &mut Table,
) -> anyhow::Result<()> {
    let image = node.value("HK_BUSYBOX_IMAGE");
    let mut kubelet = Kubelet::start(node, places)?;
    clock::pause_ms(3000);
    memory_row(&kubelet, 0, Some(15.0), table)?;
    activity_row(&kubelet, 0, false, plan, table)?;
    let (_, names) = burst(&mut kubelet, image, plan.burst)?;
    clock::pause_ms(SETTLE_MS);
    activity_row(&kubelet, plan.burst, true, plan, table)?;
    memory_row(&kubelet, plan.burst, None, table)?;
    let more: Vec<_> = (plan.burst..plan.full)
        .map(|number| manifest(image, &format!("p-{number:06}")))
        .collect();
    kubelet.add(&more)?;
    kubelet.until_ready(plan.full, 100, 180.0)?;
    clock::pause_ms(SETTLE_MS);
    memory_row(&kubelet, plan.full, Some(25.0), table)?;
    let names: Vec<String> = names
        .into_iter()
        .chain(more.into_iter().map(|(name, _)| name))
        .collect();
    clear(&mut kubelet, &names)?;
    kubelet.program.stop()
}

/// From the start of the process until its first container was started, with the manifest lying there.
pub(crate) fn first_container(
    node: &Node,
    places: &KubeletPlaces,
    floor: &Samples,
    plan: &Plan,
    table: &mut Table,
) -> anyhow::Result<()> {
    let mut times = Samples::default();
    for round in 0..plan.first_rounds {
        let (name, text) = manifest(node.value("HK_BUSYBOX_IMAGE"), &format!("s-{round:06}"));
        fs::write(places.manifests().join(format!("{name}.yaml")), text)?;
        let mut kubelet = Kubelet::start(node, places)?;
        kubelet.until_ready(1, 5, 60.0)?;
        let timeline = kubelet.timeline()?;
        let started = timeline
            .get(&name)
            .and_then(|stages| stages.iter().find(|(stage, _)| stage == "start"));
        if let Some((_, at)) = started {
            times.push((at - kubelet.program.started) * 1000.0);
        }
        clear(&mut kubelet, &[name])?;
        kubelet.program.stop()?;
    }
    let over = times.median() - floor.median();
    table.judge(
        "process start to first container running",
        format!("{}; floor {over:+.1} ms", times.spread("ms")),
        floor.spread("ms"),
        ("<= floor + 150 ms", times.len() > 0 && over <= 150.0),
    );
    Ok(())
}

/// Bytes of the binary.
pub(crate) fn binary_size(node: &Node, table: &mut Table) -> anyhow::Result<()> {
    let bytes = fs::metadata(binary(node.repository()))?.len();
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    let megabytes = bytes as f64 / 1e6;
    table.judge(
        "binary",
        format!("{megabytes:.1} MB"),
        "",
        ("<= 20 MB", megabytes <= 20.0),
    );
    Ok(())
}
