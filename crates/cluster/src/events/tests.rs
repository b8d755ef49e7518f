//! Events against a server that keeps them, under paused time; their form against the recorded ones.
//!
//! In:    recorded events (`parity/events.json`)
//! Out:   what the server has
//! Calls: cargo test
//! Holds: the server is the only witness
//! Upstream: client-go/tools/record/event_test.go, events_cache_test.go (which cases)

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::testing::{Server, answer, status};

const RECORDED: &str = include_str!("../../../../parity/events.json");

type Stored = Arc<Mutex<BTreeMap<String, Value>>>;

/// Keeps events by name, and counts calls.
fn server() -> (Server, Stored, Arc<AtomicUsize>) {
    let (stored, calls) = (Stored::default(), Arc::new(AtomicUsize::new(0)));
    let (kept, counted) = (Arc::clone(&stored), Arc::clone(&calls));
    let server = Server::new(move |seen| {
        counted.fetch_add(1, Ordering::SeqCst);
        let mut kept = kept.lock().unwrap();
        let body = seen.json();
        let response = match seen.method.as_str() {
            "POST" => {
                let name = body["metadata"]["name"].as_str().unwrap().to_owned();
                kept.insert(name, body.clone());
                answer(201, &body)
            }
            _ => {
                let name = seen.path.rsplit('/').next().unwrap();
                match kept.get_mut(name) {
                    None => status(404, "NotFound"),
                    Some(event) => {
                        for (field, value) in body.as_object().unwrap() {
                            event[field] = value.clone();
                        }
                        answer(200, event)
                    }
                }
            }
        };
        async { response }
    });
    (server, stored, calls)
}

fn pod(name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: Some("n".to_owned()),
        name: Some(name.to_owned()),
        uid: Some(format!("uid-{name}")),
        ..ObjectReference::default()
    }
}

/// Runs a script beside the sender, then waits until the queue is worked off.
async fn sent(server: &Server, script: impl AsyncFnOnce(&EventRecorder)) -> EventCounts {
    let client = server.client();
    let clock = client.clock().clone();
    let (recorder, mut sender) = events(Some(client), clock, "bench", Dice::new(1));
    let kept = recorder.clone();
    let script = async move {
        script(&recorder).await;
        drop(recorder);
    };
    // The sender ends when the last recorder is gone; one is kept only for its counts.
    let counts = Arc::clone(&kept.counts);
    drop(kept);
    tokio::join!(script, sender.run());
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    EventCounts {
        dropped: read(&counts.dropped),
        sent: read(&counts.sent),
        failed: read(&counts.failed),
        filtered: read(&counts.filtered),
    }
}

