//! The store while its disk fails and recovers, unreadable rows, and a file that another process has open.
//!
//! In:    errors at each operation of the disk, before or after it took effect; garbage in rows
//! Out:   what was acknowledged, compared with what readers, watchers and the next process see
//! Upstream: none

use std::io::ErrorKind;

use super::*;

/// A disk that fails a number of operations and then recovers.
#[derive(Debug, Default)]
struct Sick {
    bytes: Mutex<Vec<u8>>,
    /// The number of changing operations until it fails, and how many fail then.
    until: AtomicU64,
    fails: AtomicU64,
    kind: Mutex<Option<ErrorKind>>,
    /// Whether the failing operation takes effect nevertheless.
    is_done: std::sync::atomic::AtomicBool,
}

#[derive(Clone, Debug)]
struct SickDisk(Arc<Sick>);

impl SickDisk {
    fn new() -> Self {
        let sick = Sick::default();
        sick.until.store(u64::MAX, Ordering::Relaxed);
        Self(Arc::new(sick))
    }

    fn of(bytes: Vec<u8>) -> Self {
        let disk = Self::new();
        *disk.0.bytes.lock().unwrap() = bytes;
        disk
    }

    fn fail(&self, after: u64, times: u64, kind: ErrorKind, is_done: bool) {
        *self.0.kind.lock().unwrap() = Some(kind);
        self.0.is_done.store(is_done, Ordering::Relaxed);
        self.0.fails.store(times, Ordering::Relaxed);
        self.0.until.store(after, Ordering::Relaxed);
    }

    fn heal(&self) {
        self.0.until.store(u64::MAX, Ordering::Relaxed);
    }

    fn has_failed(&self) -> bool {
        self.0.until.load(Ordering::Relaxed) == 0
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.bytes.lock().unwrap().clone()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let sick = &self.0;
        let until = sick.until.load(Ordering::Relaxed);
        let fails = until == 0 && sick.fails.load(Ordering::Relaxed) > 0;
        if fails {
            sick.fails.fetch_sub(1, Ordering::Relaxed);
        } else if until != 0 && until != u64::MAX {
            sick.until.store(until - 1, Ordering::Relaxed);
        }
        if !fails || sick.is_done.load(Ordering::Relaxed) {
            change(&mut sick.bytes.lock().unwrap());
        }
        if fails {
            let kind = sick.kind.lock().unwrap().unwrap();
            return Err(io::Error::new(kind, format!("{kind}")));
        }
        Ok(())
    }
}

impl redb::StorageBackend for SickDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.bytes.lock().unwrap();
        let at = usize::try_from(offset).unwrap();
        let from = bytes.get(at..at + out.len());
        out.copy_from_slice(from.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|bytes| bytes.resize(usize::try_from(len).unwrap(), 0))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(|_| ())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(|bytes| {
            Unsynced::Write(usize::try_from(offset).unwrap(), data.to_vec()).apply(bytes)
        })
    }
}

/// The contents by key: value and version.
fn held(store: &Store) -> BTreeMap<String, (u64, u64)> {
    let all = store.list("things/").objects;
    let one = |o: &Arc<Object>| {
        let content = o.value()["content"].as_u64().unwrap();
        (o.key.to_string(), (content, o.version))
    };
    all.iter().map(one).collect()
}

