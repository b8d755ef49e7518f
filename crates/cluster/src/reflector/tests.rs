//! The reflector against a server with a history, cuts, refusals, half lines, slow and silent answers.
//!
//! In:    seeds
//! Out:   every state that the reflector showed, held against the server's own
//! Calls: cargo test
//! Holds: in the end the copy equals the server's set; every state between was one that the server had, at that version
//! Upstream: none

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Response;
use hyper::body::Bytes;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::*;
use crate::testing::{Body, Seen, Server, answer, raw, status, status_object, streamed};

/// name → resource version of the object.
type State = BTreeMap<String, u64>;

/// A set with its whole history.
struct History {
    states: BTreeMap<u64, State>,
    events: Vec<(u64, &'static str, String)>,
    version: u64,
    compacted: u64,
    bell: watch::Sender<u64>,
    dice: Dice,
    faults: bool,
    can_stream: bool,
    counts: BTreeMap<&'static str, u64>,
}

#[derive(Clone)]
struct Model(Arc<Mutex<History>>);

impl Model {
    fn new(seed: u64, can_stream: bool) -> Self {
        Self(Arc::new(Mutex::new(History {
            states: BTreeMap::from([(1, State::new())]),
            events: Vec::new(),
            version: 1,
            compacted: 0,
            bell: watch::Sender::new(1),
            dice: Dice::new(seed),
            faults: true,
            can_stream,
            counts: BTreeMap::new(),
        })))
    }

    fn with<R>(&self, change: impl FnOnce(&mut History) -> R) -> R {
        change(&mut self.0.lock().unwrap())
    }

    fn roll(&self, percent: u64) -> bool {
        self.with(|history| history.faults && history.dice.bits() % 100 < percent)
    }

    fn count(&self, what: &'static str) {
        self.with(|history| *history.counts.entry(what).or_default() += 1);
    }

    /// One random change of the set.
    fn change(&self) {
        self.with(|history| {
            let name = format!("m{}", history.dice.bits() % 12);
            let mut state = history.states[&history.version].clone();
            // Other kinds of the server count, too.
            history.version += 1 + history.dice.bits() % 3;
            let version = history.version;
            let is_gone = state.contains_key(&name) && history.dice.bits().is_multiple_of(3);
            let kind = if is_gone {
                state.remove(&name);
                "DELETED"
            } else if state.insert(name.clone(), version).is_some() {
                "MODIFIED"
            } else {
                "ADDED"
            };
            history.events.push((version, kind, name));
            history.states.insert(version, state);
            if history.dice.bits().is_multiple_of(15) {
                history.compacted = version.saturating_sub(2);
            }
            history.bell.send_replace(version);
        });
    }

    fn state_at(&self, version: u64) -> State {
        self.with(|history| {
            history
                .states
                .range(..=version)
                .next_back()
                .unwrap()
                .1
                .clone()
        })
    }

    fn version(&self) -> u64 {
        self.with(|history| history.version)
    }

