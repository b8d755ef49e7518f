//! Pods of a node in a cluster: one, and many at once, by requests to the API server, the node's and the floor's by turns.
//!
//! In:    `hyperkube node` straight on the runtime, the floor with a recording of such a node
//! Out:   rows of the table
//! Calls: main
//! Holds: as in pods: node and floor alternate, the node is stopped (SIGSTOP) while the floor runs; times begin with a request
//!        and end with the event of a watch that was open before
//! Upstream: none

use crate::Plan;
use crate::clock;
use crate::cluster::{Cluster, LASTING, lasting, pod};
use crate::figures::{Samples, Table};
use crate::floor::Floor;
use crate::pods::Stages;
use crate::recording::Recording;
use crate::watcher::{Event, Watcher};
use crate::widths::Widths;

/// Times of one pod, in milliseconds.
#[derive(Debug, Default)]
struct Alone {
    answer: Samples,
    start: Samples,
    end: Samples,
    stages: Stages,
}

fn once(
    cluster: &mut Cluster,
    watcher: &Watcher,
    (image, name): (&str, &str),
    times: &mut Alone,
) -> anyhow::Result<()> {
    watcher.forget();
    let names = [name.to_owned()];
    let (begin, answers) = cluster.post(&[pod(image, name, "Always", LASTING)])?;
    let ready = watcher.wait("a pod is Ready", &names, 60.0, Event::is_ready)?;
    let seen = crate::cluster::last(&ready, begin);
    times.start.push((seen - begin) * 1000.0);
    for answer in answers {
        times.answer.push(answer * 1000.0);
    }
    if let Some(mut stages) = cluster.timeline()?.remove(name) {
        stages.push(("seen".to_owned(), seen));
        times.stages.add(begin, &stages);
    }
    clock::pause_ms(300);
    times.end.push(cluster.clear(watcher, &names)? * 1000.0);
    clock::pause_ms(200);
    Ok(())
}

/// One pod: start and end against the floor.
pub(crate) fn one(
    cluster: &mut Cluster,
    floor: &mut Floor,
    (recording, image): (&Recording, &str),
    plan: &Plan,
    table: &mut Table,
) -> anyhow::Result<()> {
    let watcher = cluster.watcher()?;
    let (mut alone, mut floor_start, mut floor_end) =
        (Alone::default(), Samples::default(), Samples::default());
    for round in 0..plan.single_rounds {
        once(
            cluster,
            &watcher,
            (image, &format!("p-{round:06}")),
            &mut alone,
        )?;
        let times = cluster.kubelet.frozen(|| floor.run(recording, 1, 1))?;
        floor_start.push(times.start * 1000.0);
        floor_end.push(times.end * 1000.0);
    }
    table.over_floor(
        "cluster, one pod: POST to Ready seen by a watcher",
        &alone.start,
        &floor_start,
        50.0,
    );
    table.note(
        "cluster, one pod: POST to its answer",
        alone.answer.spread("ms"),
        "",
    );
    table.note(
        "cluster, one pod: stages (ms, medians, from the POST on)",
        alone.stages.text(),
        "",
    );
    table.over_floor(
        "cluster, one pod: DELETE to DELETED seen by a watcher",
        &alone.end,
        &floor_end,
        70.0,
    );
    Ok(())
}

/// Many pods at once against the floor at its best width.
pub(crate) fn many(
    cluster: &mut Cluster,
    floor: &mut Floor,
    (recording, image): (&Recording, &str),
    plan: &Plan,
    table: &mut Table,
) -> anyhow::Result<()> {
    let watcher = cluster.watcher()?;
    let count = u32::try_from(plan.api_burst)?;
    let mut widths = Widths::scout(floor, recording, &cluster.kubelet, count)?;
    let (mut started, mut ended) = (Samples::default(), Samples::default());
    let (pods, names) = lasting(image, 0..plan.api_burst);
    for round in 0..plan.burst_rounds {
        let floor_first = round % 2 == 1;
        if floor_first {
            widths.again(floor, recording, &cluster.kubelet)?;
        }
        watcher.forget();
        let seconds = cluster.run(&watcher, &pods, &names)?;
        started.push(seconds);
        clock::pause_ms(500);
        ended.push(cluster.clear(&watcher, &names)?);
        clock::pause_ms(500);
        crate::say(&format!(
            "  node, {count} pods, round {}: {seconds:.2} s",
            round + 1
        ));
        if !floor_first {
            widths.again(floor, recording, &cluster.kubelet)?;
        }
    }
    let title = format!("cluster, {count} pods at once");
    let words = (
        "POSTs to all Ready seen by a watcher",
        "DELETEs to all DELETED",
    );
    widths.report(
        table,
        &title,
        words,
        (&started, &ended),
        ("<= 1.2 x floor", 1.2),
    );
    Ok(())
}
