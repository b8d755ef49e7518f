//! Logs, exec, attach, port-forward and node paths: proxied to the kubelet.
//!
//! In:    a request on `pods/log` and the like, on `nodes/proxy`, or on `pods/proxy`
//! Out:   the kubelet's or the pod's response; after an upgrade, bytes in both directions
//! Calls: `subresources`
//! Holds: the kubelet sees the server's client certificate, never the caller's credentials; the number of streams is limited
//!        before the kubelet is called; a stream ends with the server, with the caller's credential, and after 4 h without data
//! Upstream: pkg/registry/core/pod/rest, pkg/kubelet/client (1.36); differences: an upgraded connection is copied unchanged, so
//!           the kubelet must support the client's protocol; the kubelet's certificate is not verified, as without
//!           `--kubelet-certificate-authority`

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    AUTHORIZATION, CONNECTION, COOKIE, HOST, HeaderMap, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kubelet_ports::tunnel::copy;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::base::body::Body;
use crate::base::failure::Failure;
use crate::base::object::{annotation, list, number, text};
use crate::kinds::resources::Subresource;
use crate::request::options::{LogOptions, check_ports};
use crate::verbs::kubelets::{Held, Via};
use crate::verbs::state::Inner;
use crate::verbs::{Call, Reply};

mod pods;

/// Bytes of an error text that are read.
const ERROR_BYTES: usize = 2048;
/// The kubelet's port if its Node has none.
const KUBELET_PORT: i64 = 10250;
/// The idle timeout of a stream: the kubelet's default `streamingConnectionIdleTimeout`.
const IDLE: Duration = Duration::from_secs(4 * 3600);

/// The destination of a request: host and port of the node, and the path there.
struct Destination {
    host: String,
    port: u16,
    path: String,
}

impl Inner {
    /// Proxies the request.
    pub(crate) async fn proxy(&self, call: &Call<'_>, sub: &Subresource) -> Result<Reply, Failure> {
        let to = match (call.target.resource.storage, sub.name) {
            ("nodes", _) => (Via::Kubelet, self.node_destination(call)?),
            (_, "proxy") => {
                let (scheme, to) = pods::destination(self, call)?;
                (Via::Pod(scheme), to)
            }
            (_, name) => (Via::Kubelet, self.pod_destination(call, name)?),
        };
        if ["attach", "exec", "portforward"].contains(&sub.name) && !asks_upgrade(call.headers) {
            return Err(Failure::bad_request("Upgrade request required"));
        }
        self.pass_on(call, to).await
    }

