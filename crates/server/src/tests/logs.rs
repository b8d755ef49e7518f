//! `/containerLogs` over real sockets and files, with the stand-in runtime: options, following, rotation, the end, a client
//! that disconnects.
//!
//! In:    files written as the runtime writes them
//! Out:   the bytes a client reads
//! Upstream: none

use std::fs::{File, OpenOptions};
use std::io::Write;

use super::secure::{tls_client, tls_stream};
use super::streams::{Node, pods_with, shown_running};
use super::*;

struct Log(File, PathBuf);

impl Log {
    fn new(logs: &Path) -> Self {
        let path = logs.join("ns_p_u1/c/0.log");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        Self(Self::open(&path), path)
    }

    fn open(path: &Path) -> File {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap()
    }

    fn line(&mut self, text: &str) {
        writeln!(self.0, "2026-01-01T00:00:00.5Z stdout F {text}").unwrap();
    }
}

/// Reads until the text has arrived.
async fn until(stream: &mut (impl tokio::io::AsyncRead + Unpin), wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        let mut block = [0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut block)).await;
        let read = read
            .unwrap_or_else(|_| panic!("{wanted:?} did not come after {text:?}"))
            .unwrap();
        assert!(read > 0, "the end before {wanted:?}: {text:?}");
        text += &String::from_utf8_lossy(&block[..read]);
    }
    text
}

async fn follow(
    at: SocketAddr,
    ca: &Path,
    query: &str,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut client = tls_stream(at, ca, None, b"http/1.1").await;
    let ask = format!("GET /containerLogs/ns/p/c?follow=true&{query} HTTP/1.1\r\nHost: n\r\n\r\n");
    client.write_all(ask.as_bytes()).await.unwrap();
    client
}

async fn started(scratch: &Scratch, command: &str) -> (Node, Log, Listeners, SocketAddr, PathBuf) {
    let log = Log::new(&scratch.0);
    let node = Node::new(&scratch.0, None, command).await;
    let listeners = bind(config(Some(main_config(&scratch.0))), node.state.clone())
        .await
        .unwrap();
    let at = address(listeners.main.as_ref());
    (node, log, listeners, at, scratch.0.join("kubelet.crt"))
}

#[tokio::test]
async fn a_log_is_shown_as_asked_and_refused_in_upstreams_words() {
    let scratch = Scratch::new("logs");
    let (node, mut log, listeners, at, crt) = started(&scratch, "sleep infinity").await;
    for n in 0..5000 {
        log.line(&format!("line {n}"));
    }
    with(listeners.main, Box::pin(async {
        let mut client = tls_client(at, &crt, None).await;
        let (status, all, response) = send(&mut client, request("GET", "/containerLogs/ns/p/c")).await;
        assert_eq!((status, all.lines().count(), all.lines().last()), (200, 5000, Some("line 4999")));
        assert_eq!(response.headers()["transfer-encoding"], "chunked");
        assert!(response.headers().get("content-type").is_none());
        for (query, expected) in [
            ("tailLines=2", "line 4998\nline 4999\n"),
            ("tailLines=0", ""),
            ("tail=1&timestamps=1", "2026-01-01T00:00:00.500000000Z line 4999\n"),
            ("limitBytes=9", "line 0\nli"),
            ("tailLines=3&limitBytes=4", "line"),
            ("sinceTime=2026-01-01T00:00:01Z", ""),
            ("tailLines=9999&limitBytes=7", "line 0\n"),
        ] {
            assert_eq!(get(&mut client, &format!("/containerLogs/ns/p/c?{query}")).await, (200, expected.to_owned()), "{query}");
        }
        let (_, tail) = get(&mut client, "/containerLogs/ns/p/c?tailLines=4000").await;
        assert_eq!((tail.lines().count(), tail.lines().next()), (4000, Some("line 1000")), "over many blocks");
        for (path, status, text) in [
            ("ns/q/c", 404, "pod \"q\" does not exist"),
            ("ns/p/x", 404, "container \"x\" not found in pod \"p\""),
            ("ns/p/c?previous=true", 400, "previous terminated container \"c\" in pod \"p\" not found"),
            ("ns/p/waits", 400, "container \"waits\" in pod \"p\" is waiting to start: trying and failing to pull image"),
            ("ns/p/c?tailLines=-1", 422, "{\"message\": \"Invalid request.\"}"),
            ("ns/p/c?limitBytes=x", 400, "{\"message\": \"Unable to decode query.\"}"),
        ] {
            assert_eq!(get(&mut client, &format!("/containerLogs/{path}")).await, (status, text.to_owned()), "{path}");
        }
        // From here on errors end a response with status 200, as upstream's.
        std::fs::rename(&log.1, scratch.0.join("kept")).unwrap();
        let (status, text) = get(&mut client, "/containerLogs/ns/p/c").await;
        assert_eq!(status, 200);
        assert!(text.starts_with("failed to open log file \"") && text.ends_with("/ns_p_u1/c/0.log\": No such file or directory (os error 2)"), "{text}");
        std::os::unix::fs::symlink(scratch.0.join("kept"), &log.1).unwrap();
        let (_, text) = get(&mut client, "/containerLogs/ns/p/c").await;
        assert!(text.ends_with("Too many levels of symbolic links (os error 40)"), "{text}");
        node.pods.send_replace(shown_running("gone"));
        assert_eq!(
            get(&mut client, "/containerLogs/ns/p/c").await,
            (200, "unable to retrieve container logs for stand-in://gone".to_owned())
        );
    }))
    .await;
}

