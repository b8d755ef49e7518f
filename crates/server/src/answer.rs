//! Handles one request: routes it, authenticates and authorizes it, and renders the response from the node's snapshots.
//!
//! In:    request, the port it arrived on, the peer of the connection
//! Out:   a response; the request is counted in the metrics, and counts as running until its body or its tunnel ends
//! Calls: `listener`, per request
//! Holds: every request on the main port passes `auth`, except those answered with 404; no body is read before that; every wait
//!        for another task ends after 2 s
//! Upstream: pkg/kubelet/server/server.go, component-base configz, apiserver routes/flags.go (1.36); differences: none in
//!           texts; endpoints that are not built answer 501

use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use hyper::{Request, Response, StatusCode};
use kubelet_ports::{PAGER, Patience, STALLED, source_of};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

use crate::body::{Answer, Held, coming, full};
use crate::container_logs::container_logs;
use crate::endpoints::{
    Endpoint, Route, Streams, long_running, method_bucket, path_bucket, route, segments,
};
use crate::health::health;
use crate::metrics::{RequestLabels, TEXT_TYPE, text};
use crate::pods::render_running_pods;
use crate::profiles::profile;
use crate::query::{Query, decode};
use crate::renderings::{Failed, Outcome, What};
use crate::replies::{bytes, error, plain};
use crate::shared::{Secured, Shared};
use crate::streaming::{checkpoint, run, streams};
use crate::system_logs::system_logs;
use crate::targets::PodPath;
use crate::upgrade::Peer;
use crate::{DebugTopic, Disabled, Port, Question, RunningPod};

/// How long a client may take to send a body.
const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// The only bodies that are read are numbers.
const BODY_BYTES: usize = 4096;

/// Answers one request.
pub(crate) async fn answer<B>(shared: &Shared, peer: &Peer, request: Request<B>) -> Answer
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
    // Upstream does not count requests on the health port either.
    let counted = (shared.port != Port::Healthz).then(|| shared.metrics.begin(&labels));
    let mut answer = admit(shared, peer, request, (&method, &path)).await;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        peer.count_tunnel(counted);
        return answer;
    }
    // While a body is streamed, its request counts as running.
    let coming = answer.body().size_hint().exact().is_none();
    if coming && answer.extensions().get::<Patience>().is_none() {
        // The reader of a log may be a pager that stops for long.
        answer.extensions_mut().insert(Patience(PAGER));
    }
    answer.map(|body| {
        let held = if coming { counted } else { None };
        Held { body, held }.boxed_unsync()
    })
}

/// Routes a request, authenticates and authorizes it.
async fn admit<B>(
    shared: &Shared,
    peer: &Peer,
    request: Request<B>,
    (method, path): (&str, &str),
) -> Answer
where
    B: Body + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let disabled = shared
        .main
        .as_ref()
        .map_or(&[][..], |main| &main.config.disabled);
    let route = route(shared.port, disabled, method, path);
    if route == Route::Unknown {
        return error(StatusCode::NOT_FOUND, "404 page not found");
    }
    if let Some(secured) = &shared.main {
        let certificate = secured.certificate(peer).await;
        let source = source_of(peer.address);
        let allowed = match secured
            .auth
            .authenticate(&certificate, request.headers(), source)
            .await
        {
            Ok(user) => secured.auth.authorize((&user, source), method, path).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = allowed {
            tracing::debug!(%method, %path, status = refusal.status, text = refusal.text.trim_end(), "request refused");
            let mut answer = plain(
                StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::FORBIDDEN),
                refusal.text,
            );
            if let Some(after) = refusal.retry_after {
                let after = HeaderValue::from(after.as_secs());
                answer.headers_mut().insert(RETRY_AFTER, after);
            }
            return answer;
        }
    }
    match route {
        Route::Serve(endpoint) => serve(shared, peer, endpoint, request).await,
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

async fn serve<B>(shared: &Shared, peer: &Peer, endpoint: Endpoint, request: Request<B>) -> Answer
where
    B: Body + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let state = &shared.state;
    let query = request.uri().query().map(str::to_owned);
    match endpoint {
        Endpoint::Health(name) => health(shared, name, query.as_deref().unwrap_or_default()),
        Endpoint::Pods => pods(shared).await,
        Endpoint::RunningPods
        | Endpoint::Spec
        | Endpoint::Metrics
        | Endpoint::HealthMetrics
        | Endpoint::ProbeMetrics
        | Endpoint::Configz
        | Endpoint::Debug(_) => rendered(shared, endpoint, query).await,
        Endpoint::Verbosity => set_verbosity(shared, request).await,
        Endpoint::SystemLogs => {
            let node = &state.node;
            let query = Query::parse(query.as_deref().unwrap_or_default());
            let main = shared.main.as_ref();
            let off =
                main.is_none_or(|main| main.config.disabled.contains(&Disabled::SystemLogQuery));
            if !off && query.first("query").is_some() {
                return not_built();
            }
            system_logs(&node.system_logs, &node.blocking, request.uri().path()).await
        }
        Endpoint::Profiles => profile(request.uri().path()),
        Endpoint::ContainerLogs | Endpoint::Streams(_) | Endpoint::Run | Endpoint::Checkpoint => {
            match &shared.main {
                Some(secured) => in_container((shared, secured), peer, endpoint, request).await,
                // In the table these are on the main port only.
                None => not_built(),
            }
        }
        Endpoint::NotBuilt => not_built(),
    }
}

fn not_built() -> Answer {
    error(
        StatusCode::NOT_IMPLEMENTED,
        "this endpoint is not built yet",
    )
}

