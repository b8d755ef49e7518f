//! File systems that do not answer: a FUSE mount whose device nobody reads, and an ext4 file system that is frozen for a while.
//!
//! In:    a directory
//! Out:   of the first, every look below it hangs until the mount is dropped; then all that hang fail, and the directory is there
//!        again. Of the second, everything that would change it hangs from `freeze` to `thaw`, and happens then
//! Calls: tests
//! Upstream: none

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// A file system of its own in a file, until it is dropped.
#[derive(Debug)]
pub(crate) struct FreezableMount {
    at: PathBuf,
    is_frozen: bool,
}

impl FreezableMount {
    /// Mounted at this directory; its file lies beside it.
    pub(crate) fn new(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        let image = at.with_extension("img");
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F"], &[&image]);
        run("mount", &["-o", "loop"], &[&image, at]);
        Self {
            at: at.to_owned(),
            is_frozen: false,
        }
    }

    /// From now on whoever changes it waits, and cannot even be killed.
    pub(crate) fn freeze(&mut self) {
        run("fsfreeze", &["--freeze"], &[&self.at]);
        self.is_frozen = true;
    }

    /// All that waits goes on.
    pub(crate) fn thaw(&mut self) {
        self.is_frozen = false;
        run("fsfreeze", &["--unfreeze"], &[&self.at]);
    }
}

impl Drop for FreezableMount {
    fn drop(&mut self) {
        if self.is_frozen {
            self.thaw();
        }
        // Whoever cleans up the directory it lies in may have been first.
        let _unmounted = unmount(&self.at, UnmountFlags::DETACH);
    }
}

fn run(program: &str, words: &[&str], paths: &[&Path]) {
    let ended = Command::new(program).args(words).args(paths).output();
    let ended = ended.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{program} {paths:?}: {said}");
}
