//! Limits of one client: depth, size, numbers and time.
//!
//! In:    requests that exceed a limit
//! Out:   refusals; a server that keeps working, and a store that can be read
//! Upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/patch.go, pkg/server/config.go (1.36)

use std::time::Instant;

use super::*;
use crate::base::bounds::read_kept;

const MAP: &str = "/api/v1/namespaces/default/configmaps/m";

/// Reads everything in the store as at the next start.
fn assert_readable(world: &World) {
    for object in world.server.0.registry.store.list("").objects {
        let read = read_kept(&object.bytes);
        assert!(read.is_ok(), "{}: {read:?}", object.key);
    }
}

/// A JSON patch of a few bytes per level that nests lists in an unknown field.
fn nesting(levels: usize) -> Value {
    const PART: usize = 60;
    let part: Value =
        serde_json::from_str(&format!("{}{}", "[".repeat(PART), "]".repeat(PART))).unwrap();
    let mut operations = vec![json!({"op": "add", "path": "/x", "value": part})];
    for at in (PART..levels).step_by(PART) {
        let path = format!("/x{}/-", "/0".repeat(at - 1));
        operations.push(json!({"op": "add", "path": path, "value": part}));
    }
    operations.into()
}

/// Runs on a stack with room for a hundred levels, but not for a thousand.
fn on_a_small_stack(test: impl FnOnce(&tokio::runtime::Runtime) + Send + 'static) {
    let work = move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().thread_stack_size(STACK).build();
        test(&runtime.unwrap());
    };
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(work);
    thread.unwrap().join().unwrap();
}

const STACK: usize = 1 << 20;

#[test]
fn no_patch_nests_deeper_than_the_store_reads() {
    on_a_small_stack(|runtime| {
        runtime.block_on(async {
            let world = World::bare();
            world
                .do_it(
                    "POST /api/v1/namespaces",
                    json!({"metadata": {"name": "default"}}),
                )
                .await;
            world
                .do_it(&format!("POST {CONFIG_MAPS}"), config_map("m", &json!({})))
                .await;
            for levels in [120, 200, 900] {
                let (code, _) = world
                    .ask(&format!("PATCH:json {MAP}"), nesting(levels))
                    .await;
                assert_eq!(code, 422, "{levels} levels");
                assert_readable(&world);
            }
            // Copies nest, too: each one doubles the levels.
            let mut copies = vec![json!({"op": "add", "path": "/x", "value": {}})];
            for level in 0..14 {
                let path = format!("/x{}", "/y".repeat((1 << level) - 1 + 1));
                copies.push(json!({"op": "copy", "from": "/x", "path": path}));
            }
            let (code, _) = world.ask(&format!("PATCH:json {MAP}"), copies.into()).await;
            assert_eq!(code, 422);
            // The allowed depth of a body is accepted; the unknown field is dropped.
            let (code, _) = world.ask(&format!("PATCH:json {MAP}"), nesting(60)).await;
            assert_eq!(code, 200);
            assert_eq!(world.get(MAP).await["x"], Value::Null);
        });
    });
}

#[tokio::test]
async fn unknown_fields_are_dropped_from_whatever_is_kept() {
    let world = World::new().await;
    let mut sent = pod("p");
    sent["extra"] = json!({"a": [1]});
    sent["spec"]["containers"][0]["extra"] = json!({"a": [1]});
    // An unknown field is also dropped in a value that fits its type only after defaulting.
    sent["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": 1}, "extra": 1});
    world.do_it(&format!("POST {PODS}"), sent).await;
    for (kind, patch) in [
        (
            "merge",
            json!({"metadata": {"more": {"b": 1}}, "more": [{}]}),
        ),
        (
            "strategic",
            json!({"spec": {"more": {"b": 1}, "containers": [{"name": "c", "more": 1}]}}),
        ),
        (
            "json",
            json!([{"op": "add", "path": "/status/more", "value": {"b": 1}}]),
        ),
    ] {
        world.do_it(&format!("PATCH:{kind} {PODS}/p"), patch).await;
    }
    world
        .do_it(
            &format!("PATCH:merge {PODS}/p/status"),
            json!({"status": {"more": 1, "phase": "Running"}}),
        )
        .await;
    let kept = world.get(&format!("{PODS}/p")).await;
    assert_eq!(kept["status"]["phase"], "Running");
    let text = kept.to_string();
    assert!(!text.contains("extra") && !text.contains("more"), "{text}");
    let strict = format!("PATCH:merge {PODS}/p?fieldValidation=Strict");
    assert_eq!(world.refused(&strict, json!({"extra": 1})).await.0, 400);
}

