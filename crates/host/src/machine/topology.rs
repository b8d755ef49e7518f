//! Processors by NUMA node, core and cache.
//!
//! In:    `/sys/devices/system/{node,cpu}` under the given tree
//! Out:   the nodes in the order of their directory names, each with its cores in the order of their first threads
//! Calls: `machine`
//! Holds: offline processors are left out; without NUMA nodes each physical package counts as a node
//! Upstream: vendor/github.com/google/cadvisor/utils/sysinfo/sysinfo.go (1.36); differences: packages come sorted

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{HugePages, Tree, is_numbered, kib_line, null_if_empty, read_huge_pages};

const CPUS: &str = "/sys/devices/system/cpu";
const NODES: &str = "/sys/devices/system/node";

/// One cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// The kernel's number for it within its level and type.
    pub id: u32,
    /// Bytes.
    pub size: u64,
    /// `Data`, `Instruction` or `Unified`.
    #[serde(rename = "type")]
    pub kind: String,
    /// 1 is closest to the core.
    pub level: u32,
}

/// One physical core.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Core {
    /// The kernel's number for it within its socket.
    #[serde(rename = "core_id")]
    pub id: i64,
    /// Its logical processors, in the order of their directory names.
    #[serde(rename = "thread_ids")]
    pub threads: Vec<u32>,
    /// Caches of this core alone.
    #[serde(serialize_with = "null_if_empty")]
    pub caches: Vec<Cache>,
    /// Caches of level 3 and up that some but not all cores of the node share.
    #[serde(serialize_with = "null_if_empty")]
    pub uncore_caches: Vec<Cache>,
    /// Its socket.
    pub socket_id: i64,
}

/// A NUMA node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NumaNode {
    /// The kernel's number.
    #[serde(rename = "node_id")]
    pub id: i64,
    /// Bytes.
    pub memory: u64,
    /// By size.
    #[serde(serialize_with = "null_if_empty")]
    pub hugepages: Vec<HugePages>,
    /// Online cores.
    #[serde(serialize_with = "null_if_empty")]
    pub cores: Vec<Core>,
    /// Caches that all of the node's cores share.
    #[serde(serialize_with = "null_if_empty")]
    pub caches: Vec<Cache>,
    /// The distance to each node, in the order of IDs; 10 is the node itself.
    #[serde(serialize_with = "null_if_empty")]
    pub distances: Vec<u64>,
}

pub(super) fn read_topology(tree: Tree<'_>, problems: &mut Vec<String>) -> Vec<NumaNode> {
    let online = online_set(tree);
    let nodes: Vec<PathBuf> = numbered_dirs(tree, NODES, "node");
    if nodes.is_empty() {
        return packages(tree, &online, problems);
    }
    let read_node = |dir: PathBuf| {
        let cores = read_cores(tree, &numbered_dirs(tree, &dir, "cpu"), &online, problems);
        let mut node = NumaNode {
            id: number_in(&dir, "node").unwrap_or_default(),
            memory: tree
                .text(dir.join("meminfo"))
                .ok()
                .and_then(|text| kib_line(&text, "MemTotal"))
                .unwrap_or(0),
            hugepages: read_huge_pages(tree, dir.join("hugepages")),
            cores,
            caches: Vec::new(),
            distances: tree
                .text(dir.join("distance"))
                .map_or_else(|_| Vec::new(), |text| numbers(&text)),
        };
        add_caches(tree, &mut node);
        node
    };
    nodes.into_iter().map(read_node).collect()
}

/// Online logical processors: those in the topology, or all processors if it is empty.
pub(super) fn online_threads(tree: Tree<'_>, topology: &[NumaNode]) -> usize {
    if topology.is_empty() {
        return numbered_dirs(tree, CPUS, "cpu").len();
    }
    topology
        .iter()
        .flat_map(|node| &node.cores)
        .map(|core| core.threads.len())
        .sum()
}

/// The number of distinct pairs of a topology property and the package, over the online processors; for machines whose cpuinfo
/// has no such line.
pub(super) fn distinct_property(tree: Tree<'_>, property: &str) -> usize {
    let online = online_set(tree);
    let mut seen = BTreeSet::new();
    for dir in numbered_dirs(tree, CPUS, "cpu") {
        if is_online(&online, &dir) {
            let read = |name: &str| {
                tree.text(dir.join("topology").join(name))
                    .unwrap_or_else(|_| "0".to_owned())
            };
            seen.insert((read(property), read("physical_package_id")));
        }
    }
    seen.len()
}

fn packages(
    tree: Tree<'_>,
    online: &Option<BTreeSet<i64>>,
    problems: &mut Vec<String>,
) -> Vec<NumaNode> {
    let mut by_package: BTreeMap<i64, Vec<PathBuf>> = BTreeMap::new();
    for dir in numbered_dirs(tree, CPUS, "cpu") {
        if let Some(package) = tree.number(dir.join("topology/physical_package_id")) {
            by_package.entry(package).or_default().push(dir);
        }
    }
    let read_package = |(id, dirs): (i64, Vec<PathBuf>)| {
        let cores = read_cores(tree, &dirs, online, problems);
        let mut node = NumaNode {
            id,
            memory: 0,
            hugepages: Vec::new(),
            cores,
            caches: Vec::new(),
            distances: Vec::new(),
        };
        add_caches(tree, &mut node);
        node
    };
    by_package.into_iter().map(read_package).collect()
}

