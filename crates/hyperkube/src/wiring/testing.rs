//! This program's API server inside the test's process, and clients connected by pipes.
//!
//! In:    a user
//! Out:   a client whose calls are that user's
//! Calls: tests of the wiring
//! Holds: protocol and answers are the real ones; a server that is away refuses new connections and closes existing ones
//! Upstream: none

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use kubelet_apiserver::base::clock::Chance;
use kubelet_apiserver::base::user::User;
use kubelet_apiserver::identity::Identity;
use kubelet_apiserver::kinds::resources::selectable_fields;
use kubelet_apiserver::store::Store;
use kubelet_apiserver::{ApiServer, ServerParts};
use kubelet_cluster::{Client, ClientConfig, Io, Pipe, Rate, WallClock};
use tokio_util::sync::CancellationToken;

const START: &str = "2026-11-25T12:00:00Z";

/// The server.
#[derive(Clone)]
pub(crate) struct World {
    server: ApiServer,
    pub(crate) clock: WallClock,
    pub(crate) dials: Arc<AtomicUsize>,
    is_away: Arc<AtomicBool>,
    ahead: Arc<AtomicI64>,
    cut: Arc<std::sync::Mutex<CancellationToken>>,
}

impl World {
    /// A server whose clock follows tokio's.
    pub(crate) fn new() -> Self {
        let (began, start) = (
            tokio::time::Instant::now(),
            START.parse::<jiff::Timestamp>(),
        );
        let start = start.unwrap();
        let ahead = Arc::new(AtomicI64::new(0));
        let skipped = Arc::clone(&ahead);
        let now = move || {
            let skipped = jiff::SignedDuration::from_secs(skipped.load(Ordering::SeqCst));
            start + jiff::SignedDuration::try_from(began.elapsed()).unwrap() + skipped
        };
        let chance = Chance::seeded(7);
        let now = Arc::new(now);
        let identity = Identity::fresh(&chance, now()).unwrap();
        let static_tokens = BTreeMap::from([
            ("admin-token".to_owned(), User::admin()),
            ("bob-token".to_owned(), User::new("bob", &["users"])),
        ]);
        let shared = Arc::clone(&now);
        let server = ApiServer::new(ServerParts {
            store: Store::memory(selectable_fields).unwrap(),
            now: shared,
            chance,
            identity,
            static_tokens,
            advertised: None,
            own_kubelet: None,
        });
        Self {
            server: server.unwrap(),
            clock: WallClock::new(move || now()),
            dials: Arc::default(),
            is_away: Arc::default(),
            ahead,
            cut: Arc::default(),
        }
    }

    /// Runs its controllers until dropped.
    pub(crate) async fn run(&self) {
        self.server.run(CancellationToken::new()).await;
    }

    /// Makes it unreachable, or reachable again.
    pub(crate) fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
        std::mem::take(&mut *self.cut.lock().unwrap()).cancel();
    }

    /// Moves all wall clocks forward by so many seconds.
    pub(crate) fn skip(&self, seconds: f64) {
        self.ahead.fetch_add(seconds as i64, Ordering::SeqCst);
    }

    pub(crate) fn pipe(&self, user: User) -> Pipe {
        let world = self.clone();
        Arc::new(move || {
            let dialled = world.dial(user.clone());
            Box::pin(async move { dialled })
        })
    }

    fn dial(&self, user: User) -> std::io::Result<Box<dyn Io>> {
        self.dials.fetch_add(1, Ordering::SeqCst);
        if self.is_away.load(Ordering::SeqCst) {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        let (near, far) = tokio::io::duplex(1 << 16);
        let service = TowerToHyperService::new(self.server.service_as(user));
        let cut = self.cut.lock().unwrap().clone();
        let serve = async move {
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(far), service);
            cut.run_until_cancelled(connection).await;
        };
        hyper::rt::Executor::execute(&TokioExecutor::new(), serve);
        Ok(Box::new(near))
    }

    pub(crate) fn client(&self, user: User) -> Client {
        Client::in_process(self.pipe(user), &config(), self.clock.clone())
    }
}

pub(crate) fn config() -> ClientConfig {
    let rate = Rate {
        qps: 50,
        burst: 100,
    };
    ClientConfig {
        user_agent: "kubelet/test".to_owned(),
        rate,
        event_rate: Some(rate),
    }
}
