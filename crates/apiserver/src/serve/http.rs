//! HTTP requests: parse, authenticate, authorize, carry out, write the response.
//!
//! In:    `http::Request`, from a listener or handed in directly
//! Out:   `http::Response`; a `tower::Service`
//! Calls: the listener, tests, clients in the same process
//! Holds: no body is read before its sender is authorized; bodies are limited, each and together; a response that is no stream
//!        has a deadline; requests in flight are limited, 429 beyond; nothing is anonymous except health and version
//! Upstream: staging/src/k8s.io/apiserver/pkg/server/{config.go,filters} (1.36); differences: JSON only

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, SizeHint};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER,
    WARNING, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use kubelet_ports::{PAGER, Patience, Refusal};

use crate::access::authz::{self, Asked, Decision};
use crate::access::impersonation;
use crate::base::body::Body;
use crate::base::bounds::BODY_BYTES;
use crate::base::failure::Failure;
use crate::base::pace::Pace;
use crate::base::user::User;
use crate::kinds::warnings::Warnings;
use crate::request::form::bytes;
use crate::request::options::timeout;
use crate::request::path::{Absent, Query, Route, Target, route};
use crate::verbs::authentication::Peer;
use crate::verbs::discovery;
use crate::verbs::health;
use crate::verbs::heavy;
use crate::verbs::inflight::{Class, InFlightRequest};
use crate::verbs::state::Inner;
use crate::verbs::{Call, ListStream, Reply, Watch};

/// The time limit of a request that is no stream.
const DEADLINE: Duration = Duration::from_secs(60);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The server as a service, for the callers of one connection.
#[derive(Clone)]
pub struct Service {
    server: Arc<Inner>,
    peer: Arc<Peer>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Service {
    pub(crate) fn new(server: Arc<Inner>, peer: Peer) -> Self {
        Self {
            server,
            peer: Arc::new(peer),
        }
    }
}

impl<B> tower_service::Service<Request<B>> for Service
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (server, peer) = (Arc::clone(&self.server), Arc::clone(&self.peer));
        Box::pin(async move { Ok(answer(&server, &peer, request).await) })
    }
}

async fn answer<B>(server: &Arc<Inner>, peer: &Peer, mut request: Request<B>) -> Response<Body>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let head = Head {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: Query::parse(parts.uri.query().unwrap_or_default()),
        raw_query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
    };
    let warnings = Warnings::default();
    let done = match head.accepted(server, peer) {
        Ok(Accepted::Now(reply)) => Ok(reply),
        Ok(Accepted::Target(caller, target)) => {
            let done = head
                .on_target(server, &caller, &target, body, (upgrade, warnings.clone()))
                .await;
            let code = match &done {
                Ok(response) => response.status().as_u16(),
                Err(failure) => failure.code,
            };
            let verb = target.verb(head.method.as_str(), &head.query);
            server.figures.count(&target, verb, code);
            done
        }
        Err(failure) => Err(failure),
    };
    let mut response = done.unwrap_or_else(|failure| refused(&failure));
    for warning in warnings.headers() {
        response.headers_mut().append(WARNING, warning);
    }
    response
}

/// The method, path and headers of a request.
struct Head {
    method: Method,
    path: String,
    query: Query,
    raw_query: String,
    headers: HeaderMap,
}

enum Accepted {
    Now(Response<Body>),
    Target(Caller, Box<Target>),
}

/// The authenticated user, and until when the credential is valid.
struct Caller {
    user: User,
    until: Option<i64>,
}