fn read_cores(
    tree: Tree<'_>,
    dirs: &[PathBuf],
    online: &Option<BTreeSet<i64>>,
    problems: &mut Vec<String>,
) -> Vec<Core> {
    let mut cores: Vec<Core> = Vec::new();
    for dir in dirs.iter().filter(|dir| is_online(online, dir)) {
        let id = tree.number::<i64>(dir.join("topology/core_id"));
        let socket = tree.number::<i64>(dir.join("topology/physical_package_id"));
        let thread = number_in(dir, "cpu").and_then(|n| u32::try_from(n).ok());
        let (Some(id), Some(socket_id), Some(thread)) = (id, socket, thread) else {
            problems.push(format!("{}: no core or package id", dir.display()));
            continue;
        };
        match cores
            .iter_mut()
            .find(|core| core.id == id && core.socket_id == socket_id)
        {
            Some(core) => core.threads.push(thread),
            None => cores.push(Core {
                id,
                threads: vec![thread],
                caches: Vec::new(),
                uncore_caches: Vec::new(),
                socket_id,
            }),
        }
    }
    cores
}

/// Assigns the caches of each core's first thread to the core, to the node, or to the uncore caches.
///
/// Quirk: a cache belongs to "all of the node" if it is shared by the core's thread count times the number of cores
/// (`addCacheInfo`), and a low-level cache that several cores share is dropped. Virtual machines often have no cache directory:
/// then there are no caches.
fn add_caches(tree: Tree<'_>, node: &mut NumaNode) {
    let core_count = node.cores.len();
    for core in &mut node.cores {
        let Some(thread) = core.threads.first() else {
            continue;
        };
        let dir = Path::new(CPUS).join(format!("cpu{thread}/cache"));
        let indexes = tree
            .names(&dir)
            .into_iter()
            .filter(|name| name.starts_with("index"));
        let Some(caches) = indexes
            .map(|index| read_cache(tree, &dir.join(index)))
            .collect::<Option<Vec<_>>>()
        else {
            return;
        };
        for (cache, sharers) in caches {
            if cache.level > 2 {
                let whole_node = sharers == core_count * core.threads.len();
                let list = if whole_node {
                    &mut node.caches
                } else {
                    &mut core.uncore_caches
                };
                if !list.contains(&cache) {
                    list.push(cache);
                }
            } else if sharers == core.threads.len() {
                core.caches.push(cache);
            }
        }
    }
}

/// A cache, and how many processors share it.
fn read_cache(tree: Tree<'_>, dir: &Path) -> Option<(Cache, usize)> {
    let size = tree.text(dir.join("size")).ok()?;
    let mask = tree.text(dir.join("shared_cpu_map")).ok()?;
    let mut sharers = 0;
    for part in mask.split(',') {
        sharers += u64::from_str_radix(part.trim(), 16).ok()?.count_ones() as usize;
    }
    let cache = Cache {
        id: tree.number(dir.join("id"))?,
        size: size.strip_suffix('K')?.parse::<u64>().ok()? * 1024,
        kind: tree.text(dir.join("type")).ok()?,
        level: tree.number(dir.join("level"))?,
    };
    Some((cache, sharers))
}

/// `None`: the kernel cannot take processors offline, so all are online.
fn online_set(tree: Tree<'_>) -> Option<BTreeSet<i64>> {
    let list = tree.text(Path::new(CPUS).join("online")).ok()?;
    let mut set = BTreeSet::new();
    for part in list.split(',').filter(|part| !part.is_empty()) {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        set.extend(low.parse::<i64>().ok()?..=high.parse::<i64>().ok()?);
    }
    Some(set)
}

fn is_online(online: &Option<BTreeSet<i64>>, dir: &Path) -> bool {
    online
        .as_ref()
        .is_none_or(|set| number_in(dir, "cpu").is_some_and(|cpu| set.contains(&cpu)))
}

/// Directories `prefix<number>`, sorted by name as upstream's glob sorts them (`cpu10` before `cpu2`).
fn numbered_dirs(tree: Tree<'_>, dir: impl AsRef<Path>, prefix: &str) -> Vec<PathBuf> {
    let names = tree
        .names(&dir)
        .into_iter()
        .filter(|name| is_numbered(name, prefix));
    names.map(|name| dir.as_ref().join(name)).collect()
}

fn number_in(dir: &Path, prefix: &str) -> Option<i64> {
    dir.file_name()?
        .to_str()?
        .strip_prefix(prefix)?
        .parse()
        .ok()
}

fn numbers(text: &str) -> Vec<u64> {
    text.split_ascii_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect()
}
