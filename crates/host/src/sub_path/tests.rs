//! SubPaths: what is created, what is refused, what is mounted and unmounted again.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::mounts::mount_table;
use crate::testing::TestDir;

fn chain(error: &SubPathError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

#[test]
fn directories_are_made_with_the_volumes_mode_and_links_must_stay_inside() {
    let dir = TestDir::new();
    let root = HostRoot::at(dir.path());
    let volume = root.join("/volume");
    std::fs::create_dir_all(volume.join("real/deep")).unwrap();
    std::fs::set_permissions(&volume, std::fs::Permissions::from_mode(0o2770)).unwrap();
    std::fs::create_dir(root.join("/outside")).unwrap();
    symlink("real", volume.join("inside")).unwrap();
    symlink(volume.join("real"), volume.join("absolute")).unwrap();
    // The volume's own path contains a link, as /var/run does.
    symlink(&volume, root.join("/by-link")).unwrap();
    symlink(root.join("/by-link/real"), volume.join("as-named")).unwrap();
    symlink(root.join("/outside"), volume.join("escape")).unwrap();
    symlink("../../outside", volume.join("real/escape")).unwrap();
    symlink("nowhere", volume.join("dangling")).unwrap();
    std::fs::write(volume.join("file"), "x").unwrap();
    let try_prepare = |part: &str, index: u32| {
        let target = root.join(format!("/pod/volume-subpaths/v/c/{index}"));
        prepare(&root, &volume, Path::new(part), &target, Mounts::Refused).map(|()| target)
    };
    for (index, part) in (0..).zip(["new/er", "inside/made", "absolute/deep", "real", "file"]) {
        let target = try_prepare(part, index).unwrap();
        assert_eq!(target.is_dir(), part != "file", "{part}");
    }
    for made in ["new", "new/er", "real/made"] {
        let mode = volume.join(made).metadata().unwrap().mode() & 0o7777;
        assert_eq!(mode, 0o2770, "{made}");
    }
    for (part, step) in [
        ("escape", "prepare"),
        ("real/escape", "prepare"),
        ("escape/new", "create"),
        ("file/below", "prepare"),
        ("dangling/new", "create"),
    ] {
        let error = try_prepare(part, 9).unwrap_err();
        assert!(
            error.to_string().contains(step),
            "{part}: {}",
            chain(&error)
        );
    }
    assert!(
        std::fs::read_dir(root.join("/outside"))
            .unwrap()
            .next()
            .is_none()
    );
    assert_eq!(mount_table(&root).unwrap().len(), 5);
    let target = root.join("/pod/volume-subpaths/v/c/5");
    let named = root.join("/by-link");
    let part = Path::new("as-named/deep");
    prepare(&root, &named, part, &target, Mounts::Refused).unwrap();
    assert_eq!(mount_table(&root).unwrap().len(), 6);
    unmount_parts(&root, &root.join("/pod")).unwrap();
    unmount_parts(&root, &root.join("/pod")).unwrap();
    assert_eq!(mount_table(&root).unwrap().len(), 0);
    assert!(volume.join("file").exists());
}

#[test]
fn a_part_of_another_kind_than_last_time_is_mounted_all_the_same() {
    let dir = TestDir::new();
    let root = HostRoot::at(dir.path());
    let volume = root.join("/volume");
    std::fs::create_dir(&volume).unwrap();
    let target = root.join("/pod/volume-subpaths/v/c/0");
    for is_file in [true, false, true] {
        drop(std::fs::remove_file(volume.join("part")));
        drop(std::fs::remove_dir(volume.join("part")));
        if is_file {
            std::fs::write(volume.join("part"), "x").unwrap();
        }
        prepare(&root, &volume, Path::new("part"), &target, Mounts::Refused).unwrap();
        assert_eq!(target.is_file(), is_file);
        assert_eq!(mount_table(&root).unwrap().len(), 1);
    }
}

#[test]
fn the_kernel_shows_the_part_and_only_the_part() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = TestDir::new();
    let root = HostRoot::real();
    let volume = dir.path().join("volume");
    std::fs::create_dir_all(volume.join("..1")).unwrap();
    std::fs::write(volume.join("..1/key"), "one").unwrap();
    symlink("..1", volume.join("..data")).unwrap();
    symlink("..data/key", volume.join("key")).unwrap();
    let pod = dir.path().join("pod");
    let target = pod.join("volume-subpaths/v/c/0");
    let read = || std::fs::read_to_string(&target).unwrap();
    for _ in 0..2 {
        prepare(&root, &volume, Path::new("key"), &target, Mounts::Refused).unwrap();
        assert_eq!(read(), "one");
        assert_eq!(mounts_at_or_below(&root, &pod).unwrap().len(), 1);
    }
    // Only the next start sees new files of the volume.
    std::fs::create_dir(volume.join("..2")).unwrap();
    std::fs::write(volume.join("..2/key"), "two").unwrap();
    std::fs::remove_file(volume.join("..data")).unwrap();
    symlink("..2", volume.join("..data")).unwrap();
    assert_eq!(read(), "one");
    prepare(&root, &volume, Path::new("key"), &target, Mounts::Refused).unwrap();
    assert_eq!(read(), "two");
    assert_eq!(mounts_at_or_below(&root, &pod).unwrap().len(), 1);
    unmount_parts(&root, &pod).unwrap();
    assert!(mounts_at_or_below(&root, &pod).unwrap().is_empty());
    assert_eq!(std::fs::read(volume.join("..2/key")).unwrap(), b"two");
}

/// A pod's volume in which a container mounted a file system, with links to it and to other places on the node.
#[test]
fn another_file_system_is_entered_only_when_that_is_asked_for_and_nothing_outside_ever() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = TestDir::new();
    let root = HostRoot::real();
    let (volume, other) = (dir.path().join("volume"), dir.path().join("other"));
    std::fs::create_dir_all(volume.join("mounted")).unwrap();
    std::fs::create_dir_all(other.join("deep")).unwrap();
    symlink("mounted/deep", volume.join("inside")).unwrap();
    symlink(&other, volume.join("outside")).unwrap();
    symlink("itself", volume.join("itself")).unwrap();
    crate::mounts::bind(&root, &other, &volume.join("mounted")).unwrap();
    let pod = dir.path().join("pod");
    let target = pod.join("volume-subpaths/v/c/0");
    let prepare = |part: &str, mounts| prepare(&root, &volume, Path::new(part), &target, mounts);
    for part in ["mounted", "mounted/deep", "inside", "mounted/new"] {
        let error = prepare(part, Mounts::Refused).unwrap_err();
        assert!(error.is_foreign(), "{part}: {}", chain(&error));
        prepare(part, Mounts::Passed).unwrap();
    }
    assert!(other.join("new").is_dir());
    // Not even inspected: the target of a link out of the volume may hang.
    for part in ["outside", "outside/deep", "itself"] {
        let error = prepare(part, Mounts::Passed).unwrap_err();
        assert!(!error.is_foreign(), "{part}: {}", chain(&error));
    }
    unmount_parts(&root, &pod).unwrap();
    unmount(&root, &volume.join("mounted"), Unmount::Plain).unwrap();
}
