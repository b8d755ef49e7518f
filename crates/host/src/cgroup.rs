//! The cgroupfs driver: one trait, two hierarchies (`cgroup_v1.rs`, `cgroup_v2.rs`).
//!
//! In:    paths such as `/kubepods/burstable/pod<uid>` and limits, both computed by decide/resources/cgroups.rs
//! Out:   directories and control files of the kernel
//! Calls: act/resources/container_manager and the pod worker, through `Blocking`
//! Holds: a path never leaves its hierarchy, and the root is never removed; processes are killed through pidfds, after their
//!        membership was read again; under a stand-in root no signal is sent
//! Upstream: pkg/kubelet/cm/cgroup_manager_linux.go, pod_container_manager_linux.go, helpers_linux.go

pub mod stand_in;
pub(crate) mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kubelet_model::ids::PodUid;

use crate::HostRoot;
use crate::cgroup_v1::CgroupV1;
use crate::cgroup_v2::CgroupV2;
use crate::mounts::{MountError, mount_table};

/// Why a cgroup operation failed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// Neither version is mounted as the kubelet needs it.
    #[error("cgroups are not mounted: {0}")]
    NotMounted(String),
    /// The mount table cannot be read.
    #[error("cannot find out how cgroups are mounted")]
    Mounts(#[from] MountError),
    /// Not an absolute path of plain names below the root.
    #[error("{0:?} is not the path of a cgroup")]
    BadPath(String),
    /// A control file or directory could not be used.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// The operation, with the value of a write.
        operation: String,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The kernel set another value.
    #[error("{} is {actual} after writing {wanted}", path.display())]
    NotTaken {
        /// The file.
        path: PathBuf,
        /// The value that was written.
        wanted: String,
        /// The value that is read back.
        actual: String,
    },
    /// Controllers could not be enabled.
    #[error("cgroup {path:?} has some missing controllers: {}", missing.join(", "))]
    MissingControllers {
        /// The cgroup.
        path: String,
        /// The names of the controllers.
        missing: Vec<String>,
    },
    /// After five tries it still has processes, or the kernel still reports it busy.
    #[error("cgroup {path:?} is still in use after {tries} tries, processes: {pids:?}")]
    Busy {
        /// The cgroup.
        path: String,
        /// The number of tries.
        tries: u32,
        /// The processes that were found last.
        pids: Vec<u32>,
    },
}

impl CgroupError {
    pub(crate) fn io(operation: impl Into<String>, path: &Path, source: io::Error) -> Self {
        Self::Io {
            operation: operation.into(),
            path: path.to_owned(),
            source,
        }
    }

    /// True when the cgroup, or the control file, does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// The hierarchy that the kubelet uses. Hybrid machines count as V1, as upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupVersion {
    /// One hierarchy per controller.
    V1,
    /// The unified hierarchy, mounted at `/sys/fs/cgroup`.
    V2,
}

/// The limits to set; `None` leaves a limit unchanged. Names and units are those of cgroup v1, as in CRI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupLimits {
    /// 2 to 262144. On v2 converted to `cpu.weight`, see [`weight_from_shares`].
    pub cpu_shares: Option<u64>,
    /// Microseconds per period; negative for no limit; 0 counts as not given.
    pub cpu_quota_us: Option<i64>,
    /// The period in microseconds; 0 counts as not given.
    pub cpu_period_us: Option<u64>,
    /// Bytes; negative for no limit; 0 counts as not given.
    pub memory_limit: Option<i64>,
    /// Negative for no limit. Quirk: 0 is written as 1 (the systemd driver cannot set 0).
    pub pids_max: Option<i64>,
    /// Bytes by page size (`2MB`, `1GB`). If given, page sizes of the host that are not listed are set to 0.
    pub hugetlb: Option<BTreeMap<String, u64>>,
    /// CPUs in list format.
    pub cpuset_cpus: Option<String>,
    /// v2 files and their content, such as `memory.high`; ignored on v1.
    pub unified: BTreeMap<String, String>,
}

/// The operations of both hierarchies. All may block.
pub trait Cgroups: Debug + Send + Sync {
    /// Which of the two versions this is.
    fn version(&self) -> CgroupVersion;

    /// Creates the cgroup and its parents (existing ones are kept) and sets the limits. The returned list has the limits that
    /// could not be set although the cgroup exists.
    ///
    /// # Errors
    /// The cgroup was not created, or only in some hierarchies; creating it again continues.
    fn create(&self, path: &str, limits: &CgroupLimits) -> Result<Vec<CgroupError>, CgroupError>;

