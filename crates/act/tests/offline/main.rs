//! The tasks that speak to the API server while it cannot be reached, refuses, is slow or loses answers: real server, real protocol, a
//! line on which things go wrong, paused time.
//!
//! In:    each kind of trouble, with what happens meanwhile on the node and at the server
//! Out:   what the server holds a minute after; every form that it ever held; how often it was asked
//! Calls: cargo test
//! Holds: no test waits on real time; the administrator's line is never in trouble
//! Upstream: none
//!
//! | Module | Task |
//! |---|---|
//! | `statuses` | status_write |
//! | `sources` | cluster_source |
//! | `mirrors` | mirror_pods |
//! | `node` | node_status |
//! | `objects` | pod_objects |
//! | `told` | events |

#![expect(clippy::unwrap_used, reason = "helpers of tests are test code")]

mod mirrors;
mod node;
mod objects;
mod sources;
mod statuses;
mod told;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use hyper::Method;
use kubelet_act::frame::clock::Clock;
use kubelet_act::frame::reconciler::{Pace, Reconciler, Reconcilers};
use kubelet_act::frame::supervisor::Supervisor;
use kubelet_apiserver::base::user::User;
use kubelet_cluster::{Client, WallClock};
use serde_json::{Value, json};
use testkit::cluster::{Fault, Health, TestCluster};
use tokio_util::sync::CancellationToken;

const NODE: &str = "n";
const PODS: &str = "/api/v1/namespaces/default/pods";
const MINUTE: Duration = Duration::from_secs(60);

/// A cluster, and the clock of its one node.
struct Site {
    cluster: TestCluster,
    clock: Clock,
    set_by: &'static AtomicI64,
    stop: CancellationToken,
    reconcilers: Reconcilers,
}

impl Site {
    async fn new() -> Self {
        let start: jiff::Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
        let cluster = TestCluster::new(start).unwrap();
        cluster.run_controllers();
        let set_by: &'static AtomicI64 = Box::leak(Box::default());
        let clock = Clock::simulated_and_set(start, set_by);
        let supervisor = Supervisor::new(clock);
        let site = Self {
            cluster,
            clock,
            set_by,
            stop: supervisor.stop().clone(),
            reconcilers: Reconcilers::new(supervisor, clock, 1, &prometheus::Registry::new())
                .unwrap(),
        };
        // Namespaces and accounts are made.
        seconds(2).await;
        site
    }

    fn wall(&self) -> WallClock {
        let clock = self.clock;
        WallClock::new(move || clock.now())
    }

    fn client(&self) -> Client {
        self.cluster.client(User::node(NODE), self.wall())
    }

    /// The Node, made by the administrator: its UID.
    async fn node(&self) -> String {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
        let made = self.cluster.ask(Method::POST, "/api/v1/nodes", &node).await;
        made.unwrap()["metadata"]["uid"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// A pod of the node, made by the administrator: its UID.
    async fn pod(&self, name: &str, change: impl FnOnce(&mut Value)) -> String {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": NODE, "automountServiceAccountToken": false,
                     "containers": [{"name": "main", "image": "img/here:1"}]},
        });
        change(&mut pod);
        let made = self.cluster.ask(Method::POST, PODS, &pod).await.unwrap();
        made["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// Removes a pod at once, as the administrator.
    async fn remove(&self, name: &str) {
        let at_once = json!({"gracePeriodSeconds": 0});
        let path = format!("{PODS}/{name}");
        self.cluster
            .ask(Method::DELETE, &path, &at_once)
            .await
            .unwrap();
    }

    async fn get(&self, path: &str) -> Value {
        self.cluster
            .ask(Method::GET, path, &Value::Null)
            .await
            .unwrap()
    }

    fn keep(&self, reconciler: impl Reconciler, pace: Pace) {
        self.reconcilers.spawn(reconciler, pace);
    }

    fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        #[expect(clippy::disallowed_methods, reason = "the task under test")]
        drop(tokio::spawn(
            self.stop.clone().run_until_cancelled_owned(task),
        ));
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// What is wrong for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// All connections are cut every 7 s.
    Cuts,
    /// Watches cannot be resumed, and are cut every 30 s.
    Expired,
    /// Every write is answered 409.
    Conflicts,
    /// Everything is answered 429, with 20 s to wait.
    TooMany,
    /// Everything is answered 500.
    Errors,
    /// Everything takes 8 s.
    Slow,
    /// Every write is done, and its answer is lost with all connections.
    LostAnswers,
    /// 30 min without a byte, and without an end.
    BlackHole,
    /// 30 min in which nobody listens.
    Refused,
    /// The node's clock is a year ahead.
    ClockOn,
    /// The node's clock is a year behind.
    ClockBack,
}

impl Trouble {
    const ALL: [Self; 11] = [
        Self::Cuts,
        Self::Expired,
        Self::Conflicts,
        Self::TooMany,
        Self::Errors,
        Self::Slow,
        Self::LostAnswers,
        Self::BlackHole,
        Self::Refused,
        Self::ClockOn,
        Self::ClockBack,
    ];