impl Head {
    fn header(&self, name: hyper::header::HeaderName) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// Authentication, routing and authorization; requests that need no body are answered.
    fn accepted(&self, server: &Inner, peer: &Peer) -> Result<Accepted, Failure> {
        let route = route(&self.path);
        match route {
            Route::Health => return self.health(server).map(Accepted::Now),
            Route::Version => return Ok(Accepted::Now(json(200, bytes(&discovery::version())))),
            _ => {}
        }
        let authorization = self.headers.get(AUTHORIZATION).map(|value| value.to_str());
        let authorization = match authorization {
            Some(Err(_)) => return Err(Failure::unauthorized()),
            Some(Ok(text)) => Some(text),
            None => None,
        };
        let (user, until) = server
            .authenticate(peer, authorization)?
            .ok_or_else(Failure::unauthorized)?;
        let may = |who: &User, asked: &Asked| authz::decide(&server.registry.store, who, asked);
        let user = impersonation::user(&self.headers, user, may)?;
        if let Route::Target(target) = route {
            let verb = target.verb(self.method.as_str(), &self.query);
            authorize(server, &user, &Asked::of(&target, verb, &self.query))?;
            return Ok(Accepted::Target(Caller { user, until }, Box::new(target)));
        }
        if let Route::Absent(kind, namespace) = route {
            let list = self.absent(server, &user, (kind, &namespace))?;
            return Ok(Accepted::Now(list));
        }
        let verb = self.method.as_str().to_lowercase();
        authorize(server, &user, &Asked::of_path(&self.path, &verb))?;
        let found = match route {
            Route::Index => discovery::index(),
            Route::Metrics => {
                let running = server.in_flight.running();
                let text = server.figures.text(&server.registry.store, running);
                return Ok(Accepted::Now(plain(text)));
            }
            Route::CoreVersions => discovery::core_versions(),
            Route::Groups => discovery::all_groups(),
            Route::Group(group) => discovery::group(&group)?,
            Route::Resources(group, version) => discovery::resources(&group, &version)?,
            Route::OpenApi => discovery::open_api(),
            Route::OpenApiOf(group, version) => discovery::open_api_of(&group, &version)?,
            _ => return Err(Failure::no_such_path()),
        };
        if self.method != Method::GET && self.method != Method::HEAD {
            return Err(Failure::method_not_allowed());
        }
        Ok(Accepted::Now(json(200, bytes(&found))))
    }

    fn health(&self, server: &Inner) -> Result<Response<Body>, Failure> {
        let of = self.path.split('/').find(|part| !part.is_empty());
        let checks = server.checks(of.unwrap_or_default());
        let answer = health::answer(&self.path, &self.query, &checks);
        let (code, text) = answer.ok_or_else(Failure::no_such_path)?;
        let mut response = plain(text);
        *response.status_mut() = StatusCode::from_u16(code).unwrap_or_default();
        Ok(response)
    }

    /// The empty list of a kind that is not served.
    fn absent(
        &self,
        server: &Inner,
        user: &User,
        (kind, namespace): (&Absent, &str),
    ) -> Result<Response<Body>, Failure> {
        let asked = Asked {
            verb: "list".to_owned(),
            group: kind.group.to_owned(),
            resource: kind.plural.to_owned(),
            namespace: namespace.to_owned(),
            ..Asked::default()
        };
        authorize(server, user, &asked)?;
        let reads = [Method::GET, Method::HEAD].contains(&self.method);
        if !reads || self.query.is_set("watch") {
            return Err(Failure::method_not_allowed());
        }
        let version = match kind.group {
            "" => "v1".to_owned(),
            group => format!("{group}/v1"),
        };
        let now = server.registry.store.version().to_string();
        let list = serde_json::json!({
            "kind": format!("{}List", kind.kind), "apiVersion": version,
            "metadata": {"resourceVersion": now}, "items": [],
        });
        Ok(json(200, bytes(&list)))
    }

    /// The time limit of the response: the client's own timeout if it is shorter. Streams have none.
    fn deadline(&self, target: &Target, verb: &str) -> Result<Duration, Failure> {
        let streams = ["attach", "exec", "log", "portforward", "proxy"];
        let stays = verb == "watch"
            || target
                .subresource
                .is_some_and(|sub| streams.contains(&sub.name));
        if stays {
            return Ok(DEADLINE);
        }
        let asked = timeout(&self.query)?;
        Ok(asked.map_or(DEADLINE, |asked| asked.min(DEADLINE)))
    }

