//! The machine as `/spec/` shows it: processors, memory, disks, filesystems, network devices, identities.
//!
//! In:    a root directory (`/` in the product, a fixture in tests), the ID files to try, the current time
//! Out:   [`Machine`], whose JSON has the field names of upstream's machine information, and the problems on the way
//! Calls: wiring at start and every 5 minutes, on a blocking thread (statfs may hang on a dead server; see `filesystems`)
//! Holds: only an unreadable cpuinfo or meminfo is an error; anything else that is missing leaves its field empty and is a
//!        problem
//! Upstream: vendor/github.com/google/cadvisor/{info/v1/machine.go,machine,utils/sysinfo,utils/sysfs} (1.36); differences:
//!           filesystems and package nodes come in a fixed order; a processor without a readable clock has 0 kHz, where
//!           upstream then has no machine at all

mod filesystems;
#[cfg(test)]
mod tests;
mod topology;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use filesystems::Filesystem;
pub use topology::{Cache, Core, NumaNode};

/// Why the machine information could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// A file that every Linux has could not be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A file that every Linux has lacks a line that every Linux writes.
    #[error("{path} has no {what}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// The missing line.
        what: &'static str,
    },
}

/// The files with the machine ID and the boot ID; the first readable one counts (`--machine-id-file`, `--boot-id-file`).
#[derive(Debug, Clone)]
pub struct IdFiles {
    /// Absolute paths of the machine ID.
    pub machine: Vec<PathBuf>,
    /// Absolute paths of the boot ID.
    pub boot: Vec<PathBuf>,
}

impl Default for IdFiles {
    fn default() -> Self {
        Self {
            machine: vec!["/etc/machine-id".into(), "/var/lib/dbus/machine-id".into()],
            boot: vec!["/proc/sys/kernel/random/boot_id".into()],
        }
    }
}

/// Pre-allocated huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HugePages {
    /// KiB.
    pub page_size: u64,
    /// The number of allocated pages.
    pub num_pages: u64,
}

/// Memory modules of one type, from the error-detection driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MemoryModules {
    /// Bytes.
    pub capacity: u64,
    /// The number of modules.
    pub dimm_count: u32,
}

/// Non-volatile memory: always zero, as upstream shows it when built without the vendor's C library.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NonVolatileMemory {
    /// Bytes in memory mode.
    pub memory_mode_capacity: u64,
    /// Bytes in app direct mode. Quirk: the space in the name is upstream's (`info/v1/machine.go`).
    #[serde(rename = "app direct_mode_capacity")]
    pub app_direct_mode_capacity: u64,
    /// Watts.
    pub avg_power_budget: u32,
}

/// A block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// Kernel name.
    pub name: String,
    /// Device number, major part.
    pub major: u64,
    /// Device number, minor part.
    pub minor: u64,
    /// Bytes.
    pub size: u64,
    /// The current I/O scheduler, `none` if there is none.
    pub scheduler: String,
}

/// A network device, without loopback and containers' devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkDevice {
    /// Kernel name.
    pub name: String,
    /// Hardware address.
    pub mac_address: String,
    /// Mbit/s; 0 if the driver does not report it, -1 if it does not know it.
    pub speed: i64,
    /// Bytes.
    pub mtu: i64,
}

