//! Capacity, reserved resources, and what remains allocatable.
//!
//! In:    the machine, reservations, hard eviction thresholds
//! Out:   capacity and allocatable by resource name; the allowance of the cgroup of all pods
//! Calls: node_facts.rs; wiring for the allowance
//! Holds: eviction thresholds reduce allocatable, never the limit of the pods' cgroup; huge pages reduce the memory
//! Upstream: pkg/kubelet/cm/{node_container_manager_linux.go,helpers.go}, pkg/kubelet/nodestatus/setters.go (MachineInfo),
//!           pkg/kubelet/stats/pidlimit, cmd/kubelet/app/server.go (reserved CPUs)

use std::collections::BTreeMap;

use kubelet_decide::resources::cgroups::PodsAllowance;
use kubelet_host::HostRoot;
use kubelet_host::files::read_text_bounded;
use kubelet_host::machine::Machine;
use kubelet_model::config::Config;
use kubelet_model::quantity::{Format, Quantity};

type List = BTreeMap<String, Quantity>;

/// Capacity and what is kept back of it.
pub(super) struct Amounts {
    pub(super) capacity: List,
    pub(super) reserved: List,
    /// Known apart: nothing is ever kept back of it.
    pub(super) pods: i64,
}

impl Amounts {
    pub(super) fn of(config: &Config, machine: &Machine, disk_bytes: Option<u64>) -> Self {
        let mut capacity = machine_capacity(machine);
        if let Some(bytes) = disk_bytes {
            capacity.insert("ephemeral-storage".to_owned(), bytes_of(bytes));
        }
        let mut reserved = List::new();
        for (name, amount) in &capacity {
            let kept = kept_back(config, name).plus(&eviction_reserve(config, name, amount));
            reserved.insert(name.clone(), kept);
        }
        Self {
            capacity,
            reserved,
            pods: pods_capacity(config, machine),
        }
    }

    pub(super) fn capacity_of(&self, name: &str) -> i64 {
        self.capacity
            .get(name)
            .map_or(0, |amount| in_units(name, amount))
    }

    /// One line for each resource of which more is kept back than there is.
    pub(super) fn over_reserved(&self) -> Vec<String> {
        let over = self.capacity.iter().filter_map(|(name, capacity)| {
            let kept = self.reserved.get(name).filter(|kept| *kept > capacity)?;
            Some(format!(
                "Resource {name:?} has a reservation of {kept} but capacity of {capacity}. Expected capacity >= reservation."
            ))
        });
        over.collect()
    }

    /// What pods may ask for, in base units (cpu: thousandths).
    pub(super) fn allocatable(&self) -> BTreeMap<String, i64> {
        let left = |name: &str, amount: &Quantity| {
            let kept = self.reserved.get(name).cloned().unwrap_or_default();
            in_units(name, &amount.minus(&kept)).max(0)
        };
        let mut list: BTreeMap<String, i64> = self
            .capacity
            .iter()
            .map(|(name, amount)| (name.clone(), left(name, amount)))
            .collect();
        let huge: i64 = list
            .iter()
            .filter(|(name, _)| name.starts_with("hugepages-"))
            .map(|(_, bytes)| *bytes)
            .sum();
        if let Some(memory) = list.get_mut("memory") {
            *memory = memory.saturating_sub(huge).max(0);
        }
        list.insert("pods".to_owned(), self.pods);
        list
    }
}

fn machine_capacity(machine: &Machine) -> List {
    let cores = i64::try_from(machine.num_cores).unwrap_or(i64::MAX);
    let mut capacity = List::from([
        (
            "cpu".to_owned(),
            Quantity::from_milli(cores.saturating_mul(1000)),
        ),
        ("memory".to_owned(), bytes_of(machine.memory_capacity)),
    ]);
    for pages in &machine.hugepages {
        let size = pages.page_size.saturating_mul(1024);
        let name = format!("hugepages-{}", bytes_of(size));
        capacity.insert(name, bytes_of(size.saturating_mul(pages.num_pages)));
    }
    capacity
}

fn pods_capacity(config: &Config, machine: &Machine) -> i64 {
    let most = i64::from(config.resources.max_pods);
    let cores = i64::try_from(machine.num_cores).unwrap_or(i64::MAX);
    let by_cores = config.resources.pods_per_core;
    by_cores.map_or(most, |each| cores.saturating_mul(i64::from(each)).min(most))
}

