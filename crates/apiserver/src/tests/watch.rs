//! Watches as a reflector uses them.
//!
//! In:    changes
//! Out:   lines of the stream
//! Upstream: staging/src/k8s.io/apiserver/pkg/storage/testing/watcher_tests.go

use super::*;

/// The lines of a watch that come without waiting.
struct Lines {
    body: Body,
}

impl Lines {
    async fn of(world: &World, path: &str) -> Self {
        Self::with(world, path, "").await
    }

    async fn with(world: &World, path: &str, accept: &str) -> Self {
        let (code, body) = world
            .send(&User::admin(), &format!("GET {path}"), &Value::Null, accept)
            .await;
        assert_eq!(code, 200);
        Self { body }
    }

    async fn next(&mut self) -> Option<Value> {
        let frame = self.body.frame().await?.unwrap();
        Some(serde_json::from_slice(frame.data_ref().unwrap()).unwrap())
    }

    /// Type, name and version.
    async fn told(&mut self) -> (String, String) {
        let line = self.next().await.unwrap();
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        (
            text(&line["type"]),
            text(&line["object"]["metadata"]["name"]),
        )
    }
}

fn told(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_what_is_there_then_what_changes() {
    let world = World::new().await;
    world
        .do_it(&format!("POST {CONFIG_MAPS}"), config_map("a", &json!({})))
        .await;
    let mut lines = Lines::of(&world, &format!("{CONFIG_MAPS}?watch=1&labelSelector=app")).await;
    assert_eq!(lines.told().await, told("ADDED", "a"));
    world
        .do_it(&format!("POST {CONFIG_MAPS}"), config_map("b", &json!({})))
        .await;
    world
        .do_it(
            &format!("PATCH {CONFIG_MAPS}/a"),
            json!({"data": {"x": "1"}}),
        )
        .await;
    world
        .do_it(&format!("DELETE {CONFIG_MAPS}/b"), Value::Null)
        .await;
    for (kind, name) in [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")] {
        assert_eq!(lines.told().await, told(kind, name));
    }
}

#[tokio::test(start_paused = true)]
async fn a_selector_turns_changes_into_comings_and_goings() {
    let world = World::new().await;
    let list = world.get(CONFIG_MAPS).await;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let mut lines = Lines::of(
        &world,
        &format!("{CONFIG_MAPS}?watch=true&labelSelector=on%3D1&resourceVersion={version}"),
    )
    .await;
    world
        .do_it(&format!("POST {CONFIG_MAPS}"), config_map("a", &json!({})))
        .await;
    world
        .do_it(
            &format!("PATCH {CONFIG_MAPS}/a"),
            json!({"metadata": {"labels": {"on": "1"}}}),
        )
        .await;
    world
        .do_it(
            &format!("PATCH {CONFIG_MAPS}/a"),
            json!({"metadata": {"labels": {"on": "0"}}}),
        )
        .await;
    world
        .do_it(&format!("DELETE {CONFIG_MAPS}/a"), Value::Null)
        .await;
    world
        .do_it(
            &format!("POST {CONFIG_MAPS}"),
            json!({"metadata": {"name": "z", "labels": {"on": "1"}}}),
        )
        .await;
    for (kind, name) in [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "z")] {
        assert_eq!(lines.told().await, told(kind, name));
    }
}

#[tokio::test(start_paused = true)]
async fn a_streamed_list_ends_with_its_bookmark_and_later_ones_tell_the_version() {
    let world = World::new().await;
    world
        .do_it(&format!("POST {CONFIG_MAPS}"), config_map("a", &json!({})))
        .await;
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&labelSelector=app";
    let mut lines = Lines::of(&world, &format!("{CONFIG_MAPS}?{query}")).await;
    assert_eq!(lines.told().await, told("ADDED", "a"));
    let end = lines.next().await.unwrap();
    assert_eq!(
        end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    // A change elsewhere increases the version; the idle watch reports it after a minute.
    world
        .do_it(
            "POST /api/v1/namespaces",
            json!({"metadata": {"name": "other"}}),
        )
        .await;
    let bookmark = lines.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    let version = world.server.0.registry.store.version().to_string();
    assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], version);
    let bad = format!("GET {CONFIG_MAPS}?watch=1&sendInitialEvents=true");
    assert_eq!(world.refused(&bad, Value::Null).await.0, 422);
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_at_its_time_and_an_old_one_cannot_begin() {
    let world = World::new().await;
    let mut lines = Lines::of(
        &world,
        &format!(
            "{CONFIG_MAPS}?watch=1&timeoutSeconds=5&resourceVersion={}",
            world.server.0.registry.store.version()
        ),
    )
    .await;
    assert_eq!(lines.next().await, None);
    for n in 0..1100 {
        world
            .do_it(
                &format!("POST {CONFIG_MAPS}"),
                config_map(&format!("n{n}"), &json!({})),
            )
            .await;
    }
    let (code, answer) = world
        .ask(
            &format!("GET {CONFIG_MAPS}?watch=1&resourceVersion=2"),
            Value::Null,
        )
        .await;
    assert_eq!((code, &answer["reason"]), (410, &json!("Expired")));
    let (code, answer) = world
        .ask(
            &format!("GET {CONFIG_MAPS}?watch=1&resourceVersion=999999"),
            Value::Null,
        )
        .await;
    assert_eq!(
        (code, &answer["details"]["causes"][0]["reason"]),
        (504, &json!("ResourceVersionTooLarge"))
    );
}

