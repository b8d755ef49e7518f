//! Hooks over HTTP, and sleeps that are cut short.

use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1;
use kubelet_model::pod::SourceKind;
use serde_json::json;
use testkit::cri::{StandInConfig, StandInRuntime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

fn pod() -> Pod {
    let object = json!({
        "metadata": {"name": "p", "namespace": "default", "uid": "u"},
        "spec": {"containers": [{"name": "main", "image": "i"}]},
    });
    let object: v1::Pod = serde_json::from_value(object).unwrap();
    Pod::new(Arc::new(object), SourceKind::Api, Vec::new()).unwrap()
}

fn hooks() -> Hooks {
    let registry = Registry::new();
    let channel = StandInRuntime::new(StandInConfig::default()).connect();
    let timeouts = kubelet_cri::Timeouts {
        request: Duration::from_secs(60),
    };
    let metrics = kubelet_cri::Metrics::new(&registry).unwrap();
    let cri = Client::from_channels(channel.clone(), channel, timeouts, metrics);
    Hooks::new(&cri, &Events::logged("n"), &registry).unwrap()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's own server ends with it"
)]
fn beside(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}

/// A server that answers every connection with this, and what it was sent.
async fn server(answer: &'static [u8]) -> (u16, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(Mutex::new(String::new()));
    let hears = Arc::clone(&heard);
    beside(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut sent = vec![0; 4096];
            let length = stream.read(&mut sent).await.unwrap_or(0);
            hears
                .lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&sent[..length]));
            let _gone = stream.write_all(answer).await;
        }
    });
    (port, heard)
}

fn http(port: u16, is_tls: bool) -> Hook {
    Hook::Http(HttpHook {
        is_tls,
        host: "127.0.0.1".to_owned(),
        port,
        path: "/x?y=1".to_owned(),
        headers: vec![("Authorization".to_owned(), "secret".to_owned())],
    })
}

#[tokio::test]
async fn any_answer_is_a_good_one() {
    let (port, heard) = server(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n").await;
    let hooks = hooks();
    let id = ContainerId::from("c");
    assert_eq!(hooks.run(&pod(), &id, &http(port, false)).await, Ok(()));
    let heard = heard.lock().unwrap().clone();
    assert!(heard.starts_with("GET /x?y=1 HTTP/1.1\r\n"), "{heard}");
    assert!(
        heard.contains("User-Agent: kube-lifecycle/1.36\r\n"),
        "{heard}"
    );
    assert!(heard.contains("Authorization: secret\r\n"), "{heard}");
}

#[tokio::test]
async fn a_server_that_speaks_plain_http_is_asked_again_without_tls_and_secrets() {
    let (port, heard) = server(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    let hooks = hooks();
    let id = ContainerId::from("c");
    assert_eq!(hooks.run(&pod(), &id, &http(port, true)).await, Ok(()));
    assert_eq!(hooks.metrics.fallbacks.get(), 1);
    let heard = heard.lock().unwrap().clone();
    assert!(heard.contains("GET /x?y=1 HTTP/1.1\r\n"), "{heard}");
    assert!(!heard.contains("secret"), "{heard}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_failure_in_upstreams_words() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let id = ContainerId::from("c");
    let failure = hooks()
        .run(&pod(), &id, &http(port, false))
        .await
        .unwrap_err();
    assert_eq!(
        failure.error,
        format!(
            "Get \"http://127.0.0.1:{port}/x?y=1\": dial tcp 127.0.0.1:{port}: connect: connection refused"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_sleep_that_is_cut_short_is_counted() {
    let hooks = hooks();
    let id = ContainerId::from("c");
    let sleep = |seconds| Hook::Sleep {
        seconds,
        left: Duration::from_secs(u64::try_from(seconds).unwrap()),
    };
    assert_eq!(hooks.run(&pod(), &id, &sleep(0)).await, Ok(()));
    assert_eq!(hooks.run(&pod(), &id, &sleep(20)).await, Ok(()));
    assert_eq!(hooks.metrics.cut_sleeps.get(), 0);
    let (pod, long) = (pod(), sleep(20));
    let cut = tokio::time::timeout(Duration::from_secs(5), hooks.run(&pod, &id, &long));
    assert!(cut.await.is_err());
    assert_eq!(hooks.metrics.cut_sleeps.get(), 1);
}
