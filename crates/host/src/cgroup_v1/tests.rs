//! Cgroup v1 on this machine's hierarchies, below a cgroup of the test, and under a stand-in root.
//!
//! In:    nothing
//! Out:   assertions
//! Calls: cargo test (as root on a v1 or hybrid machine; elsewhere only the stand-in is tested)
//! Holds: the test's cgroups are removed at the end, also after a failure
//! Upstream: none

use super::*;
use crate::cgroup::{self, stand_in};
use crate::pidfd::cgroup_of;
use crate::testing::{TestDir, unique};
use std::process::{Child, Command, Stdio};

struct Own {
    cgroups: CgroupV1,
    path: String,
}

impl Own {
    /// `None` if the machine has no v1, or if the test is not root.
    fn new() -> Option<Self> {
        let root = HostRoot::real();
        let usable = rustix::process::geteuid().is_root()
            && cgroup::version(&root).ok()? == CgroupVersion::V1;
        let cgroups = CgroupV1::open(&root).ok().filter(|_| usable)?;
        Some(Self {
            cgroups,
            path: format!("/{}", unique("cgroup")),
        })
    }

    fn below(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.cgroups.remove(&self.path).unwrap();
        assert_eq!(self.cgroups.pids(&self.path).unwrap(), [] as [u32; 0]);
        assert!(
            self.cgroups
                .trees
                .iter()
                .all(|tree| !tree.directory(&self.path).unwrap().exists())
        );
    }
}

