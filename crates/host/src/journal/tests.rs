//! The journal against truncation at every byte, random damage, a full disk and a second owner.
//!
//! In:    random sequences of operations
//! Out:   assertions
//! Calls: cargo test
//! Holds: nothing
//! Upstream: none

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::record::{Body, Operation, crc32, encode, load};
use super::*;
use crate::testing::TestDir;

type Map = BTreeMap<String, Vec<u8>>;

fn open(directory: &TestDir) -> (Journal, Vec<JournalProblem>) {
    Journal::open(&directory.path().join("journal"), JournalLimits::default()).unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, Vec<u8>),
    Remove(u8),
    Compact,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..6_u8, prop::collection::vec(any::<u8>(), 0..24)).prop_map(|(key, value)| Step::Put(key, value)),
        3 => (0..6_u8).prop_map(Step::Remove),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..24)
}

/// The bytes of a file with these operations, the map after each record, and the end of each record.
fn written(steps: &[Step]) -> (Vec<u8>, Vec<(usize, Map)>) {
    let (mut bytes, mut map) = (Vec::new(), Map::new());
    let mut states = vec![(0, map.clone())];
    for step in steps {
        let sequence = states.len() as u64;
        match step {
            Step::Put(key, value) => {
                let key = key.to_string();
                encode(
                    &Body {
                        sequence,
                        operation: Operation::Put { key: &key, value },
                    },
                    &mut bytes,
                );
                map.insert(key, value.clone());
            }
            Step::Remove(key) => {
                let key = key.to_string();
                encode(
                    &Body {
                        sequence,
                        operation: Operation::Remove { key: &key },
                    },
                    &mut bytes,
                );
                map.remove(&key);
            }
            Step::Compact | Step::Reopen => continue,
        }
        states.push((bytes.len(), map.clone()));
    }
    (bytes, states)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_file_cut_at_any_byte_loads_the_state_after_its_last_whole_record(steps in steps()) {
        let (bytes, states) = written(&steps);
        for cut in 0..=bytes.len() {
            let loaded = load(&bytes[..cut]);
            let (end, map) = states.iter().rfind(|(end, _)| *end <= cut).unwrap();
            prop_assert_eq!(&loaded.map, map);
            prop_assert_eq!(loaded.end, *end as u64);
            let torn = cut - end;
            let expected: Vec<_> = (torn > 0)
                .then_some(JournalProblem::TornTail { offset: *end as u64, length: torn as u64 })
                .into_iter()
                .collect();
            prop_assert_eq!(loaded.problems, expected);
        }
    }

    #[test]
    fn damage_costs_exactly_the_records_it_touches(
        steps in steps(), at in any::<prop::sample::Index>(), flip in 1..=255_u8, length in 1..40_usize,
    ) {
        let (bytes, states) = written(&steps);
        prop_assume!(!bytes.is_empty());
        let start = at.index(bytes.len());
        let end = (start + length).min(bytes.len());
        let mut damaged = bytes.clone();
        for byte in &mut damaged[start..end] {
            *byte ^= flip;
        }
        // The operations whose records the damage does not touch remain.
        let operations: Vec<_> = steps.iter().filter(|s| matches!(s, Step::Put(..) | Step::Remove(..))).collect();
        let mut expected = Map::new();
        let mut touched = 0;
        for (operation, pair) in operations.iter().zip(states.windows(2)) {
            if pair[0].0 < end && start < pair[1].0 {
                touched += 1;
                continue;
            }
            match operation {
                Step::Put(key, value) => drop(expected.insert(key.to_string(), value.clone())),
                Step::Remove(key) => drop(expected.remove(&key.to_string())),
                Step::Compact | Step::Reopen => {}
            }
        }
        let loaded = load(&damaged);
        prop_assert_eq!(loaded.map, expected);
        prop_assert_eq!(loaded.problems.len(), 1);
        if let JournalProblem::Damaged { records_lost, .. } = &loaded.problems[0] {
            prop_assert_eq!(*records_lost, (start >= states[1].0).then_some(touched));
        }
    }

    #[test]
    fn bytes_of_any_kind_load_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let loaded = load(&bytes);
        prop_assert!(loaded.end as usize <= bytes.len());
    }

    #[test]
    fn the_journal_on_disk_is_a_map_across_compaction_and_reopening(steps in steps()) {
        let directory = TestDir::new();
        let (mut journal, _) = open(&directory);
        let mut model = Map::new();
        for step in steps {
            match step {
                Step::Put(key, value) => {
                    journal.put(&key.to_string(), &value).unwrap();
                    model.insert(key.to_string(), value);
                }
                Step::Remove(key) => {
                    let was = journal.remove(&key.to_string()).unwrap();
                    prop_assert_eq!(was, model.remove(&key.to_string()).is_some());
                }
                Step::Compact => journal.compact().unwrap(),
                Step::Reopen => {
                    drop(journal);
                    let (reopened, problems) = open(&directory);
                    prop_assert_eq!(problems, vec![]);
                    journal = reopened;
                }
            }
            let loaded = load(&std::fs::read(directory.path().join("journal")).unwrap());
            prop_assert_eq!(&loaded.map, &model);
            prop_assert_eq!(&journal.map, &model);
            prop_assert_eq!(journal.live, model.iter().map(|(k, v)| record::size(k, v)).sum::<u64>());
        }
    }
}

