//! Everything that may be in the place of a file.
//!
//! In:    a directory with files, links, FIFOs, devices, huge files
//! Out:   what is opened, and the errors of what is refused
//! Calls: cargo test
//! Holds: no test blocks
//! Upstream: none

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;
use crate::testing::TestDir;

struct Place(TestDir);

impl Place {
    fn new() -> Self {
        let place = Self(TestDir::new());
        std::fs::create_dir_all(place.at("top/sub")).unwrap();
        std::fs::write(place.at("top/sub/file"), "inside").unwrap();
        std::fs::write(place.at("secret"), "outside").unwrap();
        symlink("../secret", place.at("top/out")).unwrap();
        symlink("sub", place.at("top/in")).unwrap();
        symlink("sub/file", place.at("top/file")).unwrap();
        let make = |path, kind, device| {
            let mode = Mode::RUSR | Mode::WUSR;
            rustix::fs::mknodat(CWD, place.at(path), kind, mode, device)
        };
        make("top/fifo", FileType::Fifo, 0).unwrap();
        if rustix::process::geteuid().is_root() {
            // The zero device could be read for ever.
            let made = make(
                "top/zero",
                FileType::CharacterDevice,
                rustix::fs::makedev(1, 5),
            );
            assert!(made.is_ok() || made == Err(Errno::PERM));
        }
        place
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn top(&self) -> OwnedFd {
        open_directory(&self.at("top")).unwrap()
    }
}

fn errno<T>(result: io::Result<T>) -> Option<Errno> {
    result.err().and_then(|error| Errno::from_io_error(&error))
}

#[test]
fn a_file_is_read_and_nothing_else_is_even_opened() {
    let place = Place::new();
    let open = |path: &str| open_file(&place.at("top"), Path::new(path));
    let (content, is_cut) = head_of(open("sub/file").unwrap(), 6).unwrap();
    assert_eq!((content.as_slice(), is_cut), (&b"inside"[..], false));
    // Opening a FIFO would release a writer that waits.
    for (path, expected) in [
        ("fifo", Errno::INVAL),
        ("sub", Errno::INVAL),
        ("out", Errno::LOOP),
        ("in/file", Errno::LOOP),
        ("file", Errno::LOOP),
        ("../secret", Errno::XDEV),
        ("/etc/passwd", Errno::XDEV),
        ("none", Errno::NOENT),
        ("", Errno::NOENT),
        ("sub/file/x", Errno::NOTDIR),
    ] {
        assert_eq!(errno(open(path)), Some(expected), "{path}");
    }
    if place.at("top/zero").exists() {
        assert_eq!(errno(open("zero")), Some(Errno::INVAL));
    }
    let listener = std::os::unix::net::UnixListener::bind(place.at("top/socket")).unwrap();
    assert_eq!(errno(open("socket")), Some(Errno::INVAL));
    drop(listener);
}

#[test]
fn a_kernel_without_the_call_opens_and_refuses_the_same() {
    let place = Place::new();
    let top = place.top();
    for path in [
        "sub/file",
        "sub",
        "./sub/file",
        "out",
        "in/file",
        "file",
        "../secret",
        "sub/../../secret",
        "/etc/passwd",
        "none",
        "",
        "sub/file/x",
    ] {
        let one = open_below(&top, Path::new(path), OFlags::PATH, Mounts::Refused);
        let other = walk(&top, Path::new(path), OFlags::PATH, Mounts::Refused);
        let what = |opened: io::Result<OwnedFd>| match opened {
            Ok(fd) => fstat(&fd).map(|stat| (stat.st_dev, stat.st_ino)),
            Err(error) => Err(Errno::from_io_error(&error).unwrap()),
        };
        assert_eq!(what(one), what(other), "{path}");
    }
    let root = open_directory(Path::new("/")).unwrap();
    for (mounts, expected) in [(Mounts::Refused, Some(Errno::XDEV)), (Mounts::Passed, None)] {
        for opened in [
            open_below(&root, Path::new("proc/self"), OFlags::PATH, mounts).map(drop),
            walk(&root, Path::new("proc/version"), OFlags::PATH, mounts).map(drop),
        ] {
            // `self` is a link on another file system: the first of the two errors is reported.
            let found = errno(opened).filter(|errno| *errno != Errno::LOOP);
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn the_administrators_path_may_be_a_link_but_not_a_pipe() {
    let place = Place::new();
    symlink(place.at("top"), place.at("link")).unwrap();
    assert!(open_file(&place.at("link"), Path::new("sub/file")).is_ok());
    assert!(open_by_path(&place.at("top/file")).is_ok());
    assert_eq!(
        errno(open_by_path(&place.at("top/fifo"))),
        Some(Errno::INVAL)
    );
    assert_eq!(
        errno(open_file(&place.at("top/fifo"), Path::new("x"))),
        Some(Errno::NOTDIR)
    );
}

#[test]
fn of_a_huge_file_only_the_bound_is_read() {
    let place = Place::new();
    let huge = File::create(place.at("top/huge")).unwrap();
    huge.set_len(1 << 40).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&huge, b"end", (1 << 40) - 3).unwrap();
    let open = || open_file(&place.at("top"), Path::new("huge")).unwrap();
    let (head, is_cut) = head_of(open(), 4096).unwrap();
    assert_eq!((head.len(), is_cut), (4096, true));
    let (tail, is_cut) = tail_of(open(), 3).unwrap();
    assert_eq!((tail.as_slice(), is_cut), (&b"end"[..], true));
    let (all, is_cut) = tail_of(
        open_file(&place.at("top"), Path::new("sub/file")).unwrap(),
        64,
    )
    .unwrap();
    assert_eq!((all.as_slice(), is_cut), (&b"inside"[..], false));
}

#[test]
fn whoever_renames_without_end_holds_up_no_opening_for_ever() {
    for asks in [Errno::AGAIN, Errno::INTR] {
        let mut tries = 0;
        let opened: Result<(), Errno> = try_again(|| {
            tries += 1;
            Err(asks)
        });
        assert_eq!((opened, tries), (Err(asks), TRIES));
    }
    let mut tries = 0;
    let opened = try_again(|| {
        tries += 1;
        if tries < TRIES {
            return Err(Errno::AGAIN);
        }
        Ok(tries)
    });
    assert_eq!(opened, Ok(TRIES));
    assert_eq!(try_again(|| Err::<(), _>(Errno::LOOP)), Err(Errno::LOOP));
}