    /// Sets limits of an existing cgroup. All are tried; the returned list has the failures.
    fn update(&self, path: &str, limits: &CgroupLimits) -> Vec<CgroupError>;

    /// What is missing of the cgroup: directories (v1) or controllers (v2). Empty if it is complete.
    fn missing(&self, path: &str) -> Vec<String>;

    /// Whether it exists with all controllers that the kubelet needs.
    fn exists(&self, path: &str) -> bool {
        self.missing(path).is_empty()
    }

    /// The current CPU, memory and pids limits, in terms of v1.
    ///
    /// # Errors
    /// The cgroup, or a controller's file, does not exist.
    fn read_limits(&self, path: &str) -> Result<CgroupLimits, CgroupError>;

    /// The memory charged to it, in bytes.
    ///
    /// # Errors
    /// The cgroup does not exist.
    fn read_memory_usage(&self, path: &str) -> Result<u64, CgroupError>;

    /// The processes in it and below it, in all hierarchies, sorted. Empty if it does not exist.
    ///
    /// # Errors
    /// A file cannot be read: then it is unknown whether there are processes.
    fn pids(&self, path: &str) -> Result<Vec<u32>, CgroupError>;

    /// Moves a process into it, in all hierarchies.
    ///
    /// # Errors
    /// The process may have been moved in some hierarchies.
    fn attach(&self, path: &str, pid: u32) -> Result<(), CgroupError>;

    /// The names of its direct children, in any hierarchy. Empty if it does not exist.
    ///
    /// # Errors
    /// A directory cannot be read.
    fn children(&self, path: &str) -> Result<BTreeSet<String>, CgroupError>;

    /// Kills its processes (at most five rounds) and removes it with all children. A cgroup that does not exist counts as
    /// removed.
    ///
    /// # Errors
    /// [`CgroupError::Busy`]; a later call continues.
    fn remove(&self, path: &str) -> Result<(), CgroupError>;
}

/// Detects the mounted version and opens it.
///
/// # Errors
/// [`CgroupError::NotMounted`] or an unreadable mount table.
pub fn open(root: &HostRoot) -> Result<Arc<dyn Cgroups>, CgroupError> {
    Ok(match version(root)? {
        CgroupVersion::V2 => Arc::new(CgroupV2::open(root)?),
        CgroupVersion::V1 => Arc::new(CgroupV1::open(root)?),
    })
}

/// V2 if and only if `/sys/fs/cgroup` itself is a cgroup2 file system.
///
/// # Errors
/// `/sys/fs/cgroup` does not exist.
pub fn version(root: &HostRoot) -> Result<CgroupVersion, CgroupError> {
    let at = Path::new("/sys/fs/cgroup");
    let is_v2 = if root.is_stand_in() {
        mount_table(root)?
            .iter()
            .any(|mount| mount.mount_point == at && mount.filesystem == "cgroup2")
    } else {
        let found =
            rustix::fs::statfs(at).map_err(|errno| CgroupError::io("statfs", at, errno.into()))?;
        found.f_type == CGROUP2_SUPER_MAGIC
    };
    Ok(if is_v2 {
        CgroupVersion::V2
    } else {
        CgroupVersion::V1
    })
}

const CGROUP2_SUPER_MAGIC: rustix::fs::FsWord = 0x6367_7270;

/// A pod's cgroup that exists on the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodCgroup {
    /// The part of its name after `pod`.
    pub uid: PodUid,
    /// Its path.
    pub path: String,
}