#[test]
fn the_checksum_is_the_ieee_one() {
    assert_eq!(crc32(&[b"1234", b"56789"]), 0xcbf4_3926);
}

#[test]
fn a_missing_file_and_a_torn_tail_are_reported_and_the_next_put_goes_on() {
    let directory = TestDir::new();
    let path = directory.path().join("journal");
    let (mut journal, problems) = open(&directory);
    assert_eq!(problems, [JournalProblem::Missing(path.clone())]);
    journal.put("pod/a", b"{}").unwrap();
    journal.put("pod/b", b"{}").unwrap();
    drop(journal);
    let whole = std::fs::metadata(&path).unwrap().len();
    OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(whole - 1)
        .unwrap();
    let (mut journal, problems) = open(&directory);
    assert!(
        matches!(problems[..], [JournalProblem::TornTail { .. }]),
        "{problems:?}"
    );
    journal.put("pod/c", b"{}").unwrap();
    drop(journal);
    let (journal, problems) = open(&directory);
    assert_eq!(problems, []);
    assert_eq!(
        journal.iter("pod/").map(|(key, _)| key).collect::<Vec<_>>(),
        ["pod/a", "pod/c"]
    );
    assert_eq!(journal.iter("pod/b").count(), 0);
    assert_eq!(journal.get("pod/c"), Some(&b"{}"[..]));
}

#[test]
fn only_one_owner_at_a_time() {
    let directory = TestDir::new();
    let (journal, _) = open(&directory);
    let second = Journal::open(&directory.path().join("journal"), JournalLimits::default());
    assert!(matches!(second, Err(JournalError::Owned(_))));
    drop(journal);
    open(&directory);
}

#[test]
fn records_of_a_later_version_are_kept_through_compaction() {
    let directory = TestDir::new();
    let path = directory.path().join("journal");
    let body = [9_u8, 1, 2, 3];
    let length = (body.len() as u32).to_le_bytes();
    let mut bytes = vec![0xff, 0x48, 0x4b, 0xfe];
    bytes.extend(length);
    bytes.extend(crc32(&[&length, &body]).to_le_bytes());
    bytes.extend(body);
    std::fs::write(&path, &bytes).unwrap();
    let (mut journal, problems) = open(&directory);
    assert_eq!(
        problems,
        [JournalProblem::UnknownVersion {
            offset: 0,
            version: 9
        }]
    );
    journal.put("a", b"1").unwrap();
    journal.compact().unwrap();
    drop(journal);
    let (journal, problems) = open(&directory);
    assert!(matches!(
        problems[..],
        [JournalProblem::UnknownVersion { version: 9, .. }]
    ));
    assert_eq!(journal.get("a"), Some(&b"1"[..]));
}

