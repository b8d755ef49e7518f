//! Imitates in a plain directory what the kernel does for a cgroup directory.
//!
//! In:    directories under `HostRoot::at`
//! Out:   control files that appear with a directory, accept writes and do not prevent its removal
//! Calls: tree.rs if the root is a stand-in; the simulation creates its host with [`lay_out`]
//! Holds: never used with the real root; removal unlinks only files with names of control files
//! Upstream: none

use std::io;
use std::path::Path;

use super::CgroupVersion;
use crate::HostRoot;

const V1_CONTROLLERS: [&str; 10] = [
    "blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "pids",
    "systemd",
];
const V2_CONTROLLERS: &str = "cpuset cpu io memory hugetlb pids";
const CONTROL_PREFIXES: [&str; 9] = [
    "cgroup.",
    "cpu.",
    "cpuset.",
    "memory.",
    "pids.",
    "hugetlb.",
    "io.",
    "tasks",
    "notify_on_release",
];

/// Creates `/sys/fs/cgroup` and its lines in the mount table under a stand-in root.
///
/// # Errors
/// `InvalidInput` for the real root.
pub fn lay_out(root: &HostRoot, version: CgroupVersion) -> io::Result<()> {
    if !root.is_stand_in() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let table = root.join("/proc/self/mountinfo");
    let top = root.join("/sys/fs/cgroup");
    std::fs::create_dir_all(root.join("/proc/self"))?;
    std::fs::create_dir_all(&top)?;
    let mut lines = std::fs::read_to_string(&table).unwrap_or_default();
    match version {
        CgroupVersion::V2 => {
            lines += "900 0 0:900 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
            std::fs::write(top.join("cgroup.controllers"), V2_CONTROLLERS)?;
            std::fs::write(top.join("cgroup.subtree_control"), "")?;
            std::fs::write(top.join("cgroup.procs"), "")?;
        }
        CgroupVersion::V1 => {
            lines += "900 0 0:900 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n";
            for (id, name) in (901..).zip(V1_CONTROLLERS) {
                let option = if name == "systemd" {
                    "name=systemd"
                } else {
                    name
                };
                lines += &format!(
                    "{id} 900 0:{id} / /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{option}\n"
                );
                std::fs::create_dir_all(top.join(name))?;
                fill_v1(&top.join(name), name)?;
            }
            std::fs::write(top.join("cpuset/cpuset.cpus"), "0-1")?;
            std::fs::write(top.join("cpuset/cpuset.mems"), "0")?;
        }
    }
    std::fs::write(table, lines)
}

/// The files of a new directory: of v2 if the parent has `cgroup.controllers`, else of the v1 controller whose files the parent
/// has.
pub(super) fn fill(directory: &Path) -> io::Result<()> {
    let parent = directory.parent().unwrap_or(directory);
    if !parent.join("cgroup.controllers").exists() {
        let controller = V1_CONTROLLERS.into_iter().find(|name| {
            v1_files(name)
                .first()
                .is_some_and(|(file, _)| parent.join(file).exists())
        });
        return fill_v1(directory, controller.unwrap_or("systemd"));
    }
    let controllers = std::fs::read_to_string(parent.join("cgroup.subtree_control"))?;
    std::fs::write(directory.join("cgroup.controllers"), &controllers)?;
    std::fs::write(directory.join("cgroup.subtree_control"), "")?;
    std::fs::write(directory.join("cgroup.procs"), "")?;
    for (controller, file, content) in [
        ("cpu", "cpu.weight", "100"),
        ("cpu", "cpu.max", "max 100000"),
        ("memory", "memory.max", "max"),
        ("memory", "memory.current", "0"),
        ("pids", "pids.max", "max"),
    ] {
        if controllers
            .split_whitespace()
            .any(|name| name == controller)
        {
            std::fs::write(directory.join(file), content)?;
        }
    }
    Ok(())
}

fn v1_files(controller: &str) -> &'static [(&'static str, &'static str)] {
    match controller {
        "cpu" => &[
            ("cpu.shares", "1024"),
            ("cpu.cfs_quota_us", "-1"),
            ("cpu.cfs_period_us", "100000"),
        ],
        "memory" => &[
            ("memory.limit_in_bytes", "9223372036854771712"),
            ("memory.usage_in_bytes", "0"),
        ],
        "cpuset" => &[("cpuset.cpus", ""), ("cpuset.mems", "")],
        "pids" => &[("pids.max", "max")],
        _ => &[],
    }
}

fn fill_v1(directory: &Path, controller: &str) -> io::Result<()> {
    std::fs::write(directory.join("cgroup.procs"), "")?;
    v1_files(controller)
        .iter()
        .try_for_each(|(file, content)| std::fs::write(directory.join(file), content))
}

/// A write as in the kernel: `cgroup.subtree_control` adds and removes, all other files are replaced.
pub(super) fn write(directory: &Path, file: &str, value: &str) -> io::Result<()> {
    if !directory.is_dir() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let path = directory.join(file);
    match file {
        "cgroup.subtree_control" => {
            let available = std::fs::read_to_string(directory.join("cgroup.controllers"))?;
            let now = std::fs::read_to_string(&path)?;
            let mut names: Vec<_> = now.split_whitespace().collect();
            for change in value.split_whitespace() {
                let (sign, name) = change.split_at(1);
                names.retain(|known| *known != name);
                if sign == "+" {
                    if !available.split_whitespace().any(|known| known == name) {
                        return Err(io::ErrorKind::NotFound.into());
                    }
                    names.push(name);
                }
            }
            std::fs::write(path, names.join(" "))
        }
        "cgroup.procs" => {
            let now = std::fs::read_to_string(&path).unwrap_or_default();
            std::fs::write(path, format!("{now}{value}\n"))
        }
        _ => std::fs::write(path, value),
    }
}

/// Ends the processes of a cgroup and of its children.
pub(super) fn end_processes(directory: &Path) -> io::Result<()> {
    if !directory.is_dir() {
        return Ok(());
    }
    std::fs::write(directory.join("cgroup.procs"), "")?;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            end_processes(&entry.path())?;
        }
    }
    Ok(())
}

/// As the kernel's rmdir: control files do not count, processes and child cgroups do.
pub(super) fn rmdir(directory: &Path) -> io::Result<()> {
    let procs = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_control = name
            .to_str()
            .is_some_and(|name| CONTROL_PREFIXES.iter().any(|p| name.starts_with(p)));
        if !procs.trim().is_empty() || entry.file_type()?.is_dir() || !is_control {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        files.push(entry.path());
    }
    files.into_iter().try_for_each(std::fs::remove_file)?;
    std::fs::remove_dir(directory)
}
