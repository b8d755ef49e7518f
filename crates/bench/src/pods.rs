//! Starts and ends of pods: one, and many at once, the kubelet's and the floor's by turns.
//!
//! In:    a kubelet straight on the runtime, the floor with a recording
//! Out:   rows of the table; the floor of one pod for later phases
//! Calls: main
//! Holds: kubelet and floor alternate, so that both see the same machine; while the floor runs the kubelet is stopped (SIGSTOP) and
//!        every pod of the floor is gone before it goes on; times begin with the rename or removal of the manifest
//! Upstream: none

use std::collections::BTreeMap;

use kubelet_api::runtime::v1::PodSandbox;

use crate::Plan;
use crate::clock;
use crate::figures::{Samples, Table};
use crate::floor::Floor;
use crate::kubelet::Kubelet;
use crate::recording::Recording;
use crate::widths::Widths;

/// The label that names a pod's UID on everything of the pod.
const UID_LABEL: &str = "io.kubernetes.pod.uid";
/// A pod with one container that obeys SIGTERM at once.
pub(crate) fn manifest(image: &str, name: &str) -> (String, String) {
    let script = "trap \\\"exit 0\\\" TERM; sleep 100000 & wait";
    with_containers(name, "Always", &[("main".to_owned(), script)], image)
}

/// A pod whose containers run these scripts. The stand-in runtime's processes take their whole grace period, so it is short.
pub(crate) fn with_containers(
    name: &str,
    restart: &str,
    containers: &[(String, &str)],
    image: &str,
) -> (String, String) {
    use std::fmt::Write as _;
    let mut text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  terminationGracePeriodSeconds: 5\n  restartPolicy: {restart}\n  containers:\n"
    );
    for (container, script) in containers {
        // Writing to a String cannot fail.
        let _written = write!(
            text,
            "  - name: {container}\n    image: {image}\n    imagePullPolicy: IfNotPresent\n    command: [sh, -c, \"{script}\"]\n"
        );
    }
    (name.to_owned(), text)
}

/// Times of one pod under the kubelet, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Alone {
    pub(crate) start: Samples,
    pub(crate) end: Samples,
    gone: BTreeMap<&'static str, Samples>,
    pub(crate) stages: Stages,
}

/// Milliseconds between the stages of the timeline.
#[derive(Debug, Default)]
pub(crate) struct Stages(Vec<(String, Samples)>);

impl Stages {
    /// Adds one pod's stages, each with its time, the first since `begin`.
    pub(crate) fn add(&mut self, begin: f64, stages: &[(String, f64)]) {
        let mut before = begin;
        for (stage, at) in stages {
            let took = (at - before) * 1000.0;
            before = *at;
            match self.0.iter_mut().find(|(name, _)| name == stage) {
                Some((_, samples)) => samples.push(took),
                None => {
                    let mut samples = Samples::default();
                    samples.push(took);
                    self.0.push((stage.clone(), samples));
                }
            }
        }
    }

    /// The medians, in order.
    pub(crate) fn text(&self) -> String {
        let parts: Vec<String> = self
            .0
            .iter()
            .map(|(stage, samples)| format!("{stage} {:.1}", samples.median()))
            .collect();
        parts.join(", ")
    }
}

fn sandboxes(floor: &Floor, uid: &str) -> anyhow::Result<Vec<PodSandbox>> {
    Ok(floor
        .ask(|client| async move { client.list_pod_sandboxes(Some((UID_LABEL, uid))).await })?)
}

/// One pod starts and ends under the kubelet.
fn kubelet_once(
    kubelet: &mut Kubelet,
    floor: &Floor,
    pod: (String, String),
    times: &mut Alone,
) -> anyhow::Result<()> {
    let name = pod.0.clone();
    let begin = kubelet.add(&[pod])?;
    let uids = kubelet.until_ready(1, 1, 60.0)?;
    times.start.push((clock::now() - begin) * 1000.0);
    let uid = uids.get(&name).cloned().unwrap_or_default();
    if let Some(stages) = kubelet.timeline()?.get(&name) {
        times.stages.add(begin, stages);
    }
    clock::pause_ms(300);
    let folder = kubelet.pod_folder(&uid);
    let begin = kubelet.remove([name.as_str()].into_iter())?;
    let mut seen: BTreeMap<&'static str, f64> = BTreeMap::new();
    clock::poll(
        "a removed pod is gone from /pods, runtime and disk",
        1,
        60.0,
        || {
            if !seen.contains_key("/pods") && kubelet.pods()?.is_empty() {
                seen.insert("/pods", clock::now());
            }
            if !seen.contains_key("disk") && !folder.exists() {
                seen.insert("disk", clock::now());
            }
            if !seen.contains_key("runtime") && sandboxes(floor, &uid)?.is_empty() {
                seen.insert("runtime", clock::now());
            }
            Ok((seen.len() == 3).then_some(()))
        },
    )?;
    let last = seen.values().copied().fold(begin, f64::max);
    times.end.push((last - begin) * 1000.0);
    for (place, at) in seen {
        times
            .gone
            .entry(place)
            .or_default()
            .push((at - begin) * 1000.0);
    }
    clock::pause_ms(200);
    Ok(())
}

