//! What all requests of one port share.
//!
//! In:    the configuration, the node's state, figures
//! Out:   [`Shared`]; what a connection's certificate says now
//! Calls: `answer`, `health`, `listener`
//! Holds: a certificate is asked at each request whether it still holds
//! Upstream: pkg/kubelet/server/server.go

use kubelet_host::blocking::Blocking;

use crate::auth::{Auth, Certificate};
use crate::metrics::HttpMetrics;
use crate::pods::Lists;
use crate::renderings::Renderings;
use crate::tls::{Current, Tls, TlsFiles};
use crate::upgrade::Peer;
use crate::{MainConfig, Port, ServerState};

/// What all requests of one port share.
pub(crate) struct Shared {
    pub(crate) port: Port,
    /// Only on the main port.
    pub(crate) main: Option<Secured>,
    pub(crate) state: ServerState,
    pub(crate) metrics: HttpMetrics,
    /// The same of all ports, as the next.
    pub(crate) renderings: Renderings,
    pub(crate) pods: Lists,
}

/// What the main port has besides.
pub(crate) struct Secured {
    pub(crate) config: MainConfig,
    pub(crate) auth: Auth,
    tls: Current,
    pub(crate) now: fn() -> jiff::Timestamp,
}

impl Secured {
    pub(crate) fn new(
        config: MainConfig,
        tls: TlsFiles,
        (node_name, now, blocking): (&str, fn() -> jiff::Timestamp, Blocking),
    ) -> Self {
        let (tokens, authorization) = (config.tokens.clone(), config.authorization.clone());
        Self {
            auth: Auth::new(node_name, config.anonymous, tokens, authorization),
            config,
            tls: Current::new(tls, blocking),
            now,
        }
    }

    /// The TLS files as they are now.
    pub(crate) async fn tls(&self) -> Tls {
        self.tls.get().await
    }

    /// What a connection's certificate says now: its time and the authorities may change while the connection lives.
    pub(crate) async fn certificate(&self, peer: &Peer) -> Certificate {
        if peer.chain.is_empty() {
            return Certificate::Absent;
        }
        peer.certificate(self.tls().await.authorities.as_ref(), (self.now)())
    }
}