    /// Reads the body and carries out the request.
    async fn on_target<B>(
        &self,
        server: &Arc<Inner>,
        caller: &Caller,
        target: &Target,
        body: B,
        (upgrade, warnings): (hyper::upgrade::OnUpgrade, Warnings),
    ) -> Result<Response<Body>, Failure>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Caller { user, until } = caller;
        let verb = target.verb(self.method.as_str(), &self.query);
        let class = Class::of(target, verb);
        let deadline = self.deadline(target, verb)?;
        let work = async {
            let body = server.uploads.read(body, &user.name, BODY_BYTES).await;
            let body = match body {
                Ok(body) => body,
                Err(refusal) => return unread(refusal),
            };
            // Not before: a slow body occupies no place.
            let Some(place) = server.in_flight.begin(class, user) else {
                return Ok(busy());
            };
            let call = Call {
                user,
                until: *until,
                target,
                verb,
                query: &self.query,
                accept: self.header(ACCEPT),
                content_type: self.header(CONTENT_TYPE),
                body: body.bytes.clone(),
                method: self.method.clone(),
                headers: &self.headers,
                raw_query: &self.raw_query,
                warnings,
                upgrade: Mutex::new(Some(upgrade)),
            };
            let answer = match heavy::serve(server, call).await? {
                Reply::Json(code, body) => json(code, body),
                Reply::Listed(parts) => streamed(server, parts),
                Reply::Watch(watch) => streamed(server, lines(*watch)),
                Reply::Passed(response) => patient(response),
                Reply::Switched(response, taker) => {
                    // A stream that has already ended returns it.
                    drop(taker.send(place));
                    return Ok(response);
                }
            };
            Ok(answer.map(|body| Placed { body, place }.boxed_unsync()))
        };
        let reply = tokio::time::timeout(deadline, work).await;
        reply.unwrap_or_else(|_| Err(Failure::timeout()))
    }
}

/// A body that holds its request's place.
struct Placed {
    body: Body,
    place: Option<InFlightRequest>,
}

impl hyper::body::Body for Placed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) {
            self.place = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The response if a body was not read.
fn unread(refusal: Refusal) -> Result<Response<Body>, Failure> {
    match refusal {
        Refusal::TooLarge => Err(Failure::too_large(BODY_BYTES)),
        Refusal::Busy => Ok(busy()),
        Refusal::Slow => Err(Failure::timeout()),
        Refusal::Broken(error) => Err(Failure::bad_request(format!(
            "unable to read the body: {error}"
        ))),
    }
}

/// Upstream's response when too many requests are in flight.
fn busy() -> Response<Body> {
    let mut response = plain("Too many requests, please try again later.\n".to_owned());
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    let later = HeaderValue::from_static("1");
    response.headers_mut().insert(RETRY_AFTER, later);
    response
}

fn plain(text: String) -> Response<Body> {
    let mut response = Response::new(full(text.into()));
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    let nosniff = HeaderValue::from_static("nosniff");
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// The reader of a log may be a pager that stops for long.
fn patient(mut response: Response<Body>) -> Response<Body> {
    response.extensions_mut().insert(Patience(PAGER));
    response
}

fn authorize(server: &Inner, user: &User, asked: &Asked) -> Result<(), Failure> {
    match authz::decide(&server.registry.store, user, asked) {
        Decision::Allowed(_) => Ok(()),
        Decision::Refused(why) => {
            let mut details = serde_json::json!({});
            if asked.path.is_empty() {
                details["kind"] = asked.resource.clone().into();
            }
            if !asked.name.is_empty() {
                details["name"] = asked.name.clone().into();
            }
            if !asked.group.is_empty() {
                details["group"] = asked.group.clone().into();
            }
            Err(Failure::denied(details, asked.refusal(user, &why)))
        }
    }
}

fn full(body: Bytes) -> Body {
    Full::new(body).boxed_unsync()
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

fn json(code: u16, body: Bytes) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

fn refused(failure: &Failure) -> Response<Body> {
    let mut response = json(failure.code, bytes(&failure.status()));
    if let Some(seconds) = failure.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// The events of a watch, line by line.
fn lines(watch: Watch) -> ListStream {
    let lines = stream::unfold(watch, async |mut watch| {
        let line = watch.next().await?;
        Some((line, watch))
    });
    lines.boxed()
}

/// A body that is produced as the client reads it, taking turns with others (`base/pace`). It ends with its connection, which
/// drops it.
fn streamed(server: &Inner, parts: ListStream) -> Response<Body> {
    let slices = Pace::slices(Arc::clone(&server.pace), parts);
    let frames = slices.map(|slice| Ok::<_, Infallible>(Frame::data(slice)));
    let mut response = json(200, Bytes::new());
    *response.body_mut() = StreamBody::new(frames).boxed_unsync();
    response
}