#[test]
fn sizes_are_bounded_and_garbage_is_compacted_away() {
    let directory = TestDir::new();
    let limits = JournalLimits {
        record_bytes: 4096,
        live_bytes: 8192,
    };
    let path = directory.path().join("journal");
    let (mut journal, _) = Journal::open(&path, limits).unwrap();
    assert!(matches!(
        journal.put("a", &[0; 4096]),
        Err(JournalError::TooLarge {
            what: "a record",
            ..
        })
    ));
    journal.put("a", &[0; 4000]).unwrap();
    journal.put("b", &[0; 4000]).unwrap();
    assert!(matches!(
        journal.put("c", &[0; 4000]),
        Err(JournalError::TooLarge {
            what: "the map",
            ..
        })
    ));
    for round in 0..500_u32 {
        journal.put("a", &round.to_le_bytes().repeat(1000)).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() <= 3 * 8192 + GARBAGE_ALLOWED);
    }
    assert_eq!(
        journal.get("a"),
        Some(&499_u32.to_le_bytes().repeat(1000)[..])
    );
    assert!(!directory.path().join("journal.new").exists());
}

/// A tmpfs of a given size, unmounted when the test ends.
struct TinyDisk(TestDir);

impl TinyDisk {
    fn new(size: &str) -> Self {
        let directory = TestDir::new();
        let options = std::ffi::CString::new(format!("size={size}")).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount(
            "tmpfs",
            directory.path(),
            "tmpfs",
            flags,
            options.as_c_str(),
        )
        .unwrap();
        Self(directory)
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_full_disk_is_a_typed_error_and_memory_stays_what_the_file_holds() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let disk = TinyDisk::new("200k");
    std::fs::write(disk.0.path().join("filler"), [0; 120 << 10]).unwrap();
    let path = disk.0.path().join("journal");
    let (mut journal, _) = open(&disk.0);
    let error = (0..1000)
        .find_map(|n| journal.put(&format!("key-{n:04}"), &[7; 1000]).err())
        .unwrap();
    assert!(matches!(error, JournalError::NoSpace { .. }), "{error:?}");
    let held = journal.map.len();
    assert!(held > 20);
    let loaded = load(&std::fs::read(&path).unwrap());
    assert_eq!(
        (&loaded.map, loaded.problems),
        (&journal.map, vec![]),
        "nothing torn is left behind"
    );
    assert!(matches!(
        journal.compact(),
        Err(JournalError::NoSpace { .. })
    ));
    assert!(
        !disk.0.path().join("journal.new").exists(),
        "the unfinished copy does not eat the space"
    );
    assert!(journal.put("again", &[7; 5000]).is_err());
    std::fs::remove_file(disk.0.path().join("filler")).unwrap();
    journal.put("again", &[7; 5000]).unwrap();
    journal.compact().unwrap();
    drop(journal);
    let (journal, problems) = open(&disk.0);
    assert_eq!((journal.map.len(), problems), (held + 1, vec![]));
}

const WRITER: &str = "HYPERKUBE_TEST_JOURNAL";

#[test]
fn what_was_put_outlives_kill_9_of_the_process() {
    use std::io::BufRead;
    if let Ok(path) = std::env::var(WRITER) {
        // The process that the test below starts and kills: it prints each number after its put returned.
        let (mut journal, _) = Journal::open(Path::new(&path), JournalLimits::default()).unwrap();
        let mut out = io::stdout();
        for number in 0_u32.. {
            journal
                .put(
                    &format!("key-{}", number % 50),
                    number.to_string().as_bytes(),
                )
                .unwrap();
            writeln!(out, "\nput {number}").unwrap();
            if number % 100 == 99 {
                journal.compact().unwrap();
            }
        }
    }
    for kill_after in [1, 7, 99, 100, 101, 350] {
        let directory = TestDir::new();
        let path = directory.path().join("journal");
        let mut writer = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "journal::tests::what_was_put_outlives_kill_9_of_the_process",
            ])
            .env(WRITER, &path)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = io::BufReader::new(writer.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let mut said = lines.filter_map(|line| line.strip_prefix("put ")?.parse::<u32>().ok());
        let at_kill = said.by_ref().find(|number| *number == kill_after).unwrap();
        writer.kill().unwrap();
        let last_said = said.last().unwrap_or(at_kill);
        writer.wait().unwrap();
        let (journal, problems) = open(&directory);
        assert!(
            problems
                .iter()
                .all(|problem| matches!(problem, JournalProblem::TornTail { .. })),
            "{problems:?}"
        );
        for number in last_said.saturating_sub(49)..=last_said {
            let value = journal
                .get(&format!("key-{}", number % 50))
                .map(|value| String::from_utf8_lossy(value));
            // One more put may have returned without being printed.
            assert!(value.unwrap().parse::<u32>().unwrap() >= number);
        }
    }
}