/// One failure at this operation, of so many in a row; returns whether it occurred.
async fn one_failure(after: u64, times: u64, kind: ErrorKind, is_done: bool) -> bool {
    let case = format!("operation {after}, {times} times, {kind}, done: {is_done}");
    let disk = SickDisk::new();
    let store = Store::backend(disk.clone(), no_fields).unwrap();
    let mut watcher = store.watch("things", store.version()).unwrap();
    for number in 0..3 {
        let key = format!("things/ns/{number}");
        store
            .write(put(&key, Expected::Absent, number))
            .await
            .unwrap();
    }
    disk.fail(after, times, kind, is_done);
    let (mut failures, mut last) = (0, store.version());
    for number in 3..20 {
        let before = held(&store);
        let key = format!("things/ns/{}", number % 7);
        let expected = match store.get(&key) {
            Some(object) => Expected::At(object.version),
            None => Expected::Absent,
        };
        match store.write(put(&key, expected, number)).await {
            Ok(object) => {
                assert!(object.version > last, "{case}: a version twice");
                last = object.version;
                assert_eq!(held(&store)[&key], (number, last), "{case}");
            }
            Err(WriteError::Failed(trouble)) => {
                failures += 1;
                assert_eq!(trouble.is_full, kind == ErrorKind::StorageFull, "{case}");
                // Reads continue, and do not show the failed write.
                assert_eq!(held(&store), before, "{case}");
                assert!(store.failed().is_some(), "{case}");
                assert!(failures < 12, "{case}: never well again");
            }
            Err(other) => panic!("{case}: {other}"),
        }
    }
    let has_struck = disk.has_failed();
    disk.heal();
    let done = store
        .write(put("things/ns/last", Expected::Absent, 99))
        .await;
    assert!(done.unwrap().version > last, "{case}");
    assert_eq!(store.failed(), None, "{case}");
    // Watchers saw each state that was published, in order, and nothing else.
    let mut state = BTreeMap::new();
    let mut seen_to = 0;
    for event in watcher.ready().unwrap() {
        assert!(event.version > seen_to, "{case}");
        seen_to = event.version;
        let (version, key, content) = seen(&event);
        state.insert(key, (content.unwrap(), version));
    }
    assert_eq!(state, held(&store), "{case}");
    // And so did the next process.
    let (held_before, version) = (held(&store), store.version());
    drop(store);
    let store = Store::backend(SickDisk::of(disk.bytes()), no_fields).unwrap();
    assert_eq!(
        (held(&store), store.version()),
        (held_before, version),
        "{case}"
    );
    has_struck
}

#[tokio::test]
async fn a_disk_that_fails_at_any_point_costs_nothing_that_was_acknowledged_and_is_used_again() {
    for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
        for is_done in [false, true] {
            for times in [1, 3, 9] {
                let mut after = 0;
                while one_failure(after, times, kind, is_done).await && after < 60 {
                    after += 1 + after / 6;
                }
                assert!(after > 20, "it struck at {after} places only");
            }
        }
    }
}

#[tokio::test]
async fn the_writers_thread_gets_the_disk_back_by_itself() {
    let disk = SickDisk::new();
    let (opened, state) = Disk::backend(disk.clone(), no_fields).unwrap();
    let store = Store::with_thread(opened, state, no_fields).unwrap();
    disk.fail(0, u64::MAX, ErrorKind::StorageFull, false);
    for _ in 0..3 {
        let write = store.write(put("things/ns/a", Expected::Absent, 1)).await;
        let Err(WriteError::Failed(trouble)) = write else {
            panic!("{write:?}");
        };
        assert!(trouble.is_full && trouble.again_in > Duration::ZERO);
    }
    let failed = store.failed().unwrap();
    assert!(failed.contains("no storage space"), "{failed}");
    disk.heal();
    let until_well = async {
        while store.failed().is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), until_well)
        .await
        .unwrap();
    let write = store.write(put("things/ns/a", Expected::Absent, 1)).await;
    assert!(write.is_ok(), "{write:?}");
}

