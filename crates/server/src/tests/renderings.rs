//! Many requests for an expensive response: health checks are answered meanwhile, and waiting requests share one rendering.
//!
//! In:    callers over real TLS and HTTP/2; a metric that takes as long as the test wants; a long pod list
//! Out:   how often it was rendered, on which thread, and what was answered meanwhile
//! Upstream: none

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use hyper_util::rt::TokioExecutor;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::secure::tls_stream;
use super::*;
use crate::pods::Lists;
use crate::renderings::Turns;

/// A metric whose collection waits for the test.
#[derive(Clone)]
struct Slow {
    desc: Desc,
    begun: watch::Sender<usize>,
    opened: Arc<(Mutex<bool>, Condvar)>,
    late: Arc<AtomicUsize>,
}

impl Slow {
    fn new() -> Self {
        Self {
            desc: Desc::new("slow".into(), "Slow.".into(), Vec::new(), [].into()).unwrap(),
            begun: watch::Sender::new(0),
            opened: Arc::default(),
            late: Arc::default(),
        }
    }

    fn open(&self) {
        *self.opened.0.lock().unwrap() = true;
        self.opened.1.notify_all();
    }
}

impl Collector for Slow {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.begun.send_modify(|begun| *begun += 1);
        let opened = self.opened.0.lock().unwrap();
        let wait = Duration::from_secs(5);
        let (mut opened, _) = self
            .opened
            .1
            .wait_timeout_while(opened, wait, |opened| !*opened)
            .unwrap();
        if !std::mem::replace(&mut *opened, true) {
            self.late.fetch_add(1, Ordering::SeqCst);
        }
        Vec::new()
    }
}

type Http2 = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

async fn http2(at: SocketAddr, ca: &Path) -> Http2 {
    let stream = TokioIo::new(tls_stream(at, ca, None, b"h2").await);
    let (client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    drop(tokio::task::spawn_local(connection));
    client
}

async fn ask(mut client: Http2, path: &str) -> (u16, Bytes) {
    client.ready().await.unwrap();
    let request = Request::get(format!("https://localhost{path}"));
    let request = request.body(Full::default()).unwrap();
    let (head, body) = client.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), body)
}

#[tokio::test]
async fn health_is_answered_while_metrics_are_rendered_and_those_who_wait_share_one_rendering() {
    let scratch = Scratch::new("renderings");
    let (state, _world) = state();
    let slow = Slow::new();
    state.registry.register(Box::new(slow.clone())).unwrap();
    let listeners = bind(config(Some(main_config(&scratch.0))), state)
        .await
        .unwrap();
    let at = address(listeners.main.as_ref());
    let crt = scratch.0.join("kubelet.crt");
    with(
        listeners.main,
        Box::pin(async {
            let client = http2(at, &crt).await;
            let mut begun = slow.begun.subscribe();
            let first = tokio::task::spawn_local(ask(client.clone(), "/metrics"));
            begun.wait_for(|begun| *begun == 1).await.unwrap();
            let asking: Vec<_> = (0..60)
                .map(|_| tokio::task::spawn_local(ask(client.clone(), "/metrics")))
                .collect();
            // On the same connection, after all of them.
            let health = ask(client.clone(), "/healthz").await;
            assert_eq!(health, (200, Bytes::from_static(b"ok")));
            assert_eq!(slow.late.load(Ordering::SeqCst), 0, "health waited");
            slow.open();
            assert_eq!(first.await.unwrap().0, 200);
            for answer in join_all(asking).await {
                let (status, text) = answer.unwrap();
                let text = String::from_utf8(text.to_vec()).unwrap();
                assert_eq!((status, text.contains("process_open_fds")), (200, true));
            }
            // One rendering for the first request, one that found the other turn free, and one for all others.
            assert!(*begun.borrow() <= 3, "{} renderings", *begun.borrow());
            // A later request gets a new rendering.
            let before = *begun.borrow();
            assert_eq!(ask(client, "/metrics").await.0, 200);
            assert_eq!(*begun.borrow(), before + 1);
        }),
    )
    .await;
}

/// Pods of 40 KB each.
fn many(count: usize) -> ReportedPods {
    let pods = (0..count).map(|number| {
        let mut pod = Pod::default();
        pod.metadata.name = Some(format!("pod-{number:03}"));
        pod.metadata.uid = Some(format!("u{number:03}"));
        let ballast = "b".repeat(40_000);
        pod.metadata.annotations = Some([("ballast".to_owned(), ballast)].into());
        pod
    });
    pods.flat_map(reported).collect()
}

#[tokio::test]
async fn a_long_list_is_rendered_part_by_part_elsewhere_and_shared_by_who_asks_meanwhile() {
    let scratch = Scratch::new("list");
    let (mut state, _world) = state();
    let (_pods, pods) = watch::channel(many(30));
    state.pods = pods;
    let lists = Lists::new(state.pods.clone());
    let listeners = bind(config(Some(main_config(&scratch.0))), state)
        .await
        .unwrap();
    let at = address(listeners.main.as_ref());
    let crt = scratch.0.join("kubelet.crt");
    let answers = with(
        listeners.main,
        Box::pin(async {
            let client = http2(at, &crt).await;
            join_all((0..3).map(|_| ask(client.clone(), "/pods"))).await
        }),
    )
    .await;
    let shown: serde_json::Value = serde_json::from_slice(&answers[0].1).unwrap();
    let items = shown["items"].as_array().unwrap();
    assert_eq!(items.len(), 30);
    assert_eq!(items[29]["metadata"]["name"], "pod-029");
    assert!(answers.iter().all(|answer| *answer == answers[0]));

    // A request that waits for its turn has rendered nothing; concurrent requests get the same bytes.
    let (turns, list) = (Turns::new(), lists.latest());
    let taken = [turns.take().await.unwrap(), turns.take().await.unwrap()];
    let mut waiting: Vec<_> = (0..100).map(|_| Box::pin(list.part(0, &turns))).collect();
    assert!(waiting.iter_mut().all(|one| one.now_or_never().is_none()));
    assert!(Arc::ptr_eq(&list, &lists.latest()));
    drop(taken);
    let parts: Vec<_> = join_all(waiting)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(parts.iter().all(|part| Arc::ptr_eq(part, &parts[0])));
    assert!(parts[0].bytes().len() < 128 << 10, "not the whole list");
    let bytes = parts[0].bytes();
    let (weak, list_gone) = (Arc::downgrade(&parts[0]), Arc::downgrade(&list));
    drop((parts, list));
    assert!(weak.upgrade().is_some(), "as long as the bytes are there");
    drop(bytes);
    assert!(weak.upgrade().is_none() && list_gone.upgrade().is_none());
}

#[tokio::test]
async fn another_set_of_pods_is_another_list() {
    let (pods, looked_at) = watch::channel(many(1));
    let lists = Lists::new(looked_at);
    let before = lists.latest();
    assert!(Arc::ptr_eq(&before, &lists.latest()));
    pods.send_replace(many(2));
    let after = lists.latest();
    assert!(!Arc::ptr_eq(&before, &after));
    assert!(Arc::ptr_eq(&after, &lists.latest()));
}
