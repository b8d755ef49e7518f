//! The API server's client: one call, one deadline, one answer or [`ClusterError`].
//!
//! In:    a kubeconfig (or a pipe to a server in this process), rates, the clock
//! Out:   answers; opened watches
//! Calls: everything in this crate; server (TokenReview, SubjectAccessReview)
//! Holds: every call has a deadline; lanes do not wait for each other; a call that cannot be sent before its deadline is refused
//!        at once, and a cancelled call frees its place; the client retries only what certainly did not happen: a call that
//!        found its connection closed, and once a call whose token was refused
//! Upstream: client-go/rest; cmd/kubelet/app/server.go (general, event and heartbeat client)
//!
//! kube is not used: with our own connections and stores only its typed calls would be left of it, and it brings 48 crates.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode, Uri};
use kubelet_model::error_text::error_text;
use kubelet_tls::Validity;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::WallClock;
use crate::connection::{Dialer, Lane, Pipe, RequestSlot, Sender, StreamGuard};
use crate::credentials::{Credentials, Identity};
use crate::error::{ClusterError, Happened, Refusal};
use crate::figures::{Asked, Figures};
use crate::kubeconfig::{Kubeconfig, Login, Server, Trust};
use crate::limiter::{Limiter, Rate};
use crate::sets::Sets;

/// The longest answer that is held at once: a page of 500 objects seldom has a tenth of it.
const MAX_ANSWER: usize = 128 << 20;
/// A refusal is not longer than this.
const MAX_REFUSAL: usize = 1 << 20;
/// How often a call looks for another connection when its own turns out to be closed.
const CONNECTION_TRIES: usize = 3;

/// Calls of one lane wait only for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneKind {
    /// Everything that is not below.
    General,
    /// Leases and node status: never limited.
    Heartbeat,
    /// Pod status.
    Status,
    /// Events.
    Events,
    /// Lists and watches of reflectors; lists are limited, each watch holds a stream.
    Watches,
    /// Reviews of those who call this node: anybody may cause them.
    Reviews,
}

/// How fast calls may go.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `User-Agent`.
    pub user_agent: String,
    /// `kubeAPIQPS` and `kubeAPIBurst`; each limited lane has its own bucket of it.
    pub rate: Rate,
    /// `eventRecordQPS` and `eventBurst`; `None` is no limit.
    pub event_rate: Option<Rate>,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// What errors call it.
    pub operation: &'static str,
    /// Its lane.
    pub lane: LaneKind,
    /// The verb.
    pub method: Method,
    /// Path and query, encoded.
    pub path: String,
    /// `Content-Type` of the body.
    pub content_type: &'static str,
    /// The body; empty for none.
    pub body: Bytes,
    /// How long it may take, waiting for its turn included.
    pub deadline: Duration,
}

/// The client. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dialer: Dialer,
    credentials: Arc<Credentials>,
    clock: WallClock,
    user_agent: HeaderValue,
    general: Lane,
    heartbeat: Lane,
    status: Lane,
    events: Lane,
    watches: Lane,
    reviews: Lane,
    figures: Arc<OnceLock<Figures>>,
    sets: Sets,
}

/// An answer whose body is still to come.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) body: Incoming,
    /// Cancelled when a newer certificate is in use.
    pub(crate) left: CancellationToken,
    _guard: StreamGuard,
}

/// Why an attempt gave no answer, and whether there may be another.
enum Attempt {
    /// The connection was closed before the call was sent.
    NotSent(String),
    Failed(ClusterError),
}

/// How far a call got, for the error at its deadline.
#[derive(Debug)]
struct Progress {
    is_sent: std::sync::atomic::AtomicBool,
    ends: Instant,
}

impl Progress {
    fn sent(&self) {
        self.is_sent
            .store(true, std::sync::atomic::Ordering::Relaxed);
    }

    fn happened(&self) -> Happened {
        if self.is_sent.load(std::sync::atomic::Ordering::Relaxed) {
            Happened::Maybe
        } else {
            Happened::No
        }
    }
}

impl Client {
    /// A client of the server that a kubeconfig names. Connections are made when calls need them.
    pub fn new(kubeconfig: Kubeconfig, config: &ClientConfig, clock: WallClock) -> Self {
        Self::with_dialer(Dialer::Network, kubeconfig, config, clock)
    }