#[tokio::test]
async fn a_followed_log_goes_on_through_rotations_and_ends_with_its_container() {
    let scratch = Scratch::new("follow");
    let (node, mut log, listeners, at, crt) = started(&scratch, "sleep infinity").await;
    log.line("old");
    log.line("tail");
    with(
        listeners.main,
        Box::pin(async {
            let mut client = follow(at, &crt, "tailLines=1").await;
            let text = until(&mut client, "tail\n").await;
            assert!(!text.contains("old"), "{text}");
            log.line("new");
            until(&mut client, "new\n").await;
            write!(log.0, "2026-01-01T00:00:00Z stdout F half").unwrap();
            until(&mut client, "half").await;
            writeln!(log.0, " whole").unwrap();
            until(&mut client, " whole\n").await;
            let mut held = None;
            for round in 0..4 {
                let rotated = log.1.with_extension(format!("log.{round}"));
                std::fs::rename(&log.1, &rotated).unwrap();
                log.line("before reopening");
                let mut fresh = Log(Log::open(&log.1), log.1.clone());
                fresh.line(&format!("fresh {round}"));
                // Time for the reader to see the new file; its writer still holds the old one for a moment.
                tokio::time::sleep(Duration::from_millis(100)).await;
                log.line(&format!("late {round}"));
                let former = std::mem::replace(&mut log, fresh);
                if round == 3 {
                    // Or for longer than the reader waits.
                    held = Some(former);
                } else {
                    drop(former);
                }
                let text = until(&mut client, &format!("fresh {round}\n")).await;
                let found = ["before reopening", "late", "fresh"].map(|word| text.find(word));
                assert!(found.is_sorted() && found[0].is_some(), "{text}");
            }
            drop(held);
            log.line("last words");
            node.state
                .node
                .runtime
                .stop_container(&node.container, 0)
                .await
                .unwrap();
            node.pods.send_replace(pods_with(serde_json::json!({})));
            let text = until(&mut client, "\r\n0\r\n\r\n").await;
            assert!(text.contains("last words\n"), "{text}");
            // The container has ended: following shows the rest, and ends.
            let mut client = tls_client(at, &crt, None).await;
            let ended = format!("stand-in://{}", node.container);
            node.pods
                .send_replace(pods_with(serde_json::json!({"containerStatuses": [
            {"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
             "state": {"terminated": {"exitCode": 0, "containerID": ended}}}]})));
            let (status, text) =
                get(&mut client, "/containerLogs/ns/p/c?follow=true&tailLines=1").await;
            assert_eq!((status, &*text), (200, "last words\n"));
        }),
    )
    .await;
}

#[tokio::test]
async fn a_client_that_goes_stops_its_read_and_a_stopping_server_cuts_it() {
    let scratch = Scratch::new("gone");
    let (node, mut log, listeners, at, crt) = started(&scratch, "sleep infinity").await;
    let registry = node.state.registry.clone();
    let inflight = move || {
        let text = String::from_utf8(metrics::text(&registry).unwrap()).unwrap();
        let line = text.lines().find(|line| {
            line.starts_with("kubelet_http_inflight_requests{")
                && line.contains("path=\"containerLogs\"")
        });
        line.map(|line| line.rsplit(' ').next().unwrap().to_owned())
    };
    log.line("x");
    let mut left = with(
        listeners.main,
        Box::pin(async {
            let mut client = follow(at, &crt, "").await;
            until(&mut client, "x\n").await;
            assert_eq!(inflight().as_deref(), Some("1"));
            drop(client);
            let mut rounds = 0;
            while inflight().as_deref() != Some("0") {
                tokio::time::sleep(Duration::from_millis(10)).await;
                rounds += 1;
                assert!(rounds < 1000, "the read goes on without its client");
            }
            let mut client = follow(at, &crt, "").await;
            until(&mut client, "x\n").await;
            client
        }),
    )
    .await;
    // Not the regular end of a log.
    let mut rest = Vec::new();
    let _cut = left.read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains("0\r\n\r\n"));
}

#[tokio::test(start_paused = true)]
async fn a_client_behind_a_pager_is_waited_for_but_not_for_ever() {
    let scratch = Scratch::new("pager");
    let mut log = Log::new(&scratch.0);
    // More than the socket buffers hold.
    for _ in 0..40_000 {
        log.line(&"x".repeat(1000));
    }
    let mut node = Node::new(&scratch.0, None, "sleep infinity").await;
    // Threads would not stop for virtual time.
    node.state.node.blocking = Blocking::Inline;
    let main = main_config(&scratch.0);
    let listeners = bind(config(Some(main)), node.state.clone()).await.unwrap();
    let at = address(listeners.main.as_ref());
    let crt = scratch.0.join("kubelet.crt");
    with(
        listeners.main,
        Box::pin(async {
            let mut patient = follow(at, &crt, "").await;
            let mut silent = follow(at, &crt, "").await;
            tokio::time::sleep(Duration::from_secs(1800)).await;
            let mut read = 0;
            let mut block = vec![0; 65536];
            while read < 40_000 * 1001 {
                read += patient.read(&mut block).await.unwrap();
            }
            log.line("still here");
            until(&mut patient, "still here\n").await;
            tokio::time::sleep(Duration::from_secs(4 * 3600)).await;
            // It waits for a silent log, which is not the client's fault.
            log.line("and here");
            until(&mut patient, "and here\n").await;
            let mut rest = Vec::new();
            let _cut = silent.read_to_end(&mut rest).await;
            assert!(rest.len() < 40_000 * 1001, "cut in the middle");
        }),
    )
    .await;
}
