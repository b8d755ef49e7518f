//! The URL source against an HTTP server on loopback.
//!
//! Upstream: pkg/kubelet/config/http_test.go

use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A server that gives the same answer until it gets another; keeps the requests.
struct Server {
    url: String,
    answer: Arc<Mutex<(String, String)>>,
    requests: mpsc::UnboundedReceiver<String>,
    _task: tokio::task::JoinSet<()>,
}

impl Server {
    async fn new(status: &str, body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/pods", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new((status.to_owned(), body.to_owned())));
        let (sender, requests) = mpsc::unbounded_channel();
        let given = Arc::clone(&answer);
        let mut task = tokio::task::JoinSet::new();
        task.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                drop(sender.send(String::from_utf8(request).unwrap()));
                let (status, body) = given.lock().unwrap().clone();
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                drop(stream.write_all(head.as_bytes()).await);
                drop(stream.write_all(body.as_bytes()).await);
                drop(stream.shutdown().await);
            }
        });
        Self {
            url,
            answer,
            requests,
            _task: task,
        }
    }

    fn give(&self, status: &str, body: &str) {
        *self.answer.lock().unwrap() = (status.to_owned(), body.to_owned());
    }

    fn source(&self, machine: &Machine) -> Running {
        let headers = [(
            "X-Node".to_owned(),
            vec!["one".to_owned(), "two".to_owned()],
        )];
        machine.start_with(SourcesConfig {
            taker: bench(),
            file: None,
            url: Some(UrlSourceConfig {
                url: self.url.clone(),
                headers: BTreeMap::from(headers),
                check_every: Duration::from_millis(5),
            }),
        })
    }

    /// Waits until what was given now was also asked for, twice.
    async fn asked(&mut self) {
        while self.requests.try_recv().is_ok() {}
        for _ in 0..3 {
            self.requests.recv().await.unwrap();
        }
    }
}

fn list(pods: &[(&str, &str)]) -> String {
    let items = pods.iter().map(|(name, image)| {
        json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "main", "image": image}]}})
    });
    let items: Vec<Value> = items.collect();
    json!({"apiVersion": "v1", "kind": "PodList", "items": items}).to_string()
}

#[tokio::test]
async fn a_pod_then_a_list_then_an_error_then_nothing() {
    let machine = Machine::new();
    let mut server = Server::new("200 OK", &manifest("a", "i:1")).await;
    let mut running = server.source(&machine);
    let first = running.next().await;
    assert_eq!(names(&first), ["a-bench"]);
    assert_eq!(
        first[0].annotation("kubernetes.io/config.source"),
        Some("http")
    );
    assert_eq!(first[0].spec().tolerations, None);
    let request = server.requests.recv().await.unwrap();
    assert!(request.starts_with("GET /pods HTTP/1.1\r\n"), "{request}");
    assert!(
        request.contains("x-node: one\r\nx-node: two\r\n"),
        "{request}"
    );
    // The same again is not sent again.
    server.asked().await;
    assert!(running.is_quiet());

    server.give("200 OK", &list(&[("b", "i:1"), ("c", "i:1")]));
    assert_eq!(running.next_names().await, ["b-bench", "c-bench"]);
    server.give("503 Service Unavailable", "");
    let problem = running.problem().await;
    assert_eq!(problem["message"], "the answer is 503 Service Unavailable");
    assert_eq!(problem["keepsLastGood"], true);
    assert_eq!(
        running.gauge(),
        "hyperkube_source_problems{source=\"http\"} 1"
    );
    assert!(running.is_quiet());

    // A list with one bad pod changes nothing.
    server.give("200 OK", &list(&[("d", "i:1"), ("c", "")]));
    let of_item =
        |report: &Value| report["problems"][0]["field"] == "items[1].spec.containers[0].image";
    running.report(of_item).await;
    assert!(running.is_quiet());

    server.give("200 OK", "");
    assert!(running.next().await.is_empty());
    assert_eq!(running.problem().await["keepsLastGood"], false);
    server.give("200 OK", &list(&[("b", "i:1"), ("c", "i:1")]));
    assert_eq!(running.next_names().await, ["b-bench", "c-bench"]);
    running.no_problem().await;
    assert!(running.records.keys("manifest/http:").len() == 1);
}

#[tokio::test]
async fn an_empty_list_is_a_set_and_a_failure_is_none() {
    let machine = Machine::new();
    let mut server = Server::new("404 Not Found", "").await;
    let mut running = server.source(&machine);
    running.problem().await;
    server.asked().await;
    assert!(running.is_quiet());
    server.give("200 OK", &list(&[]));
    assert!(running.next().await.is_empty());
    running.no_problem().await;
}

#[tokio::test]
async fn a_restart_with_a_dead_server_keeps_the_pods() {
    let machine = Machine::new();
    let server = Server::new("200 OK", &list(&[("a", "i:1"), ("b", "i:1")])).await;
    let mut running = server.source(&machine);
    let before = running.next().await;
    running.crash().await;
    for (status, body) in [("500 Oops", ""), ("200 OK", "{")] {
        server.give(status, body);
        let mut running = server.source(&machine);
        assert_eq!(running.next().await, before);
        assert_eq!(running.problem().await["keepsLastGood"], true);
        running.crash().await;
    }
}

#[tokio::test]
async fn a_body_of_eleven_mebibytes_is_refused() {
    let machine = Machine::new();
    let server = Server::new("200 OK", &manifest("a", "i:1")).await;
    let mut running = server.source(&machine);
    running.next().await;
    server.give("200 OK", &"#".repeat(11 << 20));
    let problem = running.problem().await;
    assert_eq!(
        problem["message"],
        "body cannot be read: length limit exceeded"
    );
    assert!(running.is_quiet());
}

#[tokio::test]
async fn a_redirect_is_followed() {
    let machine = Machine::new();
    let target = Server::new("200 OK", &manifest("a", "i:1")).await;
    let moved = format!("302 Found\r\nLocation: {}", target.url);
    let server = Server::new(&moved, "").await;
    let mut running = server.source(&machine);
    assert_eq!(running.next_names().await, ["a-bench"]);
}

#[tokio::test]
async fn passwords_in_urls_are_not_shown() {
    assert_eq!(
        report::shown_url("https://me:secret@host/x?y"),
        "https://me:xxxxx@host/x?y"
    );
    assert_eq!(report::shown_url("/etc/a:b@c"), "/etc/a:b@c");
    assert_eq!(report::shown_url("http://host/a:b@c"), "http://host/a:b@c");
}
