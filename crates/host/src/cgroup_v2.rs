//! Cgroup v2: one hierarchy, controllers enabled from the top down.
//!
//! In:    a path and limits
//! Out:   a directory with its controllers enabled, `cpu.weight`, `cpu.max`, `memory.max`, `pids.max`, `hugetlb.*.max`
//! Calls: through the trait `Cgroups`
//! Holds: a cgroup exists only if every controller that the kubelet needs and the root has is enabled in it
//! Upstream: pkg/kubelet/cm/cgroup_v2_manager_linux.go, vendor/github.com/opencontainers/cgroups/fs2

use std::collections::BTreeSet;
use std::path::Path;

use crate::HostRoot;
use crate::cgroup::tree::{self, Tree};
use crate::cgroup::{
    CgroupError, CgroupLimits, CgroupVersion, Cgroups, huge_page_limits, huge_page_sizes,
    pids_text, shares_from_weight, weight_from_shares,
};

const NEEDED: [&str; 5] = ["cpu", "cpuset", "hugetlb", "memory", "pids"];
const CONTROL: &str = "cgroup.subtree_control";
const DEFAULT_PERIOD_US: u64 = 100_000;

/// The unified hierarchy.
#[derive(Debug)]
pub struct CgroupV2 {
    tree: Tree,
    /// The controllers of the root.
    available: BTreeSet<String>,
    huge_pages: Vec<String>,
}

impl CgroupV2 {
    /// Reads the controllers of the root.
    ///
    /// # Errors
    /// `/sys/fs/cgroup` is not a v2 hierarchy.
    pub fn open(root: &HostRoot) -> Result<Self, CgroupError> {
        let tree = Tree::new(root, Path::new("/sys/fs/cgroup"));
        let available = controllers(&tree, &tree.mount)?;
        Ok(Self {
            tree,
            available,
            huge_pages: huge_page_sizes(root),
        })
    }

    fn needed(&self) -> impl Iterator<Item = &str> {
        NEEDED
            .into_iter()
            .filter(|name| self.available.contains(*name))
    }

    fn has(&self, controller: &str) -> bool {
        self.available.contains(controller)
    }

    /// Enables all controllers of the root for the children of a directory: all at once, or one by one if some cannot be
    /// enabled. Those that failed are missing in the cgroup itself.
    fn enable(&self, directory: &Path) -> Result<(), CgroupError> {
        let enabled = controllers_in(&self.tree.read(directory, CONTROL)?);
        let wanted: Vec<_> = self
            .available
            .difference(&enabled)
            .map(|name| format!("+{name}"))
            .collect();
        if wanted.is_empty()
            || self
                .tree
                .write(directory, CONTROL, &wanted.join(" "))
                .is_ok()
        {
            return Ok(());
        }
        for name in &wanted {
            drop(self.tree.write(directory, CONTROL, name));
        }
        Ok(())
    }

    fn set_cpu(&self, directory: &Path, limits: &CgroupLimits) -> Result<(), CgroupError> {
        if let Some(shares) = limits.cpu_shares {
            self.tree.write(
                directory,
                "cpu.weight",
                &weight_from_shares(shares).to_string(),
            )?;
        }
        let quota = limits.cpu_quota_us.filter(|quota| *quota != 0);
        let period = limits.cpu_period_us.filter(|period| *period != 0);
        if quota.is_some() || period.is_some() {
            let quota = quota
                .filter(|quota| *quota > 0)
                .map_or("max".to_owned(), |quota| quota.to_string());
            let value = format!("{quota} {}", period.unwrap_or(DEFAULT_PERIOD_US));
            self.tree.write(directory, "cpu.max", &value)?;
        }
        Ok(())
    }

    fn set_memory(&self, directory: &Path, limits: &CgroupLimits) -> Result<(), CgroupError> {
        match limits.memory_limit {
            None | Some(0) => Ok(()),
            Some(limit) if limit < 0 => self.tree.write(directory, "memory.max", "max"),
            Some(limit) => self.tree.write(directory, "memory.max", &limit.to_string()),
        }
    }

    fn set_hugetlb(&self, directory: &Path, limits: &CgroupLimits) -> Result<(), CgroupError> {
        let Some(asked) = limits.hugetlb.as_ref().filter(|_| self.has("hugetlb")) else {
            return Ok(());
        };
        for (size, limit) in huge_page_limits(asked, &self.huge_pages) {
            self.tree.write(
                directory,
                &format!("hugetlb.{size}.max"),
                &limit.to_string(),
            )?;
            let reserved = format!("hugetlb.{size}.rsvd.max");
            if directory.join(&reserved).exists() {
                self.tree.write(directory, &reserved, &limit.to_string())?;
            }
        }
        Ok(())
    }