/// The content of `/spec/`, in its order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    /// When it was read.
    pub timestamp: jiff::Timestamp,
    /// `vendor_id` of the first processor.
    pub vendor_id: String,
    /// Online logical processors.
    pub num_cores: usize,
    /// The number of distinct `core id` values. Quirk: two sockets that number their cores alike count once
    /// (`GetPhysicalCores`).
    pub num_physical_cores: usize,
    /// The number of distinct `physical id` values.
    pub num_sockets: usize,
    /// The maximum clock, else the current one, in kHz; 0 if the machine does not report it.
    pub cpu_frequency_khz: u64,
    /// Bytes.
    pub memory_capacity: u64,
    /// Bytes.
    pub swap_capacity: u64,
    /// By module type.
    pub memory_by_type: BTreeMap<String, MemoryModules>,
    /// Always zero.
    pub nvm: NonVolatileMemory,
    /// By size, in the order of the directory; null if the kernel has none.
    #[serde(serialize_with = "null_if_empty")]
    pub hugepages: Vec<HugePages>,
    /// May be empty.
    pub machine_id: String,
    /// May be empty.
    pub system_uuid: String,
    /// May be empty.
    pub boot_id: String,
    /// By device.
    #[serde(serialize_with = "null_if_empty")]
    pub filesystems: Vec<Filesystem>,
    /// By `major:minor`.
    pub disk_map: BTreeMap<String, Disk>,
    /// By name.
    pub network_devices: Vec<NetworkDevice>,
    /// NUMA nodes with their cores; physical packages if the kernel has no NUMA nodes.
    #[serde(serialize_with = "null_if_empty")]
    pub topology: Vec<NumaNode>,
    /// Always `Unknown`: no cloud is queried.
    pub cloud_provider: &'static str,
    /// Always `Unknown`.
    pub instance_type: &'static str,
    /// Always `None`.
    pub instance_id: &'static str,
}

/// Go encodes a nil list as null; clients of `/spec/` see the same.
fn null_if_empty<T: Serialize, S: serde::Serializer>(
    list: &[T],
    out: S,
) -> Result<S::Ok, S::Error> {
    if list.is_empty() {
        out.serialize_none()
    } else {
        list.serialize(out)
    }
}

/// Reads the machine information under `root`. Blocking: files, and one statfs per file system.
///
/// Also returns what could not be read, one line each, for the log.
///
/// # Errors
/// [`MachineError`] if cpuinfo or meminfo is unreadable or has no total.
pub fn read_machine(
    root: &Path,
    ids: &IdFiles,
    now: jiff::Timestamp,
) -> Result<(Machine, Vec<String>), MachineError> {
    let tree = Tree { root };
    let mut problems = Vec::new();
    let cpuinfo = tree.required("/proc/cpuinfo")?;
    let meminfo = tree.required("/proc/meminfo")?;
    let topology = topology::read_topology(tree, &mut problems);
    let cpu_frequency_khz = clock_khz(tree, &cpuinfo).unwrap_or_else(|| {
        problems.push("no clock speed in /proc/cpuinfo".to_owned());
        0
    });
    let machine = Machine {
        timestamp: now,
        vendor_id: field(&cpuinfo, "vendor_id").map(word).unwrap_or_default(),
        num_cores: topology::online_threads(tree, &topology),
        num_physical_cores: distinct(&cpuinfo, "core id")
            .unwrap_or_else(|| topology::distinct_property(tree, "core_id")),
        num_sockets: distinct(&cpuinfo, "physical id")
            .unwrap_or_else(|| topology::distinct_property(tree, "physical_package_id")),
        cpu_frequency_khz,
        memory_capacity: kib_line(&meminfo, "MemTotal")
            .ok_or_else(|| tree.missing("/proc/meminfo", "MemTotal"))?,
        swap_capacity: kib_line(&meminfo, "SwapTotal")
            .ok_or_else(|| tree.missing("/proc/meminfo", "SwapTotal"))?,
        memory_by_type: memory_modules(tree),
        nvm: NonVolatileMemory::default(),
        hugepages: read_huge_pages(tree, "/sys/kernel/mm/hugepages"),
        machine_id: first_of(tree, &ids.machine, "machine id", &mut problems),
        system_uuid: system_uuid(tree, &mut problems),
        boot_id: first_of(tree, &ids.boot, "boot id", &mut problems),
        filesystems: filesystems::read_filesystems(tree, &mut problems),
        disk_map: read_disks(tree, &mut problems),
        network_devices: read_network_devices(tree, &mut problems),
        topology,
        cloud_provider: "Unknown",
        instance_type: "Unknown",
        instance_id: "None",
    };
    Ok((machine, problems))
}