    /// A client of a server in this process, which speaks HTTP/2 over what `pipe` gives and knows who calls.
    pub fn in_process(pipe: Pipe, config: &ClientConfig, clock: WallClock) -> Self {
        let server = Server {
            url: Uri::from_static("http://localhost"),
            trust: Trust::System,
            tls_name: None,
            proxy: None,
        };
        let kubeconfig = Kubeconfig {
            server,
            pair: None,
            login: Login::None,
        };
        Self::with_dialer(Dialer::Pipe(pipe), kubeconfig, config, clock)
    }

    pub(crate) fn with_dialer(
        dialer: Dialer,
        kubeconfig: Kubeconfig,
        config: &ClientConfig,
        clock: WallClock,
    ) -> Self {
        let limited = || Lane::new(Some(Limiter::new(config.rate)));
        let figures = Arc::<OnceLock<Figures>>::default();
        let user_agent = HeaderValue::from_str(&config.user_agent);
        let inner = Inner {
            dialer,
            credentials: Arc::new(Credentials::new(
                kubeconfig,
                clock.clone(),
                Arc::clone(&figures),
            )),
            clock,
            user_agent: user_agent.unwrap_or(HeaderValue::from_static("kubelet")),
            general: limited(),
            heartbeat: Lane::new(None),
            status: limited(),
            events: Lane::new(config.event_rate.map(Limiter::new)),
            watches: limited(),
            reviews: limited(),
            figures,
            sets: Sets::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The sets that somebody asks after: which of them are not current.
    pub fn sets(&self) -> &Sets {
        &self.inner.sets
    }

    /// Counts its calls from now on, in this registry, and shows how far its sets are behind.
    ///
    /// # Errors
    /// When they are counted there already.
    pub fn register_figures(&self, registry: &prometheus::Registry) -> prometheus::Result<()> {
        let figures = Figures::new(registry)?;
        self.inner.sets.register(registry)?;
        // Of two registries the first stays.
        let _kept = self.inner.figures.set(figures);
        Ok(())
    }

    /// The clock it was given.
    pub fn clock(&self) -> &WallClock {
        &self.inner.clock
    }

    /// Files of the certificate changed: the next call reads them, and older connections are left.
    pub fn credentials_changed(&self) {
        self.inner.credentials.look_again();
    }

    /// A file, certificate and key, that goes before the kubeconfig's certificate as soon as it is there and has not ended.
    pub fn prefer_pair(&self, path: std::path::PathBuf) {
        self.inner.credentials.prefer(path);
    }

    /// Holds calls back because there are no credentials yet, with the reason that they fail with at their deadline; `None`
    /// lets them go.
    pub fn set_waiting(&self, why: Option<String>) {
        self.inner.credentials.set_waiting(why);
    }

    /// Whether calls are not held back.
    pub(crate) fn is_let_go(&self) -> bool {
        self.inner.credentials.waiting().is_none()
    }

    /// From when until when the client certificate of the last call is good; `None` without one.
    pub fn certificate_validity(&self) -> Option<Validity> {
        self.inner.credentials.last()?.validity
    }

    /// The same of the certificate that a credential program gave.
    pub fn program_certificate_validity(&self) -> Option<Validity> {
        let credentials = &self.inner.credentials;
        self.certificate_validity()
            .filter(|_| credentials.has_program())
    }

    /// Makes a call and reads its whole answer.
    ///
    /// # Errors
    /// When it was not sent, was refused, was lost, or took too long.
    pub async fn call(&self, call: Call) -> Result<Bytes, ClusterError> {
        let operation = call.operation;
        let began = Instant::now();
        let whole = async |progress: &Progress| {
            let opened = self.send(&call, progress).await?;
            body(operation, opened.body, MAX_ANSWER).await
        };
        let answer = within(operation, call.deadline, whole).await;
        self.counted(&call, &answer);
        if let Some(figures) = self.inner.figures.get() {
            let received = answer.as_ref().ok().map(Bytes::len);
            let asked = self.asked(&call);
            figures.took(asked, began.elapsed(), call.body.len(), received);
        }
        answer.map_err(|error| self.explained(error))
    }

    fn asked<'a>(&'a self, call: &'a Call) -> Asked<'a> {
        Asked {
            host: host_of(&self.inner.credentials.server().url),
            verb: call.method.as_str(),
        }
    }

    /// A call that ended without an answer counts, too; one that was answered was counted then.
    fn counted<T>(&self, call: &Call, answer: &Result<T, ClusterError>) {
        let is_unanswered = |error: &ClusterError| {
            matches!(
                error,
                ClusterError::Unreachable { .. }
                    | ClusterError::Lost { .. }
                    | ClusterError::Deadline { .. }
            )
        };
        if let (Some(figures), Err(error)) = (self.inner.figures.get(), answer)
            && is_unanswered(error)
        {
            figures.answered(self.asked(call), None);
        }
    }

    /// Makes a call whose answer comes bit by bit. The deadline is for its head.
    pub(crate) async fn open(&self, call: &Call) -> Result<Opened, ClusterError> {
        let answer = within(
            call.operation,
            call.deadline,
            async |progress: &Progress| self.send(call, progress).await,
        );
        let answer = answer.await;
        self.counted(call, &answer);
        answer.map_err(|error| self.explained(error))
    }

    /// A call that was held back until its deadline says what for; one that showed a certificate which is out of date says so.
    fn explained(&self, error: ClusterError) -> ClusterError {
        let is_asked = error.code().is_none_or(|code| code == 401);
        let out_of_date = is_asked.then(|| self.inner.credentials.out_of_date());
        if let Some(why) = out_of_date.flatten() {
            return error.because(&why);
        }
        match (error, self.inner.credentials.waiting()) {
            (
                ClusterError::Deadline {
                    operation,
                    happened: Happened::No,
                    ..
                },
                Some(message),
            ) => ClusterError::Credentials { operation, message },
            (error, _) => error,
        }
    }

    fn lane(&self, kind: LaneKind) -> &Lane {
        match kind {
            LaneKind::General => &self.inner.general,
            LaneKind::Heartbeat => &self.inner.heartbeat,
            LaneKind::Status => &self.inner.status,
            LaneKind::Events => &self.inner.events,
            LaneKind::Watches => &self.inner.watches,
            LaneKind::Reviews => &self.inner.reviews,
        }
    }

    /// Sends, and sends once more when a token was refused and there is another.
    async fn send(&self, call: &Call, progress: &Progress) -> Result<Opened, ClusterError> {
        if let Some(limiter) = &self.lane(call.lane).limiter {
            let began = Instant::now();
            let crowded = |wait| ClusterError::Crowded {
                operation: call.operation,
                wait,
            };
            limiter.take(progress.ends).await.map_err(crowded)?;
            if let Some(figures) = self.inner.figures.get() {
                figures.waited(self.asked(call), began.elapsed());
            }
        }
        let identity = self.identity(call).await?;
        let refused = match self.send_as(call, &identity, progress).await {
            Err(error) if error.code() == Some(401) => error,
            answer => return answer,
        };
        self.inner.credentials.refused(&identity);
        let again = self.identity(call).await?;
        let is_other = again.authorization != identity.authorization
            || again.generation != identity.generation;
        if is_other {
            return self.send_as(call, &again, progress).await;
        }
        Err(refused)
    }

    async fn identity(&self, call: &Call) -> Result<Arc<Identity>, ClusterError> {
        let identity = self.inner.credentials.identity().await;
        let identity = identity.map_err(|message| ClusterError::Credentials {
            operation: call.operation,
            message,
        })?;
        let lanes = [
            &self.inner.general,
            &self.inner.heartbeat,
            &self.inner.status,
            &self.inner.events,
            &self.inner.watches,
            &self.inner.reviews,
        ];
        for lane in lanes {
            lane.leave_older(identity.generation);
        }
        Ok(identity)
    }

    async fn send_as(
        &self,
        call: &Call,
        identity: &Identity,
        progress: &Progress,
    ) -> Result<Opened, ClusterError> {
        let operation = call.operation;
        let mut why = String::new();
        for _ in 0..CONNECTION_TRIES {
            let server = self.inner.credentials.server();
            let lane = self.lane(call.lane);
            let place = lane.place(&self.inner.dialer, server, identity).await;
            let place =
                place.map_err(|message| ClusterError::Unreachable { operation, message })?;
            match self.attempt(call, identity, place, progress).await {
                Ok(opened) => return Ok(opened),
                Err(Attempt::Failed(error)) => return Err(error),
                Err(Attempt::NotSent(message)) => why = message,
            }
        }
        Err(ClusterError::Unreachable {
            operation,
            message: why,
        })
    }

    async fn attempt(
        &self,
        call: &Call,
        identity: &Identity,
        place: RequestSlot,
        progress: &Progress,
    ) -> Result<Opened, Attempt> {
        let operation = call.operation;
        let request = self
            .request(call, identity, &place.sender)
            .map_err(Attempt::Failed)?;
        progress.sent();
        let answer = match place.sender {
            Sender::Http2(mut sender) => sender.try_send_request(request).await,
            Sender::Http1(mut sender) => sender.try_send_request(request).await,
        };
        let response = answer.map_err(|mut error| {
            let message = error_text(error.error());
            // The request came back: it never left.
            if error.take_message().is_some() {
                return Attempt::NotSent(message);
            }
            Attempt::Failed(ClusterError::Lost { operation, message })
        })?;
        if let Some(figures) = self.inner.figures.get() {
            let code = response.status().as_u16();
            figures.answered(self.asked(call), Some(code));
        }
        if response.status().is_success() {
            return Ok(Opened {
                body: response.into_body(),
                left: place.left,
                _guard: place.guard,
            });
        }
        Err(Attempt::Failed(refused(operation, response).await))
    }

    fn request(
        &self,
        call: &Call,
        identity: &Identity,
        sender: &Sender,
    ) -> Result<Request<Full<Bytes>>, ClusterError> {
        let server = &self.inner.credentials.server().url;
        let prefix = server.path().trim_end_matches('/');
        let path = format!("{prefix}{}", call.path);
        let authority = host_of(server);
        let wrong = |error: &dyn std::error::Error| ClusterError::Request {
            operation: call.operation,
            message: error_text(error),
        };
        let mut request = Request::builder().method(call.method.clone());
        request = match sender {
            Sender::Http2(_) => {
                let scheme = server.scheme_str().unwrap_or("https");
                request.uri(format!("{scheme}://{authority}{path}"))
            }
            Sender::Http1(_) => request.uri(path).header(HOST, authority),
        };
        request = request
            .header(USER_AGENT, self.inner.user_agent.clone())
            .header(ACCEPT, "application/json");
        if !call.body.is_empty() {
            request = request.header(CONTENT_TYPE, call.content_type);
        }
        if let Some(authorization) = &identity.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        request
            .body(Full::new(call.body.clone()))
            .map_err(|error| wrong(&error))
    }
}

/// Host and port as the URL has them.
fn host_of(url: &Uri) -> &str {
    let authority = url.authority();
    let authority = authority.map_or("localhost", |authority| authority.as_str());
    authority.rsplit('@').next().unwrap_or(authority)
}

/// Bounds a call, and says at its end whether it had been sent.
async fn within<T>(
    operation: &'static str,
    deadline: Duration,
    call: impl AsyncFnOnce(&Progress) -> Result<T, ClusterError>,
) -> Result<T, ClusterError> {
    let progress = Progress {
        is_sent: std::sync::atomic::AtomicBool::new(false),
        ends: Instant::now() + deadline,
    };
    let answer = tokio::time::timeout(deadline, call(&progress)).await;
    answer.unwrap_or_else(|_| {
        Err(ClusterError::Deadline {
            operation,
            after: deadline,
            happened: progress.happened(),
        })
    })
}

async fn refused(operation: &'static str, response: Response<Incoming>) -> ClusterError {
    let code = response.status();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|seconds| seconds.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    // The body only explains: without it the code still counts.
    let body = body(operation, response.into_body(), MAX_REFUSAL).await;
    let mut refusal = Refusal::of_body(code.as_u16(), retry_after, &body.unwrap_or_default());
    if refusal.reason.is_empty() && code == StatusCode::TOO_MANY_REQUESTS {
        refusal.reason = "TooManyRequests".to_owned();
    }
    ClusterError::Refused {
        operation,
        refusal: Box::new(refusal),
    }
}

async fn body(
    operation: &'static str,
    body: Incoming,
    limit: usize,
) -> Result<Bytes, ClusterError> {
    let collected = Limited::new(body, limit).collect().await;
    let collected = collected.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            return ClusterError::TooLong { operation, limit };
        }
        ClusterError::Lost {
            operation,
            message: error_text(&*error),
        }
    })?;
    Ok(collected.to_bytes())
}

#[cfg(test)]
mod tests;
