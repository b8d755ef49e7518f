//! Many requests at a time, and slow or stalled clients: the responses, and the cost.
//!
//! In:    lists and watches that nobody reads, slow bodies, more requests than may be in flight
//! Out:   429 beyond the limits, administrators served meanwhile, the memory of the process
//! Upstream: staging/src/k8s.io/apiserver/pkg/server/filters/maxinflight_test.go (1.36)

use std::sync::atomic::AtomicUsize;

use futures_util::{StreamExt as _, stream};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::proxy::{Served, spawn};
use super::*;
use crate::base::pace::{Pace, SLICE};

/// The memory that a flood may cost.
const BOUND: usize = 64 << 20;

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn shown(what: &str, before: usize) {
    let held = resident().saturating_sub(before);
    println!("{what}: memory grew by {} KiB", held >> 10);
    assert!(held < BOUND, "{what}: {held} bytes");
}

#[tokio::test(start_paused = true)]
async fn beyond_what_may_be_in_flight_is_429_but_for_administrators() {
    let limits = Limits {
        reading: 1,
        changing: 1,
        staying: 2,
        ..Limits::default()
    };
    let world = World::limited(limits);
    world.settle().await;
    let node = User::node("n");
    let send = async |user: &User, line: &str| {
        let (method, path) = line.split_once(' ').unwrap();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Full::new(Bytes::new()))
            .unwrap();
        let mut service = world.server.service_as(user.clone());
        service.call(request).await.unwrap()
    };
    for line in ["GET /api/v1/services", "GET /api/v1/services?watch=1"] {
        let held = send(&node, line).await;
        assert_eq!(held.status(), 200, "{line}");
        let refused = send(&node, line).await;
        assert_eq!(refused.status(), 429, "{line}");
        assert_eq!(refused.headers()["retry-after"], "1");
        let body = refused.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "Too many requests, please try again later.\n");
        let admin = send(&User::admin(), line).await;
        assert_eq!(admin.status(), 200, "{line}");
        drop(admin);
        drop(held);
        assert_eq!(send(&node, line).await.status(), 200, "{line}");
    }
    // Health and discovery are not requests on a resource.
    let held = send(&node, "GET /api/v1/services").await;
    for line in ["GET /readyz", "GET /apis", "GET /api/v1"] {
        assert_eq!(send(&node, line).await.status(), 200, "{line}");
    }
    drop(held);
}

#[tokio::test]
async fn silent_connections_do_not_shut_the_port() {
    let (served, _) = Served::new().await;
    let before = resident();
    let mut silent = Vec::new();
    for _ in 0..1100 {
        let connected = tokio::net::TcpStream::connect(served.address).await;
        silent.push(connected.unwrap());
    }
    let begin = std::time::Instant::now();
    for path in ["/healthz", "/livez", "/readyz"] {
        let head = format!("GET {path} HTTP/1.1\r\nConnection: close");
        let health = served.raw(None, &head, "").await;
        assert!(health.starts_with("HTTP/1.1 200"), "{path}: {health}");
    }
    assert!(begin.elapsed().as_secs() < 10, "they waited");
    shown("silence", before);
    served.world.stop.cancel();
}

/// Sends requests on so many connections and streams, and reads only the heads. The result must be kept alive.
async fn ask_unread(
    served: &Served,
    client: &crate::identity::authority::Pair,
    path: &str,
) -> Vec<hyper::Response<hyper::body::Incoming>> {
    let mut held = Vec::new();
    for _ in 0..4 {
        let stream = served.connect_for(Some(client), b"h2").await;
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(1000);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        spawn(async move { drop(connection.await) });
        for _ in 0..50 {
            let uri = format!("https://localhost{path}");
            let request = Request::get(uri).body(Full::<Bytes>::default()).unwrap();
            sender.ready().await.unwrap();
            held.push(sender.send_request(request).await.unwrap());
        }
    }
    held
}

