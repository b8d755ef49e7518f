//! The line between a kubelet and its API server: HTTP/2 over pipes, and what goes wrong on it.
//!
//! In:    the line's health; a rule that looks at each request and may name a fault
//! Out:   pipes for clients; every dial and every request, with its time and what became of it
//! Calls: `TestCluster`, tests
//! Holds: bytes pass unchanged or not at all; what a fault says was done is done by the real server; a connection that fell into the
//!        black hole never comes back, even when the line does
//! Upstream: none

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::rt::Executor as _;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kubelet_apiserver::ApiServer;
use kubelet_apiserver::base::body::Body;
use kubelet_apiserver::base::user::User;
use kubelet_cluster::{Io, Pipe};
use serde_json::json;
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

/// Bytes that are on their way at a time.
const PIPE: usize = 1 << 16;

/// What the line does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Bytes pass.
    Good,
    /// Nobody listens: dials are refused at once, connections are cut.
    Refused,
    /// Connections are taken, and nothing ever passes on them or on those that were there.
    BlackHole,
}

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not done, and answered so.
    Answer {
        /// HTTP status.
        code: u16,
        /// `Status.reason`.
        reason: &'static str,
        /// `Retry-After`, seconds.
        retry_after: Option<u16>,
    },
    /// A watch begins, and its first line is an error of this code.
    WatchError(u16),
    /// It is done that much later.
    Slow(Duration),
    /// It is done, and all connections are cut before the answer.
    LoseAnswer,
    /// It is not done and not answered.
    Hang,
}

/// One request that came through.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Since the line was made.
    pub at: Duration,
    /// The verb.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// The query.
    pub query: String,
    /// The body.
    pub body: Bytes,
    /// The status of the answer; `None` while there is none.
    pub code: Option<u16>,
}

impl Asked {
    /// `PATCH /api/v1/nodes/n`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Whether it opens a watch.
    pub fn is_watch(&self) -> bool {
        self.query.split('&').any(|part| part == "watch=true")
    }

    /// Whether it changes something.
    pub fn is_write(&self) -> bool {
        self.method != "GET"
    }
}

/// Looks at a request before it is done.
pub type Rule = Arc<dyn Fn(&Asked) -> Option<Fault> + Send + Sync>;

#[derive(Default)]
struct State {
    rule: Option<Rule>,
    dials: Vec<Duration>,
    asked: Vec<Asked>,
    cut: CancellationToken,
}

struct Inner {
    server: ApiServer,
    began: Instant,
    health: watch::Sender<Health>,
    state: Mutex<State>,
}

/// The line. Clones are the same one.
#[derive(Clone)]
pub struct Line(Arc<Inner>);

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Line")
            .field("health", &*self.0.health.borrow())
            .field("dials", &state.dials.len())
            .field("asked", &state.asked.len())
            .finish_non_exhaustive()
    }
}

impl Line {
    /// A good line to a server.
    pub fn new(server: ApiServer) -> Self {
        Self(Arc::new(Inner {
            server,
            began: Instant::now(),
            health: watch::Sender::new(Health::Good),
            state: Mutex::default(),
        }))
    }

    /// Makes it good or bad from now on.
    pub fn set(&self, health: Health) {
        self.0.health.send_replace(health);
        if health == Health::Refused {
            self.cut();
        }
    }

    /// Ends every connection there is; what was done is done, and its answer is lost.
    pub fn cut(&self) {
        std::mem::take(&mut self.lock().cut).cancel();
    }

    /// Asks this about each request from now on.
    pub fn set_rule(&self, rule: impl Fn(&Asked) -> Option<Fault> + Send + Sync + 'static) {
        self.lock().rule = Some(Arc::new(rule));
    }

    /// Every request is done again.
    pub fn clear_rule(&self) {
        self.lock().rule = None;
    }