    async fn answer(self, seen: Seen) -> Response<Body> {
        if self.roll(4) {
            self.count("silent");
            std::future::pending::<()>().await;
        }
        if self.roll(6) {
            self.count("slow");
            let seconds = self.with(|history| history.dice.bits() % 50);
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
        if self.roll(6) {
            self.count("429");
            let mut response = status(429, "TooManyRequests");
            response
                .headers_mut()
                .insert("retry-after", "2".parse().unwrap());
            return response;
        }
        if self.roll(4) {
            self.count("500");
            return status(500, "InternalError");
        }
        if seen.parameter("watch").is_none() {
            return self.list(&seen);
        }
        if seen.parameter("sendInitialEvents").is_some() && !self.with(|history| history.can_stream)
        {
            return status(422, "Invalid");
        }
        if self.roll(5) {
            self.count("410");
            return status(410, "Expired");
        }
        self.watch(&seen)
    }

    fn list(&self, seen: &Seen) -> Response<Body> {
        let limit: usize = seen.parameter("limit").map_or(usize::MAX, |_| 3);
        let (version, after) = match seen.parameter("continue") {
            Some(token) => {
                let (version, after) = token.split_once('_').unwrap();
                (version.parse().unwrap(), after.to_owned())
            }
            None => (self.version(), String::new()),
        };
        let is_old = version < self.with(|history| history.compacted);
        if is_old || seen.parameter("continue").is_some() && self.roll(8) {
            self.count("expired page");
            return status(410, "Expired");
        }
        let state = self.state_at(version);
        let rest: Vec<_> = state.iter().filter(|(name, _)| **name > after).collect();
        let page: Vec<Value> = rest
            .iter()
            .take(limit)
            .map(|(name, version)| object(name, **version))
            .collect();
        let mut metadata = json!({ "resourceVersion": version.to_string() });
        if rest.len() > limit {
            metadata["continue"] = json!(format!("{version}_{}", rest[limit - 1].0));
        }
        let body =
            json!({ "kind": "ConfigMapList", "metadata": metadata, "items": page }).to_string();
        if self.roll(3) {
            self.count("half list");
            return raw(200, body.as_bytes()[..body.len() / 2].to_vec());
        }
        answer(200, &serde_json::from_str(&body).unwrap())
    }

    fn watch(&self, seen: &Seen) -> Response<Body> {
        let (sender, response) = streamed();
        let first = seen.parameter("sendInitialEvents").is_some();
        let from: u64 = seen
            .parameter("resourceVersion")
            .unwrap()
            .parse()
            .unwrap_or(0);
        let limit: u64 = seen.parameter("timeoutSeconds").unwrap().parse().unwrap();
        let model = self.clone();
        hyper::rt::Executor::execute(&hyper_util::rt::TokioExecutor::new(), async move {
            let sent = model.stream(sender, first, from);
            let _ended = tokio::time::timeout(Duration::from_secs(limit), sent).await;
        });
        response
    }

    async fn stream(self, sender: mpsc::Sender<std::io::Result<Bytes>>, first: bool, from: u64) {
        let mut bell = self.with(|history| history.bell.subscribe());
        let mut at = from;
        if first {
            at = self.version();
            for (name, version) in self.state_at(at) {
                if !self
                    .write(&sender, &line("ADDED", object(&name, version)))
                    .await
                {
                    return;
                }
            }
            let annotations = json!({ "k8s.io/initial-events-end": "true" });
            let metadata = json!({ "resourceVersion": at.to_string(), "annotations": annotations });
            if !self
                .write(&sender, &line("BOOKMARK", json!({ "metadata": metadata })))
                .await
            {
                return;
            }
        }
        if at < self.with(|history| history.compacted) {
            self.count("error event");
            self.write(&sender, &line("ERROR", status_object(410, "Expired")))
                .await;
            return;
        }
        loop {
            let next = self.with(|history| {
                let mut events = history.events.iter();
                events.find(|(version, ..)| *version > at).cloned()
            });
            let Some((version, kind, name)) = next else {
                if self.roll(20) {
                    let metadata = json!({ "resourceVersion": at.to_string() });
                    let bookmark = line("BOOKMARK", json!({ "metadata": metadata }));
                    if !self.write(&sender, &bookmark).await {
                        return;
                    }
                }
                if bell.changed().await.is_err() {
                    return;
                }
                continue;
            };
            at = version;
            if !self
                .write(&sender, &line(kind, object(&name, version)))
                .await
            {
                return;
            }
        }
    }

    /// Writes a line, whole or not; false when the stream is over.
    async fn write(&self, sender: &mpsc::Sender<std::io::Result<Bytes>>, text: &str) -> bool {
        let half = Bytes::copy_from_slice(&text.as_bytes()[..text.len() / 2]);
        if self.roll(3) {
            self.count("half line, then cut");
            let _sent = sender.send(Ok(half)).await;
            let _cut = sender
                .send(Err(std::io::ErrorKind::ConnectionReset.into()))
                .await;
            return false;
        }
        if self.roll(3) {
            self.count("half line, then a clean end");
            let _sent = sender.send(Ok(half)).await;
            return false;
        }
        if self.roll(2) {
            self.count("half line, then silence");
            let _sent = sender.send(Ok(half)).await;
            std::future::pending::<()>().await;
        }
        if self.roll(3) {
            self.count("clean end");
            return false;
        }
        sender
            .send(Ok(Bytes::copy_from_slice(text.as_bytes())))
            .await
            .is_ok()
    }
}

fn object(name: &str, version: u64) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "v": version.to_string() }, "metadata": {
        "name": name, "namespace": "n", "uid": name, "resourceVersion": version.to_string() } })
}

fn line(kind: &str, object: Value) -> String {
    format!("{}\n", json!({ "type": kind, "object": object }))
}

fn shown(snapshot: &Snapshot<ConfigMap>) -> State {
    let of = |map: &ConfigMap| -> u64 { map.data.as_ref().unwrap()["v"].parse().unwrap() };
    snapshot
        .objects
        .iter()
        .map(|(key, map)| (key.name.clone(), of(map)))
        .collect()
}