/// Kept for the system and for Kubernetes. Reserved CPUs replace both amounts of cpu.
fn kept_back(config: &Config, name: &str) -> Quantity {
    let resources = &config.resources;
    let cpus = resources
        .reserved_system_cpus
        .as_deref()
        .map(cpu_list)
        .unwrap_or_default();
    if name == "cpu" && !cpus.is_empty() {
        let cpus = i64::try_from(cpus.len()).unwrap_or(i64::MAX);
        return Quantity::from_units(cpus, Format::DecimalSi);
    }
    let of = |list: &List| list.get(name).cloned().unwrap_or_default();
    of(&resources.system_reserved).plus(&of(&resources.kube_reserved))
}

/// What the hard threshold of a resource keeps free.
fn eviction_reserve(config: &Config, name: &str, capacity: &Quantity) -> Quantity {
    let signal = match name {
        "memory" => "memory.available",
        "ephemeral-storage" => "nodefs.available",
        _ => return Quantity::default(),
    };
    let threshold = config.eviction.hard.get(signal);
    if config.resources.ignore_eviction_in_allocatable {
        return Quantity::default();
    }
    threshold
        .and_then(|text| threshold_amount(text, capacity))
        .unwrap_or_default()
}

/// A threshold is an amount or a share. Shares are 32-bit floats upstream, and the amount shows it.
#[expect(
    clippy::cast_possible_truncation,
    reason = "truncation is what the published figure has"
)]
fn threshold_amount(text: &str, capacity: &Quantity) -> Option<Quantity> {
    match text.strip_suffix('%') {
        Some("0" | "100") => None,
        Some(percent) => {
            let share = percent.parse::<f32>().ok()? / 100.0;
            let bytes = (capacity.value() as f64 * f64::from(share)) as i64;
            Some(Quantity::from_units(bytes, Format::DecimalSi))
        }
        None => text.parse().ok(),
    }
}

/// What all pods may use together: capacity less reservations when `pods` is enforced, else capacity. Reads `/proc/sys`.
pub fn pods_allowance(config: &Config, machine: &Machine, root: &HostRoot) -> PodsAllowance {
    let is_enforced = config.cgroups.per_qos && config.resources.enforce.contains("pods");
    let left = |name: &str, capacity: Quantity| {
        let kept = if is_enforced {
            kept_back(config, name)
        } else {
            Quantity::default()
        };
        in_units(name, &capacity.minus(&kept)).max(0)
    };
    let capacity = machine_capacity(machine);
    let of = |name: &str| left(name, capacity.get(name).cloned().unwrap_or_default());
    PodsAllowance {
        milli_cpu: of("cpu"),
        memory_bytes: of("memory"),
        pids: most_processes(root)
            .map(|pids| left("pid", Quantity::from_units(pids, Format::DecimalSi))),
    }
}

/// Processes that the machine can have: the lesser of the kernel's two limits.
fn most_processes(root: &HostRoot) -> Option<i64> {
    ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"]
        .into_iter()
        .filter_map(|path| {
            read_text_bounded(&root.join(path), 64)
                .ok()?
                .trim()
                .parse()
                .ok()
        })
        .min()
}

/// Numbers of a CPU list (`0-3,7`). What is not one is left out.
pub fn cpu_list(text: &str) -> Vec<u32> {
    let number = |text: &str| text.trim().parse::<u32>().ok();
    text.split(',')
        .filter_map(|part| match part.split_once('-') {
            Some((first, last)) => Some(number(first)?..=number(last)?),
            None => number(part).map(|only| only..=only),
        })
        .flatten()
        .collect()
}

/// Names of the sizes of huge pages, smallest first, which is how the kernel lists them on common machines and upstream sends them.
pub(super) fn page_sizes(machine: &Machine) -> Vec<String> {
    let mut sizes: Vec<u64> = machine
        .hugepages
        .iter()
        .map(|pages| pages.page_size)
        .collect();
    sizes.sort_unstable();
    sizes.into_iter().map(page_size_name).collect()
}

/// A page size as the kernel's cgroup files and the CRI name it (`2MB`), from KiB.
fn page_size_name(kib: u64) -> String {
    match kib {
        _ if kib >= 1 << 20 => format!("{}GB", kib >> 20),
        _ if kib >= 1 << 10 => format!("{}MB", kib >> 10),
        _ => format!("{kib}KB"),
    }
}

fn bytes_of(bytes: u64) -> Quantity {
    Quantity::from_bytes(i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn in_units(name: &str, amount: &Quantity) -> i64 {
    if name == "cpu" {
        amount.milli_value()
    } else {
        amount.value()
    }
}
