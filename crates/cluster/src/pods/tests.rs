//! Our pods as a source, and the calls about them, against a scripted server.
//!
//! In:    answers of the server
//! Out:   sets and requests
//! Calls: cargo test
//! Holds: bodies are compared whole
//! Upstream: none

use std::sync::Mutex;

use hyper::body::Bytes;
use serde_json::Value;

use super::*;
use crate::testing::{Server, answer, status, streamed};

fn object(name: &str, node: &str, version: &str, annotations: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "n", "uid": format!("uid-{name}"), "resourceVersion": version,
            "annotations": annotations, "managedFields": [{ "manager": "x" }] },
        "spec": { "nodeName": node, "containers": [{ "name": "c", "image": version }] } })
}

#[tokio::test(start_paused = true)]
async fn our_pods_come_as_whole_sets_and_what_did_not_change_stays_the_same() {
    let (lines, events) = tokio::sync::mpsc::channel::<Value>(4);
    let events = Arc::new(tokio::sync::Mutex::new(events));
    let server = Server::new(move |seen| {
        let events = Arc::clone(&events);
        async move {
            assert_eq!(seen.line(), "GET /api/v1/pods");
            assert_eq!(seen.parameter("fieldSelector"), Some("spec.nodeName%3Done"));
            if seen.parameter("sendInitialEvents").is_some() {
                return status(422, "Invalid");
            }
            if seen.parameter("watch").is_none() {
                let mirror = json!({ "kubernetes.io/config.mirror": "h", "kubernetes.io/config.source": "file" });
                let items = json!([
                    object("a", "one", "1", &json!({})),
                    object("b", "one", "2", &json!({})),
                    object("m", "one", "3", &mirror),
                    object("other", "two", "4", &json!({}))
                ]);
                return answer(
                    200,
                    &json!({ "metadata": { "resourceVersion": "5" }, "items": items }),
                );
            }
            let (sender, response) = streamed();
            hyper::rt::Executor::execute(&hyper_util::rt::TokioExecutor::new(), async move {
                while let Some(event) = events.lock().await.recv().await {
                    sender
                        .send(Ok(Bytes::from(format!("{event}\n"))))
                        .await
                        .unwrap();
                }
            });
            response
        }
    });
    let gates = PodGates {
        stop_signals: true,
        ..PodGates::default()
    };
    let unbuilt = |_: &v1::Pod| vec!["spec.x".to_owned()];
    let terms = Terms { unbuilt, gates };
    let (watch, mut sets) = PodWatch::new(server.client(), "one", terms, Dice::new(1));
    let script = async {
        let first = sets
            .wait_for(Option::is_some)
            .await
            .unwrap()
            .clone()
            .unwrap();
        let names: Vec<String> = first
            .pods
            .iter()
            .map(|pod| pod.full_name.to_string())
            .collect();
        assert_eq!(names, ["n/a", "n/b"]);
        assert_eq!(first.mirrors.len(), 1);
        assert_eq!(
            annotation(&first.mirrors[0], CONFIG_SOURCE_ANNOTATION),
            Some("file")
        );
        let a = &first.pods[0];
        assert_eq!(
            annotation(&a.object, CONFIG_SEEN_ANNOTATION),
            Some("2026-11-25T12:00:00Z")
        );
        assert_eq!(annotation(&a.object, CONFIG_SOURCE_ANNOTATION), Some("api"));
        assert_eq!((a.source, a.unbuilt.len()), (SourceKind::Api, 1));
        assert_eq!(a.gates, gates);
        assert!(a.object.metadata.managed_fields.is_none());
        tokio::time::sleep(Duration::from_secs(60)).await;
        let changed = json!({ "type": "MODIFIED", "object": object("a", "one", "6", &json!({})) });
        lines.send(changed).await.unwrap();
        let next = sets.wait_for(|set| {
            set.as_ref()
                .is_some_and(|set| !Arc::ptr_eq(&set.pods[0], a))
        });
        let next = next.await.unwrap().clone().unwrap();
        assert_eq!(
            annotation(&next.pods[0].object, CONFIG_SEEN_ANNOTATION),
            Some("2026-11-25T12:00:00Z")
        );
        assert!(Arc::ptr_eq(&next.pods[1], &first.pods[1]));
        let gone = json!({ "type": "DELETED", "object": object("b", "one", "7", &json!({})) });
        lines.send(gone).await.unwrap();
        sets.wait_for(|set| set.as_ref().is_some_and(|set| set.pods.len() == 1))
            .await
            .unwrap();
    };
    tokio::select! {
        () = watch.run() => unreachable!("the watch does not end"),
        () = script => {}
    }
}

#[tokio::test(start_paused = true)]
async fn writes_name_the_uid_and_a_pod_that_is_gone_needs_no_deletion() {
    let seen_calls = Arc::new(Mutex::new(Vec::new()));
    let calls = Arc::clone(&seen_calls);
    let server = Server::new(move |seen| {
        let body: Value = seen.json();
        let kind = seen.headers["content-type"].to_str().unwrap().to_owned();
        calls
            .lock()
            .unwrap()
            .push(format!("{} {kind} {body}", seen.line()));
        async move {
            if seen.method == "DELETE" {
                return status(404, "NotFound");
            }
            answer(200, &object("a", "one", "8", &json!({})))
        }
    });
    let client = server.client();
    let pod = PodAddress {
        namespace: "n",
        name: "a",
        uid: "u",
    };
    client
        .write_pod_status(pod, &json!({ "phase": "Running" }))
        .await
        .unwrap();
    client.delete_pod(pod).await.unwrap();
    assert_eq!(
        *seen_calls.lock().unwrap(),
        [
            "PATCH /api/v1/namespaces/n/pods/a/status application/strategic-merge-patch+json \
             {\"metadata\":{\"uid\":\"u\"},\"status\":{\"phase\":\"Running\"}}",
            "DELETE /api/v1/namespaces/n/pods/a application/json {\"apiVersion\":\"v1\",\"gracePeriodSeconds\":0,\
             \"kind\":\"DeleteOptions\",\"preconditions\":{\"uid\":\"u\"}}",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn only_a_mirror_of_the_same_hash_is_taken_for_the_one_to_create() {
    let mark = json!({ "kubernetes.io/config.mirror": "h", "kubernetes.io/config.source": "file" });
    let mirror: v1::Pod = serde_json::from_value(object("a", "one", "1", &mark)).unwrap();
    for (there, is_fine) in [("h", true), ("other", false)] {
        let server = Server::new(move |seen| async move {
            if seen.method == "POST" {
                assert_eq!(seen.line(), "POST /api/v1/namespaces/n/pods");
                return status(409, "AlreadyExists");
            }
            answer(
                200,
                &object(
                    "a",
                    "one",
                    "1",
                    &json!({ "kubernetes.io/config.mirror": there }),
                ),
            )
        });
        let created = server.client().create_mirror(&mirror).await;
        assert_eq!(created.is_ok(), is_fine, "{there}");
    }
}
