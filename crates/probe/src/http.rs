//! HTTP and HTTPS probes.
//!
//! In:    [`HttpGet`]: where, with which headers; a timeout for all of it
//! Out:   `Answer`: 200 to 399 is well
//! Calls: act/probes, act/pod/hooks
//! Holds: at most ten redirects, all to the same host; at most 10 KiB of a body is read; every certificate is taken
//! Upstream: pkg/probe/http/{http,request}.go; net/http's client and its error texts

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use kubelet_tls::{Believed, client_config};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::Answer;
use crate::dial::{dial, errno_text};
use crate::url::Url;

/// Of a body.
const MOST_BODY: usize = 10 << 10;
/// Of the heads of an answer together.
const MOST_HEADS: usize = 256 << 10;
const MOST_REDIRECTS: usize = 10;
const SPEAKS_PLAIN: &str = "http: server gave HTTP response to HTTPS client";

/// `http` or `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    Http,
    /// Over TLS; nobody's certificate is refused.
    Https,
}

impl Scheme {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpGet {
    /// The scheme.
    pub scheme: Scheme,
    /// An address or a name.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Path and query as the spec has them.
    pub path: String,
    /// Headers as the spec has them.
    pub headers: Vec<(String, String)>,
    /// What the request says of who asks, where its headers do not: `kube-probe/1.36`.
    pub user_agent: String,
}

/// An answer's head, and what moves its body; both end with whoever asked.
struct Asked {
    response: Response<Incoming>,
    connection: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
}

/// Why there is no answer, in the words of Go's client behind the URL.
struct NoAnswer(String);

/// Asks once. Cancel: safe.
pub async fn http(get: &HttpGet, timeout: Duration) -> Answer {
    let headers = match headers_of(get) {
        Ok(headers) => headers,
        Err(message) => {
            let state = "unknown";
            return Answer::Error { state, message };
        }
    };
    let mut url = Url::new(get.scheme, &get.host, get.port, &get.path);
    let deadline = tokio::time::Instant::now() + timeout;
    let answer = tokio::time::timeout_at(deadline, follow(&mut url, headers)).await;
    let asked = match answer {
        Ok(Ok(asked)) => asked,
        Ok(Err(NoAnswer(why))) => return Answer::Failure(format!("Get \"{url}\": {why}")),
        Err(_) => {
            let why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
            return Answer::Failure(format!("Get \"{url}\": {why}"));
        }
    };
    let status = asked.response.status().as_u16();
    let state = "failure";
    let body = match tokio::time::timeout_at(deadline, begin_of_body(asked)).await {
        Ok(Ok(body)) => body,
        Ok(Err(message)) => return Answer::Error { state, message },
        Err(_) => {
            let message = "context deadline exceeded (Client.Timeout or context cancellation while reading body)";
            let message = message.to_owned();
            return Answer::Error { state, message };
        }
    };
    match status {
        200..300 => Answer::Success(body),
        300..400 => Answer::Warning(format!("Probe terminated redirects, Response body: {body}")),
        _ => Answer::Failure(format!("HTTP probe failed with statuscode: {status}")),
    }
}

/// Why a hook's request came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFailure {
    /// In the words of Go's client, with the URL.
    pub message: String,
    /// The server speaks plain HTTP, and was asked over TLS.
    pub is_plain: bool,
}

/// Asks once; any answer is a good one, and so much of it is read as of a probe's. It has no deadline of its own. Cancel: safe.
///
/// # Errors
/// There was no answer.
pub async fn request(get: &HttpGet) -> Result<(), RequestFailure> {
    let headers = headers_of(get).map_err(|message| RequestFailure {
        message,
        is_plain: false,
    })?;
    let mut url = Url::new(get.scheme, &get.host, get.port, &get.path);
    match follow(&mut url, headers).await {
        Ok(asked) => {
            // Its text says nothing; that it cannot be read neither.
            let _text = begin_of_body(asked).await;
            Ok(())
        }
        Err(NoAnswer(why)) => Err(RequestFailure {
            is_plain: why == SPEAKS_PLAIN,
            message: format!("Get \"{url}\": {why}"),
        }),
    }
}

