//! Links to container logs, in a directory that log collectors of the host read.
//!
//! In:    the directory, a link's name, its target
//! Out:   the link exists, or the links into one directory are removed
//! Calls: act/pod/host_work
//! Holds: only links are replaced or removed, by name below an open directory; links of other pods are never removed
//! Upstream: pkg/kubelet/kuberuntime/legacy.go

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use kubelet_model::names::PathPart;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::remove::id_of;

/// The part of a link's name that is always complete, however long the names in it are.
const CUT_AT: usize = 128;

fn open(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, directory, flags, Mode::empty())?)
}

/// Creates a link, replacing a link with the same name.
///
/// # Errors
/// EEXIST if something else has the name.
pub fn make(directory: &Path, name: &PathPart, target: &str) -> io::Result<()> {
    let directory = open(directory)?;
    match rustix::fs::symlinkat(target, &directory, name.as_str()) {
        Err(Errno::EXIST) => {
            let found = rustix::fs::statat(&directory, name.as_str(), AtFlags::SYMLINK_NOFOLLOW)?;
            if !FileType::from_raw_mode(found.st_mode).is_symlink() {
                return Err(Errno::EXIST.into());
            }
            rustix::fs::unlinkat(&directory, name.as_str(), AtFlags::empty())?;
            Ok(rustix::fs::symlinkat(target, &directory, name.as_str())?)
        }
        other => Ok(other?),
    }
}

/// Removes a link by its name; anything else is left alone.
///
/// # Errors
/// The system call failed.
pub fn remove(directory: &Path, name: &PathPart) -> io::Result<()> {
    let directory = match open(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let seen = match rustix::fs::statat(&directory, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    if !FileType::from_raw_mode(seen.st_mode).is_symlink() {
        return Ok(());
    }
    match rustix::fs::unlinkat(&directory, name.as_str(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes links whose names start with `stem` and whose targets are in the directory `into`.
///
/// # Errors
/// The system call failed; EINVAL for an empty stem, which every name starts with.
pub fn remove_into(directory: &Path, stem: &str, into: &Path) -> io::Result<()> {
    if stem.is_empty() || into.file_name().is_none() {
        return Err(Errno::INVAL.into());
    }
    let directory = match open(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name();
        // Names of links are cut, so the target decides.
        let stem = stem.as_bytes();
        let stem = stem.get(..CUT_AT).unwrap_or(stem);
        if !name.to_bytes().starts_with(stem) {
            continue;
        }
        let look = || rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW);
        let (Ok(seen), Ok(target)) = (look(), rustix::fs::readlinkat(&directory, name, Vec::new()))
        else {
            // Not a link, or removed meanwhile.
            continue;
        };
        let target = Path::new(OsStr::from_bytes(target.to_bytes()));
        let is_below = target.starts_with(into) && target != into;
        if is_below && look().is_ok_and(|now| id_of(&now) == id_of(&seen)) {
            match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::testing::TestDir;

    #[test]
    fn links_of_one_pod_go_and_all_else_stays() {
        let dir = TestDir::new();
        let at = |name: &str| dir.path().join(name);
        for (name, target) in [
            ("web_default_c-1.log", "/pods/default_web_u1/c/0.log"),
            ("web_default_c-2.log", "/pods/default_web_u1/c/1.log"),
            ("web_default_c-3.log", "/pods/default_web_u12/c/0.log"),
            ("web_default_c-4.log", "/pods/default_web_u1"),
            ("web-2_default_c-5.log", "/pods/default_web_u1/c/0.log"),
        ] {
            symlink(target, at(name)).unwrap();
        }
        std::fs::write(at("web_default_file.log"), "").unwrap();
        std::fs::create_dir(at("web_default_directory")).unwrap();
        symlink("/pods/default_web_u1/c/7.log", at("web_default_c-7.log")).unwrap();
        for name in ["web_default_c-7.log", "web_default_file.log", "gone"] {
            remove(dir.path(), &PathPart::parse(name).unwrap()).unwrap();
        }
        let into = Path::new("/pods/default_web_u1");
        remove_into(dir.path(), "web_default_", into).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(
            left,
            [
                "web-2_default_c-5.log",
                "web_default_c-3.log",
                "web_default_c-4.log",
                "web_default_directory",
                "web_default_file.log"
            ]
        );
        assert!(remove_into(dir.path(), "", into).is_err());
        assert!(remove_into(dir.path(), "web_default_", Path::new("/")).is_err());
        assert!(remove_into(&at("none"), "web_default_", into).is_ok());
    }

    #[test]
    fn a_link_takes_a_links_place_and_nothing_elses() {
        let dir = TestDir::new();
        let name = PathPart::parse("a.log").unwrap();
        for target in ["/one", "/two"] {
            make(dir.path(), &name, target).unwrap();
            assert_eq!(
                std::fs::read_link(dir.path().join("a.log")).unwrap(),
                Path::new(target)
            );
        }
        std::fs::write(dir.path().join("b.log"), "kept").unwrap();
        assert!(make(dir.path(), &PathPart::parse("b.log").unwrap(), "/x").is_err());
        assert_eq!(std::fs::read(dir.path().join("b.log")).unwrap(), b"kept");
    }
}
