//! Cgroup v1: the same path in the hierarchy of every controller.
//!
//! In:    a path and limits
//! Out:   directories in every mounted controller, `cpu.shares`, `cpu.cfs_*`, `memory.*`, `pids.max`, `hugetlb.*`
//! Calls: through the trait `Cgroups`
//! Holds: controllers that are mounted together (cpu,cpuacct) are one tree; a cpuset has CPUs and memory nodes before any
//!        process can enter it; a cgroup exists only if it exists for every controller that the kubelet needs
//! Upstream: pkg/kubelet/cm/cgroup_v1_manager_linux.go, vendor/github.com/opencontainers/cgroups/fs

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

use crate::HostRoot;
use crate::cgroup::tree::{self, Tree};
use crate::cgroup::{
    CgroupError, CgroupLimits, CgroupVersion, Cgroups, huge_page_limits, huge_page_sizes, pids_text,
};
use crate::mounts::mount_table;

/// Controllers in which cgroups are created, if they are mounted.
const KNOWN: [&str; 15] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
    "systemd",
];
/// Controllers that must have a cgroup for it to exist, if they are mounted.
const NEEDED: [&str; 7] = [
    "cpu", "cpuacct", "cpuset", "hugetlb", "memory", "pids", "systemd",
];

/// The mounted v1 hierarchies.
#[derive(Debug)]
pub struct CgroupV1 {
    /// By controller; `systemd` is the named hierarchy.
    controllers: BTreeMap<String, Tree>,
    /// Each hierarchy once.
    trees: Vec<Tree>,
    /// The same, and on a hybrid host the unified hierarchy: runtimes create cgroups there too, so cgroups are removed and
    /// looked up there as well.
    everywhere: Vec<Tree>,
    huge_pages: Vec<String>,
}

impl CgroupV1 {
    /// Reads the current mounts.
    ///
    /// # Errors
    /// [`CgroupError::NotMounted`] without cpu, cpuacct, cpuset or memory, as in upstream's validation.
    pub fn open(root: &HostRoot) -> Result<Self, CgroupError> {
        let mut controllers = BTreeMap::new();
        for mount in mount_table(root)?
            .into_iter()
            .filter(|mount| mount.filesystem == "cgroup")
        {
            for option in &mount.super_options {
                let name = option.strip_prefix("name=").unwrap_or(option);
                if KNOWN.contains(&name) && (name == "systemd") == option.starts_with("name=") {
                    let tree = Tree::new(root, &mount.mount_point);
                    controllers.entry(name.to_owned()).or_insert(tree);
                }
            }
        }
        let required = ["cpu", "cpuacct", "cpuset", "memory"];
        let missing: Vec<_> = required
            .into_iter()
            .filter(|name| !controllers.contains_key(*name))
            .collect();
        if !missing.is_empty() {
            return Err(CgroupError::NotMounted(format!(
                "no v1 hierarchy of {}",
                missing.join(", ")
            )));
        }
        let mut trees: Vec<Tree> = Vec::new();
        for tree in controllers.values() {
            if !trees.contains(tree) {
                trees.push(tree.clone());
            }
        }
        let mut everywhere = trees.clone();
        let unified = mount_table(root)?
            .into_iter()
            .find(|mount| mount.filesystem == "cgroup2");
        everywhere.extend(unified.map(|mount| Tree::new(root, &mount.mount_point)));
        Ok(Self {
            controllers,
            trees,
            everywhere,
            huge_pages: huge_page_sizes(root),
        })
    }

    fn tree(&self, controller: &str) -> Result<&Tree, CgroupError> {
        self.controllers
            .get(controller)
            .ok_or_else(|| CgroupError::NotMounted(format!("no v1 hierarchy of {controller}")))
    }

    fn set_cpu(&self, path: &str, limits: &CgroupLimits) -> Result<(), CgroupError> {
        let tree = self.tree("cpu")?;
        let directory = tree.directory(path)?;
        if let Some(shares) = limits.cpu_shares.filter(|shares| *shares != 0) {
            tree.write(&directory, "cpu.shares", &shares.to_string())?;
            // The kernel silently clamps a value that is out of range.
            let actual = tree.read(&directory, "cpu.shares")?;
            if actual != shares.to_string() {
                let (path, wanted) = (directory.join("cpu.shares"), shares.to_string());
                return Err(CgroupError::NotTaken {
                    path,
                    wanted,
                    actual,
                });
            }
        }
        let period = limits
            .cpu_period_us
            .filter(|period| *period != 0)
            .map(|period| period.to_string());
        let quota = limits
            .cpu_quota_us
            .filter(|quota| *quota != 0)
            .map(|quota| quota.to_string());
        let mut is_period_late = false;
        if let Some(period) = &period {
            match tree.write(&directory, "cpu.cfs_period_us", period) {
                // The old quota with the new period may exceed the parent's; it fits after the new quota is set.
                Err(CgroupError::Io { source, .. })
                    if source.kind() == ErrorKind::InvalidInput && quota.is_some() =>
                {
                    is_period_late = true;
                }
                other => other?,
            }
        }
        if let Some(quota) = &quota {
            tree.write(&directory, "cpu.cfs_quota_us", quota)?;
        }
        if let Some(period) = period.filter(|_| is_period_late) {
            tree.write(&directory, "cpu.cfs_period_us", &period)?;
        }
        Ok(())
    }

