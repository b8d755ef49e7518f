//! Servers that refuse or do not know what a reflector asks for first: it gets its set by another way, and says what it lacks.
//!
//! In:    servers that refuse one kind of request in every way that there is
//! Out:   the set, within seconds; what is shown of a set that cannot be had
//! Calls: cargo test
//! Holds: whatever a stock client survives by another way is survived
//! Upstream: client-go/tools/cache/reflector_test.go, in what it looks at

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Response;
use hyper::body::Bytes;
use hyper::rt::Executor as _;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::ConfigMap;
use prometheus::Registry;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Body, Seen, Server, answer, raw, status, status_object, streamed};

/// What etcd before 3.4.25 and 3.5.8 makes the API server say.
const NO_PROGRESS: &str = "a watch stream was requested by the client but the required storage feature RequestWatchProgress is disabled";

fn object(name: &str, version: u64) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": name, "namespace": "n", "uid": name, "resourceVersion": version.to_string() } })
}

fn list() -> Response<Body> {
    let metadata = json!({ "resourceVersion": "1" });
    answer(
        200,
        &json!({ "metadata": metadata, "items": [object("a", 1)] }),
    )
}

fn line(kind: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({ "type": kind, "object": object })))
}

/// A stream of these, which then ends or lasts.
fn stream(lines: Vec<Bytes>, lasts: bool) -> Response<Body> {
    let (sender, response) = streamed();
    TokioExecutor::new().execute(async move {
        for line in lines {
            let _taken = sender.send(Ok(line)).await;
        }
        if lasts {
            sender.closed().await;
        }
    });
    response
}

/// A stream that brings something every few seconds and never ends.
fn trickle(kind: &'static str, object: Value) -> Response<Body> {
    let (sender, response) = streamed();
    TokioExecutor::new().execute(async move {
        while sender.send(Ok(line(kind, &object))).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
    });
    response
}

fn end_of_first(version: &str) -> Value {
    let annotations = json!({ "k8s.io/initial-events-end": "true" });
    json!({ "metadata": { "resourceVersion": version, "annotations": annotations } })
}

fn is_streamed(seen: &Seen) -> bool {
    seen.parameter("sendInitialEvents").is_some()
}

fn reflector(server: &Server) -> (Reflector<ConfigMap>, Snapshots<ConfigMap>, Sets) {
    let client = server.client();
    let sets = client.sets().clone();
    let (reflector, snapshots) = Reflector::<ConfigMap>::new(
        client,
        Selection::default(),
        FirstSet::Streamed,
        Dice::new(1),
    );
    (reflector.reported("maps"), snapshots, sets)
}

/// How long the first set takes at a server that answers streams so, and lists and watches as it should.
async fn had_after(refuse: impl Fn() -> Response<Body> + Send + Sync + 'static) -> Duration {
    let server = Server::new(move |seen| {
        let response = match (seen.parameter("watch"), is_streamed(&seen)) {
            (Some(_), true) => refuse(),
            (Some(_), false) => stream(Vec::new(), true),
            (None, _) => list(),
        };
        async { response }
    });
    let (reflector, mut snapshots, sets) = reflector(&server);
    let began = Instant::now();
    let had = tokio::select! {
        () = reflector.run() => unreachable!("a reflector does not end"),
        had = tokio::time::timeout(Duration::from_secs(300), snapshots.wait_for(Option::is_some)) => had,
    };
    let set = had.expect("the set is never had").unwrap().clone().unwrap();
    assert_eq!(set.objects.len(), 1);
    assert_eq!(sets.behind(), []);
    began.elapsed()
}

fn no_progress() -> Response<Body> {
    let mut said = status_object(500, "InternalError");
    said["message"] = json!(NO_PROGRESS);
    answer(500, &said)
}

