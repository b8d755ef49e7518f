//! Upstream's tables, and an interruption of the write at every point.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::testing::TestDir;

fn payload(files: &[(&str, u32, &str)]) -> Payload {
    let file = |(path, mode, data): &(&str, u32, &str)| {
        let file = PayloadFile {
            data: data.as_bytes().to_vec(),
            mode: *mode,
            owner: None,
        };
        ((*path).to_owned(), file)
    };
    files.iter().map(file).collect()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_423_443 + second).unwrap()
}

fn write(target: &Path, payload: &Payload, second: i64) -> Written {
    write_payload(target, payload, at(second), || Ok(())).unwrap()
}

/// Files below a directory that are reached by the volume's links or by `..data`: path, mode, content.
fn files_below(directory: &Path, above: &str, found: &mut Vec<(String, u32, Vec<u8>)>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if above.is_empty() && name.starts_with("..") {
            continue;
        }
        let path = format!("{above}{name}");
        match std::fs::metadata(entry.path()) {
            Ok(file) if file.is_dir() => files_below(&entry.path(), &format!("{path}/"), found),
            Ok(file) => {
                let data = std::fs::read(entry.path()).unwrap();
                found.push((path, file.mode() & 0o7777, data));
            }
            // A link to a target that does not exist now.
            Err(_) => {}
        }
    }
}

fn shown(directory: &Path) -> Vec<(String, u32, Vec<u8>)> {
    let mut found = Vec::new();
    files_below(directory, "", &mut found);
    found.sort();
    found
}

fn wanted(payload: &Payload) -> Vec<(String, u32, Vec<u8>)> {
    let files = clean_paths(payload).unwrap();
    files
        .into_iter()
        .map(|(path, file)| (path, file.mode, file.data.clone()))
        .collect()
}

