//! Where the time of a pod's start went.
//!
//! In:    stages, first successes of probes
//! Out:   a line for each stage; one row for each pod
//! Calls: `run`, `describe`
//! Holds: pure; a probe's first success and an init container's end are stages where they came before Ready
//! Upstream: none (k/k#124935 asks for it)

use std::fmt::Write as _;

use jiff::Timestamp;
use kubelet_model::story::Stage;
use serde_json::{Value, json};

use crate::client::Told;
use crate::paint::{Paint, Tone};
use crate::row::init_statuses;
use crate::table::{Cell, table};
use crate::times::{clock, date, seconds, took};

/// The longest bar.
const BAR: i128 = 24;
/// A start that is this much older than its first stage was not begun by the kubelet that tells of it.
const TAKEN_UP_SECONDS: i64 = 2;

/// All stages, by time.
pub(crate) fn stages(told: &Told) -> Vec<Stage> {
    let mut stages = told.story.stages.clone();
    let ready = stages.iter().find(|stage| stage.stage == "ready");
    let (first, end) = (
        stages.first().map(|stage| stage.at),
        ready.map(|ready| ready.at),
    );
    let of_probes = told.story.probes.iter().filter_map(|probe| {
        let at = probe.first_success?;
        let kind = probe.kind.to_lowercase();
        let is_of_start = end.is_none_or(|end| at <= end) && first.is_some_and(|first| first <= at);
        // Liveness makes nobody ready.
        (is_of_start && kind != "liveness").then(|| Stage {
            stage: format!("{kind} probe of {}", probe.container),
            at,
        })
    });
    let more: Vec<Stage> = of_probes.chain(init_ends(told, end)).collect();
    stages.extend(more);
    let is_ready = |stage: &Stage| stage.stage == "ready";
    stages.sort_by_key(|stage| (stage.at, is_ready(stage)));
    stages
}

/// Ends of init containers during the start. The runtime's status has them to the second alone.
fn init_ends(told: &Told, end: Option<Timestamp>) -> impl Iterator<Item = Stage> {
    let sandbox = told
        .story
        .stages
        .iter()
        .find(|stage| stage.stage == "sandbox");
    let sandbox = sandbox.map(|sandbox| sandbox.at);
    init_statuses(&told.pod).iter().filter_map(move |status| {
        let ended = status.state.as_ref()?.terminated.as_ref()?;
        let (at, sandbox) = (ended.finished_at.as_ref()?.0, sandbox?);
        let is_of_start = end.is_none_or(|end| at <= end) && seconds(at, sandbox) < 1;
        (ended.exit_code == 0 && is_of_start).then(|| Stage {
            stage: format!("init container {}", status.name),
            at: at.max(sandbox),
        })
    })
}

/// When the pod began, where that was before this kubelet took it up.
fn begun_before(told: &Told, stages: &[Stage]) -> Option<Timestamp> {
    let begun = told.pod.status.as_ref()?.start_time.as_ref()?.0;
    (seconds(begun, stages.first()?.at) > TAKEN_UP_SECONDS).then_some(begun)
}

/// For programs.
pub(crate) fn value(told: &Told) -> Value {
    let stages = stages(told);
    let mut before = stages.first().map(|stage| stage.at);
    let list = stages.iter().map(|stage| {
        let took = before.map_or(0, |before| stage.at.duration_since(before).as_millis());
        before = Some(stage.at);
        json!({"stage": stage.stage, "at": stage.at, "afterMillis": i64::try_from(took).unwrap_or(i64::MAX)})
    });
    let list: Vec<Value> = list.collect();
    json!({
        "namespace": told.namespace(), "name": told.name(), "uid": told.uid(),
        "takenUp": begun_before(told, &stages).is_some(), "stages": list,
    })
}

/// For people: one pod.
pub(crate) fn text(told: &Told, now: Timestamp, paint: Paint) -> String {
    let stages = stages(told);
    let name = told.full_name();
    let (Some(first), Some(last)) = (stages.first(), stages.last()) else {
        return format!("Pod {name}: nothing is known of its start.\n");
    };
    let whole = took(first.at, last.at);
    let mut text = if last.stage == "ready" {
        format!("Pod {name} was Ready {whole} after it was seen.\n")
    } else {
        let since = took(last.at, now);
        format!(
            "Pod {name} is not Ready: it reached {:?} {since} ago.\n",
            last.stage
        )
    };
    if let Some(begun) = begun_before(told, &stages) {
        let taken_up = "this kubelet took it up later and knows only what came then";
        // Writing to a String cannot fail.
        let _written = writeln!(text, "It began at {}; {taken_up}.", date(begun));
    }
    let mut rows: Vec<Vec<Cell>> = vec![["STAGE", "AT", "TOOK", ""].map(Cell::from).into()];
    let span = last.at.duration_since(first.at).as_nanos().max(1);
    let mut before = first.at;
    for stage in &stages {
        let part = stage.at.duration_since(before).as_nanos() * BAR / span;
        let bar = "#".repeat(usize::try_from(part).unwrap_or(0));
        rows.push(vec![
            stage.stage.as_str().into(),
            clock(stage.at).into(),
            took(before, stage.at).into(),
            Cell {
                text: bar,
                tone: Tone::Faint,
            },
        ]);
        before = stage.at;
    }
    let lines = table(&rows, paint);
    for line in lines.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// For people: all pods, one row each.
pub(crate) fn rows(all: &[&Told]) -> Vec<Vec<Cell>> {
    let head = ["NAMESPACE", "NAME", "SEEN", "READY AFTER", "SLOWEST STAGE"];
    let mut rows = vec![head.map(Cell::from).into()];
    rows.extend(all.iter().map(|told| {
        let stages = stages(told);
        let ready = stages.iter().find(|stage| stage.stage == "ready");
        let (first, pairs) = (stages.first(), stages.windows(2));
        let slowest = pairs.max_by_key(|pair| {
            pair.last()
                .zip(pair.first())
                .map(|(b, a)| b.at.duration_since(a.at))
        });
        let slowest = slowest.and_then(|pair| Some((pair.first()?, pair.last()?)));
        let slowest = slowest.map(|(a, b)| format!("{} ({})", b.stage, took(a.at, b.at)));
        let after = first
            .zip(ready)
            .map(|(first, ready)| took(first.at, ready.at));
        let none = || "<none>".to_owned();
        vec![
            told.namespace().into(),
            told.name().into(),
            first.map_or_else(none, |first| date(first.at)).into(),
            after.unwrap_or_else(none).into(),
            slowest.unwrap_or_else(none).into(),
        ]
    }));
    rows
}