#[tokio::test(start_paused = true)]
async fn a_set_that_cannot_be_streamed_for_whatever_reason_is_listed() {
    let at_once = Duration::from_millis(100);
    assert!(had_after(no_progress).await < at_once);
    for code in [
        400, 401, 403, 404, 405, 406, 409, 410, 415, 422, 429, 500, 501, 503, 504,
    ] {
        let took = had_after(move || status(code, "Scripted")).await;
        assert!(took < at_once, "{code}: {took:?}");
    }
    // A server that wants to be left alone is, and then asked in the other way.
    let busy = || {
        let mut response = status(429, "TooManyRequests");
        let headers = response.headers_mut();
        headers.insert("retry-after", "3".parse().unwrap());
        response
    };
    let took = had_after(busy).await;
    assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(5));
    let error = || {
        stream(
            vec![line("ERROR", &status_object(500, "InternalError"))],
            true,
        )
    };
    assert!(had_after(error).await < at_once);
    let expired = || stream(vec![line("ERROR", &status_object(410, "Expired"))], true);
    assert!(had_after(expired).await < at_once);
    let page = || raw(200, b"<html>sign in</html>\n".to_vec());
    assert!(had_after(page).await < at_once);
    let ends = || stream(vec![line("ADDED", &object("b", 1))], false);
    assert!(had_after(ends).await < at_once, "no bookmark, then the end");
    let long = || stream(vec![Bytes::from("x".repeat(33 << 20))], true);
    assert!(had_after(long).await < at_once, "a line without an end");
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_first_set_has_no_end_is_left_for_a_list() {
    // An older server does not know the options: this is a plain watch, on which nothing happens, or much.
    let silent = || stream(vec![line("ADDED", &object("b", 1))], true);
    assert!(had_after(silent).await <= Duration::from_secs(11));
    let busy = || trickle("MODIFIED", object("b", 1));
    assert!(had_after(busy).await <= Duration::from_secs(61));
    let marks = || {
        trickle(
            "BOOKMARK",
            json!({ "metadata": { "resourceVersion": "5" } }),
        )
    };
    assert!(had_after(marks).await <= Duration::from_secs(61));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_answered_is_left_for_a_list() {
    let server = Server::new(
        async |seen| match (seen.parameter("watch"), is_streamed(&seen)) {
            (Some(_), true) => std::future::pending().await,
            (Some(_), false) => stream(Vec::new(), true),
            (None, _) => list(),
        },
    );
    let (reflector, mut snapshots, _sets) = reflector(&server);
    tokio::select! {
        () = reflector.run() => unreachable!("a reflector does not end"),
        had = tokio::time::timeout(Duration::from_secs(16), snapshots.wait_for(Option::is_some)) => {
            had.expect("the set is listed").unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn streaming_is_tried_again_when_the_set_is_needed_anew_and_the_server_may_have_learnt_it() {
    let streams = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&streams);
    let began = Instant::now();
    let server = Server::new(move |seen| {
        let response = match (seen.parameter("watch"), is_streamed(&seen)) {
            (None, _) => list(),
            (Some(_), true) => {
                asked.lock().unwrap().push(began.elapsed().as_secs());
                match began.elapsed() < Duration::from_secs(900) {
                    true => no_progress(),
                    false => stream(vec![line("BOOKMARK", &end_of_first("9"))], true),
                }
            }
            // Every two minutes the version is too old, so that the set is needed anew.
            (Some(_), false) => {
                let (sender, response) = streamed();
                TokioExecutor::new().execute(async move {
                    tokio::time::sleep(Duration::from_secs(120)).await;
                    let expired = line("ERROR", &status_object(410, "Expired"));
                    let _taken = sender.send(Ok(expired)).await;
                });
                response
            }
        };
        async { response }
    });
    let (reflector, mut snapshots, _sets) = reflector(&server);
    let is_streamed = |set: &Option<Arc<Snapshot<ConfigMap>>>| {
        set.as_ref().is_some_and(|set| set.resource_version == "9")
    };
    tokio::select! {
        () = reflector.run() => unreachable!("a reflector does not end"),
        found = tokio::time::timeout(Duration::from_secs(3000), snapshots.wait_for(is_streamed)) => {
            found.expect("streaming is tried again").unwrap();
        }
    }
    let asked = streams.lock().unwrap().clone();
    assert_eq!(
        asked.len(),
        3,
        "at once, after 5 min, after 10 more: {asked:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_no_pages_or_no_bookmarks_is_listed_and_watched_all_the_same() {
    for code in [400, 422] {
        let server = Server::new(move |seen| {
            let response = match (seen.parameter("watch"), seen.parameter("limit")) {
                (Some(_), _) if is_streamed(&seen) => status(code, "Invalid"),
                (Some(_), _) => stream(vec![line("ADDED", &object("b", 2))], true),
                (None, Some(_)) => status(code, "Invalid"),
                (None, None) => list(),
            };
            async { response }
        });
        let (reflector, mut snapshots, sets) = reflector(&server);
        let both = |set: &Option<Arc<Snapshot<ConfigMap>>>| {
            set.as_ref().is_some_and(|set| set.objects.len() == 2)
        };
        tokio::select! {
            () = reflector.run() => unreachable!("a reflector does not end"),
            found = tokio::time::timeout(Duration::from_secs(20), snapshots.wait_for(both)) => {
                found.expect("listed and watched").unwrap();
            }
        }
        assert_eq!(sets.behind(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn events_of_unknown_types_change_nothing() {
    let server = Server::new(|seen| {
        let response = match seen.parameter("watch") {
            None => list(),
            Some(_) if is_streamed(&seen) => no_progress(),
            Some(_) => stream(
                vec![
                    line("RENAMED", &object("a", 7)),
                    line("ADDED", &object("b", 8)),
                ],
                true,
            ),
        };
        async { response }
    });
    let (reflector, mut snapshots, _sets) = reflector(&server);
    let has_b = |set: &Option<Arc<Snapshot<ConfigMap>>>| {
        set.as_ref().is_some_and(|set| set.get("n", "b").is_some())
    };
    let set = tokio::select! {
        () = reflector.run() => unreachable!("a reflector does not end"),
        set = snapshots.wait_for(has_b) => set.unwrap().clone().unwrap(),
    };
    let version = &set.get("n", "a").unwrap().metadata.resource_version;
    assert_eq!(version.as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn whatever_a_watch_says_of_its_end_the_set_stays_and_is_listed_anew_now_and_then() {
    let forbidden = status_object(403, "Forbidden");
    let ends = [
        status_object(500, "InternalError"),
        status_object(410, "Gone"),
        status_object(400, "BadRequest"),
        forbidden,
        json!({ "kind": "Unknown", "apiVersion": "v9" }),
        json!(5),
        Value::Null,
    ];
    for end in ends {
        let lists = Arc::new(Mutex::new(0_usize));
        let watches = Arc::new(Mutex::new(0_usize));
        let (listed, watched) = (Arc::clone(&lists), Arc::clone(&watches));
        let last = end.clone();
        let server = Server::new(move |seen| {
            let response = match seen.parameter("watch") {
                None => {
                    *listed.lock().unwrap() += 1;
                    list()
                }
                Some(_) if is_streamed(&seen) => status(400, "BadRequest"),
                Some(_) => {
                    *watched.lock().unwrap() += 1;
                    stream(vec![line("ERROR", &last)], false)
                }
            };
            async { response }
        });
        let (reflector, snapshots, _sets) = reflector(&server);
        let _over = tokio::time::timeout(Duration::from_secs(600), reflector.run()).await;
        let set = snapshots.borrow().clone().expect("the set stays");
        assert_eq!(set.objects.len(), 1);
        let (lists, watches) = (*lists.lock().unwrap(), *watches.lock().unwrap());
        assert!((2..=60).contains(&lists), "{end}: {lists} lists");
        assert!((2..=60).contains(&watches), "{end}: {watches} watches");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_without_end_is_given_up_in_words_that_name_the_set() {
    let server = Server::new(|_| {
        // Each page says that there is one more.
        let metadata = json!({ "resourceVersion": "1", "continue": "more" });
        let page = json!({ "metadata": metadata, "items": [object("a", 1)] });
        let response = answer(200, &page);
        async { response }
    });
    let (reflector, _snapshots) = Reflector::<ConfigMap>::new(
        server.client(),
        Selection::default(),
        FirstSet::Paged,
        Dice::new(1),
    );
    let mut phase = reflector.phase();
    let words = "the set of ConfigMap /api/v1/configmaps: it has more than 2000 pages";
    let gave_up =
        |phase: &Phase| matches!(phase, Phase::Waiting { why, .. } if why.contains(words));
    tokio::select! {
        () = reflector.run() => unreachable!("a reflector does not end"),
        found = tokio::time::timeout(Duration::from_secs(700), phase.wait_for(gave_up)) => {
            found.expect("it is given up").unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_that_is_not_had_is_told_of_after_ten_seconds_with_the_servers_words() {
    let is_open = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let opens = Arc::clone(&is_open);
    let server = Server::new(move |seen| {
        let is_open = opens.load(std::sync::atomic::Ordering::SeqCst);
        let response = match seen.parameter("watch") {
            _ if !is_open => status(403, "Forbidden"),
            None => list(),
            Some(_) if is_streamed(&seen) => no_progress(),
            Some(_) => stream(Vec::new(), true),
        };
        async { response }
    });
    let (reflector, mut snapshots, sets) = reflector(&server);
    let registry = Registry::new();
    sets.register(&registry).unwrap();
    let lasts = || {
        let families = registry.gather();
        let metric = families
            .first()
            .unwrap()
            .get_metric()
            .first()
            .unwrap()
            .clone();
        metric.get_gauge().get_value()
    };
    let script = async {
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(sets.behind(), []);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let behind = sets.behind();
        let [one] = behind.as_slice() else {
            panic!("{behind:?}");
        };
        assert_eq!((one.name, one.was_had), ("maps", false));
        assert_eq!(one.reachable, one.lasts);
        assert_eq!(
            one.to_string(),
            "maps of the API server have not been had: list: 403 Forbidden: Forbidden"
        );
        assert!((lasts() - 11.0).abs() < 0.1);
        let shown = sets.to_json();
        assert_eq!(shown[0]["current"], false);
        assert_eq!(shown[0]["why"], "list: 403 Forbidden: Forbidden");
        is_open.store(true, std::sync::atomic::Ordering::SeqCst);
        snapshots.wait_for(Option::is_some).await.unwrap();
        assert_eq!(sets.behind(), []);
        assert!(lasts() < 0.1);
        assert_eq!(sets.to_json()[0]["current"], true);
        // The watch is cut, and refused from then on: what was had grows old.
        is_open.store(false, std::sync::atomic::Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(1000)).await;
        let behind = sets.behind();
        assert!(behind.first().is_some_and(|one| one.was_had), "{behind:?}");
    };
    tokio::select! {
        () = reflector.run() => unreachable!("a reflector does not end"),
        () = script => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_that_may_be_listed_and_not_watched_stays_behind_until_its_watch_lasts() {
    let is_open = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let opens = Arc::clone(&is_open);
    let server = Server::new(move |seen| {
        let is_open = opens.load(std::sync::atomic::Ordering::SeqCst);
        let response = match seen.parameter("watch") {
            None => list(),
            Some(_) if is_streamed(&seen) || !is_open => status(403, "Forbidden"),
            Some(_) => stream(Vec::new(), true),
        };
        async { response }
    });
    let (reflector, _snapshots, sets) = reflector(&server);
    let script = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        for _ in 0..600 {
            let behind = sets.behind();
            assert!(behind.first().is_some_and(|one| one.was_had), "{behind:?}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        is_open.store(true, std::sync::atomic::Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(sets.behind(), []);
        assert_eq!(sets.to_json()[0]["current"], true);
    };
    tokio::select! {
        () = reflector.run() => unreachable!("a reflector does not end"),
        () = script => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_there_is_not_held_against_a_set() {
    let server = Server::new(|_| async { status(500, "InternalError") });
    server
        .is_down
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let (reflector, _snapshots, sets) = reflector(&server);
    let _over = tokio::time::timeout(Duration::from_secs(600), reflector.run()).await;
    // Gone with its reflector's end: the last word stays.
    let behind = sets.behind();
    let one = behind.first().unwrap();
    assert!(one.lasts >= Duration::from_secs(600), "{one:?}");
    assert!(one.reachable <= Duration::from_secs(31), "{one:?}");
}
