//! The store under concurrent writers, watchers, torn writes and crashes at any point.
//!
//! In:    seeds
//! Out:   what watchers saw, compared with what writers were told
//! Upstream: none

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

mod trouble;

thread_local! {
    static PARSES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

pub(super) fn count_parse() {
    PARSES.with(|parses| parses.set(parses.get() + 1));
}

/// How many stored objects this thread has parsed.
pub(crate) fn parses() -> usize {
    PARSES.with(std::cell::Cell::get)
}

fn no_fields(_: &str, _: &Value) -> Vec<(&'static str, String)> {
    Vec::new()
}

fn put(key: &str, expected: Expected, content: u64) -> Write {
    let value = serde_json::json!({"metadata": {"name": key}, "content": content});
    Write {
        key: key.to_owned(),
        expected,
        change: Change::Put(Box::new(value)),
    }
}

fn remove(key: &str, version: u64) -> Write {
    Write {
        key: key.to_owned(),
        expected: Expected::At(version),
        change: Change::Remove,
    }
}

/// A gate at which a disk's syncs pass or hang.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<Bars>, std::sync::Condvar)>);

#[derive(Debug, Default)]
struct Bars {
    is_shut: bool,
    is_reached: bool,
}

impl Gate {
    pub(crate) fn shut(&self) {
        self.0.0.lock().unwrap().is_shut = true;
    }

    pub(crate) fn open(&self) {
        self.0.0.lock().unwrap().is_shut = false;
        self.0.1.notify_all();
    }

    /// Waits until a caller hangs at the gate.
    pub(crate) fn until_reached(&self) {
        let bars = self.0.0.lock().unwrap();
        let wait = Duration::from_secs(30);
        let reached = self
            .0
            .1
            .wait_timeout_while(bars, wait, |bars| !bars.is_reached);
        assert!(reached.unwrap().0.is_reached);
    }

    pub(crate) fn is_reached(&self) -> bool {
        self.0.0.lock().unwrap().is_reached
    }

    fn pass(&self) {
        let mut bars = self.0.0.lock().unwrap();
        bars.is_reached = bars.is_shut;
        self.0.1.notify_all();
        drop(self.0.1.wait_while(bars, |bars| bars.is_shut));
    }
}

#[derive(Debug)]
struct GatedDisk(redb::backends::InMemoryBackend, Gate);

impl redb::StorageBackend for GatedDisk {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1.pass();
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

impl Store {
    /// In memory, with a writer's thread, behind a gate.
    pub(crate) fn gated(gate: &Gate, fields: Fields) -> Self {
        let disk = GatedDisk(redb::backends::InMemoryBackend::new(), gate.clone());
        let (disk, state) = Disk::backend(disk, fields).unwrap();
        Self::with_thread(disk, state, fields).unwrap()
    }
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// A disk that keeps writes in its cache until a sync, and dies at a chosen operation.
#[derive(Debug)]
struct LossyDisk {
    image: Mutex<Image>,
    dies_at: u64,
    done: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct Image {
    synced: Vec<u8>,
    cached: Vec<u8>,
    unsynced: Vec<Unsynced>,
}

#[derive(Clone, Debug)]
enum Unsynced {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Unsynced {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Length(length) => to.resize(*length, 0),
            Self::Write(at, data) => {
                if to.len() < at + data.len() {
                    to.resize(at + data.len(), 0);
                }
                to[*at..at + data.len()].copy_from_slice(data);
            }
        }
    }
}

impl LossyDisk {
    fn new(synced: Vec<u8>, dies_at: u64) -> Self {
        let image = Image {
            cached: synced.clone(),
            synced,
            unsynced: Vec::new(),
        };
        Self {
            image: Mutex::new(image),
            dies_at,
            done: AtomicU64::new(0),
        }
    }

    fn alive(&self) -> io::Result<()> {
        if self.done.fetch_add(1, Ordering::Relaxed) >= self.dies_at {
            return Err(io::Error::other("the power is off"));
        }
        Ok(())
    }

    /// The content after a power loss: of what was not synced, any part, with each write whole, torn or lost.
    fn after_death(&self, dice: &mut Dice) -> Vec<u8> {
        let image = self.image.lock().unwrap();
        let mut left = image.synced.clone();
        for unsynced in &image.unsynced {
            match (dice.roll(3), unsynced) {
                (0, _) => {}
                (1, Unsynced::Write(at, data)) if !data.is_empty() => {
                    let cut = usize::try_from(dice.roll(data.len() as u64)).unwrap();
                    Unsynced::Write(*at, data[..cut].to_vec()).apply(&mut left);
                }
                _ => unsynced.apply(&mut left),
            }
        }
        left
    }
}

/// Shared with the test, which outlives the store.
#[derive(Clone, Debug)]
struct Shared(Arc<LossyDisk>);

impl redb::StorageBackend for Shared {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.image.lock().unwrap().cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let image = self.0.image.lock().unwrap();
        let at = usize::try_from(offset).unwrap();
        let from = image.cached.get(at..at + out.len());
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.alive()?;
        let mut image = self.0.image.lock().unwrap();
        let change = Unsynced::Length(usize::try_from(len).unwrap());
        change.apply(&mut image.cached);
        image.unsynced.push(change);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.alive()?;
        let mut image = self.0.image.lock().unwrap();
        image.unsynced.clear();
        image.synced = image.cached.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.alive()?;
        let mut image = self.0.image.lock().unwrap();
        let change = Unsynced::Write(usize::try_from(offset).unwrap(), data.to_vec());
        change.apply(&mut image.cached);
        image.unsynced.push(change);
        Ok(())
    }
}

/// A change: version, key, content (`None`: deleted).
type Seen = (u64, String, Option<u64>);

fn seen(event: &Event) -> Seen {
    let content = event.object.value()["content"].as_u64();
    let content = if event.removed { None } else { content };
    (event.version, event.object.key.to_string(), content)
}

/// One life of the store: writers run until it dies. Acknowledged writes go to `promised`, in the order of versions.
async fn live(store: &Store, dice: &mut Dice, promised: &mut Vec<Seen>, content: &mut u64) {
    loop {
        // A few writers at once; inline writers run one after the other, with random keys.
        let key = format!("things/ns/{}", dice.roll(6));
        *content += 1;
        let write = match (store.get(&key), dice.roll(4)) {
            (Some(object), 0) => remove(&key, object.version),
            (Some(object), 1) => put(&key, Expected::At(object.version - 1), *content),
            (Some(object), _) => put(&key, Expected::At(object.version), *content),
            (None, _) => put(&key, Expected::Absent, *content),
        };
        let removes = matches!(write.change, Change::Remove);
        match store.write(write).await {
            Ok(object) => {
                let what = (!removes).then_some(*content);
                promised.push((object.version, key, what));
            }
            Err(WriteError::Unexpected(found)) => assert!(found.is_some()),
            Err(WriteError::Failed(_)) => return,
            Err(WriteError::TooLarge) => unreachable!("objects here are small"),
        }
    }
}

async fn run_seed(seed: u64) {
    let mut dice = Dice(seed);
    let (mut image, mut content) = (Vec::new(), 0);
    // What certainly happened, and what a watcher that outlives the store was told.
    let (mut history, mut told): (Vec<Seen>, Vec<Seen>) = (Vec::new(), Vec::new());
    let mut told_to = 0;
    for _ in 0..6 {
        let dies_at = 20 + dice.roll(400);
        let disk = Arc::new(LossyDisk::new(image, dies_at));
        if let Ok(store) = Store::backend(Shared(Arc::clone(&disk)), no_fields) {
            let last = history.last().map_or(1, |seen| seen.0);
            assert!(
                store.version() >= last,
                "seed {seed}: an acknowledged write is lost"
            );
            // Only the one write that was in progress at the crash may or may not be there.
            let mut after = store.watch("things", last).unwrap();
            let extra = after.ready().unwrap();
            assert!(extra.len() <= 1, "seed {seed}: {extra:?}");
            history.extend(extra.iter().map(seen));
            let mut watcher = store.watch("things", told_to).unwrap_or_else(|_| {
                assert_eq!(told_to, 0);
                store.watch("things", 1).unwrap()
            });
            live(&store, &mut dice, &mut history, &mut content).await;
            loop {
                let events = watcher.ready().unwrap();
                if events.is_empty() {
                    break;
                }
                told.extend(events.iter().map(seen));
            }
            told_to = told.last().map_or(told_to, |seen| seen.0);
            assert_eq!(told, history, "seed {seed}");
            let mut state = BTreeMap::new();
            for (_, key, content) in &history {
                match content {
                    Some(content) => drop(state.insert(key.clone(), *content)),
                    None => drop(state.remove(key)),
                }
            }
            let found: BTreeMap<String, u64> = store
                .list("things/")
                .objects
                .iter()
                .map(|o| (o.key.to_string(), o.value()["content"].as_u64().unwrap()))
                .collect();
            assert_eq!(found, state, "seed {seed}");
        }
        image = disk.after_death(&mut dice);
    }
}

#[tokio::test]
async fn no_death_loses_doubles_or_reorders_anything() {
    for seed in 0..60 {
        run_seed(seed).await;
    }
}

#[tokio::test]
async fn concurrent_writers_share_syncs_and_watchers_see_one_order() {
    let dir = std::env::temp_dir().join(format!("hyperkube-store-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("store");
    let store = Store::open(&path, no_fields).unwrap();
    let followers: Vec<_> = (0..3).map(|_| store.watch("things", 1).unwrap()).collect();
    let writers = (0..8_u64).map(|writer| {
        let store = store.clone();
        async move {
            let key = format!("things/ns/{writer}");
            let mut expected = Expected::Absent;
            for content in 0..25 {
                let object = store.write(put(&key, expected, content)).await.unwrap();
                expected = Expected::At(object.version);
                // Visible to every caller that got the answer.
                assert_eq!(store.get(&key).unwrap().version, object.version);
            }
        }
    });
    let follow = followers.into_iter().map(|mut watcher| async move {
        let mut told = Vec::new();
        while told.len() < 200 {
            told.extend(watcher.next().await.unwrap().iter().map(seen));
        }
        told
    });
    let (_, told) = tokio::join!(
        futures_util::future::join_all(writers),
        futures_util::future::join_all(follow)
    );
    assert!(told[0].windows(2).all(|pair| pair[0].0 + 1 == pair[1].0));
    assert!(told.iter().all(|one| *one == told[0]));
    assert!(matches!(
        Store::open(&path, no_fields),
        Err(OpenError::InUse(_))
    ));
    drop(store);
    let store = Store::open(&path, no_fields).unwrap();
    let again = store.watch("things", 1).unwrap().ready().unwrap();
    assert_eq!(
        again.iter().map(seen).collect::<Vec<_>>(),
        told[0][..128].to_vec()
    );
    drop(store);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn a_watch_from_before_the_log_is_told_so() {
    let store = Store::memory(no_fields).unwrap();
    let mut slow = store.watch("things", store.version()).unwrap();
    let mut expected = Expected::Absent;
    for content in 0..3000 {
        let object = store.write(put("things/ns/a", expected, content)).await;
        expected = Expected::At(object.unwrap().version);
    }
    let oldest = slow.ready().unwrap_err().oldest;
    assert_eq!(
        store.watch("things", oldest - 1).unwrap_err().oldest,
        oldest
    );
    assert_eq!(store.list_at("things/", 5).unwrap_err().oldest, oldest);
    let mut fresh = store.watch("things", oldest).unwrap();
    assert_eq!(fresh.next().await.unwrap()[0].version, oldest + 1);
    // A storage without changes stays current.
    assert!(store.watch("others", 1).is_ok());
}

/// A pod of node `n0` or `n1`, or a volume, that names one of three secrets.
fn naming(dice: &mut Dice) -> (&'static str, Value) {
    let (node, secret) = (dice.roll(3), dice.roll(3));
    let named = serde_json::json!({"name": format!("s{secret}"), "namespace": "ns"});
    if dice.roll(3) == 0 {
        let claim = serde_json::json!({"namespace": "ns", "name": format!("c{node}")});
        let spec = serde_json::json!({"claimRef": claim, "csi": {"nodeStageSecretRef": named}});
        return (
            "persistentvolumes",
            serde_json::json!({"metadata": {}, "spec": spec}),
        );
    }
    let node = if node == 2 {
        String::new()
    } else {
        format!("n{node}")
    };
    let spec = serde_json::json!({"nodeName": node, "imagePullSecrets": [named.clone(), named]});
    let metadata = serde_json::json!({"namespace": "ns"});
    (
        "pods",
        serde_json::json!({"metadata": metadata, "spec": spec}),
    )
}

#[tokio::test]
async fn ties_are_those_of_the_objects_after_any_changes_and_after_an_opening() {
    let path = std::env::temp_dir().join(format!("hyperkube-ties-{}", std::process::id()));
    drop(std::fs::remove_file(&path));
    let agree = |store: &Store| {
        let state = store.0.shared.read();
        let ties = Ties::of(state.objects.values());
        assert_eq!(state.ties, ties);
        ties
    };
    let store = Store::open(&path, no_fields).unwrap();
    let mut dice = Dice(9);
    for _ in 0..60 {
        let (storage, mut value) = naming(&mut dice);
        let name = format!("o{}", dice.roll(4));
        value["metadata"]["name"] = name.clone().into();
        let key = format!("{storage}/ns/{name}");
        let found = store.get(&key).map(|object| object.version);
        let change = match found {
            Some(_) if dice.roll(3) == 0 => Change::Remove,
            _ => Change::Put(Box::new(value)),
        };
        let expected = found.map_or(Expected::Absent, Expected::At);
        let write = Write {
            key,
            expected,
            change,
        };
        store.write(write).await.unwrap();
        agree(&store);
    }
    let before = agree(&store);
    assert_ne!(before, Ties::default());
    drop(store);
    let again = Store::open(&path, no_fields).unwrap();
    assert_eq!(agree(&again), before);
    drop(again);
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn a_list_at_a_version_is_what_was_there() {
    let store = Store::memory(no_fields).unwrap();
    let a = store
        .write(put("t/n/a", Expected::Absent, 1))
        .await
        .unwrap();
    let then = store.version();
    store
        .write(put("t/n/b", Expected::Absent, 2))
        .await
        .unwrap();
    store
        .write(put("t/n/a", Expected::At(a.version), 3))
        .await
        .unwrap();
    let a = store.get("t/n/a").unwrap();
    store.write(remove("t/n/a", a.version)).await.unwrap();
    let at = |version| {
        let snapshot = store.list_at("t/n/", version).unwrap();
        let content = |o: &Arc<Object>| o.value()["content"].as_u64().unwrap();
        snapshot.objects.iter().map(content).collect::<Vec<_>>()
    };
    assert_eq!(
        [at(then), at(then + 1), at(then + 2), at(then + 3)],
        [vec![1], vec![1, 2], vec![3, 2], vec![2]]
    );
}

#[tokio::test]
async fn a_damaged_file_is_named_and_left_alone() {
    let path = std::env::temp_dir().join(format!("hyperkube-damaged-{}", std::process::id()));
    for content in [&b"this is no store"[..], &[0; 8192]] {
        std::fs::write(&path, content).unwrap();
        let error = Store::open(&path, no_fields).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()));
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
    std::fs::remove_file(&path).unwrap();
}
