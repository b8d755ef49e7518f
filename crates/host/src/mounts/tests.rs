//! Mounts on this machine (as root) and under a stand-in root.
//!
//! In:    temporary directories
//! Out:   assertions
//! Calls: cargo test
//! Holds: every mount made here is unmounted at the end
//! Upstream: none

use super::*;
use crate::testing::TestDir;

/// Unmounts what a test mounted, even if it fails.
struct Mounted(TestDir);

impl Drop for Mounted {
    fn drop(&mut self) {
        for path in mounts_at_or_below(&HostRoot::real(), self.0.path()).unwrap() {
            rustix::mount::unmount(&path, UnmountFlags::DETACH).unwrap();
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_line_of_mountinfo_is_read_with_its_escapes() {
    let line = br"36 35 98:0 /mnt1 /mnt2/a\040b\134c rw,noatime shared:1 master:2 - ext3 /dev/root\011x rw,errors=continue";
    let mount = parse_line(line).unwrap();
    assert_eq!(mount.mount_point, Path::new(r"/mnt2/a b\c"));
    assert_eq!(
        (mount.id, mount.parent, mount.device.as_str()),
        (36, 35, "98:0")
    );
    assert_eq!(mount.tags, ["shared:1", "master:2"]);
    assert_eq!(
        (mount.filesystem.as_str(), mount.source.to_str().unwrap()),
        ("ext3", "/dev/root\tx")
    );
    assert_eq!(mount.super_options, ["rw", "errors=continue"]);
    assert!(mount.is_shared());
    assert_eq!(parse_line(b"36 35 98:0 / /x rw"), None);
    assert_eq!(
        unescape(escape(Path::new("/a b\\#\n")).as_bytes()),
        "/a b\\#\n"
    );
}

#[test]
fn the_table_of_this_machine_has_proc() {
    let table = mount_table(&HostRoot::real()).unwrap();
    assert!(
        table
            .iter()
            .any(|mount| mount.filesystem == "proc" && mount.mount_point == Path::new("/proc"))
    );
    assert!(is_mount_point(&HostRoot::real(), Path::new("/proc")).unwrap());
    assert!(!is_mount_point(&HostRoot::real(), Path::new("/proc/self")).unwrap());
}

#[test]
fn a_tmpfs_has_its_size_and_mode_and_goes_away() {
    if !is_root() {
        return;
    }
    let dir = Mounted(TestDir::new());
    let target = dir.0.path().join("with space");
    std::fs::create_dir(&target).unwrap();
    let root = HostRoot::real();
    let options = TmpfsOptions {
        size_bytes: Some(1 << 20),
        mode: 0o1777,
        no_swap: true,
    };
    mount_tmpfs(&root, &target, &options).unwrap();
    assert!(is_mount_point(&root, &target).unwrap());
    assert_eq!(
        crate::files::filesystem_figures(&target)
            .unwrap()
            .capacity_bytes,
        1 << 20
    );
    let table = mount_table(&root).unwrap();
    let mount = table
        .iter()
        .find(|mount| mount.mount_point == target)
        .unwrap();
    assert_eq!(
        mount.super_options.contains(&"noswap".to_owned()),
        kernel_is_at_least(6, 4)
    );
    let user = std::fs::File::create(target.join("open")).unwrap();
    assert!(
        matches!(unmount(&root, &target, Unmount::Plain), Err(MountError::Busy(path)) if path == target)
    );
    unmount(&root, &target, Unmount::DetachIfBusy).unwrap();
    assert!(!is_mount_point(&root, &target).unwrap());
    unmount(&root, &target, Unmount::Plain).unwrap();
    drop(user);
}

#[test]
fn a_target_that_is_a_link_is_refused() {
    if !is_root() {
        return;
    }
    let dir = Mounted(TestDir::new());
    std::fs::create_dir(dir.0.path().join("elsewhere")).unwrap();
    let link = dir.0.path().join("link");
    std::os::unix::fs::symlink("elsewhere", &link).unwrap();
    let options = TmpfsOptions {
        size_bytes: None,
        mode: 0o755,
        no_swap: false,
    };
    let error = mount_tmpfs(&HostRoot::real(), &link, &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot mount on the symbolic link {}", link.display())
    );
    assert_eq!(
        mounts_at_or_below(&HostRoot::real(), dir.0.path()).unwrap(),
        Vec::<PathBuf>::new()
    );
}

#[test]
fn a_bind_shows_the_source_and_mounts_below_come_deepest_first() {
    if !is_root() {
        return;
    }
    let dir = Mounted(TestDir::new());
    let (source, target) = (dir.0.path().join("source"), dir.0.path().join("target"));
    for path in [&source, &target, &source.join("inner")] {
        std::fs::create_dir(path).unwrap();
    }
    std::fs::write(source.join("file"), "x").unwrap();
    let root = HostRoot::real();
    bind(&root, &source, &target).unwrap();
    assert!(target.join("file").exists());
    let options = TmpfsOptions {
        size_bytes: Some(1 << 20),
        mode: 0o755,
        no_swap: false,
    };
    mount_tmpfs(&root, &target.join("inner"), &options).unwrap();
    assert_eq!(
        mounts_at_or_below(&root, &target).unwrap(),
        [target.join("inner"), target.clone()]
    );
}

#[test]
fn a_directory_becomes_shared_once() {
    if !is_root() {
        return;
    }
    let dir = Mounted(TestDir::new());
    let root = HostRoot::real();
    make_shared(&root, dir.0.path()).unwrap();
    make_shared(&root, dir.0.path()).unwrap();
    let mounts = mounts_at_or_below(&root, dir.0.path()).unwrap();
    assert!(
        mounts.len() <= 1,
        "one at most: none where the machine's root is shared"
    );
    let table = mount_table(&root).unwrap();
    let mine = table
        .iter()
        .filter(|mount| mount.mount_point == dir.0.path());
    assert!(mine.clone().all(Mount::is_shared));
    assert_eq!(mine.count(), mounts.len());
}

#[test]
fn a_stand_in_keeps_its_own_table_and_empties_a_tmpfs() {
    let dir = TestDir::new();
    let root = HostRoot::at(dir.path());
    let target = root.join("/var/lib/a b");
    std::fs::create_dir_all(&target).unwrap();
    assert_eq!(mount_table(&root).unwrap(), []);
    let options = TmpfsOptions {
        size_bytes: Some(4096),
        mode: 0o777,
        no_swap: false,
    };
    mount_tmpfs(&root, &target, &options).unwrap();
    assert!(is_mount_point(&root, &target).unwrap());
    assert_eq!(
        mount_table(&root).unwrap()[0].mount_point,
        Path::new("/var/lib/a b")
    );
    std::fs::write(target.join("file"), "x").unwrap();
    assert_eq!(
        mounts_at_or_below(&root, &root.join("/var")).unwrap(),
        std::slice::from_ref(&target)
    );
    unmount(&root, &target, Unmount::Plain).unwrap();
    assert!(!target.join("file").exists() && target.exists());
    assert_eq!(mount_table(&root).unwrap(), []);
}