fn sleeper() -> Child {
    Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn limits() -> CgroupLimits {
    CgroupLimits {
        cpu_shares: Some(102),
        cpu_quota_us: Some(10_000),
        cpu_period_us: Some(100_000),
        memory_limit: Some(32 << 20),
        pids_max: Some(64),
        ..CgroupLimits::default()
    }
}

#[test]
fn a_pod_cgroup_exists_in_every_controller_with_its_limits_and_cpus() {
    let Some(own) = Own::new() else { return };
    let pod = own.below("burstable/pod1");
    assert!(!own.cgroups.exists(&pod));
    assert!(own.cgroups.read_limits(&pod).unwrap_err().is_not_found());
    assert!(own.cgroups.create(&pod, &limits()).unwrap().is_empty());
    assert!(own.cgroups.exists(&pod), "{:?}", own.cgroups.missing(&pod));
    assert_eq!(own.cgroups.read_limits(&pod).unwrap(), limits());
    let cpuset = own.cgroups.tree("cpuset").unwrap();
    let of_root = cpuset.read(&cpuset.mount, "cpuset.cpus").unwrap();
    assert_eq!(
        cpuset
            .read(&cpuset.directory(&pod).unwrap(), "cpuset.cpus")
            .unwrap(),
        of_root
    );
    assert!(own.cgroups.read_memory_usage(&pod).is_ok());
    assert!(
        own.cgroups
            .create(&pod, &CgroupLimits::default())
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        own.cgroups.read_limits(&pod).unwrap(),
        limits(),
        "creating again changes nothing"
    );
    let memory = own.cgroups.tree("memory").unwrap();
    std::fs::remove_dir(memory.directory(&pod).unwrap()).unwrap();
    assert_eq!(
        own.cgroups.missing(&pod),
        [memory.directory(&pod).unwrap().display().to_string()]
    );
}

#[test]
fn updates_change_what_they_name_and_tell_what_the_kernel_refused() {
    let Some(own) = Own::new() else { return };
    let pod = own.below("pod1");
    own.cgroups.create(&pod, &limits()).unwrap();
    let unlimited = CgroupLimits {
        memory_limit: Some(-1),
        cpu_quota_us: Some(-1),
        pids_max: Some(-1),
        ..CgroupLimits::default()
    };
    assert!(own.cgroups.update(&pod, &unlimited).is_empty());
    let now = own.cgroups.read_limits(&pod).unwrap();
    assert_eq!(
        (now.cpu_shares, now.cpu_quota_us, now.pids_max),
        (Some(102), Some(-1), Some(-1))
    );
    assert_eq!(now.memory_limit, Some(9_223_372_036_854_771_712));
    let refused = CgroupLimits {
        cpu_shares: Some(1),
        pids_max: Some(7),
        ..CgroupLimits::default()
    };
    let errors = own.cgroups.update(&pod, &refused);
    assert!(
        matches!(&errors[..], [CgroupError::NotTaken { actual, .. }] if actual == "2"),
        "{errors:?}"
    );
    assert_eq!(own.cgroups.read_limits(&pod).unwrap().pids_max, Some(7));
    // A period that fits only with the new quota, since the parent has a quota, too.
    own.cgroups.update(
        &own.path,
        &CgroupLimits {
            cpu_quota_us: Some(50_000),
            ..CgroupLimits::default()
        },
    );
    let wide = CgroupLimits {
        cpu_quota_us: Some(50_000),
        cpu_period_us: Some(100_000),
        ..CgroupLimits::default()
    };
    assert!(own.cgroups.update(&pod, &wide).is_empty());
    let narrow = CgroupLimits {
        cpu_quota_us: Some(5_000),
        cpu_period_us: Some(10_000),
        ..CgroupLimits::default()
    };
    assert!(own.cgroups.update(&pod, &narrow).is_empty());
    assert_eq!(
        own.cgroups.read_limits(&pod).unwrap().cpu_period_us,
        Some(10_000)
    );
}

#[test]
fn removal_kills_what_is_left_at_any_depth() {
    let Some(own) = Own::new() else { return };
    let (pod, container) = (own.below("pod1"), own.below("pod1/container"));
    own.cgroups
        .create(&container, &CgroupLimits::default())
        .unwrap();
    let mut children = [sleeper(), sleeper(), sleeper()];
    let bystander = &mut sleeper();
    for child in &children {
        own.cgroups.attach(&container, child.id()).unwrap();
    }
    let its = cgroup_of(&HostRoot::real(), children[0].id(), Some("pids")).unwrap();
    assert_eq!(its, container);
    let mut pids: Vec<_> = children.iter().map(Child::id).collect();
    pids.sort_unstable();
    assert_eq!(own.cgroups.pids(&pod).unwrap(), pids);
    own.cgroups.remove(&pod).unwrap();
    own.cgroups.remove(&pod).unwrap();
    assert!(!own.cgroups.exists(&pod));
    for child in &mut children {
        assert!(!child.wait().unwrap().success());
    }
    assert!(bystander.try_wait().unwrap().is_none());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn leftovers_in_one_controller_are_found_and_removed() {
    let Some(own) = Own::new() else { return };
    own.cgroups
        .create(&own.path, &CgroupLimits::default())
        .unwrap();
    let memory = own.cgroups.tree("memory").unwrap();
    std::fs::create_dir(memory.directory(&own.below("podx")).unwrap()).unwrap();
    let found = cgroup::list_pod_cgroups(&own.cgroups, &[&own.path]).unwrap();
    assert_eq!(found[0].path, own.below("podx"));
    own.cgroups.remove(&found[0].path).unwrap();
    assert_eq!(
        cgroup::list_pod_cgroups(&own.cgroups, &[&own.path]).unwrap(),
        []
    );
}

#[test]
fn paths_cannot_leave_the_hierarchy_and_the_root_cannot_be_removed() {
    let dir = TestDir::new();
    let root = HostRoot::at(dir.path());
    stand_in::lay_out(&root, CgroupVersion::V1).unwrap();
    let cgroups = CgroupV1::open(&root).unwrap();
    for path in [
        "/",
        "",
        "kubepods",
        "/kubepods/../..",
        "//",
        "/a//b",
        "/a/./b",
    ] {
        assert!(
            matches!(cgroups.remove(path), Err(CgroupError::BadPath(_))),
            "{path}"
        );
    }
    assert!(matches!(
        cgroups.create("/../x", &limits()),
        Err(CgroupError::BadPath(_))
    ));
}

#[test]
fn a_stand_in_behaves_alike_and_sends_no_signals() {
    let dir = TestDir::new();
    let root = HostRoot::at(dir.path());
    stand_in::lay_out(&root, CgroupVersion::V1).unwrap();
    let cgroups = CgroupV1::open(&root).unwrap();
    let (pod, container) = (
        "/kubepods/burstable/pod1",
        "/kubepods/burstable/pod1/container",
    );
    assert!(cgroups.create(container, &limits()).unwrap().is_empty());
    assert_eq!(cgroups.read_limits(container).unwrap(), limits());
    assert_eq!(cgroups.read_limits(pod).unwrap().cpu_shares, Some(1024));
    let cpuset = root.join("/sys/fs/cgroup/cpuset/kubepods/burstable/pod1/container/cpuset.cpus");
    assert_eq!(std::fs::read_to_string(cpuset).unwrap(), "0-1");
    // This process's own PID: a real signal would end the test.
    cgroups.attach(container, std::process::id()).unwrap();
    assert_eq!(cgroups.pids(pod).unwrap(), [std::process::id()]);
    cgroups.remove(pod).unwrap();
    assert!(!cgroups.exists(pod) && cgroups.exists("/kubepods/burstable"));
    cgroups.create(pod, &limits()).unwrap();
    std::fs::write(
        root.join("/sys/fs/cgroup/pids")
            .join("kubepods/burstable/pod1/precious"),
        "x",
    )
    .unwrap();
    assert!(
        matches!(cgroups.remove(pod), Err(CgroupError::Busy { tries: 5, .. })),
        "only control files are unlinked"
    );
}

#[test]
fn controllers_that_are_mounted_together_are_one_tree() {
    let dir = TestDir::new();
    let root = HostRoot::at(dir.path());
    std::fs::create_dir_all(root.join("/proc/self")).unwrap();
    let table = "1 0 0:1 / /c/cpu,cpuacct rw shared:1 - cgroup cgroup rw,cpu,cpuacct\n\
        2 0 0:2 / /c/cpuset rw - cgroup cgroup rw,cpuset\n\
        3 0 0:3 / /c/memory rw - cgroup cgroup rw,memory\n\
        4 0 0:4 / /c/other rw - cgroup cgroup rw,name=other\n\
        5 0 0:5 / /c/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
    std::fs::write(root.join("/proc/self/mountinfo"), table).unwrap();
    let cgroups = CgroupV1::open(&root).unwrap();
    let mounts: Vec<_> = cgroups
        .trees
        .iter()
        .map(|tree| tree.mount.clone())
        .collect();
    assert_eq!(
        mounts,
        ["/c/cpu,cpuacct", "/c/cpuset", "/c/memory"].map(|path| root.join(path))
    );
    std::fs::write(
        root.join("/proc/self/mountinfo"),
        &table[..table.find("3 0").unwrap()],
    )
    .unwrap();
    let error = CgroupV1::open(&root).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cgroups are not mounted: no v1 hierarchy of memory"
    );
}
