//! The kubelet once through the recording proxy: its requests, and how often it asks the runtime.
//!
//! In:    a fresh kubelet, or a fresh node of a cluster, whose runtime endpoint is the proxy
//! Out:   the recording for the floor; rows on calls per pod start
//! Calls: main, first of all phases
//! Holds: a start's calls are those from the rename of the manifest until 200 ms after Ready, so late looks are counted too
//! Upstream: none

use std::collections::BTreeMap;

use anyhow::Context as _;

use crate::Plan;
use crate::clock;
use crate::cluster::{Cluster, lasting};
use crate::figures::{Samples, Table};
use crate::kubelet::{Kubelet, text_at};
use crate::node::{KubeletPlaces, Node};
use crate::pods::manifest;
use crate::proxy;
use crate::recording::{Recording, count};
use crate::watcher::Event;

/// Records starts and ends of single pods.
pub(crate) fn run(
    node: &Node,
    image: &str,
    plan: &Plan,
    table: &mut Table,
) -> anyhow::Result<Recording> {
    let socket = node.path("HK_DATA").join("run/recorder.sock");
    let calls = proxy::start(&socket, &node.socket())?;
    let places = KubeletPlaces {
        endpoint: format!("unix://{}", socket.display()),
        folder: node.path("HK_DATA").join("bench"),
        max_pods: 110,
    };
    let mut kubelet = Kubelet::start(node, &places)?;
    clock::pause_ms(1500);
    let (mut scoped, mut wide) = (Samples::default(), Samples::default());
    let mut methods: BTreeMap<String, f64> = BTreeMap::new();
    let mut recording = None;
    for round in 0..plan.recorded {
        let (name, text) = manifest(image, &format!("p-{round:06}"));
        let begin = kubelet.add(&[(name.clone(), text)])?;
        let uids = kubelet.until_ready(1, 5, 60.0)?;
        clock::pause_ms(200);
        let ready = clock::now();
        let starting = calls.between(begin, ready);
        let reads = count(&starting);
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        {
            scoped.push(reads.scoped as f64);
            wide.push(reads.node_wide as f64);
            for (method, times) in reads.methods {
                *methods.entry(method).or_default() += times as f64;
            }
        }
        let uid = uids.get(&name).context("the recorded pod is in /pods")?;
        let of_start = Recording::of(&starting, &name, uid)?;
        let begin = kubelet.remove([name.as_str()].into_iter())?;
        kubelet.until_empty(5, 60.0)?;
        clock::pause_ms(300);
        recording = Some(of_start.with_end(&calls.between(begin, clock::now()))?);
    }
    kubelet.program.stop()?;
    table.judge(
        "reads of the runtime per pod start, scoped to the pod",
        format!(
            "{:.0} ({:.0} … {:.0}, n={})",
            scoped.median(),
            scoped.min(),
            scoped.max(),
            scoped.len()
        ),
        "",
        ("<= 3", scoped.median() <= 3.0),
    );
    table.judge(
        "lists of the whole node per pod start",
        format!(
            "{:.0} ({:.0} … {:.0}, n={})",
            wide.median(),
            wide.min(),
            wide.max(),
            wide.len()
        ),
        "",
        ("none", wide.median() < 0.5),
    );
    let per_start: Vec<String> = methods
        .iter()
        .map(|(method, times)| format!("{method} {:.1}", times / f64::from(plan.recorded)))
        .collect();
    table.note(
        "calls per pod start",
        per_start.join(", "),
        "3 that change something",
    );
    recording.context("at least one pod is recorded")
}

/// Records the start and the end of a pod of a node in a cluster.
pub(crate) fn of_cluster(node: &Node, image: &str) -> anyhow::Result<Recording> {
    let socket = node.path("HK_DATA").join("run/cluster-recorder.sock");
    let calls = proxy::start(&socket, &node.socket())?;
    let places = KubeletPlaces {
        endpoint: format!("unix://{}", socket.display()),
        folder: node.path("HK_DATA").join("cluster"),
        max_pods: 110,
    };
    let mut cluster = Cluster::node(node, &places)?;
    let watcher = cluster.watcher()?;
    let (pods, names) = lasting(image, 0..1);
    let (begin, _) = cluster.post(&pods)?;
    let ready = watcher.wait("the recorded pod is Ready", &names, 60.0, Event::is_ready)?;
    let (name, event) = ready.first_key_value().context("an event of the pod")?;
    let uid = text_at(&event.pod, "/metadata/uid");
    clock::pause_ms(200);
    let of_start = Recording::of(&calls.between(begin, clock::now()), name, &uid)?;
    let begin = clock::now();
    cluster.clear(&watcher, &names)?;
    clock::pause_ms(300);
    let recording = of_start.with_end(&calls.between(begin, clock::now()))?;
    cluster.stop()?;
    Ok(recording)
}
