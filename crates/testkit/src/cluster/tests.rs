//! The line does what it says.
//!
//! In:    one client, each fault
//! Out:   what the client and the server saw
//! Calls: cargo test
//! Holds: no test waits on real time
//! Upstream: none

use super::*;

const SPACES: &str = "/api/v1/namespaces";

fn call(method: Method, body: &str) -> Call {
    Call {
        operation: "ask",
        lane: LaneKind::General,
        method,
        path: SPACES.to_owned(),
        content_type: "application/json",
        body: body.to_owned().into(),
        deadline: Duration::from_secs(40),
    }
}

fn cluster() -> (TestCluster, Client) {
    let start = "2026-11-25T12:00:00Z".parse().unwrap();
    let cluster = TestCluster::new(start).unwrap();
    let client = cluster.client(User::admin(), cluster.clock());
    (cluster, client)
}

#[tokio::test(start_paused = true)]
async fn a_refused_line_and_a_black_hole_end_calls_and_heal() {
    let (cluster, client) = cluster();
    client.call(call(Method::GET, "")).await.unwrap();
    cluster.line.set(Health::Refused);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let error = client.call(call(Method::GET, "")).await.unwrap_err();
    assert!(matches!(error, ClusterError::Unreachable { .. }), "{error}");
    cluster.line.set(Health::Good);
    client.call(call(Method::GET, "")).await.unwrap();
    cluster.line.set(Health::BlackHole);
    let before = tokio::time::Instant::now();
    client.call(call(Method::GET, "")).await.unwrap_err();
    // The connection is found dead by its pings, after 15 and 10 s.
    assert!(before.elapsed() <= Duration::from_secs(26));
    client.call(call(Method::GET, "")).await.unwrap_err();
    cluster.line.set(Health::Good);
    client.call(call(Method::GET, "")).await.unwrap();
    assert_eq!(cluster.line.asked_since(Duration::ZERO).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_was_done_and_a_refusal_was_not() {
    let (cluster, client) = cluster();
    let history = cluster.witness::<k8s_openapi::api::core::v1::Namespace>();
    let space = |name: &str| {
        format!(r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{name}"}}}}"#)
    };
    cluster
        .line
        .set_rule(|asked| asked.is_write().then_some(Fault::LoseAnswer));
    let error = client.call(call(Method::POST, &space("a"))).await;
    assert!(matches!(error, Err(ClusterError::Lost { .. })), "{error:?}");
    cluster.line.set_rule(|_| {
        Some(Fault::Answer {
            code: 429,
            reason: "TooManyRequests",
            retry_after: Some(7),
        })
    });
    let error = client.call(call(Method::POST, &space("b"))).await;
    let error = error.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let names: Vec<_> = history
        .forms(0)
        .iter()
        .map(|s| s.metadata.name.clone())
        .collect();
    assert_eq!(names, [Some("a".to_owned())]);
    assert_eq!(cluster.line.attempts_since(Duration::ZERO), 4);
}