/// Every name in the volume, and its link target.
fn layout(directory: &Path) -> Vec<String> {
    let mut lines: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let masked = |name: &str| {
                let time = name
                    .strip_prefix("..")
                    .and_then(|rest| rest.split_once('.'));
                match time {
                    Some((time, number)) if number.parse::<u32>().is_ok() => format!("..{time}.N"),
                    _ => name.to_owned(),
                }
            };
            match std::fs::read_link(&path) {
                Ok(to) => format!("{name} -> {}", masked(to.to_str().unwrap())),
                Err(_) => masked(&name),
            }
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn paths_are_refused_in_upstreams_words() {
    let (long_path, long_name) = ("a/".repeat(2049), "a".repeat(256));
    for (path, expected) in [
        ("i/am/well/behaved.txt", None),
        ("keepyourheaddownandfollowtherules.txt", None),
        (
            long_path.as_str(),
            Some("invalid path: must be less than or equal to 4096 characters"),
        ),
        (
            long_name.as_str(),
            Some("invalid path: filenames must be less than or equal to 255 characters"),
        ),
        (
            "/dev/null",
            Some("invalid path: must be relative path: /dev/null"),
        ),
        (
            "..sneaky.txt",
            Some("invalid path: must not start with '..': ..sneaky.txt"),
        ),
        (
            "hello/there/../../../../../../etc/passwd",
            Some("invalid path: must not contain '..': hello/there/../../../../../../etc/passwd"),
        ),
        (
            "hello/../etc/somethingbad",
            Some("invalid path: must not contain '..': hello/../etc/somethingbad"),
        ),
        ("", Some("invalid path: must not be empty: \"\"")),
    ] {
        let found = check_path(path).err().map(|error| error.to_string());
        assert_eq!(found.as_deref(), expected, "{path}");
    }
    let dir = TestDir::new();
    let refused = write_payload(dir.path(), &payload(&[("../x", 0o644, "")]), at(0), || {
        Ok(())
    });
    assert!(matches!(refused, Err(PayloadError::Path(_))));
    assert_eq!(layout(dir.path()), Vec::<String>::new());
}

#[test]
fn the_layout_is_upstreams() {
    let dir = TestDir::new();
    let files = [("a.txt", 0o400, "a"), ("deep/er/b", 0o644, "b")];
    write(dir.path(), &payload(&files), 0);
    assert_eq!(
        layout(dir.path()),
        [
            "..2026_11_23_08_44_03.N",
            "..data -> ..2026_11_23_08_44_03.N",
            "a.txt -> ..data/a.txt",
            "deep -> ..data/deep",
        ]
    );
    let data = dir.path().join(DATA);
    assert_eq!(data.metadata().unwrap().mode() & 0o7777, 0o755);
    assert_eq!(shown(dir.path()), wanted(&payload(&files)));
}

#[test]
fn payloads_follow_one_another_as_in_upstreams_tables() {
    type Files = &'static [(&'static str, u32, &'static str)];
    let rounds: [&[Files]; 6] = [
        &[
            &[("foo", 0o644, "foo"), ("bar", 0o644, "bar")],
            &[("foo", 0o400, "foo2"), ("bar", 0o400, "bar2")],
            &[("foo", 0o600, "foo3"), ("bar", 0o600, "bar3")],
        ],
        &[
            &[
                ("foo/bar.txt", 0o644, "foo/bar"),
                ("bar/zab.txt", 0o644, "bar/zab.txt"),
            ],
            &[
                ("foo/bar.txt", 0o644, "foo/bar2"),
                ("bar/zab.txt", 0o400, "bar/zab.txt2"),
            ],
        ],
        &[
            &[
                ("foo/bar.txt", 0o644, "foo/bar"),
                ("bar//zab.txt", 0o644, "bar/zab.txt"),
                ("bar/zib////zib/zab.txt", 0o644, "bar/zib/zab.txt"),
            ],
            &[
                ("foo/bar.txt", 0o644, "foo/bar2"),
                ("bar/zab.txt", 0o644, "bar/zab.txt2"),
                ("add/new/keys.txt", 0o644, "addNewKeys"),
            ],
        ],
        &[
            &[
                ("foo/bar.txt", 0o644, "foo/bar"),
                ("bar//zab.txt", 0o644, "bar/zab.txt"),
                ("foo/blaz/bar.txt", 0o644, "foo/blaz/bar"),
                ("zip/zap/zup/fop.txt", 0o644, "zip/zap/zup/fop.txt"),
            ],
            &[
                ("foo/bar.txt", 0o644, "foo/bar2"),
                ("bar/zab.txt", 0o644, "bar/zab.txt2"),
            ],
            &[("foo/bar.txt", 0o644, "foo/bar")],
        ],
        &[
            &[("file", 0o644, "x")],
            &[("file/below", 0o644, "x")],
            &[("file", 0o644, "x")],
        ],
        &[&[("a", 0o644, "x")], &[], &[("a", 0o644, "x")]],
    ];
    for payloads in rounds {
        let dir = TestDir::new();
        for (second, files) in (0..).zip(payloads) {
            let wants = payload(files);
            assert_eq!(write(dir.path(), &wants, second), Written::All);
            assert_eq!(shown(dir.path()), wanted(&wants));
            let before = layout(dir.path());
            assert_eq!(write(dir.path(), &wants, second + 100), Written::Nothing);
            assert_eq!(layout(dir.path()), before);
        }
    }
}

#[test]
fn permissions_are_set_before_the_files_are_seen_and_only_when_some_are_written() {
    let dir = TestDir::new();
    let mut calls = 0;
    for _ in 0..2 {
        write_payload(dir.path(), &payload(&[("a", 0o644, "x")]), at(0), || {
            calls += 1;
            assert!(!dir.path().join(DATA).exists());
            Ok(())
        })
        .unwrap();
    }
    assert_eq!(calls, 1);
    let refused = write_payload(dir.path(), &payload(&[("a", 0o644, "y")]), at(1), || {
        Err(FileError::NotADirectory(PathBuf::new()))
    });
    assert!(refused.is_err());
    assert_eq!(shown(dir.path()), wanted(&payload(&[("a", 0o644, "x")])));
}

#[test]
fn links_that_are_missing_come_back_and_mount_points_stay() {
    let dir = TestDir::new();
    let wants = payload(&[("a", 0o644, "x"), ("b", 0o644, "y")]);
    std::fs::create_dir(dir.path().join("nested")).unwrap();
    write(dir.path(), &wants, 0);
    // k/k#121472: a lost link.
    std::fs::remove_file(dir.path().join("a")).unwrap();
    std::fs::remove_file(dir.path().join("b")).unwrap();
    symlink("/etc/passwd", dir.path().join("b")).unwrap();
    assert_eq!(write(dir.path(), &wants, 1), Written::Nothing);
    assert_eq!(shown(dir.path()), wanted(&wants));
    assert!(dir.path().join("nested").is_dir());
}

#[test]
fn what_stands_in_the_way_is_replaced_and_leads_nowhere() {
    let outside = TestDir::new();
    std::fs::write(outside.path().join("precious"), "p").unwrap();
    let obstacles: [fn(&Path, &Path); 6] = [
        |volume, outside| symlink(outside, volume.join(DATA)).unwrap(),
        |volume, outside| symlink(outside, volume.join(NEW_DATA)).unwrap(),
        |volume, _| std::fs::create_dir_all(volume.join(DATA).join("x")).unwrap(),
        |volume, _| std::fs::create_dir_all(volume.join(NEW_DATA).join("x")).unwrap(),
        |volume, _| std::fs::write(volume.join(DATA), "x").unwrap(),
        |volume, outside| {
            let old = "..2020_01_01_00_00_00.1";
            symlink(outside, volume.join(old)).unwrap();
            symlink(old, volume.join(DATA)).unwrap();
        },
    ];
    for obstacle in obstacles {
        let dir = TestDir::new();
        obstacle(dir.path(), outside.path());
        let wants = payload(&[("precious", 0o644, "ours")]);
        write(dir.path(), &wants, 0);
        assert_eq!(shown(dir.path()), wanted(&wants));
        assert_eq!(layout(dir.path()).len(), 3, "{:?}", layout(dir.path()));
        assert_eq!(
            std::fs::read(outside.path().join("precious")).unwrap(),
            b"p"
        );
    }
    let dir = TestDir::new();
    symlink(outside.path(), dir.path().join("volume")).unwrap();
    let through = write_payload(&dir.path().join("volume"), &payload(&[]), at(0), || Ok(()));
    assert!(through.is_err());
}

#[test]
fn the_owner_of_a_file_owns_its_link() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = TestDir::new();
    let mut wants = payload(&[("token", 0o600, "t")]);
    wants.get_mut("token").unwrap().owner = Some(1000);
    write(dir.path(), &wants, 0);
    let link = dir.path().join("token");
    assert_eq!(link.symlink_metadata().unwrap().uid(), 1000);
    assert_eq!(link.metadata().unwrap().uid(), 1000);
}

