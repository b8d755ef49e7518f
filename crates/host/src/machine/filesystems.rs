//! Mounted file systems that hold data, and their sizes.
//!
//! In:    `/proc/self/mountinfo` and one statfs per device, under the given tree
//! Out:   one entry per device (per mount point for tmpfs), sorted by device
//! Calls: `machine`
//! Holds: a network file system that does not answer within 2 s is left out and reported as a problem; its thread is abandoned
//! Upstream: vendor/github.com/google/cadvisor/fs (1.36); differences: order; zfs is queried by statfs, not by its tools; block
//!           counts of statfs are always in fragments, as the specification says

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use serde::Serialize;

use super::Tree;

/// The time limit for a network file system's statfs.
const STATFS_DEADLINE: Duration = Duration::from_secs(2);

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Filesystem {
    /// The device; for tmpfs the mount point; for overlay with the device number appended.
    pub device: String,
    /// Bytes.
    pub capacity: u64,
    /// How the size was determined: always `vfs`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// All inodes, used or not.
    pub inodes: u64,
    /// Whether `inodes` is valid.
    pub has_inodes: bool,
}

/// One line of mountinfo, as far as it is needed here.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    device_number: String,
    mount_point: String,
    kind: String,
    source: String,
}

pub(super) fn read_filesystems(tree: Tree<'_>, problems: &mut Vec<String>) -> Vec<Filesystem> {
    let mountinfo = match tree.text("/proc/self/mountinfo") {
        Ok(text) => text,
        Err(error) => {
            problems.push(format!("/proc/self/mountinfo: {error}"));
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for (device, mount) in devices(&mountinfo) {
        match size(tree.at(&mount.mount_point), &mount.kind) {
            Ok((capacity, inodes)) => found.push(Filesystem {
                device,
                capacity,
                kind: "vfs",
                inodes,
                has_inodes: true,
            }),
            Err(why) => problems.push(format!("statfs {}: {why}", mount.mount_point)),
        }
    }
    found
}

/// The mount of each device: the first one, except that the root's mount always wins, and that a later tmpfs at the same mount
/// point replaces the earlier one.
fn devices(mountinfo: &str) -> BTreeMap<String, Mount> {
    let mounts = || mountinfo.lines().filter_map(parse);
    let mut devices = BTreeMap::new();
    for mount in mounts().filter(|mount| holds_data(&mount.kind)) {
        match mount.kind.as_str() {
            "tmpfs" => drop(devices.insert(mount.mount_point.clone(), mount)),
            _ if devices.contains_key(&mount.source) => {}
            "overlay" => {
                let key = format!("{}_{}", mount.source, mount.device_number.replace(':', "-"));
                devices.insert(key, mount);
            }
            _ => drop(devices.insert(mount.source.clone(), mount)),
        }
    }
    if let Some(root) = mounts()
        .find(|mount| mount.mount_point == "/")
        .filter(|mount| holds_data(&mount.kind))
    {
        devices.insert(root.source.clone(), root);
    }
    devices
}

fn holds_data(kind: &str) -> bool {
    const KINDS: [&str; 18] = [
        "xfs", "squashfs", "f2fs", "jfs", "reiserfs", "hfs", "hfsplus", "ntfs", "vfat", "fat",
        "msdos", "exfat", "udf", "iso9660", "tmpfs", "overlay", "zfs", "btrfs",
    ];
    kind.starts_with("ext") || kind.starts_with("nfs") || KINDS.contains(&kind)
}

/// `id parent major:minor root point options [tags] - kind source options`.
fn parse(line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let front: Vec<&str> = front.split(' ').collect();
    let mut back = back.split(' ');
    Some(Mount {
        device_number: (*front.get(2)?).to_owned(),
        mount_point: unescape(front.get(4)?),
        kind: back.next()?.to_owned(),
        source: unescape(back.next()?),
    })
}

/// The kernel escapes blank, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn size(path: PathBuf, kind: &str) -> Result<(u64, u64), String> {
    let ask = move || {
        rustix::fs::statvfs(&path)
            .map(|s| (s.f_frsize * s.f_blocks, s.f_files))
            .map_err(|e| e.to_string())
    };
    if !kind.starts_with("nfs") {
        return ask();
    }
    let (answer, wait) = mpsc::sync_channel(1);
    std::thread::spawn(move || answer.send(ask()).is_ok());
    wait.recv_timeout(STATFS_DEADLINE)
        .unwrap_or_else(|_| Err("no answer in 2 s".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mount_speaks_for_each_device_and_pseudo_filesystems_are_left_out() {
        let mountinfo = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 27 254:0 /x /mnt/bind rw - ext4 /dev/vda rw
31 27 0:28 / /run rw - tmpfs tmpfs rw,mode=755
32 27 0:29 / /dev/shm rw - tmpfs tmpfs rw
33 27 0:40 / /a\\040b rw - overlay overlay rw,lowerdir=/x
34 27 0:41 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
not a line";
        let found: Vec<(String, String)> = devices(mountinfo)
            .into_iter()
            .map(|(d, m)| (d, m.mount_point))
            .collect();
        let expected = [
            ("/dev/shm", "/dev/shm"),
            ("/dev/vda", "/"),
            ("/run", "/run"),
            ("overlay_0-40", "/a b"),
        ];
        assert_eq!(found, expected.map(|(d, m)| (d.to_owned(), m.to_owned())));
    }
}
