//! A cluster in the test's process: the project's own API server, an administrator whose line is always good, a kubelet's line that
//! is not, and a witness who sees every write.
//!
//! In:    objects, faults of the line
//! Out:   clients that speak HTTP/2 over pipes; what the server was asked; the history of a kind
//! Calls: tests of act, world
//! Holds: server and protocol are the real ones; only the line fails; the administrator and the witness never go over it
//! Upstream: none
//!
//! | Module | What |
//! |---|---|
//! | [`line`] | dials, bytes and requests, and what goes wrong with each |

pub mod line;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use hyper::rt::Executor as _;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use kubelet_apiserver::base::clock::Chance;
use kubelet_apiserver::base::user::User;
use kubelet_apiserver::identity::Identity;
use kubelet_apiserver::kinds::resources::selectable_fields;
use kubelet_apiserver::store::Store;
use kubelet_apiserver::{ApiServer, ServerParts};
use kubelet_cluster::reflector::{Change, FirstSet, Reflector, Selection};
use kubelet_cluster::{
    Call, Client, ClientConfig, ClusterError, LaneKind, Object, Rate, WallClock,
};
use kubelet_model::dice::Dice;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use line::{Asked, Fault, Health, Line};

/// `kubeAPIQPS` and `kubeAPIBurst` as a kubelet has them by default.
pub const RATE: Rate = Rate {
    qps: 50,
    burst: 100,
};

/// The API server, and what reaches it. Clones are the same one.
#[derive(Clone, Debug)]
pub struct TestCluster {
    server: ApiServer,
    clock: WallClock,
    /// The kubelet's line.
    pub line: Line,
    admin: Client,
}

impl TestCluster {
    /// A server without objects, whose wall clock starts at `start` and runs with tokio's.
    ///
    /// # Errors
    /// What the server is made of could not be made.
    pub fn new(start: Timestamp) -> Result<Self, String> {
        let began = tokio::time::Instant::now();
        let now = move || start.saturating_add(began.elapsed()).unwrap_or(start);
        let chance = Chance::seeded(7);
        let parts = ServerParts {
            store: Store::memory(selectable_fields).map_err(|error| error.to_string())?,
            now: Arc::new(now),
            identity: Identity::fresh(&chance, now()).map_err(|error| error.to_string())?,
            chance,
            static_tokens: BTreeMap::new(),
            advertised: None,
            own_kubelet: None,
        };
        let server = ApiServer::new(parts)?;
        let clock = WallClock::new(now);
        let good = Line::new(server.clone());
        let admin = Client::in_process(good.pipe(User::admin()), &config(), clock.clone());
        Ok(Self {
            line: Line::new(server.clone()),
            server,
            clock,
            admin,
        })
    }

    /// Starts what runs beside requests: namespaces, service accounts, garbage, the binder.
    pub fn run_controllers(&self) {
        let server = self.server.clone();
        TokioExecutor::new().execute(async move { server.run(CancellationToken::new()).await });
    }

    /// The true time.
    pub fn clock(&self) -> WallClock {
        self.clock.clone()
    }

    /// A client on the kubelet's line; what it takes for the time is its own affair.
    pub fn client(&self, user: User, clock: WallClock) -> Client {
        Client::in_process(self.line.pipe(user), &config(), clock)
    }

    /// Asks as the administrator. `body` `Null` is none; a patch is a merge patch.
    ///
    /// # Errors
    /// As every call.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Value, ClusterError> {
        let is_patch = method == Method::PATCH;
        let call = Call {
            operation: "ask",
            lane: LaneKind::Heartbeat,
            method,
            path: path.to_owned(),
            content_type: if is_patch {
                "application/merge-patch+json"
            } else {
                "application/json"
            },
            body: if body.is_null() {
                Bytes::new()
            } else {
                body.to_string().into()
            },
            deadline: Duration::from_secs(30),
        };
        let answer = self.admin.call(call).await?;
        Ok(serde_json::from_slice(&answer).unwrap_or_default())
    }

    /// Records every change of every object of a kind from now on.
    pub fn witness<T: Object + Clone>(&self) -> History<T> {
        let (sender, mut changes) = mpsc::channel(1024);
        let (reflector, _) = Reflector::<T>::new(
            self.admin.clone(),
            Selection::default(),
            FirstSet::Paged,
            Dice::new(9),
        );
        let history = History(Arc::default());
        let writing = history.clone();
        TokioExecutor::new().execute(reflector.with_changes(sender).run());
        TokioExecutor::new().execute(async move {
            while let Some(change) = changes.recv().await {
                writing.lock().push(change);
            }
        });
        history
    }
}

/// What a witness saw, in the server's order. Clones share it.
#[derive(Debug)]
pub struct History<T>(Arc<Mutex<Vec<Change<T>>>>);

impl<T> Clone for History<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> History<T> {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Change<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many changes there were: a mark to look from later.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// The changes since a mark.
    pub fn since(&self, mark: usize) -> Vec<Change<T>>
    where
        T: Clone,
    {
        self.lock().iter().skip(mark).cloned().collect()
    }

    /// Every form that objects had since a mark, deletions left out.
    pub fn forms(&self, mark: usize) -> Vec<Arc<T>>
    where
        T: Clone,
    {
        let form = |change: Change<T>| match change {
            Change::Applied(object) => Some(object),
            Change::Deleted(_) => None,
        };
        self.since(mark).into_iter().filter_map(form).collect()
    }
}

fn config() -> ClientConfig {
    ClientConfig {
        user_agent: "kubelet/test".to_owned(),
        rate: RATE,
        event_rate: Some(RATE),
    }
}
