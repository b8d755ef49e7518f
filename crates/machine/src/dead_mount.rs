//! A file system that never answers: a FUSE mount whose device nobody reads.
//!
//! In:    a directory
//! Out:   every look below it hangs until the mount is dropped; then all that hang fail, and the directory is there again
//! Calls: tests
//! Upstream: none

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// The mount, until it is dropped.
pub(crate) struct DeadMount {
    at: PathBuf,
    /// The end of the connection: what hangs fails when it is closed.
    _device: File,
}

impl DeadMount {
    pub(crate) fn new(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        let device = File::options().read(true).write(true).open("/dev/fuse");
        let device = device.unwrap();
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            device.as_raw_fd()
        );
        let options = CString::new(options).unwrap();
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("dead", at, "fuse", flags, options.as_c_str()).unwrap();
        Self {
            at: at.to_owned(),
            _device: device,
        }
    }
}

impl Drop for DeadMount {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.at, UnmountFlags::DETACH) {
            eprintln!("unmount {}: {error}", self.at.display());
        }
    }
}