#[tokio::test]
async fn a_name_that_a_json_library_knows_is_a_name() {
    let world = World::new().await;
    // A kind whose metadata names are free.
    let attachments = "/apis/storage.k8s.io/v1/volumeattachments";
    let attachment = json!({"metadata": {"name": "m"},
        "spec": {"attacher": "a.example", "nodeName": "n", "source": {"persistentVolumeName": "v"}}});
    world
        .do_it(&format!("POST {attachments}"), attachment)
        .await;
    let path = format!("{attachments}/m");
    let key = "$serde_json::private::RawValue";
    for (line, body) in [
        (
            "PATCH:json",
            json!([{"op": "add", "path": "/status/attachmentMetadata", "value": {}}, {"op": "add", "path": format!("/status/attachmentMetadata/{key}"), "value": "no json"}]),
        ),
        (
            "PATCH:merge",
            json!({"status": {"attachmentMetadata": {key: "[[["}}}),
        ),
    ] {
        world.do_it(&format!("{line} {path}/status"), body).await;
        assert_readable(&world);
        let (code, body) = world
            .send(&User::admin(), &format!("GET {path}"), &Value::Null, "")
            .await;
        let shown = read_kept(&body.collect().await.unwrap().to_bytes()).unwrap();
        assert_eq!(code, 200);
        assert!(
            shown["status"]["attachmentMetadata"][key].is_string(),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn copies_of_a_json_patch_are_bounded_as_upstream_bounds_them() {
    let world = World::new().await;
    let filled = config_map("m", &json!({"a": "x".repeat(100_000)}));
    world.do_it(&format!("POST {CONFIG_MAPS}"), filled).await;
    // Each operation copies the whole document into itself.
    let doubling: Vec<Value> = (0..17)
        .map(|n| json!({"op": "copy", "from": "/data", "path": format!("/data/n{n}")}))
        .collect();
    let (code, answer) = world
        .ask(&format!("PATCH:json {MAP}"), doubling.into())
        .await;
    assert_eq!((code, &*answer["reason"].to_string()), (422, "\"Invalid\""));
    let said = answer["message"].as_str().unwrap();
    assert!(
        said.contains("Unable to complete the copy, the accumulated size increase of copy is "),
        "{said}"
    );
    assert!(said.contains("exceeding the limit 3145728"), "{said}");
    let many: Vec<Value> = (0..10_001)
        .map(|_| json!({"op": "test", "path": "/a", "value": null}))
        .collect();
    let (code, answer) = world.ask(&format!("PATCH:json {MAP}"), many.into()).await;
    assert_eq!(
        (code, &*answer["message"].to_string()),
        (
            413,
            "\"Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001\""
        )
    );
    // The result is no larger than the store accepts; the texts of an old event may have any length.
    let large = event("large", &"x".repeat(1_000_000));
    world.do_it(&format!("POST {EVENTS}"), large).await;
    let copies: Vec<Value> = ["reason", "action", "reportingInstance"]
        .iter()
        .map(|field| json!({"op": "copy", "from": "/message", "path": format!("/{field}")}))
        .collect();
    assert_eq!(
        world
            .refused(&format!("PATCH:json {EVENTS}/large"), copies.into())
            .await
            .0,
        413
    );
}

/// The most expensive patches, and the longest time that each may take on a slow machine in a debug build.
fn worst() -> Vec<(&'static str, Value)> {
    let operations =
        |one: &dyn Fn(usize) -> Value| Value::from((0..9_999).map(one).collect::<Vec<_>>());
    let numbers = Value::from(vec![0; 700_000]);
    let mut shifting = vec![json!({"op": "add", "path": "/x", "value": numbers})];
    shifting.extend((0..9_998).map(|_| json!({"op": "add", "path": "/x/0", "value": 0})));
    let mut moving = vec![json!({"op": "add", "path": "/x", "value": numbers})];
    moving.extend((0..9_998).map(|n| match n % 2 {
        0 => json!({"op": "move", "from": "/x", "path": "/data/x"}),
        _ => json!({"op": "move", "from": "/data/x", "path": "/x"}),
    }));
    let many: Vec<Value> = (0..40_000)
        .map(|n| json!({"name": format!("v{n}")}))
        .collect();
    let order: Vec<Value> = many.iter().rev().cloned().collect();
    vec![
        (
            "json",
            operations(&|n| json!({"op": "copy", "from": "/data", "path": format!("/n{n}")})),
        ),
        ("json", shifting.into()),
        ("json", moving.into()),
        (
            "strategic",
            json!({"secrets": many, "$setElementOrder/secrets": order}),
        ),
        (
            "strategic",
            json!({"metadata": {"finalizers": (0..100_000).map(|n| format!("a/{n}")).collect::<Vec<_>>(),
            "$deleteFromPrimitiveList/finalizers": (0..100_000).map(|n| format!("b/{n}")).collect::<Vec<_>>()}}),
        ),
    ]
}

#[tokio::test]
async fn the_server_answers_while_the_worst_patch_is_worked_on() {
    let world = World::new().await;
    let account = "/api/v1/namespaces/default/serviceaccounts/default";
    for (kind, patch) in worst() {
        let (line, admin) = (format!("PATCH:{kind} {account}"), User::admin());
        let began = Instant::now();
        let mut work = std::pin::pin!(world.ask(&line, patch));
        let mut waits = Vec::new();
        let mut asked = Instant::now();
        let code = loop {
            tokio::select! {
                biased;
                done = &mut work => break done.0,
                health = world.send(&admin, "GET /livez", &Value::Null, "") => {
                    assert_eq!(health.0, 200);
                    tokio::task::yield_now().await;
                    waits.push(asked.elapsed());
                    asked = Instant::now();
                }
            }
        };
        waits.sort_unstable();
        let slow = waits.get(waits.len() * 99 / 100);
        println!(
            "{kind}: {code} after {:?}, {} other requests meanwhile, p99 {slow:?}",
            began.elapsed(),
            waits.len()
        );
        let in_time = slow.is_some_and(|slow| *slow < Duration::from_millis(100));
        assert!(in_time, "{kind}: others were answered after {slow:?}");
        // Quadratic work would take minutes.
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{kind}: {:?}",
            began.elapsed()
        );
        assert_readable(&world);
    }
}

#[tokio::test(start_paused = true)]
async fn numbers_of_a_query_are_clamped_or_refused() {
    let world = World::new().await;
    for (query, code) in [
        ("watch=1&timeoutSeconds=9223372036854775807", 200),
        ("watch=1&timeoutSeconds=-5", 200),
        ("watch=1&timeoutSeconds=9223372036854775808", 400),
        ("watch=1&resourceVersion=18446744073709551615", 504),
        ("watch=1&resourceVersion=99999999999999999999", 422),
        ("limit=9223372036854775807", 200),
        ("limit=-1", 200),
        ("limit=many", 400),
        ("resourceVersion=-1", 400),
        (
            "continue=eyJydiI6MTg0NDY3NDQwNzM3MDk1NTE2MTUsInN0YXJ0IjoiIn0",
            400,
        ),
        (
            // Version 9007199254740993, which does not exist.
            "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6OTAwNzE5OTI1NDc0MDk5Mywic3RhcnQiOiJhIn0",
            504,
        ),
    ] {
        let line = format!("GET {CONFIG_MAPS}?{query}");
        let sent = world.send(&User::admin(), &line, &Value::Null, "").await;
        assert_eq!(sent.0, code, "{query}");
    }
    for (name, body, code) in [
        ("a", json!({"gracePeriodSeconds": i64::MAX}), 200),
        ("b", json!({"gracePeriodSeconds": u64::MAX}), 400),
        ("b", json!({"gracePeriodSeconds": -1}), 400),
        ("b", json!({"gracePeriodSeconds": 1.5}), 400),
    ] {
        if name == "a" {
            world
                .do_it(&format!("POST {PODS}"), pod_on(name, "n"))
                .await;
        }
        let (answered, shown) = world
            .ask(&format!("DELETE {PODS}/{name}"), body.clone())
            .await;
        let expected = if name == "b" {
            [400, 404]
        } else {
            [code, code]
        };
        assert!(expected.contains(&answered), "{body}: {answered} {shown}");
        if name == "a" {
            assert_eq!(shown["metadata"]["deletionGracePeriodSeconds"], i32::MAX);
            assert!(shown["metadata"]["deletionTimestamp"].as_str().unwrap() > "2090");
        }
    }
    let endless = json!({"spec": {"expirationSeconds": i64::MAX}});
    let token = "POST /api/v1/namespaces/default/serviceaccounts/default/token";
    assert_eq!(world.refused(token, endless).await.0, 422);
}

/// Lets the controllers run beside the test, until its stop.
#[expect(
    clippy::disallowed_methods,
    reason = "the test owns the task by its stop"
)]
fn run(world: &World) {
    let (server, stop) = (world.server.clone(), world.stop.clone());
    drop(tokio::spawn(async move { server.run(stop).await }));
}

