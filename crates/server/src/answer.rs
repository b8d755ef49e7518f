//! One request, one answer: routes it, lets it in or refuses it, and fills the answer from the snapshots.
//!
//! In:    request, the port it came to, the connection's client certificates
//! Out:   a complete response; the metrics have counted it
//! Calls: `listener`, per request
//! Holds: no path leads around `auth` on the main port except to 404; every wait on another task ends after 2 s
//! Upstream: pkg/kubelet/server/server.go, apiserver healthz, component-base configz, apiserver routes/flags.go (1.36);
//!           differences: none in texts; endpoints that are not built say so with 501

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Request, Response, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use kubelet_model::reported::ReportedPod;
use rustls::pki_types::CertificateDer;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::auth::{Certificate, authenticate, authorize, read_certificate};
use crate::endpoints::{Endpoint, Route, long_running, method_bucket, path_bucket, route};
use crate::metrics::{HttpMetrics, RequestLabels, TEXT_TYPE, text};
use crate::pods::{render_pods, render_running_pods};
use crate::tls::{Tls, TlsFiles};
use crate::{DebugTopic, MainConfig, Port, Question, ServerState};

/// How long another task may take to answer, and a client to send a body.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// The only bodies read are numbers.
const BODY_BYTES: usize = 4096;

/// What all requests of one port share.
pub(crate) struct Shared {
    pub(crate) port: Port,
    /// Only on the main port.
    pub(crate) main: Option<Secured>,
    pub(crate) state: ServerState,
    pub(crate) metrics: HttpMetrics,
}

/// What the main port has besides.
pub(crate) struct Secured {
    pub(crate) config: MainConfig,
    /// Never locked across an await.
    tls: Mutex<TlsFiles>,
    now: fn() -> jiff::Timestamp,
}

impl Secured {
    pub(crate) fn new(config: MainConfig, tls: TlsFiles, now: fn() -> jiff::Timestamp) -> Self {
        Self {
            config,
            tls: Mutex::new(tls),
            now,
        }
    }

    /// The TLS files as they are now.
    pub(crate) fn tls(&self) -> Tls {
        self.tls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .current()
    }

    /// What a connection's certificate says now: its time and the authorities may change while the connection lives.
    fn certificate(&self, chain: &[CertificateDer<'static>]) -> Certificate {
        if chain.is_empty() {
            return Certificate::Absent;
        }
        read_certificate(chain, self.tls().authorities.as_ref(), (self.now)())
    }
}

pub(crate) type Answer = Response<Full<Bytes>>;

/// Answers one request.
pub(crate) async fn answer<B>(
    shared: &Shared,
    chain: &[CertificateDer<'static>],
    request: Request<B>,
) -> Answer
where
    B: Body + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (method, path) = (
        request.method().as_str().to_owned(),
        request.uri().path().to_owned(),
    );
    let bucket = path_bucket(shared.port, &path);
    let server_type = if shared.port == Port::Main {
        "readwrite"
    } else {
        "readonly"
    };
    let labels = RequestLabels {
        method: method_bucket(&method),
        path: bucket,
        server_type,
        long_running: long_running(bucket),
    };
    // Upstream does not count what comes to the health port either.
    let _counted = (shared.port != Port::Healthz).then(|| shared.metrics.begin(&labels));
    let disabled = shared
        .main
        .as_ref()
        .map_or(&[][..], |main| &main.config.disabled);
    let route = route(shared.port, disabled, &method, &path);
    if route == Route::Unknown {
        return error(StatusCode::NOT_FOUND, "404 page not found");
    }
    if let Some(secured) = &shared.main {
        let main = &secured.config;
        let header = request
            .headers()
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let user = authenticate(
            main.anonymous,
            main.tokens,
            &secured.certificate(chain),
            header,
        );
        let allowed = user.and_then(|user| authorize(main.authorization, &user, &method, &path));
        if let Err(refusal) = allowed {
            tracing::debug!(%method, %path, status = refusal.status, text = refusal.text.trim_end(), "request refused");
            return plain(
                StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::FORBIDDEN),
                refusal.text,
            );
        }
    }
    match route {
        Route::Serve(endpoint) => serve(shared, endpoint, request).await,
        Route::Disabled(text) => error(StatusCode::METHOD_NOT_ALLOWED, text),
        Route::WrongMethod(allowed) => {
            let mut answer = plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "405: Method Not Allowed".to_owned(),
            );
            answer
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static(allowed));
            answer
        }
        Route::NotFoundBelow | Route::Unknown => {
            plain(StatusCode::NOT_FOUND, "404: Page Not Found".to_owned())
        }
    }
}