/// One run; what happened in it, counted.
async fn run(seed: u64, first: FirstSet, can_stream: bool) -> BTreeMap<&'static str, u64> {
    let model = Model::new(seed, can_stream);
    let served = model.clone();
    let server = Server::new(move |seen| served.clone().answer(seen));
    let (changes, mut changed) = mpsc::channel(1);
    let selection = Selection {
        namespace: Some("n".to_owned()),
        ..Selection::default()
    };
    let (reflector, snapshots) =
        Reflector::<ConfigMap>::new(server.client(), selection, first, Dice::new(seed));
    let reflector = reflector.with_changes(changes).run();
    let (mut seen_changes, mut replayed) = (0_u64, State::new());
    let check = |snapshots: &Snapshots<ConfigMap>| {
        let snapshot = snapshots.borrow().clone().unwrap();
        let version = snapshot.resource_version.parse().unwrap();
        assert_eq!(
            shown(&snapshot),
            model.state_at(version),
            "seed {seed}, version {version}"
        );
    };
    let mut arriving = snapshots.clone();
    let script = async {
        for _ in 0..150 {
            let wait = model.with(|history| history.dice.bits() % 40_000);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            model.change();
        }
        model.with(|history| history.faults = false);
        let end = Instant::now() + Duration::from_secs(1200);
        let wanted = model.version();
        let arrived = arriving.wait_for(|shown| {
            shown
                .as_ref()
                .is_some_and(|set| set.resource_version == wanted.to_string())
        });
        tokio::time::timeout_at(end, arrived)
            .await
            .expect("the copy catches up")
            .unwrap();
        // Changes are handed over after the set shows them.
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    let follow = async {
        while let Some(change) = changed.recv().await {
            seen_changes += 1;
            match change {
                Change::Applied(map) => {
                    let version = map.data.as_ref().unwrap()["v"].parse().unwrap();
                    replayed.insert(map.metadata.name.clone().unwrap(), version);
                }
                Change::Deleted(map) => drop(replayed.remove(map.metadata.name.as_ref().unwrap())),
            }
        }
    };
    let mut watcher = snapshots.clone();
    let look = async {
        while watcher.changed().await.is_ok() {
            check(&watcher);
        }
    };
    tokio::select! {
        () = reflector => unreachable!("a reflector does not end"),
        () = follow => unreachable!("changes do not end"),
        () = look => unreachable!("snapshots do not end"),
        () = script => {}
    }
    let snapshot = snapshots.borrow().clone().unwrap();
    assert_eq!(
        shown(&snapshot),
        model.state_at(model.version()),
        "seed {seed}"
    );
    assert_eq!(
        replayed,
        shown(&snapshot),
        "the changes add up to the set, seed {seed}"
    );
    assert!(seen_changes > 30, "seed {seed}: {seen_changes}");
    model.with(|history| history.counts.clone())
}

/// Many seeds; every kind of fault was met.
fn runs(
    seeds: std::ops::Range<u64>,
    first: FirstSet,
    can_stream: bool,
) -> BTreeMap<&'static str, u64> {
    let mut all = BTreeMap::new();
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        for (what, count) in runtime.block_on(run(seed, first, can_stream)) {
            *all.entry(what).or_default() += count;
        }
    }
    all
}

#[test]
fn a_paged_copy_is_never_wrong_and_right_in_the_end() {
    let met = runs(0..60, FirstSet::Paged, false);
    for fault in [
        "silent",
        "slow",
        "429",
        "500",
        "410",
        "expired page",
        "half list",
        "error event",
        "half line, then cut",
        "half line, then a clean end",
        "half line, then silence",
        "clean end",
    ] {
        assert!(
            met.get(fault).is_some_and(|count| *count > 0),
            "{fault}: {met:?}"
        );
    }
}

#[test]
fn a_streamed_copy_is_never_wrong_and_right_in_the_end() {
    runs(100..160, FirstSet::Streamed, true);
}

