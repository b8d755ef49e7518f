//! The client against a scripted server: deadlines, dead connections, refusals, lanes, streams.
//!
//! In:    scripted answers over pipes, paused time; for TLS and proxies loopback sockets
//! Out:   what callers see
//! Calls: cargo test
//! Holds: times are virtual, but over sockets
//! Upstream: none

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::testing::{Seen, Server as TestServer, answer, raw, status};

fn call(lane: LaneKind) -> Call {
    Call {
        operation: "test",
        lane,
        method: Method::GET,
        path: "/api/v1/nodes/a".to_owned(),
        content_type: "application/json",
        body: Bytes::new(),
        deadline: Duration::from_secs(60),
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_read_and_the_request_says_who_asks() {
    let server = TestServer::new(async |seen| {
        answer(
            200,
            &json!({ "agent": seen.headers["user-agent"].to_str().unwrap(), "at": seen.line() }),
        )
    });
    let answer = server.client().call(call(LaneKind::General)).await.unwrap();
    assert_eq!(
        answer,
        r#"{"agent":"kubelet/v1.36.2 (linux/amd64)","at":"GET /api/v1/nodes/a"}"#
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_is_found_out_within_thirty_seconds_and_the_next_call_gets_another() {
    let server = TestServer::new(async |_| answer(200, &json!({})));
    let client = server.client();
    server.is_dead.store(true, Ordering::SeqCst);
    let began = Instant::now();
    let error = client.call(call(LaneKind::General)).await.unwrap_err();
    assert!(matches!(error, ClusterError::Lost { .. }), "{error}");
    assert_eq!(error.happened(), Happened::Maybe);
    assert!(
        began.elapsed() <= Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    server.is_dead.store(false, Ordering::SeqCst);
    client.call(call(LaneKind::General)).await.unwrap();
    assert_eq!(server.dials.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_there_is_unreachable_and_nothing_happened() {
    let server = TestServer::new(async |_| answer(200, &json!({})));
    server.is_down.store(true, Ordering::SeqCst);
    let error = server
        .client()
        .call(call(LaneKind::Status))
        .await
        .unwrap_err();
    assert!(matches!(error, ClusterError::Unreachable { .. }), "{error}");
    assert_eq!(error.happened(), Happened::No);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_ends_at_its_deadline_though_the_connection_lives() {
    let server = TestServer::new(async |_| std::future::pending().await);
    let began = Instant::now();
    let error = server
        .client()
        .call(call(LaneKind::General))
        .await
        .unwrap_err();
    assert_eq!(began.elapsed(), Duration::from_secs(60));
    assert_eq!(error.to_string(), "test: no answer within 60s");
    assert_eq!(error.happened(), Happened::Maybe);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_keeps_the_servers_words_and_its_time() {
    let server = TestServer::new(async |_| {
        let mut response = status(429, "TooManyRequests");
        response
            .headers_mut()
            .insert("retry-after", "3".parse().unwrap());
        response
    });
    let error = server
        .client()
        .call(call(LaneKind::General))
        .await
        .unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    assert_eq!(
        error.to_string(),
        "test: 429 TooManyRequests: TooManyRequests"
    );
    let server = TestServer::new(async |_| raw(502, b"<html>bad gateway</html>".to_vec()));
    let error = server
        .client()
        .call(call(LaneKind::General))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "test: 502: <html>bad gateway</html>");
    assert_eq!(error.happened(), Happened::Maybe);
}

#[tokio::test(start_paused = true)]
async fn calls_are_counted_by_what_became_of_them() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let server = TestServer::new(async |_| {
        let is_second = ASKED.fetch_add(1, Ordering::SeqCst) == 1;
        raw(if is_second { 429 } else { 200 }, vec![b'x'; 300])
    });
    let client = server.client();
    let registry = prometheus::Registry::new();
    client.register_figures(&registry).unwrap();
    assert!(client.register_figures(&registry).is_err(), "once");
    for _ in 0..3 {
        drop(client.call(call(LaneKind::General)).await);
    }
    server.is_down.store(true, Ordering::SeqCst);
    let unreachable = server.client();
    let others = prometheus::Registry::new();
    unreachable.register_figures(&others).unwrap();
    drop(unreachable.call(call(LaneKind::Heartbeat)).await);
    let counted = |registry: &prometheus::Registry| {
        let mut counted = Vec::new();
        for family in registry.gather() {
            for metric in family.get_metric() {
                let labels: Vec<_> = metric.get_label().iter().map(|l| l.value()).collect();
                let count = metric.get_counter().get_value();
                let histogram = metric.get_histogram();
                counted.push(format!(
                    "{} {} {count} {} {:.0}",
                    family.name().trim_start_matches("rest_client_"),
                    labels.join(" "),
                    histogram.get_sample_count(),
                    histogram.get_sample_sum(),
                ));
            }
        }
        counted
    };
    assert_eq!(
        counted(&registry),
        [
            "exec_plugin_certificate_rotation_age  0 0 0",
            "rate_limiter_duration_seconds localhost GET 0 3 0",
            "request_duration_seconds localhost GET 0 3 0",
            "request_size_bytes localhost GET 0 3 0",
            "requests_total 200 localhost GET 2 0 0",
            "requests_total 429 localhost GET 1 0 0",
            "response_size_bytes localhost GET 0 2 600",
        ]
    );
    let unanswered = counted(&others);
    let unanswered = unanswered.iter().find(|line| line.starts_with("requests"));
    assert_eq!(
        unanswered.map(String::as_str),
        Some("requests_total <error> localhost GET 1 0 0")
    );
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_one_lane_does_not_hold_another() {
    let server = TestServer::new(async |_| answer(200, &json!({})));
    let client = server.client();
    let flood =
        futures_util::future::join_all((0..400).map(|_| client.call(call(LaneKind::General))));
    let beat = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let began = Instant::now();
        client.call(call(LaneKind::Heartbeat)).await.unwrap();
        began.elapsed()
    };
    let began = Instant::now();
    let (flooded, beat) = tokio::join!(flood, beat);
    assert!(flooded.iter().all(Result::is_ok));
    // 100 at once, 300 at 50 a second.
    assert!(
        began.elapsed() >= Duration::from_millis(5900),
        "{:?}",
        began.elapsed()
    );
    assert!(beat < Duration::from_millis(50), "{beat:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lane_opens_another_connection_when_its_streams_are_taken() {
    let server = TestServer::new(async |_| std::future::pending().await);
    let client = server.client();
    let most = AtomicUsize::new(0);
    let opened = futures_util::future::join_all((0..250).map(|_| {
        let most = &most;
        let client = &client;
        async move {
            most.fetch_add(1, Ordering::SeqCst);
            client.call(call(LaneKind::Watches)).await.unwrap_err()
        }
    }));
    opened.await;
    assert_eq!(server.dials.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn no_more_streams_are_opened_than_the_server_says() {
    let server = TestServer::new(async |seen: Seen| {
        if seen.path.contains("watch") {
            std::future::pending::<()>().await;
        }
        answer(200, &json!({}))
    });
    server.streams.store(3, Ordering::SeqCst);
    let client = server.client();
    // Six that never end take two connections, so that what comes after them has a third.
    let mut watches: Vec<_> = (0..6)
        .map(|_| {
            let mut watch = call(LaneKind::Watches);
            watch.path = "/watch".to_owned();
            Box::pin(client.call(watch))
        })
        .collect();
    let watching = futures_util::future::join_all(&mut watches);
    let began = Instant::now();
    let short = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        client.call(call(LaneKind::Watches)).await
    };
    tokio::select! {
        biased;
        answered = short => drop(answered.unwrap()),
        _ = watching => panic!("watches do not end"),
    }
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(server.dials.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_read_again_once() {
    let directory =
        std::env::temp_dir().join(format!("kubelet-cluster-token-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("token");
    std::fs::write(&file, "old\n").unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = TestServer::new(move |seen| {
        count.fetch_add(1, Ordering::SeqCst);
        let is_new = seen.headers["authorization"] == "Bearer new";
        async move {
            if is_new {
                answer(200, &json!({}))
            } else {
                status(401, "Unauthorized")
            }
        }
    });
    let kubeconfig = Kubeconfig {
        server: Server {
            url: Uri::from_static("http://localhost"),
            trust: Trust::System,
            tls_name: None,
            proxy: None,
        },
        pair: None,
        login: Login::TokenFile(file.clone(), None),
    };
    let clock = WallClock::new(|| jiff::Timestamp::UNIX_EPOCH);
    let client = Client::with_dialer(
        Dialer::Pipe(server.pipe()),
        kubeconfig,
        &crate::testing::config(),
        clock,
    );
    let error = client.call(call(LaneKind::General)).await.unwrap_err();
    assert!(error.is_denied(), "{error}");
    assert_eq!(
        asked.load(Ordering::SeqCst),
        1,
        "the same token is not shown twice"
    );
    std::fs::write(&file, "new\n").unwrap();
    tokio::time::advance(Duration::from_secs(11)).await;
    client.call(call(LaneKind::General)).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    std::fs::write(&file, "newer\n").unwrap();
    tokio::time::advance(Duration::from_secs(61)).await;
    assert!(
        client
            .call(call(LaneKind::General))
            .await
            .unwrap_err()
            .is_denied()
    );
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn a_credential_program_outlives_the_call_that_started_it() {
    let directory =
        std::env::temp_dir().join(format!("kubelet-cluster-exec-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let script = r#"echo run >> "$DIR/runs"; while [ ! -e "$DIR/go" ]; do sleep 0.02; done
        echo '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"t"}}'"#;
    let exec = crate::kubeconfig::ExecConfig {
        api_version: "client.authentication.k8s.io/v1".to_owned(),
        command: "/bin/sh".into(),
        args: vec!["-c".to_owned(), script.to_owned()],
        env: vec![("DIR".to_owned(), directory.display().to_string())],
        provide_cluster_info: false,
        install_hint: String::new(),
    };
    let server = TestServer::new(async |seen| {
        assert_eq!(seen.headers["authorization"], "Bearer t");
        answer(200, &json!({}))
    });
    let kubeconfig = Kubeconfig {
        server: Server {
            url: Uri::from_static("http://localhost"),
            trust: Trust::System,
            tls_name: None,
            proxy: None,
        },
        pair: None,
        login: Login::Exec(exec),
    };
    let clock = WallClock::new(|| jiff::Timestamp::UNIX_EPOCH);
    let dialer = Dialer::Pipe(server.pipe());
    let client = Client::with_dialer(dialer, kubeconfig, &crate::testing::config(), clock);
    let mut hasty = call(LaneKind::Heartbeat);
    hasty.deadline = Duration::from_millis(200);
    let error = client.call(hasty).await.unwrap_err();
    assert!(matches!(error, ClusterError::Deadline { .. }), "{error}");
    assert_eq!(error.happened(), Happened::No);
    std::fs::write(directory.join("go"), "").unwrap();
    client.call(call(LaneKind::Heartbeat)).await.unwrap();
    client.call(call(LaneKind::General)).await.unwrap();
    let runs = std::fs::read_to_string(directory.join("runs")).unwrap();
    assert_eq!(runs, "run\n");
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn a_clock_that_is_a_year_ahead_does_not_run_the_credential_program_for_each_call() {
    let directory =
        std::env::temp_dir().join(format!("kubelet-cluster-year-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let script = r#"echo run >> "$DIR/runs"; echo '{"kind":"ExecCredential",
        "apiVersion":"client.authentication.k8s.io/v1",
        "status":{"token":"t","expirationTimestamp":"2026-11-25T13:00:00Z"}}'"#;
    let exec = crate::kubeconfig::ExecConfig {
        api_version: "client.authentication.k8s.io/v1".to_owned(),
        command: "/bin/sh".into(),
        args: vec!["-c".to_owned(), script.to_owned()],
        env: vec![("DIR".to_owned(), directory.display().to_string())],
        provide_cluster_info: false,
        install_hint: String::new(),
    };
    let server = TestServer::new(async |_| answer(200, &json!({})));
    let kubeconfig = Kubeconfig {
        server: Server {
            url: Uri::from_static("http://localhost"),
            trust: Trust::System,
            tls_name: None,
            proxy: None,
        },
        pair: None,
        login: Login::Exec(exec),
    };
    let clock = WallClock::new(|| "2027-11-25T12:00:00Z".parse().unwrap());
    let dialer = Dialer::Pipe(server.pipe());
    let client = Client::with_dialer(dialer, kubeconfig, &crate::testing::config(), clock);
    for _ in 0..20 {
        client.call(call(LaneKind::Heartbeat)).await.unwrap();
    }
    let runs = std::fs::read_to_string(directory.join("runs")).unwrap();
    assert_eq!(runs, "run\n");
    std::fs::remove_dir_all(&directory).unwrap();
}