/// The cgroups of all pods directly below the `tiers` (the kubepods cgroup with its `burstable` and `besteffort`), in any
/// hierarchy, sorted by UID.
///
/// # Errors
/// A tier cannot be read: the list would be incomplete.
pub fn list_pod_cgroups(
    cgroups: &dyn Cgroups,
    tiers: &[&str],
) -> Result<Vec<PodCgroup>, CgroupError> {
    let mut found = BTreeSet::new();
    for tier in tiers {
        for name in cgroups.children(tier)? {
            let uid = name.strip_prefix("pod");
            if let Some(uid) = uid.and_then(|uid| PodUid::parse(uid).ok()) {
                let path = format!("{}/{name}", tier.trim_end_matches('/'));
                found.insert(PodCgroup { uid, path });
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// The `cpu.weight` for shares: 2..=262144 to 1..=10000, linear, as the kubelet converts (the runtime does it differently).
pub fn weight_from_shares(shares: u64) -> u64 {
    if shares >= 262_144 {
        10_000
    } else {
        1 + shares.saturating_sub(2) * 9999 / 262_142
    }
}

/// The inverse, as the kubelet reads weights.
pub fn shares_from_weight(weight: u64) -> u64 {
    weight.saturating_sub(1).saturating_mul(262_142) / 9999 + 2
}

/// The huge page sizes of the host in cgroup notation (`2MB`, `1GB`), in the order of their names in `/sys`.
pub(crate) fn huge_page_sizes(root: &HostRoot) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(root.join("/sys/kernel/mm/hugepages")) else {
        return Vec::new();
    };
    let mut sizes: Vec<u64> = entries
        .flatten()
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse()
                .ok()
        })
        .collect();
    sizes.sort_unstable();
    let unit = |kib: u64| match kib {
        kib if kib >= 1 << 20 => format!("{}GB", kib >> 20),
        kib if kib >= 1 << 10 => format!("{}MB", kib >> 10),
        kib => format!("{kib}KB"),
    };
    sizes.into_iter().map(unit).collect()
}

/// The value for each page size: the requested one, and 0 for all others of the host.
pub(crate) fn huge_page_limits(
    asked: &BTreeMap<String, u64>,
    host: &[String],
) -> BTreeMap<String, u64> {
    let mut limits: BTreeMap<_, _> = host.iter().map(|size| (size.clone(), 0)).collect();
    limits.extend(asked.iter().map(|(size, limit)| (size.clone(), *limit)));
    limits
}

/// The text of a limit for which negative numbers mean no limit.
pub(crate) fn pids_text(limit: i64) -> String {
    match limit {
        0 => "1".to_owned(),
        limit if limit < 0 => "max".to_owned(),
        limit => limit.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDir;

    #[test]
    fn weights_and_shares_convert_as_upstream_does() {
        let weights = [0, 1, 2, 102, 1024, 2048, 262_143, 262_144, 300_000].map(weight_from_shares);
        assert_eq!(weights, [1, 1, 1, 4, 39, 79, 9999, 10_000, 10_000]);
        assert_eq!(
            [1, 4, 39, 100, 10_000].map(shares_from_weight),
            [2, 80, 998, 2597, 262_144]
        );
    }

    #[test]
    fn page_sizes_are_named_as_the_kernel_names_the_files() {
        let dir = TestDir::new();
        let root = HostRoot::at(dir.path());
        for kib in ["1048576", "2048", "64"] {
            std::fs::create_dir_all(
                root.join(format!("/sys/kernel/mm/hugepages/hugepages-{kib}kB")),
            )
            .unwrap();
        }
        let sizes = huge_page_sizes(&root);
        assert_eq!(sizes, ["64KB", "2MB", "1GB"]);
        let limits = huge_page_limits(&[("2MB".to_owned(), 7)].into(), &sizes);
        assert_eq!(
            limits.into_iter().collect::<Vec<_>>(),
            [
                ("1GB".to_owned(), 0),
                ("2MB".to_owned(), 7),
                ("64KB".to_owned(), 0)
            ]
        );
    }

    #[test]
    fn the_version_follows_the_mount_at_the_root() {
        for wanted in [CgroupVersion::V1, CgroupVersion::V2] {
            let dir = TestDir::new();
            let root = HostRoot::at(dir.path());
            stand_in::lay_out(&root, wanted).unwrap();
            assert_eq!(version(&root).unwrap(), wanted);
            assert_eq!(open(&root).unwrap().version(), wanted);
        }
        assert!(open(&HostRoot::real()).is_ok());
    }

    #[test]
    fn pods_of_all_tiers_are_listed_with_their_paths() {
        for version in [CgroupVersion::V1, CgroupVersion::V2] {
            let dir = TestDir::new();
            let root = HostRoot::at(dir.path());
            stand_in::lay_out(&root, version).unwrap();
            let cgroups = open(&root).unwrap();
            for path in [
                "/kubepods/podb",
                "/kubepods/burstable/poda/container",
                "/kubepods/system",
                "/kubepods/pod",
            ] {
                assert!(
                    cgroups
                        .create(path, &CgroupLimits::default())
                        .unwrap()
                        .is_empty()
                );
            }
            let tiers = ["/kubepods", "/kubepods/burstable", "/kubepods/besteffort"];
            let found = list_pod_cgroups(&*cgroups, &tiers).unwrap();
            let paths: Vec<_> = found
                .iter()
                .map(|pod| (pod.uid.as_str(), pod.path.as_str()))
                .collect();
            assert_eq!(
                paths,
                [("a", "/kubepods/burstable/poda"), ("b", "/kubepods/podb")]
            );
        }
    }
}
