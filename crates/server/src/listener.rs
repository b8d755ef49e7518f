//! Sockets and connections: binds the ports, serves connections within limits, drains at the end.
//!
//! In:    [`ServerConfig`], [`ServerState`]; then connections
//! Out:   bound [`Listeners`]; one call of `answer` per request
//! Calls: wiring ([`bind`]); the supervisor, one task per listener ([`Listener::serve`])
//! Holds: connections are tasks of their listener, so cancelling its task ends them all; `ports` limits what a connection may
//!        use and when it ends
//! Upstream: pkg/kubelet/server/server.go ListenAndServe…, cmd/kubelet/app/server.go (1.36); differences: limits on
//!           connections; 30 s for a request's head (upstream: 4 h)

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::Request;
use kubelet_ports::{Bounds, Connection, Door, Protocol, Received};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::answer::answer;
use crate::metrics::HttpMetrics;
use crate::pods::Lists;
use crate::renderings::Renderings;
use crate::shared::{Secured, Shared};
use crate::tls::TlsFiles;
use crate::upgrade::Peer;
use crate::{Port, ServeError, ServerConfig, ServerState};

/// The bound ports; a disabled port is `None`.
#[derive(Debug)]
pub struct Listeners {
    /// 10248.
    pub healthz: Option<Listener>,
    /// 10255.
    pub read_only: Option<Listener>,
    /// 10250.
    pub main: Option<Listener>,
}

/// One bound port.
pub struct Listener {
    socket: TcpListener,
    shared: Arc<Shared>,
    bounds: Bounds,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("port", &self.shared.port)
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// Binds all configured ports; creates a serving certificate if there is none. Serves nothing yet.
///
/// # Errors
/// [`ServeError`], naming the port, or the file.
pub async fn bind(config: ServerConfig, state: ServerState) -> Result<Listeners, ServeError> {
    let metrics = HttpMetrics::register(&state.registry)?;
    let (renderings, pods) = (Renderings::new(), Lists::new(state.pods.clone()));
    let open = async |port, address, main: Option<Secured>, connections| {
        let bounds = Bounds {
            is_plain: main.is_none(),
            ..Bounds::new(connections)
        };
        let socket = TcpListener::bind(address)
            .await
            .map_err(|source| ServeError::Bind {
                port,
                address,
                source,
            })?;
        let shared = Arc::new(Shared {
            port,
            main,
            state: state.clone(),
            metrics: metrics.clone(),
            renderings: renderings.clone(),
            pods: pods.clone(),
        });
        Ok::<_, ServeError>(Listener {
            socket,
            shared,
            bounds,
        })
    };
    let mut listeners = Listeners {
        healthz: None,
        read_only: None,
        main: None,
    };
    if let Some(main) = config.main {
        let tls = TlsFiles::open(
            &main.pair,
            main.client_ca.clone(),
            &main.negotiation,
            &config.node_name,
            (config.now)(),
        )?;
        let address = main.address;
        let secured = Secured::new(
            main,
            tls,
            (&config.node_name, config.now, state.node.blocking.clone()),
        );
        listeners.main = Some(open(Port::Main, address, Some(secured), 512).await?);
    }
    if let Some(address) = config.read_only {
        listeners.read_only = Some(open(Port::ReadOnly, address, None, 256).await?);
    }
    if let Some(address) = config.healthz {
        listeners.healthz = Some(open(Port::Healthz, address, None, 64).await?);
    }
    Ok(listeners)
}

impl Listener {
    /// Which of the three ports this is.
    pub fn port(&self) -> Port {
        self.shared.port
    }

    /// The bound address; if port 0 was requested, with the assigned port.
    ///
    /// # Errors
    /// The system's error.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `shutdown`, then gives running requests 2 s to finish. Cancel: closes the port and all connections.
    ///
    /// # Errors
    /// None at present: a failed accept is logged and retried.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let Self {
            socket,
            shared,
            bounds,
        } = self;
        let door = Door::new(bounds);
        let talk = |stream, connection| {
            Box::pin(talk(
                stream,
                connection,
                (Arc::clone(&shared), shutdown.clone()),
            ))
        };
        let left = door.serve(&socket, &shutdown, talk).await;
        if left > 0 {
            tracing::warn!(port = %shared.port, left, "connections dropped at shutdown");
        }
        Ok(())
    }
}

/// One connection, from its accept to its end, beside the timers of `ports`.
async fn talk(
    stream: TcpStream,
    connection: Arc<Connection>,
    (shared, shutdown): (Arc<Shared>, CancellationToken),
) {
    let address = connection.peer();
    let Some(secured) = &shared.main else {
        let peer = Peer::new(address, Vec::new(), shutdown);
        return converse((stream, Protocol::Http1), connection, (shared, peer)).await;
    };
    let tls = secured.tls().await;
    let accepted = match kubelet_tls::accept(tls.config, stream).await {
        Ok(accepted) => accepted,
        Err(error) => return tracing::debug!(peer = %address, %error, "TLS handshake failed"),
    };
    let protocol = Protocol::agreed(accepted.is_http2);
    let peer = Peer::new(address, accepted.chain, shutdown);
    converse((accepted.stream, protocol), connection, (shared, peer)).await;
}

/// Serves one connection, and its tunnel after an upgrade.
async fn converse<S>(
    (stream, protocol): (S, Protocol),
    connection: Arc<Connection>,
    (shared, peer): (Arc<Shared>, Peer),
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = Arc::new(peer);
    let serve = {
        let peer = Arc::clone(&peer);
        move |request: Request<Received>| {
            let (shared, peer) = (Arc::clone(&shared), Arc::clone(&peer));
            async move { answer(&shared, &peer, request).await }
        }
    };
    connection
        .converse((stream, protocol), &peer.shutdown, serve)
        .await;
    if let Some(tunnel) = peer.take_tunnel() {
        let _busy = connection.begin();
        tokio::select! {
            biased;
            () = peer.shutdown.cancelled() => {}
            () = tunnel.run() => {}
        }
    }
}
