//! `make bench`: figures of this machine that a stranger can believe: the runtime's floor beside the kubelet's own.
//!
//! In:    the release binary of hyperkube, a private containerd (scripts/machine_env.sh), the stand-in runtime
//! Out:   one table on stdout and in `target/bench.md`: figure, value, floor, target, met
//! Calls: make bench; a person with `--quick` or `--only`
//! Holds: exit 0 also with misses (they are printed), 1 only when something broke; nothing of the node is left
//! Upstream: none

mod api_exits;
mod api_load;
mod api_memory;
mod api_pods;
mod cluster;
mod exits;
mod figures;
mod floor;
mod idle;
mod kubelet;
mod network;
mod pods;
mod probes;
mod proxy;
mod record;
mod recording;
mod scale;
mod watcher;
mod whole;
mod widths;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
// The rest of the program finds them here, as if they were modules of its own.
use rig::{clock, http, node, process, program, say};

use crate::cluster::Cluster;
use crate::figures::Table;
use crate::floor::Floor;
use crate::kubelet::Kubelet;
use crate::node::{KubeletPlaces, Node};

const HELP: &str = "\
Usage: bench [flags]
Measures target/release/hyperkube (or $HYPERKUBE_BIN) on a private containerd, as root. Takes about twenty minutes.
  --quick            few repetitions, small numbers: shows that it works, proves nothing
  --only a,b         only these parts; of a kubelet that stands alone: network, pods, burst, exits, first, quiet,
                     scale, probes, whole;
                     of a node in a cluster: api-pods, api-burst, api-exits, api-load, api-memory, api-late
  --quiet-seconds n  length of the quiet spans (default 30)
  --rounds n         repetitions of one pod (default 11), half as many of many pods at once (default 5)
  --help             this text
";

/// How much is measured.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Pods recorded.
    pub(crate) recorded: u32,
    pub(crate) single_rounds: u32,
    pub(crate) burst_rounds: u32,
    /// Pods at once.
    pub(crate) burst: usize,
    /// Pods of a full node.
    pub(crate) full: usize,
    pub(crate) exits: u32,
    pub(crate) first_rounds: u32,
    pub(crate) quiet_s: u64,
    /// Pods on the stand-in runtime.
    pub(crate) scale: usize,
    /// Pods at once through the API server.
    pub(crate) api_burst: usize,
    /// Exits of pods of the API server.
    pub(crate) api_exits: u32,
    /// Pods in the store of the loaded API server.
    pub(crate) api_stored: usize,
    pub(crate) api_load_s: u64,
    only: Option<Vec<String>>,
}

/// Parts with a kubelet that stands alone; the first ones share one.
const ALONE: [&str; 9] = [
    "network", "pods", "burst", "exits", "first", "quiet", "scale", "probes", "whole",
];
/// Parts that share one node in a cluster, and all of a cluster.
const SHARED: [&str; 3] = ["api-pods", "api-burst", "api-exits"];
const CLUSTER: [&str; 6] = [
    "api-pods",
    "api-burst",
    "api-exits",
    "api-load",
    "api-memory",
    "api-late",
];

impl Plan {
    fn whole() -> Self {
        Self {
            recorded: 5,
            single_rounds: 11,
            burst_rounds: 5,
            burst: 60,
            full: 110,
            exits: 200,
            first_rounds: 7,
            quiet_s: 30,
            scale: 1000,
            api_burst: 100,
            api_exits: 100,
            api_stored: 1000,
            api_load_s: 20,
            only: None,
        }
    }

    fn quick() -> Self {
        Self {
            recorded: 2,
            single_rounds: 3,
            burst_rounds: 1,
            burst: 10,
            full: 15,
            exits: 50,
            first_rounds: 2,
            quiet_s: 6,
            scale: 100,
            api_burst: 10,
            api_exits: 10,
            api_stored: 100,
            api_load_s: 3,
            only: None,
        }
    }

    /// Reads the flags; nothing when only help was asked for.
    fn of(words: &[String]) -> anyhow::Result<Option<Self>> {
        let mut plan = if words.iter().any(|word| word == "--quick") {
            Self::quick()
        } else {
            Self::whole()
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .with_context(|| format!("{word} needs a value"))
            };
            match word.as_str() {
                "--quick" => {}
                "--help" | "-h" => return Ok(None),
                "--quiet-seconds" => plan.quiet_s = value()?.parse()?,
                "--rounds" => {
                    plan.single_rounds = value()?.parse()?;
                    plan.burst_rounds = plan.single_rounds.div_ceil(2);
                }
                "--only" => plan.only = Some(parts(value()?)?),
                unknown => bail!("unknown flag {unknown}\n{HELP}"),
            }
        }
        Ok(Some(plan))
    }

    fn has(&self, part: &str) -> bool {
        self.only
            .as_ref()
            .is_none_or(|parts| parts.iter().any(|name| name == part))
    }

    fn has_any(&self, parts: &[&str]) -> bool {
        parts.iter().any(|part| self.has(part))
    }
}

fn parts(words: &str) -> anyhow::Result<Vec<String>> {
    let parts: Vec<String> = words.split(',').map(str::to_owned).collect();
    let known = |part: &&String| ALONE.iter().chain(&CLUSTER).any(|known| known == part);
    match parts.iter().find(|part| !known(part)) {
        Some(unknown) => bail!("unknown part {unknown}\n{HELP}"),
        None => Ok(parts),
    }
}

#[expect(clippy::print_stdout, reason = "a program for people")]
fn show(text: &str) {
    println!("{text}");
}

/// One part, with its begin and the machine's load announced.
fn part(title: &str) {
    say(&format!("== {title} (load {})", process::load()));
}