#[tokio::test]
async fn lists_and_watches_that_nobody_reads_hold_next_to_nothing() {
    let (served, admin) = Served::new().await;
    let data = json!({"x": "x".repeat(100 << 10)});
    for n in 0..40 {
        let made = config_map(&format!("n{n}"), &data);
        served
            .world
            .do_it(&format!("POST {CONFIG_MAPS}"), made)
            .await;
    }
    for path in [CONFIG_MAPS.to_owned(), format!("{CONFIG_MAPS}?watch=1")] {
        let before = resident();
        let held = ask_unread(&served, &admin, &path).await;
        assert!(held.iter().all(|answer| answer.status() == 200));
        // Changes that the watches would have to send.
        for n in 0..20 {
            let change = json!({"data": {"y": n.to_string()}});
            let line = format!("PATCH {CONFIG_MAPS}/n{n}");
            served.world.do_it(&line, change).await;
        }
        shown(&path, before);
        let head = "GET /healthz HTTP/1.1\r\nConnection: close";
        let health = served.raw(None, head, "").await;
        assert!(health.starts_with("HTTP/1.1 200"), "{health}");
        drop(held);
    }
    // A long list that is read arrives completely.
    let list = served.world.get(CONFIG_MAPS).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 41);
    assert_eq!(list["kind"], "ConfigMapList");
    served.world.stop.cancel();
}

