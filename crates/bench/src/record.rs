//! The kubelet once through the recording proxy: its requests, and how often it asks the runtime.
//!
//! In:    a fresh kubelet whose runtime endpoint is the proxy
//! Out:   the recording for the floor; rows on calls per pod start
//! Calls: main, first of all phases
//! Holds: a start's calls are those from the rename of the manifest until 200 ms after Ready, so late looks are counted too
//! Upstream: none

use std::collections::BTreeMap;

use anyhow::Context as _;

use crate::Plan;
use crate::clock;
use crate::figures::{Samples, Table};
use crate::kubelet::Kubelet;
use crate::node::{KubeletPlaces, Node};
use crate::pods::manifest;
use crate::proxy;
use crate::recording::{Recording, count};

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
    kubelet.stop()?;
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