/// So many such pods under the kubelet and the floor by turns.
pub(crate) fn by_turns(
    kubelet: &mut Kubelet,
    floor: &mut Floor,
    recording: &Recording,
    rounds: u32,
    made: impl Fn(&str) -> (String, String),
) -> anyhow::Result<(Alone, Samples, Samples)> {
    let (mut alone, mut start, mut end) =
        (Alone::default(), Samples::default(), Samples::default());
    for round in 0..rounds {
        kubelet_once(kubelet, floor, made(&format!("p-{round:06}")), &mut alone)?;
        let times = kubelet.program.frozen(|| floor.run(recording, 1, 1))?;
        start.push(times.start * 1000.0);
        end.push(times.end * 1000.0);
    }
    Ok((alone, start, end))
}

/// One pod: start and end against the floor; the floor's samples of a start.
pub(crate) fn one(
    kubelet: &mut Kubelet,
    floor: &mut Floor,
    (recording, image): (&Recording, &str),
    plan: &Plan,
    table: &mut Table,
) -> anyhow::Result<Samples> {
    let (alone, floor_start, floor_end) =
        by_turns(kubelet, floor, recording, plan.single_rounds, |name| {
            manifest(image, name)
        })?;
    table.over_floor(
        "one pod: manifest to Ready in /pods",
        &alone.start,
        &floor_start,
        30.0,
    );
    table.note(
        "one pod: stages (ms, medians, from the manifest on)",
        alone.stages.text(),
        "",
    );
    table.over_floor(
        "one pod: manifest removed to gone everywhere",
        &alone.end,
        &floor_end,
        60.0,
    );
    let places: Vec<String> = alone
        .gone
        .iter()
        .map(|(place, at)| format!("{place} {:.1}", at.median()))
        .collect();
    table.note("one pod: gone from (ms, medians)", places.join(", "), "");
    Ok(floor_start)
}

/// Starts this many pods at once and waits until all are Ready; seconds by the timeline, which `/pods` confirms.
pub(crate) fn burst(
    kubelet: &mut Kubelet,
    image: &str,
    count: usize,
) -> anyhow::Result<(f64, Vec<String>)> {
    let pods: Vec<_> = (0..count)
        .map(|number| manifest(image, &format!("p-{number:06}")))
        .collect();
    let names = pods.iter().map(|(name, _)| name.clone()).collect();
    let begin = kubelet.add(&pods)?;
    kubelet.until_ready(count, 50, 180.0)?;
    let timeline = kubelet.timeline()?;
    let ready = timeline
        .values()
        .filter_map(|stages| stages.iter().find(|(stage, _)| stage == "ready"));
    let last = ready.map(|(_, at)| *at).fold(begin, f64::max);
    Ok((last - begin, names))
}

/// Removes pods and waits until `/pods` is empty; seconds.
pub(crate) fn clear(kubelet: &mut Kubelet, names: &[String]) -> anyhow::Result<f64> {
    let begin = kubelet.remove(names.iter().map(String::as_str))?;
    kubelet.until_empty(20, 180.0)?;
    Ok(clock::now() - begin)
}

/// Many pods at once against the floor at its best width.
pub(crate) fn many(
    kubelet: &mut Kubelet,
    floor: &mut Floor,
    (recording, image): (&Recording, &str),
    plan: &Plan,
    table: &mut Table,
) -> anyhow::Result<()> {
    let count = u32::try_from(plan.burst)?;
    let mut widths = Widths::scout(floor, recording, &kubelet.program, count)?;
    let (mut started, mut ended) = (Samples::default(), Samples::default());
    for round in 0..plan.burst_rounds {
        let floor_first = round % 2 == 1;
        if floor_first {
            widths.again(floor, recording, &kubelet.program)?;
        }
        let (seconds, names) = burst(kubelet, image, plan.burst)?;
        started.push(seconds);
        clock::pause_ms(500);
        ended.push(clear(kubelet, &names)?);
        clock::pause_ms(500);
        crate::say(&format!(
            "  kubelet, {count} pods, round {}: {seconds:.2} s",
            round + 1
        ));
        if !floor_first {
            widths.again(floor, recording, &kubelet.program)?;
        }
    }
    let title = format!("{count} pods at once");
    let words = ("manifests to all Ready", "removed to gone from /pods");
    widths.report(
        table,
        &title,
        words,
        (&started, &ended),
        ("<= 1.15 x floor", 1.15),
    );
    Ok(())
}