#[tokio::test]
async fn slow_bodies_of_somebody_without_rights_are_bounded() {
    let (served, admin) = Served::new().await;
    let before = resident();
    let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let length = 3_000_000;
    let head = format!(
        "POST {review} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret-token\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    let part = vec![b' '; length - 1];
    let (mut held, mut taken, mut refused) = (Vec::new(), 0, 0);
    for _ in 0..60 {
        let mut stream = served.connect_for(None, b"http/1.1").await;
        stream.write_all(head.as_bytes()).await.unwrap();
        // Refused in the middle, or accepted and waited for.
        drop(stream.write_all(&part).await);
        let mut answer = vec![0; 4096];
        let read = stream.read(&mut answer);
        match tokio::time::timeout(Duration::from_secs(2), read).await {
            Err(_) => taken += 1,
            Ok(Ok(count @ 1..)) => {
                let text = String::from_utf8_lossy(&answer[..count]).into_owned();
                assert!(text.starts_with("HTTP/1.1 429"), "{text}");
                assert!(text.to_lowercase().contains("retry-after: 1"), "{text}");
                refused += 1;
            }
            // So much data was in flight that the connection ended before the response.
            Ok(_) => {}
        }
        held.push(stream);
    }
    println!("of 60 bodies {taken} were taken, {refused} refused with 429 that arrived");
    assert!(taken <= 3 && refused > 0, "{taken} {refused}");
    shown("slow bodies", before);
    // An administrator is served meanwhile.
    let body = r#"{"spec":{"nonResourceAttributes":{"path":"/","verb":"get"}}}"#;
    let head = format!(
        "POST {review} HTTP/1.1\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}",
        body.len()
    );
    let answer = served.raw(Some(&admin), &head, body).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    served.world.stop.cancel();
}

#[tokio::test]
async fn a_body_is_not_read_before_its_sender_may_do_what_it_asks() {
    let (served, _) = Served::new().await;
    let mut stream = served.connect_for(None, b"http/1.1").await;
    // The body never arrives, and the server does not wait for it.
    let head = format!(
        "POST {PODS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret-token\r\nContent-Length: 1000000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The server closes the connection.
    drop(stream.read_to_end(&mut answer).await);
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(text.starts_with("HTTP/1.1 403"), "{text}");
    assert!(text.to_lowercase().contains("connection: close"), "{text}");
    served.world.stop.cancel();
}

#[tokio::test]
async fn long_lists_do_not_wait_for_long_writes() {
    let world = World::new().await;
    for n in 0..201 {
        let made = json!({"metadata": {"name": format!("n{n}"), "namespace": "default"}});
        world.put("configmaps", made).await;
    }
    let turns = &world.server.0.turns;
    // Two writes whose disk hangs.
    let writes = Arc::clone(turns.of("update"));
    let held = writes.acquire_many_owned(2).await.unwrap();
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let line = format!("GET {CONFIG_MAPS}");
    let admin = User::admin();
    let list = world.send(&admin, &line, &Value::Null, table);
    let listed = tokio::time::timeout(Duration::from_secs(30), list).await;
    assert_eq!(listed.expect("the list waited").0, 200);
    let large = config_map("large", &json!({"x": "x".repeat(100 << 10)}));
    let line = format!("POST {CONFIG_MAPS}");
    let create = world.send(&admin, &line, &large, "");
    let created = tokio::time::timeout(Duration::from_millis(500), create).await;
    assert!(created.is_err(), "a long write waits for its turn");
    drop(held);
}

#[tokio::test]
async fn a_long_write_whose_disk_hangs_holds_no_turn() {
    let gate = crate::store::tests::Gate::default();
    let world = World::made(Limits::default(), |parts| {
        parts.store = Store::gated(&gate, selectable_fields);
    });
    world.settle().await;
    gate.shut();
    let large = |name: &str| config_map(name, &json!({"x": "x".repeat(100 << 10)}));
    let (admin, line) = (User::admin(), format!("POST {CONFIG_MAPS}"));
    let (a, b, c) = (large("a"), large("b"), large("c"));
    let mut hanging = std::pin::pin!(futures_util::future::join_all([
        world.send(&admin, &line, &a, ""),
        world.send(&admin, &line, &b, ""),
        world.send(&admin, &line, &c, ""),
    ]));
    // As large as the others, but independent of the disk.
    let (dry, other) = (format!("{line}?dryRun=All"), large("d"));
    let free = async {
        while !gate.is_reached() {
            tokio::task::yield_now().await;
        }
        world.send(&admin, &dry, &other, "").await
    };
    let free = tokio::time::timeout(Duration::from_secs(20), free);
    let code = tokio::select! {
        biased;
        _ = &mut hanging => None,
        done = free => done.ok().map(|(code, _)| code),
    };
    gate.open();
    assert_eq!(code, Some(201), "it waited for the disk");
    let done = tokio::time::timeout(Duration::from_secs(30), hanging).await;
    let codes: Vec<u16> = done.unwrap().into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, [201; 3]);
}

/// So many responses of six slices each. The third one stops reading after its first slice.
fn read_long_answers(pace: &Arc<Pace>, given: &Arc<AtomicUsize>, ended: &Arc<AtomicUsize>) {
    for number in 0..50 {
        let (given, ended) = (Arc::clone(given), Arc::clone(ended));
        let parts = stream::iter((0..4).map(|_| Bytes::from(vec![7; 3 * SLICE / 2])));
        let slices = Pace::slices(Arc::clone(pace), parts.boxed());
        spawn(async move {
            let mut slices = std::pin::pin!(slices);
            let mut bytes = 0;
            while let Some(slice) = slices.next().await {
                assert!(slice.len() <= SLICE);
                given.fetch_add(slice.len(), Ordering::Relaxed);
                bytes += slice.len();
                if number == 3 {
                    std::future::pending().await
                }
            }
            assert_eq!(bytes, 6 * SLICE);
            ended.fetch_add(1, Ordering::Relaxed);
        });
    }
}

#[tokio::test]
async fn a_short_answer_waits_for_few_slices_of_long_ones_and_all_get_on() {
    let (pace, given, ended) = (Arc::<Pace>::default(), Arc::default(), Arc::default());
    let runs = Arc::clone(&pace);
    spawn(async move { runs.run().await });
    tokio::task::yield_now().await;
    read_long_answers(&pace, &given, &ended);
    // The first slice of each response needs no turn.
    while given.load(Ordering::Relaxed) < 50 * SLICE {
        tokio::task::yield_now().await;
    }
    let (mut most, mut rounds) = (0, 0);
    while ended.load(Ordering::Relaxed) < 49 {
        let before = given.load(Ordering::Relaxed);
        tokio::task::yield_now().await;
        most = most.max(given.load(Ordering::Relaxed) - before);
        rounds += 1;
    }
    assert!(most <= 2 * SLICE, "{most} bytes in one of {rounds} rounds");
    assert!(rounds > 100, "all was given in {rounds} rounds");
    // Without the task that gives turns, nobody waits.
    let parts = stream::iter([Bytes::from(vec![7; 3 * SLICE])]);
    let slices = Pace::slices(Arc::default(), parts.boxed());
    assert_eq!(slices.count().await, 3);
}