#[tokio::test(start_paused = true)]
async fn who_is_too_slow_is_told_so_at_the_end() {
    let world = World::new().await;
    let version = world.server.0.registry.store.version();
    let mut lines = Lines::of(
        &world,
        &format!("{CONFIG_MAPS}?watch=1&resourceVersion={version}"),
    )
    .await;
    for n in 0..1100 {
        world
            .do_it(
                &format!("POST {CONFIG_MAPS}"),
                config_map(&format!("n{n}"), &json!({})),
            )
            .await;
    }
    let error = lines.next().await.unwrap();
    assert_eq!(
        (&error["type"], &error["object"]["code"]),
        (&json!("ERROR"), &json!(410))
    );
    assert_eq!(lines.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn tables_are_watched_row_by_row() {
    let world = World::new().await;
    world
        .do_it(
            &format!("POST {CONFIG_MAPS}"),
            config_map("a", &json!({"k": "v"})),
        )
        .await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let mut lines = Lines::with(
        &world,
        &format!("{CONFIG_MAPS}?watch=1&labelSelector=app"),
        accept,
    )
    .await;
    let first = lines.next().await.unwrap();
    assert_eq!(first["object"]["rows"][0]["cells"], json!(["a", 1, "0s"]));
    assert!(first["object"]["columnDefinitions"].is_array());
    world
        .do_it(
            &format!("PATCH {CONFIG_MAPS}/a"),
            json!({"data": {"l": "v"}}),
        )
        .await;
    let second = lines.next().await.unwrap();
    assert_eq!(second["object"]["rows"][0]["cells"], json!(["a", 2, "0s"]));
    assert!(second["object"]["columnDefinitions"].is_null());
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_the_log_takes_few_bytes_at_a_time() {
    let world = World::new().await;
    let store = &world.server.0.registry.store;
    let mut watcher = store.watch("configmaps", store.version()).unwrap();
    let large = json!({"x": "x".repeat(200 << 10)});
    for name in ["a", "b", "c"] {
        world
            .do_it(&format!("POST {CONFIG_MAPS}"), config_map(name, &large))
            .await;
    }
    for name in ["a", "b", "c"] {
        let events = watcher.ready().unwrap();
        let names: Vec<&str> = events.iter().map(|e| e.object.place().1).collect();
        assert_eq!(names, [name]);
        assert_eq!(watcher.seen(), events[0].version);
    }
    // Small objects come together.
    for name in ["d", "e"] {
        world
            .do_it(&format!("POST {CONFIG_MAPS}"), config_map(name, &json!({})))
            .await;
    }
    assert_eq!(watcher.ready().unwrap().len(), 2);
    assert_eq!(watcher.seen(), store.version());
}

#[tokio::test]
async fn large_objects_in_another_form_are_read_on_a_thread() {
    let world = World::new().await;
    let large = json!({"x": "x".repeat(100 << 10)});
    let count = 6;
    for n in 0..count {
        let made = config_map(&format!("n{n}"), &large);
        world.do_it(&format!("POST {CONFIG_MAPS}"), made).await;
    }
    let parses = crate::store::tests::parses;
    for form in ["Table", "PartialObjectMetadata"] {
        let accept = format!("application/json;as={form};v=v1;g=meta.k8s.io");
        let before = parses();
        let path = format!("{CONFIG_MAPS}?watch=1&labelSelector=app");
        let mut lines = Lines::with(&world, &path, &accept).await;
        for _ in 0..count {
            assert_eq!(lines.next().await.unwrap()["type"], "ADDED");
        }
        for path in [
            format!("{CONFIG_MAPS}?labelSelector=app"),
            format!("{CONFIG_MAPS}/n1"),
        ] {
            let line = format!("GET {path}");
            let admin = User::admin();
            let (code, body) = world.send(&admin, &line, &Value::Null, &accept).await;
            assert_eq!(code, 200);
            let bytes = body.collect().await.unwrap().to_bytes();
            let shown: Value = serde_json::from_slice(&bytes).unwrap();
            assert!(shown["kind"].as_str().unwrap().starts_with(form), "{path}");
        }
        assert_eq!(parses() - before, 0, "on the server's thread, as {form}");
        // And a change of a large object.
        let change = json!({"data": {"y": form}});
        world
            .do_it(&format!("PATCH {CONFIG_MAPS}/n1"), change)
            .await;
        let before = parses();
        assert_eq!(lines.next().await.unwrap()["type"], "MODIFIED");
        assert_eq!(parses() - before, 0, "on the server's thread, as {form}");
    }
}
