//! One GET of the manifest URL.
//!
//! In:    URL, headers, the machine's certificate authorities
//! Out:   the body of a 200, or why not
//! Calls: url
//! Holds: ten seconds and ten MiB at most; redirects are followed as Go's client does, secrets only to the same host; no
//!        connection is kept between GETs
//! Gap:   proxies named in the environment, which Go's client uses, are not
//! Upstream: pkg/kubelet/config/http.go; Go's net/http client

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use hyper::{HeaderMap, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kubelet_decide::sources::manifest::MAX_MANIFEST_BYTES;
use kubelet_host::blocking::About;
use kubelet_host::{Blocking, HostRoot};
use kubelet_model::error_text::error_text;
use kubelet_tls::{Believed, RootCertStore, SystemRoots, client_config};

/// Upstream's time limit of one read.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Go's client gives up after this many.
const REDIRECTS: usize = 10;

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// Neither http nor https, or no host.
    #[error("not an http or https URL")]
    Url,
    /// A header cannot be sent.
    #[error("header {0:?} cannot be sent")]
    Header(String),
    /// No certificate authorities.
    #[error("cannot read certificate authorities: {0}")]
    Roots(String),
    /// No answer.
    #[error("GET failed: {0}")]
    Request(String),
    /// The body did not come whole, or is too long.
    #[error("body cannot be read: {0}")]
    Body(String),
    /// Another answer than 200.
    #[error("the answer is {0}")]
    Status(StatusCode),
    /// Too many redirects, or one that leads nowhere.
    #[error("stopped after a redirect to {0:?}")]
    Redirect(String),
    /// Too slow.
    #[error("no whole answer within {TIMEOUT:?}")]
    Timeout,
}

type HttpClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// The client.
#[derive(Debug)]
pub(super) struct Fetch {
    uri: Uri,
    headers: HeaderMap,
    root: HostRoot,
    authorities: SystemRoots,
    blocking: Blocking,
    client: Option<HttpClient>,
}

impl Fetch {
    /// A client for one URL.
    pub(super) fn new(
        url: &str,
        headers: &BTreeMap<String, Vec<String>>,
        (root, authorities): (HostRoot, SystemRoots),
        blocking: Blocking,
    ) -> Result<Self, FetchError> {
        let uri: Uri = url.parse().map_err(|_| FetchError::Url)?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(FetchError::Url);
        }
        Ok(Self {
            headers: header_map(headers)?,
            uri,
            root,
            authorities,
            blocking,
            client: None,
        })
    }

    /// The body.
    pub(super) async fn get(&mut self) -> Result<Vec<u8>, FetchError> {
        let got = tokio::time::timeout(TIMEOUT, self.get_slowly());
        got.await.map_err(|_| FetchError::Timeout)?
    }

    async fn get_slowly(&mut self) -> Result<Vec<u8>, FetchError> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => {
                let client = self.new_client().await?;
                self.client.insert(client).clone()
            }
        };
        let (mut uri, mut headers) = (self.uri.clone(), self.headers.clone());
        for _ in 0..=REDIRECTS {
            let mut request = Request::get(uri.clone())
                .body(Empty::new())
                .map_err(|error| FetchError::Request(error_text(&error)))?;
            request.headers_mut().clone_from(&headers);
            let answer = client.request(request).await;
            let answer = answer.map_err(|error| FetchError::Request(error_text(&error)))?;
            let location = answer.headers().get(LOCATION);
            let moved = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if let Some(location) = location.filter(|_| moved) {
                let next = redirect(&uri, location)?;
                if next.host() != uri.host() {
                    headers.remove(AUTHORIZATION);
                    headers.remove(COOKIE);
                }
                uri = next;
                continue;
            }
            if answer.status() != StatusCode::OK {
                return Err(FetchError::Status(answer.status()));
            }
            let body = Limited::new(answer.into_body(), MAX_MANIFEST_BYTES).collect();
            let body = body
                .await
                .map_err(|error| FetchError::Body(error_text(&*error)))?;
            return Ok(body.to_bytes().into());
        }
        Err(FetchError::Redirect(uri.to_string()))
    }

    async fn new_client(&self) -> Result<HttpClient, FetchError> {
        let mut roots = RootCertStore::empty();
        if self.uri.scheme_str() == Some("https") {
            let (authorities, root) = (self.authorities.clone(), self.root.clone());
            // The environment names files from the working directory, as everywhere.
            let at = move |path: &Path| match root.is_stand_in() {
                true => root.join(path),
                false => path.to_owned(),
            };
            let read = self
                .blocking
                .run_about(
                    About::the("authorities of the manifests' URL"),
                    TIMEOUT,
                    "reading of certificates",
                    move || authorities.read(at),
                )
                .await;
            roots = read
                .map_err(|overdue| FetchError::Roots(overdue.to_string()))?
                .map_err(FetchError::Roots)?;
        }
        let tls = client_config(Believed::Roots(roots), None, &[]).map_err(FetchError::Request)?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector))
    }
}

fn header_map(headers: &BTreeMap<String, Vec<String>>) -> Result<HeaderMap, FetchError> {
    let mut map = HeaderMap::new();
    map.insert(USER_AGENT, HeaderValue::from_static("hyperkube"));
    for (name, values) in headers {
        let wrong = || FetchError::Header(name.clone());
        let header: HeaderName = name.parse().map_err(|_| wrong())?;
        map.remove(&header);
        for value in values {
            let value = HeaderValue::from_str(value).map_err(|_| wrong())?;
            map.append(header.clone(), value);
        }
    }
    Ok(map)
}

fn redirect(from: &Uri, location: &HeaderValue) -> Result<Uri, FetchError> {
    let shown = String::from_utf8_lossy(location.as_bytes()).into_owned();
    let wrong = || FetchError::Redirect(shown.clone());
    let to: Uri = shown.parse().map_err(|_| wrong())?;
    if to.host().is_some() && matches!(to.scheme_str(), Some("http" | "https")) {
        return Ok(to);
    }
    // A path of the same server.
    let mut parts = from.clone().into_parts();
    parts.path_and_query = to.path_and_query().cloned();
    Uri::from_parts(parts).map_err(|_| wrong())
}