    async fn pass_on(
        &self,
        call: &Call<'_>,
        (via, destination): (Via, Destination),
    ) -> Result<Reply, Failure> {
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = destination
            .path
            .parse()
            .map_err(|_| Failure::bad_request("the path cannot be passed on"))?;
        *request.headers_mut() = passed_on(call.headers);
        let authority = format!("{}:{}", destination.host, destination.port);
        if let Ok(host) = authority.parse() {
            request.headers_mut().insert(HOST, host);
        }
        let place = self.kubelets.place()?;
        let mut sender = self
            .kubelets
            .connect(
                via,
                (&destination.host, destination.port),
                Arc::clone(&place),
            )
            .await?;
        let answered = sender.send_request(request).await;
        let answer = answered.map_err(|why| via.failed(&why.to_string()))?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(call, answer, place);
        }
        let is_own = via == Via::Kubelet && call.target.resource.storage == "pods";
        if !answer.status().is_success() && is_own {
            return Err(refusal(call, answer).await);
        }
        let (mut parts, body) = answer.into_parts();
        parts.headers.remove(TRANSFER_ENCODING);
        parts.headers.remove(CONNECTION);
        Ok(Reply::Passed(Response::from_parts(
            parts,
            relayed(body, self.end_of(call)),
        )))
    }

    /// Copies both directions of an upgraded connection.
    fn switch(
        &self,
        call: &Call<'_>,
        answer: Response<Incoming>,
        place: Held,
    ) -> Result<Reply, Failure> {
        let mut response = Response::new(Full::new(Bytes::new()).boxed_unsync());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = answer.headers().clone();
        let Some(ours) = call.take_upgrade() else {
            return Err(Failure::bad_request("Upgrade request required"));
        };
        let (taker, in_flight) = oneshot::channel();
        let ends = self.end_of(call);
        let copy = async move {
            let _place = place;
            // The caller may be gone before it was answered.
            let Ok(_in_flight) = in_flight.await else {
                return;
            };
            let (Ok(ours), Ok(theirs)) = tokio::join!(ours, hyper::upgrade::on(answer)) else {
                return;
            };
            let copied = copy(TokioIo::new(ours), TokioIo::new(theirs), Some(IDLE));
            match until(ends, copied).await {
                Some(end) => tracing::debug!(?end, "a stream ended"),
                None => tracing::debug!("a stream ended with its caller's credential"),
            }
        };
        self.kubelets.keep_going(Box::pin(copy))?;
        Ok(Reply::Switched(response, taker))
    }

    /// The time at which the caller's credential expires, if it does.
    fn end_of(&self, call: &Call<'_>) -> Option<Instant> {
        let left = call.time_left(self.registry.now())?;
        Instant::now().checked_add(left)
    }

    /// The address of a node's kubelet. The one in this program may listen on the loopback address only.
    fn kubelet_of(&self, node: &Value) -> Result<(String, u16), Failure> {
        match &self.own_kubelet {
            Some((name, at)) if name == text(node, "/metadata/name") => {
                Ok((at.ip().to_string(), at.port()))
            }
            _ => address(node),
        }
    }

    fn node_destination(&self, call: &Call<'_>) -> Result<Destination, Failure> {
        let node = self.registry.get(call.place())?.value();
        let (host, port) = self.kubelet_of(&node)?;
        let query = if call.raw_query.is_empty() {
            String::new()
        } else {
            format!("?{}", call.raw_query)
        };
        Ok(Destination {
            host,
            port,
            path: format!("/{}{query}", call.target.rest),
        })
    }

    fn pod_destination(&self, call: &Call<'_>, sub: &str) -> Result<Destination, Failure> {
        // Options are parsed before the pod is looked up.
        match sub {
            "log" => drop(LogOptions::read(call.query, &call.target.name)?),
            "portforward" => check_ports(call.query)?,
            _ => {}
        }
        let pod = self.registry.get(call.place())?.value();
        let (namespace, name) = (&*call.target.namespace, &*call.target.name);
        let node = text(&pod, "/spec/nodeName");
        if node.is_empty() {
            return Err(Failure::bad_request(format!(
                "pod {name} does not have a host assigned"
            )));
        }
        let found = self.registry.value("nodes", "", node);
        let row = crate::kinds::resources::by_storage("nodes").unwrap_or(call.target.resource);
        let found = found.ok_or_else(|| Failure::not_found(row, node))?;
        let (host, port) = self.kubelet_of(&found)?;
        let path = match sub {
            "portforward" => {
                // WebSocket clients name their ports here, others in the headers of the streams; the kubelet has another name
                // for the parameter.
                let ports: Vec<&str> = call.query.all("ports").collect();
                let ports: Vec<String> = (!ports.is_empty())
                    .then(|| format!("port={}", encode(&ports.join(","))))
                    .into_iter()
                    .collect();
                with_query(format!("/portForward/{namespace}/{name}"), &ports)
            }
            "log" => {
                let container = container(call, &pod)?;
                let options = LogOptions::read(call.query, name)?.0.into_iter();
                let options: Vec<String> = options
                    .map(|(name, value)| format!("{name}={}", encode(&value)))
                    .collect();
                with_query(
                    format!("/containerLogs/{namespace}/{name}/{container}"),
                    &options,
                )
            }
            _ => {
                let container = container(call, &pod)?;
                with_query(
                    format!("/{sub}/{namespace}/{name}/{container}"),
                    &stream_options(call),
                )
            }
        };
        Ok(Destination { host, port, path })
    }
}

/// Host and port of a node's kubelet, from its Node.
fn address(node: &Value) -> Result<(String, u16), Failure> {
    let addresses = list(node, "/status/addresses");
    let of = |kind: &str| {
        addresses
            .iter()
            .find(|a| text(a, "/type") == kind)
            .map(|a| text(a, "/address"))
    };
    let host = ["InternalIP", "ExternalIP", "Hostname"]
        .into_iter()
        .find_map(of);
    let host = host.ok_or_else(|| {
        Failure::internal(format!(
            "no preferred addresses found for node {:?}; known addresses: []",
            text(node, "/metadata/name")
        ))
    })?;
    let told =
        number(node, "/status/daemonEndpoints/kubeletEndpoint/Port").filter(|port| *port > 0);
    let port = u16::try_from(told.unwrap_or(KUBELET_PORT)).map_err(Failure::internal)?;
    Ok((host.to_owned(), port))
}