async fn serve<B>(shared: &Shared, endpoint: Endpoint, request: Request<B>) -> Answer
where
    B: Body + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let state = &shared.state;
    let query = request.uri().query().map(str::to_owned);
    match endpoint {
        Endpoint::Health(name) => health(shared, name, query.as_deref().unwrap_or_default()),
        Endpoint::Pods => {
            // The snapshot is cheap to take; objects and statuses are put together here, for as long as the answer lives.
            let reported = state.pods.borrow().clone();
            let pods: Vec<Arc<Pod>> = reported
                .values()
                .map(|pod| Arc::new(with_status(pod)))
                .collect();
            bytes(render_pods(&pods), "application/json")
        }
        Endpoint::RunningPods => match ask(&state.running_pods, query).await {
            Ok(pods) => bytes(render_running_pods(&pods), "application/json"),
            Err(answer) => answer,
        },
        Endpoint::Spec => {
            let machine = state.machine.borrow().clone();
            match machine {
                Some(machine) => bytes(serde_json::to_vec(&*machine), "application/json"),
                None => error(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the machine has not been read yet",
                ),
            }
        }
        Endpoint::Metrics => bytes(text(&state.registry), TEXT_TYPE),
        Endpoint::HealthMetrics => bytes(shared.metrics.health_text(), TEXT_TYPE),
        Endpoint::Configz => bytes(serde_json::to_vec(&*state.configz), "application/json"),
        Endpoint::Debug(topic) => {
            let channel = match topic {
                DebugTopic::Tasks => &state.tasks,
                DebugTopic::Sources => &state.sources,
                DebugTopic::Timeline => &state.timeline,
            };
            match ask(channel, query).await {
                Ok(value) => bytes(serde_json::to_vec_pretty(&value), "application/json"),
                Err(answer) => answer,
            }
        }
        Endpoint::Verbosity => set_verbosity(shared, request).await,
        Endpoint::NotBuilt => error(
            StatusCode::NOT_IMPLEMENTED,
            "this endpoint is not built yet",
        ),
    }
}

/// Asks another task. It may be gone, busy or slow: each is an answer of its own.
async fn ask<A>(channel: &mpsc::Sender<Question<A>>, query: Option<String>) -> Result<A, Answer> {
    let unavailable = |text| error(StatusCode::SERVICE_UNAVAILABLE, text);
    let (reply, answer) = oneshot::channel();
    let asked = tokio::time::timeout(ANSWER_DEADLINE, async {
        channel.send(Question { query, reply }).await.ok()?;
        answer.await.ok()
    });
    match asked.await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(unavailable("the component that knows this is not running")),
        Err(_elapsed) => Err(unavailable(
            "the component that knows this did not answer in 2 s",
        )),
    }
}