/// A directory that stands for `/`.
#[derive(Debug, Clone, Copy)]
struct Tree<'a> {
    root: &'a Path,
}

impl Tree<'_> {
    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The trimmed content. Bytes that are not UTF-8 are replaced, since device names may contain any.
    fn text(&self, path: impl AsRef<Path>) -> std::io::Result<String> {
        let bytes = std::fs::read(self.at(path))?;
        Ok(String::from_utf8_lossy(&bytes)
            .trim_matches(|c: char| c.is_whitespace() || c == '\0')
            .to_owned())
    }

    fn required(&self, path: &str) -> Result<String, MachineError> {
        self.text(path).map_err(|source| MachineError::Read {
            path: self.at(path),
            source,
        })
    }

    fn missing(&self, path: &str, what: &'static str) -> MachineError {
        MachineError::Missing {
            path: self.at(path),
            what,
        }
    }

    fn number<N: std::str::FromStr>(&self, path: impl AsRef<Path>) -> Option<N> {
        self.text(path).ok()?.parse().ok()
    }

    /// The names in a directory, sorted as bytes; empty if it does not exist.
    fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.at(path)) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }
}

/// The value of the first line `name<blanks>: value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| field_of_line(line, name))
}

fn field_of_line<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.strip_prefix(name)?
        .trim_start()
        .strip_prefix(':')
        .map(str::trim)
}

/// The leading letters, digits and underscores.
fn word(value: &str) -> String {
    value
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect()
}

/// How many distinct numbers the lines `name: number` have; `None` if there is no such line.
fn distinct(cpuinfo: &str, name: &str) -> Option<usize> {
    let values: BTreeSet<u64> = cpuinfo
        .lines()
        .filter_map(|l| field_of_line(l, name)?.parse().ok())
        .collect();
    (!values.is_empty()).then_some(values.len())
}

/// The bytes of the line `name: number kB`. NUMA nodes write a prefix before the name.
fn kib_line(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let value = line[line.find(name)?..]
            .strip_prefix(name)?
            .strip_prefix(':')?
            .trim();
        value
            .strip_suffix("kB")?
            .trim()
            .parse::<u64>()
            .ok()?
            .checked_mul(1024)
    })
}

/// The maximum clock of processor 0 if the kernel scales it, else the first clock in cpuinfo.
///
/// Architectures whose cpuinfo has no clock get 0, which is not a problem there.
fn clock_khz(tree: Tree<'_>, cpuinfo: &str) -> Option<u64> {
    if let Some(khz) = tree.number("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq") {
        return Some(khz);
    }
    let mhz = ["cpu MHz", "CPU MHz", "clock"]
        .iter()
        .find_map(|name| field(cpuinfo, name));
    match mhz.and_then(|value| value.trim_end_matches("MHz").parse::<f64>().ok()) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "as upstream: truncated kHz of a small positive number"
        )]
        Some(mhz) => Some((mhz * 1000.0) as u64),
        None if cfg!(any(target_arch = "x86_64", target_arch = "powerpc64")) => None,
        None => Some(0),
    }
}

fn memory_modules(tree: Tree<'_>) -> BTreeMap<String, MemoryModules> {
    let mut modules: BTreeMap<String, MemoryModules> = BTreeMap::new();
    let base = Path::new("/sys/devices/system/edac/mc");
    for controller in tree
        .names(base)
        .into_iter()
        .filter(|n| is_numbered(n, "mc"))
    {
        for dimm in tree
            .names(base.join(&controller))
            .into_iter()
            .filter(|n| is_numbered(n, "dimm"))
        {
            let dir = base.join(&controller).join(dimm);
            let (Ok(kind), Some(mebibytes)) = (
                tree.text(dir.join("dimm_mem_type")),
                tree.number::<u64>(dir.join("size")),
            ) else {
                // If a module cannot be read, the whole table is unreliable: upstream shows none in that case.
                return BTreeMap::new();
            };
            let entry = modules.entry(kind).or_default();
            entry.capacity += mebibytes << 20;
            entry.dimm_count += 1;
        }
    }
    modules
}