#[tokio::test(start_paused = true)]
async fn events_look_as_the_recorded_ones() {
    let (server, stored, _) = server();
    let recorded: Vec<Value> = serde_json::from_str(RECORDED).unwrap();
    let all = recorded.clone();
    sent(&server, async move |recorder| {
        for one in &all {
            let text = |field: &str| one[field].as_str().unwrap();
            let type_ = if text("type") == "Normal" {
                EventType::Normal
            } else {
                EventType::Warning
            };
            let about = match text("kind") {
                "Node" => node_reference("bench"),
                _ => ObjectReference {
                    field_path: one["fieldPath"].as_str().map(str::to_owned),
                    ..pod("p")
                },
            };
            recorder
                .record(about, type_, text("reason"), text("message"))
                .unwrap();
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
    })
    .await;
    let mut stored: Vec<Value> = stored.lock().unwrap().values().cloned().collect();
    stored.sort_by_key(|event| event["firstTimestamp"].as_str().unwrap().to_owned());
    let shown: Vec<Value> = stored
        .iter()
        .map(|event| {
            json!({
                "kind": event["involvedObject"]["kind"], "reason": event["reason"], "type": event["type"],
                "message": event["message"], "fieldPath": event["involvedObject"]["fieldPath"],
                "source": event["source"], "reportingComponent": event["reportingComponent"],
            })
        })
        .collect();
    assert_eq!(shown, recorded);
    assert_eq!(stored[0]["metadata"]["namespace"], "default");
    assert_eq!(stored[0]["involvedObject"]["uid"], Value::Null);
    assert_eq!(stored[0]["count"], 1);
}

#[tokio::test(start_paused = true)]
async fn an_equal_event_is_counted_up_and_one_that_aged_away_is_made_again() {
    let (server, stored, _) = server();
    let kept = Arc::clone(&stored);
    sent(&server, async move |recorder| {
        for _ in 0..3 {
            recorder
                .record(pod("a"), EventType::Warning, "BackOff", "again")
                .unwrap();
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        let first = kept.lock().unwrap().pop_first().unwrap().1;
        assert_eq!(
            (&first["count"], &first["firstTimestamp"]),
            (&json!(3), &json!("2026-11-25T12:00:00Z"))
        );
        assert_eq!(first["lastTimestamp"], "2026-11-25T12:00:20Z");
        recorder
            .record(pod("a"), EventType::Warning, "BackOff", "again")
            .unwrap();
    })
    .await;
    let stored = stored.lock().unwrap();
    let (name, again) = stored.first_key_value().unwrap();
    assert_eq!((stored.len(), &again["count"]), (1, &json!(4)));
    let nanos: Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
    assert_eq!(*name, format!("a.{:x}", nanos.as_nanosecond()));
}

#[tokio::test(start_paused = true)]
async fn similar_events_are_combined_from_the_tenth_text_on() {
    let (server, stored, _) = server();
    sent(&server, async |recorder| {
        for number in 0..20 {
            recorder
                .record(
                    pod("a"),
                    EventType::Warning,
                    "Unhealthy",
                    format!("probe {number}"),
                )
                .unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
    let stored = stored.lock().unwrap();
    let combined: Vec<&Value> = stored
        .values()
        .filter(|event| {
            event["message"]
                .as_str()
                .unwrap()
                .starts_with("(combined from similar events): ")
        })
        .collect();
    assert_eq!((stored.len(), combined.len()), (10, 1));
    assert_eq!(combined[0]["count"], 11);
    assert_eq!(
        combined[0]["message"],
        "(combined from similar events): probe 19"
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_has_twenty_five_events_at_once_then_one_each_five_minutes() {
    let (server, _, calls) = server();
    let counts = sent(&server, async |recorder| {
        for _ in 0..100 {
            recorder
                .record(pod("noisy"), EventType::Normal, "Same", "same")
                .unwrap();
        }
        recorder
            .record(pod("quiet"), EventType::Normal, "Same", "same")
            .unwrap();
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_secs(151)).await;
            recorder
                .record(pod("noisy"), EventType::Normal, "Same", "same")
                .unwrap();
        }
    })
    .await;
    assert_eq!(calls.load(Ordering::SeqCst), 25 + 1 + 2);
    assert_eq!((counts.filtered, counts.sent), (75 + 2, 28));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_tried_for_two_minutes_and_recording_never_waits() {
    let (server, stored, _) = server();
    server.is_down.store(true, Ordering::SeqCst);
    let down = Arc::clone(&server.is_down);
    let counts = sent(&server, async move |recorder| {
        let began = Instant::now();
        for number in 0..1500 {
            let fits = recorder.record(pod(&format!("p{number}")), EventType::Normal, "R", "m");
            assert_eq!(fits.is_ok(), number < 1000);
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        tokio::time::sleep(Duration::from_secs(60)).await;
        down.store(false, Ordering::SeqCst);
    })
    .await;
    assert_eq!(
        counts,
        EventCounts {
            dropped: 500,
            sent: 1000,
            failed: 0,
            filtered: 0
        }
    );
    assert_eq!(stored.lock().unwrap().len(), 1000);

    let (refusing, calls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let _unused = refusing;
    let counted = Arc::clone(&calls);
    let forbidding = Server::new(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { status(403, "Forbidden") }
    });
    let counts = sent(&forbidding, async |recorder| {
        recorder
            .record(pod("a"), EventType::Normal, "R", "m")
            .unwrap();
    })
    .await;
    assert_eq!((counts.failed, calls.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn without_a_cluster_events_are_only_logged() {
    let clock = WallClock::new(|| Timestamp::UNIX_EPOCH);
    let (recorder, mut sender) = events(None, clock, "bench", Dice::new(1));
    for _ in 0..10 {
        recorder
            .record(
                node_reference("bench"),
                EventType::Normal,
                "Starting",
                "Starting kubelet.",
            )
            .unwrap();
    }
    let counts = recorder.clone();
    drop(recorder);
    tokio::time::timeout(Duration::from_secs(1), async {
        tokio::select! {
            () = sender.run() => {}
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
    })
    .await
    .unwrap();
    assert_eq!(counts.counts(), EventCounts::default());
}