const EVENTS: &str = "/api/v1/namespaces/default/events";

fn event(name: &str, note: &str) -> Value {
    json!({"metadata": {"name": name}, "involvedObject": {}, "reason": "R", "type": "Normal", "message": note})
}

#[tokio::test(start_paused = true)]
async fn events_go_whatever_their_dates_say() {
    let world = World::new().await;
    let late = "2099-01-01T00:00:00Z";
    let mut dated = event("dated", "");
    dated["lastTimestamp"] = late.into();
    dated["eventTime"] = "2099-01-01T00:00:00.000000Z".into();
    for field in [
        "reportingComponent",
        "reportingInstance",
        "action",
        "reason",
    ] {
        dated[field] = "a".into();
    }
    dated["series"] = json!({"count": 2, "lastObservedTime": "2099-01-01T00:00:00.000000Z"});
    world.do_it(&format!("POST {EVENTS}"), dated).await;
    world
        .do_it(&format!("POST {EVENTS}"), event("renewed", ""))
        .await;
    run(&world);
    let minutes = async |minutes: i64| {
        for _ in 0..minutes * 4 {
            world.advance(15);
            // A node's lease is renewed all the time; that must not postpone anything.
            world.do_it("PATCH:merge /api/v1/namespaces/default", json!({"metadata": {"annotations": {"t": world.clock.load(Ordering::Relaxed).to_string()}}})).await;
            tokio::time::sleep(Duration::from_secs(15)).await;
        }
    };
    minutes(50).await;
    world.get(&format!("{EVENTS}/dated")).await;
    world
        .do_it(
            &format!("PATCH:merge {EVENTS}/renewed"),
            json!({"count": 2}),
        )
        .await;
    minutes(15).await;
    assert_eq!(
        world
            .refused(&format!("GET {EVENTS}/dated"), Value::Null)
            .await
            .0,
        404
    );
    // As upstream, a write renews an event.
    world.get(&format!("{EVENTS}/renewed")).await;
    minutes(50).await;
    assert_eq!(
        world
            .refused(&format!("GET {EVENTS}/renewed"), Value::Null)
            .await
            .0,
        404
    );
    world.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_events_is_bounded() {
    let world = World::new().await;
    run(&world);
    let note = "x".repeat(250_000);
    let (mut taken, mut most) = (0, 0);
    for n in 0..70 {
        let (code, answer) = world
            .ask(&format!("POST {EVENTS}"), event(&format!("e{n}"), &note))
            .await;
        assert!([201, 429].contains(&code), "{code} {answer}");
        taken += usize::from(code == 201);
        if code == 429 {
            assert_eq!(answer["details"]["retryAfterSeconds"], 1);
        }
        let events = world.server.0.registry.store.list("events/").objects;
        most = most.max(events.iter().map(|event| event.bytes.len()).sum::<usize>());
        // The controllers run, as they do between two requests.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(most < 17 << 20, "{most} bytes of events at once");
    assert!(taken > 40, "only {taken} were taken");
    world.get(&format!("{EVENTS}/e69")).await;
    assert_eq!(
        world
            .refused(&format!("GET {EVENTS}/e0"), Value::Null)
            .await
            .0,
        404
    );
    world.stop.cancel();
}

#[tokio::test]
async fn annotations_are_bounded_through_subresources_too() {
    let world = World::new().await;
    world.do_it("POST /api/v1/nodes", ready_node("n")).await;
    world.do_it(&format!("POST {PODS}"), pod_on("p", "n")).await;
    let large = json!({"metadata": {"annotations": {"a": "x".repeat(300 << 10)}}});
    for path in [
        format!("{PODS}/p/status"),
        "/api/v1/nodes/n/status".to_owned(),
    ] {
        let (code, _) = world
            .ask_as(&User::node("n"), &format!("PATCH {path}"), large.clone())
            .await;
        assert_eq!(code, 422, "{path}");
    }
    // An existing violation does not prevent a change of something else.
    let small = json!({"status": {"message": "m"}});
    world.do_it(&format!("PATCH {PODS}/p/status"), small).await;
}
