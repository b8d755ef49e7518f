//! A server in this process that speaks HTTP/2 over pipes, for tests: scripted answers, and a set with a history.
//!
//! In:    a function from request to answer
//! Out:   a client of it
//! Calls: tests of this crate
//! Holds: the protocol is the real one; only what answers is scripted
//! Upstream: none

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::rt::Executor as _;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::client::{Client, ClientConfig};
use crate::clock::WallClock;
use crate::connection::Pipe;
use crate::io::Io;
use crate::limiter::Rate;

pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;
pub(crate) type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// What the server does with a request whose body was read.
pub(crate) type Script = Arc<dyn Fn(Seen) -> Answer + Send + Sync>;

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    /// Value of a query parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let mut parts = self
            .query
            .split('&')
            .filter_map(|part| part.split_once('='));
        parts.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// The server, and what it was asked.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) dials: Arc<AtomicUsize>,
    /// Connections are taken and nothing is ever answered on them.
    pub(crate) is_dead: Arc<AtomicBool>,
    /// Connections are refused.
    pub(crate) is_down: Arc<AtomicBool>,
    /// Streams that it takes on one connection; 0 is 200.
    pub(crate) streams: Arc<AtomicU32>,
    script: Script,
}

impl Server {
    pub(crate) fn new<F>(script: impl Fn(Seen) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self {
            dials: Arc::default(),
            is_dead: Arc::default(),
            is_down: Arc::default(),
            streams: Arc::default(),
            script: Arc::new(move |seen| Box::pin(script(seen))),
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.client_at("2026-11-25T12:00:00Z".parse().unwrap())
    }

    /// A client whose clock starts there and runs with tokio's.
    pub(crate) fn client_at(&self, start: jiff::Timestamp) -> Client {
        let began = tokio::time::Instant::now();
        let clock = WallClock::new(move || {
            start + jiff::SignedDuration::try_from(began.elapsed()).unwrap()
        });
        Client::in_process(self.pipe(), &config(), clock)
    }

    pub(crate) fn pipe(&self) -> Pipe {
        let server = self.clone();
        Arc::new(move || {
            let server = server.clone();
            Box::pin(async move { server.dial() })
        })
    }

    fn dial(&self) -> std::io::Result<Box<dyn Io>> {
        self.dials.fetch_add(1, Ordering::SeqCst);
        if self.is_down.load(Ordering::SeqCst) {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        let (near, far) = tokio::io::duplex(1 << 16);
        if self.is_dead.load(Ordering::SeqCst) {
            TokioExecutor::new().execute(async move {
                let _kept = far;
                std::future::pending::<()>().await;
            });
            return Ok(Box::new(near));
        }
        let script = Arc::clone(&self.script);
        let streams = self.streams.load(Ordering::SeqCst);
        TokioExecutor::new().execute(serve((script, streams), far));
        Ok(Box::new(near))
    }
}

async fn serve((script, streams): (Script, u32), io: tokio::io::DuplexStream) {
    let service = service_fn(move |request: Request<Incoming>| {
        let script = Arc::clone(&script);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes());
            let seen = Seen {
                method: head.method.to_string(),
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                headers: head.headers,
                body: body.unwrap_or_default(),
            };
            Ok::<_, Infallible>(script(seen).await)
        }
    });
    let _ended = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(if streams > 0 { streams } else { 200 })
        .serve_connection(TokioIo::new(io), service)
        .await;
}

pub(crate) fn config() -> ClientConfig {
    let rate = Rate {
        qps: 50,
        burst: 100,
    };
    ClientConfig {
        user_agent: "kubelet/v1.36.2 (linux/amd64)".to_owned(),
        rate,
        event_rate: Some(rate),
    }
}

/// An answer with a JSON body.
pub(crate) fn answer(code: u16, body: &Value) -> Response<Body> {
    raw(code, body.to_string().into_bytes())
}

pub(crate) fn raw(code: u16, body: Vec<u8>) -> Response<Body> {
    let body = http_body_util::Full::new(Bytes::from(body));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = code.try_into().unwrap();
    response
}

/// A refusal as the API server words it.
pub(crate) fn status(code: u16, reason: &str) -> Response<Body> {
    answer(code, &status_object(code, reason))
}

pub(crate) fn status_object(code: u16, reason: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason })
}

/// An answer that is written bit by bit: an error cuts it, the end of the sender ends it well.
pub(crate) fn streamed() -> (mpsc::Sender<std::io::Result<Bytes>>, Response<Body>) {
    let (sender, receiver) = mpsc::channel::<std::io::Result<Bytes>>(16);
    let frames = stream::unfold(receiver, async |mut receiver| {
        let next = receiver.recv().await?;
        Some((next.map(Frame::data), receiver))
    });
    let body = StreamBody::new(Box::pin(frames));
    (sender, Response::new(body.boxed_unsync()))
}
