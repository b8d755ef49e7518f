//! The API server alone under load: requests per second and their delays, with a full store.
//!
//! In:    `hyperkube apiserver`, pods that nobody runs
//! Out:   rows: all requests, and each kind's median and p99
//! Calls: main
//! Holds: several connections over TLS, each sends its next request when the last was answered; client and server share the machine;
//!        the sequence of requests is the same in every run; an answer that is no success is an error
//! Upstream: none

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::Plan;
use crate::clock;
use crate::cluster::{Api, PODS, api_server, asked, pod};
use crate::figures::{Samples, Table};
use crate::http::Http;
use crate::node::Node;
use crate::process;

const WORKERS: usize = 8;
/// Every so many pods have the same label.
const GROUPS: usize = 100;

/// What is asked, with its share in a hundred.
const MIX: [(Kind, u64); 5] = [
    (Kind::Get, 45),
    (Kind::List, 15),
    (Kind::Patch, 25),
    (Kind::Create, 10),
    (Kind::Watch, 5),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Get,
    /// Ten pods of a label.
    List,
    /// A condition of a status, as kubelets do.
    Patch,
    /// A pod, which is deleted at once, so that the store stays as full as it was.
    Create,
    Delete,
    /// A new connection and a watch on it, until its first event.
    Watch,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list with selector",
            Self::Patch => "patch",
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Watch => "watch open",
        }
    }
}

/// Milliseconds of each answer.
type Answers = BTreeMap<Kind, Samples>;

/// One sender of requests.
#[derive(Debug)]
struct Worker {
    http: Http,
    number: usize,
    /// State of a small generator: the next choice follows from it.
    choice: u64,
    made: u32,
    stored: usize,
    answers: Answers,
}

fn stored_pod(image: &str, name: &str, group: usize) -> Value {
    let mut pod = pod(image, name, "Always", "exit 0");
    if let Some(metadata) = pod.get_mut("metadata") {
        *metadata = json!({"name": name, "labels": {"group": format!("g{group}")}});
    }
    if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("nodeName".to_owned(), "nobody".into());
    }
    pod
}

impl Worker {
    fn next(&mut self, below: u64) -> u64 {
        // Knuth's constants; the high bits are the good ones.
        self.choice = self
            .choice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.choice >> 33) % below
    }

    fn kind(&mut self) -> Kind {
        let mut left = self.next(MIX.iter().map(|(_, share)| share).sum());
        for (kind, share) in MIX {
            if left < share {
                return kind;
            }
            left -= share;
        }
        Kind::Get
    }

    fn timed(
        &mut self,
        kind: Kind,
        work: impl FnOnce(&mut Http) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let begin = clock::now();
        work(&mut self.http).with_context(|| kind.name())?;
        let took = (clock::now() - begin) * 1000.0;
        self.answers.entry(kind).or_default().push(took);
        Ok(())
    }

    fn request(&mut self, image: &str) -> anyhow::Result<()> {
        let kind = self.kind();
        let number = self.next(self.stored as u64);
        let one = format!("{PODS}/s-{number:06}");
        let group = number as usize % GROUPS;
        match kind {
            Kind::Get => self.timed(kind, |http| asked(http, ("GET", &one), None).map(drop)),
            Kind::List => {
                let path = format!("{PODS}?labelSelector=group%3Dg{group}");
                self.timed(kind, |http| asked(http, ("GET", &path), None).map(drop))
            }
            Kind::Patch => {
                let message = format!("{}", self.choice);
                let patch = json!({"status": {"conditions": [
                    {"type": "Ready", "status": "False", "message": message}]}});
                let path = format!("{one}/status");
                self.timed(kind, |http| {
                    asked(http, ("PATCH", &path), Some(&patch)).map(drop)
                })
            }
            Kind::Create | Kind::Delete => self.create(image),
            Kind::Watch => {
                let path = format!("{PODS}?watch=true&labelSelector=group%3Dg{group}");
                self.timed(kind, |http| match http.watch(&path)?.line()? {
                    Some(_) => Ok(()),
                    None => bail!("the watch was closed"),
                })
            }
        }
    }

    fn create(&mut self, image: &str) -> anyhow::Result<()> {
        let name = format!("w-{}-{}", self.number, self.made);
        self.made += 1;
        let pod = stored_pod(image, &name, GROUPS);
        self.timed(Kind::Create, |http| {
            asked(http, ("POST", PODS), Some(&pod)).map(drop)
        })?;
        let path = format!("{PODS}/{name}");
        let now = json!({"gracePeriodSeconds": 0});
        self.timed(Kind::Delete, |http| {
            asked(http, ("DELETE", &path), Some(&now)).map(drop)
        })
    }
}

