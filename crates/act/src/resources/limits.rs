//! Converts a decided cgroup to the limits that the cgroup driver writes.
//!
//! In:    `Cgroup`
//! Out:   `CgroupLimits`
//! Calls: container_manager, pod/host_work
//! Holds: a limit that is not decided is left as it is
//! Upstream: pkg/kubelet/cm

use kubelet_decide::shapes::work::Cgroup;
use kubelet_host::cgroup::CgroupLimits;

/// A decided cgroup as the writer of cgroups takes it.
pub(crate) fn limits_of(cgroup: &Cgroup) -> CgroupLimits {
    CgroupLimits {
        cpu_shares: cgroup.cpu_shares,
        cpu_quota_us: cgroup.cpu_quota_us,
        cpu_period_us: cgroup.cpu_period_us,
        memory_limit: cgroup.memory_limit,
        pids_max: cgroup.pids_limit,
        hugetlb: cgroup.hugetlb.clone(),
        ..CgroupLimits::default()
    }
}