    /// Since the line was made.
    pub fn now(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// What came through since then.
    pub fn asked_since(&self, since: Duration) -> Vec<Asked> {
        let state = self.lock();
        let later = state.asked.iter().filter(|asked| asked.at >= since);
        later.cloned().collect()
    }

    /// Connections asked for and requests that came through, in the busiest minute from then on.
    pub fn busiest_minute(&self, since: Duration) -> usize {
        let state = self.lock();
        let dials = state.dials.iter().copied();
        let mut all: Vec<Duration> = dials.chain(state.asked.iter().map(|a| a.at)).collect();
        drop(state);
        all.retain(|at| *at >= since);
        all.sort_unstable();
        let minute = Duration::from_secs(60);
        let within = |from: &Duration| {
            let of = |at: &&Duration| *at >= from && **at < *from + minute;
            all.iter().filter(of).count()
        };
        all.iter().map(within).max().unwrap_or(0)
    }

    /// Connections asked for and requests that came through, from then on.
    pub fn attempts_since(&self, since: Duration) -> usize {
        let state = self.lock();
        let dials = state.dials.iter().filter(|at| **at >= since).count();
        dials + state.asked.iter().filter(|a| a.at >= since).count()
    }

    /// How a client of this user reaches the server.
    pub fn pipe(&self, user: User) -> Pipe {
        let line = self.clone();
        Arc::new(move || {
            let dialled = line.dial(&user);
            Box::pin(async move { dialled })
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dial(&self, user: &User) -> std::io::Result<Box<dyn Io>> {
        let now = self.now();
        let cut = {
            let mut state = self.lock();
            state.dials.push(now);
            state.cut.clone()
        };
        if *self.0.health.borrow() == Health::Refused {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        let (near, entry) = tokio::io::duplex(PIPE);
        let (exit, far) = tokio::io::duplex(PIPE);
        let health = self.0.health.subscribe();
        TokioExecutor::new().execute(carry(entry, exit, health, cut));
        TokioExecutor::new().execute(self.clone().serve(far, user.clone()));
        Ok(Box::new(near))
    }

    /// The server's side of a connection.
    async fn serve(self, io: DuplexStream, user: User) {
        let service = service_fn(move |request: Request<Incoming>| {
            let (line, user) = (self.clone(), user.clone());
            async move { Ok::<_, Infallible>(line.answer(request, user).await) }
        });
        let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(io), service);
        // A connection that breaks is what this is for.
        let _ended = served.await;
    }

    async fn answer(&self, request: Request<Incoming>, user: User) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes());
        let asked = Asked {
            at: self.now(),
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            body: body.unwrap_or_default(),
            code: None,
        };
        let (place, rule) = {
            let mut state = self.lock();
            state.asked.push(asked.clone());
            (state.asked.len() - 1, state.rule.clone())
        };
        let fault = rule.and_then(|rule| rule(&asked));
        match fault {
            Some(Fault::Answer {
                code,
                reason,
                retry_after,
            }) => return self.answered(place, refusal(code, reason, retry_after)),
            Some(Fault::WatchError(code)) => return self.answered(place, watch_error(code)),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Slow(after)) => tokio::time::sleep(after).await,
            Some(Fault::LoseAnswer) | None => {}
        }
        let request = Request::from_parts(head, Full::new(asked.body));
        let mut server = self.0.server.service_as(user);
        let response = server
            .call(request)
            .await
            .unwrap_or_else(|never| match never {});
        let response = self.answered(place, response);
        if fault == Some(Fault::LoseAnswer) {
            self.cut();
            std::future::pending::<()>().await;
        }
        response
    }

    fn answered(&self, place: usize, response: Response<Body>) -> Response<Body> {
        if let Some(asked) = self.lock().asked.get_mut(place) {
            asked.code = Some(response.status().as_u16());
        }
        response
    }
}

/// Moves bytes both ways while the line lets them.
async fn carry(
    mut near: DuplexStream,
    mut far: DuplexStream,
    mut health: watch::Receiver<Health>,
    cut: CancellationToken,
) {
    tokio::select! {
        // Trouble goes first: bytes that have not passed yet do not pass any more.
        biased;
        () = cut.cancelled() => return,
        Ok(_) = health.wait_for(|health| *health == Health::BlackHole) => {}
        _ended = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
    }
    // Nobody tells either side: they have to find out.
    cut.cancelled().await;
}

fn full(text: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn refusal(code: u16, reason: &str, retry_after: Option<u16>) -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "made by the line",
    });
    let mut response = full(status.to_string());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or_default();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

fn watch_error(code: u16) -> Response<Body> {
    let reason = if code == 410 {
        "Expired"
    } else {
        "InternalError"
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "made by the line",
    });
    full(format!("{}\n", json!({"type": "ERROR", "object": status})))
}
