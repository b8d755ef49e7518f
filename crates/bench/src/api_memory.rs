//! What a node in a cluster costs: memory empty and full, and what it does while nothing happens.
//!
//! In:    `hyperkube node`, and the same as two processes
//! Out:   rows on memory, processor time, wake-ups
//! Calls: main
//! Holds: quiet means: no request of ours, no watch of ours; each begins with directories of its own, so with no events of earlier pods
//! Upstream: none

use crate::Plan;
use crate::clock;
use crate::cluster::{Cluster, lasting};
use crate::figures::Table;
use crate::idle::{SETTLE_MS, settled};
use crate::node::{KubeletPlaces, Node};
use crate::process;

/// Adds a row on the memory of a process.
fn memory_row(
    whose: &str,
    pid: u32,
    (pods, limit): (usize, Option<f64>),
    table: &mut Table,
) -> anyhow::Result<()> {
    let memory = process::memory(pid)?;
    let figure = &format!("{whose}, memory with {pods} pods");
    let value = memory.text() + &settled(pods);
    match limit {
        Some(limit) => table.judge(
            figure,
            value,
            "",
            (
                &format!("<= {limit:.0} MB resident"),
                memory.resident <= limit,
            ),
        ),
        None => table.note(figure, value, ""),
    }
    Ok(())
}

/// Starts pods of these numbers and lets them settle; the watch is closed meanwhile.
fn fill(cluster: &mut Cluster, image: &str, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
    let (pods, names) = lasting(image, numbers);
    let watcher = cluster.watcher()?;
    cluster.run(&watcher, &pods, &names)?;
    drop(watcher);
    clock::pause_ms(SETTLE_MS);
    Ok(())
}

fn empty(cluster: &mut Cluster, image: &str, count: usize) -> anyhow::Result<()> {
    let (_, names) = lasting(image, 0..count);
    let watcher = cluster.watcher()?;
    cluster.clear(&watcher, &names).map(drop)
}

/// Both parts in one process.
pub(crate) fn node(
    node: &Node,
    places: &KubeletPlaces,
    plan: &Plan,
    table: &mut Table,
) -> anyhow::Result<()> {
    let image = node.value("HK_BUSYBOX_IMAGE");
    let mut cluster = Cluster::node(node, places)?;
    let pid = cluster.kubelet.pid();
    memory_row("node", pid, (0, Some(40.0)), table)?;
    fill(&mut cluster, image, 0..plan.burst)?;
    let activity = process::activity(pid, plan.quiet_s)?;
    table.note(
        &format!("node, quiet {} s with {} pods", plan.quiet_s, plan.burst),
        format!(
            "{:.3} % of a core, {:.1} wake-ups/s",
            activity.cpu_percent, activity.wakeups
        ),
        "",
    );
    fill(&mut cluster, image, plan.burst..plan.full)?;
    memory_row("node", pid, (plan.full, Some(40.0)), table)?;
    empty(&mut cluster, image, plan.full)?;
    clock::pause_ms(SETTLE_MS);
    let used = format!("node, memory after {} pods came and went", plan.full);
    table.note(&used, process::memory(pid)?.text(), "");
    cluster.stop()
}

/// The kubelet in a process of its own.
pub(crate) fn apart(
    node: &Node,
    places: &KubeletPlaces,
    plan: &Plan,
    table: &mut Table,
) -> anyhow::Result<()> {
    let image = node.value("HK_BUSYBOX_IMAGE");
    let mut cluster = Cluster::apart(node, places)?;
    let pid = cluster.kubelet.pid();
    memory_row("joined kubelet", pid, (0, None), table)?;
    fill(&mut cluster, image, 0..plan.full)?;
    memory_row("joined kubelet", pid, (plan.full, Some(25.0)), table)?;
    if let Some(server) = &cluster.server {
        memory_row("its API server", server.pid(), (plan.full, None), table)?;
    }
    empty(&mut cluster, image, plan.full)?;
    cluster.stop()
}