/// Endpoints with a pod in their path, and mostly a container.
async fn in_container<B: Send>(
    (shared, secured): (&Shared, &Secured),
    peer: &Peer,
    endpoint: Endpoint,
    request: Request<B>,
) -> Answer {
    let state = &shared.state;
    let path = request.uri().path().to_owned();
    let mut words = path.strip_prefix('/').unwrap_or(&path).splitn(2, '/');
    let (_, rest) = (words.next(), words.next().unwrap_or_default());
    let decoded = segments("", rest)
        .map(decode)
        .collect::<Option<Vec<String>>>();
    let Some(decoded) = decoded else {
        return error(StatusCode::BAD_REQUEST, "400 Bad Request");
    };
    let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let ports = endpoint == Endpoint::Streams(Streams::PortForward);
    let (namespace, pod, uid, container) = match *parts.as_slice() {
        [namespace, pod] => (namespace, pod, None, ""),
        [namespace, pod, uid] if ports => (namespace, pod, Some(uid), ""),
        [namespace, pod, container] => (namespace, pod, None, container),
        [namespace, pod, uid, container] => (namespace, pod, Some(uid), container),
        _ => return plain(StatusCode::NOT_FOUND, "404: Page Not Found".to_owned()),
    };
    let names = PodPath {
        namespace,
        pod,
        uid,
        container,
    };
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let now = (secured.now)();
    match endpoint {
        Endpoint::Streams(kind) => {
            let idle = secured.config.streaming_idle;
            Box::pin(streams(state, (kind, names), request, (peer, idle))).await
        }
        Endpoint::Run => run(state, names, &query).await,
        Endpoint::Checkpoint => checkpoint(state, names, (&query, now)).await,
        _ => {
            let options = (&query, secured.config.log_streams, now);
            Box::pin(container_logs(state, names, options, peer.shutdown.clone())).await
        }
    }
}

/// Endpoints that are rendered in one piece.
async fn rendered(shared: &Shared, endpoint: Endpoint, query: Option<String>) -> Answer {
    const JSON: &str = "application/json";
    let (state, all) = (&shared.state, &shared.renderings);
    let (media_type, rendered) = match endpoint {
        Endpoint::Metrics => {
            let registry = state.registry.clone();
            let render = move || outcome(text(&registry));
            (TEXT_TYPE, all.render(What::Metrics, render).await)
        }
        Endpoint::ProbeMetrics => {
            let registry = state.of_probes.clone();
            let render = move || outcome(text(&registry));
            (TEXT_TYPE, all.render(What::ProbeMetrics, render).await)
        }
        Endpoint::HealthMetrics => {
            let metrics = shared.metrics.clone();
            let render = move || outcome(metrics.health_text());
            (TEXT_TYPE, all.render(What::HealthMetrics, render).await)
        }
        Endpoint::Configz => {
            let configz = Arc::clone(&state.configz);
            let render = move || outcome(serde_json::to_vec(&*configz));
            (JSON, all.render(What::Configz, render).await)
        }
        Endpoint::Spec => {
            let machine = state.machine.clone();
            let render = move || {
                let machine = machine.borrow().clone();
                let unread = "the machine information has not been read yet";
                let machine =
                    machine.ok_or_else(|| Failed::new(StatusCode::SERVICE_UNAVAILABLE, unread))?;
                outcome(serde_json::to_vec(&*machine))
            };
            (JSON, all.render(What::Spec, render).await)
        }
        Endpoint::RunningPods => {
            let question = ask(&state.running_pods, query);
            let render = |pods: Vec<RunningPod>| outcome(render_running_pods(&pods));
            (JSON, all.ask(What::RunningPods, question, render).await)
        }
        Endpoint::Debug(topic) => {
            let channel = match topic {
                DebugTopic::Tasks => &state.tasks,
                DebugTopic::Sources => &state.sources,
                DebugTopic::Timeline => &state.timeline,
            };
            let question = ask(channel, query.clone());
            let render = |value: serde_json::Value| outcome(serde_json::to_vec_pretty(&value));
            let what = What::Debug(topic, query);
            (JSON, all.ask(what, question, render).await)
        }
        // The caller passes no other endpoint.
        _ => return not_built(),
    };
    match rendered {
        Ok(content) => bytes(content, media_type),
        Err(failed) => error(failed.status, &failed.text),
    }
}

fn outcome<E: std::fmt::Display>(content: Result<Vec<u8>, E>) -> Outcome {
    content.map(Bytes::from).map_err(Failed::internal)
}

/// Asks another task, which may have ended.
fn ask<A: Send + 'static>(
    channel: &mpsc::Sender<Question<A>>,
    query: Option<String>,
) -> impl Future<Output = Option<A>> + Send + 'static {
    let channel = channel.clone();
    async move {
        let (reply, answer) = oneshot::channel();
        channel.send(Question { query, reply }).await.ok()?;
        answer.await.ok()
    }
}

/// The pod list. A short list is sent whole, as Go does; a long one in parts, as the client reads them.
async fn pods(shared: &Shared) -> Answer {
    let (list, turns) = (shared.pods.latest(), &shared.renderings.turns);
    let first = match list.part(0, turns).await {
        Ok(first) => first,
        Err(failed) => return error(failed.status, &failed.text),
    };
    let body = if list.ends_with(&first) {
        full(first.bytes())
    } else {
        coming(list.rest(first, turns.clone()))
    };
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.extensions_mut().insert(Patience(STALLED));
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