#[test]
fn a_server_that_does_not_stream_is_listed_by_pages() {
    let met = runs(200..220, FirstSet::Streamed, false);
    assert!(
        met.contains_key("expired page") || met.contains_key("half list"),
        "{met:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_keeps_its_last_good_form_and_is_named() {
    let (lines, lines_of) = mpsc::channel::<String>(4);
    let lines_of = Arc::new(tokio::sync::Mutex::new(lines_of));
    let server = Server::new(move |seen| {
        let lines_of = Arc::clone(&lines_of);
        async move {
            if seen.parameter("watch").is_none() {
                let items = json!([object("a", 1), { "metadata": { "name": "b", "namespace": "n" }, "data": 5 }]);
                return answer(
                    200,
                    &json!({ "metadata": { "resourceVersion": "1" }, "items": items }),
                );
            }
            let (sender, response) = streamed();
            hyper::rt::Executor::execute(&hyper_util::rt::TokioExecutor::new(), async move {
                while let Some(line) = lines_of.lock().await.recv().await {
                    sender.send(Ok(Bytes::from(line))).await.unwrap();
                }
            });
            response
        }
    });
    let (reflector, mut snapshots) = Reflector::<ConfigMap>::new(
        server.client(),
        Selection::default(),
        FirstSet::Paged,
        Dice::new(1),
    );
    let script = async {
        let has = |names: usize, bad: usize| {
            move |shown: &Option<Arc<Snapshot<ConfigMap>>>| {
                shown
                    .as_ref()
                    .is_some_and(|set| set.objects.len() == names && set.unreadable.len() == bad)
            }
        };
        snapshots.wait_for(has(1, 1)).await.unwrap();
        let bad = json!({ "metadata": { "name": "a", "namespace": "n", "resourceVersion": "2" }, "data": 5 });
        lines.send(line("MODIFIED", bad)).await.unwrap();
        let kept = snapshots
            .wait_for(has(1, 2))
            .await
            .unwrap()
            .clone()
            .unwrap();
        assert_eq!(kept.get("n", "a").unwrap().data.as_ref().unwrap()["v"], "1");
        lines.send(line("MODIFIED", object("a", 3))).await.unwrap();
        let good = snapshots
            .wait_for(has(1, 1))
            .await
            .unwrap()
            .clone()
            .unwrap();
        assert_eq!(good.get("n", "a").unwrap().data.as_ref().unwrap()["v"], "3");
    };
    tokio::select! {
        () = reflector.run() => unreachable!("a reflector does not end"),
        () = script => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_only_refuses_is_asked_less_and_less() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let times = Arc::clone(&asked);
    let server = Server::new(move |_| {
        times.lock().unwrap().push(Instant::now());
        async { status(403, "Forbidden") }
    });
    let (reflector, _snapshots) = Reflector::<ConfigMap>::new(
        server.client(),
        Selection::default(),
        FirstSet::Paged,
        Dice::new(1),
    );
    let phase = reflector.phase();
    let _over = tokio::time::timeout(Duration::from_secs(600), reflector.run()).await;
    let asked = asked.lock().unwrap();
    // 0.8 s doubling to 15 s, each with up to the same again.
    assert!(asked.len() > 20 && asked.len() < 45, "{}", asked.len());
    assert!(
        asked
            .windows(2)
            .all(|pair| pair[1] - pair[0] >= Duration::from_millis(800))
    );
    assert!(
        matches!(&*phase.borrow(), Phase::Waiting { why, .. } if why.contains("403 Forbidden"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_big_object_passes_and_a_line_without_end_is_given_up_in_words() {
    let server = Server::new(async |seen| {
        if seen.parameter("watch").is_none() {
            return answer(
                200,
                &json!({ "metadata": { "resourceVersion": "1" }, "items": [] }),
            );
        }
        let (sender, response) = streamed();
        let is_first = seen.parameter("resourceVersion") == Some("1");
        hyper::rt::Executor::execute(&hyper_util::rt::TokioExecutor::new(), async move {
            let mut big = object("big", 2);
            big["data"]["filling"] = json!("x".repeat(3 << 20));
            let text = if is_first {
                line("ADDED", big)
            } else {
                "x".repeat(40 << 20)
            };
            // Ends well after it; whoever gives up does not take the rest.
            let _taken = sender.send(Ok(Bytes::from(text))).await;
        });
        response
    });
    let (reflector, mut snapshots) = Reflector::<ConfigMap>::new(
        server.client(),
        Selection::default(),
        FirstSet::Paged,
        Dice::new(1),
    );
    let mut phase = reflector.phase();
    let script = async {
        let has_one = |shown: &Option<Arc<Snapshot<ConfigMap>>>| {
            shown.as_ref().is_some_and(|set| set.objects.len() == 1)
        };
        snapshots.wait_for(has_one).await.unwrap();
        let gave_up = |phase: &Phase| matches!(phase, Phase::Waiting { why, .. } if why.contains("longer than 33554432 bytes"));
        phase.wait_for(gave_up).await.unwrap();
        assert!(has_one(&snapshots.borrow()), "what was there stays");
    };
    tokio::select! {
        () = reflector.run() => unreachable!("a reflector does not end"),
        () = script => {}
    }
}

#[tokio::test]
async fn lists_of_a_kept_object_are_as_long_as_what_is_in_them() {
    let (mut keeper, snapshots) = Keeper::<Pod>::new();
    let spec = json!({ "containers": [{ "name": "c" }], "tolerations": [{ "key": "k" }] });
    let pod = json!({ "metadata": { "name": "p", "namespace": "n" }, "spec": spec });
    keeper
        .replace(Listed {
            version: "1".to_owned(),
            objects: vec![serde_json::value::to_raw_value(&pod).unwrap()],
        })
        .await;
    let set = snapshots.borrow().clone().unwrap();
    let spec = set.get("n", "p").unwrap().spec.as_ref().unwrap();
    let tolerations = spec.tolerations.as_ref().unwrap();
    assert_eq!((tolerations.len(), tolerations.capacity()), (1, 1));
}
