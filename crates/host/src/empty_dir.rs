//! An emptyDir volume, alone or below a volume whose files the kubelet writes.
//!
//! In:    its path, the path of its marker, its medium, the pod's fsGroup
//! Out:   a directory, or a tmpfs mounted on it; a marker `ready` once it is set up
//! Calls: the work of volumes
//! Holds: a volume that is set up is not changed again: modes and owners that containers changed are kept
//! Upstream: pkg/volume/emptydir/empty_dir.go (SetUpAt, setupDir, setupTmpfs), pkg/volume/util/util.go (SetReady, IsReady)

use std::path::Path;

use crate::HostRoot;
use crate::files::{Durability, FileError, create_dir_all, set_mode, write_atomically};
use crate::mounts::{MountError, TmpfsOptions, is_mount_point, mount_tmpfs};
use crate::ownership::{Access, ChangePolicy, set_group};

/// The medium of the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// The node's disk.
    Disk,
    /// Memory, with this limit in bytes; `None` means the kernel's default.
    Memory(Option<u64>),
}

/// Why it could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum EmptyDirError {
    /// The directory or the marker.
    #[error(transparent)]
    File(#[from] FileError),
    /// The tmpfs.
    #[error(transparent)]
    Mount(#[from] MountError),
}

/// Sets the volume up at `path`, with its marker in the directory `marker`, unless it is already set up. Returns a file whose
/// group could not be set.
///
/// # Errors
/// What was created is kept; setting up again continues.
/// What was made stays; doing it again goes on from there.
pub fn set_up(
    root: &HostRoot,
    path: &Path,
    marker: &Path,
    medium: Medium,
    group: Option<u32>,
) -> Result<Option<FileError>, EmptyDirError> {
    let ready = marker.join("ready");
    if ready.is_file() {
        match medium {
            Medium::Disk if path.is_dir() => return Ok(None),
            Medium::Memory(_) if is_mount_point(root, path)? => return Ok(None),
            Medium::Disk | Medium::Memory(_) => {}
        }
    }
    if let Some(parent) = path.parent() {
        create_dir_all(parent, 0o755)?;
    }
    create_dir_all(path, 0o777)?;
    if let Medium::Memory(size_bytes) = medium
        && !is_mount_point(root, path)?
    {
        let options = TmpfsOptions {
            size_bytes,
            // The file system's own default, which upstream does not change.
            mode: 0o1777,
            no_swap: true,
        };
        mount_tmpfs(root, path, &options)?;
    } else if medium == Medium::Disk {
        set_mode(path, 0o777)?;
    }
    let unchanged = match group {
        Some(group) => set_group(path, group, Access::ReadWrite, ChangePolicy::Always)?,
        None => None,
    };
    create_dir_all(marker, 0o750)?;
    write_atomically(&ready, b"", 0o644, Durability::Process)?;
    Ok(unchanged)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::testing::TestDir;

    #[test]
    fn one_that_stands_is_left_as_it_is() {
        let dir = TestDir::new();
        let root = HostRoot::at(dir.path());
        let path = root.join("/pods/u/volumes/kubernetes.io~empty-dir/v");
        let marker = root.join("/pods/u/plugins/kubernetes.io~empty-dir/v");
        let mode = || path.metadata().unwrap().permissions().mode() & 0o7777;
        set_up(&root, &path, &marker, Medium::Disk, None).unwrap();
        assert_eq!(mode(), 0o777);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        set_up(&root, &path, &marker, Medium::Disk, None).unwrap();
        assert_eq!(mode(), 0o700);
        std::fs::remove_dir(&path).unwrap();
        set_up(&root, &path, &marker, Medium::Disk, None).unwrap();
        assert_eq!(mode(), 0o777);
    }

    #[test]
    fn a_tmpfs_is_mounted_once_and_again_when_it_is_gone() {
        let dir = TestDir::new();
        let root = HostRoot::at(dir.path());
        let (path, marker) = (root.join("/v/m"), root.join("/p/m"));
        let mounts = || {
            let table = crate::mounts::mount_table(&root).unwrap();
            table
                .into_iter()
                .map(|mount| mount.super_options.join(","))
                .collect::<Vec<_>>()
        };
        let medium = Medium::Memory(Some(4096));
        for _ in 0..2 {
            set_up(&root, &path, &marker, medium, None).unwrap();
            assert_eq!(mounts().len(), 1);
        }
        assert!(mounts()[0].contains("size=4096"));
        crate::mounts::unmount(&root, &path, crate::mounts::Unmount::Plain).unwrap();
        set_up(&root, &path, &marker, medium, None).unwrap();
        assert_eq!(mounts().len(), 1);
    }
}
