//! Cgroup v2 under a stand-in root: the content of each file.
//!
//! In:    a directory laid out like a unified hierarchy
//! Out:   assertions
//! Calls: cargo test
//! Holds: nothing
//! Upstream: none

use super::*;
use crate::cgroup::stand_in;
use crate::testing::TestDir;

const POD: &str = "/kubepods/burstable/pod1";

fn host() -> (TestDir, HostRoot, CgroupV2) {
    let dir = TestDir::new();
    let root = HostRoot::at(dir.path());
    stand_in::lay_out(&root, CgroupVersion::V2).unwrap();
    std::fs::create_dir_all(root.join("/sys/kernel/mm/hugepages/hugepages-2048kB")).unwrap();
    let cgroups = CgroupV2::open(&root).unwrap();
    (dir, root, cgroups)
}

fn file(root: &HostRoot, path: &str) -> String {
    std::fs::read_to_string(root.join(format!("/sys/fs/cgroup{path}"))).unwrap()
}

#[test]
fn limits_are_written_in_the_words_of_v2() {
    let (_dir, root, cgroups) = host();
    let limits = CgroupLimits {
        cpu_shares: Some(1024),
        cpu_quota_us: Some(50_000),
        memory_limit: Some(64 << 20),
        pids_max: Some(0),
        hugetlb: Some([("1GB".to_owned(), 1 << 30)].into()),
        unified: [("memory.oom.group".to_owned(), "1".to_owned())].into(),
        ..CgroupLimits::default()
    };
    assert!(cgroups.create(POD, &limits).unwrap().is_empty());
    let content = |name: &str| file(&root, &format!("{POD}/{name}"));
    assert_eq!(content("cpu.weight"), "39");
    assert_eq!(content("cpu.max"), "50000 100000");
    assert_eq!(content("memory.max"), "67108864");
    assert_eq!(content("pids.max"), "1");
    assert_eq!(
        (content("hugetlb.1GB.max"), content("hugetlb.2MB.max")),
        ("1073741824".into(), "0".into())
    );
    assert_eq!(content("memory.oom.group"), "1");
    let read = cgroups.read_limits(POD).unwrap();
    assert_eq!(
        (read.cpu_shares, read.cpu_quota_us, read.cpu_period_us),
        (Some(998), Some(50_000), Some(100_000))
    );
    assert_eq!(
        (read.memory_limit, read.pids_max),
        (Some(64 << 20), Some(1))
    );
    let none = CgroupLimits {
        cpu_quota_us: Some(-1),
        cpu_period_us: Some(20_000),
        memory_limit: Some(-1),
        pids_max: Some(-1),
        ..CgroupLimits::default()
    };
    assert!(cgroups.update(POD, &none).is_empty());
    assert_eq!(content("cpu.max"), "max 20000");
    assert_eq!(
        (
            content("memory.max"),
            content("pids.max"),
            content("cpu.weight")
        ),
        ("max".into(), "max".into(), "39".into())
    );
    let read = cgroups.read_limits(POD).unwrap();
    assert_eq!(
        (read.cpu_quota_us, read.memory_limit, read.pids_max),
        (Some(-1), Some(-1), Some(-1))
    );
    assert_eq!(cgroups.read_memory_usage(POD).unwrap(), 0);
}

#[test]
fn controllers_are_enabled_from_the_top_down_but_not_in_the_pod_itself() {
    let (_dir, root, cgroups) = host();
    cgroups.create(POD, &CgroupLimits::default()).unwrap();
    for path in ["", "/kubepods", "/kubepods/burstable"] {
        let enabled = controllers_in(&file(&root, &format!("{path}/cgroup.subtree_control")));
        assert_eq!(enabled, cgroups.available, "{path}");
    }
    assert_eq!(file(&root, &format!("{POD}/cgroup.subtree_control")), "");
    assert!(cgroups.exists(POD));
    assert_eq!(
        cgroups
            .children("/kubepods")
            .unwrap()
            .into_iter()
            .collect::<Vec<_>>(),
        ["burstable"]
    );
}