/// `/healthz` (all checks, or all but the excluded ones) and `/healthz/<name>`.
fn health(shared: &Shared, only: Option<&str>, query: &str) -> Answer {
    let now = Instant::now();
    let loops: &[_] = if shared.port == Port::Healthz {
        &[]
    } else {
        &shared.state.health
    };
    let failure = |name: &str| {
        let check = loops.iter().find(|check| check.name == name)?;
        let last = *check.last_turn.borrow();
        last.is_some_and(|last| now.duration_since(last) > check.max_age)
            .then_some(check.failure)
    };
    if let Some(name) = only {
        return match failure(name) {
            Some(failure) => error(
                StatusCode::INTERNAL_SERVER_ERROR,
                &format!("internal server error: {failure}"),
            ),
            None => plain(StatusCode::OK, "ok".to_owned()),
        };
    }
    let pairs = || {
        query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    };
    let mut excluded: Vec<&str> = pairs()
        .filter(|(key, _)| *key == "exclude")
        .map(|(_, name)| name)
        .collect();
    let builtin: &[&str] = if shared.port == Port::Healthz {
        &["ping"]
    } else {
        &["ping", "log"]
    };
    let (mut lines, mut failed) = (String::new(), false);
    for name in builtin
        .iter()
        .copied()
        .chain(loops.iter().map(|check| check.name))
    {
        if excluded.contains(&name) {
            excluded.retain(|other| *other != name);
            lines += &format!("[+]{name} excluded: ok\n");
            continue;
        }
        let failure = failure(name);
        shared.metrics.observe_health(name, failure.is_none());
        if let Some(failure) = failure {
            tracing::warn!(check = name, failure, "health check failed");
            lines += &format!("[-]{name} failed: reason withheld\n");
            failed = true;
        } else {
            lines += &format!("[+]{name} ok\n");
        }
    }
    if !excluded.is_empty() {
        let names: Vec<String> = excluded.iter().map(|name| format!("{name:?}")).collect();
        lines += &format!(
            "warn: some health checks cannot be excluded: no matches for {}\n",
            names.join(",")
        );
    }
    if failed {
        return error(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("{lines}healthz check failed"),
        );
    }
    let verbose = pairs().any(|(key, _)| key == "verbose");
    let mut answer = plain(
        StatusCode::OK,
        if verbose {
            format!("{lines}healthz check passed\n")
        } else {
            "ok".to_owned()
        },
    );
    answer
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

async fn set_verbosity<B>(shared: &Shared, request: Request<B>) -> Answer
where
    B: Body + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let say = |status, text: String| {
        let mut answer = plain(status, text);
        answer
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        answer
            .headers_mut()
            .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        answer
    };
    if request.method() != hyper::Method::PUT {
        return say(
            StatusCode::NOT_ACCEPTABLE,
            "unsupported http method".to_owned(),
        );
    }
    let body = Limited::new(request.into_body(), BODY_BYTES).collect();
    let body = match tokio::time::timeout(BODY_DEADLINE, std::pin::pin!(body)).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(why)) => {
            return say(
                StatusCode::BAD_REQUEST,
                format!("error reading request body: {why}"),
            );
        }
        Err(_elapsed) => {
            return say(
                StatusCode::REQUEST_TIMEOUT,
                "error reading request body: timed out".to_owned(),
            );
        }
    };
    let value = String::from_utf8_lossy(&body);
    match value
        .parse::<u32>()
        .ok()
        .filter(|_| !value.starts_with('+'))
    {
        Some(level) => {
            shared.state.verbosity.send_replace(level);
            tracing::info!(level, "log verbosity set over HTTP");
            say(
                StatusCode::OK,
                format!("successfully set klog.logging.verbosity to {level}"),
            )
        }
        None => say(
            StatusCode::BAD_REQUEST,
            format!("strconv.ParseUint: parsing {value:?}: invalid syntax"),
        ),
    }
}

fn bytes<E: std::fmt::Display>(content: Result<Vec<u8>, E>, media_type: &'static str) -> Answer {
    match content {
        Ok(content) => {
            let mut answer = Response::new(Full::new(content.into()));
            answer
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            answer
        }
        Err(why) => error(StatusCode::INTERNAL_SERVER_ERROR, &why.to_string()),
    }
}

fn plain(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}

/// As Go's `http.Error` writes it: with a newline and the type nailed down.
fn error(status: StatusCode, text: &str) -> Answer {
    let mut answer = plain(status, format!("{text}\n"));
    answer
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

fn with_status(reported: &ReportedPod) -> Pod {
    Pod {
        status: Some((*reported.status).clone()),
        ..(*reported.object).clone()
    }
}