    fn set_memory(&self, path: &str, limits: &CgroupLimits) -> Result<(), CgroupError> {
        let Some(limit) = limits.memory_limit.filter(|limit| *limit != 0) else {
            return Ok(());
        };
        let tree = self.tree("memory")?;
        let directory = tree.directory(path)?;
        let swap = "memory.memsw.limit_in_bytes";
        if limit < 0 {
            // Memory with swap is never less than memory, so it is written first.
            if directory.join(swap).exists() {
                tree.write(&directory, swap, "-1")?;
            }
            return tree.write(&directory, "memory.limit_in_bytes", "-1");
        }
        tree.write(&directory, "memory.limit_in_bytes", &limit.to_string())
    }

    fn set_hugetlb(&self, path: &str, limits: &CgroupLimits) -> Result<(), CgroupError> {
        let (Some(asked), Some(tree)) = (&limits.hugetlb, self.controllers.get("hugetlb")) else {
            return Ok(());
        };
        let directory = tree.directory(path)?;
        for (size, limit) in huge_page_limits(asked, &self.huge_pages) {
            tree.write(
                &directory,
                &format!("hugetlb.{size}.limit_in_bytes"),
                &limit.to_string(),
            )?;
            let reserved = format!("hugetlb.{size}.rsvd.limit_in_bytes");
            if directory.join(&reserved).exists() {
                tree.write(&directory, &reserved, &limit.to_string())?;
            }
        }
        Ok(())
    }

    fn set_rest(&self, path: &str, limits: &CgroupLimits) -> Result<(), CgroupError> {
        if let (Some(limit), Some(tree)) = (limits.pids_max, self.controllers.get("pids")) {
            tree.write(&tree.directory(path)?, "pids.max", &pids_text(limit))?;
        }
        if let Some(cpus) = limits.cpuset_cpus.as_ref().filter(|cpus| !cpus.is_empty()) {
            let tree = self.tree("cpuset")?;
            tree.write(&tree.directory(path)?, "cpuset.cpus", cpus)?;
        }
        Ok(())
    }
}

/// A new cpuset is empty, and no process may enter an empty one: copies the parent's.
fn fill_cpuset(tree: &Tree, parent: &Path, directory: &Path) -> Result<(), CgroupError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if tree.read(directory, file)?.is_empty() {
            tree.write(directory, file, &tree.read(parent, file)?)?;
        }
    }
    Ok(())
}

impl Cgroups for CgroupV1 {
    fn version(&self) -> CgroupVersion {
        CgroupVersion::V1
    }

    fn create(&self, path: &str, limits: &CgroupLimits) -> Result<Vec<CgroupError>, CgroupError> {
        let cpuset = self.controllers.get("cpuset");
        for tree in &self.trees {
            for pair in tree.directories(path)?.windows(2) {
                tree.make(&pair[1])?;
                if cpuset == Some(tree) {
                    fill_cpuset(tree, &pair[0], &pair[1])?;
                }
            }
        }
        Ok(self.update(path, limits))
    }

    fn update(&self, path: &str, limits: &CgroupLimits) -> Vec<CgroupError> {
        let set = [
            Self::set_cpu,
            Self::set_memory,
            Self::set_hugetlb,
            Self::set_rest,
        ];
        set.iter()
            .filter_map(|set| set(self, path, limits).err())
            .collect()
    }

    fn missing(&self, path: &str) -> Vec<String> {
        let needed = NEEDED.iter().filter_map(|name| self.controllers.get(*name));
        let mut missing = BTreeSet::new();
        for tree in needed {
            match tree.directory(path) {
                Ok(directory) if directory.is_dir() => {}
                Ok(directory) => drop(missing.insert(directory.display().to_string())),
                Err(error) => drop(missing.insert(error.to_string())),
            }
        }
        missing.into_iter().collect()
    }

    fn read_limits(&self, path: &str) -> Result<CgroupLimits, CgroupError> {
        let (cpu, memory) = (self.tree("cpu")?, self.tree("memory")?);
        let directory = cpu.directory(path)?;
        let pids_max = match self.controllers.get("pids") {
            Some(tree) => Some(
                tree.read_number(&tree.directory(path)?, "pids.max")?
                    .unwrap_or(-1),
            ),
            None => None,
        };
        Ok(CgroupLimits {
            cpu_shares: cpu.read_number(&directory, "cpu.shares")?,
            cpu_quota_us: cpu.read_number(&directory, "cpu.cfs_quota_us")?,
            cpu_period_us: cpu.read_number(&directory, "cpu.cfs_period_us")?,
            memory_limit: memory.read_number(&memory.directory(path)?, "memory.limit_in_bytes")?,
            pids_max,
            ..CgroupLimits::default()
        })
    }

    fn read_memory_usage(&self, path: &str) -> Result<u64, CgroupError> {
        let tree = self.tree("memory")?;
        Ok(tree
            .read_number(&tree.directory(path)?, "memory.usage_in_bytes")?
            .unwrap_or(u64::MAX))
    }

    fn pids(&self, path: &str) -> Result<Vec<u32>, CgroupError> {
        tree::pids(&self.everywhere, path)
    }

    fn attach(&self, path: &str, pid: u32) -> Result<(), CgroupError> {
        self.trees.iter().try_for_each(|tree| {
            tree.write(&tree.directory(path)?, "cgroup.procs", &pid.to_string())
        })
    }

    fn children(&self, path: &str) -> Result<BTreeSet<String>, CgroupError> {
        let mut names = BTreeSet::new();
        for tree in &self.everywhere {
            names.extend(tree.children_of(&tree.directory(path)?)?);
        }
        Ok(names)
    }

    fn remove(&self, path: &str) -> Result<(), CgroupError> {
        tree::remove(&self.everywhere, path)
    }
}

#[cfg(test)]
mod tests;
