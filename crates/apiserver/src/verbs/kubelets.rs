//! Connections to kubelets and to ports of pods.
//!
//! In:    host, port, the server's client certificate
//! Out:   a connection for one request; the task that drives it
//! Calls: `verbs/proxy`
//! Holds: the number of connections is limited before anything is dialled; only kubelets see the server's client certificate
//! Upstream: pkg/kubelet/client (1.36); differences: the kubelet's certificate is not verified, as without
//!           `--kubelet-certificate-authority`

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kubelet_tls::{Believed, client_config};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_rustls::TlsConnector;

use crate::base::failure::Failure;
use crate::identity::authority::Pair;

/// Upgrades need HTTP/1.1.
const HTTP1: &[u8] = b"http/1.1";
/// The time limit for connecting to a kubelet.
const CONNECT: Duration = Duration::from_secs(10);

/// Whether the pod speaks TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

/// Connections to kubelets, and their tasks.
pub(crate) struct Proxy {
    tls: watch::Sender<TlsConnector>,
    running: mpsc::UnboundedSender<BoxFuture<'static, ()>>,
    /// One place per request, held until its connection to the kubelet has ended. A request without a place starts nothing.
    places: Arc<Semaphore>,
}

/// Held by everything that a request started.
pub(super) type Held = Arc<OwnedSemaphorePermit>;

/// The tasks that drive the connections; runs beside the controllers.
pub(crate) struct Streams(mpsc::UnboundedReceiver<BoxFuture<'static, ()>>);

impl Proxy {
    /// With this client certificate, and at most so many streams.
    ///
    /// # Errors
    /// What is wrong with the certificate.
    pub(crate) fn new(pair: &Pair, streams: usize) -> Result<(Self, Streams), String> {
        let (running, taken) = mpsc::unbounded_channel();
        let proxy = Self {
            tls: watch::Sender::new(connector(pair)?),
            running,
            places: Arc::new(Semaphore::new(streams)),
        };
        Ok((proxy, Streams(taken)))
    }

    /// Uses another client certificate from now on.
    ///
    /// # Errors
    /// What is wrong with it; the old one then stays.
    pub(crate) fn show(&self, pair: &Pair) -> Result<(), String> {
        self.tls.send_replace(connector(pair)?);
        Ok(())
    }

    /// A place, or an immediate refusal.
    pub(super) fn place(&self) -> Result<Held, Failure> {
        let full =
            |_| Failure::too_many_requests("too many streams to the kubelet, try again later", 1);
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(full)?;
        Ok(Arc::new(place))
    }

    pub(super) fn keep_going(&self, stream: BoxFuture<'static, ()>) -> Result<(), Failure> {
        let ended = |_| Failure::dialing("the server is shutting down");
        self.running.send(stream).map_err(ended)
    }

    pub(super) async fn connect(
        &self,
        via: Via,
        (host, port): (&str, u16),
        place: Held,
    ) -> Result<http1::SendRequest<Full<Bytes>>, Failure> {
        let failed = |why: String| via.failed(&format!("dial tcp {host}:{port}: {why}"));
        let open = async {
            let stream = TcpStream::connect((host, port)).await.map_err(|e| {
                failed(match e.kind() {
                    // The text that clients know.
                    std::io::ErrorKind::ConnectionRefused => {
                        "connect: connection refused".to_owned()
                    }
                    _ => e.to_string(),
                })
            })?;
            let connector = match via {
                Via::Kubelet => self.tls.borrow().clone(),
                Via::Pod(Scheme::Https) => anonymous().map_err(failed)?,
                Via::Pod(Scheme::Http) => {
                    return shaken(stream).await.map_err(|e| failed(e.to_string()));
                }
            };
            let name = match host.parse::<IpAddr>() {
                Ok(ip) => ServerName::IpAddress(ip.into()),
                Err(_) => {
                    ServerName::try_from(host.to_owned()).map_err(|e| failed(e.to_string()))?
                }
            };
            let stream = connector
                .connect(name, stream)
                .await
                .map_err(|e| failed(e.to_string()))?;
            shaken(stream).await.map_err(|e| failed(e.to_string()))
        };
        let opened = tokio::time::timeout(CONNECT, open).await;
        let (sender, connection) =
            opened.unwrap_or_else(|_| Err(failed("i/o timeout".to_owned())))?;
        let connection = async move {
            let _place = place;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection of a proxied request ended");
            }
        };
        self.keep_going(Box::pin(connection))?;
        Ok(sender)
    }
}

/// The server that a request is proxied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    Kubelet,
    Pod(Scheme),
}

impl Via {
    pub(super) fn failed(self, why: &str) -> Failure {
        match self {
            Self::Kubelet => Failure::dialing(why),
            Self::Pod(_) => unreachable(why),
        }
    }
}

type Shaken = (
    http1::SendRequest<Full<Bytes>>,
    BoxFuture<'static, Result<(), hyper::Error>>,
);

async fn shaken<T>(stream: T) -> Result<Shaken, hyper::Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    Ok((sender, Box::pin(connection.with_upgrades())))
}

/// To a port of a pod: its certificate is not verified, as in upstream's proxy transport, and no client certificate is shown.
fn anonymous() -> Result<TlsConnector, String> {
    let config = client_config(Believed::Anybody, None, &[HTTP1])?;
    Ok(TlsConnector::from(Arc::new(config)))
}

/// To any kubelet, with this client certificate.
fn connector(pair: &Pair) -> Result<TlsConnector, String> {
    let shown = Arc::new(pair.shown()?);
    let config = client_config(Believed::Anybody, Some(shown), &[HTTP1])?;
    Ok(TlsConnector::from(Arc::new(config)))
}

impl Streams {
    /// Drives the connections until no new one can start.
    pub(crate) async fn run(&mut self) {
        let mut open = FuturesUnordered::new();
        loop {
            tokio::select! {
                // Each holds a place, so there are at most two tasks per place.
                biased;
                Some(()) = open.next(), if !open.is_empty() => {}
                more = self.0.recv() => match more {
                    Some(stream) => open.push(stream),
                    None => return,
                },
            }
        }
    }
}

/// 503: the kubelet or pod does not answer.
pub(super) fn unreachable(why: &str) -> Failure {
    Failure::unavailable(format!("error trying to reach service: {why}"))
}