/// The container: the named one, or the only one.
fn container(call: &Call<'_>, pod: &Value) -> Result<String, Failure> {
    let lists = [
        "/spec/initContainers",
        "/spec/containers",
        "/spec/ephemeralContainers",
    ];
    let all: Vec<&str> = lists
        .iter()
        .flat_map(|l| list(pod, l))
        .map(|c| text(c, "/name"))
        .collect();
    let name = &*call.target.name;
    if let Some(named) = call.query.get("container") {
        return if all.contains(&named) {
            Ok(named.to_owned())
        } else {
            Err(Failure::bad_request(format!(
                "container {named} is not valid for pod {name}"
            )))
        };
    }
    let regular: Vec<&str> = list(pod, "/spec/containers")
        .iter()
        .map(|c| text(c, "/name"))
        .collect();
    let default =
        annotation(pod, "kubectl.kubernetes.io/default-container").filter(|d| regular.contains(d));
    match (default, regular.as_slice()) {
        (Some(default), _) => Ok(default.to_owned()),
        (None, [only]) => Ok((*only).to_owned()),
        (None, many) => Err(Failure::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            many.join(" ")
        ))),
    }
}

/// The options of exec and attach under the kubelet's names.
fn stream_options(call: &Call<'_>) -> Vec<String> {
    let names = [
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
        ("tty", "tty"),
    ];
    let set = names
        .into_iter()
        .filter(|(name, _)| call.query.is_set(name));
    let flags = set.map(|(_, theirs)| format!("{theirs}=1"));
    let words = call
        .query
        .all("command")
        .map(|word| format!("command={}", encode(word)));
    flags.chain(words).collect()
}

fn with_query(path: String, options: &[String]) -> String {
    if options.is_empty() {
        path
    } else {
        format!("{path}?{}", options.join("&"))
    }
}

fn encode(text: &str) -> String {
    let byte = |b: u8| {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            char::from(b).to_string()
        } else {
            format!("%{b:02X}")
        }
    };
    text.bytes().map(byte).collect()
}

/// The headers without the caller's credentials, impersonation headers and headers of the connection.
fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let mut passed = headers.clone();
    let is_upgrade = headers.contains_key(UPGRADE);
    for name in [
        AUTHORIZATION,
        COOKIE,
        HOST,
        TRANSFER_ENCODING,
        hyper::header::CONTENT_LENGTH,
    ] {
        passed.remove(name);
    }
    if !is_upgrade {
        passed.remove(CONNECTION);
    }
    let own: Vec<_> = passed
        .keys()
        .filter(|name| name.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in own {
        passed.remove(name);
    }
    passed
}

/// Whether the client asks for a protocol upgrade.
fn asks_upgrade(headers: &HeaderMap) -> bool {
    let values = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok());
    let mut words = values.flat_map(|value| value.split(','));
    words.any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
}

/// Runs a future, until a time at most.
async fn until<T>(end: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match end {
        Some(end) => tokio::time::timeout_at(end, work).await.ok(),
        None => Some(work.await),
    }
}

/// Relays the kubelet's body. A broken body just ends, and so does one whose caller's credential has expired.
fn relayed(body: Incoming, end: Option<Instant>) -> Body {
    let frames = futures_util::stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        match until(end, body.frame()).await.flatten()? {
            Ok(frame) => Some((Ok(frame), Some(body))),
            Err(error) => {
                tracing::debug!(%error, "the kubelet's answer ended early");
                None
            }
        }
    });
    http_body_util::StreamBody::new(frames).boxed_unsync()
}

/// The kubelet's error response in upstream's words.
async fn refusal(call: &Call<'_>, answer: Response<Incoming>) -> Failure {
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), ERROR_BYTES)
        .collect()
        .await;
    let said = body
        .map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned())
        .unwrap_or_default();
    match status {
        400 => Failure::bad_request(said),
        500 => Failure::internal(said),
        status => {
            let asked = ("", &*call.target.written(), &*call.target.name);
            Failure::of_server(status, asked, &said)
        }
    }
}