/// `prefix`, followed by digits only.
fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

fn read_huge_pages(tree: Tree<'_>, dir: impl AsRef<Path>) -> Vec<HugePages> {
    let dir = dir.as_ref();
    let size = |name: &str| {
        name.strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()
    };
    let pages = tree.names(dir).into_iter().filter_map(|name| {
        Some(HugePages {
            page_size: size(&name)?,
            num_pages: tree.number(dir.join(&name).join("nr_hugepages"))?,
        })
    });
    pages.collect()
}

fn first_of(tree: Tree<'_>, files: &[PathBuf], what: &str, problems: &mut Vec<String>) -> String {
    if let Some(id) = files.iter().find_map(|file| tree.text(file).ok()) {
        return id;
    }
    if !files.is_empty() {
        let tried: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
        problems.push(format!("no {what} in any of {}", tried.join(",")));
    }
    String::new()
}

/// The firmware's UUID, or its replacement on machines without that firmware.
fn system_uuid(tree: Tree<'_>, problems: &mut Vec<String>) -> String {
    const SOURCES: [&str; 4] = [
        "/sys/class/dmi/id/product_uuid",
        "/proc/device-tree/system-id",
        "/proc/device-tree/vm,uuid",
        "/etc/machine-id",
    ];
    SOURCES
        .iter()
        .find_map(|file| tree.text(file).ok())
        .unwrap_or_else(|| {
            problems.push("no system uuid".to_owned());
            String::new()
        })
}

fn read_disks(tree: Tree<'_>, problems: &mut Vec<String>) -> BTreeMap<String, Disk> {
    let mut disks = BTreeMap::new();
    for name in tree.names("/sys/block") {
        let dir = Path::new("/sys/block").join(&name);
        let skipped = ["loop", "ram", "sr"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        if skipped
            || tree
                .text(dir.join("hidden"))
                .is_ok_and(|hidden| hidden == "1")
        {
            continue;
        }
        let numbers = tree.text(dir.join("dev")).ok();
        let numbers = numbers.as_deref().and_then(|dev| dev.split_once(':'));
        let numbers =
            numbers.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let (Some((major, minor)), Some(sectors)) = (numbers, tree.number::<u64>(dir.join("size")))
        else {
            problems.push(format!("{}: no device number or size", dir.display()));
            continue;
        };
        let schedulers = tree.text(dir.join("queue/scheduler")).unwrap_or_default();
        let chosen = schedulers
            .split_once('[')
            .and_then(|(_, rest)| rest.split_once(']'))
            .map(|(chosen, _)| chosen);
        // The size is in sectors of 512 bytes, whatever the device's sector size is.
        let disk = Disk {
            name,
            major,
            minor,
            size: sectors * 512,
            scheduler: chosen.unwrap_or("none").to_owned(),
        };
        disks.insert(format!("{major}:{minor}"), disk);
    }
    disks
}

fn read_network_devices(tree: Tree<'_>, problems: &mut Vec<String>) -> Vec<NetworkDevice> {
    let mut devices = Vec::new();
    for name in tree.names("/sys/class/net") {
        let dir = Path::new("/sys/class/net").join(&name);
        let skipped = ["lo", "veth", "docker", "nerdctl"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        // Not every name there is a device: `bonding_masters` is a file.
        if skipped || !tree.at(&dir).is_dir() {
            continue;
        }
        let (Ok(mac_address), Some(mtu)) =
            (tree.text(dir.join("address")), tree.number(dir.join("mtu")))
        else {
            problems.push(format!("{}: no address or mtu", dir.display()));
            continue;
        };
        // Many drivers report no speed while the link is down.
        let speed = tree.number(dir.join("speed")).unwrap_or(0);
        devices.push(NetworkDevice {
            name,
            mac_address,
            speed,
            mtu,
        });
    }
    devices
}