    fn set_rest(&self, directory: &Path, limits: &CgroupLimits) -> Result<(), CgroupError> {
        if let Some(limit) = limits.pids_max {
            self.tree.write(directory, "pids.max", &pids_text(limit))?;
        }
        if let Some(cpus) = limits.cpuset_cpus.as_ref().filter(|cpus| !cpus.is_empty()) {
            self.tree.write(directory, "cpuset.cpus", cpus)?;
        }
        for (file, value) in &limits.unified {
            if file.contains('/') {
                return Err(CgroupError::BadPath(file.clone()));
            }
            self.tree.write(directory, file, value)?;
        }
        Ok(())
    }
}

fn controllers_in(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn controllers(tree: &Tree, directory: &Path) -> Result<BTreeSet<String>, CgroupError> {
    Ok(controllers_in(&tree.read(directory, "cgroup.controllers")?))
}

impl Cgroups for CgroupV2 {
    fn version(&self) -> CgroupVersion {
        CgroupVersion::V2
    }

    fn create(&self, path: &str, limits: &CgroupLimits) -> Result<Vec<CgroupError>, CgroupError> {
        let directories = self.tree.directories(path)?;
        for pair in directories.windows(2) {
            self.enable(&pair[0])?;
            self.tree.make(&pair[1])?;
        }
        let missing = self.missing(path);
        if !missing.is_empty() {
            return Err(CgroupError::MissingControllers {
                path: path.to_owned(),
                missing,
            });
        }
        Ok(self.update(path, limits))
    }

    fn update(&self, path: &str, limits: &CgroupLimits) -> Vec<CgroupError> {
        let directory = match self.tree.directory(path) {
            Ok(directory) => directory,
            Err(error) => return vec![error],
        };
        let set = [
            Self::set_cpu,
            Self::set_memory,
            Self::set_hugetlb,
            Self::set_rest,
        ];
        set.iter()
            .filter_map(|set| set(self, &directory, limits).err())
            .collect()
    }

    fn missing(&self, path: &str) -> Vec<String> {
        let enabled = self
            .tree
            .directory(path)
            .and_then(|directory| controllers(&self.tree, &directory));
        // Without the file the cgroup does not exist: all are missing, even if the root has none that is needed.
        match enabled {
            Ok(enabled) => self
                .needed()
                .filter(|name| !enabled.contains(*name))
                .map(str::to_owned)
                .collect(),
            Err(error) => {
                let cause = std::error::Error::source(&error);
                let cause = cause.map(|cause| format!(": {cause}"));
                vec![format!("{error}{}", cause.unwrap_or_default())]
            }
        }
    }

    fn read_limits(&self, path: &str) -> Result<CgroupLimits, CgroupError> {
        let directory = self.tree.directory(path)?;
        let maximum = self.tree.read(&directory, "cpu.max")?;
        let mut parts = maximum.split_whitespace();
        let (quota, period) = (
            parts.next(),
            parts.next().and_then(|period| period.parse().ok()),
        );
        let weight = self.tree.read_number::<u64>(&directory, "cpu.weight")?;
        Ok(CgroupLimits {
            cpu_shares: weight.map(shares_from_weight),
            cpu_quota_us: Some(quota.and_then(|quota| quota.parse().ok()).unwrap_or(-1)),
            cpu_period_us: period,
            memory_limit: Some(
                self.tree
                    .read_number(&directory, "memory.max")?
                    .unwrap_or(-1),
            ),
            pids_max: Some(self.tree.read_number(&directory, "pids.max")?.unwrap_or(-1)),
            ..CgroupLimits::default()
        })
    }

    fn read_memory_usage(&self, path: &str) -> Result<u64, CgroupError> {
        let directory = self.tree.directory(path)?;
        Ok(self
            .tree
            .read_number(&directory, "memory.current")?
            .unwrap_or(u64::MAX))
    }

    fn pids(&self, path: &str) -> Result<Vec<u32>, CgroupError> {
        tree::pids(std::slice::from_ref(&self.tree), path)
    }

    fn attach(&self, path: &str, pid: u32) -> Result<(), CgroupError> {
        self.tree.write(
            &self.tree.directory(path)?,
            "cgroup.procs",
            &pid.to_string(),
        )
    }

    fn children(&self, path: &str) -> Result<BTreeSet<String>, CgroupError> {
        self.tree.children_of(&self.tree.directory(path)?)
    }

    fn remove(&self, path: &str) -> Result<(), CgroupError> {
        tree::remove(std::slice::from_ref(&self.tree), path)
    }
}

#[cfg(test)]
mod tests;
