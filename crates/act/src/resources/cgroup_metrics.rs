//! A cgroup driver that measures the operations of another.
//!
//! In:    a tree of either version
//! Out:   the same tree; `kubelet_cgroup_manager_duration_seconds`
//! Calls: wiring, around the tree that everybody uses
//! Holds: reads are not measured; a failed operation counts like a successful one
//! Upstream: pkg/kubelet/cm/cgroup_manager_linux.go (Create, Update, Destroy); differences: making sure of one that stands counts
//!           as `create`, where upstream looks first and updates

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use kubelet_host::cgroup::{CgroupError, CgroupLimits, CgroupVersion, Cgroups};
use prometheus::{HistogramVec, Registry};

use crate::frame::metrics::{Making, histogram};

/// The tree.
#[derive(Debug)]
pub struct MeasuredCgroups {
    inner: Arc<dyn Cgroups>,
    took: HistogramVec,
}

impl MeasuredCgroups {
    /// Measures this tree.
    ///
    /// # Errors
    /// When the name of the metric is taken.
    pub fn new(inner: Arc<dyn Cgroups>, registry: &Registry) -> Result<Self, prometheus::Error> {
        let took = HistogramVec::new(
            histogram(
                "cgroup_manager_duration_seconds",
                "Duration in seconds for cgroup manager operations. Broken down by method.",
            ),
            &["operation_type"],
        )?;
        let took = Making(registry).register(took)?;
        Ok(Self { inner, took })
    }

    fn measured<T>(&self, operation: &str, work: impl FnOnce(&dyn Cgroups) -> T) -> T {
        let began = Instant::now();
        let result = work(self.inner.as_ref());
        self.took
            .with_label_values(&[operation])
            .observe(began.elapsed().as_secs_f64());
        result
    }
}

impl Cgroups for MeasuredCgroups {
    fn version(&self) -> CgroupVersion {
        self.inner.version()
    }

    fn create(&self, path: &str, limits: &CgroupLimits) -> Result<Vec<CgroupError>, CgroupError> {
        self.measured("create", |tree| tree.create(path, limits))
    }

    fn update(&self, path: &str, limits: &CgroupLimits) -> Vec<CgroupError> {
        self.measured("update", |tree| tree.update(path, limits))
    }

    fn missing(&self, path: &str) -> Vec<String> {
        self.inner.missing(path)
    }

    fn exists(&self, path: &str) -> bool {
        self.inner.exists(path)
    }

    fn read_limits(&self, path: &str) -> Result<CgroupLimits, CgroupError> {
        self.inner.read_limits(path)
    }

    fn read_memory_usage(&self, path: &str) -> Result<u64, CgroupError> {
        self.inner.read_memory_usage(path)
    }

    fn pids(&self, path: &str) -> Result<Vec<u32>, CgroupError> {
        self.inner.pids(path)
    }

    fn attach(&self, path: &str, pid: u32) -> Result<(), CgroupError> {
        self.inner.attach(path, pid)
    }

    fn children(&self, path: &str) -> Result<BTreeSet<String>, CgroupError> {
        self.inner.children(path)
    }

    fn remove(&self, path: &str) -> Result<(), CgroupError> {
        self.measured("destroy", |tree| tree.remove(path))
    }
}