#[tokio::test]
async fn a_disk_that_hangs_is_waited_for_only_so_long_and_loses_nothing() {
    let gate = Gate::default();
    let store = Store::gated(&gate, no_fields);
    let write = |name: &str| store.write(put(&format!("things/ns/{name}"), Expected::Absent, 1));
    write("a").await.unwrap();
    gate.shut();
    let mut begun = Box::pin(write("begun"));
    assert!(futures_util::poll!(&mut begun).is_pending());
    gate.until_reached();
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let (begun, queued) = tokio::join!(begun, write("queued"));
    for unknown in [begun, queued] {
        let Err(WriteError::Failed(trouble)) = unknown else {
            panic!("{unknown:?}");
        };
        assert!(trouble.is_hung && !trouble.is_settled, "{trouble:?}");
    }
    let waited = began.elapsed();
    assert!(waited < Duration::from_secs(31), "{waited:?}");
    let Err(WriteError::Failed(refused)) = write("refused").await else {
        panic!("written");
    };
    assert!(refused.is_hung && refused.is_settled, "{refused:?}");
    assert_eq!(began.elapsed(), waited, "at once");
    assert!(store.failed().is_some());
    assert!(store.get("things/ns/a").is_some(), "reads go on");
    tokio::time::resume();
    gate.open();
    let until_well = async {
        while store.failed().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let well = tokio::time::timeout(Duration::from_secs(30), until_well).await;
    well.unwrap();
    write("c").await.unwrap();
    let names: Vec<String> = held(&store).into_keys().collect();
    assert_eq!(names, ["things/ns/a", "things/ns/begun", "things/ns/c"]);
}

#[tokio::test]
async fn a_file_that_somebody_else_changed_meanwhile_is_not_taken_up_again() {
    let disk = SickDisk::new();
    let store = Store::backend(disk.clone(), no_fields).unwrap();
    let old = disk.bytes();
    store
        .write(put("things/ns/a", Expected::Absent, 1))
        .await
        .unwrap();
    disk.fail(0, u64::MAX, ErrorKind::Other, false);
    let write = store.write(put("things/ns/b", Expected::Absent, 2)).await;
    assert!(write.is_err());
    disk.heal();
    // An older state of the file, without the acknowledged writes.
    *disk.0.bytes.lock().unwrap() = old;
    let write = store.write(put("things/ns/c", Expected::Absent, 3)).await;
    assert!(matches!(write, Err(WriteError::Failed(_))), "{write:?}");
    assert_eq!(held(&store).len(), 1, "reads go on");
}

/// The directory of one test, deleted afterwards.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("hyperkube-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn store(&self) -> PathBuf {
        self.0.join("store")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

const OBJECTS: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("objects");
const HISTORY: redb::TableDefinition<'_, u64, (&str, &[u8])> =
    redb::TableDefinition::new("history");
const META: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("meta");
const ASIDE: redb::TableDefinition<'_, &str, (&str, &[u8])> = redb::TableDefinition::new("aside");

/// Changes the closed file.
fn behind(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = redb::Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

fn set_aside(path: &Path) -> BTreeMap<String, Vec<u8>> {
    use redb::{ReadableDatabase as _, ReadableTable as _};
    let database = redb::Database::create(path).unwrap();
    let transaction = database.begin_read().unwrap();
    let table = transaction.open_table(ASIDE).unwrap();
    let rows = table.iter().unwrap().map(Result::unwrap);
    rows.map(|(name, row)| (name.value().to_owned(), row.value().1.to_vec()))
        .collect()
}

async fn three_things(path: &Path) -> u64 {
    let store = Store::open(path, no_fields).unwrap();
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        let key = format!("things/ns/{name}");
        let content = u64::try_from(number).unwrap();
        store
            .write(put(&key, Expected::Absent, content))
            .await
            .unwrap();
    }
    store.version()
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_set_aside_and_the_rest_is_served() {
    let dir = Dir::new("aside");
    let path = dir.store();
    let nested = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let deep = format!(r#"{{"metadata":{{"name":"b","resourceVersion":"3"}},"spec":{nested}}}"#);
    for garbage in [deep.as_bytes(), b"not JSON", br#"{"metadata":{}}"#] {
        drop(std::fs::remove_file(&path));
        let version = three_things(&path).await;
        behind(&path, |transaction| {
            let mut objects = transaction.open_table(OBJECTS).unwrap();
            objects.insert("things/ns/b", garbage).unwrap();
        });
        let store = Store::open(&path, no_fields).unwrap();
        let keys: Vec<String> = held(&store).into_keys().collect();
        assert_eq!(keys, ["things/ns/a", "things/ns/c"]);
        // Watchers have to list again: no event reports the loss.
        assert!(store.version() > version);
        assert!(store.watch("things", version).is_err());
        assert!(store.watch("things", store.version()).is_ok());
        let made = store.write(put("things/ns/b", Expected::Absent, 7)).await;
        assert!(made.unwrap().version > version + 1);
        let version = store.version();
        drop(store);
        let kept = set_aside(&path);
        assert_eq!(kept.values().collect::<Vec<_>>(), [garbage]);
        assert!(kept.keys().next().unwrap().contains("things/ns/b"));
        let store = Store::open(&path, no_fields).unwrap();
        assert_eq!((held(&store).len(), store.version()), (3, version));
    }
}

#[tokio::test]
async fn a_change_that_cannot_be_read_costs_the_changes_before_it_only() {
    let dir = Dir::new("history");
    let path = dir.store();
    let store = Store::open(&path, no_fields).unwrap();
    let mut expected = Expected::Absent;
    for content in 0..6 {
        let object = store.write(put("things/ns/a", expected, content)).await;
        expected = Expected::At(object.unwrap().version);
    }
    let version = store.version();
    drop(store);
    behind(&path, |transaction| {
        let mut history = transaction.open_table(HISTORY).unwrap();
        history
            .insert(version - 2, ("things/ns/a", &b"garbage"[..]))
            .unwrap();
    });
    let store = Store::open(&path, no_fields).unwrap();
    assert_eq!((held(&store).len(), store.version()), (1, version));
    let events = store.watch("things", version - 2).unwrap().ready().unwrap();
    assert_eq!(events.len(), 2);
    assert!(store.watch("things", version - 3).is_err());
    drop(store);
    assert_eq!(set_aside(&path).values().collect::<Vec<_>>(), [b"garbage"]);
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_left_alone_and_says_what_to_do() {
    let dir = Dir::new("newer");
    let path = dir.store();
    three_things(&path).await;
    behind(&path, |transaction| {
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert("schema", 2).unwrap();
    });
    let why = Store::open(&path, no_fields).unwrap_err().to_string();
    assert!(
        why.contains(path.to_str().unwrap()) && why.contains("start that version"),
        "{why}"
    );
    behind(&path, |transaction| {
        let mut meta = transaction.open_table(META).unwrap();
        meta.remove("schema").unwrap();
    });
    let store = Store::open(&path, no_fields).unwrap();
    assert_eq!(
        held(&store).len(),
        3,
        "of a version before there were schemas"
    );
}

#[tokio::test]
async fn a_file_that_another_process_has_is_waited_for_and_not_for_ever() {
    let dir = Dir::new("lock");
    let path = dir.store();
    let first = Store::open(&path, no_fields).unwrap();
    let patience = Duration::from_millis(700);
    let late = Store::open_waiting(&path, no_fields, patience).await;
    assert!(matches!(late, Err(OpenError::InUse(_))), "{late:?}");
    let leaves = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(first);
    };
    let patience = Duration::from_secs(30);
    let (second, ()) = tokio::join!(Store::open_waiting(&path, no_fields, patience), leaves);
    assert!(second.is_ok(), "{second:?}");
}

/// Set in the process that has a small file system of its own: the path of it.
const INSIDE: &str = "HYPERKUBE_TEST_SMALL_FILE_SYSTEM";

#[tokio::test]
async fn a_file_system_that_is_full_costs_writes_until_there_is_room_again() {
    if let Some(dir) = std::env::var_os(INSIDE) {
        fill_and_make_room(Path::new(&dir)).await;
        return;
    }
    let test =
        "store::tests::trouble::a_file_system_that_is_full_costs_writes_until_there_is_room_again";
    let dir = Dir::new("full");
    let inside = |command: &str| {
        let mounted = format!("mount -t tmpfs -o size=6m none \"$0\" && {command}");
        std::process::Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", &mounted])
            .arg(&dir.0)
            .arg(std::env::current_exe().unwrap())
            .arg(test)
            .env(INSIDE, &dir.0)
            .output()
    };
    if !inside("true").is_ok_and(|output| output.status.success()) {
        eprintln!("\n*** SKIPPED {test}: no mounts are allowed here ***");
        return;
    }
    let output = inside("exec \"$1\" --exact \"$2\" --nocapture").unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{output:?}");
    assert!(told.contains("1 passed"), "{told}");
}

async fn fill_and_make_room(dir: &Path) {
    let store = Store::open(&dir.join("store"), no_fields).unwrap();
    let large = |number: u64| {
        let mut write = put(&format!("things/ns/{number}"), Expected::Absent, number);
        if let Change::Put(value) = &mut write.change {
            value["filler"] = "x".repeat(20_000).into();
        }
        write
    };
    let (mut acknowledged, mut number) = (Vec::new(), 0);
    for bytes in [2_000_000, 1_000_000] {
        let filler = dir.join("filler");
        std::fs::write(&filler, vec![0; bytes]).unwrap();
        let trouble = loop {
            number += 1;
            assert!(number < 1_000, "it is never full");
            match store.write(large(number)).await {
                Ok(object) => acknowledged.push((object.key.to_string(), object.version)),
                Err(WriteError::Failed(trouble)) => break trouble,
                Err(other) => panic!("{other}"),
            }
        };
        assert!(trouble.is_full, "{trouble:?}");
        let there = || -> Vec<_> {
            let all = store.list("things/").objects.into_iter();
            let mut all: Vec<_> = all.map(|o| (o.key.to_string(), o.version)).collect();
            all.sort_by_key(|(_, version)| *version);
            all
        };
        assert_eq!(there(), acknowledged, "reads go on");
        std::fs::remove_file(&filler).unwrap();
        let well = async {
            while store.failed().is_some() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(40), well)
            .await
            .unwrap();
        assert_eq!(there(), acknowledged);
        number += 1;
        let object = store.write(large(number)).await.unwrap();
        assert!(
            acknowledged
                .last()
                .is_none_or(|last| object.version > last.1)
        );
        acknowledged.push((object.key.to_string(), object.version));
    }
    drop(store);
    let store = Store::open(&dir.join("store"), no_fields).unwrap();
    let all = store.list("things/").objects;
    assert_eq!(all.len(), acknowledged.len());
}