/// Runs all workers for some seconds.
fn load(api: &Api, image: &str, plan: &Plan) -> anyhow::Result<Answers> {
    let workers = (0..WORKERS).map(|number| Worker {
        http: api.http(),
        number,
        choice: number as u64,
        made: 0,
        stored: plan.api_stored,
        answers: Answers::new(),
    });
    #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
    let end = clock::now() + plan.api_load_s as f64;
    let mut all = Answers::new();
    let results: Vec<anyhow::Result<Answers>> = std::thread::scope(|scope| {
        let threads: Vec<_> = workers
            .map(|mut worker| {
                scope.spawn(move || {
                    while clock::now() < end {
                        worker.request(image)?;
                    }
                    anyhow::Ok(worker.answers)
                })
            })
            .collect();
        let ended = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("a worker panicked"),
        });
        ended.collect()
    });
    for result in results {
        for (kind, samples) in result? {
            all.entry(kind).or_default().extend(&samples);
        }
    }
    Ok(all)
}

/// Fills the store, loads the server.
pub(crate) fn run(node: &Node, plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let folder = node.path("HK_DATA").join("load");
    let (server, api) = api_server(node, &folder)?;
    let image = node.value("HK_BUSYBOX_IMAGE");
    let mut http = api.http();
    let begin = clock::now();
    for number in 0..plan.api_stored {
        let pod = stored_pod(image, &format!("s-{number:06}"), number % GROUPS);
        asked(&mut http, ("POST", PODS), Some(&pod))?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let filled = plan.api_stored as f64 / (clock::now() - begin);
    // As a kubelet has it.
    let watcher = crate::watcher::Watcher::open(&http)?;
    clock::pause_ms(1000);
    let (begin, ticks) = (clock::now(), process::ticks(server.pid())?);
    let answers = load(&api, image, plan)?;
    let took = clock::now() - begin;
    let busy = (process::ticks(server.pid())? - ticks) / took * 100.0;
    drop(watcher);
    let mut all = Samples::default();
    let mut kinds = Vec::new();
    for (kind, samples) in &answers {
        all.extend(samples);
        let (p50, p99) = (samples.median(), samples.percentile(0.99));
        kinds.push(format!("{} {p50:.1}/{p99:.1}", kind.name()));
    }
    let title = format!("API server with {} pods", plan.api_stored);
    #[expect(clippy::cast_precision_loss, reason = "some ten thousand")]
    let rate = all.len() as f64 / took;
    table.note(
        &format!("{title}: mix over {WORKERS} TLS connections"),
        format!(
            "{rate:.0} requests/s, p50 {:.1} ms, p99 {:.1} ms (n={}); {busy:.0} % of a core",
            all.median(),
            all.percentile(0.99),
            all.len()
        ),
        "",
    );
    table.note(&format!("{title}: p50/p99 (ms)"), kinds.join(", "), "");
    table.note(
        &format!("{title}: creates while filling, one connection"),
        format!("{filled:.0} requests/s"),
        "",
    );
    let memory = process::memory(server.pid())?;
    table.note(&format!("{title}: memory after that"), memory.text(), "");
    server.stop()
}
