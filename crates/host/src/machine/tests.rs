//! A fixture machine, field by field, and the machine that runs the test, compared with `/proc` and `/sys` read in another way.
//!
//! In:    a fixture tree; the machine that runs the test
//! Out:   every field of `/spec/`
//! Upstream: none

use std::collections::BTreeSet;
use std::process::Command;

use super::*;

struct Fixture(PathBuf);

impl Fixture {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let fixture = Self(
            std::env::temp_dir().join(format!("hyperkube-machine-{name}-{}", std::process::id())),
        );
        for (path, text) in files {
            let path = fixture.0.join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        fixture
    }

    fn read(&self) -> Result<(Machine, Vec<String>), MachineError> {
        read_machine(&self.0, &IdFiles::default(), jiff::Timestamp::UNIX_EPOCH)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

const CPUINFO: &str = "processor\t: 0\nvendor_id\t: GenuineIntel x\ncpu MHz\t\t: 2596.142\nphysical id\t: 0\ncore id\t\t: 0\n\n\
    processor\t: 1\nvendor_id\t: Other\ncpu MHz\t\t: 1.0\nphysical id\t: 0\ncore id\t\t: 0\n\n\
    processor\t: 2\nphysical id\t: 1\ncore id\t\t: 3\n";
const MEMINFO: &str = "MemTotal:       2048 kB\nMemFree: 1 kB\nSwapTotal:      10 kB\n";

fn two_nodes() -> Vec<(&'static str, &'static str)> {
    vec![
        ("/proc/cpuinfo", CPUINFO),
        ("/proc/meminfo", MEMINFO),
        ("/proc/self/mountinfo", ""),
        ("/proc/sys/kernel/random/boot_id", "boot\n"),
        ("/var/lib/dbus/machine-id", "machine\n"),
        ("/sys/class/dmi/id/product_uuid", "UUID\n"),
        ("/sys/devices/system/cpu/online", "0-2\n"),
        (
            "/sys/devices/system/node/node0/meminfo",
            "Node 0 MemTotal:       1024 kB\n",
        ),
        ("/sys/devices/system/node/node0/distance", "10 20\n"),
        (
            "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages",
            "4\n",
        ),
        (
            "/sys/devices/system/node/node0/cpu0/topology/core_id",
            "0\n",
        ),
        (
            "/sys/devices/system/node/node0/cpu0/topology/physical_package_id",
            "0\n",
        ),
        (
            "/sys/devices/system/node/node0/cpu1/topology/core_id",
            "0\n",
        ),
        (
            "/sys/devices/system/node/node0/cpu1/topology/physical_package_id",
            "0\n",
        ),
        (
            "/sys/devices/system/node/node1/cpu2/topology/core_id",
            "3\n",
        ),
        (
            "/sys/devices/system/node/node1/cpu2/topology/physical_package_id",
            "1\n",
        ),
        (
            "/sys/devices/system/node/node1/cpu3/topology/core_id",
            "4\n",
        ),
        ("/sys/devices/system/cpu/cpu0/cache/index0/id", "0\n"),
        ("/sys/devices/system/cpu/cpu0/cache/index0/size", "32K\n"),
        ("/sys/devices/system/cpu/cpu0/cache/index0/type", "Data\n"),
        ("/sys/devices/system/cpu/cpu0/cache/index0/level", "1\n"),
        (
            "/sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_map",
            "00000000,00000003\n",
        ),
        ("/sys/devices/system/cpu/cpu0/cache/index3/id", "1\n"),
        ("/sys/devices/system/cpu/cpu0/cache/index3/size", "1024K\n"),
        (
            "/sys/devices/system/cpu/cpu0/cache/index3/type",
            "Unified\n",
        ),
        ("/sys/devices/system/cpu/cpu0/cache/index3/level", "3\n"),
        (
            "/sys/devices/system/cpu/cpu0/cache/index3/shared_cpu_map",
            "3\n",
        ),
        (
            "/sys/devices/system/edac/mc/mc0/dimm0/dimm_mem_type",
            "Unbuffered-DDR4\n",
        ),
        ("/sys/devices/system/edac/mc/mc0/dimm0/size", "2\n"),
        (
            "/sys/devices/system/edac/mc/mc0/dimm1/dimm_mem_type",
            "Unbuffered-DDR4\n",
        ),
        ("/sys/devices/system/edac/mc/mc0/dimm1/size", "1\n"),
        (
            "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages",
            "1\n",
        ),
        ("/sys/block/vda/dev", "254:0\n"),
        ("/sys/block/vda/size", "8\n"),
        (
            "/sys/block/vda/queue/scheduler",
            "none [mq-deadline] kyber\n",
        ),
        ("/sys/block/loop0/dev", "7:0\n"),
        ("/sys/block/nvme0c0n1/hidden", "1\n"),
        ("/sys/class/net/eth0/address", "02:00:00:00:00:01\n"),
        ("/sys/class/net/eth0/mtu", "1500\n"),
        ("/sys/class/net/eth0/speed", "-1\n"),
        ("/sys/class/net/veth12/mtu", "1500\n"),
        ("/sys/class/net/bonding_masters", "\n"),
    ]
}

#[test]
fn a_machine_with_two_memory_nodes_shows_upstreams_json() {
    let (machine, problems) = Fixture::new("two", &two_nodes()).read().unwrap();
    let core = |id, threads: &[u32], caches, socket| serde_json::json!({"core_id": id, "thread_ids": threads, "caches": caches, "uncore_caches": null, "socket_id": socket});
    let cache = |id, size, kind, level| serde_json::json!([{"id": id, "size": size, "type": kind, "level": level}]);
    let expected = serde_json::json!({
        "timestamp": "1970-01-01T00:00:00Z",
        "vendor_id": "GenuineIntel", "num_cores": 3, "num_physical_cores": 2, "num_sockets": 2,
        "cpu_frequency_khz": 2_596_142, "memory_capacity": 2_097_152, "swap_capacity": 10_240,
        "memory_by_type": {"Unbuffered-DDR4": {"capacity": 3_145_728, "dimm_count": 2}},
        "nvm": {"memory_mode_capacity": 0, "app direct_mode_capacity": 0, "avg_power_budget": 0},
        "hugepages": [{"page_size": 1_048_576, "num_pages": 1}],
        "machine_id": "machine", "system_uuid": "UUID", "boot_id": "boot",
        "filesystems": null,
        "disk_map": {"254:0": {"name": "vda", "major": 254, "minor": 0, "size": 4096, "scheduler": "mq-deadline"}},
        "network_devices": [{"name": "eth0", "mac_address": "02:00:00:00:00:01", "speed": -1, "mtu": 1500}],
        "topology": [
            {"node_id": 0, "memory": 1_048_576, "hugepages": [{"page_size": 2048, "num_pages": 4}],
             "cores": [core(0, &[0, 1], cache(0, 32_768, "Data", 1), 0)], "caches": cache(1, 1_048_576, "Unified", 3),
             "distances": [10, 20]},
            {"node_id": 1, "memory": 0, "hugepages": null, "cores": [core(3, &[2], serde_json::Value::Null, 1)],
             "caches": null, "distances": null},
        ],
        "cloud_provider": "Unknown", "instance_type": "Unknown", "instance_id": "None",
    });
    assert_eq!(serde_json::to_value(&machine).unwrap(), expected);
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn without_memory_nodes_packages_stand_for_them_and_problems_are_named() {
    let fixture = Fixture::new(
        "packages",
        &[
            ("/proc/cpuinfo", "processor : 0\nclock : 3000.5MHz\n"),
            ("/proc/meminfo", MEMINFO),
            ("/sys/devices/system/cpu/online", "0,2\n"),
            ("/sys/devices/system/cpu/cpu0/topology/core_id", "0\n"),
            (
                "/sys/devices/system/cpu/cpu0/topology/physical_package_id",
                "1\n",
            ),
            ("/sys/devices/system/cpu/cpu1/topology/core_id", "1\n"),
            (
                "/sys/devices/system/cpu/cpu1/topology/physical_package_id",
                "1\n",
            ),
            ("/sys/devices/system/cpu/cpu2/topology/core_id", "0\n"),
            (
                "/sys/devices/system/cpu/cpu2/topology/physical_package_id",
                "0\n",
            ),
        ],
    );
    let (machine, problems) = fixture.read().unwrap();
    let nodes: Vec<(i64, usize)> = machine
        .topology
        .iter()
        .map(|node| (node.id, node.cores.len()))
        .collect();
    assert_eq!(nodes, [(0, 1), (1, 1)]);
    assert_eq!(
        (
            machine.num_cores,
            machine.num_physical_cores,
            machine.num_sockets
        ),
        (2, 2, 2)
    );
    assert_eq!(machine.cpu_frequency_khz, 3_000_500);
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert_eq!(
        problems[0],
        "no machine id in any of /etc/machine-id,/var/lib/dbus/machine-id"
    );
}

#[test]
fn a_machine_without_cpuinfo_or_a_memory_total_is_an_error_that_names_the_file() {
    let empty = Fixture::new("empty", &[("/etc/x", "")]);
    let cpuinfo = empty.0.join("proc/cpuinfo");
    assert_eq!(
        empty.read().unwrap_err().to_string(),
        format!("read {}", cpuinfo.display())
    );
    let cut = Fixture::new(
        "cut",
        &[
            ("/proc/cpuinfo", CPUINFO),
            ("/proc/meminfo", "MemFree: 1 kB\n"),
        ],
    );
    let meminfo = cut.0.join("proc/meminfo");
    assert_eq!(
        cut.read().unwrap_err().to_string(),
        format!("{} has no MemTotal", meminfo.display())
    );
}

fn text(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

/// `(number, rest)` of each processor's block in cpuinfo, split in the simplest way.
fn cpuinfo_values(key: &str) -> Vec<String> {
    let cpuinfo = text("/proc/cpuinfo");
    let pairs = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    pairs
        .filter(|(name, _)| name.trim() == key)
        .map(|(_, value)| value.trim().to_owned())
        .collect()
}

#[test]
fn this_machines_processors_are_those_of_nproc_and_cpuinfo() {
    let (machine, _) = read_machine(
        Path::new("/"),
        &IdFiles::default(),
        jiff::Timestamp::UNIX_EPOCH,
    )
    .unwrap();
    let nproc = Command::new("nproc").arg("--all").output().unwrap();
    let online = cpuinfo_values("processor").len();
    assert_eq!(machine.num_cores, online);
    assert!(
        machine.num_cores
            <= String::from_utf8(nproc.stdout)
                .unwrap()
                .trim()
                .parse()
                .unwrap()
    );
    let distinct = |key: &str| {
        cpuinfo_values(key)
            .into_iter()
            .collect::<BTreeSet<_>>()
            .len()
    };
    if distinct("core id") > 0 {
        assert_eq!(machine.num_physical_cores, distinct("core id"));
        assert_eq!(machine.num_sockets, distinct("physical id"));
    }
    if let Some(vendor) = cpuinfo_values("vendor_id").first() {
        assert_eq!(&machine.vendor_id, vendor);
    }
    let threads: BTreeSet<u32> = machine
        .topology
        .iter()
        .flat_map(|n| &n.cores)
        .flat_map(|c| c.threads.clone())
        .collect();
    assert_eq!(threads.len(), online);
    if let Ok(max) =
        std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
    {
        assert_eq!(
            machine.cpu_frequency_khz,
            max.trim().parse::<u64>().unwrap()
        );
    } else if let Some(mhz) = cpuinfo_values("cpu MHz").first() {
        let khz = mhz.parse::<f64>().unwrap() * 1000.0;
        assert!(
            (machine.cpu_frequency_khz as f64 - khz).abs() < khz,
            "the clock moves, but not by a factor of two"
        );
    }
}

#[test]
fn this_machines_memory_and_identities_are_those_of_proc() {
    let (machine, _) = read_machine(
        Path::new("/"),
        &IdFiles::default(),
        jiff::Timestamp::UNIX_EPOCH,
    )
    .unwrap();
    let sysinfo = rustix::system::sysinfo();
    assert_eq!(
        machine.memory_capacity,
        sysinfo.totalram * u64::from(sysinfo.mem_unit)
    );
    assert_eq!(
        machine.swap_capacity,
        sysinfo.totalswap * u64::from(sysinfo.mem_unit)
    );
    assert_eq!(machine.boot_id, text("/proc/sys/kernel/random/boot_id"));
    let ids = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
    assert_eq!(
        machine.machine_id,
        ids.iter()
            .find(|f| Path::new(f).exists())
            .map(text)
            .unwrap_or_default()
    );
    let uuids = [
        "/sys/class/dmi/id/product_uuid",
        "/proc/device-tree/system-id",
        "/proc/device-tree/vm,uuid",
        "/etc/machine-id",
    ];
    let uuid = uuids
        .iter()
        .find_map(|file| std::fs::read_to_string(file).ok())
        .unwrap_or_default();
    assert_eq!(machine.system_uuid, uuid.trim());
    let pages: u64 = machine
        .hugepages
        .iter()
        .map(|pages| pages.num_pages * pages.page_size)
        .sum();
    let hugetlb = text("/proc/meminfo")
        .lines()
        .find_map(|l| Some(l.strip_prefix("Hugetlb:")?.trim().to_owned()));
    if let Some(hugetlb) = hugetlb {
        assert_eq!(format!("{pages} kB"), hugetlb);
    }
    for node in &machine.topology {
        let file = format!("/sys/devices/system/node/node{}/meminfo", node.id);
        let Ok(nodes) = std::fs::read_to_string(file) else {
            continue;
        };
        let total = nodes
            .lines()
            .find(|line| line.contains("MemTotal:"))
            .unwrap()
            .split_ascii_whitespace()
            .nth(3)
            .unwrap();
        assert_eq!(node.memory, total.parse::<u64>().unwrap() * 1024);
    }
    if !Path::new("/sys/devices/system/edac/mc/mc0").exists() {
        assert!(machine.memory_by_type.is_empty());
    }
    assert_eq!(machine.nvm, NonVolatileMemory::default());
    assert_eq!(
        (
            machine.cloud_provider,
            machine.instance_type,
            machine.instance_id
        ),
        ("Unknown", "Unknown", "None")
    );
}

#[test]
fn this_machines_disks_networks_and_filesystems_are_those_of_the_kernel() {
    let (machine, _) = read_machine(
        Path::new("/"),
        &IdFiles::default(),
        jiff::Timestamp::UNIX_EPOCH,
    )
    .unwrap();
    // /proc/partitions lists disks and partitions in KiB: every disk must be there with its size.
    let partitions = text("/proc/partitions");
    for disk in machine.disk_map.values().filter(|disk| disk.size > 0) {
        let line = partitions
            .lines()
            .map(|l| l.split_ascii_whitespace().collect::<Vec<_>>())
            .find(|f| f.get(3) == Some(&&*disk.name));
        let line = line.unwrap_or_else(|| panic!("{} is not in /proc/partitions", disk.name));
        assert_eq!(
            (line[0], line[1], line[2].parse().ok()),
            (
                &*disk.major.to_string(),
                &*disk.minor.to_string(),
                Some(disk.size / 1024)
            )
        );
    }
    // /proc/net/dev belongs to this process's network namespace, as /sys/class/net belongs to the mount's.
    let known: BTreeSet<String> = text("/proc/net/dev")
        .lines()
        .filter_map(|l| Some(l.split_once(':')?.0.trim().to_owned()))
        .collect();
    for device in &machine.network_devices {
        assert!(
            known.contains(&device.name),
            "{} is not in /proc/net/dev",
            device.name
        );
        assert_eq!(
            device.mtu.to_string(),
            text(format!("/sys/class/net/{}/mtu", device.name))
        );
        assert_eq!(
            device.mac_address,
            text(format!("/sys/class/net/{}/address", device.name))
        );
    }
    // /proc/mounts names the root's device; its size is that of statfs.
    let root = text("/proc/mounts")
        .lines()
        .filter(|l| l.split(' ').nth(1) == Some("/"))
        .map(|l| l.split(' ').next().unwrap().to_owned())
        .next();
    let size = crate::stats::filesystem_usage(Path::new("/")).unwrap();
    let shown = machine
        .filesystems
        .iter()
        .find(|f| Some(&f.device) == root.as_ref());
    if let Some(shown) = shown {
        assert_eq!(
            (shown.capacity, shown.inodes, shown.kind, shown.has_inodes),
            (size.capacity, size.inodes, "vfs", true)
        );
    }
    assert!(!machine.filesystems.is_empty());
}