/// `Host` is taken from here, too.
fn headers_of(get: &HttpGet) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &get.headers {
        let name: HeaderName = name
            .parse()
            .map_err(|_| format!("net/http: invalid header field name \"{name}\""))?;
        let value: HeaderValue = value
            .parse()
            .map_err(|_| format!("net/http: invalid header field value for \"{name}\""))?;
        // The first `Host` counts, as in Go.
        if name != header::HOST || !headers.contains_key(&name) {
            headers.append(name, value);
        }
    }
    if !headers.contains_key(header::USER_AGENT) {
        let agent = HeaderValue::from_str(&get.user_agent);
        headers.extend(agent.map(|agent| (header::USER_AGENT, agent)));
    }
    match headers.get(header::ACCEPT) {
        None => drop(headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"))),
        Some(accept) if accept.is_empty() => drop(headers.remove(header::ACCEPT)),
        Some(_) => {}
    }
    if headers
        .get(header::USER_AGENT)
        .is_some_and(|agent| agent.is_empty())
    {
        headers.remove(header::USER_AGENT);
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    // Neither a body nor its length is sent.
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
    Ok(headers)
}

/// The first answer that is no redirect within the host; `url` is where it came from.
async fn follow(url: &mut Url, mut headers: HeaderMap) -> Result<Asked, NoAnswer> {
    let host = url.host.clone();
    for _ in 0..MOST_REDIRECTS {
        let asked = ask(url, &headers).await?;
        let is_redirect = matches!(
            asked.response.status().as_u16(),
            301 | 302 | 303 | 307 | 308
        );
        let location = asked.response.headers().get(header::LOCATION);
        let Some(location) = location.filter(|to| is_redirect && !to.is_empty()) else {
            return Ok(asked);
        };
        let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
        let Some((next, is_relative)) = url.join(&location) else {
            let why = format!("failed to parse Location header \"{location}\": no HTTP URL");
            return Err(NoAnswer(why));
        };
        if next.host != host {
            return Ok(asked);
        }
        if !is_relative {
            // Another server may be meant than the one whose name the spec gives.
            headers.remove(header::HOST);
        }
        *url = next;
    }
    Err(NoAnswer("stopped after 10 redirects".to_owned()))
}

async fn ask(url: &Url, headers: &HeaderMap) -> Result<Asked, NoAnswer> {
    let stream = dial(&url.host, url.port, None).await;
    let stream = stream.map_err(|error| NoAnswer(error.to_string()))?;
    match url.scheme {
        Scheme::Http => exchange(stream, url, headers).await,
        Scheme::Https => {
            let name = ServerName::try_from(url.host.clone())
                .map_err(|error| NoAnswer(format!("tls: {error}")))?;
            let connector = tls().ok_or_else(|| NoAnswer("tls: no configuration".to_owned()))?;
            let stream = connector.connect(name, stream).await;
            let stream = stream.map_err(|error| NoAnswer(tls_text(&error)))?;
            exchange(stream, url, headers).await
        }
    }
}

/// Made once: it reads no file and never changes.
fn tls() -> Option<TlsConnector> {
    static CONFIG: OnceLock<Option<Arc<rustls::ClientConfig>>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let config = client_config(Believed::Anything, None, &[b"http/1.1"]);
        config.ok().map(Arc::new)
    });
    config.clone().map(TlsConnector::from)
}

fn tls_text(error: &io::Error) -> String {
    let inner = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidMessage(_)) => SPEAKS_PLAIN.to_owned(),
        Some(other) => format!("tls: {other}"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        None => errno_text(error),
    }
}

async fn exchange<S>(stream: S, url: &Url, headers: &HeaderMap) -> Result<Asked, NoAnswer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let refused = |error: hyper::Error| NoAnswer(client_text(&error));
    let (mut sender, connection) = http1::Builder::new()
        .title_case_headers(true)
        .max_buf_size(MOST_HEADS)
        .max_headers(1000)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(refused)?;
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(url.request_target())
        .body(Empty::<Bytes>::new())
        .map_err(|error| NoAnswer(error.to_string()))?;
    request.headers_mut().clone_from(headers);
    if request
        .headers()
        .get(header::HOST)
        .is_none_or(|host| host.is_empty())
    {
        let host = HeaderValue::from_str(&url.authority());
        request
            .headers_mut()
            .extend(host.map(|host| (header::HOST, host)));
    }
    let mut connection = Box::pin(connection);
    let mut answer = Box::pin(sender.send_request(request));
    let response = tokio::select! {
        biased;
        response = &mut answer => response,
        // It has ended without an answer, or has read the whole of one.
        _ = &mut connection => answer.await,
    };
    Ok(Asked {
        response: response.map_err(refused)?,
        connection,
    })
}

fn client_text(error: &hyper::Error) -> String {
    let source = std::error::Error::source(error);
    let io = source.and_then(|source| source.downcast_ref::<io::Error>());
    if let Some(io) = io.filter(|io| io.kind() != io::ErrorKind::UnexpectedEof) {
        return format!("read: {}", errno_text(io));
    }
    if error.is_incomplete_message() || error.is_closed() || io.is_some() {
        return "EOF".to_owned();
    }
    format!("net/http: HTTP/1.x transport connection broken: {error}")
}

/// What is read of a body, as text.
async fn begin_of_body(asked: Asked) -> Result<String, String> {
    let mut body = asked.response.into_body();
    let mut connection = Some(asked.connection);
    let mut read = Vec::new();
    while read.len() < MOST_BODY {
        let frame = match &mut connection {
            Some(moves) => tokio::select! {
                biased;
                frame = body.frame() => frame,
                _ = moves => {
                    connection = None;
                    continue;
                }
            },
            None => body.frame().await,
        };
        let Some(frame) = frame else {
            break;
        };
        let frame = frame.map_err(|error| client_text(&error).replace("EOF", "unexpected EOF"))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        let room = MOST_BODY - read.len();
        read.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
    }
    Ok(String::from_utf8_lossy(&read).into_owned())
}