/// Writes until the `stop`-th change; whether the write finished.
fn write_until(target: &Path, payload: &Payload, second: i64, stop: usize) -> bool {
    let mut left = stop;
    let mut cut = || {
        left = left
            .checked_sub(1)
            .ok_or(FileError::NotADirectory(PathBuf::new()))?;
        Ok(())
    };
    write_cut(target, payload, at(second), &mut || Ok(()), &mut cut).is_ok()
}

fn some_payload() -> impl Strategy<Value = Payload> {
    let path = prop::sample::select(vec!["a", "b", "d/a", "d/b", "e/f/g", "h"]);
    let file = (path, "[xyz]{0,2}").prop_map(|(path, data)| {
        let file = PayloadFile {
            data: data.into_bytes(),
            mode: 0o644,
            owner: None,
        };
        (path.to_owned(), file)
    });
    prop::collection::btree_map(file.clone().prop_map(|f| f.0), file.prop_map(|f| f.1), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_write_that_is_cut_off_anywhere_leaves_the_old_files_or_the_new(
        old in some_payload(), new in some_payload(), third in some_payload(),
    ) {
        for stop in 0.. {
            let dir = TestDir::new();
            write(dir.path(), &old, 0);
            let finished = write_until(dir.path(), &new, 1, stop);
            let inside = shown(&dir.path().join(DATA));
            let is_new = inside == wanted(&new);
            prop_assert!(is_new || inside == wanted(&old), "{:?}", inside);
            // Each visible file has one of the contents, never a part of it.
            for file in shown(dir.path()) {
                prop_assert!(inside.contains(&file));
            }
            // The next process continues, with the same files or others, and leaves nothing of the interruption.
            let next = if stop % 2 == 0 { &new } else { &third };
            write(dir.path(), next, 2);
            prop_assert_eq!(shown(dir.path()), wanted(next));
            let firsts: BTreeSet<_> = next.keys().map(|path| first_part(path)).collect();
            prop_assert_eq!(layout(dir.path()).len(), 2 + firsts.len());
            if finished {
                break;
            }
        }
    }
}

#[test]
fn depth_and_width_take_neither_stack_nor_descriptors() {
    let dir = TestDir::new();
    let target = dir.path().join("v");
    std::fs::create_dir(&target).unwrap();
    let payload = payload(&[("a", 0o644, "1")]);
    write(&target, &payload, 0);
    let shown = target.join(std::fs::read_link(target.join("..data")).unwrap());
    // A user who can write the volume on the host makes it as deep as a path can be.
    let mut deep: OwnedFd = File::open(&shown).unwrap().into();
    for _ in 0..3_000 {
        rustix::fs::mkdirat(&deep, "d", Mode::RWXU).unwrap();
        deep = open_directory(deep.as_fd(), "d").unwrap();
    }
    for number in 0..2_000 {
        std::fs::create_dir(shown.join(number.to_string())).unwrap();
    }
    drop(deep);
    let on_a_small_stack = std::thread::Builder::new().stack_size(64 << 10);
    let written = on_a_small_stack.spawn({
        let target = target.clone();
        move || write(&target, &payload, 1)
    });
    assert_eq!(written.unwrap().join().unwrap(), Written::All);
    assert_eq!(std::fs::read(target.join("a")).unwrap(), b"1");
    assert_eq!(std::fs::read_dir(target.join("..data")).unwrap().count(), 1);
}