/// A kubelet that stands alone.
fn alone(node: &Node, plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let image = node.value("HK_BUSYBOX_IMAGE");
    part("recording the kubelet's requests");
    let recording = record::run(node, image, plan, table)?;
    let places = KubeletPlaces {
        endpoint: node.value("HK_ENDPOINT").to_owned(),
        folder: node.path("HK_DATA").join("bench"),
        max_pods: 110,
    };
    let mut floor = Floor::new(node)?;
    if plan.has("network") {
        part("one pod on the bare runtime, two networks by turns");
        network::compare(node, &mut floor, &recording, plan, table)?;
    }
    let mut kubelet = Kubelet::start(node, &places)?;
    clock::pause_ms(1500);
    let mut alone = figures::Samples::default();
    if plan.has("pods") || plan.has("first") {
        part("one pod, kubelet and floor by turns");
        alone = pods::one(&mut kubelet, &mut floor, (&recording, image), plan, table)?;
    }
    if plan.has("burst") {
        part(&format!("{} pods at once", plan.burst));
        pods::many(&mut kubelet, &mut floor, (&recording, image), plan, table)?;
    }
    if plan.has("exits") {
        part(&format!("{} exits", plan.exits));
        exits::run(&mut kubelet, &floor, image, plan, table)?;
    }
    if plan.has("whole") {
        part("a pod of five containers, a preStop hook");
        whole::containers(&mut kubelet, &mut floor, (&recording, image), plan, table)?;
        whole::hook(&mut kubelet, &mut floor, (&recording, image), plan, table)?;
    }
    kubelet.program.stop()?;
    if plan.has("first") {
        part("process start to first container");
        idle::first_container(node, &places, &alone, plan, table)?;
    }
    if plan.has("quiet") {
        part("memory and quiet");
        idle::quiet(node, &places, plan, table)?;
    }
    if plan.has("scale") {
        part(&format!("{} pods on the stand-in runtime", plan.scale));
        scale::run(node, plan, table)?;
    }
    if plan.has("probes") {
        part("probes of many pods");
        probes::run(node, plan, table)?;
    }
    Ok(())
}

/// A node in a cluster.
fn cluster(node: &Node, plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let image = node.value("HK_BUSYBOX_IMAGE");
    let places = KubeletPlaces {
        endpoint: node.value("HK_ENDPOINT").to_owned(),
        folder: node.path("HK_DATA").join("cluster"),
        max_pods: 110,
    };
    if plan.has_any(&SHARED) {
        part("recording the requests of a node in a cluster");
        let recording = record::of_cluster(node, image)?;
        let mut floor = Floor::new(node)?;
        let mut cluster = Cluster::node(node, &places)?;
        if plan.has("api-pods") {
            part("cluster: one pod, node and floor by turns");
            api_pods::one(&mut cluster, &mut floor, (&recording, image), plan, table)?;
        }
        if plan.has("api-burst") {
            part(&format!("cluster: {} pods at once", plan.api_burst));
            api_pods::many(&mut cluster, &mut floor, (&recording, image), plan, table)?;
        }
        if plan.has("api-exits") {
            part(&format!("cluster: {} exits", plan.api_exits));
            api_exits::run(&mut cluster, &floor, image, plan, table)?;
        }
        cluster.stop()?;
    }
    if plan.has("api-load") {
        part("the API server under load");
        api_load::run(node, plan, table)?;
    }
    if plan.has("api-memory") {
        part("cluster: memory and quiet");
        let folder = node.path("HK_DATA").join("together");
        let places = KubeletPlaces { folder, ..places };
        api_memory::node(node, &places, plan, table)?;
        let folder = node.path("HK_DATA").join("apart");
        let places = KubeletPlaces { folder, ..places };
        api_memory::apart(node, &places, plan, table)?;
    }
    if plan.has("api-late") {
        part("cluster: a server that listens late");
        let folder = node.path("HK_DATA").join("late");
        let places = |way: &str| KubeletPlaces {
            endpoint: node.value("HK_ENDPOINT").to_owned(),
            folder: folder.join(way),
            max_pods: 110,
        };
        whole::late(node, (&places("fast"), &places("period")), plan, table)?;
    }
    Ok(())
}

fn measure(node: &Node, plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    if plan.has_any(&ALONE) {
        alone(node, plan, table)?;
    }
    if plan.has_any(&CLUSTER) {
        cluster(node, plan, table)?;
    }
    idle::binary_size(node, table)
}

/// What machine this was.
fn heading(load_before: &str) -> String {
    let mut text = String::from("# Benchmark\n\n");
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // Writing to a String cannot fail.
    let _written = writeln!(
        text,
        "{cpus} processors, Linux {}; load averages {load_before} before, {} after. Values are median (min … max, n).\n\
         The floor is the kubelet's own requests that change something, replayed straight over CRI.\n",
        kernel.trim(),
        process::load()
    );
    text
}

fn run() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(plan) = Plan::of(&words)? else {
        show(HELP);
        return Ok(());
    };
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()?;
    let binary = node::binary(&repository);
    if !binary.exists() {
        bail!(
            "{} is missing: cargo build --release -p hyperkube",
            binary.display()
        );
    }
    let load_before = process::load();
    let begin = clock::now();
    let mut table = Table::default();
    let outcome = {
        let node = Node::up(&repository)?;
        measure(&node, &plan, &mut table)
    };
    let mut text = heading(&load_before);
    text.push_str(&table.markdown());
    let _written = writeln!(
        text,
        "\n{} misses; measured in {:.0} s.",
        table.misses(),
        clock::now() - begin
    );
    show(&text);
    let folder: PathBuf = repository.join("target");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let file = folder.join("bench.md");
    fs::write(&file, &text).with_context(|| file.display().to_string())?;
    outcome
}

fn main() -> anyhow::Result<()> {
    run()
}