    fn lasts(self) -> Duration {
        match self {
            Self::BlackHole | Self::Refused => MINUTE * 30,
            _ => MINUTE * 5,
        }
    }

    /// Makes it, lets it last, and heals.
    async fn run(self, site: &Site) {
        let line = &site.cluster.line;
        let year = 365 * 24 * 3600 * 1_000_000_000;
        let answer = |code, reason, retry_after| {
            let fault = Fault::Answer {
                code,
                reason,
                retry_after,
            };
            Some(fault)
        };
        let mut cut_every = None;
        match self {
            Self::Cuts => cut_every = Some(Duration::from_secs(7)),
            Self::Expired => {
                cut_every = Some(Duration::from_secs(30));
                let by_line = AtomicBool::new(false);
                line.set_rule(move |asked| {
                    let resumes = asked.is_watch() && !asked.query.contains("sendInitialEvents");
                    let fault = if by_line.fetch_xor(true, Ordering::Relaxed) {
                        Some(Fault::WatchError(410))
                    } else {
                        answer(410, "Expired", None)
                    };
                    fault.filter(|_| resumes)
                });
            }
            Self::Conflicts => line
                .set_rule(move |asked| answer(409, "Conflict", None).filter(|_| asked.is_write())),
            Self::TooMany => line.set_rule(move |_| answer(429, "TooManyRequests", Some(20))),
            Self::Errors => line.set_rule(move |_| answer(500, "InternalError", None)),
            Self::Slow => line.set_rule(|_| Some(Fault::Slow(Duration::from_secs(8)))),
            Self::LostAnswers => {
                line.set_rule(|asked| asked.is_write().then_some(Fault::LoseAnswer));
            }
            Self::BlackHole => line.set(Health::BlackHole),
            Self::Refused => line.set(Health::Refused),
            Self::ClockOn => site.set_by.store(year, Ordering::Relaxed),
            Self::ClockBack => site.set_by.store(-year, Ordering::Relaxed),
        }
        if matches!(self, Self::TooMany | Self::Errors) {
            // Watches that are open would not notice.
            line.cut();
        }
        let until = tokio::time::Instant::now() + self.lasts();
        while let Some(every) = cut_every.filter(|_| tokio::time::Instant::now() < until) {
            line.cut();
            tokio::time::sleep(every).await;
        }
        tokio::time::sleep_until(until).await;
        line.clear_rule();
        line.set(Health::Good);
        site.set_by.store(0, Ordering::Relaxed);
    }
}

/// The same for every trouble.
async fn in_every_trouble<F: Future<Output = ()>>(check: impl Fn(Trouble) -> F) {
    for trouble in Trouble::ALL {
        check(trouble).await;
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Asserts how often the server was asked, with the reason for the bound in words.
fn assert_calm(site: &Site, since: Duration, most: usize, what: &str) {
    let busiest = site.cluster.line.busiest_minute(since);
    assert!(
        busiest <= most,
        "{what}: {busiest} in a minute, {most} are the most"
    );
}

/// The same object as the API server holds it, typed.
fn typed<T: serde::de::DeserializeOwned>(object: &Value) -> Arc<T> {
    Arc::new(serde_json::from_value(object.clone()).unwrap())
}