#[test]
fn a_cgroup_without_its_controllers_does_not_exist() {
    let (_dir, root, cgroups) = host();
    assert!(!cgroups.exists(POD));
    cgroups
        .create("/kubepods", &CgroupLimits::default())
        .unwrap();
    std::fs::write(
        root.join("/sys/fs/cgroup/kubepods/cgroup.controllers"),
        "cpu io pids\n",
    )
    .unwrap();
    assert_eq!(
        cgroups.missing("/kubepods"),
        ["cpuset", "hugetlb", "memory"]
    );
    let error = cgroups.create(POD, &CgroupLimits::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cgroup {POD:?} has some missing controllers: cpuset, hugetlb, memory"),
        "those that can be enabled one by one are"
    );
}

#[test]
fn only_controllers_that_the_root_has_are_needed() {
    let (_dir, root, _) = host();
    std::fs::write(
        root.join("/sys/fs/cgroup/cgroup.controllers"),
        "cpu memory pids cpuset",
    )
    .unwrap();
    let cgroups = CgroupV2::open(&root).unwrap();
    let limits = CgroupLimits {
        hugetlb: Some([].into()),
        ..CgroupLimits::default()
    };
    assert!(cgroups.create(POD, &limits).unwrap().is_empty());
    assert!(
        !root
            .join(format!("/sys/fs/cgroup{POD}/hugetlb.2MB.max"))
            .exists()
    );
}

#[test]
fn removal_takes_children_first_and_ends_processes() {
    let (_dir, root, cgroups) = host();
    cgroups
        .create(&format!("{POD}/container"), &CgroupLimits::default())
        .unwrap();
    cgroups
        .attach(&format!("{POD}/container"), std::process::id())
        .unwrap();
    cgroups.remove(POD).unwrap();
    cgroups.remove(POD).unwrap();
    assert!(!root.join(format!("/sys/fs/cgroup{POD}")).exists());
    let bad = CgroupLimits {
        unified: [("../x".to_owned(), String::new())].into(),
        ..CgroupLimits::default()
    };
    assert!(matches!(
        cgroups.create(POD, &bad).unwrap()[..],
        [CgroupError::BadPath(_)]
    ));
}

#[test]
fn real_cgroups_of_v2_are_made_entered_and_removed_with_their_processes() {
    // A v2 hierarchy, at its usual place or beside v1; no controller is enabled, so nothing outside the test's cgroup changes.
    let mounts = crate::mounts::mount_table(&HostRoot::real()).unwrap();
    let mount = mounts
        .into_iter()
        .find(|mount| mount.filesystem == "cgroup2");
    let Some(mount) = mount.filter(|_| rustix::process::geteuid().is_root()) else {
        return;
    };
    let tree = Tree::new(&HostRoot::real(), &mount.mount_point);
    let cgroups = CgroupV2 {
        tree,
        available: BTreeSet::new(),
        huge_pages: Vec::new(),
    };
    let own = format!("/{}", crate::testing::unique("cgroup"));
    let container = format!("{own}/pod1/container");
    assert!(!cgroups.exists(&container));
    assert!(
        cgroups
            .create(&container, &CgroupLimits::default())
            .unwrap()
            .is_empty()
    );
    assert!(cgroups.exists(&container));
    let mut shell = std::process::Command::new("sh")
        .args(["-c", "read go; while :; do sleep 1000 & sleep 1000; done"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    cgroups.attach(&container, shell.id()).unwrap();
    drop(shell.stdin.take());
    assert!(cgroups.pids(&own).unwrap().contains(&shell.id()));
    let its = crate::pidfd::cgroup_of(&HostRoot::real(), shell.id(), None).unwrap();
    assert_eq!(its, container);
    cgroups.remove(&own).unwrap();
    assert!(!cgroups.exists(&own));
    assert!(!shell.wait().unwrap().success());
}
